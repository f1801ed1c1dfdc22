//! Time as an input: the three readings that travel with every batch, delay levels, durations.

/// Longest delay accepted: 40 days, in ms.
pub const DELAY_MAX_MS: u64 = 40 * 24 * 3600 * 1000;

/// Delay levels 1..=18, in seconds.
const LEVELS_S: [u64; 18] =
    [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];

/// The delay of a level from 1 to 18 in ms; `None` outside that range.
#[must_use]
pub fn delay_level_ms(level: u64) -> Option<u64> {
    let index = usize::try_from(level.checked_sub(1)?).ok()?;
    LEVELS_S.get(index).map(|s| s * 1000)
}

/// The time a batch is decided at. All in ms since the Unix epoch.
///
/// Two clocks are read, and a third line is derived from them:
/// - `mono_ms` is anchored to the wall at first start and driven by a monotonic clock. It judges
///   "after" delays, acknowledgement deadlines and expiry, and never goes backward.
/// - `wall_ms` is the trusted wall clock. It judges "at" times, and may step either way.
/// - `engine_ms` is never behind either and never goes backward. It drives the wheel. A message whose
///   own clock lags behind the engine line is put back when it fires, so it is never early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Monotonic line.
    pub mono_ms: u64,
    /// Trusted wall clock.
    pub wall_ms: u64,
    /// Drives the wheel; see [`Pace`].
    pub engine_ms: u64,
}

impl Now {
    /// All three lines at the same reading; handy at first start and in tests.
    #[must_use]
    pub fn all(ms: u64) -> Self {
        Self { mono_ms: ms, wall_ms: ms, engine_ms: ms }
    }

    /// The next reading, of clocks that show this now. See [`Pace::line_after`].
    #[must_use]
    pub fn then(&self, mono_ms: u64, wall_ms: u64, pace: Pace) -> Self {
        let passed = mono_ms.saturating_sub(self.mono_ms).max(wall_ms.saturating_sub(self.wall_ms));
        let line = pace.line_after(self.engine_ms, passed);
        Self { mono_ms, wall_ms, engine_ms: line.max(mono_ms).max(wall_ms) }
    }

    /// Whether the engine line is ahead of both clocks: one of them was stepped back.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.engine_ms > self.mono_ms.max(self.wall_ms)
    }

    /// How long it takes until the engine line shows `due_ms` when no clock is stepped, in ms.
    #[must_use]
    pub fn until(&self, due_ms: u64, pace: Pace) -> u64 {
        let ahead = due_ms.saturating_sub(self.engine_ms);
        if !self.leads() {
            return ahead;
        }
        let caught_up = due_ms.saturating_sub(self.mono_ms.max(self.wall_ms));
        if due_ms > pace.steady_to.max(pace.slow_to) {
            return caught_up;
        }
        let full = pace.steady_to.saturating_sub(self.engine_ms).min(ahead);
        (full + 2 * (ahead - full)).min(caught_up)
    }

    /// The reading of one clock.
    #[must_use]
    pub fn on(&self, clock: ClockKind) -> u64 {
        match clock {
            ClockKind::Mono => self.mono_ms,
            ClockKind::Wall => self.wall_ms,
        }
    }
}

/// How the engine line goes on while it is ahead of both clocks, in ms.
///
/// Messages whose clock lags wait for the line, under a key that says where it will be when their clock
/// is there. As long as there are such keys before it, it goes on, and it goes so that it can be told
/// now where it will be then: at full pace up to one mark, and at half from there to the other. Whatever
/// the clocks do, it does not come there later, so such a message is never late. Beyond both marks the
/// line stands still and lets the clocks catch up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    /// Up to there at full pace.
    pub steady_to: u64,
    /// Up to there at half pace: the highest key that a message was given. Not below `steady_to`.
    pub slow_to: u64,
}

impl Pace {
    /// Where the line is, at least, when `passed` has gone by on a clock. In the unit of the marks.
    #[must_use]
    pub fn line_after(self, line: u64, passed: u64) -> u64 {
        line.max(self.plan(line, passed).min(self.slow_to))
    }

    /// Where the line will be, at least, when there is something to wait for.
    #[must_use]
    pub fn plan(self, line: u64, passed: u64) -> u64 {
        let full = self.steady_to.saturating_sub(line).min(passed);
        line.saturating_add(full + (passed - full) / 2)
    }

    /// The same in ns.
    #[must_use]
    pub fn in_ns(self) -> Self {
        let ns = |ms: u64| ms.saturating_mul(1_000_000);
        Self { steady_to: ns(self.steady_to), slow_to: ns(self.slow_to) }
    }
}

/// Which clock judges a due time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClockKind {
    /// "After a duration": the monotonic line.
    Mono,
    /// "At a time": the wall.
    Wall,
}

/// Reads a duration as people write it (`1500`, `250ms`, `10s`, `5m`, `1h30m`, `40d`), in ms.
/// A bare number is ms. `None` when it is not a duration or does not fit.
#[must_use]
pub fn parse_duration_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok();
    }
    let mut rest = text;
    let mut total: u64 = 0;
    let mut last_unit = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let value: u64 = rest.get(..digits)?.parse().ok()?;
        rest = &rest[digits..];
        let unit_len = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = match rest.get(..unit_len)? {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        // Units go down, so `1m1h` and `5s5s` are typos, not sums.
        if unit >= last_unit {
            return None;
        }
        last_unit = unit;
        rest = &rest[unit_len..];
        total = total.checked_add(value.checked_mul(unit)?)?;
    }
    (last_unit != u64::MAX).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_the_known_eighteen() {
        assert_eq!(delay_level_ms(0), None);
        assert_eq!(delay_level_ms(1), Some(1_000));
        assert_eq!(delay_level_ms(14), Some(600_000));
        assert_eq!(delay_level_ms(18), Some(7_200_000));
        assert_eq!(delay_level_ms(19), None);
        assert_eq!(delay_level_ms(u64::MAX), None);
    }

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, ms) in [
            ("0", 0),
            ("1500", 1_500),
            ("250ms", 250),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("40d", DELAY_MAX_MS),
        ] {
            assert_eq!(parse_duration_ms(text), Some(ms), "{text}");
        }
        for text in [
            "",
            "m",
            "5",
            "-5s",
            "5x",
            "1m1h",
            "5s5s",
            "1.5h",
            "99999999999999999999",
            "9999999999999999999d",
        ] {
            let expected = (text == "5").then_some(5);
            assert_eq!(parse_duration_ms(text), expected, "{text}");
        }
    }
}
