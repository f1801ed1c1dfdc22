//! The bodies of the fuzz targets, as ordinary functions: the fuzzer calls them with what it
//! thinks of, `tests/fuzz_corpora.rs` with what is kept in `corpus/`.
//!
//! A target panics when something is wrong. Otherwise it tells how much of the input got through
//! (frames, events, messages, steps), so that a seed that has gone stale is noticed.

mod batch;
mod checkpoint;
mod engine;
mod journal;
mod root;
mod seeds;
mod segment;
mod stomp;
mod wire;

pub use batch::message_batch;
pub use checkpoint::checkpoint;
pub use engine::engine;
pub use journal::{event, journal_frame};
pub use root::root;
pub use seeds::seeds;
pub use segment::segment;
pub use stomp::stomp;
pub use wire::binary_protocol;

/// A target: takes any bytes, tells how much of them got through.
pub type Target = fn(&[u8]) -> usize;

/// Every target by the name of its corpus.
pub const TARGETS: [(&str, Target); 9] = [
    ("binary_protocol", binary_protocol),
    ("checkpoint", checkpoint),
    ("engine", engine),
    ("event", event),
    ("journal_frame", journal_frame),
    ("message_batch", message_batch),
    ("root", root),
    ("segment", segment),
    ("stomp", stomp),
];
