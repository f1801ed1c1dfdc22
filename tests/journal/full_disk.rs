//! A full disk refuses new messages, never what frees space, and service resumes by itself.

use postdate::env::Disk;
use postdate::journal::{Journal, JournalError, Position, Room};
use postdate::sim::{FaultKind, Repeat, SimDisk, Survival};

use crate::common::{ALWAYS, BEGINNING, SEGMENT, Start, append, check_whole, dir, open, open_at};

const LEN: usize = 8_000;

/// Appends with upkeep until the room is short; the number of the last batch.
fn fill(journal: &mut dyn Journal, mut number: u64) -> u64 {
    while journal.room() == Room::Plenty {
        number += 1;
        append(journal, number, LEN).unwrap();
        journal.maintain(number).unwrap();
        assert!(number < 1_000, "the disk never fills");
    }
    number
}

/// Goal: from the moment the room is short, at least a whole segment can still be appended; when
/// that is used up the journal says so without latching; with space again it goes on by itself.
#[test]
fn the_reserve_takes_a_segment_and_service_resumes() {
    let disk = SimDisk::new();
    disk.set_capacity(Some(4 * SEGMENT));
    let mut journal = open(&disk, ALWAYS).unwrap().journal;
    let mut number = fill(journal.as_mut(), 0);
    let mut reserve = 0;
    loop {
        match append(journal.as_mut(), number + 1, LEN) {
            Ok(_) => {
                number += 1;
                reserve += LEN as u64;
            }
            Err(JournalError::Full { .. }) => break,
            Err(error) => panic!("{error}"),
        }
        journal.maintain(number).unwrap();
        assert_eq!(journal.room(), Room::ReserveOnly);
    }
    assert!(reserve >= SEGMENT, "only {reserve}");
    disk.set_capacity(None);
    assert_eq!(journal.room(), Room::ReserveOnly);
    let retry = journal.next_maintenance_ms().unwrap();
    journal.maintain(retry).unwrap();
    assert_eq!(journal.room(), Room::Plenty);
    append(journal.as_mut(), number + 1, LEN).unwrap();
    disk.crash(Survival::None, 0);
    let opened = open(&disk, ALWAYS).unwrap();
    check_whole(&opened, "after");
    assert_eq!(opened.last(), number + 1);
}

/// Goal: a disk that the journal itself has filled is freed by roll and trim, without more space.
#[test]
fn roll_and_trim_free_a_disk_full_of_journal() {
    let disk = SimDisk::new();
    disk.set_capacity(Some(4 * SEGMENT));
    let mut journal = open(&disk, ALWAYS).unwrap().journal;
    let (mut number, mut start) = (0, BEGINNING);
    for _ in 0..10 {
        number = fill(journal.as_mut(), number);
        let at = journal.roll().unwrap();
        start = Start { segment: at.segment, number: number + 1 };
        journal.trim(at).unwrap();
        journal.maintain(number).unwrap();
        assert_eq!(journal.room(), Room::Plenty);
    }
    drop(journal);
    assert_eq!(open_at(&disk, ALWAYS, start).unwrap().last(), number);
}

/// Goal: a server can be started on a full disk, whichever way it ended. Method: fill, take all
/// free space away, end, start; the reserve is used to start.
#[test]
fn a_start_on_a_full_disk_works() {
    for crash in [false, true] {
        let disk = SimDisk::new();
        disk.set_capacity(Some(4 * SEGMENT));
        let mut journal = open(&disk, ALWAYS).unwrap().journal;
        let number = fill(journal.as_mut(), 0);
        disk.set_capacity(Some(disk.used_bytes()));
        drop(journal);
        for round in 0..4 {
            if crash {
                disk.crash(Survival::ALL[round], 5);
            }
            let mut opened = open(&disk, ALWAYS).unwrap();
            assert_eq!(opened.last(), number);
            opened.journal.maintain(10).unwrap();
        }
        let mut journal = open(&disk, ALWAYS).unwrap().journal;
        append(journal.as_mut(), number + 1, LEN).unwrap();
    }
}

/// Goal: the segment that replay is to begin with is there at every moment, also when there is no
/// space for another file in its place. Method: it is empty but for a torn write, the disk full; a
/// crash at every operation of the opening.
#[test]
fn an_empty_first_segment_survives_a_start_on_a_full_disk() {
    let disk = SimDisk::new();
    let mut journal = open(&disk, ALWAYS).unwrap().journal;
    append(journal.as_mut(), 1, LEN).unwrap();
    let start = Start { segment: journal.roll().unwrap().segment, number: 2 };
    journal.trim(journal.end()).unwrap();
    let torn = disk.operations();
    disk.fail_at(torn, FaultKind::ShortWrite, Repeat::Once);
    append(journal.as_mut(), 2, LEN).unwrap_err();
    drop(journal);
    disk.clear_faults();
    for name in disk.list(dir()).unwrap() {
        if name.starts_with("spare") {
            disk.remove(&dir().join(name)).unwrap();
        }
    }
    disk.set_capacity(Some(disk.used_bytes()));
    let clean = disk.fork();
    drop(open_at(&clean, ALWAYS, start).unwrap());
    let needed = clean.operations();
    assert!(needed >= 4, "only {needed}");
    for at in 0..needed {
        for survival in Survival::ALL {
            let disk = disk.fork();
            disk.fail_at(at, FaultKind::CrashNow, Repeat::Once);
            // It ends with a try to make a spare, which may fail.
            let _ = open_at(&disk, ALWAYS, start);
            disk.crash(survival, at);
            let mut opened = open_at(&disk, ALWAYS, start).unwrap();
            assert_eq!(opened.last(), 1);
            append(opened.journal.as_mut(), 2, 10).unwrap();
            drop(opened);
            disk.set_capacity(None);
            assert_eq!(open_at(&disk, ALWAYS, start).unwrap().numbers(), [2]);
        }
    }
}

/// Goal: a roll that finds no space changes nothing and works later.
#[test]
fn a_roll_without_space_may_be_tried_again() {
    let disk = SimDisk::new();
    disk.set_capacity(Some(SEGMENT));
    let mut journal = open(&disk, ALWAYS).unwrap().journal;
    append(journal.as_mut(), 1, LEN).unwrap();
    assert!(matches!(journal.roll(), Err(JournalError::Full { .. })));
    append(journal.as_mut(), 2, LEN).unwrap();
    disk.set_capacity(None);
    let at = journal.roll().unwrap();
    assert_eq!(at, Position { segment: 2, offset: 4096 });
    append(journal.as_mut(), 3, LEN).unwrap();
    drop(journal);
    assert_eq!(open(&disk, ALWAYS).unwrap().numbers(), [1, 2, 3]);
}

/// Goal: without any space the first start says so.
#[test]
fn a_first_start_without_space_says_so() {
    let disk = SimDisk::new();
    disk.set_capacity(Some(SEGMENT - 1));
    assert!(matches!(open(&disk, ALWAYS), Err(JournalError::Full { .. })));
    assert_eq!(disk.used_bytes(), 0);
    disk.set_capacity(Some(SEGMENT));
    let mut opened = open(&disk, ALWAYS).unwrap();
    assert_eq!(opened.journal.room(), Room::ReserveOnly);
    append(opened.journal.as_mut(), 1, LEN).unwrap();
}

/// Goal: more spares than the reserve needs are given back when asked for. Method: as many as a trim
/// leaves.
#[test]
fn spares_beyond_the_reserve_can_be_given_back() {
    let disk = SimDisk::new();
    let mut journal = open(&disk, ALWAYS).unwrap().journal;
    let mut at = journal.end();
    for number in 1..=6 {
        append(journal.as_mut(), number, LEN).unwrap();
        at = journal.roll().unwrap();
    }
    journal.trim(at).unwrap();
    assert!(journal.stats().spares > 2);
    journal.shed_spares();
    let stats = journal.stats();
    assert_eq!((stats.spares, stats.disk_bytes), (1, 2 * SEGMENT));
    assert_eq!(disk.used_bytes(), stats.disk_bytes);
    assert_eq!(journal.room(), Room::Plenty);
}

/// Goal: a start that finds no space for its first segment changes nothing, and may be tried again. Method: a
/// closed journal without spares on a full disk.
#[test]
fn a_start_without_space_leaves_no_segment_behind() {
    let disk = SimDisk::new();
    let mut journal = open(&disk, ALWAYS).unwrap().journal;
    append(journal.as_mut(), 1, LEN).unwrap();
    journal.close().unwrap();
    let names = || disk.list(dir()).unwrap();
    for spare in names().into_iter().filter(|name| name.starts_with("spare")) {
        disk.remove(&dir().join(spare)).unwrap();
    }
    let before = names();
    disk.set_capacity(Some(disk.used_bytes()));
    for _ in 0..2 {
        let refused = open(&disk, ALWAYS).map(|_| ());
        assert!(matches!(refused, Err(JournalError::Full { .. })), "{refused:?}");
        assert_eq!(names(), before);
        disk.set_capacity(Some(disk.used_bytes()));
    }
    disk.set_capacity(None);
    assert_eq!(open(&disk, ALWAYS).unwrap().last(), 1);
}
