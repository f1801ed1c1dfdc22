//! The index: where each block lies and which is its last key.
//!
//! ```text
//!  |place of entry 0|place of entry 1|...|entry 0|entry 1|...
//! ```
//! It is searched in the bytes as they lie in the file, so an open segment costs no memory for it.

use crate::store::segment::layout::{Damaged, u32_at, u64_at};

/// Bytes of a place: a u32, counted from the first entry.
const PLACE_BYTES: usize = 4;
/// Bytes of an entry before its key.
const ENTRY_BYTES: usize = 13;

/// A block, as the index tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// Where it begins in the file.
    pub(super) offset: u64,
    /// Its length in the file, block header included.
    pub(super) bytes: u32,
    /// Its highest key.
    pub(super) last_key: &'a [u8],
}

impl Entry<'_> {
    /// Where it ends in the file.
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes.into())
    }
}

/// An index while its segment is written.
#[derive(Debug, Default)]
pub(super) struct IndexBuilder {
    places: Vec<u8>,
    entries: Vec<u8>,
}

impl IndexBuilder {
    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.places.len() + self.entries.len()
    }

    /// Adds a block. `false` when an index cannot have more.
    #[must_use]
    pub(super) fn push(&mut self, entry: Entry<'_>) -> bool {
        let Ok(place) = u32::try_from(self.entries.len()) else { return false };
        self.places.extend(place.to_le_bytes());
        self.entries.extend(entry.offset.to_le_bytes());
        self.entries.extend(entry.bytes.to_le_bytes());
        self.entries.push(entry.last_key.len() as u8);
        self.entries.extend(entry.last_key);
        true
    }

    /// Blocks so far.
    pub(super) fn blocks(&self) -> u32 {
        // No entry is added whose place is no u32, and an entry is longer than 1.
        (self.places.len() / PLACE_BYTES) as u32
    }

    /// The index as it stands in the file.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.places.append(&mut self.entries);
        self.places
    }
}

/// An index as it lies in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Index<'a> {
    places: &'a [u8],
    entries: &'a [u8],
}

impl<'a> Index<'a> {
    pub(super) fn new(bytes: &'a [u8], blocks: u32) -> Result<Self, Damaged> {
        let places = blocks as usize * PLACE_BYTES;
        let (places, entries) =
            bytes.split_at_checked(places).ok_or(Damaged("the index is too short"))?;
        Ok(Self { places, entries })
    }

    /// Number of blocks.
    pub(super) fn blocks(&self) -> u32 {
        (self.places.len() / PLACE_BYTES) as u32
    }

    /// A block by its number, from 0.
    pub(super) fn entry(&self, block: u32) -> Result<Entry<'a>, Damaged> {
        let read = || {
            let place = self.places.get(block as usize * PLACE_BYTES..)?.first_chunk()?;
            let entry = self.entries.get(u32::from_le_bytes(*place) as usize..)?;
            let (head, rest) = entry.split_at_checked(ENTRY_BYTES)?;
            let last_key = rest.get(..usize::from(head[12]))?;
            Some(Entry { offset: u64_at(head, 0), bytes: u32_at(head, 8), last_key })
        };
        read().ok_or(Damaged("the index names an entry that is not there"))
    }

    /// The first block that can hold `key` or a higher one; the number of blocks when none can.
    pub(super) fn find(&self, key: &[u8]) -> Result<u32, Damaged> {
        let (mut low, mut high) = (0, self.blocks());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry(middle)?.last_key < key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the search finds the first block that can hold a key, for every number of blocks.
    /// Method: blocks whose last keys are 10, 20, ...; each key from 0 on is looked for.
    #[test]
    fn the_first_block_that_can_hold_a_key_is_found() {
        for blocks in 0..20u8 {
            let mut builder = IndexBuilder::default();
            for block in 0..blocks {
                let last_key = &[(block + 1) * 10][..];
                assert!(builder.push(Entry { offset: block.into(), bytes: 9, last_key }));
            }
            assert_eq!(builder.blocks(), u32::from(blocks));
            let len = builder.len();
            let bytes = builder.finish();
            assert_eq!(bytes.len(), len);
            let index = Index::new(&bytes, blocks.into()).unwrap();
            for key in 0..=210 {
                let wanted = u32::from(key).div_ceil(10).saturating_sub(1).min(blocks.into());
                assert_eq!(index.find(&[key]), Ok(wanted), "{key} in {blocks}");
            }
            assert!(index.entry(blocks.into()).is_err());
        }
    }

    /// Goal: an index that lies about itself is an error. Method: each byte set to 255.
    #[test]
    fn a_wrong_index_is_no_panic() {
        let mut builder = IndexBuilder::default();
        for key in [b"a", b"b"] {
            assert!(builder.push(Entry { offset: 1, bytes: 2, last_key: key }));
        }
        let bytes = builder.finish();
        assert!(Index::new(&bytes, u32::MAX).is_err());
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] = 255;
            let index = Index::new(&bytes, 2).unwrap();
            let _ = (index.find(b"a"), index.entry(0), index.entry(1));
        }
    }
}
