//! Temporary queues: they belong to the session that made them, and end with it.

use bytes::Bytes;

use super::invariants;
use super::rig::{A, B, Rig, ack, after, produce, refused, subscribe};
use crate::base::command::{Answer, Command};
use crate::base::config::ShardConfig;
use crate::base::error::Code;
use crate::base::lifecycle::State;
use crate::base::limits;
use crate::base::message::Message;

const T: &str = "/temp-queue/answers";

fn create(name: &str) -> Command {
    Command::CreateDestination { name: Bytes::copy_from_slice(name.as_bytes()) }
}

fn kind(rig: &mut Rig, name: &'static str) -> Option<&'static str> {
    match rig.ask(Command::DescribeDestination { name: Bytes::from_static(name.as_bytes()) }) {
        Answer::Destination(info) => Some(info.kind.word()),
        _ => None,
    }
}

#[test]
fn only_its_session_receives_from_it_and_everybody_sends() {
    let mut rig = Rig::new();
    assert_eq!(rig.try_publish(T, Message::new("x")), Err(Code::DestinationNotFound));
    assert_eq!(kind(&mut rig, T), None, "sending does not make it");
    rig.subscribe(A, 1, T, 10);
    let answers = rig.step(vec![
        (B, produce(T, &[Message::new("answer")])),
        (B, subscribe(1, T, 10)),
        (B, create(T)),
        (A, create(T)),
    ]);
    let codes: Vec<_> = answers.iter().map(refused).collect();
    assert_eq!(codes, [None, Some(Code::NotYours), Some(Code::NotYours), None]);
    let ids = rig.ids();
    assert_eq!(rig.verdict(ack(1, &ids)), (true, State::Acknowledged));
    assert_eq!(kind(&mut rig, T), Some("temporary queue"));
    invariants::check(&rig.engine, &rig.root);
    rig.check_replay();
}

/// Goal: it ends with its session, whatever is in it. Method: one message ready, one out, one scheduled, and
/// one in another queue; then the session ends, in memory and after a flush.
#[test]
fn it_is_gone_with_its_session() {
    for flush in [false, true] {
        let mut rig = Rig::new();
        rig.subscribe(A, 1, T, 1);
        rig.step(vec![(B, create("/temp-queue/other"))]);
        let out = rig.publish(T, Message::new("out"));
        let ready = rig.publish(T, Message::new("ready"));
        let scheduled = rig.publish(T, after(5_000));
        let other = rig.publish("/temp-queue/other", Message::new("x"));
        if flush {
            rig.flush();
        }
        rig.vanish(A);
        for id in [out, ready, scheduled] {
            assert_eq!(rig.state(id), State::Gone);
        }
        assert_eq!(rig.state(other), State::Ready);
        assert_eq!(rig.try_publish(T, Message::new("x")), Err(Code::DestinationNotFound));
        invariants::check(&rig.engine, &rig.root);
        rig.check_replay();
        // Its name is free, and what was scheduled for it does not come.
        rig.subscribe(B, 7, T, 10);
        rig.take_received();
        rig.pass(10_000);
        assert_eq!(rig.ids(), []);
        rig.check_replay();
        rig.check_flushes(2);
    }
}

#[test]
fn none_is_left_after_a_restart() {
    let mut rig = Rig::new();
    rig.subscribe(A, 1, T, 1);
    let id = rig.publish(T, Message::new("x"));
    rig.restart(0);
    assert_eq!((kind(&mut rig, T), rig.state(id)), (None, State::Gone));
    rig.restart(0);
    assert_eq!(kind(&mut rig, T), None);
    invariants::check(&rig.engine, &rig.root);
}

#[test]
fn what_is_given_up_is_dead_and_has_no_dead_letters() {
    let mut rig = Rig::with(ShardConfig { max_failures: 2, ..ShardConfig::default() });
    rig.subscribe_1s(A, 1, T, 1);
    let slow = rig.publish(T, Message::new("x"));
    rig.pass(1_000);
    rig.pass(1_000);
    assert_eq!(rig.state(slow), State::Dead);
    let bad = rig.publish(T, Message::new("x"));
    rig.ask(Command::Reject { subscription: 1, ids: vec![bad], requeue: false });
    assert_eq!(rig.state(bad), State::Dead);
    assert_eq!(kind(&mut rig, "/dlq/temp-queue/answers"), None);
    assert_eq!(rig.engine.messages(), 0);
    assert_eq!(rig.verdict(ack(0, &[bad])), (false, State::Dead));
    invariants::check(&rig.engine, &rig.root);
    rig.check_replay();
    rig.check_flushes(1);
}

#[test]
fn a_session_has_so_many_and_not_one_more() {
    let mut rig = Rig::new();
    let name = |n: usize| format!("/temp-queue/{n}");
    for n in 0..limits::TEMPORARY_PER_SESSION_MAX {
        assert_eq!(rig.ask(create(&name(n))), Answer::Done);
    }
    let more = rig.step(vec![(A, create("/temp-queue/more")), (B, create("/temp-queue/more"))]);
    assert_eq!(refused(&more[0]), Some(Code::TooManyDestinations));
    assert_eq!(more[1], Answer::Done, "another session has its own");
    // One that is deleted makes room.
    rig.ask(Command::DeleteDestination { name: name(3).into() });
    assert_eq!(rig.ask(create("/temp-queue/again")), Answer::Done);
    rig.vanish(A);
    rig.vanish(B);
    invariants::check(&rig.engine, &rig.root);
    assert_eq!(rig.engine.destinations.iter().count(), 0);
    rig.check_replay();
}
