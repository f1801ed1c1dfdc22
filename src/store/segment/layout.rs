//! Header and footer of a segment file. `docs/format.md`, section 2.1.

use crate::store::Family;
use crate::store::segment::SegmentMeta;

/// Version of the segment format this code writes, and the highest it reads.
pub(super) const VERSION: u32 = 1;
/// Length of the header.
pub(super) const HEADER_BYTES: usize = 32;
/// Length of the footer.
pub(super) const FOOTER_BYTES: usize = 640;

const HEADER_MAGIC: &[u8; 8] = b"PDSORTED";
const FOOTER_MAGIC: &[u8; 8] = b"PDSORTFT";
/// Where the key range begins in the footer: two times a length byte and 255 bytes.
const KEYS_AT: usize = 104;
const KEY_SLOT: usize = 256;

/// Why bytes of a segment are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damaged(pub(super) &'static str);

/// What a header may be instead of the one asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotThisHeader {
    Damaged(Damaged),
    Newer(u32),
}

/// What a footer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) meta: SegmentMeta,
    pub(super) index_offset: u64,
    pub(super) index_bytes: u64,
    pub(super) index_crc: u32,
    pub(super) blocks: u32,
}

pub(super) fn encode_header(number: u64, family: Family) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(HEADER_MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&number.to_le_bytes());
    bytes[24] = family as u8;
    let crc = checksum(&bytes);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// A version is believed only when the checksum is right.
pub(super) fn check_header(
    bytes: &[u8; HEADER_BYTES],
    number: u64,
    family: Family,
) -> Result<(), NotThisHeader> {
    let damaged = |why| Err(NotThisHeader::Damaged(Damaged(why)));
    if bytes[..8] != *HEADER_MAGIC || u32_at(bytes, 12) != checksum(bytes) {
        return damaged("it does not begin with a valid segment header");
    }
    match u32_at(bytes, 8) {
        0 => return damaged("the segment header has version 0"),
        VERSION => {}
        newer => return Err(NotThisHeader::Newer(newer)),
    }
    if u64_at(bytes, 16) != number {
        return damaged("it is another segment than its name says");
    }
    if bytes[24] != family as u8 {
        return damaged("it holds rows of another family than the root says");
    }
    Ok(())
}

impl Footer {
    pub(super) fn encode(&self) -> [u8; FOOTER_BYTES] {
        let meta = &self.meta;
        let mut bytes = [0; FOOTER_BYTES];
        bytes[..8].copy_from_slice(FOOTER_MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&meta.number.to_le_bytes());
        bytes[24] = meta.family as u8;
        bytes[32..40].copy_from_slice(&self.index_offset.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.index_bytes.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.index_crc.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.blocks.to_le_bytes());
        let numbers = [
            meta.bytes,
            meta.rows,
            meta.tombstones,
            meta.payload_bytes,
            meta.tail_min,
            meta.tail_max,
        ];
        for (slot, number) in bytes[56..KEYS_AT].chunks_exact_mut(8).zip(numbers) {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        let slots = bytes[KEYS_AT..].chunks_exact_mut(KEY_SLOT);
        for (slot, key) in slots.zip([&meta.first_key, &meta.last_key]) {
            slot[0] = key.len() as u8;
            slot[1..=key.len()].copy_from_slice(key);
        }
        let crc = checksum(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the footer of a file of `file_bytes`, whose header was right.
    pub(super) fn decode(
        bytes: &[u8; FOOTER_BYTES],
        number: u64,
        family: Family,
        file_bytes: u64,
    ) -> Result<Self, Damaged> {
        if bytes[..8] != *FOOTER_MAGIC || u32_at(bytes, 12) != checksum(bytes) {
            return Err(Damaged("it does not end with a valid segment footer"));
        }
        let head = (u32_at(bytes, 8), u64_at(bytes, 16), bytes[24], u64_at(bytes, 56));
        if head != (VERSION, number, family as u8, file_bytes) {
            return Err(Damaged("header and footer are not those of one file"));
        }
        let key = |at: usize| {
            let len = usize::from(bytes[at]);
            bytes[at + 1..at + 1 + len].into()
        };
        let footer = Self {
            index_offset: u64_at(bytes, 32),
            index_bytes: u64_at(bytes, 40),
            index_crc: u32_at(bytes, 48),
            blocks: u32_at(bytes, 52),
            meta: SegmentMeta {
                number,
                family,
                bytes: file_bytes,
                rows: u64_at(bytes, 64),
                tombstones: u64_at(bytes, 72),
                payload_bytes: u64_at(bytes, 80),
                tail_min: u64_at(bytes, 88),
                tail_max: u64_at(bytes, 96),
                first_key: key(KEYS_AT),
                last_key: key(KEYS_AT + KEY_SLOT),
            },
        };
        let end = footer.index_offset.checked_add(footer.index_bytes);
        let end = end.and_then(|end| end.checked_add(FOOTER_BYTES as u64));
        if footer.index_offset < HEADER_BYTES as u64 || end != Some(file_bytes) {
            return Err(Damaged("the parts its footer names do not make up the file"));
        }
        Ok(footer)
    }
}

/// Of a header or footer: everything but the checksum itself.
fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..12]);
    hasher.update(&bytes[16..]);
    hasher.finalize()
}

/// Of a part of a segment. Number and place belong to it, so that what was written for another
/// segment, or elsewhere in this one, is not taken for what was meant.
pub(super) fn salted_checksum(number: u64, offset: u64, bytes: &[u8]) -> u32 {
    let mut salt = [0; 16];
    salt[..8].copy_from_slice(&number.to_le_bytes());
    salt[8..].copy_from_slice(&offset.to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt);
    hasher.update(bytes);
    hasher.finalize()
}

/// Of arrays and of slices whose length was checked.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

/// Of arrays and of slices whose length was checked.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}
