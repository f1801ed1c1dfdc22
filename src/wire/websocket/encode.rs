//! Frames of a server: never masked, never cut.

use bytes::{BufMut, BytesMut};

/// What a frame of ours is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A message that is UTF-8.
    Text = 1,
    /// A message of any bytes.
    Binary = 2,
    /// The last frame.
    Close = 8,
    /// Are you there?
    Ping = 9,
    /// The answer to a ping.
    Pong = 10,
}

/// Begins a frame whose payload of `length` bytes follows.
pub fn encode_header(out: &mut BytesMut, opcode: Opcode, length: usize) {
    out.put_u8(0x80 | opcode as u8);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => out.put_u8(short),
        (_, Ok(medium)) => {
            out.put_u8(126);
            out.put_u16(medium);
        }
        _ => {
            out.put_u8(127);
            out.put_u64(length as u64);
        }
    }
}

/// Writes a whole control frame; what is beyond 125 bytes of `payload` is left out.
pub fn encode_control(out: &mut BytesMut, opcode: Opcode, payload: &[u8]) {
    let payload = payload.get(..125).unwrap_or(payload);
    encode_header(out, opcode, payload.len());
    out.extend_from_slice(payload);
}

/// Writes a close frame.
pub fn encode_close(out: &mut BytesMut, code: u16) {
    encode_control(out, Opcode::Close, &code.to_be_bytes());
}
