//! What a simulated machine holds: what programs see, what is on stable storage, and the changes
//! in between, in the order they were made.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::sim::random::Random;

/// Smallest part of a write that is either on the disk or not after a crash, bytes.
const SECTOR: usize = 512;

/// What a crash leaves of the changes that were not durable yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survival {
    /// Nothing.
    None,
    /// Everything.
    All,
    /// What was done up to a random moment; the last write is torn.
    Prefix,
    /// A random half of the changes, whole.
    Subset,
    /// A random half of the changes, each write torn into sectors of which a random half survives.
    Torn,
}

impl Survival {
    /// All of them, for sweeps.
    pub const ALL: [Survival; 5] =
        [Survival::None, Survival::All, Survival::Prefix, Survival::Subset, Survival::Torn];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Dir,
    File(usize),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    /// What programs read.
    pub(super) seen: Vec<u8>,
    /// What a crash leaves for certain.
    pub(super) durable: Vec<u8>,
}

#[derive(Debug, Clone)]
pub(super) enum Change {
    Write { file: usize, offset: usize, bytes: Vec<u8> },
    SetLen { file: usize, len: usize },
    Create { path: PathBuf, node: Node },
    Rename { from: PathBuf, to: PathBuf, node: Node },
    Remove { path: PathBuf },
}

#[derive(Debug, Clone, Default)]
pub(super) struct Medium {
    pub(super) files: Vec<Content>,
    pub(super) names: BTreeMap<PathBuf, Node>,
    durable_names: BTreeMap<PathBuf, Node>,
    pending: Vec<Change>,
}

impl Medium {
    /// Does a change as programs see it, to be made durable later.
    pub(super) fn change(&mut self, change: Change) {
        match &change {
            Change::Write { file, offset, bytes } => {
                write(&mut self.files[*file].seen, *offset, bytes);
            }
            Change::SetLen { file, len } => self.files[*file].seen.resize(*len, 0),
            _ => apply_name(&mut self.names, &change),
        }
        self.pending.push(change);
    }

    /// Makes the contents of a file durable; or, as failed syncs do, forgets that they were not.
    pub(super) fn settle_file(&mut self, wanted: usize, durable: bool) {
        let (settled, rest) = std::mem::take(&mut self.pending).into_iter().partition(
            |change| matches!(change, Change::Write { file, .. } | Change::SetLen { file, .. } if *file == wanted),
        );
        self.pending = rest;
        if durable {
            self.apply_durable(settled);
        }
    }

    /// Makes the last change, a write, durable and the length of its file, as `O_DSYNC` does.
    pub(super) fn settle_last_write(&mut self) {
        let Some(last) = self.pending.pop() else { return };
        let Change::Write { file: wanted, offset: from, bytes: ref new } = last else { return };
        let end = from + new.len();
        // An older write that is still pending never comes over a newer one that is durable.
        let goes_along = |change: &Change| match change {
            Change::SetLen { file, .. } => *file == wanted,
            Change::Write { file, offset, bytes } => {
                *file == wanted && *offset < end && from < offset + bytes.len()
            }
            _ => false,
        };
        let (mut settled, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().partition(goes_along);
        self.pending = rest;
        settled.push(last);
        self.apply_durable(settled);
    }

    /// Makes the entries of a directory durable.
    pub(super) fn settle_dir(&mut self, dir: &Path) {
        let within = |path: &Path| path.parent() == Some(dir);
        let (settled, rest) =
            std::mem::take(&mut self.pending).into_iter().partition(|change| match change {
                Change::Write { .. } | Change::SetLen { .. } => false,
                Change::Create { path, .. } | Change::Remove { path } => within(path),
                Change::Rename { from, to, .. } => within(from) || within(to),
            });
        self.pending = rest;
        self.apply_durable(settled);
    }

    fn apply_durable(&mut self, changes: Vec<Change>) {
        for change in changes {
            match &change {
                Change::Write { file, offset, bytes } => {
                    write(&mut self.files[*file].durable, *offset, bytes);
                }
                Change::SetLen { file, len } => self.files[*file].durable.resize(*len, 0),
                _ => apply_name(&mut self.durable_names, &change),
            }
        }
    }

    /// Keeps what the choice says and forgets everything else.
    pub(super) fn crash(&mut self, survival: Survival, seed: u64) {
        let mut random = Random(seed);
        let mut pending = std::mem::take(&mut self.pending);
        match survival {
            Survival::None => pending.clear(),
            Survival::All => {}
            Survival::Prefix => {
                pending.truncate(random.below(pending.len() as u64 + 1) as usize);
                if let Some(Change::Write { bytes, .. }) = pending.last_mut() {
                    let sectors = bytes.len().div_ceil(SECTOR) as u64;
                    let cut = random.below(sectors + 1) as usize * SECTOR;
                    bytes.truncate(cut);
                }
            }
            Survival::Subset => pending.retain(|_| random.coin()),
            Survival::Torn => {
                pending.retain(|_| random.coin());
                pending =
                    pending.into_iter().flat_map(|change| tear(change, &mut random)).collect();
            }
        }
        self.apply_durable(pending);
        // What lay in a directory whose own entry is lost is lost with it.
        let names = self.durable_names.clone();
        self.durable_names.retain(|path, _| {
            path.ancestors().skip(1).all(|up| is_root(up) || names.get(up) == Some(&Node::Dir))
        });
        self.names = self.durable_names.clone();
        for content in &mut self.files {
            content.seen.clone_from(&content.durable);
        }
        self.drop_unlinked();
    }

    fn drop_unlinked(&mut self) {
        let linked: BTreeSet<usize> = self.file_numbers().collect();
        for (number, content) in self.files.iter_mut().enumerate() {
            if !linked.contains(&number) {
                *content = Content::default();
            }
        }
    }

    /// Bytes of all files that have a name.
    pub(super) fn used_bytes(&self) -> u64 {
        let files: BTreeSet<usize> = self.file_numbers().collect();
        files.into_iter().map(|file| self.files[file].seen.len() as u64).sum()
    }

    fn file_numbers(&self) -> impl Iterator<Item = usize> {
        self.names.values().filter_map(|node| match node {
            Node::File(number) => Some(*number),
            Node::Dir => None,
        })
    }
}

/// Whether a path has no parent directory that could be missing.
pub(super) fn is_root(path: &Path) -> bool {
    path.parent().is_none()
}

fn write(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end && !bytes.is_empty() {
        content.resize(end, 0);
    }
    if !bytes.is_empty() {
        content[offset..end].copy_from_slice(bytes);
    }
}

fn apply_name(names: &mut BTreeMap<PathBuf, Node>, change: &Change) {
    match change {
        Change::Create { path, node } => {
            names.insert(path.clone(), *node);
        }
        Change::Rename { from, to, node } => {
            // Only if that name still means the file that was renamed: an earlier change may
            // not have survived.
            if names.get(from) == Some(node) {
                names.remove(from);
            }
            names.insert(to.clone(), *node);
        }
        Change::Remove { path } => {
            names.remove(path);
        }
        Change::Write { .. } | Change::SetLen { .. } => {}
    }
}

fn tear(change: Change, random: &mut Random) -> Vec<Change> {
    let Change::Write { file, offset, bytes } = change else { return vec![change] };
    let mut kept = Vec::new();
    for (index, sector) in bytes.chunks(SECTOR).enumerate() {
        if random.coin() {
            let offset = offset + index * SECTOR;
            kept.push(Change::Write { file, offset, bytes: sector.to_vec() });
        }
    }
    kept
}
