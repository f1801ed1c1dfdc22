//! Subscriptions with a pattern: one number and one credit over many topics.
//!
//! Each topic that the pattern takes has a reader of its own, as if it had been subscribed to by itself. What they
//! share is the account: when it is used up, those that have something stand in line for it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use crate::base::command::{Answer, StartAt, Subscribe};
use crate::base::destination::Kind;
use crate::base::error::{ClientError, Code};
use crate::base::id::{DestinationId, MessageId, SessionId};
use crate::base::limits;
use crate::base::pattern::Pattern;

use super::Engine;
use super::cursor::Cursor;
use super::messages::{NumberMap, SlotId};
use super::subscription::{Out, Reader, Role, Source, Subscription};

/// Messages that one topic may hand out before another of the same pattern has its turn.
pub(super) const PATTERN_TURN: usize = 16;

/// What a session's number stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attached {
    /// One destination.
    Slot(SlotId),
    /// A pattern, by its number.
    Pattern(u32),
}

/// A subscription with a pattern.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) session: SessionId,
    /// The session's number for it.
    pub(super) number: u32,
    pattern: Pattern,
    credit: u32,
    ack_timeout_ms: u64,
    paused: bool,
    /// The topics it is attached to.
    pub(super) slots: BTreeMap<DestinationId, SlotId>,
    /// Those that may have something, and found no credit, in turn.
    pub(super) line: VecDeque<SlotId>,
    /// What is out, in order of delivery.
    pub(super) out: BTreeMap<u64, (SlotId, u64)>,
    /// The place in that order, by sequence.
    places: NumberMap<u64, u64>,
    next_place: u64,
    pub(super) bytes_in_flight: usize,
}

impl Account {
    pub(super) fn has_credit(&self) -> bool {
        let bytes = self.bytes_in_flight < limits::SUBSCRIPTION_BYTES_IN_FLIGHT_MAX;
        !self.paused && self.out.len() < self.credit as usize && (self.out.is_empty() || bytes)
    }

    /// Something went out.
    pub(super) fn took(&mut self, slot: SlotId, offset: u64, out: &Out) {
        self.out.insert(self.next_place, (slot, offset));
        self.places.insert(out.sequence, self.next_place);
        self.next_place += 1;
        self.bytes_in_flight += out.bytes;
    }

    /// It is no longer out.
    pub(super) fn released(&mut self, out: &Out) {
        if let Some(place) = self.places.remove(&out.sequence) {
            self.out.remove(&place);
            self.bytes_in_flight -= out.bytes;
        }
    }

    /// The reader that has a message out.
    fn holder(&self, sequence: u64) -> Option<SlotId> {
        self.out.get(self.places.get(&sequence)?).map(|(slot, _)| *slot)
    }
}

/// All subscriptions with a pattern.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    pub(super) all: BTreeMap<u32, Account>,
    next: u32,
    /// Topics of all of them together.
    topics: usize,
    /// Topics that were one too many.
    pub(super) left_out: u64,
}

impl Patterns {
    pub(super) fn get_mut(&mut self, number: Option<u32>) -> Option<&mut Account> {
        self.all.get_mut(&number?)
    }

    /// How many attached readers are not subscriptions of their own.
    pub(super) fn topics(&self) -> usize {
        self.topics
    }
}

impl Engine {
    pub(super) fn subscribe_pattern(
        &mut self,
        session: SessionId,
        wish: &Subscribe,
        pattern: Pattern,
    ) -> Result<Answer, ClientError> {
        let wrong = |why: &str| Err(ClientError::new(Code::WrongKind, why));
        if !wish.durable.is_empty() || wish.shared {
            return wrong("a subscription with a pattern ends with its session: it has no name");
        }
        if matches!(wish.start, StartAt::Offset(_)) {
            return wrong(
                "topics of a pattern have no offset in common; begin at earliest or latest",
            );
        }
        if self.patterns.all.len() >= limits::PATTERNS_MAX {
            return Err(ClientError::new(
                Code::TooManySubscriptions,
                "too many subscriptions with a pattern; end some that are not used",
            ));
        }
        let first = pattern.first().to_owned();
        let from = (Bound::Included(first.as_str()), Bound::Unbounded);
        let names = self.names.range::<str, _>(from);
        let names = names.take_while(|(name, _)| name.starts_with(&first));
        let topics: Vec<_> =
            names.filter(|(name, _)| pattern.takes(name)).map(|(_, id)| *id).collect();
        let most = limits::PATTERN_TOPICS_MAX
            .min(limits::PATTERN_TOPICS_ALL_MAX.saturating_sub(self.patterns.topics));
        if topics.len() > most {
            return Err(ClientError::new(
                Code::TooManySubscriptions,
                format!("{} topics match, and at most {most} more are possible", topics.len()),
            ));
        }
        // A number is free again when four thousand million others have been given.
        let number = self.patterns.next;
        self.patterns.next = number.wrapping_add(1);
        let account = Account {
            session,
            number: wish.subscription,
            pattern,
            credit: wish.credit,
            ack_timeout_ms: self.ack_timeout(wish),
            paused: self.sessions.get(&session.0).is_some_and(|session| session.paused),
            slots: BTreeMap::new(),
            line: VecDeque::new(),
            out: BTreeMap::new(),
            places: NumberMap::default(),
            next_place: 0,
            bytes_in_flight: 0,
        };
        self.patterns.all.insert(number, account);
        if let Some(session) = self.sessions.get_mut(&session.0) {
            session.subscriptions.insert(wish.subscription, Attached::Pattern(number));
        }
        for id in topics {
            let Some(topic) = self.destination(id).map(|destination| &destination.topic) else {
                continue;
            };
            let from = match wish.start {
                StartAt::Earliest => topic.first_offset,
                _ => topic.next_offset(),
            };
            self.attach_topic(number, id, from);
        }
        Ok(Answer::Subscribed { next_offset: 0 })
    }

    /// Attaches a topic that has just come to be to the patterns that take it, from its first message on.
    pub(super) fn attach_new_topic(&mut self, id: DestinationId) {
        if self.patterns.all.is_empty() {
            return;
        }
        let Some(topic) = self.destination(id).filter(|d| d.kind == Kind::Topic) else { return };
        let takes = |(number, account): (&u32, &Account)| {
            account.pattern.takes(&topic.name).then_some((*number, account.slots.len()))
        };
        let takers: Vec<_> = self.patterns.all.iter().filter_map(takes).collect();
        for (number, topics) in takers {
            if topics >= limits::PATTERN_TOPICS_MAX
                || self.patterns.topics >= limits::PATTERN_TOPICS_ALL_MAX
            {
                self.patterns.left_out += 1;
            } else {
                self.attach_topic(number, id, 1);
            }
        }
    }

    fn attach_topic(&mut self, number: u32, id: DestinationId, from: u64) {
        let Some(account) = self.patterns.all.get_mut(&number) else { return };
        let reader = Reader::new(Source::own(Cursor::at(from)));
        let slot = self.slots.insert(Subscription {
            pattern: Some(number),
            ..Subscription::new(
                account.session,
                account.number,
                id,
                account.credit,
                account.ack_timeout_ms,
                Role::Reader(reader),
            )
        });
        account.slots.insert(id, slot);
        self.patterns.topics += 1;
        if let Some(destination) = self.destination_mut(id) {
            destination.subscribers.push(slot);
        }
        self.activate(id);
    }

    /// One of its readers is no longer attached; this was out with it.
    pub(super) fn leave_pattern(
        &mut self,
        pattern: Option<u32>,
        topic: DestinationId,
        slot: SlotId,
        out: &BTreeMap<u64, Out>,
    ) {
        let Some(account) = self.patterns.get_mut(pattern) else { return };
        out.values().for_each(|out| account.released(out));
        account.line.retain(|other| *other != slot);
        account.slots.remove(&topic);
        self.patterns.topics -= 1;
        self.wake_next(pattern);
    }

    /// Ends a subscription with a pattern.
    pub(super) fn end_pattern(&mut self, number: u32) {
        let slots = self.patterns.all.get(&number).map(|account| account.slots.clone());
        for slot in slots.into_iter().flatten().map(|(_, slot)| slot) {
            self.detach(slot);
        }
        self.patterns.all.remove(&number);
    }

    /// Whether a reader of a pattern finds no credit; then it stands in line for it.
    pub(super) fn waits_for_credit(&mut self, slot: SlotId) -> bool {
        let Some(subscription) = self.slots.get_mut(slot) else { return false };
        let Some(account) = self.patterns.get_mut(subscription.pattern) else { return false };
        if account.has_credit() {
            return false;
        }
        if !std::mem::replace(&mut subscription.waiting, true) {
            account.line.push_back(slot);
        }
        true
    }

    /// Lets the next in line have what credit there is. When it does not use it up, the one behind it has its
    /// turn then.
    pub(super) fn wake_next(&mut self, pattern: Option<u32>) {
        while let Some(account) = self.patterns.get_mut(pattern).filter(|a| a.has_credit())
            && let Some(slot) = account.line.pop_front()
        {
            let Some(subscription) = self.slots.get_mut(slot) else { continue };
            subscription.waiting = false;
            let id = subscription.destination;
            self.activate(id);
            // One that is paused takes nothing, and is woken when it goes on.
            if self.destination(id).is_some_and(|destination| !destination.control.paused) {
                return;
            }
        }
    }

    /// Hands out nothing more under a pattern, or hands out again.
    pub(super) fn pause_pattern(&mut self, number: u32, paused: bool) {
        if let Some(account) = self.patterns.get_mut(Some(number)) {
            account.paused = paused;
            self.wake_next(Some(number));
        }
    }

    /// The reader of a pattern that a message belongs to.
    pub(super) fn reader_for(&self, number: u32, id: MessageId) -> Option<SlotId> {
        let account = self.patterns.all.get(&number)?;
        account.holder(id.sequence()).or_else(|| {
            let live = self.live(id).map(|entry| entry.destination);
            let at = live.or_else(|| self.found(id).map(|found| found.destination))?;
            account.slots.get(&at).copied()
        })
    }

    /// What was delivered under a pattern before a message, and is still out: the last offset of each
    /// reader.
    pub(super) fn out_before(&self, number: u32, id: MessageId) -> BTreeMap<SlotId, u64> {
        let mut last = BTreeMap::new();
        let Some(account) = self.patterns.all.get(&number) else { return last };
        let Some(place) = account.places.get(&id.sequence()) else { return last };
        for (slot, offset) in account.out.range(..place).map(|(_, out)| *out) {
            let before = last.entry(slot).or_insert(offset);
            *before = offset.max(*before);
        }
        last
    }
}
