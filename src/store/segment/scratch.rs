//! Blocks kept between look-ups.

use bytes::Bytes;

use crate::store::segment::Segment;
use crate::store::segment::block::{Packed, Rows};
use crate::store::{Owned, StoreError, Value};

/// Most segments whose last block is kept: as many as a look-up in one family usually goes through.
const SLOTS: usize = 16;

/// What look-ups keep for the next one: the last block of each of the sixteen segments used last,
/// unpacked, so that look-ups in the order of keys read every block once. Some 128 KiB; one for
/// each thread that looks up.
#[derive(Debug, Default)]
pub struct Scratch {
    slots: Vec<Slot>,
    packed: Vec<u8>,
    rows: Rows,
    uses: u64,
}

#[derive(Debug, Default)]
struct Slot {
    /// [`Segment::id`] and number of the block; `None` when it holds nothing that is right.
    block: Option<(u64, u32)>,
    rows: u16,
    raw: Vec<u8>,
    used: u64,
}

impl Scratch {
    /// Looks for a key in one block.
    pub(super) fn look_up(
        &mut self,
        segment: &Segment,
        block: u32,
        key: &[u8],
    ) -> Result<Option<Owned>, StoreError> {
        let at = self.load(segment, block)?;
        let slot = &self.slots[at];
        let raw = &slot.raw[..];
        self.rows.begin(slot.rows);
        while self.rows.advance(raw).map_err(|damage| segment.damaged_block(block, damage))? {
            if self.rows.key() < key {
                continue;
            }
            return Ok((self.rows.key() == key).then(|| match self.rows.value(raw) {
                Value::Put(bytes) => Owned::Put(Bytes::copy_from_slice(bytes)),
                Value::Tombstone => Owned::Tombstone,
            }));
        }
        Ok(None)
    }

    /// The slot that holds the block.
    fn load(&mut self, segment: &Segment, block: u32) -> Result<usize, StoreError> {
        self.uses += 1;
        let own = |slot: &Slot| slot.block.is_some_and(|(id, _)| id == segment.id);
        let at = match self.slots.iter().position(own) {
            Some(at) => at,
            None if self.slots.len() < SLOTS => {
                self.slots.push(Slot::default());
                self.slots.len() - 1
            }
            None => (0..SLOTS).min_by_key(|at| self.slots[*at].used).unwrap_or(0),
        };
        let slot = &mut self.slots[at];
        slot.used = self.uses;
        if slot.block == Some((segment.id, block)) {
            return Ok(at);
        }
        slot.block = None;
        let entry = segment.entry(block)?;
        segment.read_blocks(entry.offset, entry.end(), &mut self.packed)?;
        let mut unpack = || {
            let packed = Packed::check(&self.packed, segment.meta.number, entry.offset)?;
            packed.unpack(&mut slot.raw)?;
            Ok(packed.rows)
        };
        slot.rows = unpack().map_err(|damage| segment.damaged(entry.offset, damage))?;
        slot.block = Some((segment.id, block));
        Ok(at)
    }
}
