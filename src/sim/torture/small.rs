//! A small file system of its own for the data, so that it can be full or read-only for real.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::env::{Disk, OpenMode, OsDisk};

/// Its size: twice what the data of a run need, and the reserve that a server keeps free.
const SIZE: &str = "size=768m";
/// A disk with less free space is full, bytes.
const FULL_BELOW: u64 = 16 * 1024;

/// A file system in memory, mounted; unmounted when dropped, and its data are gone.
#[derive(Debug)]
pub(super) struct SmallDisk {
    dir: PathBuf,
    keep: bool,
}

impl SmallDisk {
    /// Mounts it at `dir`, which is created.
    ///
    /// # Errors
    /// `PermissionDenied` for everybody but root.
    pub(super) fn mount(dir: PathBuf) -> io::Result<Self> {
        if !rustix::process::geteuid().is_root() {
            let why = "only root can mount a file system; run it as root, or without --full-disk";
            return Err(io::Error::new(ErrorKind::PermissionDenied, why));
        }
        std::fs::create_dir_all(&dir)?;
        run(Command::new("mount").args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(&dir))?;
        Ok(Self { dir, keep: false })
    }

    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn filler(&self) -> PathBuf {
        self.dir.join("filler")
    }

    /// Takes all space that is left.
    pub(super) fn fill(&self) -> io::Result<()> {
        let disk = OsDisk::default();
        let filler = disk.open(&self.filler(), OpenMode::Write)?;
        let mut step = disk.free_bytes(&self.dir)?;
        while step >= FULL_BELOW {
            match filler.allocate(filler.len()? + step) {
                // Somebody else was faster.
                Err(error) if error.kind() == ErrorKind::StorageFull => step /= 2,
                done => {
                    done?;
                    step = disk.free_bytes(&self.dir)?;
                }
            }
        }
        Ok(())
    }

    /// Gives it back.
    pub(super) fn clear(&self) -> io::Result<()> {
        match OsDisk::default().remove(&self.filler()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Only while nobody has a file open for writing, as the system wants it.
    pub(super) fn set_read_only(&self, read_only: bool) -> io::Result<()> {
        let options = if read_only { "remount,ro" } else { "remount,rw" };
        run(Command::new("mount").args(["-o", options]).arg(&self.dir))
    }

    /// Stays mounted, with its data.
    pub(super) fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = unmount(&self.dir)
        {
            eprintln!("torture: cannot unmount {}: {error}", self.dir.display());
        }
    }
}

/// A process that was killed just now may hold it a little longer; it is gone with that.
fn unmount(dir: &Path) -> io::Result<()> {
    run(Command::new("umount").arg("--lazy").arg(dir))
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
