//! What can go wrong with a store, in words an operator can act on.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why the store could not do it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The operating system refused a file operation.
    #[error(
        "cannot {op} {}: {source}; check the disk and the rights on it, then start again",
        file.display()
    )]
    Io {
        /// What was tried: a verb.
        op: &'static str,
        /// On which file or directory.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Bytes that were durable once are no longer what they were.
    #[error(
        "{} is damaged at byte {offset}: {why}; nothing was changed: run `postdate verify` to see \
         all that is damaged, check the disk, and restore the data directory from a copy; if it is \
         only blocks, `--recovery skip-damaged` goes on without what they held",
        file.display()
    )]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        why: String,
    },
    /// A file that is needed is not there.
    #[error(
        "{} is missing and the store needs it; put it back, or restore the data directory from a \
         copy",
        file.display()
    )]
    Missing {
        /// The file that should be there.
        file: PathBuf,
    },
    /// Written by a newer postdate.
    #[error(
        "{} has format version {found}, this postdate reads up to {supported}; use the newer \
         postdate that wrote it",
        file.display()
    )]
    NewerVersion {
        /// The file that says so.
        file: PathBuf,
        /// Its version.
        found: u32,
        /// The highest this code reads.
        supported: u32,
    },
    /// There is no space for what was to be written. Nothing that is in use was changed.
    #[error("no space in {} to write messages out; free disk space", dir.display())]
    Full {
        /// The directory of the store.
        dir: PathBuf,
    },
    /// A row that no segment takes: the caller's mistake. Nothing was written.
    #[error("a row cannot be stored: {0}")]
    BadRow(&'static str),
    /// A merge that cannot be done: the caller's mistake. Nothing was changed.
    #[error("a merge cannot be done: {0}")]
    BadMerge(&'static str),
    /// Settings that cannot be used.
    #[error("store settings cannot be used: {0}")]
    BadOptions(&'static str),
}

impl StoreError {
    pub(super) fn corrupt(file: &Path, offset: u64, why: impl Into<String>) -> Self {
        Self::Corrupt { file: file.into(), offset, why: why.into() }
    }
}

/// Gives an I/O error its operation and file.
pub(super) trait Context<T> {
    fn context(self, op: &'static str, file: &Path) -> Result<T, StoreError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, op: &'static str, file: &Path) -> Result<T, StoreError> {
        self.map_err(|source| match source.kind() {
            ErrorKind::NotFound if matches!(op, "open" | "read") => {
                StoreError::Missing { file: file.into() }
            }
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                StoreError::Full { dir: file.parent().unwrap_or(file).into() }
            }
            _ => StoreError::Io { op, file: file.into(), source },
        })
    }
}
