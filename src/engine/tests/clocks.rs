//! Two clocks under one wheel: "after" follows the monotonic line, "at" the wall. Nothing is early
//! on the clock that judges it, whatever the other one does.

use super::rig::{A, Rig, START, after};
use crate::base::message::{Delay, Message};
use crate::base::time::Now;

const HOUR: u64 = 3_600_000;
const TEN_YEARS: u64 = 10 * 365 * 24 * HOUR;

fn at(ms: u64) -> Message {
    Message::new("at").with_delay(Delay::At(ms as i64))
}

fn step_at(rig: &mut Rig, mono_ms: u64, wall_ms: u64) {
    let engine_ms = rig.now.engine_ms.max(mono_ms).max(wall_ms);
    rig.now = Now { mono_ms, wall_ms, engine_ms };
    rig.step(vec![]);
    rig.check_replay();
}

#[test]
fn a_forward_step_of_the_wall_fires_at_and_not_after() {
    for step in [HOUR, TEN_YEARS] {
        let mut rig = Rig::new();
        rig.subscribe(A, 1, "/queue/q", 100);
        let by_wall = rig.publish("/queue/q", at(START + 60_000));
        let by_mono = rig.publish("/queue/q", after(60_000));
        step_at(&mut rig, START + 10, START + 10 + step);
        assert_eq!(rig.ids(), [by_wall]);
        // Scheduled below the engine line: held until the monotonic line is there.
        let below = rig.publish("/queue/q", after(1_000));
        step_at(&mut rig, START + 1_009, START + 1_009 + step);
        assert!(rig.ids().is_empty());
        assert_eq!(rig.engine.next_wait_ms(), Some(1));
        step_at(&mut rig, START + 1_010, START + 1_010 + step);
        assert_eq!(rig.ids(), [below]);
        step_at(&mut rig, START + 60_000, START + 60_000 + step);
        assert_eq!(rig.ids(), [by_mono]);
    }
}

/// Goal: nobody wakes again and again for what cannot come yet. Method: the wall steps forward and back,
/// so the engine line stands still far ahead of both clocks.
#[test]
fn an_engine_line_that_stands_still_is_not_waited_for_in_small_steps() {
    let mut rig = Rig::new();
    step_at(&mut rig, START + 10, START + HOUR);
    step_at(&mut rig, START + 10, START + 10);
    rig.publish("/queue/q", at(START + HOUR + 3));
    assert_eq!(rig.engine.next_wait_ms(), Some(HOUR + 3 - 10));
}

#[test]
fn a_backward_step_of_the_wall_holds_at_and_not_after() {
    for step in [HOUR, TEN_YEARS] {
        let mut rig = Rig::new();
        rig.subscribe(A, 1, "/queue/q", 100);
        let by_wall = rig.publish("/queue/q", at(START + 60_000));
        let by_mono = rig.publish("/queue/q", after(60_000));
        let cancelled = rig.publish("/queue/q", at(START + 50_000));
        let moved = rig.publish("/queue/q", at(START + 50_000));
        step_at(&mut rig, START + 60_000, START + 60_000 - step);
        assert_eq!(rig.ids(), [by_mono]);
        let cancel = crate::base::command::Command::Cancel { ids: vec![cancelled] };
        assert!(rig.verdict(cancel).0, "held back is still scheduled");
        let items = vec![(moved, Delay::After(5))];
        assert!(rig.verdict(crate::base::command::Command::Reschedule { items }).0);
        step_at(&mut rig, START + 60_005, START + 60_005 - step);
        assert_eq!(rig.ids(), [moved]);
        // Ten years are more than any ack timeout.
        rig.ask(super::rig::ack(0, &[by_mono, moved]));
        step_at(&mut rig, START + 59_999 + step, START + 59_999);
        assert!(rig.ids().is_empty());
        step_at(&mut rig, START + 60_000 + step, START + 60_000);
        assert_eq!(rig.ids(), [by_wall]);
        step_at(&mut rig, START + 61_000 + step, START + 61_000);
        assert!(rig.ids().is_empty(), "never twice");
    }
}

#[test]
fn held_back_messages_are_listed_and_survive_a_restart() {
    let mut rig = Rig::new();
    let id = rig.publish("/queue/q", at(START + 1_000));
    step_at(&mut rig, START + 2_000, START);
    let list = crate::base::command::Command::List {
        destination: bytes::Bytes::new(),
        from_ms: 0,
        to_ms: u64::MAX,
        limit: 10,
        after: None,
    };
    let crate::base::command::Answer::Scheduled(page) = rig.ask(list) else { panic!() };
    assert_eq!(page.entries.len(), 1);
    rig.restart(500);
    rig.subscribe(A, 1, "/queue/q", 100);
    assert!(rig.ids().is_empty());
    rig.pass(500);
    assert_eq!(rig.ids(), [id]);
}

/// Goal: replay from a checkpoint lets go of the same messages as the engine that wrote it. Method: a
/// checkpoint leaves out what is held back for a destination that is gone; that one is due first.
#[test]
fn what_is_held_back_for_a_deleted_destination_does_not_count_as_released() {
    let mut rig = Rig::new();
    rig.publish("/queue/gone", at(START + 1_000));
    let kept = rig.publish("/queue/q", at(START + 2_000));
    let name = bytes::Bytes::from_static(b"/queue/gone");
    rig.ask(crate::base::command::Command::DeleteDestination { name });
    step_at(&mut rig, START + 3_000, START);
    rig.flush();
    step_at(&mut rig, START + 4_000, START + 1_000);
    rig.publish("/queue/q", at(START + 9_000));
    rig.check_replay();
    rig.restart(0);
    rig.subscribe(A, 1, "/queue/q", 10);
    assert!(rig.ids().is_empty(), "early");
    step_at(&mut rig, START + 5_000, START + 2_000);
    assert_eq!(rig.ids(), [kept]);
}
