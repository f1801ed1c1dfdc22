//! Goal: the promises hold for whole shards under random work and faults. Method: the simulator runs
//! seeds, those that found something before and a first few others; its model judges all that comes
//! out.

use std::path::Path;

use postdate::sim::World;

/// Seeds run besides the kept ones. The simulator's program runs as many as one likes.
const FIRST: std::ops::Range<u64> = 0..40;

fn kept() -> Vec<u64> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seeds");
    let mut seeds = Vec::new();
    for entry in std::fs::read_dir(dir).expect("the seeds are there") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("a text");
        for line in text.lines() {
            let word = line.split('#').next().and_then(|rest| rest.split_whitespace().next());
            seeds.extend(word.map(|word| word.parse::<u64>().expect("a seed")));
        }
    }
    seeds
}

#[test]
fn seeds_that_found_something_hold() {
    let kept = kept();
    assert!(!kept.is_empty());
    for seed in kept {
        if let Err(violation) = World::run(seed, false) {
            panic!(
                "{violation}\nagain: cargo run --features sim --bin sim -- --seed {seed} --trace"
            );
        }
    }
}

#[test]
fn the_first_seeds_hold() {
    let (mut flushes, mut power_losses, mut latched) = (0, 0, 0);
    for seed in FIRST {
        match World::run(seed, false) {
            Ok(report) => {
                flushes += report.flushes;
                power_losses += report.power_losses;
                latched += report.latched;
            }
            Err(violation) => {
                panic!(
                    "{violation}\nagain: cargo run --features sim --bin sim -- --seed {seed} --trace"
                )
            }
        }
    }
    // They do what they are for.
    assert!(flushes > 100 && power_losses > 20 && latched > 5);
}

/// Goal: a seed can be run again. Method: twice, and everything that happened is the same.
#[test]
fn a_seed_is_the_same_twice() {
    for seed in [3, 7, 11] {
        let once = World::run(seed, false).map(|report| report.hash);
        assert_eq!(once, World::run(seed, false).map(|report| report.hash));
        assert!(once.is_ok());
    }
}
