//! What the outside knows: a reference model of the promises, as plain as it can be.
//!
//! It is told what was asked, what was answered and what was delivered, and never looks inside. What
//! was asked and not answered yet, or never, may have happened or not.

use std::collections::BTreeMap;

use crate::base::command::Delivery;
use crate::base::id::MessageId;

/// A wall clock that drifts is followed when it is this far from where it was believed to be, ms.
const JITTER_MS: u64 = 3;

/// Whether something happened, as far as the outside can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sure {
    /// It did not.
    No,
    /// It was asked for, and not answered.
    Maybe,
    /// It did.
    Yes,
}

/// When a message may be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// After so many ms since the simulation began.
    After(u64),
    /// When the wall clock has shown so many ms.
    At(u64),
}

/// What the time is, outside.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    /// Time since the simulation began, ms.
    pub elapsed_ms: u64,
    /// The latest time the wall clock has shown, ms.
    pub wall_max_ms: u64,
    /// How far the wall clock ran ahead of time, all in all, ms. A stop is measured by the wall, so
    /// "after" may come so much early.
    pub ahead_ms: u64,
    /// How far it was set back, all in all, ms.
    pub back_ms: u64,
}

impl Due {
    fn is_reached(self, now: Times) -> bool {
        match self {
            Self::After(ms) => ms <= now.elapsed_ms + now.ahead_ms,
            Self::At(ms) => ms <= now.wall_max_ms + JITTER_MS,
        }
    }
}

/// Who receives: a session's subscription. Durable ones are the same reader in every session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reader {
    /// Session and its number for the subscription.
    Of(u64, u32),
    /// Destination and name.
    Durable(usize, &'static str),
}

/// Who has a queue's message, and until when at least, ms since the beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Which session.
    pub session: u64,
    /// Its number for the subscription.
    pub subscription: u32,
    /// Nobody else gets it before.
    pub until_ms: u64,
}

/// One message.
#[derive(Debug, Clone)]
pub struct Message {
    /// Where it was sent.
    pub destination: usize,
    /// Whether it goes to one consumer.
    pub queue: bool,
    /// Whether it was accepted.
    pub accepted: Sure,
    /// Its id, once known.
    pub id: Option<MessageId>,
    /// One of them is in force.
    pub dues: Vec<Due>,
    /// Whether it was cancelled.
    pub cancelled: Sure,
    /// Whether it was acknowledged (queues).
    pub acknowledged: Sure,
    /// Whether a purge or a deletion took it.
    pub gone: Sure,
    /// From then on it may expire, ms since the beginning.
    pub expires_ms: Option<u64>,
    /// Its due time was never changed, it was not due at once, and it goes by time passed: it keeps
    /// its place in the order.
    pub plain: bool,
    /// Its priority.
    pub priority: u8,
    /// How often it was delivered.
    pub deliveries: u32,
    /// Attempt of the last delivery, and in which life of the shard.
    pub last: (u32, u64),
    /// Who has it.
    pub lease: Option<Lease>,
    /// A consumer wanted it dead.
    pub condemned: bool,
    /// Requests about it that were not answered.
    pub asked: u32,
    /// The transaction it was published in, while that is not answered.
    pub group: Option<u64>,
}

/// What a transaction was to do: all of it happened, or nothing.
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// Messages published.
    pub messages: Vec<u64>,
    /// Messages acknowledged.
    pub acknowledged: Vec<u64>,
}

/// Everything the outside knows.
#[derive(Debug, Default)]
pub struct Model {
    /// All messages, by the number in their body.
    pub messages: BTreeMap<u64, Message>,
    by_id: BTreeMap<MessageId, u64>,
    /// Transactions that were not answered.
    pub groups: BTreeMap<u64, Group>,
    /// What readers of topics acknowledged.
    pub read: BTreeMap<(Reader, u64), Sure>,
    /// What is out with readers that have a name: with one of those that share it.
    pub out: BTreeMap<(Reader, u64), Lease>,
    /// First deliveries so far: the last key of a session, destination and priority, in this life.
    order: BTreeMap<(u64, usize, u8), (u64, u64)>,
    /// The same for topics: the last offset of a subscription and a destination.
    offsets: BTreeMap<(u64, u32, usize), u64>,
    clocks_agree: bool,
    offsets_last: bool,
    /// Life of the shard: one more with each start.
    pub life: u64,
    /// Failed deliveries after which a message is dead.
    max_failures: u32,
}

/// One delivery, as it came out.
#[derive(Debug)]
pub struct Delivered<'a> {
    /// Which session.
    pub session: u64,
    /// To whom.
    pub reader: Reader,
    /// Of which destination.
    pub destination: usize,
    /// From its dead letters.
    pub dead: bool,
    /// How long it is leased, ms.
    pub ack_timeout_ms: u64,
    /// The delivery.
    pub delivery: &'a Delivery,
}

impl Delivered<'_> {
    /// How long nobody else gets it.
    fn lease(&self, now: Times) -> Lease {
        Lease {
            session: self.session,
            subscription: self.delivery.subscription,
            until_ms: now.elapsed_ms + self.ack_timeout_ms.saturating_sub(1),
        }
    }
}

impl Model {
    /// One that knows of nothing. `clocks_agree`: nobody sets a clock in this world; `offsets_last`: nobody
    /// deletes a destination.
    #[must_use]
    pub fn new(max_failures: u32, clocks_agree: bool, offsets_last: bool) -> Self {
        Self { max_failures, clocks_agree, offsets_last, ..Self::default() }
    }

    /// A plain message was sent.
    pub fn sent(
        &mut self,
        number: u64,
        destination: usize,
        queue: bool,
        due: Due,
        group: Option<u64>,
    ) {
        let message = Message {
            destination,
            queue,
            accepted: Sure::Maybe,
            id: None,
            dues: vec![due],
            cancelled: Sure::No,
            acknowledged: Sure::No,
            gone: Sure::No,
            expires_ms: None,
            plain: false,
            priority: 4,
            deliveries: 0,
            last: (0, 0),
            lease: None,
            condemned: false,
            asked: 1,
            group,
        };
        self.messages.insert(number, message);
    }

    /// One message of a transaction is there: then all of it happened.
    fn happened(&mut self, group: u64) {
        let Some(group) = self.groups.remove(&group) else { return };
        for number in group.messages {
            if let Some(message) = self.messages.get_mut(&number) {
                message.accepted = Sure::Yes;
            }
        }
        for number in group.acknowledged {
            if let Some(message) = self.messages.get_mut(&number).filter(|own| own.queue) {
                message.acknowledged = Sure::Yes;
            }
        }
    }

    /// The message with this id.
    #[must_use]
    pub fn number_of(&self, id: MessageId) -> Option<u64> {
        self.by_id.get(&id).copied()
    }

    /// A message was accepted under this id.
    ///
    /// # Errors
    /// The id is another's.
    pub fn accepted(&mut self, number: u64, id: MessageId) -> Result<(), String> {
        if let Some(other) = self.by_id.insert(id, number)
            && other != number
        {
            return Err(format!("unique_ids: {id} stands for {other} and for {number}"));
        }
        let message = self.messages.get_mut(&number).ok_or("answered, but never sent")?;
        if message.id.is_some_and(|known| known != id) {
            return Err(format!("stable_ids: {number} was {:?} and is {id}", message.id));
        }
        message.id = Some(id);
        message.accepted = Sure::Yes;
        Ok(())
    }

    /// Judges a delivery and takes note of it.
    ///
    /// # Errors
    /// The invariant that it breaks.
    pub fn delivered(
        &mut self,
        number: Option<u64>,
        to: &Delivered<'_>,
        now: Times,
    ) -> Result<(), String> {
        let id = to.delivery.id;
        let number = number.ok_or_else(|| format!("no_ghost: {id} has a body nobody sent"))?;
        let Some(message) = self.messages.get_mut(&number) else {
            return Err(format!("no_ghost: {id} has a body nobody sent"));
        };
        let tell = |what: &str| Err(format!("{what}: message {number} {id}: {message:?}"));
        if message.accepted == Sure::No {
            return tell("no_ghost, it was refused");
        }
        if message.destination != to.destination {
            return tell("no_ghost, another destination");
        }
        if message.cancelled == Sure::Yes {
            return tell("cancelled_stays_cancelled");
        }
        if message.gone == Sure::Yes {
            return tell("purged_stays_purged");
        }
        if !message.dues.iter().any(|due| due.is_reached(now)) {
            return tell("no_early_delivery");
        }
        if to.dead {
            if !message.condemned && message.deliveries < self.max_failures {
                return tell("dead_letters_have_a_reason");
            }
        } else if message.queue {
            let lease = message.lease.as_ref();
            if lease.is_some_and(|lease| now.elapsed_ms + now.ahead_ms < lease.until_ms) {
                return tell("one_lease_at_a_time");
            }
            let (last, life) = message.last;
            let attempt = to.delivery.attempt;
            let least = if life == self.life { last + 1 } else { 2 };
            if message.deliveries > 0 && attempt < least {
                return tell("redelivered_is_told");
            }
            // What was put back may come in another order when it is overdue with others.
            if self.clocks_agree && message.plain && attempt == 1 {
                let key = (id.due_ms(), id.sequence());
                let place = (to.session, message.destination, message.priority);
                if self.order.insert(place, key).is_some_and(|before| before > key) {
                    return tell("in_order");
                }
            }
        }
        if message.queue {
            if message.acknowledged == Sure::Yes {
                return tell("acked_stays_acked");
            }
        } else if self.read.get(&(to.reader.clone(), number)) == Some(&Sure::Yes) {
            return tell("acked_stays_acked");
        }
        if self.offsets_last && !message.queue && to.delivery.attempt == 1 {
            let place = (to.session, to.delivery.subscription, to.destination);
            let offset = to.delivery.offset;
            if self.offsets.insert(place, offset).is_some_and(|before| before >= offset) {
                return tell("in_order, of a topic");
            }
        }
        if let Reader::Durable(..) = to.reader {
            let lease = self.out.get(&(to.reader.clone(), number));
            if lease.is_some_and(|lease| now.elapsed_ms + now.ahead_ms < lease.until_ms) {
                return tell("one_lease_at_a_time, of those that share a subscription");
            }
            let lease = to.lease(now);
            self.out.insert((to.reader.clone(), number), lease);
        }
        if message.queue && !to.dead {
            message.last = (to.delivery.attempt, self.life);
            message.lease = Some(to.lease(now));
        }
        message.deliveries += 1;
        // What was asked and not answered was not done.
        (message.cancelled, message.acknowledged, message.gone) = (Sure::No, Sure::No, Sure::No);
        let group = message.group.take();
        self.accepted(number, id)?;
        if let Some(group) = group {
            self.happened(group);
        }
        Ok(())
    }

    /// Leases that a predicate names are over.
    pub fn end_leases(&mut self, over: impl Fn(&Lease) -> bool) {
        for message in self.messages.values_mut() {
            message.lease = message.lease.take().filter(|lease| !over(lease));
        }
        self.out.retain(|_, lease| !over(lease));
    }

    /// The shard starts again: nobody has anything, nothing is ordered against what was before.
    pub fn new_life(&mut self) {
        self.life += 1;
        self.order.clear();
        self.offsets.clear();
        self.end_leases(|_| true);
    }

    /// A destination was deleted or may have been: its order and its readers begin anew.
    pub fn forget_destination(&mut self, destination: usize) {
        self.order.retain(|(_, own, _), _| *own != destination);
        let messages = &self.messages;
        self.read.retain(|(_, number), _| messages[number].destination != destination);
        self.out.retain(|(_, number), _| messages[number].destination != destination);
    }

    /// Messages that must be there still, or come: nobody was told otherwise.
    pub fn owed(&self, now: Times) -> impl Iterator<Item = (u64, &Message)> {
        let lives = move |message: &&Message| {
            message.accepted == Sure::Yes
                && message.cancelled == Sure::No
                && message.acknowledged == Sure::No
                && message.gone == Sure::No
                && message.expires_ms.is_none_or(|at| now.elapsed_ms + now.ahead_ms + 1 < at)
        };
        self.messages
            .iter()
            .map(|(number, message)| (*number, message))
            .filter(move |m| lives(&m.1))
    }
}

impl Message {
    /// Whether it is surely not due yet, ms ahead included.
    #[must_use]
    pub fn is_far(&self, now: Times) -> bool {
        let soon =
            Times { elapsed_ms: now.elapsed_ms + 1, wall_max_ms: now.wall_max_ms + 1, ..now };
        !self.dues.iter().any(|due| due.is_reached(soon))
    }
}
