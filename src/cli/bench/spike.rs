//! `postdate bench spike`

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;

use super::consumer::Shared;
use super::deliver::{Received, complete, start_consumers};
use super::measure::{Meter, Window};
use super::payload::{Item, Random};
use super::producer::{Next, Producer};
use super::report::Report;
use super::{Load, join_all};
use crate::base::limits;
use crate::base::message::Delay;
use crate::cli::failure::Failure;
use crate::cli::output::{Out, count_of};
use crate::cli::{Server, time};
use crate::env::{Clock, OsClock};

/// Messages a second that publishing reaches at the least, to choose the lead time.
const SLOW_PUBLISHING: u64 = 50_000;
/// How long draining may take.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Debug, Args)]
#[command(after_help = "\
Publishes messages that are all due within one second, and receives and acknowledges them. Drained
is the time from the beginning of that second to the last message. Generator and server must share
a clock.

Examples:
  postdate bench spike --messages 1000000
  postdate bench spike --messages 100000 --connections 4 --lead 5s --json")]
pub(super) struct Spike {
    #[command(flatten)]
    pub(super) load: Load,
    /// Messages due in the second
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    messages: u64,
    /// Time between the beginning and the second they are due in; enough to publish them all
    #[arg(long, value_name = "DURATION", value_parser = time::duration_ms)]
    lead: Option<u64>,
    /// Credit of a receiving connection
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::CREDIT_MAX)))]
    credit: u32,
    #[command(flatten)]
    server: Server,
}

impl Spike {
    fn lead_ms(&self) -> u64 {
        self.lead.unwrap_or(3_000 + self.messages * 1_000 / SLOW_PUBLISHING)
    }

    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let destination = self.load.destination();
        let shape = self.load.shape(&destination)?;
        let shared = Arc::new(Shared::default());
        let lead = Duration::from_millis(self.lead_ms());
        let begin = Instant::now();
        // A whole second of the wall clock, as far away as the lead.
        let now_us = OsClock.wall_ns() / 1_000;
        let due_us = (now_us + lead.as_micros() as u64).div_ceil(1_000_000) * 1_000_000;
        let due = begin + Duration::from_micros(due_us - now_us);
        let window = Window::new(due, usize::try_from(PATIENCE.as_secs()).unwrap_or(600));
        let consumers =
            start_consumers(&self.load, &self.server, &destination, self.credit, window, &shared)
                .await?;

        let publishing = Window::new(begin, window.seconds);
        let mut tasks = Vec::new();
        for index in 0..u64::from(self.load.connections) {
            let meter = Meter::new(publishing)?;
            let mut producer = Producer::connect(&self.server.server, shape.clone(), meter).await?;
            let (shared, messages) = (shared.clone(), self.messages);
            let mut random = Random::new(index);
            tasks.push(tokio::spawn(async move {
                let next = |count: usize| {
                    let first = shared.next_sequence.fetch_add(count as u64, Ordering::Relaxed);
                    let last = (first + count as u64).min(messages);
                    if first >= last {
                        return Next::End;
                    }
                    let items: Vec<Item> = (first..last)
                        .map(|sequence| {
                            let ms = due_us / 1_000 + random.between(0, 999);
                            let delay = Delay::At(ms.cast_signed());
                            Item { delay, time_us: ms * 1_000, sequence }
                        })
                        .collect();
                    Next::Frame(items.into_iter())
                };
                producer.run(None, next).await?;
                Ok(producer.meter)
            }));
        }
        let meters = join_all(tasks).await?;
        let published_in = begin.elapsed();
        let in_time = Instant::now() < due;
        let published = Meter::sum(publishing, &meters)?;
        shared.expect(published.total, due.saturating_duration_since(Instant::now()) + PATIENCE);
        let consumed = join_all(consumers).await?;
        let received = Received::sum(window, &consumed)?;

        let mut report = Report::new(
            "spike",
            format!(
                "spike: {} of {} bytes due in one second, {} + {} connections",
                count_of(self.messages, "message"),
                self.load.size,
                self.load.connections,
                self.load.connections
            ),
        );
        let drained =
            received.last.map_or(Duration::ZERO, |last| last.saturating_duration_since(due));
        report.seconds("drained_seconds", "drained in", drained.as_secs_f64());
        report.rate(
            "drained_per_second",
            "drained",
            received.lateness.count() as f64 / drained.as_secs_f64().max(1e-3),
        );
        report.latency("lateness", "lateness", &received.lateness);
        report.seconds("published_seconds", "published in", published_in.as_secs_f64());
        report.count("published", "published in all", published.total);
        received.count(&mut report, &shared);
        report.refused(&published);
        report.write(&mut out)?;
        self.load.clean_up(&self.server, &destination).await?;
        if !in_time {
            return Err(Failure::Failed(
                "publishing was not done before the messages were due; give more --lead".into(),
            ));
        }
        complete(published.total, &shared)
    }
}
