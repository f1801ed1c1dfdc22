//! `postdate delete`

use clap::Args;

use crate::cli::Server;
use crate::cli::failure::Failure;
use crate::cli::output::{DoneLine, Out};

#[derive(Debug, Args)]
#[command(after_help = "\
Everything in it goes: what is ready, in flight and scheduled, its limits, and its subscriptions.
To keep the destination and its consumers, use `postdate purge`.

JSON: {destination, answer}; the answer is `deleted`

Examples:
  postdate delete /queue/mail
  postdate delete /dlq/queue/mail --json")]
pub(super) struct Delete {
    /// Destination to delete
    #[arg(value_name = "DEST")]
    destination: String,
    #[command(flatten)]
    server: Server,
}

impl Delete {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let client = self.server.connect("delete").await?;
        client.delete_destination(&self.destination).await?;
        DoneLine { destination: &self.destination, answer: "deleted" }.write(&mut out)
    }
}
