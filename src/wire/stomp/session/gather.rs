//! Frames that follow each other and ask the same go to the engine as one batch: a client that sends many is
//! answered as fast as one that could say a batch.

use bytes::Bytes;

use super::Session;
use super::owed::{Receipt, What};
use crate::base::command::Command;
use crate::base::error::ClientError;
use crate::base::id::MessageId;
use crate::base::limits;
use crate::base::message::MessageBatch;

/// Bytes at which a batch is large enough.
const BATCH_BYTES: usize = 256 * 1024;
/// Items at which it is.
const BATCH_ITEMS: usize = 1_000;

/// What was gathered, and the tag it will be asked with.
#[derive(Debug)]
pub(super) struct Gather {
    tag: u64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Sends { destination: Box<str>, bytes: Vec<u8>, count: usize },
    Acks { number: u32, ids: Vec<MessageId>, reject: Option<bool> },
}

impl Session {
    /// Adds an encoded message.
    pub(super) fn gather_send(&mut self, to: &str, message: &[u8], receipt: Receipt) {
        if let Some(Gather { kind: Kind::Sends { destination, bytes, count }, .. }) =
            &mut self.gather
            && **destination == *to
            && bytes.len() < BATCH_BYTES
            && *count < BATCH_ITEMS
        {
            bytes.extend_from_slice(message);
            *count += 1;
            self.owed.join(receipt, message.len());
            return;
        }
        self.seal();
        let tag = self.owed.ask(What::Sends, receipt, message.len());
        let kind = Kind::Sends { destination: to.into(), bytes: message.to_vec(), count: 1 };
        self.gather = Some(Gather { tag, kind });
    }

    /// Adds acknowledgements, or rejections with what is to become of the messages.
    pub(super) fn gather_acks(
        &mut self,
        to: u32,
        new: &[MessageId],
        verdict: Option<bool>,
        receipt: Receipt,
    ) {
        if let Some(Gather { kind: Kind::Acks { number, ids, reject }, .. }) = &mut self.gather
            && (*number, *reject) == (to, verdict)
            && ids.len() + new.len() <= BATCH_ITEMS
        {
            ids.extend_from_slice(new);
            if receipt.is_some() {
                self.owed.join(receipt, 0);
            }
            return;
        }
        let mut pieces = new.chunks(limits::BATCH_ITEMS_MAX).peekable();
        while let Some(ids) = pieces.next() {
            self.seal();
            let last = pieces.peek().is_none();
            let tag = self.owed.ask(What::Plain, receipt.clone().filter(|_| last), 0);
            let kind = Kind::Acks { number: to, ids: ids.to_vec(), reject: verdict };
            self.gather = Some(Gather { tag, kind });
        }
    }

    /// Nothing is added any more to what was gathered: it is asked.
    pub(super) fn seal(&mut self) {
        let Some(Gather { tag, kind }) = self.gather.take() else { return };
        let command = match kind {
            Kind::Sends { destination, bytes, count } => produce(&destination, bytes, count),
            Kind::Acks { number: subscription, ids, reject: None } => {
                Ok(Command::Acknowledge { subscription, ids, cumulative: false })
            }
            Kind::Acks { number: subscription, ids, reject: Some(requeue) } => {
                Ok(Command::Reject { subscription, ids, requeue })
            }
        };
        match command {
            Ok(command) => self.commands.push((tag, command)),
            Err(error) => self.owed.answered(tag, crate::base::command::Answer::Failed(error)),
        }
    }
}

/// A batch of encoded messages as a command.
fn produce(destination: &str, bytes: Vec<u8>, count: usize) -> Result<Command, ClientError> {
    let batch = MessageBatch::parse(bytes.into(), count)?;
    Ok(Command::Produce { destination: Bytes::copy_from_slice(destination.as_bytes()), batch })
}
