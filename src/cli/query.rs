//! `postdate query`

use clap::Args;

use crate::base::id::MessageId;
use crate::cli::connect::batches;
use crate::cli::failure::Failure;
use crate::cli::output::{Out, StatusLine, show_status};
use crate::cli::{Server, time};

#[derive(Debug, Args)]
#[command(after_help = "\
States: scheduled, ready, in flight, acknowledged, cancelled, expired, dead, gone (no longer
remembered), unknown (never existed here).

A recurring schedule is scheduled until its last run, and then ended; due is its next run, and
attempts are its runs so far.

JSON: {id, state, destination, due_ms, attempts}; a schedule has recurring, too

Examples:
  postdate query 01HF7YAYX80000000000000001
  postdate query --json 01HF7YAYX80000000000000001 01HF7YAYX80000000000000002")]
pub(super) struct Query {
    /// Ids of messages, as publish told them
    #[arg(required = true, value_name = "ID")]
    ids: Vec<MessageId>,
    #[command(flatten)]
    server: Server,
}

impl Query {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let client = self.server.connect("query").await?;
        for ids in batches(&self.ids) {
            for status in client.query(ids).await? {
                out.either(&StatusLine::from(&status), || show_status(&status, time::now_ms()))?;
            }
        }
        Ok(out.flush()?)
    }
}
