//! The line of requests: what a step takes from it, and what has to wait.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::base::command::{Answer, Command};
use crate::base::error::Code;
use crate::base::id::SessionId;
use crate::base::limits;

use super::broker::Outbox;
use super::core::{BatchSink, Core};
use super::effort;
use super::error::ShardError;

/// Work taken from the inbox, some of it perhaps half done.
pub(super) enum Work {
    Open(SessionId, Box<dyn Outbox>),
    Requests(SessionId, std::vec::IntoIter<(u64, Command)>),
    Close(SessionId),
}

impl Work {
    pub(super) fn session(&self) -> SessionId {
        match self {
            Self::Open(session, _) | Self::Requests(session, _) | Self::Close(session) => *session,
        }
    }
}

/// Whether a command brings messages.
fn publishes(command: &Command) -> bool {
    command.batches().next().is_some()
}

impl Core {
    /// Carries out what is in line, until the step is full.
    pub(super) fn do_work(&mut self, mono_ms: u64) -> Result<(), ShardError> {
        let refuse_new = self.refusal(mono_ms);
        let holds = self.holds_publishing();
        self.effort_left = limits::STEP_REQUESTS_MAX;
        // Sessions whose next request has to wait, and all they said after it.
        let mut held = VecDeque::new();
        while let Some(work) = self.work.pop_front() {
            let session = work.session();
            if holds && held.iter().any(|held: &Work| held.session() == session) {
                held.push_back(work);
                continue;
            }
            match work {
                Work::Open(session, outbox) => {
                    self.engine.open_session(session);
                    self.outboxes.insert(session, outbox);
                }
                Work::Close(session) => {
                    self.engine.close_session(session, &mut BatchSink(&mut self.batch));
                    self.outboxes.remove(&session);
                }
                Work::Requests(session, mut requests) => {
                    self.carry_out(session, &mut requests, refuse_new, holds)?;
                    let waits = |next: &Command| holds && publishes(next);
                    match requests.as_slice().first() {
                        Some((_, next)) if waits(next) => {
                            held.push_back(Work::Requests(session, requests));
                        }
                        Some(_) => self.put_off(session, requests),
                        None => {}
                    }
                }
            }
            if self.step_is_full() {
                break;
            }
        }
        self.holding = !held.is_empty();
        held.append(&mut self.work);
        self.work = held;
        Ok(())
    }

    /// Carries out requests of a session until the step is full, or one has to wait.
    fn carry_out(
        &mut self,
        session: SessionId,
        requests: &mut std::vec::IntoIter<(u64, Command)>,
        refuse_new: Option<Code>,
        holds: bool,
    ) -> Result<(), ShardError> {
        while let Some((_, next)) = requests.as_slice().first() {
            if holds && publishes(next) {
                break;
            }
            let Some((tag, command)) = requests.next() else { break };
            self.effort_left = self.effort_left.saturating_sub(effort::of(&command));
            self.execute(session, tag, command, refuse_new)?;
            if self.step_is_full() {
                break;
            }
        }
        Ok(())
    }

    fn step_is_full(&self) -> bool {
        self.effort_left == 0 || self.batch.len() >= limits::STEP_BYTES_SOFT_MAX
    }

    /// Lets others go first with the next step. What a session asked stays in order: what it said
    /// since goes behind.
    fn put_off(&mut self, session: SessionId, requests: std::vec::IntoIter<(u64, Command)>) {
        let all = std::mem::take(&mut self.work);
        let (later, others): (VecDeque<_>, _) =
            all.into_iter().partition(|work| work.session() == session);
        self.work = others;
        self.work.push_back(Work::Requests(session, requests));
        self.work.extend(later);
    }

    fn execute(
        &mut self,
        session: SessionId,
        tag: u64,
        command: Command,
        refuse: Option<Code>,
    ) -> Result<(), ShardError> {
        match &command {
            Command::Stats => {
                let stats = self.stats();
                self.engine.answer(session, tag, Answer::Stats(stats));
                return Ok(());
            }
            Command::Backup { directory } => {
                let target = PathBuf::from(OsStr::from_bytes(directory));
                self.ask_for_backup(session, tag, target);
                return Ok(());
            }
            _ => {}
        }
        let reads = self.below.prepare(&mut self.engine, &command)?;
        self.effort_left = self.effort_left.saturating_sub(reads * effort::READ);
        let mut sink = BatchSink(&mut self.batch);
        self.engine.execute(session, tag, command, refuse, &mut sink);
        self.engine.forget_found();
        Ok(())
    }
}
