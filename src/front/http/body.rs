//! Bodies of requests, bounded each and all together, and in time.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::problem::Problem;
use crate::base::limits::{HTTP_BODIES_BYTES_MAX, HTTP_BODY_BYTES_MAX};

/// The memory that bodies may take.
pub(super) struct Bodies {
    room: Arc<Semaphore>,
    time: Duration,
}

/// A body, and the memory it takes.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bytes: Vec<u8>,
    pub(super) room: OwnedSemaphorePermit,
}

impl Bodies {
    pub(super) fn new(time: Duration) -> Self {
        Self { room: Arc::new(Semaphore::new(HTTP_BODIES_BYTES_MAX)), time }
    }

    /// Reads a body to its end.
    pub(super) async fn read(&self, mut body: Body) -> Result<Held, Problem> {
        timeout(self.time, self.read_all(&mut body)).await.unwrap_or_else(|_| {
            let text = format!("the body did not come within {} ms", self.time.as_millis());
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, text))
        })
    }

    async fn read_all(&self, body: &mut Body) -> Result<Held, Problem> {
        let too_large = || {
            let text = format!("a body has at most {HTTP_BODY_BYTES_MAX} bytes");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, text)
        };
        if body.size_hint().lower() > HTTP_BODY_BYTES_MAX as u64 {
            return Err(too_large());
        }
        let mut held = Held { bytes: Vec::new(), room: self.room(0)? };
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            let frame =
                frame.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
            let Ok(piece) = frame.into_data() else { continue };
            if held.bytes.len() + piece.len() > HTTP_BODY_BYTES_MAX {
                return Err(too_large());
            }
            // Nobody waits here for room with room of his own: two could wait for each other.
            held.room.merge(self.room(piece.len())?);
            held.bytes.extend_from_slice(&piece);
        }
        Ok(held)
    }

    fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let count = u32::try_from(bytes).unwrap_or(u32::MAX);
        Arc::clone(&self.room)
            .try_acquire_many_owned(count)
            .map_err(|_| Problem::unavailable("too many requests at once; try again in a moment"))
    }
}
