//! Exhaustive sweeps: a crash or an error at every single operation of a fixed workload.

use std::sync::Arc;

use postdate::sim::{FaultKind, Repeat, SimDisk, Survival};
use postdate::store::{Family, StoreError};

use crate::common::{Changes, Model, Row, check_files, commit, commits_of, merge_all, open};

const COMMITS: u64 = 7;

fn key(high: u64, low: u64) -> Vec<u8> {
    [&high.to_be_bytes()[3..], &low.to_be_bytes()[..]].concat()
}

/// The changes of each commit and what they lead to: rows that lie between those of the commits
/// before, tombstones, rows that come again, a floor that rises, rows that die.
fn story() -> Vec<(Changes, Arc<Model>)> {
    let mut model = Model::default();
    let mut steps = Vec::new();
    for number in 1..=COMMITS {
        let mut changes = Changes::new();
        for at in 0..30 {
            let family = Family::ALL[at as usize % 3];
            let spread = (at * 7 + number * 11) % 60;
            let own = key(spread, 1_000 * number + at);
            changes.insert((family, own), Some(vec![at as u8; 60]));
            let again = (at % 4 == 0).then(|| vec![1; 30]);
            changes.insert((family, key(at, number - 1)), again);
            changes.insert((family, key(at, number)), Some(vec![number as u8; 40]));
        }
        let floor = (Family::Scheduled, key(2 * number, 0));
        changes.retain(|row, _| row.0 != floor.0 || row.1 > floor.1);
        // Nobody writes these again.
        let dead = model.rows().filter(|row| row.1[5..] > 1_000u64.to_be_bytes()[..]);
        let dead: Vec<Row> = dead.step_by(5).cloned().collect();
        model = model.after(&changes, Some(floor), dead);
        steps.push((changes, Arc::new(model.clone())));
    }
    steps
}

/// What became of a run of the workload.
struct Run {
    /// The last commit that returned `Ok`.
    committed: u64,
    error: Option<StoreError>,
}

/// Commits, and merges in between: some in one go, some with commits between their steps.
fn run(disk: &SimDisk, story: &[(Changes, Arc<Model>)]) -> Run {
    let mut run = Run { committed: 0, error: None };
    run.error = work(disk, story, &mut run.committed).err();
    run
}

fn work(
    disk: &SimDisk,
    story: &[(Changes, Arc<Model>)],
    committed: &mut u64,
) -> Result<(), StoreError> {
    let (mut store, _) = open(disk)?;
    let mut merge = None;
    for (changes, next) in story {
        commit(&mut store, changes, next)?;
        *committed = next.commits;
        if next.commits == 5 {
            merge_all(&mut store)?;
        }
        if merge.is_none()
            && let Some(plan) = store.plan_merge(false)
        {
            merge = Some(store.begin_merge(plan)?);
        }
        if let Some(under_way) = &mut merge
            && store.merge_step(under_way, 1_500)?
        {
            merge = None;
        }
    }
    drop(merge);
    merge_all(&mut store)?;
    Ok(())
}

/// Opens a disk, sees that it shows one commit and no mix, and gives the number of that commit.
fn check_opened(disk: &SimDisk, story: &[(Changes, Arc<Model>)], run: &Run, context: &str) -> u64 {
    let (store, opened) = open(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
    let found = commits_of(opened.as_ref());
    let acceptable = run.committed..=run.committed + 1;
    assert!(acceptable.contains(&found), "{context}: commit {found}, not one of {acceptable:?}");
    let shown = model_of(story, found).check(&store.version());
    shown.unwrap_or_else(|why| panic!("{context}: {why}"));
    check_files(disk, &store, context);
    found
}

fn model_of(story: &[(Changes, Arc<Model>)], commits: u64) -> Arc<Model> {
    story
        .get((commits as usize).wrapping_sub(1))
        .map_or_else(Arc::default, |(_, model)| model.clone())
}

/// Goes on with the rest of the story, as if nothing had been.
fn check_goes_on(disk: &SimDisk, story: &[(Changes, Arc<Model>)], found: u64, context: &str) {
    let (mut store, _) = open(disk).unwrap();
    for (changes, next) in &story[found as usize..] {
        commit(&mut store, changes, next).unwrap_or_else(|error| panic!("{context}: {error}"));
        merge_all(&mut store).unwrap_or_else(|error| panic!("{context}: {error}"));
    }
    let shown = model_of(story, COMMITS).check(&store.version());
    shown.unwrap_or_else(|why| panic!("{context}, later: {why}"));
    check_files(disk, &store, context);
    drop(store);
    disk.crash(Survival::None, 0);
    let run = Run { committed: COMMITS, error: None };
    check_opened(disk, story, &run, context);
}

fn operations(story: &[(Changes, Arc<Model>)]) -> u64 {
    let disk = SimDisk::new();
    let run = run(&disk, story);
    assert!(run.error.is_none(), "{:?}", run.error);
    disk.operations()
}

/// Goal: a crash at any moment leaves one commit, whole: the last one or the one being made.
/// Method: every operation, every survival, and every operation of the opening after it.
#[test]
fn crash_at_every_operation_and_again_while_opening() {
    let story = story();
    for at in 0..operations(&story) {
        for survival in Survival::ALL {
            let disk = SimDisk::new();
            disk.fail_at(at, FaultKind::CrashNow, Repeat::Once);
            let run = run(&disk, &story);
            disk.crash(survival, at);
            let context = format!("crash at {at} ({survival:?}): {:?}", run.error);
            let once = disk.fork();
            let found = check_opened(&once, &story, &run, &context);
            // One survival each is enough to meet every second crash with every first one.
            let nested =
                if Survival::ALL[at as usize % 5] == survival { once.operations() } else { 0 };
            for second in 0..nested {
                let again = disk.fork();
                again.fail_at(second, FaultKind::CrashNow, Repeat::Once);
                let _ = open(&again);
                again.crash(Survival::ALL[(at + second) as usize % 5], second);
                let context = format!("{context}, again at {second}");
                assert_eq!(check_opened(&again, &story, &run, &context), found, "{context}");
            }
            if at % 7 == 0 {
                check_goes_on(&once, &story, found, &context);
            }
        }
    }
}

/// Goal: an error leaves everything as it was, and the work can be tried again in the same
/// process and after a restart. Method: every operation fails once or for ever, in each way.
#[test]
fn an_error_at_every_operation() {
    let story = story();
    for at in 0..operations(&story) {
        for kind in [FaultKind::Eio, FaultKind::Enospc, FaultKind::ShortWrite] {
            for repeat in [Repeat::Once, Repeat::Forever] {
                let disk = SimDisk::new();
                disk.fail_at(at, kind, repeat);
                let run = run(&disk, &story);
                let context = format!("{kind:?} at {at} {repeat:?}: {:?}", run.error);
                assert!(!matches!(run.error, Some(StoreError::Corrupt { .. })), "{context}");
                disk.clear_faults();
                let torn_off = disk.fork();
                torn_off.crash(Survival::None, at);
                check_opened(&torn_off, &story, &run, &context);
                let found = check_opened(&disk, &story, &run, &context);
                disk.crash(Survival::None, at);
                let left = check_opened(&disk, &story, &run, &context);
                assert_eq!(left, found, "{context}");
                if at % 7 == 0 {
                    check_goes_on(&disk, &story, found, &context);
                }
            }
        }
    }
}

/// Goal: after an error the same store goes on, and leaves no file behind. Method: every operation
/// fails once; what failed is done again.
#[test]
fn a_store_goes_on_after_an_error() {
    let story = story();
    for at in 0..operations(&story) {
        for kind in [FaultKind::Eio, FaultKind::Enospc, FaultKind::ShortWrite] {
            let disk = SimDisk::new();
            let context = format!("{kind:?} at {at}");
            disk.fail_at(at, kind, Repeat::Once);
            let (mut store, _) = open(&disk).or_else(|_| open(&disk)).unwrap();
            let mut shown: Arc<Model> = Arc::default();
            for (changes, next) in &story {
                if commit(&mut store, changes, next).is_err() {
                    shown.check(&store.version()).unwrap_or_else(|why| panic!("{context}: {why}"));
                    commit(&mut store, changes, next).unwrap();
                }
                shown = next.clone();
                if merge_all(&mut store).is_err() {
                    shown.check(&store.version()).unwrap_or_else(|why| panic!("{context}: {why}"));
                    merge_all(&mut store).unwrap();
                }
            }
            shown.check(&store.version()).unwrap_or_else(|why| panic!("{context}: {why}"));
            drop(store);
            disk.crash(Survival::None, at);
            let run = Run { committed: COMMITS, error: None };
            check_opened(&disk, &story, &run, &context);
        }
    }
}

/// Goal: a merge that cannot read leaves everything as it was. Method: every read fails once.
#[test]
fn a_store_goes_on_after_an_error_at_every_read() {
    let story = story();
    let whole = SimDisk::new();
    run(&whole, &story);
    for at in 0..whole.reads() {
        let disk = SimDisk::new();
        disk.fail_read_at(at, Repeat::Once);
        let (mut store, _) = open(&disk).unwrap();
        for (changes, next) in &story {
            let again = commit(&mut store, changes, next).is_err();
            if again {
                commit(&mut store, changes, next).unwrap();
            }
            if merge_all(&mut store).is_err() {
                merge_all(&mut store).unwrap();
            }
        }
        disk.clear_faults();
        let shown = model_of(&story, COMMITS).check(&store.version());
        shown.unwrap_or_else(|why| panic!("read {at}: {why}"));
        check_files(&disk, &store, &format!("read {at}"));
    }
}

/// Goal: an unreadable file stops the opening, names itself and changes nothing.
#[test]
fn an_error_at_every_read_of_an_opening() {
    let story = story();
    let disk = SimDisk::new();
    let whole = run(&disk, &story);
    let clean = disk.fork();
    check_opened(&clean, &story, &whole, "clean");
    let reads = {
        let counted = disk.fork();
        open(&counted).unwrap();
        counted.reads()
    };
    assert!(reads > 3);
    for at in 0..reads {
        let copy = disk.fork();
        copy.fail_read_at(at, Repeat::Once);
        let failed = open(&copy).map(|_| ());
        assert!(matches!(failed, Err(StoreError::Io { .. })), "read {at}: {failed:?}");
        copy.clear_faults();
        check_opened(&copy, &story, &whole, &format!("read {at}"));
    }
}
