//! What merges do beyond keeping what is shown: they bound the number of runs and let go of what
//! is dead.

use std::path::Path;
use std::sync::Arc;

use postdate::env::{Disk, OpenMode};
use postdate::sim::SimDisk;
use postdate::store::{Family, StoreError, Version};

use crate::common::{
    Changes, Model, OPTIONS, check_files, commit, dir, merge_all, open, verify_with,
};

fn key(number: u64) -> Vec<u8> {
    [&[0; 6][..], &number.to_be_bytes()].concat()
}

fn rows(numbers: impl IntoIterator<Item = u64>, value: Option<&[u8]>) -> Changes {
    let row = |number| ((Family::Scheduled, key(number)), value.map(<[u8]>::to_vec));
    numbers.into_iter().map(row).collect()
}

/// A value that compression does not shrink, so that there are several files.
fn noise(number: u64) -> Vec<u8> {
    let mut state = number;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
        (state >> 56) as u8
    };
    (0..100).map(|_| next()).collect()
}

/// Commits on top of a model.
struct Rig {
    disk: SimDisk,
    store: postdate::store::Store,
    model: Arc<Model>,
}

impl Rig {
    fn new() -> Self {
        let disk = SimDisk::new();
        let (store, opened) = open(&disk).unwrap();
        assert_eq!(opened, None);
        Self { disk, store, model: Arc::default() }
    }

    fn commit(&mut self, changes: &Changes, floor: Option<u64>) {
        let floor = floor.map(|number| (Family::Scheduled, key(number)));
        let next = Arc::new(self.model.after(changes, floor, []));
        commit(&mut self.store, changes, &next).unwrap();
        self.model = next;
        self.check();
    }

    fn check(&self) {
        let (version, stats) = (self.store.version(), self.store.stats());
        self.model.check(&version).unwrap();
        for family in Family::ALL {
            assert_eq!(version.runs(family).len() as u64, stats.family(family).runs);
        }
        check_files(&self.disk, &self.store, "");
    }

    fn scheduled(&self) -> postdate::store::FamilyStats {
        *self.store.stats().family(Family::Scheduled)
    }
}

/// Goal: the number of runs stays below `fanout` a level, and writing stays in proportion: each
/// row is written once a level.
#[test]
fn runs_stay_few_and_writing_in_proportion() {
    let mut rig = Rig::new();
    for commit in 0..40 {
        rig.commit(&rows((0..20).map(|at| at * 1_000 + commit), Some(&[commit as u8; 50])), None);
        merge_all(&mut rig.store).unwrap();
        rig.check();
        assert!(rig.scheduled().runs <= 2 * 4, "{:?}", rig.scheduled());
    }
    let stats = rig.store.stats();
    assert_eq!(stats.family(Family::Scheduled).rows, 800);
    assert_eq!(stats.merges, 40 / 3 + 40 / 9 + 40 / 27);
    assert!(stats.merged_bytes <= 3 * stats.flushed_bytes, "{stats:?}");
    assert!(!stats.behind);
}

/// Goal: whoever does not merge is told.
#[test]
fn missing_merges_are_told() {
    let mut rig = Rig::new();
    for commit in 0..=4 * OPTIONS.fanout as u64 {
        assert!(!rig.store.stats().behind);
        rig.commit(&rows([commit], Some(b"x")), None);
    }
    assert!(rig.store.stats().behind);
    merge_all(&mut rig.store).unwrap();
    assert!(!rig.store.stats().behind);
}

/// Goal: tombstones go when there is nothing left for them to hide, and take the space with them.
#[test]
fn tombstones_go_with_what_they_hide() {
    let mut rig = Rig::new();
    rig.commit(&rows(0..100, Some(&[7; 90])), None);
    let before = rig.scheduled().payload_bytes;
    rig.commit(&rows(0..60, None), None);
    assert_eq!(rig.scheduled().tombstones, 60);
    let plan = rig.store.plan_merge(false).unwrap();
    assert!(plan.idle && plan.runs.len() == 2);
    merge_all(&mut rig.store).unwrap();
    rig.check();
    let after = rig.scheduled();
    assert_eq!((after.tombstones, after.rows, after.runs), (0, 40, 1));
    assert_eq!(after.payload_bytes, before * 40 / 100);
}

/// Goal: a family in which everything has gone leaves no file.
#[test]
fn nothing_is_left_of_nothing() {
    let mut rig = Rig::new();
    rig.commit(&rows(0..100, Some(&[7; 90])), None);
    rig.commit(&rows(0..100, None), None);
    merge_all(&mut rig.store).unwrap();
    rig.check();
    assert_eq!(rig.scheduled().files, 0);
}

/// Goal: files at or below the floor go unread, at the commit that raises it; what remains above
/// in a file that holds both is shown, what is below is not. Method: the reads of the disk are
/// counted.
#[test]
fn files_below_the_floor_go_unread() {
    let mut rig = Rig::new();
    let changes: Changes =
        (0..100).map(|number| ((Family::Scheduled, key(number)), Some(noise(number)))).collect();
    rig.commit(&changes, None);
    let files = rig.scheduled().files;
    assert!(files > 4, "{files}");
    let old = rig.store.version();
    let reads = rig.disk.reads();
    let next = Arc::new(rig.model.after(&Changes::new(), Some((Family::Scheduled, key(50))), []));
    commit(&mut rig.store, &Changes::new(), &next).unwrap();
    assert_eq!(rig.disk.reads(), reads);
    rig.model = next;
    rig.check();
    let stats = rig.store.stats();
    let left = stats.family(Family::Scheduled).files;
    assert!(left < files && stats.dropped_files == files - left, "{stats:?}");
    assert_eq!(first(&rig.store.version()), Some(key(51)));
    // Who still holds the old version reads what it showed.
    assert_eq!(first(&old), Some(key(0)));
}

fn first(version: &Version) -> Option<Vec<u8>> {
    let mut cursor = version.cursor(Family::Scheduled, &[]);
    cursor.next().unwrap().map(|(key, _)| key.to_vec())
}

/// Goal: a merge whose files all fell below the floor meanwhile ends, and leaves nothing.
#[test]
fn a_floor_may_rise_above_a_merge() {
    let mut rig = Rig::new();
    for commit in 0..3 {
        rig.commit(&rows((0..30).map(|at| at * 3 + commit), Some(&[1; 90])), None);
    }
    let plan = rig.store.plan_merge(false).unwrap();
    let mut merge = rig.store.begin_merge(plan).unwrap();
    assert!(!rig.store.merge_step(&mut merge, 2_000).unwrap());
    let changes = rows(1_000..1_010, Some(&[2; 90]));
    let floor = Some((Family::Scheduled, key(500)));
    rig.model = Arc::new(rig.model.after(&changes, floor, []));
    commit(&mut rig.store, &changes, &rig.model).unwrap();
    assert!(rig.store.merge_step(&mut merge, u64::MAX).unwrap());
    rig.check();
    assert_eq!(rig.scheduled().runs, 1);
}

/// Goal: what overlaps nothing is packed once and not written again. Method: runs of keys that only
/// rise, like those of a queue that grows.
#[test]
fn rising_runs_are_joined_unread() {
    let mut rig = Rig::new();
    for commit in 0..9 {
        let own = commit * 100..commit * 100 + 40;
        rig.commit(&own.map(|at| ((Family::Ready, key(at)), Some(noise(at)))).collect(), None);
        merge_all(&mut rig.store).unwrap();
        rig.check();
    }
    let stats = rig.store.stats();
    let ready = stats.family(Family::Ready);
    assert_eq!((ready.runs, ready.rows, stats.merges), (1, 360, 4));
    assert!(stats.merged_bytes <= stats.flushed_bytes, "{stats:?}");
}

/// Goal: files in which everything has died go unread, wherever they lie; and when what is left is
/// less than half, the rest is merged, once. Method: rows of two families die.
#[test]
fn what_dies_in_the_middle_goes() {
    let mut rig = Rig::new();
    let rows = |family: Family| (0..100u64).map(move |at| ((family, key(at)), Some(noise(at))));
    rig.commit(&rows(Family::Ready).chain(rows(Family::Record)).collect(), None);
    let files = rig.store.stats();
    // All of a range of one family, and two in three of the other.
    let dead = |family: Family, at: u64| match family {
        Family::Ready => (20..80).contains(&at),
        _ => !at.is_multiple_of(3),
    };
    let dying = [Family::Ready, Family::Record].into_iter().flat_map(|family| {
        (0..100).filter(move |at| dead(family, *at)).map(move |at| (family, key(at)))
    });
    let next = Arc::new(rig.model.after(&Changes::new(), None, dying));
    commit(&mut rig.store, &Changes::new(), &next).unwrap();
    rig.model = next;
    rig.check();
    let stats = rig.store.stats();
    let left = |family: Family| stats.family(family).files;
    assert!(left(Family::Ready) < files.family(Family::Ready).files, "{stats:?}");
    assert_eq!(left(Family::Record), files.family(Family::Record).files);
    assert_eq!(merge_all(&mut rig.store).unwrap(), 1);
    rig.check();
    assert_eq!(rig.store.stats().family(Family::Record).rows, 34);
}

/// Goal: tombstones stay as long as an older file may hold what they hide, and no longer. Method: one flush of
/// tombstones among rows of an older file, one behind all of them.
#[test]
fn a_file_of_tombstones_goes_when_it_hides_nothing() {
    for (gone, runs) in [(10..20, 2), (200..210, 1)] {
        let mut rig = Rig::new();
        let ready = |numbers: std::ops::Range<u64>, put: bool| -> Changes {
            numbers.map(|at| ((Family::Ready, key(at)), put.then(|| noise(at)))).collect()
        };
        rig.commit(&ready(0..100, true), None);
        assert!(rig.store.stats().family(Family::Ready).files > 2);
        rig.commit(&ready(gone.clone(), false), None);
        assert_eq!(rig.store.stats().family(Family::Ready).runs, runs, "{gone:?}");
    }
}

/// Goal: a merge of what is mostly dead needs space for the rest only, by what is known to live. Method: the
/// disk just large enough and one byte too small.
#[test]
fn room_is_needed_for_what_is_left() {
    let mut rig = Rig::new();
    let row = |at| (Family::Record, key(at));
    rig.commit(&(0..100).map(|at| (row(at), Some(noise(at)))).collect(), None);
    rig.commit(&(0..10).map(|at| (row(10 * at), None)).collect(), None);
    let dying = (0..100).filter(|at| at % 3 != 0).map(row);
    rig.model = Arc::new(rig.model.after(&Changes::new(), None, dying));
    commit(&mut rig.store, &Changes::new(), &rig.model).unwrap();
    let plan = rig.store.plan_merge(false).unwrap();
    assert!(plan.whole, "{plan:?}");
    let record = *rig.store.stats().family(Family::Record);
    assert_eq!((record.rows, record.tombstones), (110, 10));
    // Of each three rows one lives, but for those that were taken away.
    let left = (plan.bytes as f64 * (30.0 / 100.0)) as u64;
    for (free, reserve, room) in
        [(left, 0, true), (left - 1, 0, false), (left + 9, 9, true), (left + 9, 10, false)]
    {
        rig.disk.set_capacity(Some(rig.disk.used_bytes() + free));
        assert_eq!(rig.store.has_room_for(&plan, reserve), room, "{left}: {free}, {reserve}");
    }
}

/// Goal: there is one merge at a time; a plan that no longer fits is refused; a merge that is
/// dropped leaves nothing behind.
#[test]
fn one_merge_at_a_time() {
    let mut rig = Rig::new();
    for commit in 0..3 {
        rig.commit(&rows([commit], Some(b"x")), None);
    }
    let plan = rig.store.plan_merge(false).unwrap();
    let mut merge = rig.store.begin_merge(plan.clone()).unwrap();
    assert_eq!(rig.store.plan_merge(false), None);
    assert!(matches!(rig.store.begin_merge(plan.clone()), Err(StoreError::BadMerge(_))));
    assert!(!rig.store.merge_step(&mut merge, 1).unwrap());
    drop(merge);
    rig.check();
    let mut merge = rig.store.begin_merge(plan.clone()).unwrap();
    assert!(rig.store.merge_step(&mut merge, u64::MAX).unwrap());
    assert!(matches!(rig.store.merge_step(&mut merge, 1), Err(StoreError::BadMerge(_))));
    assert!(matches!(rig.store.begin_merge(plan), Err(StoreError::BadMerge(_))));
    rig.check();
}

/// Goal: a full disk fails a flush or a merge, which gives back the space it took; the store goes
/// on.
#[test]
fn a_full_disk_gives_the_space_back() {
    let mut rig = Rig::new();
    for commit in 0..3 {
        rig.commit(&rows((0..50).map(|at| at * 3 + commit), Some(&[commit as u8; 90])), None);
    }
    let used = rig.disk.used_bytes();
    rig.disk.set_capacity(Some(used + 500));
    assert!(matches!(merge_all(&mut rig.store), Err(StoreError::Full { .. })));
    assert_eq!(rig.disk.used_bytes(), used);
    let changes = rows(0..100, None);
    let next = Arc::new(rig.model.after(&changes, None, []));
    assert!(matches!(commit(&mut rig.store, &changes, &next), Err(StoreError::Full { .. })));
    assert_eq!(rig.disk.used_bytes(), used);
    rig.check();
    rig.disk.set_capacity(None);
    rig.commit(&changes, None);
    merge_all(&mut rig.store).unwrap();
    rig.check();
}

/// Goal: a store without its root is not taken for a new one.
#[test]
fn a_lost_root_is_told() {
    let mut rig = Rig::new();
    rig.commit(&rows([1], Some(b"x")), None);
    postdate::env::Disk::remove(&rig.disk, &dir().join("ROOT")).unwrap();
    assert!(matches!(open(&rig.disk), Err(StoreError::Missing { file }) if file.ends_with("ROOT")));
}

/// Goal: rows out of order are refused.
#[test]
fn a_flush_refuses_families_out_of_order() {
    let rig = Rig::new();
    let mut flush = rig.store.flush();
    let value = postdate::store::Value::Put(b"x");
    flush.put(Family::Ready, b"k", value).unwrap();
    let refused = flush.put(Family::Scheduled, b"k", value);
    assert!(matches!(refused, Err(StoreError::BadRow(_))));
    drop(flush);
    check_files(&rig.disk, &rig.store, "");
}

/// Goal: versions are shared with threads that read, store and merges move to the one that writes.
#[test]
fn versions_are_shared_and_stores_move() {
    fn shared<T: Send + Sync>() {}
    fn moves<T: Send>() {}
    shared::<Version>();
    moves::<postdate::store::MergeCursor>();
    moves::<postdate::store::Store>();
    moves::<postdate::store::Flush>();
    moves::<postdate::store::Merge>();
}

/// Goal: a file that died while a merge was to take it over as it is does not come back. Method:
/// rising runs, of which all but the last die after it has begun.
#[test]
fn what_dies_during_a_merge_does_not_come_back() {
    let mut rig = Rig::new();
    for commit in 0..3 {
        let own = commit * 100..commit * 100 + 40;
        rig.commit(&own.map(|at| ((Family::Ready, key(at)), Some(noise(at)))).collect(), None);
    }
    let plan = rig.store.plan_merge(false).unwrap();
    let mut merge = rig.store.begin_merge(plan).unwrap();
    let dying = (0..200).map(|at| (Family::Ready, key(at)));
    rig.model = Arc::new(rig.model.after(&Changes::new(), None, dying));
    commit(&mut rig.store, &Changes::new(), &rig.model).unwrap();
    assert!(rig.store.stats().dropped_files > 0);
    assert!(rig.store.merge_step(&mut merge, u64::MAX).unwrap());
    rig.check();
    assert_eq!(rig.store.stats().family(Family::Ready).runs, 1);
    open(&rig.disk.fork()).unwrap();
}

/// Goal: a snapshot is the store of its moment, also when all its files are gone. Method: everything is
/// merged after it; what it gives is put together elsewhere, opened, and compared.
#[test]
fn a_snapshot_outlives_merges() {
    let mut rig = Rig::new();
    for number in 0..u64::try_from(OPTIONS.fanout).unwrap() {
        let value = noise(number);
        rig.commit(&rows((0..40).map(|at| at * 5 + number), Some(&value)), None);
    }
    let (model, snapshot) = (rig.model.clone(), rig.store.snapshot().unwrap());
    let gone = |rig: &Rig| {
        let names = rig.disk.list(dir()).unwrap();
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        snapshot.files().filter(|file| !names.contains(&name(file.path))).count()
    };
    assert_eq!(gone(&rig), 0);
    merge_all(&mut rig.store).unwrap();
    rig.commit(&Changes::new(), None);
    assert!(gone(&rig) > 3);
    let copy = SimDisk::new();
    copy.create_dir_all(dir()).unwrap();
    let write = |path: &Path, bytes: &[u8]| {
        let file = copy.open(&dir().join(path.file_name().unwrap()), OpenMode::Write).unwrap();
        file.write_at(bytes, 0).unwrap();
    };
    for file in snapshot.files() {
        let mut bytes = vec![0; file.bytes as usize + 1];
        assert_eq!(file.file.read_at(&mut bytes, 0).unwrap() as u64, file.bytes);
        bytes.pop();
        write(file.path, &bytes);
    }
    let (name, root) = snapshot.root();
    write(Path::new(name), root);
    assert_eq!(verify_with(&copy, &mut |_, _| ()).unwrap().damage, []);
    let (store, opened) = open(&copy).unwrap();
    assert_eq!(opened.unwrap().journal_from, snapshot.journal_from());
    model.check(&store.version()).unwrap();
}
