//! What the server counts, and waiting until it has nothing left to write.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::link::Link;
use crate::cli::failure::Failure;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// Nothing was written for so long: the server has settled.
const QUIET: Duration = Duration::from_millis(500);

/// The counters of a server at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Counters(BTreeMap<String, u64>);

impl Counters {
    pub(super) async fn ask(link: &mut Link) -> Result<Self, Failure> {
        Ok(Self(link.stats().await?.into_iter().collect()))
    }

    /// A counter by name; 0 when the server has none of that name.
    pub(super) fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Messages that are not finished, wherever they lie.
    pub(super) fn pending(&self) -> u64 {
        self.get("scheduled") + self.get("ready") + self.get("in_flight")
    }

    /// Those that a report about the store tells.
    pub(super) fn told(&self) -> [(&'static str, u64); 6] {
        let own = |name| (name, self.get(name));
        [
            ("pending", self.pending()),
            own("messages"),
            own("store_rows"),
            own("store_tombstones"),
            own("store_disk_bytes"),
            own("journal_live_bytes"),
        ]
    }

    /// Whether something is being written beside the journal.
    fn is_busy(&self) -> bool {
        self.get("flushing") + self.get("store_merging") > 0
    }

    /// What grows with each flush and each merge.
    fn written(&self) -> (u64, u64) {
        (self.get("flushes_total"), self.get("store_merges_total"))
    }
}

/// Waits until no flush and no merge is under way, for `patience` at the most. The last counters,
/// and whether it came to rest.
pub(super) async fn settle(
    link: &mut Link,
    patience: Duration,
) -> Result<(Counters, bool), Failure> {
    let deadline = Instant::now() + patience;
    let mut before = Counters::ask(link).await?;
    let mut quiet_since = Instant::now();
    loop {
        tokio::time::sleep(LOOK).await;
        let counters = Counters::ask(link).await?;
        let now = Instant::now();
        if counters.is_busy() || counters.written() != before.written() {
            quiet_since = now;
        }
        let settled = now.duration_since(quiet_since) >= QUIET;
        if settled || now >= deadline {
            return Ok((counters, settled));
        }
        before = counters;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_memory_is_pending_too() {
        let counters = |pairs: &[(&str, u64)]| {
            Counters(pairs.iter().map(|(name, count)| ((*name).into(), *count)).collect())
        };
        let told = counters(&[("scheduled", 5), ("ready", 2), ("in_flight", 1), ("messages", 3)]);
        assert_eq!((told.pending(), told.get("messages"), told.get("other")), (8, 3, 0));
        assert!(!told.is_busy());
        assert!(counters(&[("flushing", 1)]).is_busy());
        assert!(counters(&[("store_merging", 1)]).is_busy());
    }
}
