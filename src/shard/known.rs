//! What a checkpoint knows to be dead: what merges leave out, and which files go unread.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::id::{DestinationId, Key};
use crate::base::stored::Place;
use crate::codec::row;
use crate::engine::{Alive, Frozen, Kinds, ReadyPlace};
use crate::store::key::{self, ReadyKey};
use crate::store::{Family, Liveness};

use super::below::{KIND_DEDUP, KIND_PLACE};
use super::records::Left;

/// What a checkpoint knows to be dead.
pub(super) struct Known {
    mono_ms: u64,
    fired_to: Key,
    consumed: BTreeMap<(DestinationId, u8), u64>,
    kinds: Arc<Kinds>,
    purged: BTreeMap<DestinationId, u64>,
    alive: Arc<Alive>,
    records: Left,
    any_scheduled: bool,
}

impl Known {
    /// What is dead once this is written; `records` are left then, and there may be scheduled rows, or
    /// not a single one.
    pub(super) fn of(frozen: &Frozen, records: Left, any_scheduled: bool) -> Self {
        Self {
            mono_ms: frozen.meta().now.mono_ms,
            fired_to: frozen.meta().fired_to,
            consumed: frozen.consumed().clone(),
            kinds: frozen.kinds().clone(),
            purged: frozen.purged().clone(),
            alive: frozen.alive().clone(),
            records,
            any_scheduled,
        }
    }

    fn is_dead(&self, place: Place) -> bool {
        match place {
            Place::Scheduled(key) => key <= self.fired_to,
            Place::Ready { destination, lane, position } => {
                let consumed = self.consumed.get(&(destination, lane));
                self.is_gone(destination) || consumed.is_some_and(|consumed| position <= *consumed)
            }
        }
    }

    fn is_gone(&self, destination: DestinationId) -> bool {
        self.kinds.is_gone(destination)
    }

    /// Whether a dedup id is past its time, or its destination is gone.
    fn is_forgotten(&self, key: &[u8], value: &[u8]) -> bool {
        row::decode_dedup(key, value)
            .is_some_and(|row| row.until_mono_ms <= self.mono_ms || self.is_gone(row.destination))
    }

    /// Whether a scheduled row is of a destination that is gone, or was purged.
    fn is_dropped(&self, place: Place, value: &[u8]) -> bool {
        let Place::Scheduled(key) = place else { return false };
        // The number of the shard is not part of a row.
        row::decode(place, 0, value).is_some_and(|row| {
            let purged = self.purged.get(&row.destination);
            self.is_gone(row.destination) || purged.is_some_and(|before| key.sequence < *before)
        })
    }
}

impl Liveness for Known {
    fn dead(&self, family: Family, key: &[u8], value: &[u8]) -> bool {
        let place = match family {
            Family::Scheduled => key::parse_scheduled(key).map(Place::Scheduled),
            Family::Ready => key::parse_ready(key).map(|key| {
                let ReadyKey { destination, lane, position } = key;
                Place::Ready { destination, lane, position }
            }),
            Family::Record => match key::parse_record(key) {
                Some((KIND_PLACE, own)) => own
                    .try_into()
                    .ok()
                    .and_then(|own| row::decode_place(u64::from_be_bytes(own), value)),
                Some((KIND_DEDUP, own)) => return self.is_forgotten(own, value),
                _ => None,
            },
        };
        // What is not understood is kept.
        place.is_some_and(|place| {
            let scheduled = family == Family::Scheduled;
            self.is_dead(place) || scheduled && self.is_dropped(place, value)
        })
    }

    fn dead_up_to(&self, family: Family) -> Option<Vec<u8>> {
        (family == Family::Scheduled).then(|| key::scheduled(self.fired_to).to_vec())
    }

    fn dead_between(&self, family: Family, first: &[u8], last: &[u8]) -> bool {
        match family {
            // What has fired lies below the floor. What was cancelled or purged ahead of it is found
            // by reading.
            Family::Scheduled => false,
            Family::Ready => match (ready_place(first), ready_place(last)) {
                (Some(first), Some(last)) => !self.alive.any_between(first, last),
                _ => false,
            },
            // Where messages stand, and there are none. Told by bounds and rows, not by counters:
            // behind damage they are wrong.
            Family::Record => {
                let is_place = |key| matches!(key::parse_record(key), Some((KIND_PLACE, _)));
                let any = self.any_scheduled || self.alive.any_ready();
                is_place(first) && is_place(last) && !any
            }
        }
    }

    fn live_rows(&self, family: Family) -> Option<u64> {
        let Alive { scheduled, ready, .. } = *self.alive;
        Some(match family {
            Family::Scheduled => scheduled,
            Family::Ready => ready,
            // Each ready message has one.
            Family::Record => ready + self.records.moved.min(scheduled) + self.records.dedups,
        })
    }
}

fn ready_place(key: &[u8]) -> Option<ReadyPlace> {
    let ReadyKey { destination, lane, position } = key::parse_ready(key)?;
    Some((destination, lane, position))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::base::command::Command;
    use crate::base::config::ShardConfig;
    use crate::base::event::{Event, EventSink};
    use crate::base::id::{MessageId, SessionId};
    use crate::base::stored::{Remembered, Stored};
    use crate::base::time::{ClockKind, Now};
    use crate::engine::Engine;

    struct Nowhere;

    impl EventSink for Nowhere {
        fn record(&mut self, _event: &Event<'_>) {}
    }

    /// Goal: merges leave out dedup ids past their time or without a destination, and nothing else.
    /// Method: one row on either side of the checkpoint's time, of a destination there is and of one
    /// that is gone; and one that does not make sense.
    #[test]
    fn forgotten_dedup_ids_are_dead_to_merges() {
        let mut engine = Engine::new(ShardConfig::default(), Now::all(1_000));
        let (kept, gone) = (DestinationId(0), DestinationId(1));
        for (destination, name) in [(kept, "/queue/kept"), (gone, "/queue/gone")] {
            engine.apply(&Event::DestinationCreated { destination, name });
        }
        engine.apply(&Event::DestinationDeleted { destination: gone });
        let known = Known::of(&engine.freeze(&|_, _| {}), Left::default(), false);
        let dead = |destination, until_mono_ms| {
            let id = MessageId::new(1, 0, 1);
            let row = Remembered { destination, dedup: b"once", id, until_mono_ms };
            let mut value = Vec::new();
            row::encode_dedup(&row, &mut value);
            let key = key::record(KIND_DEDUP, &row::dedup_key(destination, b"once"));
            assert!(!known.dead(Family::Record, &key, &value[1..]), "not understood, so kept");
            known.dead(Family::Record, &key, &value)
        };
        assert!(dead(kept, 1_000) && !dead(kept, 1_001));
        assert!(dead(gone, 1_001));
    }

    /// Goal: merges leave out what was purged before the checkpoint, and nothing else. Method: one
    /// scheduled row on either side of the mark, of a purged, a whole and a deleted destination.
    #[test]
    fn purged_rows_are_dead_to_merges() {
        let mut engine = Engine::new(ShardConfig::default(), Now::all(1_000));
        let created = ["/queue/purged", "/queue/whole", "/queue/deleted"];
        for (number, name) in (0..).zip(created) {
            engine.apply(&Event::DestinationCreated { destination: DestinationId(number), name });
        }
        engine.apply(&Event::DestinationPurged {
            destination: DestinationId(0),
            ready: false,
            scheduled: true,
            before: 50,
            spared: Default::default(),
        });
        let name = Bytes::from_static(created[2].as_bytes());
        engine.execute(SessionId(1), 0, Command::DeleteDestination { name }, None, &mut Nowhere);
        let known = Known::of(&engine.freeze(&|_, _| {}), Left::default(), false);
        let dead = |destination, sequence| {
            let key = Key { due_ms: 9_000, sequence };
            let row = Stored {
                place: Place::Scheduled(key),
                id: MessageId::new(9_000, 0, sequence),
                destination: DestinationId(destination),
                due_ms: 9_000,
                clock: ClockKind::Mono,
                priority: 4,
                expires_mono_ms: 0,
                failures: 0,
                recurring: false,
                content: b"x",
            };
            let mut value = Vec::new();
            row::encode(&row, &mut value);
            known.dead(Family::Scheduled, &key::scheduled(key), &value)
        };
        assert!(dead(0, 49) && !dead(0, 50));
        assert!(!dead(1, 49) && !dead(1, 50));
        assert!(dead(2, 49) && dead(2, 50));
    }

    /// Goal: files go unread when all they hold is dead, and only then; rows are counted. Method: a
    /// queue of which nothing is consumed, one that is gone, and places of their messages.
    #[test]
    fn files_of_what_is_gone_are_dead() {
        let mut engine = Engine::new(ShardConfig::default(), Now::all(1_000));
        for (number, name) in [(0, "/queue/kept"), (1, "/queue/gone")] {
            let destination = DestinationId(number);
            engine.apply(&Event::DestinationCreated { destination, name });
            engine.apply(&Event::Produced {
                id: MessageId::new(1, 0, u64::from(number) + 1),
                destination,
                priority: 4,
                clock: ClockKind::Mono,
                at_once: true,
                recurring: false,
                expires_mono_ms: 0,
                dedup: b"",
                content: b"x",
            });
        }
        engine.apply(&Event::DestinationDeleted { destination: DestinationId(1) });
        let frozen = engine.freeze(&|_, _| {});
        let known = Known::of(&frozen, Left { moved: 7, dedups: 5 }, false);
        let at = |destination, lane, position| {
            let destination = DestinationId(destination);
            key::ready(ReadyKey { destination, lane, position })
        };
        let dead =
            |first: [u8; 13], last: [u8; 13]| known.dead_between(Family::Ready, &first, &last);
        assert!(!dead(at(0, 4, 1), at(0, 4, 1)) && !dead(at(0, 0, 0), at(1, 4, 2)));
        assert!(dead(at(0, 5, 0), at(1, 4, 2)) && dead(at(0, 0, 0), at(0, 4, 0)));
        assert!(!known.dead_between(Family::Ready, b"no key", &at(1, 4, 2)));
        let place = |sequence: u64| key::record(KIND_PLACE, &sequence.to_be_bytes());
        assert!(!known.dead_between(Family::Record, &place(1), &place(2)), "one is alive");
        let rows = Family::ALL.map(|family| known.live_rows(family));
        assert_eq!(rows, [Some(0), Some(1), Some(1 + 5)], "none scheduled, so none moved");

        drop(engine.frozen_lies_below(&[]));
        engine.apply(&Event::DestinationDeleted { destination: DestinationId(0) });
        let frozen = engine.freeze(&|_, _| {});
        let known = Known::of(&frozen, Left::default(), true);
        assert!(!known.dead_between(Family::Record, &place(1), &place(2)), "it may be scheduled");
        let known = Known::of(&frozen, Left::default(), false);
        assert!(known.dead_between(Family::Record, &place(1), &place(2)));
        let dedup = key::record(KIND_DEDUP, b"0000once");
        assert!(!known.dead_between(Family::Record, &place(1), &dedup), "it has its own time");
    }
}
