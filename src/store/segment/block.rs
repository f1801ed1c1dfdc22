//! A block: some rows, packed together, checked together. `docs/format.md`, section 2.1.2.

use std::cell::RefCell;
use std::ops::Range;

use zstd::bulk::{Compressor, Decompressor};

use crate::base::limits::{STORE_KEY_BYTES_MAX, STORE_VALUE_BYTES_MAX};
use crate::store::segment::layout::{Damaged, salted_checksum, u32_at};
use crate::store::{Compression, Value};

/// Length of the header of a block.
pub(super) const HEADER_BYTES: usize = 16;
/// Longest block before and after compression, header aside. A longer one is damage.
pub(super) const RAW_BYTES_MAX: usize = ROW_BYTES_MAX;

/// What a buffer keeps, bytes, when a row that needed more is done with.
const KEPT_BYTES_MAX: usize = 64 * 1024;
/// A row at its longest: two lengths of a byte, the tag, key and value.
const ROW_BYTES_MAX: usize = 2 + TAG_BYTES_MAX + STORE_KEY_BYTES_MAX + STORE_VALUE_BYTES_MAX;
/// Bytes of the tag of the longest value.
const TAG_BYTES_MAX: usize = 4;

const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
/// Level 1 is twice as fast as the default and loses little on rows this short.
const ZSTD_LEVEL: i32 = 1;

/// The rows of a block while it is filled.
#[derive(Debug, Default)]
pub(super) struct BlockBuilder {
    raw: Vec<u8>,
    rows: u16,
}

impl BlockBuilder {
    /// Bytes so far, before compression.
    pub(super) fn len(&self) -> usize {
        self.raw.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Whether another row of this length fits into a block of `block_bytes`.
    pub(super) fn has_room(&self, payload: usize, block_bytes: usize) -> bool {
        self.rows < u16::MAX && self.raw.len() + 2 + TAG_BYTES_MAX + payload <= block_bytes
    }

    /// Adds a row whose key begins like the last one for `shared` bytes.
    pub(super) fn push(&mut self, shared: usize, key: &[u8], value: Value<'_>) {
        let shared = if self.is_empty() { 0 } else { shared };
        let suffix = &key[shared..];
        self.raw.extend([shared as u8, suffix.len() as u8]);
        let value = match value {
            Value::Tombstone => {
                self.raw.push(0);
                &[]
            }
            Value::Put(value) => {
                push_varint(&mut self.raw, value.len() as u32 + 1);
                value
            }
        };
        self.raw.extend_from_slice(suffix);
        self.raw.extend_from_slice(value);
        self.rows += 1;
    }
}

/// Packs blocks into the bytes of a file.
pub(super) struct Packer {
    zstd: Option<Compressor<'static>>,
    packed: Vec<u8>,
}

impl Packer {
    pub(super) fn new(compression: Compression) -> std::io::Result<Self> {
        let zstd = match compression {
            Compression::None => None,
            Compression::Zstd => Some(Compressor::new(ZSTD_LEVEL)?),
        };
        Ok(Self { zstd, packed: Vec::new() })
    }

    /// Appends the block to `out`, where it will stand at `offset` of the file, and empties it.
    pub(super) fn pack(
        &mut self,
        block: &mut BlockBuilder,
        number: u64,
        offset: u64,
        out: &mut Vec<u8>,
    ) -> std::io::Result<()> {
        let raw = block.raw.len();
        let (compression, payload) = match &mut self.zstd {
            Some(zstd) => {
                self.packed.clear();
                self.packed.reserve(zstd::zstd_safe::compress_bound(raw));
                zstd.compress_to_buffer(&block.raw, &mut self.packed)?;
                // What does not shrink by an eighth is not worth unpacking.
                if self.packed.len() <= raw - raw / 8 {
                    (ZSTD, &self.packed)
                } else {
                    (PLAIN, &block.raw)
                }
            }
            None => (PLAIN, &block.raw),
        };
        let start = out.len();
        out.extend([0; 4]);
        out.extend((payload.len() as u32).to_le_bytes());
        out.extend((raw as u32).to_le_bytes());
        out.extend([compression, 0]);
        out.extend(block.rows.to_le_bytes());
        out.extend_from_slice(payload);
        let crc = salted_checksum(number, offset, &out[start + 4..]);
        out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
        block.raw.clear();
        block.rows = 0;
        Ok(())
    }
}

/// A block as it lies in the file, its checksum right.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed<'a> {
    compression: u8,
    raw_bytes: usize,
    payload: &'a [u8],
    /// Number of rows.
    pub(super) rows: u16,
}

impl<'a> Packed<'a> {
    /// `bytes` is the whole block and nothing else.
    pub(super) fn check(bytes: &'a [u8], number: u64, offset: u64) -> Result<Self, Damaged> {
        let Some((head, payload)) = bytes.split_at_checked(HEADER_BYTES) else {
            return Err(Damaged("a block is too short"));
        };
        if u32_at(head, 0) != salted_checksum(number, offset, &bytes[4..]) {
            return Err(Damaged("a block has a wrong checksum"));
        }
        let raw_bytes = u32_at(head, 8) as usize;
        let rows = u16::from_le_bytes([head[14], head[15]]);
        let right = u32_at(head, 4) as usize == payload.len()
            && raw_bytes <= RAW_BYTES_MAX
            && head[13] == 0
            && rows > 0
            && (head[12] == ZSTD || head[12] == PLAIN && raw_bytes == payload.len());
        if !right {
            return Err(Damaged("a block header says what cannot be"));
        }
        Ok(Self { compression: head[12], raw_bytes, payload, rows })
    }

    /// The rows, when they need no unpacking.
    pub(super) fn plain(&self) -> Option<&'a [u8]> {
        (self.compression == PLAIN).then_some(self.payload)
    }

    /// Writes the rows to `out`, in place of what it held.
    pub(super) fn unpack(&self, out: &mut Vec<u8>) -> Result<(), Damaged> {
        resize(out, self.raw_bytes);
        if let Some(plain) = self.plain() {
            out.copy_from_slice(plain);
            return Ok(());
        }
        match decompress(self.payload, out) {
            Ok(written) if written == self.raw_bytes => Ok(()),
            _ => Err(Damaged("a block cannot be unpacked")),
        }
    }
}

/// Gives a buffer a length. What it grew to for a large row it gives back.
pub(super) fn resize(buffer: &mut Vec<u8>, len: usize) {
    if buffer.capacity() > KEPT_BYTES_MAX && len <= KEPT_BYTES_MAX {
        *buffer = Vec::with_capacity(KEPT_BYTES_MAX);
    }
    buffer.resize(len, 0);
}

fn decompress(packed: &[u8], out: &mut [u8]) -> std::io::Result<usize> {
    thread_local! {
        /// Takes 160 KB, so there is one for a thread instead of one for each cursor.
        static ZSTD: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
    }
    ZSTD.with_borrow_mut(|zstd| match zstd {
        Some(zstd) => zstd.decompress_to_buffer(packed, out),
        None => zstd.insert(Decompressor::new()?).decompress_to_buffer(packed, out),
    })
}

/// Goes through the rows of an unpacked block.
#[derive(Debug, Default)]
pub(super) struct Rows {
    at: usize,
    left: u16,
    key: Vec<u8>,
    /// Where the value is; `None` for a tombstone.
    value: Option<Range<usize>>,
}

impl Rows {
    /// Before the first of `rows` rows.
    pub(super) fn begin(&mut self, rows: u16) {
        (self.at, self.left) = (0, rows);
        self.key.clear();
    }

    /// Goes to the next row; `false` when there is none. `raw` is the same until they begin anew.
    ///
    /// After an error it stays where it was.
    pub(super) fn advance(&mut self, raw: &[u8]) -> Result<bool, Damaged> {
        const CUT: Damaged = Damaged("a row does not end within its block");
        if self.left == 0 {
            return Ok(false);
        }
        let rest = raw.get(self.at..).ok_or(CUT)?;
        let [shared, suffix, ..] = *rest else { return Err(CUT) };
        let (shared, suffix) = (usize::from(shared), usize::from(suffix));
        let (tag, tag_bytes) = read_varint(&rest[2..]).ok_or(CUT)?;
        let key_at = 2 + tag_bytes;
        let value_at = key_at + suffix;
        let end = value_at + (tag as usize).saturating_sub(1);
        let row = rest.get(..end).ok_or(CUT)?;
        if shared > self.key.len() || !(1..=STORE_KEY_BYTES_MAX).contains(&(shared + suffix)) {
            return Err(Damaged("a row has a wrong key"));
        }
        if self.left == 1 && row.len() < rest.len() {
            return Err(Damaged("a block goes on behind its rows"));
        }
        self.key.truncate(shared);
        self.key.extend_from_slice(&row[key_at..value_at]);
        self.value = (tag > 0).then_some(self.at + value_at..self.at + end);
        self.at += end;
        self.left -= 1;
        Ok(true)
    }

    /// Key of the row it stands on.
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Value of the row it stands on, in the bytes it went through.
    pub(super) fn value<'a>(&self, raw: &'a [u8]) -> Value<'a> {
        match &self.value {
            // `advance` found it within these bytes.
            Some(range) => Value::Put(&raw[range.clone()]),
            None => Value::Tombstone,
        }
    }
}

fn push_varint(out: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A number and how many bytes it took; `None` when it is cut, or longer than any that is written.
fn read_varint(bytes: &[u8]) -> Option<(u32, usize)> {
    let mut number = 0;
    for (at, byte) in bytes.iter().take(TAG_BYTES_MAX).enumerate() {
        number |= u32::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((number, at + 1));
        }
    }
    None
}
