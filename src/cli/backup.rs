//! `postdate backup`

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde::Serialize;

use crate::cli::Server;
use crate::cli::failure::Failure;
use crate::cli::output::{Out, count_of};

#[derive(Debug, Args)]
#[command(after_help = "\
The server makes the copy while it goes on, so it must run on this machine and have the right to
write to DIR. Everything acknowledged before is in it. DIR is a data directory then: a server starts
from it, and `postdate verify` checks it. Without success nothing is left of it.

On the file system of the data, most files are not copied but get a second name: that is quick and
takes little space, but what damages the disk damages both. Copy DIR to another machine then.

JSON: {directory, files, bytes, linked_files, linked_bytes}; linked are those with a second name

Examples:
  postdate backup /backup/postdate-monday && postdate verify /backup/postdate-monday
  postdate backup \"$PWD/copy\" && rsync -a copy/ elsewhere:/backup/postdate/ && rm -r copy")]
pub(super) struct Backup {
    /// Directory that the copy goes to; empty, or not there yet
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    server: Server,
}

/// The line of `backup --json`.
#[derive(Debug, Serialize)]
struct Line {
    directory: String,
    files: u64,
    bytes: u64,
    linked_files: u64,
    linked_bytes: u64,
}

impl Backup {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        // The server has another current directory.
        let dir = std::path::absolute(&self.dir)?;
        let client = self.server.connect("backup").await?;
        let begun = Instant::now();
        let made = client.backup(&dir).await?;
        let line = Line {
            directory: dir.display().to_string(),
            files: made.files,
            bytes: made.bytes,
            linked_files: made.linked_files,
            linked_bytes: made.linked_bytes,
        };
        out.either(&line, || {
            format!(
                "{}: {} with {} in {:.1} s, {} of them shared with the server",
                line.directory,
                count_of(line.files, "file"),
                count_of(line.bytes, "byte"),
                begun.elapsed().as_secs_f64(),
                count_of(line.linked_bytes, "byte"),
            )
        })?;
        Ok(out.flush()?)
    }
}
