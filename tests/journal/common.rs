//! Batches that know their own number and check themselves, and a fixed workload of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use postdate::base::config::{Durability, RecoveryPolicy};
use postdate::base::event::BatchMeta;
use postdate::base::id::Key;
use postdate::base::time::Now;
use postdate::codec::frame::BatchBuffer;
use postdate::journal::{
    self, Journal, JournalError, JournalOptions, Position, Recovered, SegmentedJournal,
};
use postdate::sim::SimDisk;

pub(crate) const SEGMENT: u64 = 64 * 1024;
pub(crate) const ALWAYS: JournalOptions = JournalOptions {
    segment_bytes: SEGMENT,
    durability: Durability::Always,
    recovery: RecoveryPolicy::Strict,
};

pub(crate) fn dir() -> &'static Path {
    Path::new("/journal")
}

pub(crate) fn segment_file(segment: u64) -> PathBuf {
    dir().join(format!("{segment:020}.wal"))
}

pub(crate) fn meta(number: u64) -> BatchMeta {
    BatchMeta {
        now: Now { mono_ms: number, wall_ms: number + 1, engine_ms: number + 2 },
        fired_to: Key { due_ms: number + 3, sequence: number + 4 },
    }
}

/// The payload of batch `number`: the number, then bytes that follow from it.
pub(crate) fn payload(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend((8..len).map(|at| (number as usize * 31 + at * 7) as u8));
    bytes
}

/// One batch as it was read back, after it was checked against what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) number: u64,
    pub(crate) at: Position,
}

pub(crate) fn check_batch(read: &BatchMeta, bytes: &[u8], at: Position) -> Read {
    let number = read.now.mono_ms;
    assert_eq!(*read, meta(number), "at {at:?}");
    assert_eq!(bytes, payload(number, bytes.len()), "at {at:?}");
    Read { number, at }
}

/// Where replay begins, as a root would name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) segment: u64,
    /// The first batch in it.
    pub(crate) number: u64,
}

pub(crate) const BEGINNING: Start = Start { segment: 0, number: 1 };

pub(crate) struct Opened {
    pub(crate) start: Start,
    pub(crate) journal: Box<SegmentedJournal>,
    pub(crate) read: Vec<Read>,
    pub(crate) recovered: Recovered,
}

impl Opened {
    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.read.iter().map(|read| read.number).collect()
    }

    pub(crate) fn last(&self) -> u64 {
        self.read.last().map_or(self.start.number - 1, |read| read.number)
    }
}

pub(crate) fn open(disk: &SimDisk, options: JournalOptions) -> Result<Opened, JournalError> {
    open_at(disk, options, BEGINNING)
}

pub(crate) fn open_at(
    disk: &SimDisk,
    options: JournalOptions,
    start: Start,
) -> Result<Opened, JournalError> {
    let mut read = Vec::new();
    let (journal, recovered) = journal::open(
        Arc::new(disk.clone()),
        dir(),
        options,
        start.segment,
        &mut |meta, bytes, at| {
            read.push(check_batch(meta, bytes, at));
            Ok(())
        },
        &mut |done, total| assert!(done <= total, "{done} of {total}"),
    )?;
    assert_eq!(recovered.batches, read.len() as u64);
    Ok(Opened { start, journal: Box::new(journal), read, recovered })
}

pub(crate) fn append(
    journal: &mut dyn Journal,
    number: u64,
    len: usize,
) -> Result<Position, JournalError> {
    let mut batch = BatchBuffer::new();
    batch.extend(&payload(number, len));
    journal.append(&meta(number), &mut batch)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A batch with a payload of this length.
    Append(usize),
    /// The current segment ends.
    Roll,
    /// The segment begun by the last roll is named as the first; those before it go.
    Trim,
    /// Maintenance after so many ms.
    Maintain(u64),
    Sync,
    /// Close and open again.
    Reopen,
    /// Open again as after a crash of the process alone.
    Kill,
}

/// Some 60 batches over many segments, with all that a journal does.
pub(crate) fn workload() -> Vec<Step> {
    let mut steps = Vec::new();
    for round in 0..4 {
        for index in 0..13 {
            steps.push(Step::Append([10, 5_000, 100, 12_000, 4_000][(index + round) % 5]));
            steps.push(Step::Maintain(1));
        }
        steps.push(match round {
            0 => Step::Maintain(1_500),
            1 => Step::Reopen,
            2 => Step::Kill,
            _ => Step::Sync,
        });
        steps.push(Step::Append(20));
        if round == 1 {
            // Twice, and ended before anything is in the segment.
            steps.extend([Step::Roll, Step::Roll, Step::Trim, Step::Kill, Step::Reopen]);
        } else {
            steps.extend([Step::Roll, Step::Append(9_000), Step::Append(30), Step::Trim]);
        }
        steps.push(Step::Maintain(1_500));
    }
    steps.push(Step::Append(50));
    steps
}

/// How far a run came.
#[derive(Debug)]
pub(crate) struct Run {
    /// What the last trim named, also when it failed.
    pub(crate) start: Start,
    /// Number of the last batch whose append returned `Ok`.
    pub(crate) acked: u64,
    /// Of these, the last that was known durable.
    pub(crate) durable: u64,
    /// What ended it early.
    pub(crate) error: Option<JournalError>,
    /// Non-latching errors on the way.
    pub(crate) refused: u64,
}

/// Runs steps until one fails in a way that ends the journal.
pub(crate) fn run(disk: &SimDisk, options: JournalOptions, steps: &[Step]) -> Run {
    let mut run = Run { start: BEGINNING, acked: 0, durable: 0, error: None, refused: 0 };
    if let Err(error) = run_steps(disk, options, steps, &mut run) {
        run.error = Some(error);
    }
    run
}

fn run_steps(
    disk: &SimDisk,
    options: JournalOptions,
    steps: &[Step],
    run: &mut Run,
) -> Result<(), JournalError> {
    let mut journal = open(disk, options)?.journal;
    let mut rolled = BEGINNING;
    let mut now_ms = 0;
    for step in steps {
        match *step {
            Step::Append(len) => match append(journal.as_mut(), run.acked + 1, len) {
                Ok(_) => run.acked += 1,
                Err(JournalError::Full { .. }) => run.refused += 1,
                Err(error) => return Err(check_latched(journal.as_mut(), error)),
            },
            Step::Roll => match journal.roll() {
                Ok(at) => {
                    assert_eq!((at.offset, at), (4096, journal.end()));
                    assert_eq!(journal.durable_end(), at);
                    rolled = Start { segment: at.segment, number: run.acked + 1 };
                }
                Err(JournalError::Full { .. }) => run.refused += 1,
                Err(error) => return Err(check_latched(journal.as_mut(), error)),
            },
            Step::Trim => {
                run.start = rolled;
                let before = Position { segment: rolled.segment, offset: 0 };
                if let Err(error) = journal.trim(before) {
                    run.refused += 1;
                    if matches!(journal.sync(), Err(JournalError::Latched)) {
                        return Err(error);
                    }
                }
            }
            Step::Maintain(ms) => {
                now_ms += ms;
                journal.maintain(now_ms)?;
            }
            Step::Sync => journal.sync()?,
            Step::Reopen | Step::Kill => {
                if *step == Step::Reopen {
                    journal.close()?;
                    run.durable = run.acked;
                } else {
                    drop(journal);
                }
                let opened = open_at(disk, options, run.start)?;
                assert_eq!(opened.last(), run.acked);
                journal = opened.journal;
            }
        }
        if journal.durable_end() == journal.end() {
            run.durable = run.acked;
        }
    }
    journal.close()?;
    run.durable = run.acked;
    Ok(())
}

/// After an error that is no refusal nothing goes on.
fn check_latched(journal: &mut dyn Journal, error: JournalError) -> JournalError {
    let again = append(journal, 9, 9);
    assert!(matches!(again, Err(JournalError::Latched)), "{again:?}");
    assert!(matches!(journal.roll(), Err(JournalError::Latched)));
    assert!(matches!(journal.sync(), Err(JournalError::Latched)));
    error
}

/// Checks that what was read is without a gap, and begins where it should.
pub(crate) fn check_whole(opened: &Opened, context: &str) {
    for pair in opened.read.windows(2) {
        assert_eq!(pair[0].number + 1, pair[1].number, "{context}: a gap");
        assert!(pair[0].at < pair[1].at, "{context}");
    }
    if let Some(first) = opened.read.first() {
        assert_eq!(first.number, opened.start.number, "{context}: begins with {first:?}");
    }
}
