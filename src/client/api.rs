//! The client's requests.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::Submit;
use super::ask::{answered, ask, check_length, split_ids, unexpected, whole_ms};
use super::driver::{Driver, Way};
use super::error::Error;
use super::options::{ClientOptions, ListQuery, SubscribeOptions};
use super::queue::{Entry, Handle, Shared};
use super::subscription::{Received, Subscription};
use super::transport::{Embedded, Tcp, Transport};
use crate::base::command::{
    Answer, Command, DestinationInfo, SchedulePage, Status, Subscribe, Verdict,
};
use crate::base::error::ClientError;
use crate::base::id::MessageId;
use crate::base::limits;
use crate::base::message::Delay;
use crate::shard::{Broker, Outbox};
use crate::wire::binary::Reply;

/// A client: cheap to clone, to be shared by any number of tasks.
///
/// When the last clone and the last subscription are dropped, what is still queued is sent and the
/// connection is closed.
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
    numbers: Arc<std::sync::atomic::AtomicU32>,
}

/// A page of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The messages, in order of offset.
    pub messages: Vec<Received>,
    /// Where the next fetch goes on.
    pub next_offset: u64,
}

impl Client {
    /// Connects to a server, `host:port`, with the default options.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), postdate::client::Error> {
    /// let client = postdate::client::Client::connect("127.0.0.1:7700").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Connect`], or [`Error::Refused`] when the server does not want this client. The
    /// first connection is tried once.
    pub async fn connect(server: &str) -> Result<Self, Error> {
        Self::connect_with(ClientOptions::new(server)).await
    }

    /// Connects with options.
    ///
    /// ```no_run
    /// # use postdate::client::{Client, ClientOptions};
    /// # async fn example() -> Result<(), postdate::client::Error> {
    /// let options = ClientOptions { reconnect: false, ..ClientOptions::new("10.0.0.5:7700") };
    /// let client = Client::connect_with(options).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_with(options: ClientOptions) -> Result<Self, Error> {
        let first = Transport::Tcp(Box::new(Tcp::connect(&options).await?));
        Ok(Self::start(first, options.batch_max, Way::Tcp(options)))
    }

    /// A client of a shard in the same process: no socket, no codec, the same promises.
    /// Must be called within a tokio runtime.
    ///
    /// ```no_run
    /// # use postdate::client::Client;
    /// # async fn example(broker: &postdate::shard::Broker) -> Result<(), postdate::client::Error> {
    /// let client = Client::embedded(broker)?;
    /// client.produce("/queue/mail", "hello").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`] when the shard is gone.
    pub fn embedded(broker: &Broker) -> Result<Self, Error> {
        Self::embedded_in(|outbox| {
            let session = broker.session(outbox)?;
            let submit: Submit = Box::new(move |requests| session.submit(requests));
            Ok(submit)
        })
    }

    pub(super) fn embedded_in(
        open: impl FnOnce(Box<dyn Outbox>) -> Result<Submit, ClientError>,
    ) -> Result<Self, Error> {
        let first = Transport::Embedded(Embedded::open(open)?);
        Ok(Self::start(first, ClientOptions::default().batch_max, Way::Embedded))
    }

    fn start(first: Transport, batch_max: usize, way: Way) -> Self {
        let shared = Arc::new(Shared::new(batch_max));
        tokio::spawn(Driver::new(Arc::clone(&shared), way).run(first));
        Self { handle: Arc::new(Handle(shared)), numbers: Arc::default() }
    }

    /// Tells where messages stand.
    ///
    /// ```no_run
    /// # async fn example(
    /// #     client: postdate::client::Client,
    /// #     id: postdate::base::id::MessageId,
    /// # ) -> Result<(), postdate::client::Error> {
    /// for status in client.query(&[id]).await? {
    ///     println!("{} is {}", status.id, status.state.word());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Disconnected`] when there was no connection for too long.
    pub async fn query(&self, ids: &[MessageId]) -> Result<Vec<Status>, Error> {
        split_ids(
            self.shared(),
            ids,
            true,
            |ids| Command::Query { ids },
            |answer| match answer {
                Answer::Statuses(statuses) => Some(statuses),
                _ => None,
            },
        )
        .await
    }

    /// Cancels scheduled messages. A verdict that is done is final: the message is never delivered.
    ///
    /// After a lost connection a cancel is sent again, and then says *not done, cancelled* about
    /// what the first one did.
    ///
    /// ```no_run
    /// # async fn example(
    /// #     client: postdate::client::Client,
    /// #     id: postdate::base::id::MessageId,
    /// # ) -> Result<(), postdate::client::Error> {
    /// let verdicts = client.cancel(&[id]).await?;
    /// if !verdicts[0].done {
    ///     println!("too late, it is {}", verdicts[0].state.word());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Disconnected`] when there was no connection for too long.
    pub async fn cancel(&self, ids: &[MessageId]) -> Result<Vec<Verdict>, Error> {
        split_ids(self.shared(), ids, true, |ids| Command::Cancel { ids }, verdicts).await
    }

    /// Gives scheduled messages another due time; they keep their ids.
    ///
    /// ```no_run
    /// # use postdate::base::message::Delay;
    /// # async fn example(
    /// #     client: postdate::client::Client,
    /// #     id: postdate::base::id::MessageId,
    /// # ) -> Result<(), postdate::client::Error> {
    /// client.reschedule(&[(id, Delay::After(60_000))]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] when the connection was lost, [`Error::Disconnected`] when there
    /// was none for too long.
    pub async fn reschedule(&self, items: &[(MessageId, Delay)]) -> Result<Vec<Verdict>, Error> {
        split_ids(self.shared(), items, false, |items| Command::Reschedule { items }, verdicts)
            .await
    }

    /// Lists scheduled messages in order of due time, a page at a time.
    ///
    /// ```no_run
    /// # use postdate::client::ListQuery;
    /// # async fn example(client: postdate::client::Client) -> Result<(), postdate::client::Error> {
    /// let mut query = ListQuery { destination: "/queue/mail".into(), ..ListQuery::default() };
    /// loop {
    ///     let page = client.list(query.clone()).await?;
    ///     for entry in page.entries {
    ///         println!("{} at {}", entry.id, entry.due_ms);
    ///     }
    ///     let Some(next) = page.next else { break };
    ///     query.after = Some(next);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`], or [`Error::Disconnected`] when there was no connection for too long.
    pub async fn list(&self, query: ListQuery) -> Result<SchedulePage, Error> {
        let ListQuery { destination, from_ms, to_ms, limit, after } = query;
        let destination = self.name(&destination)?;
        let command = Command::List { destination, from_ms, to_ms, limit, after };
        match self.ask(command, true).await? {
            Reply::Answer(Answer::Scheduled(page)) => Ok(page),
            other => Err(unexpected(&other)),
        }
    }

    /// Reads messages of a topic from an offset, without a subscription; at most 1000 at once.
    ///
    /// ```no_run
    /// # async fn example(client: postdate::client::Client) -> Result<(), postdate::client::Error> {
    /// let page = client.fetch("/topic/news", 1, 100).await?;
    /// println!("{} messages, go on at {}", page.messages.len(), page.next_offset);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`], or [`Error::Disconnected`] when there was no connection for too long.
    pub async fn fetch(
        &self,
        destination: &str,
        offset: u64,
        limit: u32,
    ) -> Result<Fetched, Error> {
        let name = Arc::from(destination);
        let destination = self.name(destination)?;
        match self.ask(Command::Fetch { destination, offset, limit }, true).await? {
            Reply::Answer(Answer::Fetched { messages, next_offset }) => {
                let messages = messages.into_iter().map(|own| Received::new(own, &name)).collect();
                Ok(Fetched { messages, next_offset })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Every destination, in order of name.
    ///
    /// ```no_run
    /// # async fn example(client: postdate::client::Client) -> Result<(), postdate::client::Error> {
    /// for destination in client.destinations().await? {
    ///     println!("{}: {} scheduled", destination.name, destination.scheduled);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Disconnected`] when there was no connection for too long.
    pub async fn destinations(&self) -> Result<Vec<DestinationInfo>, Error> {
        let mut all: Vec<DestinationInfo> = Vec::new();
        loop {
            let after = all
                .last()
                .map_or_else(Bytes::new, |last| Bytes::copy_from_slice(last.name.as_bytes()));
            let limit = limits::PAGE_ITEMS_MAX as u32;
            match self.ask(Command::ListDestinations { after, limit }, true).await? {
                Reply::Answer(Answer::Destinations(page)) if page.is_empty() => return Ok(all),
                Reply::Answer(Answer::Destinations(page)) => all.extend(page),
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Creates a destination. Producing and subscribing do so by themselves.
    ///
    /// ```no_run
    /// # async fn example(client: postdate::client::Client) -> Result<(), postdate::client::Error> {
    /// client.create_destination("/topic/news").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::OutcomeUnknown`] or [`Error::Disconnected`].
    pub async fn create_destination(&self, name: &str) -> Result<(), Error> {
        let name = self.name(name)?;
        self.done(Command::CreateDestination { name }).await
    }

    /// Deletes a destination, everything in it and everything scheduled for it.
    ///
    /// ```no_run
    /// # async fn example(client: postdate::client::Client) -> Result<(), postdate::client::Error> {
    /// client.delete_destination("/topic/news").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::OutcomeUnknown`] or [`Error::Disconnected`].
    pub async fn delete_destination(&self, name: &str) -> Result<(), Error> {
        let name = self.name(name)?;
        self.done(Command::DeleteDestination { name }).await
    }

    /// Describes a destination.
    ///
    /// ```no_run
    /// # async fn example(client: postdate::client::Client) -> Result<(), postdate::client::Error> {
    /// let info = client.describe_destination("/queue/mail").await?;
    /// println!("{} ready, {} in flight", info.ready, info.in_flight);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`] when there is none of that name, or [`Error::Disconnected`].
    pub async fn describe_destination(&self, name: &str) -> Result<DestinationInfo, Error> {
        let name = self.name(name)?;
        match self.ask(Command::DescribeDestination { name }, true).await? {
            Reply::Answer(Answer::Destination(info)) => Ok(info),
            other => Err(unexpected(&other)),
        }
    }

    /// Counters of the server, by name.
    ///
    /// ```no_run
    /// # async fn example(client: postdate::client::Client) -> Result<(), postdate::client::Error> {
    /// for (name, value) in client.stats().await? {
    ///     println!("{name} {value}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Disconnected`] when there was no connection for too long.
    pub async fn stats(&self) -> Result<Vec<(String, u64)>, Error> {
        match self.ask(Command::Stats, true).await? {
            Reply::Stats(counters) => Ok(counters),
            other => Err(unexpected(&other)),
        }
    }

    /// Subscribes to a destination.
    ///
    /// ```no_run
    /// # use postdate::client::SubscribeOptions;
    /// # use postdate::base::command::StartAt;
    /// # async fn example(client: postdate::client::Client) -> Result<(), postdate::client::Error> {
    /// let mut news = client
    ///     .subscribe(SubscribeOptions {
    ///         durable: "archive".into(),
    ///         start: StartAt::Earliest,
    ///         ..SubscribeOptions::new("/topic/news")
    ///     })
    ///     .await?;
    /// while let Some(message) = news.next().await {
    ///     news.ack_later(message?.id);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`], or [`Error::Disconnected`] when there was no connection for too long.
    pub async fn subscribe(&self, options: SubscribeOptions) -> Result<Subscription, Error> {
        let order = std::sync::atomic::Ordering::Relaxed;
        // A client that takes four thousand million subscriptions begins again at 1.
        let number = self.numbers.fetch_add(1, order).wrapping_add(1).max(1);
        let wish = Subscribe {
            subscription: number,
            destination: self.name(&options.destination)?,
            credit: options.credit,
            ack_timeout_ms: options.ack_timeout.map_or(0, |timeout| whole_ms(timeout) as u64),
            durable: self.name(&options.durable)?,
            start: options.start,
            shared: options.shared,
        };
        let (mut subscription, feed) =
            Subscription::new(Arc::clone(&self.handle), number, options.destination.into());
        let (sink, answer) = oneshot::channel();
        self.shared().push(Entry::Subscribe { wish, feed, sink })?;
        match answered(answer).await? {
            Reply::Answer(Answer::Subscribed { next_offset }) => {
                subscription.begin(next_offset);
                Ok(subscription)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Closes the client for all its clones and subscriptions, once everything asked before is
    /// answered (for at most 5 s).
    ///
    /// ```no_run
    /// # async fn example(client: postdate::client::Client) {
    /// client.close().await;
    /// # }
    /// ```
    pub async fn close(&self) {
        self.shared().close();
        self.shared().ended().await;
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.handle.0
    }

    /// A name as it travels. What else is wrong with it is the server's to judge.
    pub(super) fn name(&self, name: &str) -> Result<Bytes, Error> {
        check_length(name)?;
        Ok(Bytes::copy_from_slice(name.as_bytes()))
    }

    pub(super) async fn ask(&self, command: Command, repeatable: bool) -> Result<Reply, Error> {
        ask(self.shared(), command, repeatable).await
    }

    pub(super) async fn done(&self, command: Command) -> Result<(), Error> {
        match self.ask(command, false).await? {
            Reply::Answer(Answer::Done) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

fn verdicts(answer: Answer) -> Option<Vec<Verdict>> {
    match answer {
        Answer::Verdicts(verdicts) => Some(verdicts),
        _ => None,
    }
}
