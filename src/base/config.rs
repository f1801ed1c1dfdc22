//! What a user may set, with defaults. Reading it from files is done above.

use crate::base::limits;

/// What an acknowledgement to a producer survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Synced before every acknowledgement: survives process crash, OS crash and power loss.
    #[default]
    Always,
    /// Written before, synced every so many ms: survives a process crash; an OS crash or power
    /// loss may lose up to one interval.
    Interval {
        /// Time between syncs, ms.
        every_ms: u64,
    },
    /// Written before, synced when the OS likes: survives a process crash only.
    Os,
}

/// Settings of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardConfig {
    /// See [`Durability`].
    pub durability: Durability,
    /// Size of a journal segment file in bytes; a multiple of 4096, at least 40 MiB.
    pub segment_bytes: u64,
    /// Memory that messages should take, bytes: what is more goes to disk. For a short while it may
    /// be twice as much; new messages are refused at [`limits::MEMORY_TIMES_MAX`] times.
    pub memory: u64,
    /// Journal after which what is alive is written out, bytes: what a restart has to read.
    pub journal_tail: u64,
    /// Free space on the disk below which new messages are refused, bytes.
    pub disk_reserve: u64,
    /// Most destinations.
    pub max_destinations: usize,
    /// Messages a topic keeps.
    pub topic_messages: u64,
    /// Bytes a topic keeps.
    pub topic_bytes: u64,
    /// How long a topic keeps a message, ms.
    pub topic_age_ms: u64,
    /// Default ack timeout, ms.
    pub ack_timeout_ms: u64,
    /// Failed deliveries after which a queue message is dead.
    pub max_failures: u16,
}

impl Default for ShardConfig {
    fn default() -> Self {
        Self {
            durability: Durability::Always,
            segment_bytes: limits::SEGMENT_BYTES,
            memory: limits::MEMORY_BYTES,
            journal_tail: limits::JOURNAL_TAIL_BYTES,
            disk_reserve: limits::DISK_RESERVE_BYTES,
            max_destinations: limits::DESTINATIONS_MAX,
            topic_messages: limits::TOPIC_MESSAGES_MAX,
            topic_bytes: limits::TOPIC_BYTES_MAX,
            topic_age_ms: limits::TOPIC_AGE_MAX_MS,
            ack_timeout_ms: limits::ACK_TIMEOUT_MS,
            max_failures: limits::FAILED_DELIVERIES_MAX,
        }
    }
}
