//! Reads a store offline and reports everything that is damaged. Changes nothing.

use std::path::{Path, PathBuf};

use crate::env::Disk;
use crate::store::directory::open_segment;
use crate::store::error::Context;
use crate::store::layout::{Named, ROOT, ROOT_NEW};
use crate::store::root::Root;
use crate::store::segment::OnRow;
use crate::store::store::named_by;
use crate::store::{StoreError, checkpoint};

/// A place that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// What is wrong there.
    pub why: String,
}

impl Damage {
    /// An error as damage; `file` and `offset` are where it was met, should it not say so itself.
    pub(super) fn of(error: StoreError, file: &Path, offset: u64) -> Self {
        match error {
            StoreError::Corrupt { file, offset, why } => Self { file, offset, why },
            StoreError::Missing { file } => Self { file, offset: 0, why: "it is missing".into() },
            StoreError::Io { op, file, source } => {
                Self { file, offset, why: format!("cannot {op} it: {source}") }
            }
            error => Self { file: file.into(), offset, why: error.to_string() },
        }
    }
}

/// What the root of a store says at one moment. Two are equal when it was not replaced in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    root: Root,
}

impl Summary {
    /// Reads the root; `None` when nothing was ever stored, or there is no such directory.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when there is no root beside other files of a store,
    /// [`StoreError::Corrupt`], [`StoreError::NewerVersion`], [`StoreError::Io`].
    pub fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, StoreError> {
        if !disk.exists(dir).context("look for", dir)? {
            return Ok(None);
        }
        if let Some(root) = Root::read(disk, dir)? {
            return Ok(Some(Self { root }));
        }
        let names = disk.list(dir).context("list", dir)?;
        if names.iter().any(|name| Named::parse(name).is_some()) {
            return Err(StoreError::Missing { file: dir.join(ROOT) });
        }
        Ok(None)
    }

    /// The journal is needed from this segment on; 0 or 1 is all of it.
    #[must_use]
    pub fn journal_from(&self) -> u64 {
        self.root.journal_from
    }

    /// Length of all files that it names.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let segments: u64 = self.root.segments().map(|(_, meta)| meta.bytes).sum();
        segments + self.root.checkpoint.map_or(0, |name| name.bytes)
    }
}

/// What [`verify`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Segment files that the root names.
    pub segments: u64,
    /// Length of these files.
    pub segment_bytes: u64,
    /// Rows in them, tombstones included.
    pub rows: u64,
    /// Rows that are tombstones.
    pub tombstones: u64,
    /// Length of the checkpoint file, bytes; 0 when there is none.
    pub checkpoint_bytes: u64,
    /// Files the root does not name: left by a crash, and removed when the store is opened. They
    /// are not read.
    pub unnamed: Vec<PathBuf>,
    /// Everything damaged or missing. Empty means sound.
    pub damage: Vec<Damage>,
}

/// What the bytes mean is for the caller to judge: a text that is returned is told as damage.
pub struct Judges<'a> {
    /// Judges a row.
    pub row: OnRow<'a>,
    /// Judges the checkpoint.
    pub checkpoint: &'a mut dyn FnMut(&[u8]) -> Result<(), String>,
}

/// Reads every file that the root names, every block of it, and goes on behind damage. Without a
/// sound root nothing else is read: what the files mean is not known then. `on_progress` is told
/// bytes done and bytes in all. A directory that is not there holds nothing.
///
/// # Errors
/// [`StoreError::NewerVersion`] of the root; [`StoreError::Io`] when directory or root cannot be
/// read. A file that cannot be read is damaged.
pub fn verify(
    disk: &dyn Disk,
    dir: &Path,
    judges: Judges<'_>,
    on_progress: &mut dyn FnMut(u64, u64),
) -> Result<VerifyReport, StoreError> {
    let mut report = VerifyReport::default();
    let summary = match Summary::read(disk, dir) {
        Ok(Some(summary)) => summary,
        Ok(None) => return Ok(report),
        Err(error @ (StoreError::Corrupt { .. } | StoreError::Missing { .. })) => {
            report.damage.push(Damage::of(error, &dir.join(ROOT), 0));
            return Ok(report);
        }
        Err(error) => return Err(error),
    };
    let root = &summary.root;
    let named = named_by(root);
    let names = disk.list(dir).context("list", dir)?;
    let unnamed = names.iter().filter(|name| {
        *name == ROOT_NEW || Named::parse(name).is_some_and(|file| !named.contains(&file))
    });
    report.unnamed = unnamed.map(|name| dir.join(name)).collect();
    let total = summary.bytes();
    let mut before = 0;
    if let Some(name) = root.checkpoint {
        let path = Named::Checkpoint(name.number).path(dir);
        report.checkpoint_bytes = name.bytes;
        match checkpoint::read(disk, dir, name) {
            Ok(bytes) => {
                if let Err(why) = (judges.checkpoint)(&bytes) {
                    let why = format!("it makes no sense although its checksum is right: {why}");
                    report.damage.push(Damage { file: path, offset: 0, why });
                }
            }
            Err(error) => report.damage.push(Damage::of(error, &path, 0)),
        }
        before += name.bytes;
        on_progress(before, total);
    }
    for (_, meta) in root.segments() {
        report.segments += 1;
        report.segment_bytes += meta.bytes;
        report.rows += meta.rows;
        report.tombstones += meta.tombstones;
        let mut done = before;
        let mut progress = |bytes| {
            done += bytes;
            on_progress(done, total);
        };
        match open_segment(disk, dir, meta) {
            Ok(segment) => report.damage.extend(segment.verify(judges.row, &mut progress)),
            Err(error) => {
                let path = Named::Segment(meta.number).path(dir);
                report.damage.push(Damage::of(error, &path, 0));
            }
        }
        before += meta.bytes;
        on_progress(before, total);
    }
    Ok(report)
}
