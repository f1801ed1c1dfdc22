//! F2: the store, where messages lie that wait long.
//!
//! Rows of a key and a value, in three families, in immutable sorted files (*segments*). The
//! bytes are described in `docs/format.md`, the plan in `docs/design/0004-segment-store.md`.

mod checkpoint;
mod damaged;
mod directory;
mod error;
mod filter;
mod flush;
pub mod key;
mod layout;
mod merge;
mod merging;
mod policy;
mod root;
mod sealed;
mod segment;
mod snapshot;
mod stats;
#[expect(clippy::module_inception, reason = "the module is named for it")]
mod store;
mod verify;
mod version;

pub use damaged::OnDamage;
pub use error::StoreError;
pub use flush::Flush;
pub use merge::{Liveness, Merge};
pub use merging::{LiveRow, MergeCursor};
pub use policy::MergePlan;
pub use segment::{Cursor, OnRow, Scratch, Segment, SegmentMeta, SegmentOptions, SegmentWriter};
pub use snapshot::{Snapshot, SnapshotFile};
pub use stats::{FamilyStats, StoreStats};
pub use store::{Opened, Store, StoreOptions};
pub use verify::{Damage, Judges, Summary, VerifyReport, verify};
pub use version::{Run, Version};

/// Kinds of rows. Each has its own runs of segments and its own form of key, see [`key`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Family {
    /// Messages not due yet, by due time and sequence.
    Scheduled = 1,
    /// Messages due, by destination, lane and position.
    Ready = 2,
    /// Everything else, by kind.
    Record = 3,
}

impl Family {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Scheduled, Self::Ready, Self::Record];

    /// The family of this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|family| *family as u8 == number)
    }
}

/// What a row says of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// These bytes.
    Put(&'a [u8]),
    /// Nothing, and what older runs say of it no longer holds.
    Tombstone,
}

/// A [`Value`] that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owned {
    /// These bytes.
    Put(bytes::Bytes),
    /// Nothing, and what older runs say of it no longer holds.
    Tombstone,
}

/// How blocks are written. Each block says it of itself, so it may change between two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// As they are: look-ups cost less, the disk more.
    None,
    /// Zstandard, level 1. A block that does not get smaller by an eighth is kept as it is.
    #[default]
    Zstd,
}
