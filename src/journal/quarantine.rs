//! Carries out what a recovery policy decided: keeps everything that will not be read any more in the
//! directory `quarantine` beside the journal, then makes the journal sound.
//!
//! Whatever was not done when a crash comes is damage still, and the next opening decides the same.

use std::io;
use std::path::{Path, PathBuf};

use crate::codec::frame::{BatchBuffer, FrameHeader, FrameKind};
use crate::codec::segment::SegmentHeader;
use crate::env::{Disk, DiskFile, OpenMode};
use crate::journal::begin::write_header;
use crate::journal::damage::{Aside, Gap, Repairs};
use crate::journal::error::{Context, JournalError, is_full};
use crate::journal::layout::{segment_path, spare_path};
use crate::journal::recovery::Found;

/// The directory, beside the journal's.
const QUARANTINE: &str = "quarantine";

/// Bytes copied at once.
const PIECE_BYTES: usize = 1 << 20;

/// Carries out what was decided about what was found. Returns the files that were put aside.
pub(super) fn carry_out(
    disk: &dyn Disk,
    dir: &Path,
    found: &Found,
) -> Result<Vec<PathBuf>, JournalError> {
    let free_spare = found.spares.last().map_or(1, |last| last.saturating_add(1));
    let files = mend(disk, dir, &found.repairs, free_spare)?;
    // What a start before this one mended may have failed half way, and have been read from a cache.
    for live in &found.live {
        let path = segment_path(dir, live.segment);
        let file = disk.open(&path, OpenMode::Write).context("open", &path)?;
        file.sync_data().context("sync", &path)?;
    }
    Ok(files)
}

/// Carries repairs out. What is mended in place is written durably, not written and synced: after a
/// failed sync the next opening would take it for mended, and nothing would write it again.
/// `free_spare` is a number no spare has.
fn mend(
    disk: &dyn Disk,
    dir: &Path,
    repairs: &Repairs,
    free_spare: u64,
) -> Result<Vec<PathBuf>, JournalError> {
    let files = put_aside(disk, dir, &repairs.asides)?;
    for (number, header) in (free_spare..).zip(&repairs.made) {
        make(disk, dir, &spare_path(dir, number), *header)?;
    }
    disk.sync_dir(dir).context("sync", dir)?;
    for header in &repairs.headers {
        let path = segment_path(dir, header.segment);
        let file = disk.open(&path, OpenMode::Durable).context("open", &path)?;
        write_header(file.as_ref(), *header).context("write", &path)?;
    }
    for gap in &repairs.gaps {
        write_gap(disk, &segment_path(dir, gap.segment), gap)?;
    }
    Ok(files)
}

/// Copies the parts, then moves the whole files, the last one first: until the end of it the journal is
/// damaged where it was.
fn put_aside(disk: &dyn Disk, dir: &Path, asides: &[Aside]) -> Result<Vec<PathBuf>, JournalError> {
    let mut files = Vec::new();
    if asides.is_empty() {
        return Ok(files);
    }
    let parent = dir.parent().unwrap_or(Path::new(""));
    let quarantine = parent.join(QUARANTINE);
    disk.create_dir_all(&quarantine).context("create", &quarantine)?;
    if !parent.as_os_str().is_empty() {
        disk.sync_dir(parent).context("sync", parent)?;
    }
    for aside in asides {
        if let Aside::Part { segment, from, to } = *aside {
            let path = free_path(disk, &quarantine, &format!("{segment:020}-{from}.part"))?;
            copy(disk, &segment_path(dir, segment), from, to, &path)?;
            files.push(path);
        }
    }
    disk.sync_dir(&quarantine).context("sync", &quarantine)?;
    let mut whole: Vec<_> = asides.iter().filter_map(Aside::whole).collect();
    whole.sort_unstable();
    for segment in whole.into_iter().rev() {
        let from = segment_path(dir, segment);
        let path = free_path(disk, &quarantine, &format!("{segment:020}.wal"))?;
        disk.rename(&from, &path).context("move", &from)?;
        files.push(path);
    }
    disk.sync_dir(&quarantine).context("sync", &quarantine)?;
    disk.sync_dir(dir).context("sync", dir)?;
    Ok(files)
}

/// A name nobody has: what an earlier start put aside stays.
fn free_path(disk: &dyn Disk, dir: &Path, name: &str) -> Result<PathBuf, JournalError> {
    let mut path = dir.join(name);
    let mut again = 0u32;
    while disk.exists(&path).context("look for", &path)? {
        again += 1;
        path = dir.join(format!("{name}.{again}"));
    }
    Ok(path)
}

fn copy(disk: &dyn Disk, from: &Path, at: u64, to: u64, into: &Path) -> Result<(), JournalError> {
    let source = disk.open(from, OpenMode::Read).context("open", from)?;
    let to = to.min(source.len().context("read", from)?);
    let target = disk.open(into, OpenMode::Write).context("make", into)?;
    let copied = copy_bytes(source.as_ref(), at, to, target.as_ref());
    copied.map_err(|error| {
        // Half a copy is of no use, and may take the last space.
        let _ = disk.remove(into);
        if is_full(&error) {
            return JournalError::Full { dir: into.parent().unwrap_or(into).into() };
        }
        JournalError::Io { op: "copy", file: from.into(), source: error }
    })
}

fn copy_bytes(from: &dyn DiskFile, at: u64, to: u64, into: &dyn DiskFile) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES.min(to.saturating_sub(at) as usize)];
    let mut done = at;
    while done < to {
        let len = piece.len().min((to - done) as usize);
        let read = from.read_at(&mut piece[..len], done)?;
        if read == 0 {
            break;
        }
        into.write_at(&piece[..read], done - at)?;
        done += read as u64;
    }
    into.sync_data()
}

/// Makes a segment that holds nothing, in place of one that is missing. It has no more than its header:
/// nothing will be appended to it.
fn make(
    disk: &dyn Disk,
    dir: &Path,
    spare: &Path,
    header: SegmentHeader,
) -> Result<(), JournalError> {
    let file = disk.open(spare, OpenMode::Write).context("make", spare)?;
    write_header(file.as_ref(), header).context("write", spare)?;
    let path = segment_path(dir, header.segment);
    disk.rename(spare, &path).context("rename", spare)
}

fn write_gap(disk: &dyn Disk, path: &Path, gap: &Gap) -> Result<(), JournalError> {
    let mut batch = BatchBuffer::new();
    let frame = batch.seal(&FrameHeader {
        segment: gap.segment,
        number: gap.number,
        durable_segment: gap.segment,
        durable_offset: gap.offset,
        kind: FrameKind::Gap { frames: gap.frames, bytes: gap.bytes },
        ..FrameHeader::default()
    });
    let file = disk.open(path, OpenMode::Durable).context("open", path)?;
    file.write_at(frame, gap.offset).context("write", path)?;
    file.sync_data().context("sync", path)
}
