//! BEGIN, COMMIT, ABORT. What a transaction holds is known to nobody else before COMMIT, and is one command
//! then.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::owed::{Receipt, What};
use super::settle::Verdict;
use super::{Session, required};
use crate::base::command::{Command, Part};
use crate::base::error::{ClientError, Code};
use crate::base::id::MessageId;
use crate::base::limits;
use crate::base::message::MessageBatch;
use crate::wire::stomp::Frame;

/// Transactions of a session that are open.
#[derive(Debug, Default)]
pub(super) struct Transactions(BTreeMap<Box<str>, Transaction>);

#[derive(Debug, Default)]
struct Transaction {
    steps: Vec<Step>,
    bytes: usize,
}

/// What one frame of a transaction does.
#[derive(Debug)]
pub(super) enum Step {
    /// An encoded message.
    Send { to: Box<str>, message: Vec<u8> },
    /// Which messages it stands for is looked up at COMMIT: until then they are out.
    Settle { number: u32, id: MessageId, verdict: Verdict },
}

impl Step {
    fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Send { to, message } => to.len() + message.len(),
                Self::Settle { .. } => 0,
            }
    }
}

impl Session {
    pub(super) fn begin_transaction(
        &mut self,
        frame: &Frame,
        receipt: Receipt,
    ) -> Result<(), ClientError> {
        let name = required(frame, "transaction")?;
        let open = &mut self.transactions.0;
        let refused = |why| Err(ClientError::new(Code::Malformed, why));
        if open.contains_key(name) {
            return refused(format!("the transaction {name:?} has begun already"));
        }
        if open.len() >= limits::STOMP_TRANSACTIONS_MAX {
            return refused(format!("{} transactions are open; end one first", open.len()));
        }
        open.insert(name.into(), Transaction::default());
        self.done(receipt);
        Ok(())
    }

    pub(super) fn abort(&mut self, frame: &Frame, receipt: Receipt) -> Result<(), ClientError> {
        self.take_transaction(frame)?;
        self.done(receipt);
        Ok(())
    }

    pub(super) fn commit(&mut self, frame: &Frame, receipt: Receipt) -> Result<(), ClientError> {
        let Transaction { steps, bytes } = self.take_transaction(frame)?;
        let mut parts = Parts::default();
        for step in steps {
            match step {
                Step::Send { to, message } => parts.send(&to, &message)?,
                Step::Settle { number, id, verdict } => {
                    let ids = self.take_out(number, id);
                    // What is not out any more, or with an ended subscription, comes again.
                    match self.subscriptions.get(number) {
                        Some(s) if !ids.is_empty() => {
                            let reject = verdict.reject(s.is_queue());
                            parts.settle(number, ids, reject)?;
                        }
                        _ => self.ignored += 1,
                    }
                }
            }
        }
        let parts = parts.finish()?;
        if parts.is_empty() {
            self.done(receipt);
        } else {
            self.ask(What::Plain, receipt, bytes, Command::Transaction { parts });
        }
        Ok(())
    }

    /// Puts a step into the transaction that a frame names; gives it back when it names none.
    pub(super) fn in_transaction(
        &mut self,
        frame: &Frame,
        receipt: &Receipt,
        step: Step,
    ) -> Result<Option<Step>, ClientError> {
        let Some(name) = frame.get("transaction") else { return Ok(Some(step)) };
        let transaction = self.transactions.0.get_mut(name).ok_or_else(|| unknown(name))?;
        let (steps, bytes) = (transaction.steps.len() + 1, transaction.bytes + step.bytes());
        if steps > limits::BATCH_ITEMS_MAX || bytes > limits::FRAME_BYTES_MAX {
            let (frames, max) = (limits::BATCH_ITEMS_MAX, limits::FRAME_BYTES_MAX);
            let why = format!("a transaction holds at most {frames} frames and {max} bytes");
            return Err(ClientError::new(Code::BadBatch, why));
        }
        transaction.bytes = bytes;
        transaction.steps.push(step);
        self.done(receipt.clone());
        Ok(None)
    }

    fn take_transaction(&mut self, frame: &Frame) -> Result<Transaction, ClientError> {
        let name = required(frame, "transaction")?;
        self.transactions.0.remove(name).ok_or_else(|| unknown(name))
    }
}

fn unknown(name: &str) -> ClientError {
    ClientError::new(Code::Malformed, format!("there is no transaction {name:?}; say BEGIN first"))
}

/// Parts of a command, those next to each other that can be one put together.
#[derive(Default)]
struct Parts {
    done: Vec<Part>,
    sends: Option<(Box<str>, Vec<u8>, usize)>,
    settles: Option<(u32, Option<bool>, Vec<MessageId>)>,
}

impl Parts {
    fn send(&mut self, to: &str, message: &[u8]) -> Result<(), ClientError> {
        if let Some((destination, bytes, count)) = &mut self.sends
            && **destination == *to
        {
            bytes.extend_from_slice(message);
            *count += 1;
            return Ok(());
        }
        self.close()?;
        self.sends = Some((to.into(), message.to_vec(), 1));
        Ok(())
    }

    fn settle(
        &mut self,
        number: u32,
        ids: Vec<MessageId>,
        reject: Option<bool>,
    ) -> Result<(), ClientError> {
        if let Some((last, verdict, all)) = &mut self.settles
            && (*last, *verdict) == (number, reject)
            && all.len() + ids.len() <= limits::BATCH_ITEMS_MAX
        {
            all.extend(ids);
            return Ok(());
        }
        for ids in ids.chunks(limits::BATCH_ITEMS_MAX) {
            self.close()?;
            self.settles = Some((number, reject, ids.to_vec()));
        }
        Ok(())
    }

    /// Begins another part.
    fn close(&mut self) -> Result<(), ClientError> {
        if let Some((destination, bytes, count)) = self.sends.take() {
            let batch = MessageBatch::parse(bytes.into(), count)?;
            let destination = Bytes::from(destination.into_string());
            self.done.push(Part::Produce { destination, batch });
        }
        if let Some((subscription, reject, ids)) = self.settles.take() {
            self.done.push(match reject {
                None => Part::Acknowledge { subscription, ids, cumulative: false },
                Some(requeue) => Part::Reject { subscription, ids, requeue },
            });
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Part>, ClientError> {
        self.close()?;
        Ok(self.done)
    }
}
