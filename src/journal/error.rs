//! What can go wrong with a journal, in words an operator can act on.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why the journal could not do it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JournalError {
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
         all that is damaged, check the disk, and restore the data directory from a copy; without \
         one, `serve --recovery` gives up what is damaged (see docs/operations.md)",
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
    /// A segment that is needed is not there.
    #[error(
        "{} is missing and the journal needs it; put it back, or restore the data directory from \
         a copy; without one, `serve --recovery` goes on without it (see docs/operations.md)",
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
    /// An earlier write or sync failed.
    #[error("the journal stopped after an earlier write error; see the log, repair, start again")]
    Latched,
    /// A batch that does not fit a frame or a segment. Nothing was written.
    #[error("a batch of {bytes} bytes is over the {max} a journal frame may have")]
    TooLarge {
        /// Payload bytes of the batch.
        bytes: u64,
        /// Most payload bytes.
        max: u64,
    },
    /// There is no space for another segment. Nothing was written and the journal goes on.
    #[error("no space for another journal segment in {}; free disk space", dir.display())]
    Full {
        /// The journal directory.
        dir: PathBuf,
    },
    /// What was read is undamaged, but whoever takes the batches refused one.
    #[error(
        "the batch at byte {offset} of {} cannot be applied: {why}; nothing was changed: report \
         it, and use the postdate that wrote it or restore the data directory from a copy",
        file.display()
    )]
    Replay {
        /// The file it is in.
        file: PathBuf,
        /// Where its frame begins.
        offset: u64,
        /// What the receiver said.
        why: String,
    },
    /// Settings that cannot be used.
    #[error("journal settings cannot be used: {0}")]
    BadOptions(&'static str),
}

/// Whether the error means that there is no space, or no more for this user.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Gives an I/O error its operation and file.
pub(super) trait Context<T> {
    fn context(self, op: &'static str, file: impl Into<PathBuf>) -> Result<T, JournalError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, op: &'static str, file: impl Into<PathBuf>) -> Result<T, JournalError> {
        self.map_err(|source| JournalError::Io { op, file: file.into(), source })
    }
}
