//! `postdate bench cancel`

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use super::canceller::{Canceller, Doomed};
use super::counters::{Counters, settle};
use super::fill::{Fill, Until};
use super::link::Link;
use super::measure::{Meter, Window};
use super::payload::Random;
use super::report::Report;
use super::{Load, join_all};
use crate::base::id::MessageId;
use crate::base::limits;
use crate::cli::failure::Failure;
use crate::cli::output::{Out, count_of};
use crate::cli::{Server, time};

/// How long the server may take to write out what was published, and cancelling to be done.
const PATIENCE: Duration = Duration::from_secs(3_600);
/// What a live message takes beside its body before compression, about, bytes: key, destination,
/// lengths.
const ROW_BYTES: u64 = 20;

#[derive(Debug, Args)]
#[command(after_help = "\
Publishes messages that are due far away, waits until the server has written out what it wants to,
cancels a share of them, chosen by chance, and waits again until nothing is merged any more. What
counts: cancels a second, and what the store takes on disk against the bytes of what is alive (body
and 20 bytes each).

Examples:
  postdate bench cancel --messages 1000000
  postdate bench cancel --messages 10000000 --order random --json")]
pub(super) struct Cancel {
    #[command(flatten)]
    pub(super) load: Load,
    /// Messages published
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    messages: u64,
    /// Shortest delay
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = time::duration_ms)]
    delay_min: u64,
    /// Longest delay
    #[arg(long, value_name = "DURATION", default_value = "39d", value_parser = time::duration_ms)]
    delay_max: u64,
    /// Part of them that is cancelled, 0 to 1
    #[arg(long, value_name = "PART", default_value_t = 0.9, value_parser = part)]
    share: f64,
    /// Messages in a frame of cancels
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=limits::BATCH_ITEMS_MAX as i64))]
    cancel_batch: u32,
    /// In which order they are cancelled
    #[arg(long, value_name = "ORDER", value_enum, default_value_t = Order::Key)]
    order: Order,
    /// Longest wait for the last merge
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = time::duration_ms)]
    settle: u64,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Order {
    /// As they lie in the store: by due time
    Key,
    /// Each anywhere
    Random,
}

impl Cancel {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let destination = self.load.destination();
        let fill = Fill {
            connections: self.load.connections,
            shape: self.load.shape(&destination)?,
            until: Until::Messages(self.messages),
            rate: None,
            delays: (self.delay_min.min(self.delay_max), self.delay_max),
            ids: true,
        };
        let mut filled = fill.run(&self.server.server).await?;
        filled.must_be(self.messages)?;
        let mut link = Link::connect(&self.server.server).await?;
        let (before, _) = settle(&mut link, PATIENCE).await?;

        let doomed = self.choose(std::mem::take(&mut filled.ids));
        let wanted = doomed.len() as u64;
        let (meter, kept) = self.cancel(doomed).await?;
        // The one before was idle for as long as this took, and may have been closed for it.
        let mut link = Link::connect(&self.server.server).await?;
        let after = Counters::ask(&mut link).await?;
        let waiting = Instant::now();
        let (settled, quiet) = settle(&mut link, Duration::from_millis(self.settle)).await?;
        let waited = waiting.elapsed();

        let mut report = Report::new("cancel", self.title(wanted));
        report.rate("published_per_second", "published", filled.meter.rate());
        report.throughput(&meter);
        report.latency("ack_latency", "acknowledged in", &meter.latency);
        report.count("cancelled", "cancelled in all", meter.total);
        report.counters("before", "before", &before);
        report.counters("after", "after", &after);
        report.counters("settled", "settled", &settled);
        report.seconds("settled_seconds", "settled in", waited.as_secs_f64());
        report.must("quiet", "MERGES GO ON", quiet);
        for (key, name, counters) in [
            ("disk_over_live_before", "disk over live, before", &before),
            ("disk_over_live", "disk over live, settled", &settled),
        ] {
            if let Some(ratio) = self.disk_over_live(counters) {
                report.ratio(key, name, ratio);
            }
        }
        report.write(&mut out)?;
        self.load.clean_up(&self.server, &destination).await?;
        if kept > 0 {
            let text = format!("{} could not be cancelled", count_of(kept, "message"));
            return Err(Failure::Failed(text));
        }
        Ok(())
    }

    fn title(&self, wanted: u64) -> String {
        let Load { connections, in_flight, size, .. } = self.load;
        let order = match self.order {
            Order::Key => "in order of due time",
            Order::Random => "in random order",
        };
        format!(
            "cancel: {} of {} of {size} bytes, {order}, {connections} connections, {in_flight} \
             frames of {} in flight",
            wanted,
            count_of(self.messages, "message"),
            self.cancel_batch
        )
    }

    /// Which are to be cancelled, in the order wanted. Chosen by chance in either case, so that both
    /// orders leave the same holes.
    fn choose(&self, mut ids: Vec<MessageId>) -> Vec<MessageId> {
        let mut random = Random::new(self.messages);
        for last in (1..ids.len()).rev() {
            ids.swap(last, random.between(0, last as u64) as usize);
        }
        ids.truncate((ids.len() as f64 * self.share).round() as usize);
        if self.order == Order::Key {
            ids.sort_unstable();
        }
        ids
    }

    /// Cancels them: what was measured, and how many were not cancelled.
    async fn cancel(&self, doomed: Vec<MessageId>) -> Result<(Meter, u64), Failure> {
        let doomed = Arc::new(Doomed::new(doomed, self.cancel_batch as usize));
        let in_flight = self.load.in_flight;
        let mut cancellers = Vec::new();
        for _ in 0..self.load.connections {
            let server = &self.server.server;
            cancellers.push(Canceller::connect(server, doomed.clone(), in_flight).await?);
        }
        let window = Window::new(Instant::now(), PATIENCE.as_secs() as usize);
        let meter = Meter::new(window)?;
        let tasks = cancellers.into_iter().map(|it| tokio::spawn(it.run(meter.clone()))).collect();
        let (meters, kept): (Vec<_>, Vec<_>) = join_all(tasks).await?.into_iter().unzip();
        let mut meter = Meter::sum(window, &meters)?;
        meter.end_at(Instant::now());
        Ok((meter, kept.iter().sum()))
    }

    /// Bytes of the store on disk for each byte of what is alive; `None` when nothing is.
    fn disk_over_live(&self, counters: &Counters) -> Option<f64> {
        let live = counters.pending() * (u64::from(self.load.size) + ROW_BYTES);
        (live > 0).then(|| counters.get("store_disk_bytes") as f64 / live as f64)
    }
}

fn part(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|part| (0.0..=1.0).contains(part))
        .ok_or_else(|| format!("`{text}` is not a part from 0 to 1; write for example 0.9"))
}
