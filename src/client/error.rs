//! What can go wrong, each with what to do about it.

use std::io;
use std::sync::Arc;

use crate::base::error::ClientError;

/// An error of the client.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server refused; the code says why, and nothing was done.
    #[error("{0}")]
    Refused(ClientError),
    /// The connection was lost before the answer came.
    #[error(
        "the connection was lost before the answer came, so it is not known whether it was done; \
         look for the effect, or give messages a dedup id so that they are sent again safely"
    )]
    OutcomeUnknown,
    /// There is no connection; nothing was done.
    #[error("there is no connection to the server, and nothing was done; try again later")]
    Disconnected,
    /// The connection could not be made.
    #[error("cannot connect to {server}: {source}; check the address and that the server runs")]
    Connect {
        /// The address tried.
        server: String,
        /// Why it failed.
        source: Arc<io::Error>,
    },
    /// The server sent what the protocol does not allow.
    #[error("the server does not follow the protocol: {0}; check its version")]
    Protocol(String),
    /// The client was closed.
    #[error("the client was closed; connect again")]
    Closed,
}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Self {
        Self::Refused(error)
    }
}
