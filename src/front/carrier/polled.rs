//! A SockJS session that is carried by requests: one at a time receives, others send.
//!
//! Both directions are bounded. What was received waits until the session reads it, and requests that
//! send wait for their place; what is to be sent waits for the next request that receives, and the
//! session waits for its place.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::Closing;
use super::output::{LINGER, within};
use super::websocket::text_of;
use crate::base::limits::SOCKJS_BUFFER_BYTES_MAX;
use crate::wire::sockjs::{Decoder, Reason, encode_string};

/// The session, shared by the requests and by who serves it.
pub(crate) struct Polled {
    state: Mutex<State>,
    /// Bytes that may still come in.
    room: Arc<Semaphore>,
    readable: Notify,
    writable: Notify,
    /// A request came to receive, or went.
    life: Notify,
}

#[derive(Default)]
struct State {
    inbound: VecDeque<Piece>,
    decoder: Decoder,
    /// JSON strings, with commas between them.
    outbound: Vec<u8>,
    opened: bool,
    receiving: bool,
    waker: Option<Waker>,
    /// Nothing goes in any more, and only what is there goes out.
    ending: Option<Reason>,
    /// Somebody was told so.
    told: bool,
}

struct Piece {
    bytes: Bytes,
    /// What it takes of the room here, and of the room all sessions share.
    _held: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

/// Why nothing was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendError {
    /// The session has ended.
    Gone,
    /// Nothing was said.
    Empty,
    /// What was said is no array of strings.
    Broken,
    /// The session did not read what came before.
    Full,
}

/// What a receiving request is given next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The session has begun.
    Open,
    /// JSON strings, with commas between them.
    Strings(Vec<u8>),
    /// The session has ended.
    End(Reason),
}

impl Polled {
    /// A session whose first request is receiving.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State { receiving: true, ..State::default() }),
            room: Arc::new(Semaphore::new(SOCKJS_BUFFER_BYTES_MAX)),
            readable: Notify::new(),
            writable: Notify::new(),
            life: Notify::new(),
        })
    }

    /// Takes in what a request says, once there is room for it. `held` is given back when it is read.
    ///
    /// # Errors
    /// See [`SendError`]; nothing of it was taken in then. `Full` after `patience`.
    pub(crate) async fn send(
        &self,
        body: &[u8],
        held: OwnedSemaphorePermit,
        patience: Duration,
    ) -> Result<(), SendError> {
        let count = body.len().min(SOCKJS_BUFFER_BYTES_MAX);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(count);
        let room = timeout(patience, room).await.map_err(|_| SendError::Full)?;
        let room = room.map_err(|_| SendError::Gone)?;
        let mut state = self.state.lock();
        if state.ending.is_some() {
            return Err(SendError::Gone);
        }
        // What turns out to be broken leaves no trace.
        let mut decoder = state.decoder.clone();
        let mut said = Vec::new();
        decoder.push(body, &mut said).map_err(|_| SendError::Broken)?;
        if !decoder.end().map_err(|_| SendError::Broken)? {
            return Err(SendError::Empty);
        }
        state.decoder = decoder;
        if !said.is_empty() {
            state.inbound.push_back(Piece { bytes: said.into(), _held: (room, held) });
            self.readable.notify_one();
        }
        Ok(())
    }

    /// Makes a request the one that receives; `false` when there is one already.
    pub(crate) fn attach(&self) -> bool {
        let mut state = self.state.lock();
        let free = !state.receiving;
        state.receiving = true;
        if free {
            self.life.notify_one();
        }
        free
    }

    /// The receiving request has all that it takes.
    pub(crate) fn detach(&self) {
        let mut state = self.state.lock();
        state.receiving = false;
        state.waker = None;
        self.life.notify_one();
    }

    /// The receiving request broke off. What it was given may be lost, and a stream with a hole in it is
    /// worse than none.
    pub(crate) fn interrupt(&self) {
        self.end(Reason::Interrupted);
        self.detach();
    }

    /// Gives the receiving request what there is, or wakes it when there is something.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Taken> {
        let mut state = self.state.lock();
        if !std::mem::replace(&mut state.opened, true) {
            return Poll::Ready(Taken::Open);
        }
        if !state.outbound.is_empty() {
            self.writable.notify_one();
            return Poll::Ready(Taken::Strings(std::mem::take(&mut state.outbound)));
        }
        if let Some(reason) = state.ending {
            state.told = true;
            self.writable.notify_one();
            return Poll::Ready(Taken::End(reason));
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Waits until nobody has received for so long.
    pub(crate) async fn until_abandoned(&self, patience: Duration) {
        loop {
            let receiving = self.state.lock().receiving;
            if receiving {
                self.life.notified().await;
            } else if timeout(patience, self.life.notified()).await.is_err() {
                return;
            }
        }
    }

    /// Ends the session, if nobody has yet. What waits to be received is given up, but in good order.
    pub(crate) fn end(&self, reason: Reason) {
        let mut state = self.state.lock();
        if state.ending.is_none() {
            state.ending = Some(reason);
            if matches!(reason, Reason::Interrupted) {
                state.outbound = Vec::new();
            }
        }
        self.room.close();
        self.readable.notify_one();
        self.writable.notify_one();
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// Waits until `ready` gives something, looking again whenever something was taken.
    async fn written<T>(&self, ready: impl Fn(&mut State) -> Option<T>) -> T {
        loop {
            if let Some(done) = ready(&mut self.state.lock()) {
                return done;
            }
            self.writable.notified().await;
        }
    }
}

/// The incoming side.
pub(crate) struct PolledReader(Arc<Polled>);

impl PolledReader {
    pub(super) fn new(session: Arc<Polled>) -> Self {
        Self(session)
    }

    pub(super) async fn read(&mut self) -> Option<Bytes> {
        loop {
            {
                let mut state = self.0.state.lock();
                if let Some(piece) = state.inbound.pop_front() {
                    return Some(piece.bytes);
                }
                if state.ending.is_some() {
                    return None;
                }
            }
            self.0.readable.notified().await;
        }
    }
}

impl Drop for PolledReader {
    fn drop(&mut self) {
        self.0.room.close();
        self.0.state.lock().inbound = VecDeque::new();
    }
}

/// The outgoing side. Dropping it ends the session.
pub(crate) struct PolledWriter(Arc<Polled>);

impl PolledWriter {
    pub(super) fn new(session: Arc<Polled>) -> Self {
        Self(session)
    }

    pub(super) async fn write(&mut self, frames: &[Bytes], stall: Duration) -> io::Result<()> {
        let texts = frames.iter().map(|frame| text_of(frame)).collect::<Result<Vec<_>, _>>()?;
        for text in texts {
            let push = self.0.written(|state| {
                if state.ending.is_some() {
                    return Some(Err(io::ErrorKind::BrokenPipe.into()));
                }
                if state.outbound.len() >= SOCKJS_BUFFER_BYTES_MAX {
                    return None;
                }
                if !state.outbound.is_empty() {
                    state.outbound.push(b',');
                }
                encode_string(&mut state.outbound, text);
                if let Some(waker) = state.waker.take() {
                    waker.wake();
                }
                Some(Ok(()))
            });
            within(stall, push).await?;
        }
        Ok(())
    }

    pub(super) async fn close(&mut self, how: Closing) {
        self.0.end(match how {
            Closing::Normal => Reason::GoAway,
            Closing::Protocol => Reason::Protocol,
            Closing::GoingAway => Reason::Stopping,
        });
        // A client that is between two requests finds it when it comes back.
        let told = self.0.written(|state| (state.told || !state.receiving).then_some(()));
        let _ = timeout(LINGER, told).await;
    }
}

impl Drop for PolledWriter {
    fn drop(&mut self) {
        self.0.end(Reason::GoAway);
    }
}
