//! What operators decide: purge, pause, limits. Each holds over a restart and a flush, wherever the
//! messages lie.

use bytes::Bytes;

use super::invariants;
use super::rig::{A, B, Rig, START, ack, after, produce, subscribe};
use crate::base::command::{Answer, Command, DestinationInfo, Purged};
use crate::base::config::ShardConfig;
use crate::base::error::Code;
use crate::base::event::{Event, Sequences};
use crate::base::id::{DestinationId, MessageId};
use crate::base::lifecycle::State;
use crate::base::limits;
use crate::base::message::{Delay, Message};
use crate::base::time::DELAY_MAX_MS;

const Q: &str = "/queue/q";
const T: &str = "/topic/t";

fn purge(name: &'static str, scheduled: bool) -> Command {
    Command::PurgeDestination { name: Bytes::from_static(name.as_bytes()), scheduled }
}

fn pause(name: &'static str, paused: bool) -> Command {
    Command::PauseDestination { name: Bytes::from_static(name.as_bytes()), paused }
}

fn limit(name: &'static str, max_messages: Option<u64>, max_age_ms: Option<u64>) -> Command {
    let name = Bytes::from_static(name.as_bytes());
    Command::LimitDestination { name, max_messages, max_age_ms }
}

fn describe(rig: &mut Rig, name: &'static str) -> DestinationInfo {
    let name = Bytes::from_static(name.as_bytes());
    match rig.ask(Command::DescribeDestination { name }) {
        Answer::Destination(info) => info,
        other => panic!("{other:?}"),
    }
}

fn counts(rig: &mut Rig, name: &'static str) -> (u64, u64, u64) {
    let info = describe(rig, name);
    (info.scheduled, info.ready, info.in_flight)
}

fn purged(rig: &mut Rig, name: &'static str, scheduled: bool) -> (u64, u64) {
    match rig.ask(purge(name, scheduled)) {
        Answer::Purged(Purged { ready, scheduled }) => (ready, scheduled),
        other => panic!("{other:?}"),
    }
}

fn stat(rig: &Rig, wanted: &str) -> u64 {
    rig.engine.stats().iter().find(|(name, _)| *name == wanted).unwrap().1
}

#[test]
fn a_purge_drops_what_is_ready_and_leaves_the_rest() {
    let mut rig = Rig::new();
    rig.subscribe(A, 1, Q, 2);
    let out = [rig.publish(Q, Message::new("out")), rig.publish(Q, Message::new("out"))];
    let ready = rig.publish(Q, Message::new("ready"));
    let later = rig.publish(Q, after(1_000));
    let elsewhere = rig.publish("/queue/other", Message::new("x"));
    rig.take_received();
    assert_eq!(purged(&mut rig, Q, false), (1, 0));
    assert_eq!(counts(&mut rig, Q), (1, 0, 2));
    let states = [ready, out[0], out[1], later, elsewhere].map(|id| rig.state(id));
    use State::{Gone, InFlight, Ready, Scheduled};
    assert_eq!(states, [Gone, InFlight, InFlight, Scheduled, Ready]);
    assert_eq!(rig.verdict(ack(1, &out[..1])), (true, State::Acknowledged));
    rig.pass(1_000);
    assert_eq!(rig.ids(), [later], "what was scheduled comes when it is due");
    invariants::check(&rig.engine, &rig.root);
    assert_eq!(purged(&mut rig, Q, false), (0, 0));
    assert_eq!(stat(&rig, "purged_total"), 1);
    rig.check_replay();
}

/// Goal: what was out when its queue was purged is not lost by a restart. In replay nothing is in
/// flight, so without the list in the event it would go with the rest.
#[test]
fn what_was_in_flight_at_a_purge_comes_again_after_a_restart() {
    let mut rig = Rig::new();
    rig.subscribe_1s(A, 1, Q, 2);
    rig.subscribe(B, 1, Q, 1);
    let ids: Vec<_> = (0..6).map(|_| rig.publish(Q, Message::new("x"))).collect();
    let out = rig.ids();
    assert_eq!(out.len(), 3);
    // One came back: it is ready, and goes.
    rig.ask(Command::Unsubscribe { subscription: 1, delete: false });
    rig.subscribe(A, 2, Q, 1);
    let held: Vec<MessageId> =
        ids.iter().copied().filter(|id| rig.state(*id) == State::InFlight).collect();
    assert_eq!(held.len(), 2);
    rig.take_received();
    assert_eq!(purged(&mut rig, Q, false), (4, 0));
    invariants::check(&rig.engine, &rig.root);
    rig.check_replay();
    rig.publish(Q, Message::new("new"));
    rig.restart(0);
    assert_eq!(counts(&mut rig, Q), (0, 3, 0));
    rig.subscribe(A, 1, Q, 10);
    let mut again = rig.ids();
    again.truncate(2);
    again.sort();
    let mut held = held;
    held.sort();
    assert_eq!(again, held);
}

#[test]
fn a_purge_of_what_is_scheduled_takes_the_wheel_what_was_put_back_and_the_memory() {
    let mut rig = Rig::new();
    let near = rig.publish(Q, after(1_000));
    let far = rig.publish(Q, after(DELAY_MAX_MS as i64));
    let at = Message::new("at").with_delay(Delay::At(START as i64 + 5_000));
    let held = rig.publish(Q, at);
    let other = rig.publish("/queue/other", after(1_000));
    // The engine line is past the due time, the wall is not: put back.
    rig.now.engine_ms += 10_000;
    rig.now.mono_ms += 500;
    rig.step(vec![]);
    assert_eq!(stat(&rig, "put_back_total"), 3, "and the two that are due later");
    let before = stat(&rig, "message_memory_bytes");
    assert_eq!(purged(&mut rig, Q, true), (0, 3));
    assert_eq!(counts(&mut rig, Q), (0, 0, 0));
    assert!(stat(&rig, "message_memory_bytes") < before / 2, "its memory is back at once");
    for id in [near, far, held] {
        assert_eq!(rig.verdict(Command::Cancel { ids: vec![id] }), (false, State::Gone));
        let items = vec![(id, Delay::None)];
        assert_eq!(rig.verdict(Command::Reschedule { items }), (false, State::Gone));
    }
    // The mark by which those in the store will be dropped, also over a baseline.
    let mark = |rig: &Rig| rig.engine.destination(DestinationId(0)).unwrap().control.purged_before;
    assert_eq!(mark(&rig), other.sequence() + 1);
    rig.check_replay();
    rig.flush();
    rig.restart(60_000);
    assert_eq!(mark(&rig), other.sequence() + 1);
    rig.subscribe(A, 1, Q, 10);
    rig.subscribe(A, 2, "/queue/other", 10);
    let new = rig.publish(Q, after(1_000));
    rig.pass(1_000);
    let mut came = rig.ids();
    came.sort();
    assert_eq!(came, [other, new], "and what came after the purge is not touched by it");
    invariants::check(&rig.engine, &rig.root);
}

/// Goal: a purged message that lies below memory is nowhere to be seen, and is dropped when it is
/// met. Method: some lie below, one is on its way there, one was put back, one came since.
#[test]
fn a_purge_of_what_is_scheduled_reaches_below_memory() {
    let mut rig = Rig::new();
    rig.subscribe(A, 1, Q, 10);
    let at = Message::new("at").with_delay(Delay::At(START as i64 + 1_500));
    let held = rig.publish(Q, at);
    let below = rig.publish(Q, after(90_000));
    let moved = rig.publish(Q, after(80_000));
    let items = vec![(moved, Delay::After(95_000))];
    assert!(rig.verdict(Command::Reschedule { items }).0);
    let other = rig.publish("/queue/other", after(90_000));
    rig.flush();
    // The wall lags, so that one of them is put back.
    rig.now.mono_ms += 1_100;
    rig.now.engine_ms += 2_000;
    rig.step(vec![]);
    assert_eq!(stat(&rig, "put_back_total"), 1);
    let frozen = rig.publish(Q, after(91_000));
    rig.freeze();
    let active = rig.publish(Q, after(92_000));
    assert_eq!(purged(&mut rig, Q, true), (0, 5));
    let new = rig.publish(Q, after(93_000));
    rig.check_replay();
    rig.switch();
    let all = [held, below, moved, frozen, active];
    let seen = |rig: &mut Rig| {
        invariants::check(&rig.engine, &rig.root);
        for id in all {
            assert_eq!(rig.state(id), State::Gone);
            assert_eq!(rig.verdict(Command::Cancel { ids: vec![id] }), (false, State::Gone));
            let items = vec![(id, Delay::After(1_000))];
            assert_eq!(rig.verdict(Command::Reschedule { items }), (false, State::Gone));
        }
        let list = Command::List {
            destination: Bytes::new(),
            from_ms: 0,
            to_ms: u64::MAX,
            limit: 10,
            after: None,
        };
        let Answer::Scheduled(page) = rig.ask(list) else { panic!() };
        assert_eq!(page.entries.iter().map(|e| e.id).collect::<Vec<_>>(), [other, new]);
        assert_eq!(counts(rig, Q), (1, 0, 0));
        rig.check_replay();
    };
    seen(&mut rig);
    // Written out with the next flush, the mark is in the checkpoint.
    rig.restart(0);
    rig.flush();
    rig.restart(0);
    seen(&mut rig);
    rig.subscribe(A, 1, Q, 10);
    rig.subscribe(A, 2, "/queue/other", 10);
    rig.pass(100_000);
    assert_eq!(rig.ids(), [other, new]);
    rig.check_replay();
}

/// Goal: a purge of what is ready reaches what lies below memory, spares what is out, and stops
/// there. Method: purges at each stage of a flush, some messages handed out before it.
#[test]
fn a_purge_of_what_is_ready_reaches_below_memory() {
    for stage in 0..4 {
        let mut rig = Rig::new();
        let batch = |n: usize| produce(Q, &vec![Message::new("x").with_priority(4); n]);
        rig.ask(batch(5));
        rig.publish(Q, Message::new("x").with_priority(9));
        rig.flush();
        // Two are out, one came back: all of them are open, the others of the lane lie below.
        rig.subscribe(A, 1, Q, 2);
        rig.subscribe(B, 1, Q, 1);
        rig.ask(batch(2));
        let out = rig.ids();
        assert_eq!(out.len(), 3);
        rig.ask(pause(Q, true));
        rig.step(vec![(B, Command::Unsubscribe { subscription: 1, delete: false })]);
        if stage > 0 {
            rig.freeze();
            rig.ask(batch(2));
        }
        if stage > 1 {
            rig.switch();
        }
        if stage > 2 {
            rig.restart(0);
        }
        let (out, ready) = if stage > 2 { (0, 10) } else { (2, 6 + 2 * u64::from(stage > 0)) };
        assert_eq!(counts(&mut rig, Q), (0, ready, out), "stage {stage}");
        assert_eq!(purged(&mut rig, Q, false), (ready, 0));
        assert_eq!(counts(&mut rig, Q), (0, 0, out));
        invariants::check(&rig.engine, &rig.root);
        rig.check_replay();
        let new = rig.publish(Q, Message::new("new"));
        rig.switch();
        rig.check_replay();
        invariants::check(&rig.engine, &rig.root);
        rig.flush();
        rig.restart(0);
        invariants::check(&rig.engine, &rig.root);
        assert_eq!(counts(&mut rig, Q), (0, out + 1, 0), "what was out is there again");
        rig.ask(pause(Q, false));
        rig.subscribe(A, 1, Q, 10);
        let came = rig.ids();
        assert_eq!((came.len() as u64, came.last()), (out + 1, Some(&new)));
        rig.check_replay();
    }
}

/// Goal: a purge is as durable as what it drops lies. Method: a restart from the checkpoint before
/// the purge, when the lane has to be found consumed by the event alone.
#[test]
fn a_purge_holds_over_a_checkpoint_from_before_it() {
    let mut rig = Rig::new();
    rig.subscribe(A, 1, Q, 2);
    rig.ask(produce(Q, &vec![Message::new("x"); 5]));
    let out = rig.ids();
    rig.flush();
    assert_eq!(purged(&mut rig, Q, false), (3, 0));
    let new = rig.publish(Q, Message::new("new"));
    assert_eq!(rig.verdict(ack(1, &out[..1])), (true, State::Acknowledged));
    rig.restart(0);
    invariants::check(&rig.engine, &rig.root);
    rig.subscribe(A, 1, Q, 10);
    assert_eq!(rig.ids(), [out[1], new]);
    rig.check_replay();
}

#[test]
fn a_purged_topic_goes_on_with_its_next_offset() {
    let mut rig = Rig::new();
    rig.subscribe(A, 1, T, 2);
    rig.ask(produce(T, &vec![Message::new("x"); 5]));
    let later = rig.publish(T, after(1_000));
    let out = rig.ids();
    assert_eq!(out.len(), 2);
    assert_eq!(purged(&mut rig, T, false), (5, 0));
    assert_eq!(rig.verdict(ack(1, &out)), (false, State::Gone), "and the credit is free again");
    rig.pass(1_000);
    let received = rig.take_received();
    assert_eq!((received[0].1.id, received[0].1.offset), (later, 6));
    rig.publish(T, after(1_000));
    assert_eq!(purged(&mut rig, T, true), (1, 1));
    rig.check_replay();
    rig.restart(2_000);
    let info = describe(&mut rig, T);
    assert_eq!((info.scheduled, info.ready, info.next_offset), (0, 0, 7));
    invariants::check(&rig.engine, &rig.root);
}

#[test]
fn dead_letters_are_purged_like_any_queue() {
    let mut rig = Rig::with(ShardConfig { max_failures: 1, ..ShardConfig::default() });
    rig.subscribe(A, 1, Q, 10);
    let id = rig.publish(Q, Message::new("x"));
    rig.ask(Command::Reject { subscription: 1, ids: vec![id], requeue: false });
    rig.check_replay();
    // In replay the message still stands in the lane it died from, and must not go with that one.
    assert_eq!(purged(&mut rig, Q, true), (0, 0));
    rig.publish(Q, Message::new("y"));
    rig.vanish(A);
    assert_eq!(purged(&mut rig, Q, true), (1, 0));
    rig.restart(0);
    assert_eq!(rig.state(id), State::Dead);
    assert_eq!(purged(&mut rig, "/dlq/queue/q", false), (1, 0));
    assert_eq!(rig.state(id), State::Gone);
    rig.check_replay();
}

#[test]
fn a_paused_destination_hands_out_nothing_and_takes_everything_else() {
    let mut rig = Rig::new();
    for to in [Q, T] {
        rig.subscribe_1s(A, if to == Q { 1 } else { 2 }, to, 2);
    }
    let (out, out_t) = (rig.publish(Q, Message::new("x")), rig.publish(T, Message::new("x")));
    rig.take_received();
    for to in [Q, T] {
        assert_eq!(rig.ask(pause(to, true)), Answer::Done);
        assert!(describe(&mut rig, to).paused);
        rig.publish(to, Message::new("x"));
        rig.publish(to, after(500));
    }
    let late = rig.publish(Q, Message::new("x"));
    rig.pass(500);
    assert!(rig.ids().is_empty());
    assert!(!rig.engine.has_work(), "it does not spin");
    assert_eq!(counts(&mut rig, Q), (0, 3, 1), "what was in flight stays");
    assert_eq!(rig.verdict(ack(1, &[out])), (true, State::Acknowledged));
    assert_eq!(rig.verdict(ack(0, &[late])), (true, State::Acknowledged));
    // A lease ends as ever; the message waits.
    rig.pass(500);
    assert!(rig.ids().is_empty());
    invariants::check(&rig.engine, &rig.root);
    rig.flush();
    rig.restart(1_000);
    assert!(describe(&mut rig, Q).paused && describe(&mut rig, T).paused, "also after a restart");
    rig.subscribe(A, 1, Q, 10);
    rig.subscribe(A, 2, T, 10);
    assert!(rig.ids().is_empty());
    assert_eq!(rig.ask(pause(Q, false)), Answer::Done);
    assert_eq!(rig.ids().len(), 2);
    assert_eq!(rig.ask(pause(T, false)), Answer::Done);
    let received = rig.take_received();
    assert_eq!(received.iter().map(|(_, d)| d.offset).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(received[0].1.id, out_t);
    invariants::check(&rig.engine, &rig.root);
    rig.check_replay();
}

#[test]
fn a_pause_takes_hold_of_what_stands_in_line_already() {
    let mut rig = Rig::new();
    rig.subscribe(A, 1, Q, 100);
    // In one step: published, and so put in line, then paused.
    rig.step(vec![(A, produce(Q, &vec![Message::new("x"); 5])), (A, pause(Q, true))]);
    assert!(rig.ids().is_empty());
    invariants::check(&rig.engine, &rig.root);
    rig.step(vec![(A, pause(Q, false)), (A, pause(Q, true)), (A, pause(Q, false))]);
    assert_eq!(rig.ids().len(), 5);
}

#[test]
fn a_full_destination_refuses_new_messages_and_drops_none() {
    let mut rig = Rig::new();
    rig.ask(Command::CreateDestination { name: Bytes::from_static(Q.as_bytes()) });
    let Answer::Destination(info) = rig.ask(limit(Q, Some(3), None)) else { panic!() };
    assert_eq!((info.max_messages, info.max_age_ms), (3, 0));
    rig.subscribe(A, 1, Q, 1);
    let out = rig.publish(Q, Message::new("in flight").with_dedup("d"));
    rig.publish(Q, Message::new("ready"));
    rig.publish(Q, after(1_000));
    for message in [Message::new("x"), after(1_000)] {
        assert_eq!(rig.try_publish(Q, message), Err(Code::DestinationFull));
    }
    let again = rig.try_publish(Q, Message::new("x").with_dedup("d"));
    assert_eq!(again, Ok((out, true)), "a repeat needs no room");
    rig.restart(0);
    assert_eq!(rig.try_publish(Q, Message::new("x")), Err(Code::DestinationFull));
    assert_eq!(rig.verdict(ack(0, &[out])), (true, State::Acknowledged));
    rig.publish(Q, Message::new("x"));
    assert_eq!(rig.try_publish(Q, Message::new("x")), Err(Code::DestinationFull));
    // A batch is judged one by one; others are not touched; none is no limit.
    rig.ask(limit(Q, Some(4), None));
    let Answer::Produced(results) = rig.ask(produce(Q, &vec![Message::new("x"); 2])) else {
        panic!()
    };
    assert!(results[0].is_ok() && results[1].is_err());
    rig.publish("/queue/other", Message::new("x"));
    rig.ask(limit(Q, Some(1), None));
    assert_eq!(describe(&mut rig, Q).ready + describe(&mut rig, Q).scheduled, 4);
    rig.ask(limit(Q, Some(0), None));
    rig.publish(Q, Message::new("x"));
    rig.check_replay();
}

#[test]
fn a_full_topic_counts_a_message_once_and_dead_letters_always_have_room() {
    let mut rig = Rig::with(ShardConfig { max_failures: 1, ..ShardConfig::default() });
    rig.subscribe(A, 1, T, 10);
    rig.subscribe(B, 1, T, 10);
    rig.ask(limit(T, Some(2), None));
    rig.publish(T, Message::new("out to two"));
    rig.publish(T, Message::new("x"));
    assert_eq!(rig.try_publish(T, Message::new("x")), Err(Code::DestinationFull));
    rig.publish("/dlq/queue/q", Message::new("x"));
    rig.ask(limit("/dlq/queue/q", Some(1), None));
    rig.subscribe(A, 2, Q, 1);
    let id = rig.publish(Q, Message::new("x"));
    rig.ask(Command::Reject { subscription: 2, ids: vec![id], requeue: true });
    assert_eq!(rig.state(id), State::Dead);
    assert_eq!(describe(&mut rig, "/dlq/queue/q").ready, 2);
    rig.check_replay();
}

#[test]
fn an_old_message_expires_when_it_is_met() {
    let mut rig = Rig::new();
    let old = rig.publish(Q, Message::new("at once"));
    let delayed = rig.publish(Q, after(5_000));
    rig.ask(limit(Q, None, Some(10_000)));
    rig.pass(10_000);
    rig.subscribe(A, 1, Q, 1);
    assert_eq!(rig.ids(), [old], "as old as it may be");
    rig.pass(1);
    // It is out, and what is out is not met. Given back, it is.
    assert_eq!(rig.state(old), State::InFlight);
    rig.ask(Command::Reject { subscription: 1, ids: vec![old], requeue: true });
    assert_eq!(rig.state(old), State::Expired);
    assert_eq!(rig.ids(), [delayed], "its age is counted from its due time");
    rig.check_replay();
}

#[test]
fn the_age_is_told_by_the_clock_of_the_message() {
    let mut rig = Rig::new();
    let mono = rig.publish(Q, after(1_000));
    let wall = rig.publish(Q, Message::new("x").with_delay(Delay::At(START as i64 + 1_000)));
    rig.ask(limit(Q, None, Some(10_000)));
    rig.pass(1_000);
    rig.now.wall_ms += 20_000;
    rig.now.engine_ms += 20_000;
    rig.subscribe(A, 1, Q, 10);
    assert_eq!(rig.ids(), [mono]);
    assert_eq!(rig.state(wall), State::Expired);
    rig.check_replay();
}

/// Goal: what nobody takes does not stay for ever, and a step does only so much about it.
#[test]
fn the_heads_of_lanes_are_swept_within_a_bound() {
    let mut rig = Rig::new();
    rig.ask(produce(Q, &vec![Message::new("x"); 20]));
    rig.ask(produce("/queue/free", &[Message::new("x")]));
    for priority in [0, 9] {
        rig.publish(Q, Message::new("x").with_priority(priority));
    }
    // Two that came back, and one that is young.
    rig.subscribe(A, 1, Q, 2);
    rig.ask(Command::Unsubscribe { subscription: 1, delete: false });
    rig.ask(limit(Q, None, Some(30_000)));
    rig.ask(pause(Q, true));
    rig.pass(50_000);
    let young = rig.publish(Q, Message::new("young"));
    assert_eq!(describe(&mut rig, Q).ready, 23, "not looked at yet");
    rig.now.mono_ms += 10_000;
    rig.now.wall_ms += 10_000;
    rig.now.engine_ms += 10_000;
    let mut steps = 0;
    loop {
        rig.step_limited(vec![], 7);
        steps += 1;
        invariants::check(&rig.engine, &rig.root);
        if !rig.engine.has_work() {
            break;
        }
    }
    assert_eq!(steps, 4, "22 messages, seven a step");
    assert_eq!((describe(&mut rig, Q).ready, rig.state(young)), (1, State::Ready));
    assert_eq!(describe(&mut rig, "/queue/free").ready, 1);
    assert_eq!(stat(&rig, "expired_total"), 22);
    rig.restart(0);
    assert_eq!(describe(&mut rig, Q).ready, 1);
}

/// Goal: rows of a lane that were asked for before a purge, and come after it, are not taken.
#[test]
fn a_purge_is_faster_than_a_read() {
    let mut rig = Rig::new();
    let ids: Vec<_> = (0..4).map(|_| rig.publish(Q, Message::new("x"))).collect();
    rig.flush();
    rig.step_limited(vec![(A, subscribe(1, Q, 10))], 3);
    assert!(rig.engine.wants_more());
    let destination = rig.engine.destination(DestinationId(0)).unwrap().id;
    rig.engine.apply(&Event::DestinationPurged {
        destination,
        ready: true,
        scheduled: false,
        before: 5,
        spared: Sequences::default(),
    });
    rig.pass(1);
    assert!(rig.ids().is_empty());
    assert_eq!(rig.state(ids[3]), State::Gone);
    assert_eq!(rig.engine.memory_bytes, 0);
    invariants::check(&rig.engine, &rig.root);
}

/// Goal: the sweep takes no notice of what lies below, and the message expires when it is met.
#[test]
fn what_lies_below_is_not_swept() {
    let mut rig = Rig::new();
    rig.ask(produce(Q, &vec![Message::new("x"); 6]));
    rig.flush();
    // Two are read back, one of them is handed out and comes back; two came since.
    rig.subscribe(A, 1, Q, 1);
    rig.ask(Command::Unsubscribe { subscription: 1, delete: false });
    rig.take_received();
    rig.ask(produce(Q, &vec![Message::new("x"); 2]));
    rig.ask(limit(Q, None, Some(30_000)));
    rig.pass(60_000);
    assert!(!rig.engine.has_work());
    assert_eq!(stat(&rig, "expired_total"), 2, "those in front, in memory");
    assert_eq!(describe(&mut rig, Q).ready, 6);
    assert!(rig.engine.tombs.is_empty(), "the lane tells of them");
    invariants::check(&rig.engine, &rig.root);
    rig.check_replay();
    rig.flush();
    let young = rig.publish(Q, Message::new("young"));
    rig.pass(60_000);
    assert_eq!(describe(&mut rig, Q).ready, 7);
    rig.ask(limit(Q, None, Some(90_000)));
    rig.subscribe(A, 1, Q, 10);
    assert_eq!(rig.ids(), [young]);
    assert_eq!(stat(&rig, "expired_total"), 8);
    rig.check_replay();
    rig.restart(0);
    assert_eq!(describe(&mut rig, Q).ready, 1);
}

#[test]
fn a_topic_takes_the_age_instead_of_the_usual_one() {
    let mut rig = Rig::with(ShardConfig { topic_age_ms: 100_000, ..ShardConfig::default() });
    for to in [T, "/topic/long", "/topic/usual"] {
        rig.ask(produce(to, &[Message::new("x")]));
    }
    rig.ask(limit(T, None, Some(10_000)));
    rig.ask(limit("/topic/long", None, Some(1_000_000)));
    rig.pass(60_000);
    assert_eq!((describe(&mut rig, T).ready, describe(&mut rig, "/topic/usual").ready), (0, 1));
    rig.pass(120_000);
    assert_eq!(describe(&mut rig, "/topic/usual").ready, 0);
    assert_eq!(describe(&mut rig, "/topic/long").ready, 1);
    rig.check_replay();
}

#[test]
fn what_is_not_named_stays_and_what_is_not_there_is_refused() {
    let mut rig = Rig::new();
    for command in [purge(Q, true), pause(Q, true), limit(Q, Some(1), None)] {
        let answer = rig.ask(command);
        assert!(matches!(&answer, Answer::Failed(e) if e.code == Code::DestinationNotFound));
    }
    rig.ask(produce(Q, &[Message::new("x")]));
    rig.ask(limit(Q, Some(5), Some(6)));
    rig.ask(limit(Q, None, Some(7)));
    let Answer::Destination(info) = rig.ask(limit(Q, None, None)) else { panic!() };
    assert_eq!((info.max_messages, info.max_age_ms), (5, 7));
    // Deleted and made anew, it begins anew.
    rig.ask(pause(Q, true));
    rig.ask(Command::DeleteDestination { name: Bytes::from_static(Q.as_bytes()) });
    rig.ask(produce(Q, &[Message::new("x")]));
    let info = describe(&mut rig, Q);
    assert_eq!((info.paused, info.max_messages, info.max_age_ms), (false, 0, 0));
    rig.check_replay();
}

#[test]
fn operators_are_served_while_the_disk_is_full() {
    let mut rig = Rig::new();
    rig.ask(produce(Q, &[Message::new("x")]));
    rig.refuse_new = Some(Code::DiskFull);
    assert_eq!(purged(&mut rig, Q, true), (1, 0));
    assert_eq!(rig.ask(pause(Q, true)), Answer::Done);
    assert!(matches!(rig.ask(limit(Q, Some(1), None)), Answer::Destination(_)));
}

/// Goal: a purge at its bound fits a batch of the journal.
#[test]
fn a_purge_with_many_in_flight_is_refused_beyond_its_bound() {
    let mut rig = Rig::new();
    let many = limits::BATCH_ITEMS_MAX;
    let batch = vec![Message::new(""); many];
    for number in 1..=9 {
        rig.ask(subscribe(number, Q, limits::CREDIT_MAX));
    }
    let mut published = 0;
    while published + many <= limits::PURGE_IN_FLIGHT_MAX {
        rig.ask(produce(Q, &batch));
        published += many;
    }
    rig.ask(produce(Q, &batch[..limits::PURGE_IN_FLIGHT_MAX - published]));
    rig.ask(Command::PauseDestination { name: Bytes::from_static(Q.as_bytes()), paused: true });
    rig.ask(produce(Q, &batch[..1]));
    assert_eq!(counts(&mut rig, Q), (0, 1, limits::PURGE_IN_FLIGHT_MAX as u64));
    assert_eq!(purged(&mut rig, Q, false), (1, 0));
    rig.ask(pause(Q, false));
    rig.ask(produce(Q, &batch[..1]));
    rig.ask(pause(Q, true));
    rig.ask(produce(Q, &batch[..1]));
    let answer = rig.ask(purge(Q, false));
    assert!(matches!(answer, Answer::Failed(e) if e.code == Code::Overloaded));
}
