//! A data directory in the making: filled by somebody, and nobody's until it is finished.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::env::Disk;
use crate::journal::home::{
    FORMAT_NEW, HomeError, JOURNAL, LOCK, STORE, create_durably, denied, write_format,
};

/// A directory that becomes a data directory by [`NewDataDir::finish`]. Until then no server starts
/// on it, and dropping it removes everything that was made.
pub struct NewDataDir {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    /// Directories that were made for it, the innermost first.
    made: Vec<PathBuf>,
    /// It is finished, or not ours to remove.
    keep: bool,
    /// Nobody else fills it meanwhile.
    lock: Option<Box<dyn Send + Sync>>,
}

impl NewDataDir {
    /// Begins a data directory in an empty directory, or in one that does not exist.
    ///
    /// # Errors
    /// [`HomeError`]; then nothing is left of it.
    pub fn begin(disk: Arc<dyn Disk>, root: &Path) -> Result<Self, HomeError> {
        let look = |path: &Path| {
            disk.exists(path).map_err(|source| denied(root, "look for", path, source))
        };
        let mut made = Vec::new();
        for up in root.ancestors() {
            if look(up)? {
                break;
            }
            made.push(up.to_path_buf());
        }
        if made.is_empty() {
            check_empty(&*disk, root, &[])?;
        }
        let mut new = Self { disk, root: root.into(), made, keep: false, lock: None };
        create_durably(&*new.disk, root)?;
        let path = root.join(LOCK);
        let lock = new.disk.lock(&path).map_err(|source| match source.kind() {
            ErrorKind::WouldBlock => HomeError::InUse(root.into()),
            _ => denied(root, "lock", &path, source),
        });
        match lock {
            Ok(lock) => new.lock = Some(lock),
            Err(error) => {
                // It is somebody else's.
                new.keep = matches!(error, HomeError::InUse(_));
                return Err(error);
            }
        }
        // Somebody may have been quicker.
        if let Err(error) = check_empty(&*new.disk, root, &[LOCK]) {
            new.keep = true;
            return Err(error);
        }
        create_durably(&*new.disk, &new.journal())?;
        create_durably(&*new.disk, &new.store())?;
        Ok(new)
    }

    /// Where the journal goes.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.root.join(JOURNAL)
    }

    /// Where the store goes.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.root.join(STORE)
    }

    /// Makes it a data directory. What was put into it must be durable, but for the names.
    ///
    /// # Errors
    /// [`HomeError`]; then nothing is left of it.
    pub fn finish(mut self) -> Result<(), HomeError> {
        for dir in [self.journal(), self.store()] {
            let synced = self.disk.sync_dir(&dir);
            synced.map_err(|source| denied(&self.root, "sync", &dir, source))?;
        }
        write_format(&*self.disk, &self.root)?;
        self.keep = true;
        Ok(())
    }
}

impl Drop for NewDataDir {
    /// What cannot be removed stays: it has no FORMAT, so no server takes it for a data directory.
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        for dir in [self.journal(), self.store()] {
            for name in self.disk.list(&dir).unwrap_or_default() {
                let _ = self.disk.remove(&dir.join(name));
            }
            let _ = self.disk.remove_dir(&dir);
        }
        for name in [super::FORMAT, FORMAT_NEW, LOCK] {
            let _ = self.disk.remove(&self.root.join(name));
        }
        for dir in &self.made {
            let _ = self.disk.remove_dir(dir);
        }
    }
}

fn check_empty(disk: &dyn Disk, root: &Path, but_for: &[&str]) -> Result<(), HomeError> {
    let names = disk.list(root).map_err(|source| denied(root, "list", root, source))?;
    // The root of a file system of its own has this.
    let mut names = names.into_iter().filter(|name| name != "lost+found");
    match names.find(|name| !but_for.contains(&name.as_str())) {
        Some(example) => Err(HomeError::NotEmpty { dir: root.into(), example }),
        None => Ok(()),
    }
}
