//! `postdate bench publish`

use clap::Args;

use super::fill::{Fill, Until};
use super::measure::Meter;
use super::report::Report;
use super::{Duty, Load};
use crate::cli::failure::Failure;
use crate::cli::output::{Out, count_of};
use crate::cli::{Server, time};

#[derive(Debug, Args)]
#[command(after_help = "\
Delays are uniform between --delay-min and --delay-max; --delay-max 0 publishes for now.
Latency is from sending a frame (open loop: from when it was due to be sent) to its answer.

Examples:
  postdate bench publish --connections 16 --batch 100 --seconds 60
  postdate bench publish --connections 16 --batch 1 --in-flight 64
  postdate bench publish --connections 1 --batch 1 --in-flight 1
  postdate bench publish --messages 10000000 --delay-min 1h --delay-max 39d --keep
  postdate bench publish --rate 100000 --json")]
pub(super) struct Publish {
    #[command(flatten)]
    pub(super) load: Load,
    #[command(flatten)]
    duty: Duty,
    /// Stop after so many messages instead of a time; add --keep to leave them pending
    #[arg(long, value_name = "N", conflicts_with_all = ["seconds", "warmup"])]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    messages: Option<u64>,
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
        let fill = Fill {
            connections: self.load.connections,
            shape: self.load.shape(&destination)?,
            until: match self.messages {
                Some(messages) => Until::Messages(messages),
                None => Until::Time(self.duty.clone()),
            },
            rate: self.duty.rate,
            delays: (self.delay_min.min(self.delay_max), self.delay_max),
            ids: false,
        };
        let meter = fill.run(&self.server.server).await?.meter;
        self.report(&meter).write(&mut out)?;
        self.load.clean_up(&self.server, &destination).await
    }

    fn report(&self, meter: &Meter) -> Report {
        let Load { connections, batch, in_flight, size, .. } = self.load;
        let title = format!(
            "publish: {connections} connections, {in_flight} frames of {batch} in flight, \
             {size} bytes, delay {} to {}, {}, {}",
            time::show_duration(self.delay_min.min(self.delay_max)),
            time::show_duration(self.delay_max),
            self.messages.map_or_else(
                || format!("{} s", self.duty.seconds),
                |messages| count_of(messages, "message")
            ),
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
