//! Topics: every subscriber gets every message; durable subscriptions go on where they were.

use bytes::Bytes;

use super::invariants;
use super::rig::{A, B, Rig, START, ack, produce, subscribe};
use crate::base::command::{Answer, Command, StartAt, Subscribe};
use crate::base::config::ShardConfig;
use crate::base::error::Code;
use crate::base::id::MessageId;
use crate::base::lifecycle::State;
use crate::base::limits;
use crate::base::message::{Delay, Message};

fn durable(number: u32, name: &'static str, start: StartAt) -> Command {
    let Command::Subscribe(plain) = subscribe(number, "/topic/t", 100) else { unreachable!() };
    Command::Subscribe(Subscribe { durable: Bytes::from_static(name.as_bytes()), start, ..plain })
}

fn offsets(rig: &mut Rig) -> Vec<u64> {
    rig.take_received().into_iter().map(|(_, delivery)| delivery.offset).collect()
}

#[test]
fn every_subscriber_gets_every_message_with_dense_offsets() {
    let mut rig = Rig::new();
    rig.subscribe(A, 1, "/topic/t", 100);
    rig.subscribe(B, 1, "/topic/t", 100);
    rig.ask(produce("/topic/t", &vec![Message::new("x"); 3]));
    let received = rig.take_received();
    for session in [A, B] {
        let offsets: Vec<_> =
            received.iter().filter(|(s, _)| *s == session).map(|(_, d)| d.offset).collect();
        assert_eq!(offsets, [1, 2, 3]);
    }
    rig.check_replay();
}

#[test]
fn a_new_subscription_begins_where_it_asks() {
    let mut rig = Rig::new();
    rig.ask(produce("/topic/t", &vec![Message::new("x"); 5]));
    for (start, expected) in [
        (StartAt::Earliest, vec![1, 2, 3, 4, 5]),
        (StartAt::Latest, vec![]),
        (StartAt::Offset(4), vec![4, 5]),
        (StartAt::Offset(0), vec![1, 2, 3, 4, 5]),
        (StartAt::Offset(99), vec![]),
    ] {
        let Command::Subscribe(plain) = subscribe(1, "/topic/t", 100) else { unreachable!() };
        rig.ask(Command::Subscribe(Subscribe { start, ..plain }));
        assert_eq!(offsets(&mut rig), expected, "{start:?}");
        rig.ask(Command::Unsubscribe { subscription: 1, delete: false });
    }
}

#[test]
fn a_topic_message_not_acknowledged_comes_again_to_the_same_subscription_only() {
    let mut rig = Rig::new();
    rig.subscribe_1s(A, 1, "/topic/t", 100);
    rig.subscribe_1s(B, 1, "/topic/t", 100);
    let id = rig.publish("/topic/t", Message::new("x"));
    rig.take_received();
    rig.step(vec![(B, ack(1, &[id]))]);
    rig.pass(1_000);
    let received = rig.take_received();
    assert_eq!(received.len(), 1);
    assert_eq!((received[0].0, received[0].1.attempt), (A, 2));
    let reject = Command::Reject { subscription: 1, ids: vec![id], requeue: true };
    rig.ask(reject);
    assert_eq!(rig.take_received()[0].1.attempt, 3);
}

#[test]
fn a_durable_subscription_goes_on_where_it_was_with_gaps() {
    let mut rig = Rig::new();
    rig.ask(durable(1, "d", StartAt::Earliest));
    rig.ask(produce("/topic/t", &vec![Message::new("x"); 6]));
    let ids = rig.ids();
    rig.ask(ack(1, &[ids[0], ids[1], ids[3]]));
    rig.restart(1_000);
    rig.ask(durable(5, "d", StartAt::Latest));
    assert_eq!(offsets(&mut rig), [3, 5, 6]);
    // A late acknowledgement of an earlier delivery counts.
    rig.vanish(A);
    rig.ask(durable(1, "d", StartAt::Latest));
    rig.take_received();
    rig.ask(ack(1, &[ids[2], ids[4], ids[5]]));
    rig.restart(0);
    rig.ask(durable(1, "d", StartAt::Latest));
    assert_eq!(offsets(&mut rig), [] as [u64; 0]);
}

#[test]
fn what_was_out_with_a_lost_session_says_that_it_comes_again() {
    let mut rig = Rig::new();
    rig.ask(durable(1, "d", StartAt::Earliest));
    rig.publish("/topic/t", Message::new("x"));
    for attempt in 1..4 {
        assert_eq!(rig.take_received()[0].1.attempt, attempt);
        rig.vanish(A);
        rig.ask(durable(1, "d", StartAt::Earliest));
    }
    rig.take_received();
    rig.publish("/topic/t", Message::new("new"));
    assert_eq!(rig.take_received()[0].1.attempt, 1, "this one nobody has seen");
}

#[test]
fn a_cumulative_acknowledgement_takes_all_up_to_the_offset() {
    let mut rig = Rig::new();
    rig.ask(durable(1, "d", StartAt::Earliest));
    rig.ask(produce("/topic/t", &vec![Message::new("x"); 6]));
    let ids = rig.ids();
    rig.ask(Command::Acknowledge { subscription: 1, ids: vec![ids[3]], cumulative: true });
    rig.restart(0);
    rig.ask(durable(1, "d", StartAt::Latest));
    assert_eq!(offsets(&mut rig), [5, 6]);
}

#[test]
fn a_cumulative_acknowledgement_counts_also_when_its_own_message_was_acknowledged_before() {
    for start in [durable(1, "d", StartAt::Earliest), subscribe(1, "/topic/t", 100)] {
        let mut rig = Rig::new();
        rig.ask(start);
        rig.ask(produce("/topic/t", &vec![Message::new("x"); 4]));
        let ids = rig.ids();
        rig.ask(ack(1, &ids[2..3]));
        let up_to =
            || Command::Acknowledge { subscription: 1, ids: vec![ids[2]], cumulative: true };
        assert_eq!(rig.verdict(up_to()), (true, State::Acknowledged));
        assert_eq!(rig.verdict(up_to()), (false, State::Acknowledged), "nothing was left to do");
        rig.pass(*limits::ACK_TIMEOUT_RANGE_MS.end());
        assert_eq!(rig.ids(), ids[3..], "only the last was not acknowledged");
        rig.check_replay();
    }
}

/// Goal: whoever answers for what retention has dropped meanwhile has its credit back at once, and
/// a reader that is slower than its topic is served on.
#[test]
fn credit_comes_back_for_messages_that_retention_has_dropped() {
    let answer = |ids: &[MessageId], how| match how {
        0 => ack(1, ids),
        1 => Command::Acknowledge { subscription: 1, ids: ids.to_vec(), cumulative: true },
        _ => Command::Reject { subscription: 1, ids: ids.to_vec(), requeue: true },
    };
    for how in 0..3 {
        let mut rig = Rig::with(ShardConfig { topic_messages: 4, ..ShardConfig::default() });
        rig.subscribe(A, 1, "/topic/t", 3);
        for round in 0..5u64 {
            rig.ask(produce("/topic/t", &vec![Message::new("x"); 10]));
            let out = rig.ids();
            assert_eq!(out.len(), 3, "round {round}");
            rig.ask(produce("/topic/t", &vec![Message::new("x"); 10]));
            assert!(rig.ids().is_empty(), "the credit is used up");
            let (done, state) = rig.verdict(answer(&out, how));
            assert_eq!((done, state), (false, State::Gone));
            invariants::check(&rig.engine, &rig.root);
            let next = rig.ids();
            assert_eq!(next.len(), 3, "three are free, three come");
            rig.ask(ack(1, &next));
            let rest = rig.ids();
            rig.ask(ack(1, &rest));
            rig.check_replay();
        }
    }
}

#[test]
fn a_topic_far_beyond_its_bound_is_brought_back_step_by_step_without_new_messages() {
    let mut rig = Rig::with(ShardConfig { topic_messages: 10, ..ShardConfig::default() });
    rig.step_limited(vec![(A, produce("/topic/t", &vec![Message::new("x"); 40]))], 7);
    let mut steps = 0;
    while rig.engine.has_work() {
        rig.step_limited(vec![], 7);
        steps += 1;
    }
    assert_eq!(steps, 4, "seven a step, the last one looks whether there is more");
    assert_eq!(rig.engine.stats().iter().find(|(name, _)| *name == "ready"), Some(&("ready", 10)));
    rig.check_replay();
}

/// Goal: how long a topic keeps a message is counted from when it came, so neither a due time long
/// ago, nor a long stop, nor a wall clock that goes astray takes one away unseen.
#[test]
fn a_message_grows_old_from_when_it_came() {
    const AGE: u64 = 50_000;
    let aged = || Rig::with(ShardConfig { topic_age_ms: AGE, ..ShardConfig::default() });
    let message = |delay| Message::new("x").with_delay(delay);
    let check = |mut rig: Rig, what: &str| {
        rig.pass(60_000 - 20_000);
        rig.check_replay();
        rig.subscribe(A, 1, "/topic/t", 100);
        assert_eq!(offsets(&mut rig), [1], "{what}");
        rig.pass(AGE + 60_000);
        rig.subscribe(B, 1, "/topic/t", 100);
        assert!(offsets(&mut rig).is_empty(), "{what}: too old");
    };

    let mut rig = aged();
    let id = rig.publish("/topic/t", message(Delay::At(5)));
    assert_eq!(id.due_ms(), START, "the past means now");
    check(rig, "due long ago");

    let mut rig = aged();
    rig.publish("/topic/t", message(Delay::At(5)));
    rig.pass(AGE - 10_000);
    rig.flush();
    rig.restart(20_000);
    rig.publish("/topic/t", message(Delay::At(5)));
    rig.subscribe(A, 1, "/topic/t", 100);
    assert_eq!(offsets(&mut rig), [2], "a checkpoint knows what is old and what is not");

    let mut rig = aged();
    rig.publish("/topic/t", message(Delay::After(1_000)));
    rig.restart(2 * AGE);
    check(rig, "due early in a long stop");

    let mut rig = aged();
    rig.now.wall_ms -= 2 * AGE;
    rig.publish("/topic/t", message(Delay::None));
    check(rig, "the wall stepped back");

    let mut rig = aged();
    rig.publish("/topic/t", message(Delay::None));
    rig.now.wall_ms += 2 * AGE;
    rig.now.engine_ms += 2 * AGE;
    check(rig, "the wall stepped forward");
}

/// Goal: what a durable subscription leaves out does not pile up in its cursor for ever.
#[test]
fn gaps_that_retention_has_dropped_are_forgotten() {
    let config =
        ShardConfig { topic_messages: 10, ack_timeout_ms: 1_000, ..ShardConfig::default() };
    let mut rig = Rig::with(config);
    rig.ask(durable(1, "d", StartAt::Earliest));
    for _ in 0..100 {
        rig.ask(produce("/topic/t", &vec![Message::new("x"); 2]));
        let ids = rig.ids();
        rig.ask(ack(1, &ids[1..]));
        // The first of the two is left out.
        rig.ask(Command::Unsubscribe { subscription: 1, delete: false });
        rig.ask(durable(1, "d", StartAt::Earliest));
        rig.check_replay();
        rig.take_received();
        let runs: usize = rig.engine.durables.values().map(|d| d.cursor.runs().len()).sum();
        assert!(runs <= 10, "{runs} runs over 10 messages");
    }
}

#[test]
fn a_durable_subscription_has_one_holder_and_can_be_deleted() {
    let mut rig = Rig::new();
    rig.ask(durable(1, "d", StartAt::Earliest));
    let busy = rig.step(vec![(B, durable(1, "d", StartAt::Earliest))]).remove(0);
    assert!(matches!(busy, Answer::Failed(e) if e.code == Code::SubscriptionBusy));
    rig.publish("/topic/t", Message::new("x"));
    let id = rig.ids()[0];
    rig.ask(ack(1, &[id]));
    rig.ask(Command::Unsubscribe { subscription: 1, delete: true });
    rig.check_replay();
    rig.ask(durable(1, "d", StartAt::Earliest));
    assert_eq!(rig.ids(), [id], "deleted and made anew, it begins anew");
    let Command::Subscribe(plain) = subscribe(9, "/queue/q", 1) else { unreachable!() };
    let on_queue = Subscribe { durable: Bytes::from_static(b"d"), ..plain };
    let refused = rig.ask(Command::Subscribe(on_queue));
    assert!(matches!(refused, Answer::Failed(e) if e.code == Code::WrongKind));
}

#[test]
fn a_topic_message_is_not_acknowledged_by_id_alone_or_by_a_stranger() {
    let mut rig = Rig::new();
    rig.subscribe(A, 1, "/topic/t", 100);
    rig.subscribe(A, 2, "/topic/other", 100);
    let id = rig.publish("/topic/t", Message::new("x"));
    for subscription in [0, 2] {
        let answer = rig.ask(ack(subscription, &[id]));
        assert!(matches!(answer, Answer::Failed(e) if e.code == Code::NotYours));
    }
}

#[test]
fn a_topic_keeps_what_it_may_and_offsets_go_on() {
    let config = ShardConfig { topic_messages: 10, topic_age_ms: 50_000, ..ShardConfig::default() };
    let mut rig = Rig::with(config);
    rig.ask(produce("/topic/t", &vec![Message::new("x"); 25]));
    rig.subscribe(A, 1, "/topic/t", 100);
    assert_eq!(offsets(&mut rig), (16..=25).collect::<Vec<_>>());
    rig.check_replay();
    rig.pass(120_000);
    rig.check_replay();
    rig.publish("/topic/t", Message::new("new"));
    assert_eq!(offsets(&mut rig), [26]);
    rig.subscribe(B, 1, "/topic/t", 100);
    assert_eq!(offsets(&mut rig), [26], "the others were old");
    let fetch = |offset| Command::Fetch {
        destination: Bytes::from_static(b"/topic/t"),
        offset,
        limit: 100,
    };
    let Answer::Fetched { messages, next_offset } = rig.ask(fetch(1)) else { panic!() };
    assert_eq!((messages.len(), messages[0].offset, next_offset), (1, 26, 27));
    let Answer::Fetched { messages, next_offset } = rig.ask(fetch(27)) else { panic!() };
    assert_eq!((messages.len(), next_offset), (0, 27));
}
