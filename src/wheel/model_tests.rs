//! Goal: the wheel behaves as a sorted set with a clock. Method: random calls, the same made on a
//! model, everything it tells compared after each.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rand_xoshiro::rand_core::SeedableRng;

use super::hours::HOUR_MS;
use super::tests::{DAY_MS, T0, key, limited, scanned};
use super::*;

#[derive(Debug, Clone)]
enum Op {
    Insert { ahead: i64, sequence: u64 },
    Cancel(prop::sample::Index),
    PutBack(prop::sample::Index),
    Advance { by: u64, limit: usize },
    AdvanceTo(prop::sample::Index),
    Backward(u64),
    Scan { from: prop::sample::Index, span: u64, most: usize },
}

fn span() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => 0..3u64,
        3 => 0..1_500u64,
        3 => 0..120_000u64,
        2 => 0..3 * HOUR_MS,
        1 => (0..4u64, 0..3u64).prop_map(|(hours, ms)| (hours * HOUR_MS + ms).saturating_sub(1)),
        1 => 0..50 * DAY_MS,
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let insert = (span(), 0..8u32, 0..1000u64).prop_map(|(ahead, past, sequence)| Op::Insert {
        ahead: if past == 0 { -(ahead as i64) } else { ahead as i64 },
        sequence,
    });
    prop_oneof![
        10 => insert,
        4 => any::<prop::sample::Index>().prop_map(Op::Cancel),
        2 => any::<prop::sample::Index>().prop_map(Op::PutBack),
        5 => (span(), prop_oneof![0..4usize, Just(usize::MAX)])
            .prop_map(|(by, limit)| Op::Advance { by, limit }),
        1 => any::<prop::sample::Index>().prop_map(Op::AdvanceTo),
        1 => span().prop_map(Op::Backward),
        2 => (any::<prop::sample::Index>(), span(), 1..20usize)
            .prop_map(|(from, span, most)| Op::Scan { from, span, most }),
    ]
}

/// The model: what is inside, and the latest time seen.
struct Pair {
    wheel: Wheel,
    inside: BTreeSet<Key>,
    cancelled: BTreeSet<Key>,
    now: u64,
}

impl Pair {
    fn pick(set: &BTreeSet<Key>, index: prop::sample::Index) -> Option<Key> {
        (!set.is_empty()).then(|| *set.iter().nth(index.index(set.len())).unwrap())
    }

    fn fired_up_to(&mut self, last: Key, limit: usize) -> Vec<Key> {
        let fired: Vec<Key> = self.inside.range(..=last).take(limit).copied().collect();
        fired.iter().for_each(|key| assert!(self.inside.remove(key)));
        fired
    }

    fn advance(&mut self, now: u64, limit: usize) {
        self.now = self.now.max(now);
        let (fired, more) = limited(&mut self.wheel, now, limit);
        assert_eq!(fired, self.fired_up_to(Key::end_of(self.now), limit));
        assert_eq!(more, self.inside.first().is_some_and(|key| key.due_ms <= self.now));
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Insert { ahead, sequence } => {
                let key = key(self.now.saturating_add_signed(ahead), sequence);
                if self.inside.insert(key) {
                    self.cancelled.remove(&key);
                    self.wheel.insert(key);
                }
            }
            Op::Cancel(index) => {
                if let Some(key) = Self::pick(&self.inside, index) {
                    self.inside.remove(&key);
                    self.cancelled.insert(key);
                    self.wheel.cancel(key);
                }
            }
            Op::PutBack(index) => {
                if let Some(key) = Self::pick(&self.cancelled, index) {
                    self.cancelled.remove(&key);
                    self.inside.insert(key);
                    self.wheel.insert(key);
                }
            }
            Op::Advance { by, limit } => self.advance(self.now.saturating_add(by), limit),
            Op::Backward(by) => self.advance(self.now.saturating_sub(by), 3),
            Op::AdvanceTo(index) => {
                if let Some(last) = Self::pick(&self.inside, index) {
                    self.now = self.now.max(last.due_ms);
                    let mut fired = Vec::new();
                    self.wheel.advance_to(last, &mut fired);
                    assert_eq!(fired, self.fired_up_to(last, usize::MAX));
                }
            }
            Op::Scan { from, span, most } => {
                let from = Self::pick(&self.inside, from).unwrap_or_default();
                let to_ms = from.due_ms.saturating_add(span);
                let expected: Vec<Key> = self
                    .inside
                    .range((std::ops::Bound::Excluded(from), std::ops::Bound::Unbounded))
                    .take_while(|key| key.due_ms <= to_ms)
                    .take(most)
                    .copied()
                    .collect();
                assert_eq!(scanned(&self.wheel, from, to_ms, most), expected);
            }
        }
        self.check();
    }

    fn check(&self) {
        assert_eq!(self.wheel.len(), self.inside.len());
        let first = self.inside.first().map(|key| key.due_ms);
        let told = self.wheel.next_deadline();
        match (first, told) {
            (Some(first), Some(told)) if first / HOUR_MS > self.wheel.hour() => {
                assert!(told <= first && told >= first / HOUR_MS * HOUR_MS, "{told} for {first}");
            }
            _ => assert_eq!(told, first),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    /// Goal: the wheel is a sorted set with a clock. Method: random calls, the same on a model;
    /// at the end time jumps and everything leaves.
    #[test]
    fn the_wheel_agrees_with_a_sorted_set(
        start in prop_oneof![Just(T0), T0..T0 + 2 * HOUR_MS, 0..10_000u64],
        split in 0..4usize,
        ops in prop::collection::vec(op(), 1..150),
    ) {
        let mut pair = Pair {
            wheel: Wheel::new(start),
            inside: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            now: start,
        };
        pair.wheel.split_per_advance = split;
        for op in ops {
            pair.apply(op);
        }
        pair.advance(pair.now + 1_000 * DAY_MS, usize::MAX);
        prop_assert!(pair.wheel.is_empty());
        prop_assert!(pair.wheel.tombs.is_empty() || !pair.cancelled.is_empty());
    }
}

/// Goal: as above with crowded slots, where chunks fill and slots are rewritten. Method: seeded
/// long runs over a few narrow spans; a tenth of the keys is cancelled at first, then most.
#[test]
fn a_crowded_wheel_agrees_with_a_sorted_set() {
    for seed in 0..6u64 {
        let mut rng = rand_xoshiro::Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut pair = Pair {
            wheel: Wheel::new(T0),
            inside: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            now: T0,
        };
        pair.wheel.split_per_advance = 50;
        let mut recent = Vec::new();
        for n in 0..30_000u64 {
            let base = [0, 700, 20_000, HOUR_MS, 2 * HOUR_MS, 30 * HOUR_MS][(n / 5_000) as usize];
            let due = T0 + base + rng.next_u64() % [1, 900, 2_000][(seed % 3) as usize];
            let key = key(due, n ^ 0x55);
            pair.inside.insert(key);
            pair.wheel.insert(key);
            recent.push(key);
            let cancels = if n % 5_000 < 4_000 { 10 } else { 90 };
            while rng.next_u64() % 100 < cancels && !recent.is_empty() {
                let at = (rng.next_u64() % recent.len() as u64) as usize;
                let key = recent.swap_remove(at);
                if pair.inside.remove(&key) {
                    pair.wheel.cancel(key);
                    if at.is_multiple_of(8) {
                        pair.inside.insert(key);
                        pair.wheel.insert(key);
                    }
                }
            }
            if n % 16 == 0 {
                pair.check();
            }
            if n % 1_000 == 999 {
                pair.advance(pair.now + rng.next_u64() % 1_500, 400);
                pair.check();
            }
        }
        while let Some(first) = pair.inside.first() {
            pair.advance(first.due_ms + rng.next_u64() % 300, 1_000);
            pair.check();
        }
        assert!(pair.wheel.tombs.is_empty());
    }
}
