//! Names of the files in a journal directory.

use std::path::{Path, PathBuf};

use crate::env::Disk;
use crate::journal::error::{Context, JournalError};

const SUFFIX: &str = ".wal";
const SPARE_PREFIX: &str = "spare-";

/// What a journal directory holds, by name alone.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// Ids of the segments, ascending.
    pub(super) segments: Vec<u64>,
    /// Numbers of the spares, ascending.
    pub(super) spares: Vec<u64>,
}

impl Layout {
    pub(super) fn read(disk: &dyn Disk, dir: &Path) -> Result<Self, JournalError> {
        let mut layout = Self::default();
        for name in disk.list(dir).context("list", dir)? {
            let Some(stem) = name.strip_suffix(SUFFIX) else { continue };
            if let Some(number) = stem.strip_prefix(SPARE_PREFIX) {
                layout.spares.extend(number.parse::<u64>());
            } else if stem.len() == 20 {
                layout.segments.extend(stem.parse::<u64>().ok().filter(|&id| id > 0));
            }
        }
        layout.segments.sort_unstable();
        layout.spares.sort_unstable();
        Ok(layout)
    }
}

pub(super) fn segment_path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment:020}{SUFFIX}"))
}

pub(super) fn spare_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{SPARE_PREFIX}{number}{SUFFIX}"))
}
