//! Names of files and directories: the durable ones are those of the real directories, the changes
//! since are in a list.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::env::{Disk, OpenMode, OsDisk};
use crate::sim::random::Random;

/// A change of one directory that is not durable.
#[derive(Debug)]
enum Change {
    /// A new name, of something that lies at `staged` until the change is durable.
    Create {
        path: PathBuf,
        staged: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    RemoveDir {
        path: PathBuf,
    },
}

impl Change {
    fn is_in(&self, dir: &Path) -> bool {
        let (Self::Create { path, .. }
        | Self::Rename { to: path, .. }
        | Self::Remove { path }
        | Self::RemoveDir { path }) = self;
        path.parent() == Some(dir)
    }
}

/// All names, by absolute path.
pub(super) struct Names {
    real: OsDisk,
    staging: PathBuf,
    /// Things staged so far.
    staged: u64,
    /// In the order in which they were made.
    pending: Vec<Change>,
}

impl Names {
    pub(super) fn new(staging: &Path) -> io::Result<Self> {
        match std::fs::remove_dir_all(staging) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => std::fs::create_dir_all(staging)?,
        }
        let staging = std::fs::canonicalize(staging)?;
        Ok(Self { real: OsDisk::default(), staging, staged: 0, pending: Vec::new() })
    }

    /// Where something with this name really lies.
    ///
    /// # Errors
    /// `NotFound` when there is no such thing.
    pub(super) fn locate(&self, path: &Path) -> io::Result<PathBuf> {
        let mut path = path;
        for change in self.pending.iter().rev() {
            match change {
                Change::Create { path: new, staged } if new == path => return Ok(staged.clone()),
                Change::Rename { from, to } if to == path => path = from,
                Change::Rename { from: gone, .. }
                | Change::Remove { path: gone }
                | Change::RemoveDir { path: gone }
                    if gone == path =>
                {
                    return Err(ErrorKind::NotFound.into());
                }
                _ => {}
            }
        }
        let entry = self.entry(path)?;
        if self.real.exists(&entry)? { Ok(entry) } else { Err(ErrorKind::NotFound.into()) }
    }

    /// Where the real entry of a name is, or would be.
    fn entry(&self, path: &Path) -> io::Result<PathBuf> {
        match (path.parent(), path.file_name()) {
            (Some(dir), Some(name)) => Ok(self.locate(dir)?.join(name)),
            _ => Ok(path.into()),
        }
    }

    fn next_staged(&mut self) -> PathBuf {
        self.staged += 1;
        self.staging.join(self.staged.to_string())
    }

    fn create(&mut self, path: &Path, staged: &Path) {
        self.pending.push(Change::Create { path: path.into(), staged: staged.into() });
    }

    /// Creates an empty file; where it really lies.
    pub(super) fn create_file(&mut self, path: &Path) -> io::Result<PathBuf> {
        self.entry(path)?;
        let staged = self.next_staged();
        drop(self.real.open(&staged, OpenMode::Write)?);
        self.create(path, &staged);
        Ok(staged)
    }

    pub(super) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        match self.locate(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            found => return found.map(|_| ()),
        }
        if let Some(up) = path.parent() {
            self.create_dir_all(up)?;
        }
        let staged = self.next_staged();
        self.real.create_dir_all(&staged)?;
        self.create(path, &staged);
        Ok(())
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names: BTreeSet<String> = self.real.list(&self.locate(dir)?)?.into_iter().collect();
        let name = |path: &Path| {
            path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into())
        };
        for change in self.pending.iter().filter(|change| change.is_in(dir)) {
            match change {
                Change::Create { path, .. } => {
                    names.insert(name(path));
                }
                Change::Rename { from, to } => {
                    names.remove(&name(from));
                    names.insert(name(to));
                }
                Change::Remove { path } | Change::RemoveDir { path } => {
                    names.remove(&name(path));
                }
            }
        }
        Ok(names.into_iter().collect())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.locate(from)?;
        if from.parent() != to.parent() {
            return Err(ErrorKind::CrossesDevices.into());
        }
        if from != to {
            self.pending.push(Change::Rename { from: from.into(), to: to.into() });
        }
        Ok(())
    }

    pub(super) fn hard_link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let real = self.locate(from)?;
        self.entry(to)?;
        if self.locate(to).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let staged = self.next_staged();
        self.real.hard_link(&real, &staged)?;
        self.create(to, &staged);
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.locate(path)?;
        self.pending.push(Change::Remove { path: path.into() });
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        if !self.list(path)?.is_empty() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        self.pending.push(Change::RemoveDir { path: path.into() });
        Ok(())
    }

    /// Makes every change of a directory durable.
    pub(super) fn sync(&mut self, dir: &Path) -> io::Result<()> {
        self.locate(dir)?;
        self.settle(dir, usize::MAX)
    }

    /// Lets the first few changes of a random directory through.
    pub(super) fn write_back(&mut self, random: &mut Random) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let (Change::Create { path, .. }
        | Change::Rename { to: path, .. }
        | Change::Remove { path }
        | Change::RemoveDir { path }) = random.pick(&self.pending);
        let Some(dir) = path.parent().map(Path::to_owned) else { return Ok(()) };
        self.settle(&dir, 1 + random.below(4) as usize)
    }

    fn settle(&mut self, dir: &Path, most: usize) -> io::Result<()> {
        for _ in 0..most {
            let Some(at) = self.pending.iter().position(|change| change.is_in(dir)) else { break };
            self.apply(&self.pending[at])?;
            self.pending.remove(at);
        }
        Ok(())
    }

    fn apply(&self, change: &Change) -> io::Result<()> {
        match change {
            Change::Create { path, staged } => self.real.rename(staged, &self.entry(path)?),
            Change::Rename { from, to } => self.real.rename(&self.entry(from)?, &self.entry(to)?),
            Change::Remove { path } => self.real.remove(&self.entry(path)?),
            // Names in it whose removal was not synced go along.
            Change::RemoveDir { path } => std::fs::remove_dir_all(self.entry(path)?),
        }
    }
}
