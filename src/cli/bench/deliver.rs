//! `postdate bench deliver`

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;

use super::consumer::{Consumed, Consumer, Shared};
use super::measure::{Latency, Meter, Window};
use super::payload::{Item, Random};
use super::producer::{Next, Producer};
use super::report::Report;
use super::{Duty, Load, join_all, pace};
use crate::base::limits;
use crate::base::message::Delay;
use crate::cli::failure::Failure;
use crate::cli::output::Out;
use crate::cli::{Server, time};
use crate::env::{Clock, OsClock};

/// How long the last messages may take after they are due.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
#[command(after_help = "\
Half of the connections publish, the other half receive and acknowledge. Throughput counts
confirmed acknowledgements. On the way: receive time less the time the frame was made (open loop:
was due to be sent). Lateness: receive time less due time; it must never be negative. Generator
and server must share a clock.

Examples:
  postdate bench deliver --connections 4 --batch 100
  postdate bench deliver --connections 1 --batch 1 --in-flight 256
  postdate bench deliver --rate 10000 --batch 10 --delay 5s --seconds 30")]
pub(super) struct Deliver {
    #[command(flatten)]
    pub(super) load: Load,
    #[command(flatten)]
    duty: Duty,
    /// Delay of every message; 0 delivers at once
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = time::duration_ms)]
    delay: u64,
    /// Random time added to the delay, up to this
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = time::duration_ms)]
    jitter: u64,
    /// Credit of a receiving connection
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::CREDIT_MAX)))]
    credit: u32,
    /// Closed loop without delay: publishing waits at so many messages not yet received
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    backlog: u64,
    #[command(flatten)]
    server: Server,
}

impl Deliver {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let destination = self.load.destination();
        let shape = self.load.shape(&destination)?;
        let connections = self.load.connections as usize;
        let shared = Arc::new(Shared::default());

        let mut producers = Vec::with_capacity(connections);
        let waiting = Meter::new(self.duty.window())?;
        for _ in 0..connections {
            let producer =
                Producer::connect(&self.server.server, shape.clone(), waiting.clone()).await?;
            producers.push(producer);
        }
        // Publishing is measured in its window; what is delayed arrives in one that is as much
        // later.
        let window = self.duty.window();
        let later = Duration::from_millis(self.delay);
        let arrival = Window::new(window.start + later, window.seconds);
        let consumers =
            start_consumers(&self.load, &self.server, &destination, self.credit, arrival, &shared)
                .await?;
        let mut beats = self.duty.rate.map(|rate| {
            pace::start(connections, rate as f64 / shape.batch as f64, window.end()).into_iter()
        });
        let mut tasks = Vec::with_capacity(connections);
        for (index, mut producer) in (0_u64..).zip(producers) {
            producer.meter = Meter::new(window)?;
            let open = beats.is_some();
            let beats = beats.as_mut().and_then(Iterator::next);
            let mut source = self.source(index, open, window, shared.clone());
            tasks.push(tokio::spawn(async move {
                producer.run(beats, |count| source.next(count)).await?;
                Ok(producer.meter)
            }));
        }
        let meters = join_all(tasks).await?;
        let published = Meter::sum(window, &meters)?;
        let longest = Duration::from_millis(self.delay.saturating_add(self.jitter));
        shared.expect(published.total, longest + PATIENCE);
        let consumed = join_all(consumers).await?;
        let received = Received::sum(arrival, &consumed)?;
        self.report(&published, &received, &shared).write(&mut out)?;
        self.load.clean_up(&self.server, &destination).await?;
        complete(published.total, &shared)
    }

    fn source(&self, index: u64, open: bool, window: Window, shared: Arc<Shared>) -> Source {
        // A delayed backlog is meant to be there, and an open loop never waits.
        let bounded = !open && self.delay == 0 && self.jitter == 0;
        Source {
            random: Random::new(index),
            end: window.end(),
            delay: (self.delay, self.delay.saturating_add(self.jitter)),
            backlog: if bounded { self.backlog } else { u64::MAX },
            shared,
        }
    }

    fn report(&self, published: &Meter, received: &Received, shared: &Shared) -> Report {
        let Load { connections, batch, in_flight, size, .. } = self.load;
        let title = format!(
            "deliver: {connections} + {connections} connections, {in_flight} frames of {batch} in \
             flight, {size} bytes, delay {} + {}, {} s, {}",
            time::show_duration(self.delay),
            time::show_duration(self.jitter),
            self.duty.seconds,
            self.duty.describe()
        );
        let mut report = Report::new("deliver", title);
        report.throughput(&received.meter);
        if self.delay == 0 && self.jitter == 0 {
            report.latency("transit", "on the way", &received.meter.latency);
        }
        report.latency("lateness", "lateness", &received.lateness);
        report.rate("published_per_second", "published", published.rate());
        report.latency("ack_latency", "acknowledged in", &published.latency);
        report.count("published", "published in all", published.total);
        received.count(&mut report, shared);
        report.refused(published);
        report
    }
}

/// Makes the frames of one connection.
struct Source {
    random: Random,
    end: Instant,
    delay: (u64, u64),
    backlog: u64,
    shared: Arc<Shared>,
}

impl Source {
    fn next(&mut self, count: usize) -> Next<std::vec::IntoIter<Item>> {
        if Instant::now() >= self.end {
            return Next::End;
        }
        let shared = &self.shared;
        let made = shared.next_sequence.load(Ordering::Relaxed);
        if made.saturating_sub(shared.received.load(Ordering::Relaxed)) >= self.backlog {
            return Next::Wait;
        }
        let first = shared.next_sequence.fetch_add(count as u64, Ordering::Relaxed);
        let time_us = OsClock.wall_ns() / 1_000;
        let items: Vec<Item> = (0..count as u64)
            .map(|n| {
                let ms = self.random.between(self.delay.0, self.delay.1);
                let delay = match ms {
                    0 => Delay::None,
                    ms => Delay::After(ms.cast_signed()),
                };
                Item { delay, time_us: time_us + ms * 1_000, sequence: first + n }
            })
            .collect();
        Next::Frame(items.into_iter())
    }
}

/// Subscribes as many connections as publish.
pub(super) async fn start_consumers(
    load: &Load,
    server: &Server,
    destination: &str,
    credit: u32,
    window: Window,
    shared: &Arc<Shared>,
) -> Result<Vec<tokio::task::JoinHandle<Result<Consumed, Failure>>>, Failure> {
    let mut consumers = Vec::new();
    for _ in 0..load.connections {
        let consumer =
            Consumer::subscribe(&server.server, destination, credit, window, shared.clone());
        consumers.push(tokio::spawn(consumer.await?.run()));
    }
    Ok(consumers)
}

/// What all consumers measured.
pub(super) struct Received {
    pub(super) meter: Meter,
    pub(super) lateness: Latency,
    repeated: u64,
    pub(super) last: Option<Instant>,
}

impl Received {
    pub(super) fn sum(window: Window, consumed: &[Consumed]) -> Result<Self, Failure> {
        let mut lateness = Latency::new()?;
        for one in consumed {
            lateness.add(&one.lateness);
        }
        Ok(Self {
            meter: Meter::sum(window, consumed.iter().map(|one| &one.meter))?,
            lateness,
            repeated: consumed.iter().map(|one| one.repeated).sum(),
            last: consumed.iter().filter_map(|one| one.last).max(),
        })
    }

    /// Adds the counts of the whole run.
    pub(super) fn count(&self, report: &mut Report, shared: &Shared) {
        let received = shared.received.load(Ordering::Acquire);
        report.count("received", "received in all", received);
        let acknowledged = shared.acknowledged.load(Ordering::Acquire);
        report.count("acknowledged", "acknowledged in all", acknowledged);
        report.count("repeated", "received again", self.repeated);
    }
}

/// Everything published must have come.
pub(super) fn complete(published: u64, shared: &Shared) -> Result<(), Failure> {
    let received = shared.received.load(Ordering::Acquire);
    if received < published {
        let missing = published - received;
        return Err(Failure::Failed(format!("{missing} published messages did not come in time")));
    }
    Ok(())
}
