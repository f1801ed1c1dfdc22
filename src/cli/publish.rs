//! `postdate publish`

mod file;

use std::io::{self, Read};

use clap::{ArgGroup, Args};

use crate::base::limits;
use crate::base::message::{Delay, Message};
use crate::base::recur::{Cron, Rule};
use crate::cli::failure::Failure;
use crate::cli::lines::Rules;
use crate::cli::output::{Out, PublishedLine};
use crate::cli::{Server, time};

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("content").args(["body", "lines"]).required(true))]
#[command(group = ArgGroup::new("when").args(["after", "at", "level"]))]
#[command(group = ArgGroup::new("again").args(["every", "cron"]).conflicts_with("lines"))]
#[command(after_help = "\
A published message is on stable storage when its line appears (see `durability` of the server).

Delay levels 1 to 18: 1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h.

With --lines each line is a body, or a JSON object with body and, as needed, in or at or level,
key, headers, priority, expires, dedup_id. A bad line is refused with its number before anything
of its batch (about 500 lines) is sent. Flags hold for every line that says nothing else;
--dedup-id ID gives line N the id ID:N, so that a file can be sent again after a failure.

With --every or --cron the id is that of the schedule: query, list, cancel and reschedule go by it.
Each run publishes a copy with an id of its own and the header scheduled-job-id. Runs that a stopped
server missed come as one. A cron expression has five fields (minute, hour, day of month, month, day
of week), or six with seconds in front.

JSON: {id, destination, due_ms}, one object a line; refused messages as errors on stderr

Examples:
  postdate publish /queue/mail 'good morning' --in 10m
  postdate publish /topic/news 'good morning' --at \"$(date -d 'tomorrow 8:00' -Is)\"
  postdate publish /queue/mail 'are you there?' --every 5m --times 3
  postdate publish /queue/mail 'good morning' --cron '0 9 * * 1-5' --zone Europe/Berlin
  postdate publish /queue/mail - --header kind=report < report.txt
  printf '%s\\n' '{\"body\":\"a\",\"in\":\"5s\"}' 'b' | postdate publish /queue/mail --lines -")]
pub(super) struct Publish {
    /// Where to: /queue/x (each message to one consumer) or /topic/x (to every subscriber)
    #[arg(value_name = "DEST")]
    destination: String,
    /// The body; - reads it from stdin
    #[arg(value_name = "BODY")]
    body: Option<String>,
    /// Publish every line of a file; - reads stdin
    #[arg(long, value_name = "FILE")]
    lines: Option<String>,
    /// Take every line as a body, also where it looks like an object
    #[arg(long, conflicts_with = "body", requires = "lines")]
    raw: bool,
    /// Deliver after this time: 250ms, 10s, 5m, 1h30m, up to 40d
    #[arg(long = "in", value_name = "DURATION", allow_hyphen_values = true)]
    #[arg(value_parser = time::delay_in)]
    after: Option<Delay>,
    /// Deliver at this time: RFC 3339, or ms since 1970; the past means now
    #[arg(long, value_name = "TIME", value_parser = time::delay_at)]
    at: Option<Delay>,
    /// Deliver after the time of this delay level
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=18))]
    level: Option<i64>,
    /// Publish again and again: at --in or --at, or after one period, and then once every period,
    /// 1s to 40d
    #[arg(long, value_name = "DURATION", value_parser = time::with_unit_ms)]
    every: Option<u64>,
    /// Publish whenever the clock matches this cron expression
    #[arg(long, value_name = "EXPRESSION", conflicts_with = "when")]
    cron: Option<String>,
    /// Time zone of --cron: a name of the IANA database; UTC when it is not given
    #[arg(long, value_name = "ZONE", requires = "cron")]
    zone: Option<String>,
    /// Publish so many times in all; 0 goes on for ever
    #[arg(long, value_name = "N", requires = "again", default_value_t = 0)]
    times: u32,
    /// Key: messages that belong together share one
    #[arg(long, value_name = "K")]
    key: Option<String>,
    /// A header; may be given many times
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Priority, 0 (lowest) to 9; work queues deliver higher ones first
    #[arg(long, value_name = "N", default_value_t = limits::PRIORITY_DEFAULT)]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=i64::from(limits::PRIORITY_MAX)))]
    priority: u8,
    /// Drop the message when it was not acknowledged within this time
    #[arg(long, value_name = "DURATION", value_parser = time::duration_ms)]
    expires: Option<u64>,
    /// Publish at most once under this id (remembered 24 hours for each destination)
    #[arg(long, value_name = "ID", value_parser = dedup)]
    dedup_id: Option<String>,
    #[command(flatten)]
    server: Server,
}

/// Reads `--header`.
fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".into()),
    }
}

/// Reads `--dedup-id`.
fn dedup(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > limits::DEDUP_BYTES_MAX {
        return Err(format!("a dedup id has 1 to {} bytes", limits::DEDUP_BYTES_MAX));
    }
    Ok(text.to_owned())
}

impl Publish {
    /// A message as the flags say, with an empty body.
    fn template(&self) -> Message {
        let mut message = Message::new("").with_priority(self.priority);
        message.delay = self.after.or(self.at).or(self.level.map(Delay::Level)).unwrap_or_default();
        message.content.key = self.key.clone().unwrap_or_default();
        message.content.headers.clone_from(&self.headers);
        message.expires_after_ms = self.expires;
        message.dedup = self.dedup_id.clone().unwrap_or_default().into_bytes();
        message
    }

    /// The rule of `--every` or `--cron`, if there is one.
    fn rule(&self) -> Option<Rule> {
        let times = self.times;
        if let Some(period_ms) = self.every {
            return Some(Rule::Every { period_ms, times });
        }
        let (expression, zone) = (self.cron.clone()?, self.zone.clone().unwrap_or_default());
        Some(Rule::Cron(Cron { expression, zone, times, then: None }))
    }

    pub(super) async fn run(self, out: Out) -> Result<(), Failure> {
        let template = self.template();
        if let Some(path) = &self.lines {
            let rules = Rules { template, raw: self.raw };
            let client = self.server.connect("publish").await?;
            return file::publish(&client, &self.destination, path, rules, out).await;
        }
        self.publish_one(template, out).await
    }

    async fn publish_one(self, mut message: Message, mut out: Out) -> Result<(), Failure> {
        let body = self.body.as_deref().unwrap_or_default();
        message.content.body = if body == "-" { read_body()? } else { body.as_bytes().to_vec() };
        let client = self.server.connect("publish").await?;
        let (produced, due) = match self.rule() {
            Some(rule) => {
                (client.repeat(&self.destination, rule, message).await?, "recurring, due")
            }
            None => (client.send(&self.destination, message).await?, "due"),
        };
        let due_ms = produced.id.due_ms();
        let line =
            PublishedLine { id: produced.id.to_string(), destination: &self.destination, due_ms };
        out.either(&line, || {
            let what = if produced.duplicate { "published before" } else { due };
            format!(
                "{}  {}  {what} {} ({})",
                produced.id,
                self.destination,
                time::show_time(due_ms),
                time::show_distance(due_ms, time::now_ms())
            )
        })?;
        Ok(out.flush()?)
    }
}

/// Reads the body from stdin, no further than one byte over its limit.
fn read_body() -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    io::stdin().lock().take(limits::BODY_BYTES_MAX as u64 + 1).read_to_end(&mut body)?;
    Ok(body)
}
