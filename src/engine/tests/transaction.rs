//! Transactions: all or nothing, judged as a whole.

use bytes::Bytes;

use super::invariants;
use super::rig::{A, B, Rig, ack, after, dump, produce};
use crate::base::command::{Answer, Command, Part, PartDone, Verdict};
use crate::base::config::ShardConfig;
use crate::base::error::{ClientError, Code};
use crate::base::id::MessageId;
use crate::base::lifecycle::State;
use crate::base::limits;
use crate::base::message::Message;

fn publish(to: &str, messages: &[Message]) -> Part {
    let Command::Produce { destination, batch } = produce(to, messages) else { unreachable!() };
    Part::Produce { destination, batch }
}

fn acknowledge(subscription: u32, ids: &[MessageId]) -> Part {
    Part::Acknowledge { subscription, ids: ids.to_vec(), cumulative: false }
}

fn reject(subscription: u32, ids: &[MessageId], requeue: bool) -> Part {
    Part::Reject { subscription, ids: ids.to_vec(), requeue }
}

fn one(body: &str) -> Message {
    Message::new(body)
}

impl Rig {
    fn transact(&mut self, parts: Vec<Part>) -> Result<Vec<PartDone>, ClientError> {
        match self.ask(Command::Transaction { parts }) {
            Answer::Transacted(done) => Ok(done),
            Answer::Failed(error) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    /// Goal: it is refused, and nothing of it happens. Method: the whole state before and after.
    fn refuses(&mut self, parts: Vec<Part>, code: Code, says: &str) {
        self.step(vec![]);
        let before = dump(&self.engine, &self.root);
        let error = self.transact(parts).unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.contains(says), "{error}");
        assert!(dump(&self.engine, &self.root) == before, "something happened: {error}");
        invariants::check(&self.engine, &self.root);
    }
}

fn produced(done: &PartDone) -> Vec<(MessageId, bool)> {
    match done {
        PartDone::Produced(all) => all.iter().map(|p| (p.id, p.duplicate)).collect(),
        other => panic!("{other:?}"),
    }
}

fn verdicts(done: &PartDone) -> &[Verdict] {
    match done {
        PartDone::Verdicts(all) => all,
        other => panic!("{other:?}"),
    }
}

/// Goal: all parts are done in one batch of the journal, and each is answered. Method: what was received is
/// acknowledged and rejected, from memory and from the store; new and old destinations are published to.
#[test]
fn all_parts_are_done_at_once() {
    for flush in [false, true] {
        let mut rig = Rig::new();
        for body in ["a", "b", "c", "d"] {
            rig.publish("/queue/in", one(body));
        }
        rig.publish("/topic/in", one("t"));
        if flush {
            rig.flush();
        }
        rig.subscribe(A, 1, "/queue/in", 10);
        let ids = rig.ids();
        rig.subscribe(A, 2, "/topic/in", 10);
        let topic = rig.ids();
        let batches = rig.batches();
        let parts = vec![
            acknowledge(1, &ids[..1]),
            publish("/queue/out", &[one("x"), after(5_000), one("z").with_priority(9)]),
            reject(1, &ids[1..2], false),
            acknowledge(2, &topic),
            reject(1, &ids[2..3], true),
            publish("/topic/new", &[one("y")]),
        ];
        let done = rig.transact(parts).unwrap();
        assert_eq!(rig.batches(), batches + 1);
        assert_eq!(verdicts(&done[0])[0].state, State::Acknowledged);
        assert_eq!((produced(&done[1]).len(), produced(&done[5]).len()), (3, 1));
        assert_eq!(verdicts(&done[2])[0].state, State::Dead);
        assert!(verdicts(&done[3])[0].done && verdicts(&done[4])[0].done);
        let again: Vec<_> = rig.take_received().iter().map(|(_, d)| (d.id, d.attempt)).collect();
        assert_eq!(again, [(ids[2], 2)], "it came back");
        assert_eq!(rig.state(ids[0]), State::Acknowledged);
        assert_eq!(rig.state(produced(&done[1])[1].0), State::Scheduled);
        invariants::check(&rig.engine, &rig.root);
        rig.check_replay();
        rig.check_flushes(2);
    }
}

/// Goal: whatever is refused in any part, nothing is done, and the part is named. Method: a good part and
/// good acknowledgements, and behind them one of each that is bad.
#[test]
fn one_bad_part_refuses_all() {
    let mut rig = Rig::with(ShardConfig { max_destinations: 5, ..ShardConfig::default() });
    rig.publish("/queue/full", one("1"));
    let name = Bytes::from_static(b"/queue/full");
    rig.ask(Command::LimitDestination { name, max_messages: Some(3), max_age_ms: None });
    rig.publish("/queue/in", one("a"));
    rig.publish("/topic/t", one("t"));
    rig.subscribe(A, 1, "/queue/in", 10);
    let ids = rig.ids();
    rig.subscribe(A, 2, "/topic/t", 10);
    let topic = rig.ids();
    rig.subscribe(B, 3, "/queue/in", 10);
    let with = |bad: Part| {
        vec![publish("/queue/out", &[one("x")]), acknowledge(1, &ids), reject(2, &topic, true), bad]
    };
    let bad = [
        (publish("/nowhere", &[one("x")]), Code::BadDestination, "part 4"),
        (publish("/queue/out", &[one("x"), after(-1)]), Code::BadDelay, "part 4: message 2"),
        (publish("/queue/out", &[one("x").with_priority(10)]), Code::BadPriority, "message 1"),
        (publish("/queue/full", &vec![one("x"); 3]), Code::DestinationFull, "message 3"),
        (acknowledge(0, &ids), Code::SubscriptionNotFound, "part 4"),
        (acknowledge(3, &ids), Code::SubscriptionNotFound, "part 4"),
        (acknowledge(1, &topic), Code::NotYours, "part 4"),
        (acknowledge(1, &[]), Code::BadBatch, "part 4"),
        (reject(9, &ids, true), Code::SubscriptionNotFound, "part 4"),
        (reject(2, &topic, false), Code::WrongKind, "part 4"),
    ];
    for (bad, code, says) in bad {
        rig.refuses(with(bad), code, says);
    }
    // One more is allowed, and is not there for both.
    let two = vec![publish("/queue/o1", &[one("x")]), publish("/queue/o2", &[one("x")])];
    rig.refuses([with(two[0].clone()), two].concat(), Code::TooManyDestinations, "part 6");
    rig.refuse_new = Some(Code::DiskFull);
    rig.refuses(
        vec![publish("/queue/in", &[one("x")]), acknowledge(1, &ids)],
        Code::DiskFull,
        "part 1",
    );
    // Who publishes nothing is not refused.
    let done = rig.transact(vec![acknowledge(1, &ids)]).unwrap();
    assert!(verdicts(&done[0])[0].done);
    rig.check_replay();
}

/// Goal: parts are judged together: what each alone would be allowed may be too much. Method: room,
/// memory and new destinations, each shared by two parts.
#[test]
fn parts_are_judged_together() {
    let mut rig = Rig::with(ShardConfig { max_destinations: 1, ..ShardConfig::default() });
    let both = || vec![publish("/queue/a", &[one("x")]), publish("/queue/b", &[one("x")])];
    rig.refuses(both(), Code::TooManyDestinations, "part 2");
    let mut rig = Rig::new();
    rig.transact(both()).unwrap();
    let name = Bytes::from_static(b"/queue/a");
    rig.ask(Command::LimitDestination { name, max_messages: Some(2), max_age_ms: None });
    let twice = vec![publish("/queue/a", &[one("x")]), publish("/queue/a", &[one("x")])];
    rig.refuses(twice.clone(), Code::DestinationFull, "part 2");
    rig.subscribe(A, 1, "/queue/a", 10);
    let ids = rig.ids();
    rig.refuses([vec![acknowledge(1, &ids)], twice].concat(), Code::DestinationFull, "part 3");
    let mut rig = Rig::new();
    rig.engine.config.memory = 500;
    let large = publish("/queue/a", &[Message::new(vec![0; 1_000])]);
    rig.refuses(vec![large.clone(), large], Code::MemoryFull, "part 2");
}

/// Goal: dedup ids inside a transaction answer as anywhere. Method: seen before, seen in an earlier part,
/// seen for another destination; from memory and from the store; a duplicate takes no room.
#[test]
fn duplicates_answer_as_anywhere() {
    let mut rig = Rig::new();
    let with = |dedup: &str| one("x").with_dedup(dedup);
    let before = rig.publish("/queue/a", with("k1"));
    let name = Bytes::from_static(b"/queue/a");
    rig.ask(Command::LimitDestination { name, max_messages: Some(2), max_age_ms: None });
    rig.flush();
    let parts = vec![
        publish("/queue/a", &[with("k1"), with("k2")]),
        publish("/queue/b", &[with("k1")]),
        publish("/queue/a", &[with("k2")]),
    ];
    let done = rig.transact(parts.clone()).unwrap();
    let first = produced(&done[0]);
    assert_eq!((first[0], first[1].1), ((before, true), false));
    assert!(!produced(&done[1])[0].1);
    assert_eq!(produced(&done[2]), [(first[1].0, true)]);
    let again = rig.transact(parts).unwrap();
    assert!(again.iter().all(|done| produced(done).iter().all(|(_, duplicate)| *duplicate)));
    rig.check_replay();
}

/// Goal: an id that is no longer out is no failure. Method: acknowledged before, and in an earlier part.
#[test]
fn what_is_done_already_is_no_failure() {
    let mut rig = Rig::new();
    rig.publish("/queue/in", one("a"));
    rig.publish("/queue/in", one("b"));
    rig.subscribe(A, 1, "/queue/in", 10);
    let ids = rig.ids();
    rig.ask(ack(1, &ids[..1]));
    let done = rig.transact(vec![acknowledge(1, &ids), reject(1, &ids, false)]).unwrap();
    let told = |done: &PartDone| verdicts(done).iter().map(|v| v.done).collect::<Vec<_>>();
    assert_eq!((told(&done[0]), told(&done[1])), (vec![false, true], vec![false, false]));
}

/// Goal: a dead letter destination that the transaction itself makes is in nobody's way. Method: the last
/// place for a destination is taken by a part, and a rejected message needs one more.
#[test]
fn dead_letters_have_a_place() {
    let mut rig = Rig::with(ShardConfig { max_destinations: 2, ..ShardConfig::default() });
    rig.publish("/queue/in", one("a"));
    rig.subscribe(A, 1, "/queue/in", 10);
    let ids = rig.ids();
    let parts = vec![reject(1, &ids, false), publish("/queue/out", &[one("x")])];
    let done = rig.transact(parts).unwrap();
    assert_eq!(verdicts(&done[0])[0].state, State::Dead);
    rig.check_replay();
}

/// Goal: each bound is where it is said to be. Method: the last that is allowed and one more.
#[test]
fn a_transaction_has_bounds() {
    let mut rig = Rig::new();
    let parts = |count| vec![publish("/queue/a", &[one("x")]); count];
    rig.refuses(vec![], Code::BadBatch, "0 parts");
    rig.refuses(parts(limits::TRANSACTION_PARTS_MAX + 1), Code::BadBatch, "1001 parts");
    rig.transact(parts(limits::TRANSACTION_PARTS_MAX)).unwrap();
    let half = publish("/queue/a", &vec![one("x"); limits::BATCH_ITEMS_MAX / 2]);
    let more = publish("/queue/a", &[one("x")]);
    rig.transact(vec![half.clone(), half.clone()]).unwrap();
    rig.refuses(vec![half.clone(), half, more], Code::BadBatch, "10001 messages");
    let large = publish("/queue/a", &[Message::new(vec![0; limits::BODY_BYTES_MAX])]);
    rig.transact(vec![large.clone(); 7]).unwrap();
    rig.refuses(vec![large; 8], Code::BadBatch, "bytes");
}
