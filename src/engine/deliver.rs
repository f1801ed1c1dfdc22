//! Handing ready messages to subscribers, and taking them back.

use std::collections::{BTreeSet, VecDeque};

use crate::base::command::{Delivery, Outgoing};
use crate::base::event::{Event, EventSink, FailureReason};
use crate::base::id::{DestinationId, Key, MessageId};
use crate::base::lifecycle::State;
use crate::base::stored::Want;

use super::Engine;
use super::destination::Destination;
use super::messages::{Entry, SlotId};
use super::queue::Head;
use super::subscription::{Deadline, Out, Role, Subscription};
use super::thaw::Ahead;

/// What came of serving a subscription of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Served {
    /// One message went out, or was passed over.
    One,
    /// It has no credit.
    NoCredit,
    /// There is nothing for it now.
    Nothing,
}

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
            let used = if queue {
                self.serve_queue(id, turn, sink)
            } else {
                self.serve_topic(id, turn, sink)
            };
            left -= used;
            // A turn used up means there may be more; else it is woken by what changes.
            let Some(destination) = self.destination_mut(id) else { continue };
            if used == turn {
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

    fn serve_topic(&mut self, id: DestinationId, turn: usize, sink: &mut dyn EventSink) -> usize {
        let Some(destination) = self.destination_mut(id) else { return 0 };
        // The next turn begins with another subscriber.
        if !destination.subscribers.is_empty() {
            destination.subscribers.rotate_left(1);
        }
        let slots = destination.subscribers.clone();
        let mut used = 0;
        let mut groups = BTreeSet::new();
        for slot in slots {
            if let Some(group) = self.group_of(slot) {
                if groups.insert(group) {
                    used += self.serve_group(id, group, turn - used, sink);
                }
                continue;
            }
            while used < turn && self.serve_reader(id, slot, sink) == Served::One {
                used += 1;
            }
        }
        used
    }

    /// The durable subscription that a slot shares with others.
    fn group_of(&self, slot: SlotId) -> Option<u32> {
        let number = self.durable_of(slot)?;
        self.durables.get(&number).filter(|durable| durable.members.len() > 1).map(|_| number)
    }

    /// Gives the next messages to those that share a durable subscription: one each, in turn.
    fn serve_group(
        &mut self,
        id: DestinationId,
        group: u32,
        turn: usize,
        sink: &mut dyn EventSink,
    ) -> usize {
        let (mut used, mut without_credit) = (0, 0);
        while used < turn {
            let Some(durable) = self.durables.get_mut(&group) else { break };
            let members = durable.members.len();
            let Some(&slot) = durable.members.front() else { break };
            if without_credit == members {
                break;
            }
            durable.members.rotate_left(1);
            match self.serve_reader(id, slot, sink) {
                Served::One => (used, without_credit) = (used + 1, 0),
                Served::NoCredit => without_credit += 1,
                Served::Nothing => {
                    // It is its turn still.
                    if let Some(durable) = self.durables.get_mut(&group) {
                        durable.members.rotate_right(1);
                    }
                    break;
                }
            }
        }
        used
    }

    /// The first offset from this one on that is out with a subscription, or with those that share it.
    fn first_out(&self, slot: SlotId, from: u64) -> Option<u64> {
        let first = |slot: &SlotId| match &self.slots.get(*slot)?.role {
            Role::Reader(reader) => reader.out.range(from..).next().map(|(offset, _)| *offset),
            Role::Consumer => None,
        };
        match self.group_of(slot).and_then(|group| self.durables.get(&group)) {
            Some(durable) => durable.members.iter().filter_map(first).min(),
            None => first(&slot),
        }
    }

    /// Gives a topic subscription its next message.
    fn serve_reader(
        &mut self,
        id: DestinationId,
        slot: SlotId,
        sink: &mut dyn EventSink,
    ) -> Served {
        let Some(destination) = self.destinations.get(id) else { return Served::Nothing };
        let topic = &destination.topic;
        let Some(subscription) = self.slots.get_mut(slot) else { return Served::Nothing };
        if !subscription.has_credit() {
            return Served::NoCredit;
        }
        let Role::Reader(reader) = &mut subscription.role else { return Served::Nothing };
        let Some((cursor, reading)) = reader.source.place(&mut self.durables) else {
            return Served::Nothing;
        };
        let (offset, before) = match reading.again.first_key_value() {
            Some((&offset, &attempts)) => (offset, Some(attempts)),
            None => {
                let offset = cursor.next_gap(reading.next.max(topic.first_offset));
                if offset >= topic.next_offset() {
                    return Served::Nothing;
                }
                (offset, None)
            }
        };
        let below = topic.is_below(offset);
        if !below && !reading.ahead.is_empty() {
            // What it was about to read was dropped, or handed out.
            reading.ahead = VecDeque::new();
        }
        while below && reading.ahead.front().is_some_and(|ahead| ahead.offset < offset) {
            reading.ahead.pop_front();
        }
        if below && reading.missing.contains(&offset) {
            // Lost with a damaged part of the store: nobody waits for it. What is out already is
            // still its consumer's.
            let end = reading.missing.end;
            let end = self.first_out(slot, offset).map_or(end, |out| out.min(end));
            self.acknowledge_offsets(slot, offset, end - 1, sink);
            return Served::One;
        }
        if below && reading.ahead.front().is_none_or(|ahead| ahead.offset != offset) {
            self.wants.insert(Want::Topic { destination: id, from: offset, slot });
            return Served::Nothing;
        }
        let message = if below {
            reading.ahead.pop_front()
        } else {
            let sequence = topic.sequence_at(offset);
            let entry =
                sequence.and_then(|sequence| Some((sequence, self.messages.get(sequence)?)));
            let id = |sequence, id_due_ms| MessageId::new(id_due_ms, self.shard, sequence);
            entry.map(|(sequence, entry)| Ahead::of(entry, id(sequence, entry.id_due_ms)))
        };
        let expires_mono_ms = message.as_ref().map_or(0, |message| message.expires_mono_ms);
        if expires_mono_ms != 0 && expires_mono_ms <= self.now.mono_ms {
            return self.pass_expired(slot, message.filter(|_| below), offset, sink);
        }
        match before {
            Some(_) => drop(reading.again.pop_first()),
            None => reading.next = offset + 1,
        }
        // None when it was dropped by retention while it waited to be delivered again.
        let Some(message) = message else { return Served::One };
        // First time in this session: of runs before the topic knows, of sessions before `handed`.
        let handed = if offset < reading.handed.below { reading.handed.attempts } else { 0 };
        let earlier = u16::from(offset < topic.restart_offset);
        let attempt = before.unwrap_or(earlier.max(handed)).saturating_add(1);
        let bytes = message.content.len();
        reader.put_out(offset, Out { attempt, bytes, sequence: message.id.sequence() });
        let delivery = Delivery {
            subscription: subscription.number,
            id: message.id,
            due_ms: message.due_ms,
            attempt: u32::from(attempt),
            offset,
            priority: message.priority,
            content: message.content,
        };
        let at_mono_ms = self.now.mono_ms + subscription.ack_timeout_ms;
        subscription.took(bytes, Deadline { at_mono_ms, position: offset, attempt });
        let session = subscription.session;
        if let Some(destination) = self.destination_mut(id) {
            destination.in_flight += 1;
        }
        self.count_delivery(delivery.attempt);
        self.send(session, Outgoing::Deliver(delivery));
        self.arm_timer(slot);
        self.clean_deadlines(slot);
        Served::One
    }

    /// Passes over a message of a topic that has expired, as if it had been acknowledged. Nothing when that
    /// would leave one gap too many: it goes on when one before is closed, and the lowest can be.
    fn pass_expired(
        &mut self,
        slot: SlotId,
        from_below: Option<Ahead>,
        offset: u64,
        sink: &mut dyn EventSink,
    ) -> Served {
        let too_many = self.opens_run_too_many(slot, offset, offset);
        let Some(Role::Reader(reader)) = self.slots.get_mut(slot).map(|s| &mut s.role) else {
            return Served::Nothing;
        };
        let Some((_, reading)) = reader.source.place(&mut self.durables) else {
            return Served::Nothing;
        };
        if too_many {
            from_below.into_iter().for_each(|message| reading.ahead.push_front(message));
            return Served::Nothing;
        }
        if reading.again.remove(&offset).is_none() {
            reading.next = offset + 1;
        }
        self.acknowledge_offsets(slot, offset, offset, sink);
        Served::One
    }

    fn count_delivery(&mut self, attempt: u32) {
        self.totals.delivered += 1;
        self.totals.redelivered += u64::from(attempt > 1);
    }

    /// Whether a lease is still what its deadline says.
    pub(super) fn lease_holds(&self, slot: SlotId, deadline: &Deadline) -> bool {
        let Some(subscription) = self.slots.get(slot) else { return false };
        holds(subscription, slot, deadline, |sequence| self.messages.get(sequence))
    }

    /// Drops deadlines whose lease has ended, when there are many.
    fn clean_deadlines(&mut self, slot: SlotId) {
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

    /// Puts a topic message that is out back, for the same subscription.
    pub(super) fn take_back_topic(&mut self, slot: SlotId, offset: u64) {
        let Some(subscription) = self.slots.get_mut(slot) else { return };
        let id = subscription.destination;
        let Role::Reader(reader) = &mut subscription.role else { return };
        if let Some(out) = reader.take_out(offset) {
            if let Some((_, reading)) = reader.source.place(&mut self.durables) {
                reading.again.insert(offset, out.attempt);
            }
            subscription.released(out.bytes);
            if let Some(destination) = self.destination_mut(id) {
                destination.in_flight -= 1;
            }
            self.activate(id);
        }
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
