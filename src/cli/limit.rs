//! `postdate limit`

use std::time::Duration;

use clap::Args;

use crate::cli::failure::Failure;
use crate::cli::output::{LimitLine, Out, show_limits};
use crate::cli::{Server, time};
use crate::client::Limits;

#[derive(Debug, Args)]
#[command(after_help = "\
A limit that is not named stays as it is; 0 takes one away.

Beyond the number, counting scheduled, ready and in flight, a new message is refused with error 14;
nothing is dropped. A ready message beyond the age expires, counted from when it was due; a topic
uses the age instead of its usual 30 days, counted from when the message came.

JSON: {destination, max_messages, max_age_ms}, as they are in force now; 0 is none

Examples:
  postdate limit /queue/mail --max-messages 1000000
  postdate limit /queue/mail --max-age 7d
  postdate limit /queue/mail --max-messages 0 --max-age 0")]
pub(super) struct Limit {
    /// Destination to limit
    #[arg(value_name = "DEST")]
    destination: String,
    #[command(flatten)]
    limits: Named,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Named {
    /// Most messages it holds
    #[arg(long, value_name = "N")]
    max_messages: Option<u64>,
    /// How old a ready message may grow: 90s, 12h, 7d
    #[arg(long, value_name = "DURATION", value_parser = time::age)]
    max_age: Option<u64>,
}

impl Limit {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let limits = Limits {
            max_messages: self.limits.max_messages,
            max_age: self.limits.max_age.map(Duration::from_millis),
        };
        let client = self.server.connect("limit").await?;
        let info = client.limit(&self.destination, limits).await?;
        let (max_messages, max_age_ms) = (info.max_messages, info.max_age_ms);
        let line = LimitLine { destination: &info.name, max_messages, max_age_ms };
        out.either(&line, || match show_limits(&info) {
            limits if limits.is_empty() => format!("{}  no limits", info.name),
            limits => format!("{}  {limits}", info.name),
        })?;
        Ok(out.flush()?)
    }
}
