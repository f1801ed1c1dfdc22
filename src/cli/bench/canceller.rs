//! A connection that cancels.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::link::Link;
use super::measure::Meter;
use crate::base::command::{Answer, Command};
use crate::base::id::MessageId;
use crate::cli::failure::Failure;
use crate::wire::binary::{Reply, ServerFrame, encode_command};

/// How long the server may take for its next answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// What all connections cancel together, each batch by whoever comes first.
#[derive(Debug)]
pub(super) struct Doomed {
    ids: Vec<MessageId>,
    batch: usize,
    next: AtomicUsize,
}

impl Doomed {
    pub(super) fn new(ids: Vec<MessageId>, batch: usize) -> Self {
        Self { ids, batch, next: AtomicUsize::new(0) }
    }

    /// The next batch; `None` when all are taken.
    fn take(&self) -> Option<Vec<MessageId>> {
        let start = self.next.fetch_add(self.batch, Ordering::Relaxed);
        let end = start.saturating_add(self.batch).min(self.ids.len());
        self.ids.get(start..end).filter(|batch| !batch.is_empty()).map(<[_]>::to_vec)
    }
}

/// A connection that cancels.
#[derive(Debug)]
pub(super) struct Canceller {
    link: Link,
    doomed: Arc<Doomed>,
    /// When each unanswered frame was sent, by correlation id less one.
    sent: Vec<Option<Instant>>,
    free: Vec<u32>,
}

impl Canceller {
    pub(super) async fn connect(
        server: &str,
        doomed: Arc<Doomed>,
        in_flight: u32,
    ) -> Result<Self, Failure> {
        let link = Link::connect(server).await?;
        let sent = vec![None; in_flight as usize];
        let free = (0..in_flight).rev().collect();
        Ok(Self { link, doomed, sent, free })
    }

    /// Cancels until nothing is left: what was measured, and how many were not cancelled.
    pub(super) async fn run(mut self, mut meter: Meter) -> Result<(Meter, u64), Failure> {
        let mut kept = 0;
        loop {
            while let Some(slot) = self.free.pop() {
                let Some(ids) = self.doomed.take() else {
                    self.free.push(slot);
                    break;
                };
                self.sent[slot as usize] = Some(Instant::now());
                encode_command(&mut self.link.out, slot + 1, &Command::Cancel { ids });
            }
            if self.free.len() == self.sent.len() {
                return Ok((meter, kept));
            }
            timeout(ANSWER_TIMEOUT, self.link.turn())
                .await
                .map_err(|_| Failure::Failed("the server does not answer".into()))??;
            kept += self.take_answers(&mut meter)?;
        }
    }

    /// Counts what was cancelled; returns how many were not.
    fn take_answers(&mut self, meter: &mut Meter) -> Result<u64, Failure> {
        let now = Instant::now();
        let mut kept = 0;
        while let Some(frame) = self.link.next()? {
            let ServerFrame::Answer { correlation, reply: Reply::Answer(answer) } = frame else {
                continue;
            };
            let slot = correlation.wrapping_sub(1);
            let Some(since) = self.sent.get_mut(slot as usize).and_then(Option::take) else {
                continue;
            };
            self.free.push(slot);
            match answer {
                Answer::Verdicts(verdicts) => {
                    let done = verdicts.iter().filter(|verdict| verdict.done).count() as u64;
                    kept += verdicts.len() as u64 - done;
                    meter.count(now, done, Some(now.saturating_duration_since(since)));
                }
                Answer::Failed(error) => return Err(error.into()),
                other => {
                    return Err(Failure::Failed(format!("not an answer to cancel: {other:?}")));
                }
            }
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_taken_once() {
        let ids: Vec<_> = (1..=7).map(|sequence| MessageId::new(5, 0, sequence)).collect();
        let doomed = Doomed::new(ids.clone(), 3);
        let batches: Vec<_> = std::iter::from_fn(|| doomed.take()).collect();
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 1]);
        assert_eq!(batches.concat(), ids);
        assert!(doomed.take().is_none());
    }
}
