//! The client of a command.

use crate::base::id::MessageId;
use crate::base::limits;
use crate::cli::Server;
use crate::cli::failure::Failure;
use crate::client::{Client, ClientOptions};

impl Server {
    /// Connects for one command; the connection is not made again when it is lost.
    pub(crate) async fn connect(&self, command: &str) -> Result<Client, Failure> {
        self.connect_as(command, false).await
    }

    /// Connects, and says whether a lost connection is made again.
    pub(crate) async fn connect_as(
        &self,
        command: &str,
        reconnect: bool,
    ) -> Result<Client, Failure> {
        let options = ClientOptions {
            name: format!("postdate {command}"),
            reconnect,
            ..ClientOptions::new(self.server.as_str())
        };
        Ok(Client::connect_with(options).await?)
    }
}

/// Ids in batches that the protocol takes.
pub(crate) fn batches(ids: &[MessageId]) -> impl Iterator<Item = &[MessageId]> {
    ids.chunks(limits::BATCH_ITEMS_MAX)
}
