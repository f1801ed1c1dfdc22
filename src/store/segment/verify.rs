//! Checking all of a segment.

use crate::store::key::tail;
use crate::store::segment::cursor::Walk;
use crate::store::segment::layout::{Damaged, HEADER_BYTES};
use crate::store::segment::{Segment, SegmentMeta};
use crate::store::{StoreError, Value};

/// What the rows come to; in the end what the footer should say.
#[derive(Default)]
struct Sum {
    rows: u64,
    tombstones: u64,
    payload_bytes: u64,
    tails: Option<(u64, u64)>,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
}

impl Sum {
    fn add(&mut self, key: &[u8], value: Value<'_>) -> Result<(), Damaged> {
        if self.rows == 0 {
            self.first_key = key.into();
        } else if *key <= *self.last_key {
            return Err(Damaged("rows are out of order"));
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.rows += 1;
        self.payload_bytes += key.len() as u64;
        match value {
            Value::Put(value) => self.payload_bytes += value.len() as u64,
            Value::Tombstone => self.tombstones += 1,
        }
        let tail = tail(key);
        let (min, max) = self.tails.unwrap_or((tail, tail));
        self.tails = Some((min.min(tail), max.max(tail)));
        Ok(())
    }

    fn is(&self, meta: &SegmentMeta) -> bool {
        let numbers = (self.rows, self.tombstones, self.payload_bytes);
        numbers == (meta.rows, meta.tombstones, meta.payload_bytes)
            && self.tails.unwrap_or_default() == (meta.tail_min, meta.tail_max)
            && self.first_key == *meta.first_key
            && self.last_key == *meta.last_key
    }
}

impl Segment {
    /// Reads and checks every block, the order of the rows, and what index and footer say of them.
    /// `progress` gets the bytes read since it was last called.
    ///
    /// # Errors
    /// The first damage: [`StoreError::Corrupt`]; [`StoreError::Io`].
    pub fn verify(&self, progress: &mut dyn FnMut(u64)) -> Result<(), StoreError> {
        let mut walk = Walk::default();
        let mut sum = Sum::default();
        let mut end = HEADER_BYTES as u64;
        for block in 0..self.blocks {
            let entry = self.entry(block)?;
            if entry.offset != end {
                return Err(self.damaged_index(Damaged("blocks do not follow one another")));
            }
            end = entry.end();
            walk.load(self)?;
            while walk.advance_in_block(self)? {
                let (key, value) = walk.row();
                sum.add(key, value).map_err(|damage| self.damaged(entry.offset, damage))?;
            }
            if sum.last_key != entry.last_key {
                return Err(self.damaged_index(Damaged("a block ends with another key")));
            }
            progress(entry.bytes.into());
        }
        if end != self.index_offset {
            return Err(self.damaged_index(Damaged("there are bytes behind the last block")));
        }
        if !sum.is(&self.meta) {
            return Err(self.damaged_footer(Damaged("the footer counts other rows")));
        }
        Ok(())
    }
}
