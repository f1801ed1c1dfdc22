//! The writing side of a connection: everything that is queued goes into one buffer and out in one
//! write.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::WriteHalf;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, timeout, timeout_at};

use super::Close;
use super::flow::{Flow, Tag};
use crate::base::command::Outgoing;
use crate::base::error::ClientError;
use crate::front::outbox::{Unwritten, delivery_bytes};
use crate::shard::Outbox;
use crate::wire::binary::{DeliverFrame, encode_answer, encode_ended, encode_goodbye};

/// Buffered bytes that are written before more is encoded.
const WRITE_BYTES: usize = 256 * 1024;
/// A buffer up to this size is kept while nothing is to be written.
const KEPT_BYTES: usize = 2 * 1024;
/// Batches taken from the channel at once.
const BATCHES: usize = 32;

/// What the writing side is given to do.
pub(super) enum Work {
    /// Answers and deliveries, in order.
    Outgoing(Vec<Outgoing>),
    /// Nothing more will be asked: end when everything is answered.
    Finish(Finish),
    /// No answer will come any more: end now.
    Closed(ClientError),
}

/// How to end.
pub(super) struct Finish {
    /// Written last.
    pub(super) last_words: Vec<u8>,
    /// Answers that did not come until then are given up.
    pub(super) deadline: Instant,
}

/// The session's end of the channel to the writing side.
///
/// The channel has no bound of its own, because the shard must not wait for a slow peer. It is
/// bounded by what may enter it: answers by the requests in flight, which reading stops at, and
/// deliveries by the shard, which hands out no more of them while the channel says it is full.
pub(super) struct Channel {
    pub(super) sender: UnboundedSender<Work>,
    pub(super) unwritten: Arc<Unwritten>,
}

impl Outbox for Channel {
    fn push(&self, batch: Vec<Outgoing>) {
        self.unwritten.add(&batch);
        // A closed channel is a connection that is gone; its session is about to be dropped.
        let _ = self.sender.send(Work::Outgoing(batch));
    }

    fn is_full(&self) -> bool {
        self.unwritten.is_full()
    }

    fn closed(&self, reason: ClientError) {
        let _ = self.sender.send(Work::Closed(reason));
    }
}

/// Frames on their way out.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    /// A frame of deliveries at the end of `bytes`, still open for more.
    deliveries: Option<DeliverFrame>,
    requests_done: usize,
    request_bytes_done: usize,
}

impl Output {
    fn push(&mut self, outgoing: &Outgoing) {
        match outgoing {
            Outgoing::Deliver(delivery) => {
                let has_room =
                    self.deliveries.as_ref().is_some_and(|f| f.has_room(&self.bytes, delivery));
                if !has_room {
                    self.end_deliveries();
                }
                self.deliveries
                    .get_or_insert_with(|| {
                        DeliverFrame::begin(&mut self.bytes, delivery.by_pattern)
                    })
                    .push(&mut self.bytes, delivery);
            }
            Outgoing::Answer { tag, answer } => {
                self.end_deliveries();
                let Some(tag) = Tag::unpack(*tag) else {
                    tracing::error!(tag, "an answer to no request");
                    return;
                };
                encode_answer(&mut self.bytes, tag.request_type, tag.correlation, answer);
                self.requests_done += 1;
                self.request_bytes_done += tag.bytes;
            }
            Outgoing::Ended { subscription, reason } => {
                self.end_deliveries();
                encode_ended(&mut self.bytes, *subscription, reason);
            }
        }
    }

    fn end_deliveries(&mut self) {
        if let Some(frame) = self.deliveries.take() {
            frame.finish(&mut self.bytes);
        }
    }

    /// Writes everything; only then the answered requests make room for others.
    async fn flush(
        &mut self,
        half: &mut WriteHalf<'_>,
        flow: &Flow,
        stall: Duration,
    ) -> io::Result<()> {
        self.end_deliveries();
        write_all(half, &self.bytes, stall).await?;
        self.bytes.clear();
        flow.end(
            std::mem::take(&mut self.requests_done),
            std::mem::take(&mut self.request_bytes_done),
        );
        Ok(())
    }
}

/// Writes what comes through the channel until told to finish.
pub(super) async fn write_answers(
    half: &mut WriteHalf<'_>,
    mut channel: UnboundedReceiver<Work>,
    unwritten: &Unwritten,
    flow: &Flow,
    stall: Duration,
) -> io::Result<Close> {
    let mut output = Output::default();
    let mut batches = Vec::new();
    let mut finish: Option<Finish> = None;
    loop {
        let received = match &finish {
            None => Ok(channel.recv_many(&mut batches, BATCHES).await),
            Some(finish) if flow.is_idle() && channel.is_empty() => {
                return last_words(half, &finish.last_words, stall).await;
            }
            Some(finish) => {
                timeout_at(finish.deadline, channel.recv_many(&mut batches, BATCHES)).await
            }
        };
        match (received, &finish) {
            (Ok(1..), _) => {}
            (Err(_), Some(finish)) => return last_words(half, &finish.last_words, stall).await,
            (Ok(_) | Err(_), _) => return Ok(Close::Quiet),
        }
        for work in batches.drain(..) {
            match work {
                Work::Outgoing(batch) => {
                    for outgoing in &batch {
                        output.push(outgoing);
                        if output.bytes.len() >= WRITE_BYTES {
                            output.flush(half, flow, stall).await?;
                        }
                    }
                    unwritten.remove(delivery_bytes(&batch));
                }
                Work::Finish(how) => finish = Some(how),
                Work::Closed(reason) => {
                    output.flush(half, flow, stall).await?;
                    let mut goodbye = Vec::new();
                    encode_goodbye(&mut goodbye, &reason);
                    return last_words(half, &goodbye, stall).await;
                }
            }
        }
        output.flush(half, flow, stall).await?;
        if channel.is_empty() && output.bytes.capacity() > KEPT_BYTES {
            output.bytes = Vec::new();
        }
    }
}

async fn last_words(half: &mut WriteHalf<'_>, words: &[u8], stall: Duration) -> io::Result<Close> {
    if words.is_empty() {
        return Ok(Close::Quiet);
    }
    write_all(half, words, stall).await?;
    Ok(Close::Linger)
}

/// Writes all of `bytes`, as long as the peer takes something within each `stall`.
pub(super) async fn write_all(
    half: &mut WriteHalf<'_>,
    mut bytes: &[u8],
    stall: Duration,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = match timeout(stall, half.write(bytes)).await {
            Ok(written) => written?,
            Err(_) => {
                let text = format!("the peer read nothing for {} ms", stall.as_millis());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
        };
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}
