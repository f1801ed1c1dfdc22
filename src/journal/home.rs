//! The data directory: who uses it, and which version of the format it has.

mod new;

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::env::{Disk, OpenMode};

pub use new::NewDataDir;

/// Version of the directory's format that this code writes, and the highest it reads.
pub const FORMAT_VERSION: u32 = 2;

/// What a directory of an older version needs before this code can use it.
enum Older {
    /// No release wrote it; nothing reads it any more.
    Unreleased,
}

/// The only place that knows older versions. A released one gets an arm that says how it is brought
/// up to date.
fn older(version: u32) -> Option<Older> {
    (version < FORMAT_VERSION).then_some(Older::Unreleased)
}

const FORMAT: &str = "FORMAT";
const FORMAT_NEW: &str = "FORMAT.new";
const LOCK: &str = "LOCK";
const JOURNAL: &str = "journal";
const STORE: &str = "store";
/// What may lie in a directory before it becomes a data directory.
const NOT_IN_THE_WAY: [&str; 3] = [LOCK, FORMAT_NEW, "lost+found"];
/// Longest `FORMAT` file that is looked at, bytes.
const FORMAT_BYTES_MAX: usize = 64;

/// Why a directory cannot be used as data directory.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HomeError {
    /// Another server holds the lock.
    #[error(
        "{} is in use by another postdate; stop that one, or choose another data directory",
        .0.display()
    )]
    InUse(PathBuf),
    /// No right to write there.
    #[error(
        "{} cannot be written: {source}; give the user of the server the rights, mount the file \
         system writable, or choose another data directory",
        dir.display()
    )]
    ReadOnly {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Made by a newer postdate.
    #[error(
        "{} has format version {found}, this postdate reads up to {FORMAT_VERSION}; use the newer \
         postdate that made it",
        dir.display()
    )]
    NewerVersion {
        /// The directory.
        dir: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Made by a development version, before there was a release.
    #[error(
        "{} has format version {found}: it was made by a development version of postdate and cannot \
         be read; choose another data directory, or start anew in an empty one",
        dir.display()
    )]
    Unreleased {
        /// The directory.
        dir: PathBuf,
        /// Its version.
        found: u32,
    },
    /// There are files in it, but not those of a data directory.
    #[error(
        "{} is not a postdate data directory and not empty (it holds {example}); choose an empty \
         directory, or restore its FORMAT file if that was lost",
        dir.display()
    )]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// One of the files.
        example: String,
    },
    /// A new data directory was to be made where something lies already.
    #[error(
        "{} is not empty (it holds {example}); choose an empty directory, or one that does not exist",
        dir.display()
    )]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
        /// One of the files.
        example: String,
    },
    /// `FORMAT` does not say what it should.
    #[error(
        "the file FORMAT in {} is damaged; it should be the line `postdate {FORMAT_VERSION}`",
        .0.display()
    )]
    BadFormat(PathBuf),
    /// The operating system refused a file operation.
    #[error("cannot {op} {}: {source}", file.display())]
    Io {
        /// What was tried: a verb.
        op: &'static str,
        /// On which file or directory.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A data directory held by this process until dropped.
pub struct DataDir {
    root: PathBuf,
    _lock: Box<dyn Send + Sync>,
}

impl DataDir {
    /// Takes a data directory: creates it when missing, locks it, checks its format or writes it.
    ///
    /// # Errors
    /// [`HomeError`]; nothing in an existing directory was changed except the lock file, and
    /// nothing at all in a directory that is not ours.
    pub fn open(disk: &dyn Disk, root: &Path) -> Result<Self, HomeError> {
        create_durably(disk, root)?;
        if let Err(foreign @ HomeError::Foreign { .. }) = Self::check_format(disk, root) {
            return Err(foreign);
        }
        let path = root.join(LOCK);
        let lock = disk.lock(&path).map_err(|source| match source.kind() {
            ErrorKind::WouldBlock => HomeError::InUse(root.into()),
            _ => denied(root, "lock", &path, source),
        })?;
        if !Self::check_format(disk, root)? {
            write_format(disk, root)?;
        }
        create_durably(disk, &root.join(JOURNAL))?;
        create_durably(disk, &root.join(STORE))?;
        Ok(Self { root: root.into(), _lock: lock })
    }

    /// Whether the directory has a format this code reads; `false` when it has none because it is
    /// still empty. Changes nothing.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn check_format(disk: &dyn Disk, root: &Path) -> Result<bool, HomeError> {
        let path = root.join(FORMAT);
        let file = match disk.open(&path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let names = disk.list(root).map_err(|error| denied(root, "list", root, error))?;
                let example =
                    names.into_iter().find(|name| !NOT_IN_THE_WAY.contains(&name.as_str()));
                return match example {
                    None => Ok(false),
                    Some(example) => Err(HomeError::Foreign { dir: root.into(), example }),
                };
            }
            Err(source) => return Err(denied(root, "open", &path, source)),
        };
        let mut bytes = [0; FORMAT_BYTES_MAX];
        let len = file.read_at(&mut bytes, 0).map_err(|e| denied(root, "read", &path, e))?;
        let text = std::str::from_utf8(&bytes[..len]).ok();
        let number = text
            .and_then(|text| text.strip_prefix("postdate ")?.strip_suffix('\n'))
            .filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
        match number.and_then(|number| number.parse().ok()) {
            None | Some(0) => Err(HomeError::BadFormat(root.into())),
            Some(found) if found > FORMAT_VERSION => {
                Err(HomeError::NewerVersion { dir: root.into(), found })
            }
            Some(found) => match older(found) {
                Some(Older::Unreleased) => Err(HomeError::Unreleased { dir: root.into(), found }),
                None => Ok(true),
            },
        }
    }

    /// Whether some process holds the directory just now. Changes nothing and holds nothing.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn is_in_use(disk: &dyn Disk, root: &Path) -> io::Result<bool> {
        let path = root.join(LOCK);
        if !disk.exists(&path)? {
            return Ok(false);
        }
        match disk.lock(&path) {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the journal is.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        Self::journal_of(&self.root)
    }

    /// Where the store is.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        Self::store_of(&self.root)
    }

    /// Where the store of a data directory is.
    #[must_use]
    pub fn store_of(root: &Path) -> PathBuf {
        root.join(STORE)
    }

    /// Where the journal of a data directory is.
    #[must_use]
    pub fn journal_of(root: &Path) -> PathBuf {
        root.join(JOURNAL)
    }
}

fn denied(root: &Path, op: &'static str, file: &Path, source: io::Error) -> HomeError {
    match source.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            HomeError::ReadOnly { dir: root.into(), source }
        }
        _ => HomeError::Io { op, file: file.into(), source },
    }
}

/// Creates a directory and makes its name and those of all its parents durable, also when they
/// exist: the process that made them may have ended before it came to that.
fn create_durably(disk: &dyn Disk, dir: &Path) -> Result<(), HomeError> {
    let failed = |source| denied(dir, "create", dir, source);
    let mut ups = Vec::new();
    for up in dir.ancestors().filter(|up| !up.as_os_str().is_empty()) {
        ups.push((up, disk.exists(up).map_err(failed)?));
    }
    disk.create_dir_all(dir).map_err(failed)?;
    for (up, existed) in ups {
        let Some(parent) = up.parent() else { continue };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        match disk.sync_dir(parent) {
            // Made for us by somebody with more rights, or on a file system that cannot do it.
            Err(error)
                if existed
                    && matches!(
                        error.kind(),
                        ErrorKind::PermissionDenied
                            | ErrorKind::InvalidInput
                            | ErrorKind::Unsupported
                    ) => {}
            synced => synced.map_err(failed)?,
        }
    }
    Ok(())
}

fn write_format(disk: &dyn Disk, root: &Path) -> Result<(), HomeError> {
    let new = root.join(FORMAT_NEW);
    let text = format!("postdate {FORMAT_VERSION}\n");
    let written = || -> io::Result<()> {
        let file = disk.open(&new, OpenMode::Write)?;
        file.set_len(0)?;
        file.write_at(text.as_bytes(), 0)?;
        file.sync_data()?;
        disk.rename(&new, &root.join(FORMAT))?;
        disk.sync_dir(root)
    };
    written().map_err(|source| denied(root, "write", &new, source))
}
