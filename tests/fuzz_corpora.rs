//! Goal: what the fuzzer found stays fixed, and what it starts from stays good. Method: the bodies
//! of its targets (`fuzz/src`) on every file of `fuzz/corpus`, and on seeded mutations of each.
//!
//! The seeds are made by `fuzz/src/seeds.rs`. `POSTDATE_WRITE_SEEDS=1 cargo test --test
//! fuzz_corpora` writes them anew.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[allow(unreachable_pub, reason = "a library for the fuzzer")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use targets::{TARGETS, Target, seeds};

/// Mutations tried of each file.
const MUTATIONS: u64 = 200;
/// The same where one run takes milliseconds.
const SLOW_MUTATIONS: u64 = 50;
/// Files the fuzzer named by a hash, on the machine it ran on: tried as they are.
const HASH_NAME_LEN: usize = 40;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

/// Name and bytes of every file of a corpus.
fn files(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(corpus(target))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// Runs a target and tells which input made it panic.
fn try_on(name: &str, target: Target, what: &str, bytes: &[u8]) -> usize {
    match catch_unwind(AssertUnwindSafe(|| target(bytes))) {
        Ok(through) => through,
        Err(_) => panic!("{name} fails on {what}: {bytes:?}"),
    }
}

fn mutated(rng: &mut Xoshiro256PlusPlus, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=rng.next_u32() % 4 {
        let at = rng.next_u64() as usize % (bytes.len() + 1);
        let value = rng.next_u32() as u8;
        let len = (rng.next_u64() as usize % 9).min(bytes.len() - at);
        match rng.next_u32() % 5 {
            0 | 1 if at < bytes.len() => bytes[at] = value,
            2 if at < bytes.len() => bytes[at] ^= 1 << (value % 8),
            3 => drop(bytes.drain(at..at + len)),
            4 => {
                let part = bytes[at..at + len].to_vec();
                bytes.splice(at..at, part);
            }
            _ => bytes.insert(at, value),
        }
    }
    bytes
}

fn replay(name: &str, mutations: u64) {
    let (_, target) = *TARGETS.iter().find(|(target, _)| *target == name).unwrap();
    let files = files(name);
    assert!(!files.is_empty(), "the corpus of {name} is empty");
    for (file, bytes) in files {
        try_on(name, target, &file, &bytes);
        if file.len() != HASH_NAME_LEN {
            for seed in 0..mutations {
                let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
                let what = format!("mutation {seed} of {file}");
                try_on(name, target, &what, &mutated(&mut rng, &bytes));
            }
        }
    }
    try_on(name, target, "nothing", &[]);
}

#[test]
fn binary_protocol() {
    replay("binary_protocol", MUTATIONS);
}

#[test]
fn checkpoint() {
    replay("checkpoint", MUTATIONS);
}

#[test]
fn engine() {
    replay("engine", SLOW_MUTATIONS);
}

#[test]
fn event() {
    replay("event", MUTATIONS);
}

#[test]
fn journal_frame() {
    replay("journal_frame", MUTATIONS);
}

#[test]
fn message_batch() {
    replay("message_batch", MUTATIONS);
}

#[test]
fn root() {
    replay("root", MUTATIONS);
}

#[test]
fn segment() {
    replay("segment", MUTATIONS);
}

#[test]
fn stomp() {
    replay("stomp", MUTATIONS);
}

#[test]
fn the_seeds_are_as_they_are_made_and_get_through() {
    let write = std::env::var_os("POSTDATE_WRITE_SEEDS").is_some();
    for (name, file, bytes) in seeds() {
        let path = corpus(name).join(file);
        if write {
            fs::create_dir_all(corpus(name)).unwrap();
            #[expect(clippy::disallowed_methods, reason = "not a file of the server")]
            fs::write(&path, &bytes).unwrap();
        }
        let kept = fs::read(&path).unwrap_or_default();
        assert!(kept == bytes, "{name}/{file} is stale: write the seeds anew (fuzz/README.md)");
        let (_, target) = *TARGETS.iter().find(|(target, _)| *target == name).unwrap();
        assert!(try_on(name, target, file, &bytes) > 0, "nothing of {name}/{file} gets through");
    }
}

#[test]
fn every_target_has_its_file_and_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
    let tests = fs::read_to_string(root.join("tests/fuzz_corpora.rs")).unwrap();
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
        assert!(tests.contains(&format!("replay(\"{name}\", ")), "{name} is not replayed");
    }
}
