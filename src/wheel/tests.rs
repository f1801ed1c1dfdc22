//! Goal: keys leave exactly once, never early, never late, in order of (due, sequence), whatever
//! time does. Method: named edges; `model_tests` has the random calls.

use std::collections::BTreeSet;

use super::hours::HOUR_MS;
use super::*;

/// The beginning of an hour in June 2025.
pub(super) const T0: u64 = 1_750_000_000_000 / HOUR_MS * HOUR_MS;
pub(super) const DAY_MS: u64 = 24 * HOUR_MS;

pub(super) fn key(due_ms: u64, sequence: u64) -> Key {
    Key { due_ms, sequence }
}

/// Fires all that is due, and says what.
fn all_at(wheel: &mut Wheel, now_ms: u64) -> Vec<Key> {
    let mut out = Vec::new();
    assert!(!wheel.advance(now_ms, usize::MAX, &mut out));
    out
}

pub(super) fn limited(wheel: &mut Wheel, now_ms: u64, limit: usize) -> (Vec<Key>, bool) {
    let mut out = Vec::new();
    let more = wheel.advance(now_ms, limit, &mut out);
    (out, more)
}

pub(super) fn scanned(wheel: &Wheel, from: Key, to_due_ms: u64, most: usize) -> Vec<Key> {
    let mut found = Vec::new();
    wheel.scan(from, to_due_ms, &mut |key| {
        found.push(key);
        found.len() < most
    });
    found
}

/// Goal: each edge of a level fires at its own ms and not one before.
/// Method: from several starting points, a key on each side of each edge, alone in its wheel and
/// all in one; time steps to just before it, then to it.
#[test]
fn keys_around_every_edge_fire_at_their_own_ms() {
    let mut edges = vec![1, 999, 1_000, 60_000];
    for edge in [3_599_000, 3_600_000, 3_601_000, 7_200_000, DAY_MS, 40 * DAY_MS, 41 * DAY_MS] {
        edges.extend([edge - 1, edge, edge + 1, edge + 999]);
    }
    for start in [T0, T0 + 1, T0 + 999, T0 + 3_599_000, T0 + HOUR_MS - 1, T0 + 1_800_500] {
        let mut dues: Vec<u64> = edges.iter().map(|edge| start + edge).collect();
        for hours in [1, 2, 3, 24, 959, 960, 961, 962] {
            dues.extend([T0 + hours * HOUR_MS - 1, T0 + hours * HOUR_MS, T0 + hours * HOUR_MS + 1]);
        }
        dues.retain(|&due| due > start);
        dues.sort_unstable();
        dues.dedup();
        let mut together = Wheel::new(start);
        for (&due, sequence) in dues.iter().zip(1..) {
            together.insert(key(due, sequence));
            let mut alone = Wheel::new(start);
            alone.insert(key(due, 7));
            assert_eq!(alone.next_deadline(), Some(due));
            assert_eq!(all_at(&mut alone, due - 1), [], "early");
            assert_eq!(alone.next_deadline(), Some(due));
            assert_eq!(all_at(&mut alone, due), [key(due, 7)]);
            assert_eq!((alone.next_deadline(), alone.len()), (None, 0));
        }
        for (&due, sequence) in dues.iter().zip(1..) {
            assert_eq!(together.next_deadline(), Some(due));
            assert_eq!(all_at(&mut together, due - 1), [], "early");
            assert_eq!(all_at(&mut together, due), [key(due, sequence)]);
        }
        assert!(together.is_empty());
    }
}

/// Goal: a key early in its slot does not wait a whole turn of the wheel.
/// Method: put in late in a second or hour, due early in the one a turn away.
#[test]
fn a_key_early_in_its_slot_does_not_wait_a_turn() {
    let start = T0 + 1_799_950;
    for turn in [1_000, HOUR_MS, 2 * HOUR_MS, 960 * HOUR_MS, 961 * HOUR_MS] {
        for due in [start + turn - 949, start + turn, start / HOUR_MS * HOUR_MS + turn] {
            if due <= start {
                continue;
            }
            let mut wheel = Wheel::new(start);
            wheel.insert(key(due, 1));
            // Stepping by seconds that do not fall on its ms: it leaves with the first at or
            // behind it.
            let first = due.div_ceil(1_000) * 1_000;
            assert_eq!(all_at(&mut wheel, first - 1_000), []);
            assert_eq!(all_at(&mut wheel, first), [key(due, 1)], "{turn}");
        }
    }
}

/// Goal: time that moves inside an hour leaves other hours as they are. Method: one key, at the same second of
/// an hour so many hours away; steps to before and behind that second of this hour.
#[test]
fn time_within_an_hour_fires_nothing_of_another() {
    for hours in [1, 2, 3, 958, 959, 960, 961, 962, 1_920] {
        let due = key(T0 + hours * HOUR_MS + 30_000, 1);
        let mut wheel = Wheel::new(T0);
        wheel.insert(due);
        for seconds in [10, 20, 30, 31, 3_599] {
            assert_eq!(all_at(&mut wheel, T0 + seconds * 1_000), [], "{hours} hours, {seconds} s");
            assert_eq!(wheel.next_deadline(), Some(due.due_ms), "{hours} hours, {seconds} s");
        }
        assert_eq!(all_at(&mut wheel, due.due_ms - 1), []);
        assert_eq!(all_at(&mut wheel, due.due_ms), [due]);
    }
}

/// Goal: more due in one ms than the limit is neither dropped nor repeated nor out of order.
/// Method: 1000 keys in a ms put in backwards, taken 7 at a time, with neighbours around.
#[test]
fn more_in_one_ms_than_the_limit_goes_on_inside_it() {
    let mut wheel = Wheel::new(T0);
    let due = T0 + 5_500;
    let mut expected = vec![key(due - 1, 9)];
    expected.extend((1..=1000).map(|s| key(due, s)));
    expected.push(key(due + 1, 3));
    for &key in expected.iter().rev() {
        wheel.insert(key);
    }
    let mut fired = Vec::new();
    loop {
        let before = fired.len();
        let more = wheel.advance(due, 7, &mut fired);
        assert!(fired.len() - before == 7 || !more);
        assert_eq!(wheel.len(), expected.len() - fired.len());
        if !more {
            break;
        }
    }
    assert_eq!(fired, expected[..1001]);
    assert_eq!(limited(&mut wheel, due, 7), (vec![], false));
    assert_eq!(limited(&mut wheel, due + 1, 0), (vec![], true));
    assert_eq!(limited(&mut wheel, due + 1, 1), (vec![key(due + 1, 3)], false));
}

/// Goal: what comes in for a second that is being drained is in order with what is still inside.
/// Method: stop inside a ms, then put in keys for the past, for this ms below and above what has
/// left, for this second and for seconds that time has passed and the cursor has not.
#[test]
fn keys_for_what_is_being_drained_come_in_order() {
    let mut wheel = Wheel::new(T0);
    for sequence in 10..20 {
        wheel.insert(key(T0 + 2_500, sequence));
    }
    wheel.insert(key(T0 + 9_000, 1));
    let (fired, more) = limited(&mut wheel, T0 + 10_000, 4);
    assert_eq!((fired.last(), more), (Some(&key(T0 + 2_500, 13)), true));
    let mut expected: Vec<Key> = (14..20).map(|s| key(T0 + 2_500, s)).collect();
    let late = [
        key(T0 - 5, 40),
        key(0, 41),
        key(T0 + 1_999, 42),
        key(T0 + 2_000, 43),
        key(T0 + 2_500, 2),
        key(T0 + 2_500, 44),
        key(T0 + 2_501, 45),
        key(T0 + 3_000, 46),
        key(T0 + 9_999, 47),
        key(T0 + 10_000, 48),
    ];
    for &key in late.iter().rev() {
        wheel.insert(key);
    }
    wheel.insert(key(T0 + 10_001, 49));
    expected.extend(late);
    expected.push(key(T0 + 9_000, 1));
    expected.sort_unstable();
    assert_eq!(wheel.next_deadline(), Some(0));
    let mut fired = Vec::new();
    while wheel.advance(T0 + 10_000, 1, &mut fired) {}
    assert_eq!(fired, expected);
    assert_eq!(wheel.next_deadline(), Some(T0 + 10_001));
}

/// Goal: a jump of hours, days or a thousand years fires everything due, in order, without
/// walking through the empty time. Method: one call for each jump; a wheel that ticked would not
/// end.
#[test]
fn jumps_skip_empty_time_and_keep_the_order() {
    let far = [0, 1, 2, 3, 30, 959, 960, 961, 5_000, 100_000, 8_766_000];
    let mut expected = Vec::new();
    for (hours, sequence) in far.iter().zip((0..).step_by(10)) {
        for n in 0..4 {
            expected.push(key(T0 + hours * HOUR_MS + n * 899_999 + 5, sequence + n));
        }
    }
    expected.sort_unstable();
    let mut wheel = Wheel::new(T0);
    expected.iter().rev().for_each(|&key| wheel.insert(key));
    let mut one_jump = wheel.clone();
    assert_eq!(all_at(&mut one_jump, T0 + 8_800_000 * HOUR_MS), expected);
    let mut fired = Vec::new();
    for hours in [1, 2, 900, 961, 4_999, 5_002, 8_800_000] {
        let out = all_at(&mut wheel, T0 + hours * HOUR_MS);
        let due = expected.iter().filter(|key| key.due_ms <= T0 + hours * HOUR_MS).count();
        fired.extend(out);
        assert_eq!(fired, expected[..due]);
    }
    assert_eq!(fired, expected);
}

/// Goal: the ends of the number range neither panic nor fire early.
#[test]
fn the_ends_of_time_are_ordinary() {
    for start in [0, T0, u64::MAX - 1] {
        let mut wheel = Wheel::new(start);
        let mut dues = vec![0, 999, T0, u64::MAX - HOUR_MS, u64::MAX - 1, u64::MAX];
        for &due in &dues {
            wheel.insert(key(due, u64::MAX));
        }
        wheel.cancel(key(T0, u64::MAX));
        dues.remove(2);
        let keys: Vec<Key> = dues.iter().map(|&due| key(due, u64::MAX)).collect();
        assert_eq!(scanned(&wheel, Key::default(), u64::MAX, usize::MAX), keys);
        let now = start.max(u64::MAX - 2);
        let due = keys.iter().filter(|key| key.due_ms <= now).copied();
        assert_eq!(all_at(&mut wheel, u64::MAX - 2), due.collect::<Vec<_>>());
        all_at(&mut wheel, u64::MAX - 1);
        assert_eq!(wheel.next_deadline(), Some(u64::MAX));
        wheel.advance_to(Key::end_of(u64::MAX), &mut Vec::new());
        assert!(wheel.is_empty());
        wheel.insert(key(5, 5));
        assert_eq!(all_at(&mut wheel, 0), [key(5, 5)]);
    }
}

/// Goal: a clock that goes back fires nothing early and nothing twice.
#[test]
fn a_backward_jump_fires_only_what_is_due_already() {
    let mut wheel = Wheel::new(T0);
    for n in 0..10 {
        wheel.insert(key(T0 + n * 1_000, n));
    }
    assert_eq!(limited(&mut wheel, T0 + 5_000, 3).0.len(), 3);
    let (fired, more) = limited(&mut wheel, T0 - 40 * DAY_MS, 1);
    assert_eq!((fired, more), (vec![key(T0 + 3_000, 3)], true));
    assert_eq!(all_at(&mut wheel, 0), [key(T0 + 4_000, 4), key(T0 + 5_000, 5)]);
    assert_eq!(all_at(&mut wheel, T0 + 4_500), []);
    wheel.insert(key(T0 + 4_600, 60));
    assert_eq!(
        all_at(&mut wheel, T0 + 4_500),
        [key(T0 + 4_600, 60)],
        "due at the latest time seen"
    );
    assert_eq!(wheel.len(), 4);
}

/// Goal: replay fires exactly up to a key. Method: live with small limits, replay by last keys.
#[test]
fn replay_fires_the_same_as_live() {
    let mut live = Wheel::new(T0);
    let mut replay = Wheel::new(T0);
    for n in 0..500u64 {
        let key = key(T0 + (n * n * 37) % 9_000, n);
        live.insert(key);
        replay.insert(key);
    }
    for step in 0.. {
        let (fired, more) = limited(&mut live, T0 + 3_000 + step * 10, 7);
        if let Some(&last) = fired.last() {
            let mut again = Vec::new();
            replay.advance_to(last, &mut again);
            assert_eq!(again, fired);
            again.clear();
            replay.advance_to(last, &mut again);
            assert_eq!(again, [], "a second time");
        }
        assert_eq!(live.len(), replay.len());
        if !more && live.is_empty() {
            break;
        }
    }
}

/// Goal: the call that enters a crowded hour has little to do, and no call has much.
/// Method: look at how many keys of the next hour a call moves; then let time jump over it while
/// it is half done.
#[test]
fn a_crowded_hour_is_split_ahead_in_bounded_steps() {
    const KEYS: usize = 3 * SPLIT_PER_ADVANCE + 10;
    let mut wheel = Wheel::new(T0);
    let mut expected = Vec::new();
    for n in 0..KEYS as u64 {
        expected.push(key(T0 + 2 * HOUR_MS + (n * 7_919) % HOUR_MS, n));
        wheel.insert(expected[n as usize]);
    }
    expected.sort_unstable();
    assert_eq!(all_at(&mut wheel, T0 + HOUR_MS - 1), []);
    assert!(wheel.rest.is_empty());
    for left in [KEYS - SPLIT_PER_ADVANCE, KEYS - 2 * SPLIT_PER_ADVANCE] {
        assert_eq!(all_at(&mut wheel, T0 + HOUR_MS), []);
        assert_eq!(wheel.rest.len(), left);
        let first = expected[0].due_ms;
        let deadline = wheel.next_deadline().unwrap();
        assert!(deadline <= first && deadline >= T0 + 2 * HOUR_MS);
        assert_eq!(scanned(&wheel, Key::default(), u64::MAX, usize::MAX), expected);
    }
    let mut jumped = wheel.clone();
    assert_eq!(all_at(&mut jumped, T0 + 9 * HOUR_MS), expected);
    for _ in 0..2 {
        assert_eq!(all_at(&mut wheel, T0 + HOUR_MS), []);
    }
    assert_eq!((wheel.rest.len(), wheel.next_deadline()), (0, Some(expected[0].due_ms)));
    assert_eq!(all_at(&mut wheel, T0 + 3 * HOUR_MS), expected);
}

/// Goal: cancelling and putting back is exact while an hour is being split, where a key's place
/// is not known. Method: cancel every second key and put every fourth back, before, between and
/// behind the steps of the split; compare with a set.
#[test]
fn cancels_during_a_split_are_exact() {
    const KEYS: u64 = 3 * SPLIT_PER_ADVANCE as u64;
    for round in 0..4u64 {
        let mut wheel = Wheel::new(T0);
        let mut model = BTreeSet::new();
        let all: Vec<Key> =
            (0..KEYS).map(|n| key(T0 + 2 * HOUR_MS + (n * 7_919) % 50_000, n)).collect();
        for &key in &all {
            wheel.insert(key);
            model.insert(key);
        }
        for step in 0..6 {
            for key in all.iter().filter(|key| key.sequence % 6 == step) {
                if key.sequence % 2 == round % 2 || round == 3 {
                    wheel.cancel(*key);
                    model.remove(key);
                    if key.sequence % 4 == 0 {
                        wheel.insert(*key);
                        model.insert(*key);
                    }
                }
            }
            assert_eq!(wheel.len(), model.len());
            if step > 0 {
                assert_eq!(all_at(&mut wheel, T0 + HOUR_MS + step), []);
            }
        }
        assert!(wheel.rest.is_empty());
        while let Some(first) = model.first() {
            assert_eq!(wheel.next_deadline(), Some(first.due_ms));
            let fired = all_at(&mut wheel, first.due_ms + 777);
            let behind = model.split_off(&key(first.due_ms + 778, 0));
            assert_eq!(fired, model.into_iter().collect::<Vec<_>>());
            model = behind;
        }
        assert_eq!((wheel.len(), wheel.tombs.is_empty()), (0, true));
    }
}

/// Goal: a key put back while its hour is being split is counted once, wherever it lies.
/// Method: two keys of one second, one in the page and one not yet; cancel and put back one or
/// the other, end the split, cancel it for good; the deadline must be the other's.
#[test]
fn a_key_put_back_during_a_split_is_counted_once() {
    let keys = [key(T0 + 2 * HOUR_MS + 500, 1), key(T0 + 2 * HOUR_MS + 700, 2)];
    for order in [[0, 1], [1, 0]] {
        for back in [0, 1] {
            let mut wheel = Wheel::new(T0);
            wheel.split_per_advance = 1;
            // They leave `rest` last, so that it is not rewritten for one dead key.
            let others = [10, 11, 12].map(|n| key(T0 + 3 * HOUR_MS - n, n));
            others.iter().for_each(|&key| wheel.insert(key));
            order.iter().for_each(|&at: &usize| wheel.insert(keys[at]));
            wheel.insert(key(T0 + 3 * HOUR_MS - 1, 3));
            for _ in 0..2 {
                all_at(&mut wheel, T0 + HOUR_MS);
            }
            assert_eq!(wheel.rest.len(), 4);
            for _ in 0..2 {
                wheel.cancel(keys[back]);
                wheel.insert(keys[back]);
            }
            for _ in 0..4 {
                all_at(&mut wheel, T0 + HOUR_MS);
            }
            assert!(wheel.rest.is_empty());
            assert_eq!(wheel.next_deadline(), Some(keys[0].due_ms));
            wheel.cancel(keys[back]);
            assert_eq!(wheel.next_deadline(), Some(keys[1 - back].due_ms));
            assert_eq!(all_at(&mut wheel, T0 + 9 * HOUR_MS).len(), 5);
        }
    }
}

/// Goal: memory of cancelled keys and of emptied slots comes back, and what is held is near to
/// 16 bytes a key. Method: fill each kind of place, look, cancel all or fire all, look again.
#[test]
fn memory_is_near_the_keys_and_comes_back() {
    const KEYS: u64 = 100_000;
    let empty = Wheel::new(T0).memory_bytes();
    assert!(empty < 1 << 20, "{empty}");
    // The open second, one second, this hour, a later hour, 40 days, beyond.
    for (first, span) in [
        (0, 1_000),
        (7_000, 1_000),
        (1_000, HOUR_MS - 1_000),
        (5 * HOUR_MS, HOUR_MS),
        (0, 960 * HOUR_MS),
        (5_000 * HOUR_MS, HOUR_MS),
    ] {
        let mut wheel = Wheel::new(T0);
        let keys: Vec<Key> =
            (0..KEYS).map(|n| key(T0 + first + (n * 7_919_993) % span, n)).collect();
        keys.iter().for_each(|&key| wheel.insert(key));
        let full = wheel.memory_bytes();
        assert!(full < empty + KEYS as usize * 24 + (1 << 20), "{first} {span}: {full}");
        let mut fired = wheel.clone();
        all_at(&mut fired, T0 + first + span);
        assert!(fired.memory_bytes() < empty + (8 << 20), "{first} {span}");
        for &key in &keys {
            wheel.cancel(key);
        }
        assert_eq!((wheel.len(), wheel.next_deadline()), (0, None));
        assert!(wheel.tombs.is_empty());
        let left = wheel.memory_bytes();
        assert!(left < empty + (1 << 20), "{first} {span}: {left} of {full}");
        assert_eq!(all_at(&mut wheel, T0 + first + span), []);
    }
}

/// Goal: the deadline stays exact while the first keys of a second are cancelled one by one.
#[test]
fn the_deadline_follows_cancels() {
    for first in [T0 + 100, T0 + 30_000, T0 + 2 * HOUR_MS] {
        let mut wheel = Wheel::new(T0);
        let keys: Vec<Key> = (0..900).map(|n| key(first + n / 3 * 3, n)).collect();
        keys.iter().for_each(|&key| wheel.insert(key));
        // Two hours away: into level 0 by coming nearer.
        all_at(&mut wheel, first - 90);
        for pair in keys.windows(2) {
            assert_eq!(wheel.next_deadline(), Some(pair[0].due_ms));
            wheel.cancel(pair[0]);
            assert_eq!(wheel.next_deadline(), Some(pair[1].due_ms));
            wheel.insert(pair[0]);
            assert_eq!(wheel.next_deadline(), Some(pair[0].due_ms));
            wheel.cancel(pair[0]);
        }
        assert_eq!(all_at(&mut wheel, first + DAY_MS), keys[899..]);
    }
}

/// Goal: a page of a list in a crowded second and hour shows the right keys and stops.
#[test]
fn scans_page_through_crowded_slots() {
    let mut wheel = Wheel::new(T0);
    let mut keys = Vec::new();
    for n in 0..30_000u64 {
        keys.push(key(T0 + 5_000 + (n * 7_919) % 1_000, n));
        keys.push(key(T0 + 30 * HOUR_MS + (n * 7_919) % HOUR_MS, 30_000 + n));
    }
    keys.iter().for_each(|&key| wheel.insert(key));
    for key in keys.extract_if(.., |key| key.sequence % 3 == 0) {
        wheel.cancel(key);
    }
    keys.sort_unstable();
    let to_ms = keys[keys.len() - 500].due_ms;
    let mut from = Key::default();
    let mut seen = Vec::new();
    loop {
        let page = scanned(&wheel, from, to_ms, 999);
        let Some(&last) = page.last() else { break };
        from = last;
        seen.extend(page);
    }
    keys.retain(|key| key.due_ms <= to_ms);
    assert_eq!(seen, keys);
    // From the first key of each ms of the crowded second, so from both ends of each window too.
    for chunk in keys.chunk_by(|a, b| a.due_ms == b.due_ms) {
        if chunk.len() > 1 {
            assert_eq!(scanned(&wheel, chunk[0], to_ms, 1), chunk[1..2]);
        }
    }
}

/// Goal: a list ends with what is due at its last ms, also where a second or an hour begins there. Method: a key
/// at the first ms of each, and one behind it.
#[test]
fn scans_end_with_their_last_ms() {
    let mut wheel = Wheel::new(T0);
    let (second, hour) = (T0 / 1_000 * 1_000 + 7_000, (T0 / HOUR_MS + 30) * HOUR_MS);
    for (at, n) in [(second, 0), (hour, 10)] {
        wheel.insert(key(at, n));
        wheel.insert(key(at + 1, n + 1));
    }
    for (at, n) in [(second, 0), (hour, 10)] {
        assert_eq!(scanned(&wheel, key(at - 1, 0), at, usize::MAX), [key(at, n)]);
        assert_eq!(
            scanned(&wheel, key(at - 1, 0), at + 1, usize::MAX),
            [key(at, n), key(at + 1, n + 1)]
        );
    }
}
