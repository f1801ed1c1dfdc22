//! A connection that publishes.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::timeout_at;

use super::link::Link;
use super::measure::Meter;
use super::pace::Beats;
use super::payload::{Bodies, Item, produce_frame};
use crate::base::command::Answer;
use crate::base::id::MessageId;
use crate::cli::failure::Failure;
use crate::wire::binary::{Reply, ServerFrame};

/// How long the last answers may take after the end.
const LAST_ANSWERS: Duration = Duration::from_secs(30);
/// A producer that has nothing to send looks again after this time.
const PAUSE: Duration = Duration::from_millis(1);

/// What a connection publishes.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) destination: Vec<u8>,
    /// Messages of a frame.
    pub(super) batch: usize,
    /// Unanswered frames.
    pub(super) in_flight: usize,
    /// Bytes of a body.
    pub(super) size: usize,
    pub(super) priority: u8,
}

/// A frame on its way.
#[derive(Debug, Clone, Copy)]
struct Sent {
    /// When it was sent, or in an open loop was to be sent.
    since: Instant,
    count: u64,
}

/// What the next frame holds.
pub(super) enum Next<T> {
    /// These messages.
    Frame(T),
    /// Nothing now; asked again after the next answer or pause. Not in an open loop.
    Wait,
    /// Nothing any more.
    End,
}

/// A connection that publishes, and what it measured.
#[derive(Debug)]
pub(super) struct Producer {
    link: Link,
    shape: Shape,
    bodies: Bodies,
    /// By correlation id less one.
    sent: Vec<Option<Sent>>,
    free: Vec<u32>,
    pub(super) meter: Meter,
    /// Ids of what was accepted, where somebody wants them.
    pub(super) ids: Option<Vec<MessageId>>,
}

impl Producer {
    pub(super) async fn connect(server: &str, shape: Shape, meter: Meter) -> Result<Self, Failure> {
        let slots = u32::try_from(shape.in_flight).unwrap_or(u32::MAX);
        Ok(Self {
            link: Link::connect(server).await?,
            bodies: Bodies::new(shape.size),
            sent: vec![None; shape.in_flight],
            free: (0..slots).rev().collect(),
            shape,
            meter,
            ids: None,
        })
    }

    /// Publishes what `next` gives until it gives no more, and waits for the last answers.
    ///
    /// With `beats` a frame is asked for at each beat, and its latency counts from there; else
    /// whenever there is room. `next` is told how many messages a frame may hold.
    pub(super) async fn run<T: ExactSizeIterator<Item = Item>>(
        &mut self,
        mut beats: Option<Beats>,
        mut next: impl FnMut(usize) -> Next<T>,
    ) -> Result<(), Failure> {
        // A beat that has come while there was nothing else to do.
        let mut beat = None;
        loop {
            let mut waits = false;
            while !self.free.is_empty() {
                let since = match &mut beats {
                    None => Instant::now(),
                    Some(beats) => match beat.take().map_or_else(|| beats.try_recv(), Ok) {
                        Ok(due) => due,
                        Err(TryRecvError::Empty) => break,
                        Err(TryRecvError::Disconnected) => return self.finish().await,
                    },
                };
                match next(self.shape.batch) {
                    Next::Frame(items) => self.send(since, items),
                    Next::End => return self.finish().await,
                    Next::Wait => {
                        waits = true;
                        break;
                    }
                }
            }
            let full = self.free.is_empty();
            match &mut beats {
                Some(beats) if !full => tokio::select! {
                    turned = self.link.turn() => turned?,
                    next = beats.recv() => match next {
                        Some(due) => beat = Some(due),
                        None => return self.finish().await,
                    },
                },
                _ => tokio::select! {
                    turned = self.link.turn() => turned?,
                    () = tokio::time::sleep(PAUSE), if waits => {}
                },
            }
            self.take_answers()?;
        }
    }

    /// Waits for the last answers.
    async fn finish(&mut self) -> Result<(), Failure> {
        let deadline = tokio::time::Instant::now() + LAST_ANSWERS;
        while self.free.len() < self.sent.len() {
            timeout_at(deadline, self.link.turn())
                .await
                .map_err(|_| Failure::Failed("the last answers did not come".into()))??;
            self.take_answers()?;
        }
        Ok(())
    }

    fn send(&mut self, since: Instant, items: impl ExactSizeIterator<Item = Item>) {
        let Some(slot) = self.free.pop() else { return };
        self.sent[slot as usize] = Some(Sent { since, count: items.len() as u64 });
        let Self { link, shape, bodies, .. } = self;
        let Shape { destination, priority, .. } = shape;
        produce_frame(&mut link.out, slot + 1, destination, *priority, bodies, items);
    }

    fn take_answers(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        while let Some(frame) = self.link.next()? {
            let ServerFrame::Answer { correlation, reply: Reply::Answer(answer) } = frame else {
                continue;
            };
            let slot = correlation.wrapping_sub(1);
            let Some(sent) = self.sent.get_mut(slot as usize).and_then(Option::take) else {
                continue;
            };
            self.free.push(slot);
            let mut accepted = 0;
            match answer {
                Answer::Produced(results) => {
                    for result in results {
                        match result {
                            Ok(produced) => {
                                accepted += 1;
                                if let Some(ids) = &mut self.ids {
                                    ids.push(produced.id);
                                }
                            }
                            Err(error) => self.meter.refuse(&error, 1),
                        }
                    }
                }
                Answer::Failed(error) => self.meter.refuse(&error, sent.count),
                other => {
                    return Err(Failure::Failed(format!("not an answer to publish: {other:?}")));
                }
            }
            if accepted > 0 {
                let latency = now.saturating_duration_since(sent.since);
                self.meter.count(now, accepted, Some(latency));
            }
        }
        Ok(())
    }
}
