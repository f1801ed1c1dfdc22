//! Patterns: one subscription for many topics, those there are and those to come.

use super::invariants;
use super::rig::{A, B, Rig, ack, durable, produce, refused, subscribe};
use crate::base::command::{Answer, Command, Delivery, StartAt, Subscribe};
use crate::base::error::Code;
use crate::base::id::MessageId;
use crate::base::limits;
use crate::base::message::Message;

fn with(command: Command, change: impl Fn(&mut Subscribe)) -> Command {
    let Command::Subscribe(mut wish) = command else { unreachable!() };
    change(&mut wish);
    Command::Subscribe(wish)
}

fn publish(rig: &mut Rig, to: &str, count: usize) {
    rig.ask(produce(to, &vec![Message::new("x"); count]));
}

/// Where each delivery came from, and its offset.
fn came(rig: &mut Rig) -> Vec<(String, u64)> {
    let all = rig.take_received().into_iter();
    all.map(|(_, d)| (d.destination.strip_prefix("/topic/").unwrap().to_owned(), d.offset))
        .collect()
}

fn all(deliveries: &[(&str, u64)]) -> Vec<(String, u64)> {
    deliveries.iter().map(|(name, offset)| ((*name).to_owned(), *offset)).collect()
}

#[test]
fn it_takes_topics_that_are_there_and_those_to_come() {
    let mut rig = Rig::new();
    publish(&mut rig, "/topic/a.x", 2);
    publish(&mut rig, "/topic/b.x", 1);
    let latest = with(subscribe(1, "/topic/a.*", 100), |wish| wish.start = StartAt::Latest);
    assert_eq!(rig.ask(latest), Answer::Subscribed { next_offset: 0 });
    rig.subscribe(B, 1, "/topic/>", 100);
    assert_eq!(came(&mut rig), all(&[("a.x", 1), ("a.x", 2), ("b.x", 1)]), "B began at the oldest");
    publish(&mut rig, "/topic/a.x", 1);
    publish(&mut rig, "/topic/a/new", 2);
    publish(&mut rig, "/topic/a.x.y", 1);
    rig.ask(produce("/queue/a.q", &[Message::new("x")]));
    let own = |session| move |(s, _): &(_, Delivery)| *s == session;
    let of_a: Vec<_> = rig.received.iter().filter(|own_| own(A)(own_)).collect();
    let of_a: Vec<_> =
        of_a.iter().map(|(_, d)| (&*d.destination, d.offset, d.by_pattern)).collect();
    assert_eq!(
        of_a,
        [("/topic/a.x", 3, true), ("/topic/a/new", 1, true), ("/topic/a/new", 2, true)]
    );
    assert_eq!(rig.received.iter().filter(|got| own(B)(got)).count(), 4);
    invariants::check(&rig.engine, &rig.root);
    rig.check_replay();
}

#[test]
fn messages_are_acknowledged_and_rejected_by_its_number() {
    let mut rig = Rig::new();
    rig.subscribe(A, 1, "/topic/#", 100);
    rig.subscribe(A, 2, "/topic/a", 100);
    for _ in 0..2 {
        publish(&mut rig, "/topic/a", 1);
        publish(&mut rig, "/topic/b", 1);
    }
    let mine = |d: &&Delivery| d.subscription == 1;
    let all: Vec<Delivery> = rig.take_received().into_iter().map(|(_, d)| d).collect();
    let ids: Vec<MessageId> = all.iter().filter(mine).map(|d| d.id).collect();
    assert_eq!(ids.len(), 4);
    assert!(rig.verdict(ack(1, &[ids[1]])).0);
    assert!(rig.verdict(Command::Reject { subscription: 1, ids: vec![ids[0]], requeue: true }).0);
    let again = rig.take_received().remove(0).1;
    assert_eq!((again.id, again.attempt, &*again.destination), (ids[0], 2, "/topic/a"));
    assert!(!rig.verdict(ack(1, &[ids[1]])).0, "it is done already");
    // Everything delivered before: the one that came again came last.
    let before = |id| Command::Acknowledge { subscription: 1, ids: vec![id], cumulative: true };
    assert!(rig.verdict(before(ids[3])).0);
    invariants::check(&rig.engine, &rig.root);
    rig.pass(limits::ACK_TIMEOUT_RANGE_MS.end() + 1);
    let left: Vec<_> =
        rig.take_received().into_iter().map(|(_, d)| (d.subscription, d.id)).collect();
    assert!(left.iter().all(|(number, _)| *number == 2), "{left:?}");
    publish(&mut rig, "/queue/q", 1);
    let other = rig.publish("/queue/q", Message::new("x"));
    assert_eq!(refused(&rig.ask(ack(1, &[other]))), Some(Code::NotYours));
    rig.check_replay();
}

/// Goal: one credit over all, and none of the topics starves. Method: a credit of 2, four topics with a backlog each,
/// acknowledge one by one: all have come once before one has come for the third time.
#[test]
fn one_credit_is_shared_fairly() {
    let mut rig = Rig::new();
    let topics = ["/topic/a", "/topic/b", "/topic/c", "/topic/d"];
    for topic in topics {
        publish(&mut rig, topic, 30);
    }
    rig.subscribe(A, 1, "/topic/*", 2);
    let mut seen = Vec::new();
    while seen.len() < 4 * 30 {
        let got = rig.take_received();
        assert!(!got.is_empty() && got.len() <= 2, "{} came", got.len());
        for (_, delivery) in got {
            seen.push((delivery.destination.clone(), delivery.offset));
            rig.ask(ack(1, &[delivery.id]));
        }
        invariants::check(&rig.engine, &rig.root);
    }
    let first: std::collections::BTreeSet<_> = seen[..12].iter().map(|own| own.0.clone()).collect();
    assert_eq!(first.len(), 4, "{:?}", &seen[..12]);
    for topic in topics {
        let offsets = seen.iter().filter(|own| &*own.0 == topic).map(|own| own.1);
        assert!(offsets.eq(1..=30), "in order");
    }
}

#[test]
fn a_deleted_topic_leaves_it_and_a_paused_one_holds_up_nobody() {
    let mut rig = Rig::new();
    for topic in ["/topic/a", "/topic/b", "/topic/c"] {
        publish(&mut rig, topic, 3);
    }
    let name = |name: &'static str| bytes::Bytes::from_static(name.as_bytes());
    rig.subscribe(A, 1, "/topic/*", 1);
    let first = rig.take_received().remove(0).1;
    // The others stand in line; one is paused, and the one whose message is out goes.
    rig.ask(Command::PauseDestination { name: name("/topic/b"), paused: true });
    rig.ask(Command::DeleteDestination { name: first.destination.to_string().into() });
    assert_eq!(rig.ended, []);
    let mut rest = Vec::new();
    while let Some((_, delivery)) = rig.take_received().pop() {
        rest.push(delivery.destination.to_string());
        rig.ask(ack(1, &[delivery.id]));
        invariants::check(&rig.engine, &rig.root);
    }
    let expected = if &*first.destination == "/topic/b" { 6 } else { 3 };
    assert_eq!(rest.len(), expected, "{rest:?}");
    rig.ask(Command::PauseDestination { name: name("/topic/b"), paused: false });
    assert_eq!(rig.take_received().len(), usize::from(expected == 3));
    rig.ask(Command::Unsubscribe { subscription: 1, delete: false });
    invariants::check(&rig.engine, &rig.root);
    publish(&mut rig, "/topic/c", 1);
    assert_eq!(rig.ids(), []);
    rig.check_replay();
}

/// Goal: what is out and was dropped meanwhile gives its credit back. Method: purge what is out, and acknowledge it.
#[test]
fn what_was_dropped_frees_its_credit() {
    let mut rig = Rig::new();
    rig.subscribe(A, 1, "/topic/*", 1);
    publish(&mut rig, "/topic/a", 1);
    publish(&mut rig, "/topic/b", 1);
    let out = rig.take_received().remove(0).1;
    rig.ask(Command::PurgeDestination { name: "/topic/a".into(), scheduled: false });
    rig.ask(ack(1, &[out.id]));
    assert_eq!(came(&mut rig), all(&[("b", 1)]));
    invariants::check(&rig.engine, &rig.root);
    // A session that is gone takes everything with it.
    rig.vanish(A);
    invariants::check(&rig.engine, &rig.root);
    assert_eq!(rig.engine.slots.len(), 0);
}

/// Goal: a backlog that lies in the store comes as any. Method: two flushed topics, a small credit.
#[test]
fn a_backlog_in_the_store_comes_in_order() {
    let mut rig = Rig::new();
    for topic in ["/topic/a", "/topic/b"] {
        publish(&mut rig, topic, 40);
    }
    rig.flush();
    rig.subscribe(A, 1, "/topic/*", 5);
    let mut seen = Vec::new();
    for _ in 0..100 {
        let got = rig.take_received();
        seen.extend(got.iter().map(|(_, d)| (d.destination.to_string(), d.offset)));
        rig.step(got.into_iter().map(|(s, d)| (s, ack(1, &[d.id]))).collect());
        invariants::check(&rig.engine, &rig.root);
    }
    assert_eq!(seen.len(), 80);
    for topic in ["/topic/a", "/topic/b"] {
        assert!(seen.iter().filter(|own| own.0 == topic).map(|own| own.1).eq(1..=40));
    }
}

#[test]
fn wishes_that_make_no_sense_are_refused() {
    let mut rig = Rig::new();
    let mut code = |command| refused(&rig.ask(command));
    assert_eq!(code(durable(1, "/topic/*", "d", false)), Some(Code::WrongKind));
    assert_eq!(code(durable(1, "/topic/*", "d", true)), Some(Code::WrongKind));
    let offset = with(subscribe(1, "/topic/*", 1), |wish| wish.start = StartAt::Offset(1));
    assert_eq!(code(offset), Some(Code::WrongKind));
    for name in ["/queue/*", "/topic/>.a", "/user/*/queue/a"] {
        assert_eq!(code(subscribe(1, name, 1)), Some(Code::BadDestination));
    }
    assert_eq!(code(produce("/topic/*", &[Message::new("x")])), Some(Code::BadDestination));
    assert_eq!(code(subscribe(1, "/topic/*", 1)), None);
    assert_eq!(code(subscribe(1, "/topic/a", 1)), Some(Code::SubscriptionExists));
}

#[test]
fn each_bound_is_kept() {
    let mut rig = Rig::new();
    let most = limits::PATTERN_TOPICS_MAX;
    rig.subscribe(B, 1, "/topic/t.*", 1);
    let create =
        |n: usize| (A, Command::CreateDestination { name: format!("/topic/t.{n}").into() });
    rig.step((0..most).map(create).collect());
    rig.subscribe(A, 1, "/topic/t.*", 1);
    rig.step(vec![create(most)]);
    let stats: std::collections::BTreeMap<_, _> = rig.engine.stats().into_iter().collect();
    assert_eq!(stats["pattern_topics_left_out_total"], 2);
    assert_eq!((stats["subscriptions"], stats["patterns"]), (2, 2));
    assert_eq!(rig.engine.slots.len(), 2 * most);
    let more = rig.ask(subscribe(2, "/topic/t.*", 1));
    assert_eq!(refused(&more), Some(Code::TooManySubscriptions));
    // Of all patterns together.
    let together = limits::PATTERN_TOPICS_ALL_MAX / most;
    rig.ask(Command::DeleteDestination { name: "/topic/t.0".into() });
    for n in 2..together as u32 {
        rig.subscribe(A, 10 + n, "/topic/t.*", 1);
    }
    assert!(rig.engine.slots.len() <= limits::PATTERN_TOPICS_ALL_MAX);
    let more = rig.ask(subscribe(2, "/topic/t.*", 1));
    assert_eq!(refused(&more), Some(Code::TooManySubscriptions));
    rig.vanish(A);
    rig.vanish(B);
    assert_eq!(rig.engine.slots.len(), 0);
    let session = |n: u32| crate::base::id::SessionId(u64::from(n / 200 + 10));
    for n in 0..limits::PATTERNS_MAX as u32 {
        if n % 200 == 0 {
            rig.engine.open_session(session(n));
        }
        rig.subscribe(session(n), n + 1, "/topic/none.*", 1);
    }
    let more = rig.ask(subscribe(1, "/topic/none.*", 1));
    assert_eq!(refused(&more), Some(Code::TooManySubscriptions));
}
