//! What lies in the store: where a row stands, what it says.

use crate::base::id::{DestinationId, Key, MessageId};
use crate::base::time::ClockKind;

/// Where a message stands in the store: its row's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Among the scheduled ones, by due time.
    Scheduled(Key),
    /// In a destination, by lane and position. A topic has one lane, 0, and its positions are
    /// offsets; a queue has a lane a priority.
    Ready {
        /// Which destination.
        destination: DestinationId,
        /// Which lane.
        lane: u8,
        /// Where in the lane.
        position: u64,
    },
}

/// A message as its row says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored<'a> {
    /// Where it stands.
    pub place: Place,
    /// Its public id.
    pub id: MessageId,
    /// Where to.
    pub destination: DestinationId,
    /// Current due time, ms.
    pub due_ms: u64,
    /// Which clock judges it.
    pub clock: ClockKind,
    /// 0..=9.
    pub priority: u8,
    /// Expiry on the monotonic line in ms; 0 never.
    pub expires_mono_ms: u64,
    /// Failed deliveries so far.
    pub failures: u16,
    /// It is a recurring schedule: its content begins with a [`Plan`](crate::base::recur::Plan).
    pub recurring: bool,
    /// Encoded content.
    pub content: &'a [u8],
}

/// A deduplication id and what it stands for, as its row says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered<'a> {
    /// Which destination it was used with.
    pub destination: DestinationId,
    /// The id as the client sent it.
    pub dedup: &'a [u8],
    /// The message it stands for.
    pub id: MessageId,
    /// Forgotten from then on, on the monotonic line, ms.
    pub until_mono_ms: u64,
}

/// Rows that a command looks at and that have to be handed in before it is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Scheduled rows in order.
    Scheduled {
        /// Behind this key.
        after: Key,
        /// Due up to and including this time, ms.
        to_ms: u64,
        /// Of this destination only.
        only: Option<DestinationId>,
        /// So many are enough.
        limit: usize,
    },
    /// Messages of a topic.
    Topic {
        /// Which topic.
        destination: DestinationId,
        /// From this offset on.
        from: u64,
        /// So many are enough.
        limit: usize,
    },
}

/// What the engine wants to have read from the store before it can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// The next messages of a queue's lane, from this position on.
    Lane {
        /// Which queue.
        destination: DestinationId,
        /// Which lane.
        lane: u8,
        /// From this position on.
        from: u64,
    },
    /// Messages of a topic for one of its subscriptions, from this offset on.
    Topic {
        /// Which topic.
        destination: DestinationId,
        /// From this offset on.
        from: u64,
        /// For which subscription of the engine.
        slot: u32,
    },
}
