//! `postdate bench recover`

mod child;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use super::Load;
use super::counters::Counters;
use super::fill::{Fill, Until};
use super::link::Link;
use super::report::Report;
use crate::base::command::Command;
use crate::base::message::{Delay, Message, MessageBatch};
use crate::cli::failure::Failure;
use crate::cli::output::{Out, count_of};
use crate::cli::time;
use child::Child;

/// How long the restarted server may take to have everything.
const PATIENCE: Duration = Duration::from_secs(600);
/// Time between two looks at the counters.
const LOOK: Duration = Duration::from_millis(2);

#[derive(Debug, Args)]
#[command(after_help = "\
Starts a server of this binary on an empty directory, publishes messages to it, kills it with
SIGKILL right after the last acknowledgement, starts it again, and measures from there. A kill
leaves what the system has cached: this is no test of power loss. The directory is left behind.

Examples:
  postdate bench recover --data-dir /tmp/bench --messages 1000000
  postdate bench recover --data-dir /tmp/bench --messages 10000000 --json")]
pub(super) struct Recover {
    #[command(flatten)]
    pub(super) load: Load,
    /// Directory for the server; must be empty or missing
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Messages pending when the server is killed
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    messages: u64,
    /// Shortest delay
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = time::duration_ms)]
    delay_min: u64,
    /// Longest delay
    #[arg(long, value_name = "DURATION", default_value = "40d", value_parser = time::duration_ms)]
    delay_max: u64,
    /// A setting of the server, as in `postdate serve --set`; may be given many times
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
}

impl Recover {
    pub(super) async fn run(self, mut out: Out) -> Result<(), Failure> {
        must_be_empty(&self.data_dir)?;
        let destination = "/queue/bench";
        let fill = Fill {
            connections: self.load.connections,
            shape: self.load.shape(destination)?,
            until: Until::Messages(self.messages),
            rate: None,
            delays: (self.delay_min.min(self.delay_max), self.delay_max),
            ids: false,
        };

        let server = Child::start(&self.data_dir, &self.settings)?;
        let filled = fill.run(&server.address).await?;
        filled.must_be(self.messages)?;
        let anonymous = server.anonymous_bytes();
        server.kill()?;
        let on_disk = disk_bytes(&self.data_dir)?;

        let begin = Instant::now();
        let server = Child::start(&self.data_dir, &self.settings)?;
        let ready = begin.elapsed();
        let mut link = Link::connect(&server.address).await?;
        publish_one(&mut link, destination).await?;
        let acknowledged = begin.elapsed();
        // The one published just now counts too.
        wait_for(&mut link, self.messages + 1, begin + PATIENCE).await?;
        let complete = begin.elapsed();
        let recovered_anonymous = server.anonymous_bytes();
        server.kill()?;

        let mut report = Report::new(
            "recover",
            format!(
                "recover: {} of {} bytes, delay {} to {}",
                count_of(self.messages, "message"),
                self.load.size,
                time::show_duration(self.delay_min),
                time::show_duration(self.delay_max)
            ),
        );
        report.seconds("ready_seconds", "ready after", ready.as_secs_f64());
        report.seconds("ack_seconds", "first acknowledgement", acknowledged.as_secs_f64());
        report.seconds("all_seconds", "all there", complete.as_secs_f64());
        report.seconds("fill_seconds", "filled in", filled.took.as_secs_f64());
        report.rate(
            "fill_per_second",
            "filled",
            filled.meter.total as f64 / filled.took.as_secs_f64().max(1e-3),
        );
        report.bytes("disk_bytes", "on disk", on_disk);
        if let Some(bytes) = anonymous {
            report.bytes("filled_anonymous_bytes", "memory before", bytes);
        }
        if let Some(bytes) = recovered_anonymous {
            report.bytes("recovered_anonymous_bytes", "memory after", bytes);
        }
        Ok(report.write(&mut out)?)
    }
}

fn must_be_empty(dir: &Path) -> Result<(), Failure> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(Failure::Usage(format!(
                "{} is not empty; name an empty or missing directory",
                dir.display()
            ))),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::Usage(format!("cannot read {}: {error}", dir.display()))),
    }
}

/// Bytes that the files below a directory take on disk.
fn disk_bytes(dir: &Path) -> Result<u64, Failure> {
    use std::os::unix::fs::MetadataExt;
    /// Unit of the count of blocks, whatever the file system has.
    const BLOCK_BYTES: u64 = 512;
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() {
            disk_bytes(&entry.path())?
        } else {
            metadata.blocks() * BLOCK_BYTES
        };
    }
    Ok(sum)
}

async fn publish_one(link: &mut Link, destination: &str) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    let day = 86_400_000;
    Message::new("after the restart").with_delay(Delay::After(day)).encode(&mut bytes)?;
    let command = Command::Produce {
        destination: destination.as_bytes().to_vec().into(),
        batch: MessageBatch::parse(bytes.into(), 1)?,
    };
    link.ask(&command).await?;
    Ok(())
}

/// Waits until the server counts so many messages.
async fn wait_for(link: &mut Link, messages: u64, deadline: Instant) -> Result<(), Failure> {
    loop {
        let counted = Counters::ask(link).await?.pending();
        if counted >= messages {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Failure::Failed(format!(
                "the restarted server has {counted} of {messages} acknowledged messages"
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
}
