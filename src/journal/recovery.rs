//! Reads a journal back. `docs/format.md`, section 1.3.

use std::path::{Path, PathBuf};

use crate::base::config::RecoveryPolicy;
use crate::base::event::BatchMeta;
use crate::base::limits::FRAME_ALIGN;
use crate::codec::segment::SegmentHeader;
use crate::env::Disk;
use crate::journal::Position;
use crate::journal::chain::{self, Link};
use crate::journal::damage::{Aside, Damage, Gap, Repairs};
use crate::journal::error::JournalError;
use crate::journal::layout::{Layout, segment_path};
use crate::journal::reader::{FIRST_FRAME, SegmentReader};

/// Takes each batch in order: what it says beside its events, its payload, where its frame begins.
/// A text refuses it and ends the reading.
pub(super) type OnBatch<'a> = &'a mut dyn FnMut(&BatchMeta, &[u8], Position) -> Result<(), String>;

/// Told how far reading is: bytes done, bytes in all.
pub(super) type OnProgress<'a> = &'a mut dyn FnMut(u64, u64);

/// Most missing segments that are skipped: beyond it a file with a wild name is more likely.
const MISSING_MAX: u64 = 1024;

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
    /// Damage that the recovery policy went on in spite of, in the order it was met. With
    /// [`RecoveryPolicy::Strict`] there is never any.
    pub damage: Vec<Damage>,
    /// Frames lost in it, as far as their numbers tell: not those that were cut off with a tail.
    pub skipped_frames: u64,
    /// Bytes of segment files that were not read because of it.
    pub skipped_bytes: u64,
    /// Whole segments that were missing or put aside.
    pub skipped_segments: u64,
    /// Files in which that is kept.
    pub quarantined: Vec<PathBuf>,
}

impl Recovered {
    /// Tells the log what was lost and where.
    pub(super) fn warn(&self, policy: RecoveryPolicy) {
        for Damage { file, offset, why } in &self.damage {
            tracing::warn!(file = %file.display(), offset, why, "the journal is damaged here");
        }
        for file in &self.quarantined {
            tracing::warn!(file = %file.display(), "put aside; remove it when it is not needed");
        }
        if !self.damage.is_empty() {
            tracing::warn!(
                policy = policy.word(),
                frames = self.skipped_frames,
                bytes = self.skipped_bytes,
                segments = self.skipped_segments,
                "went on without what was damaged; messages and their outcomes may be lost"
            );
        }
    }
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
    /// What the recovery policy decided.
    pub(super) repairs: Repairs,
    /// Numbers of the spare files.
    pub(super) spares: Vec<u64>,
    pub(super) recovered: Recovered,
}

/// Reads everything from segment `from` on. Changes nothing.
pub(super) fn replay(
    disk: &dyn Disk,
    dir: &Path,
    from: u64,
    policy: RecoveryPolicy,
    on_batch: OnBatch<'_>,
    on_progress: OnProgress<'_>,
) -> Result<Found, JournalError> {
    let from = from.max(1);
    let Layout { mut segments, spares } = Layout::read(disk, dir)?;
    let older = segments.partition_point(|&segment| segment < from);
    let found = Found {
        live: Vec::new(),
        covered: 0,
        leftover: segments.drain(..older).collect(),
        next: SegmentHeader { segment: from, previous: 0, previous_end: 0, first_frame: 1 },
        unfinished: false,
        repairs: Repairs::default(),
        spares,
        recovered: Recovered::default(),
    };
    let mut replay =
        Replay { disk, dir, policy, on_batch, on_progress, found, done: 0, total: 0, told: 0 };
    let chain = replay.chain(from, &segments)?;
    replay.total = chain::bytes(&chain);
    replay.found.next.first_frame = chain::first_number(disk, dir, &chain)?;
    for at in 0..chain.len() {
        if !replay.link(&chain[at], chain.get(at + 1))? {
            replay.put_aside(chain[at + 1..].iter().map(|link| link.segment));
            break;
        }
    }
    (replay.on_progress)(replay.total, replay.total);
    Ok(replay.found)
}

pub(super) struct Replay<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) dir: &'a Path,
    pub(super) policy: RecoveryPolicy,
    pub(super) on_batch: OnBatch<'a>,
    pub(super) on_progress: OnProgress<'a>,
    /// Its `next` is always what follows the frames read so far.
    pub(super) found: Found,
    pub(super) done: u64,
    pub(super) total: u64,
    pub(super) told: u64,
}

impl Replay<'_> {
    /// The segments to read, as far as the policy reads.
    fn chain(&mut self, from: u64, mut segments: &[u64]) -> Result<Vec<Link>, JournalError> {
        let mut chain: Vec<Link> = Vec::new();
        if let (RecoveryPolicy::SkipDamaged, Some((&last, before))) =
            (self.policy, segments.split_last())
            && last != before.last().map_or(from, |before| before + 1)
            && self.is_empty(last)?
        {
            // With nothing before it and nothing in it there is nothing to be filled up to.
            self.damage(last, 0, "it holds nothing and what should be before it is missing")?;
            self.put_aside([last]);
            segments = before;
        }
        // In a new directory there is none.
        if segments.is_empty() && from > 1 {
            self.missing(from)?;
        }
        for (index, &segment) in segments.iter().enumerate() {
            let id = from + chain.len() as u64;
            if segment != id {
                if segment - id > MISSING_MAX && self.policy == RecoveryPolicy::SkipDamaged {
                    return Err(JournalError::Missing { file: segment_path(self.dir, id) });
                }
                self.missing(id)?;
                if self.policy == RecoveryPolicy::TruncateTail {
                    self.put_aside(segments[index..].iter().copied());
                    break;
                }
                for further in id + 1..segment {
                    self.missing(further)?;
                }
                chain.extend((id..segment).map(Link::missing));
            }
            let link = Link::read(self.disk, self.dir, segment, chain.is_empty())?;
            if let Err(why) = link.header {
                let last = index + 1 == segments.len();
                // One that somebody names as the first was there.
                let named = segment == from && from > 1;
                if last && !named && self.is_empty(segment)? {
                    self.found.unfinished = true;
                    break;
                }
                self.damage(segment, 0, why)?;
                if self.policy == RecoveryPolicy::TruncateTail {
                    self.put_aside(segments[index..].iter().copied());
                    break;
                }
            }
            chain.push(link);
        }
        Ok(chain)
    }

    /// Whether a segment has neither a header nor a frame. If it is the last one, its making was cut off.
    fn is_empty(&self, segment: u64) -> Result<bool, JournalError> {
        let mut reader = SegmentReader::open(self.disk, self.dir, segment)?;
        Ok(reader.header()?.is_none() && reader.search(FIRST_FRAME)?.is_none())
    }

    /// Reads a segment. `false`: the journal ends in it.
    fn link(&mut self, link: &Link, next: Option<&Link>) -> Result<bool, JournalError> {
        let Some(len) = link.len else {
            self.found.repairs.made.push(self.found.next);
            self.begin(link.segment, FIRST_FRAME);
            self.reach(FIRST_FRAME);
            return Ok(true);
        };
        let mut reader = SegmentReader::open(self.disk, self.dir, link.segment)?;
        let header = match link.header {
            Ok(header) => {
                self.join(&header)?;
                header
            }
            Err(_) => self.conclude_header(&mut reader)?,
        };
        self.begin(link.segment, len);
        let walk = self.walk(&mut reader, next)?;
        if walk.end == FIRST_FRAME && (next.is_none() || walk.cut) {
            self.found.live.pop();
            // It was only begun after all before it was durable.
            self.found.covered = self.found.live.last().map_or(0, |live| live.end);
            (self.found.next, self.found.unfinished) = (header, true);
        } else {
            self.found.covered = walk.covered;
            self.found.recovered.segments += 1;
            self.found.recovered.end = Position { segment: link.segment, offset: walk.end };
        }
        Ok(!walk.cut)
    }

    /// The next segment to be read becomes the last of those that were.
    fn begin(&mut self, segment: u64, file_bytes: u64) {
        self.found.live.push(Live { segment, end: FIRST_FRAME, file_bytes });
    }

    /// The last segment goes on to this offset, and no further as far as is known.
    pub(super) fn reach(&mut self, end: u64) {
        let Some(live) = self.found.live.last_mut() else { return };
        live.end = end;
        self.found.next = SegmentHeader {
            segment: live.segment + 1,
            previous: live.segment,
            previous_end: end,
            ..self.found.next
        };
    }

    /// Checks that a header goes on where the segment before ended.
    fn join(&mut self, header: &SegmentHeader) -> Result<(), JournalError> {
        let Some(&Live { segment, end, .. }) = self.found.live.last() else { return Ok(()) };
        let expected = self.found.next.first_frame;
        let bytes = header.previous_end.checked_sub(end);
        match (header.first_frame.checked_sub(expected), bytes) {
            (Some(0), Some(0)) => Ok(()),
            (Some(frames), Some(bytes)) if bytes > 0 => {
                self.gap(segment, end, frames, bytes);
                Ok(())
            }
            _ => Err(JournalError::Corrupt {
                file: segment_path(self.dir, header.segment),
                offset: 0,
                why: format!(
                    "it begins with frame {} where {expected} should follow",
                    header.first_frame
                ),
            }),
        }
    }

    /// The header of a segment whose own is invalid.
    fn conclude_header(
        &mut self,
        reader: &mut SegmentReader,
    ) -> Result<SegmentHeader, JournalError> {
        let first = reader.frame(FIRST_FRAME)?.map(|frame| frame.header.number).ok();
        let lost = first.and_then(|first| first.checked_sub(self.found.next.first_frame));
        if let (Some(frames @ 1..), Some(&before)) = (lost, self.found.live.last()) {
            // They stood at the end of the segment before, whose end is not known any more.
            let Live { segment, end, file_bytes } = before;
            if file_bytes > end {
                let part = Aside::Part { segment, from: end, to: file_bytes };
                self.found.repairs.asides.push(part);
            }
            self.gap(segment, end, frames, FRAME_ALIGN as u64);
        }
        let part = Aside::Part { segment: reader.segment, from: 0, to: FIRST_FRAME };
        self.found.repairs.asides.push(part);
        self.found.repairs.headers.push(self.found.next);
        self.found.recovered.skipped_bytes += FIRST_FRAME;
        Ok(self.found.next)
    }

    /// Goes on behind damage at the end of what was read of a segment.
    pub(super) fn gap(&mut self, segment: u64, offset: u64, frames: u64, bytes: u64) {
        let number = self.found.next.first_frame;
        self.found.repairs.gaps.push(Gap { segment, offset, number, frames, bytes });
        self.found.recovered.skipped_frames += frames;
        self.found.recovered.skipped_bytes += bytes;
        self.found.next.first_frame += frames;
        self.reach(offset + bytes);
    }

    /// Notes damage.
    ///
    /// # Errors
    /// The damage, when the policy is to stop at it.
    pub(super) fn damage(
        &mut self,
        segment: u64,
        offset: u64,
        why: impl Into<String>,
    ) -> Result<(), JournalError> {
        let (file, why) = (segment_path(self.dir, segment), why.into());
        if self.policy == RecoveryPolicy::Strict {
            return Err(JournalError::Corrupt { file, offset, why });
        }
        self.found.recovered.damage.push(Damage { file, offset, why });
        Ok(())
    }

    /// Notes a segment that is missing; an error when the policy is to stop at it.
    fn missing(&mut self, segment: u64) -> Result<(), JournalError> {
        if self.policy == RecoveryPolicy::Strict {
            return Err(JournalError::Missing { file: segment_path(self.dir, segment) });
        }
        self.found.recovered.skipped_segments += 1;
        self.damage(segment, 0, "the segment is missing")
    }

    /// Puts whole segments aside.
    fn put_aside(&mut self, segments: impl IntoIterator<Item = u64>) {
        for segment in segments {
            self.found.repairs.asides.push(Aside::Whole { segment });
            self.found.recovered.skipped_segments += 1;
        }
    }
}
