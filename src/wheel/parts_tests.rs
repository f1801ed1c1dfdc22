//! Goal: what is cancelled or has left is given back when it should be, and memory is told as it is. None of it changes
//! what fires, so each container is looked at by itself.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault};

use super::tests::{T0, key, limited};
use super::tombs::Mix;
use super::*;

/// Keys of one ms, all in.
fn keys(count: u64) -> Vec<Key> {
    (0..count).map(|sequence| key(T0, sequence)).collect()
}

/// After how many cancels of so many keys a container is rewritten. `cancel` gives how many keys it holds
/// then, dead ones included.
fn rewritten(count: u64, mut cancel: impl FnMut(Key, &mut Tombs) -> usize) -> Option<u64> {
    let mut tombs = Tombs::default();
    for (key, dead) in keys(count).into_iter().zip(1..) {
        tombs.insert(key);
        let held = cancel(key, &mut tombs) as u64;
        if held < count {
            assert_eq!(held, count - dead, "all that is dead goes at once");
            assert!(tombs.is_empty());
            return Some(dead);
        }
    }
    None
}

/// Goal: a container is rewritten when more than half of it is dead, but not for a few keys.
/// Method: cancel one by one, the highest first where the lowest leave anyhow.
#[test]
fn a_container_is_rewritten_when_half_of_it_is_dead() {
    for (count, at) in [
        (1, 1),
        (2, 2),
        (64, 64),
        (65, 65),
        (100, 65),
        (129, 65),
        (130, 66),
        (1_000, 501),
        (1_001, 501),
    ] {
        let mut bag = Bag::default();
        keys(count).into_iter().for_each(|key| bag.push(key));
        let told = rewritten(count, |key, tombs| {
            bag.cancelled(key.due_ms, false, tombs);
            bag.len()
        });
        assert_eq!(told, Some(at), "a bag of {count}");

        let mut lanes = Lanes::new();
        lanes.move_to(T0 / 1000);
        keys(count).into_iter().for_each(|key| lanes.push(key));
        let told = rewritten(count, |key, tombs| {
            lanes.cancelled(key.due_ms, tombs);
            lanes.from(0).map(|(_, rest)| rest.len()).sum()
        });
        assert_eq!(told, Some(at), "a lane of {count}");

        // The first key lives, so that nothing leaves from the front.
        let mut late = Late::default();
        late.push(key(0, 0));
        keys(count).into_iter().for_each(|key| late.push(key));
        let told = rewritten(count, |_, tombs| {
            late.cancelled(tombs);
            late.iter().count() - 1
        });
        let at = (65..=count).find(|dead| dead * 2 > count + 1);
        assert_eq!(told, at, "{count} late keys");
    }
}

/// Goal: memory is told as it is, near enough. Method: bounds of each part, from the keys in it.
#[test]
fn memory_is_told() {
    const COUNT: usize = 10_000;
    let key_bytes = size_of::<Key>();
    let slots =
        (2 * 3_600 + 960) * size_of::<Bag>() + 1_000 * size_of::<(Vec<u64>, usize, usize, bool)>();
    let empty = Wheel::new(T0).memory_bytes();
    assert_eq!(empty, size_of::<Wheel>() + slots);
    let within = |bytes: usize, least: usize, most: usize| {
        assert!((least..=most).contains(&bytes), "{bytes} is not in {least}..={most}");
    };
    let mut bag = Bag::default();
    for (key, count) in keys(COUNT as u64).into_iter().zip(1..) {
        bag.push(key);
        // Up to one half of slack, at least four keys. Behind the first chunk: whole ones, and a list of them.
        let (full, list) = ((count - 1) / CHUNK_KEYS, size_of::<Vec<Key>>());
        if full == 0 {
            within(bag.bytes(), count * key_bytes, (count + (count / 2).max(4)) * key_bytes);
        } else {
            let chunks = (full + 1) * CHUNK_KEYS * key_bytes;
            within(bag.bytes(), chunks + full * list, chunks + 4 * full * list);
        }
    }
    // Emptied, a small one keeps what it has, a large one nothing.
    for (count, keeps) in [(10, true), (1_000, false), (COUNT, false)] {
        let mut bag = Bag::default();
        keys(count as u64).into_iter().for_each(|key| bag.push(key));
        let mut left = 0;
        bag.empty_into(&mut Tombs::default(), |_| left += 1);
        assert_eq!((left, bag.bytes() > 0), (count, keeps));
    }
    for (ahead, least) in
        [(0, 8), (5_000, 16), (2 * HOUR_S * 1000, 16), (1_000 * HOUR_S * 1000, 16)]
    {
        let mut wheel = Wheel::new(T0);
        (0..COUNT as u64).for_each(|n| wheel.insert(key(T0 + ahead, n)));
        within(wheel.memory_bytes() - empty, least * COUNT, 2 * least * COUNT + 4096 * key_bytes);
    }
    let mut wheel = Wheel::new(T0);
    (0..COUNT as u64).for_each(|n| wheel.insert(key(5, n)));
    within(wheel.memory_bytes() - empty, 16 * COUNT, 32 * COUNT);
    // A bag in the map of far hours counts, beside what is in it.
    let mut wheel = Wheel::new(T0);
    (0..1_000).for_each(|n| wheel.insert(key(T0 + (1_000 + n) * HOUR_S * 1000, n)));
    let each = size_of::<(u64, Bag)>() + 4 * key_bytes;
    assert_eq!(wheel.memory_bytes() - empty, 1_000 * each);
    // What is left of an hour that is being split counts, and tombstones do.
    let mut wheel = Wheel::new(T0);
    let rest: Vec<Key> = (0..COUNT as u64).map(|n| key(T0 + 7_200_000, n)).collect();
    rest.iter().for_each(|&key| wheel.insert(key));
    wheel.split_per_advance = 1;
    assert_eq!(limited(&mut wheel, T0 + 3_600_000, 1), (vec![], false));
    let full = wheel.memory_bytes();
    within(full - empty, 16 * COUNT, 32 * COUNT);
    rest[..COUNT / 4].iter().for_each(|&key| wheel.cancel(key));
    within(wheel.memory_bytes() - full, COUNT / 4 * (key_bytes + 1), COUNT * (key_bytes + 1));
}

const CHUNK_KEYS: usize = 4_096;

/// Goal: the memory of tombstones is told and comes back, but not as soon as a few are gone. Method: fill, take out,
/// look at what is held.
#[test]
fn tombstones_give_their_memory_back() {
    let bucket = size_of::<Key>() + 1;
    let mut tombs = Tombs::default();
    assert_eq!(tombs.bytes(), 0);
    let all = keys(100_000);
    for (&key, count) in all.iter().zip(1usize..) {
        assert!(tombs.insert(key));
        if count.is_multiple_of(7) {
            assert!(tombs.bytes() >= count / 7 * 8 * bucket);
        }
    }
    let full = tombs.bytes();
    assert!(full <= 5 * all.len() / 2 * bucket, "{full}");
    for (key, left) in all.iter().zip((0..all.len()).rev()) {
        assert!(tombs.remove(key));
        let held = tombs.bytes();
        if left >= all.len() / 4 {
            // Not all of it, for the place of some is not free again at once.
            assert!(held >= full / 3 * 2, "{left} left: {held} of {full}");
        }
        // A bucket for eight keys and more is too many, unless it is a small set.
        assert!(held <= (left * 9 + 2_048) * 8 / 7 * bucket, "{left} left: {held}");
    }
    assert!(!tombs.remove(&all[0]));
}

/// Goal: keys as they come, counted up or at regular times, spread over the buckets of a set. Method: of as many
/// buckets as keys about two thirds are in use with a good hash.
#[test]
fn keys_spread_over_a_set() {
    const COUNT: u64 = 1 << 14;
    let hash = BuildHasherDefault::<Mix>::default();
    for (what, key_of) in [
        ("sequences", (|n| key(T0, n)) as fn(u64) -> Key),
        ("seconds", |n| key(T0 + n * 1_000, 7)),
        ("hours", |n| key(T0 + n * 3_600_000, n)),
        ("both", |n| key(T0 + n, n * 64)),
    ] {
        let hashes: Vec<u64> = (0..COUNT).map(|n| hash.hash_one(key_of(n))).collect();
        // A set takes its bucket from the low bits, and compares the top seven.
        for (shift, bits) in [(0, 14), (50, 14)] {
            let used: HashSet<u64> =
                hashes.iter().map(|hash| (hash >> shift) & ((1 << bits) - 1)).collect();
            assert!(used.len() as u64 > COUNT * 6 / 10, "{what} from bit {shift}: {}", used.len());
        }
    }
}

/// Goal: firing up to a key inside a ms stops there, and tells whether more up to it is due. Method: three keys of a
/// ms, each taken as the last, with room for all and for none.
#[test]
fn firing_up_to_a_key_stops_inside_its_ms() {
    let mut wheel = Wheel::new(T0);
    (1..=3).for_each(|n| wheel.insert(key(T0 + 5, n)));
    let mut out = Vec::new();
    assert!(!wheel.advance_within(key(T0 + 5, 0), 9, &mut out));
    assert!(wheel.advance_within(key(T0 + 5, 2), 0, &mut out));
    assert!(wheel.advance_within(key(T0 + 5, 2), 1, &mut out));
    assert_eq!(out, [key(T0 + 5, 1)]);
    assert!(!wheel.advance_within(key(T0 + 5, 2), 9, &mut out));
    assert_eq!(out, [key(T0 + 5, 1), key(T0 + 5, 2)]);
    assert!(!wheel.is_empty());
    assert!(format!("{wheel:?}").contains("len: 1"), "{wheel:?}");
    assert_eq!(limited(&mut wheel, T0, 9), (vec![key(T0 + 5, 3)], false), "time did not go back");
}

/// Goal: a deadline is never told too late while an hour is being split, where a key put back may be in either place.
/// Method: two keys of one second in the page, others not yet; the first one cancelled and put back.
#[test]
fn a_key_put_back_into_the_page_during_a_split_counts_for_the_deadline() {
    let mut wheel = Wheel::new(T0);
    wheel.split_per_advance = 1;
    let [first, second] = [key(T0 + 7_200_500, 1), key(T0 + 7_200_700, 2)];
    // The last to come is the first to be split.
    let others = (10..20).map(|n| key(T0 + 10_000_000, n));
    others.chain([first, second]).for_each(|key| wheel.insert(key));
    for _ in 0..2 {
        assert_eq!(limited(&mut wheel, T0 + 3_600_000, 1), (vec![], false));
    }
    assert_eq!(wheel.rest.len(), 10);
    wheel.cancel(first);
    wheel.insert(first);
    assert_eq!(wheel.next_deadline(), Some(first.due_ms));
    for _ in 0..10 {
        assert_eq!(limited(&mut wheel, T0 + 3_600_000, 1), (vec![], false));
    }
    assert!(wheel.rest.is_empty());
    assert_eq!(wheel.next_deadline(), Some(first.due_ms));
    assert_eq!(limited(&mut wheel, T0 + 7_200_600, 9), (vec![first], false));
}

/// Goal: what was cancelled is not told as due. Method: of two keys of the open second and one ms the first is
/// cancelled; firing up to between them, with room for none.
#[test]
fn a_cancelled_key_is_not_told_as_due() {
    let mut wheel = Wheel::new(T0);
    [1, 5].into_iter().for_each(|n| wheel.insert(key(T0 + 5, n)));
    wheel.cancel(key(T0 + 5, 1));
    let mut out = Vec::new();
    assert!(!wheel.advance_within(key(T0 + 5, 3), 0, &mut out));
    assert!(wheel.advance_within(key(T0 + 5, 5), 0, &mut out));
    assert!(!wheel.advance_within(key(T0 + 5, 5), 1, &mut out));
    assert_eq!(out, [key(T0 + 5, 5)]);
}
