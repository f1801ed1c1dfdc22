//! ACK and NACK: what a client says of what it was delivered.

use super::owed::Receipt;
use super::subscriptions::AckMode;
use super::transaction::Step;
use super::{Session, flag, message};
use crate::base::error::{ClientError, Code};
use crate::base::id::MessageId;
use crate::wire::stomp::{Frame, Version};

/// What is to become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The client is done with it.
    Done,
    /// It is to be delivered again.
    Again,
    /// It is to be given up.
    Never,
}

impl Verdict {
    /// `None` acknowledges; else it rejects, and says whether to deliver again.
    pub(super) fn reject(self, queue: bool) -> Option<bool> {
        match self {
            Self::Done => None,
            Self::Again => Some(true),
            // On a topic nobody else waits for it: to give it up is to be done with it.
            Self::Never => queue.then_some(false),
        }
    }
}

impl Session {
    pub(super) fn nack(&mut self, frame: &Frame, receipt: Receipt) -> Result<(), ClientError> {
        if self.version == Version::V10 {
            return Err(ClientError::new(Code::Malformed, "NACK is there since version 1.1"));
        }
        let requeue = flag(frame, "requeue")?.unwrap_or(true);
        self.ack(frame, if requeue { Verdict::Again } else { Verdict::Never }, receipt)
    }

    pub(super) fn ack(
        &mut self,
        frame: &Frame,
        verdict: Verdict,
        receipt: Receipt,
    ) -> Result<(), ClientError> {
        let named = self.named(frame)?;
        let Some((number, id)) = named else {
            self.ignored += 1;
            self.done(receipt);
            return Ok(());
        };
        let step = Step::Settle { number, id, verdict };
        if self.in_transaction(frame, &receipt, step)?.is_none() {
            return Ok(());
        }
        let ids = self.take_out(number, id);
        if ids.is_empty() {
            self.ignored += 1;
            self.done(receipt);
        } else {
            self.settle(number, &ids, verdict, receipt);
        }
        Ok(())
    }

    /// Which delivery a frame is about; `None` when it is one this session does not know of (any more).
    fn named(&self, frame: &Frame) -> Result<Option<(u32, MessageId)>, ClientError> {
        let word = frame.command.word();
        let bad = |name: &str, text: &str| {
            ClientError::new(Code::BadId, format!("{name} {text:?} is none that a MESSAGE had"))
        };
        let missing = |name: &str| {
            ClientError::new(Code::Malformed, format!("{word} needs the header {name}"))
        };
        match (frame.get("id"), frame.get("message-id")) {
            // What counts in 1.2 does so in the others when they say nothing else.
            (Some(text), other) if self.version == Version::V12 || other.is_none() => {
                message::parse_ack_id(text).map(Some).ok_or_else(|| bad("id", text))
            }
            (_, Some(text)) if self.version < Version::V12 => {
                let id: MessageId = text.parse().map_err(|_| bad("message-id", text))?;
                let number = match frame.get("subscription") {
                    Some(key) => {
                        self.subscriptions.number(key).or_else(|| self.subscriptions.holder(id))
                    }
                    None => self.subscriptions.holder(id),
                };
                Ok(number.map(|number| (number, id)))
            }
            _ if self.version == Version::V12 => Err(missing("id")),
            _ => Err(missing("message-id")),
        }
    }

    /// Takes a message, or it and all before it where one stands for those, out of what is out with a
    /// subscription, an ended one too.
    pub(super) fn take_out(&mut self, number: u32, id: MessageId) -> Vec<MessageId> {
        let out = match self.subscriptions.get_mut(number) {
            Some(subscription) if subscription.mode == AckMode::Cumulative => {
                return subscription.out.take_up_to(id);
            }
            Some(subscription) => &mut subscription.out,
            None => match self.subscriptions.ended_mut(number) {
                Some(out) => out,
                None => return Vec::new(),
            },
        };
        out.take(id).then_some(id).into_iter().collect()
    }

    /// Asks for it. Of an ended subscription only messages of queues are known, which need none.
    pub(super) fn settle(
        &mut self,
        number: u32,
        ids: &[MessageId],
        verdict: Verdict,
        receipt: Receipt,
    ) {
        let (number, queue) =
            self.subscriptions.get(number).map_or((0, true), |s| (number, s.is_queue()));
        self.gather_acks(number, ids, verdict.reject(queue), receipt);
    }
}
