//! Torn or rotten: damage is told, a torn tail is dropped, nothing is lost in silence.

use std::path::Path;

use postdate::base::config::Durability;
use postdate::base::limits::FRAME_ALIGN;
use postdate::env::{Disk, OpenMode};
use postdate::journal::{Journal, JournalError, JournalOptions, VerifyReport, verify};
use postdate::sim::SimDisk;

use crate::common::{
    ALWAYS, BEGINNING, Read, Start, append, check_batch, dir, open, open_at, segment_file,
};

const BLOCK: u64 = FRAME_ALIGN as u64;

/// A small journal: two or three segments, with a trimmed past or without.
fn closed_journal(trimmed: bool) -> (SimDisk, Start) {
    let disk = SimDisk::new();
    let mut start = BEGINNING;
    let mut journal = open(&disk, ALWAYS).unwrap().journal;
    for number in 1..=3 {
        append(journal.as_mut(), number, 20).unwrap();
    }
    if trimmed {
        let at = journal.roll().unwrap();
        start = Start { segment: at.segment, number: 4 };
        append(journal.as_mut(), 4, 30).unwrap();
        journal.trim(at).unwrap();
    } else {
        append(journal.as_mut(), 4, 20_000).unwrap();
    }
    drop(journal);
    let mut journal = open_at(&disk, ALWAYS, start).unwrap().journal;
    append(journal.as_mut(), 5, 40).unwrap();
    append(journal.as_mut(), 6, 5_000).unwrap();
    append(journal.as_mut(), 7, 10).unwrap();
    journal.close().unwrap();
    (disk, start)
}

fn check_report(disk: &SimDisk, start: Start) -> VerifyReport {
    let mut check = |meta: &_, bytes: &[u8], at| {
        check_batch(meta, bytes, at);
        Ok(())
    };
    verify(disk, dir(), Some(start.segment), &mut check, &mut |_, _| ()).unwrap()
}

fn segments(disk: &SimDisk) -> Vec<String> {
    let names = disk.list(dir()).unwrap().into_iter();
    names.filter(|name| !name.starts_with("spare")).collect()
}

/// What flipping one bit led to.
enum Outcome {
    Told,
    Same,
}

/// Flips a bit of a copy, opens it and verifies it.
fn flip(disk: &(SimDisk, Start), file: &Path, byte: u64, bit: u8, before: &[Read]) -> Outcome {
    let (copy, start) = (disk.0.fork(), disk.1);
    copy.flip_bit(file, byte, bit);
    let report = check_report(&copy, start);
    match open_at(&copy, ALWAYS, start) {
        Ok(opened) => {
            assert_eq!(opened.read, before, "{file:?} byte {byte} bit {bit}");
            assert_eq!(report.damage, [], "{file:?} byte {byte} bit {bit}");
            Outcome::Same
        }
        Err(JournalError::Corrupt { file: named, .. }) => {
            assert_eq!(named, file, "byte {byte} bit {bit}");
            assert!(!report.damage.is_empty(), "{file:?} byte {byte} bit {bit}");
            assert!(report.damage.iter().any(|damage| damage.file == file));
            Outcome::Told
        }
        Err(error) => panic!("{file:?} byte {byte} bit {bit}: {error}"),
    }
}

/// Goal: no flipped bit is silent. Method: every bit that a closed journal's frames use, and
/// of the headers every bit of the fields and one of each byte behind them.
#[test]
fn every_flipped_bit_is_told_or_harmless() {
    for trimmed in [false, true] {
        let disk = closed_journal(trimmed);
        let before = open_at(&disk.0.fork(), ALWAYS, disk.1).unwrap().read;
        assert_eq!(before.len(), if trimmed { 4 } else { 7 });
        let names = segments(&disk.0);
        assert_eq!(names.len(), 2);
        for (index, name) in names.iter().enumerate() {
            let file = dir().join(name);
            for byte in 0..BLOCK {
                for bit in 0..if byte < 64 { 8 } else { 1 } {
                    let bit = (bit + byte as u8) % 8;
                    let told = matches!(flip(&disk, &file, byte, bit, &before), Outcome::Told);
                    assert!(told, "{name} header byte {byte}");
                }
            }
            let mut ends = Vec::new();
            for read in before.iter().filter(|read| segment_file(read.at.segment) == file) {
                let len = match read.number {
                    4 if !trimmed => 20_000,
                    4 => 30,
                    5 => 40,
                    6 => 5_000,
                    7 => 10,
                    _ => 20,
                };
                // Of the two long ones only every 37th byte of the payload.
                for byte in (0..96 + len).filter(|byte| *byte < 200 || byte % 37 == 0) {
                    for bit in 0..if byte < 200 { 8 } else { 1 } {
                        let at = read.at.offset + byte;
                        let told = matches!(flip(&disk, &file, at, bit, &before), Outcome::Told);
                        assert!(told, "{name} batch {} byte {byte}", read.number);
                    }
                }
                ends.push(read.at.offset + (96 + len).next_multiple_of(BLOCK));
                if (96 + len) % BLOCK != 0 {
                    let padding = read.at.offset + 96 + len;
                    assert!(matches!(flip(&disk, &file, padding, 0, &before), Outcome::Same));
                }
            }
            // The mark at the end: losing it loses nothing.
            if index == 1 {
                for byte in 0..96 {
                    let at = ends.last().unwrap() + byte;
                    assert!(matches!(flip(&disk, &file, at, 3, &before), Outcome::Same));
                }
            }
        }
    }
}

/// Goal: the limit of what can be told, as the format document states it: without a mark the
/// last batch looks torn, with one it is damage.
#[test]
fn the_last_batch_is_covered_by_the_mark() {
    for mark in [false, true] {
        let disk = SimDisk::new();
        let mut journal = open(&disk, ALWAYS).unwrap().journal;
        append(journal.as_mut(), 1, 10).unwrap();
        let last = append(journal.as_mut(), 2, 10).unwrap();
        journal.maintain(5).unwrap();
        if mark {
            let due = journal.next_maintenance_ms().unwrap();
            assert_eq!(due, 1_005);
            journal.maintain(due).unwrap();
        }
        drop(journal);
        disk.flip_bit(&segment_file(1), last.offset + 100, 0);
        match open(&disk, ALWAYS) {
            Err(JournalError::Corrupt { file, offset, .. }) if mark => {
                assert_eq!((file, offset), (segment_file(1), last.offset));
            }
            Ok(opened) if !mark => {
                assert_eq!(opened.numbers(), [1]);
                let torn = opened.recovered.torn.unwrap();
                assert_eq!((torn.offset, torn.bytes), (last.offset, BLOCK));
                assert_eq!(opened.journal.stats().torn_bytes, BLOCK);
            }
            other => panic!("mark {mark}: {:?}", other.map(|opened| opened.recovered)),
        }
    }
}

/// Goal: what was never durable is a torn tail, though a later frame got to the disk whole. Method: of three
/// batches the first is synced; the second is damaged, and the third knows how far the sync went.
#[test]
fn what_was_not_durable_may_be_torn_before_what_is_whole() {
    let options = JournalOptions { durability: Durability::Os, ..ALWAYS };
    let disk = SimDisk::new();
    let mut journal = open(&disk, options).unwrap().journal;
    append(journal.as_mut(), 1, 10).unwrap();
    journal.sync().unwrap();
    let second = append(journal.as_mut(), 2, 10).unwrap();
    append(journal.as_mut(), 3, 10).unwrap();
    drop(journal);
    disk.flip_bit(&segment_file(1), second.offset + 100, 0);
    let opened = open(&disk, options).unwrap();
    assert_eq!(opened.numbers(), [1]);
    let torn = opened.recovered.torn.unwrap();
    assert_eq!((torn.offset, torn.bytes), (second.offset, 2 * BLOCK));
}

/// Goal: a last write cut anywhere is dropped and the journal goes on. Method: the file cut back
/// to what it held before at each sector of the last frame, over zeros and over an older frame.
#[test]
fn a_tail_torn_at_any_sector_is_dropped() {
    const LEN: usize = 3 * 4096 - 500;
    for stale in [false, true] {
        for cut in (0..=LEN + 96).step_by(512) {
            let disk = SimDisk::new();
            let mut journal = open(&disk, ALWAYS).unwrap().journal;
            append(journal.as_mut(), 1, 10).unwrap();
            let at = append(journal.as_mut(), 2, LEN).unwrap();
            drop(journal);
            let file = disk.open(&segment_file(1), OpenMode::Write).unwrap();
            let fill = if stale { 0xEE } else { 0 };
            let rest = vec![fill; LEN + 96 - cut];
            file.write_at(&rest, at.offset + cut as u64).unwrap();
            let report = check_report(&disk, BEGINNING);
            assert_eq!(report.damage, [], "cut {cut}");
            let mut opened = open(&disk, ALWAYS).unwrap();
            let whole = rest.is_empty();
            assert_eq!(opened.numbers(), if whole { vec![1, 2] } else { vec![1] }, "cut {cut}");
            if let Some(torn) = &report.torn {
                assert_eq!((torn.offset, cut > 0), (at.offset, true), "cut {cut}");
            }
            assert_eq!(opened.recovered.torn, report.torn, "cut {cut}");
            let next = opened.last() + 1;
            append(opened.journal.as_mut(), next, 100).unwrap();
            drop(opened);
            assert_eq!(open(&disk, ALWAYS).unwrap().last(), next, "cut {cut}");
        }
    }
}

/// Goal: what is missing or newer is named. Method: remove a file; raise a version.
#[test]
fn missing_and_newer_segments_are_named() {
    let (disk, _) = closed_journal(false);
    let gone = disk.fork();
    gone.remove(&segment_file(1)).unwrap();
    let Err(JournalError::Missing { file }) = open(&gone, ALWAYS).map(|_| ()) else { panic!() };
    assert_eq!(file, segment_file(1));
    assert!(check_report(&gone, BEGINNING).damage.iter().any(|damage| damage.file == file));

    let file = disk.open(&segment_file(2), OpenMode::Write).unwrap();
    let mut block = disk.contents(&segment_file(2)).unwrap();
    block.truncate(FRAME_ALIGN);
    block[8] = 9;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&block[..12]);
    crc.update(&block[16..]);
    block[12..16].copy_from_slice(&crc.finalize().to_le_bytes());
    file.write_at(&block, 0).unwrap();
    match open(&disk, ALWAYS).map(|_| ()) {
        Err(JournalError::NewerVersion { file, found: 9, supported: 1 }) => {
            assert_eq!(file, segment_file(2));
        }
        other => panic!("{other:?}"),
    }
}

/// Goal: a segment file that stands under the wrong name is not taken for the one it replaces.
#[test]
fn a_file_under_the_wrong_name_is_damage() {
    let (disk, _) = closed_journal(false);
    disk.rename(&segment_file(1), &segment_file(2)).unwrap();
    let Err(JournalError::Missing { file }) = open(&disk, ALWAYS).map(|_| ()) else { panic!() };
    assert_eq!(file, segment_file(1));
}

/// Goal: verify names every damaged place, not only the first. Method: three of them.
#[test]
fn verify_reports_all_damage() {
    let (disk, _) = closed_journal(false);
    disk.flip_bit(&segment_file(1), BLOCK + 3, 0);
    disk.flip_bit(&segment_file(1), 3 * BLOCK + 110, 0);
    disk.flip_bit(&segment_file(2), BLOCK + 50, 0);
    let report = check_report(&disk, BEGINNING);
    let places: Vec<_> =
        report.damage.iter().map(|damage| (damage.file.clone(), damage.offset)).collect();
    let expected =
        [(segment_file(1), BLOCK), (segment_file(1), 3 * BLOCK), (segment_file(2), BLOCK)];
    assert_eq!(places, expected, "{report:?}");
    assert_eq!((report.frames, report.marks, report.segments), (4, 1, 2));
}
