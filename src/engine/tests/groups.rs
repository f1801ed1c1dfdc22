//! Groups: consumers that share one durable subscription, and its cursor.

use super::invariants;
use super::rig::{A, B, Rig, ack, durable, produce, refused, subscribe};
use crate::base::command::{Answer, Command};
use crate::base::error::Code;
use crate::base::id::{MessageId, SessionId};
use crate::base::limits;
use crate::base::message::Message;

const T: &str = "/topic/t";

/// Two sessions that share a subscription of the topic.
fn group(credit: u32) -> Rig {
    let mut rig = Rig::new();
    for session in [A, B] {
        join(&mut rig, session, 1, credit);
    }
    rig
}

fn join(rig: &mut Rig, session: SessionId, number: u32, credit: u32) {
    let Command::Subscribe(mut wish) = durable(number, T, "g", true) else { unreachable!() };
    wish.credit = credit;
    let answer = rig.step(vec![(session, Command::Subscribe(wish))]).remove(0);
    assert!(matches!(answer, Answer::Subscribed { .. }), "{answer:?}");
}

fn publish(rig: &mut Rig, count: usize) {
    rig.ask(produce(T, &vec![Message::new("x"); count]));
}

/// What came: session, offset, attempt.
fn came(rig: &mut Rig) -> Vec<(SessionId, u64, u32)> {
    let all = rig.take_received();
    // Sessions stand in no order.
    let mut all: Vec<_> = all.into_iter().map(|(s, d)| (s, d.offset, d.attempt)).collect();
    all.sort_unstable();
    all
}

fn ids(rig: &mut Rig) -> Vec<MessageId> {
    let mut all: Vec<_> = rig.take_received().into_iter().map(|(_, d)| (d.offset, d.id)).collect();
    all.sort_unstable();
    all.into_iter().map(|(_, id)| id).collect()
}

#[test]
fn each_message_goes_to_one_of_them_in_turn() {
    let mut rig = group(100);
    rig.subscribe(A, 7, T, 100);
    publish(&mut rig, 6);
    let by_group = |session, number: u32, rig: &Rig| -> Vec<u64> {
        let own = rig.received.iter().filter(|(s, d)| (*s, d.subscription) == (session, number));
        own.map(|(_, d)| d.offset).collect()
    };
    assert_eq!(by_group(A, 1, &rig), [1, 3, 5]);
    assert_eq!(by_group(B, 1, &rig), [2, 4, 6]);
    assert_eq!(by_group(A, 7, &rig).len(), 6, "others have their own copies");
    invariants::check(&rig.engine, &rig.root);
}

#[test]
fn who_has_no_credit_is_passed_over() {
    let mut rig = Rig::new();
    join(&mut rig, A, 1, 1);
    join(&mut rig, B, 1, 3);
    publish(&mut rig, 6);
    assert_eq!(came(&mut rig), [(A, 1, 1), (B, 2, 1), (B, 3, 1), (B, 4, 1)]);
    publish(&mut rig, 1);
    assert_eq!(came(&mut rig), []);
    invariants::check(&rig.engine, &rig.root);
}

#[test]
fn what_a_consumer_had_goes_to_the_others_when_it_leaves() {
    let mut rig = group(100);
    publish(&mut rig, 4);
    let ids = ids(&mut rig);
    rig.step(vec![(A, ack(1, &ids[..1]))]);
    rig.vanish(A);
    rig.step(vec![]);
    assert_eq!(came(&mut rig), [(B, 3, 2)]);
    // Attempts are kept from one to the next.
    join(&mut rig, A, 2, 100);
    rig.step(vec![(B, Command::Unsubscribe { subscription: 1, delete: false })]);
    assert_eq!(came(&mut rig), [(A, 2, 2), (A, 3, 3), (A, 4, 2)]);
    invariants::check(&rig.engine, &rig.root);
    rig.check_replay();
}

#[test]
fn one_cursor_goes_on_over_a_restart() {
    let mut rig = group(100);
    publish(&mut rig, 6);
    let ids = ids(&mut rig);
    rig.step(vec![(A, ack(1, &[ids[0], ids[2]])), (B, ack(1, &[ids[3]]))]);
    rig.restart(0);
    join(&mut rig, B, 5, 100);
    let offsets: Vec<_> = came(&mut rig).into_iter().map(|(_, offset, _)| offset).collect();
    assert_eq!(offsets, [2, 5, 6]);
    rig.check_replay();
}

#[test]
fn a_cumulative_acknowledgement_takes_what_this_consumer_had() {
    let mut rig = group(100);
    publish(&mut rig, 8);
    let ids = ids(&mut rig);
    // A has 1 3 5 7, B 2 4 6 8.
    let all_before = |id| Command::Acknowledge { subscription: 1, ids: vec![id], cumulative: true };
    rig.step(vec![(A, all_before(ids[4]))]);
    rig.vanish(A);
    rig.step(vec![]);
    assert_eq!(came(&mut rig), [(B, 7, 2)]);
    // With those of A acknowledged in between it is one run.
    rig.step(vec![(B, all_before(ids[6]))]);
    rig.restart(0);
    join(&mut rig, A, 1, 100);
    assert_eq!(came(&mut rig).into_iter().map(|came| came.1).collect::<Vec<_>>(), [8]);
}

/// Goal: a late acknowledgement counts, and whoever has the message then is free again. Method: A's
/// lease ends, B has the message with a credit of one, A acknowledges, B gets the next.
#[test]
fn a_late_acknowledgement_takes_it_from_the_one_that_has_it() {
    let mut rig = Rig::new();
    join(&mut rig, A, 1, 1);
    publish(&mut rig, 2);
    let first = rig.take_received().remove(0).1.id;
    join(&mut rig, B, 1, 1);
    rig.take_received();
    rig.step(vec![(B, Command::Unsubscribe { subscription: 1, delete: false })]);
    rig.step(vec![(A, Command::Reject { subscription: 1, ids: vec![first], requeue: true })]);
    rig.take_received();
    rig.pass(1_000);
    join(&mut rig, B, 2, 1);
    let (session, delivery) = rig.take_received().remove(0);
    assert_eq!((session, delivery.offset), (B, 2));
    // A acknowledges what B has.
    rig.step(vec![(A, ack(1, &[delivery.id]))]);
    publish(&mut rig, 1);
    assert_eq!(came(&mut rig), [(B, 3, 1)]);
    invariants::check(&rig.engine, &rig.root);
    rig.check_replay();
}

#[test]
fn shared_and_exclusive_do_not_mix() {
    let mut rig = group(100);
    let busy = |rig: &mut Rig, command| refused(&rig.step(vec![(B, command)]).remove(0));
    assert_eq!(busy(&mut rig, durable(2, T, "g", false)), Some(Code::SubscriptionBusy));
    rig.ask(durable(3, T, "alone", false));
    assert_eq!(busy(&mut rig, durable(4, T, "alone", true)), Some(Code::SubscriptionBusy));
    // One that is shared is deleted by the last.
    let delete = Command::Unsubscribe { subscription: 1, delete: true };
    assert_eq!(busy(&mut rig, delete.clone()), Some(Code::SubscriptionBusy));
    rig.vanish(A);
    assert_eq!(busy(&mut rig, delete), None);
    assert_eq!(busy(&mut rig, durable(1, T, "g", false)), None);
    let queue = rig.ask(durable(8, "/queue/q", "", true));
    assert_eq!(refused(&queue), Some(Code::WrongKind));
    let Command::Subscribe(mut nameless) = subscribe(9, T, 1) else { unreachable!() };
    nameless.shared = true;
    assert_eq!(refused(&rig.ask(Command::Subscribe(nameless))), Some(Code::WrongKind));
    invariants::check(&rig.engine, &rig.root);
    rig.check_replay();
}

/// Goal: a backlog that lies in the store goes to all of them, each message once. Method: flush it, then take it
/// with two consumers of small credit.
#[test]
fn a_backlog_in_the_store_is_shared() {
    let mut rig = Rig::new();
    rig.ask(durable(1, T, "g", true));
    rig.ask(Command::Unsubscribe { subscription: 1, delete: false });
    publish(&mut rig, 100);
    rig.flush();
    join(&mut rig, A, 1, 3);
    join(&mut rig, B, 1, 3);
    let mut seen = Vec::new();
    for round in 0..200 {
        let received = rig.take_received();
        seen.extend(received.iter().map(|(_, d)| d.offset));
        rig.step(received.into_iter().map(|(s, d)| (s, ack(1, &[d.id]))).collect());
        invariants::check(&rig.engine, &rig.root);
        if round == 10 {
            rig.flush();
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=100).collect::<Vec<_>>());
    rig.check_replay();
}

#[test]
fn a_group_has_so_many_and_not_one_more() {
    let mut rig = Rig::new();
    let sessions = [A, B, SessionId(3)];
    rig.engine.open_session(sessions[2]);
    for n in 0..limits::SHARED_CONSUMERS_MAX as u32 {
        join(&mut rig, sessions[n as usize % 2], n + 1, 1);
    }
    let more = rig.step(vec![(sessions[2], durable(1, T, "g", true))]).remove(0);
    assert_eq!(refused(&more), Some(Code::TooManySubscriptions));
    invariants::check(&rig.engine, &rig.root);
}
