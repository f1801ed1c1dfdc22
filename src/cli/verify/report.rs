//! What `verify` tells.

use std::path::Path;

use serde::Serialize;

use crate::cli::output::{count_of, show_count};
use crate::{journal, store};

/// The line of `verify --json`.
#[derive(Debug, Default, Serialize)]
pub(super) struct Found {
    data_dir: String,
    pub(super) server_running: bool,
    store: Store,
    segments: u64,
    retired_segments: u64,
    pub(super) batches: u64,
    pub(super) events: u64,
    payload_bytes: u64,
    gaps: u64,
    lost_batches: u64,
    torn: Option<Place>,
    pub(super) damaged: Vec<Damaged>,
}

#[derive(Debug, Default, Serialize)]
struct Store {
    segments: u64,
    bytes: u64,
    rows: u64,
    tombstones: u64,
    checkpoint_bytes: u64,
    unnamed_files: u64,
}

/// Where a torn tail begins, and how much of it can be seen to have been written.
#[derive(Debug, Serialize)]
struct Place {
    file: String,
    offset: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Damaged {
    file: String,
    offset: u64,
    why: String,
}

impl Found {
    pub(super) fn of(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.display().to_string(), ..Self::default() }
    }

    pub(super) fn take_journal(&mut self, report: journal::VerifyReport) {
        self.segments = report.segments;
        self.retired_segments = report.retired;
        self.payload_bytes = report.payload_bytes;
        (self.gaps, self.lost_batches) = (report.gaps, report.lost_frames);
        self.torn = report.torn.map(|torn| Place {
            file: torn.file.display().to_string(),
            offset: torn.offset,
            bytes: torn.bytes,
        });
        self.damaged.extend(report.damage.into_iter().map(|damage| Damaged {
            file: damage.file.display().to_string(),
            offset: damage.offset,
            why: damage.why,
        }));
    }

    pub(super) fn take_store(&mut self, report: store::VerifyReport) {
        self.store = Store {
            segments: report.segments,
            bytes: report.segment_bytes,
            rows: report.rows,
            tombstones: report.tombstones,
            checkpoint_bytes: report.checkpoint_bytes,
            unnamed_files: report.unnamed.len() as u64,
        };
        self.damaged.extend(report.damage.into_iter().map(|damage| Damaged {
            file: damage.file.display().to_string(),
            offset: damage.offset,
            why: damage.why,
        }));
    }

    /// For people.
    pub(super) fn show(&self) -> String {
        let Store { segments, bytes, rows, tombstones, checkpoint_bytes, unnamed_files } =
            self.store;
        let mut lines = vec![
            self.data_dir.clone(),
            format!(
                "  store    {} with {} ({} of them), {} in all; a checkpoint of {}",
                count_of(segments, "segment"),
                count_of(rows, "row"),
                count_of(tombstones, "tombstone"),
                count_of(bytes, "byte"),
                count_of(checkpoint_bytes, "byte"),
            ),
            format!(
                "  journal  {} with {} ({}, {})",
                count_of(self.segments, "segment"),
                count_of(self.events, "event"),
                batches(self.batches),
                count_of(self.payload_bytes, "byte"),
            ),
        ];
        if self.retired_segments + unnamed_files > 0 {
            lines.push(format!(
                "{} of the journal and {} of the store are not needed any more; the next start \
                 removes them",
                count_of(self.retired_segments, "segment"),
                count_of(unnamed_files, "file"),
            ));
        }
        if let Some(torn) = &self.torn {
            lines.push(format!(
                "torn tail in {} at byte {}: an unfinished write that was never acknowledged; the \
                 next start drops it",
                torn.file, torn.offset
            ));
        }
        if self.gaps > 0 {
            lines.push(format!(
                "{} where an earlier start left damage out; {} lost there",
                count_of(self.gaps, "gap"),
                if self.lost_batches == 1 {
                    "1 batch was".to_owned()
                } else {
                    format!("{} batches were", show_count(self.lost_batches))
                }
            ));
        }
        for Damaged { file, offset, why } in &self.damaged {
            lines.push(format!("DAMAGED {file} at byte {offset}: {why}"));
        }
        lines.push(if self.damaged.is_empty() {
            "everything is sound".into()
        } else {
            "copy the directory before anything else, and look at the disk and its log; then \
             restore it from a backup, or see \"When something is wrong\" in docs/operations.md"
                .into()
        });
        lines.join("\n")
    }
}

fn batches(count: u64) -> String {
    if count == 1 { "1 batch".into() } else { format!("{} batches", show_count(count)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_keys_are_the_contract() {
        let damaged = vec![Damaged { file: "f".into(), offset: 4_096, why: "w".into() }];
        let found = Found { damaged, ..Found::default() };
        let value = serde_json::to_value(&found).unwrap();
        let keys = |value: &serde_json::Value| -> Vec<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(
            keys(&value),
            [
                "batches",
                "damaged",
                "data_dir",
                "events",
                "gaps",
                "lost_batches",
                "payload_bytes",
                "retired_segments",
                "segments",
                "server_running",
                "store",
                "torn"
            ]
        );
        assert_eq!(
            keys(&value["store"]),
            ["bytes", "checkpoint_bytes", "rows", "segments", "tombstones", "unnamed_files"]
        );
        assert_eq!(value["damaged"][0]["offset"], 4_096);
        let text = found.show();
        assert!(text.contains("DAMAGED f at byte 4096: w"), "{text}");
        assert!(Found::default().show().ends_with("everything is sound"));
    }
}
