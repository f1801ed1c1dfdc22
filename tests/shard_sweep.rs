//! Goal: the promises hold whatever disk operation a crash or an error hits. Method: a fixed
//! workload on a whole shard over the simulated disk and clock; the run is repeated with a crash
//! after operation k for every k and several choices of what survives, and with an error at
//! operation k, once and for ever; what was acknowledged before is held against what a restarted
//! shard delivers.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use postdate::base::command::{Answer, Command, Outgoing, StartAt, Subscribe};
use postdate::base::config::ShardConfig;
use postdate::base::error::{ClientError, Code};
use postdate::base::id::MessageId;
use postdate::base::message::{Delay, Message, MessageBatch};
use postdate::shard::{Outbox, Session, ShardOptions, SteppedShard};
use postdate::sim::SimClock;
use postdate::sim::{FaultKind, Repeat, SimDisk, Survival};

const START: u64 = 1_700_000_000_000;
const QUEUE: &str = "/queue/sweep";
/// It is purged now and then.
const PURGED: &str = "/queue/purged";

/// What one session got, in order.
#[derive(Clone, Default)]
struct Mailbox(Arc<Mutex<(Vec<Outgoing>, Option<Code>)>>);

impl Outbox for Mailbox {
    fn push(&self, batch: Vec<Outgoing>) {
        self.0.lock().unwrap().0.extend(batch);
    }
    fn closed(&self, reason: ClientError) {
        self.0.lock().unwrap().1 = Some(reason.code);
    }
}

/// What was acknowledged to the outside.
#[derive(Clone, Default)]
struct Ledger {
    accepted: BTreeMap<MessageId, u64>,
    /// Sent and never answered: may be there or not.
    unanswered_bodies: BTreeSet<Vec<u8>>,
    bodies: BTreeMap<MessageId, Vec<u8>>,
    /// Cancelled, or purged.
    cancelled: BTreeSet<MessageId>,
    /// What each dedup id sent to the queue stands for.
    dedups: BTreeMap<u64, MessageId>,
    /// Sent to the queue that is purged.
    to_purged: BTreeSet<MessageId>,
    acknowledged: BTreeSet<MessageId>,
    /// Asked for, answer missing: either way is right.
    open: BTreeSet<MessageId>,
}

struct World {
    disk: SimDisk,
    clock: SimClock,
    ledger: Ledger,
    bodies: u64,
    tag: u64,
    /// What the shard said of itself at the end.
    stats: Vec<(&'static str, u64)>,
}

struct Life {
    shard: SteppedShard,
    session: Session,
    mailbox: Mailbox,
}

fn options() -> ShardOptions {
    // So small that the workload flushes several times, for memory and for the journal's length.
    let config = ShardConfig {
        segment_bytes: 64 * 1024,
        memory: 48 * 1024,
        journal_tail: 100 * 1024,
        disk_reserve: 0,
        ..ShardConfig::default()
    };
    ShardOptions { data_dir: PathBuf::from("/data"), config }
}

fn produce(queue: &'static str, message: &Message) -> Command {
    let mut bytes = Vec::new();
    message.encode(&mut bytes).unwrap();
    let batch = MessageBatch::parse(bytes.into(), 1).unwrap();
    Command::Produce { destination: Bytes::from_static(queue.as_bytes()), batch }
}

impl World {
    fn new() -> Self {
        Self {
            disk: SimDisk::new(),
            clock: SimClock::new(0, START),
            ledger: Ledger::default(),
            bodies: 0,
            tag: 0,
            stats: Vec::new(),
        }
    }

    /// Opens the shard; `None` when the disk fails under it.
    fn open(&mut self) -> Option<Life> {
        let disk = Arc::new(self.disk.clone());
        let shard = SteppedShard::open(disk, Arc::new(self.clock.clone()), options()).ok()?;
        let mailbox = Mailbox::default();
        let session = shard.broker().session(Box::new(mailbox.clone())).ok()?;
        Some(Life { shard, session, mailbox })
    }

    fn now(&self) -> u64 {
        use postdate::env::clock::Clock;
        self.clock.wall_ns() / 1_000_000
    }

    /// Asks one thing and steps. `None`: no answer came, the shard is gone.
    fn ask(&mut self, life: &mut Life, command: Command) -> Option<Answer> {
        self.tag += 1;
        let tag = self.tag;
        life.session.submit(vec![(tag, command)]).ok()?;
        let outcome = life.shard.step();
        let mut answer = None;
        for outgoing in std::mem::take(&mut life.mailbox.0.lock().unwrap().0) {
            match outgoing {
                Outgoing::Answer { tag: t, answer: a } if t == tag => answer = Some(a),
                Outgoing::Deliver(delivery) => self.judge(delivery.id, &delivery.content),
                other => panic!("{other:?}"),
            }
        }
        if outcome.is_err() {
            // An answer may have left before what failed; it is held to its word like any other.
            assert_eq!(life.mailbox.0.lock().unwrap().1, Some(Code::StorageFailed));
            assert!(life.shard.step().is_err(), "a failed shard works again");
        }
        answer
    }

    fn judge(&self, id: MessageId, content: &[u8]) {
        let ledger = &self.ledger;
        let body = postdate::base::content::body(content).to_vec();
        assert!(!ledger.cancelled.contains(&id), "a cancelled message was delivered");
        assert!(!ledger.acknowledged.contains(&id), "an acknowledged message was delivered");
        match ledger.accepted.get(&id) {
            Some(due) => {
                assert!(*due <= self.now(), "delivered early");
                assert_eq!(ledger.bodies[&id], body);
            }
            None => assert!(ledger.unanswered_bodies.contains(&body), "a ghost: {body:?}"),
        }
    }

    fn publish(
        &mut self,
        life: &mut Life,
        queue: &'static str,
        size: usize,
        delay: i64,
    ) -> Option<()> {
        self.bodies += 1;
        let mut body = self.bodies.to_be_bytes().to_vec();
        body.resize(size.max(8), 7);
        let mut message = Message::new(body.clone()).with_delay(Delay::After(delay));
        let dedup = Some(self.bodies).filter(|number| queue == QUEUE && number % 3 == 0);
        if let Some(dedup) = dedup {
            message = message.with_dedup(dedup.to_be_bytes());
        }
        self.ledger.unanswered_bodies.insert(body.clone());
        match self.ask(life, produce(queue, &message))? {
            Answer::Produced(results) => {
                let produced = results[0].as_ref().unwrap();
                assert!(!produced.duplicate);
                let id = produced.id;
                self.ledger.accepted.insert(id, id.due_ms());
                self.ledger.dedups.extend(dedup.map(|dedup| (dedup, id)));
                if queue == PURGED {
                    self.ledger.to_purged.insert(id);
                }
                self.ledger.bodies.insert(id, body.clone());
                self.ledger.unanswered_bodies.remove(&body);
            }
            Answer::Failed(error) => {
                assert_eq!(error.code, Code::DiskFull);
                self.ledger.unanswered_bodies.remove(&body);
            }
            other => panic!("{other:?}"),
        }
        Some(())
    }

    /// Sends a message again: what was accepted is not stored twice.
    fn repeat(&mut self, life: &mut Life, dedup: u64) -> Option<()> {
        let message = Message::new("again").with_dedup(dedup.to_be_bytes());
        match self.ask(life, produce(QUEUE, &message))? {
            Answer::Produced(results) => {
                let produced = results[0].as_ref().unwrap();
                let first = self.ledger.dedups[&dedup];
                assert_eq!((produced.id, produced.duplicate), (first, true));
            }
            Answer::Failed(error) => assert_eq!(error.code, Code::DiskFull),
            other => panic!("{other:?}"),
        }
        Some(())
    }

    fn cancel(&mut self, life: &mut Life, id: MessageId) -> Option<()> {
        self.ledger.open.insert(id);
        let answer = self.ask(life, Command::Cancel { ids: vec![id] })?;
        let Answer::Verdicts(verdicts) = answer else { panic!("{answer:?}") };
        self.ledger.open.remove(&id);
        if verdicts[0].done {
            self.ledger.cancelled.insert(id);
        }
        Some(())
    }

    /// Drops all there is of one queue. Nothing of it is in flight.
    fn purge(&mut self, life: &mut Life) -> Option<()> {
        let name = Bytes::from_static(PURGED.as_bytes());
        let ids = self.ledger.to_purged.clone();
        self.ledger.open.extend(&ids);
        match self.ask(life, Command::PurgeDestination { name, scheduled: true })? {
            Answer::Purged(_) => {}
            Answer::Failed(error) => assert_eq!(error.code, Code::DestinationNotFound),
            other => panic!("{other:?}"),
        }
        self.ledger.open.retain(|id| !ids.contains(id));
        let done = |id: &MessageId| self.ledger.acknowledged.contains(id);
        let gone: Vec<_> = ids.into_iter().filter(|id| !done(id)).collect();
        self.ledger.cancelled.extend(gone);
        Some(())
    }

    fn acknowledge(&mut self, life: &mut Life, id: MessageId) -> Option<()> {
        self.ledger.open.insert(id);
        let ack = Command::Acknowledge { subscription: 0, ids: vec![id], cumulative: false };
        let answer = self.ask(life, ack)?;
        let Answer::Verdicts(verdicts) = answer else { panic!("{answer:?}") };
        self.ledger.open.remove(&id);
        if verdicts[0].done {
            self.ledger.acknowledged.insert(id);
        }
        Some(())
    }

    /// Publishes, repeats, cancels, acknowledges, purges, lets time pass: some 200 commands, segments roll, a
    /// close and an open are in the middle.
    fn workload(&mut self) -> Option<()> {
        for part in 0..2u64 {
            let mut life = self.open()?;
            for n in 0..50u64 {
                let size = if n % 7 == 0 { 6_000 } else { 40 };
                let delay = [0, 300, 40, 1_000_000][(n % 4) as usize];
                self.publish(&mut life, QUEUE, size, delay)?;
                match n % 12 {
                    0 | 5 => {
                        self.publish(&mut life, PURGED, 40, if n % 12 == 0 { 0 } else { 2_000 })?
                    }
                    7 => {
                        let old = self.ledger.dedups.keys().nth(n as usize / 8).copied();
                        if let Some(dedup) = old {
                            self.repeat(&mut life, dedup)?;
                        }
                    }
                    11 => self.purge(&mut life)?,
                    _ => {}
                }
                let pending: Vec<_> =
                    self.ledger.accepted.iter().map(|(id, due)| (*id, *due)).collect();
                let undone = |id: &MessageId| {
                    !self.ledger.cancelled.contains(id) && !self.ledger.acknowledged.contains(id)
                };
                let now = self.now();
                let due = pending.iter().find(|(id, due)| *due <= now && undone(id));
                let later =
                    pending.iter().rev().find(|(id, due)| *due > now + 10_000 && undone(id));
                let (due, later) = (due.copied(), later.copied());
                if let Some((id, _)) = due {
                    self.acknowledge(&mut life, id)?;
                }
                if let Some((id, _)) = later.filter(|_| n % 3 == 0) {
                    self.cancel(&mut life, id)?;
                }
                self.clock.advance_ms(10 + n % 5);
                life.shard.step().ok()?;
            }
            let Answer::Stats(stats) = self.ask(&mut life, Command::Stats)? else { panic!() };
            self.stats = stats;
            if part == 0 {
                life.shard.close().ok()?;
            }
        }
        Some(())
    }

    /// After whatever happened: a shard opened on what is left delivers all that was accepted,
    /// once all of it is due, and nothing else.
    fn check(&mut self) {
        self.disk.clear_faults();
        let Some(mut life) = self.open() else { panic!("the directory does not open again") };
        // Whatever it decided at opening must be found again by the next opening.
        let state = life.shard.state().unwrap();
        drop(life);
        life = self.open().unwrap_or_else(|| panic!("the directory does not open twice"));
        assert_eq!(state, life.shard.state().unwrap(), "two openings differ");
        for dedup in self.ledger.dedups.keys().copied().collect::<Vec<_>>() {
            self.repeat(&mut life, dedup).expect("a sound disk");
        }
        self.clock.advance_ms(2_000_000);
        for (subscription, queue) in (1..).zip([QUEUE, PURGED]) {
            let wish = Subscribe {
                subscription,
                destination: Bytes::from_static(queue.as_bytes()),
                credit: 10_000,
                ack_timeout_ms: 0,
                durable: Bytes::new(),
                start: StartAt::Earliest,
                shared: false,
            };
            life.session.submit(vec![(0, Command::Subscribe(wish))]).unwrap();
        }
        for _ in 0..3 {
            life.shard.step().unwrap();
        }
        let mut seen = BTreeSet::new();
        for outgoing in std::mem::take(&mut life.mailbox.0.lock().unwrap().0) {
            if let Outgoing::Deliver(delivery) = outgoing {
                self.judge(delivery.id, &delivery.content);
                assert!(seen.insert(delivery.id), "delivered twice at once");
            }
        }
        for id in self.ledger.accepted.keys() {
            let ledger = &self.ledger;
            let finished = ledger.cancelled.contains(id) || ledger.acknowledged.contains(id);
            let either = ledger.open.contains(id);
            assert!(finished || either || seen.contains(id), "{id} was acknowledged and is lost");
        }
    }
}

/// Operations of one undisturbed run.
fn operations() -> u64 {
    let mut world = World::new();
    world.workload().expect("an undisturbed run succeeds");
    let operations = world.disk.operations();
    let stat = |name| world.stats.iter().find(|(n, _)| *n == name).map_or(0, |(_, value)| *value);
    assert!(stat("flushes_total") > 2, "hardly anything was flushed: {:?}", world.stats);
    assert!(stat("cancelled_total") > 5 && stat("acknowledged_total") > 5);
    assert!(stat("purged_total") > 3 && stat("duplicates_total") > 2);
    world.check();
    operations
}

#[test]
fn a_crash_after_any_disk_operation_keeps_the_promises() {
    let operations = operations();
    assert!(operations > 300, "the workload is too small: {operations} operations");
    for at in 0..operations {
        let mut world = World::new();
        world.disk.fail_at(at, FaultKind::CrashNow, Repeat::Once);
        let finished = world.workload().is_some();
        assert!(!finished || at + 1 >= operations, "operation {at} did not crash");
        for (seed, survival) in Survival::ALL.into_iter().enumerate() {
            let disk = world.disk.fork();
            disk.crash(survival, at * 31 + seed as u64);
            let mut after = World {
                disk,
                clock: SimClock::new(0, world.now()),
                ledger: world.ledger.clone(),
                ..World::new()
            };
            after.check();
        }
    }
}

#[test]
fn an_error_at_any_disk_operation_is_never_a_false_acknowledgement() {
    let operations = operations();
    for kind in [FaultKind::Eio, FaultKind::Enospc, FaultKind::ShortWrite] {
        for repeat in [Repeat::Once, Repeat::Forever] {
            for at in 0..operations {
                let mut world = World::new();
                world.disk.fail_at(at, kind, repeat);
                // It may fail at once, later, or not at all; it may not lie.
                let _ = world.workload();
                world.clock.advance_ms(1);
                world.check();
            }
        }
    }
}
