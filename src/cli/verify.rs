//! `postdate verify`

mod report;

use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::ProgressBar;

use crate::base::event::BatchMeta;
use crate::cli::failure::Failure;
use crate::cli::output::Out;
use crate::cli::progress;
use crate::env::{Disk, OsDisk};
use crate::journal::home::{DataDir, HomeError};
use crate::journal::{self, JournalError};
use crate::shard::{check_checkpoint, check_events, check_row};
use crate::store::{self, Judges, StoreError, Summary};

use report::Found;

/// A running server replaces files while they are read; then all is read again, so often at most.
const TRIES: u32 = 5;

#[derive(Debug, Args)]
#[command(after_help = "\
Reads every byte of the store and of the part of the journal that is still needed, looks whether it
makes sense, and changes nothing. A torn tail is the unfinished write of a server that was killed:
it was never acknowledged, and is no damage. A gap is where an earlier start left damage out (serve
--recovery skip-damaged); it is no damage either.
The exit code is 0 when everything is sound, and 5 when something is damaged.

JSON: {data_dir, server_running, store: {segments, bytes, rows, tombstones, checkpoint_bytes,
unnamed_files}, segments, retired_segments, batches, events, payload_bytes, gaps, lost_batches,
torn: {file, offset, bytes} or null, damaged: [{file, offset, why}]}; outside of store, segments
are those of the journal

Examples:
  postdate verify ./postdate-data
  postdate verify /var/lib/postdate --json | jq .damaged")]
pub(super) struct Verify {
    /// The data directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

impl Verify {
    pub(super) fn run(self, mut out: Out) -> Result<(), Failure> {
        let disk = OsDisk::default();
        if !disk.exists(&self.dir)? {
            return Err(Failure::Failed(format!("there is no {}", self.dir.display())));
        }
        let known = DataDir::check_format(&disk, &self.dir).map_err(|error| match error {
            HomeError::BadFormat(_) => Failure::Damaged(error.to_string()),
            _ => Failure::Failed(error.to_string()),
        })?;
        if !known || !disk.exists(&DataDir::journal_of(&self.dir))? {
            return Err(Failure::Failed(format!(
                "{} is not a data directory: there is nothing of postdate in it",
                self.dir.display()
            )));
        }
        // A lock that cannot be tried, as on a read-only file system, counts as free.
        let server_running = DataDir::is_in_use(&disk, &self.dir).unwrap_or(false);
        if server_running && !out.json {
            eprintln!(
                "postdate: a server uses {}: what it writes meanwhile may show as a torn tail",
                self.dir.display()
            );
        }
        let mut found = check(&disk, &self.dir, server_running)?;
        found.server_running = server_running;
        out.either(&found, || found.show())?;
        out.flush()?;
        if found.damaged.is_empty() { Ok(()) } else { Err(Failure::Said(5)) }
    }
}

/// Reads it all; again when a server took away what was to be read.
fn check(disk: &dyn Disk, dir: &Path, server_running: bool) -> Result<Found, Failure> {
    let bar = progress::bytes("verifying", Some(0));
    let mut tries = 1;
    let checked = loop {
        // A root that cannot be read is told by the reading of the store.
        let before = Summary::read(disk, &DataDir::store_of(dir));
        let checked = check_once(disk, dir, &before, &bar);
        let sound = checked.as_ref().is_ok_and(|found| found.damaged.is_empty());
        if sound || !server_running || tries == TRIES {
            break checked;
        }
        let after = Summary::read(disk, &DataDir::store_of(dir));
        if before.ok() == after.ok() {
            break checked;
        }
        tries += 1;
    };
    bar.finish_and_clear();
    checked
}

fn check_once(
    disk: &dyn Disk,
    dir: &Path,
    summary: &Result<Option<Summary>, StoreError>,
    bar: &ProgressBar,
) -> Result<Found, Failure> {
    let mut found = Found::of(dir);
    let (journal_from, store_bytes) = match summary {
        Ok(Some(summary)) => (Some(summary.journal_from()), summary.bytes()),
        Ok(None) => (Some(1), 0),
        // Nobody knows where the journal begins.
        Err(_) => (None, 0),
    };
    let mut journal_bytes = 0;
    let mut read = |_: &BatchMeta, payload: &[u8], _| {
        found.batches += 1;
        found.events += check_events(payload)?;
        Ok(())
    };
    let journal = DataDir::journal_of(dir);
    let report = journal::verify(disk, &journal, journal_from, &mut read, &mut |done, total| {
        journal_bytes = total;
        bar.set_length(total + store_bytes);
        bar.set_position(done);
    });
    found.take_journal(report.map_err(|error: JournalError| Failure::Failed(error.to_string()))?);
    let judges = Judges { row: &mut check_row, checkpoint: &mut check_checkpoint };
    let report = store::verify(disk, &DataDir::store_of(dir), judges, &mut |done, total| {
        bar.set_length(journal_bytes + total);
        bar.set_position(journal_bytes + done);
    });
    found.take_store(report.map_err(|error| Failure::Failed(error.to_string()))?);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_data_directory_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let command = Verify { dir: dir.path().to_owned() };
        let failure = command.run(Out::new(false)).unwrap_err();
        assert!(failure.message().unwrap().contains("not a data directory"), "{failure:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was changed");
    }
}
