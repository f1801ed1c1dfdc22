//! F5: the listeners. Async at the edge only: connections become sessions of the shard, bytes
//! become commands, answers become bytes; nothing is decided here.

#[cfg_attr(not(test), allow(dead_code, reason = "the STOMP sessions it carries come next"))]
mod carrier;
mod config;
mod http;
mod listen;
mod tcp;

#[cfg(test)]
pub(crate) mod double;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::base::command::Command;
use crate::base::error::ClientError;
use crate::shard::Outbox;

pub use config::{FrontConfig, HttpConfig};
pub(crate) use http::serve_http;
pub use listen::{bind, serve};

#[cfg(test)]
pub(crate) use listen::serve_sessions;

/// Hands tagged requests to one session; dropping it ends the session.
pub(crate) type Submit = Box<dyn Fn(Vec<(u64, Command)>) -> Result<(), ClientError> + Send>;

/// Opens a session. A function and not the broker itself, so that tests can put another shard
/// behind a real listener.
pub(crate) type OpenSession =
    Arc<dyn Fn(Box<dyn Outbox>) -> Result<Submit, ClientError> + Send + Sync>;
