//! `postdate bench`: a load generator that speaks raw frames, with the workloads of the project's
//! benchmarks.
//!
//! Closed loop: each connection keeps a number of frames unanswered. Open loop (`--rate`): frames
//! are due at fixed times, and latency counts from the time a frame was due, so that a stall shows
//! in every message it delayed.

mod cancel;
mod canceller;
mod consumer;
mod counters;
mod deliver;
mod fill;
mod link;
mod measure;
mod pace;
mod payload;
mod producer;
mod publish;
mod recover;
mod report;
mod spike;
mod stomp;

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};

use crate::base::command::Command;
use crate::base::limits;
use crate::cli::Server;
use crate::cli::failure::Failure;
use crate::cli::output::Out;
use crate::cli::time;
use link::Link;
use measure::Window;
use producer::Shape;

/// Unanswered frames of all kinds that a connection may have: the server stops reading beyond.
const IN_FLIGHT_MAX: i64 = limits::REQUESTS_IN_FLIGHT_MAX as i64;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  postdate bench publish --connections 16 --batch 100 --seconds 60
  postdate bench publish --connections 1 --batch 1 --in-flight 1
  postdate bench deliver --rate 10000 --delay 5s
  postdate bench cancel --messages 1000000
  postdate bench spike --messages 1000000
  postdate bench fanout --connections 10000
  postdate bench stomp --connections 4
  postdate bench recover --data-dir /tmp/bench --messages 1000000")]
pub(super) struct Bench {
    #[command(subcommand)]
    command: Workload,
}

#[derive(Debug, Subcommand)]
enum Workload {
    /// Publish delayed messages: throughput and time to acknowledgement
    Publish(publish::Publish),
    /// Publish, deliver, acknowledge: throughput, time on the way, lateness
    Deliver(deliver::Deliver),
    /// Cancel many messages: throughput, and what they leave on disk
    Cancel(cancel::Cancel),
    /// Many messages due in one second: time to drain them, lateness
    Spike(spike::Spike),
    /// Many STOMP subscribers of one topic: memory, connect rate, time to reach them all
    Fanout(stomp::Fanout),
    /// Send, deliver and acknowledge over STOMP: throughput, lateness
    Stomp(stomp::Stomp),
    /// Kill a server that holds many messages: time until it acknowledges again
    Recover(recover::Recover),
}

impl Bench {
    pub(super) fn run(self, out: Out) -> Result<(), Failure> {
        match self.command {
            Workload::Publish(workload) => workload.load.threads.run(workload.run(out)),
            Workload::Deliver(workload) => workload.load.threads.run(workload.run(out)),
            Workload::Cancel(workload) => workload.load.threads.run(workload.run(out)),
            Workload::Spike(workload) => workload.load.threads.run(workload.run(out)),
            Workload::Fanout(workload) => Threads { threads: 1 }.run(workload.run(out)),
            Workload::Stomp(workload) => workload.threads.run(workload.run(out)),
            Workload::Recover(workload) => workload.load.threads.run(workload.run(out)),
        }
    }
}

/// What every workload can be told.
#[derive(Debug, Clone, Args)]
struct Load {
    /// Connections that publish (and as many that receive, where messages are received)
    #[arg(long, value_name = "N", default_value_t = 16)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Messages in a frame
    #[arg(long, value_name = "N", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=limits::BATCH_ITEMS_MAX as i64))]
    batch: u32,
    /// Unanswered frames of a connection
    #[arg(long, value_name = "N", default_value_t = 4)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=IN_FLIGHT_MAX))]
    in_flight: u32,
    /// Bytes of a body: base 62 text, beginning with 16 digits of time and 10 of sequence
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(
        payload::BODY_BYTES_MIN as i64..=limits::BODY_BYTES_MAX as i64))]
    size: u32,
    /// Priority of the messages
    #[arg(long, value_name = "N", default_value_t = limits::PRIORITY_DEFAULT)]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=i64::from(limits::PRIORITY_MAX)))]
    priority: u8,
    /// Where to publish; a queue of its own when left out
    #[arg(long, value_name = "DEST")]
    destination: Option<String>,
    /// Leave what was published in its queue; else the queue is deleted at the end
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    threads: Threads,
}

impl Load {
    /// The destination of this run.
    fn destination(&self) -> String {
        let own = || format!("/queue/bench-{}-{}", std::process::id(), time::now_ms());
        self.destination.clone().unwrap_or_else(own)
    }

    /// Whether what is in the destination is this run's alone, to be deleted at the end.
    fn deletes(&self) -> bool {
        !self.keep && self.destination.is_none()
    }

    /// What the connections publish.
    fn shape(&self, destination: &str) -> Result<Shape, Failure> {
        let (batch, size) = (self.batch as usize, self.size as usize);
        let bytes = batch * (size + 64) + limits::DESTINATION_BYTES_MAX + 64;
        if bytes > limits::FRAME_BYTES_MAX {
            return Err(Failure::Usage(format!(
                "a frame of {batch} bodies of {size} bytes is over {} bytes; lower --batch",
                limits::FRAME_BYTES_MAX
            )));
        }
        Ok(Shape {
            destination: destination.as_bytes().to_vec(),
            batch,
            in_flight: self.in_flight as usize,
            size,
            priority: self.priority,
        })
    }

    /// Deletes the queue of this run.
    async fn clean_up(&self, server: &Server, destination: &str) -> Result<(), Failure> {
        if !self.deletes() {
            return Ok(());
        }
        let name = destination.as_bytes().to_vec().into();
        let mut link = Link::connect(&server.server).await?;
        link.ask(&Command::DeleteDestination { name }).await?;
        Ok(())
    }
}

/// How many threads generate the load.
#[derive(Debug, Clone, Copy, Args)]
struct Threads {
    /// Threads of the generator; more take processors from a server on the same machine
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
}

impl Threads {
    fn run(self, work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
        let runtime = if self.threads == 1 {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?
        } else {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(usize::from(self.threads))
                .enable_all()
                .build()?
        };
        runtime.block_on(work)
    }
}

/// How long a workload runs.
#[derive(Debug, Clone, Args)]
struct Duty {
    /// Seconds that are measured
    #[arg(long, value_name = "N", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Seconds before, that are not measured
    #[arg(long, value_name = "N", default_value_t = 2)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=3_600))]
    warmup: u32,
    /// Messages a second (open loop: latency counts from the time a message was due to be sent);
    /// else as fast as the window allows (closed loop)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    rate: Option<u64>,
}

impl Duty {
    /// The time measured, when the run begins now.
    fn window(&self) -> Window {
        let start = Instant::now() + Duration::from_secs(u64::from(self.warmup));
        Window::new(start, self.seconds as usize)
    }

    fn describe(&self) -> String {
        match self.rate {
            Some(rate) => format!("open loop at {rate}/s"),
            None => "closed loop".into(),
        }
    }
}

/// Waits for tasks; the first failure is the outcome.
async fn join_all<T>(
    tasks: Vec<tokio::task::JoinHandle<Result<T, Failure>>>,
) -> Result<Vec<T>, Failure> {
    let mut results = Vec::with_capacity(tasks.len());
    for task in tasks {
        results.push(task.await.map_err(|error| Failure::Failed(error.to_string()))??);
    }
    Ok(results)
}
