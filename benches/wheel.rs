//! The timing wheel at a million keys: time per key to insert, cancel and fire.
//!
//! Targets: insert below 25 ns, fire below 40 ns a key, spread over an hour and over 40 days.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use postdate::base::id::Key;
use postdate::base::limits::FIRE_PER_STEP_MAX;
use postdate::wheel::Wheel;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

const KEYS: u64 = 1_000_000;
const T0: u64 = 1_750_000_000_000;
const AHEAD_MS: u64 = 10_000;
const HOUR_MS: u64 = 3_600_000;
const SPANS: [(&str, u64); 3] = [("1s", 1_000), ("1h", HOUR_MS), ("40d", 960 * HOUR_MS)];

/// Keys due at random within a span that begins ten seconds ahead.
fn keys(span_ms: u64) -> Vec<Key> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(span_ms);
    let due = |rng: &mut Xoshiro256PlusPlus| T0 + AHEAD_MS + rng.next_u64() % span_ms;
    (0..KEYS).map(|sequence| Key { due_ms: due(&mut rng), sequence }).collect()
}

fn filled(keys: &[Key]) -> Wheel {
    let mut wheel = Wheel::new(T0);
    keys.iter().for_each(|&key| wheel.insert(key));
    wheel
}

fn per_key(c: &mut Criterion) {
    let mut group = c.benchmark_group("wheel");
    group.throughput(Throughput::Elements(KEYS)).sample_size(15);
    group.measurement_time(Duration::from_secs(4)).warm_up_time(Duration::from_secs(1));
    for (name, span) in SPANS {
        let keys = keys(span);
        group.bench_function(format!("insert/{name}"), |b| {
            b.iter_batched_ref(
                || Wheel::new(T0),
                |wheel| keys.iter().for_each(|&key| wheel.insert(key)),
                BatchSize::PerIteration,
            );
        });
        group.bench_function(format!("cancel/{name}"), |b| {
            b.iter_batched_ref(
                || filled(&keys),
                |wheel| keys.iter().for_each(|&key| wheel.cancel(key)),
                BatchSize::PerIteration,
            );
        });
        // As a shard does: sleep until the next deadline, fire, look for the next.
        group.bench_function(format!("fire_by_deadline/{name}"), |b| {
            b.iter_batched_ref(
                || (filled(&keys), Vec::with_capacity(FIRE_PER_STEP_MAX)),
                |(wheel, out)| {
                    while let Some(due_ms) = wheel.next_deadline() {
                        while wheel.advance(due_ms, FIRE_PER_STEP_MAX, out) {
                            out.clear();
                        }
                        black_box(&out);
                        out.clear();
                    }
                },
                BatchSize::PerIteration,
            );
        });
        // After a long stop: everything is due at once.
        group.bench_function(format!("fire_overdue/{name}"), |b| {
            b.iter_batched_ref(
                || (filled(&keys), Vec::with_capacity(FIRE_PER_STEP_MAX)),
                |(wheel, out)| {
                    while wheel.advance(T0 + AHEAD_MS + span, FIRE_PER_STEP_MAX, out) {
                        black_box(&out);
                        out.clear();
                    }
                    assert!(wheel.is_empty());
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// Not a statistic: the longest single call while an hour of 4 million keys comes near and is
/// gone through second by second, and bytes a key.
fn longest_call(_: &mut Criterion) {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let count = 4 * KEYS;
    let mut wheel = Wheel::new(T0);
    let empty = wheel.memory_bytes();
    let start = (T0 / HOUR_MS + 5) * HOUR_MS;
    for sequence in 0..count {
        wheel.insert(Key { due_ms: start + rng.next_u64() % HOUR_MS, sequence });
    }
    let held = (wheel.memory_bytes() - empty) as f64 / count as f64;
    let mut out = Vec::with_capacity(1 << 16);
    let (mut longest, mut at, mut most_held) = (Duration::ZERO, 0, 0);
    let mut now = start - 2 * HOUR_MS;
    while !wheel.is_empty() {
        now += 1_000;
        out.clear();
        let before = Instant::now();
        let more = wheel.advance(now, usize::MAX, &mut out);
        let took = before.elapsed();
        assert!(!more);
        if took > longest {
            (longest, at) = (took, now);
        }
        if now.is_multiple_of(60_000) {
            most_held = most_held.max(wheel.memory_bytes());
        }
    }
    let most = most_held as f64 / count as f64;
    let after = wheel.memory_bytes() >> 10;
    let offset = at as i64 - start as i64;
    println!(
        "hour of {count} keys: longest call {longest:?} (ms from its start: {offset}), \
         {held:.1} bytes a key, {most:.1} at most while splitting; empty {} KiB, after {after} KiB",
        empty >> 10
    );
}

criterion_group!(benches, longest_call, per_key);
criterion_main!(benches);
