//! A disk over a real directory that forgets, when its process is killed, what a power cut would
//! take: bytes live in memory until `sync_data` of their file, names until `sync_dir` of their
//! directory. Reads through the same disk see everything.
//!
//! It is for servers that are killed by others (the kill loop, [`torture`](crate::sim::torture)):
//! SIGKILL is the power cut, and the next process finds in the real directory what was synced.
//! Nothing is ever synced for real, for the page cache of the machine outlives the process.
//!
//! What it assumes of a file system: the names of one directory become durable in the order in
//! which they were changed, and a rename as a whole, as file systems with a journal do it; between
//! directories, and between names and bytes, there is no order. The simulated disk assumes less.
//! What is not synced takes memory without bound. Renames stay in one directory.

mod content;
mod names;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use self::content::{Content, Pace};
use self::names::Names;
use crate::env::{Disk, DiskFile, MappedBytes, OpenMode, OsDisk};
use crate::sim::random::Random;

/// Longest time between two moments at which something is written back, ms.
const WRITE_BACK_MAX_MS: u64 = 20;

/// See the [module](self). Clones are the same disk.
#[derive(Clone)]
pub struct VolatileDisk {
    shared: Arc<Shared>,
}

struct Shared {
    real: OsDisk,
    names: Mutex<Names>,
    /// Device and number of each real file that is open or has unsynced bytes. A number is not
    /// given out again while its file is open, and it is open as long as it is in here.
    files: Mutex<BTreeMap<(u64, u64), Arc<Content>>>,
    pace: Pace,
}

impl VolatileDisk {
    /// A disk that lets nothing through before its sync.
    ///
    /// `staging` is a directory for files that have no durable name. It is emptied; it lies on the
    /// file system of the data, is used by one process at a time, and not looked at through this
    /// disk.
    ///
    /// # Errors
    /// When that directory cannot be had.
    pub fn new(staging: &Path) -> io::Result<Self> {
        Self::with_pace(staging, Pace::AtOnce)
    }

    /// A disk that, as a kernel does, also writes back by itself: at random moments a random part
    /// of what is not synced goes through. Syncs take their time and go through in random order,
    /// so that a kill comes in the middle of them. The seed decides what, the machine when.
    ///
    /// # Errors
    /// As [`VolatileDisk::new`], and when there is no thread to be had.
    pub fn torn(staging: &Path, seed: u64) -> io::Result<Self> {
        let random = Arc::new(Mutex::new(Random::new(seed, "syncs")));
        let disk = Self::with_pace(staging, Pace::Torn(random))?;
        let shared = Arc::downgrade(&disk.shared);
        std::thread::Builder::new()
            .name("write-back".into())
            .spawn(move || write_back_for_ever(&shared, Random::new(seed, "write back")))?;
        Ok(disk)
    }

    fn with_pace(staging: &Path, pace: Pace) -> io::Result<Self> {
        let (real, files) = (OsDisk::default(), Mutex::default());
        let names = Mutex::new(Names::new(staging)?);
        Ok(Self { shared: Arc::new(Shared { real, names, files, pace }) })
    }

    /// Lets a random part of what is not synced through.
    pub fn write_back(&self, random: &mut Random) {
        self.shared.write_back(random);
    }
}

fn write_back_for_ever(shared: &Weak<Shared>, mut random: Random) {
    loop {
        std::thread::sleep(Duration::from_millis(random.below(WRITE_BACK_MAX_MS)));
        match shared.upgrade() {
            Some(shared) => shared.write_back(&mut random),
            None => return,
        }
    }
}

impl Shared {
    // Whatever fails here was promised to nobody.
    fn write_back(&self, random: &mut Random) {
        if random.percent(30) {
            let _ = self.names.lock().write_back(random);
        }
        let dirty: Vec<_> = {
            let files = self.files.lock();
            files.values().filter(|file| file.is_dirty()).cloned().collect()
        };
        if !dirty.is_empty() {
            let _ = random.pick(&dirty).write_back(random);
        }
    }

    /// The bytes of the file that really lies there.
    fn content(&self, real: &Path) -> io::Result<Arc<Content>> {
        let stat = rustix::fs::stat(real)?;
        let mut files = self.files.lock();
        files.retain(|_, file| Arc::strong_count(file) > 1 || file.is_dirty());
        if let Some(file) = files.get(&(stat.st_dev, stat.st_ino)) {
            return Ok(file.clone());
        }
        let opened = self.real.open(real, OpenMode::Write)?;
        let file = Arc::new(Content::new(opened, self.pace.clone())?);
        files.insert((stat.st_dev, stat.st_ino), file.clone());
        Ok(file)
    }
}

impl Disk for VolatileDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.shared.names.lock().create_dir_all(&normal(path)?)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.shared.names.lock().list(&normal(path)?)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.shared.names.lock().locate(&normal(path)?) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let path = normal(path)?;
        // Held until the file is open: it must not move in between.
        let mut names = self.shared.names.lock();
        let real = match names.locate(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound && mode != OpenMode::Read => {
                names.create_file(&path)?
            }
            found => found?,
        };
        let content = self.shared.content(&real)?;
        Ok(Box::new(VolatileFile { content, mode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.shared.names.lock().rename(&normal(from)?, &normal(to)?)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.shared.names.lock().hard_link(&normal(from)?, &normal(to)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.shared.names.lock().remove(&normal(path)?)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.shared.names.lock().remove_dir(&normal(path)?)
    }

    fn real_path(&self, path: &Path) -> io::Result<PathBuf> {
        let path = normal(path)?;
        self.shared.names.lock().locate(&path)?;
        Ok(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = normal(path)?;
        self.shared.pace.wait();
        self.shared.names.lock().sync(&path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let real = self.shared.names.lock().locate(&normal(path)?)?;
        self.shared.real.free_bytes(&real)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        drop(self.open(path, OpenMode::Write)?);
        let path = normal(path)?;
        let names = self.shared.names.lock();
        self.shared.real.lock(&names.locate(&path)?)
    }
}

/// One way to write each path: absolute, and without links and dots as far as it exists.
fn normal(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    for up in path.ancestors() {
        match std::fs::canonicalize(up) {
            Ok(real) if up == path => return Ok(real),
            Ok(real) => return Ok(real.join(path.strip_prefix(up).map_err(io::Error::other)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(path)
}

struct VolatileFile {
    content: Arc<Content>,
    mode: OpenMode,
}

impl VolatileFile {
    fn writable(&self) -> io::Result<&Content> {
        if self.mode == OpenMode::Read {
            return Err(ErrorKind::PermissionDenied.into());
        }
        Ok(&self.content)
    }
}

impl DiskFile for VolatileFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.content.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.writable()?.write_at(bytes, offset, self.mode == OpenMode::Durable)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.content.sync()
    }

    /// Takes no space of the real disk before the next sync, which may then find none.
    fn allocate(&self, len: u64) -> io::Result<()> {
        let content = self.writable()?;
        content.set_len(len.max(content.len()));
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.writable()?.set_len(len);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.content.len())
    }

    fn map(&self, offset: u64, len: u64) -> io::Result<MappedBytes> {
        self.content.map(offset, len)
    }
}
