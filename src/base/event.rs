//! Facts. The journal holds them, the engine's durable state is a function of them.
//!
//! Everything computed once is stored in the event (ids, resolved due times), so replay computes
//! nothing again. Each batch of events travels with its [`BatchMeta`].

use crate::base::id::{DestinationId, Key, MessageId};
use crate::base::lifecycle::State;
use crate::base::time::{ClockKind, Now, Pace};

/// What a batch says beside its events.
///
/// To apply a batch: fire everything in the wheel up to and including `fired_to`, then apply the
/// events in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchMeta {
    /// The time the batch was decided at.
    pub now: Now,
    /// Firing watermark after this batch: nothing at or below it is left in the wheel.
    pub fired_to: Key,
}

/// What operators have decided about a destination. All zero, as it begins, restricts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Control {
    /// Nothing is handed to consumers.
    pub paused: bool,
    /// Most messages it holds, scheduled ones included; 0 as many as come.
    pub max_messages: u64,
    /// How old a ready message may grow, ms; 0 as its kind does by default.
    pub max_age_ms: u64,
    /// A scheduled message with a sequence below is dropped when it is met: it has been purged.
    pub purged_before: u64,
}

/// Message sequences as they stand in an event: 8 bytes each, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sequences<'a>(&'a [u8]);

impl<'a> Sequences<'a> {
    /// Writes sequences down, for [`Self::from_bytes`].
    #[must_use]
    pub fn to_bytes(sequences: &[u64]) -> Vec<u8> {
        sequences.iter().flat_map(|sequence| sequence.to_le_bytes()).collect()
    }

    /// The sequences in these bytes; `None` when the bytes end inside one.
    #[must_use]
    pub fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        bytes.len().is_multiple_of(8).then_some(Self(bytes))
    }

    /// The bytes they stand in.
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// One after the other.
    pub fn iter(self) -> impl Iterator<Item = u64> + 'a {
        self.0.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes))
    }
}

/// A delivery attempt failed because of this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FailureReason {
    /// Not acknowledged in time.
    Timeout = 1,
    /// The subscriber rejected it.
    Rejected = 2,
}

/// One fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A destination came to be.
    DestinationCreated {
        /// Its number.
        destination: DestinationId,
        /// Its name.
        name: &'a str,
    },
    /// A destination and everything in it is gone.
    DestinationDeleted {
        /// Its number.
        destination: DestinationId,
    },
    /// Messages of a destination were dropped by an operator. Topics drop what is kept by
    /// [`Event::TopicTrimmed`].
    DestinationPurged {
        /// Its number.
        destination: DestinationId,
        /// What was ready in a queue is gone, save what is in `spared`.
        ready: bool,
        /// What was scheduled is gone.
        scheduled: bool,
        /// All of them were accepted before this sequence.
        before: u64,
        /// What was in flight stays. Who holds a message is not known after a restart, so the fact
        /// itself has to say which ones were out.
        spared: Sequences<'a>,
    },
    /// A destination stopped handing out messages, or began again.
    DestinationPaused {
        /// Its number.
        destination: DestinationId,
        /// It stopped.
        paused: bool,
    },
    /// A destination got other limits.
    DestinationLimited {
        /// Its number.
        destination: DestinationId,
        /// Most messages it holds; 0 as many as come.
        max_messages: u64,
        /// How old a ready message may grow, ms; 0 as its kind does by default.
        max_age_ms: u64,
    },
    /// A message was accepted.
    Produced {
        /// Its id: due time, shard, sequence.
        id: MessageId,
        /// Where to.
        destination: DestinationId,
        /// 0..=9.
        priority: u8,
        /// Which clock judges its due time.
        clock: ClockKind,
        /// It was due when accepted: ready without the wheel.
        at_once: bool,
        /// It is a recurring schedule: its content begins with a [`Plan`](crate::base::recur::Plan).
        recurring: bool,
        /// Expiry on the monotonic line in ms; 0 never.
        expires_mono_ms: u64,
        /// Dedup id; empty none.
        dedup: &'a [u8],
        /// Encoded content.
        content: &'a [u8],
    },
    /// A scheduled message was cancelled.
    Cancelled {
        /// Which.
        id: MessageId,
        /// Where it was to go. Said, like its due time, because the message itself may lie in the
        /// store: no one reads it to forget it.
        destination: DestinationId,
        /// Its due time, ms.
        due_ms: u64,
    },
    /// A scheduled message got another due time.
    Rescheduled {
        /// Which.
        id: MessageId,
        /// New due time, ms.
        due_ms: u64,
        /// Which clock judges it.
        clock: ClockKind,
        /// It was due when rescheduled.
        at_once: bool,
    },
    /// A run of a recurring schedule: copies of its message were published, and it has another due time
    /// or is over.
    Occurred {
        /// Which schedule.
        id: MessageId,
        /// How many copies; 0 when the run was skipped, or none was planned yet.
        copies: u32,
        /// The first copy's id. Those of the others follow, each due `step_ms` later.
        first: MessageId,
        /// The first copy was due at once.
        at_once: bool,
        /// From each copy to the next, ms.
        step_ms: u64,
        /// Expiry of the first copy on the monotonic line, ms; 0 never. The others expire `step_ms`
        /// later each.
        expires_mono_ms: u64,
        /// The schedule's next due time, ms; 0: this was the last.
        due_ms: u64,
        /// Which clock judges it.
        clock: ClockKind,
        /// When its next run is planned, ms: at its due time, or behind it when that is too far away.
        planned_ms: u64,
        /// Its runs so far.
        runs: u32,
    },
    /// A queue message was acknowledged.
    Acknowledged {
        /// Which.
        id: MessageId,
    },
    /// A delivery of a queue message failed.
    Failed {
        /// Which.
        id: MessageId,
        /// Why.
        reason: FailureReason,
    },
    /// A queue message was given up and moved to dead letters.
    Dead {
        /// Which.
        id: MessageId,
        /// The dead letter destination it moved to.
        destination: DestinationId,
    },
    /// A queue message was given up and dropped: its queue has no dead letters.
    GivenUp {
        /// Which.
        id: MessageId,
    },
    /// A message's time to live passed, or the age that its destination allows.
    Expired {
        /// Which.
        id: MessageId,
    },
    /// A durable subscription of a topic came to be.
    SubscriptionCreated {
        /// Its number, never reused.
        subscription: u32,
        /// Which topic.
        destination: DestinationId,
        /// Its name.
        name: &'a str,
        /// First offset it wants.
        next_offset: u64,
    },
    /// A durable subscription was deleted.
    SubscriptionDeleted {
        /// Which.
        subscription: u32,
    },
    /// A durable subscription acknowledged a run of offsets.
    TopicAcknowledged {
        /// Which.
        subscription: u32,
        /// First offset of the run.
        from: u64,
        /// Last offset of the run, included.
        to: u64,
    },
    /// A user acknowledged a run of offsets of an inbox, by any session. In a checkpoint: what the
    /// user has acknowledged.
    InboxAcknowledged {
        /// Which inbox.
        destination: DestinationId,
        /// The durable subscription that did it, and has acknowledged them too; 0: none.
        subscription: u32,
        /// First offset of the run.
        from: u64,
        /// Last offset of the run, included.
        to: u64,
    },
    /// A topic dropped its oldest messages.
    TopicTrimmed {
        /// Which.
        destination: DestinationId,
        /// The first offset kept.
        before: u64,
    },
    /// Messages of a queue's lane were handed out. No state changes by it that a restart keeps, but
    /// it says which messages later events are about.
    HandedOut {
        /// Which queue.
        destination: DestinationId,
        /// Which lane.
        lane: u8,
        /// Everything up to this position was handed out at least once.
        to: u64,
    },
    /// Checkpoint: numbers that only grow.
    Counters {
        /// Next message sequence.
        next_sequence: u64,
        /// Next destination number.
        next_destination: u32,
        /// Next durable subscription number.
        next_subscription: u32,
        /// Next position of a message that becomes ready.
        next_position: u64,
    },
    /// Checkpoint: a destination as it stands.
    DestinationRestored {
        /// Its number.
        destination: DestinationId,
        /// Its name.
        name: &'a str,
        /// Topics: first offset kept.
        first_offset: u64,
        /// Topics: the offset the next message gets.
        next_offset: u64,
        /// Scheduled messages that lie in the store.
        scheduled: u64,
        /// Ready messages that lie in the store.
        ready: u64,
        /// What operators have decided about it.
        control: Control,
    },
    /// Checkpoint: a lane of a queue as it stands.
    LaneRestored {
        /// Which queue.
        destination: DestinationId,
        /// Which lane.
        lane: u8,
        /// Everything up to this position was handed out at least once.
        handed_to: u64,
        /// Nothing of the lane in the store has a higher position.
        cold_to: u64,
    },
    /// Checkpoint: neighbouring messages of a topic that lie in the store, oldest first.
    ChunkRestored {
        /// Which topic.
        destination: DestinationId,
        /// Just past the last offset.
        end: u64,
        /// Content bytes.
        bytes: u64,
        /// When the youngest came, on the monotonic line, ms.
        since_mono_ms: u64,
    },
    /// Checkpoint: how the engine line goes on when it is ahead of both clocks.
    LineRestored {
        /// Up to where, ms.
        pace: Pace,
    },
    /// Checkpoint: a message that is not in the store because it was handed out.
    Restored {
        /// Its id.
        id: MessageId,
        /// Where it is.
        destination: DestinationId,
        /// Current due time, ms.
        due_ms: u64,
        /// Scheduled, Ready or Dead.
        state: State,
        /// 0..=9.
        priority: u8,
        /// Which clock judges its due time.
        clock: ClockKind,
        /// It is a recurring schedule.
        recurring: bool,
        /// Expiry on the monotonic line in ms; 0 never.
        expires_mono_ms: u64,
        /// Failed deliveries so far.
        failures: u16,
        /// Once fired: its offset on a topic, its position in a queue. While scheduled: the due time of
        /// its key when it was put back, ms, or 0.
        offset: u64,
        /// Encoded content.
        content: &'a [u8],
    },
    /// Checkpoint: the outcome of a finished message.
    Finished {
        /// Which.
        id: MessageId,
        /// How it ended.
        state: State,
    },
}

/// Takes events in the order they happen. The shard's one encodes them for the journal.
pub trait EventSink {
    /// Records one event.
    fn record(&mut self, event: &Event<'_>);
}

/// A sink that forgets: for replay, where the events are on disk already.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoSink;

impl EventSink for NoSink {
    fn record(&mut self, _event: &Event<'_>) {}
}
