//! STOMP 1.0, 1.1 and 1.2 as `docs/stomp.md` says, both ways and without a socket: bytes in, frames out.
//!
//! A server decodes what clients send and encodes what it answers; a client in tests goes the other way
//! round, with the same code. What a frame means is the session's matter, not the codec's.

mod command;
mod decode;
mod encode;
mod escape;
mod frame;
pub mod session;
mod version;

pub use command::Command;
pub use decode::{DecodeError, Decoder, Limits};
pub use encode::encode;
pub use frame::{Frame, Headers};
pub use version::Version;

#[cfg(test)]
mod tests;
