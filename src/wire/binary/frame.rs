//! Frames: `length u32 | crc32 u32 | request type i32 | correlation id u32 | body`.

use bytes::{Buf, Bytes, BytesMut};

use crate::base::error::{ClientError, Code};

/// Bytes of a frame in front of its body.
pub const HEADER_BYTES: usize = 16;
/// What `length` counts beside the body: checksum, request type, correlation id.
const COUNTED_HEADER_BYTES: usize = 12;

/// A frame with a right checksum; its body is not looked at yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Request type as sent; not every number has a meaning.
    pub request_type: i32,
    /// Correlation id.
    pub correlation: u32,
    /// The body, shared with the buffer it came in.
    pub body: Bytes,
    /// Where the frame begins, in bytes from the beginning of the stream.
    pub at: u64,
}

impl Frame {
    /// Bytes of the whole frame on the wire.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }
}

/// A frame that cannot be read. The stream has no known continuation after it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct FrameError {
    /// Request type of the bad frame; 0 when it could not be read.
    pub request_type: i32,
    /// Correlation id of the bad frame; 0 when it could not be read.
    pub correlation: u32,
    /// What is wrong, and where.
    pub error: ClientError,
}

/// Cuts frames out of a stream of bytes.
#[derive(Debug, Clone)]
pub struct FrameDecoder {
    length_max: usize,
    position: u64,
}

impl FrameDecoder {
    /// A decoder for the beginning of a stream, that takes frames whose `length` is at most
    /// `length_max`.
    #[must_use]
    pub fn new(length_max: usize) -> Self {
        Self { length_max, position: 0 }
    }

    /// Takes frames up to another length from now on.
    pub fn set_length_max(&mut self, length_max: usize) {
        self.length_max = length_max;
    }

    /// The next frame, removed from the front of `buffer`; `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`FrameError`] for a length out of bounds (judged as soon as it can be read, so that
    /// nothing is buffered for it) and for a wrong checksum. The buffer is left as it was.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let Some(length) = read_u32(buffer, 0) else { return Ok(None) };
        let length = length as usize;
        if length < COUNTED_HEADER_BYTES || length > self.length_max {
            return Err(self.bad_length(buffer, length));
        }
        if buffer.len() < 4 + length {
            return Ok(None);
        }
        let crc = crc32fast::hash(&buffer[8..4 + length]);
        let (sent, request_type, correlation) = header(buffer);
        if crc != sent {
            let at = self.position;
            return Err(FrameError {
                request_type,
                correlation,
                error: ClientError::new(
                    Code::BadChecksum,
                    format!(
                        "the frame at byte {at} says crc32 {sent:08x} at byte {}, \
                         its bytes have {crc:08x}",
                        at + 4
                    ),
                ),
            });
        }
        let mut body = buffer.split_to(4 + length).freeze();
        body.advance(HEADER_BYTES);
        let at = self.position;
        self.position += 4 + length as u64;
        Ok(Some(Frame { request_type, correlation, body, at }))
    }

    /// Bytes still missing of the frame at the front of `buffer`; 0 when that is not known or
    /// the frame is complete. A hint for reading.
    #[must_use]
    pub fn missing(&self, buffer: &BytesMut) -> usize {
        let Some(length) = read_u32(buffer, 0) else { return 0 };
        (4 + (length as usize).min(self.length_max)).saturating_sub(buffer.len())
    }

    /// What is wrong with a stream that ends with `buffer`, which holds no complete frame; `None`
    /// when it ends between two frames.
    #[must_use]
    pub fn end(&self, buffer: &BytesMut) -> Option<FrameError> {
        if buffer.is_empty() {
            return None;
        }
        let (request_type, correlation) = sender(buffer);
        let (at, count) = (self.position, buffer.len());
        let error = ClientError::new(
            Code::Malformed,
            format!("the stream ends inside the frame at byte {at}, after {count} bytes of it"),
        );
        Some(FrameError { request_type, correlation, error })
    }

    fn bad_length(&self, buffer: &BytesMut, length: usize) -> FrameError {
        let (request_type, correlation) = sender(buffer);
        let (at, max) = (self.position, self.length_max);
        let error = if length < COUNTED_HEADER_BYTES {
            ClientError::new(
                Code::Malformed,
                format!("the frame at byte {at} has length {length}; at least 12 is needed"),
            )
        } else {
            ClientError::new(
                Code::FrameTooLarge,
                format!("the frame at byte {at} has length {length}; at most {max} is allowed"),
            )
        };
        FrameError { request_type, correlation, error }
    }
}

/// Begins a frame at the end of `out`; [`finish_frame`] completes it.
pub(super) fn begin_frame(out: &mut Vec<u8>, request_type: i32, correlation: u32) -> usize {
    let start = out.len();
    let mut header = [0; HEADER_BYTES];
    header[8..12].copy_from_slice(&request_type.to_be_bytes());
    header[12..].copy_from_slice(&correlation.to_be_bytes());
    out.extend_from_slice(&header);
    start
}

/// Fills in length and checksum of the frame that begins at `start` and ends with `out`.
pub(super) fn finish_frame(out: &mut [u8], start: usize) {
    let frame = &mut out[start..];
    let length = (frame.len() - 4) as u32;
    let crc = crc32fast::hash(&frame[8..]);
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame[4..8].copy_from_slice(&crc.to_be_bytes());
}

/// Checksum, request type and correlation id of a buffer that holds a whole header.
fn header(buffer: &BytesMut) -> (u32, i32, u32) {
    let field = |at| read_u32(buffer, at).unwrap_or_default();
    (field(4), field(8) as i32, field(12))
}

/// Request type and correlation id as far as they are there, else 0.
fn sender(buffer: &BytesMut) -> (i32, u32) {
    if buffer.len() < HEADER_BYTES {
        return (0, 0);
    }
    let (_, request_type, correlation) = header(buffer);
    (request_type, correlation)
}

fn read_u32(buffer: &BytesMut, at: usize) -> Option<u32> {
    buffer.get(at..)?.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes))
}
