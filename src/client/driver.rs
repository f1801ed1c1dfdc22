//! The task behind a client: it owns the connection, sends what is queued, hands out what comes,
//! and connects again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::error::Error;
use super::held::Held;
use super::options::ClientOptions;
use super::pending::{Pending, only_with_dedup};
use super::queue::{Ask, Batch, Entry, Shared};
use super::subscription::Event;
use super::transport::{Tcp, Transport};
use crate::base::command::{Answer, Command};
use crate::base::error::{ClientError, Code};
use crate::base::message::MessageBatch;
use crate::wire::binary::{Reply, ServerFrame};

/// First and longest pause between attempts to connect again.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long a closing client waits for what is unanswered.
const CLOSE_WAIT: Duration = Duration::from_secs(5);
/// A durable subscription is busy until the server has noticed that the lost connection is lost.
const BUSY_WAIT: Duration = Duration::from_secs(1);
/// Silence of the server, in heartbeats, after which the connection counts as lost.
const SILENT_HEARTBEATS: u32 = 3;

/// How to get a connection again.
pub(super) enum Way {
    Tcp(ClientOptions),
    /// When the shard of the same process is gone, it is gone.
    Embedded,
}

/// How serving a connection ended.
enum End {
    Closed,
    Lost(Error),
}

pub(super) struct Driver {
    shared: Arc<Shared>,
    way: Way,
    pending: HashMap<u32, Pending>,
    subscriptions: HashMap<u32, Held>,
    /// Subscriptions to be resumed once the server is ready for it.
    busy: Vec<u32>,
    busy_until: Option<Instant>,
    correlation: u32,
    connection: u64,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, way: Way) -> Self {
        Self {
            shared,
            way,
            pending: HashMap::new(),
            subscriptions: HashMap::new(),
            busy: Vec::new(),
            busy_until: None,
            correlation: 0,
            connection: 0,
        }
    }

    /// Runs until the client is closed, or is lost for good.
    pub(super) async fn run(mut self, first: Transport) {
        let mut transport = first;
        let error = loop {
            let lost = match self.serve(&mut transport).await {
                End::Closed => break Error::Closed,
                End::Lost(lost) => lost,
            };
            tracing::info!(%lost, "connection lost");
            drop(transport);
            let again = match &self.way {
                Way::Tcp(options) if options.reconnect => options.clone(),
                _ => break lost,
            };
            self.sort_pending();
            match self.reconnect(&again).await {
                Some(connected) => transport = connected,
                None => break Error::Closed,
            }
        };
        for (_, pending) in self.pending.drain() {
            pending.fail(&error);
        }
        for (_, held) in self.subscriptions.drain() {
            // A client that was closed ends its streams without an error.
            if !matches!(error, Error::Closed) {
                let _ = held.feed.events.send(Event::Ended(error.clone()));
            }
        }
        self.shared.end(error);
    }

    async fn serve(&mut self, transport: &mut Transport) -> End {
        self.resume_all(transport);
        let every = match &self.way {
            Way::Tcp(options) => options.heartbeat.max(Duration::from_millis(1)),
            Way::Embedded => Duration::from_secs(3600),
        };
        let mut heartbeat = interval(every);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeat.reset();
        let mut silent = 0;
        let mut incoming = VecDeque::new();
        let mut close_at = None;
        loop {
            if transport.is_clear() {
                let (entries, closing) = self.shared.take();
                for entry in entries {
                    self.send(transport, entry);
                }
                if closing {
                    if self.pending.is_empty() && transport.is_clear() {
                        return End::Closed;
                    }
                    close_at.get_or_insert_with(|| Instant::now() + CLOSE_WAIT);
                }
            }
            tokio::select! {
                driven = transport.drive(&mut incoming) => {
                    // What came before the end still counts.
                    for frame in incoming.drain(..) {
                        silent = 0;
                        if let Err(lost) = self.receive(frame) {
                            return End::Lost(lost);
                        }
                    }
                    if let Err(lost) = driven {
                        return End::Lost(lost);
                    }
                }
                () = self.shared.woken(), if transport.is_clear() => {}
                _ = heartbeat.tick() => {
                    silent += 1;
                    if silent > SILENT_HEARTBEATS && matches!(self.way, Way::Tcp(_)) {
                        return End::Lost(Error::Disconnected);
                    }
                    if transport.is_clear() {
                        self.send_heartbeat(transport);
                    }
                }
                () = until(self.busy_until), if transport.is_clear() => {
                    self.busy_until = None;
                    for number in std::mem::take(&mut self.busy) {
                        self.resume(transport, number);
                    }
                }
                () = until(close_at) => return End::Closed,
            }
        }
    }

    /// A number that no unanswered request has.
    fn next_correlation(&mut self) -> u32 {
        loop {
            self.correlation = self.correlation.wrapping_add(1);
            if self.correlation != 0 && !self.pending.contains_key(&self.correlation) {
                return self.correlation;
            }
        }
    }

    fn request(&mut self, transport: &mut Transport, command: Command, pending: Pending) {
        let correlation = self.next_correlation();
        transport.queue(correlation, command);
        self.pending.insert(correlation, pending);
    }

    fn send_heartbeat(&mut self, transport: &mut Transport) {
        let correlation = self.next_correlation();
        if transport.queue_heartbeat(correlation) {
            self.pending.insert(correlation, Pending::Unawaited);
        }
    }

    fn send(&mut self, transport: &mut Transport, entry: Entry) {
        match entry {
            Entry::Produce(Batch { destination, bytes, count, dedup, waiting, room }) => {
                match MessageBatch::parse(bytes.into(), count) {
                    Ok(batch) => {
                        let kept = dedup.then(|| batch.clone());
                        let command = Command::Produce { destination: destination.clone(), batch };
                        let pending = Pending::Produce { destination, batch: kept, waiting, room };
                        self.request(transport, command, pending);
                    }
                    Err(error) => waiting.fail(&Error::Refused(error)),
                }
            }
            Entry::Again { destination, batch, waiting, room } => {
                let command =
                    Command::Produce { destination: destination.clone(), batch: batch.clone() };
                let pending = Pending::Produce { destination, batch: Some(batch), waiting, room };
                self.request(transport, command, pending);
            }
            Entry::Ask(Ask { command, repeatable, sink, room }) => {
                self.note_command(&command);
                let kept = repeatable.then(|| command.clone());
                self.request(transport, command, Pending::Ask { command: kept, sink, room });
            }
            Entry::Subscribe { wish, feed, sink } => {
                let number = wish.subscription;
                feed.connection.store(self.connection, Ordering::Release);
                self.subscriptions.insert(number, Held::new(wish.clone(), feed));
                let command = Command::Subscribe(wish);
                self.request(transport, command, Pending::Subscribe { number, sink });
            }
            Entry::Acknowledge { subscription, ids } => {
                let kept = ids.clone();
                let command = Command::Acknowledge { subscription, ids, cumulative: false };
                self.note_command(&command);
                let pending = Pending::Acknowledge { subscription, ids: kept };
                self.request(transport, command, pending);
            }
            Entry::Forget { subscription } => {
                // Also before its subscribe is answered: requests are executed in order.
                if self.subscriptions.remove(&subscription).is_some() {
                    let command = Command::Unsubscribe { subscription, delete: false };
                    self.request(transport, command, Pending::Unawaited);
                }
            }
        }
    }

    /// What a command means for the subscriptions that would be resumed.
    fn note_command(&mut self, command: &Command) {
        match command {
            Command::Acknowledge { subscription, ids, cumulative } => {
                if let Some(held) = self.subscriptions.get_mut(subscription) {
                    held.note_acknowledged(ids, *cumulative);
                }
            }
            Command::Unsubscribe { subscription, .. } => {
                self.subscriptions.remove(subscription);
            }
            _ => {}
        }
    }

    fn receive(&mut self, frame: ServerFrame) -> Result<(), Error> {
        match frame {
            ServerFrame::Answer { correlation, reply } => self.answer(correlation, reply)?,
            ServerFrame::Deliver(deliveries) => {
                for delivery in deliveries {
                    if let Some(held) = self.subscriptions.get_mut(&delivery.subscription) {
                        if !held.note_delivery(&delivery) {
                            self.shared.acknowledge_later(delivery.subscription, delivery.id);
                            continue;
                        }
                        let event = Event::Delivery(self.connection, delivery);
                        // A receiver that is gone is about to be forgotten.
                        let _ = held.feed.events.send(event);
                    }
                }
            }
            ServerFrame::Ended { subscription, reason } => {
                self.end_subscription(subscription, reason);
            }
            ServerFrame::Goodbye(reason) | ServerFrame::Failed(reason) => {
                return Err(Error::Refused(reason));
            }
            ServerFrame::Unknown => {}
        }
        Ok(())
    }

    fn answer(&mut self, correlation: u32, reply: Reply) -> Result<(), Error> {
        if let Reply::Answer(Answer::Failed(error)) = &reply
            && error.code == Code::BadChecksum
        {
            // The damage may be in the correlation id: this answers nobody.
            return Err(Error::Refused(error.clone()));
        }
        let Some(pending) = self.pending.remove(&correlation) else { return Ok(()) };
        match pending {
            Pending::Produce { waiting, .. } => match reply {
                Reply::Answer(Answer::Produced(results)) if waiting.expects(results.len()) => {
                    waiting.answer(results);
                }
                Reply::Answer(Answer::Failed(error)) => waiting.fail(&Error::Refused(error)),
                _ => waiting.fail(&Error::Protocol("not one result a message".to_owned())),
            },
            Pending::Ask { sink, .. } => {
                // The caller may have stopped waiting.
                let _ = sink.send(Ok(reply));
            }
            Pending::Subscribe { number, sink } => {
                match &reply {
                    Reply::Answer(Answer::Subscribed { next_offset }) => {
                        if let Some(held) = self.subscriptions.get_mut(&number) {
                            held.begin(*next_offset);
                        }
                    }
                    _ => {
                        self.subscriptions.remove(&number);
                    }
                }
                if sink.send(Ok(reply)).is_err() {
                    tracing::debug!(number, "nobody waits for the subscription any more");
                }
            }
            Pending::Resume { number } => self.resumed(number, reply),
            Pending::Acknowledge { subscription, .. } => {
                if let Reply::Answer(Answer::Failed(error)) = reply {
                    // Nobody waits; the messages come again after their ack timeout.
                    tracing::warn!(subscription, %error, "acknowledgements were refused");
                }
            }
            Pending::Unawaited => {}
        }
        Ok(())
    }

    fn resumed(&mut self, number: u32, reply: Reply) {
        match reply {
            Reply::Answer(Answer::Subscribed { .. }) => {}
            // A durable subscription or a temporary queue that still belongs to the connection before.
            Reply::Answer(Answer::Failed(error))
                if matches!(error.code, Code::SubscriptionBusy | Code::NotYours) =>
            {
                self.busy.push(number);
                self.busy_until.get_or_insert_with(|| Instant::now() + BUSY_WAIT);
            }
            Reply::Answer(Answer::Failed(error)) => self.end_subscription(number, error),
            _ => {
                let text = "not an answer to subscribe".to_owned();
                self.end_subscription(number, ClientError::new(Code::Internal, text));
            }
        }
    }

    fn end_subscription(&mut self, number: u32, reason: ClientError) {
        if let Some(held) = self.subscriptions.remove(&number) {
            let _ = held.feed.events.send(Event::Ended(Error::Refused(reason)));
        }
    }

    fn resume_all(&mut self, transport: &mut Transport) {
        self.subscriptions.retain(|_, held| !held.feed.events.is_closed());
        let mut numbers: Vec<u32> = self.subscriptions.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            self.resume(transport, number);
        }
    }

    fn resume(&mut self, transport: &mut Transport, number: u32) {
        if let Some(held) = self.subscriptions.get(&number) {
            let command = Command::Subscribe(held.wish_to_resume());
            self.request(transport, command, Pending::Resume { number });
        }
    }

    /// Sorts what was unanswered when the connection was lost: what may be sent again is queued
    /// before everything else, in its old order; the outcome of the rest is unknown.
    fn sort_pending(&mut self) {
        // Whatever the lost connection delivered comes again over the next one.
        self.connection += 1;
        self.busy.clear();
        self.busy_until = None;
        for held in self.subscriptions.values_mut() {
            held.feed.connection.store(self.connection, Ordering::Release);
        }
        let mut pending: Vec<_> = self.pending.drain().collect();
        // Younger numbers are larger, also across the wrap.
        let newest = self.correlation;
        pending.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(newest.wrapping_sub(*number)));
        let mut again = Vec::new();
        for (_, pending) in pending {
            match pending {
                Pending::Produce { destination, batch: Some(batch), waiting, room } => {
                    if let Some((batch, waiting)) = only_with_dedup(&batch, waiting) {
                        again.push(Entry::Again { destination, batch, waiting, room });
                    }
                }
                Pending::Ask { command: Some(command), sink, room } => {
                    again.push(Entry::Ask(Ask { command, repeatable: true, sink, room }));
                }
                Pending::Subscribe { number, sink } => {
                    if let Some(Held { wish, feed, .. }) = self.subscriptions.remove(&number) {
                        again.push(Entry::Subscribe { wish, feed, sink });
                    }
                }
                Pending::Acknowledge { subscription, ids } => {
                    again.push(Entry::Acknowledge { subscription, ids });
                }
                other => other.fail(&Error::OutcomeUnknown),
            }
        }
        self.shared.put_back(again);
    }

    /// Connects again, however long it takes; `None` when the client was closed meanwhile.
    async fn reconnect(&self, options: &ClientOptions) -> Option<Transport> {
        let lost_at = Instant::now();
        let mut back_off = BACK_OFF.0;
        loop {
            if lost_at.elapsed() >= options.give_up_after {
                self.shared.fail_queued(&Error::Disconnected);
            }
            let until = Instant::now() + back_off;
            // Wakes come for every request that is queued meanwhile: they wait.
            while Instant::now() < until {
                if self.shared.is_closing() {
                    return None;
                }
                tokio::select! {
                    () = sleep_until(until) => {}
                    () = self.shared.woken() => {}
                }
            }
            match Tcp::connect(options).await {
                Ok(tcp) => {
                    tracing::info!(server = %options.server, "connected again");
                    return Some(Transport::Tcp(Box::new(tcp)));
                }
                Err(error) => tracing::debug!(%error, "cannot connect again yet"),
            }
            back_off = (back_off * 2).min(BACK_OFF.1);
        }
    }
}

/// Waits until then; for ever when there is no then.
async fn until(then: Option<Instant>) {
    match then {
        Some(then) => sleep_until(then).await,
        None => std::future::pending().await,
    }
}

impl Drop for Driver {
    /// However the task ends, nobody may wait for it any longer.
    fn drop(&mut self) {
        self.shared.end(Error::Closed);
    }
}
