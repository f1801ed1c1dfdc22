//! What opening tells of what it found: every count, every file, for each kind of damage under each policy.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use postdate::base::config::RecoveryPolicy;
use postdate::base::limits::FRAME_ALIGN;
use postdate::codec::frame::{BatchBuffer, FrameHeader};
use postdate::codec::segment::SegmentHeader;
use postdate::env::{Disk, OpenMode};
use postdate::journal::{
    self, Damage, Journal, JournalError, JournalOptions, Position, Recovered, Torn,
};
use postdate::sim::SimDisk;

use crate::common::{ALWAYS, BEGINNING, SEGMENT, Start, append, dir, meta, open_at, segment_file};
use crate::policy::{QUARANTINE, SKIP, TRUNCATE, open_and_check, sample, spoil};

const BLOCK: u64 = FRAME_ALIGN as u64;
/// Where the batches of a segment of `sample` end.
const END: u64 = 6 * BLOCK;
/// Payload bytes of the batches of a segment of `sample`.
const SEGMENT_PAYLOAD: u64 = 5_060;

fn at(segment: u64, offset: u64) -> Position {
    Position { segment, offset }
}

/// What a start tells of a sound `sample`.
fn whole() -> Recovered {
    Recovered {
        batches: 16,
        payload_bytes: 4 * SEGMENT_PAYLOAD,
        segments: 4,
        start: at(1, BLOCK),
        end: at(4, END + BLOCK),
        last: Some(meta(16)),
        ..Recovered::default()
    }
}

/// Where the damage is and what it is, and the names in the quarantine, as they should be told.
fn lost(damage: &[(u64, u64, &str)], quarantined: &[&str]) -> (Vec<Damage>, Vec<PathBuf>) {
    let place = |&(segment, offset, why): &(u64, u64, &str)| Damage {
        file: segment_file(segment),
        offset,
        why: why.into(),
    };
    let path = |name: &&str| {
        let (number, rest) = name.split_at(1);
        Path::new(QUARANTINE).join(format!("{:0>20}{rest}", number))
    };
    (damage.iter().map(place).collect(), quarantined.iter().map(path).collect())
}

/// Puts a frame of this number there, which says that the segment was durable up to `durable_offset`.
fn forge(disk: &SimDisk, segment: u64, offset: u64, number: u64, durable_offset: u64) {
    let mut batch = BatchBuffer::new();
    batch.extend(b"forged");
    let frame = batch.seal(&FrameHeader {
        segment,
        number,
        durable_segment: segment,
        durable_offset,
        ..FrameHeader::default()
    });
    let file = disk.open(&segment_file(segment), OpenMode::Write).unwrap();
    file.write_at(frame, offset).unwrap();
}

fn write_header(disk: &SimDisk, header: SegmentHeader) {
    let mut block = [0; FRAME_ALIGN];
    header.encode(&mut block);
    let file = disk.open(&segment_file(header.segment), OpenMode::Write).unwrap();
    file.write_at(&block, 0).unwrap();
}

/// A segment of which there is nothing but a name.
fn begin_empty(disk: &SimDisk, segment: u64) {
    let file = disk.open(&segment_file(segment), OpenMode::Write).unwrap();
    file.write_at(&[0; FRAME_ALIGN], 0).unwrap();
}

const CHECKSUM: &str = "the checksum of the frame does not match";
const HEADER: &str = "the segment header is invalid";
const MISSING: &str = "the segment is missing";

/// Goal: the operator is told exactly what was lost, and where it is kept. Method: each kind of damage, all that
/// is told compared with what was written, under both policies that go on.
#[test]
fn what_was_lost_is_told_exactly() {
    let check = |name: &str,
                 damage: &dyn Fn(&SimDisk),
                 skip: (Vec<Damage>, Vec<PathBuf>),
                 skipped: Recovered,
                 truncate: (Vec<Damage>, Vec<PathBuf>),
                 truncated: Recovered| {
        for (options, (damaged, quarantined), expected) in
            [(SKIP, skip, skipped), (TRUNCATE, truncate, truncated)]
        {
            let disk = sample();
            damage(&disk);
            let (_, recovered) = open_and_check(&disk, options, BEGINNING);
            let expected = Recovered { damage: damaged, quarantined, ..expected };
            assert_eq!(recovered, expected, "{name}, {:?}", options.recovery);
        }
    };
    let nothing = || lost(&[], &[]);
    let torn = |offset| {
        let torn = Torn { file: segment_file(4), offset, bytes: BLOCK };
        Some(torn)
    };
    check("nothing", &|_| (), nothing(), whole(), nothing(), whole());
    check(
        "a batch",
        &|disk| spoil(disk, 7),
        lost(&[(2, 4 * BLOCK, CHECKSUM)], &["2-16384.part"]),
        Recovered {
            batches: 15,
            payload_bytes: 4 * SEGMENT_PAYLOAD - 20,
            skipped_frames: 1,
            skipped_bytes: BLOCK,
            ..whole()
        },
        lost(&[(2, 4 * BLOCK, CHECKSUM)], &["2-16384.part", "4.wal", "3.wal"]),
        Recovered {
            batches: 6,
            payload_bytes: 2 * SEGMENT_PAYLOAD - 40,
            segments: 2,
            end: at(2, 4 * BLOCK),
            last: Some(meta(6)),
            skipped_bytes: 2 * BLOCK,
            skipped_segments: 2,
            ..whole()
        },
    );
    let without_16 = Recovered {
        batches: 15,
        payload_bytes: 4 * SEGMENT_PAYLOAD - 20,
        last: Some(meta(15)),
        ..whole()
    };
    check(
        "the last batch, with the mark behind it",
        &|disk| spoil(disk, 16),
        lost(&[(4, 5 * BLOCK, CHECKSUM)], &["4-20480.part"]),
        Recovered { skipped_frames: 1, skipped_bytes: BLOCK, ..without_16.clone() },
        lost(&[(4, 5 * BLOCK, CHECKSUM)], &["4-20480.part"]),
        Recovered {
            end: at(4, 5 * BLOCK),
            skipped_bytes: SEGMENT - 5 * BLOCK,
            ..without_16.clone()
        },
    );
    let cut = Recovered { end: at(4, 5 * BLOCK), torn: torn(5 * BLOCK), ..without_16 };
    let tear = |disk: &SimDisk| {
        spoil(disk, 16);
        disk.flip_bit(&segment_file(4), END + 50, 0);
    };
    check("a torn tail", &tear, nothing(), cut.clone(), nothing(), cut.clone());
    check(
        "a batch and a torn tail, which may be damage then",
        &|disk| {
            spoil(disk, 7);
            tear(disk);
        },
        lost(&[(2, 4 * BLOCK, CHECKSUM)], &["2-16384.part", "4-20480.part"]),
        Recovered {
            batches: 14,
            payload_bytes: 4 * SEGMENT_PAYLOAD - 40,
            skipped_frames: 1,
            skipped_bytes: BLOCK,
            ..cut
        },
        lost(&[(2, 4 * BLOCK, CHECKSUM)], &["2-16384.part", "4.wal", "3.wal"]),
        Recovered {
            batches: 6,
            payload_bytes: 2 * SEGMENT_PAYLOAD - 40,
            segments: 2,
            end: at(2, 4 * BLOCK),
            last: Some(meta(6)),
            skipped_bytes: 2 * BLOCK,
            skipped_segments: 2,
            ..whole()
        },
    );
    let up_to_14 = Recovered {
        batches: 14,
        payload_bytes: 4 * SEGMENT_PAYLOAD - 40,
        end: at(4, 4 * BLOCK),
        last: Some(meta(14)),
        skipped_bytes: SEGMENT - 4 * BLOCK,
        ..whole()
    };
    check(
        "the end of the last segment, which was durable, with nothing that could follow",
        &|disk| {
            spoil(disk, 15);
            forge(disk, 4, 5 * BLOCK, 3, 5 * BLOCK);
            disk.flip_bit(&segment_file(4), END + 50, 0);
        },
        lost(&[(4, 4 * BLOCK, CHECKSUM)], &["4-16384.part"]),
        up_to_14.clone(),
        lost(&[(4, 4 * BLOCK, CHECKSUM)], &["4-16384.part"]),
        up_to_14,
    );
    let two_segments = Recovered {
        batches: 8,
        payload_bytes: 2 * SEGMENT_PAYLOAD,
        segments: 2,
        end: at(2, END),
        last: Some(meta(8)),
        skipped_segments: 2,
        ..whole()
    };
    check(
        "a header",
        &|disk| disk.flip_bit(&segment_file(3), 20, 0),
        lost(&[(3, 0, HEADER)], &["3-0.part"]),
        Recovered { skipped_bytes: BLOCK, ..whole() },
        lost(&[(3, 0, HEADER)], &["4.wal", "3.wal"]),
        two_segments.clone(),
    );
    check(
        "a header and the last batch of the segment before",
        &|disk| {
            disk.flip_bit(&segment_file(3), 20, 0);
            spoil(disk, 8);
        },
        lost(&[(3, 0, HEADER)], &["2-20480.part", "3-0.part"]),
        Recovered {
            batches: 15,
            payload_bytes: 4 * SEGMENT_PAYLOAD - 20,
            skipped_frames: 1,
            skipped_bytes: 2 * BLOCK,
            ..whole()
        },
        lost(&[(3, 0, HEADER)], &["2-20480.part", "4.wal", "3.wal"]),
        Recovered {
            batches: 7,
            payload_bytes: 2 * SEGMENT_PAYLOAD - 20,
            end: at(2, 5 * BLOCK),
            last: Some(meta(7)),
            torn: Some(Torn { file: segment_file(2), offset: 5 * BLOCK, bytes: BLOCK }),
            ..two_segments
        },
    );
    check(
        "a segment",
        &|disk| disk.remove(&segment_file(2)).unwrap(),
        lost(&[(2, 0, MISSING)], &[]),
        Recovered {
            batches: 12,
            payload_bytes: 3 * SEGMENT_PAYLOAD,
            segments: 3,
            skipped_frames: 4,
            skipped_bytes: END - BLOCK,
            skipped_segments: 1,
            ..whole()
        },
        lost(&[(2, 0, MISSING)], &["4.wal", "3.wal"]),
        Recovered {
            batches: 4,
            payload_bytes: SEGMENT_PAYLOAD,
            segments: 1,
            end: at(1, END),
            last: Some(meta(4)),
            skipped_segments: 3,
            ..whole()
        },
    );
    let three_segments = Recovered {
        batches: 12,
        payload_bytes: 3 * SEGMENT_PAYLOAD,
        segments: 3,
        end: at(3, END),
        last: Some(meta(12)),
        ..whole()
    };
    check(
        "the last segment but one, before one that holds nothing",
        &|disk| {
            disk.remove(&segment_file(4)).unwrap();
            begin_empty(disk, 5);
        },
        lost(&[(5, 0, "it holds nothing and what should be before it is missing")], &["5.wal"]),
        Recovered { skipped_segments: 1, ..three_segments.clone() },
        lost(&[(4, 0, MISSING)], &["5.wal"]),
        Recovered { skipped_segments: 2, ..three_segments },
    );
    check(
        "one that was never finished",
        &|disk| begin_empty(disk, 5),
        nothing(),
        whole(),
        nothing(),
        whole(),
    );
}

/// Goal: what stands behind a damaged place is only read if it can be of this segment. Method: the last
/// batches of a segment damaged, and a frame forged with the number of one of them, or whose number or
/// whose end the next segment rules out.
#[test]
fn what_cannot_be_of_the_segment_is_not_read() {
    for (number, offset) in [(7, 5 * BLOCK), (9, 5 * BLOCK), (8, END)] {
        let disk = sample();
        spoil(&disk, 7);
        spoil(&disk, 8);
        forge(&disk, 2, offset, number, BLOCK);
        let (numbers, recovered) = open_and_check(&disk, SKIP, BEGINNING);
        assert_eq!(numbers, Vec::from_iter((1..=6).chain(9..=16)), "{number}");
        assert_eq!((recovered.skipped_frames, recovered.skipped_bytes), (2, 2 * BLOCK));
    }
}

/// Goal: what only looks like the frame that follows does not end the search for it. Method: a batch whose header
/// is damaged, with an old frame in it.
#[test]
fn the_search_goes_on_behind_what_cannot_follow() {
    let disk = sample();
    disk.flip_bit(&segment_file(4), 2 * BLOCK, 0);
    forge(&disk, 4, 3 * BLOCK, 3, BLOCK);
    let (numbers, recovered) = open_and_check(&disk, SKIP, BEGINNING);
    assert_eq!(numbers, Vec::from_iter((1..=13).chain(15..=16)));
    assert_eq!((recovered.skipped_frames, recovered.skipped_bytes), (1, 2 * BLOCK));
}

/// Goal: the same where the damaged frame itself says where it ends. Method: a batch damaged in its payload; the
/// next segment says that the one behind it has no place there, by its number or by its end.
#[test]
fn what_follows_a_claimed_end_must_be_of_the_segment_too() {
    for (previous_end, first_frame, goes_on) in [(END, 8, 10), (5 * BLOCK, 9, 9)] {
        let disk = sample();
        spoil(&disk, 7);
        write_header(&disk, SegmentHeader { segment: 3, previous: 2, previous_end, first_frame });
        let numbers = open_at(&disk, SKIP, BEGINNING).unwrap().numbers();
        assert_eq!(numbers, Vec::from_iter((1..=6).chain(goes_on..=16)), "{first_frame}");
    }
}

/// Goal: a header that lies, with a valid checksum, stops every policy. Method: one that begins with another
/// frame than the one that follows, where the segment before is whole.
#[test]
fn a_header_that_contradicts_the_frames_stops_every_policy() {
    for options in [ALWAYS, SKIP, TRUNCATE] {
        for first_frame in [8, 10] {
            let disk = sample();
            let header = SegmentHeader { segment: 3, previous: 2, previous_end: END, first_frame };
            write_header(&disk, header);
            let before = disk.contents(&segment_file(3)).unwrap();
            let error = open_at(&disk, options, BEGINNING).map(|_| ()).unwrap_err();
            let JournalError::Corrupt { file, offset, .. } = error else { panic!("{error:?}") };
            assert_eq!((file, offset), (segment_file(3), 0), "{first_frame}");
            assert!(disk.contents(&segment_file(3)).unwrap() == before);
        }
    }
}

/// Goal: a last segment without a header or a frame was never finished, and is no damage; unless somebody names it
/// as the first, for then it was. Method: behind others and alone, named and not, under every policy.
#[test]
fn only_a_segment_that_was_never_finished_may_be_empty() {
    for options in [ALWAYS, SKIP, TRUNCATE] {
        for (named, first) in [(0, 1), (1, 1), (3, 9)] {
            let disk = sample();
            begin_empty(&disk, 5);
            let start = Start { segment: named, number: first };
            let (numbers, recovered) = open_and_check(&disk, options, start);
            assert_eq!(numbers, Vec::from_iter(first..=16), "{named}");
            assert_eq!(recovered.damage, []);
        }
        for named in [0, 1, 7] {
            let disk = SimDisk::new();
            disk.create_dir_all(dir()).unwrap();
            begin_empty(&disk, named.max(1));
            let opened = open_at(&disk, options, Start { segment: named, number: 1 });
            if named == 7 && options == ALWAYS {
                let Err(JournalError::Corrupt { file, offset: 0, .. }) = opened.map(|_| ()) else {
                    panic!()
                };
                assert_eq!(file, segment_file(7));
                continue;
            }
            let damage = opened.unwrap().recovered.damage;
            let expected = if named == 7 { vec![segment_file(7)] } else { Vec::new() };
            assert_eq!(damage.into_iter().map(|damage| damage.file).collect::<Vec<_>>(), expected);
        }
    }
}

/// Goal: so many missing segments are made anew, and not one more. Method: the last segment moved so
/// far away; the policy that cuts does not mind.
#[test]
fn missing_segments_are_filled_up_to_a_bound() {
    const MOST: u64 = 1_024;
    for (missing, options, numbers) in [
        (MOST, SKIP, Some(vec![1, 2])),
        (MOST + 1, SKIP, None),
        (MOST + 1, TRUNCATE, Some(vec![1])),
    ] {
        let disk = SimDisk::new();
        let mut journal = open_at(&disk, ALWAYS, BEGINNING).unwrap().journal;
        append(journal.as_mut(), 1, 10).unwrap();
        drop(journal);
        let far = 2 + missing;
        let header = SegmentHeader {
            segment: far,
            previous: far - 1,
            previous_end: 2 * BLOCK,
            // A frame a segment is missing.
            first_frame: far,
        };
        write_header(&disk, header);
        let file = disk.open(&segment_file(far), OpenMode::Write).unwrap();
        let mut batch = BatchBuffer::new();
        batch.extend(&crate::common::payload(2, 10));
        let header =
            FrameHeader { segment: far, number: far, meta: meta(2), ..FrameHeader::default() };
        file.write_at(batch.seal(&header), BLOCK).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(dir()).unwrap();
        match (open_at(&disk, options, BEGINNING), numbers) {
            (Ok(opened), Some(numbers)) => assert_eq!(opened.numbers(), numbers, "{missing}"),
            (Err(JournalError::Missing { file }), None) => assert_eq!(file, segment_file(2)),
            (opened, _) => panic!("{missing}: {:?}", opened.map(|opened| opened.recovered)),
        }
    }
}

/// Goal: a long start is told how far it is, and not with every batch. Method: three segments of 5 MiB and
/// more, in batches of 512 KiB; each step is told after 4 MiB.
#[test]
fn progress_goes_up_in_steps_to_the_end() {
    const MIB: u64 = 1 << 20;
    let options = JournalOptions { segment_bytes: 6 * MIB, ..ALWAYS };
    let disk = SimDisk::new();
    let mut journal = open_at(&disk, options, BEGINNING).unwrap().journal;
    for number in 1..=33 {
        append(journal.as_mut(), number, (MIB / 2) as usize).unwrap();
        if number == 11 || number == 22 {
            journal.roll().unwrap();
        }
    }
    journal.close().unwrap();
    // Each batch takes one block more, each segment a header.
    let segment = BLOCK + 11 * (MIB / 2 + BLOCK);
    let total = 2 * segment + 6 * MIB;
    let mut told = Vec::new();
    let opened =
        journal::open(Arc::new(disk), dir(), options, 0, &mut |_, _, _| Ok(()), &mut |done, of| {
            told.push((done, of))
        });
    drop(opened.unwrap());
    let steps = [4 * MIB, 4 * MIB, 4 * MIB, 4 * MIB];
    assert!(told.len() <= steps.len() + 1, "{told:?}");
    assert!(told.iter().all(|&(_, of)| of == total), "{told:?}");
    assert_eq!(told.last(), Some(&(total, total)));
    let mut before = 0;
    for &(done, _) in &told[..told.len() - 1] {
        assert!(done - before >= 4 * MIB && done - before < 5 * MIB, "{told:?}");
        before = done;
    }
    assert!(before > 2 * segment, "{told:?}");
}

/// Goal: without a policy that goes on nothing is told as lost. Method: a sound journal, opened strictly.
#[test]
fn a_sound_journal_is_told_as_it_is() {
    let recovered = open_at(&sample(), ALWAYS, BEGINNING).unwrap().recovered;
    assert_eq!(recovered, whole());
    assert_eq!(ALWAYS.recovery, RecoveryPolicy::Strict);
}
