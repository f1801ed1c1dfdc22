//! `postdate cancel`

use clap::Args;

use crate::base::command::Verdict;
use crate::base::id::MessageId;
use crate::base::lifecycle::State;
use crate::cli::Server;
use crate::cli::connect::batches;
use crate::cli::failure::Failure;
use crate::cli::output::{AnswerLine, Out, answer_word};

#[derive(Debug, Args)]
#[command(after_help = "\
Answers: cancelled (it will never be delivered), already cancelled, in delivery, delivered,
acknowledged, expired, dead, gone (no longer remembered), unknown (never existed here).
The exit code is 0 when every message is cancelled now, and 1 when one of them is not.

JSON: {id, answer}

Examples:
  postdate cancel 01HF7YAYX80000000000000001
  postdate list /queue/a --json | jq -r .id | xargs -r postdate cancel")]
pub(super) struct Cancel {
    /// Ids of messages, as publish told them
    #[arg(required = true, value_name = "ID")]
    ids: Vec<MessageId>,
    #[command(flatten)]
    server: Server,
}

impl Cancel {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let client = self.server.connect("cancel").await?;
        let mut all = true;
        for ids in batches(&self.ids) {
            for verdict in client.cancel(ids).await? {
                all &= verdict.state == State::Cancelled;
                say(&mut out, &verdict, "cancelled")?;
            }
            out.flush()?;
        }
        if all { Ok(()) } else { Err(Failure::Said(1)) }
    }
}

/// Writes the answer for one message.
pub(super) fn say(
    out: &mut Out,
    verdict: &Verdict,
    done: &'static str,
) -> Result<(), std::io::Error> {
    let answer = answer_word(verdict, done);
    let line = AnswerLine { id: verdict.id.to_string(), answer };
    out.either(&line, || format!("{}  {answer}", verdict.id))
}
