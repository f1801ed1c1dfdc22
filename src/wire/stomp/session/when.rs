//! When a message is to come, and for how long it is worth something: what the headers say, in the words
//! of several brokers, with their arithmetic.

use jiff::Timestamp;

use crate::base::error::{ClientError, Code};
use crate::base::message::Delay;
use crate::base::recur::{Cron, Rule, Then};
use crate::base::time::{delay_level_ms, parse_duration_ms};
use crate::wire::stomp::Headers;

/// Ways to say a delay of which only one may be used, with what they have in common: a number of ms that
/// is ignored unless it is positive.
const PLAIN_DELAYS: [&str; 2] = ["AMQ_SCHEDULED_DELAY", "x-delay"];

/// What the headers of a message say about time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct When {
    /// Of a recurring schedule, of its first run.
    pub(super) delay: Delay,
    /// By which it comes again.
    pub(super) rule: Option<Rule>,
    /// Time to live in ms from acceptance.
    pub(super) expires_after_ms: Option<u64>,
    /// When it expires, ms since the Unix epoch, where the client said an absolute time. A message that
    /// waits lives as long as the client gave it, from when it is due.
    pub(super) expires_at_ms: Option<u64>,
}

/// Reads them. `wall_ms` is the time, ms since the Unix epoch.
///
/// # Errors
/// A delay that cannot be honoured is refused: delivering at once what was to come later is worse.
pub(super) fn read(headers: &Headers, wall_ms: u64) -> Result<When, ClientError> {
    let delay = delay(headers)?;
    let (delay, rule) = recurring(headers, delay)?;
    let (expires, expiration) = (headers.get("expires"), headers.get("expiration"));
    let absolute = expires.map(|text| number("expires", text)).transpose()?.filter(|at| *at != 0);
    let relative = expiration.map(|text| number("expiration", text)).transpose()?;
    let wait_ms = match delay {
        Delay::None => 0,
        Delay::Level(level) => u64::try_from(level).ok().and_then(delay_level_ms).unwrap_or(0),
        Delay::After(ms) => u64::try_from(ms).unwrap_or(0),
        Delay::At(at) => u64::try_from(at).unwrap_or(0).saturating_sub(wall_ms),
    };
    let left_ms = match (absolute, relative) {
        (Some(_), Some(_)) => {
            return Err(ClientError::new(
                Code::BadHeader,
                "the message says expires and expiration; say one of them",
            ));
        }
        (Some(at), None) => Some(at.saturating_sub(wall_ms)),
        (None, relative) => relative,
    };
    Ok(When {
        delay,
        rule,
        expires_after_ms: left_ms.map(|ms| ms.saturating_add(wait_ms)),
        expires_at_ms: absolute.map(|at| at.saturating_add(wait_ms)),
    })
}

fn delay(headers: &Headers) -> Result<Delay, ClientError> {
    let mut said: Option<(&str, Delay)> = None;
    let mut say = |name: &'static str, delay: Delay| match said {
        Some((other, _)) => Err(ClientError::new(
            Code::BadDelay,
            format!("the message says {other} and {name}; say one of them"),
        )),
        None => {
            said = Some((name, delay));
            Ok(())
        }
    };
    if let Some(text) = headers.get("delay") {
        say("delay", Delay::After(duration("delay", text)?))?;
    }
    if let Some(text) = headers.get("deliver-at") {
        say("deliver-at", Delay::At(time(text)?))?;
    }
    if let Some(text) = headers.get("delay-level") {
        let level = text.parse().map_err(|_| {
            let why = format!("delay-level is {text:?}; it is a number from 1 to 18");
            ClientError::new(Code::BadLevel, why)
        })?;
        say("delay-level", Delay::Level(level))?;
    }
    let at = headers.get("AMQ_SCHEDULED_TIME").map(|text| signed("AMQ_SCHEDULED_TIME", text));
    let at = at.transpose()?.filter(|at| *at > 0);
    if let Some(at) = at {
        say("AMQ_SCHEDULED_TIME", Delay::At(at))?;
    }
    for name in PLAIN_DELAYS {
        let Some(text) = headers.get(name) else { continue };
        let ms = signed(name, text)?;
        // A time given as well goes before it.
        if ms > 0 && !(at.is_some() && name == PLAIN_DELAYS[0]) {
            say(name, Delay::After(ms))?;
        }
    }
    Ok(said.map_or(Delay::None, |(_, delay)| delay))
}

/// The rule of a recurring schedule, if there is one, and the delay of its first run.
fn recurring(headers: &Headers, delay: Delay) -> Result<(Delay, Option<Rule>), ClientError> {
    let bad = |why: String| ClientError::new(Code::BadSchedule, why);
    let either =
        |own: &'static str, theirs: &'static str| match (headers.get(own), headers.get(theirs)) {
            (Some(_), Some(_)) => {
                Err(bad(format!("the message says {own} and {theirs}; say one of them")))
            }
            (Some(text), None) => Ok(Some((own, text))),
            (None, text) => Ok(text.map(|text| (theirs, text))),
        };
    let cron = either("cron", "AMQ_SCHEDULED_CRON")?.filter(|(_, text)| !text.trim().is_empty());
    let period = either("period", "AMQ_SCHEDULED_PERIOD")?;
    let period_ms = match period {
        Some(("period", text)) => u64::try_from(duration("period", text)?).ok(),
        Some((name, text)) => u64::try_from(signed(name, text)?).ok(),
        None => None,
    };
    let period_ms = period_ms.filter(|ms| *ms > 0);
    let repeat = either("repeat", "AMQ_SCHEDULED_REPEAT")?;
    let repeat = repeat.map(|(name, text)| signed(name, text)).transpose()?;
    let Some((_, expression)) = cron else {
        let Some(period_ms) = period_ms else {
            return match repeat.filter(|repeat| *repeat != 0) {
                Some(_) => Err(bad(
                    "the message says how often to repeat and not when; say a period".into(),
                )),
                None => Ok((delay, None)),
            };
        };
        // Without a number, a period of ours goes on for ever, and one in the other's words comes once.
        let own = matches!(period, Some(("period", _)));
        let times = match repeat {
            None if own => 0,
            None => 1,
            Some(..0) => 0,
            Some(more) => {
                u32::try_from(more).ok().and_then(|more| more.checked_add(1)).ok_or_else(|| {
                    bad(format!(
                        "{more} repetitions are too many; a negative number repeats for ever"
                    ))
                })?
            }
        };
        return Ok((delay, Some(Rule::Every { period_ms, times })));
    };
    // With a delay or repetitions, each match begins a sequence of its own.
    let delay_ms = match delay {
        Delay::None => 0,
        Delay::After(ms) => u64::try_from(ms).unwrap_or(0),
        _ => {
            return Err(bad(
                "a cron expression goes with a delay, not with a time or a level".into()
            ));
        }
    };
    let repeat = u32::try_from(repeat.unwrap_or(0)).map_err(|_| {
        bad("with a cron expression the number of repetitions is not negative".into())
    })?;
    let delay_ms = if delay_ms == 0 { period_ms.unwrap_or(0) } else { delay_ms };
    let then = Then { delay_ms, period_ms: period_ms.unwrap_or(0), repeat };
    let then = Some(then).filter(|then| then.delay_ms > 0 || then.repeat > 0);
    let zone = headers.get("time-zone").unwrap_or_default().to_owned();
    let cron = Cron { expression: expression.trim().to_owned(), zone, times: 0, then };
    Ok((Delay::None, Some(Rule::Cron(cron))))
}

/// A duration: `5m`, `1h30m`, or a number of ms.
fn duration(name: &str, text: &str) -> Result<i64, ClientError> {
    parse_duration_ms(text).and_then(|ms| i64::try_from(ms).ok()).ok_or_else(|| {
        let why = format!("{name} is {text:?}; write for example 250ms, 10s, 5m, 1h30m or 40d");
        ClientError::new(Code::BadDelay, why)
    })
}

/// A time: RFC 3339, or ms since the Unix epoch. Parts of a ms count up, so that a message is never early.
fn time(text: &str) -> Result<i64, ClientError> {
    let bad = || {
        let why = format!(
            "deliver-at is {text:?}; write it as RFC 3339, for example 2026-12-24T18:00:00Z, or as ms since 1970"
        );
        ClientError::new(Code::BadDelay, why)
    };
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_err(|_| bad());
    }
    let time: Timestamp = text.parse().map_err(|_| bad())?;
    let ns = time.as_nanosecond();
    let up = i128::from(ns.rem_euclid(1_000_000) != 0);
    i64::try_from(ns.div_euclid(1_000_000) + up).map_err(|_| bad())
}

fn signed(name: &str, text: &str) -> Result<i64, ClientError> {
    text.trim().parse().map_err(|_| {
        ClientError::new(Code::BadDelay, format!("{name} is {text:?}; it is a number of ms"))
    })
}

fn number(name: &str, text: &str) -> Result<u64, ClientError> {
    text.trim().parse().map_err(|_| {
        ClientError::new(Code::BadHeader, format!("{name} is {text:?}; it is a number of ms"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &[(&str, &str)]) -> Result<When, Code> {
        let mut all = Headers::default();
        headers.iter().for_each(|(name, value)| all.add(name, value));
        read(&all, 1_000_000).map_err(|error| error.code)
    }

    fn delay_of(headers: &[(&str, &str)]) -> Result<Delay, Code> {
        of(headers).map(|when| when.delay)
    }

    /// Goal: each header means what its broker says it means. Method: one case a rule.
    #[test]
    fn delays_in_everybodys_words() {
        assert_eq!(delay_of(&[]), Ok(Delay::None));
        assert_eq!(delay_of(&[("delay", "1500")]), Ok(Delay::After(1_500)));
        assert_eq!(delay_of(&[("delay", "1h30m")]), Ok(Delay::After(5_400_000)));
        assert_eq!(delay_of(&[("delay-level", "3")]), Ok(Delay::Level(3)));
        assert_eq!(delay_of(&[("deliver-at", "1700000000000")]), Ok(Delay::At(1_700_000_000_000)));
        assert_eq!(
            delay_of(&[("deliver-at", "1970-01-01T00:00:01.0000001Z")]),
            Ok(Delay::At(1_001))
        );
        assert_eq!(delay_of(&[("AMQ_SCHEDULED_DELAY", "70")]), Ok(Delay::After(70)));
        assert_eq!(delay_of(&[("AMQ_SCHEDULED_DELAY", "0")]), Ok(Delay::None));
        assert_eq!(delay_of(&[("AMQ_SCHEDULED_DELAY", "-1")]), Ok(Delay::None));
        assert_eq!(delay_of(&[("x-delay", "70")]), Ok(Delay::After(70)));
        let both = [("AMQ_SCHEDULED_DELAY", "70"), ("AMQ_SCHEDULED_TIME", "9")];
        assert_eq!(delay_of(&both), Ok(Delay::At(9)), "the time goes before the delay");
        let both = [("AMQ_SCHEDULED_DELAY", "70"), ("AMQ_SCHEDULED_TIME", "0")];
        assert_eq!(delay_of(&both), Ok(Delay::After(70)), "no time");
    }

    /// Goal: what cannot be honoured is refused and never delivered early (pitfall 19).
    #[test]
    fn what_is_no_delay_is_refused() {
        let bad = [
            [("delay", "soon")],
            [("delay", "-5")],
            [("delay", "")],
            [("delay", "5x")],
            [("deliver-at", "tomorrow")],
            [("deliver-at", "99999999999999999999")],
            [("AMQ_SCHEDULED_DELAY", "5s")],
            [("AMQ_SCHEDULED_TIME", "x")],
            [("x-delay", "1.5")],
            [("x-delay", "99999999999999999999")],
        ];
        for headers in bad {
            assert_eq!(delay_of(&headers), Err(Code::BadDelay), "{headers:?}");
        }
        assert_eq!(delay_of(&[("delay-level", "x")]), Err(Code::BadLevel));
        assert_eq!(delay_of(&[("delay", "5s"), ("x-delay", "5000")]), Err(Code::BadDelay), "twice");
        assert_eq!(delay_of(&[("delay", "5s"), ("deliver-at", "5")]), Err(Code::BadDelay), "twice");
    }

    /// Goal: a recurring schedule in the words of ActiveMQ comes as often and when it would there. Method: the
    /// rules of its documentation, one case each, and our own words.
    #[test]
    fn recurring_schedules_in_everybodys_words() {
        let rule = |headers: &[(&str, &str)]| of(headers).map(|when| (when.delay, when.rule));
        let every = |period_ms, times| Some(Rule::Every { period_ms, times });
        let (period, repeat) = ("AMQ_SCHEDULED_PERIOD", "AMQ_SCHEDULED_REPEAT");
        assert_eq!(rule(&[(period, "5000"), (repeat, "9")]), Ok((Delay::None, every(5_000, 10))));
        assert_eq!(rule(&[(period, "5000"), (repeat, "-1")]), Ok((Delay::None, every(5_000, 0))));
        assert_eq!(rule(&[(period, "5000")]), Ok((Delay::None, every(5_000, 1))));
        assert_eq!(rule(&[("period", "5s")]), Ok((Delay::None, every(5_000, 0))));
        let delayed = [(period, "5000"), (repeat, "1"), ("AMQ_SCHEDULED_DELAY", "70")];
        assert_eq!(rule(&delayed), Ok((Delay::After(70), every(5_000, 2))));
        assert_eq!(rule(&[(period, "0"), (repeat, "0")]), Ok((Delay::None, None)));
        let cron = |headers: &[(&str, &str)]| match of(headers) {
            Ok(When { delay: Delay::None, rule: Some(Rule::Cron(cron)), .. }) => cron,
            other => panic!("{other:?}"),
        };
        let plain = cron(&[("AMQ_SCHEDULED_CRON", "0 * * * *")]);
        assert_eq!((&*plain.expression, &*plain.zone, plain.then), ("0 * * * *", "", None));
        let own = cron(&[("cron", "0 9 * * 1-5"), ("time-zone", "Europe/Berlin")]);
        assert_eq!((&*own.expression, &*own.zone), ("0 9 * * 1-5", "Europe/Berlin"));
        let then = |delay_ms, period_ms, repeat| Some(Then { delay_ms, period_ms, repeat });
        let entry = ("AMQ_SCHEDULED_CRON", "0 * * * *");
        let delay = ("AMQ_SCHEDULED_DELAY", "1000");
        let all = [entry, delay, (period, "2000"), (repeat, "9")];
        assert_eq!(cron(&all).then, then(1_000, 2_000, 9));
        assert_eq!(cron(&[entry, (period, "2000"), (repeat, "9")]).then, then(2_000, 2_000, 9));
        assert_eq!(cron(&[entry, delay]).then, then(1_000, 0, 0));
        for bad in [
            &[(repeat, "3")][..],
            &[entry, (repeat, "-1")],
            &[entry, ("delay-level", "3")],
            &[entry, ("cron", "* * * * *")],
            &[("period", "5s"), (period, "5000")],
            &[("period", "5s"), ("repeat", "4294967295")],
        ] {
            assert_eq!(of(bad).map(|_| ()), Err(Code::BadSchedule), "{bad:?}");
        }
        assert_eq!(of(&[(period, "soon")]).map(|_| ()), Err(Code::BadDelay));
    }

    /// Goal: time to live runs from when a message is due. Method: with and without a delay, both headers.
    #[test]
    fn time_to_live_begins_when_it_is_due() {
        let lives = |headers: &[(&str, &str)]| {
            of(headers).map(|when| (when.expires_after_ms, when.expires_at_ms))
        };
        assert_eq!(lives(&[("expiration", "500")]), Ok((Some(500), None)));
        assert_eq!(lives(&[("expires", "1000500")]), Ok((Some(500), Some(1_000_500))));
        assert_eq!(lives(&[("expires", "0")]), Ok((None, None)));
        assert_eq!(lives(&[("expires", "5")]), Ok((Some(0), Some(5))), "it is over already");
        assert_eq!(lives(&[("expiration", "500"), ("delay", "2s")]), Ok((Some(2_500), None)));
        let moved = [("expires", "1000500"), ("delay", "2s")];
        assert_eq!(lives(&moved), Ok((Some(2_500), Some(1_002_500))));
        let moved = [("expires", "1000500"), ("deliver-at", "1002000")];
        assert_eq!(lives(&moved), Ok((Some(2_500), Some(1_002_500))));
        let level = [("expiration", "500"), ("delay-level", "1")];
        assert_eq!(lives(&level), Ok((Some(1_500), None)));
        assert_eq!(lives(&[("expires", "x")]), Err(Code::BadHeader));
        assert_eq!(lives(&[("expiration", "-5")]), Err(Code::BadHeader));
        assert_eq!(lives(&[("expires", "5"), ("expiration", "5")]), Err(Code::BadHeader));
    }
}
