//! The journal frame. `docs/format.md`, section 1.2.
//!
//! A batch is encoded into a [`BatchBuffer`], sealed in place and written as it lies; reading
//! borrows from the bytes read.

use thiserror::Error;

use crate::base::event::BatchMeta;
use crate::base::id::Key;
use crate::base::limits::{FRAME_ALIGN, JOURNAL_PAYLOAD_MAX};
use crate::base::time::Now;

/// Bytes of a frame before its payload.
pub const HEADER_BYTES: usize = 96;

const MAGIC: &[u8; 4] = b"PDFR";
const VERSION: u16 = 1;
// Bit 0 is reserved.
const FLAG_MARK: u16 = 2;
const FLAG_GAP: u16 = 4;

/// Most bytes a gap may stand for.
pub const GAP_BYTES_MAX: u64 = 1 << 40;

/// A buffer that grew beyond this is given back when cleared: one large batch must not hold its
/// memory for ever.
const KEEP_BYTES: usize = 8 * 1024 * 1024;
const START_BYTES: usize = 64 * 1024;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FrameKind {
    /// A batch of events.
    #[default]
    Batch,
    /// Nothing but a recorded durable end; no payload, its `meta` is all zero.
    Mark,
    /// Frames that were damaged stood here, and the operator chose to go on without them; no
    /// payload, its `meta` is all zero.
    Gap {
        /// Frames lost. They keep their numbers: the next frame's is so much higher.
        frames: u64,
        /// Bytes of the file that the gap stands for, its own block included: a multiple of 4096,
        /// at most [`GAP_BYTES_MAX`].
        bytes: u64,
    },
}

/// Everything a frame says beside its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrameHeader {
    /// Segment the frame is written to.
    pub segment: u64,
    /// Number of the frame, dense over the whole journal, from 1.
    pub number: u64,
    /// Recorded durable end: segment id.
    pub durable_segment: u64,
    /// Recorded durable end: offset in that segment, bytes.
    pub durable_offset: u64,
    /// What it is.
    pub kind: FrameKind,
    /// What the batch says beside its events.
    pub meta: BatchMeta,
}

/// A valid frame, borrowed from the bytes it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its header.
    pub header: FrameHeader,
    /// Its events, encoded.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Bytes of the file the frame takes or stands for, padding included.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        match self.header.kind {
            FrameKind::Gap { bytes, .. } => bytes,
            FrameKind::Batch | FrameKind::Mark => file_bytes(self.payload.len()),
        }
    }

    /// Number of the frame that follows.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        match self.header.kind {
            FrameKind::Gap { frames, .. } => self.header.number.saturating_add(frames),
            FrameKind::Batch | FrameKind::Mark => self.header.number.saturating_add(1),
        }
    }
}

/// Bytes of the file that a frame with a payload of this length takes, padding included.
#[must_use]
pub fn file_bytes(payload_len: usize) -> u64 {
    (HEADER_BYTES + payload_len).next_multiple_of(FRAME_ALIGN) as u64
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The bytes end before the frame does.
    #[error("the file ends inside the frame")]
    Cut,
    /// No frame begins here.
    #[error("no frame begins here")]
    NoMagic,
    /// A frame of another life of the file.
    #[error("the frame belongs to segment {0}")]
    OtherSegment(u64),
    /// A version, flag or length that this version never writes.
    #[error("the frame header has an impossible {0}")]
    Field(&'static str),
    /// The checksum does not match.
    #[error("the checksum of the frame does not match")]
    Checksum,
}

/// Reads a header and the payload length it claims. Nothing is proven before [`verify`]; this is
/// to know how much to read.
///
/// # Errors
/// [`FrameError`], but never `Checksum`.
pub fn decode_header(bytes: &[u8], segment: u64) -> Result<(FrameHeader, usize), FrameError> {
    let header: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(FrameError::Cut)?;
    let u16_at = |at| u16::from_le_bytes(field(header, at));
    let u32_at = |at| u32::from_le_bytes(field(header, at));
    let u64_at = |at| u64::from_le_bytes(field(header, at));
    if header[..4] != *MAGIC {
        return Err(FrameError::NoMagic);
    }
    if u64_at(16) != segment {
        return Err(FrameError::OtherSegment(u64_at(16)));
    }
    if u16_at(4) != VERSION {
        return Err(FrameError::Field("version"));
    }
    let flags = u16_at(6);
    let kind = match flags {
        0 => FrameKind::Batch,
        FLAG_MARK => FrameKind::Mark,
        FLAG_GAP => FrameKind::Gap { frames: u64_at(48), bytes: u64_at(56) },
        _ => return Err(FrameError::Field("flag")),
    };
    let payload_len = u32_at(12) as usize;
    if payload_len > JOURNAL_PAYLOAD_MAX || (kind != FrameKind::Batch && payload_len != 0) {
        return Err(FrameError::Field("length"));
    }
    let meta = match kind {
        FrameKind::Gap { bytes, .. } => {
            let whole = bytes > 0 && bytes.is_multiple_of(FRAME_ALIGN as u64);
            if !whole || bytes > GAP_BYTES_MAX || header[64..] != [0; 32] {
                return Err(FrameError::Field("gap"));
            }
            BatchMeta::default()
        }
        FrameKind::Batch | FrameKind::Mark if header[88..] != [0; 8] => {
            return Err(FrameError::Field("reserved"));
        }
        FrameKind::Batch | FrameKind::Mark => BatchMeta {
            now: Now { mono_ms: u64_at(48), wall_ms: u64_at(56), engine_ms: u64_at(64) },
            fired_to: Key { due_ms: u64_at(72), sequence: u64_at(80) },
        },
    };
    let header = FrameHeader {
        segment,
        number: u64_at(24),
        durable_segment: u64_at(32),
        durable_offset: u64_at(40),
        kind,
        meta,
    };
    Ok((header, payload_len))
}

fn field<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}

/// Reads the frame at the beginning of `bytes` and checks all of it. `bytes` may go on behind it
/// and need not hold its padding.
///
/// # Errors
/// [`FrameError`].
pub fn verify(bytes: &[u8], segment: u64) -> Result<Frame<'_>, FrameError> {
    let (header, payload_len) = decode_header(bytes, segment)?;
    let frame = bytes.get(..HEADER_BYTES + payload_len).ok_or(FrameError::Cut)?;
    if frame[8..12] != checksum(frame, segment).to_le_bytes() {
        return Err(FrameError::Checksum);
    }
    Ok(Frame { header, payload: &frame[HEADER_BYTES..] })
}

/// Checksum of a frame without its padding, at least a header long.
fn checksum(frame: &[u8], segment: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&segment.to_le_bytes());
    hasher.update(&frame[..8]);
    hasher.update(&frame[12..]);
    hasher.finalize()
}

/// A reusable buffer in which a batch becomes a frame without being copied.
///
/// The frame lies at an address that is a multiple of 4096 with room for the header in front of
/// the payload, as direct writes need it.
#[derive(Debug)]
pub struct BatchBuffer {
    /// `start` unused bytes, the header, the payload, `padding` zeros.
    bytes: Vec<u8>,
    start: usize,
    padding: usize,
}

impl Default for BatchBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuffer {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        let mut bytes = Vec::with_capacity(START_BYTES);
        let start = align_start(&bytes);
        bytes.resize(start + HEADER_BYTES, 0);
        Self { bytes, start, padding: 0 }
    }

    /// The vector to append encoded events to. It holds other bytes in front: only append, and
    /// remove only what was appended.
    pub fn payload_mut(&mut self) -> &mut Vec<u8> {
        self.unseal();
        &mut self.bytes
    }

    /// Appends to the payload.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.payload_mut().extend_from_slice(bytes);
    }

    /// The payload so far.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.bytes[self.start + HEADER_BYTES..self.bytes.len() - self.padding]
    }

    /// Payload bytes so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.payload().len()
    }

    /// Whether there is no payload.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets the payload and keeps the memory, unless it has grown large.
    pub fn clear(&mut self) {
        if self.bytes.capacity() > KEEP_BYTES {
            *self = Self::new();
        } else {
            self.bytes.truncate(self.start + HEADER_BYTES);
            self.padding = 0;
        }
    }

    /// Finishes the frame: the bytes to write, padded. The payload stays, so a frame may be sealed
    /// again, and appending goes on behind the payload.
    ///
    /// The payload must not be over [`JOURNAL_PAYLOAD_MAX`], and only a batch has one.
    pub fn seal(&mut self, header: &FrameHeader) -> &[u8] {
        self.unseal();
        self.realign();
        let payload_len = self.len();
        assert!(payload_len <= JOURNAL_PAYLOAD_MAX, "the journal checks the length first");
        assert!(header.kind == FrameKind::Batch || payload_len == 0, "only a batch has a payload");
        let frame = &mut self.bytes[self.start..];
        encode_header(header, payload_len, frame);
        let crc = checksum(frame, header.segment);
        frame[8..12].copy_from_slice(&crc.to_le_bytes());
        let unpadded = frame.len();
        self.padding = unpadded.next_multiple_of(FRAME_ALIGN) - unpadded;
        self.bytes.resize(self.bytes.len() + self.padding, 0);
        // Growing for the padding may have moved the buffer again.
        self.realign();
        &self.bytes[self.start..]
    }

    fn unseal(&mut self) {
        self.bytes.truncate(self.bytes.len() - self.padding);
        self.padding = 0;
    }

    /// Moves the frame to an aligned address if growing has moved the vector. This is rare: the
    /// memory is kept from batch to batch.
    fn realign(&mut self) {
        if align_start(&self.bytes) == self.start {
            return;
        }
        let len = self.bytes.len() - self.start;
        // Room for any start, so that nothing below allocates again.
        self.bytes.reserve(FRAME_ALIGN);
        let start = align_start(&self.bytes);
        self.bytes.resize(self.bytes.len().max(start + len), 0);
        self.bytes.copy_within(self.start..self.start + len, start);
        self.bytes.truncate(start + len);
        self.start = start;
    }
}

/// Offset of the first aligned address from the beginning of the vector's memory.
fn align_start(bytes: &[u8]) -> usize {
    bytes.as_ptr().addr().wrapping_neg() % FRAME_ALIGN
}

fn encode_header(header: &FrameHeader, payload_len: usize, frame: &mut [u8]) {
    let meta = &header.meta;
    let flags = match header.kind {
        FrameKind::Batch => 0,
        FrameKind::Mark => FLAG_MARK,
        FrameKind::Gap { .. } => FLAG_GAP,
    };
    frame[..4].copy_from_slice(MAGIC);
    frame[4..6].copy_from_slice(&VERSION.to_le_bytes());
    frame[6..8].copy_from_slice(&flags.to_le_bytes());
    frame[12..16].copy_from_slice(&(payload_len as u32).to_le_bytes());
    let fields = [
        header.segment,
        header.number,
        header.durable_segment,
        header.durable_offset,
        meta.now.mono_ms,
        meta.now.wall_ms,
        meta.now.engine_ms,
        meta.fired_to.due_ms,
        meta.fired_to.sequence,
    ];
    for (slot, field) in frame[16..88].chunks_exact_mut(8).zip(fields) {
        slot.copy_from_slice(&field.to_le_bytes());
    }
    frame[88..HEADER_BYTES].fill(0);
    if let FrameKind::Gap { frames, bytes } = header.kind {
        frame[48..56].copy_from_slice(&frames.to_le_bytes());
        frame[56..64].copy_from_slice(&bytes.to_le_bytes());
        frame[64..HEADER_BYTES].fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> FrameHeader {
        FrameHeader {
            segment: 3,
            number: 41,
            durable_segment: 2,
            durable_offset: 8192,
            kind: FrameKind::Batch,
            meta: BatchMeta {
                now: Now { mono_ms: 1, wall_ms: 2, engine_ms: 3 },
                fired_to: Key { due_ms: 4, sequence: 5 },
            },
        }
    }

    #[test]
    fn frames_of_many_lengths_round_trip_from_one_buffer() {
        let mut batch = BatchBuffer::new();
        for len in [0, 1, 3999, 4000, 4001, 100_000, 4000, KEEP_BYTES, 10] {
            batch.clear();
            assert!(batch.is_empty());
            let payload: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            let (head, tail) = payload.split_at(len / 2);
            batch.extend(head);
            // Sealed twice with more in between: as when a full disk made a first try fail.
            let _ = batch.seal(&header());
            batch.payload_mut().extend_from_slice(tail);
            assert_eq!((batch.len(), batch.payload()), (len, &payload[..]));
            let bytes = batch.seal(&header());
            assert_eq!(bytes.as_ptr().addr() % FRAME_ALIGN, 0);
            assert_eq!(bytes.len() as u64, file_bytes(len));
            let frame = verify(bytes, 3).unwrap();
            assert_eq!((frame.header, frame.payload), (header(), &payload[..]));
            assert_eq!(batch.len(), len);
        }
        assert!(batch.bytes.capacity() <= KEEP_BYTES);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let mut batch = BatchBuffer::new();
        batch.extend(b"some events");
        let mut bytes = batch.seal(&header()).to_vec();
        let used = HEADER_BYTES + batch.len();
        for bit in 0..used * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&bytes, 3).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for cut in 0..used {
            assert_eq!(verify(&bytes[..cut], 3), Err(FrameError::Cut));
        }
        assert!(verify(&bytes[..used], 3).is_ok());
        assert_eq!(verify(&bytes, 4), Err(FrameError::OtherSegment(3)));
    }

    #[test]
    fn a_gap_stands_for_bytes_and_numbers() {
        let kind = FrameKind::Gap { frames: 7, bytes: 3 * FRAME_ALIGN as u64 };
        let mut batch = BatchBuffer::new();
        let gap = FrameHeader { kind, meta: BatchMeta::default(), ..header() };
        let bytes = batch.seal(&gap);
        assert_eq!(bytes.len(), FRAME_ALIGN);
        let frame = verify(bytes, 3).unwrap();
        assert_eq!((frame.header, frame.payload), (gap, &[][..]));
        assert_eq!((frame.file_bytes(), frame.next_number()), (3 * FRAME_ALIGN as u64, 48));
        for bytes in [0, 1, 4095, 4097, GAP_BYTES_MAX + 4096, u64::MAX] {
            let bad = FrameHeader { kind: FrameKind::Gap { frames: 1, bytes }, ..gap };
            assert_eq!(verify(batch.seal(&bad), 3), Err(FrameError::Field("gap")), "{bytes}");
        }
    }

    /// Goal: a frame that lies at a wrong address is moved, whole and alone. Method: bytes put in front
    /// of it, or taken away.
    #[test]
    fn a_frame_that_has_moved_is_aligned_again() {
        for payload in [&b"some events"[..], &[7; 4096]] {
            for by in [8, -8isize, 2000] {
                let mut batch = BatchBuffer::new();
                batch.extend(payload);
                let before = batch.start;
                // As far as it is there to be taken away.
                batch.start = before.saturating_add_signed(by);
                batch.bytes.splice(..before, vec![1; batch.start]);
                let bytes = batch.seal(&header());
                assert_eq!(bytes.as_ptr().addr() % FRAME_ALIGN, 0);
                assert_eq!(bytes.len() as u64, file_bytes(payload.len()));
                assert_eq!(verify(bytes, 3).unwrap().payload, payload);
            }
        }
    }

    #[test]
    fn a_mark_says_what_it_was_sealed_with() {
        let mark = FrameHeader { kind: FrameKind::Mark, ..header() };
        let mut batch = BatchBuffer::new();
        assert!(batch.is_empty());
        let frame = verify(batch.seal(&mark), 3).unwrap();
        assert_eq!((frame.header, frame.payload), (mark, &[][..]));
        assert_eq!((frame.file_bytes(), frame.next_number()), (FRAME_ALIGN as u64, 42));
        batch.extend(b"x");
        assert!(!batch.is_empty());
    }

    /// Goal: what a header claims has bounds, before anything is read for it. Method: headers alone, at
    /// each bound and one past it.
    #[test]
    fn lengths_flags_and_versions_have_bounds() {
        let mut batch = BatchBuffer::new();
        let mut read = |kind, at: usize, value: u32| {
            let kinds = FrameHeader { kind, meta: BatchMeta::default(), ..header() };
            let mut bytes = batch.seal(&kinds).to_vec();
            let len = if at == 12 { 4 } else { 2 };
            bytes[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
            decode_header(&bytes, 3).map(|(_, payload_len)| payload_len)
        };
        let (batch, gap) = (FrameKind::Batch, FrameKind::Gap { frames: 1, bytes: GAP_BYTES_MAX });
        let most = JOURNAL_PAYLOAD_MAX;
        let too_long = Err(FrameError::Field("length"));
        assert_eq!(read(batch, 12, most as u32), Ok(most));
        assert_eq!(read(batch, 12, most as u32 + 1), too_long);
        for kind in [FrameKind::Mark, gap] {
            assert_eq!(read(kind, 12, 0), Ok(0));
            assert_eq!(read(kind, 12, 1), too_long);
        }
        for flags in [1, 3, 6, 8, 0x100] {
            assert_eq!(read(batch, 6, flags), Err(FrameError::Field("flag")));
        }
        for version in [0, 2, 0x101] {
            assert_eq!(read(batch, 4, version), Err(FrameError::Field("version")));
        }
    }

    #[test]
    fn the_salt_counts() {
        let mut batch = BatchBuffer::new();
        let mut bytes = batch.seal(&header()).to_vec();
        bytes[16] = 4;
        assert_eq!(verify(&bytes, 4), Err(FrameError::Checksum));
    }

    #[test]
    fn the_bytes_are_as_documented() {
        let mut batch = BatchBuffer::new();
        batch.extend(b"xyz");
        let bytes = batch.seal(&header());
        let mut expected = b"PDFR\x01\0\0\0".to_vec();
        expected.extend_from_slice(&bytes[8..12]);
        expected.extend_from_slice(&3u32.to_le_bytes());
        for field in [3u64, 41, 2, 8192, 1, 2, 3, 4, 5, 0] {
            expected.extend_from_slice(&field.to_le_bytes());
        }
        expected.extend_from_slice(b"xyz");
        expected.resize(4096, 0);
        assert_eq!(bytes, expected);
    }
}
