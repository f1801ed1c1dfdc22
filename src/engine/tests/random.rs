//! Random walks: after each run replay equals live, and the promises hold against a plain record
//! of what was acknowledged to whom.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::rig::{A, B, Rig, START, ack, produce, subscribe};
use crate::base::command::{Answer, Command};
use crate::base::config::ShardConfig;
use crate::base::id::MessageId;
use crate::base::lifecycle::State;
use crate::base::message::{Delay, Message};
use crate::base::time::Now;

#[derive(Debug, Clone)]
enum Op {
    Publish { to: usize, delay: Delay, priority: u8, expiry: Option<u64>, dedup: Option<u8> },
    Cancel(usize),
    Reschedule(usize, Delay),
    Ack(usize),
    Reject(usize, bool),
    Subscribe { session: bool, to: usize, credit: u32 },
    Vanish(bool),
    Pass { mono: u64, wall: i64 },
    Delete(usize),
    Restart(u64),
}

const NAMES: [&str; 4] = ["/queue/a", "/queue/b", "/topic/t", "/dlq/queue/a"];

fn delay() -> impl Strategy<Value = Delay> {
    prop_oneof![
        Just(Delay::None),
        (0i64..3_000).prop_map(Delay::After),
        (0i64..10_000_000).prop_map(Delay::After),
        (-2_000i64..5_000).prop_map(|ms| Delay::At(START as i64 + ms)),
        (1i64..4).prop_map(Delay::Level),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0usize..4, delay(), 0u8..10, proptest::option::weighted(0.1, 0u64..2_000),
              proptest::option::weighted(0.2, 0u8..4))
            .prop_map(|(to, delay, priority, expiry, dedup)| Op::Publish { to, delay, priority, expiry, dedup }),
        2 => (0usize..100).prop_map(Op::Cancel),
        2 => (0usize..100, delay()).prop_map(|(at, delay)| Op::Reschedule(at, delay)),
        4 => (0usize..100).prop_map(Op::Ack),
        1 => (0usize..100, any::<bool>()).prop_map(|(at, requeue)| Op::Reject(at, requeue)),
        2 => (any::<bool>(), 0usize..4, 1u32..5)
            .prop_map(|(session, to, credit)| Op::Subscribe { session, to, credit }),
        1 => any::<bool>().prop_map(Op::Vanish),
        5 => (prop_oneof![0u64..5, 0u64..1_500, 0u64..4_000_000], -1_500i64..1_500)
            .prop_map(|(mono, wall)| Op::Pass { mono, wall }),
        1 => (0usize..4).prop_map(Op::Delete),
        1 => (0u64..5_000).prop_map(Op::Restart),
    ]
}

/// What a careful outsider wrote down.
#[derive(Default)]
struct Ledger {
    /// Due time and the clock it is on, as last acknowledged; `None` when cancelled or finished.
    due: BTreeMap<MessageId, Option<(u64, bool)>>,
    /// Its clock has shown its due time at some step; where the clock goes then is no matter.
    reached: BTreeSet<MessageId>,
}

fn run(ops: Vec<Op>) {
    let config = ShardConfig { max_failures: 3, topic_messages: 8, ..ShardConfig::default() };
    let mut rig = Rig::with(config);
    let mut ledger = Ledger::default();
    let mut ids: Vec<MessageId> = Vec::new();
    let mut next_number = 1;
    for op in ops {
        let pick = |at: usize| ids.get(at % ids.len().max(1)).copied();
        match op {
            Op::Publish { to, delay, priority, expiry, dedup } => {
                let mut message = Message::new("x").with_delay(delay).with_priority(priority);
                message.expires_after_ms = expiry;
                message.dedup = dedup.map(|d| vec![d]).unwrap_or_default();
                let now = rig.now;
                let Answer::Produced(r) = rig.ask(produce(NAMES[to], &[message])) else { panic!() };
                let produced = r[0].clone().unwrap();
                if !produced.duplicate {
                    ledger.due.insert(produced.id, Some(due(now, delay)));
                    ids.push(produced.id);
                }
            }
            Op::Cancel(at) => {
                let Some(id) = pick(at) else { continue };
                if rig.verdict(Command::Cancel { ids: vec![id] }).0 {
                    ledger.due.insert(id, None);
                }
            }
            Op::Reschedule(at, delay) => {
                let Some(id) = pick(at) else { continue };
                let now = rig.now;
                // Decided before the step's deliveries, so known before they are judged.
                let before = ledger.due.insert(id, Some(due(now, delay)));
                if !rig.verdict(Command::Reschedule { items: vec![(id, delay)] }).0 {
                    ledger.due.insert(id, before.flatten());
                }
            }
            Op::Ack(at) => {
                let Some(id) = pick(at) else { continue };
                if let Answer::Verdicts(v) = rig.ask(ack(0, &[id]))
                    && v[0].done
                {
                    ledger.due.insert(id, None);
                }
            }
            Op::Reject(at, requeue) => {
                let Some(id) = pick(at) else { continue };
                rig.ask(Command::Reject { subscription: 0, ids: vec![id], requeue });
            }
            Op::Subscribe { session, to, credit } => {
                let session = if session { A } else { B };
                rig.step(vec![(session, subscribe(next_number, NAMES[to], credit))]);
                next_number += 1;
            }
            Op::Vanish(which) => {
                let session = if which { A } else { B };
                rig.engine.close_session(session);
                rig.engine.open_session(session);
            }
            Op::Pass { mono, wall } => {
                let mono_ms = rig.now.mono_ms + mono;
                let wall_ms = (rig.now.wall_ms + mono).saturating_add_signed(wall);
                let engine_ms = rig.now.engine_ms.max(mono_ms).max(wall_ms);
                rig.now = Now { mono_ms, wall_ms, engine_ms };
                rig.step(vec![]);
            }
            Op::Delete(which) => {
                let name = bytes::Bytes::from_static(NAMES[which].as_bytes());
                rig.ask(Command::DeleteDestination { name });
            }
            Op::Restart(ms) => rig.restart(ms),
        }
        check_deliveries(&mut rig, &mut ledger);
    }
    rig.check_replay();
    check_counters(&mut rig, &ids);
}

fn due(now: Now, delay: Delay) -> (u64, bool) {
    match delay {
        Delay::None => (now.wall_ms, true),
        Delay::After(ms) => (now.mono_ms + ms as u64, false),
        Delay::Level(level) => {
            (now.mono_ms + crate::base::time::delay_level_ms(level as u64).unwrap(), false)
        }
        Delay::At(at) => (at as u64, true),
    }
}

/// no_early_delivery, no_ghost, cancelled_stays_cancelled, acked_stays_acked, attempts_bounded.
fn check_deliveries(rig: &mut Rig, ledger: &mut Ledger) {
    let now = rig.now;
    for (id, due) in &ledger.due {
        if let Some((due, wall)) = due
            && *due <= if *wall { now.wall_ms } else { now.mono_ms }
        {
            ledger.reached.insert(*id);
        }
    }
    for (_, delivery) in rig.take_received() {
        let due = ledger.due.get(&delivery.id).expect("an unknown message was delivered");
        assert!(due.is_some(), "a finished message was delivered");
        assert!(ledger.reached.contains(&delivery.id), "delivered early");
    }
}

/// conservation: the counters agree with a walk over all messages.
fn check_counters(rig: &mut Rig, ids: &[MessageId]) {
    let mut found = BTreeMap::new();
    for id in ids {
        *found.entry(rig.state(*id)).or_insert(0u64) += 1;
    }
    let stats: BTreeMap<_, _> = rig.engine.stats().into_iter().collect();
    let count = |state| found.get(&state).copied().unwrap_or(0);
    assert_eq!(stats["scheduled"], count(State::Scheduled));
    // Topic messages in flight to a subscription are still ready in their topic.
    assert_eq!(stats["ready"], count(State::Ready) + count(State::Dead));
    assert!(stats["in_flight"] >= count(State::InFlight));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn promises_hold_and_replay_equals_live(ops in proptest::collection::vec(op(), 1..120)) {
        run(ops);
    }
}
