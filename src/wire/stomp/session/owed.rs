//! What the client is owed: one entry for each thing asked, in the order of its frames. A RECEIPT says that
//! all before it was done as well, so nothing is told before its turn.

use std::collections::VecDeque;

use crate::base::command::Answer;
use crate::base::error::ClientError;

/// The `receipt` header of a frame, if it had one.
pub(super) type Receipt = Option<Box<str>>;

/// What an answer is about.
#[derive(Debug)]
pub(super) enum What {
    /// Messages; a receipt for each.
    Sends,
    /// Anything of which only its failure is told.
    Plain,
    /// Cancelling a schedule: told in the receipt.
    Cancel,
    /// Nothing was asked, but the connection ends in its turn: of the client's own will,
    Leave,
    /// or by its fault, or the server's. With one more header of the ERROR frame.
    Fail(ClientError, Option<(&'static str, &'static str)>),
}

/// Something owed.
#[derive(Debug)]
pub(super) struct Debt {
    pub(super) what: What,
    pub(super) receipts: Vec<Receipt>,
    /// Bytes that were asked, while the answer is awaited.
    bytes: usize,
    answer: Option<Answer>,
}

/// Everything owed. What was asked carries a tag, and tags count up.
#[derive(Debug, Default)]
pub(super) struct Owed {
    debts: VecDeque<Debt>,
    /// Tag of the first of them.
    first: u64,
    frames: usize,
    bytes: usize,
}

impl Owed {
    /// Something is asked; its tag.
    pub(super) fn ask(&mut self, what: What, receipt: Receipt, bytes: usize) -> u64 {
        self.add(Debt { what, receipts: vec![receipt], bytes, answer: None })
    }

    /// Nothing is asked: it is owed only after what was before.
    pub(super) fn say(&mut self, what: What, receipt: Receipt) {
        self.add(Debt { what, receipts: vec![receipt], bytes: 0, answer: Some(Answer::Done) });
    }

    fn add(&mut self, debt: Debt) -> u64 {
        self.frames += debt.receipts.len();
        self.bytes += debt.bytes;
        self.debts.push_back(debt);
        self.first + self.debts.len() as u64 - 1
    }

    /// One more frame belongs to what was asked last.
    pub(super) fn join(&mut self, receipt: Receipt, bytes: usize) {
        if let Some(last) = self.debts.back_mut() {
            last.receipts.push(receipt);
            last.bytes += bytes;
            self.frames += 1;
            self.bytes += bytes;
        }
    }

    /// An answer came.
    pub(super) fn answered(&mut self, tag: u64, answer: Answer) {
        let debt = tag.checked_sub(self.first).and_then(|at| self.debts.get_mut(at as usize));
        if let Some(debt) = debt {
            debt.answer = Some(answer);
        }
    }

    /// The next that can be told, with its answer.
    pub(super) fn due(&mut self) -> Option<(Debt, Answer)> {
        let answer = self.debts.front_mut()?.answer.take()?;
        let debt = self.debts.pop_front()?;
        self.first += 1;
        self.frames -= debt.receipts.len();
        self.bytes -= debt.bytes;
        Some((debt, answer))
    }

    /// Frames that are not answered.
    pub(super) fn frames(&self) -> usize {
        self.frames
    }

    /// Their bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
