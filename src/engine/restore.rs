//! From a checkpoint and a journal back to a live engine.

use std::sync::Arc;

use crate::base::config::ShardConfig;
use crate::base::event::{BatchMeta, Event};
use crate::base::id::{DestinationId, Key, MessageId};
use crate::base::lifecycle::State;
use crate::base::limits;

use super::destination::Destination;
use super::messages::Entry;
use super::topic::{CHUNKS_MAX, CHUNKS_MIN, Chunk};
use super::{Engine, Totals};

impl Engine {
    /// An engine as it was when a checkpoint was taken, but for the checkpoint's events: they are
    /// to be applied next. What lies in the store has to be thawed before it fires.
    #[must_use]
    pub fn from_checkpoint(config: ShardConfig, meta: &BatchMeta) -> Self {
        let mut engine = Self::new(config, meta.now);
        engine.fired_to = meta.fired_to;
        engine.thawed_to = meta.fired_to;
        engine.wheel = super::Wheels::new(meta.fired_to.due_ms);
        engine
    }

    /// Applies an event that only checkpoints hold.
    pub(super) fn apply_restored(&mut self, event: &Event<'_>) {
        match *event {
            Event::Counters {
                next_sequence,
                next_destination,
                next_subscription,
                next_position,
            } => {
                self.next_sequence = next_sequence;
                self.below_sequence = next_sequence;
                self.destinations.begin_at(next_destination);
                self.next_subscription = next_subscription;
                self.next_position = next_position;
            }
            Event::DestinationRestored {
                destination: id,
                name,
                first_offset,
                next_offset,
                scheduled,
                ready,
                control,
            } => {
                self.add_destination(id, name);
                if let Some(destination) = self.destination_mut(id) {
                    destination.topic.first_offset = first_offset;
                    destination.topic.hot_from = next_offset;
                    destination.scheduled = scheduled;
                    destination.ready = ready;
                    destination.control = control;
                }
            }
            Event::LaneRestored { destination, lane, handed_to, cold_to } => {
                if let Some(destination) = self.destination_mut(destination) {
                    destination.queue.use_lane(lane);
                    if handed_to > 0 || cold_to > 0 {
                        let marks = destination.queue.marks(lane);
                        (marks.handed_to, marks.cold_to) = (handed_to, cold_to);
                        destination.queue.thawed_to(lane, handed_to, false);
                    }
                }
                self.recount(destination);
            }
            Event::ChunkRestored { destination, end, bytes, since_mono_ms } => {
                if let Some(destination) = self.destination_mut(destination) {
                    destination.topic.bytes += bytes;
                    destination.topic.chunks.push_back(Chunk { end, bytes, since_mono_ms });
                }
                self.recount(destination);
            }
            Event::LineRestored { pace } => self.pace = pace,
            Event::Restored { id, .. } => self.apply_open(id, event),
            _ => {}
        }
    }

    /// A message that was handed out when the checkpoint was taken.
    fn apply_open(&mut self, id: MessageId, event: &Event<'_>) {
        let Event::Restored {
            destination,
            due_ms,
            state,
            priority,
            clock,
            recurring,
            expires_mono_ms,
            failures,
            offset,
            content,
            ..
        } = *event
        else {
            return;
        };
        let entry = Entry {
            id_due_ms: id.due_ms(),
            due_ms,
            expires_mono_ms,
            offset,
            content: Arc::from(content),
            destination,
            lease: 0,
            failures,
            attempts: 0,
            state,
            priority,
            clock,
            below: false,
            handed: state != State::Scheduled,
            recurring,
        };
        let sequence = id.sequence();
        self.memory_bytes += entry.memory_bytes();
        self.messages.insert(sequence, entry);
        if state == State::Scheduled {
            let key_ms = if offset == 0 { due_ms } else { offset };
            self.schedule(Key { due_ms: key_ms, sequence }, destination);
        } else if let Some(destination) = self.destination_mut(destination) {
            destination.ready += 1;
            destination.queue.put_back(priority, Key { due_ms, sequence });
        }
    }

    /// After the last batch: what had been handed out comes back ahead of its lane, and whatever
    /// had fired before may have been delivered before.
    pub fn finish_replay(&mut self) {
        self.give_back_set_aside();
        let all = self.destinations.ids();
        let owned = |d: &&Destination| d.kind.is_owned();
        self.ownerless =
            self.destinations.in_order().into_iter().filter(owned).map(|d| d.id).collect();
        for id in &all {
            self.give_back_handed(*id);
        }
        // A checkpoint has them as they were before the flush it belongs to was done.
        for most in [CHUNKS_MAX, CHUNKS_MIN] {
            for id in &all {
                if self.small.growth > limits::SMALL_STATE_GROWTH_MAX || most == CHUNKS_MAX {
                    self.join_chunks(*id, most);
                }
            }
        }
        for sequence in self.messages.sequences() {
            if let Some(entry) = self.messages.get_mut(sequence)
                && entry.state != State::Scheduled
            {
                entry.attempts = entry.failures.saturating_add(1);
            }
        }
        self.restart_position = self.next_position;
        for destination in self.destinations.iter_mut() {
            destination.topic.restart_offset = destination.topic.next_offset();
        }
        // Counted since now; retention looks at all topics at once in its first step.
        self.totals = Totals::default();
        self.grown.clear();
    }

    /// Moves what a lane has up to its watermark among those that came back.
    fn give_back_handed(&mut self, id: DestinationId) {
        let Some(destination) = self.destinations.get_mut(id) else { return };
        let lanes: Vec<(u8, u64)> =
            destination.queue.all_marks().map(|(lane, marks)| (lane, marks.handed_to)).collect();
        for (lane, handed_to) in lanes {
            while let Some(sequence) = destination.queue.first_in(lane) {
                let entry = self.messages.get_mut(sequence);
                // What has left for the dead letters has its position there.
                let waits = |e: &&mut Entry| e.destination == destination.id && !e.handed;
                let back = match entry.filter(waits) {
                    Some(entry) if entry.offset > handed_to => break,
                    Some(entry) => {
                        entry.handed = true;
                        entry.below = false;
                        Some((entry.priority, Key { due_ms: entry.due_ms, sequence }))
                    }
                    None => None,
                };
                destination.queue.take_first(lane);
                if let Some((priority, key)) = back {
                    destination.queue.put_back(priority, key);
                }
            }
        }
    }
}
