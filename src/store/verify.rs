//! Reads a store offline and reports everything that is damaged. Changes nothing.

use std::path::{Path, PathBuf};

use crate::env::Disk;
use crate::store::directory::open_segment;
use crate::store::error::Context;
use crate::store::layout::{Named, ROOT, ROOT_NEW};
use crate::store::root::Root;
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

/// What [`verify`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Segment files that the root names.
    pub segments: u64,
    /// Rows in them, tombstones included.
    pub rows: u64,
    /// Rows that are tombstones.
    pub tombstones: u64,
    /// Length of the checkpoint file, bytes; 0 when there is none.
    pub checkpoint_bytes: u64,
    /// Files the root does not name: left by a crash, and removed when the store is opened. They
    /// are not read.
    pub unnamed: Vec<PathBuf>,
    /// Everything damaged or missing, at most one place a file. Empty means sound.
    pub damage: Vec<Damage>,
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
    on_progress: &mut dyn FnMut(u64, u64),
) -> Result<VerifyReport, StoreError> {
    let mut report = VerifyReport::default();
    if !disk.exists(dir).context("look for", dir)? {
        return Ok(report);
    }
    let names = disk.list(dir).context("list", dir)?;
    let root = match Root::read(disk, dir) {
        Ok(Some(root)) => root,
        Ok(None) => {
            if names.iter().any(|name| Named::parse(name).is_some()) {
                report.note(StoreError::Missing { file: dir.join(ROOT) }, dir);
            }
            return Ok(report);
        }
        Err(damaged @ StoreError::Corrupt { .. }) => {
            report.note(damaged, dir);
            return Ok(report);
        }
        Err(error) => return Err(error),
    };
    let named = named_by(&root);
    let unnamed = names.iter().filter(|name| {
        *name == ROOT_NEW || Named::parse(name).is_some_and(|file| !named.contains(&file))
    });
    report.unnamed = unnamed.map(|name| dir.join(name)).collect();
    if let Some(name) = root.checkpoint {
        match checkpoint::read(disk, dir, name) {
            Ok(_) => report.checkpoint_bytes = name.bytes,
            Err(error) => report.note(error, &Named::Checkpoint(name.number).path(dir)),
        }
    }
    let total: u64 = root.segments().map(|(_, meta)| meta.bytes).sum();
    let mut before = 0;
    for (_, meta) in root.segments() {
        report.segments += 1;
        report.rows += meta.rows;
        report.tombstones += meta.tombstones;
        let mut done = before;
        let mut progress = |bytes| {
            done += bytes;
            on_progress(done, total);
        };
        let checked = open_segment(disk, dir, meta);
        let checked = checked.and_then(|segment| segment.verify(&mut progress));
        if let Err(error) = checked {
            report.note(error, &Named::Segment(meta.number).path(dir));
        }
        before += meta.bytes;
        on_progress(before, total);
    }
    Ok(report)
}

impl VerifyReport {
    fn note(&mut self, error: StoreError, file: &Path) {
        self.damage.push(match error {
            StoreError::Corrupt { file, offset, why } => Damage { file, offset, why },
            StoreError::Missing { file } => Damage { file, offset: 0, why: "it is missing".into() },
            error => Damage { file: file.into(), offset: 0, why: error.to_string() },
        });
    }
}
