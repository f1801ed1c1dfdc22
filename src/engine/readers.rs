//! Handing messages of topics to their subscriptions: alone, sharing a place, or under a pattern; and taking them
//! back.

use std::collections::{BTreeSet, VecDeque};

use crate::base::command::{Delivery, Outgoing};
use crate::base::event::EventSink;
use crate::base::id::{DestinationId, MessageId};
use crate::base::stored::Want;

use super::Engine;
use super::messages::SlotId;
use super::patterns::PATTERN_TURN;
use super::subscription::{Deadline, Out, Role};
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

impl Engine {
    /// How many messages went out, and whether there may be more although it was not the whole turn.
    pub(super) fn serve_topic(
        &mut self,
        id: DestinationId,
        turn: usize,
        sink: &mut dyn EventSink,
    ) -> (usize, bool) {
        let Some(destination) = self.destination_mut(id) else { return (0, false) };
        // The next turn begins with another subscriber.
        if !destination.subscribers.is_empty() {
            destination.subscribers.rotate_left(1);
        }
        let slots = destination.subscribers.clone();
        let (mut used, mut more) = (0, false);
        let mut groups = BTreeSet::new();
        for slot in slots {
            if let Some(group) = self.group_of(slot) {
                if groups.insert(group) {
                    used += self.serve_group(id, group, turn - used, sink);
                }
                continue;
            }
            if let Some(pattern) = self.slots.get(slot).and_then(|s| s.pattern) {
                let own = self.serve_pattern(id, slot, pattern, turn - used, sink);
                (used, more) = (used + own, more || own == PATTERN_TURN);
                continue;
            }
            while used < turn && self.serve_reader(id, slot, sink) == Served::One {
                used += 1;
            }
        }
        (used, more)
    }

    /// Gives the reader of a pattern some of its next messages, and then lets the next in line go on.
    fn serve_pattern(
        &mut self,
        id: DestinationId,
        slot: SlotId,
        pattern: u32,
        turn: usize,
        sink: &mut dyn EventSink,
    ) -> usize {
        let mut used = 0;
        while used < turn.min(PATTERN_TURN)
            && !self.waits_for_credit(slot)
            && self.serve_reader(id, slot, sink) == Served::One
        {
            used += 1;
        }
        self.wake_next(Some(pattern));
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
        let pattern = subscription.pattern;
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
        let out = Out { attempt, bytes, sequence: message.id.sequence() };
        reader.put_out(offset, out);
        if let Some(account) = self.patterns.get_mut(pattern) {
            account.took(slot, offset, &out);
        }
        let delivery = Delivery {
            subscription: subscription.number,
            by_pattern: pattern.is_some(),
            destination: destination.name.clone(),
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
            let pattern = subscription.pattern;
            if let Some(account) = self.patterns.get_mut(pattern) {
                account.released(&out);
                self.wake_next(pattern);
            }
            if let Some(destination) = self.destination_mut(id) {
                destination.in_flight -= 1;
            }
            self.activate(id);
        }
    }
}
