//! Reads the frames of one segment and tells a torn tail from damage. `docs/format.md`, section 1.3.

use crate::base::config::RecoveryPolicy;
use crate::base::limits::FRAME_ALIGN;
use crate::codec::frame::{FrameKind, decode_header, file_bytes};
use crate::journal::Position;
use crate::journal::chain::Link;
use crate::journal::damage::Aside;
use crate::journal::error::JournalError;
use crate::journal::layout::segment_path;
use crate::journal::reader::{FIRST_FRAME, SegmentReader};
use crate::journal::recovery::{Replay, Torn};

const BLOCK: u64 = FRAME_ALIGN as u64;

/// Bytes after which progress is told again.
const PROGRESS_BYTES: u64 = 4 << 20;

/// What reading one segment came to.
pub(super) struct Walk {
    /// Where its frames end.
    pub(super) end: u64,
    /// Up to here it was durable when its last frame was written.
    pub(super) covered: u64,
    /// The policy lets the journal end here.
    pub(super) cut: bool,
}

/// What the segment behind says about this one.
#[derive(Clone, Copy)]
enum Behind {
    /// Where this one ends, and the number of the first frame behind.
    Known { end: u64, number: u64 },
    /// There is one, and it says nothing.
    Unknown,
    /// There is none.
    Nothing,
}

impl Behind {
    fn end(self) -> Option<u64> {
        match self {
            Self::Known { end, .. } => Some(end),
            Self::Unknown | Self::Nothing => None,
        }
    }

    /// Whether a frame of this number, ending there, can be of this segment.
    fn allows(self, number: u64, frame_end: u64) -> bool {
        match self {
            Self::Known { end, number: first } => number < first && frame_end <= end,
            Self::Unknown | Self::Nothing => true,
        }
    }
}

impl Replay<'_> {
    /// Hands over the frames of the last of the segments begun.
    pub(super) fn walk(
        &mut self,
        reader: &mut SegmentReader,
        next: Option<&Link>,
    ) -> Result<Walk, JournalError> {
        let behind = match next.map(|next| &next.header) {
            Some(Ok(next)) => Behind::Known { end: next.previous_end, number: next.first_frame },
            Some(Err(_)) => Behind::Unknown,
            None => Behind::Nothing,
        };
        let mut walk = Walk { end: FIRST_FRAME, covered: FIRST_FRAME, cut: false };
        while behind.end().is_none_or(|end| walk.end < end) {
            match self.take(reader, walk.end, behind)? {
                Ok(taken) => {
                    walk.covered = walk.covered.max(taken.covered);
                    walk.end = taken.end;
                    self.tell(walk.end);
                }
                Err(why) => match self.judge(reader, walk.end, why, behind)? {
                    Judgement::GoOn(offset) => walk.end = offset,
                    Judgement::End => break,
                    Judgement::Cut => {
                        walk.cut = true;
                        break;
                    }
                },
            }
        }
        self.reach(walk.end);
        self.done += walk.end;
        walk.covered = walk.covered.min(walk.end);
        Ok(walk)
    }

    /// Hands the frame at an offset over. The inner error says why there is none.
    fn take(
        &mut self,
        reader: &mut SegmentReader,
        at: u64,
        behind: Behind,
    ) -> Result<Result<Taken, String>, JournalError> {
        let segment = reader.segment;
        let expected = self.found.next.first_frame;
        let frame = match reader.frame(at)? {
            Ok(frame) => frame,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let header = frame.header;
        if header.number != expected {
            let number = header.number;
            return Ok(Err(format!("frame {number} stands where frame {expected} should")));
        }
        let end = at + frame.file_bytes();
        if behind.end().is_some_and(|most| end > most) {
            return Ok(Err("the frame goes beyond the end of the segment".into()));
        }
        if header.kind == FrameKind::Batch {
            let position = Position { segment, offset: at };
            let recovered = &mut self.found.recovered;
            if recovered.batches == 0 {
                recovered.start = position;
            }
            recovered.batches += 1;
            recovered.payload_bytes += frame.payload.len() as u64;
            recovered.last = Some(header.meta);
            let taken = (self.on_batch)(&header.meta, frame.payload, position);
            taken.map_err(|why| {
                let file = segment_path(self.dir, segment);
                JournalError::Replay { file, offset: at, why }
            })?;
        }
        self.found.next.first_frame = frame.next_number();
        let own = header.durable_segment == segment;
        Ok(Ok(Taken { end, covered: if own { header.durable_offset } else { 0 } }))
    }

    /// Decides what comes where no frame can be taken.
    fn judge(
        &mut self,
        reader: &mut SegmentReader,
        at: u64,
        why: String,
        behind: Behind,
    ) -> Result<Judgement, JournalError> {
        let segment = reader.segment;
        let mut follows = None;
        match behind {
            Behind::Known { .. } => {}
            Behind::Unknown => {
                // Its end, unless a frame stands behind. What the next one begins with will tell.
                follows = self.following(reader, at, behind)?;
                if follows.is_none() {
                    return Ok(Judgement::End);
                }
            }
            Behind::Nothing => {
                if let Tail::Torn(torn) = judge_tail(reader, at)? {
                    // Behind it something was damaged: then this may be damage too.
                    if torn.is_some() && !self.found.recovered.damage.is_empty() {
                        self.keep(segment, at, reader.len);
                    }
                    self.found.recovered.torn = torn;
                    return Ok(Judgement::End);
                }
            }
        }
        self.damage(segment, at, why)?;
        let to = behind.end().unwrap_or(reader.len);
        if self.policy == RecoveryPolicy::TruncateTail {
            self.keep(segment, at, to);
            self.found.recovered.skipped_bytes += to.saturating_sub(at);
            return Ok(Judgement::Cut);
        }
        if follows.is_none() {
            follows = self.following(reader, at, behind)?;
        }
        let Some((offset, number)) = follows else {
            self.keep(segment, at, to);
            // With a segment behind, that one fills the gap when it is joined.
            if let Behind::Nothing = behind {
                self.found.recovered.skipped_bytes += to.saturating_sub(at);
            }
            return Ok(Judgement::End);
        };
        self.keep(segment, at, offset);
        let frames = number - self.found.next.first_frame;
        self.gap(segment, at, frames, offset - at);
        Ok(Judgement::GoOn(offset))
    }

    /// The frame that follows damage: where it is, and its number.
    fn following(
        &self,
        reader: &mut SegmentReader,
        at: u64,
        behind: Behind,
    ) -> Result<Option<(u64, u64)>, JournalError> {
        let (segment, expected) = (reader.segment, self.found.next.first_frame);
        reader.rewind();
        // First where the damaged frame itself says that it ends: what is found by searching may be
        // something in its payload that only looks like a frame.
        let claimed = decode_header(reader.bytes(at, FRAME_ALIGN)?, segment).ok();
        if let Some((_, payload_len)) = claimed.filter(|(header, _)| header.number == expected) {
            let end = at + file_bytes(payload_len);
            if let Ok(frame) = reader.frame(end)?
                && frame.header.number == expected + 1
                && behind.allows(expected + 1, end + frame.file_bytes())
            {
                return Ok(Some((end, expected + 1)));
            }
        }
        reader.rewind();
        let mut from = at + BLOCK;
        while let Some((offset, header, end)) = reader.search(from)? {
            if header.number > expected && behind.allows(header.number, end) {
                reader.rewind();
                return Ok(Some((offset, header.number)));
            }
            from = offset + BLOCK;
        }
        reader.rewind();
        Ok(None)
    }

    /// Keeps a part of a segment aside.
    fn keep(&mut self, segment: u64, from: u64, to: u64) {
        self.found.repairs.asides.push(Aside::Part { segment, from, to });
    }

    fn tell(&mut self, in_segment: u64) {
        let done = (self.done + in_segment).min(self.total);
        if done >= self.told + PROGRESS_BYTES {
            self.told = done;
            (self.on_progress)(done, self.total);
        }
    }
}

/// A frame that was handed over.
struct Taken {
    end: u64,
    /// Up to here this segment was durable when the frame was written.
    covered: u64,
}

/// What comes where no frame can be taken.
enum Judgement {
    /// More, from this offset on.
    GoOn(u64),
    /// Nothing.
    End,
    /// Nothing, here and in any later segment.
    Cut,
}

/// What stands at the end of the last segment.
pub(super) enum Tail {
    /// A later frame knew it as durable.
    Damaged,
    /// A write that was cut off, or nothing at all.
    Torn(Option<Torn>),
}

/// Judges what stands at the end of the last segment.
pub(super) fn judge_tail(reader: &mut SegmentReader, at: u64) -> Result<Tail, JournalError> {
    let begun = begun_bytes(reader, at)?;
    let mut torn_end = at + begun;
    let mut from = at;
    while let Some((_, header, end)) = reader.search(from)? {
        let recorded = Position { segment: header.durable_segment, offset: header.durable_offset };
        if recorded > (Position { segment: reader.segment, offset: at }) {
            return Ok(Tail::Damaged);
        }
        torn_end = torn_end.max(end);
        from = end;
    }
    let bytes = torn_end.min(reader.len.max(at)) - at;
    Ok(Tail::Torn((bytes > 0).then(|| Torn { file: reader.path.clone(), offset: at, bytes })))
}

/// Bytes of a frame whose header at least got to the disk.
fn begun_bytes(reader: &mut SegmentReader, at: u64) -> Result<u64, JournalError> {
    let segment = reader.segment;
    let header = decode_header(reader.bytes(at, FRAME_ALIGN)?, segment);
    Ok(header.map_or(0, |(_, payload_len)| file_bytes(payload_len)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::codec::frame::{BatchBuffer, FrameHeader};
    use crate::codec::segment::SegmentHeader;
    use crate::env::{Disk, OpenMode};
    use crate::journal::recovery::replay;
    use crate::sim::SimDisk;

    use super::*;

    /// Goal: what a frame says of the segment before is not taken for its own: the tail that may be in a
    /// cache only is written again. Method: two frames, the last of which knows up to where one
    /// segment or the other was durable.
    #[test]
    fn only_what_a_segment_says_of_itself_counts_as_durable() {
        for (durable_segment, covered) in [(1, BLOCK), (2, 2 * BLOCK)] {
            let (disk, dir) = (SimDisk::new(), Path::new("/journal"));
            disk.create_dir_all(dir).unwrap();
            let file = disk.open(&segment_path(dir, 2), OpenMode::Write).unwrap();
            let mut block = [0; FRAME_ALIGN];
            SegmentHeader { segment: 2, previous: 1, previous_end: BLOCK, first_frame: 1 }
                .encode(&mut block);
            file.write_at(&block, 0).unwrap();
            for number in 1..=2 {
                let mut batch = BatchBuffer::new();
                batch.extend(b"some");
                let frame = batch.seal(&FrameHeader {
                    segment: 2,
                    number,
                    durable_segment,
                    durable_offset: number * BLOCK,
                    ..FrameHeader::default()
                });
                file.write_at(frame, number * BLOCK).unwrap();
            }
            let mut all = |_: &_, _: &[u8], _| Ok(());
            let found =
                replay(&disk, dir, 2, RecoveryPolicy::Strict, &mut all, &mut |_, _| ()).unwrap();
            assert_eq!((found.recovered.batches, found.covered), (2, covered));
        }
    }
}
