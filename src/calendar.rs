//! F1: the calendar. Cron expressions and time zones, so that the engine needs to know neither.
//!
//! An expression has five fields (minute, hour, day of month, month, day of week), or six with seconds in
//! front. It is judged by the wall clock of its time zone. Zones come from the machine's database where
//! there is one (`/usr/share/zoneinfo`), and else from the one that is compiled in.
//!
//! What a change of daylight saving time does:
//! - An expression with one fixed time of day runs once a day: at the first instant behind the gap when its
//!   time does not exist, at the first of both when it exists twice.
//! - Any other, as `*/15 * * * *`, goes by what the clock shows: what does not exist is left out, and what
//!   exists twice runs twice. So every hour has its runs.

use croner::parser::{CronParser, Seconds, Year};
use croner::time::{CivilDateTime, Resolution, Weekday};
use croner::{CronDateTime, errors::CronError};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::base::error::{ClientError, Code};
use crate::base::recur::Cron;

/// How far ahead a run is looked for, years. A fifth Friday in February may be 40 years away.
const YEARS_AHEAD: i32 = 41;

/// When a rule comes next after `after_ms`, ms since the Unix epoch: see
/// [`Planner`](crate::base::recur::Planner).
///
/// # Errors
/// [`Code::BadSchedule`] for an expression or a zone that has no meaning, and for an expression that never
/// comes, as the 30th of February.
pub fn next(cron: &Cron, after_ms: u64) -> Result<u64, ClientError> {
    let zone = match &cron.zone[..] {
        "" => TimeZone::UTC,
        name => TimeZone::get(name)
            .map_err(|_| bad(format!("the time zone `{name}` is not known; use an IANA name")))?,
    };
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
    let expression = &cron.expression;
    // `+` asks for a day of the month and of the week at once. Some such days never come, and to find
    // that out takes a hundred ms.
    if !expression.is_ascii() || expression.contains('+') {
        return Err(bad(format!("the cron expression `{expression}` is not one: `+` or no ASCII")));
    }
    let parsed = parser
        .parse(expression)
        .map_err(|error| bad(format!("the cron expression `{expression}` is not one: {error}")))?;
    let after = i64::try_from(after_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let after = after.ok_or_else(|| bad("the calendar ends before".into()))?.to_zoned(zone);
    let last_year = i32::from(after.year()) + YEARS_AHEAD;
    let found = parsed.find_next_occurrence(&Bounded { at: after, last_year }, false);
    let at_ms =
        found.ok().and_then(|found| u64::try_from(found.at.timestamp().as_millisecond()).ok());
    at_ms
        .filter(|at_ms| *at_ms > after_ms)
        .ok_or_else(|| bad(format!("the cron expression `{expression}` never comes")))
}

fn bad(text: String) -> ClientError {
    ClientError::new(Code::BadSchedule, text)
}

/// A time from which nothing is looked for behind a last year: an expression that never comes must not
/// cost a walk through thousands of them.
#[derive(Clone)]
struct Bounded {
    at: Zoned,
    last_year: i32,
}

impl CronDateTime for Bounded {
    fn to_civil(&self) -> CivilDateTime {
        self.at.to_civil()
    }

    fn civil_weekday(&self) -> Weekday {
        self.at.civil_weekday()
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        if civil.year() > self.last_year {
            return Err(CronError::TimeSearchLimitExceeded);
        }
        let with = |at| Self { at, last_year: self.last_year };
        Ok(match self.at.resolve_civil(civil)? {
            Resolution::Single(at) => Resolution::Single(with(at)),
            Resolution::Ambiguous(first, second) => {
                Resolution::Ambiguous(with(first), with(second))
            }
            Resolution::Gap => Resolution::Gap,
        })
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        let at = CronDateTime::checked_add_seconds(&self.at, seconds)?;
        Some(Self { at, last_year: self.last_year })
    }

    fn cmp_instant(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp_instant(&other.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cron(expression: &str, zone: &str) -> Cron {
        Cron { expression: expression.into(), zone: zone.into(), times: 0, then: None }
    }

    fn ms(time: &str) -> u64 {
        time.parse::<Timestamp>().unwrap().as_millisecond() as u64
    }

    /// The next runs after a time, in UTC.
    fn runs(expression: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let mut at = ms(after);
        let mut step = || {
            at = next(&cron(expression, zone), at).unwrap();
            Timestamp::from_millisecond(at as i64).unwrap().to_string()
        };
        (0..count).map(|_| step()).collect()
    }

    /// Goal: a rule comes when its zone's clock shows what it says. Method: known dates, with names of
    /// days, seconds, steps and zones.
    #[test]
    fn rules_come_when_the_clock_shows_it() {
        let after = "2026-11-20T08:00:00.500Z";
        assert_eq!(
            runs("0 9 * * 1-5", "", after, 3),
            ["2026-11-20T09:00:00Z", "2026-11-23T09:00:00Z", "2026-11-24T09:00:00Z"]
        );
        assert_eq!(runs("0 9 * * MON", "Europe/Berlin", after, 1), ["2026-11-23T08:00:00Z"]);
        assert_eq!(
            runs("*/20 * * * * *", "", after, 2),
            ["2026-11-20T08:00:20Z", "2026-11-20T08:00:40Z"]
        );
        assert_eq!(runs("@yearly", "Asia/Tokyo", after, 1), ["2026-12-31T15:00:00Z"]);
        assert_eq!(runs("0 0 * 2 5#5", "", after, 1), ["2036-02-29T00:00:00Z"]);
        assert_eq!(runs("0 0 29 2 *", "", after, 1), ["2028-02-29T00:00:00Z"]);
        assert_eq!(runs("0 0 29 2 *", "", "2096-03-01T00:00:00Z", 1), ["2104-02-29T00:00:00Z"]);
        assert_eq!(runs("0 8 * * *", "", "2026-11-20T08:00:00Z", 1), ["2026-11-21T08:00:00Z"]);
    }

    /// Goal: the clock is put forward, and back, and each day has its run. Method: Berlin, where in 2027
    /// the hour from 2 is left out on March 28 and comes twice on October 31.
    #[test]
    fn daylight_saving_time_begins_and_ends() {
        let daily = |expression, after| runs(expression, "Europe/Berlin", after, 3);
        assert_eq!(
            daily("30 2 * * *", "2027-03-27T00:00:00Z"),
            ["2027-03-27T01:30:00Z", "2027-03-28T01:00:00Z", "2027-03-29T00:30:00Z"],
            "at three, the first instant behind the gap"
        );
        assert_eq!(
            daily("30 2 * * *", "2027-10-30T00:00:00Z"),
            ["2027-10-30T00:30:00Z", "2027-10-31T00:30:00Z", "2027-11-01T01:30:00Z"],
            "once, at the first of both"
        );
        assert_eq!(
            daily("0 */1 * * *", "2027-10-30T23:30:00Z"),
            ["2027-10-31T00:00:00Z", "2027-10-31T01:00:00Z", "2027-10-31T02:00:00Z"],
            "every hour has its run"
        );
        assert_eq!(
            daily("0 */1 * * *", "2027-03-27T23:30:00Z"),
            ["2027-03-28T00:00:00Z", "2027-03-28T01:00:00Z", "2027-03-28T02:00:00Z"]
        );
    }

    /// Goal: what has no meaning or never comes is refused in words, and soon. Method: one of each; the
    /// search ends after some years of looking.
    #[test]
    fn what_never_comes_is_refused() {
        let why = |expression, zone| {
            let error = next(&cron(expression, zone), ms("2026-11-20T08:00:00Z")).unwrap_err();
            assert_eq!(error.code, Code::BadSchedule);
            error.message
        };
        for never in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 0 30 FEB ?"] {
            assert!(why(never, "").contains("never comes"), "{never}");
        }
        for bad in [
            "",
            "* * * *",
            "61 * * * *",
            "* * * * * * *",
            "a b c d e",
            "0 9 * * é",
            "@often",
            "0 0 29 2 +1",
        ] {
            assert!(why(bad, "").contains("is not"), "{bad}: {}", why(bad, ""));
        }
        for zone in ["Mars/Olympus", "../../etc/passwd", "+25:00", "\0"] {
            assert!(why("* * * * *", zone).contains("not known"), "{zone}");
        }
        next(&cron("* * * * *", ""), u64::MAX).unwrap_err();
    }

    const FIELD: &str = "[*]|[*]/[0-9]{1,2}|[0-9]{1,2}(-[0-9]{1,2})?|L|[0-7]#[0-6L]|1?5W";

    proptest! {
        /// Goal: no text panics or comes early. Method: random texts of the letters that expressions have.
        #[test]
        fn any_text_is_a_rule_or_an_error(
            text in "[0-9*/,#LW?+@A-Z -]{0,24}",
            fields in proptest::collection::vec(FIELD, 5..7),
            after_ms in 0u64..300_000_000_000_000,
        ) {
            for text in [text, fields.join(" ")] {
                if let Ok(at_ms) = next(&cron(&text, "Australia/Lord_Howe"), after_ms) {
                    prop_assert!(at_ms > after_ms && at_ms % 1_000 == 0);
                }
            }
        }
    }
}
