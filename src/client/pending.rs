//! What was sent and is not answered, and what becomes of it when the connection is lost.

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::error::Error;
use super::queue::{Sink, Waiting};
use crate::base::command::Command;
use crate::base::id::MessageId;
use crate::base::message::{MessageBatch, encode_parts};
use crate::wire::binary::Reply;

/// A request that was sent and is not answered.
pub(super) enum Pending {
    Produce {
        destination: Bytes,
        /// Kept only when a message has a dedup id: else it is never sent again.
        batch: Option<MessageBatch>,
        waiting: Waiting,
        room: Option<OwnedSemaphorePermit>,
    },
    Ask {
        /// Kept only when it may be sent again.
        command: Option<Command>,
        sink: Sink<Reply>,
        room: Option<OwnedSemaphorePermit>,
    },
    Subscribe {
        number: u32,
        sink: Sink<Reply>,
    },
    /// A subscription that goes on over a new connection.
    Resume {
        number: u32,
    },
    /// Acknowledgements that nobody waits for, to be sent again.
    Acknowledge {
        subscription: u32,
        ids: Vec<MessageId>,
    },
    /// Nobody waits for the answer.
    Unawaited,
}

impl Pending {
    /// Fails it at the end of the client, or with the connection it was sent over.
    pub(super) fn fail(self, error: &Error) {
        match self {
            // It was sent, and may have been done whatever ended the connection.
            Self::Produce { waiting, .. } => waiting.fail(&Error::OutcomeUnknown),
            Self::Ask { command: None, sink, .. } => {
                let _ = sink.send(Err(Error::OutcomeUnknown));
            }
            Self::Ask { sink, .. } | Self::Subscribe { sink, .. } => {
                let _ = sink.send(Err(error.clone()));
            }
            Self::Resume { .. } | Self::Acknowledge { .. } | Self::Unawaited => {}
        }
    }
}

impl Waiting {
    pub(super) fn expects(&self, results: usize) -> bool {
        match self {
            Self::Each(sinks) => sinks.len() == results,
            Self::Whole(count, _) => *count == results,
        }
    }
}

/// The part of a batch that may be sent again: messages with a dedup id. The outcome of the others
/// is unknown. A batch with one caller is sent again only as a whole.
pub(super) fn only_with_dedup(
    batch: &MessageBatch,
    waiting: Waiting,
) -> Option<(MessageBatch, Waiting)> {
    if batch.iter().all(|message| message.dedup.is_some()) {
        return Some((batch.clone(), waiting));
    }
    let Waiting::Each(sinks) = waiting else {
        waiting.fail(&Error::OutcomeUnknown);
        return None;
    };
    let mut bytes = Vec::new();
    let mut kept = Vec::new();
    for (message, sink) in batch.iter().zip(sinks) {
        if message.dedup.is_none() {
            let _ = sink.send(Err(Error::OutcomeUnknown));
        } else {
            encode_parts(&message, &mut bytes);
            kept.push(sink);
        }
    }
    let batch = MessageBatch::parse(bytes.into(), kept.len()).ok()?;
    Some((batch, Waiting::Each(kept)))
}
