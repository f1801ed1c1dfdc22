//! When a message is to come, and for how long it is worth something: what the headers say, in the words
//! of several brokers, with their arithmetic.

use jiff::Timestamp;

use crate::base::error::{ClientError, Code};
use crate::base::message::Delay;
use crate::base::time::{delay_level_ms, parse_duration_ms};
use crate::wire::stomp::Headers;

/// Ways to say a delay of which only one may be used, with what they have in common: a number of ms that
/// is ignored unless it is positive.
const PLAIN_DELAYS: [&str; 2] = ["AMQ_SCHEDULED_DELAY", "x-delay"];

/// What the headers of a message say about time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct When {
    pub(super) delay: Delay,
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
