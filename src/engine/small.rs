//! How much destinations and durable subscriptions take in a checkpoint, counted as they change.
//!
//! Each of them knows what it was last counted with, so a change costs one difference. The count is
//! never below what a checkpoint has to say: some of what they may grow by is counted from the start.
//! What is there grows as it must; only what is new is refused. The count is soft: nothing in replay is
//! decided by it.

use crate::base::destination::{self, Kind};
use crate::base::error::{ClientError, Code};
use crate::base::id::DestinationId;
use crate::base::limits;

use super::Engine;
use super::destination::Destination;
use super::freeze::CHUNK;
use super::subscription::Durable;

/// A destination without its name, bytes: `DestinationRestored`.
const DESTINATION_BYTES: u64 = 64;
/// A lane of a queue, bytes: `LaneRestored`.
const LANE_BYTES: u64 = 22;
/// Neighbouring messages of a topic, bytes: `ChunkRestored`.
pub(super) const CHUNK_BYTES: u64 = 29;
/// A durable subscription without its name, bytes: `SubscriptionCreated`.
const DURABLE_BYTES: u64 = 19;
/// A run of acknowledged offsets behind a gap, bytes: `TopicAcknowledged`.
const RUN_BYTES: u64 = 21;
/// Runs of a durable subscription that are counted whether it has them or not.
const RUNS_COUNTED: u64 = 8;

impl Destination {
    /// The most it takes in the next checkpoint, bytes. A queue has a lane and a topic has a chunk
    /// before the first message.
    fn small_bytes(&self) -> u64 {
        let more = if self.kind.is_queue() {
            u64::from(self.queue.lanes_used().max(1)) * LANE_BYTES
        } else {
            let in_memory = self.topic.log.len() as u64 / CHUNK + 1;
            (self.topic.chunks.len() as u64 + in_memory) * CHUNK_BYTES
        };
        DESTINATION_BYTES + self.name.len() as u64 + more
    }
}

/// What a new destination takes.
fn bytes_of_new(name: &str) -> u64 {
    let queue = destination::kind_of(name).unwrap_or(Kind::Queue).is_queue();
    DESTINATION_BYTES + name.len() as u64 + if queue { LANE_BYTES } else { CHUNK_BYTES }
}

impl Durable {
    fn small_bytes(&self) -> u64 {
        let runs = (self.cursor.runs().len() as u64).max(RUNS_COUNTED);
        DURABLE_BYTES + self.name.len() as u64 + runs * RUN_BYTES
    }
}

impl Engine {
    /// Counts a destination again that may have grown or shrunk.
    pub(super) fn recount(&mut self, id: DestinationId) {
        if let Some(Some(destination)) = self.destinations.get_mut(id.0 as usize) {
            let bytes = destination.small_bytes();
            let before = std::mem::replace(&mut destination.counted_bytes, bytes);
            self.small_bytes = self.small_bytes + bytes - before;
        }
    }

    /// Counts a durable subscription again.
    pub(super) fn recount_durable(&mut self, subscription: u32) {
        if let Some(durable) = self.durables.get_mut(&subscription) {
            let bytes = durable.small_bytes();
            let before = std::mem::replace(&mut durable.counted_bytes, bytes);
            self.small_bytes = self.small_bytes + bytes - before;
        }
    }

    /// Refuses a destination for which there is no room in the small state.
    pub(super) fn check_small_for_destination(&self, name: &str) -> Result<(), ClientError> {
        self.check_small(bytes_of_new(name), Code::TooManyDestinations)
    }

    /// The same for a durable subscription.
    pub(super) fn check_small_for_durable(&self, name: &str) -> Result<(), ClientError> {
        let bytes = DURABLE_BYTES + name.len() as u64 + RUNS_COUNTED * RUN_BYTES;
        self.check_small(bytes, Code::TooManySubscriptions)
    }

    fn check_small(&self, more: u64, code: Code) -> Result<(), ClientError> {
        let (taken, most) = (self.small_bytes, limits::SMALL_STATE_BYTES_MAX);
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
}
