//! The two ends of a flush: everything in memory is frozen, and later lies below.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::event::Event;
use crate::base::id::DestinationId;
use crate::base::lifecycle::State;
use crate::base::limits;
use crate::wheel::Wheel;

use super::Engine;
use super::dedup;
use super::frozen::{Frozen, TopicChunk};
use super::messages::{Entry, Ruins, TOMB_BYTES, Tombs};
use super::subscription::Role;
use super::topic::{CHUNKS_MAX, Chunk};

/// Messages of a topic that lie below are dropped so many at a time, or more.
const CHUNK: u64 = 4096;

/// What a flush leaves behind in memory. It is freed little by little, and on the thread that
/// allocated it, where allocators give memory back at once.
#[derive(Debug)]
pub struct Remains {
    ruins: Option<Ruins>,
    dedups: Option<dedup::Ruins>,
    // Few and large allocations: freed with it.
    _wheel: Option<Wheel>,
    _tombs: Option<Arc<Tombs>>,
}

impl Remains {
    /// Frees about so many messages, then dedup ids. `false`: nothing is left.
    pub fn clear(&mut self, messages: usize) -> bool {
        self.ruins.as_mut().is_some_and(|ruins| ruins.clear(messages))
            || self.dedups.as_mut().is_some_and(|ruins| ruins.clear(messages))
    }

    /// What its messages take, about, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.ruins.as_ref().map_or(0, Ruins::bytes)
    }
}

/// What the engine has to know when the flush is done.
#[derive(Debug)]
pub(super) struct Freezing {
    below_sequence: u64,
    last_position: u64,
    destinations: Vec<DestinationId>,
}

impl Engine {
    /// Whether a flush goes on.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.freezing.is_some()
    }

    /// Memory of what the next flush would write, about, in bytes.
    #[must_use]
    pub fn active_bytes(&self) -> u64 {
        self.memory_bytes - self.messages.frozen_bytes()
            + self.tombs.len() as u64 * TOMB_BYTES
            + self.dedup.active_bytes()
    }

    /// Memory of all messages and dedup ids, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes + self.tombs.len() as u64 * TOMB_BYTES + self.dedup.bytes()
    }

    /// Freezes everything there is, between two steps. `encode` appends an event to bytes.
    /// Costs what is out with subscribers and the number of destinations, not what is pending.
    pub fn freeze(&mut self, encode: &dyn Fn(&Event<'_>, &mut Vec<u8>)) -> Frozen {
        debug_assert!(self.set_aside.is_empty(), "schedules have fired and not run");
        self.raise_durables();
        let mut destinations = Vec::new();
        let mut marks = BTreeMap::new();
        let mut purged = BTreeMap::new();
        let mut chunks = Vec::new();
        let mut allowed = self.chunks_allowed();
        for destination in self.destinations.in_order_mut() {
            destination.queue.freeze();
            if destination.control.purged_before > 0 {
                purged.insert(destination.id, destination.control.purged_before);
            }
            for (lane, lane_marks) in destination.queue.all_marks() {
                if lane_marks.handed_to > 0 {
                    marks.insert((destination.id, lane), lane_marks.handed_to);
                }
            }
            let topic = &mut destination.topic;
            if topic.first_offset > 1 {
                marks.insert((destination.id, 0), topic.first_offset - 1);
            }
            topic.frozen = topic.log.len();
            let mut from = topic.hot_from;
            let messages = topic.log.len() as u64;
            let number = allowed(messages.div_ceil(CHUNK).min(CHUNKS_MAX as u64));
            while from < topic.next_offset() {
                let end = topic.next_offset().min(from + messages.div_ceil(number.max(1)));
                let since_mono_ms = topic.kept_at(end - 1).map_or(0, |kept| kept.since_mono_ms);
                let id = destination.id;
                chunks.push(TopicChunk { destination: id, from, end, bytes: 0, since_mono_ms });
                from = end;
            }
            if destination.ready > 0 || !destination.queue.is_empty() {
                destinations.push(destination.id);
            }
        }
        let open = self.open_messages();
        let alive = Arc::new(self.alive_below(&open));
        let state = self.small_state(&open, encode);
        let tombs = Arc::new(std::mem::take(&mut self.tombs));
        self.frozen_tombs = Some(tombs.clone());
        self.freezing = Some(Freezing {
            below_sequence: self.next_sequence,
            last_position: self.next_position - 1,
            destinations,
        });
        let keep: Vec<u64> = open.iter().map(|(sequence, _)| *sequence).collect();
        self.wheel.freeze(self.fired_to);
        Frozen {
            table: self.messages.freeze(&keep, self.memory_bytes),
            tombs,
            dedups: self.dedup.freeze(),
            outcomes: self.outcomes.clone(),
            open,
            kinds: Arc::new(self.destinations.kinds()),
            marks,
            purged,
            alive,
            chunks,
            state,
            meta: self.batch_meta(),
            shard: self.shard,
        }
    }

    /// Messages that are not where their row would say: out with a consumer, or come back.
    fn open_messages(&self) -> Vec<(u64, Entry)> {
        let mut open: Vec<u64> = Vec::new();
        for (slot, subscription) in self.slots.iter() {
            if matches!(subscription.role, Role::Consumer) {
                let held = subscription.deadlines.iter().filter(|d| self.lease_holds(slot, d));
                open.extend(held.map(|deadline| deadline.position));
            }
        }
        for destination in self.destinations.iter() {
            open.extend(destination.queue.returned());
        }
        open.sort_unstable();
        open.dedup();
        let entry = |sequence: u64| Some((sequence, self.messages.get(sequence)?.clone()));
        // What came back may have been finished since, and be there under another name no more.
        let open = open.into_iter().filter_map(entry);
        open.filter(|(_, entry)| entry.handed).collect()
    }

    /// The small state as events, without outcomes and open messages.
    pub(super) fn small_state(
        &self,
        open: &[(u64, Entry)],
        encode: &dyn Fn(&Event<'_>, &mut Vec<u8>),
    ) -> Vec<u8> {
        let mut out = Vec::new();
        let mut open_of: BTreeMap<DestinationId, u64> = BTreeMap::new();
        for (_, entry) in open.iter().filter(|(_, entry)| entry.state != State::InFlight) {
            *open_of.entry(entry.destination).or_default() += 1;
        }
        encode(
            &Event::Counters {
                next_sequence: self.next_sequence,
                next_destination: self.destinations.next(),
                next_subscription: self.next_subscription,
                next_position: self.next_position,
            },
            &mut out,
        );
        // Up to there nothing waits for it, and no key among those to come was put back.
        if self.pace.slow_to >= self.fired_to.due_ms {
            encode(&Event::LineRestored { pace: self.pace }, &mut out);
        }
        for d in self.destinations.in_order() {
            let open = open_of.get(&d.id).copied().unwrap_or_default();
            encode(
                &Event::DestinationRestored {
                    destination: d.id,
                    name: &d.name,
                    first_offset: d.topic.first_offset,
                    next_offset: d.topic.next_offset(),
                    scheduled: d.scheduled,
                    ready: d.ready.saturating_sub(open),
                    control: d.control,
                },
                &mut out,
            );
            for lane in d.queue.lanes_to_tell() {
                let handed_to = d.queue.marks_of(lane).map_or(0, |marks| marks.handed_to);
                let cold_to = d.queue.cold_after_flush(lane, self.next_position - 1);
                if handed_to > 0 || cold_to > 0 || lane != limits::PRIORITY_DEFAULT {
                    let lane = Event::LaneRestored { destination: d.id, lane, handed_to, cold_to };
                    encode(&lane, &mut out);
                }
            }
            d.tell_acknowledged(&mut |event| encode(event, &mut out));
            for chunk in &d.topic.chunks {
                let Chunk { end, bytes, since_mono_ms } = *chunk;
                let chunk = Event::ChunkRestored { destination: d.id, end, bytes, since_mono_ms };
                encode(&chunk, &mut out);
            }
        }
        self.dump_durables(&mut |event| encode(event, &mut out));
        out
    }

    /// The flush is done: what was frozen lies below. `chunks` are the frozen's, with their bytes.
    pub fn frozen_lies_below(&mut self, chunks: &[TopicChunk]) -> Option<Remains> {
        let freezing = self.freezing.take()?;
        let mut by_topic: BTreeMap<DestinationId, Vec<Chunk>> = BTreeMap::new();
        for chunk in chunks {
            let bytes = self.left_of(chunk);
            let TopicChunk { end, since_mono_ms, .. } = *chunk;
            let chunks = by_topic.entry(chunk.destination).or_default();
            chunks.push(Chunk { end, bytes, since_mono_ms });
        }
        self.memory_bytes -= self.messages.frozen_bytes();
        let remains = Remains {
            ruins: self.messages.drop_frozen(),
            dedups: self.dedup.drop_frozen().and_then(dedup::Ruins::of),
            _wheel: self.wheel.drop_frozen(),
            _tombs: self.frozen_tombs.take(),
        };
        self.below_sequence = freezing.below_sequence;
        self.thawed_to = self.fired_to;
        self.portions.clear();
        for id in freezing.destinations {
            let Some(destination) = self.destination_mut(id) else { continue };
            if destination.kind.is_queue() {
                let thawed = destination.queue.frozen_lies_below(freezing.last_position);
                self.forget_thawed(id, &thawed);
            } else {
                let chunks = by_topic.remove(&id).unwrap_or_default();
                destination.topic.frozen_lies_below(&chunks);
                self.join_new_chunks(id);
            }
            self.recount(id);
            self.activate(id);
        }
        Some(remains)
    }
}

impl Engine {
    /// Lets go of what was read back during a flush: nothing but its lane knew of it.
    fn forget_thawed(&mut self, id: DestinationId, thawed: &[u64]) {
        for &sequence in thawed {
            let waits = |entry: &Entry| entry.destination == id && entry.below && !entry.handed;
            if self.messages.get(sequence).is_some_and(waits) {
                self.forget(sequence);
            }
        }
    }

    /// Content bytes of what a chunk has left: some of it may have been dropped during the flush.
    fn left_of(&self, chunk: &TopicChunk) -> u64 {
        let Some(topic) = self.destination(chunk.destination).map(|d| &d.topic) else { return 0 };
        if topic.first_offset <= chunk.from {
            return chunk.bytes;
        }
        let left = (topic.first_offset..chunk.end).filter_map(|offset| topic.sequence_at(offset));
        left.filter_map(|sequence| Some(self.messages.get(sequence)?.content.len() as u64)).sum()
    }
}
