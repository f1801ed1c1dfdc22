//! Damaged blocks: what readers do about them, and which were met.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// What readers of a store do about a damaged block. Damage anywhere else (root, checkpoint, and of
/// a segment file its header, index and footer) is an error all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDamage {
    /// Stop with an error that names file and offset.
    #[default]
    Stop,
    /// Go on with the next block of the file. What the damaged one held is not seen, nor does it
    /// hide any more what older files say of the same keys. The file stays as it is: merges leave
    /// it alone.
    Skip,
}

/// What a store does about damaged blocks, and how many its readers have met. All files of the store
/// share it.
#[derive(Debug, Default)]
pub(super) struct DamagedBlocks {
    pub(super) on_damage: OnDamage,
    met: AtomicU64,
}

impl DamagedBlocks {
    pub(super) fn new(on_damage: OnDamage) -> Self {
        Self { on_damage, met: AtomicU64::new(0) }
    }

    /// Blocks met since the store was opened, each counted once.
    pub(super) fn count(&self) -> u64 {
        self.met.load(Ordering::Relaxed)
    }

    /// Notes one that nobody met before.
    fn note(&self, file: &Path, offset: u64, why: &str) {
        self.met.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            file = %file.display(),
            offset,
            why,
            "a block of the store is damaged and passed over; what it held is lost"
        );
    }
}

/// The damaged blocks of one file, as far as they were met. No memory before the first.
#[derive(Debug, Default)]
pub(super) struct MetBlocks(Mutex<BTreeSet<u32>>);

impl MetBlocks {
    /// Notes a block; it is told and counted the first time.
    pub(super) fn meet(&self, block: u32, all: &DamagedBlocks, file: &Path, at: u64, why: &str) {
        if self.0.lock().insert(block) {
            all.note(file, at, why);
        }
    }

    /// The last of them in the file.
    pub(super) fn last(&self) -> Option<u32> {
        self.0.lock().last().copied()
    }
}
