//! The journal over segment files.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::config::{Durability, RecoveryPolicy};
use crate::base::event::BatchMeta;
use crate::base::limits::{FRAME_ALIGN, JOURNAL_PAYLOAD_MAX};
use crate::codec::frame::{BatchBuffer, FrameHeader, FrameKind, HEADER_BYTES, file_bytes};
use crate::codec::segment::SegmentHeader;
use crate::env::{Disk, DiskFile};
use crate::journal::begin::{begin_first, begin_segment, settle_tail};
use crate::journal::error::{Context, JournalError};
use crate::journal::layout::segment_path;
use crate::journal::quarantine;
use crate::journal::reader::FIRST_FRAME;
use crate::journal::recovery::{self, Live, OnBatch, OnProgress, Recovered};
use crate::journal::spares::Spares;
use crate::journal::{Journal, JournalOptions, JournalStats, Position, Room};

const BLOCK: u64 = FRAME_ALIGN as u64;

/// Up to this size, frames gain from spares filled with zeros beforehand, bytes.
const FILL_PAYS_BYTES: u64 = 128 * 1024;
/// Idle time after which a mark is written, ms.
const MARK_AFTER_MS: u64 = 1_000;

/// A [`Journal`] over preallocated, recycled files.
pub struct SegmentedJournal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: JournalOptions,
    spares: Spares,
    /// Oldest first; the last is the current one and is never retired.
    live: VecDeque<Live>,
    /// The current segment's file.
    file: Box<dyn DiskFile>,
    end: Position,
    durable: Position,
    next_frame: u64,
    /// The last frame of the current segment is no mark.
    unmarked: bool,
    latched: bool,
    /// `next_frame` at the last maintenance, to see that something was appended.
    seen_frame: u64,
    last_frame_bytes: u64,
    /// When maintenance first saw the last frame.
    idle_since_ms: u64,
    /// When maintenance first saw frames that are not durable.
    dirty_since_ms: Option<u64>,
    stats: JournalStats,
}

/// Opens the journal in `dir`, which is created when missing: reads what is there, hands over
/// every batch from segment `from_segment` on, and begins a new segment. Older segments are not
/// read; they are retired.
///
/// `from_segment` is the segment that [`Journal::roll`] began before what was in the ones below it
/// was made durable elsewhere; 0 or 1 when that never happened. From there to the last no segment
/// may be missing; only when it is 0 or 1 may there be none at all.
///
/// `on_batch` gets what a batch says beside its events, its payload, and where its frame begins; a
/// text it returns refuses the batch. `on_progress` gets bytes done and bytes in all.
///
/// # Errors
/// [`JournalError::Corrupt`], [`JournalError::Missing`], [`JournalError::NewerVersion`] and
/// [`JournalError::Replay`]: nothing was changed. The first two come from damage that
/// `options.recovery` does not go on in spite of. [`JournalError::Full`]: there is no space
/// for a segment. [`JournalError::Io`], [`JournalError::BadOptions`].
pub fn open(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: JournalOptions,
    from_segment: u64,
    on_batch: OnBatch<'_>,
    on_progress: OnProgress<'_>,
) -> Result<(SegmentedJournal, Recovered), JournalError> {
    options.check()?;
    disk.create_dir_all(dir).context("create", dir)?;
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        disk.sync_dir(parent).context("sync", parent)?;
    }
    let mut found = recovery::replay(
        disk.as_ref(),
        dir,
        from_segment,
        options.recovery,
        on_batch,
        on_progress,
    )?;
    if options.recovery != RecoveryPolicy::Strict {
        found.recovered.quarantined = quarantine::carry_out(disk.as_ref(), dir, &found)?;
        found.recovered.warn(options.recovery);
    }
    settle_tail(disk.as_ref(), dir, &found)?;
    let always = options.durability == Durability::Always;
    let mut spares = Spares::load(disk.clone(), dir, options.segment_bytes, always, &found.spares)?;
    for &segment in &found.leftover {
        spares.adopt(&segment_path(dir, segment))?;
    }
    let (file, live) = begin_first(disk.as_ref(), dir, &options, &mut spares, &found)?;
    // Without a spare, new messages are refused until `maintain` can make one.
    spares.maintain(0, 1, true);
    let end = Position { segment: live.segment, offset: FIRST_FRAME };
    let stats = JournalStats {
        torn_bytes: found.recovered.torn.as_ref().map_or(0, |torn| torn.bytes),
        ..JournalStats::default()
    };
    let mut journal = SegmentedJournal {
        disk,
        dir: dir.into(),
        options,
        spares,
        live: found.live.into(),
        file,
        end,
        durable: end,
        next_frame: found.next.first_frame,
        unmarked: false,
        latched: false,
        seen_frame: found.next.first_frame,
        last_frame_bytes: 0,
        idle_since_ms: 0,
        dirty_since_ms: None,
        stats,
    };
    if let Some(last) = journal.live.back_mut() {
        last.file_bytes = last.end;
    }
    journal.live.push_back(live);
    Ok((journal, found.recovered))
}

impl SegmentedJournal {
    fn alive(&self) -> Result<(), JournalError> {
        if self.latched { Err(JournalError::Latched) } else { Ok(()) }
    }

    /// Latches unless it went well.
    fn latching<T>(&mut self, done: Result<T, JournalError>) -> Result<T, JournalError> {
        self.latched |= done.is_err();
        done
    }

    fn path(&self) -> PathBuf {
        segment_path(&self.dir, self.end.segment)
    }

    /// Spares there should be: the reserve, and from half of the segment on its successor too.
    fn spares_wanted(&self) -> usize {
        if self.end.offset * 2 < self.options.segment_bytes { 1 } else { 2 }
    }

    fn next_segment(&mut self) -> Result<(), JournalError> {
        if self.spares.len() == 0 {
            match self.spares.make() {
                Err(full @ JournalError::Full { .. }) => return Err(full),
                made => self.latching(made)?,
            }
        }
        // The next header says where this segment ends, so this end must not be lost any more.
        self.sync()?;
        let header = SegmentHeader {
            segment: self.end.segment + 1,
            previous: self.end.segment,
            previous_end: self.end.offset,
            first_frame: self.next_frame,
        };
        let begun =
            begin_segment(self.disk.as_ref(), &self.dir, &self.options, &mut self.spares, header);
        let (file, live) = self.latching(begun)?;
        self.file = file;
        self.live.push_back(live);
        self.end = Position { segment: header.segment, offset: FIRST_FRAME };
        self.durable = self.end;
        self.unmarked = false;
        Ok(())
    }

    fn write(
        &mut self,
        meta: &BatchMeta,
        kind: FrameKind,
        batch: &mut BatchBuffer,
    ) -> Result<Position, JournalError> {
        let at = self.end;
        let frame = batch.seal(&FrameHeader {
            segment: at.segment,
            number: self.next_frame,
            durable_segment: self.durable.segment,
            durable_offset: self.durable.offset,
            kind,
            meta: *meta,
        });
        assert!(at.offset + frame.len() as u64 <= self.options.segment_bytes);
        let written = self.file.write_at(frame, at.offset).context("write", self.path());
        let len = frame.len() as u64;
        self.latching(written)?;
        self.end.offset += len;
        self.stats.written_bytes += len;
        self.next_frame += 1;
        self.unmarked = kind != FrameKind::Mark;
        if self.options.durability == Durability::Always {
            self.durable = self.end;
            self.stats.syncs += 1;
        }
        if let Some(live) = self.live.back_mut() {
            live.end = self.end.offset;
        }
        Ok(at)
    }

    fn mark(&mut self) -> Result<(), JournalError> {
        self.write(&BatchMeta::default(), FrameKind::Mark, &mut BatchBuffer::new())?;
        self.stats.marks += 1;
        Ok(())
    }
}

impl Journal for SegmentedJournal {
    fn append(
        &mut self,
        meta: &BatchMeta,
        batch: &mut BatchBuffer,
    ) -> Result<Position, JournalError> {
        self.alive()?;
        // Header block, frame header, place of the mark.
        let max = (self.options.segment_bytes - 2 * BLOCK - HEADER_BYTES as u64)
            .min(JOURNAL_PAYLOAD_MAX as u64);
        let payload = batch.len() as u64;
        if payload > max {
            return Err(JournalError::TooLarge { bytes: payload, max });
        }
        if self.end.offset + file_bytes(batch.len()) + BLOCK > self.options.segment_bytes {
            self.next_segment()?;
        }
        let at = self.write(meta, FrameKind::Batch, batch)?;
        self.last_frame_bytes = file_bytes(batch.len());
        self.stats.frames += 1;
        self.stats.payload_bytes += payload;
        Ok(at)
    }

    fn sync(&mut self) -> Result<(), JournalError> {
        self.alive()?;
        if self.durable < self.end {
            let synced = self.file.sync_data().context("sync", self.path());
            self.latching(synced)?;
            self.durable = self.end;
            self.stats.syncs += 1;
        }
        self.dirty_since_ms = None;
        Ok(())
    }

    fn roll(&mut self) -> Result<Position, JournalError> {
        self.alive()?;
        if self.end.offset > FIRST_FRAME {
            self.next_segment()?;
        }
        Ok(self.end)
    }

    fn trim(&mut self, before: Position) -> Result<(), JournalError> {
        self.alive()?;
        let keep = before.segment.min(self.end.segment);
        if self.live.front().is_none_or(|oldest| oldest.segment >= keep) {
            return Ok(());
        }
        let mut retired = Ok(());
        while let Some(oldest) = self.live.front().filter(|oldest| oldest.segment < keep) {
            let path = segment_path(&self.dir, oldest.segment);
            retired = self.spares.adopt(&path);
            // It may be gone all the same, when only its use as a spare failed.
            let gone = retired.is_ok() || matches!(self.disk.exists(&path), Ok(false));
            if !gone {
                break;
            }
            self.live.pop_front();
        }
        let synced = self.disk.sync_dir(&self.dir).context("sync", &self.dir);
        self.latching(synced)?;
        retired
    }

    fn room(&self) -> Room {
        if self.spares.is_short() && self.spares.len() < self.spares_wanted() {
            Room::ReserveOnly
        } else {
            Room::Plenty
        }
    }

    fn end(&self) -> Position {
        self.end
    }

    fn durable_end(&self) -> Position {
        self.durable
    }

    fn maintain(&mut self, mono_ms: u64) -> Result<(), JournalError> {
        self.alive()?;
        let busy = self.seen_frame != self.next_frame;
        if busy {
            self.seen_frame = self.next_frame;
            self.idle_since_ms = mono_ms;
        }
        if let Durability::Interval { every_ms } = self.options.durability
            && self.durable < self.end
        {
            let since = *self.dirty_since_ms.get_or_insert(mono_ms);
            if mono_ms >= since.saturating_add(every_ms) {
                self.sync()?;
            }
        }
        let idle = mono_ms >= self.idle_since_ms.saturating_add(MARK_AFTER_MS);
        if self.unmarked && idle && self.durable == self.end {
            self.mark()?;
            self.seen_frame = self.next_frame;
            if self.durable < self.end {
                self.dirty_since_ms.get_or_insert(mono_ms);
            }
        }
        // Large batches gain little from files written before, and would share the disk with the
        // filling: then it waits until nobody does.
        let fill = !busy || self.last_frame_bytes <= FILL_PAYS_BYTES;
        self.spares.maintain(mono_ms, self.spares_wanted(), fill);
        Ok(())
    }

    fn shed_spares(&mut self) {
        self.spares.shed(self.spares_wanted());
    }

    fn next_maintenance_ms(&self) -> Option<u64> {
        if self.latched {
            return None;
        }
        let unseen = (self.seen_frame != self.next_frame).then_some(0);
        let sync = match (self.options.durability, self.dirty_since_ms) {
            (Durability::Interval { every_ms }, Some(since)) => {
                Some(since.saturating_add(every_ms))
            }
            _ => None,
        };
        let mark = (self.unmarked && self.durable == self.end)
            .then(|| self.idle_since_ms.saturating_add(MARK_AFTER_MS));
        let spares = self.spares.next_maintenance_ms(self.spares_wanted());
        [unseen, sync, mark, spares].into_iter().flatten().min()
    }

    fn stats(&self) -> JournalStats {
        let spares = self.spares.len() as u64;
        JournalStats {
            live_segments: self.live.len() as u64,
            live_bytes: self.live.iter().map(|live| live.end).sum(),
            disk_bytes: self.live.iter().map(|live| live.file_bytes).sum::<u64>()
                + spares * self.options.segment_bytes,
            spares,
            ..self.stats
        }
    }

    fn close(mut self: Box<Self>) -> Result<(), JournalError> {
        self.sync()?;
        if self.unmarked {
            self.mark()?;
            self.sync()?;
        }
        Ok(())
    }
}
