//! A shard that is asked and stepped, and a story for it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use postdate::base::command::{Answer, Command, Delivery, Outgoing, StartAt, Subscribe};
use postdate::base::config::ShardConfig;
use postdate::base::content;
use postdate::base::error::ClientError;
use postdate::base::event::BatchMeta;
use postdate::base::id::MessageId;
use postdate::base::message::{Delay, Message, MessageBatch};
use postdate::env::Disk;
use postdate::env::clock::Clock;
use postdate::journal;
use postdate::journal::home::DataDir;
use postdate::shard::{
    OpenError, Outbox, Session, ShardError, ShardOptions, SteppedShard, check_checkpoint,
    check_events, check_row,
};
use postdate::sim::SimClock;
use postdate::store::{self, Judges, Summary};

pub(crate) const START: u64 = 1_700_000_000_000;
const DAY_MS: i64 = 86_400_000;
pub(crate) const QUEUES: [&str; 2] = ["/queue/mail", "/queue/jobs"];
pub(crate) const TOPIC: &str = "/topic/news";
/// When everything of a story is due, counted from its beginning, ms.
pub(crate) const LONG_MS: u64 = 40 * DAY_MS as u64;

#[derive(Clone, Default)]
struct Mailbox(Arc<Mutex<Vec<Outgoing>>>);

impl Outbox for Mailbox {
    fn push(&self, batch: Vec<Outgoing>) {
        self.0.lock().unwrap().extend(batch);
    }
    fn closed(&self, _: ClientError) {}
}

/// So small that a story writes out and merges many times.
pub(crate) fn config() -> ShardConfig {
    ShardConfig {
        segment_bytes: 32 * 1024,
        memory: 24 * 1024,
        journal_tail: 60 * 1024,
        disk_reserve: 0,
        topic_age_ms: 10 * LONG_MS,
        ..ShardConfig::default()
    }
}

/// A running shard with one session.
pub(crate) struct Life {
    pub(crate) shard: SteppedShard,
    pub(crate) clock: SimClock,
    session: Session,
    mailbox: Mailbox,
    tag: u64,
    pub(crate) delivered: Vec<Delivery>,
    answers: BTreeMap<u64, Answer>,
}

impl Life {
    pub(crate) fn open(
        disk: &(impl Disk + Clone + 'static),
        dir: &Path,
        clock: &SimClock,
        config: ShardConfig,
    ) -> Result<Self, OpenError> {
        let options = ShardOptions { data_dir: dir.into(), config };
        let shard = SteppedShard::open(Arc::new(disk.clone()), Arc::new(clock.clone()), options)?;
        let mailbox = Mailbox::default();
        let session = shard.broker().session(Box::new(mailbox.clone())).unwrap();
        let (delivered, answers) = (Vec::new(), BTreeMap::new());
        let clock = clock.clone();
        Ok(Self { shard, clock, session, mailbox, tag: 0, delivered, answers })
    }

    pub(crate) fn step(&mut self) {
        self.try_step().unwrap_or_else(|error| panic!("{error}"));
    }

    pub(crate) fn try_step(&mut self) -> Result<(), ShardError> {
        let stepped = self.shard.step();
        self.collect();
        stepped
    }

    fn collect(&mut self) {
        for outgoing in std::mem::take(&mut *self.mailbox.0.lock().unwrap()) {
            match outgoing {
                Outgoing::Answer { tag, answer } => drop(self.answers.insert(tag, answer)),
                Outgoing::Deliver(delivery) => self.delivered.push(delivery),
                Outgoing::Ended { .. } => panic!("a subscription ended"),
            }
        }
    }

    /// Asks without waiting; the tag under which the answer will be.
    pub(crate) fn begin(&mut self, command: Command) -> u64 {
        self.tag += 1;
        self.session.submit(vec![(self.tag, command)]).unwrap();
        self.tag
    }

    pub(crate) fn answer(&mut self, tag: u64) -> Option<Answer> {
        self.answers.remove(&tag)
    }

    pub(crate) fn ask(&mut self, command: Command) -> Answer {
        let tag = self.begin(command);
        self.step();
        self.answer(tag).expect("an answer in the same step")
    }

    pub(crate) fn publish(&mut self, to: &str, body: Vec<u8>, delay: Delay) -> MessageId {
        self.try_publish(to, body, delay).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn try_publish(
        &mut self,
        to: &str,
        body: Vec<u8>,
        delay: Delay,
    ) -> Result<MessageId, ShardError> {
        let mut bytes = Vec::new();
        Message::new(body).with_delay(delay).encode(&mut bytes).unwrap();
        let batch = MessageBatch::parse(bytes.into(), 1).unwrap();
        let destination = Bytes::copy_from_slice(to.as_bytes());
        let tag = self.begin(Command::Produce { destination, batch });
        self.try_step()?;
        let answer = self.answer(tag);
        let Some(Answer::Produced(results)) = answer else { panic!("{answer:?}") };
        Ok(results[0].as_ref().unwrap().id)
    }

    pub(crate) fn stat(&mut self, name: &str) -> u64 {
        let Answer::Stats(stats) = self.ask(Command::Stats) else { panic!("no stats") };
        stats.iter().find(|(known, _)| *known == name).unwrap().1
    }
}

/// Where each message goes, and its body.
pub(crate) type Messages = BTreeMap<MessageId, (String, Vec<u8>)>;

/// Says briefly where two differ.
pub(crate) fn assert_same(came: &Messages, wanted: &Messages, context: &str) {
    let missing: Vec<_> = wanted.keys().filter(|id| !came.contains_key(id)).collect();
    let ghosts: Vec<_> = came.keys().filter(|id| !wanted.contains_key(id)).collect();
    assert!(missing.is_empty() && ghosts.is_empty(), "{context}: {missing:?} lost, {ghosts:?} new");
    for (id, message) in came {
        assert!(wanted[id] == *message, "{context}: {id} is another message");
    }
}

/// What should come out of a data directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Living messages.
    pub(crate) alive: Messages,
    /// When they are due that have to wait, ms.
    pub(crate) due: BTreeMap<MessageId, u64>,
    pub(crate) cancelled: BTreeSet<MessageId>,
    pub(crate) acknowledged: BTreeSet<MessageId>,
}

/// Publishes now and for later, cancels, reschedules and acknowledges. Everything of it happens to
/// messages in memory and in the store.
pub(crate) struct Story {
    at: u64,
    pub(crate) expected: Expected,
}

impl Story {
    pub(crate) const STEPS: u64 = 400;

    pub(crate) fn new() -> Self {
        Self { at: 0, expected: Expected::default() }
    }

    /// One step of the story; `false` at its end.
    pub(crate) fn go_on(&mut self, life: &mut Life) -> bool {
        let n = self.at;
        self.at += 1;
        let to = [QUEUES[0], QUEUES[1], TOPIC][(n % 3) as usize];
        let mut body = format!("message {n} ").into_bytes();
        body.resize(body.len() + (n * 37 % 400) as usize, b'a' + (n % 23) as u8);
        let delay = match n % 4 {
            0 | 1 => Delay::None,
            _ => Delay::After((n as i64 * 7 % 30 + 1) * DAY_MS),
        };
        let id = life.publish(to, body.clone(), delay);
        self.expected.alive.insert(id, (to.into(), body));
        if delay != Delay::None {
            self.expected.due.insert(id, id.due_ms());
        }
        if n % 9 == 8 {
            self.cancel(life);
        }
        if n % 11 == 10 {
            self.reschedule(life);
        }
        if n % 17 == 16 {
            self.acknowledge(life);
        }
        life.clock.advance_ms(13);
        self.at < Self::STEPS
    }

    /// A scheduled message, of those that wait longest.
    fn pick(&self) -> MessageId {
        let ids: Vec<_> = self.expected.due.keys().copied().collect();
        ids[(self.at * 31) as usize % ids.len()]
    }

    fn cancel(&mut self, life: &mut Life) {
        let id = self.pick();
        let answer = life.ask(Command::Cancel { ids: vec![id] });
        assert!(matches!(&answer, Answer::Verdicts(all) if all[0].done), "{answer:?}");
        self.expected.alive.remove(&id);
        self.expected.due.remove(&id);
        self.expected.cancelled.insert(id);
    }

    fn reschedule(&mut self, life: &mut Life) {
        let id = self.pick();
        let items = vec![(id, Delay::After(20 * DAY_MS + self.at as i64))];
        let Answer::Verdicts(verdicts) = life.ask(Command::Reschedule { items }) else {
            panic!("no verdict")
        };
        assert!(verdicts[0].done);
        self.expected.due.insert(id, verdicts[0].due_ms);
    }

    /// Takes the first message of a queue, and leaves again.
    fn acknowledge(&mut self, life: &mut Life) {
        let answer = life.ask(wish(9, QUEUES[0], 1));
        assert!(matches!(answer, Answer::Subscribed { .. }), "{answer:?}");
        while life.delivered.is_empty() {
            life.step();
        }
        let ids: Vec<_> = life.delivered.drain(..).map(|delivery| delivery.id).collect();
        let unsubscribe = Command::Unsubscribe { subscription: 9, delete: false };
        let acknowledge =
            Command::Acknowledge { subscription: 9, ids: ids.clone(), cumulative: false };
        let Answer::Verdicts(verdicts) = life.ask(acknowledge) else { panic!("no verdict") };
        assert!(verdicts[0].done);
        life.ask(unsubscribe);
        // The acknowledgement made room for another delivery.
        life.delivered.clear();
        self.expected.alive.remove(&ids[0]);
        self.expected.acknowledged.insert(ids[0]);
    }
}

pub(crate) fn wish(subscription: u32, to: &str, credit: u32) -> Command {
    Command::Subscribe(Subscribe {
        subscription,
        destination: Bytes::copy_from_slice(to.as_bytes()),
        credit,
        ack_timeout_ms: 0,
        durable: Bytes::new(),
        start: StartAt::Earliest,
        shared: false,
    })
}

/// Lets everything fall due and takes it; what came, by id. Panics when something comes that is wrong.
pub(crate) fn drain(life: &mut Life) -> Result<Messages, ShardError> {
    drain_all(life, true)
}

/// The same. Damage may bring one back that was moved; otherwise each has to come `once`.
pub(crate) fn drain_all(life: &mut Life, once: bool) -> Result<Messages, ShardError> {
    life.clock.advance_ms(LONG_MS);
    let all = [QUEUES[0], QUEUES[1], TOPIC];
    for (number, to) in (1..).zip(all) {
        life.begin(wish(number, to, 10_000));
    }
    let mut came = BTreeMap::new();
    let mut idle = 0;
    while idle < 20 {
        life.try_step()?;
        idle += 1;
        for delivery in std::mem::take(&mut life.delivered) {
            idle = 0;
            let to = all[delivery.subscription as usize - 1].to_owned();
            let body = content::body(&delivery.content).to_vec();
            let before = came.insert(delivery.id, (to, body));
            assert!(!once || before.is_none(), "twice at once");
            let (subscription, ids) = (delivery.subscription, vec![delivery.id]);
            life.begin(Command::Acknowledge { subscription, ids, cumulative: false });
        }
    }
    Ok(came)
}

/// Everything that `postdate verify` would tell, as text.
pub(crate) fn damage(disk: &dyn Disk, dir: &Path) -> Vec<(PathBuf, u64, String)> {
    let (journal, store) = (DataDir::journal_of(dir), DataDir::store_of(dir));
    let from = match Summary::read(disk, &store) {
        Ok(summary) => Some(summary.map_or(1, |summary| summary.journal_from())),
        Err(_) => None,
    };
    let mut read = |_: &BatchMeta, payload: &[u8], _| check_events(payload).map(drop);
    let report = journal::verify(disk, &journal, from, &mut read, &mut |_, _| ()).unwrap();
    let mut found: Vec<_> =
        report.damage.into_iter().map(|damage| (damage.file, damage.offset, damage.why)).collect();
    let judges = Judges { row: &mut check_row, checkpoint: &mut check_checkpoint };
    let report = store::verify(disk, &store, judges, &mut |_, _| ()).unwrap();
    found.extend(report.damage.into_iter().map(|damage| (damage.file, damage.offset, damage.why)));
    found
}

pub(crate) fn now_ms(clock: &SimClock) -> u64 {
    clock.wall_ns() / 1_000_000
}
