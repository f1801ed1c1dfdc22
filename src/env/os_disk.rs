//! The disk of the operating system.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, FallocateFlags, OFlags};
use rustix::io::Errno;

use crate::base::limits::DIRECT_ALIGN;
use crate::env::disk::{Disk, DiskFile, MappedBytes, OpenMode};
use crate::env::map::map;

/// `O_DSYNC`. The constant of that name in rustix 1.1 is `O_SYNC` on its raw Linux backend, which
/// also writes the time stamps back on every write; so the number stands here, where it is known.
#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")
))]
const DSYNC: u32 = 0o10000;
/// Elsewhere `O_SYNC`, which promises more.
#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")
)))]
const DSYNC: u32 = OFlags::SYNC.bits();

/// How a file opened with [`OpenMode::Durable`] gets its writes to stable storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DurableWrites {
    /// `O_DIRECT | O_DSYNC`; falls back to [`DurableWrites::Dsync`] where the file system refuses
    /// and for buffers that are not aligned.
    #[default]
    DirectDsync,
    /// `O_DSYNC` through the page cache.
    Dsync,
    /// A plain write and `fdatasync`.
    Fdatasync,
}

/// Settings of [`OsDisk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OsDiskOptions {
    /// See [`DurableWrites`].
    pub durable: DurableWrites,
}

/// Files of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsDisk {
    options: OsDiskOptions,
}

impl OsDisk {
    /// A disk with these settings.
    #[must_use]
    pub fn new(options: OsDiskOptions) -> Self {
        Self { options }
    }
}

impl Disk for OsDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path)? {
            // Our own names are ASCII, so one that is not UTF-8 is nobody we look for.
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        if mode == OpenMode::Read {
            let file = File::open(path)?;
            // What we open for reading alone we mostly read from front to back: read further ahead.
            // Reads here and there are not made longer by it. Not to be told is no harm.
            let _ = rustix::fs::fadvise(&file, 0, None, Advice::Sequential);
            return Ok(Box::new(OsFile::plain(file)));
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        if mode == OpenMode::Write {
            return Ok(Box::new(OsFile::plain(options.open(path)?)));
        }
        let durable = (mode == OpenMode::Durable).then_some(self.options.durable);
        let fdatasync = durable == Some(DurableWrites::Fdatasync);
        let sync = if durable.is_none() || fdatasync { 0 } else { DSYNC };
        options.custom_flags(sync.cast_signed());
        let file = options.open(path)?;
        let direct = if matches!(durable, None | Some(DurableWrites::DirectDsync)) {
            options.custom_flags((sync | OFlags::DIRECT.bits()).cast_signed());
            match options.open(path) {
                Ok(direct) => Some(direct),
                // Without it nothing but speed is lost: whatever the reason.
                Err(_) if durable.is_none() => None,
                Err(error) if is(&error, Errno::INVAL) => None,
                Err(error) => return Err(error),
            }
        } else {
            None
        };
        Ok(Box::new(OsFile { file, direct, refused: AtomicBool::new(false), fdatasync }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that calls it")]
        std::fs::rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir(path)
    }

    fn real_path(&self, path: &Path) -> io::Result<PathBuf> {
        std::fs::canonicalize(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

struct OsFile {
    /// Everything but direct writes.
    file: File,
    /// The same file for direct writes, if the file system takes them.
    direct: Option<File>,
    /// A direct write was refused; use `file` from now on.
    refused: AtomicBool,
    /// Each write is followed by `fdatasync`.
    fdatasync: bool,
}

impl OsFile {
    fn plain(file: File) -> Self {
        Self { file, direct: None, refused: AtomicBool::new(false), fdatasync: false }
    }

    fn direct_for(&self, bytes: &[u8], offset: u64) -> Option<&File> {
        let aligned = offset.is_multiple_of(DIRECT_ALIGN as u64)
            && bytes.len().is_multiple_of(DIRECT_ALIGN)
            && bytes.as_ptr().addr().is_multiple_of(DIRECT_ALIGN);
        self.direct.as_ref().filter(|_| aligned && !self.refused.load(Ordering::Relaxed))
    }
}

impl DiskFile for OsFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Some(direct) = self.direct_for(bytes, offset) {
            match direct.write_all_at(bytes, offset) {
                // Some file systems take the flag at open and refuse the write.
                Err(error) if is(&error, Errno::INVAL) || is(&error, Errno::OPNOTSUPP) => {
                    self.refused.store(true, Ordering::Relaxed);
                }
                done => return done,
            }
        }
        self.file.write_all_at(bytes, offset)?;
        if self.fdatasync { self.file.sync_data() } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        loop {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, len) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP) => return self.fill_with_zeros(len),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn map(&self, offset: u64, len: u64) -> io::Result<MappedBytes> {
        map(&self.file, offset, len)
    }
}

impl OsFile {
    fn fill_with_zeros(&self, len: u64) -> io::Result<()> {
        let zeros = vec![0; 1 << 20];
        let mut at = self.len()?;
        while at < len {
            let step = (len - at).min(zeros.len() as u64);
            self.file.write_all_at(&zeros[..step as usize], at)?;
            at += step;
        }
        Ok(())
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the three kinds of durable writes leave the same file, aligned or not, and carry the
    /// open flags they are named for. Method: a real file each, flags read from the kernel.
    #[test]
    fn durable_writes_of_every_kind_write_the_same() {
        let dir = tempfile::tempdir().unwrap();
        for durable in [DurableWrites::DirectDsync, DurableWrites::Dsync, DurableWrites::Fdatasync]
        {
            let disk = OsDisk::new(OsDiskOptions { durable });
            let path = dir.path().join(format!("{durable:?}"));
            let file = disk.open(&path, OpenMode::Durable).unwrap();
            file.allocate(16384).unwrap();
            let buffer = vec![7; 8192 + DIRECT_ALIGN];
            let start = buffer.as_ptr().align_offset(DIRECT_ALIGN);
            file.write_at(&buffer[start..start + 8192], 4096).unwrap();
            file.write_at(b"odd", 1).unwrap();
            file.sync_data().unwrap();
            disk.sync_dir(dir.path()).unwrap();
            let mut read = vec![1; 20000];
            assert_eq!(file.read_at(&mut read, 0).unwrap(), 16384);
            assert_eq!(&read[..5], b"\0odd\0");
            assert_eq!((read[4095], read[4096], read[12287], read[12288]), (0, 7, 7, 0));
            file.set_len(5).unwrap();
            assert_eq!(file.len().unwrap(), 5);
        }
    }

    /// Goal: what is written past the page cache and what is not make one file. Method: whole aligned
    /// pieces and a rest, as segments are written, read by a handle of its own.
    #[test]
    fn bulk_writes_make_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, path) = (OsDisk::default(), dir.path().join("bulk"));
        let bytes: Vec<u8> = (0..5 * DIRECT_ALIGN).map(|at| (at / 7) as u8).collect();
        let start = bytes.as_ptr().align_offset(DIRECT_ALIGN);
        let bytes = &bytes[start..start + 3 * DIRECT_ALIGN + 5];
        let file = disk.open(&path, OpenMode::Bulk).unwrap();
        for (from, to) in [(0, 2), (2, 3)] {
            let piece = &bytes[from * DIRECT_ALIGN..to * DIRECT_ALIGN];
            file.write_at(piece, (from * DIRECT_ALIGN) as u64).unwrap();
        }
        file.write_at(&bytes[3 * DIRECT_ALIGN..], 3 * DIRECT_ALIGN as u64).unwrap();
        file.sync_data().unwrap();
        assert_eq!(std::fs::read(path).unwrap(), bytes);
    }

    /// Goal: `DSYNC` is the data-only flag. Method: what the kernel says of an open file.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    #[test]
    fn dsync_is_not_sync() {
        use std::os::fd::AsRawFd;
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut options = OpenOptions::new();
        let open = options.write(true).custom_flags(DSYNC.cast_signed()).open(file.path()).unwrap();
        let info =
            std::fs::read_to_string(format!("/proc/self/fdinfo/{}", open.as_raw_fd())).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let flags = u32::from_str_radix(flags, 8).unwrap();
        assert_eq!(flags & OFlags::SYNC.bits(), DSYNC);
    }

    /// Goal: a mapping shows the bytes that were written, from any offset, and outlives handle and
    /// name; one past the end is refused. Method: a real file of three pages.
    #[test]
    fn a_mapping_shows_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let disk = OsDisk::default();
        let path = dir.path().join("sealed");
        let bytes: Vec<u8> = (0..12_000u32).map(|number| number as u8).collect();
        disk.open(&path, OpenMode::Write).unwrap().write_at(&bytes, 0).unwrap();
        let file = disk.open(&path, OpenMode::Read).unwrap();
        let mapped = file.map(4_097, 7_903).unwrap();
        for (offset, len) in [(4_097, 7_904), (12_001, 0), (u64::MAX, 2)] {
            let refused = file.map(offset, len).err().unwrap();
            assert_eq!(refused.kind(), io::ErrorKind::UnexpectedEof);
        }
        assert!(file.map(12_000, 0).unwrap().as_ref().as_ref().is_empty());
        drop(file);
        disk.remove(&path).unwrap();
        assert_eq!(mapped.as_ref().as_ref(), &bytes[4_097..]);
    }

    #[test]
    fn names_locks_and_renames() {
        let dir = tempfile::tempdir().unwrap();
        let disk = OsDisk::default();
        let path = |name: &str| dir.path().join(name);
        disk.create_dir_all(&path("d/e")).unwrap();
        disk.open(&path("d/b"), OpenMode::Write).unwrap().write_at(b"b", 0).unwrap();
        disk.open(&path("d/a"), OpenMode::Write).unwrap();
        assert_eq!(disk.list(&path("d")).unwrap(), ["a", "b", "e"]);
        disk.rename(&path("d/b"), &path("d/a")).unwrap();
        assert_eq!(disk.open(&path("d/a"), OpenMode::Read).unwrap().len().unwrap(), 1);
        disk.remove(&path("d/a")).unwrap();
        assert!(!disk.exists(&path("d/a")).unwrap());
        let missing = disk.open(&path("d/a"), OpenMode::Read).err().unwrap();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(disk.free_bytes(dir.path()).unwrap() > 0);

        let held = disk.lock(&path("L")).unwrap();
        let refused = disk.lock(&path("L")).err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(held);
        disk.lock(&path("L")).unwrap();
    }
}
