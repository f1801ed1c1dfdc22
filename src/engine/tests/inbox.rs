//! Inboxes: each session and device has its own copy, and the user one cursor over all of them.

use bytes::Bytes;

use super::invariants;
use super::rig::{A, B, Rig, ack, durable, produce, refused, subscribe};
use crate::base::command::{Answer, Command, DestinationInfo, StartAt, Subscribe};
use crate::base::error::Code;
use crate::base::id::{MessageId, SessionId};
use crate::base::message::Message;

const INBOX: &str = "/user/anna/queue/news";

fn wish(command: Command, start: StartAt) -> Command {
    let Command::Subscribe(wish) = command else { unreachable!() };
    Command::Subscribe(Subscribe { start, ..wish })
}

/// Subscribes where the user is, and tells the offsets that come.
fn unread(rig: &mut Rig, session: SessionId, number: u32) -> Vec<u64> {
    rig.take_received();
    rig.step(vec![(session, wish(subscribe(number, INBOX, 100), StartAt::Unread))]);
    offsets(rig, session)
}

/// The same as a device.
fn device(rig: &mut Rig, session: SessionId, number: u32, name: &'static str) -> Vec<u64> {
    rig.take_received();
    rig.step(vec![(session, wish(durable(number, INBOX, name, false), StartAt::Unread))]);
    offsets(rig, session)
}

fn offsets(rig: &mut Rig, of: SessionId) -> Vec<u64> {
    let all = rig.take_received();
    all.into_iter().filter(|(session, _)| *session == of).map(|(_, d)| d.offset).collect()
}

fn publish(rig: &mut Rig, count: usize) -> Vec<MessageId> {
    match rig.ask(produce(INBOX, &vec![Message::new("x"); count])) {
        Answer::Produced(results) => results.into_iter().map(|r| r.unwrap().id).collect(),
        other => panic!("{other:?}"),
    }
}

fn describe(rig: &mut Rig) -> DestinationInfo {
    match rig.look(Command::DescribeDestination { name: Bytes::from_static(INBOX.as_bytes()) }) {
        Answer::Destination(info) => info,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_later_session_begins_where_the_user_is() {
    let mut rig = Rig::new();
    let ids = publish(&mut rig, 6);
    assert_eq!(unread(&mut rig, A, 1), [1, 2, 3, 4, 5, 6]);
    assert_eq!(unread(&mut rig, B, 1), [1, 2, 3, 4, 5, 6], "each has its own copy");
    assert_eq!(describe(&mut rig).unread, 6);
    rig.step(vec![(A, ack(1, &[ids[0], ids[1], ids[3]]))]);
    // The other one still has them.
    let answer = rig.step(vec![(B, ack(1, &[ids[1]]))]).remove(0);
    assert!(matches!(&answer, Answer::Verdicts(v) if v[0].done), "{answer:?}");
    assert_eq!(unread(&mut rig, A, 2), [3, 5, 6]);
    for _ in 0..2 {
        let info = describe(&mut rig);
        assert_eq!((info.kind.word(), info.unread, info.next_offset), ("inbox", 3, 7));
        invariants::check(&rig.engine, &rig.root);
        rig.check_flushes(1);
        rig.flush();
        rig.restart(1_000);
        assert_eq!(unread(&mut rig, B, 9), [3, 5, 6]);
    }
}

#[test]
fn devices_have_cursors_of_their_own_and_move_that_of_the_user() {
    let mut rig = Rig::new();
    let ids = publish(&mut rig, 5);
    assert_eq!(device(&mut rig, A, 1, "phone"), [1, 2, 3, 4, 5]);
    rig.step(vec![(A, ack(1, &[ids[0], ids[1], ids[3]]))]);
    assert_eq!(device(&mut rig, B, 1, "desk"), [3, 5], "a new one begins where the user is");
    rig.step(vec![(B, ack(1, &[ids[2]]))]);
    rig.restart(0);
    assert_eq!(device(&mut rig, A, 1, "phone"), [3, 5], "its own copy");
    assert_eq!(device(&mut rig, B, 1, "desk"), [5]);
    assert_eq!(unread(&mut rig, B, 2), [5]);
    assert_eq!(describe(&mut rig).unread, 1);
    rig.check_replay();
    rig.check_flushes(2);
}

#[test]
fn other_places_to_begin_are_as_on_topics() {
    let mut rig = Rig::new();
    let ids = publish(&mut rig, 4);
    unread(&mut rig, A, 1);
    rig.step(vec![(A, ack(1, &ids[..2]))]);
    for (number, start, expected) in [
        (2, StartAt::Earliest, vec![1, 2, 3, 4]),
        (3, StartAt::Latest, vec![]),
        (4, StartAt::Offset(2), vec![2, 3, 4]),
    ] {
        rig.step(vec![(A, wish(subscribe(number, INBOX, 100), start))]);
        assert_eq!(offsets(&mut rig, A), expected, "{start:?}");
    }
    // One that began behind unread messages leaves them unread.
    let last = publish(&mut rig, 1)[0];
    rig.step(vec![(A, ack(3, &[last]))]);
    assert_eq!(describe(&mut rig).unread, 2);
    assert_eq!(unread(&mut rig, B, 9), [3, 4]);
    // On a topic it is from now on.
    rig.ask(produce("/topic/t", &[Message::new("x")]));
    rig.take_received();
    rig.step(vec![(A, wish(subscribe(5, "/topic/t", 100), StartAt::Unread))]);
    assert_eq!(rig.ids(), []);
    let shared = rig.ask(durable(6, INBOX, "d", true));
    assert_eq!(refused(&shared), Some(Code::WrongKind));
    rig.check_replay();
}

/// Goal: what retention drops is no longer unread, and gaps below do not stay. Method: acknowledge with gaps,
/// purge, go on.
#[test]
fn what_is_dropped_is_not_unread() {
    let mut rig = Rig::new();
    let ids = publish(&mut rig, 10);
    unread(&mut rig, A, 1);
    let odd: Vec<_> = ids.iter().copied().step_by(2).collect();
    rig.step(vec![(A, ack(1, &odd))]);
    assert_eq!(describe(&mut rig).unread, 5);
    rig.ask(Command::PurgeDestination {
        name: Bytes::from_static(INBOX.as_bytes()),
        scheduled: false,
    });
    assert_eq!(describe(&mut rig).unread, 0);
    publish(&mut rig, 2);
    assert_eq!(describe(&mut rig).unread, 2);
    rig.flush();
    invariants::check(&rig.engine, &rig.root);
    rig.restart(0);
    assert_eq!(unread(&mut rig, A, 1), [11, 12]);
}

/// Goal: gaps of the user's cursor have a bound, and what is beyond it is told. Method: every second message
/// is acknowledged by a session, more of them than there may be gaps.
#[test]
fn gaps_of_a_user_have_a_bound() {
    let mut rig = Rig::new();
    let most = super::super::small::RUNS_MAX;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.extend(publish(&mut rig, 5_000));
    }
    let Command::Subscribe(all) = subscribe(1, INBOX, 65_535) else { unreachable!() };
    rig.step(vec![(A, Command::Subscribe(all))]);
    let odd: Vec<_> = ids.iter().copied().skip(1).step_by(2).collect();
    let mut done = 0;
    for odd in odd.chunks(5_000) {
        match rig.step(vec![(A, ack(1, odd))]).remove(0) {
            Answer::Verdicts(v) => done += v.iter().filter(|verdict| verdict.done).count(),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(done, most);
    // The lowest gap can always be closed.
    match rig.step(vec![(A, ack(1, &ids[..1]))]).remove(0) {
        Answer::Verdicts(v) => assert!(v[0].done),
        other => panic!("{other:?}"),
    }
    assert_eq!(describe(&mut rig).unread, 15_000 - most as u64 - 1);
    invariants::check(&rig.engine, &rig.root);
    rig.check_replay();
}
