//! Goal: STOMP over real sockets keeps what `docs/stomp.md` says, and what broke other brokers does not break
//! this one. Method: the real server as a child process, a small client on TCP. What needs no socket is tested
//! with the session itself, `src/wire/stomp/session/tests.rs`; clients that people use, in `tests/interop`.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]

#[path = "../support/mod.rs"]
mod support;

mod client;
mod life;
mod pitfalls;
