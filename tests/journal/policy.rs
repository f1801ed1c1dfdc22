//! Recovery policies: what each gives up, that it is kept, and that the next start is a clean one.

use std::path::Path;

use postdate::base::config::RecoveryPolicy;
use postdate::base::limits::FRAME_ALIGN;
use postdate::codec::frame::{BatchBuffer, FrameHeader, FrameKind};
use postdate::env::{Disk, OpenMode};
use postdate::journal::{Journal, JournalError, JournalOptions, Recovered, verify};
use postdate::sim::{FaultKind, Repeat, SimDisk, Survival};

use crate::common::{
    ALWAYS, BEGINNING, Opened, Start, append, check_batch, check_whole, dir, open, open_at, run,
    segment_file, workload,
};

pub(crate) const QUARANTINE: &str = "/quarantine";
const BLOCK: u64 = FRAME_ALIGN as u64;
pub(crate) const TRUNCATE: JournalOptions =
    JournalOptions { recovery: RecoveryPolicy::TruncateTail, ..ALWAYS };
pub(crate) const SKIP: JournalOptions =
    JournalOptions { recovery: RecoveryPolicy::SkipDamaged, ..ALWAYS };

/// Batches in each segment of [`sample`], one block each but the second, which has two.
const PER_SEGMENT: u64 = 4;
const SEGMENTS: u64 = 4;

/// Segments 1..=4 with batches 1..=16, closed.
pub(crate) fn sample() -> SimDisk {
    let disk = SimDisk::new();
    let mut journal = open(&disk, ALWAYS).unwrap().journal;
    for number in 1..=SEGMENTS * PER_SEGMENT {
        let len = if number % PER_SEGMENT == 2 { 5_000 } else { 20 };
        append(journal.as_mut(), number, len).unwrap();
        if number % PER_SEGMENT == 0 && number < SEGMENTS * PER_SEGMENT {
            journal.roll().unwrap();
        }
    }
    journal.close().unwrap();
    disk
}

/// Where a batch of [`sample`] begins: segment and offset.
fn place(number: u64) -> (u64, u64) {
    let (segment, index) = ((number - 1) / PER_SEGMENT + 1, (number - 1) % PER_SEGMENT);
    (segment, BLOCK + [0, 1, 3, 4][index as usize] * BLOCK)
}

pub(crate) fn spoil(disk: &SimDisk, number: u64) {
    let (segment, offset) = place(number);
    disk.flip_bit(&segment_file(segment), offset + 100, 2);
}

fn all_but(gone: &[u64]) -> Vec<u64> {
    (1..=SEGMENTS * PER_SEGMENT).filter(|number| !gone.contains(number)).collect()
}

fn quarantined(disk: &SimDisk) -> Vec<String> {
    disk.list(Path::new(QUARANTINE)).unwrap_or_default()
}

/// Opens with a policy; then strictly, which must show the same; then goes on.
pub(crate) fn open_and_check(
    disk: &SimDisk,
    options: JournalOptions,
    start: Start,
) -> (Vec<u64>, Recovered) {
    let opened = open_at(disk, options, start).unwrap();
    let (numbers, recovered) = (opened.numbers(), opened.recovered);
    drop(opened.journal);
    for file in &recovered.quarantined {
        assert!(disk.exists(file).unwrap(), "{file:?}");
    }
    check_sound(disk, start, &numbers);
    (numbers, recovered)
}

/// Nothing is damaged any more, and a strict opening shows these batches.
fn check_sound(disk: &SimDisk, start: Start, numbers: &[u64]) {
    let mut check = |meta: &_, bytes: &[u8], at| {
        check_batch(meta, bytes, at);
        Ok(())
    };
    let report = verify(disk, dir(), Some(start.segment), &mut check, &mut |_, _| ()).unwrap();
    assert_eq!(report.damage, []);
    disk.crash(Survival::None, 0);
    let Opened { mut journal, recovered, read, .. } = open_at(disk, ALWAYS, start).unwrap();
    assert_eq!(read.iter().map(|read| read.number).collect::<Vec<_>>(), numbers);
    assert_eq!((recovered.damage.len(), recovered.skipped_frames), (0, 0));
    append(journal.as_mut(), 1_000, 10).unwrap();
    drop(journal);
    assert_eq!(open_at(disk, ALWAYS, start).unwrap().last(), 1_000);
}

/// Goal: the default stops at damage, names the place, and changes nothing.
#[test]
fn strict_stops_and_changes_nothing() {
    let disk = sample();
    spoil(&disk, 7);
    let files = || {
        let names = disk.list(dir()).unwrap().into_iter();
        let read = |name: String| (disk.contents(&dir().join(&name)).unwrap(), name);
        names.map(read).collect::<Vec<_>>()
    };
    let before = files();
    let Err(JournalError::Corrupt { file, offset, .. }) = open(&disk, ALWAYS).map(|_| ()) else {
        panic!()
    };
    assert_eq!((file, offset), (segment_file(2), place(7).1));
    assert!(files() == before);
    assert!(quarantined(&disk).is_empty());
}

/// Goal: a bit flipped in one batch costs that batch with one policy and all behind it with the other.
/// Method: each batch in turn.
#[test]
fn a_damaged_batch_costs_what_the_policy_says() {
    let last = SEGMENTS * PER_SEGMENT;
    for number in 1..=last {
        let disk = sample();
        spoil(&disk, number);
        let (segment, offset) = place(number);
        let other = disk.fork();

        let (numbers, recovered) = open_and_check(&disk, SKIP, BEGINNING);
        assert_eq!(numbers, all_but(&[number]), "{number}");
        let len = if number % PER_SEGMENT == 2 { 2 * BLOCK } else { BLOCK };
        assert_eq!((recovered.skipped_frames, recovered.skipped_bytes), (1, len));
        let damage = &recovered.damage[0];
        assert_eq!((recovered.damage.len(), &damage.file), (1, &segment_file(segment)));
        assert_eq!(damage.offset, offset);
        let name = format!("{segment:020}-{offset}.part");
        assert_eq!(quarantined(&disk), [name.as_str()]);
        let kept = disk.contents(&Path::new(QUARANTINE).join(&name)).unwrap();
        let mut spoilt = other.contents(&segment_file(segment)).unwrap();
        spoilt.drain(..offset as usize);
        assert_eq!(kept, spoilt[..len as usize], "{number}");

        let (numbers, recovered) = open_and_check(&other, TRUNCATE, BEGINNING);
        assert_eq!(numbers, Vec::from_iter(1..number), "{number}");
        assert_eq!(
            (recovered.damage.len(), &recovered.damage[0].file),
            (1, &segment_file(segment))
        );
        assert_eq!(recovered.damage[0].offset, offset);
        assert_eq!(recovered.skipped_segments, SEGMENTS - segment);
        assert_eq!(quarantined(&other).len() as u64, SEGMENTS - segment + 1);
    }
}

/// Goal: a segment that is gone costs its batches, or with them all behind. Method: each run of one or
/// two segments but the last, which nothing could tell.
#[test]
fn missing_segments_cost_what_the_policy_says() {
    for first in 1..SEGMENTS {
        for last in first..SEGMENTS.min(first + 2) {
            let disk = sample();
            for segment in first..=last {
                disk.remove(&segment_file(segment)).unwrap();
            }
            let Err(JournalError::Missing { file }) = open(&disk.fork(), ALWAYS).map(|_| ()) else {
                panic!()
            };
            assert_eq!(file, segment_file(first));
            let other = disk.fork();
            let gone: Vec<_> = ((first - 1) * PER_SEGMENT + 1..=last * PER_SEGMENT).collect();
            let (numbers, recovered) = open_and_check(&disk, SKIP, BEGINNING);
            assert_eq!(numbers, all_but(&gone), "{first}..={last}");
            // Without anything before it nobody knows how many there were.
            let lost = if first == 1 { 1 } else { gone.len() as u64 };
            assert_eq!(recovered.skipped_frames, lost, "{first}..={last}");
            assert_eq!(recovered.skipped_segments, last - first + 1);
            assert_eq!(recovered.damage.len() as u64, last - first + 1);

            let (numbers, recovered) = open_and_check(&other, TRUNCATE, BEGINNING);
            assert_eq!(numbers, Vec::from_iter(1..gone[0]), "{first}..={last}");
            assert_eq!(recovered.damage[0].file, segment_file(first));
            assert_eq!(quarantined(&other).len() as u64, SEGMENTS - last);
        }
    }
}

/// Goal: the segment named as the first may be damaged or gone like any other, and with it everything.
#[test]
fn the_first_segment_named_may_be_gone() {
    let start = Start { segment: 3, number: 9 };
    let everything = Start { segment: 9, number: 1 };
    for options in [SKIP, TRUNCATE] {
        let skip = options == SKIP;
        let disk = sample();
        disk.remove(&segment_file(3)).unwrap();
        let (numbers, _) = open_and_check(&disk, options, start);
        assert_eq!(numbers, if skip { Vec::from_iter(13..=16) } else { Vec::new() });

        let disk = sample();
        disk.flip_bit(&segment_file(3), 20, 0);
        let (numbers, recovered) = open_and_check(&disk, options, start);
        assert_eq!(numbers, if skip { Vec::from_iter(9..=16) } else { Vec::new() });
        assert_eq!((recovered.skipped_frames, recovered.damage[0].offset), (0, 0));

        let disk = sample();
        let (numbers, recovered) = open_and_check(&disk, options, everything);
        assert!(numbers.is_empty());
        assert_eq!(recovered.damage[0].file, segment_file(9));
    }
}

/// Goal: whatever one block holds, a policy goes on with everything else. Method: each used block of
/// each file spoilt at several places, alone and with a second one.
#[test]
fn every_block_may_be_spoilt() {
    let sample = sample();
    for at in 0..SEGMENTS * 6 {
        for byte in [0, 9, 20, 30, 50, 2_000] {
            for second in [None, Some(at + 1), Some(at + 7)] {
                let disk = sample.fork();
                let mut touched = Vec::new();
                for block in [Some(at), second].into_iter().flatten() {
                    let (segment, block) = (block / 6 + 1, block % 6);
                    if segment > SEGMENTS {
                        continue;
                    }
                    disk.flip_bit(&segment_file(segment), block * BLOCK + byte, 5);
                    let in_block = |number: &u64| {
                        let (of, offset) = place(*number);
                        let len = if *number % PER_SEGMENT == 2 { 2 } else { 1 };
                        of == segment && (offset / BLOCK..offset / BLOCK + len).contains(&block)
                    };
                    touched.extend(all_but(&[]).into_iter().filter(in_block));
                }
                let context = format!("block {at}, byte {byte}, {second:?}");
                let sound = open(&disk.fork(), ALWAYS).map(|opened| opened.numbers()).ok();
                let other = disk.fork();
                let (numbers, recovered) = open_and_check(&disk, SKIP, BEGINNING);
                assert!(all_but(&touched).iter().all(|n| numbers.contains(n)), "{context}");
                let lost = SEGMENTS * PER_SEGMENT - numbers.len() as u64;
                let torn = u64::from(recovered.torn.is_some());
                assert!(recovered.skipped_frames + torn >= lost, "{context}: {recovered:?}");
                assert_eq!(sound.is_some(), recovered.damage.is_empty(), "{context}");
                let (numbers, _) = open_and_check(&other, TRUNCATE, BEGINNING);
                assert_eq!(numbers, Vec::from_iter(1..=numbers.len() as u64), "{context}");
                if let Some(sound) = sound {
                    assert_eq!(numbers, sound, "{context}");
                }
            }
        }
    }
}

/// Several kinds of damage at once.
fn badly_damaged() -> SimDisk {
    let disk = sample();
    spoil(&disk, 2);
    disk.remove(&segment_file(2)).unwrap();
    disk.sync_dir(dir()).unwrap();
    disk.flip_bit(&segment_file(3), 40, 1);
    spoil(&disk, 9);
    spoil(&disk, 14);
    disk
}

/// Goal: a crash or an error while damage is put aside loses nothing more. Method: every operation of
/// the opening, every survival; then the same policy again, and strict.
#[test]
fn putting_aside_may_be_cut_off_anywhere() {
    for options in [SKIP, TRUNCATE] {
        let disk = badly_damaged();
        let clean = disk.fork();
        let opened = open(&clean, options).unwrap();
        let expected = opened.numbers();
        let gone = [2, 5, 6, 7, 8, 9, 14];
        assert_eq!(expected, if options == SKIP { all_but(&gone) } else { vec![1] });
        for at in 0..clean.operations() {
            for survival in Survival::ALL {
                let disk = disk.fork();
                disk.fail_at(at, FaultKind::CrashNow, Repeat::Once);
                let _ = open(&disk, options);
                disk.crash(survival, at);
                let (numbers, _) = open_and_check(&disk, options, BEGINNING);
                assert_eq!(numbers, expected, "{at} {survival:?}");
            }
            for kind in [FaultKind::Eio, FaultKind::Enospc, FaultKind::ShortWrite] {
                let disk = disk.fork();
                disk.fail_at(at, kind, Repeat::Once);
                let failed = open(&disk, options).map(|_| ()).err();
                assert!(
                    matches!(
                        failed,
                        None | Some(JournalError::Io { .. } | JournalError::Full { .. })
                    ),
                    "{failed:?}"
                );
                disk.clear_faults();
                let (numbers, _) = open_and_check(&disk, options, BEGINNING);
                assert_eq!(numbers, expected, "{kind:?} {at}");
            }
        }
    }
}

/// Goal: with noise anywhere a policy ends with an answer, and what it answers is true from then on.
#[test]
fn noise_with_a_policy_ends_in_a_sound_journal() {
    let disk = SimDisk::new();
    let start = run(&disk, ALWAYS, &workload()).start;
    let written = open_at(&disk.fork(), ALWAYS, start).unwrap();
    check_whole(&written, "before");
    for (index, journal) in [(disk, start), (sample(), BEGINNING)].into_iter().enumerate() {
        let mut state = index as u64 + 1;
        let mut next = |bound: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        for round in 0..300 {
            let disk = journal.0.fork();
            let mut names = disk.list(dir()).unwrap();
            for _ in 0..next(5) + 1 {
                let path = dir().join(&names[next(names.len() as u64) as usize]);
                let Ok(bytes) = disk.contents(&path) else { continue };
                if next(12) == 0 {
                    disk.remove(&path).unwrap();
                    names.retain(|name| dir().join(name) != path);
                    if names.is_empty() {
                        break;
                    }
                    continue;
                }
                for _ in 0..next(6) + 1 {
                    let byte = next(bytes.len() as u64) & !if next(2) == 0 { 0 } else { 0xF80 };
                    disk.flip_bit(&path, byte, next(8) as u8);
                }
            }
            let options = if round % 2 == 0 { SKIP } else { TRUNCATE };
            let opened = open_at(&disk, options, journal.1).unwrap_or_else(|error| {
                panic!("{round}: {error}");
            });
            let numbers = opened.numbers();
            assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{round}");
            drop(opened);
            check_sound(&disk, journal.1, &numbers);
        }
    }
}

/// Goal: what a damaged batch carries is not read as a batch, although it looks like one. Method: a
/// payload that holds a valid frame of its segment at a block's beginning; in the last segment and in another.
#[test]
fn a_frame_inside_a_damaged_payload_is_not_read() {
    for last in [true, false] {
        let disk = SimDisk::new();
        let mut journal = open(&disk, ALWAYS).unwrap().journal;
        append(journal.as_mut(), 1, 10).unwrap();
        let mut inner = BatchBuffer::new();
        inner.extend(b"forged");
        let kind = FrameKind::Batch;
        let forged =
            inner.seal(&FrameHeader { segment: 1, number: 3, kind, ..FrameHeader::default() });
        let mut batch = BatchBuffer::new();
        batch.extend(&vec![7; FRAME_ALIGN - 96]);
        batch.extend(forged);
        let at = journal.append(&crate::common::meta(2), &mut batch).unwrap();
        append(journal.as_mut(), 3, 10).unwrap();
        if !last {
            journal.roll().unwrap();
        }
        append(journal.as_mut(), 4, 10).unwrap();
        journal.close().unwrap();
        disk.flip_bit(&segment_file(1), at.offset + 200, 0);
        let (numbers, recovered) = open_and_check(&disk, SKIP, BEGINNING);
        assert_eq!((numbers, recovered.skipped_frames), (vec![1, 3, 4], 1));
    }
}

/// Goal: a file with a wild name does not make millions of files.
#[test]
fn a_wild_name_is_not_filled_up_to() {
    for options in [SKIP, TRUNCATE] {
        let disk = sample();
        disk.rename(&segment_file(2), &segment_file(1 << 40)).unwrap();
        disk.rename(&segment_file(3), &segment_file(2)).unwrap();
        disk.sync_dir(dir()).unwrap();
        let (numbers, _) = open_and_check(&disk, options, BEGINNING);
        assert_eq!(numbers[..4], [1, 2, 3, 4]);
        assert!(disk.list(dir()).unwrap().len() < 10);
    }
}

/// Goal: what was put aside once is never written over. Method: the same damage in the same place,
/// after the files are back as they were.
#[test]
fn what_was_put_aside_stays() {
    let disk = sample();
    let saved: Vec<_> =
        (1..=SEGMENTS).map(|id| disk.contents(&segment_file(id)).unwrap()).collect();
    for round in 1..=3 {
        for (id, bytes) in (1..).zip(&saved) {
            let file = disk.open(&segment_file(id), OpenMode::Write).unwrap();
            file.set_len(0).unwrap();
            file.write_at(bytes, 0).unwrap();
        }
        spoil(&disk, 7);
        assert_eq!(open(&disk, TRUNCATE).unwrap().last(), 6);
        assert_eq!(quarantined(&disk).len(), 3 * round);
    }
    assert!(quarantined(&disk).contains(&format!("{:020}.wal.2", 4)));
}
