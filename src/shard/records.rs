//! How many rows of records may be alive, told by when they end: they are counted by the hour, never
//! kept.

use std::collections::BTreeMap;

use crate::base::event::BatchMeta;
use crate::base::limits;
use crate::base::stored::Place;
use crate::store::{Family, Version};

use super::below::KIND_DEDUP;

const HOUR_MS: u64 = 3600 * 1000;

/// Rows that end by themselves, counted since the store was opened. As many hours as a message may wait,
/// and no more.
#[derive(Debug, Clone, Default)]
pub(super) struct Records {
    /// Places of messages that were put off: over when their time has come.
    moved: ByHour,
    dedups: ByHour,
}

/// How many may be alive at most. Places of before the store was opened are not among them: they are
/// few, and a merge of everything counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// Places of scheduled messages.
    pub(super) moved: u64,
    /// Dedup ids.
    pub(super) dedups: u64,
}

impl Records {
    /// Those of a store that was opened. When its dedup ids end is not known: as late as can be.
    pub(super) fn found(version: &Version, now_mono_ms: u64) -> Self {
        let mut found = Self::default();
        for segment in version.runs(Family::Record).iter().flat_map(|run| &run.segments) {
            // They sort last: a file that ends before them has none.
            let meta = segment.meta();
            if meta.last_key.first() >= Some(&KIND_DEDUP) {
                found.dedups.add(now_mono_ms + limits::DEDUP_WINDOW_MS, meta.rows);
            }
        }
        found
    }

    /// One more place is written. That of a ready message ends with it and is not counted here.
    pub(super) fn add_place(&mut self, place: Place) {
        if let Place::Scheduled(key) = place {
            self.moved.add(key.due_ms, 1);
        }
    }

    /// One more dedup id is written.
    pub(super) fn add_dedup(&mut self, until_mono_ms: u64) {
        self.dedups.add(until_mono_ms, 1);
    }

    /// What is left at a checkpoint. The others are forgotten.
    pub(super) fn left(&mut self, at: &BatchMeta) -> Left {
        Left {
            moved: self.moved.left(at.fired_to.due_ms),
            dedups: self.dedups.left(at.now.mono_ms),
        }
    }
}

/// Rows by the hour of their end.
#[derive(Debug, Clone, Default)]
struct ByHour(BTreeMap<u64, u64>);

impl ByHour {
    fn add(&mut self, end_ms: u64, rows: u64) {
        *self.0.entry(end_ms / HOUR_MS).or_default() += rows;
    }

    /// Those of which the hour is not over.
    fn left(&mut self, now_ms: u64) -> u64 {
        self.0 = self.0.split_off(&(now_ms / HOUR_MS));
        self.0.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::{DestinationId, Key};
    use crate::base::time::Now;

    fn at(ms: u64) -> BatchMeta {
        BatchMeta { now: Now::all(ms), fired_to: Key::end_of(ms) }
    }

    /// Goal: none is given up before its end, and each within the hour after it.
    #[test]
    fn rows_count_until_their_hour_is_over() {
        let mut records = Records::default();
        for hour in 1..=3 {
            records.add_dedup(hour * HOUR_MS + 5);
            records.add_place(Place::Scheduled(Key { due_ms: hour * HOUR_MS + 5, sequence: hour }));
        }
        records.add_place(Place::Ready { destination: DestinationId(1), lane: 0, position: 1 });
        let mut left = |ms| records.left(&at(ms));
        assert_eq!(left(0), Left { moved: 3, dedups: 3 });
        assert_eq!(left(HOUR_MS + 4), Left { moved: 3, dedups: 3 });
        assert_eq!(left(2 * HOUR_MS), Left { moved: 2, dedups: 2 });
        assert_eq!(left(4 * HOUR_MS), Left::default());
        assert!(records.moved.0.is_empty() && records.dedups.0.is_empty(), "forgotten");
    }
}
