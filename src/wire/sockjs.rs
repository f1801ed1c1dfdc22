//! SockJS 0.3.3 as text, without sockets: arrays of strings in, frames out.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use decode::{Broken, Decoder};
pub use encode::{Reason, encode_string};

/// Opens a session.
pub const OPEN: &str = "o";
/// Says that the session is alive.
pub const HEARTBEAT: &str = "h";
