//! Receiving messages.

use std::fmt::Display;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::sync::mpsc;

use super::ask::{ask, split_ids, unexpected};
use super::error::Error;
use super::queue::{Entry, Handle};
use crate::base::command::{Answer, Command, Delivery, Verdict};
use crate::base::content::{self, Content};
use crate::base::error::ClientError;
use crate::base::id::MessageId;
use crate::wire::binary::Reply;

/// A message as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Name of its destination.
    pub destination: Arc<str>,
    /// Its id, to acknowledge or reject it by.
    pub id: MessageId,
    /// When it became due, ms since the Unix epoch.
    pub due_ms: u64,
    /// Counts deliveries from 1.
    pub attempt: u32,
    /// Position on a topic, from 1; 0 on queues.
    pub offset: u64,
    /// 0 (lowest) to 9.
    pub priority: u8,
    content: Arc<[u8]>,
}

impl Received {
    /// `asked_for`: the name that was asked for. Only a pattern stands for another one.
    pub(super) fn new(delivery: Delivery, asked_for: &Arc<str>) -> Self {
        let Delivery { id, by_pattern, due_ms, attempt, offset, priority, content, .. } = delivery;
        let destination = if by_pattern { delivery.destination } else { asked_for.clone() };
        Self { destination, id, due_ms, attempt, offset, priority, content }
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        content::body(&self.content)
    }

    /// Key, headers and body, read when asked for.
    ///
    /// # Errors
    /// The producer sent a content that cannot be read.
    pub fn content(&self) -> Result<Content, ClientError> {
        Content::decode(&self.content)
    }

    /// Whether it may have been delivered before.
    #[must_use]
    pub fn redelivered(&self) -> bool {
        self.attempt > 1
    }
}

/// What the connection feeds to a subscription.
pub(super) enum Event {
    /// A message, and the number of the connection it came over.
    Delivery(u64, Delivery),
    /// The end.
    Ended(Error),
}

/// The connection's end of a subscription.
pub(super) struct Feed {
    pub(super) events: mpsc::UnboundedSender<Event>,
    /// Number of the connection that is alive. What an older one delivered and was not taken yet is
    /// skipped: the server delivers it again.
    pub(super) connection: Arc<AtomicU64>,
}

/// A subscription: a stream of messages, each to be acknowledged or rejected.
///
/// It goes on over lost connections; dropping it ends it. At most as many messages as its credit
/// are on the way or unacknowledged, so a slow receiver is never flooded.
///
/// Also a [`Stream`](futures_core::Stream).
pub struct Subscription {
    handle: Arc<Handle>,
    number: u32,
    destination: Arc<str>,
    next_offset: u64,
    // Unbounded, because it is bounded by the credit.
    events: mpsc::UnboundedReceiver<Event>,
    connection: Arc<AtomicU64>,
    ended: bool,
}

impl Subscription {
    pub(super) fn new(handle: Arc<Handle>, number: u32, destination: Arc<str>) -> (Self, Feed) {
        let (sender, events) = mpsc::unbounded_channel();
        let connection = Arc::new(AtomicU64::new(0));
        let feed = Feed { events: sender, connection: Arc::clone(&connection) };
        let subscription =
            Self { handle, number, destination, next_offset: 0, events, connection, ended: false };
        (subscription, feed)
    }

    pub(super) fn begin(&mut self, next_offset: u64) {
        self.next_offset = next_offset;
    }

    /// Its number, by which the parts of a transaction name it.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The first offset that was to come when the subscription began; 0 for queues.
    #[must_use]
    pub fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// The next message; `None` after the end. An error is the reason of the end. Cancel safe.
    ///
    /// ```no_run
    /// # use postdate::client::{Error, Subscription};
    /// # async fn example(mut mail: Subscription) -> Result<(), Error> {
    /// while let Some(message) = mail.next().await {
    ///     let message = message?;
    ///     println!("{:?}", message.body());
    ///     mail.ack(&[message.id]).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn next(&mut self) -> Option<Result<Received, Error>> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Received, Error>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            match ready!(self.events.poll_recv(cx)) {
                Some(Event::Delivery(connection, delivery)) => {
                    if connection == self.connection.load(Ordering::Acquire) {
                        return Poll::Ready(Some(Ok(Received::new(delivery, &self.destination))));
                    }
                }
                Some(Event::Ended(error)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => self.ended = true,
            }
        }
    }

    /// Acknowledges messages and waits until that is durable. Each verdict says whether it was
    /// done, and the state the message is in. After a lost connection it is sent again; messages
    /// that were delivered again meanwhile are acknowledged all the same.
    ///
    /// # Errors
    /// [`Error::Refused`] when one of the messages is not of this destination, or
    /// [`Error::Disconnected`] when there was no connection for too long.
    pub async fn ack(&self, ids: &[MessageId]) -> Result<Vec<Verdict>, Error> {
        self.conclude(ids, true, |subscription, ids| Command::Acknowledge {
            subscription,
            ids,
            cumulative: false,
        })
        .await
    }

    /// Acknowledges a message and everything that this subscription was delivered before it.
    ///
    /// # Errors
    /// As [`Self::ack`].
    pub async fn ack_through(&self, id: MessageId) -> Result<Vec<Verdict>, Error> {
        self.conclude(&[id], true, |subscription, ids| Command::Acknowledge {
            subscription,
            ids,
            cumulative: true,
        })
        .await
    }

    /// Acknowledges a message without waiting: acknowledgements gather while the connection is
    /// busy and travel together. Should one get lost, the message comes again.
    pub fn ack_later(&self, id: MessageId) {
        self.handle.0.acknowledge_later(self.number, id);
    }

    /// Rejects messages: `requeue` gives them back at once, else they become dead letters (queues
    /// only).
    ///
    /// # Errors
    /// As [`Self::ack`]; [`Error::OutcomeUnknown`] when the connection is lost meanwhile: they are
    /// delivered again unless they became dead letters.
    pub async fn reject(&self, ids: &[MessageId], requeue: bool) -> Result<Vec<Verdict>, Error> {
        let command = |subscription, ids| Command::Reject { subscription, ids, requeue };
        self.conclude(ids, false, command).await
    }

    async fn conclude(
        &self,
        ids: &[MessageId],
        repeatable: bool,
        command: impl Fn(u32, Vec<MessageId>) -> Command,
    ) -> Result<Vec<Verdict>, Error> {
        split_ids(
            &self.handle.0,
            ids,
            repeatable,
            |ids| command(self.number, ids),
            |answer| match answer {
                Answer::Verdicts(verdicts) => Some(verdicts),
                _ => None,
            },
        )
        .await
    }

    /// Calls `callback` with one message after the other. `Ok` acknowledges (without waiting),
    /// `Err` gives the message back to be delivered again. Returns when the subscription ends.
    ///
    /// # Errors
    /// The reason of the end.
    ///
    /// ```no_run
    /// # use postdate::client::{Error, Subscription};
    /// # async fn example(mut mail: Subscription) -> Result<(), Error> {
    /// mail.for_each(async |message| {
    ///     let text = std::str::from_utf8(message.body())?;
    ///     println!("{text}");
    ///     Ok::<(), std::str::Utf8Error>(())
    /// })
    /// .await
    /// # }
    /// ```
    pub async fn for_each<E: Display>(
        &mut self,
        mut callback: impl AsyncFnMut(&Received) -> Result<(), E>,
    ) -> Result<(), Error> {
        while let Some(message) = self.next().await {
            let message = message?;
            match callback(&message).await {
                Ok(()) => self.ack_later(message.id),
                Err(error) => {
                    tracing::debug!(id = %message.id, %error, "a message is given back");
                    // A lost connection gives it back as well.
                    if let Err(error) = self.reject(&[message.id], true).await
                        && !matches!(error, Error::OutcomeUnknown)
                    {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends the subscription and waits for it. `delete` forgets a durable subscription for ever.
    /// What was not acknowledged goes back.
    ///
    /// # Errors
    /// The server refused, or the connection is lost.
    pub async fn unsubscribe(mut self, delete: bool) -> Result<(), Error> {
        self.ended = true;
        let command = Command::Unsubscribe { subscription: self.number, delete };
        match ask(&self.handle.0, command, false).await? {
            Reply::Answer(Answer::Done) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if !self.ended {
            // Fails only when there is nothing left to end.
            let _ = self.handle.0.push(Entry::Forget { subscription: self.number });
        }
    }
}

impl futures_core::Stream for Subscription {
    type Item = Result<Received, Error>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Received, Error>>> {
        self.poll_event(cx)
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").field("number", &self.number).finish_non_exhaustive()
    }
}
