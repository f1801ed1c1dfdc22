//! `postdate stats`

use std::collections::BTreeMap;

use clap::Args;

use crate::cli::Server;
use crate::cli::failure::Failure;
use crate::cli::output::{Out, show_count};

#[derive(Debug, Args)]
#[command(after_help = "\
JSON: one object, counter names to numbers

Examples:
  postdate stats
  postdate stats --json | jq .scheduled")]
pub(super) struct Stats {
    #[command(flatten)]
    server: Server,
}

impl Stats {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let counters = self.server.connect("stats").await?.stats().await?;
        if out.json {
            let object: BTreeMap<&str, u64> =
                counters.iter().map(|(name, value)| (name.as_ref(), *value)).collect();
            out.object(&object)?;
        } else {
            let width = counters.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
            for (name, value) in &counters {
                out.text(&format!("{name:<width$}  {:>14}", show_count(*value)))?;
            }
        }
        Ok(out.flush()?)
    }
}
