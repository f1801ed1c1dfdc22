//! What is read back from disk: the root of a store.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use postdate::env::{Disk, OpenMode};
use postdate::sim::SimDisk;
use postdate::store::{
    Compression, Family, Judges, Liveness, Scratch, Store, StoreOptions, Summary, Value, Version,
    verify,
};

const HEADER_BYTES: usize = 24;
/// Longer inputs tell nothing new, slowly.
const INPUT_BYTES_MAX: usize = 1 << 14;

fn dir() -> &'static Path {
    Path::new("/store")
}

/// Bytes as a root, as they are and as the body of one, with a header that is right. The files of a small
/// store lie beside it. What opens is read to the end, and opens again as the same when it was
/// written anew.
pub fn root(data: &[u8]) -> usize {
    if data.len() > INPUT_BYTES_MAX {
        return 0;
    }
    try_root(data) + try_root(&sealed(data))
}

fn try_root(bytes: &[u8]) -> usize {
    let disk = base().fork();
    let file = disk.open(&dir().join("ROOT"), OpenMode::Write).expect("there is a root");
    file.set_len(0).expect("a disk without faults");
    file.write_at(bytes, 0).expect("a disk without bounds");
    file.sync_data().expect("a disk without faults");
    let summary = Summary::read(&disk, dir());
    let judges = Judges { row: &mut |_, _, _| Ok(()), checkpoint: &mut |_| Ok(()) };
    let verified = verify(&disk, dir(), judges, &mut |_, _| ());
    let Ok(Some(summary)) = summary else { return 0 };
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let Ok((mut store, opened)) = Store::open(shared.clone(), dir(), StoreOptions::default())
    else {
        return 1;
    };
    if let Some(opened) = opened {
        assert_eq!(opened.journal_from, summary.journal_from());
    }
    let before = rows(&store.version());
    if before.is_some() {
        assert!(verified.is_ok());
    }
    let flush = store.flush();
    let again = store.commit(flush, b"again", 77, Arc::new(AllAlive));
    if again.is_err() {
        return 1;
    }
    let first = rows(&store.version());
    drop(store);
    let (store, opened) =
        Store::open(shared, dir(), StoreOptions::default()).expect("it was just written");
    assert_eq!(opened.map(|opened| opened.journal_from), Some(77));
    assert!(first == rows(&store.version()), "it is another store when opened again");
    2
}

/// Family, key, value.
type Row = (Family, Vec<u8>, Vec<u8>);

/// All rows a version shows; `None` when one cannot be read.
fn rows(version: &Version) -> Option<Vec<Row>> {
    let mut rows = Vec::new();
    let mut scratch = Scratch::default();
    for family in Family::ALL {
        let mut cursor = version.cursor(family, &[]);
        while let Some((key, value)) = cursor.next().ok()? {
            rows.push((family, key.to_vec(), value.to_vec()));
        }
    }
    for (family, key, _) in &rows {
        let _ = version.get(*family, key, &mut scratch);
    }
    Some(rows)
}

struct AllAlive;

impl Liveness for AllAlive {
    fn dead(&self, _: Family, _: &[u8], _: &[u8]) -> bool {
        false
    }
    fn dead_between(&self, _: Family, _: &[u8], _: &[u8]) -> bool {
        false
    }
    fn live_rows(&self, _: Family) -> Option<u64> {
        None
    }
    fn dead_up_to(&self, family: Family) -> Option<Vec<u8>> {
        // A floor, so that the root has one.
        (family == Family::Scheduled).then(|| vec![0, 1])
    }
}

/// The store that every root is put in the place of.
fn base() -> &'static SimDisk {
    static BASE: OnceLock<SimDisk> = OnceLock::new();
    BASE.get_or_init(|| {
        let disk = SimDisk::new();
        fill(&disk, 5);
        disk
    })
}

/// Flushes so many runs of few rows, and merges what is to be merged.
fn fill(disk: &SimDisk, flushes: u8) {
    let options = StoreOptions {
        file_bytes: 1_000,
        fanout: 3,
        flushed: Compression::None,
        ..StoreOptions::default()
    };
    let shared = Arc::new(disk.clone());
    let (mut store, _) = Store::open(shared, dir(), options).expect("an empty disk");
    for number in 0..flushes {
        let mut flush = store.flush();
        for family in Family::ALL {
            for row in 0..20 {
                let key = [row, number, family as u8];
                let value = [number; 50];
                let value = if row == 7 { Value::Tombstone } else { Value::Put(&value) };
                flush.put(family, &key, value).expect("rows in order");
            }
        }
        let journal_from = u64::from(number) + 1;
        store.commit(flush, b"checkpoint", journal_from, Arc::new(AllAlive)).expect("a good disk");
        if number == 3
            && let Some(plan) = store.plan_merge(false)
        {
            let mut merge = store.begin_merge(plan).expect("as planned");
            while !store.merge_step(&mut merge, u64::MAX).expect("a good disk") {}
        }
    }
}

/// The root of a store as `fill` leaves it, without its header.
pub(crate) fn seed(flushes: u8) -> Vec<u8> {
    let disk = SimDisk::new();
    fill(&disk, flushes);
    disk.contents(&dir().join("ROOT")).expect("a store has a root").split_off(HEADER_BYTES)
}

/// Puts the header of a root before bytes: its checksum would be too hard to guess.
fn sealed(body: &[u8]) -> Vec<u8> {
    let mut bytes = b"PDSTROOT".to_vec();
    bytes.extend_from_slice(&1u32.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
    bytes.extend_from_slice(body);
    let crc = crc32fast::hash(&[&bytes[..12], &bytes[16..]].concat());
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    bytes
}
