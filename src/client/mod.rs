//! F5: the Rust client, over TCP or inside the server's own process.
//!
//! A [`Client`] is cheap to clone and to share; its requests are pipelined over one connection.
//! Single messages produced at the same time by many tasks travel together, without waiting for
//! each other.
//!
//! ```no_run
//! use std::time::Duration;
//! use postdate::client::{Client, SubscribeOptions};
//!
//! # async fn example() -> Result<(), postdate::client::Error> {
//! let client = Client::connect("127.0.0.1:7700").await?;
//! let produced = client.produce_after("/queue/mail", "hello", Duration::from_secs(60)).await?;
//! println!("stored as {}", produced.id);
//!
//! let mut mail = client.subscribe(SubscribeOptions::new("/queue/mail")).await?;
//! while let Some(message) = mail.next().await {
//!     let message = message?;
//!     println!("{} bytes", message.body().len());
//!     mail.ack_later(message.id);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # When a connection is lost
//!
//! The client connects again by itself (see [`ClientOptions::reconnect`]). Requests that change
//! nothing, cancels, acknowledgements, and messages with a dedup id are sent again; whatever else was unanswered ends
//! with [`Error::OutcomeUnknown`], because it may have been done. Subscriptions go on: what was
//! delivered and not acknowledged comes again.

mod api;
mod ask;
mod control;
mod driver;
mod error;
mod held;
mod options;
mod pending;
mod produce;
mod queue;
mod subscription;
mod transport;

#[cfg(test)]
mod loss_tests;
#[cfg(test)]
mod tests;

use crate::base::command::Command;
use crate::base::error::ClientError;

pub use api::{Client, Fetched};
pub use error::Error;
pub use options::{ClientOptions, Limits, ListQuery, SubscribeOptions};
pub use subscription::{Received, Subscription};

/// Hands tagged requests to a session of this process; dropping it ends the session.
type Submit = Box<dyn Fn(Vec<(u64, Command)>) -> Result<(), ClientError> + Send>;
