//! Segments of 100-byte rows on the disk of this machine, everything in the page cache: rows per
//! second to write and to read in order, time of a look-up at random, bytes per row.
//!
//! Targets: write 2 M rows/s plain and 1 M/s with Zstandard; read 3 M rows/s; look up below 4 us
//! plain and 10 us with Zstandard; below 130 and 115 bytes a row for base 62.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use postdate::base::id::Key;
use postdate::env::OsDisk;
use postdate::store::{
    Compression, Family, Scratch, Segment, SegmentMeta, SegmentOptions, SegmentWriter, Value, key,
};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// The default, what look-ups gain by smaller blocks, and what they cost without compression.
const PACKINGS: [(Compression, usize); 3] =
    [(Compression::None, 8), (Compression::Zstd, 8), (Compression::Zstd, 4)];
/// Some 16 MiB, as the store cuts them.
const ROWS: u64 = 150_000;
const BODY_BYTES: usize = 100;
const T0: u64 = 1_750_000_000_000;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Keys in order, about one each 24 ms, with bodies one behind the other.
struct Rows {
    keys: Vec<[u8; key::SCHEDULED_BYTES]>,
    bodies: Vec<u8>,
}

impl Rows {
    fn new(body: fn(&mut Xoshiro256PlusPlus, &mut Vec<u8>)) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut due_ms = T0;
        let mut rows = Self { keys: Vec::new(), bodies: Vec::new() };
        for _ in 0..ROWS {
            due_ms += rng.next_u64() % 48;
            let sequence = rng.next_u64() % 1_000_000;
            rows.keys.push(key::scheduled(Key { due_ms, sequence }));
            body(&mut rng, &mut rows.bodies);
        }
        rows.keys.sort_unstable();
        rows.keys.dedup();
        rows
    }

    fn write(&self, path: &Path, options: SegmentOptions) -> SegmentMeta {
        let disk = OsDisk::default();
        let family = Family::Scheduled;
        let writer = SegmentWriter::create(&disk, path, family, 1, options);
        let mut writer = writer.expect("the directory of the bench can be written");
        for (key, body) in self.keys.iter().zip(self.bodies.chunks_exact(BODY_BYTES)) {
            writer.put(key, Value::Put(body)).expect("rows in order");
        }
        writer.finish().expect("there is space")
    }
}

fn base62(rng: &mut Xoshiro256PlusPlus, out: &mut Vec<u8>) {
    out.extend((0..BODY_BYTES).map(|_| BASE62[rng.next_u64() as usize % 62]));
}

fn json(rng: &mut Xoshiro256PlusPlus, out: &mut Vec<u8>) {
    let [order, user, cents] = [0; 3].map(|_: u8| rng.next_u64() % 100_000);
    let text = format!(
        r#"{{"type":"payment-timeout","order":"{order:010}","user":{user},"cents":{cents},"currency":"EUR"}}"#
    );
    let start = out.len();
    out.extend(text.bytes());
    out.resize(start + BODY_BYTES, b' ');
}

fn segments(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("segment");
    let mut group = c.benchmark_group("store");
    group.sample_size(15).measurement_time(Duration::from_secs(3));
    group.warm_up_time(Duration::from_millis(500));
    let disk = OsDisk::default();
    for (body, rows) in [("base62", Rows::new(base62)), ("json", Rows::new(json))] {
        let count = rows.keys.len() as u64;
        for (compression, kib) in PACKINGS {
            let options = SegmentOptions { compression, block_bytes: kib * 1024 };
            let name = format!("{body}/{compression:?}/{kib}KiB");
            group.throughput(Throughput::Elements(count));
            group.bench_function(format!("write/{name}"), |b| {
                b.iter(|| rows.write(&path, options));
            });
            let meta = rows.write(&path, options);
            println!("{name}: {:.1} bytes a row", meta.bytes as f64 / meta.rows as f64);
            let segment = Segment::open(&disk, &path, 1, Family::Scheduled).expect("as written");
            let segment = Arc::new(segment);
            group.bench_function(format!("cursor/{name}"), |b| {
                b.iter(|| {
                    let mut cursor = segment.cursor(&[]);
                    let mut bytes = 0;
                    while let Some((_, Value::Put(body))) = cursor.next().expect("undamaged") {
                        bytes += black_box(body).len();
                    }
                    bytes
                });
            });
            group.throughput(Throughput::Elements(1));
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
            let mut scratch = Scratch::default();
            group.bench_function(format!("get/{name}"), |b| {
                b.iter(|| {
                    let key = &rows.keys[rng.next_u64() as usize % rows.keys.len()];
                    let found = segment.get(key, &mut scratch).expect("undamaged");
                    assert!(black_box(found).is_some());
                });
            });
            let mut at = 0;
            group.bench_function(format!("get_in_order/{name}"), |b| {
                b.iter(|| {
                    at = (at + 1) % rows.keys.len();
                    black_box(segment.get(&rows.keys[at], &mut scratch).expect("undamaged"))
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, segments);
criterion_main!(benches);
