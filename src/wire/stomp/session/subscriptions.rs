//! The subscriptions of a session, and what is out with each of them.

use std::collections::{BTreeMap, HashMap};

use crate::base::id::MessageId;

/// Ended subscriptions whose messages may still be acknowledged.
const ENDED_MAX: usize = 64;

/// How messages are acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AckMode {
    /// By being written to the client.
    Auto,
    /// Each stands for all before it.
    Cumulative,
    /// Each for itself.
    Individual,
}

/// A subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    /// `id` as the client said it. In 1.0 there need not be one: then the destination stands for it.
    pub(super) id: Option<Box<str>>,
    /// As the client named it.
    pub(super) destination: Box<str>,
    /// What the engine calls it.
    pub(super) source: Box<str>,
    pub(super) mode: AckMode,
    /// It outlives the session.
    pub(super) durable: bool,
    pub(super) credit: u32,
    pub(super) out: Out,
}

impl Subscription {
    /// What it is known by.
    pub(super) fn key(&self) -> &str {
        self.id.as_deref().unwrap_or(&self.destination)
    }

    /// Whether each message goes to one consumer, and not to each.
    pub(super) fn is_queue(&self) -> bool {
        !["/topic/", "/user/"].iter().any(|prefix| self.source.starts_with(prefix))
    }

    /// A message was delivered.
    pub(super) fn delivered(&mut self, id: MessageId) {
        // What timed out stays, because a late acknowledgement counts, but not without end.
        self.out.add(id, 2 * self.credit as usize + 64);
    }
}

/// Messages that were delivered and not acknowledged, in the order of their last delivery.
#[derive(Debug, Default)]
pub(super) struct Out {
    order: BTreeMap<u64, MessageId>,
    places: HashMap<MessageId, u64>,
    next: u64,
}

impl Out {
    fn add(&mut self, id: MessageId, most: usize) {
        if let Some(before) = self.places.insert(id, self.next) {
            self.order.remove(&before);
        }
        self.order.insert(self.next, id);
        self.next += 1;
        while self.order.len() > most
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.places.remove(&oldest);
        }
    }

    pub(super) fn contains(&self, id: MessageId) -> bool {
        self.places.contains_key(&id)
    }

    /// Takes a message out; `false` when it is not there.
    pub(super) fn take(&mut self, id: MessageId) -> bool {
        let Some(place) = self.places.remove(&id) else { return false };
        self.order.remove(&place);
        true
    }

    /// Takes a message and all before it out, in order; nothing when it is not there.
    pub(super) fn take_up_to(&mut self, id: MessageId) -> Vec<MessageId> {
        let Some(&place) = self.places.get(&id) else { return Vec::new() };
        let later = self.order.split_off(&(place + 1));
        let taken: Vec<_> = std::mem::replace(&mut self.order, later).into_values().collect();
        for id in &taken {
            self.places.remove(id);
        }
        taken
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

/// All subscriptions of a session, by the numbers the engine knows them by. A number is never used again.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    by_number: BTreeMap<u32, Subscription>,
    numbers: HashMap<Box<str>, u32>,
    /// Those that were ended with messages of a queue out. The client may have done with some, and say so.
    ended: BTreeMap<u32, Out>,
    last: u32,
}

impl Subscriptions {
    /// Adds one; its number.
    pub(super) fn add(&mut self, subscription: Subscription) -> u32 {
        self.last += 1;
        self.numbers.insert(subscription.key().into(), self.last);
        self.by_number.insert(self.last, subscription);
        self.last
    }

    /// The number of the one with this key.
    pub(super) fn number(&self, key: &str) -> Option<u32> {
        self.numbers.get(key).copied()
    }

    pub(super) fn get(&self, number: u32) -> Option<&Subscription> {
        self.by_number.get(&number)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Subscription> {
        self.by_number.get_mut(&number)
    }

    /// Whether there is one that reads this.
    pub(super) fn reads(&self, source: &str) -> bool {
        self.by_number.values().any(|subscription| *subscription.source == *source)
    }

    /// Ends one.
    pub(super) fn remove(&mut self, number: u32) -> Option<Subscription> {
        let mut ended = self.by_number.remove(&number)?;
        self.numbers.remove(ended.key());
        if ended.is_queue() && !ended.out.is_empty() {
            self.ended.insert(number, std::mem::take(&mut ended.out));
            if self.ended.len() > ENDED_MAX {
                self.ended.pop_first();
            }
        }
        Some(ended)
    }

    /// The messages that are out with an ended subscription.
    pub(super) fn ended_mut(&mut self, number: u32) -> Option<&mut Out> {
        self.ended.get_mut(&number)
    }

    /// The one subscription, ended ones included, that a message is out with; `None` when there is none, or more.
    pub(super) fn holder(&self, id: MessageId) -> Option<u32> {
        let open = self.by_number.iter().map(|(number, subscription)| (number, &subscription.out));
        let mut all = open.chain(&self.ended).filter(|(_, out)| out.contains(id));
        let (number, _) = all.next()?;
        all.next().is_none().then_some(*number)
    }
}
