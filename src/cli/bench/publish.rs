//! `postdate bench publish`

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Args;

use super::measure::Meter;
use super::payload::{Item, Random};
use super::producer::{Next, Producer};
use super::report::Report;
use super::{Duty, Load, join_all, pace};
use crate::base::message::Delay;
use crate::cli::failure::Failure;
use crate::cli::output::Out;
use crate::cli::{Server, time};
use crate::env::{Clock, OsClock};

#[derive(Debug, Args)]
#[command(after_help = "\
Delays are uniform between --delay-min and --delay-max; --delay-max 0 publishes for now.
Latency is from sending a frame (open loop: from when it was due to be sent) to its answer.

Examples:
  postdate bench publish --connections 16 --batch 100 --seconds 60
  postdate bench publish --connections 16 --batch 1 --in-flight 64
  postdate bench publish --connections 1 --batch 1 --in-flight 1
  postdate bench publish --rate 100000 --json")]
pub(super) struct Publish {
    #[command(flatten)]
    pub(super) load: Load,
    #[command(flatten)]
    duty: Duty,
    /// Shortest delay
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = time::duration_ms)]
    delay_min: u64,
    /// Longest delay
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = time::duration_ms)]
    delay_max: u64,
    #[command(flatten)]
    server: Server,
}

impl Publish {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let destination = self.load.destination();
        let shape = self.load.shape(&destination)?;
        let connections = self.load.connections as usize;
        let delays = (self.delay_min.min(self.delay_max), self.delay_max);

        // Everybody is connected before the clock runs.
        let mut producers = Vec::with_capacity(connections);
        let waiting = Meter::new(self.duty.window())?;
        for _ in 0..connections {
            let producer =
                Producer::connect(&self.server.server, shape.clone(), waiting.clone()).await?;
            producers.push(producer);
        }
        let window = self.duty.window();
        let sequence = Arc::new(AtomicU64::new(0));
        let mut beats = self.duty.rate.map(|rate| {
            pace::start(connections, rate as f64 / shape.batch as f64, window.end()).into_iter()
        });
        let mut tasks = Vec::with_capacity(connections);
        for (index, mut producer) in (0_u64..).zip(producers) {
            producer.meter = Meter::new(window)?;
            let beats = beats.as_mut().and_then(Iterator::next);
            let sequence = sequence.clone();
            let mut random = Random::new(index);
            tasks.push(tokio::spawn(async move {
                let next = |count: usize| {
                    if Instant::now() >= window.end() {
                        return Next::End;
                    }
                    let first = sequence.fetch_add(count as u64, Ordering::Relaxed);
                    let now_us = OsClock.wall_ns() / 1_000;
                    let random = &mut random;
                    let items: Vec<Item> = (0..count as u64)
                        .map(|n| {
                            let ms = random.between(delays.0, delays.1);
                            let delay = match ms {
                                0 => Delay::None,
                                ms => Delay::After(ms.cast_signed()),
                            };
                            Item { delay, time_us: now_us + ms * 1_000, sequence: first + n }
                        })
                        .collect();
                    Next::Frame(items.into_iter())
                };
                producer.run(beats, next).await?;
                Ok(producer.meter)
            }));
        }
        let meters = join_all(tasks).await?;
        let meter = Meter::sum(window, &meters)?;
        self.report(&meter).write(&mut out)?;
        self.load.clean_up(&self.server, &destination).await
    }

    fn report(&self, meter: &Meter) -> Report {
        let Load { connections, batch, in_flight, size, .. } = self.load;
        let title = format!(
            "publish: {connections} connections, {in_flight} frames of {batch} in flight, \
             {size} bytes, delay {} to {}, {} s, {}",
            time::show_duration(self.delay_min.min(self.delay_max)),
            time::show_duration(self.delay_max),
            self.duty.seconds,
            self.duty.describe()
        );
        let mut report = Report::new("publish", title);
        report.throughput(meter);
        report.latency("ack_latency", "acknowledged in", &meter.latency);
        report.count("published", "published in all", meter.total);
        report.refused(meter);
        report
    }
}
