//! The store on a simulated disk, beside a model of it.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod common;
mod golden;
mod merges;
mod model;
mod rot;
mod sweep;
