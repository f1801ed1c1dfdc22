//! What of the rows below is alive at a freeze: bounds and counts, never rows.

use std::collections::BTreeMap;

use crate::base::id::DestinationId;
use crate::base::lifecycle::State;

use super::Engine;
use super::messages::Entry;

/// A place among the ready rows: destination, lane and position; on topics lane 0 and the offset.
pub type ReadyPlace = (DestinationId, u8, u64);

/// What the rows of the store still stand for, once the flush of a freeze is done. What it does not
/// name is dead and stays so.
#[derive(Debug, Default)]
pub struct Alive {
    /// First and last position in each lane that may be alive. Other lanes are consumed, or have
    /// never had a row.
    lanes: BTreeMap<(DestinationId, u8), (u64, u64)>,
    /// Scheduled messages that have a row. An estimate behind a damaged part of the store, as `ready`:
    /// what is not to go may not hang on it.
    pub scheduled: u64,
    /// Ready messages that have a row, and what topics keep.
    pub ready: u64,
}

impl Alive {
    /// Whether any ready row from one place to another, both included, may be alive.
    #[must_use]
    pub fn any_between(&self, first: ReadyPlace, last: ReadyPlace) -> bool {
        let lane = |(destination, lane, _): ReadyPlace| (destination, lane);
        if first > last {
            return false;
        }
        // A lane in between lies there with all it has.
        self.lanes.range(lane(first)..=lane(last)).any(|(&own, &(from, to))| {
            (own > lane(first) || to >= first.2) && (own < lane(last) || from <= last.2)
        })
    }

    /// Whether any ready row may be alive at all.
    #[must_use]
    pub fn any_ready(&self) -> bool {
        !self.lanes.is_empty()
    }
}

impl Engine {
    /// What will be alive below when everything in memory lies there, but for `open`.
    pub(super) fn alive_below(&self, open: &[(u64, Entry)]) -> Alive {
        let mut alive = Alive::default();
        let last_position = self.next_position - 1;
        for d in self.destinations.iter() {
            alive.scheduled += d.scheduled;
            alive.ready += d.ready;
            for (lane, marks) in d.queue.all_marks() {
                let cold_to = d.queue.cold_after_flush(lane, last_position);
                if cold_to > marks.handed_to {
                    alive.lanes.insert((d.id, lane), (marks.handed_to + 1, cold_to));
                }
            }
            if d.topic.len() > 0 {
                let kept = (d.topic.first_offset, d.topic.next_offset() - 1);
                alive.lanes.insert((d.id, 0), kept);
            }
        }
        for (_, entry) in open {
            if self.destination(entry.destination).is_none() {
                continue;
            }
            if entry.state != State::InFlight {
                alive.ready = alive.ready.saturating_sub(1);
            }
        }
        alive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: nothing alive is called dead, nor much that is dead alive. Method: two lanes with something
    /// alive in the middle of them, and ranges that end one short of it and at it.
    #[test]
    fn a_range_is_dead_when_no_lane_has_anything_there() {
        let at = |destination, lane, position| (DestinationId(destination), lane, position);
        let mut alive = Alive::default();
        assert!(!alive.any_ready() && !alive.any_between(at(0, 0, 0), at(u32::MAX, 255, u64::MAX)));
        alive.lanes.insert((DestinationId(3), 4), (100, 200));
        alive.lanes.insert((DestinationId(5), 0), (1, 1));
        assert!(alive.any_ready());
        let dead = [
            (at(0, 0, 0), at(3, 4, 99)),
            (at(3, 4, 10), at(3, 4, 99)),
            (at(3, 4, 201), at(3, 4, 300)),
            (at(3, 4, 201), at(5, 0, 0)),
            (at(3, 5, 0), at(4, 9, u64::MAX)),
            (at(5, 0, 2), at(9, 9, 9)),
            (at(3, 4, 150), at(3, 4, 149)),
            (at(9, 0, 0), at(3, 4, 150)),
        ];
        for (first, last) in dead {
            assert!(!alive.any_between(first, last), "{first:?} to {last:?}");
        }
        let living = [
            (at(3, 4, 10), at(3, 4, 100)),
            (at(3, 4, 200), at(3, 4, 200)),
            (at(3, 4, 150), at(3, 4, 150)),
            (at(0, 0, 0), at(3, 4, 100)),
            (at(3, 4, 200), at(4, 0, 0)),
            (at(3, 4, 201), at(5, 0, 1)),
            (at(0, 0, 0), at(9, 9, 9)),
            (at(3, 3, 500), at(3, 5, 0)),
        ];
        for (first, last) in living {
            assert!(alive.any_between(first, last), "{first:?} to {last:?}");
        }
    }
}
