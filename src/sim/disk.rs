//! A disk in memory that crashes, fails, fills up and rots as the test says.
//!
//! Written bytes and file lengths are durable after `sync_data` (or at once for files opened
//! [`OpenMode::Durable`]), names after `sync_dir`; until then a crash keeps of them what
//! [`Survival`] says. A failed `sync_data` loses the pending bytes for good while readers go on
//! seeing them, as Linux does. Everything is deterministic.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::env::{Disk, DiskFile, MappedBytes, OpenMode};
use crate::sim::fault::{FaultKind, Repeat, eio, strikes};
use crate::sim::medium::{Change, Content, Medium, Node, Survival, is_root};

#[derive(Debug, Default)]
struct State {
    medium: Medium,
    /// Handles of an earlier generation belong to a process that is gone.
    generation: u64,
    down: bool,
    read_only: bool,
    capacity: Option<u64>,
    locks: BTreeSet<PathBuf>,
    operations: u64,
    fault: Option<(u64, FaultKind, Repeat)>,
    reads: u64,
    read_fault: Option<(u64, Repeat)>,
}

/// A handle to a simulated disk; clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl SimDisk {
    /// An empty disk without limits or faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Changing operations so far: create, write, sync, allocate, set length, rename, remove,
    /// directory sync.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Reads of file contents so far.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.state.lock().reads
    }

    /// Lets the changing operation number `at` (the first one is 0) fail.
    pub fn fail_at(&self, at: u64, kind: FaultKind, repeat: Repeat) {
        self.state.lock().fault = Some((at, kind, repeat));
    }

    /// Lets the read number `at` (the first one is 0) fail with an I/O error.
    pub fn fail_read_at(&self, at: u64, repeat: Repeat) {
        self.state.lock().read_fault = Some((at, repeat));
    }

    /// No more chosen faults.
    pub fn clear_faults(&self) {
        let mut state = self.state.lock();
        (state.fault, state.read_fault) = (None, None);
    }

    /// Sets how many bytes all files together may have; `None` is no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// Bytes of all files together.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.state.lock().medium.used_bytes()
    }

    /// Makes every changing operation fail as on a read-only file system.
    pub fn set_read_only(&self, read_only: bool) {
        self.state.lock().read_only = read_only;
    }

    /// Crashes the machine and starts it again: changes not durable survive as the choice and the
    /// seed say, locks are gone, every open handle fails from now on, faults are cleared.
    pub fn crash(&self, survival: Survival, seed: u64) {
        let mut state = self.state.lock();
        state.medium.crash(survival, seed);
        state.generation += 1;
        state.down = false;
        state.locks.clear();
        (state.fault, state.read_fault) = (None, None);
    }

    /// Kills the process: its handles and locks are gone, what it wrote is not, but is no more durable
    /// than it was.
    pub fn kill(&self) {
        let mut state = self.state.lock();
        state.generation += 1;
        state.locks.clear();
    }

    /// Whether the machine went down in the middle of an operation.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.state.lock().down
    }

    /// Flips one bit of a file, durably. `bit` is 0..=7.
    ///
    /// # Panics
    /// When there is no such byte.
    pub fn flip_bit(&self, path: &Path, byte: u64, bit: u8) {
        let mut state = self.state.lock();
        let number = state.file_number(path).expect("the test names a file that exists");
        let Content { seen, durable } = &mut state.medium.files[number];
        for bytes in [seen, durable] {
            if let Some(byte) = bytes.get_mut(byte as usize) {
                *byte ^= 1 << bit;
            }
        }
    }

    /// A deep copy of the disk as it is now, pending changes included, without locks and faults.
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = self.state.lock();
        let copy = State {
            medium: state.medium.clone(),
            generation: state.generation,
            capacity: state.capacity,
            ..State::default()
        };
        Self { state: Arc::new(Mutex::new(copy)) }
    }

    /// The contents of a file as programs see it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn contents(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state.lock();
        Ok(state.medium.files[state.file_number(path)?].seen.clone())
    }
}

/// What a changing operation is to do after the faults have had their say.
enum Go {
    /// Do it.
    On,
    /// Do half of it, then fail.
    Half,
    /// Leave it pending, then fail: the machine is going down.
    Down,
}

impl State {
    fn file_number(&self, path: &Path) -> io::Result<usize> {
        match self.medium.names.get(path) {
            Some(Node::File(number)) => Ok(*number),
            _ => Err(ErrorKind::NotFound.into()),
        }
    }

    fn alive(&self, generation: u64) -> io::Result<()> {
        if self.down || generation != self.generation {
            return Err(io::Error::other("the simulated machine crashed"));
        }
        Ok(())
    }

    fn read(&mut self) -> io::Result<()> {
        let now = self.reads;
        self.reads += 1;
        match self.read_fault {
            Some((at, repeat)) if strikes(at, repeat, now) => Err(eio()),
            _ => Ok(()),
        }
    }

    /// Counts a changing operation and lets it meet its fault. `grows` is how many more bytes it
    /// needs; `None` for one that never needs space.
    fn operate(&mut self, grows: Option<u64>) -> io::Result<Go> {
        if self.read_only {
            return Err(ErrorKind::ReadOnlyFilesystem.into());
        }
        let now = self.operations;
        self.operations += 1;
        match self.fault {
            Some((at, kind, repeat)) if strikes(at, repeat, now) => match kind {
                FaultKind::Eio => return Err(eio()),
                FaultKind::Enospc if grows.is_some() => return Err(ErrorKind::StorageFull.into()),
                FaultKind::Enospc => {}
                FaultKind::ShortWrite => return Ok(Go::Half),
                FaultKind::CrashNow => {
                    self.down = true;
                    return Ok(Go::Down);
                }
            },
            _ => {}
        }
        if let (Some(grows), Some(capacity)) = (grows, self.capacity)
            && grows > 0
            && self.medium.used_bytes() + grows > capacity
        {
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(Go::On)
    }

    /// An operation that either is done or is not.
    fn change(&mut self, change: Change) -> io::Result<()> {
        match self.operate(None)? {
            Go::On => {
                self.medium.change(change);
                Ok(())
            }
            Go::Half => Err(eio()),
            Go::Down => {
                self.medium.change(change);
                Err(eio())
            }
        }
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.alive(state.generation)?;
        let mut missing: Vec<_> = path
            .ancestors()
            .filter(|up| !is_root(up) && !state.medium.names.contains_key(*up))
            .collect();
        while let Some(path) = missing.pop() {
            state.change(Change::Create { path: path.into(), node: Node::Dir })?;
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        state.alive(state.generation)?;
        if !is_root(path) && state.medium.names.get(path) != Some(&Node::Dir) {
            return Err(ErrorKind::NotFound.into());
        }
        let within = state.medium.names.keys().filter(|name| name.parent() == Some(path));
        Ok(within.filter_map(|name| Some(name.file_name()?.to_str()?.to_owned())).collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.state.lock();
        state.alive(state.generation)?;
        Ok(is_root(path) || state.medium.names.contains_key(path))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state.lock();
        state.alive(state.generation)?;
        let number = match state.medium.names.get(path) {
            Some(Node::File(number)) => *number,
            Some(Node::Dir) => return Err(ErrorKind::IsADirectory.into()),
            None if mode == OpenMode::Read => return Err(ErrorKind::NotFound.into()),
            None => {
                let parent = path.parent().ok_or(ErrorKind::NotFound)?;
                if !is_root(parent) && state.medium.names.get(parent) != Some(&Node::Dir) {
                    return Err(ErrorKind::NotFound.into());
                }
                let number = state.medium.files.len();
                state.medium.files.push(Content::default());
                state.change(Change::Create { path: path.into(), node: Node::File(number) })?;
                number
            }
        };
        if mode != OpenMode::Read && state.read_only {
            return Err(ErrorKind::ReadOnlyFilesystem.into());
        }
        let generation = state.generation;
        Ok(Box::new(SimFile { state: self.state.clone(), generation, number, mode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.alive(state.generation)?;
        let node = Node::File(state.file_number(from)?);
        state.change(Change::Rename { from: from.into(), to: to.into(), node })
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.alive(state.generation)?;
        let node = Node::File(state.file_number(from)?);
        if state.medium.names.contains_key(to) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        state.change(Change::Create { path: to.into(), node })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.alive(state.generation)?;
        state.file_number(path)?;
        state.change(Change::Remove { path: path.into() })
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        if !self.list(path)?.is_empty() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        self.state.lock().change(Change::Remove { path: path.into() })
    }

    /// There are no links and dots here.
    fn real_path(&self, path: &Path) -> io::Result<PathBuf> {
        if self.exists(path)? { Ok(path.into()) } else { Err(ErrorKind::NotFound.into()) }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.alive(state.generation)?;
        match state.operate(None)? {
            Go::On => {
                state.medium.settle_dir(path);
                Ok(())
            }
            Go::Half | Go::Down => Err(eio()),
        }
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        let state = self.state.lock();
        state.alive(state.generation)?;
        Ok(state.capacity.map_or(u64::MAX, |all| all.saturating_sub(state.medium.used_bytes())))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        drop(self.open(path, OpenMode::Write)?);
        let mut state = self.state.lock();
        if !state.locks.insert(path.into()) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let generation = state.generation;
        Ok(Box::new(SimLock { state: self.state.clone(), generation, path: path.into() }))
    }
}

struct SimLock {
    state: Arc<Mutex<State>>,
    generation: u64,
    path: PathBuf,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        // The guard of a crashed process must not release the lock of the next one.
        if state.generation == self.generation {
            state.locks.remove(&self.path);
        }
    }
}

struct SimFile {
    state: Arc<Mutex<State>>,
    generation: u64,
    number: usize,
    mode: OpenMode,
}

impl SimFile {
    fn grow(&self, len: u64, reserves: bool) -> io::Result<()> {
        let mut state = self.writable()?;
        let now = state.medium.files[self.number].seen.len() as u64;
        let grows = reserves.then_some(len.saturating_sub(now));
        let change = Change::SetLen { file: self.number, len: len as usize };
        match state.operate(grows)? {
            Go::On => state.medium.change(change),
            Go::Half => return Err(eio()),
            Go::Down => {
                state.medium.change(change);
                return Err(eio());
            }
        }
        Ok(())
    }

    fn writable(&self) -> io::Result<parking_lot::MutexGuard<'_, State>> {
        let state = self.state.lock();
        state.alive(self.generation)?;
        if self.mode == OpenMode::Read {
            return Err(ErrorKind::PermissionDenied.into());
        }
        Ok(state)
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state.lock();
        state.alive(self.generation)?;
        state.read()?;
        let bytes = &state.medium.files[self.number].seen;
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.writable()?;
        let now = state.medium.files[self.number].seen.len() as u64;
        let grows = (offset + bytes.len() as u64).saturating_sub(now);
        let go = state.operate(Some(grows))?;
        let part = if matches!(go, Go::Half) { &bytes[..bytes.len() / 2] } else { bytes };
        let file = self.number;
        state.medium.change(Change::Write { file, offset: offset as usize, bytes: part.to_vec() });
        match go {
            Go::On if self.mode == OpenMode::Durable => state.medium.settle_last_write(),
            Go::On => {}
            Go::Half | Go::Down => return Err(eio()),
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.alive(self.generation)?;
        match state.operate(None) {
            Ok(Go::On) => {
                state.medium.settle_file(self.number, true);
                Ok(())
            }
            Ok(Go::Down) => Err(eio()),
            Ok(Go::Half) | Err(_) => {
                state.medium.settle_file(self.number, false);
                Err(eio())
            }
        }
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let now = self.len()?;
        self.grow(len.max(now), true)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.grow(len, false)
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.state.lock();
        state.alive(self.generation)?;
        Ok(state.medium.files[self.number].seen.len() as u64)
    }

    /// A copy, and a read that can fail like any other.
    fn map(&self, offset: u64, len: u64) -> io::Result<MappedBytes> {
        let mut state = self.state.lock();
        state.alive(self.generation)?;
        state.read()?;
        let bytes = &state.medium.files[self.number].seen;
        let end = offset.checked_add(len).ok_or(ErrorKind::UnexpectedEof)?;
        let part = bytes.get(offset as usize..end as usize).ok_or(ErrorKind::UnexpectedEof)?;
        Ok(Box::new(part.to_vec()))
    }
}
