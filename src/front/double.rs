//! A shard for tests: small, in memory, answering at once on the caller's thread. Messages with a
//! delay stay scheduled for ever. Answers can be held back, and the whole can be made to latch.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{OpenSession, Submit};
use crate::base::command::{
    Answer, Command, Delivery, DestinationInfo, Outgoing, Produced, Purged, SchedulePage, StartAt,
    Status, Subscribe, Verdict,
};
use crate::base::destination::{self, Kind};
use crate::base::error::{ClientError, Code};
use crate::base::event::Control;
use crate::base::id::MessageId;
use crate::base::lifecycle::State;
use crate::base::message::{Delay, NewMessage};
use crate::shard::Outbox;

#[derive(Clone, Default)]
pub(crate) struct Double(Arc<Mutex<Inner>>);

struct Stored {
    state: State,
    destination: Arc<str>,
    content: Arc<[u8]>,
    due_ms: u64,
    attempts: u32,
    offset: u64,
    priority: u8,
}

struct Session {
    outbox: Box<dyn Outbox>,
    subscriptions: HashMap<u32, Subscription>,
}

struct Subscription {
    wish: Subscribe,
    in_flight: Vec<MessageId>,
    next_offset: u64,
}

#[derive(Default)]
struct Inner {
    sequence: u64,
    next_session: u64,
    sessions: BTreeMap<u64, Session>,
    messages: BTreeMap<MessageId, Stored>,
    ready: BTreeMap<Arc<str>, VecDeque<MessageId>>,
    topics: BTreeMap<Arc<str>, Vec<MessageId>>,
    dedup: HashMap<(Arc<str>, Vec<u8>), MessageId>,
    /// Told again, and otherwise without effect.
    controls: BTreeMap<Arc<str>, Control>,
    hold: bool,
    held: Vec<(u64, Outgoing)>,
    latched: Option<ClientError>,
    requests: usize,
}

impl Double {
    pub(crate) fn open(&self) -> OpenSession {
        let this = self.clone();
        Arc::new(move |outbox| {
            let number = this.0.lock().open(outbox)?;
            let end = EndOfSession(this.clone(), number);
            let submit: Submit = Box::new(move |requests| end.0.0.lock().submit(end.1, requests));
            Ok(submit)
        })
    }

    /// Holds answers back from now on, or lets them all go.
    pub(crate) fn hold(&self, hold: bool) {
        let mut inner = self.0.lock();
        inner.hold = hold;
        if !hold {
            for (session, outgoing) in std::mem::take(&mut inner.held) {
                inner.push(session, vec![outgoing]);
            }
        }
    }

    /// Fails as a shard does that could not write.
    pub(crate) fn latch(&self) {
        let mut inner = self.0.lock();
        let error = ClientError::from(Code::StorageFailed);
        inner.latched = Some(error.clone());
        for session in inner.sessions.values() {
            session.outbox.closed(error.clone());
        }
    }

    /// Requests submitted so far.
    pub(crate) fn requests(&self) -> usize {
        self.0.lock().requests
    }

    /// Messages stored so far.
    pub(crate) fn stored(&self) -> usize {
        self.0.lock().messages.len()
    }

    pub(crate) fn sessions(&self) -> usize {
        self.0.lock().sessions.len()
    }

    /// Ends every subscription of a destination, as its deletion does.
    pub(crate) fn delete(&self, name: &str) {
        self.0.lock().delete(name);
    }
}

struct EndOfSession(Double, u64);

impl Drop for EndOfSession {
    fn drop(&mut self) {
        let mut inner = self.0.0.lock();
        let Some(session) = inner.sessions.remove(&self.1) else { return };
        for subscription in session.subscriptions.into_values() {
            inner.give_back(subscription.in_flight);
        }
        inner.deliver();
    }
}

impl Inner {
    fn open(&mut self, outbox: Box<dyn Outbox>) -> Result<u64, ClientError> {
        if let Some(error) = &self.latched {
            return Err(error.clone());
        }
        self.next_session += 1;
        let session = Session { outbox, subscriptions: HashMap::new() };
        self.sessions.insert(self.next_session, session);
        Ok(self.next_session)
    }

    fn submit(&mut self, session: u64, requests: Vec<(u64, Command)>) -> Result<(), ClientError> {
        if let Some(error) = &self.latched {
            return Err(error.clone());
        }
        let mut answers = Vec::new();
        for (tag, command) in requests {
            self.requests += 1;
            let answer = self.execute(session, command).unwrap_or_else(Answer::Failed);
            answers.push(Outgoing::Answer { tag, answer });
        }
        if self.hold {
            self.held.extend(answers.into_iter().map(|answer| (session, answer)));
        } else {
            self.push(session, answers);
        }
        self.deliver();
        Ok(())
    }

    fn push(&self, session: u64, batch: Vec<Outgoing>) {
        if let Some(session) = self.sessions.get(&session) {
            session.outbox.push(batch);
        }
    }

    fn execute(&mut self, session: u64, command: Command) -> Result<Answer, ClientError> {
        Ok(match command {
            Command::Produce { destination, batch } => {
                let (name, kind) = destination::parse(&destination)?;
                let name: Arc<str> = name.into();
                let all = batch.iter().map(|message| self.produce(&name, kind, &message));
                Answer::Produced(all.collect())
            }
            // It plays at no calendar, and takes nothing back.
            Command::Repeat { .. } => return Err(Code::BadSchedule.into()),
            Command::Transaction { .. } => return Err(Code::BadBatch.into()),
            Command::Query { ids } => {
                Answer::Statuses(ids.into_iter().map(|id| self.status(id)).collect())
            }
            Command::Cancel { ids } => self.finish(&ids, State::Scheduled, State::Cancelled),
            Command::Reschedule { items } => Answer::Verdicts(
                items
                    .into_iter()
                    .map(|(id, delay)| {
                        let (_, value) = delay.to_wire();
                        let scheduled = self
                            .messages
                            .get_mut(&id)
                            .filter(|message| message.state == State::Scheduled);
                        let done = scheduled.map(|m| m.due_ms = value as u64).is_some();
                        let status = self.status(id);
                        Verdict { id, done, state: status.state, due_ms: status.due_ms }
                    })
                    .collect(),
            ),
            Command::Subscribe(wish) => self.subscribe(session, wish)?,
            Command::Unsubscribe { subscription, .. } => {
                let removed = self
                    .sessions
                    .get_mut(&session)
                    .and_then(|session| session.subscriptions.remove(&subscription))
                    .ok_or(Code::SubscriptionNotFound)?;
                self.give_back(removed.in_flight);
                Answer::Done
            }
            Command::Acknowledge { subscription, ids, .. } => {
                self.release(session, subscription, &ids);
                self.finish(&ids, State::InFlight, State::Acknowledged)
            }
            Command::Reject { subscription, ids, requeue } => {
                self.release(session, subscription, &ids);
                if requeue {
                    self.give_back(ids.clone());
                    self.finish(&ids, State::InFlight, State::Ready)
                } else {
                    self.finish(&ids, State::InFlight, State::Dead)
                }
            }
            Command::List { limit, after, .. } => {
                let after = after.map_or(0, |key| key.sequence);
                let mut all = self
                    .messages
                    .iter()
                    .filter(|(id, m)| m.state == State::Scheduled && id.sequence() > after)
                    .map(|(id, _)| *id)
                    .collect::<Vec<_>>();
                all.sort_by_key(|id| id.sequence());
                let more = all.len() > limit as usize;
                all.truncate(limit as usize);
                let last = all.last().map(|id| crate::base::id::Key {
                    due_ms: id.due_ms(),
                    sequence: id.sequence(),
                });
                let entries = all.into_iter().map(|id| self.status(id)).collect();
                Answer::Scheduled(SchedulePage { entries, next: last.filter(|_| more) })
            }
            Command::Fetch { destination, offset, limit } => {
                let (name, _) = destination::parse(&destination)?;
                let topic = self.topics.get(name).ok_or(Code::DestinationNotFound)?;
                let skip = offset.saturating_sub(1) as usize;
                let messages: Vec<_> = topic
                    .iter()
                    .skip(skip)
                    .take(limit as usize)
                    .map(|id| self.delivery(*id, 0))
                    .collect();
                let next_offset = skip as u64 + messages.len() as u64 + 1;
                Answer::Fetched { messages, next_offset }
            }
            Command::ListDestinations { after, limit } => Answer::Destinations(
                self.ready
                    .keys()
                    .filter(|name| name.as_bytes() > &after[..])
                    .take(limit as usize)
                    .map(|name| self.info(name))
                    .collect(),
            ),
            Command::CreateDestination { name } => {
                let (name, _) = destination::parse(&name)?;
                self.ready.entry(name.into()).or_default();
                Answer::Done
            }
            Command::DeleteDestination { name } => {
                let (name, _) = destination::parse(&name)?;
                self.ready.get(name).ok_or(Code::DestinationNotFound)?;
                self.delete(name);
                Answer::Done
            }
            Command::DescribeDestination { name } => {
                let (name, _) = destination::parse(&name)?;
                self.ready.get(name).ok_or(Code::DestinationNotFound)?;
                Answer::Destination(self.info(name))
            }
            Command::PurgeDestination { name, scheduled } => {
                Answer::Purged(self.purge(&name, scheduled)?)
            }
            Command::PauseDestination { name, paused } => {
                let (name, _) = destination::parse(&name)?;
                self.ready.get(name).ok_or(Code::DestinationNotFound)?;
                self.controls.entry(name.into()).or_default().paused = paused;
                Answer::Done
            }
            Command::LimitDestination { name, max_messages, max_age_ms } => {
                let (name, _) = destination::parse(&name)?;
                self.ready.get(name).ok_or(Code::DestinationNotFound)?;
                let control = self.controls.entry(name.into()).or_default();
                control.max_messages = max_messages.unwrap_or(control.max_messages);
                control.max_age_ms = max_age_ms.unwrap_or(control.max_age_ms);
                Answer::Destination(self.info(name))
            }
            Command::Backup { .. } => return Err(Code::BackupFailed.into()),
            Command::Stats => Answer::Stats(vec![("requests", self.requests as u64)]),
        })
    }

    fn produce(
        &mut self,
        name: &Arc<str>,
        kind: Kind,
        message: &NewMessage<'_>,
    ) -> Result<Produced, Box<ClientError>> {
        if message.priority > 9 {
            return Err(Box::new(Code::BadPriority.into()));
        }
        let dedup = (Arc::clone(name), message.dedup.unwrap_or_default().to_vec());
        if message.dedup.is_some()
            && let Some(&id) = self.dedup.get(&dedup)
        {
            return Ok(Produced { id, duplicate: true });
        }
        self.sequence += 1;
        let due_ms = message.delay.to_wire().1 as u64;
        let id = MessageId::new(due_ms, 0, self.sequence);
        self.dedup.insert(dedup, id);
        let mut stored = Stored {
            state: State::Scheduled,
            destination: Arc::clone(name),
            content: message.content.into(),
            due_ms,
            attempts: 0,
            offset: 0,
            priority: message.priority,
        };
        self.ready.entry(Arc::clone(name)).or_default();
        if message.delay == Delay::None {
            stored.state = State::Ready;
            if kind.is_queue() {
                self.ready.entry(Arc::clone(name)).or_default().push_back(id);
            } else {
                let topic = self.topics.entry(Arc::clone(name)).or_default();
                topic.push(id);
                stored.offset = topic.len() as u64;
            }
        }
        self.messages.insert(id, stored);
        Ok(Produced { id, duplicate: false })
    }

    fn subscribe(&mut self, session: u64, wish: Subscribe) -> Result<Answer, ClientError> {
        let (name, kind) = destination::parse(&wish.destination)?;
        let end = self.topics.get(name).map_or(0, Vec::len) as u64 + 1;
        let next_offset = match wish.start {
            _ if kind.is_queue() => 0,
            StartAt::Unread | StartAt::Latest => end,
            StartAt::Earliest => 1,
            StartAt::Offset(offset) => offset,
        };
        self.ready.entry(name.into()).or_default();
        let session = self.sessions.get_mut(&session).ok_or(Code::Internal)?;
        if session.subscriptions.contains_key(&wish.subscription) {
            return Err(Code::SubscriptionExists.into());
        }
        let number = wish.subscription;
        let subscription = Subscription { wish, in_flight: Vec::new(), next_offset };
        session.subscriptions.insert(number, subscription);
        Ok(Answer::Subscribed { next_offset })
    }

    /// Delivers what is ready within each subscription's credit.
    fn deliver(&mut self) {
        let mut sessions = std::mem::take(&mut self.sessions);
        for session in sessions.values_mut() {
            let mut batch = Vec::new();
            for (&number, subscription) in &mut session.subscriptions {
                let Ok((name, kind)) = destination::parse(&subscription.wish.destination) else {
                    continue;
                };
                while subscription.in_flight.len() < subscription.wish.credit as usize {
                    let next = if kind.is_queue() {
                        let ready = |id: &MessageId| self.messages[id].state == State::Ready;
                        self.ready
                            .get_mut(name)
                            .and_then(|queue| std::iter::from_fn(|| queue.pop_front()).find(ready))
                    } else {
                        let at = subscription.next_offset as usize - 1;
                        let next = self.topics.get(name).and_then(|topic| topic.get(at)).copied();
                        subscription.next_offset += u64::from(next.is_some());
                        next
                    };
                    let Some(id) = next else { break };
                    subscription.in_flight.push(id);
                    if let Some(message) = self.messages.get_mut(&id) {
                        message.state = State::InFlight;
                        message.attempts += 1;
                    }
                    batch.push(Outgoing::Deliver(self.delivery(id, number)));
                }
            }
            if !batch.is_empty() {
                session.outbox.push(batch);
            }
        }
        self.sessions = sessions;
    }

    fn delivery(&self, id: MessageId, subscription: u32) -> Delivery {
        let message = &self.messages[&id];
        Delivery {
            subscription,
            by_pattern: false,
            destination: message.destination.clone(),
            id,
            due_ms: message.due_ms,
            attempt: message.attempts,
            offset: message.offset,
            priority: message.priority,
            content: Arc::clone(&message.content),
        }
    }

    fn give_back(&mut self, ids: Vec<MessageId>) {
        for id in ids.into_iter().rev() {
            let Some(message) = self.messages.get_mut(&id) else { continue };
            message.state = State::Ready;
            if message.offset == 0 {
                let name = Arc::clone(&message.destination);
                self.ready.entry(name).or_default().push_front(id);
            }
        }
    }

    fn release(&mut self, session: u64, subscription: u32, ids: &[MessageId]) {
        if let Some(session) = self.sessions.get_mut(&session)
            && let Some(subscription) = session.subscriptions.get_mut(&subscription)
        {
            subscription.in_flight.retain(|id| !ids.contains(id));
        }
    }

    fn finish(&mut self, ids: &[MessageId], from: State, to: State) -> Answer {
        let verdict = |&id: &MessageId| {
            let Some(message) = self.messages.get_mut(&id) else {
                return Verdict { id, done: false, state: State::Unknown, due_ms: 0 };
            };
            // A late acknowledgement counts: the message is ready again, and not handed out yet.
            let late =
                message.state == State::Ready && matches!(to, State::Ready | State::Acknowledged);
            let done = message.state == from || late;
            if done {
                message.state = to;
            }
            Verdict { id, done, state: message.state, due_ms: message.due_ms }
        };
        Answer::Verdicts(ids.iter().map(verdict).collect())
    }

    fn status(&self, id: MessageId) -> Status {
        match self.messages.get(&id) {
            Some(message) => Status {
                id,
                state: message.state,
                destination: Arc::clone(&message.destination),
                due_ms: message.due_ms,
                attempts: message.attempts,
                recurring: false,
            },
            None => Status {
                id,
                state: State::Unknown,
                destination: "".into(),
                due_ms: 0,
                attempts: 0,
                recurring: false,
            },
        }
    }

    /// Drops messages of a queue.
    fn purge(&mut self, name: &[u8], scheduled: bool) -> Result<Purged, ClientError> {
        let (name, _) = destination::parse(name)?;
        self.ready.get_mut(name).ok_or(Code::DestinationNotFound)?.clear();
        let mut purged = Purged::default();
        self.messages.retain(|_, message| {
            let dropped = match message.state {
                _ if &*message.destination != name => return true,
                State::Ready => &mut purged.ready,
                State::Scheduled if scheduled => &mut purged.scheduled,
                _ => return true,
            };
            *dropped += 1;
            false
        });
        Ok(purged)
    }

    fn info(&self, name: &str) -> DestinationInfo {
        let control = self.controls.get(name).copied().unwrap_or_default();
        let count = |state| {
            let here = self.messages.values().filter(|m| &*m.destination == name);
            here.filter(|m| m.state == state).count() as u64
        };
        DestinationInfo {
            name: name.into(),
            kind: destination::parse(name.as_bytes()).map_or(Kind::Queue, |(_, kind)| kind),
            scheduled: count(State::Scheduled),
            ready: count(State::Ready),
            in_flight: count(State::InFlight),
            consumers: 0,
            next_offset: 0,
            unread: 0,
            paused: control.paused,
            max_messages: control.max_messages,
            max_age_ms: control.max_age_ms,
        }
    }

    fn delete(&mut self, name: &str) {
        self.ready.remove(name);
        self.topics.remove(name);
        for session in self.sessions.values_mut() {
            session.subscriptions.retain(|&subscription, held| {
                let keep = held.wish.destination != name.as_bytes();
                if !keep {
                    let reason = Code::DestinationNotFound.into();
                    session.outbox.push(vec![Outgoing::Ended { subscription, reason }]);
                }
                keep
            });
        }
    }
}
