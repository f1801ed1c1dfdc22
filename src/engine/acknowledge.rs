//! Acknowledge and reject. For a fired, unfinished message the first acknowledgement wins, also
//! a late one.

use crate::base::command::{Answer, Verdict};
use crate::base::error::{ClientError, Code};
use crate::base::event::{Event, EventSink, FailureReason};
use crate::base::id::{MessageId, SessionId};
use crate::base::lifecycle::State;
use crate::base::stored::Place;

use super::cursor::Cursor;
use super::messages::{Entry, SlotId};
use super::patterns::Attached;
use super::subscription::{Deadline, Role, Source};
use super::thaw::Found;
use super::{Engine, batched};

/// What a subscription number of a request stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// None: queue messages by id alone.
    Nobody,
    Consumer(SlotId),
    Reader(SlotId),
    /// Readers of a pattern.
    Pattern(u32),
}

fn refuse_dead_topic(holder: Holder, for_good: bool) -> Result<(), ClientError> {
    if matches!(holder, Holder::Reader(_) | Holder::Pattern(_)) && for_good {
        return Err(ClientError::new(
            Code::WrongKind,
            "a topic message cannot be made a dead letter; acknowledge it to skip it",
        ));
    }
    Ok(())
}

impl Engine {
    pub(super) fn acknowledge(
        &mut self,
        session: SessionId,
        subscription: u32,
        ids: &[MessageId],
        cumulative: bool,
        sink: &mut dyn EventSink,
    ) -> Result<Answer, ClientError> {
        batched(ids)?;
        let holder = self.holder(session, subscription)?;
        self.refuse_foreign(holder, ids)?;
        let mut verdicts = Vec::with_capacity(ids.len());
        for &id in ids {
            verdicts.push(match holder {
                Holder::Reader(slot) => self.acknowledge_topic(slot, id, cumulative, sink),
                Holder::Pattern(pattern) => {
                    if cumulative {
                        for (slot, offset) in self.out_before(pattern, id) {
                            self.acknowledge_to(slot, offset, sink);
                        }
                    }
                    match self.reader_for(pattern, id) {
                        Some(slot) => self.acknowledge_topic(slot, id, cumulative, sink),
                        None => self.not_done(id),
                    }
                }
                Holder::Consumer(slot) if cumulative => {
                    self.acknowledge_up_to(slot, id, sink);
                    self.acknowledge_queue(id, sink)
                }
                _ => self.acknowledge_queue(id, sink),
            });
        }
        Ok(Answer::Verdicts(verdicts))
    }

    /// Judges a part of a transaction that acknowledges, or rejects: `for_good` makes dead letters.
    pub(super) fn judge_acknowledge(
        &self,
        session: SessionId,
        subscription: u32,
        ids: &[MessageId],
        for_good: bool,
    ) -> Result<(), ClientError> {
        batched(ids)?;
        // By id alone, anybody could be meant.
        if subscription == 0 {
            return Err(Code::SubscriptionNotFound.into());
        }
        let holder = self.holder(session, subscription)?;
        refuse_dead_topic(holder, for_good)?;
        self.refuse_foreign(holder, ids)
    }

    fn holder(&self, session: SessionId, subscription: u32) -> Result<Holder, ClientError> {
        if subscription == 0 {
            return Ok(Holder::Nobody);
        }
        let slot = match self.attached(session, subscription)? {
            Attached::Slot(slot) => slot,
            Attached::Pattern(pattern) => return Ok(Holder::Pattern(pattern)),
        };
        Ok(match self.slots.get(slot).map(|s| &s.role) {
            Some(Role::Reader(_)) => Holder::Reader(slot),
            _ => Holder::Consumer(slot),
        })
    }

    fn acknowledge_queue(&mut self, id: MessageId, sink: &mut dyn EventSink) -> Verdict {
        let (state, due_ms) = self.state_of(id);
        let fired = matches!(state, State::Ready | State::InFlight | State::Dead);
        if !fired || (self.live(id).is_none() && self.found(id).is_none()) {
            return Verdict { id, done: false, state, due_ms };
        }
        self.totals.acknowledged += 1;
        self.emit(&Event::Acknowledged { id }, sink);
        Verdict { id, done: true, state: State::Acknowledged, due_ms: 0 }
    }

    /// Acknowledges what a consumer was handed before `id`, in order of delivery.
    fn acknowledge_up_to(&mut self, slot: SlotId, id: MessageId, sink: &mut dyn EventSink) {
        // Looked for only when it is there, and looked through only once: a batch may name many.
        let held = |entry: &Entry| entry.state == State::InFlight && entry.lease == slot;
        if !self.live(id).is_some_and(held) {
            return;
        }
        let Some(subscription) = self.slots.get(slot) else { return };
        let last = subscription
            .deadlines
            .iter()
            .position(|d| d.position == id.sequence() && self.lease_holds(slot, d));
        let (Some(last), Some(subscription)) = (last, self.slots.get_mut(slot)) else { return };
        let before: Vec<Deadline> = subscription.deadlines.drain(..=last).take(last).collect();
        for deadline in before {
            if self.lease_holds(slot, &deadline)
                && let Some(entry) = self.messages.get(deadline.position)
            {
                let id = self.id_of(deadline.position, entry.id_due_ms);
                self.totals.acknowledged += 1;
                self.emit(&Event::Acknowledged { id }, sink);
            }
        }
    }

    fn acknowledge_topic(
        &mut self,
        slot: SlotId,
        id: MessageId,
        cumulative: bool,
        sink: &mut dyn EventSink,
    ) -> Verdict {
        let (state, due_ms) = self.state_of(id);
        let offset = self.offset_of(slot, id, state);
        let kept_from = self.kept_from(slot);
        self.raise_cursor(slot, kept_from);
        let shared = self.is_shared(slot);
        if let Some(offset) = offset.filter(|_| cumulative && shared) {
            self.acknowledge_delivered_before(slot, offset, sink);
        }
        // What the others have is theirs.
        let cumulative = cumulative && !shared;
        let (Some(offset), Some(cursor)) = (offset, self.cursor(slot)) else {
            return Verdict { id, done: false, state, due_ms };
        };
        let kept = offset >= kept_from;
        let from = if cumulative { cursor.floor().min(offset) } else { offset };
        // With gaps below it, one that was acknowledged by itself still stands for those before.
        let open = if cumulative { cursor.floor() <= offset } else { !cursor.contains(offset) };
        let too_many = self.opens_run_too_many(slot, from, offset)
            || self.user_has_no_room(slot, from, offset);
        if open && kept && too_many {
            // There are too many gaps before it: it comes again.
            self.totals.gaps_refused += 1;
            return Verdict { id, done: false, state, due_ms };
        }
        if open || !kept {
            self.acknowledge_offsets(slot, from, offset, sink);
        }
        if !kept {
            // Retention was faster: its credit is free again, more there was not to do.
            return Verdict { id, done: false, state, due_ms };
        }
        self.totals.acknowledged += u64::from(open);
        Verdict { id, done: open, state: State::Acknowledged, due_ms: 0 }
    }

    fn not_done(&self, id: MessageId) -> Verdict {
        let (state, due_ms) = self.state_of(id);
        Verdict { id, done: false, state, due_ms }
    }

    /// Acknowledges everything up to an offset with an ephemeral subscription: that leaves no gap.
    fn acknowledge_to(&mut self, slot: SlotId, offset: u64, sink: &mut dyn EventSink) {
        if let Some(floor) = self.cursor(slot).map(Cursor::floor) {
            self.acknowledge_offsets(slot, floor.min(offset), offset, sink);
        }
    }

    /// Whether a subscription shares its place with others, or would.
    fn is_shared(&self, slot: SlotId) -> bool {
        let durable = self.durable_of(slot).and_then(|number| self.durables.get(&number));
        durable.is_some_and(|durable| durable.shared)
    }

    /// Acknowledges what is out with one of those that share a subscription, up to an offset.
    fn acknowledge_delivered_before(
        &mut self,
        slot: SlotId,
        offset: u64,
        sink: &mut dyn EventSink,
    ) {
        let Some(Role::Reader(reader)) = self.slots.get(slot).map(|s| &s.role) else { return };
        let out: Vec<u64> = reader.out.range(..offset).map(|(offset, _)| *offset).collect();
        let mut out = out.into_iter().peekable();
        while let Some(from) = out.next() {
            let (mut to, mut count) = (from, 1);
            // Neighbours are one event; what lies between them is acknowledged already.
            while let Some(next) = out.next_if(|next| {
                self.cursor(slot).is_some_and(|cursor| cursor.next_gap(to + 1) == *next)
            }) {
                (to, count) = (next, count + 1);
            }
            if from >= self.kept_from(slot) && self.opens_run_too_many(slot, from, to) {
                self.totals.gaps_refused += count;
                continue;
            }
            self.totals.acknowledged += count;
            self.acknowledge_offsets(slot, from, to, sink);
        }
    }

    /// The offset of a topic message, wherever it is: in memory, looked up, or out with this
    /// subscription.
    fn offset_of(&mut self, slot: SlotId, id: MessageId, state: State) -> Option<u64> {
        if let Some(entry) = self.live(id).filter(|_| state == State::Ready) {
            return Some(entry.offset);
        }
        if let Some(Place::Ready { position, .. }) = self.found(id).map(|found| found.place) {
            return Some(position);
        }
        let topic = self.slots.get(slot)?.destination;
        let hot_from = self.destination(topic)?.topic.hot_from;
        match &mut self.slots.get_mut(slot)?.role {
            Role::Reader(reader) => reader.lost_offset(id.sequence(), hot_from),
            Role::Consumer => None,
        }
    }

    /// The first offset that a subscription's topic keeps.
    fn kept_from(&self, slot: SlotId) -> u64 {
        let topic = self.slots.get(slot).and_then(|s| self.destination(s.destination));
        topic.map_or(0, |destination| destination.topic.first_offset)
    }

    /// Marks a run of offsets as acknowledged by a topic subscription.
    pub(super) fn acknowledge_offsets(
        &mut self,
        slot: SlotId,
        from: u64,
        to: u64,
        sink: &mut dyn EventSink,
    ) {
        let Some(destination) = self.slots.get(slot).map(|s| s.destination) else { return };
        let kept_from = self.destination(destination).map_or(0, |d| d.topic.first_offset);
        let Some(subscription) = self.slots.get_mut(slot) else { return };
        let Role::Reader(reader) = &mut subscription.role else { return };
        let durable = reader.durable();
        if let Source::Own(own) = &mut reader.source {
            own.cursor.raise(kept_from);
            own.cursor.add(from, to);
        }
        if let Some((_, reading)) = reader.source.place(&mut self.durables) {
            while let Some((&offset, _)) = reading.again.range(from..=to).next() {
                reading.again.remove(&offset);
            }
        }
        // A late one may be out with another by now.
        let group = durable.and_then(|number| self.durables.get(&number));
        let others: Vec<SlotId> = match group.filter(|durable| durable.members.len() > 1) {
            Some(durable) => durable.members.iter().copied().filter(|own| *own != slot).collect(),
            None => Vec::new(),
        };
        let ended: u64 =
            others.into_iter().chain([slot]).map(|slot| self.take_out(slot, from, to)).sum();
        if self.notes_for_user(destination, from, to) {
            let subscription = durable.unwrap_or(0);
            self.emit(&Event::InboxAcknowledged { destination, subscription, from, to }, sink);
        } else if let Some(subscription) = durable {
            self.emit(&Event::TopicAcknowledged { subscription, from, to }, sink);
        }
        if let Some(destination) = self.destination_mut(destination) {
            destination.in_flight -= ended;
        }
        self.activate(destination);
    }

    /// Ends what is out with a subscription of a run of offsets; how many that were.
    fn take_out(&mut self, slot: SlotId, from: u64, to: u64) -> u64 {
        let Some(subscription) = self.slots.get_mut(slot) else { return 0 };
        let Role::Reader(reader) = &mut subscription.role else { return 0 };
        let pattern = subscription.pattern;
        let mut account = self.patterns.get_mut(pattern);
        let (mut ended, mut bytes) = (0, 0);
        while let Some((&offset, _)) = reader.out.range(from..=to).next() {
            if let Some(out) = reader.take_out(offset) {
                (ended, bytes) = (ended + 1, bytes + out.bytes);
                account.iter_mut().for_each(|account| account.released(&out));
            }
        }
        subscription.in_flight -= ended;
        subscription.bytes_in_flight -= bytes;
        self.wake_next(pattern);
        u64::from(ended)
    }

    pub(super) fn reject(
        &mut self,
        session: SessionId,
        subscription: u32,
        ids: &[MessageId],
        requeue: bool,
        sink: &mut dyn EventSink,
    ) -> Result<Answer, ClientError> {
        batched(ids)?;
        let holder = self.holder(session, subscription)?;
        refuse_dead_topic(holder, !requeue)?;
        self.refuse_foreign(holder, ids)?;
        let mut verdicts = Vec::with_capacity(ids.len());
        for &id in ids {
            verdicts.push(match holder {
                Holder::Reader(slot) => self.reject_topic(slot, id),
                Holder::Pattern(pattern) => match self.reader_for(pattern, id) {
                    Some(slot) => self.reject_topic(slot, id),
                    None => self.not_done(id),
                },
                _ => self.reject_queue(id, requeue, sink),
            });
        }
        Ok(Answer::Verdicts(verdicts))
    }

    fn reject_queue(&mut self, id: MessageId, requeue: bool, sink: &mut dyn EventSink) -> Verdict {
        let (state, due_ms) = self.state_of(id);
        if state != State::InFlight {
            return Verdict { id, done: false, state, due_ms };
        }
        self.totals.rejected += 1;
        let state = self.fail(id.sequence(), FailureReason::Rejected, requeue, sink);
        Verdict { id, done: true, state, due_ms }
    }

    fn reject_topic(&mut self, slot: SlotId, id: MessageId) -> Verdict {
        let (state, due_ms) = self.state_of(id);
        let offset = self.offset_of(slot, id, state);
        let kept = offset.is_some_and(|offset| offset >= self.kept_from(slot));
        let out = match (self.slots.get(slot).map(|s| &s.role), offset) {
            (Some(Role::Reader(reader)), Some(offset)) => reader.out.contains_key(&offset),
            _ => false,
        };
        if let Some(offset) = offset.filter(|_| out) {
            self.take_back_topic(slot, offset);
        }
        let done = out && kept;
        self.totals.rejected += u64::from(done);
        Verdict { id, done, state, due_ms }
    }

    /// Refuses a batch that names a message its sender has no business with: a topic message
    /// belongs to the subscription that got it, and is never acknowledged by id alone.
    fn refuse_foreign(&self, holder: Holder, ids: &[MessageId]) -> Result<(), ClientError> {
        for &id in ids {
            let live = self.live(id).filter(|e| e.state != State::Scheduled);
            let ready = |found: &&Found| matches!(found.place, Place::Ready { .. });
            let found = || self.found(id).filter(ready).map(|found| found.destination);
            let Some(at) = live.map(|entry| entry.destination).or_else(found) else { continue };
            let Some(destination) = self.destination(at) else { continue };
            let foreign = match holder {
                Holder::Reader(slot) => {
                    self.slots.get(slot).is_none_or(|s| s.destination != destination.id)
                }
                Holder::Pattern(pattern) => {
                    let account = self.patterns.all.get(&pattern);
                    account.is_none_or(|account| !account.slots.contains_key(&destination.id))
                }
                _ => !destination.kind.is_queue(),
            };
            if foreign {
                return Err(ClientError::new(
                    Code::NotYours,
                    format!(
                        "message {id} was not delivered to this subscription; name the one that got it"
                    ),
                ));
            }
        }
        Ok(())
    }
}
