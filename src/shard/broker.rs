//! The way in: sessions hand requests to the shard and get answers through their outbox.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_channel::Sender;

use crate::base::command::{Command, Outgoing};
use crate::base::error::{ClientError, Code};
use crate::base::id::SessionId;

/// Where a session's answers and deliveries go. Called on the shard's thread: must not block.
pub trait Outbox: Send {
    /// Takes what is durable and may leave, in order.
    fn push(&self, batch: Vec<Outgoing>);
    /// Whether so much waits here to be taken that the session is handed no more deliveries until it
    /// is not so any more. Credit alone does not bound what waits: it comes free when a message that
    /// was never read times out, or is acknowledged by somebody else.
    fn is_full(&self) -> bool {
        false
    }
    /// The shard takes nothing more: no answer will come to what is unanswered.
    fn closed(&self, reason: ClientError);
}

/// What reaches the shard's thread.
pub(super) enum Input {
    Open(SessionId, Box<dyn Outbox>),
    Requests(SessionId, Vec<(u64, Command)>),
    Close(SessionId),
    /// Believe the wall clock again after a step.
    ReleaseClock,
    Stop,
}

/// A handle to a running shard. Cheap to clone.
#[derive(Clone)]
pub struct Broker {
    pub(super) inbox: Sender<Input>,
    next_session: Arc<AtomicU64>,
    failed: Arc<AtomicBool>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").finish_non_exhaustive()
    }
}

impl Broker {
    pub(super) fn new(inbox: Sender<Input>, failed: Arc<AtomicBool>) -> Self {
        Self { inbox, next_session: Arc::new(AtomicU64::new(1)), failed }
    }

    /// Begins a session whose answers and deliveries go to `outbox`.
    ///
    /// # Errors
    /// [`Code::ShuttingDown`] or [`Code::StorageFailed`] when the shard has stopped.
    pub fn session(&self, outbox: Box<dyn Outbox>) -> Result<Session, ClientError> {
        let id = SessionId(self.next_session.fetch_add(1, Ordering::Relaxed));
        self.inbox.send(Input::Open(id, outbox)).map_err(|_| stopped(&self.failed))?;
        Ok(Session { id, inbox: self.inbox.clone(), failed: self.failed.clone() })
    }

    /// Lets "at" messages fire again after the wall clock stepped forward and was held.
    ///
    /// # Errors
    /// [`Code::ShuttingDown`] when the shard has stopped.
    pub fn release_clock(&self) -> Result<(), ClientError> {
        self.inbox.send(Input::ReleaseClock).map_err(|_| stopped(&self.failed))
    }
}

/// One connected client. Dropping it ends the session: what was in flight goes back.
pub struct Session {
    id: SessionId,
    inbox: Sender<Input>,
    failed: Arc<AtomicBool>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Session").field(&self.id.0).finish()
    }
}

impl Session {
    /// Hands over requests, each with a tag that its answer carries. They are carried out in
    /// order. The caller bounds how many are unanswered: the inbox itself is not bounded.
    ///
    /// # Errors
    /// [`Code::ShuttingDown`] or [`Code::StorageFailed`] when the shard has stopped; none of the
    /// requests is carried out.
    pub fn submit(&self, requests: Vec<(u64, Command)>) -> Result<(), ClientError> {
        let input = Input::Requests(self.id, requests);
        self.inbox.send(input).map_err(|_| stopped(&self.failed))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A shard that has stopped has no session to end.
        let _ = self.inbox.send(Input::Close(self.id));
    }
}

fn stopped(failed: &AtomicBool) -> ClientError {
    let code = if failed.load(Ordering::SeqCst) { Code::StorageFailed } else { Code::ShuttingDown };
    code.into()
}
