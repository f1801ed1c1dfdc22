//! Reads a journal offline and reports everything that is damaged. Changes nothing.

use std::path::Path;

use crate::base::limits::FRAME_ALIGN;
use crate::codec::frame::FrameKind;
use crate::codec::segment::SegmentHeader;
use crate::env::Disk;
use crate::journal::Position;
use crate::journal::damage::Damage;
use crate::journal::error::JournalError;
use crate::journal::layout::{Layout, segment_path};
use crate::journal::reader::{FIRST_FRAME, SegmentReader};
use crate::journal::recovery::{OnBatch, OnProgress, Torn};
use crate::journal::walk::{Tail, judge_tail};

/// What [`verify`] found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VerifyReport {
    /// Segment files that are needed.
    pub segments: u64,
    /// Older segment files, which mean nothing any more; they go when the journal is opened.
    pub retired: u64,
    /// Spare files; what they hold means nothing.
    pub spares: u64,
    /// Valid batches.
    pub frames: u64,
    /// Valid marks.
    pub marks: u64,
    /// Places where an earlier start left damage out.
    pub gaps: u64,
    /// Frames lost in them, marks included.
    pub lost_frames: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// A write that a crash cut off; no damage.
    pub torn: Option<Torn>,
    /// Everything damaged or missing, oldest first. Empty means sound.
    pub damage: Vec<Damage>,
}

/// Reads all segments from `from_segment` on, as [`crate::journal::open`] would, and goes on behind
/// damage. Older segments mean nothing any more and are not read. `None`: nobody knows any more where
/// the journal begins, and all that is there is read. `on_batch` gets every valid batch; a
/// text it returns is reported as damage of that place.
///
/// # Errors
/// [`JournalError::Io`] when a file cannot be read, [`JournalError::NewerVersion`].
pub fn verify(
    disk: &dyn Disk,
    dir: &Path,
    from_segment: Option<u64>,
    on_batch: OnBatch<'_>,
    on_progress: OnProgress<'_>,
) -> Result<VerifyReport, JournalError> {
    let mut layout = Layout::read(disk, dir)?;
    let from = from_segment.or(layout.segments.first().copied()).unwrap_or(1).max(1);
    let older = layout.segments.partition_point(|&segment| segment < from);
    layout.segments.drain(..older);
    let mut report = VerifyReport {
        segments: layout.segments.len() as u64,
        retired: older as u64,
        spares: layout.spares.len() as u64,
        ..VerifyReport::default()
    };
    let mut readers = Vec::with_capacity(layout.segments.len());
    for &segment in &layout.segments {
        let mut reader = SegmentReader::open(disk, dir, segment)?;
        let header = reader.header()?;
        readers.push((segment, header, reader.len));
    }
    let total = readers.iter().map(|(_, _, len)| len).sum();
    let named = from_segment.filter(|&from| from > 1);
    let mut check = Check { on_batch, report: &mut report, expected: None, named };
    let mut done = 0;
    if readers.is_empty() && from > 1 {
        check.damage(&segment_path(dir, from), 0, "the segment is missing");
    }
    for (index, (segment, header, len)) in readers.iter().enumerate() {
        let next = readers.get(index + 1).map(|(id, header, _)| (*id, *header));
        let expected = index.checked_sub(1).map_or(from, |before| readers[before].0 + 1);
        check.before(dir, *segment, expected);
        let mut reader = SegmentReader::open(disk, dir, *segment)?;
        check.segment(&mut reader, *header, next)?;
        done += len;
        on_progress(done, total);
    }
    Ok(report)
}

struct Check<'a> {
    on_batch: OnBatch<'a>,
    report: &'a mut VerifyReport,
    /// Number the next frame should have; `None` after damage or at the beginning.
    expected: Option<u64>,
    /// The segment that somebody names as the first: it was finished.
    named: Option<u64>,
}

impl Check<'_> {
    fn damage(&mut self, file: &Path, offset: u64, why: impl Into<String>) {
        self.report.damage.push(Damage { file: file.into(), offset, why: why.into() });
        self.expected = None;
    }

    /// Reports a gap in the ids.
    fn before(&mut self, dir: &Path, segment: u64, expected: u64) {
        if segment != expected {
            self.damage(&segment_path(dir, expected), 0, "the segment is missing");
        }
    }

    fn segment(
        &mut self,
        reader: &mut SegmentReader,
        header: Option<SegmentHeader>,
        next: Option<(u64, Option<SegmentHeader>)>,
    ) -> Result<(), JournalError> {
        let file = reader.path.clone();
        match header {
            Some(header) => {
                if self.expected.is_some_and(|expected| header.first_frame != expected) {
                    self.damage(&file, 0, "its first frame does not follow the segment before");
                }
                self.expected = Some(header.first_frame);
            }
            // The making of the last segment may have been cut off before it held anything.
            None if next.is_none()
                && self.named != Some(reader.segment)
                && reader.search(FIRST_FRAME)?.is_none() =>
            {
                return Ok(());
            }
            None => self.damage(&file, 0, "the segment header is invalid"),
        }
        // Reading goes forward only, and the search above may have gone to the end.
        reader.rewind();
        let recorded_end = match next {
            Some((id, Some(next))) if id == reader.segment + 1 => Some(next.previous_end),
            _ => None,
        };
        let mut at = FIRST_FRAME;
        while recorded_end.is_none_or(|end| at < end) {
            match self.frame(reader, at)? {
                Ok(frame_end) => at = frame_end,
                Err(why) => {
                    // Where the end is not recorded, this may be it.
                    let damaged = recorded_end.is_some() || is_damage(reader, at, self)?;
                    if damaged {
                        self.damage(&file, at, why);
                    }
                    // Go on with the next valid frame; here nothing tells it from the next number.
                    match reader.search(at + FRAME_ALIGN as u64)? {
                        Some((found, header, _)) if damaged => {
                            at = found;
                            self.expected = Some(header.number);
                        }
                        _ => break,
                    }
                }
            }
        }
        if recorded_end.is_some_and(|end| at > end) {
            self.damage(&file, at, "frames go beyond the end its successor records");
        }
        Ok(())
    }

    /// Counts the frame at an offset and hands it over. Its end, or why there is none.
    fn frame(
        &mut self,
        reader: &mut SegmentReader,
        at: u64,
    ) -> Result<Result<u64, String>, JournalError> {
        let segment = reader.segment;
        let path = reader.path.clone();
        let frame = match reader.frame(at)? {
            Ok(frame) => frame,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let number = frame.header.number;
        if let Some(expected) = self.expected.filter(|&expected| expected != number) {
            return Ok(Err(format!("frame {number} stands where frame {expected} should")));
        }
        match frame.header.kind {
            FrameKind::Mark => self.report.marks += 1,
            FrameKind::Gap { frames, .. } => {
                self.report.gaps += 1;
                self.report.lost_frames += frames;
            }
            FrameKind::Batch => {
                self.report.frames += 1;
                self.report.payload_bytes += frame.payload.len() as u64;
                let position = Position { segment, offset: at };
                if let Err(why) = (self.on_batch)(&frame.header.meta, frame.payload, position) {
                    let why = format!("the batch cannot be applied: {why}");
                    self.report.damage.push(Damage { file: path, offset: at, why });
                }
            }
        }
        let end = at + frame.file_bytes();
        self.expected = Some(frame.next_number());
        Ok(Ok(end))
    }
}

/// Whether an invalid frame in a segment without a recorded end is damage; notes a torn tail.
fn is_damage(
    reader: &mut SegmentReader,
    at: u64,
    check: &mut Check<'_>,
) -> Result<bool, JournalError> {
    let judged = judge_tail(reader, at)?;
    reader.rewind();
    match judged {
        Tail::Torn(torn) => {
            check.report.torn = torn;
            Ok(false)
        }
        Tail::Damaged => Ok(true),
    }
}
