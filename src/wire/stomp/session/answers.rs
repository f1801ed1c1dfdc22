//! What is told to the client: receipts in their turn, and the ERROR that is the last.

use super::owed::{Debt, Receipt, What};
use super::{Ending, Session, Stage};
use crate::base::command::{Answer, Produced};
use crate::base::error::ClientError;
use crate::wire::stomp::{Command, Frame, encode};

impl Session {
    /// Tells what can be told.
    pub(super) fn pay(&mut self) {
        while !matches!(self.stage, Stage::Ended(_))
            && let Some((debt, answer)) = self.owed.due()
        {
            self.pay_one(debt, answer);
        }
    }

    fn pay_one(&mut self, debt: Debt, answer: Answer) {
        let mut receipts = debt.receipts.into_iter();
        match (debt.what, answer) {
            (What::Fail(error, header), _) => {
                self.error(&error, receipts.next().flatten(), header);
            }
            (What::Leave, _) => {
                self.receipt(receipts.next().flatten(), &[]);
                self.stage = Stage::Ended(Ending::Goodbye);
            }
            (_, Answer::Failed(error)) => self.error(&error, receipts.flatten().next(), None),
            (What::Sends, Answer::Produced(results)) => {
                for (result, receipt) in results.into_iter().zip(receipts) {
                    match result {
                        Ok(Produced { id, duplicate }) => {
                            let id = id.to_string();
                            let all = [("message-id", &*id), ("duplicate", "true")];
                            self.receipt(receipt, if duplicate { &all } else { &all[..1] });
                        }
                        Err(error) => return self.error(&error, receipt, None),
                    }
                }
            }
            (What::Cancel, Answer::Verdicts(verdicts)) => {
                let state = verdicts.first().map_or("unknown", |verdict| verdict.state.word());
                self.receipt(receipts.next().flatten(), &[("state", state)]);
            }
            _ => receipts.for_each(|receipt| self.receipt(receipt, &[])),
        }
    }

    fn receipt(&mut self, receipt: Receipt, headers: &[(&str, &str)]) {
        let Some(receipt) = receipt else { return };
        let mut frame = Frame::new(Command::Receipt).with("receipt-id", &receipt);
        for (name, value) in headers {
            frame.headers.add(name, value);
        }
        self.write(&frame);
    }

    /// The last frame.
    pub(super) fn error(
        &mut self,
        error: &ClientError,
        receipt: Receipt,
        header: Option<(&'static str, &'static str)>,
    ) {
        let code = error.code.number().to_string();
        let mut frame = Frame::new(Command::Error)
            .with("message", error.code.word())
            .with("code", &code)
            .with("content-type", "text/plain");
        if let Some(receipt) = receipt {
            frame.headers.add("receipt-id", &receipt);
        }
        if let Some((name, value)) = header {
            frame.headers.add(name, value);
        }
        let mut text = error.message.clone();
        if text != error.code.advice() {
            text.push('\n');
            text.push_str(error.code.advice());
        }
        self.write(&frame.with_body(text));
        self.stage = Stage::Ended(Ending::Error);
    }

    pub(super) fn write(&mut self, frame: &Frame) {
        let mut out = Vec::new();
        encode(frame, self.version, &mut out);
        self.frames.push(out.into());
    }
}
