//! Times and durations as people write and read them. Everything shown is UTC.

use jiff::Timestamp;

use crate::base::message::Delay;
use crate::base::time::parse_duration_ms;
use crate::env::{Clock, OsClock};

/// The wall clock, ms since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    OsClock.wall_ns() / 1_000_000
}

/// Reads a duration in ms (`250ms`, `10s`, `1h30m`, `40d`; a bare number is ms).
///
/// Only its form is judged here: how long a delay may be is for the server to say.
pub(crate) fn duration_ms(text: &str) -> Result<u64, String> {
    if text.trim_start().starts_with('-') {
        return Err("a duration cannot be negative".into());
    }
    parse_duration_ms(text).filter(|ms| i64::try_from(*ms).is_ok()).ok_or_else(|| {
        format!("`{text}` is not a duration; write for example 250ms, 10s, 5m, 1h30m or 40d")
    })
}

/// The delay of `--in`.
///
/// A bare number is refused: who writes `10` means seconds as often as ms, and would find out by
/// a message that came too early.
pub(crate) fn delay_in(text: &str) -> Result<Delay, String> {
    Ok(Delay::After(with_unit_ms(text)?.cast_signed()))
}

/// The age of `--max-age`, in ms; a bare number other than 0 is refused here too.
pub(crate) fn age(text: &str) -> Result<u64, String> {
    with_unit_ms(text)
}

/// A duration of which the unit is written down, ms.
pub(crate) fn with_unit_ms(text: &str) -> Result<u64, String> {
    let bare = text.trim();
    if bare != "0" && !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("`{text}` has no unit; write {bare}s or {bare}ms"));
    }
    duration_ms(text)
}

/// The delay of `--at`.
pub(crate) fn delay_at(text: &str) -> Result<Delay, String> {
    time_ms(text).map(Delay::At)
}

/// Reads a time: RFC 3339, or ms since the Unix epoch. Parts of a ms count up, so that a message
/// is never early.
pub(crate) fn time_ms(text: &str) -> Result<i64, String> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_err(|_| format!("`{text}` is beyond any time"));
    }
    let time: Timestamp = text.parse().map_err(|_| {
        format!(
            "`{text}` is not a time; write it as RFC 3339, for example 2026-12-24T18:00:00Z or \
             2026-12-24T19:00:00+01:00, or as ms since 1970"
        )
    })?;
    let ns = time.as_nanosecond();
    let up = i128::from(ns.rem_euclid(1_000_000) != 0);
    // A timestamp of jiff ends in the year 9999: its ms fit easily.
    Ok(i64::try_from(ns.div_euclid(1_000_000) + up).unwrap_or(i64::MAX))
}

/// Reads an end of a time range: a time, `now`, or a duration from now on.
pub(crate) fn moment_ms(text: &str) -> Result<u64, String> {
    let now = now_ms();
    if text == "now" {
        return Ok(now);
    }
    if let Some(ms) = text.strip_prefix('+').and_then(parse_duration_ms) {
        return Ok(now.saturating_add(ms));
    }
    match time_ms(text) {
        Ok(ms) => Ok(u64::try_from(ms).unwrap_or(0)),
        Err(why) => Err(format!("{why}; `now` and `+10m` work too")),
    }
}

/// A time as RFC 3339 with ms.
pub(crate) fn show_time(ms: u64) -> String {
    match i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()) {
        Some(time) => format!("{time:.3}"),
        None => format!("{ms} ms"),
    }
}

/// A duration in the form that is read, exact to the ms.
pub(crate) fn show_duration(ms: u64) -> String {
    if ms == 0 {
        return "0ms".into();
    }
    let mut text = String::new();
    let mut rest = ms;
    for (unit, name) in
        [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")]
    {
        if rest >= unit {
            text.push_str(&format!("{}{name}", rest / unit));
            rest %= unit;
        }
    }
    text
}

/// How far away a time is, for reading: `in 9m59s`, `now`, `3s ago`.
pub(crate) fn show_distance(due_ms: u64, now_ms: u64) -> String {
    // Nobody reads the ms of a wait.
    let rounded = |ms: u64| {
        let unit = if ms >= 10_000 { 1_000 } else { 100 };
        ms.saturating_add(unit / 2) / unit * unit
    };
    if due_ms > now_ms {
        format!("in {}", show_duration(rounded(due_ms - now_ms)))
    } else if now_ms - due_ms < 1_000 {
        "now".into()
    } else {
        format!("{} ago", show_duration(rounded(now_ms - due_ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_times_read_as_people_write_them() {
        assert_eq!(delay_in("10m"), Ok(Delay::After(600_000)));
        assert_eq!(delay_in("0"), Ok(Delay::After(0)));
        assert_eq!(delay_in("10").unwrap_err(), "`10` has no unit; write 10s or 10ms");
        assert_eq!(time_ms("1970-01-01T00:00:01Z"), Ok(1_000));
        assert_eq!(time_ms("1970-01-01T01:00:01.5+01:00"), Ok(1_500));
        assert_eq!(time_ms("1700000000000"), Ok(1_700_000_000_000));
        assert_eq!(time_ms("1969-12-31T23:59:59Z"), Ok(-1_000));
        assert_eq!(delay_at("1970-01-01T00:00:00.0000001Z"), Ok(Delay::At(1)), "never early");
        assert_eq!(moment_ms("1969-12-31T23:59:59Z"), Ok(0));
        assert!(moment_ms("+1h").unwrap() > moment_ms("now").unwrap());
    }

    #[test]
    fn what_is_neither_is_told_with_an_example() {
        assert_eq!(duration_ms("-5s").unwrap_err(), "a duration cannot be negative");
        for text in ["", "5x", "99999999999999999999", "9223372036854775808", "106751991168d"] {
            assert!(duration_ms(text).unwrap_err().contains("1h30m"), "{text}");
        }
        for text in ["", "tomorrow", "2026-12-24", "2026-12-24T18:00:00", "-5"] {
            assert!(time_ms(text).unwrap_err().contains("RFC 3339"), "{text}");
        }
        assert!(time_ms("99999999999999999999").unwrap_err().contains("beyond"));
        assert!(moment_ms("10x").unwrap_err().contains("+10m"));
    }

    #[test]
    fn what_is_shown_reads_back() {
        for ms in [0, 1, 999, 1_000, 61_000, 5_400_000, 3_456_000_000, 90_061_001] {
            assert_eq!(duration_ms(&show_duration(ms)), Ok(ms));
        }
        for ms in [0, 1_700_000_000_123] {
            assert_eq!(time_ms(&show_time(ms)), Ok(ms.cast_signed()));
        }
        assert_eq!(show_time(1_700_000_000_100), "2023-11-14T22:13:20.100Z");
        assert_eq!(show_time(u64::MAX), format!("{} ms", u64::MAX));
        assert_eq!(show_distance(600_400, 0), "in 10m");
        assert_eq!(show_distance(1_999, 0), "in 2s");
        assert_eq!(show_distance(1_940, 0), "in 1s900ms");
        assert_eq!(show_distance(0, 500), "now");
        assert_eq!(show_distance(0, 3_000), "3s ago");
    }
}
