//! WebSocket frames (RFC 6455) as a server reads and writes them, without sockets.
//!
//! Messages are not put together: what they carry is a stream whose own frames end where they end. So
//! nothing is kept of a message, however long it is and into however many fragments it is cut.

mod decode;
mod encode;
mod handshake;
#[cfg(test)]
mod tests;
mod utf8;

pub use decode::{Decoder, Event, Fault};
pub use encode::{Opcode, encode_close, encode_control, encode_header};
pub use handshake::{PROTOCOLS, accept_key, choose_protocol};
pub(crate) use utf8::Utf8;

/// Nothing is wrong: the connection has served its purpose.
pub const CLOSE_NORMAL: u16 = 1000;
/// The server stops, or the page was left.
pub const CLOSE_GOING_AWAY: u16 = 1001;
/// The peer broke the protocol.
pub const CLOSE_PROTOCOL: u16 = 1002;
/// A text was not UTF-8.
pub const CLOSE_NOT_UTF8: u16 = 1007;
