//! The durable state as events: what a baseline holds, and what two engines are compared by.

use crate::base::event::{Event, EventSink};
use crate::base::id::{DestinationId, Key, MessageId};
use crate::base::lifecycle::State;

use super::Engine;

impl Engine {
    /// Records events that rebuild this engine's durable state in an empty one, in one order that
    /// depends on the state alone. Sessions, leases and totals are not part of it.
    pub fn dump(&self, sink: &mut dyn EventSink) {
        sink.record(&Event::Counters {
            next_sequence: self.next_sequence,
            next_destination: self.destinations.len() as u32,
            next_subscription: self.next_subscription,
        });
        for destination in self.destinations.iter().flatten() {
            sink.record(&Event::DestinationRestored {
                destination: destination.id,
                name: &destination.name,
                first_offset: destination.topic.first_offset,
                control: destination.control,
            });
        }
        for (number, durable) in &self.durables {
            // Raised here as it will be by its next acknowledgement: only what is kept counts.
            let kept_from = self.destination(durable.destination).map(|d| d.topic.first_offset);
            let mut cursor = durable.cursor.clone();
            cursor.raise(kept_from.unwrap_or(0));
            sink.record(&Event::SubscriptionCreated {
                subscription: *number,
                destination: durable.destination,
                name: &durable.name,
                next_offset: cursor.floor(),
            });
            for (from, to) in cursor.runs() {
                sink.record(&Event::TopicAcknowledged { subscription: *number, from, to });
            }
        }
        // Ordered by key, queues come back in firing order; topics by offset.
        let mut order: Vec<(DestinationId, u64, Key)> = Vec::new();
        for sequence in self.messages.sequences() {
            let Some(entry) = self.messages.get(sequence) else { continue };
            // What was deleted or purged has nowhere to come back to.
            if self.stands(sequence, entry) {
                let key = Key { due_ms: entry.due_ms, sequence };
                order.push((entry.destination, entry.offset, key));
            }
        }
        order.sort_unstable();
        for (_, _, key) in order {
            self.dump_message(key.sequence, sink);
        }
        for (key, state) in self.outcomes.all() {
            let id = MessageId::new(key.due_ms, self.shard, key.sequence);
            sink.record(&Event::Finished { id, state });
        }
        for (destination, dedup, id, until_mono_ms) in self.dedup.iter() {
            sink.record(&Event::DedupRemembered { destination, dedup, id, until_mono_ms });
        }
    }

    fn dump_message(&self, sequence: u64, sink: &mut dyn EventSink) {
        let Some(entry) = self.messages.get(sequence) else { return };
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
            expires_mono_ms: entry.expires_mono_ms,
            failures: entry.failures,
            content: &entry.content,
        });
    }
}
