//! Keeping memory in bounds: when to flush, when to slow down, what to read back.

use std::collections::VecDeque;

use crate::base::error::Code;
use crate::base::id::Key;
use crate::base::limits;
use crate::base::time::Now;
use crate::codec::event;
use crate::engine::Remains;
use crate::journal::{JournalError, Position, Room};
use crate::store::{Family, StoreError};

use super::background::News;
use super::below::Portion;
use super::core::Core;
use super::error::ShardError;
use super::flush::Job;
use super::idle::{Gain, Idle, is_stale};

/// How often the space on the disk is looked at, ms.
const LOOK_AT_DISK_EVERY_MS: u64 = 1_000;

/// A flush for memory comes when this part of the memory was journaled since the last one. Whatever
/// takes memory until it is written takes at least some bytes of the journal.
const WORTH_PART: u64 = 64;

/// Longest pause after a step, in percent of the step.
const SLOWED_PERCENT_MAX: u32 = 200;

/// What the shard remembers about its flushes.
#[derive(Debug, Default)]
pub(super) struct Spill {
    /// Memory that the last freeze could not write: it was out with subscribers.
    kept_bytes: u64,
    /// What the journal had taken by then, and what was put back, bytes.
    worth: u64,
    /// The disk is nearly full.
    disk_low: bool,
    next_look_ms: u64,
    pub(super) flushes: u64,
    pub(super) failures: u64,
    /// The last failure of a flush was told.
    told: bool,
    /// The last failure of a merge was told.
    merge_told: bool,
    /// The flush that is under way has failed, and is tried again.
    fails: bool,
    /// The last flush found no space.
    no_space: bool,
    /// Memory of flushes that are done, still to be freed.
    remains: VecDeque<Remains>,
    /// How many messages had come or were put back, at the last look.
    came_in: u64,
    idle: Idle,
}

impl Core {
    /// Takes note of what happened in the background.
    pub(super) fn take_news(&mut self) -> Result<(), ShardError> {
        while let Some(news) = self.background.news() {
            match news {
                News::Flushed(flushed, version, stats) => {
                    self.spill.remains.extend(self.engine.frozen_lies_below(&flushed.chunks));
                    self.below.switch(version);
                    self.store_stats = *stats;
                    self.spill.flushes += 1;
                    self.spill.no_space = false;
                    self.spill.fails = false;
                    if std::mem::take(&mut self.spill.told) {
                        tracing::warn!("writing messages out works again");
                    }
                    self.trim(Position { segment: flushed.journal_from, offset: 0 })?;
                }
                News::Merged(version, stats) => {
                    self.spill.merge_told = false;
                    self.below.switch(version);
                    self.store_stats = *stats;
                }
                News::JournalCopied => self.journal_is_copied()?,
                News::BackedUp(made) => self.backup_is_over(made)?,
                News::Damaged(error) => return Err(error.into()),
                News::Ended => return Err(ShardError::WriterEnded),
                News::FlushFailed(error) => {
                    self.spill.fails = true;
                    self.spill.no_space |= matches!(error, StoreError::Full { .. });
                    self.spill.failures += 1;
                    if !std::mem::replace(&mut self.spill.told, true) {
                        tracing::error!(
                            %error,
                            "messages cannot be written out of memory; it is tried again"
                        );
                    }
                }
                // What a merge lacks is in nobody's way.
                News::MergeFailed(error) => {
                    self.spill.failures += 1;
                    if !std::mem::replace(&mut self.spill.merge_told, true) {
                        tracing::error!(%error, "segments cannot be merged; it is tried again");
                    }
                }
            }
        }
        Ok(())
    }

    /// Frees some of what flushes have left: little at a time, so that nobody waits for it, but
    /// twice what came in or was put back since the last time, so that it does not pile up.
    pub(super) fn clear_remains(&mut self) {
        let came_in = self.engine.next_sequence() + self.engine.put_back();
        let came = came_in - std::mem::replace(&mut self.spill.came_in, came_in);
        if let Some(first) = self.spill.remains.front_mut()
            && !first.clear(limits::CLEAR_PER_STEP + 2 * came as usize)
        {
            self.spill.remains.pop_front();
        }
    }

    /// Memory of all messages, with what flushes have left and is not freed yet, bytes.
    pub(super) fn memory_used(&self) -> u64 {
        let remains: u64 = self.spill.remains.iter().map(Remains::bytes).sum();
        self.engine.memory_bytes() + remains
    }

    /// Whether there is something to free.
    pub(super) fn has_remains(&self) -> bool {
        !self.spill.remains.is_empty()
    }

    /// Reads back what is due soon and what deliveries wait for.
    pub(super) fn thaw(&mut self, now: Now) -> Result<(), ShardError> {
        let (messages, bytes) = self.engine.thawed_ahead();
        let room = limits::THAW_AHEAD_MAX.saturating_sub(messages);
        let room_bytes = (limits::THAW_BYTES_MAX as u64).saturating_sub(bytes);
        let room_bytes = room_bytes.min(self.thaw_room());
        let soon = Key::end_of(now.engine_ms.saturating_add(limits::THAW_AHEAD_MS));
        // In portions worth a read, unless firing waits for it.
        let waits = self.engine.thawed_to() < Key::end_of(now.engine_ms);
        if self.engine.thawed_to() < soon && (waits || room >= limits::THAW_AHEAD_MAX / 2) {
            let rows = room.min(limits::FIRE_PER_STEP_MAX as u64);
            let portion = Portion { to: soon, rows, bytes: room_bytes };
            self.below.thaw_scheduled(&mut self.engine, portion)?;
        }
        for want in self.engine.take_wants() {
            let short = self.memory_used() > self.memory;
            self.below.serve(&mut self.engine, want, short)?;
        }
        Ok(())
    }

    /// Memory that scheduled messages from the store may take, bytes. While nothing can be written
    /// out, they must not use up what is left.
    fn thaw_room(&self) -> u64 {
        let most = if self.spill.fails { limits::MEMORY_TIMES_MAX * self.memory } else { u64::MAX };
        most.saturating_sub(self.engine.memory_bytes())
    }

    /// Most messages that may fire in this step: none while memory is short and a flush is about
    /// to give some back, or has. One that fails may do so for long: nobody waits for it.
    pub(super) fn fire_limit(&self) -> usize {
        let short = self.memory_used() > self.memory + self.memory / 2;
        let soon = self.has_remains() || self.engine.is_frozen() && !self.spill.fails;
        let waits = short && soon;
        if waits { 0 } else { limits::FIRE_PER_STEP_MAX }
    }

    /// Whether what is due waits for memory: to look again at once would help nobody.
    pub(super) fn firing_waits(&self) -> bool {
        self.fire_limit() == 0 || self.thaw_room() == 0
    }

    /// Whether new messages are taken slowly, because memory is used twice over.
    #[must_use]
    pub(super) fn is_slowed(&self) -> bool {
        self.slowed_percent().is_some()
    }

    /// How long the pause after a step is, against the step: from nothing where memory is used twice
    /// over to [`SLOWED_PERCENT_MAX`] at three times, where nothing more is taken. In between, what
    /// comes in finds the pace of what can be written out.
    #[must_use]
    pub(super) fn slowed_percent(&self) -> Option<u32> {
        let over = self.memory_used().checked_sub(2 * self.memory)?;
        let part = over.min(self.memory) as f64 / self.memory.max(1) as f64;
        Some((part * f64::from(SLOWED_PERCENT_MAX)) as u32)
    }

    /// Whether requests to publish wait in line, because memory is used three times over and a flush
    /// is about to give it back. Where none gets through, they are refused instead.
    pub(super) fn holds_publishing(&self) -> bool {
        let over = self.memory_used() > 3 * self.memory;
        over && (self.has_remains() || self.engine.is_frozen() && !self.spill.fails)
    }

    /// Begins a flush when memory or the journal has grown enough.
    pub(super) fn consider_flush(&mut self) -> Result<(), ShardError> {
        if self.engine.is_frozen() || self.stuck.is_some() {
            return Ok(());
        }
        let active = self.engine.active_bytes();
        // What was read back takes memory, too, but a flush would only have it read once more. What is
        // worth writing came through the journal, or was put back.
        let worth = self.journal.stats().payload_bytes + self.engine.put_back_bytes();
        let memory = active >= self.memory / 8 * 3
            && active >= self.spill.kept_bytes + self.memory / 8
            && worth - self.spill.worth >= self.memory / WORTH_PART;
        // What a backup keeps is needed by nobody else.
        let journal =
            self.journal.stats().live_bytes >= self.journal_tail && !self.backups.keeps_journal();
        let idle = self.idle_flush_pays(active);
        if !memory && !journal && !idle && !self.engine.has_many_dedups() {
            return Ok(());
        }
        let position = match self.journal.roll() {
            Ok(position) => position,
            // The batch that found no space is told about; this was only an offer.
            Err(JournalError::Full { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let frozen = self.engine.freeze(&|event, out| event::encode(event, out));
        self.spill.kept_bytes = self.engine.active_bytes();
        self.spill.worth = worth;
        self.spill.idle.flushed(self.engine.now().mono_ms, self.commits);
        self.background.flush(Job { frozen, journal_from: position.segment });
        Ok(())
    }

    /// Whether a flush pays that nothing asks for; `active` bytes are in memory.
    fn idle_flush_pays(&mut self, active: u64) -> bool {
        let now_ms = self.engine.now().mono_ms;
        if !self.spill.idle.looks(now_ms, self.commits) {
            return false;
        }
        let (scheduled, ready) = self.engine.waiting();
        let families = [(Family::Scheduled, scheduled), (Family::Ready, ready)];
        let journal = self.journal.stats().live_bytes;
        let gain = Gain {
            // What was read back came through no journal.
            memory: active.saturating_sub(self.spill.kept_bytes).min(journal),
            journal: if self.backups.keeps_journal() { 0 } else { journal },
            stale: families.into_iter().any(|(family, alive)| {
                let stats = self.store_stats.family(family);
                is_stale(stats.bytes, stats.rows - stats.tombstones, alive)
            }),
        };
        self.spill.idle.pays(now_ms, gain)
    }

    /// Why new messages are refused at the moment, if they are.
    pub(super) fn refusal(&mut self, mono_ms: u64) -> Option<Code> {
        if mono_ms >= self.spill.next_look_ms {
            self.spill.next_look_ms = mono_ms + LOOK_AT_DISK_EVERY_MS;
            // A disk that cannot be asked says so when it is written to.
            let free = self.disk.free_bytes(&self.data_dir).unwrap_or(u64::MAX);
            let low = free < self.disk_reserve;
            if low != self.spill.disk_low {
                self.spill.disk_low = low;
                if low {
                    tracing::error!(free, "the disk is nearly full; new messages are refused");
                } else {
                    tracing::warn!(free, "there is disk space again; new messages are taken");
                }
            }
            if self.is_disk_full() {
                self.journal.shed_spares();
            }
        }
        self.is_disk_full().then_some(Code::DiskFull)
    }

    /// Whether the disk is too full for new messages.
    pub(super) fn is_disk_full(&self) -> bool {
        self.spill.disk_low || self.spill.no_space || self.journal.room() == Room::ReserveOnly
    }
}
