//! A full disk refuses new messages, never what frees space, and service resumes by itself.

use postdate::journal::{Journal, JournalError, Room};
use postdate::sim::{SimDisk, Survival};

use crate::common::{ALWAYS, SEGMENT, append, check_whole, open};

const LEN: usize = 8_000;

/// Appends with upkeep until the room is short; the number of the last batch.
fn fill(journal: &mut dyn Journal, mut number: u64) -> u64 {
    while journal.room() == Room::Plenty {
        number += 1;
        append(journal, number, LEN, false).unwrap();
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
        match append(journal.as_mut(), number + 1, LEN, false) {
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
    append(journal.as_mut(), number + 1, LEN, false).unwrap();
    disk.crash(Survival::None, 0);
    let opened = open(&disk, ALWAYS).unwrap();
    check_whole(&opened.read, "after");
    assert_eq!(opened.last(), number + 1);
}

/// Goal: a disk that the journal itself has filled is freed by a baseline, without more space.
#[test]
fn a_baseline_frees_a_disk_full_of_journal() {
    let disk = SimDisk::new();
    disk.set_capacity(Some(4 * SEGMENT));
    let mut journal = open(&disk, ALWAYS).unwrap().journal;
    let mut number = 0;
    for _ in 0..10 {
        number = fill(journal.as_mut(), number) + 1;
        let at = append(journal.as_mut(), number, LEN, true).unwrap();
        journal.trim(at).unwrap();
        journal.maintain(number).unwrap();
        assert_eq!(journal.room(), Room::Plenty);
    }
    drop(journal);
    assert_eq!(open(&disk, ALWAYS).unwrap().last(), number);
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
        append(journal.as_mut(), number + 1, LEN, true).unwrap();
    }
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
    append(opened.journal.as_mut(), 1, LEN, false).unwrap();
}
