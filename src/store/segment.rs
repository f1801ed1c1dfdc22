//! One immutable sorted file.
//!
//! ```text
//!  |header|block|block|block|...|index|footer|
//!                                  ^     ^
//!                                  mapped while the segment is open; blocks are read
//! ```
//! `docs/format.md`, section 2.1.

mod cursor;
mod writer;

use std::path::Path;
use std::sync::Arc;

use crate::env::Disk;
use crate::store::{Compression, Family, Owned, StoreError};

pub use cursor::Cursor;
pub use writer::SegmentWriter;

/// Settings of a [`SegmentWriter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentOptions {
    /// Size of a block before compression, bytes: 512 ..= 1 MiB. A row that is larger has a block
    /// of its own. Larger blocks compress better, smaller ones are read faster.
    pub block_bytes: usize,
    /// See [`Compression`].
    pub compression: Compression,
}

impl Default for SegmentOptions {
    fn default() -> Self {
        Self { block_bytes: 8 * 1024, compression: Compression::default() }
    }
}

/// What a segment says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentMeta {
    /// The file's number, never used twice in a store.
    pub number: u64,
    /// Whose rows they are.
    pub family: Family,
    /// Rows, tombstones included.
    pub rows: u64,
    /// Rows that are tombstones.
    pub tombstones: u64,
    /// Length of the file.
    pub bytes: u64,
    /// Keys and values before compression.
    pub payload_bytes: u64,
    /// Lowest key; empty when there are no rows.
    pub first_key: Box<[u8]>,
    /// Highest key; empty when there are no rows.
    pub last_key: Box<[u8]>,
    /// Lowest [`tail`](super::key::tail) of a key; 0 when there are no rows.
    pub tail_min: u64,
    /// Highest [`tail`](super::key::tail) of a key; 0 when there are no rows.
    pub tail_max: u64,
}

/// Decoded blocks that look-ups keep for the next look-up. One for each thread that looks up.
#[derive(Debug, Default)]
pub struct Scratch {}

/// An open segment. Any number of threads may read it.
pub struct Segment {
    meta: SegmentMeta,
}

impl Segment {
    /// Opens a segment and checks its header, footer and index; blocks are checked when read.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] for damage and for a file that is another one than asked for,
    /// [`StoreError::NewerVersion`], [`StoreError::Missing`], [`StoreError::Io`].
    pub fn open(
        _disk: &dyn Disk,
        path: &Path,
        _number: u64,
        _family: Family,
    ) -> Result<Self, StoreError> {
        Err(StoreError::Missing { file: path.into() })
    }

    /// What the footer says.
    #[must_use]
    pub fn meta(&self) -> &SegmentMeta {
        &self.meta
    }

    /// What the segment says of a key; `None` when nothing.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], [`StoreError::Io`].
    pub fn get(&self, _key: &[u8], _scratch: &mut Scratch) -> Result<Option<Owned>, StoreError> {
        Ok(None)
    }

    /// Reads rows in order, from this key on. Nothing is read before the first row is asked for.
    #[must_use]
    pub fn cursor(self: &Arc<Self>, from: &[u8]) -> Cursor {
        Cursor::new(self.clone(), from)
    }

    /// Reads and checks every block. `progress` gets bytes read since it was last called.
    ///
    /// # Errors
    /// The first damage: [`StoreError::Corrupt`]; [`StoreError::Io`].
    pub fn verify(&self, _progress: &mut dyn FnMut(u64)) -> Result<(), StoreError> {
        Ok(())
    }
}
