//! Writing a segment, front to back.

use std::path::{Path, PathBuf};

use crate::base::limits::{STORE_BLOCK_RANGE_BYTES, STORE_KEY_BYTES_MAX, STORE_VALUE_BYTES_MAX};
use crate::env::{Disk, DiskFile, OpenMode};
use crate::store::error::Context;
use crate::store::key::tail;
use crate::store::segment::block::{BlockBuilder, Packer};
use crate::store::segment::gathered::Gathered;
use crate::store::segment::index::{Entry, IndexBuilder};
use crate::store::segment::layout::{FOOTER_BYTES, Footer, encode_header, salted_checksum};
use crate::store::segment::{SegmentMeta, SegmentOptions};
use crate::store::{Family, StoreError, Value};

/// Bytes gathered for one write.
const WRITE_BYTES: usize = 1 << 20;

/// Writes a segment. After an error, and when dropped unfinished, it leaves a file that is none:
/// remove it.
///
/// Needs some 2 MiB of memory, and for the index an entry for each block.
pub struct SegmentWriter {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    block_bytes: usize,
    packer: Packer,
    block: BlockBuilder,
    index: IndexBuilder,
    /// Bytes that stand at `written` of the file, once they are there.
    out: Gathered,
    written: u64,
    /// The last key, for the order of keys and for what the next one shares with it.
    last_key: Vec<u8>,
    meta: SegmentMeta,
}

impl SegmentWriter {
    /// Begins a file; one that has the name already is removed.
    ///
    /// # Errors
    /// [`StoreError::BadOptions`], [`StoreError::Full`], [`StoreError::Io`].
    pub fn create(
        disk: &dyn Disk,
        path: &Path,
        family: Family,
        number: u64,
        options: SegmentOptions,
    ) -> Result<Self, StoreError> {
        if !STORE_BLOCK_RANGE_BYTES.contains(&options.block_bytes) {
            return Err(StoreError::BadOptions("a block has from 512 bytes to 1 MiB"));
        }
        let packer = Packer::new(options.compression).context("prepare", path)?;
        // Another file under this name is removed and not emptied: somebody may have it mapped.
        if disk.exists(path).context("look for", path)? {
            disk.remove(path).context("remove", path)?;
        }
        let file = disk.open(path, OpenMode::Bulk).context("create", path)?;
        let meta = SegmentMeta {
            number,
            family,
            rows: 0,
            tombstones: 0,
            bytes: 0,
            payload_bytes: 0,
            first_key: Box::default(),
            last_key: Box::default(),
            tail_min: u64::MAX,
            tail_max: 0,
        };
        Ok(Self {
            file,
            path: path.into(),
            block_bytes: options.block_bytes,
            packer,
            block: BlockBuilder::default(),
            index: IndexBuilder::default(),
            out: Gathered::new(&encode_header(number, family), WRITE_BYTES),
            written: 0,
            last_key: Vec::new(),
            meta,
        })
    }

    /// Adds a row. Keys have 1 ..= 255 bytes and rise strictly; values have up to 2 MiB.
    ///
    /// # Errors
    /// [`StoreError::BadRow`]: the row is not added, and the writer goes on. [`StoreError::Full`],
    /// [`StoreError::Io`].
    pub fn put(&mut self, key: &[u8], value: Value<'_>) -> Result<(), StoreError> {
        let value_bytes = match value {
            Value::Put(value) => value.len(),
            Value::Tombstone => 0,
        };
        if !(1..=STORE_KEY_BYTES_MAX).contains(&key.len()) {
            return Err(StoreError::BadRow("a key has from 1 to 255 bytes"));
        }
        if value_bytes > STORE_VALUE_BYTES_MAX {
            return Err(StoreError::BadRow("a value has at most 2 MiB"));
        }
        let shared = key.iter().zip(&self.last_key).take_while(|(new, last)| new == last).count();
        // Without a last key nothing is shared, and every key is longer than that.
        let rises = match (key.get(shared), self.last_key.get(shared)) {
            (Some(new), Some(last)) => new > last,
            (new, _) => new.is_some(),
        };
        if !rises {
            return Err(StoreError::BadRow("its key is not above the one before"));
        }
        let payload = key.len() + value_bytes;
        if !self.block.is_empty() && !self.block.has_room(payload, self.block_bytes) {
            self.seal_block()?;
        }
        self.block.push(shared, key, value);
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(&key[shared..]);
        let meta = &mut self.meta;
        if meta.rows == 0 {
            meta.first_key = key.into();
        }
        meta.rows += 1;
        meta.tombstones += u64::from(value == Value::Tombstone);
        meta.payload_bytes += payload as u64;
        meta.tail_min = meta.tail_min.min(tail(key));
        meta.tail_max = meta.tail_max.max(tail(key));
        Ok(())
    }

    /// Length the file would have when finished now. The block that is being filled counts as it is
    /// before compression.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let rest = self.block.len() + self.index.len() + FOOTER_BYTES;
        self.end() + rest as u64
    }

    /// Writes index and footer and syncs the file. Its name is durable after a sync of the
    /// directory, which is the caller's. A segment without rows is a valid one.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::Io`].
    pub fn finish(mut self) -> Result<SegmentMeta, StoreError> {
        if !self.block.is_empty() {
            self.seal_block()?;
        }
        let blocks = self.index.blocks();
        let index_offset = self.end();
        let index = self.index.finish();
        let index_bytes = index.len() as u64;
        let mut meta = self.meta;
        meta.bytes = index_offset + index_bytes + FOOTER_BYTES as u64;
        meta.last_key = self.last_key.into();
        meta.tail_min = meta.tail_min.min(meta.tail_max);
        let index_crc = salted_checksum(meta.number, index_offset, &index);
        let footer = Footer { meta, index_offset, index_bytes, index_crc, blocks };
        self.out.end().extend(index);
        self.out.end().extend(footer.encode());
        self.file.write_at(self.out.all(), self.written).context("write", &self.path)?;
        self.file.sync_data().context("sync", &self.path)?;
        Ok(footer.meta)
    }

    /// Where the file ends when all that was gathered is written.
    fn end(&self) -> u64 {
        self.written + self.out.len() as u64
    }

    fn seal_block(&mut self) -> Result<(), StoreError> {
        let offset = self.end();
        let number = self.meta.number;
        let packed = self.packer.pack(&mut self.block, number, offset, self.out.end());
        packed.context("pack", &self.path)?;
        let bytes = (self.end() - offset) as u32;
        if !self.index.push(Entry { offset, bytes, last_key: &self.last_key }) {
            return Err(StoreError::BadRow("the segment is full: begin another"));
        }
        if self.out.len() >= WRITE_BYTES {
            let whole = self.out.whole();
            self.file.write_at(whole, self.written).context("write", &self.path)?;
            self.written += whole.len() as u64;
            self.out.drop_whole();
        }
        Ok(())
    }
}
