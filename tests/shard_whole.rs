//! Goal: what is decided in one step is durable as a whole: a transaction with all of its parts, a run of a
//! recurring schedule with its next time. Method: a fixed workload on a whole shard over the simulated
//! disk; a crash after disk operation k for every k and several choices of what survives; what a
//! restarted shard has is held against what was answered.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use postdate::base::command::{
    Answer, Command, Delivery, Outgoing, Part, PartDone, StartAt, Subscribe,
};
use postdate::base::config::ShardConfig;
use postdate::base::content;
use postdate::base::error::ClientError;
use postdate::base::id::MessageId;
use postdate::base::lifecycle::State;
use postdate::base::message::{Message, MessageBatch};
use postdate::base::recur::{Cron, Rule};
use postdate::shard::{Outbox, Session, ShardOptions, SteppedShard};
use postdate::sim::{FaultKind, Repeat, SimClock, SimDisk, Survival};

const START: u64 = 1_700_000_000_000;

#[derive(Clone, Default)]
struct Mailbox(Arc<Mutex<Vec<Outgoing>>>);

impl Outbox for Mailbox {
    fn push(&self, batch: Vec<Outgoing>) {
        self.0.lock().unwrap().extend(batch);
    }
    fn closed(&self, _reason: ClientError) {}
}

/// A shard that runs, with one session.
struct Life {
    shard: SteppedShard,
    session: Session,
    mailbox: Mailbox,
    deliveries: Vec<Delivery>,
    tag: u64,
}

impl Life {
    fn open(disk: &SimDisk, clock: &SimClock) -> Option<Self> {
        let config = ShardConfig {
            segment_bytes: 64 * 1024,
            memory: 16 * 1024,
            journal_tail: 48 * 1024,
            disk_reserve: 0,
            ..ShardConfig::default()
        };
        let options = ShardOptions { data_dir: PathBuf::from("/data"), config };
        let (disk, clock) = (Arc::new(disk.clone()), Arc::new(clock.clone()));
        let shard = SteppedShard::open(disk, clock, options).ok()?;
        let mailbox = Mailbox::default();
        let session = shard.broker().session(Box::new(mailbox.clone())).ok()?;
        Some(Self { shard, session, mailbox, deliveries: Vec::new(), tag: 0 })
    }

    /// Steps; `None` when the disk failed. What came out before counts.
    fn step(&mut self) -> Option<Vec<Answer>> {
        let outcome = self.shard.step();
        let mut answers = Vec::new();
        for outgoing in std::mem::take(&mut *self.mailbox.0.lock().unwrap()) {
            match outgoing {
                Outgoing::Answer { answer, .. } => answers.push(answer),
                Outgoing::Deliver(delivery) => self.deliveries.push(delivery),
                other => panic!("{other:?}"),
            }
        }
        (outcome.is_ok() || !answers.is_empty()).then_some(answers)
    }

    fn ask(&mut self, command: Command) -> Option<Answer> {
        self.tag += 1;
        self.session.submit(vec![(self.tag, command)]).ok()?;
        self.step()?.pop()
    }

    fn subscribe(&mut self, subscription: u32, queue: &str) -> Option<()> {
        let wish = Subscribe {
            subscription,
            destination: Bytes::copy_from_slice(queue.as_bytes()),
            credit: 1_000,
            ack_timeout_ms: 0,
            durable: Bytes::new(),
            start: StartAt::Earliest,
            shared: false,
        };
        self.ask(Command::Subscribe(wish)).map(drop)
    }

    /// Bodies by id of all that came, and of what comes within some steps.
    fn came(&mut self) -> BTreeMap<MessageId, String> {
        (0..5).for_each(|_| drop(self.step()));
        let body = |d: &Delivery| String::from_utf8(content::body(&d.content).to_vec()).unwrap();
        self.deliveries.iter().map(|delivery| (delivery.id, body(delivery))).collect()
    }
}

fn batch(bodies: &[String]) -> MessageBatch {
    let mut bytes = Vec::new();
    for body in bodies {
        // Some of them so large that there are flushes.
        let padded = format!("{body:<600}");
        Message::new(padded).encode(&mut bytes).unwrap();
    }
    MessageBatch::parse(bytes.into(), bodies.len()).unwrap()
}

fn name(queue: &str) -> Bytes {
    Bytes::copy_from_slice(queue.as_bytes())
}

/// Runs a workload with a crash after each disk operation and each choice of what survives, and has the
/// rest judged.
fn sweep<L: Default>(
    workload: impl Fn(&SimDisk, &SimClock, &mut L) -> Option<()>,
    check: impl Fn(Life, &SimClock, &L, bool),
) {
    let run = |disk: &SimDisk| {
        let (clock, mut ledger) = (SimClock::new(0, START), L::default());
        let done = workload(disk, &clock, &mut ledger).is_some();
        (clock, ledger, done)
    };
    let disk = SimDisk::new();
    let (clock, ledger, done) = run(&disk);
    assert!(done, "an undisturbed run succeeds");
    check(Life::open(&disk, &clock).unwrap(), &clock, &ledger, true);
    let operations = disk.operations();
    assert!(operations > 100, "the workload is too small: {operations} operations");
    for at in 0..operations {
        let disk = SimDisk::new();
        disk.fail_at(at, FaultKind::CrashNow, Repeat::Once);
        let (clock, ledger, done) = run(&disk);
        for (seed, survival) in Survival::ALL.into_iter().enumerate() {
            let disk = disk.fork();
            disk.crash(survival, at * 31 + seed as u64);
            disk.clear_faults();
            let life = Life::open(&disk, &clock).expect("the directory opens again");
            check(life, &clock, &ledger, done);
        }
    }
}

/// What was asked and what was answered about transactions, by round.
#[derive(Default)]
struct Rounds {
    published: BTreeSet<usize>,
    asked: BTreeSet<usize>,
    done: BTreeSet<usize>,
}

const ROUNDS: usize = 25;

#[test]
fn a_transaction_is_all_or_nothing_over_any_crash() {
    let workload = |disk: &SimDisk, clock: &SimClock, rounds: &mut Rounds| {
        let mut life = Life::open(disk, clock)?;
        life.subscribe(1, "/queue/in")?;
        for round in 0..ROUNDS {
            let destination = name("/queue/in");
            let batch_in = batch(&[format!("in {round}")]);
            rounds.published.insert(round);
            life.ask(Command::Produce { destination, batch: batch_in })?;
            let ids: Vec<MessageId> = life.deliveries.drain(..).map(|d| d.id).collect();
            if ids.is_empty() {
                return None;
            }
            let parts = vec![
                Part::Produce {
                    destination: name("/queue/a"),
                    batch: batch(&[format!("a {round}"), format!("b {round}")]),
                },
                Part::Acknowledge { subscription: 1, ids, cumulative: false },
                Part::Produce {
                    destination: name("/topic/c"),
                    batch: batch(&[format!("c {round}")]),
                },
            ];
            rounds.asked.insert(round);
            let Answer::Transacted(done) = life.ask(Command::Transaction { parts })? else {
                panic!("refused")
            };
            assert!(matches!(&done[1], PartDone::Verdicts(all) if all[0].done));
            rounds.done.insert(round);
            clock.advance_ms(7);
        }
        Some(())
    };
    let check = |mut life: Life, _: &SimClock, rounds: &Rounds, _: bool| {
        life.subscribe(1, "/queue/in").unwrap();
        life.subscribe(2, "/queue/a").unwrap();
        life.subscribe(3, "/topic/c").unwrap();
        let came: BTreeSet<String> =
            life.came().values().map(|body| body.trim_end().to_owned()).collect();
        for round in 0..ROUNDS {
            let there = |what: &str| came.contains(&format!("{what} {round}"));
            let outs = [there("a"), there("b"), there("c")];
            assert!(outs == [true; 3] || outs == [false; 3], "round {round}: {outs:?}");
            assert!(!(outs[0] && there("in")), "round {round}: published and not acknowledged");
            assert!(outs[0] || !rounds.done.contains(&round), "round {round} is lost");
            assert!(!outs[0] || rounds.asked.contains(&round), "round {round} is a ghost");
            let answered = rounds.asked.contains(&round);
            assert!(outs[0] || there("in") || !answered, "round {round}: acknowledged only");
            assert!(rounds.published.contains(&round) || !there("in"));
        }
    };
    sweep(workload, check);
}

/// What came of schedules: copies by schedule, those that were acknowledged, and those that were cancelled.
#[derive(Default)]
struct Runs {
    schedules: Vec<MessageId>,
    seen: BTreeMap<String, BTreeSet<MessageId>>,
    cancelled: Option<(MessageId, u64)>,
}

#[test]
fn a_run_is_neither_lost_nor_doubled_over_any_crash() {
    let note = |life: &mut Life, runs: &mut Runs| {
        for delivery in &life.deliveries {
            let content = content::Content::decode(&delivery.content).unwrap();
            runs.seen.entry(content.headers[0].1.clone()).or_default().insert(delivery.id);
        }
        std::mem::take(&mut life.deliveries).into_iter().map(|d| d.id).collect::<Vec<_>>()
    };
    let workload = |disk: &SimDisk, clock: &SimClock, runs: &mut Runs| {
        let mut life = Life::open(disk, clock)?;
        let every = |period_ms, times| Rule::Every { period_ms, times };
        let (expression, zone) = ("* * * * * *".into(), "Europe/Berlin".into());
        let cron = Rule::Cron(Cron { expression, zone, times: 0, then: None });
        for rule in [every(1_000, 0), every(2_500, 4), cron] {
            let (destination, batch) = (name("/queue/q"), batch(&["again".into()]));
            let answer = life.ask(Command::Repeat { destination, rule, batch })?;
            // A disk that is gone may look like a full one.
            let Answer::Produced(results) = answer else { return None };
            runs.schedules.push(results[0].as_ref().unwrap().id);
        }
        life.subscribe(1, "/queue/q")?;
        for second in 0..20 {
            clock.advance_ms(700);
            life.step()?;
            let ids = note(&mut life, runs);
            if !ids.is_empty() && second % 3 != 0 {
                life.ask(Command::Acknowledge { subscription: 1, ids, cumulative: false })?;
            }
            if second == 15 {
                let id = runs.schedules[0];
                let answer = life.ask(Command::Cancel { ids: vec![id] })?;
                let Answer::Verdicts(verdicts) = answer else { panic!("{answer:?}") };
                assert!(verdicts[0].done);
                runs.cancelled = Some((id, START + 16 * 700));
            }
        }
        let _ = note(&mut life, runs);
        Some(())
    };
    let check = |mut life: Life, clock: &SimClock, runs: &Runs, done: bool| {
        let ids = runs.schedules.clone();
        if ids.is_empty() {
            return;
        }
        clock.advance_ms(10_000);
        life.subscribe(1, "/queue/q").unwrap();
        let Some(Answer::Statuses(told)) = life.ask(Command::Query { ids }) else { panic!() };
        let mut after = Runs::default();
        let _ = life.came();
        let _ = note(&mut life, &mut after);
        for status in told {
            let of = |seen: &BTreeMap<String, BTreeSet<MessageId>>| {
                seen.get(&status.id.to_string()).cloned().unwrap_or_default()
            };
            let all: BTreeSet<_> = of(&runs.seen).union(&of(&after.seen)).copied().collect();
            match status.state {
                State::Scheduled => assert_eq!(all.len(), status.attempts as usize, "{status:?}"),
                State::Ended => assert_eq!(all.len(), 4, "{status:?}"),
                State::Cancelled => {
                    let (id, at_ms) = runs.cancelled.unwrap_or((status.id, u64::MAX));
                    assert!(id == status.id && all.iter().all(|copy| copy.due_ms() <= at_ms));
                }
                other => panic!("{other:?}: {status:?}"),
            }
            assert!(!done || status.id != runs.schedules[0] || status.state == State::Cancelled);
        }
    };
    sweep(workload, check);
}
