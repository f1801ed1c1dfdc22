//! What a backup copies of a journal.

use postdate::env::{Disk, OpenMode};
use postdate::journal::{Journal, JournalError, parts};
use postdate::sim::SimDisk;

use crate::common::{ALWAYS, Start, append, dir, open, open_at, segment_file};

/// Goal: the parts are a journal of exactly what was written before the roll, and of nothing behind it.
/// Method: batches in three segments and more behind; the parts copied to another disk, and opened.
#[test]
fn the_parts_are_what_was_written_before_the_roll() {
    let disk = SimDisk::new();
    let mut journal = open(&disk, ALWAYS).unwrap().journal;
    for number in 1..=6 {
        append(journal.as_mut(), number, 5_000).unwrap();
        if number % 2 == 0 {
            journal.roll().unwrap();
        }
    }
    append(journal.as_mut(), 7, 100).unwrap();
    for (from, first) in [(0, 1), (1, 1), (2, 3), (4, 7)] {
        let found = parts(&disk, dir(), from, 4).unwrap();
        assert_eq!(found.len() as u64, 5 - from.max(1));
        let copy = SimDisk::new();
        copy.create_dir_all(dir()).unwrap();
        for part in &found {
            let bytes = disk.contents(&part.file).unwrap();
            let to = copy.open(&part.file, OpenMode::Durable).unwrap();
            to.write_at(&bytes[..part.bytes as usize], 0).unwrap();
        }
        let start = Start { segment: from, number: first };
        let opened = open_at(&copy, ALWAYS, start).unwrap();
        assert_eq!(opened.numbers(), (first..=6).collect::<Vec<_>>());
    }
}

/// Goal: a part that cannot be copied is an error that names it. Method: a segment that is not there, and one
/// whose header is not right.
#[test]
fn a_part_that_is_not_right_is_told() {
    let disk = SimDisk::new();
    let mut journal = open(&disk, ALWAYS).unwrap().journal;
    append(journal.as_mut(), 1, 100).unwrap();
    journal.roll().unwrap();
    let missing = parts(&disk, dir(), 1, 3).unwrap_err();
    assert!(matches!(missing, JournalError::Missing { file } if file == segment_file(3)));
    disk.flip_bit(&segment_file(2), 20, 0);
    let corrupt = parts(&disk, dir(), 1, 2).unwrap_err();
    assert!(matches!(corrupt, JournalError::Corrupt { file, .. } if file == segment_file(2)));
}
