//! `postdate bench fanout`

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::link::{Link, Url, url};
use crate::cli::bench::measure::Latency;
use crate::cli::bench::report::Report;
use crate::cli::failure::Failure;
use crate::cli::output::Out;
use crate::cli::serve::raise_open_files;
use crate::env::{Clock, OsClock};
use crate::wire::stomp::{Command, Frame};

/// How long a message may take to reach everybody.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
#[command(after_help = "\
Connects many STOMP subscribers to one topic, then sends one message after the other and measures
how long each takes to reach each subscriber. Generator and server must share a clock, and both
need two open files for each connection.

Examples:
  postdate bench fanout --connections 10000 --pid $(pgrep -f 'postdate serve')
  postdate bench fanout --url tcp://127.0.0.1:61613 --connections 1000 --messages 100")]
pub(in crate::cli::bench) struct Fanout {
    /// Where STOMP is: tcp://HOST:PORT or ws://HOST:PORT/PATH
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:7780/ws", value_parser = url)]
    url: Url,
    /// Subscribers
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    connections: u32,
    /// Connections that are made at the same time
    #[arg(long, value_name = "N", default_value_t = 64)]
    connecting: u32,
    /// Messages, one after the other
    #[arg(long, value_name = "N", default_value_t = 20)]
    messages: u32,
    /// Process of the server, to tell what memory the connections take
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
}

/// What all subscribers share.
struct Shared {
    received: AtomicU64,
    latency: Mutex<Latency>,
}

impl Fanout {
    pub(in crate::cli::bench) async fn run(self, mut out: Out) -> Result<(), Failure> {
        raise_open_files(self.connections as usize);
        let topic = format!("/topic/fanout-{}", std::process::id());
        let latency = Mutex::new(Latency::new()?);
        let shared = Arc::new(Shared { received: AtomicU64::new(0), latency });
        let mut sender = Link::connect(&self.url).await?;
        let before = self.pid.map(resident_bytes).transpose()?;
        let began = Instant::now();
        let places = Arc::new(Semaphore::new(self.connecting.max(1) as usize));
        let mut connecting = Vec::new();
        for _ in 0..self.connections {
            let place = Arc::clone(&places).acquire_owned().await;
            let (url, topic) = (self.url.clone(), topic.clone());
            connecting.push(tokio::spawn(async move {
                let mut link = Link::connect(&url).await?;
                let wish =
                    Frame::new(Command::Subscribe).with("id", "0").with("destination", &topic);
                link.subscribe(wish).await?;
                drop(place);
                Ok::<_, Failure>(link)
            }));
        }
        let mut links = Vec::new();
        for one in connecting {
            links.push(one.await.map_err(|error| Failure::Failed(error.to_string()))??);
        }
        let connected_in = began.elapsed();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let after = self.pid.map(resident_bytes).transpose()?;
        for link in links {
            tokio::spawn(receive(link, Arc::clone(&shared)));
        }
        let mut whole = Latency::new()?;
        for n in 1..=u64::from(self.messages) {
            let sent = Instant::now();
            let body = (OsClock.wall_ns() / 1_000).to_string();
            sender.push(&Frame::new(Command::Send).with("destination", &topic).with_body(body));
            sender.write_some()?;
            let expected = n * u64::from(self.connections);
            while shared.received.load(Ordering::Acquire) < expected {
                if sent.elapsed() > PATIENCE {
                    let missing = expected - shared.received.load(Ordering::Acquire);
                    return Err(Failure::Failed(format!("{missing} copies did not come in time")));
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            whole.record_duration(sent.elapsed(), 1);
        }
        let title = format!(
            "fanout: {} subscribers, {} messages, one after the other",
            self.connections, self.messages
        );
        let mut report = Report::new("fanout", title);
        let per_second = f64::from(self.connections) / connected_in.as_secs_f64();
        report.rate("connects_per_second", "connected", per_second);
        if let (Some(before), Some(after)) = (before, after) {
            let each = after.saturating_sub(before) / u64::from(self.connections.max(1));
            report.bytes("server_bytes", "memory of the server", after);
            report.count("bytes_per_connection", "bytes of it an idle connection", each);
        }
        report.latency("latency", "one subscriber", &shared.latency.lock());
        report.latency("everybody", "the last one", &whole);
        report.write(&mut out)?;
        Ok(())
    }
}

/// Receives until the connection ends, which it does with the process.
async fn receive(mut link: Link, shared: Arc<Shared>) {
    while let Ok(frame) = link.frame().await {
        let sent_us =
            std::str::from_utf8(&frame.body).ok().and_then(|text| text.parse::<u64>().ok());
        let Some(sent_us) = sent_us else { continue };
        let now_us = OsClock.wall_ns() / 1_000;
        let us = i64::try_from(now_us).unwrap_or(i64::MAX) - sent_us.cast_signed();
        shared.latency.lock().record(us, 1);
        shared.received.fetch_add(1, Ordering::AcqRel);
    }
}

/// Memory of a process, bytes.
fn resident_bytes(pid: u32) -> Result<u64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = status.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    kib.map(|kib| kib * 1024)
        .ok_or_else(|| Failure::Failed(format!("the memory of process {pid} cannot be read")))
}
