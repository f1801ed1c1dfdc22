//! `postdate subscribe`

use std::future::ready;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::base::command::StartAt;
use crate::base::id::MessageId;
use crate::base::limits;
use crate::cli::failure::Failure;
use crate::cli::output::{Out, ReceivedLine, body_fields, show_body};
use crate::cli::{Server, time};
use crate::client::{Error, Received, SubscribeOptions, Subscription};

#[derive(Debug, Args)]
#[command(after_help = "\
Messages are acknowledged after they were written to stdout. With --max the last ones are
acknowledged together at the end, so that no message beyond N is touched.

JSON: {id, destination, body, due_ms, received_ms, attempt, redelivered}, one object a line; a
body that is not UTF-8 is null, with body_base64 beside it

To see a few messages use --max N, not a pipe into head: what is printed is acknowledged.

Examples:
  postdate subscribe /queue/hello
  postdate subscribe /queue/hello --max 10 --json
  postdate subscribe /topic/news --durable reader-1 --from earliest
  postdate subscribe /topic/news --group archive
  postdate subscribe '/topic/orders.*'
  postdate subscribe /user/anna/queue/news")]
pub(super) struct Subscribe {
    /// Where to receive from: /queue/x, /topic/x, /user/U/queue/x, or topics by a pattern: * is one part of
    /// a name, > the rest of it
    #[arg(value_name = "DEST")]
    destination: String,
    /// End after N messages, when their acknowledgements are confirmed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max: Option<u64>,
    /// Do not acknowledge: the messages come again, here or elsewhere. Ends the flow after CREDIT
    #[arg(long)]
    no_ack: bool,
    /// Most messages in hand that are not acknowledged
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::CREDIT_MAX)))]
    credit: u32,
    /// Name of a durable subscription of a topic: goes on where it was
    #[arg(long, value_name = "NAME")]
    durable: Option<String>,
    /// Share a durable subscription of a topic with others: each message goes to one of them
    #[arg(long, value_name = "NAME", conflicts_with = "durable")]
    group: Option<String>,
    /// Where a new subscription of a topic begins: earliest, latest, an offset, or unread: what the user
    /// of an inbox has not acknowledged (of a topic: latest)
    #[arg(long, value_name = "START", value_parser = start, default_value = "unread")]
    from: StartAt,
    /// End when the connection is lost, instead of connecting again
    #[arg(long)]
    no_reconnect: bool,
    #[command(flatten)]
    server: Server,
}

/// Reads `--from`.
fn start(text: &str) -> Result<StartAt, String> {
    match text {
        "earliest" => Ok(StartAt::Earliest),
        "latest" => Ok(StartAt::Latest),
        "unread" => Ok(StartAt::Unread),
        number => number
            .parse()
            .map(StartAt::Offset)
            .map_err(|_| "write earliest, latest, unread or an offset".to_owned()),
    }
}

impl Subscribe {
    /// Credit that takes nothing beyond `--max`.
    fn credit(&self) -> u32 {
        let max = self.max.and_then(|max| u32::try_from(max).ok()).unwrap_or(u32::MAX);
        self.credit.min(max)
    }

    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let client = self.server.connect_as("subscribe", !self.no_reconnect).await?;
        let options = SubscribeOptions {
            credit: self.credit(),
            durable: self.durable.as_ref().or(self.group.as_ref()).cloned().unwrap_or_default(),
            shared: self.group.is_some(),
            start: self.from,
            ..SubscribeOptions::new(self.destination.as_str())
        };
        let mut subscription = client.subscribe(options).await?;
        let mut acks = Acks::new(self.max, self.credit());
        let mut left = self.max.unwrap_or(u64::MAX);
        while left > 0 {
            let first = tokio::select! {
                biased;
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                first = subscription.next() => first,
            };
            let Some(first) = first else { break };
            let mut message = Some(first);
            // What is here already is written with it: one flush and one acknowledgement.
            while let Some(received) = message.take() {
                let received = received?;
                self.write(&mut out, &received)?;
                acks.received(received.id);
                left -= 1;
                if left > 0 && acks.waiting.len() < limits::BATCH_ITEMS_MAX {
                    message = at_once(&mut subscription).await;
                }
            }
            out.flush()?;
            if !self.no_ack {
                acks.send(&subscription, false).await?;
            }
        }
        if !self.no_ack {
            acks.send(&subscription, true).await?;
        }
        Ok(())
    }

    fn write(&self, out: &mut Out, received: &Received) -> Result<(), Failure> {
        let received_ms = time::now_ms();
        if out.json {
            let (body, body_base64) = body_fields(received.body());
            return Ok(out.object(&ReceivedLine {
                id: received.id.to_string(),
                destination: &received.destination,
                body,
                body_base64,
                due_ms: received.due_ms,
                received_ms,
                attempt: received.attempt,
                redelivered: received.redelivered(),
            })?);
        }
        // Only a pattern leaves open where a message comes from.
        let from = match &*received.destination {
            from if from == self.destination => String::new(),
            from => format!("{from}  "),
        };
        Ok(out.text(&format!(
            "{}  {:>6} ms late  attempt {}  {from}{}",
            time::show_time(received_ms),
            received_ms.saturating_sub(received.due_ms),
            received.attempt,
            show_body(received.body())
        ))?)
    }
}

/// The next message when it is here already.
async fn at_once(subscription: &mut Subscription) -> Option<Result<Received, Error>> {
    tokio::select! {
        biased;
        message = subscription.next() => message,
        () = ready(()) => None,
    }
}

/// What is to be acknowledged.
///
/// Each acknowledgement gives credit back, and the server sends more for it. With a maximum, the
/// last `credit` messages are therefore acknowledged only at the end.
#[derive(Debug)]
struct Acks {
    waiting: Vec<MessageId>,
    /// How many may still be acknowledged before the end.
    early: u64,
}

impl Acks {
    fn new(max: Option<u64>, credit: u32) -> Self {
        let early = max.map_or(u64::MAX, |max| max.saturating_sub(u64::from(credit)));
        Self { waiting: Vec::new(), early }
    }

    fn received(&mut self, id: MessageId) {
        self.waiting.push(id);
    }

    /// What is acknowledged now.
    fn take(&mut self, end: bool) -> Vec<MessageId> {
        if end {
            return std::mem::take(&mut self.waiting);
        }
        let count = self.waiting.len().min(usize::try_from(self.early).unwrap_or(usize::MAX));
        self.early -= count as u64;
        self.waiting.drain(..count).collect()
    }

    async fn send(&mut self, subscription: &Subscription, end: bool) -> Result<(), Failure> {
        let ids = self.take(end);
        for batch in ids.chunks(limits::BATCH_ITEMS_MAX) {
            subscription.ack(batch).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: with a maximum nothing beyond it is delivered. Method: count what the server may have
    /// sent, which is what was acknowledged and the credit.
    #[test]
    fn early_acknowledgements_never_ask_for_more_than_the_maximum() {
        for (max, credit) in [(1, 1_000), (10, 10), (10, 3), (5_000, 1_000)] {
            let granted = u32::try_from(max).unwrap().min(credit);
            let mut acks = Acks::new(Some(max), granted);
            let mut early = 0;
            for sequence in 1..=max {
                acks.received(MessageId::new(0, 0, sequence));
                early += acks.take(false).len() as u64;
                assert!(early + u64::from(granted) <= max, "{max} {credit}");
                assert!(sequence - early <= u64::from(granted), "the flow never stalls");
            }
            assert_eq!(early + acks.take(true).len() as u64, max);
        }
        let mut acks = Acks::new(None, 1);
        acks.received(MessageId::new(0, 0, 1));
        assert_eq!(acks.take(false).len(), 1);
    }

    #[test]
    fn starts_are_read() {
        assert_eq!(start("earliest"), Ok(StartAt::Earliest));
        assert_eq!(start("latest"), Ok(StartAt::Latest));
        assert_eq!(start("7"), Ok(StartAt::Offset(7)));
        assert!(start("-1").is_err());
        assert!(start("first").is_err());
    }
}
