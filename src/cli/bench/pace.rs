//! The clock of an open loop.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

/// Tells one connection when each of its frames is to be sent.
pub(super) type Beats = mpsc::UnboundedReceiver<Instant>;

/// Starts a pacer: `frames_per_second` in turn over all connections, from now until `end`. It is a
/// thread of its own, because timers of the runtime are no finer than a ms.
pub(super) fn start(connections: usize, frames_per_second: f64, end: Instant) -> Vec<Beats> {
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..connections).map(|_| mpsc::unbounded_channel()).unzip();
    let begin = Instant::now();
    std::thread::spawn(move || {
        for (frame, sender) in (0_u64..).zip(senders.iter().cycle()) {
            // Computed from the beginning, so that errors of sleeping do not add up.
            let due = begin + Duration::from_secs_f64(frame as f64 / frames_per_second);
            if due >= end {
                return;
            }
            if let Some(wait) = due.checked_duration_since(Instant::now()) {
                std::thread::sleep(wait);
            }
            if sender.send(due).is_err() {
                return;
            }
        }
    });
    receivers
}
