//! Makes the time of each step out of two clocks. Pure: readings in, [`Now`] out.
//!
//! The wall line is the monotonic line plus an offset that changes only when the wall clock is
//! really stepped; so jitter between two readings never makes the lines disagree. A forward step
//! of more than ten minutes is not believed until an operator or a time-out says so: until then
//! "at" messages wait, loudly, rather than fire ten years early.

use crate::base::limits;
use crate::base::time::{Now, Pace};

const NS_PER_MS: u64 = 1_000_000;
/// A difference up to this is jitter between the two readings, ms.
const JITTER_MS: i64 = 3;

/// Something about the clock that the operator should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClockNote {
    /// The wall stepped forward by so many ms and was followed.
    Forward(i64),
    /// The wall stepped back by so many ms and was followed; nothing fires twice.
    Backward(i64),
    /// The wall stepped forward by so many ms and is not believed yet.
    Held(i64),
    /// The wall is believed again after a step of so many ms.
    Released(i64),
}

/// One reading of both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    /// Monotonic, ns since any origin.
    pub(super) mono_ns: u64,
    /// Wall, ns since the Unix epoch.
    pub(super) wall_ns: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Timekeeper {
    /// The monotonic line's value at the origin of the monotonic clock, ns.
    mono_base_ns: i128,
    /// Trusted wall minus monotonic line, ns.
    wall_offset_ns: i128,
    last: Now,
    /// The engine line and the two others at the last reading, ns. Whole ms would not do: the two clocks
    /// go on to the next at different moments, and half of a ms counts.
    engine_ns: u64,
    mono_ns: u64,
    wall_ns: u64,
    /// Since when, on the monotonic line, a forward step is not believed, ms.
    held_since_ms: Option<u64>,
    release_asked: bool,
}

impl Timekeeper {
    /// Starts the lines. `last` is the time of the last batch in the journal, if there is one: the
    /// lines go on from it, counting the stop as time that passed.
    pub(super) fn start(reading: Reading, last: Option<Now>) -> (Self, Option<ClockNote>) {
        let wall = i128::from(reading.wall_ns);
        let mut note = None;
        let (mono_line, trusted_wall, floor) = match last {
            None => (wall, wall, Now::default()),
            Some(last) => {
                let last_wall = i128::from(last.wall_ms) * 1_000_000;
                let gap = wall - last_wall;
                let step_ms = (gap / 1_000_000) as i64;
                let believed = gap <= i128::from(limits::CLOCK_GAP_AT_START_MAX_MS) * 1_000_000;
                if !believed {
                    note = Some(ClockNote::Held(step_ms));
                } else if step_ms < 0 {
                    note = Some(ClockNote::Backward(-step_ms));
                }
                let passed = if believed { gap.max(0) } else { 0 };
                let mono_line = i128::from(last.mono_ms) * 1_000_000 + passed;
                (mono_line, if believed { wall } else { last_wall }, last)
            }
        };
        let keeper = Self {
            mono_base_ns: mono_line - i128::from(reading.mono_ns),
            wall_offset_ns: trusted_wall - mono_line,
            last: floor,
            engine_ns: floor.engine_ms.saturating_mul(NS_PER_MS),
            mono_ns: floor.mono_ms.saturating_mul(NS_PER_MS),
            wall_ns: floor.wall_ms.saturating_mul(NS_PER_MS),
            held_since_ms: matches!(note, Some(ClockNote::Held(_)))
                .then_some((mono_line / 1_000_000) as u64),
            release_asked: false,
        };
        (keeper, note)
    }

    /// Believe the wall at the next reading.
    pub(super) fn release(&mut self) {
        self.release_asked = true;
    }

    /// Whether a forward step of the wall is not believed at the moment.
    pub(super) fn held(&self) -> bool {
        self.held_since_ms.is_some()
    }

    /// How far the wall is from where the trusted line expects it, ms.
    pub(super) fn deviation_ms(&self, reading: Reading) -> i64 {
        let expected = self.mono_base_ns + i128::from(reading.mono_ns) + self.wall_offset_ns;
        ((i128::from(reading.wall_ns) - expected) / 1_000_000) as i64
    }

    /// Whether a reading looks like a step; the caller then reads again, in case it was only held
    /// up between the two clocks.
    pub(super) fn looks_stepped(&self, reading: Reading) -> bool {
        self.deviation_ms(reading).abs() > JITTER_MS
    }

    /// What the monotonic clock will read when the monotonic line reaches `mono_ms`, ns.
    pub(super) fn mono_ns_at(&self, mono_ms: u64) -> u64 {
        let at = i128::from(mono_ms) * 1_000_000 - self.mono_base_ns;
        u64::try_from(at.max(0)).unwrap_or(u64::MAX)
    }

    /// The time of a step. `pace` is the engine's.
    pub(super) fn now(&mut self, reading: Reading, pace: Pace) -> (Now, Option<ClockNote>) {
        let mono_ns = self.mono_base_ns + i128::from(reading.mono_ns);
        let mono_ms = ((mono_ns / 1_000_000) as u64).max(self.last.mono_ms);
        let note = self.follow_wall(reading, mono_ms);
        let wall_ns = (mono_ns + self.wall_offset_ns).max(0);
        let wall_ms = (wall_ns / 1_000_000) as u64;
        self.follow_clocks(mono_ns.max(0) as u64, wall_ns as u64, pace);
        let engine_ms = (self.engine_ns / NS_PER_MS).max(mono_ms).max(wall_ms);
        self.last = Now { mono_ms, wall_ms, engine_ms };
        (self.last, note)
    }

    fn follow_clocks(&mut self, mono_ns: u64, wall_ns: u64, pace: Pace) {
        let passed = mono_ns.saturating_sub(self.mono_ns).max(wall_ns.saturating_sub(self.wall_ns));
        let line = pace.in_ns().line_after(self.engine_ns, passed);
        self.engine_ns = line.max(mono_ns).max(wall_ns);
        (self.mono_ns, self.wall_ns) = (mono_ns.max(self.mono_ns), wall_ns);
    }

    fn follow_wall(&mut self, reading: Reading, mono_ms: u64) -> Option<ClockNote> {
        let step = self.deviation_ms(reading);
        let release = std::mem::take(&mut self.release_asked);
        if step.abs() <= JITTER_MS {
            // The wall came back to where it was believed to be.
            return self.held_since_ms.take().map(|_| ClockNote::Released(step));
        }
        let note = if step < 0 {
            ClockNote::Backward(-step)
        } else if step <= limits::CLOCK_STEP_HOLD_MS as i64 {
            ClockNote::Forward(step)
        } else {
            let since = match self.held_since_ms {
                Some(since) => since,
                None => {
                    self.held_since_ms = Some(mono_ms);
                    return Some(ClockNote::Held(step));
                }
            };
            if !release && mono_ms < since + limits::CLOCK_HOLD_TIMEOUT_MS {
                return None;
            }
            ClockNote::Released(step)
        };
        self.held_since_ms = None;
        self.wall_offset_ns =
            i128::from(reading.wall_ns) - (self.mono_base_ns + i128::from(reading.mono_ns));
        Some(note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    const TEN_YEARS: u64 = 10 * 365 * 24 * HOUR;
    const START: u64 = 1_700_000_000_000;

    fn at(mono_ms: u64, wall_ms: u64) -> Reading {
        Reading { mono_ns: mono_ms * 1_000_000, wall_ns: wall_ms * 1_000_000 }
    }

    #[test]
    fn without_steps_the_three_lines_are_one() {
        let (mut keeper, note) = Timekeeper::start(at(5, START), None);
        assert_eq!(note, None);
        for (mono, jitter) in [(5, 0), (6, 1), (1_000, 0), (1_001, 2)] {
            let (now, note) = keeper.now(at(mono, START + mono - 5 + jitter), Pace::default());
            assert_eq!((now, note), (Now::all(START + mono - 5), None));
        }
    }

    #[test]
    fn a_small_forward_step_is_followed_by_the_wall_alone() {
        let (mut keeper, _) = Timekeeper::start(at(0, START), None);
        let (now, note) = keeper.now(at(10, START + 10 + 300_000), Pace::default());
        assert_eq!(note, Some(ClockNote::Forward(300_000)));
        assert_eq!(now.mono_ms, START + 10);
        assert_eq!((now.wall_ms, now.engine_ms), (START + 300_010, START + 300_010));
    }

    #[test]
    fn a_backward_step_of_an_hour_or_ten_years_never_moves_the_engine_back() {
        for step in [HOUR, TEN_YEARS] {
            let (mut keeper, _) = Timekeeper::start(at(0, START), None);
            let (now, note) = keeper.now(at(10, START + 10 - step), Pace::default());
            assert_eq!(note, Some(ClockNote::Backward(step as i64)));
            assert_eq!(now.wall_ms, START + 10 - step);
            assert_eq!((now.mono_ms, now.engine_ms), (START + 10, START + 10));
        }
    }

    /// Goal: a line that is ahead goes on as the engine has planned, and is caught up with, however often the
    /// clocks are read and wherever in a ms they go on. Method: the wall steps back by a part of a ms more
    /// than a second; readings of 0.1 ms and of 1 ms.
    #[test]
    fn a_line_that_is_ahead_goes_on_as_planned() {
        for step_us in [100, 300, 1_000] {
            let (mut keeper, _) = Timekeeper::start(at(0, START), None);
            let reading = |us: u64, aside_us: u64| Reading {
                mono_ns: us * 1_000,
                wall_ns: (START * 1_000 + us + aside_us) * 1_000,
            };
            keeper.now(reading(0, 1_000_400), Pace::default());
            let pace = Pace { steady_to: START + 1_100, slow_to: START + 1_300 };
            for us in (0..2_000_000).step_by(step_us).skip(1) {
                let (now, _) = keeper.now(reading(us, 0), pace);
                let ms = us / 1_000;
                let line = if ms < 100 { 1_000 + ms } else { (1_100 + (ms - 100) / 2).min(1_300) };
                let behind = line.max(ms) as i64 - (now.engine_ms - START) as i64;
                assert!((-1..=1).contains(&behind), "{us}: {behind}");
            }
        }
    }

    #[test]
    fn a_long_forward_step_is_held_until_released_or_timed_out_or_undone() {
        for step in [HOUR, TEN_YEARS] {
            let (mut keeper, _) = Timekeeper::start(at(0, START), None);
            let (now, note) = keeper.now(at(10, START + 10 + step), Pace::default());
            assert_eq!((now, note), (Now::all(START + 10), Some(ClockNote::Held(step as i64))));
            assert!(keeper.held());
            let (now, note) = keeper.now(at(20, START + 20 + step), Pace::default());
            assert_eq!((now, note), (Now::all(START + 20), None));
            keeper.release();
            let (now, note) = keeper.now(at(30, START + 30 + step), Pace::default());
            assert_eq!(note, Some(ClockNote::Released(step as i64)));
            assert_eq!((now.wall_ms, now.mono_ms), (START + 30 + step, START + 30));

            let (mut keeper, _) = Timekeeper::start(at(0, START), None);
            keeper.now(at(10, START + 10 + step), Pace::default());
            let late = 10 + limits::CLOCK_HOLD_TIMEOUT_MS;
            let (now, note) = keeper.now(at(late, START + late + step), Pace::default());
            assert_eq!(note, Some(ClockNote::Released(step as i64)));
            assert_eq!(now.wall_ms, START + late + step);

            let (mut keeper, _) = Timekeeper::start(at(0, START), None);
            keeper.now(at(10, START + 10 + step), Pace::default());
            let (now, note) = keeper.now(at(20, START + 20), Pace::default());
            assert_eq!((now, note), (Now::all(START + 20), Some(ClockNote::Released(0))));
        }
    }

    #[test]
    fn a_stop_counts_as_time_that_passed_once() {
        let last = Now { mono_ms: START, wall_ms: START - 50, engine_ms: START + 7 };
        let (mut keeper, note) = Timekeeper::start(at(3, START + HOUR - 50), Some(last));
        assert_eq!(note, None);
        let (now, _) = keeper.now(at(3, START + HOUR - 50), Pace::default());
        assert_eq!((now.mono_ms, now.wall_ms), (START + HOUR, START + HOUR - 50));
    }

    #[test]
    fn a_start_with_a_wall_behind_or_absurdly_ahead_is_safe() {
        let last = Now::all(START);
        let (mut keeper, note) = Timekeeper::start(at(0, START - HOUR), Some(last));
        assert_eq!(note, Some(ClockNote::Backward(HOUR as i64)));
        let (now, _) = keeper.now(at(5, START - HOUR + 5), Pace::default());
        assert_eq!((now.mono_ms, now.engine_ms), (START + 5, START + 5));
        assert_eq!(now.wall_ms, START - HOUR + 5);

        let (mut keeper, note) = Timekeeper::start(at(0, START + TEN_YEARS), Some(last));
        assert_eq!(note, Some(ClockNote::Held(TEN_YEARS as i64)));
        let (now, _) = keeper.now(at(5, START + TEN_YEARS + 5), Pace::default());
        assert_eq!(now, Now::all(START + 5));
    }
}
