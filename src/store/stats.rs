//! Figures about the store.

use crate::store::Family;
use crate::store::policy::most_of_a_level;
use crate::store::root::{FamilyRoot, Root};
use crate::store::version::index;

/// There are too many runs of a level when there are over so many times those merged at once.
const CROWD_TIMES: usize = 4;

/// What the store holds and has done. Taking it costs a walk over the files, not over the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// In the order of [`Family::ALL`].
    pub families: [FamilyStats; Family::ALL.len()],
    /// Length of the checkpoint file, bytes; 0 when there is none.
    pub checkpoint_bytes: u64,
    /// Bytes of segment files that flushes wrote since the store was made.
    pub flushed_bytes: u64,
    /// Bytes of segment files that merges wrote since the store was made.
    pub merged_bytes: u64,
    /// Merges done since the store was made.
    pub merges: u64,
    /// Files dropped unread since the store was made, because everything in them was dead.
    pub dropped_files: u64,
    /// Runs of the level that has most of them.
    pub crowd: u64,
    /// How many are not too many: four times those merged at once.
    pub crowd_max: u64,
    /// There are too many runs of a level: flush less often until merges have caught up.
    pub behind: bool,
}

/// What the store holds of one family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FamilyStats {
    /// Runs.
    pub runs: u64,
    /// Segment files.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Keys and values before compression, bytes.
    pub payload_bytes: u64,
    /// Rows, tombstones and hidden rows included.
    pub rows: u64,
    /// Rows that are tombstones.
    pub tombstones: u64,
}

impl StoreStats {
    pub(super) fn of(root: &Root, fanout: usize) -> Self {
        let crowd = root.families.iter().map(most_of_a_level).max().unwrap_or(0);
        Self {
            families: root.families.each_ref().map(FamilyStats::of),
            checkpoint_bytes: root.checkpoint.map_or(0, |checkpoint| checkpoint.bytes),
            flushed_bytes: root.totals.flushed_bytes,
            merged_bytes: root.totals.merged_bytes,
            merges: root.totals.merges,
            dropped_files: root.totals.dropped_files,
            crowd: crowd as u64,
            crowd_max: (CROWD_TIMES * fanout) as u64,
            behind: crowd > CROWD_TIMES * fanout,
        }
    }

    /// Figures of one family.
    #[must_use]
    pub fn family(&self, family: Family) -> &FamilyStats {
        &self.families[index(family)]
    }
}

impl FamilyStats {
    fn of(own: &FamilyRoot) -> Self {
        let mut stats = Self { runs: own.runs.len() as u64, ..Self::default() };
        for meta in own.runs.iter().flat_map(|run| &run.segments) {
            stats.files += 1;
            stats.bytes += meta.bytes;
            stats.payload_bytes += meta.payload_bytes;
            stats.rows += meta.rows;
            stats.tombstones += meta.tombstones;
        }
        stats
    }
}
