//! The header block of a segment file. `docs/format.md`, section 1.1.

use thiserror::Error;

use crate::base::limits::FRAME_ALIGN;

/// Version of the journal format this code writes, and the highest it reads.
pub const VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"PDSEGMNT";

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Segment id, from 1.
    pub segment: u64,
    /// Id of the segment before; 0 none.
    pub previous: u64,
    /// Offset just past the last frame of the segment before; 0 none.
    pub previous_end: u64,
    /// Number of the first frame of this segment.
    pub first_frame: u64,
}

/// Why a block is not a segment header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SegmentHeaderError {
    /// Magic, checksum or length are wrong.
    #[error("the segment header is invalid")]
    Invalid,
    /// Undamaged, and written by a newer version of the format.
    #[error("the segment has format version {0}")]
    Newer(u32),
}

impl SegmentHeader {
    /// Writes the header into a block of exactly [`FRAME_ALIGN`] bytes.
    pub fn encode(&self, block: &mut [u8; FRAME_ALIGN]) {
        block.fill(0);
        block[..8].copy_from_slice(MAGIC);
        block[8..12].copy_from_slice(&VERSION.to_le_bytes());
        let fields = [self.segment, self.previous, self.previous_end, self.first_frame];
        for (slot, field) in block[16..48].chunks_exact_mut(8).zip(fields) {
            slot.copy_from_slice(&field.to_le_bytes());
        }
        let crc = checksum(block);
        block[12..16].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads a header.
    ///
    /// # Errors
    /// [`SegmentHeaderError`]; a version is believed only when the checksum is right.
    pub fn decode(block: &[u8]) -> Result<Self, SegmentHeaderError> {
        let block: &[u8; FRAME_ALIGN] =
            block.try_into().map_err(|_| SegmentHeaderError::Invalid)?;
        let crc = u32::from_le_bytes([block[12], block[13], block[14], block[15]]);
        if block[..8] != *MAGIC || crc != checksum(block) {
            return Err(SegmentHeaderError::Invalid);
        }
        let version = u32::from_le_bytes([block[8], block[9], block[10], block[11]]);
        if version > VERSION {
            return Err(SegmentHeaderError::Newer(version));
        }
        let mut fields = [0; 4];
        for (field, bytes) in fields.iter_mut().zip(block[16..48].as_chunks::<8>().0) {
            *field = u64::from_le_bytes(*bytes);
        }
        let [segment, previous, previous_end, first_frame] = fields;
        Ok(Self { segment, previous, previous_end, first_frame })
    }
}

fn checksum(block: &[u8; FRAME_ALIGN]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[..12]);
    hasher.update(&block[16..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_every_flipped_bit_is_seen() {
        let header =
            SegmentHeader { segment: 9, previous: 8, previous_end: 1 << 33, first_frame: 77 };
        let mut block = [1; FRAME_ALIGN];
        header.encode(&mut block);
        assert_eq!(SegmentHeader::decode(&block), Ok(header));
        for bit in 0..FRAME_ALIGN * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&block), Err(SegmentHeaderError::Invalid));
            block[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(SegmentHeader::decode(&block[1..]), Err(SegmentHeaderError::Invalid));
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let header = SegmentHeader { segment: 1, previous: 0, previous_end: 0, first_frame: 1 };
        let mut block = [0; FRAME_ALIGN];
        header.encode(&mut block);
        block[8..12].copy_from_slice(&2u32.to_le_bytes());
        let crc = checksum(&block);
        block[12..16].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&block), Err(SegmentHeaderError::Newer(2)));
    }
}
