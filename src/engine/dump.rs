//! The durable state as events: what a checkpoint is made of, and what two engines are compared by.

use crate::base::event::{Event, EventSink};
use crate::base::id::{DestinationId, Key, MessageId};
use crate::base::lifecycle::State;
use crate::base::stored::{Place, Stored};

use super::Engine;
use super::messages::Entry;

impl Engine {
    /// Records the whole durable state in one order that depends on the state alone, not on where its
    /// messages lie: `below` are all rows of the store. Sessions, leases and totals are not part of
    /// it; dedup ids are told by [`Engine::dedups`]. For comparing engines; walks everything.
    pub fn dump(&self, below: &[Stored<'_>], sink: &mut dyn EventSink) {
        sink.record(&Event::Counters {
            next_sequence: self.next_sequence,
            next_destination: self.destinations.next(),
            next_subscription: self.next_subscription,
            next_position: self.next_position,
        });
        for d in self.destinations.in_order() {
            let in_flight = if d.kind.is_queue() { d.in_flight } else { 0 };
            sink.record(&Event::DestinationRestored {
                destination: d.id,
                name: &d.name,
                first_offset: d.topic.first_offset,
                next_offset: d.topic.next_offset(),
                scheduled: d.scheduled,
                ready: d.ready + in_flight,
                control: d.control,
            });
            d.tell_acknowledged(&mut |event| sink.record(event));
        }
        self.dump_durables(&mut |event| sink.record(event));
        self.dump_messages(below, sink);
        for (key, state) in self.outcomes.all() {
            let id = MessageId::new(key.due_ms, self.shard, key.sequence);
            sink.record(&Event::Finished { id, state });
        }
    }

    pub(super) fn dump_durables(&self, record: &mut dyn FnMut(&Event<'_>)) {
        for (number, durable) in &self.durables {
            // Raised here as it will be by its next acknowledgement: only what is kept counts.
            let kept_from = self.destination(durable.destination).map(|d| d.topic.first_offset);
            let mut cursor = durable.cursor.clone();
            cursor.raise(kept_from.unwrap_or(0));
            record(&Event::SubscriptionCreated {
                subscription: *number,
                destination: durable.destination,
                name: &durable.name,
                next_offset: cursor.floor(),
            });
            for (from, to) in cursor.runs() {
                record(&Event::TopicAcknowledged { subscription: *number, from, to });
            }
        }
    }

    fn dump_messages(&self, below: &[Stored<'_>], sink: &mut dyn EventSink) {
        let sequences = self.messages.sequences();
        let in_memory = sequences.iter().filter_map(|sequence| {
            let entry = self.messages.get(*sequence)?;
            Some((*sequence, entry.clone()))
        });
        let below = below.iter().filter(|row| self.is_alive_below(row)).map(|row| {
            let state = match (row.place, self.destination(row.destination)) {
                (Place::Ready { .. }, Some(destination)) => destination.resting_state(),
                _ => State::Scheduled,
            };
            (row.id.sequence(), Entry::of(row, state))
        });
        let mut all: Vec<(DestinationId, u64, Key, Entry)> = in_memory
            .chain(below)
            // The dead have no destination to come back to.
            .filter(|(_, entry)| self.destination(entry.destination).is_some())
            .map(|(sequence, entry)| {
                let key = Key { due_ms: entry.due_ms, sequence };
                (entry.destination, entry.offset, key, entry)
            })
            .collect();
        all.sort_unstable_by_key(|(destination, offset, key, _)| (*destination, *offset, *key));
        for (_, _, key, entry) in &all {
            self.dump_message(key.sequence, entry, sink);
        }
    }

    /// Whether a row of the store is a live message that is not in memory.
    pub(super) fn is_alive_below(&self, row: &Stored<'_>) -> bool {
        if !self.counts(row) || self.messages.get(row.id.sequence()).is_some() {
            return false;
        }
        match row.place {
            Place::Scheduled(key) => key > self.fired_to,
            Place::Ready { destination, lane, position } => {
                self.destination(destination).is_some_and(|d| {
                    let marks = d.queue.marks_of(lane).filter(|_| d.kind.is_queue());
                    position >= d.topic.first_offset
                        && marks.is_none_or(|marks| position > marks.handed_to)
                })
            }
        }
    }

    fn dump_message(&self, sequence: u64, entry: &Entry, sink: &mut dyn EventSink) {
        let state = match (entry.state, self.destination(entry.destination)) {
            // A lease is soft: what is in flight is ready for whoever opens this.
            (State::InFlight, Some(destination)) => destination.resting_state(),
            (state, _) => state,
        };
        sink.record(&Event::Restored {
            id: self.id_of(sequence, entry.id_due_ms),
            destination: entry.destination,
            due_ms: entry.due_ms,
            state,
            priority: entry.priority,
            clock: entry.clock,
            recurring: entry.recurring,
            expires_mono_ms: entry.expires_mono_ms,
            failures: entry.failures,
            offset: entry.offset,
            content: &entry.content,
        });
    }
}
