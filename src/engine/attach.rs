//! Subscribing, unsubscribing, and what happens when a subscriber goes away.

use crate::base::command::{Answer, Outgoing, StartAt, Subscribe};
use crate::base::destination::Kind;
use crate::base::error::{ClientError, Code};
use crate::base::event::{Event, EventSink};
use crate::base::id::{DestinationId, SessionId};
use crate::base::limits;
use crate::base::pattern::Pattern;

use super::Engine;
use super::cursor::Cursor;
use super::deliver::await_turn;
use super::messages::SlotId;
use super::patterns::Attached;
use super::subscription::{Reader, Role, Source, Subscription};

impl Engine {
    pub(super) fn subscribe(
        &mut self,
        session: SessionId,
        wish: &Subscribe,
        refuse_new: Option<Code>,
        sink: &mut dyn EventSink,
    ) -> Result<Answer, ClientError> {
        self.check_wish(session, wish)?;
        if let Some(pattern) = Pattern::parse(&wish.destination)? {
            return self.subscribe_pattern(session, wish, pattern);
        }
        let id = match (self.find_destination(&wish.destination), refuse_new) {
            (Ok(id), _) => id,
            (Err(error), Some(code)) if error.code == Code::DestinationNotFound => {
                return Err(code.into());
            }
            (Err(_), _) => self.named(&wish.destination, Some(session), sink)?,
        };
        self.check_owner(id, session)?;
        let queue = self.destination(id).is_some_and(|d| d.kind.is_queue());
        let (role, next_offset) = if queue {
            if !wish.durable.is_empty() || wish.shared {
                return Err(ClientError::new(
                    Code::WrongKind,
                    "a queue needs no durable or shared subscription: it keeps its messages by itself, \
                     and each goes to one consumer",
                ));
            }
            (Role::Consumer, 0)
        } else {
            let mut source = self.source(id, wish, refuse_new, sink)?;
            let next = source.place(&mut self.durables).map_or(0, |(_, reading)| reading.next);
            (Role::Reader(Reader::new(source)), next)
        };
        let paused = self.sessions.get(&session.0).is_some_and(|session| session.paused);
        let (number, ack_timeout_ms) = (wish.subscription, self.ack_timeout(wish));
        let new = Subscription::new(session, number, id, wish.credit, ack_timeout_ms, role);
        let slot = self.slots.insert(Subscription { paused, ..new });
        if let Some(session) = self.sessions.get_mut(&session.0) {
            session.subscriptions.insert(wish.subscription, Attached::Slot(slot));
        }
        if let Some(durable) = self.durable_of(slot).and_then(|n| self.durables.get_mut(&n)) {
            durable.members.push_back(slot);
        }
        if let (Some(destination), Some(subscription)) =
            (self.destinations.get_mut(id), self.slots.get_mut(slot))
        {
            destination.subscribers.push(slot);
            if queue {
                await_turn(destination, slot, subscription);
            }
        }
        self.activate(id);
        Ok(Answer::Subscribed { next_offset })
    }

    pub(super) fn ack_timeout(&self, wish: &Subscribe) -> u64 {
        match wish.ack_timeout_ms {
            0 => self.config.ack_timeout_ms,
            ms => ms,
        }
    }

    fn check_wish(&self, session: SessionId, wish: &Subscribe) -> Result<(), ClientError> {
        let open = self.sessions.get(&session.0).ok_or(Code::Internal)?;
        if wish.subscription == 0 {
            return Err(ClientError::new(
                Code::SubscriptionNotFound,
                "number subscriptions from 1",
            ));
        }
        if open.subscriptions.contains_key(&wish.subscription) {
            return Err(Code::SubscriptionExists.into());
        }
        if open.subscriptions.len() >= limits::SUBSCRIPTIONS_PER_SESSION_MAX {
            return Err(Code::TooManySubscriptions.into());
        }
        if wish.credit == 0 || wish.credit > limits::CREDIT_MAX {
            let max = limits::CREDIT_MAX;
            return Err(ClientError::new(
                Code::BadCredit,
                format!("a credit of {}; grant 1 to {max}", wish.credit),
            ));
        }
        let timeouts = limits::ACK_TIMEOUT_RANGE_MS;
        if wish.ack_timeout_ms != 0 && !timeouts.contains(&wish.ack_timeout_ms) {
            let (from, to) = (timeouts.start(), timeouts.end());
            return Err(ClientError::new(
                Code::BadDelay,
                format!("an ack timeout of {} ms; use {from} to {to} ms", wish.ack_timeout_ms),
            ));
        }
        Ok(())
    }

    /// Where a subscription of a topic reads, creating a durable one that does not exist.
    fn source(
        &mut self,
        id: DestinationId,
        wish: &Subscribe,
        refuse_new: Option<Code>,
        sink: &mut dyn EventSink,
    ) -> Result<Source, ClientError> {
        let destination = self.destination(id).ok_or(Code::DestinationNotFound)?;
        let inbox = destination.kind == Kind::Inbox;
        let (first, end) = (destination.topic.first_offset, destination.topic.next_offset());
        let start = match wish.start {
            StartAt::Unread if inbox => destination.users_cursor().unwrap_or_default(),
            StartAt::Unread | StartAt::Latest => Cursor::at(end),
            StartAt::Earliest => Cursor::at(first),
            StartAt::Offset(offset) => Cursor::at(offset.clamp(first, end)),
        };
        if wish.shared && (inbox || wish.durable.is_empty()) {
            return Err(ClientError::new(
                Code::WrongKind,
                "only a durable subscription of a topic can be shared; give it a name",
            ));
        }
        if wish.durable.is_empty() {
            return Ok(Source::own(start));
        }
        let name = durable_name(&wish.durable)?;
        let number = match (self.durable_names.get(&(id, name.into())), refuse_new) {
            (Some(number), _) => *number,
            (None, Some(code)) => return Err(code.into()),
            (None, None) => {
                let number = self.create_durable(id, name, start.floor(), sink)?;
                if wish.start == StartAt::Unread {
                    self.copy_users_runs(id, number, sink);
                }
                number
            }
        };
        let durable = self.durables.get_mut(&number).ok_or(Code::Internal)?;
        if durable.members.is_empty() {
            durable.begin(first, wish.shared);
        } else if !(wish.shared && durable.shared) {
            return Err(Code::SubscriptionBusy.into());
        } else if durable.members.len() >= limits::SHARED_CONSUMERS_MAX {
            let max = limits::SHARED_CONSUMERS_MAX;
            let text = format!("{max} consumers share this subscription already");
            return Err(ClientError::new(Code::TooManySubscriptions, text));
        }
        Ok(Source::Durable(number))
    }

    fn create_durable(
        &mut self,
        destination: DestinationId,
        name: &str,
        next_offset: u64,
        sink: &mut dyn EventSink,
    ) -> Result<u32, ClientError> {
        if self.durables.len() >= limits::DURABLE_SUBSCRIPTIONS_MAX {
            return Err(ClientError::new(
                Code::TooManySubscriptions,
                "too many durable subscriptions; delete some that are not used",
            ));
        }
        self.check_small_for_durable(name)?;
        let subscription = self.next_subscription;
        let created = Event::SubscriptionCreated { subscription, destination, name, next_offset };
        self.emit(&created, sink);
        Ok(subscription)
    }

    pub(super) fn unsubscribe(
        &mut self,
        session: SessionId,
        number: u32,
        delete: bool,
        sink: &mut dyn EventSink,
    ) -> Result<Answer, ClientError> {
        let slot = match self.attached(session, number)? {
            Attached::Slot(slot) => slot,
            Attached::Pattern(pattern) => {
                if let Some(session) = self.sessions.get_mut(&session.0) {
                    session.subscriptions.remove(&number);
                }
                self.end_pattern(pattern);
                return Ok(Answer::Done);
            }
        };
        let durable = self.durable_of(slot);
        let members = durable.and_then(|n| self.durables.get(&n)).map_or(0, |d| d.members.len());
        if delete && members > 1 {
            return Err(ClientError::new(
                Code::SubscriptionBusy,
                format!(
                    "{} others share this subscription; it can be deleted by the last",
                    members - 1
                ),
            ));
        }
        if let Some(session) = self.sessions.get_mut(&session.0) {
            session.subscriptions.remove(&number);
        }
        self.detach(slot);
        if let Some(subscription) = durable.filter(|_| delete) {
            self.emit(&Event::SubscriptionDeleted { subscription }, sink);
        }
        Ok(Answer::Done)
    }

    /// What a session's number stands for.
    pub(super) fn attached(
        &self,
        session: SessionId,
        number: u32,
    ) -> Result<Attached, ClientError> {
        self.sessions
            .get(&session.0)
            .and_then(|session| session.subscriptions.get(&number).copied())
            .ok_or_else(|| {
                ClientError::new(
                    Code::SubscriptionNotFound,
                    format!("this session has no subscription {number}"),
                )
            })
    }

    /// What a topic subscription has acknowledged.
    pub(super) fn cursor(&self, slot: SlotId) -> Option<&Cursor> {
        match &self.slots.get(slot)?.role {
            Role::Reader(reader) => match &reader.source {
                Source::Own(own) => Some(&own.cursor),
                Source::Durable(number) => Some(&self.durables.get(number)?.cursor),
            },
            Role::Consumer => None,
        }
    }

    /// The durable subscription that a slot is attached to.
    pub(super) fn durable_of(&self, slot: SlotId) -> Option<u32> {
        match &self.slots.get(slot)?.role {
            Role::Reader(reader) => reader.durable(),
            Role::Consumer => None,
        }
    }

    /// Takes a subscription off its destination; what was out with it goes back.
    pub(super) fn detach(&mut self, slot: SlotId) {
        // Out of the line first, so that nothing taken back is handed to it again.
        let Some(subscription) = self.slots.get_mut(slot) else { return };
        let id = subscription.destination;
        subscription.credit = 0;
        if let Some(timer) = subscription.timer.take() {
            self.lease_timers.remove(&(timer, slot));
        }
        let deadlines: Vec<_> = subscription.deadlines.drain(..).collect();
        let pattern = subscription.pattern;
        let mut held = 0;
        if let Role::Reader(reader) = &mut subscription.role {
            let out = std::mem::take(&mut reader.out);
            held = out.len() as u64;
            if let Some(durable) = reader.durable().and_then(|n| self.durables.get_mut(&n)) {
                durable.leave(slot, out);
            } else {
                self.leave_pattern(pattern, id, slot, &out);
            }
        }
        if let Some(destination) = self.destinations.get_mut(id) {
            destination.subscribers.retain(|other| *other != slot);
            destination.waiting.retain(|other| *other != slot);
            destination.in_flight -= held;
        }
        let consumer = self.slots.get(slot).is_some_and(|s| matches!(s.role, Role::Consumer));
        for deadline in deadlines.into_iter().filter(|_| consumer) {
            if self.lease_holds(slot, &deadline) {
                self.take_back(deadline.position);
            }
        }
        self.slots.remove(slot);
        // Others that share it may have what came back.
        self.activate(id);
    }

    /// Hands a session no more deliveries (`true`), or hands it deliveries again.
    pub fn pause(&mut self, session: SessionId, paused: bool) {
        let Some(session) = self.sessions.get_mut(&session.0) else { return };
        session.paused = paused;
        let all: Vec<Attached> = session.subscriptions.values().copied().collect();
        for attached in all {
            let slot = match attached {
                Attached::Slot(slot) => slot,
                Attached::Pattern(pattern) => {
                    self.pause_pattern(pattern, paused);
                    continue;
                }
            };
            let Some(subscription) = self.slots.get_mut(slot) else { continue };
            subscription.paused = paused;
            let id = subscription.destination;
            let Some(destination) = self.destinations.get_mut(id) else {
                continue;
            };
            if paused {
                if std::mem::take(&mut subscription.waiting) {
                    destination.waiting.retain(|other| *other != slot);
                }
                continue;
            }
            if matches!(subscription.role, Role::Consumer) {
                await_turn(destination, slot, subscription);
            }
            self.activate(id);
        }
    }

    /// Ends all subscriptions of a destination that is about to go, and tells their sessions.
    pub(super) fn end_subscriptions_of(&mut self, id: DestinationId) {
        let slots = self.destination(id).map(|d| d.subscribers.clone()).unwrap_or_default();
        for slot in slots {
            let Some(subscription) = self.slots.get(slot) else { continue };
            let (session, number) = (subscription.session, subscription.number);
            // One with a pattern goes on with its other topics.
            let whole = subscription.pattern.is_none();
            if let Some(session) = self.sessions.get_mut(&session.0).filter(|_| whole) {
                session.subscriptions.remove(&number);
            }
            self.detach(slot);
            if !whole {
                continue;
            }
            let reason = ClientError::new(Code::DestinationNotFound, "the destination was deleted");
            self.send(session, Outgoing::Ended { subscription: number, reason });
        }
    }
}

fn durable_name(name: &[u8]) -> Result<&str, ClientError> {
    let bad = |why: &str| Err(ClientError::new(Code::BadHeader, why));
    match std::str::from_utf8(name) {
        Ok(_) if name.len() > limits::SUBSCRIPTION_NAME_BYTES_MAX => {
            bad("the name of the durable subscription is over 128 bytes")
        }
        Ok(name) => Ok(name),
        Err(_) => bad("the name of the durable subscription is not UTF-8"),
    }
}
