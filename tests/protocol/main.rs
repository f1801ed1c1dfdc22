//! Goal: a client written from `docs/protocol.md` alone is served as the document says, and bytes
//! that do not follow it hurt nobody but their sender. Method: a real shard on a temporary
//! directory, the real listener on loopback, raw sockets.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]

mod control;
mod exactly;
mod frames;
mod hello;
mod library;
mod life;
mod order;
mod rig;
mod subscriptions;
mod values;
mod words;
