//! A clock that goes where the test says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::env::Clock;

/// A shareable clock; clones show the same time. Starts at the given readings.
#[derive(Debug, Clone, Default)]
pub struct SimClock {
    mono_ns: Arc<AtomicU64>,
    wall_ms: Arc<AtomicU64>,
}

impl SimClock {
    /// A clock at these readings.
    #[must_use]
    pub fn new(mono_ns: u64, wall_ms: u64) -> Self {
        let clock = Self::default();
        clock.mono_ns.store(mono_ns, Ordering::SeqCst);
        clock.wall_ms.store(wall_ms, Ordering::SeqCst);
        clock
    }

    /// Lets time pass on both clocks.
    pub fn advance_ms(&self, ms: u64) {
        self.advance_mono_ns(ms * 1_000_000);
        self.step_wall_ms(ms.cast_signed());
    }

    /// Lets time pass on the monotonic clock alone.
    pub fn advance_mono_ns(&self, ns: u64) {
        self.mono_ns.fetch_add(ns, Ordering::SeqCst);
    }

    /// Steps the wall clock alone, either way; it stops at 0.
    pub fn step_wall_ms(&self, ms: i64) {
        let wall = self.wall_ms.load(Ordering::SeqCst);
        self.wall_ms.store(wall.saturating_add_signed(ms), Ordering::SeqCst);
    }

    /// Sets the wall clock.
    pub fn set_wall_ms(&self, ms: u64) {
        self.wall_ms.store(ms, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn mono_ns(&self) -> u64 {
        self.mono_ns.load(Ordering::SeqCst)
    }

    fn wall_ns(&self) -> u64 {
        self.wall_ms.load(Ordering::SeqCst) * 1_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_clocks_move_apart_when_told() {
        let clock = SimClock::new(5, 1_000);
        let same = clock.clone();
        clock.advance_ms(2);
        assert_eq!((same.mono_ns(), same.wall_ns()), (2_000_005, 1_002_000_000));
        clock.step_wall_ms(-5_000);
        clock.advance_mono_ns(1);
        assert_eq!((same.mono_ns(), same.wall_ns()), (2_000_006, 0));
        clock.set_wall_ms(7);
        assert_eq!(same.wall_ns(), 7_000_000);
    }
}
