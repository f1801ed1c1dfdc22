//! Producing messages.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::api::Client;
use super::ask::{answered, check_length, unexpected, whole_ms};
use super::error::Error;
use super::queue::{Batch, Entry, Results, Waiting};
use crate::base::command::{Answer, Command, Part, PartDone, Produced};
use crate::base::error::ClientError;
use crate::base::limits;
use crate::base::message::{Delay, Message, MessageBatch};
use crate::base::recur::Rule;
use crate::wire::binary::Reply;

/// Bytes of a frame beside the messages of a produce, with some to spare.
const PRODUCE_FRAME_BYTES: usize = 1024;

impl Client {
    /// Produces a message for now.
    ///
    /// ```no_run
    /// # async fn example(client: postdate::client::Client) -> Result<(), postdate::client::Error> {
    /// let produced = client.produce("/queue/mail", "hello").await?;
    /// println!("{}", produced.id);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn produce(
        &self,
        destination: &str,
        body: impl Into<Vec<u8>>,
    ) -> Result<Produced, Error> {
        self.send(destination, Message::new(body)).await
    }

    /// Produces a message with a delay level from 1 to 18 (1 s to 2 h).
    ///
    /// ```no_run
    /// # async fn example(client: postdate::client::Client) -> Result<(), postdate::client::Error> {
    /// client.produce_delayed("/queue/mail", "in a minute", 5).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn produce_delayed(
        &self,
        destination: &str,
        body: impl Into<Vec<u8>>,
        level: u8,
    ) -> Result<Produced, Error> {
        let delay = Delay::Level(i64::from(level));
        self.send(destination, Message::new(body).with_delay(delay)).await
    }

    /// Produces a message that is due after a duration, counted from its acceptance, at most 40
    /// days. Parts of a ms are rounded up.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example(client: postdate::client::Client) -> Result<(), postdate::client::Error> {
    /// client.produce_after("/queue/mail", "later", Duration::from_secs(90)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn produce_after(
        &self,
        destination: &str,
        body: impl Into<Vec<u8>>,
        delay: Duration,
    ) -> Result<Produced, Error> {
        let delay = Delay::After(whole_ms(delay));
        self.send(destination, Message::new(body).with_delay(delay)).await
    }

    /// Produces a message that is due at a time of the server's wall clock. The past means now;
    /// parts of a ms are rounded up.
    ///
    /// ```no_run
    /// # use std::time::{Duration, UNIX_EPOCH};
    /// # async fn example(client: postdate::client::Client) -> Result<(), postdate::client::Error> {
    /// let new_year = UNIX_EPOCH + Duration::from_secs(1_798_761_600);
    /// client.produce_at("/queue/mail", "happy new year", new_year).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn produce_at(
        &self,
        destination: &str,
        body: impl Into<Vec<u8>>,
        at: SystemTime,
    ) -> Result<Produced, Error> {
        // Before 1970 is long past: now.
        let at = at.duration_since(UNIX_EPOCH).map_or(0, whole_ms);
        self.send(destination, Message::new(body).with_delay(Delay::At(at))).await
    }

    /// Produces a message with all its parts.
    ///
    /// Dropping the future does not take the message back.
    ///
    /// ```no_run
    /// # use postdate::base::message::{Delay, Message};
    /// # async fn example(client: postdate::client::Client) -> Result<(), postdate::client::Error> {
    /// let message = Message::new("hello")
    ///     .with_header("language", "en")
    ///     .with_delay(Delay::After(5_000))
    ///     .with_dedup("order-17");
    /// let produced = client.send("/queue/mail", message).await?;
    /// if produced.duplicate {
    ///     println!("was sent before, as {}", produced.id);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`] when it was not stored, [`Error::OutcomeUnknown`] when the connection was
    /// lost and the message has no dedup id, [`Error::Disconnected`] when there was no connection
    /// for too long.
    pub async fn send(&self, destination: &str, message: Message) -> Result<Produced, Error> {
        check_length(destination)?;
        let mut bytes = Vec::with_capacity(message.content.body.len() + 64);
        message.encode(&mut bytes)?;
        let room = self.shared().room(bytes.len()).await?;
        let (sink, answer) = oneshot::channel();
        let dedup = !message.dedup.is_empty();
        self.shared().produce_one(destination, &bytes, dedup, sink, room)?;
        answered(answer).await
    }

    /// Has a message come again and again: by a period, or by a cron expression in a time zone. The id
    /// answered is that of the schedule, which is listed, queried, cancelled and rescheduled by it as any
    /// scheduled message. Each run publishes a copy with an id of its own and the header
    /// `scheduled-job-id`.
    ///
    /// ```no_run
    /// # use postdate::base::message::Message;
    /// # use postdate::base::recur::{Cron, Rule};
    /// # async fn example(client: postdate::client::Client) -> Result<(), postdate::client::Error> {
    /// let weekdays = Rule::Cron(Cron {
    ///     expression: "0 9 * * 1-5".into(),
    ///     zone: "Europe/Berlin".into(),
    ///     times: 0,
    ///     then: None,
    /// });
    /// let schedule = client.repeat("/queue/mail", weekdays, Message::new("good morning")).await?;
    /// client.cancel(&[schedule.id]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn repeat(
        &self,
        destination: &str,
        rule: Rule,
        message: Message,
    ) -> Result<Produced, Error> {
        let destination = self.name(destination)?;
        let mut bytes = Vec::with_capacity(message.content.body.len() + 64);
        message.encode(&mut bytes)?;
        let batch = MessageBatch::parse(bytes.into(), 1)?;
        let repeatable = !message.dedup.is_empty();
        match self.ask(Command::Repeat { destination, rule, batch }, repeatable).await? {
            Reply::Answer(Answer::Produced(mut results)) if results.len() == 1 => {
                results.remove(0).map_err(|error| Error::Refused(*error))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Publishes, acknowledges and rejects, all of it or nothing: what is acknowledged here is acknowledged
    /// exactly when what is published here is stored. One outcome a part.
    ///
    /// ```no_run
    /// # use postdate::base::command::Part;
    /// # use postdate::base::message::{Message, MessageBatch};
    /// # use postdate::client::{Client, Subscription};
    /// # async fn example(client: Client, mut orders: Subscription) -> Result<(), postdate::client::Error> {
    /// let Some(order) = orders.next().await.transpose()? else { return Ok(()) };
    /// let mut invoice = Vec::new();
    /// Message::new("invoice").encode(&mut invoice)?;
    /// let destination = "/queue/invoices".into();
    /// client
    ///     .transaction(vec![
    ///         Part::Produce { destination, batch: MessageBatch::parse(invoice.into(), 1)? },
    ///         Part::Acknowledge {
    ///             subscription: orders.number(),
    ///             ids: vec![order.id],
    ///             cumulative: false,
    ///         },
    ///     ])
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`], and then nothing of it was done; [`Error::OutcomeUnknown`] when the connection
    /// was lost; [`Error::Disconnected`] when there was none for too long.
    pub async fn transaction(&self, parts: Vec<Part>) -> Result<Vec<PartDone>, Error> {
        match self.ask(Command::Transaction { parts }, false).await? {
            Reply::Answer(Answer::Transacted(done)) => Ok(done),
            other => Err(unexpected(&other)),
        }
    }

    /// Produces many messages, in as few requests as the limits of the protocol allow; one result a
    /// message, in order.
    ///
    /// ```no_run
    /// # use postdate::base::message::Message;
    /// # async fn example(client: postdate::client::Client) -> Result<(), postdate::client::Error> {
    /// let messages: Vec<_> = (0..10_000).map(|n| Message::new(format!("mail {n}"))).collect();
    /// for result in client.produce_batch("/queue/mail", &messages).await? {
    ///     match result {
    ///         Ok(produced) => println!("{}", produced.id),
    ///         Err(refused) => println!("{refused}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Self::send`]; then some of the messages may be stored, even when others are not.
    pub async fn produce_batch(
        &self,
        destination: &str,
        messages: &[Message],
    ) -> Result<Vec<Result<Produced, Box<ClientError>>>, Error> {
        check_length(destination)?;
        let name = Bytes::copy_from_slice(destination.as_bytes());
        // Refused here are those that cannot be encoded; every other place is filled by an answer.
        let mut results: Vec<Option<Result<Produced, Box<ClientError>>>> = Vec::new();
        let mut answers = Vec::new();
        let mut next = Chunk::default();
        for message in messages {
            let start = next.bytes.len();
            if let Err(error) = message.encode(&mut next.bytes) {
                next.bytes.truncate(start);
                results.push(Some(Err(Box::new(error))));
                continue;
            }
            results.push(None);
            if next.bytes.len() > limits::FRAME_BYTES_MAX - PRODUCE_FRAME_BYTES
                || next.count == limits::BATCH_ITEMS_MAX
            {
                let bytes = next.bytes.split_off(start);
                let full = std::mem::replace(&mut next, Chunk { bytes, ..Chunk::default() });
                answers.push(self.produce_chunk(&name, full).await?);
            }
            next.count += 1;
            next.dedup |= !message.dedup.is_empty();
        }
        if next.count > 0 {
            answers.push(self.produce_chunk(&name, next).await?);
        }
        let mut answered_results = Vec::new();
        for answer in answers {
            answered_results.extend(answered(answer).await?);
        }
        let mut answered_results = answered_results.into_iter();
        results
            .into_iter()
            .map(|refused| refused.or_else(|| answered_results.next()))
            .collect::<Option<_>>()
            .ok_or_else(|| Error::Protocol("fewer results than messages".to_owned()))
    }

    async fn produce_chunk(
        &self,
        destination: &Bytes,
        chunk: Chunk,
    ) -> Result<oneshot::Receiver<Result<Results, Error>>, Error> {
        let room = self.shared().room(chunk.bytes.len()).await?;
        let (sink, answer) = oneshot::channel();
        self.shared().push(Entry::Produce(Batch {
            destination: destination.clone(),
            bytes: chunk.bytes,
            count: chunk.count,
            dedup: chunk.dedup,
            waiting: Waiting::Whole(chunk.count, sink),
            room: Some(room),
        }))?;
        Ok(answer)
    }
}

#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    count: usize,
    dedup: bool,
}
