//! What the store consists of at one moment, for copying it while it is written to.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::env::{Disk, DiskFile, OpenMode};
use crate::store::error::Context;
use crate::store::layout::{Named, ROOT};
use crate::store::root::Root;
use crate::store::{StoreError, Version};

/// The store at one moment. Its files stay readable as long as it lives, also when flushes and merges
/// have removed their names since.
pub struct Snapshot {
    root: Vec<u8>,
    journal_from: u64,
    version: Arc<Version>,
    checkpoint: Option<Checkpoint>,
}

struct Checkpoint {
    path: PathBuf,
    bytes: u64,
    file: Box<dyn DiskFile>,
}

/// A file of a snapshot. Nobody writes to it any more, and its name is never given to another.
#[derive(Clone, Copy)]
pub struct SnapshotFile<'a> {
    /// Its name, which may be gone by now.
    pub path: &'a Path,
    /// Its length.
    pub bytes: u64,
    /// What is in it.
    pub file: &'a dyn DiskFile,
}

impl Snapshot {
    /// `version` is what `root` says.
    pub(super) fn new(
        disk: &dyn Disk,
        dir: &Path,
        root: &Root,
        version: Arc<Version>,
    ) -> Result<Self, StoreError> {
        let open = |number, bytes| {
            let path = Named::Checkpoint(number).path(dir);
            let file = disk.open(&path, OpenMode::Read).context("open", &path)?;
            Ok(Checkpoint { path, bytes, file })
        };
        let checkpoint = root.checkpoint.map(|name| open(name.number, name.bytes)).transpose()?;
        Ok(Self { root: root.encode(), journal_from: root.journal_from, version, checkpoint })
    }

    /// Name and contents of the root, which makes a store of the files. To be written last.
    #[must_use]
    pub fn root(&self) -> (&'static str, &[u8]) {
        (ROOT, &self.root)
    }

    /// The journal that goes with it begins at this segment; 0 or 1 is all of it.
    #[must_use]
    pub fn journal_from(&self) -> u64 {
        self.journal_from
    }

    /// All files but the root.
    pub fn files(&self) -> impl Iterator<Item = SnapshotFile<'_>> {
        let segments = self.version.segments().map(|segment| SnapshotFile {
            path: segment.path(),
            bytes: segment.meta().bytes,
            file: segment.file(),
        });
        let checkpoint = self.checkpoint.iter().map(|checkpoint| SnapshotFile {
            path: &checkpoint.path,
            bytes: checkpoint.bytes,
            file: &*checkpoint.file,
        });
        checkpoint.chain(segments)
    }
}
