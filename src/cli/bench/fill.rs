//! Publishing delayed messages over all connections of a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::measure::{Meter, Window};
use super::payload::{Item, Random};
use super::producer::{Next, Producer, Shape};
use super::{Duty, join_all, pace};
use crate::base::id::MessageId;
use crate::base::message::Delay;
use crate::cli::failure::Failure;
use crate::cli::progress;
use crate::env::{Clock, OsClock};

/// How long a given number of messages may take; only the counts by second are bound by it.
const SECONDS_MAX: usize = 86_400;

/// When publishing ends.
#[derive(Debug, Clone)]
pub(super) enum Until {
    /// When its time is over.
    Time(Duty),
    /// After so many messages.
    Messages(u64),
}

/// What is to be published.
#[derive(Debug, Clone)]
pub(super) struct Fill {
    pub(super) connections: u32,
    pub(super) shape: Shape,
    pub(super) until: Until,
    /// Messages a second; as fast as the window allows when left out.
    pub(super) rate: Option<u64>,
    /// Shortest and longest delay, ms; every one in between is as likely.
    pub(super) delays: (u64, u64),
    /// Whether the ids are wanted.
    pub(super) ids: bool,
}

/// What was published.
#[derive(Debug)]
pub(super) struct Filled {
    pub(super) meter: Meter,
    /// Empty unless wanted.
    pub(super) ids: Vec<MessageId>,
    pub(super) took: Duration,
}

impl Fill {
    /// Publishes. Everybody is connected before the clock runs.
    pub(super) async fn run(&self, server: &str) -> Result<Filled, Failure> {
        let mut producers = Vec::with_capacity(self.connections as usize);
        let waiting = Meter::new(self.window())?;
        for _ in 0..self.connections {
            let meter = waiting.clone();
            producers.push(Producer::connect(server, self.shape.clone(), meter).await?);
        }
        let (window, begin) = (self.window(), Instant::now());
        let end = window.end();
        let (messages, bar) = match self.until {
            Until::Time(_) => (u64::MAX, None),
            Until::Messages(messages) => (messages, Some(progress::items("publishing", messages))),
        };
        let sequence = Arc::new(AtomicU64::new(0));
        let mut beats = self.rate.map(|rate| {
            let frames = rate as f64 / self.shape.batch as f64;
            pace::start(producers.len(), frames, end).into_iter()
        });
        let mut tasks = Vec::with_capacity(producers.len());
        for (index, mut producer) in (0_u64..).zip(producers) {
            producer.meter = Meter::new(window)?;
            producer.ids = self.ids.then(Vec::new);
            let beats = beats.as_mut().and_then(Iterator::next);
            let (sequence, bar, delays) = (sequence.clone(), bar.clone(), self.delays);
            let mut random = Random::new(index);
            tasks.push(tokio::spawn(async move {
                let next = |count: usize| {
                    if Instant::now() >= end {
                        return Next::End;
                    }
                    let first = sequence.fetch_add(count as u64, Ordering::Relaxed);
                    let last = (first + count as u64).min(messages);
                    if first >= last {
                        return Next::End;
                    }
                    if let Some(bar) = &bar {
                        bar.inc(last - first);
                    }
                    Next::Frame(items(first..last, delays, &mut random).into_iter())
                };
                producer.run(beats, next).await?;
                Ok((producer.meter, producer.ids.unwrap_or_default()))
            }));
        }
        let (meters, ids): (Vec<_>, Vec<_>) = join_all(tasks).await?.into_iter().unzip();
        let done = Instant::now();
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        let mut meter = Meter::sum(window, &meters)?;
        if matches!(self.until, Until::Messages(_)) {
            meter.end_at(done);
        }
        Ok(Filled { meter, ids: ids.concat(), took: done - begin })
    }

    /// The time measured, when the run begins now.
    fn window(&self) -> Window {
        match &self.until {
            Until::Time(duty) => duty.window(),
            Until::Messages(_) => Window::new(Instant::now(), SECONDS_MAX),
        }
    }
}

impl Filled {
    /// An error unless so many messages were accepted.
    pub(super) fn must_be(&self, messages: u64) -> Result<(), Failure> {
        if self.meter.total >= messages {
            return Ok(());
        }
        let why = self.meter.refused().next().map(|(_, error)| error.to_string());
        Err(Failure::Failed(format!(
            "only {} of {messages} messages were taken: {}",
            self.meter.total,
            why.unwrap_or_default()
        )))
    }
}

fn items(numbers: std::ops::Range<u64>, delays: (u64, u64), random: &mut Random) -> Vec<Item> {
    let now_us = OsClock.wall_ns() / 1_000;
    let item = |sequence| {
        let ms = random.between(delays.0, delays.1);
        let delay = match ms {
            0 => Delay::None,
            ms => Delay::After(ms.cast_signed()),
        };
        Item { delay, time_us: now_us + ms * 1_000, sequence }
    };
    numbers.map(item).collect()
}
