//! `postdate list`

use clap::Args;

use crate::base::limits;
use crate::cli::failure::Failure;
use crate::cli::output::{Out, StatusLine, show_status};
use crate::cli::{Server, time};
use crate::client::ListQuery;

#[derive(Debug, Args)]
#[command(after_help = "\
JSON: {id, state, destination, due_ms, attempts}, one object a line; a schedule has recurring, too

Examples:
  postdate list
  postdate list /queue/reminders --from now --to +1h
  postdate list --from 2026-12-24T00:00:00Z --to 2026-12-25T00:00:00Z --limit 0 --json")]
pub(super) struct List {
    /// Only messages of this destination; all when left out
    #[arg(value_name = "DEST")]
    destination: Option<String>,
    /// Due from this time on: RFC 3339, ms since 1970, `now`, or `+10m`
    #[arg(long, value_name = "TIME", value_parser = time::moment_ms)]
    from: Option<u64>,
    /// Due up to this time
    #[arg(long, value_name = "TIME", value_parser = time::moment_ms)]
    to: Option<u64>,
    /// Most messages listed; 0 lists all
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u64,
    #[command(flatten)]
    server: Server,
}

impl List {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let client = self.server.connect("list").await?;
        let mut left = if self.limit == 0 { u64::MAX } else { self.limit };
        let (mut after, mut listed) = (None, 0_u64);
        loop {
            let page = client
                .list(ListQuery {
                    destination: self.destination.clone().unwrap_or_default(),
                    from_ms: self.from.unwrap_or(0),
                    to_ms: self.to.unwrap_or(u64::MAX),
                    limit: u32::try_from(left.min(limits::PAGE_ITEMS_MAX as u64)).unwrap_or(1),
                    after,
                })
                .await?;
            let now = time::now_ms();
            for status in &page.entries {
                out.either(&StatusLine::from(status), || show_status(status, now))?;
            }
            out.flush()?;
            listed += page.entries.len() as u64;
            left = left.saturating_sub(page.entries.len() as u64);
            after = page.next;
            if after.is_none() || left == 0 {
                break;
            }
        }
        if !out.json {
            if listed == 0 {
                out.text("nothing is scheduled here")?;
            } else if after.is_some() {
                out.text(&format!("there may be more than {listed}; ask with --limit N"))?;
            }
        }
        Ok(out.flush()?)
    }
}
