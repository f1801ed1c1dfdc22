//! Which merge is worth doing. Pure: it sees what the root says and reads nothing.

use std::collections::BTreeSet;

use crate::store::root::{FamilyRoot, RunRoot};
use crate::store::store::PACKED_LEVEL;
use crate::store::{Family, SegmentMeta, StoreOptions};

/// Less than this part of a file is not worth a merge to save space.
const LEAST_PART: u64 = 64;

/// A merge that is worth doing: adjacent runs of a family become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergePlan {
    /// Whose runs.
    pub family: Family,
    /// Numbers of the runs, oldest first.
    pub runs: Vec<u64>,
    /// Level of the run they become.
    pub level: u32,
    /// Bytes of their files: how much is to be read, and at most about to be written.
    pub bytes: u64,
    /// It only saves space; the number of runs is no reason for it.
    pub idle: bool,
    /// Everything is written anew. Otherwise files that overlap no other are taken over as they
    /// are.
    pub whole: bool,
}

/// The next merge of a family. `live` is how many rows a merge of everything would leave, if that
/// is known. In a `quiet` time what is not packed yet is packed, however little it is. The runs `apart` are
/// part of no merge, and those on either side of one are not adjacent.
pub(super) fn plan(
    family: Family,
    own: &FamilyRoot,
    options: &StoreOptions,
    live: Option<u64>,
    quiet: bool,
    apart: &BTreeSet<u64>,
) -> Option<MergePlan> {
    let fanout = options.fanout;
    let crowded = crowded_level(own, fanout, apart);
    let least = options.file_bytes / LEAST_PART;
    let all_merge = own.runs.iter().all(|run| !apart.contains(&run.number));
    let half_dead = all_merge && is_half_dead(own, live, least);
    let (runs, level) = match crowded {
        // What is mostly dead is not to be carried from level to level.
        _ if half_dead => (&own.runs[..], own.runs.iter().map(|run| run.level).max()?),
        Some((start, level)) => (&own.runs[start..start + fanout], level.saturating_add(1)),
        None if quiet => (unpacked(own, fanout, least, apart)?, PACKED_LEVEL),
        None => return None,
    };
    Some(MergePlan {
        family,
        runs: runs.iter().map(|run| run.number).collect(),
        level,
        bytes: runs.iter().flat_map(|run| &run.segments).map(|meta| meta.bytes).sum(),
        idle: crowded.is_none(),
        whole: half_dead,
    })
}

/// The oldest runs that are not packed yet, if they are worth a merge.
fn unpacked<'a>(
    own: &'a FamilyRoot,
    fanout: usize,
    least: u64,
    apart: &BTreeSet<u64>,
) -> Option<&'a [RunRoot]> {
    let plain = |run: &RunRoot| run.level < PACKED_LEVEL && !apart.contains(&run.number);
    let start = own.runs.iter().position(plain)?;
    let count = own.runs[start..].iter().take(fanout).take_while(|run| plain(run)).count();
    let runs = &own.runs[start..start + count];
    let bytes: u64 = runs.iter().flat_map(|run| &run.segments).map(|meta| meta.bytes).sum();
    (bytes >= least).then_some(runs)
}

/// Most runs of one level.
pub(super) fn most_of_a_level(own: &FamilyRoot) -> usize {
    own.runs.chunk_by(|one, next| one.level == next.level).map(<[_]>::len).max().unwrap_or(0)
}

/// Where so many adjacent runs of the same level begin, and that level. The lowest level goes
/// first: it fills fastest, and its merge is the cheapest.
fn crowded_level(own: &FamilyRoot, fanout: usize, apart: &BTreeSet<u64>) -> Option<(usize, u32)> {
    let mut start = 0;
    let mut found = None;
    let merges = |run: &RunRoot| !apart.contains(&run.number);
    let together =
        |one: &RunRoot, next: &RunRoot| one.level == next.level && merges(one) && merges(next);
    for group in own.runs.chunk_by(together) {
        let level = group[0].level;
        if group.len() >= fanout && found.is_none_or(|(_, lowest)| level < lowest) {
            found = Some((start, level));
        }
        start += group.len();
    }
    found
}

/// Whether a merge of everything would leave less than half, as far as can be told unread.
fn is_half_dead(own: &FamilyRoot, live: Option<u64>, least: u64) -> bool {
    let metas = || own.runs.iter().flat_map(|run| &run.segments);
    let payload: u64 = metas().map(|meta| meta.payload_bytes).sum();
    let tombstones: u64 = metas().map(|meta| meta.tombstones).sum();
    let puts: u64 = metas().map(|meta| meta.rows).sum::<u64>().saturating_sub(tombstones);
    // Each tombstone goes and takes a row with it; those of the oldest run only go.
    let oldest = own.runs.first().map_or(0, |run| run.segments.iter().map(|m| m.tombstones).sum());
    let taken = (tombstones - oldest).min(puts);
    let tombstone_bytes: u64 =
        metas().map(|meta| meta.tombstones * meta.last_key.len() as u64).sum();
    let put_bytes = payload.saturating_sub(tombstone_bytes);
    let by_tombstones = tombstone_bytes + share(put_bytes, taken as f64 / puts.max(1) as f64);
    let floor = own.floor.as_deref().unwrap_or_default();
    let by_floor: u64 =
        metas().map(|meta| share(meta.payload_bytes, part_up_to(meta, floor))).sum();
    let dead = live.map_or(0, |live| puts.saturating_sub(live));
    let by_count = share(put_bytes, dead as f64 / puts.max(1) as f64);
    let dead = (by_tombstones + by_floor).max(by_count);
    dead >= least && dead.saturating_mul(2) > payload
}

fn share(bytes: u64, part: f64) -> u64 {
    (bytes as f64 * part) as u64
}

/// Which part of a file lies at or below a key, if its keys lie evenly: 0 to 1.
fn part_up_to(meta: &SegmentMeta, key: &[u8]) -> f64 {
    if *key < *meta.first_key {
        return 0.0;
    }
    if *key >= *meta.last_key {
        return 1.0;
    }
    // Where the two ends differ for the first time is where the range begins to mean something.
    let same = meta.first_key.iter().zip(&meta.last_key).take_while(|(one, other)| one == other);
    let same = same.count();
    let number = |key: &[u8]| {
        let mut bytes = [0; 8];
        let rest = key.get(same..).unwrap_or_default();
        let len = rest.len().min(8);
        bytes[..len].copy_from_slice(&rest[..len]);
        u64::from_be_bytes(bytes)
    };
    let (first, last, at) = (number(&meta.first_key), number(&meta.last_key), number(key));
    (at.saturating_sub(first)) as f64 / (last.saturating_sub(first)).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Compression, OnDamage, SegmentOptions};

    const OPTIONS: StoreOptions = StoreOptions {
        segment: SegmentOptions { block_bytes: 8192, compression: Compression::None },
        flushed: Compression::None,
        file_bytes: 1 << 10,
        fanout: 3,
        on_damage: OnDamage::Stop,
    };

    fn segment(first: u64, last: u64, rows: u64, tombstones: u64) -> SegmentMeta {
        SegmentMeta {
            number: 1,
            family: Family::Scheduled,
            rows,
            tombstones,
            bytes: 100 * rows,
            payload_bytes: 100 * (rows - tombstones) + 8 * tombstones,
            first_key: first.to_be_bytes().into(),
            last_key: last.to_be_bytes().into(),
            tail_min: first,
            tail_max: last,
        }
    }

    fn runs(levels: &[u32]) -> FamilyRoot {
        let run = |(number, level): (u64, &u32)| RunRoot {
            number,
            level: *level,
            segments: vec![segment(1, 1000, 100, 0)],
        };
        FamilyRoot { floor: None, runs: (10..).zip(levels).map(run).collect() }
    }

    fn planned_around(own: &FamilyRoot, apart: &[u64]) -> Option<(Vec<u64>, u32, bool)> {
        let apart = apart.iter().copied().collect();
        let plan = plan(Family::Ready, own, &OPTIONS, None, false, &apart);
        plan.map(|plan| (plan.runs, plan.level, plan.idle))
    }

    fn planned(own: &FamilyRoot) -> Option<(Vec<u64>, u32, bool)> {
        planned_around(own, &[])
    }

    /// Goal: full levels are merged, the oldest of them first, the lowest level first, and nothing
    /// else is.
    #[test]
    fn a_full_level_is_merged() {
        assert_eq!(planned(&runs(&[])), None);
        assert_eq!(planned(&runs(&[2, 2, 1, 1, 0, 0])), None);
        let found = planned(&runs(&[1, 1, 0, 0, 0, 0]));
        assert_eq!(found, Some((vec![12, 13, 14], 1, false)));
        let found = planned(&runs(&[1, 1, 1, 0, 0]));
        assert_eq!(found, Some((vec![10, 11, 12], 2, false)));
        let found = planned(&runs(&[1, 1, 1, 0, 0, 0]));
        assert_eq!(found, Some((vec![13, 14, 15], 1, false)));
        assert_eq!(most_of_a_level(&runs(&[1, 1, 1, 0, 0])), 3);
    }

    /// Goal: in a quiet time what is not packed is packed, once, and nothing too small to be worth it.
    #[test]
    fn in_a_quiet_time_flushes_are_packed() {
        let quiet = |own: &FamilyRoot| {
            let plan = plan(Family::Ready, own, &OPTIONS, None, true, &BTreeSet::new());
            plan.map(|plan| (plan.runs, plan.level, plan.idle, plan.whole))
        };
        assert_eq!(quiet(&runs(&[2, 0, 0])), Some((vec![11, 12], 2, true, false)));
        // The oldest first, and no more than any merge takes.
        assert_eq!(quiet(&runs(&[2, 1, 1, 0, 0])), Some((vec![11, 12, 13], 2, true, false)));
        assert_eq!(quiet(&runs(&[2, 2])), None);
        let mut small = runs(&[0]);
        small.runs[0].segments[0].bytes = OPTIONS.file_bytes / LEAST_PART - 1;
        assert_eq!(quiet(&small), None);
        // A full level goes first.
        assert_eq!(quiet(&runs(&[1, 1, 1, 0])), Some((vec![10, 11, 12], 2, false, false)));
    }

    /// Goal: a run that cannot be merged splits its level, and what is on either side goes on. And
    /// nothing is merged whole around it.
    #[test]
    fn a_run_apart_is_part_of_no_merge() {
        let own = runs(&[0; 7]);
        assert_eq!(planned_around(&own, &[12]), Some((vec![13, 14, 15], 1, false)));
        assert_eq!(planned_around(&own, &[13]), Some((vec![10, 11, 12], 1, false)));
        assert_eq!(planned_around(&own, &[12, 14]), None);
        let mut own = runs(&[1, 0]);
        own.floor = Some(600u64.to_be_bytes().into());
        assert!(planned(&own).is_some());
        assert_eq!(planned_around(&own, &[11]), None);
    }

    /// Goal: what is more than half dead is merged whole, by tombstones and by the floor.
    #[test]
    fn a_family_that_is_half_dead_is_merged_whole() {
        let mut own = runs(&[1, 0]);
        own.floor = Some(400u64.to_be_bytes().into());
        assert_eq!(planned(&own), None);
        own.floor = Some(600u64.to_be_bytes().into());
        assert_eq!(planned(&own), Some((vec![10, 11], 1, true)));

        let mut own = runs(&[1, 0]);
        own.runs[1].segments = vec![segment(1, 1000, 40, 40)];
        assert_eq!(planned(&own), None);
        own.runs[1].segments = vec![segment(1, 1000, 60, 60)];
        assert_eq!(planned(&own), Some((vec![10, 11], 1, true)));
        // By what is known to be alive.
        let idle = |live| {
            let (own, apart) = (runs(&[1, 0]), BTreeSet::new());
            let plan = plan(Family::Ready, &own, &OPTIONS, Some(live), false, &apart);
            plan.map(|plan| plan.idle)
        };
        assert_eq!((idle(100), idle(99)), (None, Some(true)));
        // A full level is not idle work, and a family half dead is not worth carrying on.
        own.runs.extend(runs(&[0, 0]).runs);
        own.runs[2].segments = vec![segment(1, 1000, 200, 200)];
        let found = planned(&own);
        assert_eq!(found.map(|(runs, level, idle)| (runs.len(), level, idle)), Some((4, 1, false)));
    }

    /// Goal: what of a family is dead is told as well as it can be unread. Method: families on either side
    /// of half, by each of the three ways to tell, and by two of them together.
    #[test]
    fn half_dead_is_more_than_half() {
        let least = OPTIONS.file_bytes / LEAST_PART;
        let half_dead = |own: &FamilyRoot, live| is_half_dead(own, live, least);
        // Of the oldest run tombstones only go themselves.
        let mut own = runs(&[1, 0]);
        own.runs[0].segments = vec![segment(1, 1000, 100, 90)];
        own.runs.truncate(1);
        assert!(!half_dead(&own, None));
        own.runs[0].segments = vec![segment(1, 1000, 100, 93)];
        assert!(half_dead(&own, None));
        // In another they take a row each.
        let mut own = runs(&[1, 0]);
        for (tombstones, dead) in [(48, false), (49, true)] {
            own.runs[1].segments = vec![segment(1, 1000, tombstones, tombstones)];
            assert_eq!(half_dead(&own, None), dead, "{tombstones}");
        }
        // The floor and tombstones add up; what is counted does not.
        own.runs[1].segments = vec![segment(1, 1000, 30, 30)];
        assert!(!half_dead(&own, None) && !half_dead(&own, Some(60)));
        own.floor = Some(150u64.to_be_bytes().into());
        assert!(!half_dead(&own, None));
        own.floor = Some(300u64.to_be_bytes().into());
        assert!(half_dead(&own, None) && half_dead(&own, Some(1_000)));
        // It has to be worth it.
        for (payload, dead) in [(least - 1, false), (least, true)] {
            let mut own = runs(&[0]);
            own.floor = Some(1_000u64.to_be_bytes().into());
            own.runs[0].segments[0].payload_bytes = payload;
            assert_eq!(half_dead(&own, None), dead, "{payload} bytes");
        }
    }

    /// Goal: of a file that the floor cuts through, the part is told by its keys. Method: keys that begin
    /// alike, of several lengths, at both ends and between.
    #[test]
    fn the_part_up_to_a_key_is_told_by_where_keys_differ() {
        let part = |first: &[u8], last: &[u8], key: &[u8]| {
            let keys = SegmentMeta {
                first_key: first.into(),
                last_key: last.into(),
                ..segment(1, 2, 1, 0)
            };
            part_up_to(&keys, key)
        };
        assert_eq!(part(b"b", b"d", b"a"), 0.0);
        assert_eq!(part(&[7, 7, 10], &[7, 7, 50], &[1, 1, 60]), 0.0);
        assert_eq!(part(b"b", b"d", b"b"), 0.0);
        assert_eq!(part(b"b", b"d", b"d"), 1.0);
        assert_eq!(part(b"b", b"d", b"e"), 1.0);
        assert_eq!(part(b"b", b"d", b"c"), 0.5);
        assert_eq!(part(&[7, 7, 10], &[7, 7, 50], &[7, 7, 20]), 0.25);
        assert_eq!(part(&[7, 7, 10], &[7, 7, 50], &[7, 7, 20, 9]), part(&[10], &[50], &[20, 9]));
        let long = |byte| [&[1; 20][..], &[byte; 12]].concat();
        let middle = part(&long(0), &long(200), &long(50));
        assert!((middle - 0.25).abs() < 0.01, "{middle}");
        // Nothing to divide by.
        assert_eq!(part(b"a", b"a\0\0", b"a\0"), 0.0);
    }

    #[test]
    fn a_plan_says_how_much_it_reads() {
        let mut own = runs(&[0, 0, 0]);
        own.runs[1].segments.push(segment(1001, 2000, 7, 0));
        let merge = plan(Family::Ready, &own, &OPTIONS, None, false, &BTreeSet::new()).unwrap();
        assert_eq!(merge.bytes, 30_700);
        let mut small = runs(&[0]);
        small.runs[0].segments[0].bytes = OPTIONS.file_bytes / LEAST_PART;
        assert!(plan(Family::Ready, &small, &OPTIONS, None, true, &BTreeSet::new()).is_some());
    }
}
