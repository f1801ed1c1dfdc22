//! The queue between callers and the connection: bounded, and the place where single messages
//! become batches.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::error::Error;
use super::subscription::Feed;
use crate::base::command::{Command, Produced, Subscribe};
use crate::base::error::ClientError;
use crate::base::id::MessageId;
use crate::base::limits;
use crate::base::message::MessageBatch;
use crate::wire::binary::Reply;

/// Room of a client: bytes of requests queued or unanswered.
const ROOM_BYTES: usize = limits::REQUEST_BYTES_IN_FLIGHT_MAX;
/// The least a request counts, so that the same room also bounds their number.
const REQUEST_BYTES_MIN: usize = ROOM_BYTES / limits::REQUESTS_IN_FLIGHT_MAX;
/// Bytes at which automatic batching begins another request.
const BATCH_BYTES: usize = 256 * 1024;
/// Entries looked at, from the end, for one to join.
const JOIN_LOOK_BACK: usize = 16;

const _: () = assert!(limits::FRAME_BYTES_MAX < ROOM_BYTES && ROOM_BYTES < u32::MAX as usize);

pub(super) type Sink<T> = oneshot::Sender<Result<T, Error>>;
pub(super) type Results = Vec<Result<Produced, Box<ClientError>>>;

/// Who waits for the results of a produce.
pub(super) enum Waiting {
    /// One task per message.
    Each(Vec<Sink<Produced>>),
    /// One task for so many.
    Whole(usize, Sink<Results>),
}

impl Waiting {
    pub(super) fn fail(self, error: &Error) {
        match self {
            Self::Each(sinks) => {
                for sink in sinks {
                    let _ = sink.send(Err(error.clone()));
                }
            }
            Self::Whole(_, sink) => {
                let _ = sink.send(Err(error.clone()));
            }
        }
    }

    pub(super) fn answer(self, results: Results) {
        match self {
            Self::Each(sinks) => {
                for (sink, result) in sinks.into_iter().zip(results) {
                    let _ = sink.send(result.map_err(|error| Error::Refused(*error)));
                }
            }
            Self::Whole(_, sink) => {
                let _ = sink.send(Ok(results));
            }
        }
    }
}

/// Messages for one destination, encoded.
pub(super) struct Batch {
    pub(super) destination: Bytes,
    pub(super) bytes: Vec<u8>,
    pub(super) count: usize,
    /// Some of them have a dedup id.
    pub(super) dedup: bool,
    pub(super) waiting: Waiting,
    pub(super) room: Option<OwnedSemaphorePermit>,
}

/// A request with one answer.
pub(super) struct Ask {
    pub(super) command: Command,
    /// May be sent again after a lost connection.
    pub(super) repeatable: bool,
    pub(super) sink: Sink<Reply>,
    /// Held until the request is answered.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

/// One thing to do for the connection, in order.
pub(super) enum Entry {
    Produce(Batch),
    Ask(Ask),
    /// A produce that is sent again.
    Again {
        destination: Bytes,
        batch: MessageBatch,
        waiting: Waiting,
        room: Option<OwnedSemaphorePermit>,
    },
    Subscribe {
        wish: Subscribe,
        feed: Feed,
        sink: Sink<Reply>,
    },
    /// Acknowledgements that nobody waits for.
    Acknowledge {
        subscription: u32,
        ids: Vec<MessageId>,
    },
    /// The subscription was dropped.
    Forget {
        subscription: u32,
    },
}

impl Entry {
    pub(super) fn fail(self, error: &Error) {
        match self {
            Self::Produce(batch) => batch.waiting.fail(error),
            Self::Again { waiting, .. } => waiting.fail(error),
            Self::Ask(Ask { sink, .. }) | Self::Subscribe { sink, .. } => {
                let _ = sink.send(Err(error.clone()));
            }
            Self::Acknowledge { .. } | Self::Forget { .. } => {}
        }
    }
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<Entry>,
    /// No more is taken; what is queued is still done.
    closing: bool,
    /// Nothing will be done any more.
    ended: Option<Error>,
}

/// What callers and the connection share.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    wake: Notify,
    room: Arc<Semaphore>,
    batch_max: usize,
    done: watch::Sender<bool>,
}

impl Shared {
    pub(super) fn new(batch_max: usize) -> Self {
        Self {
            queue: Mutex::default(),
            wake: Notify::new(),
            room: Arc::new(Semaphore::new(ROOM_BYTES)),
            batch_max: batch_max.clamp(1, limits::BATCH_ITEMS_MAX),
            done: watch::Sender::new(false),
        }
    }

    /// Waits for room for a request of so many bytes. This is where callers are held back.
    pub(super) async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Error> {
        let charge = bytes.clamp(REQUEST_BYTES_MIN, ROOM_BYTES) as u32;
        match Arc::clone(&self.room).acquire_many_owned(charge).await {
            Ok(room) => Ok(room),
            Err(_) => Err(self.queue.lock().ended.clone().unwrap_or(Error::Closed)),
        }
    }

    pub(super) fn push(&self, entry: Entry) -> Result<(), Error> {
        self.with_open_queue(|entries| entries.push_back(entry))
    }

    /// Queues one encoded message: into the last batch of its destination that is still waiting,
    /// when no other kind of request came after it.
    pub(super) fn produce_one(
        &self,
        destination: &str,
        message: &[u8],
        dedup: bool,
        sink: Sink<Produced>,
        room: OwnedSemaphorePermit,
    ) -> Result<(), Error> {
        self.with_open_queue(|entries| {
            for entry in entries.iter_mut().rev().take(JOIN_LOOK_BACK) {
                let Entry::Produce(batch) = entry else { break };
                let Waiting::Each(sinks) = &mut batch.waiting else { break };
                if batch.destination != destination.as_bytes() {
                    continue;
                }
                if batch.count >= self.batch_max || batch.bytes.len() + message.len() > BATCH_BYTES
                {
                    break;
                }
                batch.bytes.extend_from_slice(message);
                batch.count += 1;
                batch.dedup |= dedup;
                sinks.push(sink);
                match &mut batch.room {
                    Some(held) => held.merge(room),
                    None => batch.room = Some(room),
                }
                return;
            }
            entries.push_back(Entry::Produce(Batch {
                destination: Bytes::copy_from_slice(destination.as_bytes()),
                bytes: message.to_vec(),
                count: 1,
                dedup,
                waiting: Waiting::Each(vec![sink]),
                room: Some(room),
            }));
        })
    }

    /// Queues an acknowledgement that nobody waits for.
    pub(super) fn acknowledge_later(&self, subscription: u32, id: MessageId) {
        // After the end there is nobody to tell, and the message comes again.
        let _ = self.with_open_queue(|entries| {
            for entry in entries.iter_mut().rev().take(JOIN_LOOK_BACK) {
                if let Entry::Acknowledge { subscription: number, ids } = entry
                    && *number == subscription
                    && ids.len() < limits::BATCH_ITEMS_MAX
                {
                    ids.push(id);
                    return;
                }
            }
            entries.push_back(Entry::Acknowledge { subscription, ids: vec![id] });
        });
    }

    fn with_open_queue(&self, add: impl FnOnce(&mut VecDeque<Entry>)) -> Result<(), Error> {
        let mut queue = self.queue.lock();
        if let Some(error) = &queue.ended {
            return Err(error.clone());
        }
        if queue.closing {
            return Err(Error::Closed);
        }
        let was_empty = queue.entries.is_empty();
        add(&mut queue.entries);
        drop(queue);
        // With entries in it, the queue's owner has been woken and has not come yet.
        if was_empty {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Everything queued, and whether the client is closing.
    pub(super) fn take(&self) -> (VecDeque<Entry>, bool) {
        let mut queue = self.queue.lock();
        (std::mem::take(&mut queue.entries), queue.closing)
    }

    /// Puts entries before all others.
    pub(super) fn put_back(&self, entries: Vec<Entry>) {
        let mut queue = self.queue.lock();
        for entry in entries.into_iter().rev() {
            queue.entries.push_front(entry);
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.queue.lock().closing
    }

    /// Fails everything queued; more may come.
    pub(super) fn fail_queued(&self, error: &Error) {
        let (entries, _) = self.take();
        for entry in entries {
            entry.fail(error);
        }
    }

    /// Fails everything queued, and whatever is asked from now on.
    pub(super) fn end(&self, error: Error) {
        self.queue.lock().ended.get_or_insert(error.clone());
        self.fail_queued(&error);
        self.room.close();
        self.done.send_replace(true);
    }

    /// Waits until something is queued or the client is closed.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    pub(super) fn close(&self) {
        self.queue.lock().closing = true;
        self.wake.notify_one();
    }

    /// Waits for [`Self::end`].
    pub(super) async fn ended(&self) {
        // The sender is ours, so waiting cannot fail.
        let _ = self.done.subscribe().wait_for(|done| *done).await;
    }
}

/// Held by clients and subscriptions; the last one closes the connection.
pub(super) struct Handle(pub(super) Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
    }
}
