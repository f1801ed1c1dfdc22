//! Random walks: after each run replay equals live, and the promises hold against a plain record
//! of what was acknowledged to whom. At the end nothing that should have been delivered is left.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::invariants;
use super::looks;
use super::rig::{A, B, Rig, START, ack, produce, subscribe_for};
use crate::base::command::{Answer, Command, Delivery, Produced, StartAt, Subscribe};
use crate::base::config::ShardConfig;
use crate::base::error::Code;
use crate::base::id::{MessageId, SessionId};
use crate::base::lifecycle::State;
use crate::base::limits;
use crate::base::message::{Delay, Message};
use crate::base::time::{DELAY_MAX_MS, Now};

#[derive(Debug, Clone)]
enum Op {
    Publish {
        to: usize,
        delay: Delay,
        priority: u8,
        expiry: Option<u64>,
        dedup: Option<u8>,
    },
    /// Some at once, of several priorities.
    Burst {
        to: usize,
        delay: Delay,
        count: u8,
    },
    Cancel(usize),
    Reschedule(usize, Delay),
    /// To the due time it has.
    RescheduleToSame(usize),
    Ack(usize),
    Reject(usize, bool),
    /// Acknowledge or reject something delivered, through the subscription that got it.
    AckDelivered {
        at: usize,
        cumulative: bool,
    },
    RejectDelivered(usize),
    Subscribe {
        session: bool,
        to: usize,
        credit: u32,
        patient: bool,
        start: StartAt,
    },
    Durable {
        session: bool,
        topic: usize,
        name: usize,
        credit: u32,
        start: StartAt,
        shared: bool,
    },
    /// To all topics, of which there is one.
    Pattern {
        session: bool,
        credit: u32,
        start: StartAt,
    },
    Unsubscribe {
        at: usize,
        delete: bool,
    },
    Vanish(bool),
    Pass {
        mono: u64,
        wall: i64,
    },
    Limit(Option<usize>),
    Delete(usize),
    Purge(usize, bool),
    Pause(usize, bool),
    Restrict(usize, Option<u64>, Option<u64>),
    Freeze,
    Switch,
    /// Lists, fetches and describes all there is.
    Look,
    Restart(u64),
}

const NAMES: [&str; 6] =
    ["/queue/a", "/queue/b", "/topic/t", "/dlq/queue/a", "/user/u/queue/i", "/temp-queue/r"];
const TOPICS: [&str; 2] = [NAMES[2], INBOX];
const INBOX: &str = NAMES[4];
/// Where it stands among the names.
const TEMPORARY: usize = 5;
const DURABLES: [&str; 2] = ["d", "e"];

fn is_topic(name: &str) -> bool {
    TOPICS.contains(&name)
}

fn delay() -> impl Strategy<Value = Delay> {
    prop_oneof![
        Just(Delay::None),
        (0i64..3_000).prop_map(Delay::After),
        (0i64..10_000_000).prop_map(Delay::After),
        (-2_000i64..5_000).prop_map(|ms| Delay::At(START as i64 + ms)),
        (1i64..4).prop_map(Delay::Level),
    ]
}

fn start() -> impl Strategy<Value = StartAt> {
    prop_oneof![
        2 => Just(StartAt::Earliest),
        2 => Just(StartAt::Unread),
        1 => Just(StartAt::Latest),
        1 => (0u64..20).prop_map(StartAt::Offset),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0usize..6, delay(), 0u8..10, proptest::option::weighted(0.1, 0u64..2_000),
              proptest::option::weighted(0.2, 0u8..4))
            .prop_map(|(to, delay, priority, expiry, dedup)| Op::Publish { to, delay, priority, expiry, dedup }),
        2 => (0usize..6, delay(), 1u8..8)
            .prop_map(|(to, delay, count)| Op::Burst { to, delay, count }),
        2 => (0usize..100).prop_map(Op::Cancel),
        1 => (0usize..100).prop_map(Op::RescheduleToSame),
        2 => (0usize..100, delay()).prop_map(|(at, delay)| Op::Reschedule(at, delay)),
        2 => (0usize..100).prop_map(Op::Ack),
        1 => (0usize..100, any::<bool>()).prop_map(|(at, requeue)| Op::Reject(at, requeue)),
        4 => (0usize..100, any::<bool>())
            .prop_map(|(at, cumulative)| Op::AckDelivered { at, cumulative }),
        1 => (0usize..100).prop_map(Op::RejectDelivered),
        2 => (any::<bool>(), 0usize..6, 1u32..5, any::<bool>(), start())
            .prop_map(|(session, to, credit, patient, start)| Op::Subscribe { session, to, credit, patient, start }),
        3 => (any::<bool>(), 0usize..2, 0usize..2, 1u32..5, start(), any::<bool>())
            .prop_map(|(session, topic, name, credit, start, shared)| {
                Op::Durable { session, topic, name, credit, start, shared }
            }),
        2 => (any::<bool>(), 1u32..5, start())
            .prop_map(|(session, credit, start)| Op::Pattern { session, credit, start }),
        1 => (0usize..100, proptest::bool::weighted(0.3))
            .prop_map(|(at, delete)| Op::Unsubscribe { at, delete }),
        1 => any::<bool>().prop_map(Op::Vanish),
        5 => (prop_oneof![
                4 => 0u64..5, 4 => 0u64..1_500, 4 => 0u64..4_000_000, 1 => Just(limits::DEDUP_WINDOW_MS / 2)
            ], -1_500i64..1_500)
            .prop_map(|(mono, wall)| Op::Pass { mono, wall }),
        1 => proptest::option::of(1usize..4).prop_map(Op::Limit),
        1 => (0usize..6).prop_map(Op::Delete),
        3 => (0usize..6, any::<bool>()).prop_map(|(of, scheduled)| Op::Purge(of, scheduled)),
        1 => (0usize..6, proptest::bool::weighted(0.4)).prop_map(|(of, on)| Op::Pause(of, on)),
        1 => (0usize..6, proptest::option::of(0u64..12), proptest::option::of(0u64..3_000))
            .prop_map(|(of, messages, age)| Op::Restrict(of, messages, age)),
        3 => Just(Op::Freeze),
        3 => Just(Op::Switch),
        1 => Just(Op::Look),
        1 => (0u64..5_000).prop_map(Op::Restart),
    ]
}

/// Who acknowledges on a topic: a durable subscription by name, or one subscription of a session; and which
/// topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Reader {
    Durable(&'static str, &'static str),
    Ephemeral(SessionId, u32, &'static str),
}

impl Reader {
    fn topic(&self) -> &'static str {
        match self {
            Self::Durable(_, topic) | Self::Ephemeral(_, _, topic) => topic,
        }
    }
}

/// What a careful outsider wrote down.
#[derive(Default)]
struct Ledger {
    /// Due time and the clock it is on, as last acknowledged; `None` when cancelled or finished.
    due: BTreeMap<MessageId, Option<(u64, bool)>>,
    /// Its clock has shown its due time at some step; where the clock goes then is no matter.
    reached: BTreeSet<MessageId>,
    /// The subscriptions there are: what they read on the topic, `None` for queues.
    subscriptions: BTreeMap<(SessionId, u32), Option<Reader>>,
    /// Offsets acknowledged.
    acknowledged: BTreeSet<(Reader, u64)>,
    /// Those of the inbox, by whatever reader.
    read: BTreeSet<u64>,
    /// Subscriptions that are shared: what all of them were delivered before says nothing of one.
    shared: BTreeSet<(SessionId, u32)>,
    /// Durable subscriptions there are.
    durables: BTreeSet<Reader>,
    /// The attempt of the last delivery, in this run.
    attempts: BTreeMap<(Option<Reader>, MessageId), u32>,
    /// Everything delivered in this run, in order.
    delivered: Vec<(SessionId, Delivery)>,
    /// What each dedup id stands for, and until when, by the destination it was used with.
    dedups: BTreeMap<(usize, u8), (MessageId, u64)>,
    /// The lanes of queue messages that were due when published: where to, and which priority.
    lanes: BTreeMap<MessageId, (usize, u8)>,
    /// The last of each lane that went out for the first time.
    lane_ends: BTreeMap<(usize, u8), u64>,
}

impl Ledger {
    fn forget_sessions(&mut self, which: impl Fn(SessionId) -> bool) {
        self.subscriptions.retain(|(session, _), _| !which(*session));
        self.delivered.retain(|(session, _)| !which(*session));
    }

    fn forget_reader(&mut self, gone: impl Fn(&Reader) -> bool) {
        self.acknowledged.retain(|(reader, _)| !gone(reader));
        self.attempts.retain(|(reader, _), _| reader.as_ref().is_none_or(|r| !gone(r)));
        self.durables.retain(|reader| !gone(reader));
    }
}

/// A rig, the ledger beside it, and what the walk is doing.
struct Walk {
    rig: Rig,
    ledger: Ledger,
    ids: Vec<MessageId>,
    next_number: u32,
    limit: Option<usize>,
}

fn session(first: bool) -> SessionId {
    if first { A } else { B }
}

impl Walk {
    fn new() -> Self {
        let config = ShardConfig { max_failures: 3, topic_messages: 8, ..ShardConfig::default() };
        Self {
            rig: Rig::with(config),
            ledger: Ledger::default(),
            ids: Vec::new(),
            next_number: 1,
            limit: None,
        }
    }

    fn ask_as(&mut self, session: SessionId, command: Command) -> Answer {
        let limit = self.limit.unwrap_or(1_000_000);
        self.rig.step_limited(vec![(session, command)], limit).remove(0)
    }

    fn ask(&mut self, command: Command) -> Answer {
        self.ask_as(A, command)
    }

    fn done(&mut self, command: Command) -> bool {
        match self.ask(command) {
            Answer::Verdicts(verdicts) => verdicts[0].done,
            Answer::Failed(_) => false,
            other => panic!("{other:?}"),
        }
    }

    fn id(&self, at: usize) -> Option<MessageId> {
        self.ids.get(at % self.ids.len().max(1)).copied()
    }

    fn delivered(&self, at: usize) -> Option<(SessionId, Delivery)> {
        let all = &self.ledger.delivered;
        all.get(at % all.len().max(1)).cloned()
    }

    fn act(&mut self, op: Op) {
        match op {
            Op::Publish { to, delay, priority, expiry, dedup } => {
                let mut message = Message::new("x").with_delay(delay).with_priority(priority);
                message.expires_after_ms = expiry;
                message.dedup = dedup.map(|d| vec![d]).unwrap_or_default();
                self.publish(to, dedup, &[message]);
            }
            Op::Burst { to, delay, count } => {
                let one = |n| Message::new("y").with_delay(delay).with_priority(n % 3 * 4);
                let all: Vec<_> = (0..count).map(one).collect();
                self.publish(to, None, &all);
            }
            Op::Cancel(at) => {
                let Some(id) = self.id(at) else { return };
                if self.done(Command::Cancel { ids: vec![id] }) {
                    self.ledger.due.insert(id, None);
                }
            }
            Op::Reschedule(at, delay) => {
                let Some(id) = self.id(at) else { return };
                self.reschedule(id, delay);
            }
            Op::RescheduleToSame(at) => {
                let Some(id) = self.id(at) else { return };
                let now = self.rig.now;
                match self.ledger.due.get(&id) {
                    Some(Some((due, true))) => self.reschedule(id, Delay::At(*due as i64)),
                    Some(Some((due, false))) if *due > now.mono_ms => {
                        self.reschedule(id, Delay::After((due - now.mono_ms) as i64));
                    }
                    _ => {}
                }
            }
            Op::Ack(at) => {
                let Some(id) = self.id(at) else { return };
                if self.done(ack(0, &[id])) {
                    self.ledger.due.insert(id, None);
                }
            }
            Op::Reject(at, requeue) => {
                let Some(id) = self.id(at) else { return };
                self.ask(Command::Reject { subscription: 0, ids: vec![id], requeue });
            }
            Op::AckDelivered { at, cumulative } => self.ack_delivered(at, cumulative),
            Op::RejectDelivered(at) => {
                let Some((session, delivery)) = self.delivered(at) else { return };
                let (subscription, ids) = (delivery.subscription, vec![delivery.id]);
                self.ask_as(session, Command::Reject { subscription, ids, requeue: true });
            }
            Op::Subscribe { session: first, to, credit, patient, start } => {
                let number = self.take_number();
                let timeout = if patient { 12 * 3_600_000 } else { 1_000 };
                let wish = subscribe_for(number, NAMES[to], credit, timeout);
                let Command::Subscribe(wish) = wish else { unreachable!() };
                let session = session(first);
                let reader =
                    is_topic(NAMES[to]).then_some(Reader::Ephemeral(session, number, NAMES[to]));
                self.subscribe(session, Subscribe { start, ..wish }, reader);
            }
            Op::Durable { session: first, topic, name, credit, start, shared } => {
                let number = self.take_number();
                let wish = subscribe_for(number, TOPICS[topic], credit, 1_000);
                let Command::Subscribe(wish) = wish else { unreachable!() };
                let durable = Bytes::from_static(DURABLES[name].as_bytes());
                let reader = Some(Reader::Durable(DURABLES[name], TOPICS[topic]));
                let wish = Subscribe { start, durable, shared, ..wish };
                self.subscribe(session(first), wish, reader);
            }
            Op::Pattern { session: first, credit, start } => {
                let number = self.take_number();
                let wish = subscribe_for(number, "/topic/*", credit, 1_000);
                let Command::Subscribe(wish) = wish else { unreachable!() };
                let reader = Reader::Ephemeral(session(first), number, TOPICS[0]);
                self.subscribe(session(first), Subscribe { start, ..wish }, Some(reader));
            }
            Op::Unsubscribe { at, delete } => {
                let all = &self.ledger.subscriptions;
                let Some((&(session, subscription), reader)) =
                    all.iter().nth(at % all.len().max(1))
                else {
                    return;
                };
                let reader = reader.clone();
                let unsubscribe = Command::Unsubscribe { subscription, delete };
                if matches!(self.ask_as(session, unsubscribe), Answer::Failed(_)) {
                    // Others share it.
                    return;
                }
                self.ledger.subscriptions.remove(&(session, subscription));
                let ours = |(s, d): &(SessionId, Delivery)| (*s, d.subscription);
                self.ledger.delivered.retain(|d| ours(d) != (session, subscription));
                if delete && let Some(reader @ Reader::Durable(..)) = reader {
                    self.ledger.forget_reader(|other| *other == reader);
                }
            }
            Op::Vanish(first) => {
                let session = session(first);
                self.rig.vanish(session);
                self.ledger.forget_sessions(|other| other == session);
                self.note_temporary();
            }
            Op::Pass { mono, wall } => self.pass(mono, wall),
            Op::Limit(limit) => self.limit = limit,
            Op::Delete(which) => self.delete(which),
            Op::Purge(which, scheduled) => self.purge(which, scheduled),
            Op::Pause(which, paused) => {
                let name = Bytes::from_static(NAMES[which].as_bytes());
                self.ask(Command::PauseDestination { name, paused });
            }
            Op::Restrict(which, max_messages, max_age_ms) => {
                let name = Bytes::from_static(NAMES[which].as_bytes());
                self.ask(Command::LimitDestination { name, max_messages, max_age_ms });
            }
            Op::Freeze => self.rig.freeze(),
            Op::Switch => self.switch(),
            Op::Look => self.look(),
            Op::Restart(ms) => {
                self.ledger.forget_sessions(|_| true);
                self.ledger.attempts.values_mut().for_each(|attempt| *attempt = 1);
                self.rig.restart(ms);
                self.note_temporary();
            }
        }
    }

    fn publish(&mut self, to: usize, dedup: Option<u8>, messages: &[Message]) {
        let now = self.rig.now;
        let results = match self.ask(produce(NAMES[to], messages)) {
            Answer::Produced(results) => results,
            // Nobody has one, and sending makes none.
            Answer::Failed(error) if to == TEMPORARY => {
                return assert_eq!(error.code, Code::DestinationNotFound);
            }
            other => panic!("{other:?}"),
        };
        for (message, result) in messages.iter().zip(&results) {
            let produced = match result {
                Ok(produced) => *produced,
                Err(error) => {
                    assert_eq!(error.code, Code::DestinationFull);
                    continue;
                }
            };
            self.check_dedup(to, dedup, produced);
            if !produced.duplicate {
                self.ledger.due.insert(produced.id, Some(due(now, message.delay)));
                if message.delay == Delay::None && !is_topic(NAMES[to]) {
                    self.ledger.lanes.insert(produced.id, (to, message.priority));
                }
                self.ids.push(produced.id);
            }
        }
    }

    fn reschedule(&mut self, id: MessageId, delay: Delay) {
        // Decided before the step's deliveries, so known before they are judged.
        let before = self.ledger.due.insert(id, Some(due(self.rig.now, delay)));
        if !self.done(Command::Reschedule { items: vec![(id, delay)] }) {
            self.ledger.due.insert(id, before.flatten());
        }
    }

    fn ack_delivered(&mut self, at: usize, cumulative: bool) {
        let Some((session, delivery)) = self.delivered(at) else { return };
        let (subscription, ids) = (delivery.subscription, vec![delivery.id]);
        let reader = self.ledger.subscriptions[&(session, subscription)].clone();
        // Written down before the answer, because deliveries of the same step are judged by it.
        let before = self.ledger.acknowledged.clone();
        if let Some(reader) = reader.clone() {
            let all = cumulative && !self.ledger.shared.contains(&(session, subscription));
            let from = if all { 1 } else { delivery.offset };
            let all = (from..=delivery.offset).map(|offset| (reader.clone(), offset));
            self.ledger.acknowledged.extend(all);
        }
        let answer = self.ask_as(session, Command::Acknowledge { subscription, ids, cumulative });
        let Answer::Verdicts(verdicts) = answer else { panic!("{answer:?}") };
        if reader.is_none() && verdicts[0].done {
            self.ledger.due.insert(delivery.id, None);
        }
        if reader.is_some() && verdicts[0].state == State::Gone {
            self.ledger.acknowledged = before;
        } else if reader.is_some_and(|reader| reader.topic() == INBOX) {
            self.ledger.read.insert(delivery.offset);
        }
        let reader = self.ledger.subscriptions[&(session, subscription)].clone();
        if cumulative && reader.is_none() {
            // What else it took is known by asking; nothing of it may come again.
            for id in self.ids.clone() {
                if self.rig.state(id) == State::Acknowledged {
                    self.ledger.due.insert(id, None);
                }
            }
        }
    }

    fn take_number(&mut self) -> u32 {
        self.next_number += 1;
        self.next_number
    }

    fn subscribe(&mut self, session: SessionId, wish: Subscribe, reader: Option<Reader>) {
        let key = (session, wish.subscription);
        self.ledger.subscriptions.insert(key, reader.clone());
        if wish.shared {
            self.ledger.shared.insert(key);
        }
        // A new one that begins where the user is gets nothing that the user has acknowledged.
        if let Some(reader) = reader.filter(|reader| self.ledger.durables.insert(reader.clone()))
            && (reader.topic(), wish.start) == (INBOX, StartAt::Unread)
        {
            let read = self.ledger.read.iter().map(|offset| (reader.clone(), *offset));
            self.ledger.acknowledged.extend(read);
        }
        let made = |walk: &Self| walk.rig.engine.durables.len();
        let (before, durable) = (made(self), !wish.durable.is_empty());
        if matches!(self.ask_as(session, Command::Subscribe(wish)), Answer::Failed(_)) {
            let reader = self.ledger.subscriptions.remove(&key).flatten();
            if durable && made(self) == before && !self.is_there(reader.as_ref()) {
                self.ledger.forget_reader(|other| Some(other) == reader.as_ref());
            }
        }
    }

    fn pass(&mut self, mono: u64, wall: i64) {
        let mono_ms = self.rig.now.mono_ms + mono;
        let wall_ms = (self.rig.now.wall_ms + mono).saturating_add_signed(wall);
        let pace = self.rig.engine.pace();
        self.rig.now = self.rig.now.then(mono_ms, wall_ms, pace);
        self.rig.step_limited(vec![], self.limit.unwrap_or(1_000_000));
    }

    /// Whether the engine has this durable subscription.
    fn is_there(&self, reader: Option<&Reader>) -> bool {
        let Some(Reader::Durable(name, _)) = reader else { return false };
        self.rig.engine.durables.values().any(|durable| &*durable.name == *name)
    }

    /// What went with a temporary queue, if it is gone with its session.
    fn note_temporary(&mut self) {
        let name = Bytes::from_static(NAMES[TEMPORARY].as_bytes());
        let commands =
            [Command::DescribeDestination { name }, Command::Query { ids: self.ids.clone() }];
        let commands = commands.into_iter().map(|command| (A, command)).collect();
        let answers = self.rig.step_limited(commands, self.limit.unwrap_or(1_000_000));
        if matches!(answers[0], Answer::Failed(_)) {
            self.ledger.dedups.retain(|(to, _), _| *to != TEMPORARY);
            self.note_gone(&answers[1]);
        }
    }

    /// Goal: a dedup id answers the first id for its time, and never after it.
    fn check_dedup(&mut self, to: usize, dedup: Option<u8>, produced: Produced) {
        let Some(dedup) = dedup else { return assert!(!produced.duplicate) };
        let now = self.rig.now.mono_ms;
        let seen = self.ledger.dedups.get(&(to, dedup)).filter(|(_, until)| *until > now);
        match seen {
            Some((first, _)) => assert_eq!((produced.id, produced.duplicate), (*first, true)),
            None => {
                assert!(!produced.duplicate, "forgotten, and yet a duplicate");
                let until = now + limits::DEDUP_WINDOW_MS;
                self.ledger.dedups.insert((to, dedup), (produced.id, until));
            }
        }
    }

    fn delete(&mut self, which: usize) {
        self.ledger.dedups.retain(|(to, _), _| *to != which);
        let name = Bytes::from_static(NAMES[which].as_bytes());
        // In one step, so that nothing happens in between.
        let delete = vec![
            (A, Command::DeleteDestination { name }),
            (A, Command::Query { ids: self.ids.clone() }),
        ];
        let answers = self.rig.step_limited(delete, self.limit.unwrap_or(1_000_000));
        self.note_gone(&answers[1]);
        for key in std::mem::take(&mut self.rig.ended) {
            self.ledger.subscriptions.remove(&key);
        }
        let alive = &self.ledger.subscriptions;
        self.ledger.delivered.retain(|(s, d)| alive.contains_key(&(*s, d.subscription)));
        self.ledger.forget_reader(|reader| reader.topic() == NAMES[which]);
        if NAMES[which] == INBOX {
            self.ledger.read.clear();
        }
    }

    /// A dead letter that is written out keeps count of its failures, not of its attempts.
    fn switch(&mut self) {
        let mut dead = Vec::new();
        if let Answer::Statuses(statuses) = self.ask(Command::Query { ids: self.ids.clone() }) {
            dead.extend(statuses.iter().filter(|s| s.state == State::Dead).map(|s| (None, s.id)));
        }
        self.check_deliveries();
        self.rig.switch();
        for key in dead {
            self.ledger.attempts.entry(key).and_modify(|attempt| *attempt = 1);
        }
    }

    /// What it dropped is what was there, and nothing of it comes again. All in one step, so that
    /// nothing happens in between.
    fn purge(&mut self, which: usize, scheduled: bool) {
        let name = Bytes::from_static(NAMES[which].as_bytes());
        let commands = vec![
            Command::DescribeDestination { name: name.clone() },
            Command::PurgeDestination { name, scheduled },
            Command::Query { ids: self.ids.clone() },
        ];
        let commands = commands.into_iter().map(|command| (A, command)).collect();
        let answers = self.rig.step_limited(commands, self.limit.unwrap_or(1_000_000));
        if let Answer::Destination(info) = &answers[0] {
            let Answer::Purged(purged) = answers[1] else { panic!("{:?}", answers[1]) };
            assert_eq!(purged.ready, info.ready);
            assert_eq!(purged.scheduled, if scheduled { info.scheduled } else { 0 });
        }
        self.note_gone(&answers[2]);
    }

    /// What is gone does not come any more.
    fn note_gone(&mut self, answer: &Answer) {
        // Without ids it is refused.
        if let Answer::Statuses(statuses) = answer {
            let gone = statuses.iter().filter(|status| status.state == State::Gone);
            self.ledger.due.extend(gone.map(|status| (status.id, None)));
        }
    }

    fn look(&mut self) {
        let due = |id| self.ledger.due[&id].map(|(due_ms, _)| due_ms);
        looks::check(&mut self.rig, &self.ids, &NAMES, &TOPICS, due);
    }

    /// no_early_delivery, no_ghost, cancelled_stays_cancelled, acked_stays_acked,
    /// redeliveries_say_so, and the order of a lane.
    fn check_deliveries(&mut self) {
        let (now, ledger) = (self.rig.now, &mut self.ledger);
        for (id, due) in &ledger.due {
            if let Some((due, wall)) = due
                && *due <= if *wall { now.wall_ms } else { now.mono_ms }
            {
                ledger.reached.insert(*id);
            }
        }
        let received = self.rig.take_received();
        // Out of their lanes for the first time. Sessions stand in no order.
        let mut first: Vec<MessageId> = received.iter().map(|(_, delivery)| delivery.id).collect();
        first.sort_by_key(|id| id.sequence());
        let before = ledger.lane_ends.clone();
        for id in first {
            if let Some(lane) = ledger.lanes.remove(&id) {
                let last = before.get(&lane).copied().unwrap_or(0);
                assert!(last < id.sequence(), "{id} is late");
                ledger.lane_ends.insert(lane, id.sequence());
            }
        }
        for (session, delivery) in received {
            let id = delivery.id;
            let due = ledger.due.get(&id).expect("an unknown message was delivered");
            assert!(due.is_some(), "a finished message was delivered");
            assert!(ledger.reached.contains(&id), "delivered early");
            let key = (session, delivery.subscription);
            // Gone in the same step: nobody is there to judge.
            let Some(reader) = ledger.subscriptions.get(&key).cloned() else { continue };
            if let Some(reader) = reader.clone() {
                let place = (reader, delivery.offset);
                assert!(!ledger.acknowledged.contains(&place), "an acknowledged offset came again");
            }
            let last = ledger.attempts.insert((reader, id), delivery.attempt).unwrap_or(0);
            assert!(delivery.attempt > last, "attempt {} after {last}", delivery.attempt);
            ledger.delivered.push((session, delivery));
        }
    }

    /// conservation: the counters agree with what each id answers.
    fn check_counters(&mut self) {
        // Asking takes steps; nothing may move meanwhile. What a limit has left behind fires now.
        self.rig.step(vec![]);
        while self.rig.engine.has_work() {
            self.rig.step(vec![]);
        }
        self.check_deliveries();
        let mut found = BTreeMap::new();
        for id in self.ids.clone() {
            let state = match self.rig.ask(Command::Query { ids: vec![id] }) {
                // Given up where there are no dead letters: it is over.
                Answer::Statuses(found) if found[0].destination.is_empty() => State::Gone,
                Answer::Statuses(found) => found[0].state,
                other => panic!("{other:?}"),
            };
            *found.entry(state).or_insert(0u64) += 1;
        }
        let stats: BTreeMap<_, _> = self.rig.engine.stats().into_iter().collect();
        let count = |state| found.get(&state).copied().unwrap_or(0);
        assert_eq!(stats["scheduled"], count(State::Scheduled));
        // Topic messages in flight to a subscription are still ready in their topic.
        assert_eq!(stats["ready"], count(State::Ready) + count(State::Dead));
        assert!(stats["in_flight"] >= count(State::InFlight));
    }

    /// eventual_delivery: once all is due and somebody takes and acknowledges, nothing is left in
    /// a queue or scheduled, save for destinations that are gone.
    fn check_everything_comes(&mut self) {
        self.check_deliveries();
        for session in [A, B] {
            self.rig.vanish(session);
        }
        self.ledger.forget_sessions(|_| true);
        for name in NAMES.map(|name| Bytes::from_static(name.as_bytes())) {
            self.ask(Command::PauseDestination { name, paused: false });
        }
        let all_due = self.rig.now.engine_ms + 2 * DELAY_MAX_MS;
        self.rig.now = Now::all(all_due);
        let queues = NAMES.into_iter().filter(|name| !is_topic(name)).chain(["/dlq/queue/b"]);
        for name in queues {
            let wish = subscribe_for(self.take_number(), name, 2, 60_000);
            let Command::Subscribe(wish) = wish else { unreachable!() };
            self.subscribe(B, wish, None);
        }
        loop {
            self.check_deliveries();
            let out = std::mem::take(&mut self.ledger.delivered);
            if out.is_empty() && !self.rig.engine.has_work() {
                break;
            }
            for (_, delivery) in out {
                assert!(self.done(ack(0, &[delivery.id])));
                self.ledger.due.insert(delivery.id, None);
            }
            self.rig.step(vec![]);
        }
        let stats: BTreeMap<_, _> = self.rig.engine.stats().into_iter().collect();
        assert_eq!((stats["scheduled"], stats["in_flight"]), (0, 0));
        for destination in self.rig.engine.destinations.iter() {
            let kept = if destination.kind.is_queue() { 0 } else { destination.ready };
            assert_eq!(destination.ready, kept, "left in {}", destination.name);
        }
    }

    /// What is over costs no memory.
    fn check_nothing_is_left(&mut self) {
        for name in TOPICS.map(|topic| Bytes::from_static(topic.as_bytes())) {
            self.ask(Command::PurgeDestination { name, scheduled: true });
        }
        self.rig.switch();
        self.rig.flush();
        invariants::check(&self.rig.engine, &self.rig.root);
        assert_eq!((self.rig.engine.memory_bytes(), self.rig.engine.messages()), (0, 0));
    }
}

fn run(ops: Vec<Op>) {
    let mut walk = Walk::new();
    for op in ops {
        walk.act(op);
        walk.check_deliveries();
        invariants::check(&walk.rig.engine, &walk.rig.root);
    }
    walk.limit = None;
    walk.rig.check_replay();
    walk.rig.check_flushes(3);
    walk.check_counters();
    walk.look();
    walk.check_everything_comes();
    invariants::check(&walk.rig.engine, &walk.rig.root);
    walk.rig.check_replay();
    walk.rig.check_flushes(2);
    walk.check_nothing_is_left();
}

/// A journal with damage that an operator chose to pass over: what is left still makes sense.
fn run_damaged(ops: Vec<Op>) {
    let mut walk = Walk::new();
    for op in ops {
        walk.act(op);
        walk.check_deliveries();
    }
    for at in 0..walk.rig.batches() {
        let mut engine = walk.rig.replayed_without(at);
        engine.finish_replay();
        let mut rig = walk.rig.with_engine(engine);
        rig.lossy = true;
        rig.now = Now::all(rig.now.engine_ms + 2 * DELAY_MAX_MS);
        for (number, name) in (1..).zip(NAMES) {
            rig.step(vec![(A, subscribe_for(number, name, 100, 60_000))]);
        }
        for _ in 0..100 {
            let out = rig.ids();
            if out.is_empty() && !rig.engine.has_work() {
                break;
            }
            rig.step(out.into_iter().map(|id| (A, ack(0, &[id]))).collect());
        }
        rig.flush();
    }
}

fn due(now: Now, delay: Delay) -> (u64, bool) {
    match delay {
        Delay::None => (now.wall_ms, true),
        Delay::After(ms) => (now.mono_ms + ms as u64, false),
        Delay::Level(level) => {
            (now.mono_ms + crate::base::time::delay_level_ms(level as u64).unwrap(), false)
        }
        Delay::At(at) => (at as u64, true),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn promises_hold_and_replay_equals_live(ops in proptest::collection::vec(op(), 1..120)) {
        run(ops);
    }

    /// Goal: a batch that is left out of a journal, as an operator may order, harms nothing beyond what
    /// it held: nothing panics, no counter goes below zero.
    #[test]
    fn a_batch_left_out_breaks_nothing(ops in proptest::collection::vec(op(), 1..60)) {
        run_damaged(ops);
    }
}
