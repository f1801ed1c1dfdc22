//! `postdate create`

use clap::Args;

use crate::cli::Server;
use crate::cli::failure::Failure;
use crate::cli::output::{DoneLine, Out};

#[derive(Debug, Args)]
#[command(after_help = "\
Publishing and subscribing make destinations by themselves; this is for setting limits on one, or
pausing it, before the first message. One that exists already stays as it is.

JSON: {destination, answer}; the answer is `exists`

Examples:
  postdate create /queue/mail
  postdate create /topic/news && postdate limit /topic/news --max-age 7d")]
pub(super) struct Create {
    /// Destination to create: /queue/..., /topic/... or /dlq/...
    #[arg(value_name = "DEST")]
    destination: String,
    #[command(flatten)]
    server: Server,
}

impl Create {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let client = self.server.connect("create").await?;
        client.create_destination(&self.destination).await?;
        DoneLine { destination: &self.destination, answer: "exists" }.write(&mut out)
    }
}
