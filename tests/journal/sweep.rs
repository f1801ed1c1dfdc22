//! Exhaustive sweeps: a crash or an error at every single operation of a fixed workload.

use postdate::base::config::Durability;
use postdate::journal::{Journal, JournalError, JournalOptions, verify};
use postdate::sim::{FaultKind, Repeat, SimDisk, Survival};

use crate::common::{ALWAYS, Run, append, check_batch, check_whole, dir, open_at, run, workload};

const INTERVAL: JournalOptions =
    JournalOptions { durability: Durability::Interval { every_ms: 3 }, ..ALWAYS };
const OS: JournalOptions = JournalOptions { durability: Durability::Os, ..ALWAYS };

/// Operations of the whole workload when nothing goes wrong.
fn operations(options: JournalOptions) -> u64 {
    let disk = SimDisk::new();
    let run = run(&disk, options, &workload());
    assert!(run.error.is_none());
    disk.operations()
}

/// The last batch that a journal shows, after checking that it shows everything up to there,
/// that nothing durable is missing and nothing was invented.
fn check_recovered(disk: &SimDisk, options: JournalOptions, run: &Run, context: &str) -> u64 {
    let opened =
        open_at(disk, options, run.start).unwrap_or_else(|error| panic!("{context}: {error}"));
    check_whole(&opened, context);
    let last = opened.last();
    let acceptable = run.durable..=run.acked + 1;
    assert!(acceptable.contains(&last), "{context}: {last} is not in {acceptable:?}");
    last
}

/// Opens after a crash, also with a second crash at every operation of the opening; then goes on.
fn check_crash(disk: &SimDisk, options: JournalOptions, run: &Run, nested: bool, context: &str) {
    let last = {
        let once = disk.fork();
        let last = check_recovered(&once, options, run, context);
        if nested {
            for at in disk.operations()..disk.operations() + once.operations() {
                let again = disk.fork();
                again.fail_at(at, FaultKind::CrashNow, Repeat::Once);
                let cut_off = open_at(&again, options, run.start).is_err();
                let survival = Survival::ALL[at as usize % 5];
                again.crash(survival, at);
                let context = format!("{context}, again at {at} ({survival:?})");
                // What an opening has shown must not change by a crash after it.
                let shown = check_recovered(&again, options, run, &context);
                assert_eq!(shown, last, "{context}");
                if !cut_off {
                    break;
                }
            }
        }
        last
    };
    let mut opened = open_at(disk, options, run.start).unwrap();
    for number in last + 1..=last + 3 {
        append(opened.journal.as_mut(), number, 6_000).unwrap();
    }
    opened.journal.close().unwrap();
    disk.crash(Survival::None, 0);
    let opened = open_at(disk, options, run.start).unwrap();
    check_whole(&opened, context);
    assert_eq!(opened.last(), last + 3, "{context}");
}

fn crash_sweep(options: JournalOptions, nested: bool) {
    for at in 0..operations(options) {
        for survival in Survival::ALL {
            let disk = SimDisk::new();
            disk.fail_at(at, FaultKind::CrashNow, Repeat::Once);
            let run = run(&disk, options, &workload());
            let context = format!("crash at {at} ({survival:?})");
            assert!(run.error.is_some() || at + 1 >= operations(options), "{context}");
            disk.crash(survival, at);
            check_crash(&disk, options, &run, nested, &context);
        }
    }
}

/// Goal: nothing acknowledged is lost by a crash at any moment, nor by a second one while
/// recovering. Method: every operation, every survival, every operation of the recovery.
#[test]
fn crash_at_every_operation_and_again_while_recovering() {
    crash_sweep(ALWAYS, true);
}

/// Goal: in the weaker modes a crash loses at most what was not synced, and leaves no gap.
#[test]
fn crash_at_every_operation_in_the_weaker_modes() {
    crash_sweep(INTERVAL, false);
    crash_sweep(OS, false);
}

/// Goal: an error is never taken for success. Method: every operation fails once or for ever in
/// each way. Afterwards the journal is opened without a crash, as the process would do, and what
/// it shows then must survive a crash in which everything not durable is lost.
fn error_sweep(options: JournalOptions) {
    for at in 0..operations(options) {
        for kind in [FaultKind::Eio, FaultKind::Enospc, FaultKind::ShortWrite] {
            for repeat in [Repeat::Once, Repeat::Forever] {
                let disk = SimDisk::new();
                disk.fail_at(at, kind, repeat);
                let run = run(&disk, options, &workload());
                let context = format!("{kind:?} at {at} {repeat:?}: {:?}", run.error);
                if let (FaultKind::Eio, Repeat::Forever) = (kind, repeat) {
                    assert!(run.error.is_some() || run.refused > 0, "{context}");
                }
                assert!(!matches!(run.error, Some(JournalError::Corrupt { .. })), "{context}");
                disk.clear_faults();
                let torn_off = disk.fork();
                torn_off.crash(Survival::None, at);
                check_recovered(&torn_off, options, &run, &context);
                let shown = check_recovered(&disk, options, &run, &context);
                disk.crash(Survival::None, at);
                let left = check_recovered(&disk, options, &run, &context);
                assert_eq!(left, shown, "{context}");
            }
        }
    }
}

#[test]
fn an_error_at_every_operation_with_each_batch_synced() {
    error_sweep(ALWAYS);
}

#[test]
fn an_error_at_every_operation_with_interval_syncs() {
    error_sweep(INTERVAL);
}

/// Goal: an unreadable file stops the opening with the file's name and changes nothing. Method:
/// every read of an opening fails.
#[test]
fn an_error_at_every_read() {
    let disk = SimDisk::new();
    let start = run(&disk, ALWAYS, &workload()).start;
    let clean = disk.fork();
    let expected = open_at(&clean, ALWAYS, start).unwrap().read;
    for at in 0..clean.reads() {
        let copy = disk.fork();
        copy.fail_read_at(at, Repeat::Once);
        let failed = open_at(&copy, ALWAYS, start).map(|_| ());
        assert!(matches!(failed, Err(JournalError::Io { .. })), "read {at}: {failed:?}");
        copy.clear_faults();
        assert_eq!(open_at(&copy, ALWAYS, start).unwrap().read, expected, "read {at}");
    }
}

/// Goal: whatever bytes a file holds, opening and verifying end with an answer. Method: seeded
/// noise over parts of the files of a sound journal.
#[test]
fn noise_never_panics() {
    let disk = SimDisk::new();
    let start = run(&disk, ALWAYS, &workload()).start;
    let mut state = 1u64;
    let mut next = |bound: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    for _ in 0..300 {
        let copy = disk.fork();
        let names = postdate::env::Disk::list(&copy, dir()).unwrap();
        let path = dir().join(&names[next(names.len() as u64) as usize]);
        let len = copy.contents(&path).unwrap().len() as u64;
        for _ in 0..next(40) + 1 {
            // Rather where something stands.
            let byte = next(len) & !if next(2) == 0 { 0 } else { 0xF80 };
            copy.flip_bit(&path, byte.min(len - 1), next(8) as u8);
        }
        let mut check = |meta: &_, bytes: &[u8], at| {
            check_batch(meta, bytes, at);
            Ok(())
        };
        verify(&copy, dir(), Some(start.segment), &mut check, &mut |_, _| ()).unwrap();
        if let Ok(opened) = open_at(&copy, ALWAYS, start) {
            check_whole(&opened, "noise");
        }
    }
}
