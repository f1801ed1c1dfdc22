//! Backups of a shard that goes on.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use postdate::base::command::{Answer, BackedUp, Command};
use postdate::base::error::{ClientError, Code};
use postdate::env::Disk;
use postdate::sim::{FaultKind, Repeat, SimClock, SimDisk, Survival};

use crate::rig::{Expected, Life, START, Story, assert_same, config, damage, drain};

fn dir() -> &'static Path {
    Path::new("/data")
}

fn target() -> &'static Path {
    Path::new("/backup/monday")
}

fn open(disk: &SimDisk, clock: &SimClock) -> Life {
    Life::open(disk, dir(), clock, config()).unwrap()
}

fn wish(target: &Path) -> Command {
    let directory = Bytes::copy_from_slice(target.as_os_str().as_encoded_bytes());
    Command::Backup { directory }
}

/// The outcome, when the shard has nothing else to do.
fn wait(life: &mut Life, tag: u64) -> Result<BackedUp, ClientError> {
    for _ in 0..50 {
        match life.answer(tag) {
            Some(Answer::BackedUp(made)) => return Ok(made),
            Some(Answer::Failed(error)) => return Err(error),
            Some(other) => panic!("{other:?}"),
            None => life.step(),
        }
    }
    panic!("a backup is not answered")
}

fn back_up(life: &mut Life, target: &Path) -> Result<BackedUp, ClientError> {
    let tag = life.begin(wish(target));
    wait(life, tag)
}

/// A copy, opened, must be in this state; and give everything when it is due.
fn check_copy(disk: &SimDisk, target: &Path, state: &[u8], expected: &Expected, now: u64) {
    assert_eq!(damage(disk, target), []);
    let mut copy = Life::open(disk, target, &SimClock::new(0, now), config()).unwrap();
    assert!(copy.shard.state().unwrap() == state, "the copy is in another state");
    assert_same(&drain(&mut copy).unwrap(), &expected.alive, "the copy");
}

/// Goal: a backup is the state at the moment it was asked for, whatever flush or merge goes on, and
/// does nothing to the source. Method: a story with a backup begun at every third step and going on
/// beside it; each copy is compared with the state of then, and drained.
#[test]
fn a_backup_is_the_state_when_it_was_asked_for() {
    let (disk, clock) = (SimDisk::new(), SimClock::new(0, START));
    let mut life = open(&disk, &clock);
    let mut story = Story::new();
    let mut under_way: Option<(u64, PathBuf, Vec<u8>, Expected, u64)> = None;
    let (mut made, mut linked, mut kept) = (0, 0, 0);
    while story.go_on(&mut life) {
        if let Some((tag, target, state, expected, now)) = under_way.take() {
            match life.answer(tag) {
                None => under_way = Some((tag, target, state, expected, now)),
                Some(Answer::BackedUp(told)) => {
                    made += 1;
                    linked += told.linked_files;
                    kept += u64::from(told.linked_files + 1 < told.files);
                    let disk = disk.fork();
                    disk.crash(Survival::None, 0);
                    check_copy(&disk, &target, &state, &expected, now);
                }
                Some(other) => panic!("{other:?}"),
            }
        } else {
            let target = PathBuf::from(format!("/backup/{made}"));
            let tag = life.begin(wish(&target));
            life.step();
            let state = life.shard.state().unwrap();
            let now = crate::rig::now_ms(&clock);
            under_way = Some((tag, target, state, story.expected.clone(), now));
        }
    }
    assert!(made > 20 && linked > 20 && kept > 20, "{made} made, {linked} files linked");
    assert!(life.stat("flushes_total") > 5 && life.stat("store_merges_total") > 0);
    let state = life.shard.state().unwrap();
    drop(life);
    check_copy(&disk, dir(), &state, &story.expected, crate::rig::now_ms(&clock));
}

/// Goal: journal that a backup still needs stays, and goes afterwards. Method: a flush is done while a
/// backup waits for its turn.
#[test]
fn the_journal_goes_when_no_backup_needs_it() {
    let (disk, clock) = (SimDisk::new(), SimClock::new(0, START));
    let mut life = open(&disk, &clock);
    let mut story = Story::new();
    for _ in 0..40 {
        story.go_on(&mut life);
    }
    let segments = |life: &mut Life| life.stat("journal_segments");
    let mut most = 0;
    for round in 0..30 {
        let tag = life.begin(wish(&PathBuf::from(format!("/backup/{round}"))));
        story.go_on(&mut life);
        most = most.max(segments(&mut life));
        wait(&mut life, tag).unwrap();
    }
    let flushes = life.stat("flushes_total");
    while life.stat("flushes_total") < flushes + 1 {
        story.go_on(&mut life);
    }
    assert!(segments(&mut life) < most, "{} of {most} are left", segments(&mut life));
}

/// Goal: what cannot be a target is refused with a text that says why, and nothing is made or lost.
#[test]
fn bad_targets_are_refused() {
    let (disk, clock) = (SimDisk::new(), SimClock::new(0, START));
    let mut life = open(&disk, &clock);
    life.publish("/queue/mail", b"here".to_vec(), postdate::base::message::Delay::None);
    disk.create_dir_all(Path::new("/full")).unwrap();
    drop(disk.lock(Path::new("/full/thesis.txt")).unwrap());
    for (target, why) in [
        ("/data", "inside the data directory"),
        ("/data/store/copy", "inside the data directory"),
        ("backup", "absolute"),
        ("/backup/../data", "absolute"),
        ("", "absolute"),
        ("/full", "thesis.txt"),
    ] {
        let error = back_up(&mut life, Path::new(target)).unwrap_err();
        assert_eq!(error.code, Code::BackupFailed);
        assert!(error.message.contains(why), "{target}: {error}");
    }
    assert_eq!(disk.list(Path::new("/full")).unwrap(), ["thesis.txt"]);
    let first = life.begin(wish(target()));
    let second = back_up(&mut life, Path::new("/backup/2")).unwrap_err();
    assert!(second.message.contains("another backup is under way"), "{second}");
    wait(&mut life, first).unwrap();
    let again = back_up(&mut life, target()).unwrap_err();
    assert!(again.message.contains("is not empty"), "{again}");
    assert!(!disk.exists(Path::new("/backup/2")).unwrap());
    let made = SimDisk::exists(&disk, &target().join("FORMAT")).unwrap();
    assert!(made, "the one before was touched");
}

/// Where a story is after some steps, nothing of it under way.
fn settled(steps: u64) -> (SimDisk, SimClock, Life, Story) {
    let (disk, clock) = (SimDisk::new(), SimClock::new(0, START));
    let mut life = open(&disk, &clock);
    let mut story = Story::new();
    for _ in 0..steps {
        story.go_on(&mut life);
    }
    for _ in 0..200 {
        clock.advance_ms(100);
        life.step();
    }
    (disk, clock, life, story)
}

/// Goal: a backup that fails leaves nothing, says why, and harms nobody. Method: an error at each of
/// its disk operations; the next one works.
#[test]
fn an_error_at_any_operation_leaves_no_copy() {
    let operations = {
        let (disk, _, mut life, _) = settled(60);
        let before = disk.operations();
        back_up(&mut life, target()).unwrap();
        disk.operations() - before
    };
    assert!(operations > 20, "{operations}");
    for kind in [FaultKind::Eio, FaultKind::Enospc] {
        let mut failed = 0;
        for at in 0..operations {
            let (disk, clock, mut life, story) = settled(60);
            let state = life.shard.state().unwrap();
            disk.fail_at(disk.operations() + at, kind, Repeat::Once);
            // The beginning of a segment is the shard's own: it may latch then.
            let tag = life.begin(wish(target()));
            if life.try_step().is_err() {
                continue;
            }
            if let Err(error) = wait(&mut life, tag) {
                failed += 1;
                assert_eq!(error.code, Code::BackupFailed, "operation {at}");
                assert!(!disk.exists(Path::new("/backup")).unwrap(), "operation {at}: {error}");
                disk.clear_faults();
                back_up(&mut life, target()).unwrap();
            }
            let now = crate::rig::now_ms(&clock);
            check_copy(&disk, target(), &state, &story.expected, now);
        }
        assert!(failed > 3, "{kind:?}: {failed}");
    }
}

/// Goal: a disk that gets full is told, and room is left for the server. Method: ever less space.
#[test]
fn a_full_disk_is_told() {
    let (disk, _, mut life, _) = settled(60);
    let used = disk.used_bytes();
    let mut refused = 0;
    for left in (0..200_000).step_by(5_000) {
        disk.set_capacity(Some(used + left));
        match back_up(&mut life, target()) {
            Ok(_) => break,
            Err(error) => {
                refused += 1;
                assert!(error.message.contains("not enough space in /backup/monday"), "{error}");
                assert!(!disk.exists(Path::new("/backup")).unwrap());
            }
        }
    }
    assert!((2..39).contains(&refused), "{refused}");
    disk.set_capacity(None);
    assert_eq!(damage(&disk, target()), []);
}

/// Goal: a crash leaves a whole copy, or one that no server starts on; the source is as it was.
/// Method: a crash after each of its disk operations.
#[test]
fn a_crash_at_any_operation_leaves_no_half_copy() {
    let (mut whole, mut none) = (0, 0);
    for at in 0.. {
        let (disk, clock, mut life, story) = settled(60);
        let state = life.shard.state().unwrap();
        disk.fail_at(disk.operations() + at, FaultKind::CrashNow, Repeat::Once);
        life.begin(wish(target()));
        let crashed = (0..20).any(|_| life.shard.step().is_err() || disk.list(dir()).is_err());
        if !crashed {
            break;
        }
        for (seed, survival) in Survival::ALL.into_iter().enumerate() {
            let disk = disk.fork();
            disk.crash(survival, at * 17 + seed as u64);
            let now = crate::rig::now_ms(&clock);
            check_copy(&disk, dir(), &state, &story.expected, now);
            let is_there = disk.exists(&target().join("FORMAT")).unwrap();
            if is_there {
                check_copy(&disk, target(), &state, &story.expected, now);
            } else if disk.exists(target()).unwrap() {
                let names = disk.list(target()).unwrap();
                let taken = Life::open(&disk, target(), &SimClock::new(0, now), config());
                let empty = names.iter().all(|name| name == "LOCK" || name == "FORMAT.new");
                assert!(taken.is_err() || empty, "{names:?}");
            }
            *(if is_there { &mut whole } else { &mut none }) += 1;
        }
    }
    assert!(whole > 0 && none > 50, "{whole} whole, {none} none");
}
