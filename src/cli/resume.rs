//! `postdate resume`

use clap::Args;

use crate::cli::Server;
use crate::cli::failure::Failure;
use crate::cli::output::{DoneLine, Out};

#[derive(Debug, Args)]
#[command(after_help = "\
Ends a `postdate pause`: what is ready goes to consumers at once.

JSON: {destination, answer}; the answer is `resumed`

Examples:
  postdate resume /queue/mail
  postdate destinations --json | jq -r 'select(.paused) | .name' | xargs -rn1 postdate resume")]
pub(super) struct Resume {
    /// Destination to resume
    #[arg(value_name = "DEST")]
    destination: String,
    #[command(flatten)]
    server: Server,
}

impl Resume {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let client = self.server.connect("resume").await?;
        client.resume(&self.destination).await?;
        DoneLine { destination: &self.destination, answer: "resumed" }.write(&mut out)
    }
}
