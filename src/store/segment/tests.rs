//! Segments on the simulated disk, against a map in memory.

use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::prelude::*;

use super::*;
use crate::base::limits::{STORE_BLOCK_RANGE_BYTES, STORE_VALUE_BYTES_MAX};
use crate::sim::{FaultKind, Repeat, SimDisk};
use crate::store::{Damage, Value, key};

const NUMBER: u64 = 7;
const BLOCK_BYTES_MAX: usize = *STORE_BLOCK_RANGE_BYTES.end();
const FAMILY: Family = Family::Scheduled;

type Row = (Vec<u8>, Option<Vec<u8>>);
type Rows = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

fn path() -> &'static Path {
    Path::new("/store/segment")
}

fn disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("/store")).unwrap();
    disk
}

fn value(value: &Option<Vec<u8>>) -> Value<'_> {
    value.as_deref().map_or(Value::Tombstone, Value::Put)
}

fn try_write(
    disk: &SimDisk,
    rows: &Rows,
    options: SegmentOptions,
) -> Result<SegmentMeta, StoreError> {
    let mut writer = SegmentWriter::create(disk, path(), FAMILY, NUMBER, options)?;
    for (key, held) in rows {
        writer.put(key, value(held))?;
    }
    let most = writer.bytes();
    let meta = writer.finish()?;
    assert!(meta.bytes <= most + 512, "{} bytes, {most} were told", meta.bytes);
    Ok(meta)
}

fn write(disk: &SimDisk, rows: &Rows, options: SegmentOptions) -> SegmentMeta {
    try_write(disk, rows, options).unwrap()
}

fn open(disk: &SimDisk) -> Result<Arc<Segment>, StoreError> {
    Segment::open(disk, path(), NUMBER, FAMILY).map(Arc::new)
}

fn damage(segment: &Segment) -> Vec<Damage> {
    segment.verify(&mut |_, _, _| Ok(()), &mut |_| ())
}

/// Rows of a cursor, and the error it ended with.
fn read_from(segment: &Arc<Segment>, from: &[u8]) -> (Vec<Row>, bool) {
    let mut rows = Vec::new();
    let mut cursor = segment.cursor(from);
    loop {
        match cursor.next() {
            Ok(Some((key, Value::Put(value)))) => rows.push((key.into(), Some(value.into()))),
            Ok(Some((key, Value::Tombstone))) => rows.push((key.into(), None)),
            Ok(None) => return (rows, false),
            Err(_) => return (rows, true),
        }
    }
}

fn owned(value: &Option<Vec<u8>>) -> Owned {
    value.as_ref().map_or(Owned::Tombstone, |value| Owned::Put(value.clone().into()))
}

fn options(block_bytes: usize, compression: Compression) -> SegmentOptions {
    SegmentOptions { block_bytes, compression }
}

/// Rows over several blocks: shared prefixes, tombstones, empty and compressible values.
fn some_rows(count: u64) -> Rows {
    let row = |n: u64| {
        let key = key::scheduled(crate::base::id::Key { due_ms: 1 + n / 3, sequence: n * 7 });
        let value =
            (!n.is_multiple_of(5)).then(|| format!("{n}").repeat(n as usize % 9).into_bytes());
        (key.to_vec(), value)
    };
    (0..count).map(row).collect()
}

fn any_rows() -> impl Strategy<Value = Rows> {
    let key = prop_oneof![
        prop::collection::vec(0..3u8, 1..6),
        prop::collection::vec(any::<u8>(), 1..40),
        prop::collection::vec(Just(7u8), 200..=255),
    ];
    let value = prop_oneof![
        1 => Just(None),
        6 => prop::collection::vec(any::<u8>(), 0..60).prop_map(Some),
        2 => (any::<u8>(), 0..3_000usize).prop_map(|(byte, len)| Some(vec![byte; len])),
    ];
    prop::collection::btree_map(key, value, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Goal: a segment says what was put into it. Method: rows at random against a map: all keys
    /// and others are looked up in any order, a cursor begins anywhere, footer and `verify` agree.
    #[test]
    fn a_segment_is_the_map_it_was_written_from(
        rows in any_rows(),
        others in prop::collection::vec(prop::collection::vec(0..4u8, 1..6), 20),
        block_bytes in 512..3_000usize,
        zstd in any::<bool>(),
    ) {
        let disk = disk();
        let compression = if zstd { Compression::Zstd } else { Compression::None };
        let meta = write(&disk, &rows, options(block_bytes, compression));
        let segment = open(&disk).unwrap();
        prop_assert_eq!(segment.meta(), &meta);
        prop_assert_eq!(meta.rows, rows.len() as u64);
        prop_assert_eq!(meta.tombstones, rows.values().filter(|value| value.is_none()).count() as u64);
        prop_assert_eq!(meta.bytes, disk.contents(path()).unwrap().len() as u64);
        prop_assert_eq!(&*meta.first_key, rows.keys().next().map_or(&[][..], |key| key));
        prop_assert_eq!(&*meta.last_key, rows.keys().last().map_or(&[][..], |key| key));
        let tails = || rows.keys().map(|key| key::tail(key));
        prop_assert_eq!(meta.tail_min, tails().min().unwrap_or(0));
        prop_assert_eq!(meta.tail_max, tails().max().unwrap_or(0));
        let mut read = 0;
        prop_assert_eq!(segment.verify(&mut |_, _, _| Ok(()), &mut |bytes| read += bytes), []);
        prop_assert_eq!(read, segment.index_offset - HEADER_BYTES as u64);

        let mut scratch = Scratch::default();
        for key in others.iter().chain(rows.keys()) {
            let found = segment.get(key, &mut scratch).unwrap();
            prop_assert_eq!(found, rows.get(key).map(owned));
        }
        for from in others.iter().chain(rows.keys().step_by(7)) {
            let wanted = rows.range::<Vec<u8>, _>((Bound::Included(from), Bound::Unbounded));
            let wanted: Vec<_> = wanted.map(|(key, value)| (key.clone(), value.clone())).collect();
            prop_assert_eq!(read_from(&segment, from), (wanted, false));
        }
        let all: Vec<_> = rows.into_iter().collect();
        prop_assert_eq!(read_from(&segment, &[]), (all, false));
    }
}

/// What a damaged file may do: be an error when opened, or when read, and otherwise give right
/// rows up to the first error; `verify` sees it in any case.
fn expect_no_lie(disk: &SimDisk, rows: &Rows, what: &str) {
    let Ok(segment) = open(disk) else { return };
    assert_ne!(damage(&segment), [], "{what}");
    let (read, failed) = read_from(&segment, &[]);
    assert!(failed, "{what}: a cursor went to the end");
    assert!(
        read.iter().map(|(key, value)| (key, value)).eq(rows.iter().take(read.len())),
        "{what}"
    );
    let mut scratch = Scratch::default();
    let mut failures = 0;
    for (key, value) in rows {
        match segment.get(key, &mut scratch) {
            Ok(found) => assert_eq!(found, Some(owned(value)), "{what}"),
            Err(_) => failures += 1,
        }
    }
    assert!(failures > 0, "{what}: every look-up succeeded");
}

/// Goal: damage is an error, never a wrong row, silence or a panic. Method: every bit of a file of
/// several blocks flipped, with and without compression.
#[test]
fn every_flipped_bit_is_seen() {
    for compression in [Compression::None, Compression::Zstd] {
        let disk = disk();
        let rows = some_rows(160);
        let meta = write(&disk, &rows, options(512, compression));
        assert!(open(&disk).unwrap().blocks > 3);
        for byte in 0..meta.bytes {
            for bit in 0..8 {
                disk.flip_bit(path(), byte, bit);
                expect_no_lie(&disk, &rows, &format!("bit {bit} of byte {byte}"));
                disk.flip_bit(path(), byte, bit);
            }
        }
        assert_eq!(damage(&open(&disk).unwrap()), []);
    }
}

/// Goal: every damaged block is told, and so is a row that makes no sense. Method: damage in two
/// blocks of several; somebody who does not like one row of another.
#[test]
fn checking_goes_on_behind_damage() {
    let disk = disk();
    let rows: Rows = (0..64u8).map(|n| (vec![n], Some(vec![n; 200]))).collect();
    write(&disk, &rows, options(512, Compression::None));
    let segment = open(&disk).unwrap();
    let places = [1, 2, 5].map(|block| segment.entry(block).unwrap().offset);
    disk.flip_bit(path(), places[0] + 40, 0);
    disk.flip_bit(path(), places[1] + 40, 0);
    let (mut seen, disliked) = (0, segment.entry(5).unwrap().last_key[0]);
    let mut judge = |_, key: &[u8], _: Value<'_>| {
        seen += 1;
        if key == [disliked] { Err("odd".into()) } else { Ok(()) }
    };
    let found = segment.verify(&mut judge, &mut |_| ());
    assert_eq!(found.iter().map(|damage| damage.offset).collect::<Vec<_>>(), places);
    assert!(found[2].why.contains("odd"), "{found:?}");
    assert!((50..64).contains(&seen), "{seen}");
}

/// Goal: a file that lost its end, or got more, is an error. Method: every length.
#[test]
fn every_cut_is_seen() {
    let disk = disk();
    let rows = some_rows(200);
    let meta = write(&disk, &rows, options(512, Compression::Zstd));
    let lengths = (0..meta.bytes).rev().chain([meta.bytes + 1, meta.bytes + 4096]);
    for len in lengths {
        disk.open(path(), OpenMode::Write).unwrap().set_len(len).unwrap();
        assert!(matches!(open(&disk), Err(StoreError::Corrupt { .. })), "{len} bytes");
    }
    // Cut while it is open: what is still there is read, what is not is an error.
    write(&disk, &rows, options(512, Compression::Zstd));
    let segment = open(&disk).unwrap();
    assert!(segment.index_offset > 700);
    disk.open(path(), OpenMode::Write).unwrap().set_len(700).unwrap();
    assert_ne!(damage(&segment), []);
    assert!(read_from(&segment, &[]).1);
}

/// Goal: a file in the place of another is refused, and a block in the place of another of the
/// same file. Method: other number, other family; two blocks of one length swapped.
#[test]
fn what_stands_in_the_wrong_place_is_refused() {
    let disk = disk();
    let rows: Rows = (0..64u8).map(|n| (vec![n], Some(vec![n; 200]))).collect();
    write(&disk, &rows, options(512, Compression::None));
    for (number, family) in [(NUMBER + 1, FAMILY), (NUMBER, Family::Record)] {
        let refused = Segment::open(&disk, path(), number, family).err().unwrap();
        assert!(matches!(refused, StoreError::Corrupt { offset: 0, .. }), "{refused}");
    }
    let segment = open(&disk).unwrap();
    let (first, second) = (segment.entry(1).unwrap(), segment.entry(2).unwrap());
    assert_eq!(first.bytes, second.bytes);
    let bytes = disk.contents(path()).unwrap();
    let part = |entry: &Entry<'_>| &bytes[entry.offset as usize..entry.end() as usize];
    let file = disk.open(path(), OpenMode::Write).unwrap();
    file.write_at(part(&first), second.offset).unwrap();
    file.write_at(part(&second), first.offset).unwrap();
    let places: Vec<u64> = damage(&segment).iter().map(|damage| damage.offset).collect();
    assert_eq!(places, [first.offset, second.offset]);
    expect_no_lie(&disk, &rows, "swapped blocks");
}

/// Goal: a newer format is told from damage, a missing file from both. Method: the version raised
/// with a right checksum.
#[test]
fn newer_and_missing_are_told_from_damage() {
    let disk = disk();
    assert!(matches!(open(&disk), Err(StoreError::Missing { .. })));
    write(&disk, &some_rows(3), SegmentOptions::default());
    let file = disk.open(path(), OpenMode::Write).unwrap();
    let mut header = layout::encode_header(NUMBER, FAMILY);
    header[8..12].copy_from_slice(&2u32.to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[..12]);
    hasher.update(&header[16..]);
    header[12..16].copy_from_slice(&hasher.finalize().to_le_bytes());
    file.write_at(&header, 0).unwrap();
    let error = open(&disk).err().unwrap();
    assert!(matches!(error, StoreError::NewerVersion { found: 2, supported: 1, .. }), "{error}");
}

/// Goal: the bounds of rows and settings hold, and a refused row leaves no trace. Method: at each
/// bound and one past it.
#[test]
fn bounds_hold() {
    let disk = disk();
    for block_bytes in [511, BLOCK_BYTES_MAX + 1] {
        let options = options(block_bytes, Compression::None);
        let refused = SegmentWriter::create(&disk, path(), FAMILY, NUMBER, options).err().unwrap();
        assert!(matches!(refused, StoreError::BadOptions(_)));
    }
    for compression in [Compression::None, Compression::Zstd] {
        let options = options(BLOCK_BYTES_MAX, compression);
        let mut writer = SegmentWriter::create(&disk, path(), FAMILY, NUMBER, options).unwrap();
        let most = vec![b'x'; STORE_VALUE_BYTES_MAX];
        let over = vec![b'x'; STORE_VALUE_BYTES_MAX + 1];
        let mut refused = |key: &[u8], value: &[u8]| {
            let refused = writer.put(key, Value::Put(value)).unwrap_err();
            assert!(matches!(refused, StoreError::BadRow(_)));
        };
        refused(&[], b"");
        refused(&[5; 256], b"");
        refused(&[5; 255], &over);
        writer.put(&[5; 255], Value::Put(&most)).unwrap();
        for key in [&[5; 255][..], &[5; 254], &[4]] {
            assert!(matches!(writer.put(key, Value::Put(b"")), Err(StoreError::BadRow(_))));
        }
        writer.put(&[6], Value::Put(&most)).unwrap();
        writer.put(&[6, 0], Value::Tombstone).unwrap();
        assert_eq!(writer.finish().unwrap().rows, 3);
        let segment = open(&disk).unwrap();
        assert_eq!(damage(&segment), []);
        let mut scratch = Scratch::default();
        let mut get = |key: &[u8]| segment.get(key, &mut scratch).unwrap();
        assert_eq!(get(&[5; 255]), Some(Owned::Put(most.clone().into())));
        assert_eq!(get(&[6]), Some(Owned::Put(most.into())));
        assert_eq!(get(&[6, 0]), Some(Owned::Tombstone));
        assert_eq!(get(&[5; 254]), None);
        assert_eq!(read_from(&segment, &[5; 254]).0.len(), 3);
    }
}

/// Goal: look-ups in the order of keys read each block once, also when they take turns between
/// segments; a cursor reads several blocks at once and nothing before it is asked. Method: reads
/// counted.
#[test]
fn reads_are_few() {
    let disk = disk();
    let rows = some_rows(2_000);
    write(&disk, &rows, options(512, Compression::Zstd));
    let segments = [open(&disk).unwrap(), open(&disk).unwrap()];
    let mut scratch = Scratch::default();
    let before = disk.reads();
    for (key, value) in &rows {
        for segment in &segments {
            assert_eq!(segment.get(key, &mut scratch).unwrap(), Some(owned(value)));
        }
    }
    assert_eq!(disk.reads() - before, 2 * u64::from(segments[0].blocks));
    let before = disk.reads();
    let mut cursor = segments[0].cursor(&[]);
    assert_eq!(disk.reads(), before);
    while cursor.advance().unwrap() {}
    let most = segments[0].meta().bytes.div_ceil(32 * 1024);
    assert!((1..=most).contains(&(disk.reads() - before)));
}

/// Goal: an error of the disk is an error, and reading goes on when it is over. Method: every read
/// of a small run fails once.
#[test]
fn a_failed_read_is_told_and_may_be_tried_again() {
    let disk = disk();
    let rows = some_rows(20_000);
    write(&disk, &rows, options(4_096, Compression::None));
    let reads = || {
        let before = disk.reads();
        let segment = open(&disk)?;
        let mut cursor = segment.cursor(&[]);
        let (mut seen, mut failed) = (0, false);
        loop {
            match cursor.advance() {
                Ok(true) => seen += 1,
                Ok(false) => break,
                Err(StoreError::Io { .. }) => failed = true,
                Err(error) => return Err(error),
            }
        }
        assert_eq!(seen, rows.len());
        Ok((disk.reads() - before, failed))
    };
    let (all, failed) = reads().unwrap();
    assert!(all > 4 && !failed);
    for at in 0..all {
        disk.fail_read_at(disk.reads() + at, Repeat::Once);
        match reads() {
            Ok((_, failed)) => assert!(failed, "read {at} failed unseen"),
            Err(error) => assert!(matches!(error, StoreError::Io { .. }), "{error}"),
        }
        disk.clear_faults();
    }
}

/// Goal: what was not written is an error of the writer, and no file that opens. Method: every
/// changing operation fails, in each way.
#[test]
fn a_failed_write_is_told() {
    let rows: Rows =
        (0..2_000u16).map(|n| (n.to_be_bytes().into(), Some(vec![9; 1_500]))).collect();
    let options = options(8_192, Compression::None);
    let whole = disk();
    write(&whole, &rows, options);
    for at in 1..whole.operations() {
        for kind in [FaultKind::Eio, FaultKind::Enospc, FaultKind::ShortWrite] {
            let disk = disk();
            disk.fail_at(at, kind, Repeat::Once);
            match try_write(&disk, &rows, options) {
                Err(StoreError::Full { .. }) => assert_eq!(kind, FaultKind::Enospc),
                Err(StoreError::Io { .. }) => assert_ne!(kind, FaultKind::Enospc),
                // Making an empty file and syncing need no space.
                Ok(_) if kind == FaultKind::Enospc => continue,
                other => panic!("operation {at}, {kind:?}: {other:?}"),
            }
            disk.clear_faults();
            if at + 1 < whole.operations() {
                assert!(open(&disk).is_err());
            }
        }
    }
}

/// Goal: a segment may be read by two threads, and outlives its name. Method: the compiler; and a
/// file that is removed, or made anew by mistake.
#[test]
fn a_segment_is_shared_and_outlives_its_name() {
    fn shared<T: Send + Sync>(_: &T) {}
    fn moved<T: Send>(_: &T) {}
    let disk = disk();
    let rows = some_rows(50);
    write(&disk, &rows, SegmentOptions::default());
    let segment = open(&disk).unwrap();
    write(&disk, &some_rows(1), SegmentOptions::default());
    disk.remove(path()).unwrap();
    shared(&segment);
    moved(&segment.cursor(&[]));
    assert_eq!(read_from(&segment, &[]).0.len(), rows.len());
}
