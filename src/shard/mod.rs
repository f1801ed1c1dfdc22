//! F4: the shard: one thread that owns an engine and its journal.
//!
//! The imperative shell around the engine: it reads the clocks, commits each step's events as one
//! batch, and releases what goes out only when that batch is durable.
//!
//! Invariant: nothing leaves a step whose batch is not as durable as the mode promises.

mod background;
mod backup;
mod below;
mod broker;
mod check;
mod core;
mod effort;
mod error;
mod flush;
#[cfg(test)]
mod handover_tests;
mod idle;
mod known;
mod open;
mod records;
mod sound;
mod spill;
mod stats;
mod stepped;
#[cfg(test)]
mod tests;
mod thread;
mod timekeeper;
mod work;
mod worker;

pub use broker::{Broker, Outbox, Session};
pub use check::{check_events, check_row};
pub use error::ShardError;
pub use open::{OpenError, Recovery, Shard, ShardOptions, open};
pub use sound::{check_checkpoint, from_checkpoint};
pub use stepped::SteppedShard;
