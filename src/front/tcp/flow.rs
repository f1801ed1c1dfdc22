//! What is in flight on a connection: unanswered requests and their bytes, counted against the
//! limits at which reading stops.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::base::command::{Command, Part};
use crate::base::limits;
use crate::wire::binary::RequestType;

/// Counters of one connection. Only its own task changes them; they are atomics because a task may
/// move between threads, and ordering is the task's.
#[derive(Debug, Default)]
pub(super) struct Flow {
    requests: AtomicUsize,
    bytes: AtomicUsize,
    room: Notify,
}

impl Flow {
    /// A request was taken.
    pub(super) fn begin(&self, bytes: usize) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Requests were answered.
    pub(super) fn end(&self, requests: usize, bytes: usize) {
        let was_full = self.is_full();
        self.requests.fetch_sub(requests, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if was_full && !self.is_full() {
            self.room.notify_one();
        }
    }

    /// Whether no further request is taken. The request that reaches the limit was still taken, so
    /// one of any size always passes.
    pub(super) fn is_full(&self) -> bool {
        self.requests.load(Ordering::Relaxed) >= limits::REQUESTS_IN_FLIGHT_MAX
            || self.bytes.load(Ordering::Relaxed) >= limits::REQUEST_BYTES_IN_FLIGHT_MAX
    }

    /// Whether everything is answered.
    pub(super) fn is_idle(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0
    }

    /// Waits until there is room again.
    pub(super) async fn room(&self) {
        while self.is_full() {
            self.room.notified().await;
        }
    }
}

/// Memory of one entry of an answer: of a page, of a query, of a produce.
const ENTRY_BYTES: (usize, usize, usize) = (96, 64, 32);

/// Memory that the answer to a command may take until it is written. It counts as bytes of the
/// request, so that a client that does not read cannot have short questions turned into heaps of
/// long answers.
pub(super) fn answer_bytes(command: &Command) -> usize {
    let (of_page, of_query, of_produce) = ENTRY_BYTES;
    let page = |limit: u32| (limit as usize).clamp(1, limits::PAGE_ITEMS_MAX);
    match command {
        Command::Fetch { limit, .. } => {
            (page(*limit) * limits::BODY_BYTES_MAX).min(limits::PAGE_BYTES_MAX)
        }
        Command::List { limit, .. } | Command::ListDestinations { limit, .. } => {
            page(*limit) * of_page
        }
        Command::Query { ids } => ids.len() * of_query,
        Command::Produce { batch, .. } | Command::Repeat { batch, .. } => {
            batch.count() * of_produce
        }
        // None of its messages is refused alone.
        Command::Transaction { parts } => {
            let items = |part: &Part| part.batch().map_or(0, |(_, b)| b.count()) + part.ids().len();
            parts.iter().map(items).sum::<usize>() * of_query
        }
        _ => 0,
    }
}

/// All that is needed to encode the answer to a request and to count it off, packed into the tag
/// that travels with it, so that no table of open requests is kept:
/// `correlation id (32) | bytes it counts as (24) | request type (8)`, from the top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) correlation: u32,
    pub(super) bytes: usize,
    pub(super) request_type: RequestType,
}

/// Largest size that a tag can hold.
const TAG_BYTES_MAX: usize = (1 << 24) - 1;

const _: () = assert!(limits::FRAME_BYTES_MAX + 4 + limits::PAGE_BYTES_MAX <= TAG_BYTES_MAX);
const _: () = assert!(limits::BATCH_ITEMS_MAX * ENTRY_BYTES.1 <= limits::PAGE_BYTES_MAX);

impl Tag {
    pub(super) fn pack(self) -> u64 {
        let bytes = self.bytes.min(TAG_BYTES_MAX) as u64;
        u64::from(self.correlation) << 32 | bytes << 8 | u64::from(self.request_type as u8)
    }

    /// `None` for a number that is no tag.
    pub(super) fn unpack(tag: u64) -> Option<Self> {
        Some(Self {
            correlation: (tag >> 32) as u32,
            bytes: (tag >> 8) as usize & TAG_BYTES_MAX,
            request_type: RequestType::from_number((tag & 0xff) as i32)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_round_trip_at_their_bounds() {
        for &request_type in RequestType::ALL {
            for (correlation, bytes) in [(0, 0), (7, 100), (u32::MAX, limits::FRAME_BYTES_MAX + 4)]
            {
                let tag = Tag { correlation, bytes, request_type };
                assert_eq!(Tag::unpack(tag.pack()), Some(tag));
            }
        }
        assert_eq!(Tag::unpack(0), None);
    }

    #[test]
    fn reading_stops_at_each_limit_and_goes_on_below_it() {
        let flow = Flow::default();
        for _ in 1..limits::REQUESTS_IN_FLIGHT_MAX {
            flow.begin(1);
        }
        assert!(!flow.is_full());
        flow.begin(1);
        assert!(flow.is_full());
        flow.end(1, 1);
        assert!(!flow.is_full());
        flow.begin(limits::REQUEST_BYTES_IN_FLIGHT_MAX);
        assert!(flow.is_full());
    }
}
