//! Checking all of a segment.

use crate::store::key::tail;
use crate::store::segment::cursor::Walk;
use crate::store::segment::index::Entry;
use crate::store::segment::layout::{Damaged, HEADER_BYTES};
use crate::store::segment::{Segment, SegmentMeta};
use crate::store::{Damage, Family, StoreError, Value};

/// What the rows come to; in the end what the footer should say.
#[derive(Default)]
struct Sum {
    rows: u64,
    tombstones: u64,
    payload_bytes: u64,
    tails: Option<(u64, u64)>,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
    /// Rows were left out.
    lost: bool,
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

/// Looks at a row whose checksum was right. A text says why it makes no sense.
pub type OnRow<'a> = &'a mut dyn FnMut(Family, &[u8], Value<'_>) -> Result<(), String>;

impl Segment {
    /// Reads and checks every block, the order of the rows, and what index and footer say of them;
    /// goes on behind damage. `on_row` judges each row. `progress` gets the bytes read since it was
    /// last called. Gives everything that is damaged, one place a block at most.
    pub fn verify(&self, on_row: OnRow<'_>, progress: &mut dyn FnMut(u64)) -> Vec<Damage> {
        let mut walk = Walk::default();
        let mut sum = Sum::default();
        let mut found = Vec::new();
        let mut end = HEADER_BYTES as u64;
        for block in 0..self.blocks {
            let entry = match self.entry(block) {
                Ok(entry) => entry,
                // Where the blocks behind it are is not known.
                Err(error) => {
                    found.push(self.damage_of(self.index_offset, error));
                    return found;
                }
            };
            if entry.offset != end {
                let apart = Damaged("blocks do not follow one another");
                found.push(self.damage_of(self.index_offset, self.damaged_index(apart)));
            }
            end = entry.end();
            walk.go_to(block);
            if let Err(error) = self.verify_block(&mut walk, &entry, &mut sum, on_row) {
                found.push(self.damage_of(entry.offset, error));
                sum.lost = true;
            }
            progress(entry.bytes.into());
        }
        if end != self.index_offset {
            let behind = Damaged("there are bytes behind the last block");
            found.push(self.damage_of(self.index_offset, self.damaged_index(behind)));
        }
        // What a damaged block held cannot be counted.
        if !sum.lost && !sum.is(&self.meta) {
            let other = Damaged("the footer counts other rows");
            found.push(self.damage_of(0, self.damaged_footer(other)));
        }
        found
    }

    fn verify_block(
        &self,
        walk: &mut Walk,
        entry: &Entry<'_>,
        sum: &mut Sum,
        on_row: OnRow<'_>,
    ) -> Result<(), StoreError> {
        let bad = |why: String| StoreError::corrupt(&self.path, entry.offset, why);
        walk.load(self)?;
        let mut senseless = None;
        while walk.advance_in_block(self)? {
            let (key, value) = walk.row();
            sum.add(key, value).map_err(|damage| self.damaged(entry.offset, damage))?;
            if let Err(why) = on_row(self.meta.family, key, value) {
                senseless.get_or_insert(why);
            }
        }
        if sum.last_key != entry.last_key {
            return Err(bad("it ends with another key than the index says".into()));
        }
        senseless.map_or(Ok(()), |why| {
            Err(bad(format!("a row makes no sense although its checksum is right: {why}")))
        })
    }

    /// An error as damage; `offset` is where it was met, should it not say so itself.
    fn damage_of(&self, offset: u64, error: StoreError) -> Damage {
        Damage::of(error, &self.path, offset)
    }
}
