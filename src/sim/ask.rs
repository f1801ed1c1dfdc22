//! What simulated clients ask for. Whatever is asked may have happened from then on; the answer says
//! whether it did.

use bytes::Bytes;

use crate::base::command::{Command, StartAt, Subscribe};
use crate::base::id::MessageId;
use crate::base::message::{Delay, Message as Content, MessageBatch};
use crate::sim::model::{Due, Message, Reader, Sure};
use crate::sim::swarm::Op;
use crate::sim::transact::AskedPart;
use crate::sim::world::{Client, DESTINATIONS, INBOX, PATTERN, Sub, TOPICS, World, Wrong};

const DURABLES: [&str; 2] = ["one", "two"];

/// A request without its answer yet.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    /// Messages by number, each with its dedup id.
    Produce(Vec<(u64, Option<u64>)>),
    Cancel(Vec<u64>),
    Reschedule(u64, Due),
    Query(Vec<u64>),
    List,
    Fetch(usize),
    /// Subscription and messages; and whether all before are meant.
    Acknowledge(u32, Vec<u64>),
    Reject(Vec<u64>),
    Subscribe(Sub),
    Unsubscribe(u32),
    /// Messages that are gone for certain once it is done.
    Purge(Vec<u64>),
    Delete(Vec<u64>),
    /// A recurring schedule by number.
    Schedule(u64),
    EndSchedule(u64),
    MoveSchedule(u64),
    /// A copy of one, acknowledged.
    Copy(MessageId),
    /// A transaction by number, and its parts.
    Transaction(u64, Vec<AskedPart>),
    Other,
}

impl World {
    /// Lets a client do something of this kind, if it can.
    pub(super) fn ask_something(&mut self, op: Op) -> Result<(), Wrong> {
        if self.clients.is_empty() {
            self.connect();
        }
        if self.clients.is_empty() {
            return Ok(());
        }
        let client = self.content.below(self.clients.len() as u64) as usize;
        let destination = self.content.below(DESTINATIONS.len() as u64) as usize;
        match op {
            Op::Produce => self.produce(client, destination, 1, None),
            Op::ProduceMany => {
                let count = 2 + self.content.below(30);
                self.produce(client, destination, count, None);
            }
            Op::Repeat => {
                let known: Vec<_> = self.dedups.keys().copied().collect();
                if !known.is_empty() {
                    let (destination, dedup) = *self.content.pick(&known);
                    self.produce(client, destination, 1, Some(dedup));
                }
            }
            Op::Schedule => self.schedule_something(client),
            Op::Transact => self.transact(client),
            Op::Cancel => self.cancel(client),
            Op::Reschedule => self.reschedule(client),
            Op::Query => {
                let numbers = self.some_messages(5);
                if !numbers.is_empty() {
                    let ids = self.about(&numbers);
                    self.submit(client, Asked::Query(numbers), Command::Query { ids });
                }
            }
            Op::List => {
                let (from_ms, to_ms) = (0, u64::MAX);
                let list = Command::List {
                    destination: Bytes::new(),
                    from_ms,
                    to_ms,
                    limit: 1_000,
                    after: None,
                };
                self.submit(client, Asked::List, list);
            }
            Op::Fetch => {
                let destination = 2 + self.content.below(3) as usize;
                let name = name(destination);
                let offset = 1 + self.content.below(20);
                let fetch = Command::Fetch { destination: name, offset, limit: 50 };
                self.submit(client, Asked::Fetch(destination), fetch);
            }
            Op::Acknowledge | Op::AcknowledgeUpTo => {
                self.acknowledge(client, op == Op::AcknowledgeUpTo);
            }
            Op::Reject => self.reject(client),
            Op::Subscribe => self.subscribe(client, destination, false),
            Op::Unsubscribe => self.unsubscribe(client),
            Op::Purge => self.purge(client, destination),
            Op::Pause => {
                let paused = self.content.coin();
                let pause = Command::PauseDestination { name: name(destination), paused };
                self.submit(client, Asked::Other, pause);
            }
            Op::Limit => {
                let max_messages = Some(*self.content.pick(&[0, 0, 10, 1_000]));
                let max_age_ms = Some(*self.content.pick(&[0, 0, 60_000]));
                self.limited[destination] |= max_age_ms != Some(0);
                if max_messages != Some(0) || max_age_ms != Some(0) {
                    self.schedules.touch(destination);
                }
                let name = name(destination);
                let limit = Command::LimitDestination { name, max_messages, max_age_ms };
                self.submit(client, Asked::Other, limit);
            }
            Op::Delete => self.delete(client, destination),
            other => return Err(format!("{other:?} is nothing to ask")),
        }
        Ok(())
    }

    fn produce(&mut self, client: usize, destination: usize, count: u64, repeated: Option<u64>) {
        let fancy = self.swarm.fancy_percent;
        let (mut bytes, mut sent) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let number = self.next_message;
            self.next_message += 1;
            let mut body = number.to_be_bytes().to_vec();
            body.resize(8 + self.content.below(self.swarm.body_max) as usize, b'x');
            let (delay, due) = self.some_delay();
            let priority =
                if self.content.percent(fancy) { self.content.below(10) as u8 } else { 4 };
            let mut message = Content::new(body).with_delay(delay).with_priority(priority);
            let mut expires_ms = None;
            if self.content.percent(fancy / 4) {
                let ttl = 1 + self.content.below(100_000);
                message = message.with_expiry(ttl);
                expires_ms = Some(self.times.elapsed_ms + ttl);
            }
            let dedup = match repeated {
                None if self.content.percent(fancy / 2) => Some(number),
                repeated => repeated,
            };
            if let Some(dedup) = dedup {
                message = message.with_dedup(dedup.to_be_bytes());
                let used = self.dedups.entry((destination, dedup)).or_default();
                used.push((number, self.times.elapsed_ms));
            }
            // Sizes and names are within their bounds.
            let _ = message.encode(&mut bytes);
            let plain = matches!(delay, Delay::After(ms) if ms > 0);
            self.model.messages.insert(
                number,
                Message {
                    destination,
                    queue: DESTINATIONS[destination].1,
                    accepted: Sure::Maybe,
                    id: None,
                    dues: vec![due],
                    cancelled: Sure::No,
                    acknowledged: Sure::No,
                    gone: Sure::No,
                    expires_ms,
                    plain,
                    priority,
                    deliveries: 0,
                    last: (0, 0),
                    lease: None,
                    condemned: false,
                    asked: 1,
                    group: None,
                },
            );
            sent.push((number, dedup));
        }
        if let Ok(batch) = MessageBatch::parse(bytes.into(), count as usize) {
            let produce = Command::Produce { destination: name(destination), batch };
            self.submit(client, Asked::Produce(sent), produce);
        }
    }

    /// A delay, and what it means outside.
    pub(super) fn some_delay(&mut self) -> (Delay, Due) {
        let elapsed = self.times.elapsed_ms;
        let ms = self.content.below(self.swarm.delay_max_ms);
        if self.content.percent(self.swarm.fancy_percent / 3) {
            let at = self.wall_ms() + ms;
            return (Delay::At(at.cast_signed()), Due::At(at));
        }
        match self.content.below(5) {
            0 => (Delay::None, Due::After(elapsed)),
            1 => (Delay::Level(1), Due::After(elapsed + 1_000)),
            // Many at the same time.
            2 => {
                let ms = ms / 1_000 * 1_000;
                (Delay::After(ms.cast_signed()), Due::After(elapsed + ms))
            }
            _ => (Delay::After(ms.cast_signed()), Due::After(elapsed + ms)),
        }
    }

    /// Some messages with an id, the younger the likelier.
    fn some_messages(&mut self, most: u64) -> Vec<u64> {
        let window = *self.content.pick(&[5, 50, 100_000]);
        let known = self.model.messages.iter().rev().take(window);
        let known: Vec<u64> =
            known.filter(|(_, message)| message.id.is_some()).map(|(number, _)| *number).collect();
        if known.is_empty() {
            return known;
        }
        let mut picked: Vec<u64> =
            (0..=self.content.below(most)).map(|_| *self.content.pick(&known)).collect();
        picked.sort_unstable();
        picked.dedup();
        picked
    }

    /// Their ids; they are asked about from now on.
    fn about(&mut self, numbers: &[u64]) -> Vec<MessageId> {
        let mut ids = Vec::new();
        for number in numbers {
            if let Some(message) = self.model.messages.get_mut(number) {
                message.asked += 1;
                ids.extend(message.id);
            }
        }
        ids
    }

    fn cancel(&mut self, client: usize) {
        let numbers = self.some_messages(10);
        if numbers.is_empty() {
            return;
        }
        let ids = self.about(&numbers);
        for number in &numbers {
            if let Some(message) = self.model.messages.get_mut(number) {
                message.cancelled = message.cancelled.max(Sure::Maybe);
            }
        }
        self.submit(client, Asked::Cancel(numbers), Command::Cancel { ids });
    }

    fn reschedule(&mut self, client: usize) {
        let Some(number) = self.some_messages(1).first().copied() else { return };
        let (delay, due) = self.some_delay();
        let ids = self.about(&[number]);
        let Some(message) = self.model.messages.get_mut(&number) else { return };
        message.dues.push(due);
        message.plain = false;
        let items = ids.into_iter().map(|id| (id, delay)).collect();
        self.submit(client, Asked::Reschedule(number, due), Command::Reschedule { items });
    }

    fn acknowledge(&mut self, client: usize, cumulative: bool) {
        let own = &self.clients[client];
        if own.unacked.is_empty() || own.stalled.load(std::sync::atomic::Ordering::Relaxed) {
            return;
        }
        let (subscription, _) = *self.content.pick(&own.unacked);
        let mine = own.unacked.iter().filter(|(sub, _)| *sub == subscription);
        let mine: Vec<u64> = mine.map(|(_, number)| *number).collect();
        let numbers: Vec<u64> = if cumulative {
            vec![*self.content.pick(&mine)]
        } else {
            let count = 1 + self.content.below(20) as usize;
            mine.iter().copied().take(count).collect()
        };
        self.acknowledge_these(client, subscription, &numbers, cumulative);
    }

    pub(super) fn acknowledge_these(
        &mut self,
        client: usize,
        subscription: u32,
        numbers: &[u64],
        cumulative: bool,
    ) {
        let ids = self.take_for_acknowledge(client, subscription, numbers, cumulative);
        let command = Command::Acknowledge { subscription, ids, cumulative };
        self.submit(client, Asked::Acknowledge(subscription, numbers.to_vec()), command);
    }

    /// Ids of messages that a client is about to acknowledge. They may be acknowledged from now on.
    pub(super) fn take_for_acknowledge(
        &mut self,
        client: usize,
        subscription: u32,
        numbers: &[u64],
        cumulative: bool,
    ) -> Vec<MessageId> {
        let ids = self.about(numbers);
        let touched: Vec<u64> = if cumulative {
            // On a topic also what it had rejected before.
            let Client { unacked, got, .. } = &self.clients[client];
            let mine = unacked.iter().chain(got).filter(|(sub, _)| *sub == subscription);
            mine.map(|(_, number)| *number).collect()
        } else {
            numbers.to_vec()
        };
        let reader = self.reader(client, subscription);
        for number in touched {
            let Some(message) = self.model.messages.get_mut(&number) else { continue };
            message.lease = None;
            if message.destination == INBOX {
                self.user_read.insert(number);
            }
            if message.queue {
                message.acknowledged = message.acknowledged.max(Sure::Maybe);
            } else if let Some(reader) = &reader {
                self.model.read.entry((reader.clone(), number)).or_insert(Sure::Maybe);
                self.model.out.remove(&(reader.clone(), number));
            }
        }
        let gone = |(sub, number): &(u32, u64)| {
            *sub == subscription && (cumulative || numbers.contains(number))
        };
        self.clients[client].unacked.retain(|own| !gone(own));
        ids
    }

    fn reject(&mut self, client: usize) {
        let own = &self.clients[client];
        if own.unacked.is_empty() {
            return;
        }
        let (subscription, number) = *self.content.pick(&own.unacked);
        let requeue = self.content.percent(80);
        let ids = self.about(&[number]);
        if let Some(message) = self.model.messages.get_mut(&number) {
            message.lease = None;
            message.condemned |= !requeue;
        }
        if let Some(reader) = self.reader(client, subscription) {
            self.model.out.remove(&(reader, number));
        }
        self.clients[client].unacked.retain(|own| *own != (subscription, number));
        let command = Command::Reject { subscription, ids, requeue };
        self.submit(client, Asked::Reject(vec![number]), command);
    }

    /// Subscribes to a destination, or to its dead letters.
    pub(super) fn subscribe(&mut self, client: usize, destination: usize, everything: bool) {
        let queue = DESTINATIONS[destination].1;
        let dead = !everything && queue && self.content.percent(10);
        let durable =
            (!everything && !queue && self.content.coin()).then(|| *self.content.pick(&DURABLES));
        let credit = if everything { 10_000 } else { *self.content.pick(&[1, 5, 100]) };
        let ack_timeout_ms =
            if everything { 3_600_000 } else { *self.content.pick(&[0, 1_000, 30_000]) };
        let sub = Sub {
            number: self.clients[client].next_sub,
            destination,
            dead,
            durable,
            shared: durable.is_some() && destination != INBOX && self.content.coin(),
            pattern: durable.is_none() && TOPICS.contains(&destination) && self.content.percent(40),
            ack_timeout_ms: match ack_timeout_ms {
                0 => self.swarm.config.ack_timeout_ms,
                ms => ms,
            },
        };
        let starts = [StartAt::Earliest, StartAt::Latest, StartAt::Offset(3), StartAt::Unread];
        let start = *self.content.pick(&starts);
        if (destination, durable, start) == (INBOX, None, StartAt::Unread) {
            // What the user has acknowledged does not come to a later session.
            let reader = Reader::Of(self.clients[client].number, sub.number);
            let read = self.user_read_surely.iter().map(|own| ((reader.clone(), *own), Sure::Yes));
            self.model.read.extend(read);
        }
        self.subscribe_as(client, sub, credit, start);
    }

    pub(super) fn subscribe_as(&mut self, client: usize, sub: Sub, credit: u32, start: StartAt) {
        let own = &mut self.clients[client];
        own.next_sub += 1;
        own.subs.push(sub.clone());
        let text = DESTINATIONS[sub.destination].0;
        let destination = match &sub {
            Sub { dead: true, .. } => format!("/dlq{text}"),
            Sub { pattern: true, .. } => PATTERN.into(),
            _ => text.into(),
        };
        let wish = Subscribe {
            subscription: sub.number,
            destination: destination.into(),
            credit,
            ack_timeout_ms: sub.ack_timeout_ms,
            durable: Bytes::from(sub.durable.unwrap_or_default()),
            start,
            shared: sub.shared,
        };
        self.submit(client, Asked::Subscribe(sub), Command::Subscribe(wish));
    }

    fn unsubscribe(&mut self, client: usize) {
        let own = &mut self.clients[client];
        if own.subs.is_empty() {
            return;
        }
        let sub = self.content.pick(&own.subs).clone();
        let delete = sub.durable.is_some() && self.content.percent(20);
        if delete && let Some(name) = sub.durable {
            // Its readings begin anew, or may.
            self.durables.remove(&(sub.destination, name));
            let reader = Reader::Durable(sub.destination, name);
            self.model.read.retain(|(own, _), _| *own != reader);
            self.model.out.retain(|(own, _), _| *own != reader);
        }
        let session = own.number;
        own.unacked.retain(|(number, _)| *number != sub.number);
        self.model.end_leases(|lease| lease.session == session && lease.subscription == sub.number);
        let command = Command::Unsubscribe { subscription: sub.number, delete };
        self.submit(client, Asked::Unsubscribe(sub.number), command);
    }

    fn purge(&mut self, client: usize, destination: usize) {
        let scheduled = self.content.coin();
        self.schedules.touch(destination);
        let now = self.times;
        let mut sure = Vec::new();
        for (number, message) in &mut self.model.messages {
            // What is far off is spared by a purge of what is ready.
            let spared = !scheduled && message.is_far(now);
            if message.destination != destination || message.gone == Sure::Yes || spared {
                continue;
            }
            message.gone = Sure::Maybe;
            let settled = message.accepted == Sure::Yes && message.asked == 0;
            if scheduled && settled && message.deliveries == 0 {
                sure.push(*number);
            }
        }
        let command = Command::PurgeDestination { name: name(destination), scheduled };
        self.submit(client, Asked::Purge(sure), command);
    }

    fn delete(&mut self, client: usize, destination: usize) {
        self.schedules.touch(destination);
        let mut sure = Vec::new();
        for (number, message) in &mut self.model.messages {
            if message.destination == destination && message.gone != Sure::Yes {
                message.gone = Sure::Maybe;
                // What was delivered may be among the dead letters.
                let settled = message.accepted == Sure::Yes && message.asked == 0;
                if settled && message.deliveries == 0 {
                    sure.push(*number);
                }
            }
        }
        self.dedups.retain(|(own, _), _| *own != destination);
        self.durables.retain(|(own, _), _| *own != destination);
        if destination == INBOX {
            self.user_read_surely.clear();
        }
        self.model.forget_destination(destination);
        let command = Command::DeleteDestination { name: name(destination) };
        self.submit(client, Asked::Delete(sure), command);
    }
}

pub(super) fn name(destination: usize) -> Bytes {
    Bytes::from_static(DESTINATIONS[destination].0.as_bytes())
}
