//! Goal: whatever bit of a closed data directory flips, a shard gives right data or names the file and
//! the offset; `verify` names it too; nobody panics and nothing is passed over in silence. Method: the
//! directory of `golden.rs` on a simulated disk; one bit of a byte flipped, opened, drained.

use std::path::{Path, PathBuf};

use postdate::base::config::{RecoveryPolicy, ShardConfig};
use postdate::base::id::MessageId;
use postdate::env::Disk;
use postdate::journal::JournalError;
use postdate::shard::{OpenError, ShardError};
use postdate::sim::{SimClock, SimDisk};
use postdate::store::StoreError;

use crate::golden::{golden_config, write_golden};
use crate::rig::{Expected, Life, TOPIC, assert_same, damage, drain, drain_all};

fn dir() -> &'static Path {
    Path::new("/data")
}

struct Closed {
    disk: SimDisk,
    expected: Expected,
    now: u64,
}

impl Closed {
    fn new() -> Self {
        let (disk, expected, now) = write_golden();
        Self { disk, expected, now }
    }

    /// Files of a directory that mean something.
    fn files(&self, part: &str) -> Vec<PathBuf> {
        let part = dir().join(part);
        let names = self.disk.list(&part).unwrap();
        let names = names.into_iter().filter(|name| !name.starts_with("spare"));
        let paths = names.map(|name| part.join(name));
        paths.filter(|path| self.disk.contents(path).is_ok()).collect()
    }

    /// Opens and drains a copy with one bit flipped. `None`: everything was right; otherwise the place
    /// that was named.
    fn flipped(&self, path: &Path, byte: u64) -> Option<(PathBuf, u64)> {
        let disk = self.disk.fork();
        disk.flip_bit(path, byte, (byte * 5 % 8) as u8);
        let context = format!("{}, byte {byte}", path.display());
        let opened = Life::open(&disk, dir(), &SimClock::new(0, self.now), golden_config());
        let failed = match opened.map(|mut life| drain(&mut life)) {
            Ok(Ok(came)) => {
                assert_same(&came, &self.expected.alive, &context);
                return None;
            }
            Ok(Err(error)) => error,
            Err(OpenError::Content(error)) => error,
            Err(OpenError::Store(error)) => error.into(),
            Err(OpenError::Journal(error)) => error.into(),
            Err(error) => panic!("{context}: {error}"),
        };
        match failed {
            ShardError::Store(StoreError::Corrupt { file, offset, .. })
            | ShardError::Journal(JournalError::Corrupt { file, offset, .. }) => {
                Some((file, offset))
            }
            error => panic!("{context}: {error}"),
        }
    }

    /// What `verify` names.
    fn verified(&self, path: &Path, byte: u64) -> Vec<(PathBuf, u64)> {
        let disk = self.disk.fork();
        disk.flip_bit(path, byte, (byte * 5 % 8) as u8);
        damage(&disk, dir()).into_iter().map(|(file, offset, _)| (file, offset)).collect()
    }
}

/// Every byte where all hangs on it, and of each beginning; others here and there.
fn bytes_of(path: &Path, len: u64, stride: u64) -> impl Iterator<Item = u64> {
    let all = path.extension().is_none_or(|extension| extension == "ckpt");
    (0..len).filter(move |byte| all || byte % stride == 0 || *byte < 48)
}

/// In the store every byte counts: it is always found, at the latest when it is read.
#[test]
fn a_flipped_bit_of_the_store_is_named() {
    let closed = Closed::new();
    let (mut at_once, mut later) = (0, 0);
    for path in closed.files("store") {
        let len = closed.disk.contents(&path).unwrap().len() as u64;
        for byte in bytes_of(&path, len, 5) {
            let context = format!("{}, byte {byte}", path.display());
            match closed.flipped(&path, byte) {
                Some((file, offset)) => {
                    assert_eq!(file, path, "{context}");
                    assert!(offset <= len, "{context}: {offset}");
                    at_once += 1;
                }
                // Behind a watermark, or of a message that lies further up: not read any more.
                None => later += 1,
            }
            let named = closed.verified(&path, byte);
            assert!(named.iter().any(|(file, _)| *file == path), "{context}: {named:?}");
        }
    }
    println!("{at_once} named, {later} not read");
    assert!(at_once > 3_000);
}

/// In the journal only padding does not count. After a close every batch is covered by the mark behind
/// it, so that none can be taken for a torn tail.
#[test]
fn a_flipped_bit_of_the_journal_is_named() {
    let closed = Closed::new();
    let (mut named_count, mut right) = (0, 0);
    for path in closed.files("journal") {
        let len = closed.disk.contents(&path).unwrap().len() as u64;
        for byte in bytes_of(&path, len, 61) {
            let context = format!("{}, byte {byte}", path.display());
            let verified = closed.verified(&path, byte);
            match closed.flipped(&path, byte) {
                Some((file, offset)) => {
                    assert_eq!(file, path, "{context}");
                    assert!(offset <= byte && byte - offset < 16_384, "{context}: {offset}");
                    assert!(verified.contains(&(file, offset)), "{context}: {verified:?}");
                    named_count += 1;
                }
                None => {
                    assert_eq!(verified, [], "{context}");
                    right += 1;
                }
            }
        }
    }
    println!("{named_count} named, {right} without meaning");
    assert!(named_count > 100 && right > 100);
}

#[test]
fn a_flipped_bit_of_the_format_is_an_error() {
    let closed = Closed::new();
    let path = dir().join("FORMAT");
    for byte in 0..closed.disk.contents(&path).unwrap().len() as u64 {
        for bit in 0..8 {
            let disk = closed.disk.fork();
            disk.flip_bit(&path, byte, bit);
            let clock = SimClock::new(0, closed.now);
            let opened = Life::open(&disk, dir(), &clock, golden_config());
            assert!(matches!(opened, Err(OpenError::Home(_))), "byte {byte}, bit {bit}");
        }
    }
}

/// Goal: with `skip-damaged`, whatever bit of the store flips, a shard either refuses to start, or goes
/// on: nobody panics, nothing is made up, and what is missing or back from the dead is told by the count.
/// Method: as above; counters checked by the debug build on the way.
#[test]
fn a_flipped_bit_of_the_store_costs_a_block_at_most() {
    let closed = Closed::new();
    let known = |id: &MessageId| {
        let Expected { alive, cancelled, acknowledged, .. } = &closed.expected;
        alive.contains_key(id) || cancelled.contains(id) || acknowledged.contains(id)
    };
    let config = ShardConfig { recovery: RecoveryPolicy::SkipDamaged, ..golden_config() };
    let (mut skipped, mut refused, mut back) = (0, 0, 0);
    for path in closed.files("store") {
        let len = closed.disk.contents(&path).unwrap().len() as u64;
        for byte in bytes_of(&path, len, 61) {
            let context = format!("{}, byte {byte}", path.display());
            let disk = closed.disk.fork();
            disk.flip_bit(&path, byte, (byte * 5 % 8) as u8);
            let clock = SimClock::new(0, closed.now);
            let mut life = match Life::open(&disk, dir(), &clock, config.clone()) {
                Ok(life) => life,
                // Not a block: root, checkpoint, or what leads to the blocks of a file.
                Err(OpenError::Store(StoreError::Corrupt { file, .. })) => {
                    assert_eq!(file, path, "{context}");
                    refused += 1;
                    continue;
                }
                Err(error) => panic!("{context}: {error}"),
            };
            let came = drain_all(&mut life, false).unwrap();
            let met = life.stat("store_damaged_blocks");
            assert!(met <= 1, "{context}: {met} blocks");
            assert!(came.keys().all(known), "{context}: a ghost");
            let alive = &closed.expected.alive;
            for (id, message) in &came {
                assert!(alive.get(id).is_none_or(|own| own == message), "{context}: {id} changed");
            }
            if met == 0 {
                assert_same(&came, alive, &context);
            }
            skipped += met;
            back += came.keys().filter(|id| !alive.contains_key(*id)).count();
            // The scheduled and ready that are left in the books are what was lost, or less.
            let lost = alive.keys().filter(|id| !came.contains_key(*id)).count() as u64;
            let topic = alive.values().filter(|(to, _)| to == TOPIC).count() as u64;
            let left = life.stat("messages");
            assert!(left <= lost + topic, "{context}: {left} counted, {lost} lost");
        }
    }
    println!("{skipped} skipped, {refused} refused, {back} back from the dead");
    assert!(skipped > 100 && refused > 100 && back > 0);
}
