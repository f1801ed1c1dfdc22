//! Many runs of 100-byte rows on the disk of this machine, in the page cache: rows per second to
//! flush, to read sixteen runs as one, to merge them; time of a look-up through sixteen runs.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use postdate::base::id::Key;
use postdate::env::OsDisk;
use postdate::store::{
    Compression, Family, Liveness, Scratch, SegmentOptions, Store, StoreOptions, Value, key,
};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

const RUNS: u64 = 16;
const ROWS: u64 = 50_000;
const BODY_BYTES: usize = 100;
const T0: u64 = 1_750_000_000_000;
const FORTY_DAYS_MS: u64 = 40 * 86_400_000;

struct AllAlive;

impl Liveness for AllAlive {
    fn dead(&self, _family: Family, _key: &[u8], _value: &[u8]) -> bool {
        false
    }

    fn dead_between(&self, _: Family, _: &[u8], _: &[u8]) -> bool {
        false
    }
    fn live_rows(&self, _: Family) -> Option<u64> {
        None
    }
    fn dead_up_to(&self, _family: Family) -> Option<Vec<u8>> {
        None
    }
}

/// Keys of one flush: due any time within forty days, sequences from its own range.
fn keys(run: u64) -> Vec<[u8; key::SCHEDULED_BYTES]> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(run);
    let key = |at| Key { due_ms: T0 + rng.next_u64() % FORTY_DAYS_MS, sequence: run * ROWS + at };
    let mut keys: Vec<_> = (0..ROWS).map(key).map(key::scheduled).collect();
    keys.sort_unstable();
    keys
}

fn bodies() -> Vec<u8> {
    const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(99);
    (0..ROWS as usize * BODY_BYTES).map(|_| BASE62[(rng.next_u64() % 62) as usize]).collect()
}

fn open(dir: &Path, compression: Compression) -> Store {
    let segment = SegmentOptions { compression, ..SegmentOptions::default() };
    let options = StoreOptions { segment, flushed: compression, ..StoreOptions::default() };
    Store::open(Arc::new(OsDisk::default()), dir, options).expect("the directory can be used").0
}

fn flush(store: &mut Store, keys: &[[u8; key::SCHEDULED_BYTES]], bodies: &[u8]) {
    let mut flush = store.flush();
    for (key, body) in keys.iter().zip(bodies.chunks_exact(BODY_BYTES)) {
        flush.put(Family::Scheduled, key, Value::Put(body)).expect("rows in order");
    }
    store.commit(flush, b"checkpoint", 1, Arc::new(AllAlive)).expect("there is space");
}

/// A store of sixteen runs that were not merged.
fn sixteen(compression: Compression) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut store = open(&dir.path().join("store"), compression);
    let bodies = bodies();
    (0..RUNS).for_each(|run| flush(&mut store, &keys(run), &bodies));
    (dir, store)
}

fn store(criterion: &mut Criterion) {
    for compression in [Compression::None, Compression::Zstd] {
        let mut group = criterion.benchmark_group(format!("store/{compression:?}"));
        group.sample_size(10).measurement_time(Duration::from_secs(4));
        group.throughput(Throughput::Elements(ROWS));
        group.bench_function("flush", |bencher| {
            let (keys, bodies) = (keys(0), bodies());
            bencher.iter_custom(|rounds| {
                let dir = tempfile::tempdir().expect("a temporary directory");
                let mut store = open(&dir.path().join("store"), compression);
                let start = Instant::now();
                (0..rounds).for_each(|_| flush(&mut store, &keys, &bodies));
                start.elapsed()
            });
        });
        let (_dir, store) = sixteen(compression);
        let version = store.version();
        group.throughput(Throughput::Elements(RUNS * ROWS));
        group.bench_function("read sixteen runs", |bencher| {
            bencher.iter(|| {
                let mut cursor = version.cursor(Family::Scheduled, &[]);
                let mut rows = 0;
                while let Some((_, value)) = cursor.next().expect("it is sound") {
                    rows += u64::from(!value.is_empty());
                }
                assert_eq!(rows, RUNS * ROWS);
            });
        });
        group.bench_function("merge sixteen runs", |bencher| {
            bencher.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    let (_dir, mut store) = sixteen(compression);
                    let plan = store.plan_merge(false).expect("the level is full");
                    let start = Instant::now();
                    let mut merge = store.begin_merge(plan).expect("it fits");
                    while !store.merge_step(&mut merge, 1 << 20).expect("there is space") {}
                    spent += start.elapsed();
                }
                spent
            });
        });
        group.throughput(Throughput::Elements(1));
        group.bench_function("look up in sixteen runs", |bencher| {
            let wanted: Vec<_> = (0..RUNS).map(keys).collect();
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
            let mut scratch = Scratch::default();
            bencher.iter(|| {
                let run = &wanted[(rng.next_u64() % RUNS) as usize];
                let key = &run[(rng.next_u64() % ROWS) as usize];
                let found = version.get(Family::Scheduled, key, &mut scratch);
                black_box(found.expect("it is sound").expect("it is there"))
            });
        });
        group.finish();
    }
}

criterion_group!(benches, store);
criterion_main!(benches);
