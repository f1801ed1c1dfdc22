//! Delays, cancel, reschedule, query, list.

use bytes::Bytes;

use super::rig::{A, Rig, START, ack, after, produce};
use crate::base::command::{Answer, Command};
use crate::base::config::ShardConfig;
use crate::base::error::Code;
use crate::base::id::MessageId;
use crate::base::lifecycle::State;
use crate::base::limits;
use crate::base::message::{Delay, Message};
use crate::base::time::DELAY_MAX_MS;

fn cancel(id: MessageId) -> Command {
    Command::Cancel { ids: vec![id] }
}

fn reschedule(id: MessageId, delay: Delay) -> Command {
    Command::Reschedule { items: vec![(id, delay)] }
}

#[test]
fn nothing_is_early_and_order_is_by_due_time_then_sequence() {
    let mut rig = Rig::new();
    rig.subscribe(A, 1, "/queue/q", 100);
    let third = rig.publish("/queue/q", after(1_001));
    let first = rig.publish("/queue/q", after(1_000));
    let second = rig.publish("/queue/q", Message::new("x").with_delay(Delay::Level(1)));
    rig.pass(999);
    assert!(rig.ids().is_empty());
    rig.pass(1);
    assert_eq!(rig.ids(), [first, second]);
    rig.pass(1);
    assert_eq!(rig.ids(), [third]);
    rig.check_replay();
}

#[test]
fn delays_are_checked_at_their_bounds() {
    let mut rig = Rig::new();
    let mut code = |delay| rig.try_publish("/queue/q", Message::new("x").with_delay(delay)).err();
    let max = DELAY_MAX_MS as i64;
    let start = START as i64;
    assert_eq!(code(Delay::After(max)), None);
    assert_eq!(code(Delay::After(max + 1)), Some(Code::DelayTooLong));
    assert_eq!(code(Delay::After(i64::MAX)), Some(Code::DelayTooLong));
    assert_eq!(code(Delay::After(-1)), Some(Code::BadDelay));
    assert_eq!(code(Delay::After(i64::MIN)), Some(Code::BadDelay));
    assert_eq!(code(Delay::At(start + max)), None);
    assert_eq!(code(Delay::At(start + max + 1)), Some(Code::DelayTooLong));
    assert_eq!(code(Delay::At(i64::MAX)), Some(Code::DelayTooLong));
    assert_eq!(code(Delay::At(-1)), Some(Code::BadDelay));
    assert_eq!(code(Delay::At(0)), None);
    assert_eq!(code(Delay::Level(0)), Some(Code::BadLevel));
    assert_eq!(code(Delay::Level(18)), None);
    assert_eq!(code(Delay::Level(19)), Some(Code::BadLevel));
    assert_eq!(code(Delay::Level(-1)), Some(Code::BadLevel));
}

#[test]
fn a_refused_message_leaves_no_destination_behind() {
    let mut rig = Rig::new();
    assert_eq!(rig.try_publish("/queue/q", after(-1)), Err(Code::BadDelay));
    let all = rig.ask(Command::ListDestinations { after: Bytes::new(), limit: 10 });
    assert_eq!(all, Answer::Destinations(Vec::new()));
}

#[test]
fn a_due_time_in_the_past_is_delivered_at_once() {
    let mut rig = Rig::new();
    rig.subscribe(A, 1, "/queue/q", 100);
    let at = Delay::At(START as i64 - 5_000);
    let id = rig.publish("/queue/q", Message::new("x").with_delay(at));
    assert_eq!(rig.ids(), [id]);
    rig.check_replay();
}

#[test]
fn one_bad_message_of_a_batch_fails_alone() {
    let mut rig = Rig::new();
    let batch =
        [Message::new("a"), after(-1), Message::new("b").with_priority(10), Message::new("c")];
    let Answer::Produced(results) = rig.ask(produce("/queue/q", &batch)) else { panic!() };
    let codes: Vec<_> = results.iter().map(|r| r.as_ref().err().map(|e| e.code)).collect();
    assert_eq!(codes, [None, Some(Code::BadDelay), Some(Code::BadPriority), None]);
}

#[test]
fn cancel_has_an_exact_answer_for_every_state() {
    let mut rig = Rig::new();
    let id = rig.publish("/queue/q", after(1_000));
    assert_eq!(rig.verdict(cancel(id)), (true, State::Cancelled));
    assert_eq!(rig.verdict(cancel(id)), (false, State::Cancelled), "already cancelled");
    rig.check_replay();

    let id = rig.publish("/queue/q", after(1_000));
    rig.pass(1_000);
    assert_eq!(rig.verdict(cancel(id)), (false, State::Ready));
    rig.subscribe(A, 1, "/queue/q", 10);
    assert_eq!(rig.ids(), [id], "the cancelled one never came");
    assert_eq!(rig.verdict(cancel(id)), (false, State::InFlight));
    rig.ask(ack(1, &[id]));
    assert_eq!(rig.verdict(cancel(id)), (false, State::Acknowledged));
    // Remembered outcomes are bounded: later ones take their place.
    for _ in 0..limits::OUTCOMES_REMEMBERED / 1_000 + 1 {
        rig.ask(produce("/queue/other", &vec![after(5); 1_000]));
    }
    rig.subscribe(A, 2, "/queue/other", limits::CREDIT_MAX);
    loop {
        rig.pass(5);
        let ids = rig.ids();
        if ids.is_empty() {
            break;
        }
        for part in ids.chunks(limits::BATCH_ITEMS_MAX) {
            rig.ask(ack(2, part));
        }
    }
    assert_eq!(rig.verdict(cancel(id)), (false, State::Gone));
    let never = MessageId::new(START, 0, 10_000_000);
    let wrong_due = MessageId::new(id.due_ms() + 1, 0, id.sequence());
    let wrong_shard = MessageId::new(id.due_ms(), 1, id.sequence());
    assert_eq!(rig.verdict(cancel(never)), (false, State::Unknown));
    assert_eq!(rig.verdict(cancel(wrong_shard)), (false, State::Unknown));
    assert_eq!(rig.verdict(cancel(wrong_due)), (false, State::Gone));
}

#[test]
fn a_publish_and_two_cancels_in_one_step_are_answered_exactly() {
    let mut rig = Rig::new();
    let id = MessageId::new(START + 50, 0, 1);
    let answers = rig.step(vec![
        (A, produce("/queue/q", &[after(50)])),
        (A, cancel(id)),
        (A, cancel(id)),
        (A, reschedule(id, Delay::After(1))),
    ]);
    let done = |answer: &Answer| match answer {
        Answer::Verdicts(v) => (v[0].done, v[0].state),
        other => panic!("{other:?}"),
    };
    assert_eq!(done(&answers[1]), (true, State::Cancelled));
    assert_eq!(done(&answers[2]), (false, State::Cancelled));
    assert_eq!(done(&answers[3]), (false, State::Cancelled));
    rig.check_replay();
}

#[test]
fn reschedule_keeps_the_id_and_moves_both_ways() {
    let mut rig = Rig::new();
    rig.subscribe(A, 1, "/queue/q", 100);
    let sooner = rig.publish("/queue/q", after(10_000));
    let later = rig.publish("/queue/q", after(1_000));
    let now = rig.publish("/queue/q", after(10_000));
    let back = rig.publish("/queue/q", after(3_000));
    assert_eq!(rig.verdict(reschedule(sooner, Delay::After(500))), (true, State::Scheduled));
    assert_eq!(
        rig.verdict(reschedule(later, Delay::After(DELAY_MAX_MS as i64))),
        (true, State::Scheduled)
    );
    assert_eq!(rig.verdict(reschedule(now, Delay::After(0))), (true, State::Ready));
    for ms in [1, 9_999_999, 3_000] {
        assert_eq!(rig.verdict(reschedule(back, Delay::After(ms))), (true, State::Scheduled));
    }
    assert_eq!(rig.ids(), [now]);
    rig.check_replay();
    rig.restart(499);
    rig.subscribe(A, 1, "/queue/q", 100);
    rig.take_received();
    rig.pass(1);
    assert_eq!(rig.ids(), [sooner]);
    rig.pass(2_500);
    assert_eq!(rig.ids(), [back]);
    rig.pass(60_000);
    assert!(rig.ids().is_empty());
    assert_eq!(rig.state(later), State::Scheduled);
    let bad = rig.ask(reschedule(later, Delay::After(-1)));
    assert!(matches!(bad, Answer::Failed(error) if error.code == Code::BadDelay));
}

#[test]
fn a_dedup_id_gives_the_first_id_also_after_a_restart_and_for_its_time_only() {
    let mut rig = Rig::new();
    let message = || after(100).with_dedup("once");
    let (first, duplicate) = rig.try_publish("/queue/q", message()).unwrap();
    assert!(!duplicate);
    assert_eq!(rig.try_publish("/queue/q", message()), Ok((first, true)));
    let (other, duplicate) = rig.try_publish("/queue/other", message()).unwrap();
    assert!(other != first && !duplicate, "another destination, another message");
    rig.restart(1_000);
    assert_eq!(rig.try_publish("/queue/q", message()), Ok((first, true)));
    rig.pass(limits::DEDUP_WINDOW_MS);
    assert!(!rig.try_publish("/queue/q", message()).unwrap().1);
    let long = |n| after(1).with_dedup(vec![b'x'; n]);
    assert!(rig.try_publish("/queue/q", long(limits::DEDUP_BYTES_MAX)).is_ok());
    rig.check_replay();
}

/// Goal: dedup ids hold wherever they lie. Method: one remembered before a freeze, one while the flush
/// goes on, one after it; all are repeated at each moment, over a restart, and after their time.
#[test]
fn a_dedup_id_survives_being_written_out_and_gives_the_memory_back() {
    let mut rig = Rig::new();
    let message = |dedup: &str| Message::new("x").with_dedup(dedup);
    let mut ids = Vec::new();
    let repeat = |rig: &mut Rig, ids: &[MessageId]| {
        for (name, id) in ["before", "during", "after"].into_iter().zip(ids) {
            assert_eq!(rig.try_publish("/queue/q", message(name)), Ok((*id, true)), "{name}");
            rig.pass(10);
        }
        rig.check_replay();
    };
    ids.push(rig.publish("/queue/q", message("before")));
    let bytes = rig.engine.active_bytes();
    rig.publish("/queue/other", message("before"));
    assert_eq!(rig.engine.active_bytes(), 2 * bytes, "they count as memory");
    rig.freeze();
    assert_eq!(rig.engine.active_bytes(), 0);
    ids.push(rig.publish("/queue/q", message("during")));
    repeat(&mut rig, &ids);
    rig.switch();
    repeat(&mut rig, &ids);
    ids.push(rig.publish("/queue/q", message("after")));
    repeat(&mut rig, &ids);
    rig.restart(1_000);
    repeat(&mut rig, &ids);
    rig.flush();
    assert_eq!(rig.engine.memory_bytes(), 0);
    repeat(&mut rig, &ids);
    rig.restart(limits::DEDUP_WINDOW_MS);
    for (name, id) in ["before", "during", "after"].into_iter().zip(&ids) {
        let again = rig.publish("/queue/q", message(name));
        assert_ne!(again, *id, "{name}");
        rig.flush();
        assert_eq!(rig.try_publish("/queue/q", message(name)), Ok((again, true)), "{name}");
    }
    rig.check_replay();
}

/// Goal: within one batch the second use of an id sees the first, whether or not something lies below.
#[test]
fn one_dedup_id_twice_in_a_batch_is_one_message() {
    let mut rig = Rig::new();
    let message = |dedup: &str| Message::new("x").with_dedup(dedup);
    let old = rig.publish("/queue/q", message("old"));
    rig.flush();
    let batch = ["new", "old", "new", "old"].map(message);
    let Answer::Produced(results) = rig.ask(produce("/queue/q", &batch)) else { panic!() };
    let results: Vec<_> = results.into_iter().map(Result::unwrap).collect();
    let duplicates: Vec<_> = results.iter().map(|produced| produced.duplicate).collect();
    assert_eq!(duplicates, [false, true, true, true]);
    assert_eq!([results[1].id, results[2].id, results[3].id], [old, results[0].id, old]);
    // Two commands of one step, too.
    let commands = (0..2).map(|_| (A, produce("/queue/q", &[message("step")]))).collect();
    let answers = rig.step(commands);
    let [Answer::Produced(one), Answer::Produced(two)] = &answers[..] else { panic!() };
    let (one, two) = (one[0].clone().unwrap(), two[0].clone().unwrap());
    assert_eq!((one.duplicate, two.duplicate, two.id), (false, true, one.id));
    rig.check_replay();
}

#[test]
fn a_destination_made_again_knows_no_dedup_id_of_the_old_one() {
    let mut rig = Rig::new();
    let message = || Message::new("x").with_dedup("once");
    let delete = || Command::DeleteDestination { name: Bytes::from_static(b"/queue/q") };
    for flush_first in [false, true] {
        rig.publish("/queue/q", message());
        if flush_first {
            rig.flush();
        }
        rig.ask(delete());
        rig.publish("/queue/q", message());
        rig.flush();
        rig.check_replay();
        assert!(rig.try_publish("/queue/q", message()).unwrap().1);
        rig.ask(delete());
        rig.check_replay();
    }
}

#[test]
fn list_pages_through_scheduled_messages_in_order() {
    let mut rig = Rig::new();
    let mut ids: Vec<_> =
        (0..50).map(|n| rig.publish("/queue/q", after(1_000 * ((n * 37) % 50) + 1_000))).collect();
    rig.publish("/queue/other", after(2_000));
    ids.sort_by_key(|id| (id.due_ms(), id.sequence()));
    let mut seen = Vec::new();
    let mut next = None;
    loop {
        let list = Command::List {
            destination: Bytes::from_static(b"/queue/q"),
            from_ms: 0,
            to_ms: u64::MAX,
            limit: 7,
            after: next,
        };
        let Answer::Scheduled(page) = rig.ask(list) else { panic!() };
        assert!(page.entries.len() <= 7);
        seen.extend(page.entries.iter().map(|entry| entry.id));
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(seen, ids);
    let window = Command::List {
        destination: Bytes::new(),
        from_ms: START + 2_000,
        to_ms: START + 4_000,
        limit: 1_000,
        after: None,
    };
    let Answer::Scheduled(page) = rig.ask(window) else { panic!() };
    assert_eq!(page.entries.len(), 4, "three of /queue/q and one of /queue/other");
}

#[test]
fn destinations_are_bounded_listed_and_described() {
    let mut rig = Rig::with(ShardConfig { max_destinations: 2, ..ShardConfig::default() });
    rig.publish("/queue/b", after(10));
    rig.publish("/topic/a", Message::new("x"));
    assert_eq!(rig.try_publish("/queue/c", after(10)), Err(Code::TooManyDestinations));
    let Answer::Destinations(all) =
        rig.ask(Command::ListDestinations { after: Bytes::new(), limit: 10 })
    else {
        panic!()
    };
    let names: Vec<_> = all.iter().map(|d| &d.name[..]).collect();
    assert_eq!(names, ["/queue/b", "/topic/a"]);
    assert_eq!((all[0].scheduled, all[1].ready, all[1].next_offset), (1, 1, 2));
    let missing = rig.ask(Command::DescribeDestination { name: Bytes::from_static(b"/queue/z") });
    assert!(matches!(missing, Answer::Failed(e) if e.code == Code::DestinationNotFound));
}

#[test]
fn catching_up_is_paced_and_replay_stops_where_it_stopped() {
    let mut rig = Rig::new();
    let ids: Vec<_> = (0..100).map(|n| rig.publish("/queue/q", after(1_000 + n / 10))).collect();
    rig.subscribe(A, 1, "/queue/q", 1_000);
    rig.now = crate::base::time::Now::all(START + 5_000);
    for _ in 0..15 {
        rig.step_limited(vec![], 7);
        rig.check_replay();
    }
    assert_eq!(rig.ids(), ids);
}
