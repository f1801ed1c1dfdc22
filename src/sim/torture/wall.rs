//! A wall clock of the server's own: libfaketime stands between it and the system's, and adds what a
//! file says. The monotonic clock is left alone.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// Where distributions have it, below a directory of libraries.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The library, where it is installed.
///
/// # Errors
/// What to do when it is not.
pub fn find_libfaketime() -> Result<PathBuf, String> {
    let mut dirs: Vec<PathBuf> =
        ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(Into::into).into();
    // Debian has one for each architecture.
    let below = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    dirs.extend(below.map(|entry| entry.path()));
    dirs.sort();
    let found = dirs.into_iter().map(|dir| dir.join(LIBRARY)).find(|path| path.is_file());
    found.ok_or("libfaketime is not installed; on Debian: apt install faketime".into())
}

/// Removes what the library leaves of a process that was killed: it would be in the way of the next
/// with the same number.
pub(super) fn sweep(process: u32) {
    for name in ["faketime_shm", "sem.faketime_sem"] {
        // One that ended in good order has left nothing.
        let _ = std::fs::remove_file(format!("/dev/shm/{name}_{process}"));
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct FakeWall {
    library: PathBuf,
    file: PathBuf,
    /// How far it is ahead of the system's, s.
    pub(super) shown_s: i64,
    /// How far the server believes it to be.
    pub(super) believed_s: i64,
    /// The furthest that was shown since the last rest.
    pub(super) most_s: i64,
}

impl FakeWall {
    /// One that shows the truth, told by a file in `home`.
    pub(super) fn new(library: PathBuf, home: &Path) -> io::Result<Self> {
        let file = home.join("wall");
        let mut wall = Self { library, file, shown_s: 0, believed_s: 0, most_s: 0 };
        wall.show(0)?;
        Ok(wall)
    }

    /// What the server finds in its environment.
    pub(super) fn environment(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("LD_PRELOAD", self.library.clone().into()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.clone().into()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("DONT_FAKE_MONOTONIC", "1".into()),
            ("NO_FAKE_STAT", "1".into()),
        ]
    }

    /// Steps it. A server that runs reads it at once.
    #[expect(clippy::disallowed_methods, reason = "for libfaketime, and no data")]
    pub(super) fn show(&mut self, ahead_s: i64) -> io::Result<()> {
        // Whoever reads it finds one or the other, and never half of it.
        let next = self.file.with_extension("next");
        std::fs::write(&next, format!("{ahead_s:+}\n"))?;
        std::fs::rename(&next, &self.file)?;
        self.shown_s = ahead_s;
        self.most_s = self.most_s.max(ahead_s);
        Ok(())
    }

    /// Whether the server does not believe what it shows.
    pub(super) fn is_held(&self) -> bool {
        self.shown_s != self.believed_s
    }
}
