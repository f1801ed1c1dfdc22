//! `postdate pause`

use clap::Args;

use crate::cli::Server;
use crate::cli::failure::Failure;
use crate::cli::output::{DoneLine, Out};

#[derive(Debug, Args)]
#[command(after_help = "\
Nothing more is handed to consumers until `postdate resume`, also over a restart of the server.
What they have stays theirs; publishing, firing and acknowledging go on.

JSON: {destination, answer}; the answer is `paused`

Examples:
  postdate pause /queue/mail
  postdate destinations --json | jq 'select(.paused) | .name'")]
pub(super) struct Pause {
    /// Destination to pause
    #[arg(value_name = "DEST")]
    destination: String,
    #[command(flatten)]
    server: Server,
}

impl Pause {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let client = self.server.connect("pause").await?;
        client.pause(&self.destination).await?;
        DoneLine { destination: &self.destination, answer: "paused" }.write(&mut out)
    }
}
