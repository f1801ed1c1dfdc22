//! A connection that receives and acknowledges.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::link::Link;
use super::measure::{Latency, Meter, Window};
use super::payload::read_body;
use crate::base::command::{Answer, Command, Delivery, StartAt, Subscribe};
use crate::base::content;
use crate::base::id::MessageId;
use crate::base::limits;
use crate::cli::failure::Failure;
use crate::env::{Clock, OsClock};
use crate::wire::binary::{Reply, ServerFrame, encode_command};

/// The session's number of the only subscription.
const SUBSCRIPTION: u32 = 1;
/// A consumer looks this often whether it shall end.
const LOOK: Duration = Duration::from_millis(50);

/// What all connections of a run know together.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Next number for a body.
    pub(super) next_sequence: AtomicU64,
    /// Different messages received.
    pub(super) received: AtomicU64,
    /// Messages whose acknowledgement was confirmed.
    pub(super) acknowledged: AtomicU64,
    /// When it is no longer 0, consumers end at this count of received messages.
    pub(super) expected: AtomicU64,
    /// When consumers end at the latest.
    pub(super) deadline: Mutex<Option<Instant>>,
    seen: Mutex<Seen>,
}

impl Shared {
    /// Ends the consumers when so many were received, or at the deadline.
    pub(super) fn expect(&self, count: u64, patience: Duration) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Instant::now() + patience);
        self.expected.store(count.max(1), Ordering::Release);
    }

    fn over(&self) -> bool {
        let expected = self.expected.load(Ordering::Acquire);
        if expected == 0 {
            return false;
        }
        let deadline = *self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        self.received.load(Ordering::Acquire) >= expected
            || deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// Which sequence numbers were received: a bit each.
#[derive(Debug, Default)]
struct Seen(Vec<u64>);

impl Seen {
    /// Whether a number is new.
    fn insert(&mut self, sequence: u64) -> bool {
        let (word, bit) = ((sequence / 64) as usize, 1 << (sequence % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }
}

/// What a consumer measured.
#[derive(Debug)]
pub(super) struct Consumed {
    /// Confirmed acknowledgements by second; its latency is receive time less the body's time.
    pub(super) meter: Meter,
    /// Receive time less due time.
    pub(super) lateness: Latency,
    /// Messages that came more than once.
    pub(super) repeated: u64,
    /// When the last new message came.
    pub(super) last: Option<Instant>,
}

/// A connection that receives.
#[derive(Debug)]
pub(super) struct Consumer {
    link: Link,
    shared: Arc<Shared>,
    consumed: Consumed,
    /// Acknowledgements on their way: correlation id to count.
    unconfirmed: HashMap<u32, u64>,
    correlation: u32,
}

impl Consumer {
    pub(super) async fn subscribe(
        server: &str,
        destination: &str,
        credit: u32,
        window: Window,
        shared: Arc<Shared>,
    ) -> Result<Self, Failure> {
        let mut link = Link::connect(server).await?;
        let subscribe = Command::Subscribe(Subscribe {
            subscription: SUBSCRIPTION,
            destination: destination.as_bytes().to_vec().into(),
            credit,
            ack_timeout_ms: 0,
            durable: bytes::Bytes::new(),
            start: StartAt::Latest,
            shared: false,
        });
        link.ask(&subscribe).await?;
        let consumed = Consumed {
            meter: Meter::new(window)?,
            lateness: Latency::new()?,
            repeated: 0,
            last: None,
        };
        Ok(Self { link, shared, consumed, unconfirmed: HashMap::new(), correlation: 0 })
    }

    /// Receives and acknowledges until the run is over and every acknowledgement is confirmed.
    pub(super) async fn run(mut self) -> Result<Consumed, Failure> {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !(self.shared.over() && self.unconfirmed.is_empty()) {
            tokio::select! {
                turned = self.link.turn() => turned?,
                _ = look.tick() => {}
            }
            self.take()?;
        }
        Ok(self.consumed)
    }

    fn take(&mut self) -> Result<(), Failure> {
        let (now, now_us) = (Instant::now(), OsClock.wall_ns() / 1_000);
        let mut ids = Vec::new();
        while let Some(frame) = self.link.next()? {
            match frame {
                ServerFrame::Deliver(deliveries) => {
                    self.receive(now, now_us, &deliveries, &mut ids);
                }
                ServerFrame::Answer { correlation, reply: Reply::Answer(answer) } => {
                    self.confirm(now, correlation, &answer)?;
                }
                _ => {}
            }
        }
        for batch in ids.chunks(limits::BATCH_ITEMS_MAX) {
            self.correlation = self.correlation % (u32::MAX - 1) + 1;
            self.unconfirmed.insert(self.correlation, batch.len() as u64);
            let command = Command::Acknowledge {
                subscription: SUBSCRIPTION,
                ids: batch.to_vec(),
                cumulative: false,
            };
            encode_command(&mut self.link.out, self.correlation, &command);
        }
        self.link.write_some()?;
        Ok(())
    }

    fn receive(
        &mut self,
        now: Instant,
        now_us: u64,
        deliveries: &[Delivery],
        ids: &mut Vec<MessageId>,
    ) {
        let measures = self.consumed.meter.measures(now);
        let mut new = 0;
        let mut seen = self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for delivery in deliveries {
            ids.push(delivery.id);
            // What somebody else has published here is acknowledged and not counted.
            let Some((time_us, sequence)) = read_body(content::body(&delivery.content)) else {
                continue;
            };
            if !seen.insert(sequence) {
                self.consumed.repeated += 1;
                continue;
            }
            new += 1;
            let lateness = difference(now_us, delivery.due_ms.saturating_mul(1_000));
            // Early is never right, so it is looked for outside the window too.
            if measures || lateness < 0 {
                self.consumed.lateness.record(lateness, 1);
            }
            if measures {
                self.consumed.meter.latency.record(difference(now_us, time_us), 1);
            }
        }
        drop(seen);
        if new > 0 {
            self.consumed.last = Some(now);
            self.shared.received.fetch_add(new, Ordering::AcqRel);
        }
    }

    fn confirm(&mut self, now: Instant, correlation: u32, answer: &Answer) -> Result<(), Failure> {
        let Some(count) = self.unconfirmed.remove(&correlation) else { return Ok(()) };
        match answer {
            Answer::Verdicts(_) => {
                self.consumed.meter.count(now, count, None);
                self.shared.acknowledged.fetch_add(count, Ordering::AcqRel);
                Ok(())
            }
            Answer::Failed(error) => Err(error.clone().into()),
            other => Err(Failure::Failed(format!("not an answer to acknowledge: {other:?}"))),
        }
    }
}

fn difference(now_us: u64, then_us: u64) -> i64 {
    now_us.cast_signed().wrapping_sub(then_us.cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_new_once() {
        let mut seen = Seen::default();
        for sequence in [0, 63, 64, 1_000] {
            assert!(seen.insert(sequence));
            assert!(!seen.insert(sequence));
        }
    }

    #[test]
    fn a_run_is_over_when_all_came_or_time_is_up() {
        let shared = Shared::default();
        assert!(!shared.over());
        shared.received.store(5, Ordering::Release);
        shared.expect(6, Duration::from_secs(3_600));
        assert!(!shared.over());
        shared.received.store(6, Ordering::Release);
        assert!(shared.over());
        shared.expect(7, Duration::ZERO);
        assert!(shared.over());
    }
}
