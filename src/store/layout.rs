//! Names of the files in a store directory.

use std::path::{Path, PathBuf};

/// The root file.
pub(super) const ROOT: &str = "ROOT";
/// The next root while it is written.
pub(super) const ROOT_NEW: &str = "ROOT.new";

const SEGMENT: &str = ".seg";
const CHECKPOINT: &str = ".ckpt";

/// What a name in the directory stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Named {
    Segment(u64),
    Checkpoint(u64),
}

impl Named {
    /// What a file name says; `None` for the root and for what is not ours.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let number = |stem: &str| {
            let digits = stem.len() == 20 && stem.bytes().all(|byte| byte.is_ascii_digit());
            // Numbers from 2^63 on are never given.
            stem.parse().ok().filter(|number| digits && *number < 1 << 63)
        };
        if let Some(stem) = name.strip_suffix(SEGMENT) {
            return number(stem).map(Self::Segment);
        }
        name.strip_suffix(CHECKPOINT).and_then(number).map(Self::Checkpoint)
    }

    pub(super) fn number(self) -> u64 {
        match self {
            Self::Segment(number) | Self::Checkpoint(number) => number,
        }
    }

    pub(super) fn path(self, dir: &Path) -> PathBuf {
        match self {
            Self::Segment(number) => dir.join(format!("{number:020}{SEGMENT}")),
            Self::Checkpoint(number) => dir.join(format!("{number:020}{CHECKPOINT}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_others_are_left_alone() {
        for named in [Named::Segment(7), Named::Checkpoint(u64::MAX / 2)] {
            let path = named.path(Path::new("/d"));
            let name = path.file_name().and_then(|name| name.to_str());
            assert_eq!(name.and_then(Named::parse), Some(named));
        }
        for other in ["ROOT", "7.seg", "0000000000000000000x.seg", "+0000000000000000007.seg", ""] {
            assert_eq!(Named::parse(other), None);
        }
    }
}
