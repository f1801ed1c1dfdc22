//! Reads a journal back and tells a torn tail from damage. `docs/format.md`, section 1.3.

use std::path::{Path, PathBuf};

use crate::base::event::BatchMeta;
use crate::base::limits::FRAME_ALIGN;
use crate::codec::frame::{decode_header, file_bytes};
use crate::codec::segment::SegmentHeader;
use crate::env::Disk;
use crate::journal::Position;
use crate::journal::error::JournalError;
use crate::journal::layout::{Layout, segment_path};
use crate::journal::reader::{FIRST_FRAME, SegmentReader};

/// Takes each batch in order: what it says beside its events, its payload, where its frame begins.
/// A text refuses it and ends the reading.
pub(super) type OnBatch<'a> = &'a mut dyn FnMut(&BatchMeta, &[u8], Position) -> Result<(), String>;

/// Told how far reading is: bytes done, bytes in all.
pub(super) type OnProgress<'a> = &'a mut dyn FnMut(u64, u64);

/// Bytes after which progress is told again.
const PROGRESS_BYTES: u64 = 4 << 20;

/// A write that a crash cut off. Nobody was promised what it held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Torn {
    /// The file it is in.
    pub file: PathBuf,
    /// Where the first invalid frame begins.
    pub offset: u64,
    /// How many bytes from there can be seen to have been written, at least; 0 when nothing
    /// there can be told from the earlier life of the file.
    pub bytes: u64,
}

/// What opening a journal found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// Batches replayed.
    pub batches: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// Segments read.
    pub segments: u64,
    /// Where the first batch begins.
    pub start: Position,
    /// Just past the last valid frame.
    pub end: Position,
    /// What the last batch says beside its events.
    pub last: Option<BatchMeta>,
    /// A write that was cut off.
    pub torn: Option<Torn>,
}

/// A segment that holds batches which are still needed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Live {
    pub(super) segment: u64,
    /// Just past its last frame.
    pub(super) end: u64,
    /// Length of its file.
    pub(super) file_bytes: u64,
}

/// A journal as it lies on the disk, read through.
#[derive(Debug)]
pub(super) struct Found {
    /// What was replayed, oldest first. All but the last are durable up to their end.
    pub(super) live: Vec<Live>,
    /// Up to here the last of `live` was durable when its last frame was written.
    pub(super) covered: u64,
    /// Older segments that nobody needs.
    pub(super) leftover: Vec<u64>,
    /// The segment to begin.
    pub(super) next: SegmentHeader,
    /// It is there already, without any frame: to be replaced.
    pub(super) unfinished: bool,
    /// Numbers of the spare files.
    pub(super) spares: Vec<u64>,
    pub(super) recovered: Recovered,
}

/// Reads everything from segment `from` on. Changes nothing.
pub(super) fn replay(
    disk: &dyn Disk,
    dir: &Path,
    from: u64,
    on_batch: OnBatch<'_>,
    on_progress: OnProgress<'_>,
) -> Result<Found, JournalError> {
    let from = from.max(1);
    let Layout { mut segments, spares } = Layout::read(disk, dir)?;
    let leftover = segments.drain(..segments.partition_point(|&segment| segment < from)).collect();
    let mut found = Found {
        live: Vec::new(),
        covered: 0,
        leftover,
        next: SegmentHeader { segment: from, previous: 0, previous_end: 0, first_frame: 1 },
        unfinished: false,
        spares,
        recovered: Recovered::default(),
    };
    check_complete(dir, from, &segments)?;
    if let Some(&last) = segments.last()
        && is_unfinished(disk, dir, last, from)?
    {
        segments.pop();
        (found.next.segment, found.unfinished) = (last, true);
    }
    let headers = read_headers(disk, dir, &segments)?;
    let mut replay = Replay { on_batch, on_progress, done: 0, total: 0, told: 0 };
    for (index, (segment, header, len)) in headers.iter().enumerate() {
        if index == 0 {
            found.next.first_frame = header.first_frame;
            let ends = headers.iter().skip(1).map(|(_, next, _)| next.previous_end);
            replay.total = ends.sum::<u64>() + headers.last().map_or(0, |last| last.2);
        } else if header.first_frame != found.next.first_frame {
            let why = format!(
                "it begins with frame {} where {} should follow",
                header.first_frame, found.next.first_frame
            );
            return Err(corrupt(dir, *segment, 0, why));
        }
        let mut reader = SegmentReader::open(disk, dir, *segment)?;
        let end = headers.get(index + 1).map(|(_, next, _)| next.previous_end);
        let walk = replay.walk(&mut reader, end, &mut found)?;
        if walk.end == FIRST_FRAME && end.is_none() {
            (found.next, found.unfinished) = (*header, true);
            // It was only begun after all before it was durable.
            found.covered = found.live.last().map_or(0, |live| live.end);
        } else {
            found.covered = walk.covered;
            found.recovered.segments += 1;
            found.recovered.end = Position { segment: *segment, offset: walk.end };
            found.next = SegmentHeader {
                segment: segment + 1,
                previous: *segment,
                previous_end: walk.end,
                ..found.next
            };
            found.live.push(Live { segment: *segment, end: walk.end, file_bytes: *len });
        }
    }
    (replay.on_progress)(replay.total, replay.total);
    Ok(found)
}

/// Whether there is every segment from the one named to the last.
fn check_complete(dir: &Path, from: u64, segments: &[u64]) -> Result<(), JournalError> {
    let there = segments.iter().zip(from..).take_while(|(segment, id)| **segment == *id).count();
    // In a new directory there is none.
    if there == segments.len() && (there > 0 || from == 1) {
        return Ok(());
    }
    Err(JournalError::Missing { file: segment_path(dir, from + there as u64) })
}

/// Whether the last segment has neither a header nor a frame: its making was cut off.
fn is_unfinished(disk: &dyn Disk, dir: &Path, last: u64, from: u64) -> Result<bool, JournalError> {
    let mut reader = SegmentReader::open(disk, dir, last)?;
    if reader.header()?.is_some() {
        return Ok(false);
    }
    // One that somebody names as the first was there.
    let named = last == from && from > 1;
    if named || reader.search(FIRST_FRAME)?.is_some() {
        return Err(reader.corrupt(0, "the segment header is invalid"));
    }
    Ok(true)
}

/// Headers and file lengths of segments that follow each other.
fn read_headers(
    disk: &dyn Disk,
    dir: &Path,
    segments: &[u64],
) -> Result<Vec<(u64, SegmentHeader, u64)>, JournalError> {
    let mut headers = Vec::with_capacity(segments.len());
    for (index, &segment) in segments.iter().enumerate() {
        let mut reader = SegmentReader::open(disk, dir, segment)?;
        let Some(header) = reader.header()? else {
            return Err(reader.corrupt(0, "the segment header is invalid"));
        };
        if index > 0 && (header.previous + 1 != segment || header.previous_end < FIRST_FRAME) {
            return Err(reader.corrupt(0, "the segment header does not name the one before"));
        }
        headers.push((segment, header, reader.len));
    }
    Ok(headers)
}

fn corrupt(dir: &Path, segment: u64, offset: u64, why: String) -> JournalError {
    JournalError::Corrupt { file: segment_path(dir, segment), offset, why }
}

struct Replay<'a> {
    on_batch: OnBatch<'a>,
    on_progress: OnProgress<'a>,
    done: u64,
    total: u64,
    told: u64,
}

/// What reading one segment came to.
struct Walk {
    end: u64,
    covered: u64,
}

impl Replay<'_> {
    /// Hands over the frames of a segment. `recorded_end` is known for all but the last one.
    fn walk(
        &mut self,
        reader: &mut SegmentReader,
        recorded_end: Option<u64>,
        found: &mut Found,
    ) -> Result<Walk, JournalError> {
        let segment = reader.segment;
        let mut walk = Walk { end: FIRST_FRAME, covered: FIRST_FRAME };
        while recorded_end.is_none_or(|end| walk.end < end) {
            let at = walk.end;
            let frame = match reader.frame(at)? {
                Ok(frame) if frame.header.number == found.next.first_frame => frame,
                other => {
                    let why = match other {
                        Ok(frame) => format!(
                            "frame {} stands where frame {} should",
                            frame.header.number, found.next.first_frame
                        ),
                        Err(error) => error.to_string(),
                    };
                    if recorded_end.is_some() {
                        return Err(reader.corrupt(at, why));
                    }
                    found.recovered.torn = judge_tail(reader, at, why)?;
                    break;
                }
            };
            let bytes = frame.file_bytes();
            if recorded_end.is_some_and(|end| at + bytes > end) {
                return Err(reader.corrupt(at, "the frame goes beyond the end of the segment"));
            }
            if frame.header.durable_segment == segment {
                walk.covered = walk.covered.max(frame.header.durable_offset);
            }
            if !frame.header.mark {
                let position = Position { segment, offset: at };
                let recovered = &mut found.recovered;
                if recovered.batches == 0 {
                    recovered.start = position;
                }
                recovered.batches += 1;
                recovered.payload_bytes += frame.payload.len() as u64;
                recovered.last = Some(frame.header.meta);
                let taken = (self.on_batch)(&frame.header.meta, frame.payload, position);
                taken.map_err(|why| {
                    let file = reader.path.clone();
                    JournalError::Replay { file, offset: at, why }
                })?;
            }
            found.next.first_frame += 1;
            walk.end = at + bytes;
            self.tell(walk.end);
        }
        self.done += walk.end;
        walk.covered = walk.covered.min(walk.end);
        Ok(walk)
    }

    fn tell(&mut self, in_segment: u64) {
        let done = self.done + in_segment;
        if done >= self.told + PROGRESS_BYTES {
            self.told = done;
            (self.on_progress)(done, self.total);
        }
    }
}

/// Judges what stands at the end of the last segment: damage if a later frame knew it as durable,
/// else a torn tail, or nothing at all.
pub(super) fn judge_tail(
    reader: &mut SegmentReader,
    at: u64,
    why: String,
) -> Result<Option<Torn>, JournalError> {
    let begun = begun_bytes(reader, at)?;
    let mut torn_end = at + begun;
    let mut from = at;
    while let Some((_, header, end)) = reader.search(from)? {
        let recorded = Position { segment: header.durable_segment, offset: header.durable_offset };
        if recorded > (Position { segment: reader.segment, offset: at }) {
            return Err(reader.corrupt(at, why));
        }
        torn_end = torn_end.max(end);
        from = end;
    }
    let bytes = torn_end.min(reader.len.max(at)) - at;
    Ok((bytes > 0).then(|| Torn { file: reader.path.clone(), offset: at, bytes }))
}

/// Bytes of a frame whose header at least got to the disk.
fn begun_bytes(reader: &mut SegmentReader, at: u64) -> Result<u64, JournalError> {
    let segment = reader.segment;
    let header = decode_header(reader.bytes(at, FRAME_ALIGN)?, segment);
    Ok(header.map_or(0, |(_, payload_len)| file_bytes(payload_len)))
}
