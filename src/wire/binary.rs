//! The binary protocol of `docs/protocol.md`, both ways: the server decodes requests and encodes
//! answers, the client the other way round, with the same code.
//!
//! Frames are cut out of a stream by [`FrameDecoder`] without copying their bodies; bodies are
//! read by [`Request::decode`] and [`ServerFrame::decode`].

mod answer;
mod delivery;
mod fields;
mod frame;
mod request;
mod request_type;
mod server;

pub use answer::{HelloAnswer, Reply, encode_answer, encode_failure, encode_hello_answer};
pub use fields::BodyError;
pub use frame::{Frame, FrameDecoder, FrameError, HEADER_BYTES};
pub use request::{
    Fault, Hello, PROTOCOL_VERSION, Request, encode_command, encode_heartbeat, encode_hello,
};
pub use request_type::RequestType;
pub use server::{DeliverFrame, PushType, ServerFrame, encode_ended, encode_goodbye};

#[cfg(test)]
mod arbitrary;
#[cfg(test)]
mod document_tests;
#[cfg(test)]
mod tests;
