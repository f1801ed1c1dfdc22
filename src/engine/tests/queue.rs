//! Work queues: each message to one consumer, again until it is acknowledged or dead.

use super::invariants;
use super::rig::{A, B, Rig, ack, after, produce, subscribe};
use crate::base::command::{Answer, Command, Subscribe};
use crate::base::config::ShardConfig;
use crate::base::error::Code;
use crate::base::id::MessageId;
use crate::base::lifecycle::State;
use crate::base::limits;
use crate::base::message::Message;

#[test]
fn a_message_goes_to_one_consumer_and_is_gone_when_acknowledged() {
    let mut rig = Rig::new();
    rig.subscribe(A, 1, "/queue/q", 10);
    rig.subscribe(B, 1, "/queue/q", 10);
    let id = rig.publish("/queue/q", Message::new("x"));
    let received = rig.take_received();
    assert_eq!(received.len(), 1);
    assert_eq!((received[0].1.id, received[0].1.attempt), (id, 1));
    assert_eq!(rig.state(id), State::InFlight);
    assert_eq!(rig.verdict(ack(1, &[id])), (true, State::Acknowledged));
    assert_eq!(rig.verdict(ack(1, &[id])), (false, State::Acknowledged));
    assert_eq!(rig.state(id), State::Acknowledged);
    rig.pass(10_000_000);
    assert!(rig.ids().is_empty());
    rig.check_replay();
}

#[test]
fn consumers_take_turns_and_credit_bounds_what_is_out() {
    let mut rig = Rig::new();
    rig.subscribe(A, 1, "/queue/q", 3);
    rig.subscribe(B, 1, "/queue/q", 2);
    rig.ask(produce("/queue/q", &vec![Message::new("x"); 20]));
    let received = rig.take_received();
    let to = |session| received.iter().filter(|(s, _)| *s == session).count();
    assert_eq!((to(A), to(B)), (3, 2));
    let first = received[0].1.id;
    rig.ask(ack(1, &[first]));
    assert_eq!(rig.ids().len(), 1, "one acknowledged, one more sent");
}

#[test]
fn bytes_in_flight_are_bounded_but_one_message_always_passes() {
    let mut rig = Rig::new();
    let big = Message::new(vec![7; limits::BODY_BYTES_MAX]);
    rig.subscribe(A, 1, "/queue/q", 100);
    for _ in 0..20 {
        rig.ask(produce("/queue/q", std::slice::from_ref(&big)));
    }
    let most = limits::SUBSCRIPTION_BYTES_IN_FLIGHT_MAX / limits::BODY_BYTES_MAX;
    assert!((1..=most).contains(&rig.ids().len()));
}

#[test]
fn a_paused_session_is_handed_nothing_until_it_goes_on() {
    let mut rig = Rig::new();
    rig.subscribe(A, 1, "/queue/q", 10);
    rig.subscribe(A, 2, "/topic/t", 10);
    rig.engine.pause(A, true);
    rig.subscribe(A, 3, "/queue/q", 10);
    let queued = rig.publish("/queue/q", Message::new("x"));
    let streamed = rig.publish("/topic/t", Message::new("x"));
    assert!(rig.ids().is_empty());
    // Another is served meanwhile.
    rig.subscribe(B, 1, "/queue/q", 1);
    assert_eq!(rig.take_received()[0].1.id, queued);
    let next = rig.publish("/queue/q", Message::new("x"));
    assert!(rig.ids().is_empty());
    rig.engine.pause(A, false);
    rig.pass(0);
    let mut ids = rig.ids();
    ids.sort_unstable();
    assert_eq!(ids, [streamed, next]);
    rig.check_replay();
}

#[test]
fn a_timeout_a_reject_and_a_lost_session_deliver_again() {
    let mut rig = Rig::new();
    rig.subscribe_1s(A, 1, "/queue/q", 10);
    let id = rig.publish("/queue/q", Message::new("x"));
    rig.pass(999);
    assert_eq!(rig.take_received().len(), 1);
    rig.pass(1);
    assert_eq!(rig.take_received()[0].1.attempt, 2, "ack timeout");
    let reject = Command::Reject { subscription: 1, ids: vec![id], requeue: true };
    assert_eq!(rig.verdict(reject), (true, State::Ready));
    assert_eq!(rig.take_received()[0].1.attempt, 3, "reject");
    rig.engine.close_session(A, &mut crate::base::event::NoSink);
    rig.subscribe_1s(B, 7, "/queue/q", 10);
    let received = rig.take_received();
    assert_eq!((received[0].0, received[0].1.attempt), (B, 4));
    // The engine no longer knows session A, so B asks.
    let answers = rig.step(vec![(B, ack(7, &[id]))]);
    assert!(matches!(&answers[0], Answer::Verdicts(v) if v[0].done));
    rig.check_replay();
}

#[test]
fn what_came_back_goes_out_before_what_waited() {
    let mut rig = Rig::new();
    rig.subscribe_1s(A, 1, "/queue/q", 1);
    let first = rig.publish("/queue/q", Message::new("1"));
    let second = rig.publish("/queue/q", Message::new("2"));
    rig.pass(1_000);
    assert_eq!(rig.ids(), [first, first]);
    rig.ask(ack(1, &[first]));
    assert_eq!(rig.ids(), [second]);
}

#[test]
fn too_many_failures_make_a_dead_letter_that_can_be_consumed() {
    let mut rig = Rig::with(ShardConfig { max_failures: 3, ..ShardConfig::default() });
    rig.subscribe_1s(A, 1, "/queue/q", 10);
    let id = rig.publish("/queue/q", Message::new("x"));
    let reject = |requeue| Command::Reject { subscription: 1, ids: vec![id], requeue };
    assert_eq!(rig.verdict(reject(true)), (true, State::Ready));
    assert_eq!(rig.verdict(reject(true)), (true, State::Ready));
    assert_eq!(rig.verdict(reject(true)), (true, State::Dead));
    assert_eq!(rig.ids(), [id; 3], "never more than the bound");
    assert_eq!(rig.state(id), State::Dead);
    rig.restart(5);
    assert_eq!(rig.state(id), State::Dead);
    rig.subscribe_1s(B, 1, "/dlq/queue/q", 10);
    assert_eq!(rig.ids(), [id]);
    // The dead do not die again: they come back.
    rig.pass(1_000);
    assert_eq!(rig.ids(), [id]);
    rig.check_replay();
    assert_eq!(rig.verdict(ack(0, &[id])), (true, State::Acknowledged));
    rig.check_replay();
}

#[test]
fn a_reject_for_good_is_a_dead_letter_at_once() {
    let mut rig = Rig::new();
    rig.subscribe(A, 1, "/queue/q", 10);
    let id = rig.publish("/queue/q", Message::new("x"));
    let reject = Command::Reject { subscription: 1, ids: vec![id], requeue: false };
    assert_eq!(rig.verdict(reject), (true, State::Dead));
    rig.check_replay();
}

#[test]
fn a_late_acknowledgement_counts_also_after_a_restart() {
    let mut rig = Rig::new();
    rig.subscribe(A, 1, "/queue/q", 10);
    let id = rig.publish("/queue/q", Message::new("x"));
    rig.restart(10_000);
    assert_eq!(rig.verdict(ack(0, &[id])), (true, State::Acknowledged));
    rig.subscribe(A, 1, "/queue/q", 10);
    assert!(rig.ids().is_empty(), "acknowledged stays acknowledged");
    rig.check_replay();
}

#[test]
fn after_a_restart_what_had_fired_counts_as_delivered_before() {
    let mut rig = Rig::new();
    let fired = rig.publish("/queue/q", Message::new("x"));
    let later = rig.publish("/queue/q", after(60_000));
    rig.restart(10);
    rig.subscribe(A, 1, "/queue/q", 10);
    rig.pass(60_000);
    let received = rig.take_received();
    let attempt = |id| received.iter().find(|(_, d)| d.id == id).unwrap().1.attempt;
    assert_eq!((attempt(fired), attempt(later)), (2, 1));
}

#[test]
fn an_acknowledgement_of_what_never_fired_is_refused() {
    let mut rig = Rig::new();
    let id = rig.publish("/queue/q", after(1_000));
    assert_eq!(rig.verdict(ack(0, &[id])), (false, State::Scheduled));
    rig.subscribe(A, 1, "/queue/q", 10);
    rig.pass(1_000);
    assert_eq!(rig.ids(), [id]);
}

#[test]
fn a_cumulative_acknowledgement_takes_all_before() {
    let mut rig = Rig::new();
    rig.subscribe(A, 1, "/queue/q", 10);
    rig.ask(produce("/queue/q", &vec![Message::new("x"); 5]));
    let ids = rig.ids();
    let up_to = Command::Acknowledge { subscription: 1, ids: vec![ids[3]], cumulative: true };
    assert_eq!(rig.verdict(up_to), (true, State::Acknowledged));
    assert_eq!(ids.map_state(&mut rig), "AAAAI");
    rig.check_replay();
}

/// Goal: a batch of cumulative acknowledgements looks through what is out once, not once an id.
/// Method: the leases left to look through.
#[test]
fn a_cumulative_acknowledgement_leaves_nothing_behind_to_look_through() {
    let mut rig = Rig::new();
    rig.subscribe(A, 1, "/queue/q", 1_000);
    rig.ask(produce("/queue/q", &vec![Message::new("x"); 1_000]));
    let ids = rig.ids();
    let up_to = |ids: &[MessageId]| Command::Acknowledge {
        subscription: 1,
        ids: ids.to_vec(),
        cumulative: true,
    };
    let Answer::Verdicts(verdicts) = rig.ask(up_to(&ids[..999])) else { panic!() };
    assert!(verdicts.iter().all(|verdict| verdict.done));
    let subscription = rig.engine.slots.get(0).unwrap();
    assert_eq!((subscription.deadlines.len(), subscription.in_flight), (1, 1));
    // One that is not out any more has nothing before it.
    assert_eq!(rig.verdict(up_to(&ids[998..999])), (false, State::Acknowledged));
    assert_eq!(rig.state(ids[999]), State::InFlight);
    invariants::check(&rig.engine, &rig.root);
    rig.check_replay();
}

trait MapState {
    fn map_state(&self, rig: &mut Rig) -> String;
}

impl MapState for Vec<MessageId> {
    fn map_state(&self, rig: &mut Rig) -> String {
        let word = |state| match state {
            State::Acknowledged => 'A',
            State::InFlight => 'I',
            _ => '?',
        };
        self.iter().map(|id| word(rig.state(*id))).collect()
    }
}

#[test]
fn an_expired_message_is_not_delivered() {
    let mut rig = Rig::new();
    let id = rig.publish("/queue/q", Message::new("x").with_expiry(100));
    let kept = rig.publish("/queue/q", Message::new("y").with_expiry(101));
    rig.pass(100);
    rig.subscribe(A, 1, "/queue/q", 10);
    assert_eq!(rig.ids(), [kept]);
    assert_eq!(rig.state(id), State::Expired);
    rig.check_replay();
}

#[test]
fn totals_count_since_the_start() {
    let mut rig = Rig::new();
    rig.publish("/queue/q", after(10));
    rig.pass(10);
    rig.restart(10);
    let stats = rig.engine.stats();
    let totals: Vec<_> = stats.iter().filter(|(name, _)| name.ends_with("_total")).collect();
    assert!(!totals.is_empty() && totals.iter().all(|(_, value)| *value == 0), "{totals:?}");
}

#[test]
fn subscribing_is_checked() {
    let mut rig = Rig::new();
    rig.subscribe(A, 1, "/queue/q", 10);
    let mut code = |command| match rig.ask(command) {
        Answer::Failed(error) => error.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(subscribe(1, "/queue/q", 1)), Code::SubscriptionExists);
    assert_eq!(code(subscribe(2, "/queue/q", 0)), Code::BadCredit);
    assert_eq!(code(subscribe(2, "/queue/q", limits::CREDIT_MAX + 1)), Code::BadCredit);
    assert_eq!(code(subscribe(2, "nowhere", 1)), Code::BadDestination);
    let missing = Command::Unsubscribe { subscription: 9, delete: false };
    assert_eq!(code(missing), Code::SubscriptionNotFound);
    assert_eq!(code(ack(9, &[MessageId::new(1, 0, 1)])), Code::SubscriptionNotFound);
    for number in 2..=limits::SUBSCRIPTIONS_PER_SESSION_MAX as u32 {
        rig.subscribe(A, number, "/queue/q", 1);
    }
    let one_more = subscribe(limits::SUBSCRIPTIONS_PER_SESSION_MAX as u32 + 1, "/queue/q", 1);
    assert!(matches!(rig.ask(one_more), Answer::Failed(e) if e.code == Code::TooManySubscriptions));
}

#[test]
fn deleting_a_destination_ends_its_consumers_and_drops_what_is_scheduled_for_it() {
    let mut rig = Rig::new();
    rig.subscribe(A, 1, "/queue/q", 1);
    let out = rig.publish("/queue/q", Message::new("x"));
    let ready = rig.publish("/queue/q", Message::new("y"));
    let later = rig.publish("/queue/q", after(1_000));
    let name = bytes::Bytes::from_static(b"/queue/q");
    assert_eq!(rig.ask(Command::DeleteDestination { name }), Answer::Done);
    assert_eq!(rig.ended, [(A, 1)]);
    rig.take_received();
    rig.subscribe(A, 1, "/queue/q", 10);
    let new = rig.publish("/queue/q", Message::new("z"));
    rig.pass(2_000);
    assert!(rig.ids().iter().all(|id| *id == new), "an older generation came through");
    for id in [out, ready, later] {
        assert_eq!(rig.state(id), State::Gone);
    }
    rig.ask(ack(1, &[new]));
    let stats: std::collections::BTreeMap<_, _> = rig.engine.stats().into_iter().collect();
    assert_eq!((stats["messages"], stats["message_memory_bytes"]), (0, 0), "memory came back");
    rig.check_replay();
}

/// Goal: with a full disk the reserve is for what ends messages, so nothing new is written.
#[test]
fn what_is_new_is_refused_when_it_has_to_be_and_the_rest_goes_on() {
    let mut rig = Rig::new();
    rig.publish("/queue/q", Message::new("x"));
    rig.publish("/topic/t", Message::new("x"));
    let durable = |number, to| match subscribe(number, to, 5) {
        Command::Subscribe(plain) => {
            Command::Subscribe(Subscribe { durable: bytes::Bytes::from_static(b"d"), ..plain })
        }
        other => other,
    };
    rig.ask(durable(1, "/topic/t"));
    rig.ask(Command::Unsubscribe { subscription: 1, delete: false });
    rig.refuse_new = Some(Code::DiskFull);
    for command in [
        produce("/queue/q", &[Message::new("y")]),
        subscribe(2, "/queue/new", 5),
        Command::CreateDestination { name: bytes::Bytes::from_static(b"/queue/new") },
        durable(2, "/topic/new"),
        match durable(2, "/topic/t") {
            Command::Subscribe(wish) => {
                Command::Subscribe(Subscribe { durable: bytes::Bytes::from_static(b"e"), ..wish })
            }
            other => other,
        },
    ] {
        let answer = rig.ask(command);
        assert!(matches!(&answer, Answer::Failed(e) if e.code == Code::DiskFull), "{answer:?}");
    }
    assert!(matches!(rig.ask(durable(2, "/topic/t")), Answer::Subscribed { .. }));
    rig.subscribe(A, 3, "/queue/q", 5);
    let ids = rig.ids();
    assert_eq!(ids.len(), 3, "the topic's twice, the queue's once");
    assert_eq!(rig.verdict(ack(3, &ids[2..])), (true, State::Acknowledged));
    let bad = rig.ask(subscribe(4, "nowhere", 5));
    assert!(matches!(bad, Answer::Failed(e) if e.code == Code::BadDestination));
}

#[test]
fn a_batch_that_could_outgrow_the_journal_is_refused() {
    let mut rig = Rig::new();
    let count = limits::FRAME_BYTES_MAX / limits::BODY_BYTES_MAX + 1;
    let big = vec![Message::new(vec![0; limits::BODY_BYTES_MAX]); count];
    let answer = rig.ask(produce("/queue/q", &big));
    assert!(matches!(answer, Answer::Failed(e) if e.code == Code::BadBatch));
}

#[test]
fn memory_for_messages_is_bounded() {
    let mut rig = Rig::with(ShardConfig { memory: 2_500, ..ShardConfig::default() });
    let mut accepted = Vec::new();
    let code = loop {
        match rig.try_publish("/queue/q", Message::new(vec![0; 100])) {
            Ok((id, _)) => accepted.push(id),
            Err(code) => break code,
        }
    };
    assert_eq!(code, Code::MemoryFull);
    assert!((20..60).contains(&accepted.len()), "{}", accepted.len());
    // Taking one away makes room for one.
    rig.verdict(ack(0, &accepted[..1]));
    assert!(rig.try_publish("/queue/q", Message::new(vec![0; 100])).is_ok());
}

/// Goal: what stands in a lane behind messages that lie below is left there by a start. Method: the
/// first of the lane in memory is finished already, by its id, before anything was handed out.
#[test]
fn a_finished_message_ahead_of_a_lane_in_memory_does_not_stop_a_start() {
    let mut rig = Rig::new();
    let below = rig.publish("/queue/q", Message::new("below"));
    rig.flush();
    let finished = rig.publish("/queue/q", Message::new("finished"));
    assert_eq!(rig.verdict(ack(0, &[finished])), (true, State::Acknowledged));
    let last = rig.publish("/queue/q", Message::new("last"));
    rig.restart(0);
    rig.subscribe(A, 1, "/queue/q", 10);
    assert_eq!(rig.ids(), [below, last]);
    rig.check_replay();
}

/// Goal: a dead letter that was written out and read back is still told as delivered before.
#[test]
fn a_dead_letter_that_comes_from_below_is_not_told_as_new() {
    let mut rig = Rig::with(ShardConfig { max_failures: 2, ..ShardConfig::default() });
    rig.subscribe(A, 1, "/queue/q", 1);
    let id = rig.publish("/queue/q", Message::new("x"));
    for _ in 0..2 {
        rig.ask(Command::Reject { subscription: 1, ids: vec![id], requeue: true });
    }
    assert_eq!(rig.state(id), State::Dead);
    rig.take_received();
    rig.flush();
    rig.subscribe(A, 2, "/dlq/queue/q", 1);
    let received = rig.take_received();
    assert_eq!((received[0].1.id, received[0].1.attempt), (id, 3));
}
