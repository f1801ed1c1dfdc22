//! Two clocks under one wheel: "after" follows the monotonic line, "at" the wall. Nothing is early
//! on the clock that judges it, whatever the other one does.

use super::rig::{A, Rig, START, after};
use crate::base::message::{Delay, Message};
use crate::base::time::Pace;

const HOUR: u64 = 3_600_000;
const TEN_YEARS: u64 = 10 * 365 * 24 * HOUR;

fn at(ms: u64) -> Message {
    Message::new("at").with_delay(Delay::At(ms as i64))
}

fn step_at(rig: &mut Rig, mono_ms: u64, wall_ms: u64) {
    rig.now = rig.now.then(mono_ms, wall_ms, rig.engine.pace());
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

/// Goal: nobody wakes again and again for what cannot come yet, and it comes on time. Method: the wall
/// steps forward and back, so the engine line is far ahead of both clocks; then each wait is waited.
#[test]
fn an_engine_line_far_ahead_is_not_waited_for_in_small_steps() {
    let mut rig = Rig::new();
    rig.subscribe(A, 1, "/queue/q", 100);
    step_at(&mut rig, START + 10, START + HOUR);
    step_at(&mut rig, START + 10, START + 10);
    let id = rig.publish("/queue/q", at(START + HOUR + 3));
    let mut steps = 0;
    while rig.ids().is_empty() {
        let wait = rig.engine.next_wait_ms().unwrap().max(1);
        let (mono_ms, wall_ms) = (rig.now.mono_ms + wait, rig.now.wall_ms + wait);
        step_at(&mut rig, mono_ms, wall_ms);
        steps += 1;
    }
    assert!(steps < 10, "{steps}");
    assert!(rig.now.wall_ms <= START + HOUR + 4, "{}", rig.now.wall_ms - START);
    assert_eq!(rig.state(id), crate::base::lifecycle::State::InFlight);
}

/// Goal: a clock that was stepped costs no memory. Method: messages below, judged by the other clock, in
/// the time that the step passes over; they are put back, and a flush takes them.
#[test]
fn what_a_step_of_a_clock_puts_back_goes_to_the_store() {
    let (mono, wall) = ((60_000, 0), (0, 60_000));
    for (passed_mono, passed_wall) in [mono, wall] {
        let mut rig = Rig::new();
        let lags = |n: u64| if passed_wall > 0 { after(n as i64) } else { at(START + n) };
        let ids: Vec<_> = (0..500).map(|n| rig.publish("/queue/q", lags(1_000 + n))).collect();
        rig.flush();
        assert_eq!(rig.engine.memory_bytes(), 0);
        step_at(&mut rig, START + passed_mono, START + passed_wall);
        assert_eq!(rig.engine.put_back_bytes(), rig.engine.memory_bytes());
        assert!(rig.engine.memory_bytes() > 0);
        let gone = rig.verdict(crate::base::command::Command::Cancel { ids: vec![ids[7]] });
        assert!(gone.0);
        rig.flush();
        assert_eq!(rig.engine.memory_bytes(), 0, "nothing stays");
        let gone = rig.verdict(crate::base::command::Command::Cancel { ids: vec![ids[8]] });
        assert!(gone.0, "one that lies below under another key");
        rig.check_replay();
        rig.restart(0);
        rig.subscribe(A, 1, "/queue/q", 1_000);
        let mut came = Vec::new();
        for n in 0..500 {
            let now = 1_000 + n;
            step_at(&mut rig, START + passed_mono + now, START + passed_wall + now);
            came.extend(rig.ids());
            let on = |passed: u64| if passed > 0 { 0 } else { now };
            assert!(came.len() as u64 <= on(passed_mono).max(on(passed_wall)), "early");
            if n % 100 == 0 {
                rig.flush();
            }
        }
        let left: Vec<_> =
            ids.iter().filter(|id| ![ids[7], ids[8]].contains(id)).copied().collect();
        assert_eq!(came, left, "in order and on time");
    }
}

/// Goal: a message that was put back is never late, wherever the clocks go meanwhile, nor early; and
/// whoever waits is not woken for nothing. Method: seeded steps of both kinds, forward and back, each ms
/// a reading; each message is compared with its own clock.
#[test]
fn what_was_put_back_comes_when_its_clock_is_there() {
    for seed in 0..60 {
        let mut random = crate::sim::random::Random::new(seed, "clocks");
        let mut rig = Rig::new();
        rig.subscribe(A, 1, "/queue/q", 10_000);
        let mut open = std::collections::BTreeMap::new();
        let (mut keeper, mut mono, mut wall) = (rig.now.engine_ms * 2, START, START);
        for _ in 0..600 {
            if random.below(4) == 0 {
                let delay = random.below(400);
                let by_wall = random.below(2) == 0;
                let message = if by_wall { at(wall + delay) } else { after(delay as i64) };
                let due = if by_wall { wall + delay } else { mono + delay };
                open.insert(rig.publish("/queue/q", message), (by_wall, due));
            }
            if random.below(60) == 0 {
                wall = wall + random.below(300) - 150;
            }
            mono += 1;
            wall += 1;
            // As the shard keeps it: half of a ms counts.
            let passed = 2 * (mono - rig.now.mono_ms).max(wall.saturating_sub(rig.now.wall_ms));
            let Pace { steady_to, slow_to } = rig.engine.pace();
            let halves = Pace { steady_to: 2 * steady_to, slow_to: 2 * slow_to };
            let line = halves.line_after(keeper, passed);
            keeper = line.max(2 * mono).max(2 * wall);
            rig.now =
                crate::base::time::Now { mono_ms: mono, wall_ms: wall, engine_ms: keeper / 2 };
            rig.step(vec![]);
            for id in rig.ids() {
                let Some((by_wall, due)) = open.remove(&id) else { continue };
                let now = if by_wall { wall } else { mono };
                assert!(now >= due, "seed {seed}: early by {}", due - now);
            }
            let late = |&(by_wall, due): &(bool, u64)| due + 2 < if by_wall { wall } else { mono };
            let late = open.values().find(|due| late(due));
            assert_eq!(late, None, "seed {seed}: mono {mono}, wall {wall}, {:?}", rig.now);
            if random.below(200) == 0 {
                rig.check_replay();
                rig.flush();
            }
        }
    }
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
        assert!(rig.verdict(cancel).0, "put back is still scheduled");
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
fn messages_put_back_are_listed_and_survive_a_restart() {
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
    assert_eq!(page.entries[0].due_ms, START + 1_000);
    rig.restart(500);
    rig.subscribe(A, 1, "/queue/q", 100);
    assert!(rig.ids().is_empty());
    rig.pass(500);
    assert_eq!(rig.ids(), [id]);
}

/// Goal: replay from a checkpoint lets go of the same messages as the engine that wrote it. Method: what
/// is put back for a destination that is gone is due first.
#[test]
fn what_is_put_back_for_a_deleted_destination_is_in_nobody_s_way() {
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
