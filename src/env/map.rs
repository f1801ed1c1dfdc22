//! Files looked at as memory: the one place with `unsafe`.
#![expect(unsafe_code, reason = "the system cannot promise what the caller has to, see below")]

use std::fs::File;
use std::io::{self, ErrorKind};

use memmap2::MmapOptions;

use crate::env::disk::MappedBytes;

/// See [`DiskFile::map`](crate::env::DiskFile::map).
pub(super) fn map(file: &File, offset: u64, len: u64) -> io::Result<MappedBytes> {
    let end = offset.checked_add(len).ok_or(ErrorKind::UnexpectedEof)?;
    if end > file.metadata()?.len() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    if len == 0 {
        return Ok(Box::new([]));
    }
    let len = usize::try_from(len).map_err(|_| ErrorKind::OutOfMemory)?;
    // SAFETY: bytes behind a shared slice must not change while it lives. Ours are those of sealed
    // files: after its last sync a file of the store is never opened for writing again, never cut
    // and never given to another use; its name is removed, which leaves mapped bytes as they are.
    // The data directory is locked, so no second server does it either. Whoever changes the files
    // by other means breaks this, as with the program text of a running process. The mapping is
    // read only and covers bytes that the file has.
    let mapped = unsafe { MmapOptions::new().offset(offset).len(len).map(file) }?;
    Ok(Box::new(mapped))
}
