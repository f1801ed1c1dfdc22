//! Reading rows in order.

use std::ops::Range;
use std::sync::Arc;

use crate::store::segment::Segment;
use crate::store::segment::block::{Packed, Rows};
use crate::store::segment::index::Entry;
use crate::store::{OnDamage, StoreError, Value};

/// Bytes read at once, unless a single block is longer.
const READ_BYTES: u64 = 64 * 1024;

/// Reads the rows of a segment in order.
///
/// It holds a read buffer of 64 KiB and one unpacked block, more only for larger rows, and nothing
/// before its first row is asked for.
pub struct Cursor {
    segment: Arc<Segment>,
    /// Where to begin; taken when it has begun.
    from: Option<Box<[u8]>>,
    on_damage: OnDamage,
    walk: Walk,
    on_row: bool,
}

impl Cursor {
    pub(super) fn new(segment: Arc<Segment>, from: &[u8], on_damage: OnDamage) -> Self {
        let from = Some(from.into());
        Self { segment, from, on_damage, walk: Walk::default(), on_row: false }
    }

    /// Goes to the next row; `false` at the end.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], [`StoreError::Io`]. Then it stands on no row, and a later call
    /// tries for the same row again.
    pub fn advance(&mut self) -> Result<bool, StoreError> {
        self.on_row = false;
        self.on_row = match &self.from {
            None => self.walk.advance(&self.segment, self.on_damage)?,
            Some(from) => {
                let on_row = self.walk.seek(&self.segment, from, self.on_damage)?;
                self.from = None;
                on_row
            }
        };
        Ok(self.on_row)
    }

    /// The row it stands on; `None` before the first and at the end.
    #[must_use]
    pub fn row(&self) -> Option<(&[u8], Value<'_>)> {
        self.on_row.then(|| self.walk.row())
    }

    /// [`Cursor::advance`] and [`Cursor::row`] in one.
    ///
    /// # Errors
    /// Those of [`Cursor::advance`].
    #[expect(clippy::should_implement_trait, reason = "it lends what an iterator gives away")]
    pub fn next(&mut self) -> Result<Option<(&[u8], Value<'_>)>, StoreError> {
        self.advance()?;
        Ok(self.row())
    }
}

/// The state of going through a segment, without the segment.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// The block after the one it is in.
    next_block: u32,
    /// Blocks as they lie in the file from `window_at` on.
    window: Vec<u8>,
    window_at: u64,
    /// The rows of the block it is in, when they had to be unpacked.
    unpacked: Vec<u8>,
    /// The rows of the block it is in within the window, when not.
    plain: Option<Range<usize>>,
    rows: Rows,
}

impl Walk {
    /// Goes to the first row from `key` on; `false` when there is none.
    fn seek(
        &mut self,
        segment: &Segment,
        key: &[u8],
        on_damage: OnDamage,
    ) -> Result<bool, StoreError> {
        self.go_to(segment.find(key)?);
        while self.advance(segment, on_damage)? {
            if self.rows.key() >= key {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Goes to the next row; `false` when there is none.
    fn advance(&mut self, segment: &Segment, on_damage: OnDamage) -> Result<bool, StoreError> {
        loop {
            let (block, error) = match self.advance_in_block(segment) {
                Ok(true) => return Ok(true),
                Ok(false) if self.next_block >= segment.blocks => return Ok(false),
                Ok(false) => match self.load(segment) {
                    Ok(()) => continue,
                    Err(error) => (self.next_block, error),
                },
                Err(error) => (self.next_block.saturating_sub(1), error),
            };
            segment.pass(block, error, on_damage)?;
            self.go_to(block + 1);
        }
    }

    /// Goes to the next row of the block it is in; `false` when there is none.
    pub(super) fn advance_in_block(&mut self, segment: &Segment) -> Result<bool, StoreError> {
        let raw = raw(&self.plain, &self.window, &self.unpacked);
        let advanced = self.rows.advance(raw);
        advanced.map_err(|damage| segment.damaged_block(self.next_block.saturating_sub(1), damage))
    }

    /// Makes this block the next one.
    pub(super) fn go_to(&mut self, block: u32) {
        self.rows.begin(0);
        self.next_block = block;
    }

    /// Goes before the first row of the next block, which exists.
    pub(super) fn load(&mut self, segment: &Segment) -> Result<(), StoreError> {
        // Should this fail, the block before is over all the same, and the window may be empty.
        self.rows.begin(0);
        self.plain = None;
        let entry = segment.entry(self.next_block)?;
        let window_end = self.window_at + self.window.len() as u64;
        if entry.offset < self.window_at || entry.end() > window_end {
            self.fill(segment, &entry)?;
        }
        let start = (entry.offset - self.window_at) as usize;
        let end = start + entry.bytes as usize;
        let check = Packed::check(&self.window[start..end], segment.meta.number, entry.offset);
        let packed = check.map_err(|damage| segment.damaged(entry.offset, damage))?;
        self.plain = packed.plain().map(|rows| end - rows.len()..end);
        if self.plain.is_none() {
            let unpacked = packed.unpack(&mut self.unpacked);
            unpacked.map_err(|damage| segment.damaged(entry.offset, damage))?;
        }
        self.rows.begin(packed.rows);
        self.next_block += 1;
        Ok(())
    }

    /// Reads the block and as many of those behind it as go into one read.
    fn fill(&mut self, segment: &Segment, first: &Entry<'_>) -> Result<(), StoreError> {
        let mut end = first.end();
        for block in self.next_block + 1..segment.blocks {
            let entry = segment.entry(block)?;
            if entry.offset != end || entry.end() - first.offset > READ_BYTES {
                break;
            }
            end = entry.end();
        }
        self.window_at = first.offset;
        segment.read_blocks(first.offset, end, &mut self.window)
    }

    /// The row it stands on.
    pub(super) fn row(&self) -> (&[u8], Value<'_>) {
        (self.rows.key(), self.rows.value(raw(&self.plain, &self.window, &self.unpacked)))
    }
}

/// The rows of the block.
fn raw<'a>(plain: &Option<Range<usize>>, window: &'a [u8], unpacked: &'a [u8]) -> &'a [u8] {
    plain.as_ref().map_or(unpacked, |range| &window[range.clone()])
}
