//! What a run tells.

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Write};
use std::hash::{DefaultHasher, Hasher};

/// Counts of one run, or of many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Seeds run.
    pub seeds: u64,
    /// Operations of the workload.
    pub operations: u64,
    /// Steps of shards.
    pub steps: u64,
    /// Time that passed, ms.
    pub virtual_ms: u64,
    /// Messages sent.
    pub messages: u64,
    /// Messages delivered, again and again included.
    pub deliveries: u64,
    /// Starts of a shard.
    pub starts: u64,
    /// Stops in good order.
    pub restarts: u64,
    /// Kills of the process.
    pub kills: u64,
    /// Losses of power.
    pub power_losses: u64,
    /// Shards that stopped because of a fault.
    pub latched: u64,
    /// Flushes.
    pub flushes: u64,
    /// Merges.
    pub merges: u64,
    /// Faults by kind.
    pub faults: BTreeMap<String, u64>,
    /// Hash of everything that happened; of many runs, of all their hashes.
    pub hash: u64,
}

impl Report {
    /// Adds another run.
    pub fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.operations += other.operations;
        self.steps += other.steps;
        self.virtual_ms += other.virtual_ms;
        self.messages += other.messages;
        self.deliveries += other.deliveries;
        self.starts += other.starts;
        self.restarts += other.restarts;
        self.kills += other.kills;
        self.power_losses += other.power_losses;
        self.latched += other.latched;
        self.flushes += other.flushes;
        self.merges += other.merges;
        for (kind, count) in &other.faults {
            *self.faults.entry(kind.clone()).or_default() += count;
        }
        self.hash = self.hash.rotate_left(1) ^ other.hash;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.virtual_ms / (24 * 3_600_000);
        writeln!(f, "seeds            {}", self.seeds)?;
        writeln!(f, "virtual days     {days}")?;
        writeln!(f, "operations       {}", self.operations)?;
        writeln!(f, "steps            {}", self.steps)?;
        writeln!(f, "messages         {}", self.messages)?;
        writeln!(f, "deliveries       {}", self.deliveries)?;
        writeln!(f, "flushes, merges  {}, {}", self.flushes, self.merges)?;
        let Self { starts, restarts, kills, power_losses, latched, .. } = self;
        write!(f, "starts           {starts}: {restarts} stops, {kills} kills, ")?;
        writeln!(f, "{power_losses} losses of power, {latched} stopped by a fault")?;
        for (kind, count) in &self.faults {
            writeln!(f, "fault            {count} {kind}")?;
        }
        write!(f, "trace            {:016x}", self.hash)
    }
}

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Of which seed.
    pub seed: u64,
    /// At which operation of it.
    pub operation: u64,
    /// The invariant, and what was seen.
    pub what: String,
    /// Hash of everything up to there.
    pub hash: u64,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, operation, what, .. } = self;
        write!(f, "seed {seed}, operation {operation}: {what}")
    }
}

/// A hash of everything that happens, the same in every process.
#[derive(Debug, Default)]
pub(super) struct Trace {
    hasher: DefaultHasher,
    loud: bool,
}

impl Trace {
    /// Takes note of something.
    pub(super) fn note(&mut self, what: &dyn Debug) {
        if self.loud {
            eprintln!("{what:?}");
        }
        // Writing to a hasher does not fail.
        let _ = write!(self, "{what:?};");
    }

    /// Everything noted from now on is told, too.
    pub(super) fn tell(&mut self) {
        self.loud = true;
    }

    pub(super) fn hash(&self) -> u64 {
        self.hasher.finish()
    }
}

impl Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.hasher.write(text.as_bytes());
        Ok(())
    }
}
