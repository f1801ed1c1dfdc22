//! Goal: a shard opened in spite of damage works: it does not panic, invents nothing, delivers nothing
//! early, and the next start is a strict one. Method: a fixed workload on the simulated disk; each
//! block of its journal spoilt in turn; opened with each recovery policy; everything let fall due.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use postdate::base::command::{Answer, Command, Outgoing, StartAt, Subscribe};
use postdate::base::config::{RecoveryPolicy, ShardConfig};
use postdate::base::error::ClientError;
use postdate::base::id::MessageId;
use postdate::base::message::{Delay, Message, MessageBatch};
use postdate::env::Disk;
use postdate::env::clock::Clock;
use postdate::shard::{Outbox, Session, ShardOptions, SteppedShard};
use postdate::sim::{SimClock, SimDisk};

const START: u64 = 1_700_000_000_000;
const QUEUES: [&str; 2] = ["/queue/one", "/queue/two"];

#[derive(Clone, Default)]
struct Mailbox(Arc<Mutex<Vec<Outgoing>>>);

impl Outbox for Mailbox {
    fn push(&self, batch: Vec<Outgoing>) {
        self.0.lock().unwrap().extend(batch);
    }
    fn closed(&self, _: ClientError) {}
}

struct Life {
    shard: SteppedShard,
    session: Session,
    mailbox: Mailbox,
    delivered: Vec<(MessageId, Vec<u8>)>,
}

impl Life {
    fn open(disk: &SimDisk, clock: &SimClock, recovery: RecoveryPolicy) -> Self {
        let config = ShardConfig { segment_bytes: 64 * 1024, recovery, ..ShardConfig::default() };
        let options = ShardOptions { data_dir: PathBuf::from("/data"), config };
        let (disk, clock) = (Arc::new(disk.clone()), Arc::new(clock.clone()));
        let shard = SteppedShard::open(disk, clock, options).unwrap();
        let mailbox = Mailbox::default();
        let session = shard.broker().session(Box::new(mailbox.clone())).unwrap();
        Self { shard, session, mailbox, delivered: Vec::new() }
    }

    fn ask(&mut self, command: Command) -> Option<Answer> {
        self.session.submit(vec![(0, command)]).unwrap();
        self.step()
    }

    fn step(&mut self) -> Option<Answer> {
        self.shard.step().unwrap();
        let mut answered = None;
        for outgoing in std::mem::take(&mut *self.mailbox.0.lock().unwrap()) {
            match outgoing {
                Outgoing::Answer { answer, .. } => answered = Some(answer),
                Outgoing::Deliver(delivery) => {
                    let body = postdate::base::content::body(&delivery.content).to_vec();
                    self.delivered.push((delivery.id, body));
                }
                other => panic!("{other:?}"),
            }
        }
        answered
    }

    fn publish(&mut self, queue: &'static str, body: &[u8], delay_ms: i64) -> MessageId {
        let mut bytes = Vec::new();
        let message = Message::new(body.to_vec()).with_delay(Delay::After(delay_ms));
        message.encode(&mut bytes).unwrap();
        let batch = MessageBatch::parse(bytes.into(), 1).unwrap();
        let destination = Bytes::from_static(queue.as_bytes());
        let answer = self.ask(Command::Produce { destination, batch });
        let Some(Answer::Produced(results)) = answer else { panic!("{answer:?}") };
        results[0].as_ref().unwrap().id
    }

    fn subscribe(&mut self, subscription: u32, queue: &'static str) {
        self.ask(Command::Subscribe(Subscribe {
            subscription,
            destination: Bytes::from_static(queue.as_bytes()),
            credit: 10_000,
            ack_timeout_ms: 0,
            durable: Bytes::new(),
            start: StartAt::Earliest,
            shared: false,
        }));
    }
}

/// Publishes, cancels, reschedules, acknowledges, purges and deletes. What was accepted: its body.
fn workload(disk: &SimDisk, clock: &SimClock) -> BTreeMap<MessageId, Vec<u8>> {
    let mut life = Life::open(disk, clock, RecoveryPolicy::Strict);
    let mut accepted = BTreeMap::new();
    life.subscribe(1, QUEUES[0]);
    for n in 0..24u64 {
        let queue = QUEUES[(n % 2) as usize];
        let mut body = n.to_be_bytes().to_vec();
        body.resize(if n % 5 == 0 { 5_000 } else { 20 }, 1);
        let id = life.publish(queue, &body, [0, 50_000, 20, 900_000][(n % 4) as usize]);
        accepted.insert(id, body);
        match n % 6 {
            1 => {
                life.ask(Command::Cancel { ids: vec![id] });
            }
            3 => {
                let delay = Delay::After(1_000_000);
                life.ask(Command::Reschedule { items: vec![(id, delay)] });
            }
            4 => {
                let ids = life.delivered.iter().map(|(id, _)| *id).collect();
                life.ask(Command::Acknowledge { subscription: 1, ids, cumulative: false });
            }
            5 if n == 17 => {
                let name = Bytes::from_static(QUEUES[0].as_bytes());
                life.ask(Command::PurgeDestination { name, scheduled: true });
            }
            _ => {}
        }
        clock.advance_ms(15);
        life.step();
    }
    let name = Bytes::from_static(QUEUES[1].as_bytes());
    life.ask(Command::DeleteDestination { name });
    let body = b"last".to_vec();
    accepted.insert(life.publish(QUEUES[1], &body, 10), body);
    life.shard.close().unwrap();
    accepted
}

#[test]
fn a_shard_works_on_what_a_policy_leaves() {
    let (written, clock) = (SimDisk::new(), SimClock::new(0, START));
    let accepted = workload(&written, &clock);
    let files = written.list(Path::new("/data/journal")).unwrap();
    let mut damaged = 0;
    for name in files.iter().filter(|name| !name.starts_with("spare")) {
        let file = Path::new("/data/journal").join(name);
        for block in 0..written.contents(&file).unwrap().len() as u64 / 4096 {
            for policy in [RecoveryPolicy::TruncateTail, RecoveryPolicy::SkipDamaged] {
                let disk = written.fork();
                disk.flip_bit(&file, block * 4096 + 30, 3);
                let clock = SimClock::new(0, clock.wall_ns() / 1_000_000);
                check(&disk, &clock, policy, &accepted);
                damaged += u64::from(disk.exists(Path::new("/data/quarantine")).unwrap());
            }
        }
    }
    assert!(damaged > 60, "only {damaged} places were damaged");
}

fn check(
    disk: &SimDisk,
    clock: &SimClock,
    policy: RecoveryPolicy,
    accepted: &BTreeMap<MessageId, Vec<u8>>,
) {
    let life = Life::open(disk, clock, policy);
    let state = life.shard.state().unwrap();
    drop(life);
    let mut life = Life::open(disk, clock, RecoveryPolicy::Strict);
    assert!(state == life.shard.state().unwrap(), "a strict start finds something else");
    for (subscription, queue) in (1..).zip(QUEUES) {
        life.subscribe(subscription, queue);
    }
    for _ in 0..3 {
        for (id, body) in std::mem::take(&mut life.delivered) {
            assert_eq!(accepted.get(&id), Some(&body), "{id} is a ghost");
            assert!(id.due_ms() <= clock.wall_ns() / 1_000_000, "{id} is early");
        }
        clock.advance_ms(500_000);
        life.step();
    }
    let body = b"afterwards".to_vec();
    life.publish(QUEUES[0], &body, 0);
    life.step();
    assert!(life.delivered.iter().any(|(_, delivered)| *delivered == body));
    life.shard.close().unwrap();
}
