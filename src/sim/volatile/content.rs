//! The bytes of one file: the durable ones are those of the real file, what was written since is
//! in memory.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::env::{DiskFile, MappedBytes};
use crate::sim::random::Random;

/// Smallest part of a write that is either on the disk or not after a power cut, bytes.
const SECTOR: usize = 512;
/// Up to so many sectors go through one by one, larger syncs in runs of at most so many.
const RUN_MAX: usize = 64;
/// Most sectors that are looked at when something is written back.
const WRITE_BACK_MAX: usize = 512;
/// Longest time a sync waits, before it or in the middle, ms.
const WAIT_MAX_MS: u64 = 5;

/// How a sync goes through.
#[derive(Clone)]
pub(super) enum Pace {
    /// At once and in order.
    AtOnce,
    /// In random order, and now and then with a pause.
    Torn(Arc<Mutex<Random>>),
}

impl Pace {
    /// The pause of a slow disk.
    pub(super) fn wait(&self) {
        let Self::Torn(random) = self else { return };
        let ms = {
            let mut random = random.lock();
            if random.percent(20) { random.below(WAIT_MAX_MS) } else { 0 }
        };
        std::thread::sleep(Duration::from_millis(ms));
    }

    fn shuffle<T>(&self, all: &mut [T]) {
        let Self::Torn(random) = self else { return };
        let mut random = random.lock();
        for index in (1..all.len()).rev() {
            all.swap(index, random.below(index as u64 + 1) as usize);
        }
    }

    fn below(&self, bound: usize) -> usize {
        match self {
            Self::AtOnce => 0,
            Self::Torn(random) => random.lock().below(bound as u64) as usize,
        }
    }
}

/// A file, shared by all its handles and names.
pub(super) struct Content {
    real: Box<dyn DiskFile>,
    pace: Pace,
    unsynced: Mutex<Unsynced>,
}

/// What programs see and the real file does not have for certain.
struct Unsynced {
    len: u64,
    resized: bool,
    /// What the real file has from here on was cut off and reads as zero.
    cut: u64,
    sectors: BTreeMap<u64, [u8; SECTOR]>,
}

impl Content {
    pub(super) fn new(real: Box<dyn DiskFile>, pace: Pace) -> io::Result<Self> {
        let len = real.len()?;
        let unsynced = Unsynced { len, resized: false, cut: u64::MAX, sectors: BTreeMap::new() };
        Ok(Self { real, pace, unsynced: Mutex::new(unsynced) })
    }

    /// Whether something is not durable, or just becoming so.
    pub(super) fn is_dirty(&self) -> bool {
        self.unsynced.try_lock().is_none_or(|unsynced| unsynced.is_dirty())
    }

    pub(super) fn len(&self) -> u64 {
        self.unsynced.lock().len
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read(&self.unsynced.lock(), buffer, offset)
    }

    fn read(&self, unsynced: &Unsynced, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let seen = unsynced.len.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let buffer = &mut buffer[..seen];
        buffer.fill(0);
        let uncut = unsynced.cut.saturating_sub(offset).min(seen as u64) as usize;
        self.real.read_at(&mut buffer[..uncut], offset)?;
        for (&sector, bytes) in unsynced.sectors.range(sectors_of(offset, seen)) {
            let begin = sector * SECTOR as u64;
            let (from, to) = (begin.max(offset), (begin + SECTOR as u64).min(offset + seen as u64));
            if from < to {
                let part = &bytes[(from - begin) as usize..(to - begin) as usize];
                buffer[(from - offset) as usize..(to - offset) as usize].copy_from_slice(part);
            }
        }
        Ok(seen)
    }

    pub(super) fn write_at(&self, bytes: &[u8], offset: u64, durable: bool) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let end = offset.checked_add(bytes.len() as u64).ok_or(ErrorKind::FileTooLarge)?;
        let mut unsynced = self.unsynced.lock();
        let touched = sectors_of(offset, bytes.len());
        for sector in touched.clone() {
            let begin = sector * SECTOR as u64;
            let (from, to) = (begin.max(offset), (begin + SECTOR as u64).min(end));
            let mut whole = [0; SECTOR];
            if to - from < SECTOR as u64 {
                self.read(&unsynced, &mut whole, begin)?;
            }
            let part = &bytes[(from - offset) as usize..(to - offset) as usize];
            whole[(from - begin) as usize..(to - begin) as usize].copy_from_slice(part);
            unsynced.sectors.insert(sector, whole);
        }
        unsynced.resized |= end > unsynced.len;
        unsynced.len = unsynced.len.max(end);
        if durable { self.settle(&mut unsynced, touched) } else { Ok(()) }
    }

    pub(super) fn set_len(&self, len: u64) {
        let mut unsynced = self.unsynced.lock();
        if len < unsynced.len {
            unsynced.cut = unsynced.cut.min(len);
            unsynced.sectors.split_off(&len.div_ceil(SECTOR as u64));
            if let Some(last) = unsynced.sectors.get_mut(&(len / SECTOR as u64)) {
                last[(len % SECTOR as u64) as usize..].fill(0);
            }
        }
        unsynced.resized |= len != unsynced.len;
        unsynced.len = len;
    }

    /// Makes everything durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        let mut unsynced = self.unsynced.lock();
        if !unsynced.is_dirty() {
            return Ok(());
        }
        self.settle(&mut unsynced, 0..=u64::MAX)
    }

    /// Makes some sectors durable, and the length.
    fn settle(&self, unsynced: &mut Unsynced, sectors: RangeInclusive<u64>) -> io::Result<()> {
        self.pace.wait();
        self.settle_len(unsynced)?;
        let mut runs = unsynced.runs(sectors.clone());
        self.pace.shuffle(&mut runs);
        let pause = self.pace.below(runs.len());
        for (index, (offset, bytes)) in runs.iter().enumerate() {
            if index == pause {
                self.pace.wait();
            }
            self.real.write_at(bytes, *offset)?;
        }
        unsynced.sectors.retain(|sector, _| !sectors.contains(sector));
        (unsynced.resized, unsynced.cut) = (false, u64::MAX);
        Ok(())
    }

    fn settle_len(&self, unsynced: &Unsynced) -> io::Result<()> {
        let real = self.real.len()?;
        if unsynced.cut < real {
            self.real.set_len(unsynced.cut)?;
        }
        if unsynced.cut < real || unsynced.len != real {
            self.real.set_len(unsynced.len)?;
        }
        Ok(())
    }

    /// Lets a random part of what is not durable through; it stays in memory all the same.
    pub(super) fn write_back(&self, random: &mut Random) -> io::Result<()> {
        let unsynced = self.unsynced.lock();
        if random.coin() {
            self.settle_len(&unsynced)?;
        }
        let skipped = random.below(unsynced.sectors.len() as u64) as usize;
        for (sector, bytes) in unsynced.sectors.iter().skip(skipped).take(WRITE_BACK_MAX) {
            if random.coin() {
                let offset = sector * SECTOR as u64;
                self.real.write_at(unsynced.within(offset, bytes), offset)?;
            }
        }
        Ok(())
    }

    pub(super) fn map(&self, offset: u64, len: u64) -> io::Result<MappedBytes> {
        let unsynced = self.unsynced.lock();
        if !unsynced.is_dirty() {
            return self.real.map(offset, len);
        }
        let end = offset.checked_add(len).ok_or(ErrorKind::UnexpectedEof)?;
        if end > unsynced.len {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let mut copy = vec![0; len as usize];
        self.read(&unsynced, &mut copy, offset)?;
        Ok(Box::new(copy))
    }
}

impl Unsynced {
    fn is_dirty(&self) -> bool {
        self.resized || self.cut < u64::MAX || !self.sectors.is_empty()
    }

    /// The part of what begins at `offset` that is before the end of the file.
    fn within<'a>(&self, offset: u64, bytes: &'a [u8]) -> &'a [u8] {
        let len = self.len.saturating_sub(offset).min(bytes.len() as u64);
        &bytes[..len as usize]
    }

    /// Offset and bytes of sectors, neighbours together.
    fn runs(&self, sectors: RangeInclusive<u64>) -> Vec<(u64, Vec<u8>)> {
        let few = self.sectors.range(sectors.clone()).take(RUN_MAX + 1).count() <= RUN_MAX;
        let most = if few { SECTOR } else { RUN_MAX * SECTOR };
        let mut runs: Vec<(u64, Vec<u8>)> = Vec::new();
        for (sector, bytes) in self.sectors.range(sectors) {
            let offset = sector * SECTOR as u64;
            let bytes = self.within(offset, bytes);
            match runs.last_mut() {
                Some((begin, run)) if *begin + run.len() as u64 == offset && run.len() < most => {
                    run.extend_from_slice(bytes);
                }
                _ => runs.push((offset, bytes.to_vec())),
            }
        }
        runs
    }
}

fn sectors_of(offset: u64, len: usize) -> RangeInclusive<u64> {
    let last = (offset + len as u64).saturating_sub(1).max(offset);
    offset / SECTOR as u64..=last / SECTOR as u64
}
