//! `postdate bench stomp`

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;

use super::link::{Link, Url, url};
use crate::cli::bench::measure::{Latency, Meter, Window};
use crate::cli::bench::pace::{self, Beats};
use crate::cli::bench::report::Report;
use crate::cli::bench::{Duty, Threads, join_all};
use crate::cli::failure::Failure;
use crate::cli::output::Out;
use crate::cli::time;
use crate::env::{Clock, OsClock};
use crate::wire::stomp::{Command, Frame};

/// How long the last messages may take after they are due.
const PATIENCE: Duration = Duration::from_secs(60);
/// Messages of a sender without a receipt.
const UNCONFIRMED_MAX: u64 = 2_000;
/// Messages of a sender to a receipt.
const RECEIPT_EVERY: u64 = 100;

#[derive(Debug, Args)]
#[command(after_help = "\
Half of the connections send, the other half receive and acknowledge by ACK frames. With --delay,
messages name the time they are due (deliver-at), and lateness is receive time less due time.
Generator and server must share a clock.

Examples:
  postdate bench stomp --connections 4
  postdate bench stomp --url ws://127.0.0.1:7780/ws --connections 4 --ack client-individual
  postdate bench stomp --rate 10000 --delay 5s --seconds 30")]
pub(in crate::cli::bench) struct Stomp {
    /// Where STOMP is: tcp://HOST:PORT or ws://HOST:PORT/PATH
    #[arg(long, value_name = "URL", default_value = "tcp://127.0.0.1:61613", value_parser = url)]
    url: Url,
    /// Connections that send; as many receive
    #[arg(long, value_name = "N", default_value_t = 2)]
    connections: u32,
    /// Bytes of a body
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    size: usize,
    /// How messages are acknowledged, each by an ACK: client or client-individual
    #[arg(long, value_name = "MODE", default_value = "client")]
    #[arg(value_parser = ["client", "client-individual"])]
    ack: String,
    /// Unacknowledged messages of a receiving connection
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    prefetch: u32,
    /// Messages not yet received at which sending waits
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    backlog: u64,
    /// Delay of every message; 0 delivers at once
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = time::duration_ms)]
    delay: u64,
    #[command(flatten)]
    duty: Duty,
    #[command(flatten)]
    pub(in crate::cli::bench) threads: Threads,
}

#[derive(Default)]
struct Shared {
    sent: AtomicU64,
    received: AtomicU64,
    all_sent: AtomicBool,
}

impl Stomp {
    pub(in crate::cli::bench) async fn run(self, mut out: Out) -> Result<(), Failure> {
        let queue = format!("/queue/bench-{}-{}", std::process::id(), time::now_ms());
        let window = self.duty.window();
        let later = Duration::from_millis(self.delay);
        let arrival = Window::new(window.start + later, window.seconds);
        let shared = Arc::new(Shared::default());
        let mut receivers = Vec::new();
        for _ in 0..self.connections {
            let mut link = Link::connect(&self.url).await?;
            let wish = Frame::new(Command::Subscribe)
                .with("id", "0")
                .with("destination", &queue)
                .with("ack", &self.ack)
                .with("prefetch-count", &self.prefetch.to_string());
            link.subscribe(wish).await?;
            let receiver = Receiver {
                link,
                shared: Arc::clone(&shared),
                meter: Meter::new(arrival)?,
                lateness: Latency::new()?,
            };
            receivers.push(tokio::spawn(receiver.run()));
        }
        let connections = self.connections as usize;
        let rate = self.duty.rate.map(|rate| rate as f64);
        let beats = rate.map(|rate| pace::start(connections, rate, window.end()));
        let mut beats = beats.map(Vec::into_iter);
        let mut senders = Vec::new();
        for _ in 0..self.connections {
            let sender = Sender {
                link: Link::connect(&self.url).await?,
                queue: queue.clone(),
                body: vec![b'x'; self.size],
                delay_ms: self.delay,
                backlog: if rate.is_some() { u64::MAX } else { self.backlog },
                end: window.end(),
                shared: Arc::clone(&shared),
            };
            senders.push(tokio::spawn(sender.run(beats.as_mut().and_then(Iterator::next))));
        }
        let sent: u64 = join_all(senders).await?.into_iter().sum();
        shared.sent.store(sent, Ordering::Release);
        shared.all_sent.store(true, Ordering::Release);
        let received = join_all(receivers).await?;
        let meter = Meter::sum(arrival, received.iter().map(|(meter, _)| meter))?;
        let mut lateness = Latency::new()?;
        received.iter().for_each(|(_, one)| lateness.add(one));
        let title = format!(
            "stomp: {connections} + {connections} connections, {} bytes, ack {}, delay {}, {} s, {}",
            self.size,
            self.ack,
            time::show_duration(self.delay),
            self.duty.seconds,
            self.duty.describe()
        );
        let mut report = Report::new("stomp", title);
        report.throughput(&meter);
        report.latency("lateness", "lateness", &lateness);
        report.count("sent", "sent in all", sent);
        report.count("received", "received in all", meter.total);
        report.write(&mut out)?;
        if meter.total < sent {
            let missing = sent - meter.total;
            return Err(Failure::Failed(format!("{missing} messages did not come in time")));
        }
        Ok(())
    }
}

struct Sender {
    link: Link,
    queue: String,
    body: Vec<u8>,
    delay_ms: u64,
    backlog: u64,
    end: Instant,
    shared: Arc<Shared>,
}

impl Sender {
    /// Sends until the time is over; how many.
    async fn run(mut self, mut beats: Option<Beats>) -> Result<u64, Failure> {
        let (mut sent, mut confirmed) = (0, 0);
        let body = bytes::Bytes::from(std::mem::take(&mut self.body));
        loop {
            let more = match &mut beats {
                Some(beats) => beats.recv().await.is_some(),
                None => Instant::now() < self.end,
            };
            if !more {
                break;
            }
            let due_ms = OsClock.wall_ns().div_ceil(1_000_000) + self.delay_ms;
            let mut frame = Frame::new(Command::Send)
                .with("destination", &self.queue)
                .with("due", &due_ms.to_string())
                .with_body(body.clone());
            if self.delay_ms > 0 {
                frame = frame.with("deliver-at", &due_ms.to_string());
            }
            sent += 1;
            self.shared.sent.fetch_add(1, Ordering::Relaxed);
            if sent % RECEIPT_EVERY == 0 {
                frame = frame.with("receipt", &sent.to_string());
            }
            self.link.push(&frame);
            self.link.write_some()?;
            while let Some(frame) = self.link.next()? {
                confirmed = confirmed_by(&frame).max(confirmed);
            }
            while sent - confirmed >= UNCONFIRMED_MAX {
                confirmed = confirmed_by(&self.link.frame().await?).max(confirmed);
            }
            let behind = || {
                let received = self.shared.received.load(Ordering::Relaxed);
                self.shared.sent.load(Ordering::Relaxed).saturating_sub(received)
            };
            while behind() > self.backlog {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            if sent % RECEIPT_EVERY == 0 {
                tokio::task::yield_now().await;
            }
        }
        // The last ones have to be there before they are counted.
        self.link.push(&Frame::new(Command::Disconnect).with("receipt", &sent.to_string()));
        while confirmed < sent {
            confirmed = confirmed_by(&self.link.frame().await?).max(confirmed);
        }
        Ok(sent)
    }
}

fn confirmed_by(frame: &Frame) -> u64 {
    frame.get("receipt-id").and_then(|id| id.parse().ok()).unwrap_or(0)
}

struct Receiver {
    link: Link,
    shared: Arc<Shared>,
    meter: Meter,
    lateness: Latency,
}

impl Receiver {
    async fn run(mut self) -> Result<(Meter, Latency), Failure> {
        let mut patience: Option<Instant> = None;
        loop {
            while let Some(frame) = self.link.next()? {
                self.take(&frame);
            }
            self.link.write_some()?;
            if self.shared.all_sent.load(Ordering::Acquire) {
                let all = self.shared.sent.load(Ordering::Acquire);
                if self.shared.received.load(Ordering::Acquire) >= all {
                    return Ok((self.meter, self.lateness));
                }
                let end = *patience.get_or_insert_with(|| Instant::now() + PATIENCE);
                if Instant::now() >= end {
                    return Ok((self.meter, self.lateness));
                }
            }
            // Woken now and then, to see whether the others have taken the last one.
            let turn = self.link.turn();
            if let Ok(turned) = tokio::time::timeout(Duration::from_millis(100), turn).await {
                turned?;
            }
        }
    }

    fn take(&mut self, frame: &Frame) {
        if frame.command != Command::Message {
            return;
        }
        let now_us = i64::try_from(OsClock.wall_ns() / 1_000).unwrap_or(i64::MAX);
        let due_ms: Option<i64> = frame.get("due").and_then(|due| due.parse().ok());
        let now = Instant::now();
        self.meter.count(now, 1, None);
        if let Some(due_ms) = due_ms.filter(|_| self.meter.measures(now)) {
            self.lateness.record(now_us - due_ms * 1_000, 1);
        }
        if let Some(ack) = frame.get("ack") {
            self.link.push(&Frame::new(Command::Ack).with("id", ack));
        }
        self.shared.received.fetch_add(1, Ordering::AcqRel);
    }
}
