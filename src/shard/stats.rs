//! Figures for the operator.

use crate::store::{Family, FamilyStats, StoreStats};

use super::core::Core;

impl Core {
    /// Everything there is to tell, by name. Those ending in `_total` count since the start.
    pub(super) fn stats(&self) -> Vec<(&'static str, u64)> {
        let mut stats = self.engine.stats();
        let journal = self.journal.stats();
        stats.extend([
            ("journal_segments", journal.live_segments),
            ("journal_live_bytes", journal.live_bytes),
            ("journal_disk_bytes", journal.disk_bytes),
            ("journal_frames_total", journal.frames),
            ("journal_payload_bytes_total", journal.payload_bytes),
            ("journal_written_bytes_total", journal.written_bytes),
            ("journal_syncs_total", journal.syncs),
            ("commits_total", self.commits),
            ("commit_us_mean", self.commit_ns_total / self.commits.max(1) / 1000),
            ("commit_us_max", self.commit_ns_max / 1000),
            ("disk_full", u64::from(self.is_disk_full())),
            ("wall_clock_held", u64::from(self.keeper.held())),
            ("flushes_total", self.spill.flushes),
            ("flush_failures_total", self.spill.failures),
            ("flushing", u64::from(self.engine.is_frozen())),
            ("memory_bytes", self.memory_used()),
            ("publishing_slowed", u64::from(self.is_slowed())),
            ("store_damaged_blocks", self.below.damaged_blocks()),
            ("store_live_bytes", self.store_live_bytes()),
            ("store_merging", u64::from(self.background.is_merging())),
            ("backup_running", u64::from(self.backups.any())),
        ]);
        stats.extend(store_stats(&self.store_stats));
        stats
    }
}

impl Core {
    /// How many bytes of the store's rows count, before packing. An estimate: rows of a family are taken
    /// for equally long, and what is in memory for below, too.
    fn store_live_bytes(&self) -> u64 {
        let (scheduled, ready) = self.engine.waiting();
        let of = |(family, alive): (Family, u64)| {
            let stats = self.store_stats.family(family);
            let rows = stats.rows - stats.tombstones;
            let part = alive.min(rows) as f64 / rows.max(1) as f64;
            (stats.payload_bytes as f64 * part) as u64
        };
        [(Family::Scheduled, scheduled), (Family::Ready, ready)].into_iter().map(of).sum()
    }
}

/// Figures of the store, all families together.
fn store_stats(stats: &StoreStats) -> [(&'static str, u64); 9] {
    let sum = |of: fn(&FamilyStats) -> u64| stats.families.iter().map(of).sum();
    [
        ("store_runs", sum(|family| family.runs)),
        ("store_files", sum(|family| family.files)),
        ("store_disk_bytes", sum(|family| family.bytes) + stats.checkpoint_bytes),
        ("store_rows", sum(|family| family.rows)),
        ("store_tombstones", sum(|family| family.tombstones)),
        ("store_flushed_bytes_total", stats.flushed_bytes),
        ("store_merged_bytes_total", stats.merged_bytes),
        ("store_merges_total", stats.merges),
        ("store_merges_behind", u64::from(stats.behind)),
    ]
}
