//! The checkpoint: a file of bytes that mean something to the caller only.

use std::path::Path;

use crate::env::{Disk, OpenMode};
use crate::store::error::{Context, StoreError};
use crate::store::layout::Named;
use crate::store::root::CheckpointName;
use crate::store::sealed::{crc_of, read_sealed, seal};

/// Version of the checkpoint file this code writes, and the highest it reads. What is inside has
/// its own version.
const VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"PDCHECKP";

/// Writes a checkpoint file and syncs it; its name is durable when the directory is synced.
pub(super) fn write(
    disk: &dyn Disk,
    dir: &Path,
    number: u64,
    body: &[u8],
) -> Result<CheckpointName, StoreError> {
    let path = Named::Checkpoint(number).path(dir);
    let bytes = seal(MAGIC, VERSION, body);
    let file = disk.open(&path, OpenMode::Write).context("create", &path)?;
    file.write_at(&bytes, 0).context("write", &path)?;
    file.sync_data().context("sync", &path)?;
    Ok(CheckpointName { number, bytes: bytes.len() as u64, crc: crc_of(&bytes) })
}

/// Reads the checkpoint file that the root names.
///
/// # Errors
/// [`StoreError::Missing`], [`StoreError::Corrupt`] also for another checkpoint under its name.
pub(super) fn read(
    disk: &dyn Disk,
    dir: &Path,
    name: CheckpointName,
) -> Result<Vec<u8>, StoreError> {
    let path = Named::Checkpoint(name.number).path(dir);
    if !disk.exists(&path).context("look for", &path)? {
        return Err(StoreError::Missing { file: path });
    }
    let file = disk.open(&path, OpenMode::Read).context("open", &path)?;
    let sealed = read_sealed(&*file, &path, MAGIC, VERSION)?;
    let bytes = sealed.body_offset + sealed.body.len() as u64;
    if (bytes, sealed.crc) != (name.bytes, name.crc) {
        return Err(StoreError::corrupt(&path, 12, "it is not the checkpoint the root names"));
    }
    Ok(sealed.body)
}
