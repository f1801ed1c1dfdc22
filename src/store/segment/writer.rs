//! Writing a segment, front to back.

use std::path::Path;

use crate::env::Disk;
use crate::store::segment::{SegmentMeta, SegmentOptions};
use crate::store::{Family, StoreError, Value};

/// Writes a segment. After an error, and when dropped unfinished, it leaves a file that is none:
/// remove it.
pub struct SegmentWriter {
    bytes: u64,
}

impl SegmentWriter {
    /// Begins a file; one that has the name already is overwritten.
    ///
    /// # Errors
    /// [`StoreError::BadOptions`], [`StoreError::Full`], [`StoreError::Io`].
    pub fn create(
        _disk: &dyn Disk,
        path: &Path,
        _family: Family,
        _number: u64,
        _options: SegmentOptions,
    ) -> Result<Self, StoreError> {
        Err(StoreError::Missing { file: path.into() })
    }

    /// Adds a row. Keys have 1 ..= 255 bytes and rise strictly; values have up to 2 MiB.
    ///
    /// # Errors
    /// [`StoreError::BadRow`], [`StoreError::Full`], [`StoreError::Io`].
    pub fn put(&mut self, _key: &[u8], _value: Value<'_>) -> Result<(), StoreError> {
        Ok(())
    }

    /// Length of the file so far, index included: what it will have when finished now, within a
    /// block.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes index and footer and syncs the file. Its name is durable after a sync of the
    /// directory, which is the caller's.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::Io`].
    pub fn finish(self) -> Result<SegmentMeta, StoreError> {
        Err(StoreError::BadRow(""))
    }
}
