//! The client's requests for operators: purge, pause, resume, limits, backup.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bytes::Bytes;

use super::api::Client;
use super::ask::{unexpected, whole_ms};
use super::error::Error;
use super::options::Limits;
use crate::base::command::{Answer, BackedUp, Command, DestinationInfo, Purged};
use crate::base::error::{ClientError, Code};
use crate::base::limits;
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

    /// Copies the data directory of a server on this machine, while it goes on. `directory` is an
    /// absolute path to an empty directory, or to none. The copy holds everything acknowledged
    /// before, and is on stable storage on return; that may take minutes.
    ///
    /// ```no_run
    /// # async fn example(client: postdate::client::Client) -> Result<(), postdate::client::Error> {
    /// let made = client.backup(std::path::Path::new("/backup/postdate-monday")).await?;
    /// println!("{} files, {} bytes", made.files, made.bytes);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`] when there is no copy, [`Error::OutcomeUnknown`] or
    /// [`Error::Disconnected`].
    pub async fn backup(&self, directory: &Path) -> Result<BackedUp, Error> {
        let directory = directory.as_os_str().as_bytes();
        let (bytes, max) = (directory.len(), limits::PATH_BYTES_MAX);
        if bytes > max {
            let text = format!("the path has {bytes} bytes; at most {max} are allowed");
            return Err(Error::Refused(ClientError::new(Code::BackupFailed, text)));
        }
        let directory = Bytes::copy_from_slice(directory);
        match self.ask(Command::Backup { directory }, false).await? {
            Reply::Answer(Answer::BackedUp(made)) => Ok(made),
            other => Err(unexpected(&other)),
        }
    }
}
