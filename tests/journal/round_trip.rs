//! What goes in comes out: over segments, recycled files, real files.

use std::sync::Arc;

use postdate::base::config::Durability;
use postdate::codec::frame::BatchBuffer;
use postdate::env::{Disk, OpenMode, OsDisk};
use postdate::journal::{self, Journal, JournalError, JournalOptions, Position, verify};
use postdate::sim::{SimDisk, Survival};

use crate::common::{
    ALWAYS, BEGINNING, SEGMENT, Start, append, check_batch, check_whole, dir, meta, open, open_at,
    payload, run, segment_file, workload,
};

fn report(disk: &SimDisk, start: Start) -> journal::VerifyReport {
    let mut ignore = |meta: &_, bytes: &[u8], at| {
        check_batch(meta, bytes, at);
        Ok(())
    };
    verify(disk, dir(), Some(start.segment), &mut ignore, &mut |_, _| ()).unwrap()
}

/// Goal: the workload of the sweeps works when nothing goes wrong, in every mode.
#[test]
fn the_workload_is_read_back_in_every_mode() {
    for durability in [Durability::Always, Durability::Interval { every_ms: 5 }, Durability::Os] {
        let disk = SimDisk::new();
        let options = JournalOptions { durability, ..ALWAYS };
        let run = run(&disk, options, &workload());
        assert!(run.error.is_none() && run.refused == 0, "{run:?}");
        assert_eq!((run.acked, run.durable), (63, 63));
        disk.crash(Survival::None, 0);
        let report = report(&disk, run.start);
        assert_eq!((report.damage.len(), &report.torn), (0, &None), "{report:?}");
        let opened = open_at(&disk, options, run.start).unwrap();
        check_whole(&opened, "all");
        assert_eq!(opened.last(), 63);
        assert!(opened.start.number > 50 && opened.read.len() > 2);
        assert_eq!(opened.recovered.torn, None);
    }
}

#[test]
fn positions_and_numbers_are_as_promised() {
    let disk = SimDisk::new();
    let mut journal = open(&disk, ALWAYS).unwrap().journal;
    let first = Position { segment: 1, offset: 4096 };
    assert_eq!((journal.end(), journal.durable_end()), (first, first));
    assert_eq!(append(journal.as_mut(), 1, 4000).unwrap(), first);
    let second = append(journal.as_mut(), 2, 4001).unwrap();
    assert_eq!(second, Position { segment: 1, offset: 8192 });
    assert_eq!(journal.end(), Position { segment: 1, offset: 16384 });
    assert_eq!(journal.durable_end(), journal.end());
    let rolled = journal.roll().unwrap();
    assert_eq!(rolled, Position { segment: 2, offset: 4096 });
    assert_eq!(journal.roll().unwrap(), rolled, "an empty segment is not replaced");
    assert_eq!(append(journal.as_mut(), 3, 10).unwrap(), rolled);
    let stats = journal.stats();
    assert_eq!((stats.frames, stats.payload_bytes, stats.live_segments), (3, 8011, 2));
    assert_eq!(stats.live_bytes, 16384 + 8192);
    // Whole segments only, and never the current one.
    journal.trim(Position { segment: 1, offset: 8192 }).unwrap();
    assert_eq!(journal.stats().live_segments, 2);
    journal.trim(Position { segment: 9, offset: 0 }).unwrap();
    assert_eq!(journal.stats().live_segments, 1);
    drop(journal);
    let opened = open_at(&disk, ALWAYS, Start { segment: 2, number: 3 }).unwrap();
    assert_eq!(opened.numbers(), [3]);
    assert_eq!(opened.recovered.start, rolled);
}

/// Goal: replay begins at the segment named and nothing older is read. Method: two batches in each of
/// five segments; what is older is damaged.
#[test]
fn replay_begins_at_the_segment_named() {
    let disk = SimDisk::new();
    let mut journal = open(&disk, ALWAYS).unwrap().journal;
    for segment in 1..=5 {
        append(journal.as_mut(), 2 * segment - 1, 100).unwrap();
        append(journal.as_mut(), 2 * segment, 100).unwrap();
        assert_eq!(journal.roll().unwrap().segment, segment + 1);
    }
    drop(journal);
    for from in 0..=6 {
        let disk = disk.fork();
        for older in 1..from {
            disk.flip_bit(&segment_file(older), 5_000, 0);
            disk.flip_bit(&segment_file(older), 20, 0);
        }
        let start = Start { segment: from, number: 2 * from.max(1) - 1 };
        let mut opened = open_at(&disk, ALWAYS, start).unwrap();
        assert_eq!(opened.numbers(), Vec::from_iter(start.number..=10), "{from}");
        assert_eq!(opened.journal.end(), Position { segment: 6, offset: 4096 });
        assert_eq!(opened.journal.stats().live_segments, 7 - from.max(1));
        for older in 1..from {
            assert!(!disk.exists(&segment_file(older)).unwrap(), "{older} is retired");
        }
        append(opened.journal.as_mut(), 11, 100).unwrap();
        drop(opened);
        let opened = open_at(&disk, ALWAYS, start).unwrap();
        assert_eq!(opened.last(), 11, "{from}");
        assert_eq!(opened.journal.end().segment, 7);
    }
}

/// Goal: a segment named that is not there is an error that names it and changes nothing.
#[test]
fn a_segment_named_that_is_not_there_is_missing() {
    let missing = |disk: &SimDisk, from| {
        let before = disk.list(dir()).unwrap_or_default();
        let error = open_at(disk, ALWAYS, Start { segment: from, number: 1 }).err();
        let Some(JournalError::Missing { file }) = error else { panic!("{error:?}") };
        assert!(before.is_empty() || disk.list(dir()).unwrap() == before);
        let report = report(disk, Start { segment: from, number: 1 });
        assert_eq!(report.damage[0].file, file);
        file
    };
    let disk = SimDisk::new();
    assert_eq!(missing(&disk, 2), segment_file(2));
    let mut journal = open(&disk, ALWAYS).unwrap().journal;
    for number in 1..=4 {
        append(journal.as_mut(), number, 100).unwrap();
        journal.roll().unwrap();
    }
    assert_eq!(missing(&disk, 9), segment_file(9));
    disk.remove(&segment_file(3)).unwrap();
    for from in 0..=3 {
        assert_eq!(missing(&disk, from), segment_file(3));
    }
    disk.remove(&segment_file(1)).unwrap();
    assert_eq!(missing(&disk, 1), segment_file(1));
    assert_eq!(open_at(&disk, ALWAYS, Start { segment: 4, number: 4 }).unwrap().numbers(), [4]);
}

#[test]
fn the_largest_batch_fits_and_one_byte_more_does_not() {
    let disk = SimDisk::new();
    let mut journal = open(&disk, ALWAYS).unwrap().journal;
    let max = (SEGMENT - 2 * 4096 - 96) as usize;
    append(journal.as_mut(), 1, max).unwrap();
    append(journal.as_mut(), 2, max).unwrap();
    let refused = append(journal.as_mut(), 3, max + 1);
    let Err(JournalError::TooLarge { bytes, max: told }) = refused else { panic!("{refused:?}") };
    assert_eq!((bytes, told), (max as u64 + 1, max as u64));
    append(journal.as_mut(), 3, 8).unwrap();
    journal.close().unwrap();
    assert_eq!(open(&disk, ALWAYS).unwrap().numbers(), [1, 2, 3]);
    for segment_bytes in [0, 12288, 16385, u64::MAX] {
        let bad = open(&disk, JournalOptions { segment_bytes, ..ALWAYS });
        assert!(matches!(bad, Err(JournalError::BadOptions(_))), "{segment_bytes}");
    }
}

/// Goal: frames that recycled files kept are never read, and files do not pile up. Method: cycles
/// of appends, roll and trim, each followed by a crash of the machine.
#[test]
fn recycled_segments_never_show_their_earlier_life() {
    let disk = SimDisk::new();
    let (mut number, mut start) = (0, BEGINNING);
    for cycle in 0..20 {
        let mut opened = open_at(&disk, ALWAYS, start).unwrap();
        check_whole(&opened, "cycle");
        assert_eq!(opened.last(), number);
        let journal = opened.journal.as_mut();
        for step in 0..cycle % 7 + 3 {
            number += 1;
            append(journal, number, 9000 + step * 100).unwrap();
            journal.maintain(number).unwrap();
        }
        let at = journal.roll().unwrap();
        start = Start { segment: at.segment, number: number + 1 };
        number += 1;
        append(journal, number, 20).unwrap();
        journal.trim(at).unwrap();
        let stats = journal.stats();
        assert_eq!(stats.live_segments, 1);
        assert!(stats.disk_bytes <= 5 * SEGMENT, "{stats:?}");
        assert_eq!(stats.disk_bytes, disk.used_bytes());
        disk.crash(Survival::ALL[cycle % 5], cycle as u64);
    }
}

/// Goal: opening again and again without appending leaves no files behind.
#[test]
fn idle_restarts_leave_nothing_behind() {
    let disk = SimDisk::new();
    let mut journal = open(&disk, ALWAYS).unwrap().journal;
    append(journal.as_mut(), 1, 10).unwrap();
    for kill in [false, true, true, false, true] {
        if kill {
            drop(journal);
        } else {
            journal.close().unwrap();
        }
        let opened = open(&disk, ALWAYS).unwrap();
        assert_eq!(opened.numbers(), [1]);
        journal = opened.journal;
        assert_eq!(journal.end(), Position { segment: 2, offset: 4096 });
        // The segment before was cut to what it holds.
        assert!(disk.contents(&segment_file(1)).unwrap().len() <= 3 * 4096);
        assert_eq!(journal.stats().disk_bytes, disk.used_bytes());
    }
    assert!(disk.list(dir()).unwrap().len() <= 4, "{:?}", disk.list(dir()));
}

/// Goal: maintenance does what it says when it says. Method: times by hand.
#[test]
fn maintenance_syncs_marks_and_tells_when() {
    let disk = SimDisk::new();
    let options = JournalOptions { durability: Durability::Interval { every_ms: 50 }, ..ALWAYS };
    let mut journal = open(&disk, options).unwrap().journal;
    assert_eq!(journal.next_maintenance_ms(), None);
    append(journal.as_mut(), 1, 10).unwrap();
    assert_eq!(journal.next_maintenance_ms(), Some(0));
    journal.maintain(1_000).unwrap();
    assert!(journal.durable_end() < journal.end());
    assert_eq!(journal.next_maintenance_ms(), Some(1_050));
    journal.maintain(1_049).unwrap();
    assert!(journal.durable_end() < journal.end());
    journal.maintain(1_050).unwrap();
    assert_eq!(journal.durable_end(), journal.end());
    assert_eq!(journal.next_maintenance_ms(), Some(2_000));
    journal.maintain(2_000).unwrap();
    assert_eq!(journal.stats().marks, 1);
    journal.maintain(2_049).unwrap();
    assert_eq!(journal.next_maintenance_ms(), Some(2_050));
    journal.maintain(2_050).unwrap();
    assert_eq!((journal.next_maintenance_ms(), journal.stats().marks), (None, 1));
    assert_eq!(journal.durable_end(), journal.end());
}

/// Goal: a refused batch names its place and nothing was changed.
#[test]
fn a_refused_batch_stops_the_opening() {
    let disk = SimDisk::new();
    let mut journal = open(&disk, ALWAYS).unwrap().journal;
    append(journal.as_mut(), 1, 10).unwrap();
    append(journal.as_mut(), 2, 10).unwrap();
    drop(journal);
    let before = disk.list(dir()).unwrap();
    let refused = journal::open(
        Arc::new(disk.clone()),
        dir(),
        ALWAYS,
        0,
        &mut |meta, _, _| if meta.now.mono_ms == 2 { Err("no".into()) } else { Ok(()) },
        &mut |_, _| (),
    );
    let Err(JournalError::Replay { file, offset, why }) = refused.map(|_| ()) else { panic!() };
    assert_eq!((file, offset, why.as_str()), (segment_file(1), 8192, "no"));
    assert_eq!(disk.list(dir()).unwrap(), before);
}

/// Goal: the real disk behaves like the simulated one. Method: direct writes to real files,
/// reopened after close and after drop.
#[test]
fn real_files_round_trip() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("journal");
    let mut batch = BatchBuffer::new();
    let mut number = 0;
    for durability in [
        Durability::Always,
        Durability::Interval { every_ms: 5 },
        Durability::Always,
        Durability::Os,
    ] {
        let options = JournalOptions { segment_bytes: 1 << 18, durability, ..ALWAYS };
        let mut read = 0;
        let (mut journal, _) = journal::open(
            Arc::new(OsDisk::default()),
            &path,
            options,
            0,
            &mut |meta, bytes, at| {
                read += 1;
                assert_eq!(check_batch(meta, bytes, at).number, read);
                Ok(())
            },
            &mut |_, _| (),
        )
        .unwrap();
        assert_eq!(read, number);
        for step in 0..12 {
            number += 1;
            batch.clear();
            batch.extend(&payload(number, 100 + step * 8_000));
            journal.append(&meta(number), &mut batch).unwrap();
            journal.maintain(number).unwrap();
        }
        if durability == Durability::Always {
            Box::new(journal).close().unwrap();
        }
    }
    let disk = OsDisk::default();
    let mut ignore = |_: &_, _: &[u8], _| Ok(());
    let report = verify(&disk, &path, None, &mut ignore, &mut |_, _| ()).unwrap();
    assert_eq!((report.frames, report.damage.len()), (number, 0), "{report:?}");
    assert!(disk.open(&path.join("00000000000000000001.wal"), OpenMode::Read).is_ok());
}
