//! What is read back from disk: frames, segment headers, events.

use postdate::base::limits::FRAME_ALIGN;
use postdate::codec::event::{decode, encode};
use postdate::codec::frame::{self, BatchBuffer, FrameError, FrameKind, HEADER_BYTES};
use postdate::codec::segment::{SegmentHeader, SegmentHeaderError};

/// Bytes as a frame and as the header block of a segment.
///
/// A header that is read and sealed again with its payload gives a valid frame of the same bytes,
/// checksum aside: so the way behind the checksum is tried without having to guess it.
pub fn journal_frame(data: &[u8]) -> usize {
    let own = data.get(16..24).and_then(|bytes| bytes.first_chunk::<8>());
    let own = own.map_or(1, |bytes| u64::from_le_bytes(*bytes));
    try_frame(data, own.wrapping_add(1)) + try_frame(data, own) + try_segment(data)
}

fn try_frame(data: &[u8], segment: u64) -> usize {
    let verified = frame::verify(data, segment);
    let (header, payload_len) = match frame::decode_header(data, segment) {
        Ok(read) => read,
        Err(error) => {
            assert_ne!(error, FrameError::Checksum, "a header alone has no checksum");
            assert_eq!(verified, Err(error));
            return 0;
        }
    };
    let used = HEADER_BYTES + payload_len;
    let Some(payload) = data.get(HEADER_BYTES..used) else {
        assert_eq!(verified, Err(FrameError::Cut));
        return 0;
    };
    let mut batch = BatchBuffer::new();
    batch.extend(payload);
    let sealed = batch.seal(&header);
    assert_eq!(sealed[..8], data[..8]);
    assert_eq!(sealed[12..used], data[12..used]);
    assert!(sealed[used..].iter().all(|byte| *byte == 0));
    let again = frame::verify(sealed, segment).expect("a sealed frame is valid");
    assert_eq!((again.header, again.payload), (header, payload));
    if !matches!(header.kind, FrameKind::Gap { .. }) {
        assert_eq!(again.file_bytes(), sealed.len() as u64);
    }
    assert!(again.file_bytes() > 0 && again.file_bytes().is_multiple_of(FRAME_ALIGN as u64));
    // The checksum decides, and nothing else is left to.
    if sealed[8..12] == data[8..12] {
        assert_eq!(verified, Ok(again));
    } else {
        assert_eq!(verified, Err(FrameError::Checksum));
    }
    1
}

fn try_segment(data: &[u8]) -> usize {
    let _ = SegmentHeader::decode(data);
    let mut block = [0; FRAME_ALIGN];
    let len = data.len().min(FRAME_ALIGN);
    block[..len].copy_from_slice(&data[..len]);
    let _ = SegmentHeader::decode(&block);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[..12]);
    hasher.update(&block[16..]);
    block[12..16].copy_from_slice(&hasher.finalize().to_le_bytes());
    match SegmentHeader::decode(&block) {
        Ok(header) => {
            let mut written = [1; FRAME_ALIGN];
            header.encode(&mut written);
            assert_eq!(SegmentHeader::decode(&written), Ok(header));
            1
        }
        Err(SegmentHeaderError::Newer(_)) => 1,
        Err(SegmentHeaderError::Invalid) => 0,
    }
}

/// Bytes as the events of a frame: what is read, written and read again is the same.
pub fn event(data: &[u8]) -> usize {
    let mut rest = data;
    let mut read = 0;
    let mut bytes = Vec::new();
    while !rest.is_empty() {
        let before = rest.len();
        let Ok(event) = decode(&mut rest) else { break };
        assert!(rest.len() < before, "an event takes at least a byte");
        bytes.clear();
        encode(&event, &mut bytes);
        let mut written = &bytes[..];
        assert_eq!(decode(&mut written), Ok(event));
        assert!(written.is_empty(), "{} bytes are left of {event:?}", written.len());
        read += 1;
    }
    read
}
