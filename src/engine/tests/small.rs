//! The small state is capped: what is new is refused, what is there goes on.

use bytes::Bytes;

use super::super::small::RUNS_MAX;
use super::super::topic::CHUNKS_MIN;
use super::invariants;
use super::rig::{A, B, Rig, ack, after, produce, subscribe};
use crate::base::command::{Answer, Command, Subscribe};
use crate::base::error::Code;
use crate::base::event::Event;
use crate::base::id::MessageId;
use crate::base::limits;
use crate::base::message::Message;
use crate::codec::event;

fn name(n: usize) -> String {
    let kind = if n.is_multiple_of(2) { "queue" } else { "topic" };
    format!("/{kind}/{n:0>100}")
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

/// How the first message of a request fared.
fn first(answer: Answer) -> Result<(), Code> {
    match answer {
        Answer::Produced(mut all) => all.remove(0).map(|_| ()).map_err(|error| error.code),
        Answer::Failed(error) => Err(error.code),
        other => panic!("{other:?}"),
    }
}

/// A rig with as many destinations of long names as it takes, and their number.
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

/// What the next checkpoint takes with as many outcomes as there can be, without open messages.
fn checkpoint_bytes(rig: &mut Rig) -> u64 {
    rig.freeze();
    let frozen = rig.frozen.as_ref().unwrap();
    let chunks = frozen.chunks(&frozen.rows().1);
    let all = frozen.checkpoint(&chunks, &|event, out| event::encode(event, out));
    let (mut rest, mut small) = (&all[..], 0);
    while !rest.is_empty() {
        let before = rest.len();
        if !matches!(
            event::decode(&mut rest).unwrap(),
            Event::Restored { .. } | Event::Finished { .. }
        ) {
            small += before - rest.len();
        }
    }
    rig.switch();
    small as u64 + limits::OUTCOMES_REMEMBERED as u64 * 18
}

/// Goal: small state is capped, whatever is done with what is there. Method: destinations with long
/// names until one is refused; each priority in each queue, dead letters of each, gaps in a cursor, and
/// topics that get one message for each of many flushes. The checkpoint is what a flush writes.
#[test]
fn the_small_state_in_a_checkpoint_stays_within_its_bound() {
    let (mut rig, count) = full();
    assert!(count > 10_000, "{count}");
    let queues = || (0..count).step_by(2);
    let topics = || (1..count).step_by(2);
    let (mut taken, mut not) = (0, 0);
    for priority in 0..=limits::PRIORITY_MAX {
        let message = [Message::new("x").with_priority(priority)];
        let all = queues().map(|n| (A, produce(&name(n), &message))).collect();
        for answer in rig.step(all) {
            match first(answer) {
                Ok(()) => taken += 1,
                Err(Code::TooManyDestinations) => not += 1,
                Err(code) => panic!("{code:?}"),
            }
        }
    }
    assert!(taken > count && not > 1_000, "{taken} taken, {not} not");
    for n in queues() {
        rig.subscribe(A, 1, &name(n), 10);
        let reject = Command::Reject { subscription: 1, ids: rig.ids(), requeue: false };
        rig.step(vec![(A, reject), (A, Command::Unsubscribe { subscription: 1, delete: false })]);
    }
    let message = [Message::new("x")];
    for _ in 0..20 {
        let all = topics().map(|n| (A, produce(&name(n), &message))).collect();
        assert!(
            rig.step(all).into_iter().all(|answer| first(answer).is_ok()),
            "what is there goes on"
        );
        let bytes = checkpoint_bytes(&mut rig);
        assert!(bytes <= limits::SMALL_STATE_BYTES, "{bytes}");
    }
    let bytes = checkpoint_bytes(&mut rig);
    assert!(bytes > limits::SMALL_STATE_BYTES * 7 / 8, "{bytes}: the bound is used");
    let longest = rig.engine.destinations.iter().map(|d| d.topic.chunks.len()).max();
    assert_eq!(longest, Some(CHUNKS_MIN));
    rig.restart(0);
    let bytes = checkpoint_bytes(&mut rig);
    assert!(bytes <= limits::SMALL_STATE_BYTES, "{bytes}");
    let no = produce(&name(0), &[Message::new("x").with_priority(9)]);
    assert_eq!(first(rig.ask(no)), Err(Code::TooManyDestinations), "a restart forgets nothing");
    assert_eq!(first(rig.ask(produce(&name(0), &[Message::new("x").with_priority(0)]))), Ok(()));
    invariants::check(&rig.engine, &rig.root);
}

/// Goal: at the bound nothing new is taken, whatever it is, nothing that is there fails, and deleting
/// makes room. A restart changes none of it.
#[test]
fn at_the_bound_only_what_is_new_is_refused() {
    let (mut rig, count) = full();
    let new = name(count + 1);
    assert_eq!(rig.try_publish(&new, after(10)), Err(Code::TooManyDestinations));
    assert_eq!(rig.ask(create(0)), Answer::Done, "it is there");
    // One that is given up has somewhere to go, and it was reckoned with.
    let before = rig.engine.small;
    let queue = rig.publish(&name(0), Message::new("x"));
    rig.subscribe(A, 1, &name(0), 1);
    let reject = Command::Reject { subscription: 1, ids: vec![queue], requeue: false };
    assert!(rig.verdict(reject).0);
    assert_eq!(rig.engine.small, before);

    rig.restart(0);
    assert_eq!(rig.engine.small, before);
    rig.ask(delete(2));
    let durables = (0..).take_while(|n| {
        let answer = rig.ask(durable(n + 1, format!("d{n}")));
        refused(&answer) != Some(Code::TooManySubscriptions)
    });
    assert!((1..20).contains(&durables.count()), "there was room");
    assert_eq!(refused(&rig.ask(create(2))), Some(Code::TooManyDestinations));
    rig.ask(delete(4));
    assert_eq!(rig.ask(create(2)), Answer::Done);
    assert_eq!(refused(&rig.ask(create(4))), Some(Code::TooManyDestinations));
    invariants::check(&rig.engine, &rig.root);
    rig.check_replay();
}

/// Goal: the place of dead letters is reserved by their queue, and by nobody when they are there. Method:
/// made and deleted in each order.
#[test]
fn dead_letters_are_counted_once() {
    let mut rig = Rig::new();
    let ask = |rig: &mut Rig, delete: bool, name: &'static str| {
        let name = Bytes::from_static(name.as_bytes());
        let command = match delete {
            true => Command::DeleteDestination { name },
            false => Command::CreateDestination { name },
        };
        assert_eq!(rig.ask(command), Answer::Done);
        rig.restart(0);
        invariants::check(&rig.engine, &rig.root);
        rig.engine.small.base
    };
    let queue = ask(&mut rig, false, "/queue/a");
    let both = ask(&mut rig, false, "/dlq/queue/a");
    assert_eq!(both, queue);
    let dead = ask(&mut rig, true, "/queue/a");
    assert!(dead < both);
    assert_eq!(ask(&mut rig, false, "/queue/a"), both);
    assert_eq!(ask(&mut rig, true, "/dlq/queue/a"), both);
    assert_eq!(ask(&mut rig, true, "/queue/a"), 0);
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
    let counted = |rig: &Rig| rig.engine.durables[&1].counted.growth;
    let ids = rig.ids();
    let (odd, even): (Vec<_>, Vec<_>) = ids.iter().enumerate().partition(|(n, _)| n % 2 == 1);
    for (part, grown) in [(odd, true), (even, false)] {
        let ids: Vec<_> = part.into_iter().map(|(_, id)| *id).collect();
        rig.step(vec![(B, ack(1, &ids))]);
        assert_eq!(counted(&rig) > 0, grown);
        invariants::check(&rig.engine, &rig.root);
        rig.flush();
        invariants::check(&rig.engine, &rig.root);
    }
}

/// Goal: acknowledgements of what was never handed out make no gaps without bound, and gaps can always be
/// closed. Method: each second message of a large topic by its id, for one subscription after another.
#[test]
fn gaps_have_a_bound() {
    let mut rig = Rig::new();
    let topic = name(1);
    let mut ids = Vec::new();
    for _ in 0..14 {
        let answer = rig.ask(produce(&topic, &vec![Message::new("x"); limits::BATCH_ITEMS_MAX]));
        let Answer::Produced(produced) = answer else { panic!() };
        ids.extend(produced.into_iter().map(|one| one.unwrap().id));
    }
    let odd: Vec<_> = ids.iter().skip(1).step_by(2).copied().collect();
    let mut opened = Vec::new();
    for (number, name) in [(1, ""), (2, "d"), (3, "e")] {
        assert!(refused(&rig.ask(durable(number, name.to_owned()))).is_none());
        let mut done = 0;
        for ids in odd.chunks(limits::BATCH_ITEMS_MAX) {
            let Answer::Verdicts(verdicts) = rig.ask(ack(number, ids)) else { panic!() };
            done += verdicts.iter().filter(|verdict| verdict.done).count();
        }
        opened.push(done);
        let closed = rig.verdict(ack(number, &ids[2..3]));
        assert!(closed.0, "a gap can be closed");
        let once_more = rig.verdict(ack(number, &odd[odd.len() - 1..]));
        assert!(once_more.0, "then there is room for another");
        let cumulative =
            Command::Acknowledge { subscription: number, ids: vec![ids[20_000]], cumulative: true };
        assert!(rig.verdict(cumulative).0);
        invariants::check(&rig.engine, &rig.root);
    }
    assert_eq!(opened, [limits::CURSOR_RUNS_MAX, RUNS_MAX, RUNS_MAX]);
}

/// A topic whose growth is used up by other subscriptions, and its ids.
fn crowded() -> (Rig, Vec<MessageId>) {
    let mut rig = Rig::new();
    rig.ask(create(0));
    let mut ids = Vec::new();
    for _ in 0..2 {
        let answer = rig.ask(produce(&name(1), &vec![Message::new("x"); limits::BATCH_ITEMS_MAX]));
        let Answer::Produced(produced) = answer else { panic!() };
        ids.extend(produced.into_iter().map(|one| one.unwrap().id));
    }
    let odd: Vec<_> = ids.iter().skip(1).step_by(2).copied().collect();
    for number in 1.. {
        assert!(refused(&rig.ask(durable(number, format!("other{number}")))).is_none());
        let Answer::Verdicts(verdicts) = rig.ask(ack(number, &odd)) else { panic!() };
        let done = verdicts.iter().filter(|verdict| verdict.done).count();
        rig.step(vec![(A, Command::Unsubscribe { subscription: number, delete: false })]);
        if done < RUNS_MAX {
            break;
        }
    }
    rig.ids();
    (rig, ids)
}

/// Goal: gaps that retention has dropped are in nobody's way. Method: a subscription with gaps goes away, the
/// topic is purged, and it comes back when there is no room for another gap of anybody.
#[test]
fn gaps_that_are_gone_do_not_stop_acknowledgements() {
    let (mut rig, ids) = crowded();
    rig.ask(durable(1, "d".to_owned()));
    let odd: Vec<_> = ids.iter().skip(1).step_by(2).copied().take(20).collect();
    let Answer::Verdicts(verdicts) = rig.ask(ack(1, &odd)) else { panic!() };
    let done = verdicts.iter().filter(|verdict| verdict.done).count();
    assert_eq!(done, 8, "so many are for everybody");
    rig.ask(Command::Unsubscribe { subscription: 1, delete: false });
    rig.ids();
    let topic = Bytes::from(name(1));
    rig.ask(Command::PurgeDestination { name: topic, scheduled: false });
    rig.ask(produce(&name(1), &vec![Message::new("x"); 3]));
    rig.ask(durable(1, "d".to_owned()));
    for id in rig.ids() {
        assert!(rig.verdict(ack(1, &[id])).0);
    }
    rig.flush();
    assert_eq!(rig.engine.small.growth, 0, "nobody has gaps");
    rig.check_replay();
}

/// Goal: what the server acknowledges itself makes no gaps without bound either, and goes on. Method: each second
/// message of a topic expires, and the others are handed out and not acknowledged for long.
#[test]
fn expired_messages_make_no_gaps_without_bound() {
    let (mut rig, _) = crowded();
    let topic = name(3);
    let Command::Subscribe(wish) = durable(1, "d".to_owned()) else { unreachable!() };
    let destination = Bytes::from(topic.clone());
    rig.step(vec![(A, Command::Subscribe(Subscribe { destination, credit: 1_000, ..wish }))]);
    rig.ask(Command::PauseDestination { name: Bytes::from(topic.clone()), paused: true });
    let both = [Message::new("stays"), Message::new("goes").with_expiry(5)];
    let messages: Vec<_> = both.iter().cycle().take(100).cloned().collect();
    rig.ask(produce(&topic, &messages));
    rig.pass(10);
    rig.ask(Command::PauseDestination { name: Bytes::from(topic), paused: false });
    let mut came = rig.ids();
    assert_eq!(came.len(), 9, "then there is a gap too many");
    invariants::check(&rig.engine, &rig.root);
    let mut all = 0;
    while let Some(first) = came.first().copied() {
        assert!(rig.verdict(ack(1, &[first])).0);
        came.remove(0);
        all += 1;
        came.extend(rig.ids());
        invariants::check(&rig.engine, &rig.root);
    }
    assert_eq!(all, 50, "each came");
    rig.check_replay();
}
