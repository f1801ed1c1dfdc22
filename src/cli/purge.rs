//! `postdate purge`

use clap::Args;

use crate::cli::Server;
use crate::cli::failure::Failure;
use crate::cli::output::{Out, PurgedLine, count_of};

#[derive(Debug, Args)]
#[command(after_help = "\
Drops what is ready; of a topic, what it keeps. What is in flight stays and may be acknowledged.
What was dropped is gone: it becomes no dead letter, and cannot be had back.

JSON: {destination, ready, scheduled}, the numbers of messages dropped

Examples:
  postdate purge /queue/mail
  postdate pause /queue/mail && postdate purge /queue/mail --scheduled")]
pub(super) struct Purge {
    /// Destination to purge
    #[arg(value_name = "DEST")]
    destination: String,
    /// Drop what is scheduled for it, too
    #[arg(long)]
    scheduled: bool,
    #[command(flatten)]
    server: Server,
}

impl Purge {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let client = self.server.connect("purge").await?;
        let purged = client.purge(&self.destination, self.scheduled).await?;
        let (ready, scheduled) = (purged.ready, purged.scheduled);
        let line = PurgedLine { destination: &self.destination, ready, scheduled };
        out.either(&line, || {
            let mut text = format!("{}  {} dropped", self.destination, count_of(ready, "message"));
            if self.scheduled {
                text.push_str(&format!(", {} dropped", count_of(scheduled, "scheduled message")));
            }
            text
        })?;
        Ok(out.flush()?)
    }
}
