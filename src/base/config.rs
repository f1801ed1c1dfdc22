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

/// What is done about damage: bytes that were durable and are no longer what they were, or files that
/// are gone. A torn tail is no damage. The journal is read when it is opened, the store whenever
/// something in it is wanted; of the store, only blocks of rows can be passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecoveryPolicy {
    /// Stop and name the place; change nothing.
    #[default]
    Strict,
    /// Let the journal end at the first damage. Everything behind it is lost, also what was
    /// acknowledged, and kept in the directory `quarantine`. For the store the same as strict.
    TruncateTail,
    /// Leave out what is damaged and go on behind it. What it held is lost and kept in the directory
    /// `quarantine`; what comes behind may build on it. A damaged block of the store is passed over, and
    /// stays where it is.
    SkipDamaged,
}

impl RecoveryPolicy {
    /// All of them, with their names in the configuration.
    pub const ALL: [(&'static str, Self); 3] = [
        ("strict", Self::Strict),
        ("truncate-tail", Self::TruncateTail),
        ("skip-damaged", Self::SkipDamaged),
    ];

    /// The name in the configuration.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, policy)| *policy == self).map_or("", |(word, _)| word)
    }
}

/// Settings of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardConfig {
    /// See [`Durability`].
    pub durability: Durability,
    /// What is done about damage.
    pub recovery: RecoveryPolicy,
    /// Size of a journal segment file in bytes; a multiple of 4096, at least 40 MiB.
    pub segment_bytes: u64,
    /// Memory that messages should take, bytes: what is more goes to disk. For a short while it may
    /// be twice as much; new messages are refused at [`limits::MEMORY_TIMES_MAX`] times.
    pub memory: u64,
    /// Journal after which what is alive is written out, bytes: what a restart has to read.
    pub journal_tail: u64,
    /// Free space on the disk below which new messages are refused, bytes.
    pub disk_reserve: u64,
    /// Most destinations; fewer when [`limits::SMALL_STATE_BASE_MAX`] is reached before.
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
            recovery: RecoveryPolicy::Strict,
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
