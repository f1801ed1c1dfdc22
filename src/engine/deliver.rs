//! Handing out ready messages, destinations in turn, and taking those of queues back.

use crate::base::command::{Delivery, Outgoing};
use crate::base::event::{Event, EventSink, FailureReason};
use crate::base::id::{DestinationId, Key, MessageId};
use crate::base::lifecycle::State;
use crate::base::stored::Want;

use super::Engine;
use super::destination::Destination;
use super::messages::{Entry, SlotId};
use super::queue::Head;
use super::subscription::{Deadline, Role, Subscription};

/// Messages a destination may hand out before the next one has its turn.
const TURN: usize = 256;

impl Engine {
    /// Hands out ready messages to subscribers with credit, destinations in turn, at most
    /// `budget` in all.
    pub fn dispatch(&mut self, budget: usize, sink: &mut dyn EventSink) {
        let mut left = budget;
        while left > 0 {
            let Some(id) = self.active.pop_front() else { return };
            let turn = left.min(TURN);
            let Some(destination) = self.destination_mut(id) else { continue };
            if destination.control.paused {
                destination.active = false;
                continue;
            }
            let queue = destination.kind.is_queue();
            let (used, more) = if queue {
                (self.serve_queue(id, turn, sink), false)
            } else {
                self.serve_topic(id, turn, sink)
            };
            left -= used;
            // A turn used up means there may be more; else it is woken by what changes.
            let Some(destination) = self.destination_mut(id) else { continue };
            if used == turn || more {
                self.active.push_back(id);
            } else {
                destination.active = false;
            }
        }
    }

    fn serve_queue(&mut self, id: DestinationId, turn: usize, sink: &mut dyn EventSink) -> usize {
        let mut used = 0;
        while used < turn {
            let Some(destination) = self.destinations.get_mut(id) else { break };
            if destination.waiting.is_empty() {
                break;
            }
            let (lane, sequence) = match destination.queue.pop() {
                Head::Lane(lane, sequence) => (Some(lane), sequence),
                Head::Returned(sequence) => (None, sequence),
                Head::Below(lane) => {
                    let from = destination.queue.marks(lane).unread_from();
                    let from = from.unwrap_or_default();
                    self.wants.insert(Want::Lane { destination: id, lane, from });
                    break;
                }
                Head::Empty => break,
            };
            used += 1;
            let Some(entry) = self.messages.get(sequence) else { continue };
            // In a lane stands what was never handed out, among the returned the rest.
            if entry.destination != id
                || !matches!(entry.state, State::Ready | State::Dead)
                || entry.handed != lane.is_none()
            {
                continue;
            }
            if let Some(lane) = lane
                && destination.queue.handed(lane, entry.offset)
            {
                self.handed.push((id, lane));
            }
            if self.has_expired(entry) {
                let id = self.id_of(sequence, entry.id_due_ms);
                self.totals.expired += 1;
                self.emit(&Event::Expired { id }, sink);
                continue;
            }
            self.lease(id, sequence);
        }
        used
    }

    /// Hands one queue message to the consumer whose turn it is.
    fn lease(&mut self, id: DestinationId, sequence: u64) {
        let Some(destination) = self.destinations.get_mut(id) else { return };
        let Some(slot) = destination.waiting.pop_front() else { return };
        let Some(entry) = self.messages.get_mut(sequence) else { return };
        let Some(subscription) = self.slots.get_mut(slot) else { return };
        entry.become_state(State::InFlight);
        entry.handed = true;
        entry.below = false;
        entry.lease = slot;
        entry.attempts = entry.attempts.saturating_add(1);
        destination.less_ready(1);
        destination.in_flight += 1;
        let delivery = Delivery {
            subscription: subscription.number,
            by_pattern: false,
            destination: destination.name.clone(),
            id: MessageId::new(entry.id_due_ms, self.shard, sequence),
            due_ms: entry.due_ms,
            attempt: u32::from(entry.attempts),
            offset: 0,
            priority: entry.priority,
            content: entry.content.clone(),
        };
        let deadline = Deadline {
            at_mono_ms: self.now.mono_ms + subscription.ack_timeout_ms,
            position: sequence,
            attempt: entry.attempts,
        };
        subscription.took(entry.content.len(), deadline);
        subscription.waiting = subscription.has_credit();
        if subscription.waiting {
            destination.waiting.push_back(slot);
        }
        let session = subscription.session;
        let unarmed = subscription.timer.is_none();
        self.count_delivery(delivery.attempt);
        self.send(session, Outgoing::Deliver(delivery));
        if unarmed {
            self.arm_timer(slot);
        }
        self.clean_deadlines(slot);
    }

    pub(super) fn count_delivery(&mut self, attempt: u32) {
        self.totals.delivered += 1;
        self.totals.redelivered += u64::from(attempt > 1);
    }

    /// Whether a lease is still what its deadline says.
    pub(super) fn lease_holds(&self, slot: SlotId, deadline: &Deadline) -> bool {
        let Some(subscription) = self.slots.get(slot) else { return false };
        holds(subscription, slot, deadline, |sequence| self.messages.get(sequence))
    }

    /// Drops deadlines whose lease has ended, when there are many.
    pub(super) fn clean_deadlines(&mut self, slot: SlotId) {
        let Some(subscription) = self.slots.get_mut(slot) else { return };
        if !subscription.deadlines_need_cleaning() {
            return;
        }
        let mut deadlines = std::mem::take(&mut subscription.deadlines);
        let messages = &self.messages;
        deadlines.retain(|d| holds(subscription, slot, d, |sequence| messages.get(sequence)));
        subscription.deadlines = deadlines;
    }

    /// A delivery of a queue message failed: it goes back, or it is dead.
    pub(super) fn fail(
        &mut self,
        sequence: u64,
        reason: FailureReason,
        again: bool,
        sink: &mut dyn EventSink,
    ) -> State {
        let Some(entry) = self.messages.get(sequence) else { return State::Gone };
        let id = self.id_of(sequence, entry.id_due_ms);
        self.emit(&Event::Failed { id, reason }, sink);
        let Some(entry) = self.messages.get(sequence) else { return State::Gone };
        let (state, failures, at) = (entry.state, entry.failures, entry.destination);
        let Some(destination) = self.destination(at) else { return State::Gone };
        let dead_already = destination.resting_state() == State::Dead;
        if dead_already || (again && failures < self.config.max_failures) {
            return state;
        }
        self.totals.dead += 1;
        match self.dead_letters_of(at, sink) {
            Some(to) => self.emit(&Event::Dead { id, destination: to }, sink),
            None => self.emit(&Event::GivenUp { id }, sink),
        }
        State::Dead
    }

    /// Frees the consumer that held a queue message.
    pub(super) fn end_lease(&mut self, entry: &Entry) {
        let Some(destination) = self.destinations.get_mut(entry.destination) else {
            return;
        };
        destination.in_flight -= 1;
        let Some(subscription) = self.slots.get_mut(entry.lease) else { return };
        subscription.released(entry.content.len());
        await_turn(destination, entry.lease, subscription);
        if !destination.queue.is_empty() {
            self.activate(entry.destination);
        }
    }

    /// Puts a queue message that is in flight back ahead of its lane.
    pub(super) fn take_back(&mut self, sequence: u64) {
        let Some(entry) = self.messages.get(sequence).cloned() else { return };
        self.end_lease(&entry);
        let Some(destination) = self.destinations.get_mut(entry.destination) else {
            return;
        };
        if let Some(entry) = self.messages.get_mut(sequence) {
            entry.become_state(destination.resting_state());
        }
        destination.ready += 1;
        destination.queue.put_back(entry.priority, Key { due_ms: entry.due_ms, sequence });
        self.activate(entry.destination);
    }

    /// Drops stale sequences from a queue's lanes when they outweigh what is ready.
    pub(super) fn clean_lanes(&mut self, id: DestinationId) {
        let Some(destination) = self.destinations.get_mut(id) else { return };
        if destination.queue.len() > 2 * destination.ready + 1024 {
            let messages = &self.messages;
            destination.queue.retain(|sequence| {
                messages.get(sequence).is_some_and(|entry| {
                    entry.destination == id && matches!(entry.state, State::Ready | State::Dead)
                })
            });
        }
    }
}

/// A consumer with credit stands in its queue's line, once.
pub(super) fn await_turn(
    destination: &mut Destination,
    slot: SlotId,
    subscription: &mut Subscription,
) {
    if !subscription.waiting && subscription.has_credit() {
        subscription.waiting = true;
        destination.waiting.push_back(slot);
    }
}

fn holds<'a>(
    subscription: &Subscription,
    slot: SlotId,
    deadline: &Deadline,
    message: impl Fn(u64) -> Option<&'a Entry>,
) -> bool {
    match &subscription.role {
        Role::Reader(reader) => {
            reader.out.get(&deadline.position).is_some_and(|out| out.attempt == deadline.attempt)
        }
        Role::Consumer => message(deadline.position).is_some_and(|entry| {
            entry.state == State::InFlight
                && entry.lease == slot
                && entry.attempts == deadline.attempt
        }),
    }
}
