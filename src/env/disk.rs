//! The disk port: the few file operations journal and store need, object safe.

use std::io;
use std::path::{Path, PathBuf};

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// For reading; the file must exist.
    Read,
    /// For reading and writing; created when missing. What is written is durable after
    /// [`DiskFile::sync_data`].
    Write,
    /// Like [`OpenMode::Write`], for much that is written once, front to back, and not read at once:
    /// it takes no place in the page cache. Only buffers that are 4 KiB aligned in address, offset
    /// and length gain by it.
    Bulk,
    /// Like [`OpenMode::Write`], and a [`DiskFile::write_at`] that returned `Ok` is on stable
    /// storage. Fastest when buffers are 4 KiB aligned in address, offset and length.
    Durable,
}

/// A file system.
///
/// Creating, renaming and removing files is durable after [`Disk::sync_dir`] of their directory.
/// Errors are those of the operating system; `ErrorKind::StorageFull` means the disk is full.
pub trait Disk: Send + Sync {
    /// Creates a directory and its missing parents. No error when it exists.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Whether a file or directory of this name exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>>;
    /// Renames a file, replacing the target atomically. Open handles stay with the file.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name, which must be free. Whatever is written by one name is seen by
    /// the other: for files that nobody writes to any more.
    ///
    /// # Errors
    /// Those of the operating system: among others another file system, or one without such names.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file, or one of its names.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// The one path of something that exists: absolute, without links and dots.
    fn real_path(&self, path: &Path) -> io::Result<PathBuf>;
    /// Makes the entries of a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Bytes an ordinary user may still write to the file system that holds `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
    /// Takes an exclusive advisory lock on a file, created when missing. It is released when the
    /// guard is dropped or the process ends.
    ///
    /// # Errors
    /// `ErrorKind::WouldBlock` when somebody else holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
}

/// Bytes of a file that can be looked at as if they were in memory; see [`DiskFile::map`].
pub type MappedBytes = Box<dyn AsRef<[u8]> + Send + Sync>;

/// An open file. Reading and writing are by position; there is no cursor.
#[expect(clippy::len_without_is_empty, reason = "a length in bytes, not a collection")]
pub trait DiskFile: Send + Sync {
    /// Fills the buffer from `offset` on. Returns fewer bytes only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all bytes at `offset`. After an error any part of them may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes everything written through any handle of this file durable, and its length.
    ///
    /// After an error nothing is known: a second call may return `Ok` although data was lost.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes the file at least `len` bytes long, with disk space behind every byte. What was not
    /// written yet reads as zero.
    ///
    /// # Errors
    /// `ErrorKind::StorageFull` when the space is not there.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Cuts or extends the file to exactly `len` bytes; extending does not reserve space.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Length of the file in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Looks at `len` bytes from `offset` on, without a copy where the system can do it: what is
    /// not looked at costs no memory, and what is can be given back. They stay when the handle is
    /// dropped and the file removed.
    ///
    /// For *sealed* files only, those that nobody writes to or cuts any more: a file that is
    /// changed all the same may show either state, and one that is cut ends the process. A bad
    /// sector under these bytes ends it too, so what is mapped is small and read once at opening.
    ///
    /// # Errors
    /// `ErrorKind::UnexpectedEof` when the file is shorter; those of the operating system.
    fn map(&self, offset: u64, len: u64) -> io::Result<MappedBytes>;
}
