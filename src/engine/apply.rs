//! Facts become state. The only place, beside firing, where durable state changes.
//!
//! The same code runs live and in replay. Live, a message may be in flight; in replay there are no
//! sessions, so it is still ready: both are handled, and leases touched only where there are any.

use std::sync::Arc;

use crate::base::destination::{self, Kind};
use crate::base::event::{Event, FailureReason};
use crate::base::id::{DestinationId, Key, MessageId};
use crate::base::lifecycle::State;
use crate::base::limits;
use crate::base::recur::Plan;
use crate::base::stored::{Place, Remembered};
use crate::base::time::ClockKind;

use super::Engine;
use super::cursor::Cursor;
use super::destination::Destination;
use super::messages::Entry;
use super::subscription::Durable;

impl Engine {
    /// Applies one event. Events come from this engine or its journal; one that does not fit the
    /// state (of a message already gone) changes nothing.
    pub fn apply(&mut self, event: &Event<'_>) {
        match *event {
            Event::DestinationCreated { destination, name } => {
                self.add_destination(destination, name);
            }
            Event::DestinationRestored { .. }
            | Event::LaneRestored { .. }
            | Event::ChunkRestored { .. }
            | Event::LineRestored { .. }
            | Event::Restored { .. }
            | Event::Counters { .. } => self.apply_restored(event),
            Event::DestinationDeleted { destination } => self.apply_deleted(destination),
            Event::DestinationPurged { destination, ready, scheduled, before, spared } => {
                if ready {
                    self.apply_purged_ready(destination, spared);
                }
                if scheduled {
                    self.apply_purged_scheduled(destination, before);
                }
            }
            Event::DestinationPaused { destination, paused } => {
                self.apply_paused(destination, paused);
            }
            Event::DestinationLimited { destination, max_messages, max_age_ms } => {
                self.apply_limited(destination, max_messages, max_age_ms);
            }
            Event::Produced { .. } => self.apply_produced(event),
            Event::Cancelled { id, destination, due_ms } => {
                self.apply_cancelled(id, destination, due_ms);
            }
            Event::Occurred { .. } => self.apply_occurred(event),
            Event::Rescheduled { id, due_ms, clock, at_once } => {
                self.apply_rescheduled(id, due_ms, clock, at_once);
            }
            Event::Acknowledged { id } => self.apply_finished(id, State::Acknowledged),
            Event::Expired { id } => self.apply_finished(id, State::Expired),
            Event::GivenUp { id } => self.apply_finished(id, State::Dead),
            Event::Failed { id, reason } => self.apply_failed(id, reason),
            Event::Dead { id, destination } => self.apply_dead(id, destination),
            Event::SubscriptionCreated { subscription, destination, name, next_offset } => {
                self.next_subscription = self.next_subscription.max(subscription + 1);
                self.durable_names.insert((destination, name.into()), subscription);
                let cursor = Cursor::at(next_offset);
                let durable = Durable::new(destination, name, cursor);
                if let Some(before) = self.durables.insert(subscription, durable) {
                    self.small.take(before.counted);
                }
                self.recount_durable(subscription);
            }
            Event::SubscriptionDeleted { subscription } => {
                if let Some(gone) = self.durables.remove(&subscription) {
                    self.small.take(gone.counted);
                    self.durable_names.remove(&(gone.destination, gone.name));
                }
            }
            Event::TopicAcknowledged { subscription, from, to } => {
                self.apply_acknowledged(subscription, from, to);
            }
            Event::InboxAcknowledged { destination, subscription, from, to } => {
                self.apply_acknowledged_by_user(destination, from, to);
                self.apply_acknowledged(subscription, from, to);
            }
            Event::TopicTrimmed { destination, before } => self.apply_trimmed(destination, before),
            Event::HandedOut { destination, lane, to } => {
                if let Some(destination) = self.destination_mut(destination) {
                    destination.queue.consumed_to(lane, to);
                }
                self.recount(destination);
            }
            Event::Finished { id, state } => self.outcomes.set(id, state),
        }
    }

    /// A durable subscription acknowledged a run of offsets.
    fn apply_acknowledged(&mut self, subscription: u32, from: u64, to: u64) {
        if let Some(durable) = self.durables.get_mut(&subscription) {
            // Gaps that retention has dropped would stay for ever.
            if let Some(destination) = self.destinations.get(durable.destination) {
                durable.cursor.raise(destination.topic.first_offset);
            }
            durable.cursor.add(from, to);
            self.recount_durable(subscription);
        }
    }

    pub(super) fn add_destination(&mut self, id: DestinationId, name: &str) {
        let kind = destination::kind_of(name).unwrap_or(Kind::Queue);
        let name: Arc<str> = name.into();
        let new = Destination::new(id, name.clone(), kind);
        if let Some(before) = self.destinations.insert(new) {
            self.small.take(before.counted);
        }
        self.names.insert(name.clone(), id);
        if kind == Kind::DeadLetter {
            self.note_dead_letters(&name, true);
        } else if self.names.contains_key(destination::dead_letter_name(&name).as_str())
            && let Some(destination) = self.destination_mut(id)
        {
            destination.has_dead_letters = true;
            self.note_queue(&name);
        }
        self.recount(id);
    }

    fn apply_deleted(&mut self, id: DestinationId) {
        let Some(gone) = self.destinations.remove(id) else { return };
        self.last_named = None;
        self.names.remove(&gone.name);
        self.small.take(gone.counted);
        self.note_dead_letters(&gone.name, false);
        self.note_queue(&gone.name);
        // Temporary queues come and go: what was scheduled for one is dropped when it is met.
        if gone.scheduled > 0 && !gone.kind.is_owned() {
            self.drop_scheduled_of(id);
        }
        let mut queue = gone.queue;
        let mut ready = queue.drain();
        ready.extend(gone.topic.log.iter().map(|kept| kept.sequence));
        for sequence in ready {
            let here = self.messages.get(sequence).is_some_and(|e| {
                e.destination == id && matches!(e.state, State::Ready | State::Dead)
            });
            if here {
                self.forget(sequence);
            }
        }
        let subscriptions: Vec<u32> = self
            .durables
            .iter()
            .filter(|(_, durable)| durable.destination == id)
            .map(|(number, _)| *number)
            .collect();
        for subscription in subscriptions {
            self.apply(&Event::SubscriptionDeleted { subscription });
        }
    }

    /// Drops what is scheduled for a destination that is gone or purged, so that its memory comes
    /// back now and not when it would have been due. Walks all live messages.
    pub(super) fn drop_scheduled_of(&mut self, id: DestinationId) {
        for sequence in self.messages.sequences() {
            let entry = self.messages.get(sequence);
            let theirs = |e: &&Entry| e.destination == id && e.state == State::Scheduled;
            let Some(entry) = entry.filter(theirs).cloned() else { continue };
            self.unschedule(sequence, &entry);
            self.forget(sequence);
        }
    }

    fn apply_produced(&mut self, event: &Event<'_>) {
        let Event::Produced {
            id,
            destination,
            priority,
            clock,
            at_once,
            recurring,
            expires_mono_ms,
            dedup,
            content,
        } = *event
        else {
            return;
        };
        let sequence = id.sequence();
        self.next_sequence = self.next_sequence.max(sequence + 1);
        // None when a recovery policy left out the batch that made it: there is nowhere to go.
        if self.destination(destination).is_none() {
            return;
        }
        if !dedup.is_empty() {
            let now = self.now.mono_ms;
            let until_mono_ms = now + limits::DEDUP_WINDOW_MS;
            self.dedup.remember(&Remembered { destination, dedup, id, until_mono_ms }, now);
        }
        let entry = Entry {
            id_due_ms: id.due_ms(),
            due_ms: id.due_ms(),
            expires_mono_ms,
            offset: 0,
            content: Arc::from(content),
            destination,
            lease: 0,
            failures: 0,
            attempts: 0,
            state: State::Scheduled,
            priority,
            clock,
            below: false,
            handed: false,
            recurring,
        };
        // A schedule itself is never ready.
        self.add_new(id, entry, at_once && !recurring);
    }

    /// Takes a new message in, ready or scheduled.
    pub(super) fn add_new(&mut self, id: MessageId, entry: Entry, at_once: bool) {
        let (sequence, &Entry { destination, priority, .. }) = (id.sequence(), &entry);
        let Some(to) = self.destination_mut(destination) else { return };
        if to.kind.is_queue() && !to.queue.uses_lane(priority) {
            to.queue.use_lane(priority);
            self.recount(destination);
        }
        self.memory_bytes += entry.memory_bytes();
        self.messages.insert(sequence, entry);
        if at_once {
            self.make_ready(sequence);
        } else {
            self.schedule(Key { due_ms: id.due_ms(), sequence }, destination);
        }
    }

    /// Puts a live message among the scheduled ones.
    pub(super) fn schedule(&mut self, key: Key, destination: DestinationId) {
        // Below the watermark the wheel has passed; its own clock has not.
        if key <= self.fired_to {
            self.put_back_one(key.sequence);
        } else {
            self.wheel.insert(key);
        }
        if let Some(destination) = self.destination_mut(destination) {
            destination.scheduled += 1;
        }
    }

    /// A row that says what this message was no longer counts, unless a watermark says so.
    pub(super) fn supersede(&mut self, sequence: u64) {
        let frozen = self.messages.is_frozen(sequence);
        let Some(entry) = self.messages.get(sequence) else { return };
        if (entry.below || frozen) && !entry.handed {
            let place = entry.place(sequence);
            self.bury(sequence, place);
        }
    }

    /// Leaves a tombstone for a row, unless a watermark covers it.
    pub(super) fn bury(&mut self, sequence: u64, place: Place) {
        let covered = match place {
            Place::Scheduled(key) => key <= self.fired_to,
            Place::Ready { destination, lane, position } => self
                .destination_mut(destination)
                .is_none_or(|d| position <= d.queue.marks(lane).handed_to),
        };
        if !covered {
            self.tombs.insert(sequence, place);
        }
    }

    fn apply_cancelled(&mut self, id: MessageId, destination: DestinationId, due_ms: u64) {
        let sequence = id.sequence();
        if let Some(entry) = self.live(id).filter(|entry| entry.state == State::Scheduled).cloned()
        {
            self.supersede(sequence);
            self.unschedule(sequence, &entry);
            self.forget(sequence);
        } else if sequence < self.below_sequence && self.messages.get(sequence).is_none() {
            self.bury(sequence, Place::Scheduled(Key { due_ms, sequence }));
            self.found.remove(&sequence);
        } else {
            return;
        }
        if let Some(destination) = self.destination_mut(destination) {
            destination.less_scheduled();
        }
        self.outcomes.set(id, State::Cancelled);
    }

    fn apply_rescheduled(&mut self, id: MessageId, due_ms: u64, clock: ClockKind, at_once: bool) {
        let sequence = id.sequence();
        let Some(old) = self.live(id).filter(|entry| entry.state == State::Scheduled).cloned()
        else {
            return;
        };
        self.supersede(sequence);
        self.unschedule(sequence, &old);
        if let Some(destination) = self.destination_mut(old.destination) {
            destination.less_scheduled();
        }
        self.put_at(sequence, due_ms, clock);
        if let Some(plan) = Plan::of(&old.content).filter(|_| old.recurring) {
            self.set_plan(sequence, due_ms, plan.runs);
        }
        if at_once && !old.recurring {
            self.make_ready(sequence);
        } else {
            self.schedule(Key { due_ms, sequence }, old.destination);
        }
    }

    /// Gives a scheduled message another due time, before it is scheduled again.
    pub(super) fn put_at(&mut self, sequence: u64, due_ms: u64, clock: ClockKind) {
        if let Some(entry) = self.messages.get_mut(sequence) {
            entry.due_ms = due_ms;
            entry.clock = clock;
            entry.offset = 0;
            entry.below = false;
        }
    }

    /// Whether a message is there and was ready, as one must have been whose attempts or end are told. It
    /// may still be scheduled when a recovery policy left out the batch that says otherwise: then it
    /// becomes ready now, unless its destination is lost too.
    fn settle_ready(&mut self, id: MessageId) -> bool {
        let waiting = |entry: &&Entry| entry.state == State::Scheduled;
        if let Some(&Entry { due_ms, clock, .. }) = self.live(id).filter(waiting) {
            self.apply_rescheduled(id, due_ms, clock, true);
        }
        self.live(id).is_some_and(|entry| entry.state != State::Scheduled)
    }

    /// A queue message reached its end.
    fn apply_finished(&mut self, id: MessageId, end: State) {
        if self.found(id).is_some() {
            return self.finish_below(id, end);
        }
        if !self.settle_ready(id) {
            return;
        }
        self.supersede(id.sequence());
        let Some(mut entry) = self.forget(id.sequence()) else { return };
        let was = entry.state;
        entry.become_state(end);
        self.outcomes.set(id, end);
        if was == State::InFlight {
            self.end_lease(&entry);
        } else if let Some(destination) = self.destination_mut(entry.destination) {
            destination.less_ready(1);
            self.clean_lanes(entry.destination);
        }
    }

    /// The same for one that was looked up and still lies in its lane: its row says all there is to
    /// know, and a tombstone ends it.
    fn finish_below(&mut self, id: MessageId, end: State) {
        let Some(found) = self.found.remove(&id.sequence()) else { return };
        self.bury(id.sequence(), found.place);
        if let Some(destination) = self.destination_mut(found.destination) {
            destination.less_ready(1);
        }
        self.outcomes.set(id, end);
    }

    fn apply_failed(&mut self, id: MessageId, _reason: FailureReason) {
        if !self.settle_ready(id) {
            return;
        }
        let Some(entry) = self.messages.get_mut(id.sequence()) else { return };
        entry.failures = entry.failures.saturating_add(1);
        if entry.state == State::InFlight {
            self.take_back(id.sequence());
        }
    }

    fn apply_dead(&mut self, id: MessageId, dead_letters: DestinationId) {
        if !self.settle_ready(id) {
            return;
        }
        self.supersede(id.sequence());
        let Some(entry) = self.messages.get_mut(id.sequence()) else { return };
        let from = std::mem::replace(&mut entry.destination, dead_letters);
        if let Some(destination) = self.destination_mut(from) {
            destination.less_ready(1);
            self.clean_lanes(from);
        }
        self.make_ready(id.sequence());
    }

    fn apply_trimmed(&mut self, id: DestinationId, before: u64) {
        let Some(destination) = self.destination_mut(id) else { return };
        let topic = &mut destination.topic;
        let before = before.clamp(topic.first_offset, topic.next_offset());
        let count = before - topic.first_offset;
        let mut bytes = 0;
        while let Some(chunk) = topic.chunks.front_mut() {
            if chunk.end > before {
                // A part of it: its bytes are told apart by count, for decisions to come.
                let part = chunk.bytes * (before - topic.first_offset).min(chunk.end)
                    / (chunk.end - topic.first_offset).max(1);
                chunk.bytes -= part;
                bytes += part;
                topic.first_offset = before;
                break;
            }
            bytes += chunk.bytes;
            topic.first_offset = chunk.end;
            topic.chunks.pop_front();
        }
        topic.first_offset = before;
        let mut gone = Vec::new();
        while topic.hot_from < before {
            let Some(kept) = topic.log.pop_front() else {
                topic.hot_from = before;
                break;
            };
            topic.hot_from += 1;
            topic.frozen = topic.frozen.saturating_sub(1);
            gone.push(kept.sequence);
        }
        for sequence in &gone {
            bytes += self.forget(*sequence).map_or(0, |entry| entry.content.len() as u64);
        }
        if let Some(destination) = self.destination_mut(id) {
            destination.topic.bytes = destination.topic.bytes.saturating_sub(bytes);
            destination.less_ready(count);
        }
        self.recount(id);
    }
}
