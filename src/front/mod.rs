//! F5: the listeners. Async at the edge only: connections become sessions of the shard, bytes
//! become commands, answers become bytes; nothing is decided here.

mod carrier;
mod config;
mod door;
mod http;
mod listen;
mod outbox;
mod stomp;
mod tcp;

#[cfg(test)]
pub(crate) mod double;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::base::command::Command;
use crate::base::error::ClientError;
use crate::shard::{Broker, Outbox};

pub use config::{FrontConfig, HttpConfig, Places};
pub(crate) use http::serve_http;
pub use listen::{bind, serve};
pub(crate) use stomp::{serve_stomp, stomp};

#[cfg(test)]
pub(crate) use listen::serve_sessions;

/// Opens sessions of a shard.
pub(crate) fn sessions_of(broker: Broker) -> OpenSession {
    Arc::new(move |outbox| {
        let session = broker.session(outbox)?;
        let submit: Submit = Box::new(move |requests| session.submit(requests));
        Ok(submit)
    })
}

/// Hands tagged requests to one session; dropping it ends the session.
pub(crate) type Submit = Box<dyn Fn(Vec<(u64, Command)>) -> Result<(), ClientError> + Send>;

/// Opens a session. A function and not the broker itself, so that tests can put another shard
/// behind a real listener.
pub(crate) type OpenSession =
    Arc<dyn Fn(Box<dyn Outbox>) -> Result<Submit, ClientError> + Send + Sync>;
