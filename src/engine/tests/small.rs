//! The small state is capped: what is new is refused, what is there goes on.

use bytes::Bytes;

use super::invariants;
use super::rig::{A, B, Rig, ack, after, produce, subscribe};
use crate::base::command::{Answer, Command, Subscribe};
use crate::base::error::Code;
use crate::base::limits;
use crate::base::message::Message;
use crate::codec::event;

fn name(n: usize) -> String {
    let kind = if n.is_multiple_of(2) { "queue" } else { "topic" };
    format!("/{kind}/{n:0>width$}", width = limits::DESTINATION_BYTES_MAX - "/queue/".len())
}

fn create(n: usize) -> Command {
    Command::CreateDestination { name: name(n).into() }
}

fn delete(n: usize) -> Command {
    Command::DeleteDestination { name: name(n).into() }
}

/// A durable subscription of the first topic.
fn durable(number: u32, durable: String) -> Command {
    let Command::Subscribe(wish) = subscribe(number, &name(1), 10) else { unreachable!() };
    Command::Subscribe(Subscribe { durable: durable.into(), ..wish })
}

fn refused(answer: &Answer) -> Option<Code> {
    match answer {
        Answer::Failed(error) => Some(error.code),
        _ => None,
    }
}

/// A rig with as many destinations of the longest names as it takes, and their number.
fn full() -> (Rig, usize) {
    let mut rig = Rig::new();
    let mut count = 0;
    loop {
        let all = (count..count + 1_000).map(|n| (A, create(n))).collect();
        let answers = rig.step(all);
        let created = answers.iter().take_while(|answer| **answer == Answer::Done).count();
        count += created;
        if created < answers.len() {
            let last = refused(&answers[created]);
            assert_eq!(last, Some(Code::TooManyDestinations));
            return (rig, count);
        }
    }
}

/// Goal: small state is capped, with all outcomes there can be. Method: destinations with the longest
/// names until one is refused, a message in each; the checkpoint is what a flush writes.
#[test]
fn the_small_state_in_a_checkpoint_stays_within_its_bound() {
    let (mut rig, count) = full();
    assert!(count > 20_000, "{count}");
    let message = [Message::new("x")];
    let all: Vec<_> = (0..count).map(|n| (A, produce(&name(n), &message))).collect();
    assert!(rig.step(all).iter().all(|answer| refused(answer).is_none()), "what is there goes on");
    let frozen = rig.engine.freeze(&|event, out| event::encode(event, out));
    let chunks = frozen.chunks(&frozen.rows().1);
    let small = frozen.checkpoint(&chunks, &|event, out| event::encode(event, out));
    let outcomes = limits::OUTCOMES_REMEMBERED as u64 * 18;
    let bytes = small.len() as u64 + outcomes;
    assert!(bytes <= limits::SMALL_STATE_BYTES, "{bytes}");
    assert!(bytes > limits::SMALL_STATE_BYTES - 1024, "{bytes}: the bound is used");
}

/// Goal: at the bound nothing new is taken, whatever it is, nothing that is there fails, and deleting
/// makes room. A restart changes none of it.
#[test]
fn at_the_bound_only_what_is_new_is_refused() {
    let (mut rig, count) = full();
    let new = name(count + 1);
    assert_eq!(rig.try_publish(&new, after(10)), Err(Code::TooManyDestinations));
    assert_eq!(refused(&rig.ask(durable(1, "d".repeat(100)))), Some(Code::TooManySubscriptions));
    assert_eq!(rig.ask(create(0)), Answer::Done, "it is there");
    // One that is given up has somewhere to go.
    let queue = rig.publish(&name(0), Message::new("x"));
    rig.subscribe(A, 1, &name(0), 1);
    let reject = Command::Reject { subscription: 1, ids: vec![queue], requeue: false };
    assert!(rig.verdict(reject).0);

    rig.restart(0);
    for n in 2..5 {
        assert_eq!(rig.ask(delete(n)), Answer::Done);
    }
    assert!(refused(&rig.ask(durable(1, "d".to_owned()))).is_none(), "there is room");
    assert_eq!(rig.ask(create(2)), Answer::Done);
    // The durable subscription and the dead letters took the place of another.
    rig.ask(create(3));
    assert_eq!(refused(&rig.ask(create(4))), Some(Code::TooManyDestinations));
    invariants::check(&rig.engine, &rig.root);
    rig.check_replay();
}

/// Goal: what a durable subscription has acknowledged out of order is counted, and given back. Method:
/// each second message is acknowledged, then the others.
#[test]
fn gaps_are_counted() {
    let mut rig = Rig::new();
    let topic = name(1);
    let messages = vec![Message::new("x"); 40];
    rig.ask(produce(&topic, &messages));
    let Command::Subscribe(wish) = durable(1, "d".to_owned()) else { unreachable!() };
    let wish = Command::Subscribe(Subscribe { credit: 40, durable: Bytes::from("d"), ..wish });
    rig.step(vec![(B, wish)]);
    let counted = |rig: &Rig| rig.engine.durables[&1].counted_bytes;
    let before = counted(&rig);
    let ids = rig.ids();
    let (odd, even): (Vec<_>, Vec<_>) = ids.iter().enumerate().partition(|(n, _)| n % 2 == 1);
    for (part, grown) in [(odd, true), (even, false)] {
        let ids: Vec<_> = part.into_iter().map(|(_, id)| *id).collect();
        rig.step(vec![(B, ack(1, &ids))]);
        assert_eq!(counted(&rig) > before, grown);
        invariants::check(&rig.engine, &rig.root);
        rig.flush();
        invariants::check(&rig.engine, &rig.root);
    }
}
