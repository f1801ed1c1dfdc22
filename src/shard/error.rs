//! Why a shard cannot go on.

use crate::journal::JournalError;
use crate::store::StoreError;

/// Why a shard did not end in good order. Everything acknowledged is on disk, whatever it says.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// Its journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Its store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row of its store passed its checksum and makes no sense.
    #[error(
        "a row of the store ({0}) cannot be read although its checksum is right; run \
         `postdate verify`, and please report it"
    )]
    BadRow(String),
    /// The thread that writes its store ended by itself: a bug.
    #[error(
        "the thread that writes messages out has stopped by a bug; everything acknowledged is on \
         disk: start again, and please report it"
    )]
    WriterEnded,
    /// Its thread panicked: a bug.
    #[error("the shard stopped by a bug; everything acknowledged is on disk, please report it")]
    Panicked,
}
