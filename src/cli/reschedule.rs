//! `postdate reschedule`

use clap::Args;

use crate::base::id::MessageId;
use crate::base::message::Delay;
use crate::cli::failure::Failure;
use crate::cli::output::{AnswerLine, Out, answer_word};
use crate::cli::{Server, time};

#[derive(Debug, Args)]
#[command(after_help = "\
Answers: rescheduled, already cancelled, in delivery, delivered, acknowledged, expired, dead, gone
(no longer remembered), unknown (never existed here).
The exit code is 0 when the message was rescheduled, and 1 when it was not.

JSON: {id, answer}

Examples:
  postdate reschedule 01HF7YAYX80000000000000001 --in 2h
  postdate reschedule 01HF7YAYX80000000000000001 --at 2026-12-24T18:00:00Z")]
pub(super) struct Reschedule {
    /// Id of the message, as publish told it
    #[arg(value_name = "ID")]
    id: MessageId,
    #[command(flatten)]
    when: When,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct When {
    /// Due after this time from now: 250ms, 10s, 5m, 1h30m, 40d
    #[arg(long = "in", value_name = "DURATION", allow_hyphen_values = true)]
    #[arg(value_parser = time::delay_in)]
    after: Option<Delay>,
    /// Due at this time: RFC 3339, or ms since 1970
    #[arg(long, value_name = "TIME", value_parser = time::delay_at)]
    at: Option<Delay>,
}

impl Reschedule {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let delay = self.when.after.or(self.when.at).unwrap_or_default();
        let client = self.server.connect("reschedule").await?;
        let mut all = true;
        for verdict in client.reschedule(&[(self.id, delay)]).await? {
            all &= verdict.done;
            let answer = answer_word(&verdict, "rescheduled");
            let line = AnswerLine { id: verdict.id.to_string(), answer };
            out.either(&line, || {
                let due = match verdict.due_ms {
                    due_ms if verdict.done && due_ms != 0 => format!(
                        ", due {} ({})",
                        time::show_time(due_ms),
                        time::show_distance(due_ms, time::now_ms())
                    ),
                    _ => String::new(),
                };
                format!("{}  {answer}{due}", verdict.id)
            })?;
        }
        out.flush()?;
        if all { Ok(()) } else { Err(Failure::Said(1)) }
    }
}
