//! The seam between memory and what lies below it: order, counters and credit do not depend on where a
//! message lies.

use bytes::Bytes;

use super::invariants;
use super::rig::{A, Rig, START, ack, after, produce};
use crate::base::command::{Answer, Command};
use crate::base::config::ShardConfig;
use crate::base::id::MessageId;
use crate::base::lifecycle::State;
use crate::base::message::{Delay, Message};

const Q: &str = "/queue/q";
const T: &str = "/topic/t";

fn purge(name: &'static str) -> Command {
    Command::PurgeDestination { name: Bytes::from_static(name.as_bytes()), scheduled: false }
}

fn three_ready_below(rig: &mut Rig) -> Vec<MessageId> {
    let ids = (0..3).map(|_| rig.publish(Q, Message::new("x"))).collect();
    rig.flush();
    ids
}

/// Goal: a request that changes nothing leaves a message below where it is. Method: refused requests
/// about the last of a lane; then the lane is consumed.
#[test]
fn what_is_refused_moves_nothing_up() {
    let mut rig = Rig::new();
    let ids = three_ready_below(&mut rig);
    let last = vec![ids[2]];
    let refused = [
        Command::Reject { subscription: 0, ids: last.clone(), requeue: true },
        Command::Cancel { ids: last.clone() },
        Command::Reschedule { items: vec![(ids[2], Delay::After(1))] },
    ];
    for command in refused {
        assert_eq!(rig.verdict(command), (false, State::Ready));
    }
    let unknown = Command::Acknowledge { subscription: 7, ids: last, cumulative: false };
    assert!(matches!(rig.ask(unknown), Answer::Failed(_)));
    rig.subscribe(A, 1, Q, 10);
    let received = rig.take_received();
    assert_eq!(received.iter().map(|(_, d)| d.id).collect::<Vec<_>>(), ids);
    assert!(received.iter().all(|(_, d)| d.attempt == 1), "none was delivered before");
    rig.check_replay();
}

/// Goal: what is out while its queue is purged is still there after a crash. Method: it was named by a
/// refused request while it lay below.
#[test]
fn what_a_purge_leaves_alone_survives_a_crash_wherever_it_lay() {
    let mut rig = Rig::new();
    let ids = three_ready_below(&mut rig);
    rig.verdict(Command::Reject { subscription: 0, ids: vec![ids[2]], requeue: true });
    rig.subscribe(A, 1, Q, 1);
    let out = rig.ids();
    assert!(matches!(rig.ask(purge(Q)), Answer::Purged(_)));
    rig.restart(0);
    assert_eq!(rig.state(out[0]), State::Ready);
    invariants::check(&rig.engine, &rig.root);
}

/// Goal: a purge takes what was read back during a flush. Method: read back while the flush goes on,
/// purged before it is read again.
#[test]
fn a_purge_takes_what_was_read_back_during_a_flush() {
    let mut rig = Rig::new();
    let ids = three_ready_below(&mut rig);
    rig.freeze();
    rig.subscribe(A, 1, Q, 1);
    assert_eq!(rig.ids(), [ids[0]]);
    rig.switch();
    invariants::check(&rig.engine, &rig.root);
    assert!(matches!(rig.ask(purge(Q)), Answer::Purged(_)));
    invariants::check(&rig.engine, &rig.root);
    assert_eq!(rig.verdict(ack(0, &[ids[1]])), (false, State::Gone));
    rig.check_replay();
}

/// Goal: one acknowledged below by its id alone does not come, and counts once.
#[test]
fn a_ready_message_below_is_acknowledged_where_it_lies() {
    let mut rig = Rig::new();
    let ids = three_ready_below(&mut rig);
    let twice = ack(0, &[ids[1], ids[1]]);
    let Answer::Verdicts(verdicts) = rig.ask(twice) else { panic!() };
    assert_eq!(verdicts.iter().map(|v| v.done).collect::<Vec<_>>(), [true, false]);
    invariants::check(&rig.engine, &rig.root);
    rig.check_replay();
    rig.flush();
    assert_eq!(rig.verdict(ack(0, &[ids[1]])), (false, State::Acknowledged));
    rig.subscribe(A, 1, Q, 10);
    assert_eq!(rig.ids(), [ids[0], ids[2]]);
    rig.restart(0);
    invariants::check(&rig.engine, &rig.root);
}

/// Goal: cancelling what lies below costs no memory for its content, and is exact. Method: the same id
/// twice in a batch; a rescheduled one, whose id does not tell its place.
#[test]
fn a_scheduled_message_below_is_cancelled_where_it_lies() {
    let mut rig = Rig::new();
    let ids = [rig.publish(Q, after(5_000)), rig.publish(Q, after(6_000))];
    rig.ask(Command::Reschedule { items: vec![(ids[1], Delay::After(7_000))] });
    rig.flush();
    let cancel = Command::Cancel { ids: vec![ids[0], ids[1], ids[1]] };
    rig.root.prepare(&mut rig.engine, &cancel);
    assert_eq!(rig.engine.memory_bytes(), 0);
    let Answer::Verdicts(verdicts) = rig.ask(cancel) else { panic!() };
    let said: Vec<_> = verdicts.iter().map(|v| (v.done, v.state)).collect();
    let done = (true, State::Cancelled);
    assert_eq!(said, [done, done, (false, State::Cancelled)]);
    invariants::check(&rig.engine, &rig.root);
    rig.check_replay();
    rig.flush();
    rig.subscribe(A, 1, Q, 10);
    rig.pass(10_000);
    assert_eq!(rig.ids(), []);
    rig.check_replay();
}

/// Goal: credit comes back for a topic message that was handed out from below and dropped since.
/// Method: the reader was asked about a lost message before.
#[test]
fn what_was_read_from_below_and_dropped_gives_its_credit_back() {
    let mut rig = Rig::new();
    let ids: Vec<_> = (0..3).map(|_| rig.publish(T, Message::new("x"))).collect();
    rig.flush();
    rig.subscribe(A, 1, T, 1);
    assert_eq!(rig.ids(), [ids[0]]);
    rig.ask(ack(1, &[MessageId::new(START, 0, 999)]));
    rig.ask(ack(1, &[ids[0]]));
    assert_eq!(rig.ids(), [ids[1]]);
    rig.ask(purge(T));
    assert_eq!(rig.verdict(ack(1, &[ids[1]])), (false, State::Gone));
    let new = rig.publish(T, Message::new("new"));
    assert_eq!(rig.ids(), [new]);
}

/// Goal: a topic's bytes stay what they count. Method: messages are dropped while they are written.
#[test]
fn a_topic_counts_its_bytes_over_a_flush() {
    let mut rig = Rig::with(ShardConfig { topic_messages: 4, ..ShardConfig::default() });
    rig.ask(produce(T, &vec![Message::new("x"); 4]));
    rig.freeze();
    rig.ask(produce(T, &vec![Message::new("x"); 2]));
    rig.switch();
    invariants::check(&rig.engine, &rig.root);
    rig.ask(produce(T, &vec![Message::new("x"); 9]));
    invariants::check(&rig.engine, &rig.root);
}

/// Goal: the shard wakes up to read on when nothing it has read is left to fire. Method: what was read
/// is cancelled; the rest is due before the clocks are looked at anyway.
#[test]
fn the_end_of_what_was_read_wakes_the_shard() {
    let mut rig = Rig::new();
    let ids = [rig.publish(Q, after(5_000)), rig.publish(Q, after(5_010))];
    rig.flush();
    rig.pass(4_990);
    rig.flush();
    // One row is read.
    rig.step_limited(vec![(A, Command::Cancel { ids: vec![ids[0]] })], 1);
    assert!(rig.engine.next_wait_ms().is_some_and(|wait| wait <= 20));
}

/// Goal: what was out with a consumer is still there after a restart and a flush, whatever became of
/// what went out before it. Method: two are out, the first becomes a dead letter.
#[test]
fn what_was_out_behind_a_dead_letter_survives_a_restart_and_a_flush() {
    let mut rig = Rig::new();
    let ids = [rig.publish(Q, Message::new("x")), rig.publish(Q, Message::new("x"))];
    rig.subscribe(A, 1, Q, 2);
    assert_eq!(rig.ids(), ids);
    let reject = Command::Reject { subscription: 0, ids: vec![ids[0]], requeue: false };
    assert_eq!(rig.verdict(reject), (true, State::Dead));
    rig.restart(0);
    rig.flush();
    invariants::check(&rig.engine, &rig.root);
    rig.subscribe(A, 1, Q, 2);
    assert_eq!(rig.ids(), [ids[1]]);
}

/// Goal: a batch that an operator had left out of a damaged journal does no harm beyond what it held.
/// Method: without the batch that rescheduled it, a message is cancelled where it does not lie.
#[test]
fn a_cancel_after_a_lost_reschedule_counts_nothing_twice() {
    let mut rig = Rig::new();
    let id = rig.publish(Q, after(5_000));
    rig.flush();
    rig.ask(Command::Reschedule { items: vec![(id, Delay::After(6_000))] });
    assert_eq!(rig.verdict(Command::Cancel { ids: vec![id] }), (true, State::Cancelled));
    assert_eq!(rig.batches(), 2);
    let mut engine = rig.replayed_without(0);
    engine.finish_replay();
    let mut rig = rig.with_engine(engine);
    rig.pass(10_000);
    rig.subscribe(A, 1, Q, 10);
    assert_eq!(rig.engine.messages(), rig.ids().len() as u64);
}
