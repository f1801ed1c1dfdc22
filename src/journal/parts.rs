//! What of a journal is finished, for copying it while it is written to.

use std::path::{Path, PathBuf};

use crate::env::Disk;
use crate::journal::error::JournalError;
use crate::journal::layout::segment_path;
use crate::journal::reader::{FIRST_FRAME, SegmentReader};

/// The beginning of a segment file, which nobody writes to any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The file.
    pub file: PathBuf,
    /// Bytes from the front.
    pub bytes: u64,
}

/// What a journal consists of from segment `from` up to the beginning of segment `to`, which is all
/// that was written before [`roll`](crate::journal::Journal::roll) began `to`: the segments before it,
/// whole, and its header, which says where the last of them ends. None of them may be retired
/// meanwhile.
///
/// # Errors
/// [`JournalError::Missing`], [`JournalError::Corrupt`] for an invalid header,
/// [`JournalError::NewerVersion`], [`JournalError::Io`].
pub fn parts(disk: &dyn Disk, dir: &Path, from: u64, to: u64) -> Result<Vec<Part>, JournalError> {
    let mut parts: Vec<Part> = Vec::new();
    for segment in from.max(1)..=to {
        let file = segment_path(dir, segment);
        if !matches!(disk.exists(&file), Ok(true)) {
            return Err(JournalError::Missing { file });
        }
        let Some(header) = SegmentReader::open(disk, dir, segment)?.header()? else {
            let why = "the segment header is invalid".into();
            return Err(JournalError::Corrupt { file, offset: 0, why });
        };
        if let Some(before) = parts.last_mut() {
            before.bytes = header.previous_end;
        }
        parts.push(Part { file, bytes: FIRST_FRAME });
    }
    Ok(parts)
}
