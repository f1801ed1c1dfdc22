//! What a session asks of the engine, and what it is answered.

use std::sync::Arc;

use bytes::Bytes;

use crate::base::destination::Kind;
use crate::base::error::ClientError;
use crate::base::id::{Key, MessageId};
use crate::base::lifecycle::State;
use crate::base::message::{Delay, MessageBatch};
use crate::base::recur::Rule;

/// One request of a session. Names are raw bytes: the engine judges them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Publish messages to one destination, now or later.
    Produce {
        /// Destination name; created when it does not exist, save temporary queues.
        destination: Bytes,
        /// The messages.
        batch: MessageBatch,
    },
    /// Publish messages again and again. Each becomes a recurring schedule: its id is what list, query,
    /// cancel and reschedule go by, and each of its runs publishes a copy with an id of its own.
    Repeat {
        /// Destination name; created when it does not exist.
        destination: Bytes,
        /// When they come.
        rule: Rule,
        /// The messages.
        batch: MessageBatch,
    },
    /// Publish, acknowledge and reject: all of it or nothing, decided and made durable at once.
    Transaction {
        /// 1 to [`limits::TRANSACTION_PARTS_MAX`](crate::base::limits::TRANSACTION_PARTS_MAX) parts.
        parts: Vec<Part>,
    },
    /// Tell the state of messages.
    Query {
        /// At least one id.
        ids: Vec<MessageId>,
    },
    /// Cancel scheduled messages.
    Cancel {
        /// At least one id.
        ids: Vec<MessageId>,
    },
    /// Give scheduled messages another due time; they keep their ids.
    Reschedule {
        /// Id and new delay.
        items: Vec<(MessageId, Delay)>,
    },
    /// Receive messages of a destination.
    Subscribe(Subscribe),
    /// Stop receiving. What is in flight goes back.
    Unsubscribe {
        /// The session's number of the subscription.
        subscription: u32,
        /// Forget a durable subscription for ever.
        delete: bool,
    },
    /// Acknowledge deliveries.
    Acknowledge {
        /// The session's number of the subscription; 0 acknowledges queue messages by id alone.
        subscription: u32,
        /// At least one id.
        ids: Vec<MessageId>,
        /// Also everything this subscription was delivered before each id, or this consumer, if it shares
        /// it.
        cumulative: bool,
    },
    /// Reject deliveries.
    Reject {
        /// The session's number of the subscription; 0 rejects queue messages by id alone.
        subscription: u32,
        /// At least one id.
        ids: Vec<MessageId>,
        /// `true` delivers again, `false` makes it a dead letter at once (queues only).
        requeue: bool,
    },
    /// List scheduled messages in order of due time.
    List {
        /// Only of this destination; empty lists all.
        destination: Bytes,
        /// From this due time on, ms.
        from_ms: u64,
        /// Up to and including this due time, ms.
        to_ms: u64,
        /// Most entries wanted.
        limit: u32,
        /// Continue behind this key (the token of the page before).
        after: Option<Key>,
    },
    /// Read a topic from an offset, without a subscription.
    Fetch {
        /// Topic name.
        destination: Bytes,
        /// First offset wanted.
        offset: u64,
        /// Most messages wanted.
        limit: u32,
    },
    /// List destinations in order of name.
    ListDestinations {
        /// Continue behind this name; empty begins.
        after: Bytes,
        /// Most entries wanted.
        limit: u32,
    },
    /// Create a destination.
    CreateDestination {
        /// Its name.
        name: Bytes,
    },
    /// Delete a destination and everything in it.
    DeleteDestination {
        /// Its name.
        name: Bytes,
    },
    /// Describe a destination.
    DescribeDestination {
        /// Its name.
        name: Bytes,
    },
    /// Drop what is ready in a destination. What is in flight stays.
    PurgeDestination {
        /// Its name.
        name: Bytes,
        /// Drop what is scheduled for it, too.
        scheduled: bool,
    },
    /// Hand out nothing of a destination, or hand out again.
    PauseDestination {
        /// Its name.
        name: Bytes,
        /// `true` stops, `false` goes on.
        paused: bool,
    },
    /// Set how much a destination may hold, and for how long. `None` leaves a limit as it is.
    LimitDestination {
        /// Its name.
        name: Bytes,
        /// Most messages, scheduled ones included; 0 as many as come.
        max_messages: Option<u64>,
        /// How old a ready message may grow, ms; 0 as its kind does by default.
        max_age_ms: Option<u64>,
    },
    /// Counters of the server.
    Stats,
    /// Copy the data directory as it is now.
    Backup {
        /// Where to: an absolute path on the server's machine, to an empty directory or to nothing.
        directory: Bytes,
    },
}

impl Command {
    /// The messages it publishes, with the destination they go to.
    pub fn batches(&self) -> impl Iterator<Item = (&Bytes, &MessageBatch)> {
        let (batch, parts) = match self {
            Self::Produce { destination, batch } | Self::Repeat { destination, batch, .. } => {
                (Some((destination, batch)), &[][..])
            }
            Self::Transaction { parts } => (None, &parts[..]),
            _ => (None, &[][..]),
        };
        batch.into_iter().chain(parts.iter().filter_map(Part::batch))
    }
}

/// One part of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// See [`Command::Produce`].
    Produce {
        /// Destination name; created when it does not exist.
        destination: Bytes,
        /// The messages.
        batch: MessageBatch,
    },
    /// See [`Command::Acknowledge`].
    Acknowledge {
        /// The session's number of the subscription; not 0.
        subscription: u32,
        /// At least one id.
        ids: Vec<MessageId>,
        /// Also everything this subscription was delivered before each id.
        cumulative: bool,
    },
    /// See [`Command::Reject`].
    Reject {
        /// The session's number of the subscription; not 0.
        subscription: u32,
        /// At least one id.
        ids: Vec<MessageId>,
        /// `true` delivers again, `false` makes it a dead letter at once (queues only).
        requeue: bool,
    },
}

impl Part {
    /// The messages it publishes, with the destination they go to.
    #[must_use]
    pub fn batch(&self) -> Option<(&Bytes, &MessageBatch)> {
        match self {
            Self::Produce { destination, batch } => Some((destination, batch)),
            _ => None,
        }
    }

    /// The messages it acknowledges or rejects.
    #[must_use]
    pub fn ids(&self) -> &[MessageId] {
        match self {
            Self::Produce { .. } => &[],
            Self::Acknowledge { ids, .. } | Self::Reject { ids, .. } => ids,
        }
    }
}

/// What became of a part of a transaction that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartDone {
    /// Published: one a message.
    Produced(Vec<Produced>),
    /// Acknowledged or rejected: one verdict an id.
    Verdicts(Vec<Verdict>),
}

/// Where a new subscription of a topic begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartAt {
    /// Of an inbox: what its user has not acknowledged, by whatever session. Of a topic: as
    /// [`Self::Latest`].
    #[default]
    Unread,
    /// Messages that arrive from now on.
    Latest,
    /// Everything the topic still keeps.
    Earliest,
    /// This offset, or the oldest kept after it.
    Offset(u64),
}

/// A wish to receive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Number chosen by the session, at least 1.
    pub subscription: u32,
    /// Destination name, or a [pattern](crate::base::pattern) of topics. A destination is created when it does not
    /// exist. A temporary queue that comes to be by it belongs to
    /// the session, and nobody else may subscribe to it.
    pub destination: Bytes,
    /// Most unacknowledged messages at once.
    pub credit: u32,
    /// Ack timeout in ms; 0 takes the default.
    pub ack_timeout_ms: u64,
    /// Name of a durable topic subscription; empty for an ephemeral one. Queues need none.
    pub durable: Bytes,
    /// Where a new subscription begins; a durable one that exists goes on where it was.
    pub start: StartAt,
    /// Share the durable subscription with others that do: each message goes to one of them.
    pub shared: bool,
}

/// The answer to one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// One result a message of the batch.
    Produced(Vec<Result<Produced, Box<ClientError>>>),
    /// One status an id.
    Statuses(Vec<Status>),
    /// One verdict an id: of cancel, reschedule, acknowledge, reject.
    Verdicts(Vec<Verdict>),
    /// A transaction was done: one outcome a part.
    Transacted(Vec<PartDone>),
    /// Subscribed; for topics the first offset to come.
    Subscribed {
        /// First offset that will be delivered; 0 for queues and patterns.
        next_offset: u64,
    },
    /// Done, nothing to tell.
    Done,
    /// A page of scheduled messages.
    Scheduled(SchedulePage),
    /// Messages of a topic.
    Fetched {
        /// The messages, in order of offset.
        messages: Vec<Delivery>,
        /// Offset the next fetch should begin at.
        next_offset: u64,
    },
    /// A page of destinations.
    Destinations(Vec<DestinationInfo>),
    /// One destination.
    Destination(DestinationInfo),
    /// What a purge dropped.
    Purged(Purged),
    /// Counters by name.
    Stats(Vec<(&'static str, u64)>),
    /// A backup was made and is on stable storage.
    BackedUp(BackedUp),
    /// The command as a whole was refused.
    Failed(ClientError),
}

/// A message was accepted and is as durable as the configured mode promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    /// Its id; the first message's id when this was a duplicate.
    pub id: MessageId,
    /// The dedup id was seen before: nothing was stored again.
    pub duplicate: bool,
}

/// What is known about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The id asked for.
    pub id: MessageId,
    /// Where it stands.
    pub state: State,
    /// Its destination while it lives; empty afterwards.
    pub destination: Arc<str>,
    /// Current due time in ms; 0 when not known. Of a recurring schedule its next run.
    pub due_ms: u64,
    /// Deliveries so far. Of a recurring schedule its runs so far.
    pub attempts: u32,
    /// It is a recurring schedule.
    pub recurring: bool,
}

/// Whether an action on a message took place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The id asked for.
    pub id: MessageId,
    /// `true`: done now, durable. `false`: not done, because of `state`.
    pub done: bool,
    /// Where the message stands after the action.
    pub state: State,
    /// Current due time in ms where it has one; else 0.
    pub due_ms: u64,
}

/// A page of scheduled messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SchedulePage {
    /// Entries in order of (due, sequence).
    pub entries: Vec<Status>,
    /// There may be more: ask again behind this key.
    pub next: Option<Key>,
}

/// Messages dropped by a purge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Purged {
    /// They were ready (topics: kept).
    pub ready: u64,
    /// They were scheduled.
    pub scheduled: u64,
}

/// What a backup consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BackedUp {
    /// Files of store and journal.
    pub files: u64,
    /// Their length.
    pub bytes: u64,
    /// Those of them that are the server's own files under a second name.
    pub linked_files: u64,
    /// Length of those.
    pub linked_bytes: u64,
}

/// A destination as told to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationInfo {
    /// Name.
    pub name: Arc<str>,
    /// Kind.
    pub kind: Kind,
    /// Messages scheduled for it.
    pub scheduled: u64,
    /// Messages ready in it (topics: kept).
    pub ready: u64,
    /// Messages in flight.
    pub in_flight: u64,
    /// Subscriptions attached now.
    pub consumers: u64,
    /// Topics and inboxes: the next offset; queues: 0.
    pub next_offset: u64,
    /// Inboxes: messages kept that the user has not acknowledged; others: 0.
    pub unread: u64,
    /// Nothing of it is handed to consumers.
    pub paused: bool,
    /// Most messages it holds, scheduled ones included; 0 as many as come.
    pub max_messages: u64,
    /// How old a ready message may grow, ms; 0 as its kind does by default.
    pub max_age_ms: u64,
}

/// One message on its way to a subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The session's number of the subscription; 0 in answers to fetch.
    pub subscription: u32,
    /// The subscription has a pattern: its client knows the destination from here only.
    pub by_pattern: bool,
    /// Name of its destination. Empty in a client that was not told, because it knows.
    pub destination: Arc<str>,
    /// Id of the message.
    pub id: MessageId,
    /// Time it became due, ms.
    pub due_ms: u64,
    /// Counts from 1; above 1 means it may have been delivered before.
    pub attempt: u32,
    /// Offset on a topic; 0 on queues.
    pub offset: u64,
    /// Priority.
    pub priority: u8,
    /// Encoded content.
    pub content: Arc<[u8]>,
}

/// What goes from a shard to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// The answer to a request.
    Answer {
        /// The request's tag, as given with it.
        tag: u64,
        /// The answer.
        answer: Answer,
    },
    /// A message for a subscription.
    Deliver(Delivery),
    /// A subscription was ended by the server (its destination is gone).
    Ended {
        /// The session's number of the subscription.
        subscription: u32,
        /// Why.
        reason: ClientError,
    },
}
