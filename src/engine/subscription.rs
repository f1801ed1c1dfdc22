//! Subscriptions and leases: who receives what, and what is out with whom.
//!
//! All of it is soft state of the live engine, save what a durable subscription has acknowledged.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use crate::base::id::{DestinationId, SessionId};
use crate::base::limits;

use super::cursor::Cursor;
use super::messages::SlotId;
use super::small::Small;
use super::thaw::Ahead;

/// A durable subscription of a topic: a named cursor that outlives its sessions.
#[derive(Debug)]
pub(super) struct Durable {
    pub(super) destination: DestinationId,
    pub(super) name: Box<str>,
    pub(super) cursor: Cursor,
    /// Who is attached to it: one, or several that share it, in turn.
    pub(super) members: VecDeque<SlotId>,
    /// They share it.
    pub(super) shared: bool,
    /// Where it stands in this run.
    pub(super) reading: Reading,
    /// Its part of the engine's count of small state.
    pub(super) counted: Small,
}

impl Durable {
    pub(super) fn new(destination: DestinationId, name: &str, cursor: Cursor) -> Self {
        Self {
            destination,
            name: name.into(),
            cursor,
            members: VecDeque::new(),
            shared: false,
            reading: Reading::default(),
            counted: Small::default(),
        }
    }

    /// Begins to be read, by somebody who is to be attached next.
    pub(super) fn begin(&mut self, kept_from: u64, shared: bool) {
        self.shared = shared;
        self.reading.next = self.cursor.next_gap(self.cursor.floor().max(kept_from));
    }

    /// One that was attached is no longer. What was out with it comes again.
    pub(super) fn leave(&mut self, slot: SlotId, out: BTreeMap<u64, Out>) {
        self.members.retain(|other| *other != slot);
        let again = out.into_iter().map(|(offset, out)| (offset, out.attempt));
        self.reading.again.extend(again);
        if self.members.is_empty() {
            self.reading = Reading { handed: self.reading.hand_over(), ..Reading::default() };
        }
    }
}

/// What earlier sessions of a durable subscription may have seen; soft. Two numbers instead of a
/// record an offset: an attempt may be told too high, never one that was told before.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Handed {
    /// Offsets below may have been delivered.
    pub(super) below: u64,
    /// The highest attempt among them.
    pub(super) attempts: u16,
}

/// How far a subscription has read a topic, beside what it acknowledged; soft. Those that share a durable
/// one share this.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// What went to sessions before.
    pub(super) handed: Handed,
    /// Next offset to deliver for the first time.
    pub(super) next: u64,
    /// To deliver again: offset to deliveries so far.
    pub(super) again: BTreeMap<u64, u16>,
    /// Read from the store for what is handed out next.
    pub(super) ahead: VecDeque<Ahead>,
    /// Offsets the store should have and has not, before those of `ahead`.
    pub(super) missing: Range<u64>,
}

impl Reading {
    /// What the next session of the same durable subscription has to know, when nothing is out.
    fn hand_over(&self) -> Handed {
        let attempts = self.again.values().copied().max().unwrap_or(0);
        Handed {
            below: self.handed.below.max(self.next),
            attempts: self.handed.attempts.max(attempts).max(1),
        }
    }
}

/// An attached subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) session: SessionId,
    /// The session's own number for it.
    pub(super) number: u32,
    pub(super) destination: DestinationId,
    pub(super) credit: u32,
    pub(super) ack_timeout_ms: u64,
    /// Messages out and not acknowledged.
    pub(super) in_flight: u32,
    /// Content bytes out and not acknowledged.
    pub(super) bytes_in_flight: usize,
    /// When the oldest leases run out, in order: ack timeouts are equal within a subscription.
    /// Entries whose lease has ended are dropped lazily.
    pub(super) deadlines: VecDeque<Deadline>,
    /// The engine timer that stands for the front of `deadlines`, ms.
    pub(super) timer: Option<u64>,
    /// It stands in its queue's list of waiting consumers, or in the line of its pattern.
    pub(super) waiting: bool,
    /// The subscription with a pattern that it is a part of.
    pub(super) pattern: Option<u32>,
    /// Its session is handed no deliveries for now.
    pub(super) paused: bool,
    pub(super) role: Role,
}

/// What a subscription is about.
#[derive(Debug)]
pub(super) enum Role {
    /// Takes messages of a work queue.
    Consumer,
    /// Reads a topic.
    Reader(Reader),
}

/// The end of one lease.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    pub(super) at_mono_ms: u64,
    /// Queue: the sequence. Topic: the offset.
    pub(super) position: u64,
    /// Which delivery of the message this lease was.
    pub(super) attempt: u16,
}

/// Reads a topic.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) source: Source,
    /// Out, by offset.
    pub(super) out: BTreeMap<u64, Out>,
    /// Out and no longer in memory: sequence to offset, for those below `lost_below`. The message
    /// cannot tell its offset, and its credit must not wait for the timeout.
    pub(super) lost: BTreeMap<u64, u64>,
    pub(super) lost_below: u64,
}

/// Whose place in the topic a reader goes by.
#[derive(Debug)]
pub(super) enum Source {
    /// Its own: an ephemeral one.
    Own(Box<Own>),
    /// That of the durable subscription with this number.
    Durable(u32),
}

/// An ephemeral subscription's place in a topic.
#[derive(Debug)]
pub(super) struct Own {
    /// What it has acknowledged.
    pub(super) cursor: Cursor,
    pub(super) reading: Reading,
}

impl Source {
    /// One's own, beginning behind what this cursor has acknowledged.
    pub(super) fn own(cursor: Cursor) -> Self {
        let next = cursor.next_gap(cursor.floor());
        Self::Own(Box::new(Own { cursor, reading: Reading { next, ..Reading::default() } }))
    }

    /// The place it stands for; `None`: its durable subscription is gone.
    pub(super) fn place<'a>(
        &'a mut self,
        durables: &'a mut BTreeMap<u32, Durable>,
    ) -> Option<(&'a Cursor, &'a mut Reading)> {
        match self {
            Self::Own(own) => Some((&own.cursor, &mut own.reading)),
            Self::Durable(number) => {
                let durable = durables.get_mut(number)?;
                Some((&durable.cursor, &mut durable.reading))
            }
        }
    }
}

/// A topic message that is out with a subscription.
#[derive(Debug, Clone, Copy)]
pub(super) struct Out {
    /// Which delivery it is.
    pub(super) attempt: u16,
    /// Its content bytes.
    pub(super) bytes: usize,
    pub(super) sequence: u64,
}

impl Reader {
    pub(super) fn new(source: Source) -> Self {
        Self { source, out: BTreeMap::new(), lost: BTreeMap::new(), lost_below: 0 }
    }

    /// The number of its durable subscription, if it has one.
    pub(super) fn durable(&self) -> Option<u32> {
        match self.source {
            Source::Own(_) => None,
            Source::Durable(number) => Some(number),
        }
    }

    /// Begins a lease.
    pub(super) fn put_out(&mut self, offset: u64, out: Out) {
        self.out.insert(offset, out);
        // It was read from below: when it is dropped there, nobody else knows its offset.
        if offset < self.lost_below {
            self.lost.insert(out.sequence, offset);
        }
    }

    /// Ends a lease.
    pub(super) fn take_out(&mut self, offset: u64) -> Option<Out> {
        let out = self.out.remove(&offset)?;
        if offset < self.lost_below {
            self.lost.remove(&out.sequence);
        }
        Some(out)
    }

    /// The offset of a message that is out although memory has only what is from `hot_from` on.
    /// Each lease is noted once, so many questions cost no search each.
    pub(super) fn lost_offset(&mut self, sequence: u64, hot_from: u64) -> Option<u64> {
        if self.lost_below < hot_from {
            let dropped = self.out.range(self.lost_below..hot_from);
            self.lost.extend(dropped.map(|(offset, out)| (out.sequence, *offset)));
            self.lost_below = hot_from;
        }
        self.lost.get(&sequence).copied()
    }
}

impl Subscription {
    pub(super) fn new(
        session: SessionId,
        number: u32,
        destination: DestinationId,
        credit: u32,
        ack_timeout_ms: u64,
        role: Role,
    ) -> Self {
        Self {
            session,
            number,
            destination,
            credit,
            ack_timeout_ms,
            in_flight: 0,
            bytes_in_flight: 0,
            deadlines: VecDeque::new(),
            timer: None,
            waiting: false,
            pattern: None,
            paused: false,
            role,
        }
    }

    /// Room for one more message in flight.
    pub(super) fn has_credit(&self) -> bool {
        !self.paused
            && self.in_flight < self.credit
            && (self.in_flight == 0
                || self.bytes_in_flight < limits::SUBSCRIPTION_BYTES_IN_FLIGHT_MAX)
    }

    pub(super) fn took(&mut self, bytes: usize, deadline: Deadline) {
        self.in_flight += 1;
        self.bytes_in_flight += bytes;
        self.deadlines.push_back(deadline);
    }

    pub(super) fn released(&mut self, bytes: usize) {
        self.in_flight -= 1;
        self.bytes_in_flight -= bytes;
    }

    /// Whether `deadlines` holds so many ended leases that it should be cleaned.
    pub(super) fn deadlines_need_cleaning(&self) -> bool {
        self.deadlines.len() > 2 * self.in_flight as usize + 64
    }
}

/// Attached subscriptions by slot; slots are used again.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Vec<Option<Subscription>>,
    free: Vec<u32>,
}

impl Slots {
    pub(super) fn insert(&mut self, subscription: Subscription) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(subscription);
            slot
        } else {
            self.slots.push(Some(subscription));
            (self.slots.len() - 1) as u32
        }
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Subscription> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Subscription> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<Subscription> {
        let subscription = self.slots.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(subscription)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Subscription)> {
        (0u32..).zip(&self.slots).filter_map(|(slot, s)| Some((slot, s.as_ref()?)))
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
