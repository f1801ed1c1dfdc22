//! Goal: a store that an earlier postdate wrote is read for ever. Method: the directory
//! `tests/golden/store-1/` was written once, by [`write_golden`] from a fixed seed, and is committed;
//! it is opened and must show what that seed means.
//!
//! To make the directory of a later version of the format: give it a new number here, and run
//! `POSTDATE_WRITE_GOLDEN=1 cargo test --test store golden` once. A directory that is there is
//! never written again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use postdate::env::{Disk, OpenMode, OsDisk};
use postdate::sim::SimDisk;
use postdate::store::{Family, Liveness};

use crate::common::{
    Changes, Model, check_files, commit, commits_of, dir, merge_all, open, verify_with,
};

const COMMITS: u64 = 5;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/store-1")
}

/// splitmix64, so that the seed means the same for ever.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// What the commits of the golden store wrote.
fn story() -> Vec<(Changes, Arc<Model>)> {
    let mut state = 20;
    let mut model = Model::default();
    let mut steps = Vec::new();
    for number in 1..=COMMITS {
        let mut changes = Changes::new();
        for _ in 0..40 {
            let family = Family::ALL[random(&mut state) as usize % 3];
            let key = (random(&mut state) % 90).to_be_bytes().to_vec();
            let len = random(&mut state) % 60;
            let value = (0..len).map(|at| if at % 2 == 0 { 7 } else { random(&mut state) as u8 });
            let value: Vec<u8> = value.collect();
            let tombstone = random(&mut state).is_multiple_of(4);
            changes.insert((family, key), (!tombstone).then_some(value));
        }
        let floor = (Family::Scheduled, (3 * number).to_be_bytes().to_vec());
        changes.retain(|row, _| row.0 != floor.0 || row.1 > floor.1);
        model = model.after(&changes, Some(floor), []);
        steps.push((changes, Arc::new(model.clone())));
    }
    steps
}

/// Writes the store: merged in part, with several runs, tombstones, a floor and a checkpoint.
fn write_golden() -> SimDisk {
    let disk = SimDisk::new();
    let (mut store, _) = open(&disk).unwrap();
    for (changes, next) in story() {
        commit(&mut store, &changes, &next).unwrap();
        if next.commits == 3 {
            merge_all(&mut store).unwrap();
        }
    }
    disk
}

fn check(disk: &SimDisk) {
    let report = verify_with(disk, &mut |_, _| ()).unwrap();
    assert_eq!((report.damage.len(), report.unnamed.len()), (0, 0), "{report:?}");
    let (mut store, opened) = open(disk).unwrap();
    assert_eq!(commits_of(opened.as_ref()), COMMITS);
    let story = story();
    let model = &story.last().unwrap().1;
    let runs = |family| store.version().runs(family).len();
    assert!(Family::ALL.into_iter().all(|family| runs(family) > 1), "there is something to merge");
    let floor = model.dead_up_to(Family::Scheduled);
    assert!(floor.is_some() && store.version().floor(Family::Scheduled) == floor.as_deref());
    model.check(&store.version()).unwrap();
    check_files(disk, &store, "golden");
    // And it can be gone on with.
    let (changes, next) = (Changes::new(), Arc::new(model.after(&Changes::new(), None, [])));
    commit(&mut store, &changes, &next).unwrap();
    merge_all(&mut store).unwrap();
    model.check(&store.version()).unwrap();
}

#[test]
fn golden_store_1_is_read() {
    let real = OsDisk::default();
    if std::env::var_os("POSTDATE_WRITE_GOLDEN").is_some() && !real.exists(&golden()).unwrap() {
        let made = write_golden();
        copy(&made, dir(), &real, &golden());
    }
    let disk = SimDisk::new();
    copy(&real, &golden(), &disk, dir());
    check(&disk);
}

/// Goal: what is written today is read by the same rules.
#[test]
fn what_is_written_now_is_read_like_the_golden_store() {
    check(&write_golden());
}

fn copy(from: &dyn Disk, from_dir: &Path, to: &dyn Disk, to_dir: &Path) {
    to.create_dir_all(to_dir).unwrap();
    for name in from.list(from_dir).unwrap() {
        let file = from.open(&from_dir.join(&name), OpenMode::Read).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
        let copy = to.open(&to_dir.join(&name), OpenMode::Write).unwrap();
        copy.write_at(&bytes, 0).unwrap();
    }
}
