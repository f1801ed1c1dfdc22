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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::config::RecoveryPolicy;
    use crate::sim::{FaultKind, Repeat, SimDisk, Survival};

    const OPTIONS: JournalOptions = JournalOptions {
        segment_bytes: 3 * PIECE_BYTES as u64 + 4 * FRAME_ALIGN as u64,
        durability: Durability::Always,
        recovery: RecoveryPolicy::Strict,
    };

    fn next() -> SegmentHeader {
        SegmentHeader { segment: 2, previous: 1, previous_end: 8192, first_frame: 9 }
    }

    /// A disk with a segment of these bytes, some more than three pieces: durable, or in a cache only, after a
    /// failed sync took them for written.
    fn disk(segment: u64, durable: bool) -> (SimDisk, Vec<u8>) {
        let (disk, dir) = (SimDisk::new(), Path::new("/journal"));
        disk.create_dir_all(dir).unwrap();
        let bytes: Vec<u8> = (0..OPTIONS.segment_bytes).map(|at| (at * 31 / 7) as u8 | 1).collect();
        let file = disk.open(&segment_path(dir, segment), OpenMode::Write).unwrap();
        file.write_at(&bytes[..if durable { bytes.len() } else { FRAME_ALIGN }], 0).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(dir).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        if !durable {
            file.write_at(&bytes, 0).unwrap();
            disk.fail_at(disk.operations(), FaultKind::Eio, Repeat::Once);
            file.sync_data().unwrap_err();
        }
        (disk, bytes)
    }

    fn content(disk: &SimDisk, segment: u64) -> Vec<u8> {
        let path = segment_path(Path::new("/journal"), segment);
        let file = disk.open(&path, OpenMode::Read).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
        bytes
    }

    /// Goal: nothing that stood in a segment before can follow a later frame, however long it is. Method: one of
    /// more than three pieces, full; then a loss of power.
    #[test]
    fn a_wiped_segment_is_empty_to_its_end() {
        let (disk, _) = disk(2, true);
        let (_, live) = wipe_segment(&disk, Path::new("/journal"), &OPTIONS, next()).unwrap();
        assert_eq!(
            (live.segment, live.end, live.file_bytes),
            (2, FIRST_FRAME, OPTIONS.segment_bytes)
        );
        disk.crash(Survival::None, 1);
        let bytes = content(&disk, 2);
        assert_eq!(bytes.len() as u64, OPTIONS.segment_bytes);
        let (head, rest) = bytes.split_at(FIRST_FRAME as usize);
        assert_eq!(SegmentHeader::decode(head), Ok(next()));
        assert!(rest.iter().all(|byte| *byte == 0));
    }

    /// Goal: a tail that may only be in a cache is durable afterwards, whole and with nothing behind it. Method: one of
    /// more than three pieces whose sync failed; then a loss of power.
    #[test]
    fn a_settled_tail_is_durable_to_its_end() {
        let (disk, bytes) = disk(1, false);
        let end = OPTIONS.segment_bytes - FRAME_ALIGN as u64;
        let live = Live { segment: 1, end, file_bytes: OPTIONS.segment_bytes };
        let found = Found {
            live: vec![live],
            covered: FRAME_ALIGN as u64,
            leftover: Vec::new(),
            next: next(),
            unfinished: false,
            repairs: Default::default(),
            spares: Vec::new(),
            recovered: Default::default(),
        };
        settle_tail(&disk, Path::new("/journal"), &found).unwrap();
        disk.crash(Survival::None, 1);
        assert!(content(&disk, 1) == bytes[..end as usize]);
    }
}
