//! When a flush pays although neither memory nor the journal asks for it. On a quiet server what is in
//! memory goes to the disk and the journal behind it goes; on any, what is dead on the disk goes.
//!
//! Nothing is written for nothing: without a batch since the last flush there is nothing new to say.

use crate::base::limits;

/// Between two looks, ms: they walk the destinations.
const LOOK_EVERY_MS: u64 = 10_000;

/// What a flush would be good for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Gain {
    /// Memory that came since the last flush, bytes.
    pub(super) memory: u64,
    /// Journal that would go, bytes.
    pub(super) journal: u64,
    /// More than half of what lies on the disk is dead, and it is much.
    pub(super) stale: bool,
}

/// What goes on, as far as flushes are concerned. Times on the monotonic line, ms.
#[derive(Debug, Default)]
pub(super) struct Idle {
    /// Batches, at the last step.
    batches: u64,
    /// Since when there were no more; `None` before the first step.
    quiet_since: Option<u64>,
    /// Batches when the last flush began; `None`: there was none in this run.
    flushed: Option<u64>,
    next_flush: u64,
    next_look: u64,
}

impl Idle {
    /// Takes note of a step, after which so many batches are written. Whether it is time to look for a
    /// gain.
    pub(super) fn looks(&mut self, now_ms: u64, batches: u64) -> bool {
        if self.quiet_since.is_none() || batches != self.batches {
            (self.quiet_since, self.batches) = (Some(now_ms), batches);
        }
        if self.flushed == Some(batches) || now_ms < self.next_flush.max(self.next_look) {
            return false;
        }
        self.next_look = now_ms + LOOK_EVERY_MS;
        true
    }

    /// Whether a flush is worth it now.
    pub(super) fn pays(&self, now_ms: u64, gain: Gain) -> bool {
        let since = self.quiet_since.unwrap_or(now_ms);
        let quiet = now_ms.saturating_sub(since) >= limits::IDLE_AFTER_MS;
        let much =
            gain.memory >= limits::IDLE_FLUSH_BYTES || gain.journal >= limits::IDLE_JOURNAL_BYTES;
        gain.stale || quiet && much
    }

    /// A flush has begun, for whatever reason.
    pub(super) fn flushed(&mut self, now_ms: u64, batches: u64) {
        self.flushed = Some(batches);
        self.next_flush = now_ms + limits::IDLE_FLUSH_EVERY_MS;
    }
}

/// Whether of so many rows of a family, with their bytes, so few alive are left that a flush and
/// the merge behind it give much back.
pub(super) fn is_stale(bytes: u64, rows: u64, alive: u64) -> bool {
    bytes >= limits::STALE_STORE_BYTES && rows > alive.saturating_mul(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: Gain = Gain { memory: limits::IDLE_FLUSH_BYTES, journal: 0, stale: false };
    const STALE: Gain = Gain { memory: 0, journal: 0, stale: true };

    /// Goal: a flush pays from its bounds on, and not before them. Method: each bound, and one short
    /// of it.
    #[test]
    fn quiet_and_gain_have_bounds() {
        let mut idle = Idle::default();
        assert!(idle.looks(1_000, 1));
        let end = 1_000 + limits::IDLE_AFTER_MS;
        assert!(!idle.pays(end - 1, MEMORY) && idle.pays(end, MEMORY));
        let journal = Gain { journal: limits::IDLE_JOURNAL_BYTES, ..Gain::default() };
        assert!(!idle.pays(end - 1, journal) && idle.pays(end, journal));
        let less = Gain { memory: MEMORY.memory - 1, journal: journal.journal - 1, stale: false };
        assert!(!idle.pays(end, less));
        assert!(idle.pays(1_000, STALE), "it need not be quiet for that");
        assert!(idle.looks(end, 2));
        assert!(!idle.pays(end, MEMORY), "a batch was written since");
        let bytes = limits::STALE_STORE_BYTES;
        assert!(is_stale(bytes, 9, 4) && !is_stale(bytes, 8, 4) && !is_stale(bytes - 1, 9, 4));
    }

    /// Goal: looks are few, flushes fewer, and none without anything new. Method: a year of steps with
    /// a gain in each of them, with a batch now and then, and without any.
    #[test]
    fn flushes_are_few_and_stop_when_nothing_happens() {
        let mut idle = Idle::default();
        let (mut looks, mut flushes) = (0, 0);
        let hour = 3_600_000;
        for now in (0..2 * hour).step_by(500) {
            // In the second hour nothing happens.
            let batches = now.min(hour) / 2_000;
            if idle.looks(now, batches) {
                looks += 1;
                if idle.pays(now, STALE) {
                    flushes += 1;
                    idle.flushed(now, batches);
                }
            }
        }
        let most = hour / limits::IDLE_FLUSH_EVERY_MS;
        assert!((most - 1..=most + 1).contains(&flushes), "{flushes}");
        assert_eq!(looks, flushes, "after a flush it looks when the next may be");
    }
}
