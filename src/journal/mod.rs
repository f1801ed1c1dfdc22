//! F2: the journal, the one place where accepted facts become durable.
//!
//! ```text
//!   segment 17              segment 18 (current)
//!  |H|f1|f2 |f3|mark|      |H|f4 |f5|f6 |..........|      |spare|  |spare|
//!   ^                                   ^
//!   replay begins at segment 17         end; in mode `always` the durable end is the same
//! ```
//! The journal is never rewritten. [`Journal::roll`] begins a segment, its owner makes what stands in
//! the ones before durable elsewhere and writes down the id, [`Journal::trim`] lets them go.
//! *Written* and *durable* are two positions: [`Journal::end`] and [`Journal::durable_end`]. The
//! bytes are described in `docs/format.md`. One thread owns a journal; it reads no clock.

mod aligned;
mod begin;
mod chain;
mod damage;
mod error;
pub mod home;
mod layout;
mod parts;
mod quarantine;
mod reader;
mod recovery;
mod segmented;
mod spares;
mod verify;
mod walk;

use crate::base::config::{Durability, RecoveryPolicy};
use crate::base::event::BatchMeta;
use crate::base::limits::{FRAME_ALIGN, SEGMENT_BYTES};
use crate::codec::frame::BatchBuffer;

pub use damage::Damage;
pub use error::JournalError;
pub use parts::{Part, parts};
pub use recovery::{Recovered, Torn};
pub use segmented::{SegmentedJournal, open};
pub use verify::{VerifyReport, verify};

/// A place in the journal: a segment and a byte offset in its file. Positions sort by age.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Position {
    /// Segment id, from 1.
    pub segment: u64,
    /// Byte offset in the segment file.
    pub offset: u64,
}

/// Whether there is room for new messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// Yes.
    Plenty,
    /// The disk is full: what room is left is for acknowledgements and cancels, and for letting go of segments.
    ReserveOnly,
}

/// Numbers about a journal since it was opened. Reading them costs nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct JournalStats {
    /// Segments not retired yet, the current one included.
    pub live_segments: u64,
    /// Bytes written in them, headers, padding and marks included.
    pub live_bytes: u64,
    /// Bytes of all files of the journal, spares included.
    pub disk_bytes: u64,
    /// Preallocated segments that wait to be used.
    pub spares: u64,
    /// Frames appended, without marks.
    pub frames: u64,
    /// Marks written.
    pub marks: u64,
    /// Payload bytes appended.
    pub payload_bytes: u64,
    /// Bytes written for frames and marks, headers and padding included.
    pub written_bytes: u64,
    /// Times data was made durable: a durable write or an explicit sync.
    pub syncs: u64,
    /// Bytes of a torn tail that opening found and dropped.
    pub torn_bytes: u64,
}

/// Settings of a journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JournalOptions {
    /// Size of a segment file in bytes: a multiple of 4096, at least
    /// [`JournalOptions::SEGMENT_BYTES_MIN`]. The longest payload is 8288 bytes less.
    pub segment_bytes: u64,
    /// When what was appended is made durable.
    pub durability: Durability,
    /// What opening does about damage.
    pub recovery: RecoveryPolicy,
}

impl JournalOptions {
    /// Smallest segment: the header, one frame, the place of a mark. Users get a higher minimum,
    /// so that the largest batch fits.
    pub const SEGMENT_BYTES_MIN: u64 = 4 * FRAME_ALIGN as u64;

    /// Whether the settings can be used.
    ///
    /// # Errors
    /// [`JournalError::BadOptions`].
    pub fn check(&self) -> Result<(), JournalError> {
        if self.segment_bytes < Self::SEGMENT_BYTES_MIN {
            return Err(JournalError::BadOptions("segment_bytes is smaller than 16384"));
        }
        if !self.segment_bytes.is_multiple_of(FRAME_ALIGN as u64) {
            return Err(JournalError::BadOptions("segment_bytes is not a multiple of 4096"));
        }
        if self.durability == (Durability::Interval { every_ms: 0 }) {
            return Err(JournalError::BadOptions("the sync interval is 0 ms"));
        }
        Ok(())
    }
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES,
            durability: Durability::default(),
            recovery: RecoveryPolicy::default(),
        }
    }
}

/// A write-ahead log of batches.
///
/// After the first error of a write or a sync the journal latches: nothing is known about what is
/// on the disk, so every later call says [`JournalError::Latched`] until the journal is opened
/// anew.
pub trait Journal: Send {
    /// Writes one batch as one frame; with [`Durability::Always`] it is durable on return.
    /// Returns where the frame begins. The batch keeps its payload.
    ///
    /// # Errors
    /// [`JournalError::TooLarge`] and [`JournalError::Full`]: nothing was written, the journal
    /// goes on and the same batch may be tried again. Any other latches.
    fn append(
        &mut self,
        meta: &BatchMeta,
        batch: &mut BatchBuffer,
    ) -> Result<Position, JournalError>;

    /// Makes everything written durable.
    ///
    /// # Errors
    /// Any latches.
    fn sync(&mut self) -> Result<(), JournalError>;

    /// Ends the current segment and begins the next one. Returns where the next frame will begin. A
    /// current segment without any frame is not replaced. Everything before the position is durable
    /// on return, and so is the new segment itself, in every mode: whoever keeps its id finds
    /// it after any crash.
    ///
    /// # Errors
    /// [`JournalError::Full`]: nothing changed, it may be tried again. Any other latches.
    fn roll(&mut self) -> Result<Position, JournalError>;

    /// Retires whole segments below `before.segment`, but never the current one. What they hold must
    /// be durable elsewhere, and the next opening must begin at `before.segment` or above.
    ///
    /// # Errors
    /// A file that could not be renamed or removed is tried again by the next call and does not
    /// latch; a failed sync of the directory does.
    fn trim(&mut self, before: Position) -> Result<(), JournalError>;

    /// Whether new messages may be accepted. Changes in [`Journal::maintain`] and
    /// [`Journal::trim`].
    fn room(&self) -> Room;

    /// Just past the last byte written.
    fn end(&self) -> Position;

    /// Everything before this is known to be on stable storage.
    fn durable_end(&self) -> Position;

    /// Upkeep: the sync of [`Durability::Interval`], a mark after a second of idleness, spare
    /// segments. To be called after each step and when [`Journal::next_maintenance_ms`] says; cheap
    /// when there is nothing to do. `mono_ms` is monotonic time.
    ///
    /// # Errors
    /// Failed writes and syncs, which latch. Failing to make a spare is no error: see
    /// [`Journal::room`].
    fn maintain(&mut self, mono_ms: u64) -> Result<(), JournalError>;

    /// Gives spare segments back that are more than the reserve needs. For a disk that is nearly full.
    fn shed_spares(&mut self);

    /// When `maintain` has something to do next, as its `mono_ms`; 0 is at once, `None` never
    /// unless something is appended.
    fn next_maintenance_ms(&self) -> Option<u64>;

    /// Numbers for the operator.
    fn stats(&self) -> JournalStats;

    /// Makes everything durable, writes a mark, and ends. Dropping a journal instead is like a
    /// crash of the process.
    ///
    /// # Errors
    /// Failed writes and syncs.
    fn close(self: Box<Self>) -> Result<(), JournalError>;
}
