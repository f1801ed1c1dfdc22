//! `postdate verify`

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::base::event::BatchMeta;
use crate::cli::failure::Failure;
use crate::cli::output::{Out, count_of};
use crate::cli::progress;
use crate::codec::event;
use crate::env::{Disk, OsDisk};
use crate::journal::home::{DataDir, HomeError};
use crate::journal::{self, VerifyReport};

#[derive(Debug, Args)]
#[command(after_help = "\
Reads every byte of the journal and changes nothing. A torn tail is the unfinished write of a
server that was killed: it was never acknowledged, and is no damage.
The exit code is 0 when everything is sound, and 5 when something is damaged.

A gap is where an earlier start left damage out (serve --recovery skip-damaged); it is no damage.

JSON: {data_dir, server_running, segments, batches, events, payload_bytes, gaps, lost_batches,
torn: {file, offset, bytes} or null, damaged: [{file, offset, why}]}

Examples:
  postdate verify ./postdate-data
  postdate verify /var/lib/postdate --json | jq .damaged")]
pub(super) struct Verify {
    /// The data directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// The line of `verify --json`.
#[derive(Debug, Default, Serialize)]
struct Found {
    data_dir: String,
    server_running: bool,
    segments: u64,
    batches: u64,
    events: u64,
    payload_bytes: u64,
    gaps: u64,
    lost_batches: u64,
    torn: Option<Place>,
    damaged: Vec<Damaged>,
}

/// Where a torn tail begins, and how much of it can be seen to have been written.
#[derive(Debug, Serialize)]
struct Place {
    file: String,
    offset: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Damaged {
    file: String,
    offset: u64,
    why: String,
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
        let journal = DataDir::journal_of(&self.dir);
        if !known || !disk.exists(&journal)? {
            return Err(Failure::Failed(format!(
                "{} is not a data directory: there is nothing of postdate in it",
                self.dir.display()
            )));
        }
        let mut found = Found {
            data_dir: self.dir.display().to_string(),
            // A lock that cannot be tried, as on a read-only file system, counts as free.
            server_running: DataDir::is_in_use(&disk, &self.dir).unwrap_or(false),
            ..Found::default()
        };
        if found.server_running && !out.json {
            eprintln!(
                "postdate: a server uses {}: what it writes meanwhile may show as a torn tail",
                self.dir.display()
            );
        }
        check(&disk, &journal, &mut found)?;
        out.either(&found, || show(&found))?;
        out.flush()?;
        if found.damaged.is_empty() { Ok(()) } else { Err(Failure::Said(5)) }
    }
}

fn check(disk: &dyn Disk, journal: &Path, found: &mut Found) -> Result<(), Failure> {
    let (mut batches, mut events) = (0, 0);
    let bar = progress::bytes("verifying", Some(0));
    let mut read = |_: &BatchMeta, payload: &[u8], _| {
        batches += 1;
        let mut rest = payload;
        while !rest.is_empty() {
            event::decode(&mut rest).map_err(|error| error.to_string())?;
            events += 1;
        }
        Ok(())
    };
    let report = journal::verify(disk, journal, 0, &mut read, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let report = report.map_err(|error| Failure::Failed(error.to_string()))?;
    (found.batches, found.events) = (batches, events);
    take(found, report);
    Ok(())
}

fn take(found: &mut Found, report: VerifyReport) {
    found.segments = report.segments;
    found.payload_bytes = report.payload_bytes;
    (found.gaps, found.lost_batches) = (report.gaps, report.lost_frames);
    found.torn = report.torn.map(|torn| Place {
        file: torn.file.display().to_string(),
        offset: torn.offset,
        bytes: torn.bytes,
    });
    found.damaged = report
        .damage
        .into_iter()
        .map(|damage| Damaged {
            file: damage.file.display().to_string(),
            offset: damage.offset,
            why: damage.why,
        })
        .collect();
}

fn show(found: &Found) -> String {
    let mut lines = vec![format!(
        "{}: {} with {} ({}, {})",
        found.data_dir,
        count_of(found.segments, "journal segment"),
        count_of(found.events, "event"),
        if found.batches == 1 {
            "1 batch".to_owned()
        } else {
            format!("{} batches", crate::cli::output::show_count(found.batches))
        },
        count_of(found.payload_bytes, "byte"),
    )];
    if let Some(torn) = &found.torn {
        lines.push(format!(
            "torn tail in {} at byte {}: an unfinished write that was never acknowledged; the next \
             start drops it",
            torn.file, torn.offset
        ));
    }
    if found.gaps > 0 {
        lines.push(format!(
            "{} where an earlier start left damage out; {} lost there",
            count_of(found.gaps, "gap"),
            if found.lost_batches == 1 {
                "1 batch was".to_owned()
            } else {
                format!("{} batches were", crate::cli::output::show_count(found.lost_batches))
            }
        ));
    }
    for damaged in &found.damaged {
        lines.push(format!("DAMAGED {} at byte {}: {}", damaged.file, damaged.offset, damaged.why));
    }
    lines.push(if found.damaged.is_empty() {
        "everything is sound".into()
    } else {
        "a server will not start on damaged data; copy the directory first, then restore it from \
         a backup, or look at the disk and its log, or give up what is damaged: serve --recovery"
            .into()
    });
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_keys_are_the_contract() {
        let damaged = vec![Damaged { file: "f".into(), offset: 4_096, why: "w".into() }];
        let found = Found { damaged, ..Found::default() };
        let value = serde_json::to_value(&found).unwrap();
        let keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        assert_eq!(
            keys,
            [
                "batches",
                "damaged",
                "data_dir",
                "events",
                "gaps",
                "lost_batches",
                "payload_bytes",
                "segments",
                "server_running",
                "torn"
            ]
        );
        assert_eq!(value["damaged"][0]["offset"], 4_096);
        let text = show(&found);
        assert!(text.contains("DAMAGED f at byte 4096: w"), "{text}");
        assert!(show(&Found::default()).ends_with("everything is sound"));
    }

    #[test]
    fn what_is_not_a_data_directory_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let command = Verify { dir: dir.path().to_owned() };
        let failure = command.run(Out::new(false)).unwrap_err();
        assert!(failure.message().unwrap().contains("not a data directory"), "{failure:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was changed");
    }
}
