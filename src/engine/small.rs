//! How much destinations and durable subscriptions take in a checkpoint, counted as they change.
//!
//! There are two parts, and each has its bound. The *base* is what a destination or a subscription takes
//! as long as it does nothing unusual: it is counted when it is made, and what is new is refused when
//! the base is full. The *growth* is what comes by use: further priorities of a queue, gaps of a cursor,
//! finer chunks of a topic. When it is full, new priorities and gaps are refused, and chunks are joined.
//! So a checkpoint has a bound whatever clients do, and everything that is there goes on.
//!
//! The count is never below what a checkpoint has to say. It is soft: nothing in replay is decided by it.

use crate::base::destination::{self, Kind};
use crate::base::error::{ClientError, Code};
use crate::base::id::DestinationId;
use crate::base::limits;

use super::Engine;
use super::destination::Destination;
use super::messages::SlotId;
use super::subscription::{Durable, Role, Source};
use super::topic::{CHUNKS_MAX, CHUNKS_MIN};

/// A destination without its name, bytes: `DestinationRestored`.
const DESTINATION_BYTES: u64 = 64;
/// A lane of a queue, bytes: `LaneRestored`.
const LANE_BYTES: u64 = 22;
/// Neighbouring messages of a topic, bytes: `ChunkRestored`.
const CHUNK_BYTES: u64 = 29;
/// Chunks that every topic may add in one flush.
const CHUNKS_ADDED: u64 = 2;
/// A durable subscription without its name, bytes: `SubscriptionCreated`.
const DURABLE_BYTES: u64 = 19;
/// A run of acknowledged offsets behind a gap, bytes: `TopicAcknowledged`.
const RUN_BYTES: u64 = 21;
/// The same of an inbox, and everything before its first gap, bytes: `InboxAcknowledged`.
pub(super) const INBOX_RUN_BYTES: u64 = 25;
/// Runs that every durable subscription may have.
pub(super) const RUNS_MIN: u64 = 8;
/// Runs that a durable subscription may have at most: a sixteenth of the growth, so that one is not in the
/// way of all others.
pub(super) const RUNS_MAX: usize = (limits::SMALL_STATE_GROWTH_MAX / 16 / RUN_BYTES) as usize;

/// What something takes in the next checkpoint, at most, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Small {
    /// From its beginning on.
    pub(super) base: u64,
    /// By use.
    pub(super) growth: u64,
}

impl Small {
    fn replace(&mut self, before: Self, after: Self) {
        self.base = self.base + after.base - before.base;
        self.growth = self.growth + after.growth - before.growth;
    }

    /// It is no longer there.
    pub(super) fn take(&mut self, gone: Self) {
        self.replace(gone, Self::default());
    }

    /// The count of several together.
    #[cfg(test)]
    pub(super) fn sum(all: impl Iterator<Item = Self>) -> Self {
        let mut sum = Self::default();
        all.for_each(|one| sum.replace(Self::default(), one));
        sum
    }
}

/// The base of a destination with this name. `dead_letters`: those it may get are yet to be made.
fn base_of(name: &str, kind: Kind, dead_letters: bool) -> u64 {
    let own = DESTINATION_BYTES + name.len() as u64;
    let chunks = (CHUNKS_MIN as u64 + CHUNKS_ADDED) * CHUNK_BYTES;
    match kind {
        Kind::Topic => own + chunks,
        Kind::Inbox => own + chunks + (1 + RUNS_MIN) * INBOX_RUN_BYTES,
        Kind::Queue if dead_letters => own + LANE_BYTES + base_of_dead_letters(name),
        Kind::Queue | Kind::DeadLetter | Kind::Temporary => own + LANE_BYTES,
    }
}

fn base_of_dead_letters(of: &str) -> u64 {
    let name = of.len() + destination::DEAD_LETTER_PREFIX.len();
    DESTINATION_BYTES + name as u64 + LANE_BYTES
}

impl Destination {
    fn small(&self) -> Small {
        let further = u64::from(self.queue.lanes_used() - 1) * LANE_BYTES;
        let chunks = self.topic.chunks.len().saturating_sub(CHUNKS_MIN) as u64 * CHUNK_BYTES;
        let runs = self.acknowledged.as_ref().map_or(0, |cursor| cursor.runs().len() as u64);
        let growth = match self.kind {
            Kind::Topic => chunks,
            Kind::Inbox => chunks + runs.saturating_sub(RUNS_MIN) * INBOX_RUN_BYTES,
            // Its dead letters come with the same priorities, and nobody asks then.
            Kind::Queue => 2 * further,
            Kind::DeadLetter | Kind::Temporary => further,
        };
        Small { base: base_of(&self.name, self.kind, !self.has_dead_letters), growth }
    }
}

impl Durable {
    fn small(&self) -> Small {
        let further = (self.cursor.runs().len() as u64).saturating_sub(RUNS_MIN);
        Small {
            base: DURABLE_BYTES + self.name.len() as u64 + RUNS_MIN * RUN_BYTES,
            growth: further * RUN_BYTES,
        }
    }
}

impl Engine {
    /// Counts a destination again that may have grown or shrunk.
    pub(super) fn recount(&mut self, id: DestinationId) {
        let counted = self.lanes_counted_with_queue(id);
        if let Some(destination) = self.destinations.get_mut(id) {
            let mut now = destination.small();
            now.growth = now.growth.saturating_sub(counted * LANE_BYTES);
            self.small.replace(std::mem::replace(&mut destination.counted, now), now);
        }
    }

    /// How many further lanes of dead letters their queue has counted, if it is there.
    fn lanes_counted_with_queue(&self, id: DestinationId) -> u64 {
        let Some(dead) = self.destination(id).filter(|d| d.kind == Kind::DeadLetter) else {
            return 0;
        };
        let queue = dead.name.strip_prefix(destination::DEAD_LETTER_PREFIX);
        let queue = queue.and_then(|queue| self.queue_named(queue));
        let further = |lane: &u8| *lane != limits::PRIORITY_DEFAULT;
        queue.map_or(0, |queue| {
            let both = dead.queue.lanes_to_tell().filter(|lane| queue.queue.uses_lane(*lane));
            both.filter(further).count() as u64
        })
    }

    /// The queue with this name, if it reserves a place for its dead letters.
    fn queue_named(&self, name: &str) -> Option<&Destination> {
        self.destination(*self.names.get(name)?).filter(|d| d.kind == Kind::Queue)
    }

    /// Counts a durable subscription again.
    pub(super) fn recount_durable(&mut self, subscription: u32) {
        if let Some(durable) = self.durables.get_mut(&subscription) {
            let now = durable.small();
            self.small.replace(std::mem::replace(&mut durable.counted, now), now);
        }
    }

    /// Dead letters came or went: the queue they are of has to reserve a place for them, or not.
    pub(super) fn note_dead_letters(&mut self, name: &str, there: bool) {
        let queue = name.strip_prefix(destination::DEAD_LETTER_PREFIX);
        let Some(&id) = queue.and_then(|queue| self.names.get(queue)) else { return };
        if let Some(queue) = self.destination_mut(id) {
            queue.has_dead_letters = there;
        }
        self.recount(id);
    }

    /// A queue came or went: its dead letters, if they are there, are counted with it, or by themselves.
    pub(super) fn note_queue(&mut self, name: &str) {
        if let Some(&dead) = self.names.get(destination::dead_letter_name(name).as_str()) {
            self.recount(dead);
        }
    }

    /// What a destination that is to be made takes of the base, bytes.
    pub(super) fn small_base_for(&self, name: &str) -> u64 {
        let kind = destination::kind_of(name).unwrap_or(Kind::Queue);
        // Dead letters have a place with their queue, and a queue needs none for those that are there.
        let queue = name.strip_prefix(destination::DEAD_LETTER_PREFIX);
        if kind == Kind::DeadLetter && queue.is_some_and(|queue| self.queue_named(queue).is_some())
        {
            return 0;
        }
        let dead_letters = self.names.contains_key(destination::dead_letter_name(name).as_str());
        base_of(name, kind, !dead_letters)
    }

    /// Refuses a durable subscription for which there is no room in the small state.
    pub(super) fn check_small_for_durable(&self, name: &str) -> Result<(), ClientError> {
        let bytes = DURABLE_BYTES + name.len() as u64 + RUNS_MIN * RUN_BYTES;
        self.check_base(bytes, Code::TooManySubscriptions)
    }

    /// Refuses so many bytes more of the base than there is room for.
    pub(super) fn check_base(&self, more: u64, code: Code) -> Result<(), ClientError> {
        if more == 0 {
            return Ok(());
        }
        let (taken, most) = (self.small.base, limits::SMALL_STATE_BASE_MAX);
        if taken + more > most {
            return Err(ClientError::new(
                code,
                format!(
                    "destinations and durable subscriptions take {taken} of {most} bytes; \
                     delete some that are not used"
                ),
            ));
        }
        Ok(())
    }

    pub(super) fn growth_left(&self) -> u64 {
        limits::SMALL_STATE_GROWTH_MAX.saturating_sub(self.small.growth)
    }

    /// Refuses a priority that a queue has not used yet when there is no room for another one.
    pub(super) fn check_priority(
        &self,
        id: DestinationId,
        priority: u8,
    ) -> Result<(), ClientError> {
        match self.destination(id) {
            Some(d) if self.is_new_lane(Some(id), d.kind, priority) => {
                self.check_lanes(&d.name, priority, 1)
            }
            _ => Ok(()),
        }
    }

    /// Whether a destination of this kind would have a priority for the first time. `id` is `None` when it
    /// is yet to be made.
    pub(super) fn is_new_lane(&self, id: Option<DestinationId>, kind: Kind, priority: u8) -> bool {
        let used = match id.and_then(|id| self.destination(id)) {
            Some(destination) => destination.queue.uses_lane(priority),
            None => priority == limits::PRIORITY_DEFAULT,
        };
        kind.is_queue() && !used
    }

    /// Refuses so many priorities that queues would have for the first time, of which this is one, when
    /// there is no room for them.
    pub(super) fn check_lanes(
        &self,
        name: &str,
        priority: u8,
        more: u64,
    ) -> Result<(), ClientError> {
        if self.growth_left() < 2 * LANE_BYTES * more {
            return Err(ClientError::new(
                Code::TooManyDestinations,
                format!(
                    "{name} has had no message of priority {priority}, and the server keeps track of no \
                     further priorities; use one it has had, or delete queues that are not used"
                ),
            ));
        }
        Ok(())
    }

    /// Whether a topic subscription would have one run of acknowledged offsets behind a gap too many if
    /// it acknowledged these. The lowest gap can always be closed, so it goes on whatever this says.
    pub(super) fn opens_run_too_many(&self, slot: SlotId, from: u64, to: u64) -> bool {
        let growth_left = self.growth_left();
        let Some(cursor) = self.cursor(slot) else { return false };
        if !cursor.opens_run(from, to) {
            return false;
        }
        let runs = cursor.runs().len();
        let durable = match self.slots.get(slot).map(|s| &s.role) {
            Some(Role::Reader(reader)) => reader.durable(),
            _ => return false,
        };
        if durable.is_some() {
            runs >= RUNS_MAX || runs >= RUNS_MIN as usize && growth_left < RUN_BYTES
        } else {
            runs >= limits::CURSOR_RUNS_MAX
        }
    }

    /// Lets go of what a cursor knows below `kept_from`: it is gone. What a checkpoint says is the same
    /// before and after.
    pub(super) fn raise_cursor(&mut self, slot: SlotId, kept_from: u64) {
        let Some(Role::Reader(reader)) = self.slots.get_mut(slot).map(|s| &mut s.role) else {
            return;
        };
        match &mut reader.source {
            Source::Own(own) => own.cursor.raise(kept_from),
            Source::Durable(durable) => {
                let durable = *durable;
                self.raise_durable(durable, kept_from);
            }
        }
    }

    /// The same for a durable subscription.
    pub(super) fn raise_durable(&mut self, durable: u32, kept_from: u64) {
        if let Some(subscription) = self.durables.get_mut(&durable)
            && subscription.cursor.floor() < kept_from
        {
            subscription.cursor.raise(kept_from);
            self.recount_durable(durable);
        }
    }

    /// The same for all of them, before they are written down.
    pub(super) fn raise_durables(&mut self) {
        let kept_from = |durable: &Durable| {
            self.destination(durable.destination).map_or(0, |d| d.topic.first_offset)
        };
        let low = |(number, durable): (&u32, &Durable)| {
            let kept_from = kept_from(durable);
            (durable.cursor.floor() < kept_from).then_some((*number, kept_from))
        };
        let low: Vec<(u32, u64)> = self.durables.iter().filter_map(low).collect();
        for (durable, kept_from) in low {
            self.raise_durable(durable, kept_from);
        }
        self.raise_inboxes();
    }

    /// Into how many chunks each of these topics may be cut in a flush, given how many messages it has
    /// in memory. In order: what one takes is not there for the next.
    pub(super) fn chunks_allowed(&self) -> impl FnMut(u64) -> u64 + use<> {
        let mut left = self.growth_left() / CHUNK_BYTES;
        move |wanted| {
            let further = wanted.saturating_sub(CHUNKS_ADDED).min(left);
            left -= further;
            wanted.min(CHUNKS_ADDED + further)
        }
    }

    /// Joins chunks of a topic that has got some.
    pub(super) fn join_new_chunks(&mut self, id: DestinationId) {
        self.join_chunks(id, CHUNKS_MAX);
        if self.small.growth > limits::SMALL_STATE_GROWTH_MAX {
            self.join_chunks(id, CHUNKS_MIN);
        }
    }

    /// Joins chunks of a topic until it has so many, or fewer.
    pub(super) fn join_chunks(&mut self, id: DestinationId, most: usize) {
        if let Some(destination) = self.destination_mut(id) {
            destination.topic.join_chunks(most);
        }
        self.recount(id);
    }
}
