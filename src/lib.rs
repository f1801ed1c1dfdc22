//! Postdate: a persistent, durable delayed-message queue engine.
//!
//! The crate is both the server (`postdate serve`) and the library behind it. Floors, imports go
//! down only: `base` < `env`, `codec`, `wheel`, `calendar` < `journal`, `store` < `engine` < `shard`, `wire` <
//! `front`, `client` < `cli`. See `docs/architecture.md`.

pub mod base;
pub mod calendar;
pub mod cli;
pub mod client;
pub mod codec;
pub mod engine;
pub mod env;
pub mod front;
pub mod journal;
pub mod shard;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod store;
pub mod wheel;
pub mod wire;

/// The README's program is compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
