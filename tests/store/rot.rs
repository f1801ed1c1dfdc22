//! Damage: it is never taken for data, it is named, and the rest of a report goes on behind it.

use std::path::PathBuf;
use std::sync::Arc;

use postdate::env::Disk;
use postdate::sim::SimDisk;
use postdate::store::{Family, OnDamage, Scratch, Store, StoreError, StoreOptions, VerifyReport};

use crate::common::{Changes, Model, OPTIONS, check_version, commit, dir, open, read, verify_with};

/// A store of some files in each family, with a run of tombstones.
fn disk() -> (SimDisk, Arc<Model>) {
    let disk = SimDisk::new();
    let (mut store, _) = open(&disk).unwrap();
    let mut model: Arc<Model> = Arc::default();
    for number in 0..3u64 {
        let mut changes = Changes::new();
        for at in 0..60u64 {
            let family = Family::ALL[at as usize % 3];
            let value = (at % 9 != number).then(|| (at * number).to_be_bytes().repeat(6));
            changes.insert((family, (at + 20 * number).to_be_bytes().to_vec()), value);
        }
        model = Arc::new(model.after(&changes, None, []));
        commit(&mut store, &changes, &model).unwrap();
    }
    (disk, model)
}

fn report(disk: &SimDisk) -> VerifyReport {
    let mut last = (0, 0);
    let report = verify_with(disk, &mut |done, total| {
        assert!(done >= last.0 && done <= total, "{done} of {total} after {last:?}");
        last = (done, total);
    });
    assert_eq!(last.0, last.1);
    report.unwrap()
}

fn files(disk: &SimDisk) -> Vec<PathBuf> {
    disk.list(dir()).unwrap().into_iter().map(|name| dir().join(name)).collect()
}

#[test]
fn a_sound_store_is_sound() {
    let (disk, _) = disk();
    let found = report(&disk);
    let stats = open(&disk).unwrap().0.stats();
    let rows: u64 = stats.families.iter().map(|family| family.rows).sum();
    assert_eq!((found.rows, found.damage.len(), found.unnamed.len()), (rows, 0, 0));
    assert_eq!(found.checkpoint_bytes, stats.checkpoint_bytes);
    assert_eq!(report(&SimDisk::new()), VerifyReport::default());
}

/// Goal: whatever bit flips in whatever file, the report names that file, and opening and reading
/// either name it too or show what is right. Method: every byte, one of its bits.
#[test]
fn every_flipped_byte_is_found() {
    let (disk, model) = disk();
    for path in files(&disk) {
        let len = disk.contents(&path).unwrap().len() as u64;
        for byte in 0..len {
            let bit = (byte * 7 % 8) as u8;
            disk.flip_bit(&path, byte, bit);
            let context = format!("{}, byte {byte}, bit {bit}", path.display());
            let found = report(&disk);
            assert!(found.damage.iter().any(|damage| damage.file == path), "{context}: {found:?}");
            match open(&disk.fork()) {
                Ok((store, _)) => check_version(&model, &store.version(), &context),
                Err(StoreError::Corrupt { file, .. }) => assert_eq!(file, path, "{context}"),
                Err(error) => panic!("{context}: {error}"),
            }
            disk.flip_bit(&path, byte, bit);
        }
    }
    assert_eq!(report(&disk).damage, []);
}

/// Goal: a file that is missing, cut short or another of the same kind is named.
#[test]
fn a_file_that_is_not_the_one_is_found() {
    let (disk, _) = disk();
    let files = files(&disk);
    for path in &files {
        let lost = disk.fork();
        lost.remove(path).unwrap();
        assert!(matches!(open(&lost), Err(StoreError::Missing { file }) if file == *path));
        assert_eq!(report(&lost).damage[0].file, *path);

        let cut = disk.fork();
        let file = cut.open(path, postdate::env::OpenMode::Write).unwrap();
        file.set_len(file.len().unwrap() - 1).unwrap();
        assert!(matches!(open(&cut), Err(StoreError::Corrupt { file, .. }) if file == *path));
        assert_eq!(report(&cut).damage[0].file, *path);
    }
    for (path, other) in files.iter().zip(&files[1..]).filter(|(_, file)| !file.ends_with("ROOT")) {
        let swapped = disk.fork();
        swapped.rename(other, path).unwrap();
        let found: Vec<PathBuf> =
            report(&swapped).damage.into_iter().map(|damage| damage.file).collect();
        assert!(found.contains(path), "{path:?} is {other:?}: {found:?}");
    }
}

/// Goal: what a crash left is listed and not taken for damage.
#[test]
fn what_a_crash_left_is_listed() {
    let (disk, _) = disk();
    for name in ["00000000000000009999.seg", "00000000000000009998.ckpt", "ROOT.new", "notes"] {
        let file = disk.open(&dir().join(name), postdate::env::OpenMode::Write).unwrap();
        file.write_at(b"half of something", 0).unwrap();
    }
    let found = report(&disk);
    assert_eq!((found.damage.len(), found.unnamed.len()), (0, 3), "{found:?}");
    open(&disk).unwrap();
    let left = disk.list(dir()).unwrap();
    assert!(left.contains(&"notes".to_owned()), "what is not ours stays");
    assert_eq!(report(&disk).unnamed, Vec::<PathBuf>::new());
}

/// Goal: a merge over damage fails by the name of the damaged file, and changes nothing.
#[test]
fn a_merge_over_damage_changes_nothing() {
    let (disk, _) = disk();
    let (mut store, _) = open(&disk).unwrap();
    let plan = store.plan_merge(false).unwrap();
    let family = plan.family;
    let input = store.version().runs(family)[1].segments[0].meta().number;
    let path = dir().join(format!("{input:020}.seg"));
    disk.flip_bit(&path, 60, 0);
    let before = disk.list(dir()).unwrap();
    let mut merge = store.begin_merge(plan).unwrap();
    let failed = store.merge_step(&mut merge, u64::MAX);
    assert!(matches!(failed, Err(StoreError::Corrupt { file, .. }) if file == path));
    assert_eq!(disk.list(dir()).unwrap(), before);
    assert!(read(&store.version(), family, &[]).is_err());
}

/// Goal: a store that is to skip damaged blocks shows every row but theirs, counts each once, and its
/// merges leave the file alone. Method: one run damaged in its first block, merged, and read in each way.
#[test]
fn a_damaged_block_is_passed_over_and_counted_once() {
    let disk = SimDisk::new();
    let options = StoreOptions { on_damage: OnDamage::Skip, ..OPTIONS };
    let (mut store, _) = Store::open(Arc::new(disk.clone()), dir(), options).unwrap();
    let mut model: Arc<Model> = Arc::default();
    let key = |number: u64| number.to_be_bytes().to_vec();
    for run in 0..5 {
        let row = |at: u64| {
            let value = (0..90).map(|byte| (byte * 31 + at * 7919 + run) as u8 ^ (at * byte) as u8);
            ((Family::Ready, key(5 * at + run)), Some(value.collect()))
        };
        let changes: Changes = (0..20).map(row).collect();
        model = Arc::new(model.after(&changes, None, []));
        commit(&mut store, &changes, &model).unwrap();
    }
    let runs: Vec<_> = store.version().runs(Family::Ready).to_vec();
    let path = runs[1].segments[0].path().to_owned();
    disk.flip_bit(&path, 60, 0);
    assert_eq!(store.version().damaged_blocks(), 0);

    // A merge meets it, and the next one is planned around it.
    let plan = store.plan_merge(false).unwrap();
    assert_eq!(plan.runs, [runs[0].number, runs[1].number, runs[2].number]);
    let mut merge = store.begin_merge(plan).unwrap();
    let failed = store.merge_step(&mut merge, u64::MAX);
    assert!(matches!(failed, Err(StoreError::Corrupt { file, .. }) if file == path));
    assert_eq!(store.version().damaged_blocks(), 1);
    let plan = store.plan_merge(false).unwrap();
    assert_eq!(plan.runs, [runs[2].number, runs[3].number, runs[4].number]);
    let mut merge = store.begin_merge(plan).unwrap();
    while !store.merge_step(&mut merge, 1_000).unwrap() {}
    assert_eq!(store.plan_merge(false), None);
    assert!(disk.exists(&path).unwrap());

    let version = store.version();
    for _ in 0..3 {
        let rows = read(&version, Family::Ready, &[]).unwrap();
        let mut scratch = Scratch::default();
        let (mut lost, mut found) = (Vec::new(), 0);
        for number in 0..100 {
            let there = rows.iter().any(|(own, _)| *own == key(number));
            let got = version.get(Family::Ready, &key(number), &mut scratch).unwrap();
            assert_eq!(got.is_some(), there, "{number}");
            found += 1;
            lost.extend((!there).then_some(number));
        }
        assert_eq!(rows.len(), found - lost.len());
        // The rows of its first block.
        assert!(!lost.is_empty() && lost.len() < 20, "{lost:?}");
        assert!(lost.iter().copied().eq((1..).step_by(5).take(lost.len())), "{lost:?}");
        assert_eq!(version.damaged_blocks(), 1);
    }
}
