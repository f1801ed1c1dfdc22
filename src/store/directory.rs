//! The directory new files go to, and what becomes of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::env::Disk;
use crate::store::damaged::DamagedBlocks;
use crate::store::filter::{self, Filter, Noted};
use crate::store::layout::Named;
use crate::store::store::PACKED_LEVEL;
use crate::store::version::Run;
use crate::store::{
    Family, Segment, SegmentMeta, SegmentOptions, SegmentWriter, StoreError, StoreOptions, Value,
};

/// Where files are made, and the numbers they get.
pub(super) struct Directory {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) options: StoreOptions,
    /// What is done about damaged blocks, and how many there were.
    pub(super) damaged: Arc<DamagedBlocks>,
    numbers: AtomicU64,
    /// For the filters of its files.
    filters: Arc<filter::Room>,
}

impl Directory {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        options: StoreOptions,
        next: u64,
    ) -> Arc<Self> {
        let damaged = Arc::new(DamagedBlocks::new(options.on_damage));
        let numbers = AtomicU64::new(next);
        Arc::new(Self { disk, dir, options, damaged, numbers, filters: Arc::default() })
    }

    /// A number that nothing had before.
    pub(super) fn take_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// The number that comes next.
    pub(super) fn next_number(&self) -> u64 {
        self.numbers.load(Ordering::Relaxed)
    }

    /// Removes files that nothing names. What cannot be removed goes at the next opening.
    pub(super) fn remove(&self, files: &[Named]) {
        for file in files {
            let _ = self.disk.remove(&file.path(&self.dir));
        }
    }

    /// Opens a file that was written before.
    pub(super) fn open(
        &self,
        meta: &SegmentMeta,
        filter: Option<Filter>,
    ) -> Result<Arc<Segment>, StoreError> {
        let segment = open_segment(&*self.disk, &self.dir, meta)?;
        Ok(Arc::new(segment.within(self.damaged.clone()).filtered(filter)))
    }
}

/// Opens a file and sees that it is the one that is meant.
pub(super) fn open_segment(
    disk: &dyn Disk,
    dir: &Path,
    meta: &SegmentMeta,
) -> Result<Segment, StoreError> {
    let path = Named::Segment(meta.number).path(dir);
    let segment = Segment::open(disk, &path, meta.number, meta.family)?;
    if segment.meta() != meta {
        return Err(StoreError::corrupt(&path, 0, "it is not the file that the root names"));
    }
    Ok(segment)
}

/// Files that no root names yet: removed when dropped, unless they are kept.
pub(super) struct NewFiles {
    directory: Arc<Directory>,
    files: Vec<Named>,
}

impl NewFiles {
    pub(super) fn new(directory: Arc<Directory>) -> Self {
        Self { directory, files: Vec::new() }
    }

    /// Notes a file that is about to be made.
    pub(super) fn add(&mut self, file: Named) {
        self.files.push(file);
    }

    /// They are somebody else's care now.
    pub(super) fn keep(mut self) -> Vec<Named> {
        std::mem::take(&mut self.files)
    }
}

impl Drop for NewFiles {
    fn drop(&mut self) {
        self.directory.remove(&self.files);
    }
}

/// Writes one run, cut into files.
pub(super) struct RunWriter {
    directory: Arc<Directory>,
    family: Family,
    level: u32,
    open: Option<SegmentWriter>,
    segments: Vec<Arc<Segment>>,
    /// Bytes of the finished files.
    bytes: u64,
    /// Of the file that is open.
    noted: Noted,
}

impl RunWriter {
    pub(super) fn new(directory: Arc<Directory>, family: Family, level: u32) -> Self {
        Self {
            directory,
            family,
            level,
            open: None,
            segments: Vec::new(),
            bytes: 0,
            noted: Noted::default(),
        }
    }

    pub(super) fn family(&self) -> Family {
        self.family
    }

    /// Bytes of its files so far, about.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes + self.open.as_ref().map_or(0, SegmentWriter::bytes)
    }

    /// Writes a row. Keys ascend.
    pub(super) fn put(
        &mut self,
        files: &mut NewFiles,
        key: &[u8],
        value: Value<'_>,
    ) -> Result<(), StoreError> {
        let full = self.directory.options.file_bytes;
        let is_full = |open: &SegmentWriter| open.bytes() >= full || self.noted.is_full();
        if self.open.as_ref().is_some_and(is_full) {
            self.cut()?;
        }
        let writer = match &mut self.open {
            Some(open) => open,
            closed => closed.insert(create(&self.directory, files, self.family, self.level)?),
        };
        writer.put(key, value)?;
        match value {
            Value::Put(_) => self.noted.put(key),
            Value::Tombstone => self.noted.tombstone(key),
        }
        Ok(())
    }

    /// Takes over a file that was written before. Its keys are above all that were put.
    pub(super) fn adopt(&mut self, segment: Arc<Segment>) -> Result<(), StoreError> {
        self.cut()?;
        self.segments.push(segment);
        Ok(())
    }

    /// Ends the run; `None` when nothing was put.
    pub(super) fn finish(mut self) -> Result<Option<Written>, StoreError> {
        self.cut()?;
        if self.segments.is_empty() {
            return Ok(None);
        }
        let number = self.directory.take_number();
        let run = Run { number, level: self.level, segments: self.segments };
        Ok(Some(Written { run: Arc::new(run), bytes: self.bytes }))
    }

    fn cut(&mut self) -> Result<(), StoreError> {
        if let Some(writer) = self.open.take() {
            let meta = writer.finish()?;
            self.bytes += meta.bytes;
            let filter = std::mem::take(&mut self.noted).filter(&self.directory.filters);
            self.segments.push(self.directory.open(&meta, filter)?);
        }
        Ok(())
    }
}

/// A run that was written.
pub(super) struct Written {
    pub(super) run: Arc<Run>,
    /// Bytes that were written for it.
    pub(super) bytes: u64,
}

fn create(
    directory: &Directory,
    files: &mut NewFiles,
    family: Family,
    level: u32,
) -> Result<SegmentWriter, StoreError> {
    let number = directory.take_number();
    let named = Named::Segment(number);
    files.add(named);
    let Directory { disk, dir, options, .. } = directory;
    let packed = level >= PACKED_LEVEL;
    let compression = if packed { options.segment.compression } else { options.flushed };
    let options = SegmentOptions { compression, ..options.segment };
    SegmentWriter::create(&**disk, &named.path(dir), family, number, options)
}
