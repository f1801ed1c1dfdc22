//! One immutable sorted file.
//!
//! ```text
//!  |header|block|block|block|...|index|footer|
//!                                  ^
//!                                  mapped while the segment is open; the rest is read
//! ```
//! The bytes are described in `docs/format.md`, section 2.1.

mod block;
mod cursor;
mod gathered;
mod index;
mod layout;
mod scratch;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::limits::STORE_BLOCK_BYTES;
use crate::env::{Disk, DiskFile, MappedBytes, OpenMode};
use crate::store::damaged::{DamagedBlocks, MetBlocks};
use crate::store::error::Context;
use crate::store::filter::Filter;
use crate::store::segment::index::{Entry, Index};
use crate::store::segment::layout::{
    Damaged, FOOTER_BYTES, Footer, HEADER_BYTES, NotThisHeader, VERSION, salted_checksum,
};
use crate::store::{Compression, Family, OnDamage, Owned, StoreError};

pub use cursor::Cursor;
pub use scratch::Scratch;
pub use verify::OnRow;
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
        Self { block_bytes: STORE_BLOCK_BYTES, compression: Compression::default() }
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

/// An open segment. Any number of threads may read it. It takes well below a KiB of memory, however
/// long it is: its index is looked at where it lies.
pub struct Segment {
    meta: SegmentMeta,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    index: MappedBytes,
    index_offset: u64,
    blocks: u32,
    /// Tells it from every other segment this process has open, also of other stores.
    id: u64,
    /// What is done about damaged blocks: the store's setting, alone [`OnDamage::Stop`].
    damaged: Arc<DamagedBlocks>,
    /// Those of this file that were met.
    met: MetBlocks,
    filter: Option<Filter>,
}

impl Segment {
    /// Opens a segment and checks its header, footer and index; blocks are checked when read.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] for damage and for a file that is another one than asked for,
    /// [`StoreError::NewerVersion`], [`StoreError::Missing`], [`StoreError::Io`].
    pub fn open(
        disk: &dyn Disk,
        path: &Path,
        number: u64,
        family: Family,
    ) -> Result<Self, StoreError> {
        static OPENED: AtomicU64 = AtomicU64::new(0);
        let corrupt = |at, Damaged(why): Damaged| StoreError::corrupt(path, at, why);
        let file = disk.open(path, OpenMode::Read).context("open", path)?;
        let file_bytes = file.len().context("read", path)?;
        let mut header = [0; HEADER_BYTES];
        read(file.as_ref(), path, &mut header, 0)?;
        layout::check_header(&header, number, family).map_err(|error| match error {
            NotThisHeader::Damaged(damage) => corrupt(0, damage),
            NotThisHeader::Newer(found) => {
                StoreError::NewerVersion { file: path.into(), found, supported: VERSION }
            }
        })?;
        let footer_at = file_bytes.saturating_sub(FOOTER_BYTES as u64);
        let mut footer = [0; FOOTER_BYTES];
        read(file.as_ref(), path, &mut footer, footer_at)?;
        let footer = Footer::decode(&footer, number, family, file_bytes)
            .map_err(|damage| corrupt(footer_at, damage))?;
        let index_offset = footer.index_offset;
        let index = file.map(index_offset, footer.index_bytes).context("map", path)?;
        let bytes = index.as_ref().as_ref();
        if salted_checksum(number, index_offset, bytes) != footer.index_crc {
            return Err(corrupt(index_offset, Damaged("the index has a wrong checksum")));
        }
        Index::new(bytes, footer.blocks).map_err(|damage| corrupt(index_offset, damage))?;
        Ok(Self {
            meta: footer.meta,
            path: path.into(),
            file,
            index,
            index_offset,
            blocks: footer.blocks,
            id: OPENED.fetch_add(1, Ordering::Relaxed),
            damaged: Arc::default(),
            met: MetBlocks::default(),
            filter: None,
        })
    }

    /// From now on it is part of a store, which says what is done about damaged blocks.
    pub(super) fn within(self, damaged: Arc<DamagedBlocks>) -> Self {
        Self { damaged, ..self }
    }

    /// From now on look-ups ask this first.
    pub(super) fn filtered(self, filter: Option<Filter>) -> Self {
        Self { filter, ..self }
    }

    /// What the footer says.
    #[must_use]
    pub fn meta(&self) -> &SegmentMeta {
        &self.meta
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &dyn DiskFile {
        &*self.file
    }

    /// What the segment says of a key; `None` when nothing, or when the block that would say it is
    /// damaged and to be skipped.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], [`StoreError::Io`].
    pub fn get(&self, key: &[u8], scratch: &mut Scratch) -> Result<Option<Owned>, StoreError> {
        if key < &*self.meta.first_key || key > &*self.meta.last_key {
            return Ok(None);
        }
        if self.filter.as_ref().is_some_and(|filter| !filter.may_hold(key)) {
            return Ok(None);
        }
        match self.find(key)? {
            none if none >= self.blocks => Ok(None),
            block => scratch.look_up(self, block, key).or_else(|error| {
                self.pass(block, error, self.damaged.on_damage)?;
                Ok(None)
            }),
        }
    }

    /// Reads rows in order, from this key on. Nothing is read before the first row is asked for.
    /// Damaged blocks are skipped when the segment is part of a store that says so.
    #[must_use]
    pub fn cursor(self: &Arc<Self>, from: &[u8]) -> Cursor {
        Cursor::new(self.clone(), from, self.damaged.on_damage)
    }

    /// The same, and damage is an error whatever the store says: for merges, which would drop what
    /// they do not see. It counts as met all the same.
    pub(super) fn cursor_that_stops(self: &Arc<Self>, from: &[u8]) -> Cursor {
        Cursor::new(self.clone(), from, OnDamage::Stop)
    }

    /// Whether somebody met a damaged block with keys above this one.
    pub(super) fn has_damage_above(&self, floor: Option<&[u8]>) -> bool {
        let Some(last) = self.met.last() else { return false };
        // What cannot be told is not merged.
        self.entry(last).map_or(true, |entry| floor.is_none_or(|floor| entry.last_key > floor))
    }

    /// What becomes of an error met while reading a block. `Ok`: it is damage of this block alone,
    /// and the reader goes on behind it.
    fn pass(&self, block: u32, error: StoreError, reader: OnDamage) -> Result<(), StoreError> {
        if self.damaged.on_damage == OnDamage::Stop {
            return Err(error);
        }
        let StoreError::Corrupt { offset, why, .. } = &error else { return Err(error) };
        let entry = self.entry(block)?;
        if !(entry.offset..entry.end()).contains(offset) {
            return Err(error);
        }
        self.met.meet(block, &self.damaged, &self.path, *offset, why);
        if reader == OnDamage::Stop { Err(error) } else { Ok(()) }
    }

    fn index(&self) -> Result<Index<'_>, StoreError> {
        let index = Index::new(self.index.as_ref().as_ref(), self.blocks);
        index.map_err(|damage| self.damaged_index(damage))
    }

    /// The first block that can hold `key` or a higher one; the number of blocks when none can.
    fn find(&self, key: &[u8]) -> Result<u32, StoreError> {
        self.index()?.find(key).map_err(|damage| self.damaged_index(damage))
    }

    /// Where a block is: within the file, and not longer than blocks are.
    fn entry(&self, block: u32) -> Result<Entry<'_>, StoreError> {
        let entry = self.index()?.entry(block).map_err(|damage| self.damaged_index(damage))?;
        let wrong = entry.offset < HEADER_BYTES as u64
            || entry.end() > self.index_offset
            || entry.bytes as usize > block::HEADER_BYTES + block::RAW_BYTES_MAX;
        if wrong {
            return Err(self.damaged_index(Damaged("the index names a block that cannot be")));
        }
        Ok(entry)
    }

    /// Reads what lies between two places of the file; empties the buffer when that fails.
    fn read_blocks(&self, from: u64, to: u64, buffer: &mut Vec<u8>) -> Result<(), StoreError> {
        block::resize(buffer, (to - from) as usize);
        let done = read(self.file.as_ref(), &self.path, buffer, from);
        if done.is_err() {
            buffer.clear();
        }
        done
    }

    fn damaged(&self, offset: u64, Damaged(why): Damaged) -> StoreError {
        StoreError::corrupt(&self.path, offset, why)
    }

    fn damaged_block(&self, block: u32, damage: Damaged) -> StoreError {
        match self.entry(block) {
            Ok(entry) => self.damaged(entry.offset, damage),
            Err(error) => error,
        }
    }

    fn damaged_index(&self, damage: Damaged) -> StoreError {
        self.damaged(self.index_offset, damage)
    }

    fn damaged_footer(&self, damage: Damaged) -> StoreError {
        self.damaged(self.meta.bytes - FOOTER_BYTES as u64, damage)
    }
}

fn read(
    file: &dyn DiskFile,
    path: &Path,
    buffer: &mut [u8],
    offset: u64,
) -> Result<(), StoreError> {
    let read = file.read_at(buffer, offset).context("read", path)?;
    if read < buffer.len() {
        return Err(StoreError::corrupt(path, offset + read as u64, "the file ends too early"));
    }
    Ok(())
}
