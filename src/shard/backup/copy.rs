//! The work of a backup: files from one directory to another.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::command::BackedUp;
use crate::env::disk::{DiskFile, OpenMode};
use crate::journal::home::{DataDir, HomeError, NewDataDir};
use crate::journal::{self, JournalError};
use crate::store::{Snapshot, SnapshotFile, StoreError};

use super::Job;

/// Bytes that are copied and synced in one go: few enough not to be felt by those who wait for the same
/// disk.
const PIECE_BYTES: u64 = 1 << 20;

/// Why there is no backup. Nothing of it is left, and the data directory was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    #[error("the directory for the backup must be an absolute path without dots, not {}", .0.display())]
    NotAbsolute(PathBuf),
    #[error(
        "{} is inside the data directory {}; choose a directory outside of it",
        target.display(), data_dir.display()
    )]
    Inside { target: PathBuf, data_dir: PathBuf },
    #[error(
        "not enough space in {}: {needed} bytes are needed, {free} are free, and {reserve} of them are \
         left alone; free space, or choose another disk",
        dir.display()
    )]
    NoSpace { dir: PathBuf, needed: u64, free: u64, reserve: u64 },
    #[error("cannot {op} {}: {source}", file.display())]
    Io { op: &'static str, file: PathBuf, source: io::Error },
    #[error("{} ended while it was copied; look at the disk and its log", .0.display())]
    Short(PathBuf),
    #[error("the server is stopping")]
    Stopping,
    #[error("the thread that makes it could not be started: {0}")]
    Thread(io::Error),
    #[error("making it stopped by a bug; the server goes on: please report it")]
    Panicked,
    #[error(transparent)]
    Target(#[from] HomeError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A backup that is being made.
pub(in crate::shard) struct Copying {
    job: Job,
    stop: Arc<AtomicBool>,
    made: BackedUp,
}

impl Copying {
    /// Ends early when `stop` is set.
    pub(in crate::shard) fn new(job: Job, stop: Arc<AtomicBool>) -> Self {
        Self { job, stop, made: BackedUp::default() }
    }

    /// Makes it, of the store as `snapshot` says. `journal_copied` is told when the journal is not
    /// needed any more.
    pub(in crate::shard) fn run(
        mut self,
        snapshot: &Snapshot,
        journal_copied: &mut dyn FnMut(),
    ) -> Result<BackedUp, BackupError> {
        self.check_target()?;
        let disk = self.job.disk.clone();
        let target = NewDataDir::begin(disk.clone(), &self.job.target)?;
        let source = DataDir::journal_of(&self.job.data_dir);
        for part in journal::parts(&*disk, &source, snapshot.journal_from(), self.job.journal_to)? {
            let file = disk.open(&part.file, OpenMode::Read).at("open", &part.file)?;
            let to = target.journal().join(name_of(&part.file));
            self.copy(&*file, &part.file, part.bytes, &to)?;
        }
        journal_copied();
        for SnapshotFile { path, bytes, file } in snapshot.files() {
            self.go_on()?;
            let to = target.store().join(name_of(path));
            // It fails on another file system, on one without such names, and for a file that is
            // merged away by now.
            if disk.hard_link(path, &to).is_err() {
                self.copy(file, path, bytes, &to)?;
                continue;
            }
            self.made.files += 1;
            self.made.bytes += bytes;
            self.made.linked_files += 1;
            self.made.linked_bytes += bytes;
        }
        let (name, root) = snapshot.root();
        let path = target.store().join(name);
        let file = self.create(&path, root.len() as u64)?;
        file.write_at(root, 0).at("write", &path)?;
        file.sync_data().at("sync", &path)?;
        target.finish()?;
        Ok(self.made)
    }

    /// Copies the beginning of a file in small pieces, each durable before the next.
    fn copy(
        &mut self,
        from: &dyn DiskFile,
        path: &Path,
        bytes: u64,
        to: &Path,
    ) -> Result<(), BackupError> {
        let file = self.create(to, bytes)?;
        let mut piece = vec![0; bytes.min(PIECE_BYTES) as usize];
        let mut at = 0;
        while at < bytes {
            self.go_on()?;
            let wanted = (bytes - at).min(PIECE_BYTES) as usize;
            let read = from.read_at(&mut piece[..wanted], at).at("read", path)?;
            if read < wanted {
                return Err(BackupError::Short(path.into()));
            }
            file.write_at(&piece[..wanted], at).at("write", to)?;
            at += wanted as u64;
        }
        file.sync_data().at("sync", to)
    }

    /// Makes a file with space for so many bytes, if there is space beyond the reserve.
    fn create(&mut self, path: &Path, bytes: u64) -> Result<Box<dyn DiskFile>, BackupError> {
        self.made.files += 1;
        self.made.bytes += bytes;
        let (disk, dir) = (&self.job.disk, &self.job.target);
        // A disk that cannot be asked says so when it is written to.
        let free = disk.free_bytes(dir).unwrap_or(u64::MAX);
        let reserve = self.job.reserve;
        let no_space = || BackupError::NoSpace { dir: dir.clone(), needed: bytes, free, reserve };
        if free < bytes.saturating_add(reserve) {
            return Err(no_space());
        }
        let file = disk.open(path, OpenMode::Durable).at("create", path)?;
        match file.allocate(bytes) {
            Err(error)
                if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) =>
            {
                Err(no_space())
            }
            done => done.at("make room for", path).map(|()| file),
        }
    }

    fn go_on(&self) -> Result<(), BackupError> {
        if self.stop.load(Ordering::Relaxed) { Err(BackupError::Stopping) } else { Ok(()) }
    }

    /// The target must not be inside the data directory, by whatever name.
    fn check_target(&self) -> Result<(), BackupError> {
        let Job { disk, data_dir, target, .. } = &self.job;
        let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
        if !target.is_absolute() || !target.components().all(plain) {
            return Err(BackupError::NotAbsolute(target.clone()));
        }
        let real = disk.real_path(data_dir).at("find", data_dir)?;
        for up in target.ancestors() {
            if !disk.exists(up).at("look for", up)? {
                continue;
            }
            if disk.real_path(up).at("find", up)?.starts_with(&real) {
                let (target, data_dir) = (target.clone(), data_dir.clone());
                return Err(BackupError::Inside { target, data_dir });
            }
            break;
        }
        Ok(())
    }
}

fn name_of(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

/// Gives an I/O error its operation and file.
trait At<T> {
    fn at(self, op: &'static str, file: &Path) -> Result<T, BackupError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, op: &'static str, file: &Path) -> Result<T, BackupError> {
        self.map_err(|source| BackupError::Io { op, file: file.into(), source })
    }
}
