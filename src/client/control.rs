//! The client's requests for operators: purge, pause, resume, limits.

use super::api::Client;
use super::ask::{unexpected, whole_ms};
use super::error::Error;
use super::options::Limits;
use crate::base::command::{Answer, Command, DestinationInfo, Purged};
use crate::wire::binary::Reply;

impl Client {
    /// Drops what is ready in a destination (of a topic: what it keeps), and with `scheduled` also
    /// what is scheduled for it. Tells how many that were. What is in flight stays, and may be
    /// acknowledged.
    ///
    /// ```no_run
    /// # async fn example(client: postdate::client::Client) -> Result<(), postdate::client::Error> {
    /// let purged = client.purge("/queue/mail", false).await?;
    /// println!("{} messages dropped", purged.ready);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`] when there is no such destination, [`Error::OutcomeUnknown`] or
    /// [`Error::Disconnected`].
    pub async fn purge(&self, destination: &str, scheduled: bool) -> Result<Purged, Error> {
        let name = self.name(destination)?;
        match self.ask(Command::PurgeDestination { name, scheduled }, false).await? {
            Reply::Answer(Answer::Purged(purged)) => Ok(purged),
            other => Err(unexpected(&other)),
        }
    }

    /// Hands out nothing of a destination until [`Self::resume`], also over restarts. What is in
    /// flight stays; publishing, firing and acknowledging go on.
    ///
    /// ```no_run
    /// # async fn example(client: postdate::client::Client) -> Result<(), postdate::client::Error> {
    /// client.pause("/queue/mail").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`] when there is no such destination, [`Error::OutcomeUnknown`] or
    /// [`Error::Disconnected`].
    pub async fn pause(&self, destination: &str) -> Result<(), Error> {
        let name = self.name(destination)?;
        self.done(Command::PauseDestination { name, paused: true }).await
    }

    /// Ends a [`Self::pause`].
    ///
    /// ```no_run
    /// # async fn example(client: postdate::client::Client) -> Result<(), postdate::client::Error> {
    /// client.resume("/queue/mail").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Self::pause`].
    pub async fn resume(&self, destination: &str) -> Result<(), Error> {
        let name = self.name(destination)?;
        self.done(Command::PauseDestination { name, paused: false }).await
    }

    /// Sets how much a destination may hold, and for how long. What is `None` stays as it is. Tells
    /// what is in force now.
    ///
    /// ```no_run
    /// # use postdate::client::Limits;
    /// # async fn example(client: postdate::client::Client) -> Result<(), postdate::client::Error> {
    /// let limits = Limits { max_messages: Some(10_000), ..Limits::default() };
    /// client.limit("/queue/mail", limits).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Self::pause`].
    pub async fn limit(&self, destination: &str, limits: Limits) -> Result<DestinationInfo, Error> {
        let name = self.name(destination)?;
        let max_messages = limits.max_messages;
        let max_age_ms = limits.max_age.map(|age| whole_ms(age).unsigned_abs());
        match self.ask(Command::LimitDestination { name, max_messages, max_age_ms }, false).await? {
            Reply::Answer(Answer::Destination(info)) => Ok(info),
            other => Err(unexpected(&other)),
        }
    }
}
