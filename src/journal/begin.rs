//! Begins segments: the first one after what was found, and each next one.

use std::io;
use std::path::Path;

use crate::base::config::Durability;
use crate::base::limits::FRAME_ALIGN;
use crate::codec::segment::SegmentHeader;
use crate::env::{Disk, DiskFile, OpenMode};
use crate::journal::JournalOptions;
use crate::journal::aligned::Aligned;
use crate::journal::error::{Context, JournalError, is_full};
use crate::journal::layout::segment_path;
use crate::journal::reader::FIRST_FRAME;
use crate::journal::recovery::{Found, Live};
use crate::journal::spares::Spares;

/// Bytes written at once when a tail is written again or a segment wiped.
const PIECE_BYTES: usize = 1 << 20;

/// Makes the end of what was read certain: writes again what may only have been in a cache that a
/// failed sync left behind, and cuts the torn tail off.
pub(super) fn settle_tail(disk: &dyn Disk, dir: &Path, found: &Found) -> Result<(), JournalError> {
    let Some(last) = found.live.last() else { return Ok(()) };
    let path = segment_path(dir, last.segment);
    let file = disk.open(&path, OpenMode::Write).context("open", &path)?;
    let mut at = found.covered;
    let mut piece = vec![0; PIECE_BYTES.min((last.end - at) as usize)];
    while at < last.end {
        let len = ((last.end - at) as usize).min(piece.len());
        let read = file.read_at(&mut piece[..len], at).context("read", &path)?;
        // The padding of the last frame may be missing in a file that was cut short.
        piece[read..].fill(0);
        file.write_at(&piece[..len], at).context("write", &path)?;
        at += len as u64;
    }
    file.set_len(last.end).context("shorten", &path)?;
    file.sync_data().context("sync", &path)
}

/// Begins the segment that follows what was found.
pub(super) fn begin_first(
    disk: &dyn Disk,
    dir: &Path,
    options: &JournalOptions,
    spares: &mut Spares,
    found: &Found,
) -> Result<(Box<dyn DiskFile>, Live), JournalError> {
    if spares.len() == 0 {
        match spares.make() {
            Err(JournalError::Full { .. }) if found.unfinished => {
                return wipe_segment(disk, dir, options, found.next);
            }
            made => made?,
        }
        spares.fill_all();
    }
    begin_segment(disk, dir, options, spares, found.next)
}

/// Makes a spare the next segment. The header is durable before the name is.
pub(super) fn begin_segment(
    disk: &dyn Disk,
    dir: &Path,
    options: &JournalOptions,
    spares: &mut Spares,
    header: SegmentHeader,
) -> Result<(Box<dyn DiskFile>, Live), JournalError> {
    let spare = spares.take().ok_or_else(|| JournalError::Full { dir: dir.into() })?;
    let file = disk.open(&spare, mode_of(options)).context("open", &spare)?;
    write_header(file.as_ref(), header).context("write", &spare)?;
    disk.rename(&spare, &segment_path(dir, header.segment)).context("rename", &spare)?;
    disk.sync_dir(dir).context("sync", dir)?;
    let file_bytes = options.segment_bytes;
    Ok((file, Live { segment: header.segment, end: FIRST_FRAME, file_bytes }))
}

/// Makes a segment without any frame usable again where there is no space for another file: what a
/// torn write left in it must never follow a later frame. It is never gone, for the journal
/// may have to begin with it.
fn wipe_segment(
    disk: &dyn Disk,
    dir: &Path,
    options: &JournalOptions,
    header: SegmentHeader,
) -> Result<(Box<dyn DiskFile>, Live), JournalError> {
    let path = segment_path(dir, header.segment);
    let file = disk.open(&path, mode_of(options)).context("open", &path)?;
    let full = |error: io::Error| {
        if is_full(&error) {
            return JournalError::Full { dir: dir.into() };
        }
        JournalError::Io { op: "wipe", file: path.clone(), source: error }
    };
    file.allocate(options.segment_bytes).map_err(full)?;
    let len = file.len().context("read", &path)?;
    let zeros = Aligned::zeroed(PIECE_BYTES.min(len as usize));
    let mut at = FIRST_FRAME;
    while at < len {
        let piece = &zeros.as_slice()[..zeros.as_slice().len().min((len - at) as usize)];
        file.write_at(piece, at).map_err(full)?;
        at += piece.len() as u64;
    }
    file.sync_data().context("sync", &path)?;
    write_header(file.as_ref(), header).context("write", &path)?;
    disk.sync_dir(dir).context("sync", dir)?;
    Ok((file, Live { segment: header.segment, end: FIRST_FRAME, file_bytes: len }))
}

fn mode_of(options: &JournalOptions) -> OpenMode {
    match options.durability {
        Durability::Always => OpenMode::Durable,
        Durability::Interval { .. } | Durability::Os => OpenMode::Write,
    }
}

/// Writes the header of a segment, durably in every mode.
pub(super) fn write_header(file: &dyn DiskFile, header: SegmentHeader) -> io::Result<()> {
    let mut block = Aligned::zeroed(FRAME_ALIGN);
    if let Some(block) = block.as_mut_slice().first_chunk_mut() {
        header.encode(block);
    }
    file.write_at(block.as_slice(), 0)?;
    file.sync_data()
}
