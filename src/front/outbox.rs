//! What waits to be written to a connection, counted, so that the shard can hand out no more.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::base::command::Outgoing;
use crate::base::limits;

/// Bytes of deliveries that wait to be written to a connection.
#[derive(Debug, Default)]
pub(super) struct Unwritten(AtomicUsize);

impl Unwritten {
    /// They wait from now on.
    pub(super) fn add(&self, batch: &[Outgoing]) {
        self.0.fetch_add(delivery_bytes(batch), Ordering::Relaxed);
    }

    /// So many bytes are written.
    pub(super) fn remove(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether so much waits that no more should come.
    pub(super) fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= limits::OUTBOX_BYTES_MAX
    }
}

/// Memory that a batch holds for its deliveries.
pub(super) fn delivery_bytes(batch: &[Outgoing]) -> usize {
    batch
        .iter()
        .map(|outgoing| match outgoing {
            Outgoing::Deliver(delivery) => size_of::<Outgoing>() + delivery.content.len(),
            _ => 0,
        })
        .sum()
}
