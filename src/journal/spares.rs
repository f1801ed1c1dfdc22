//! Segment files that wait to be used: the reserve for a full disk, and the reason why most
//! segments are files written before, which sync nearly twice as fast as fresh ones.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::env::{Disk, DiskFile, OpenMode};
use crate::journal::aligned::Aligned;
use crate::journal::error::{Context, JournalError, is_full};
use crate::journal::layout::spare_path;

/// Most spares kept: as many as a flush usually sets free. To remove a file of this size and make another
/// costs those who wait for a batch more than ten milliseconds.
pub(super) const SPARES_MAX: usize = 4;

/// Bytes filled with zeros in one go: short enough not to be felt by those who wait for a batch.
const FILL_BYTES: u64 = 1 << 20;

/// Time between tries to make a spare while the disk is full, ms.
const RETRY_MS: u64 = 1_000;

struct Spare {
    path: PathBuf,
    /// Bytes from the front that were written before. Writing the others later is slow, because
    /// the file system must note that they are written now.
    written: u64,
}

pub(super) struct Spares {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_bytes: u64,
    /// Fill fresh spares with zeros; only of use when each write is synced.
    fill: bool,
    waiting: VecDeque<Spare>,
    filling: Option<(PathBuf, Box<dyn DiskFile>)>,
    zeros: Option<Aligned>,
    next_number: u64,
    /// The last try to make one failed; do not try again before this, on the monotonic clock.
    short_until_ms: Option<u64>,
}

impl Spares {
    /// Takes over the spares a directory holds. Those too many or of no use are removed.
    pub(super) fn load(
        disk: Arc<dyn Disk>,
        dir: &Path,
        segment_bytes: u64,
        fill: bool,
        numbers: &[u64],
    ) -> Result<Self, JournalError> {
        let next_number = numbers.last().map_or(1, |last| last.saturating_add(1));
        let mut spares = Self {
            disk,
            dir: dir.into(),
            segment_bytes,
            fill,
            waiting: VecDeque::new(),
            filling: None,
            zeros: None,
            next_number,
            short_until_ms: None,
        };
        for &number in numbers {
            spares.keep(spare_path(dir, number))?;
        }
        Ok(spares)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether the last try to make a spare failed.
    pub(super) fn is_short(&self) -> bool {
        self.short_until_ms.is_some()
    }

    /// The best spare, no longer ours: as much of it written before as possible.
    pub(super) fn take(&mut self) -> Option<PathBuf> {
        let spare = self.waiting.pop_front()?;
        self.filling = None;
        Some(spare.path)
    }

    /// Makes a spare.
    ///
    /// # Errors
    /// [`JournalError::Full`] when there is no space.
    pub(super) fn make(&mut self) -> Result<(), JournalError> {
        let path = self.next_path();
        let made = self
            .disk
            .open(&path, OpenMode::Write)
            .and_then(|file| file.allocate(self.segment_bytes).map(|()| file));
        match made {
            Ok(_) => {
                let written = if self.fill { 0 } else { self.segment_bytes };
                self.waiting.push_back(Spare { path, written });
                self.short_until_ms = None;
                Ok(())
            }
            Err(error) => {
                // Give back what it got. If that fails too, opening the journal removes it.
                let _ = self.disk.remove(&path);
                if is_full(&error) {
                    return Err(JournalError::Full { dir: self.dir.clone() });
                }
                Err(error).context("make", path)
            }
        }
    }

    /// Fills every fresh spare at once. For the first start, when nobody waits.
    pub(super) fn fill_all(&mut self) {
        while self.fill_some() {}
    }

    /// Turns a segment file that is no longer needed into a spare, or removes it.
    pub(super) fn adopt(&mut self, segment: &Path) -> Result<(), JournalError> {
        if self.waiting.len() >= SPARES_MAX {
            return self.disk.remove(segment).context("remove", segment);
        }
        let path = self.next_path();
        self.disk.rename(segment, &path).context("rename", segment)?;
        self.keep(path)
    }

    /// Upkeep: have `wanted` spares and, if told to, fill fresh ones bit by bit.
    pub(super) fn maintain(&mut self, mono_ms: u64, wanted: usize, fill: bool) {
        if self.waiting.len() >= wanted {
            self.short_until_ms = None;
        } else if self.short_until_ms.is_none_or(|until| mono_ms >= until) && self.make().is_err() {
            self.short_until_ms = Some(mono_ms.saturating_add(RETRY_MS));
        }
        if fill {
            self.fill_some();
        }
    }

    /// Removes what is more than `wanted`. What cannot be removed stays a spare.
    pub(super) fn shed(&mut self, wanted: usize) {
        while self.waiting.len() > wanted
            && let Some(spare) = self.waiting.pop_back()
        {
            if self.disk.remove(&spare.path).is_err() {
                self.waiting.push_back(spare);
                return;
            }
        }
    }

    /// When [`Spares::maintain`] has something to do.
    pub(super) fn next_maintenance_ms(&self, wanted: usize) -> Option<u64> {
        if self.fill && self.waiting.iter().any(|spare| spare.written < self.segment_bytes) {
            return Some(0);
        }
        (self.waiting.len() < wanted).then(|| self.short_until_ms.unwrap_or(0))
    }

    fn next_path(&mut self) -> PathBuf {
        let path = spare_path(&self.dir, self.next_number);
        self.next_number = self.next_number.saturating_add(1);
        path
    }

    /// Keeps a file as a spare if it can have the right size, else removes it.
    fn keep(&mut self, path: PathBuf) -> Result<(), JournalError> {
        if let Some(written) = self.fit(&path).context("resize", &path)? {
            let spare = Spare { path, written };
            // Files written before come first.
            if written < self.segment_bytes {
                self.waiting.push_back(spare);
            } else {
                self.waiting.push_front(spare);
            }
            return Ok(());
        }
        self.disk.remove(&path).context("remove", path)
    }

    /// Gives a file the size of a segment; how much of it was written before. `None` when it
    /// cannot be used.
    fn fit(&self, path: &Path) -> io::Result<Option<u64>> {
        if self.waiting.len() >= SPARES_MAX {
            return Ok(None);
        }
        let file = self.disk.open(path, OpenMode::Write)?;
        let len = file.len()?;
        if len > self.segment_bytes {
            return Ok(None);
        }
        if len < self.segment_bytes {
            match file.allocate(self.segment_bytes) {
                Ok(()) if self.fill => return Ok(Some(len)),
                Ok(()) => {}
                Err(error) if is_full(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(self.segment_bytes))
    }

    /// Writes some zeros to a fresh spare. Says whether there was something to do.
    fn fill_some(&mut self) -> bool {
        if !self.fill {
            return false;
        }
        let wanted = self.segment_bytes;
        let Some(index) = self.waiting.iter().position(|spare| spare.written < wanted) else {
            (self.filling, self.zeros) = (None, None);
            return false;
        };
        if self.fill_step(index).is_err() {
            // A file that cannot be written is no reserve.
            self.filling = None;
            if let Some(spare) = self.waiting.remove(index) {
                let _ = self.disk.remove(&spare.path);
            }
        }
        true
    }

    fn fill_step(&mut self, index: usize) -> io::Result<()> {
        let Some(spare) = self.waiting.get_mut(index) else { return Ok(()) };
        let step = (self.segment_bytes - spare.written).min(FILL_BYTES);
        let file = match self.filling.take() {
            Some((path, file)) if path == spare.path => file,
            // Durable writes: one large sync at the end would hold up the batches' syncs.
            _ => self.disk.open(&spare.path, OpenMode::Durable)?,
        };
        let most = self.segment_bytes.min(FILL_BYTES) as usize;
        let zeros = self.zeros.get_or_insert_with(|| Aligned::zeroed(most));
        file.write_at(&zeros.as_slice()[..step as usize], spare.written)?;
        spare.written += step;
        self.filling = Some((spare.path.clone(), file));
        Ok(())
    }
}
