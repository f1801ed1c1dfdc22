//! The body of an answer that brings what the server says, as it is said.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::Frame;
use tokio::time::{Instant, Sleep, sleep};

use crate::base::limits::SOCKJS_STREAM_BYTES;
use crate::front::carrier::{Polled, Taken};
use crate::wire::sockjs::{HEARTBEAT, OPEN, Reason};

/// Some browsers hand on nothing before they have so much.
const PRELUDE_BYTES: usize = 2048;

/// How much one answer brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One frame.
    Once,
    /// Frames up to [`SOCKJS_STREAM_BYTES`].
    Stream,
}

/// The body. When it is dropped before its end, its connection is gone.
pub(super) struct Receiver {
    session: Arc<Polled>,
    prelude: bool,
    /// So many bytes more, then it ends.
    left: usize,
    beat: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Receiver {
    /// For a session that is attached.
    pub(super) fn new(session: Arc<Polled>, kind: Kind, beat: Duration) -> Self {
        let left = match kind {
            Kind::Once => 1,
            Kind::Stream => SOCKJS_STREAM_BYTES,
        };
        let timer = Box::pin(sleep(beat));
        Self { session, prelude: kind == Kind::Stream, left, beat, timer }
    }

    pub(super) fn into_body(self) -> Body {
        Body::new(self)
    }

    /// The body when somebody receives already.
    pub(super) fn refusal(kind: Kind) -> Body {
        let mut text = match kind {
            Kind::Once => Vec::new(),
            Kind::Stream => prelude(),
        };
        text.extend_from_slice(Reason::AnotherConnection.frame().as_bytes());
        text.push(b'\n');
        Body::from(text)
    }

    /// The next frame, with its end of line.
    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Vec<u8>> {
        let mut frame = match self.session.poll_take(cx) {
            Poll::Ready(Taken::Open) => OPEN.as_bytes().to_vec(),
            Poll::Ready(Taken::Strings(strings)) => [b"a[", &strings[..], b"]"].concat(),
            Poll::Ready(Taken::End(reason)) => {
                self.left = 0;
                reason.frame().as_bytes().to_vec()
            }
            Poll::Pending => {
                if self.timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                HEARTBEAT.as_bytes().to_vec()
            }
        };
        frame.push(b'\n');
        Poll::Ready(frame)
    }
}

impl HttpBody for Receiver {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        if this.left == 0 {
            return Poll::Ready(None);
        }
        if std::mem::take(&mut this.prelude) {
            return Poll::Ready(Some(Ok(Frame::data(prelude().into()))));
        }
        let frame = std::task::ready!(this.next(cx));
        this.timer.as_mut().reset(Instant::now() + this.beat);
        this.left = this.left.saturating_sub(frame.len());
        if this.left == 0 {
            // The client may come back with the next request as soon as it has this.
            this.session.detach();
        }
        Poll::Ready(Some(Ok(Frame::data(frame.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if self.left > 0 {
            self.session.interrupt();
        }
    }
}

fn prelude() -> Vec<u8> {
    let mut text = vec![b'h'; PRELUDE_BYTES];
    text.push(b'\n');
    text
}
