//! A checkpoint's own head: the time it was taken at. Its events follow.

use crate::base::event::BatchMeta;
use crate::base::id::Key;
use crate::base::time::Now;

const HEAD_BYTES: usize = 40;

/// A checkpoint as bytes.
#[must_use]
pub fn encode(meta: &BatchMeta, events: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + events.len());
    let Key { due_ms, sequence } = meta.fired_to;
    for number in [meta.now.mono_ms, meta.now.wall_ms, meta.now.engine_ms, due_ms, sequence] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(events);
    bytes
}

/// The time of a checkpoint and its events. `None`: it is cut short.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<(BatchMeta, &[u8])> {
    let (head, events) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let mut numbers = [0; HEAD_BYTES / 8];
    for (number, bytes) in numbers.iter_mut().zip(head.as_chunks::<8>().0) {
        *number = u64::from_le_bytes(*bytes);
    }
    let [mono_ms, wall_ms, engine_ms, due_ms, sequence] = numbers;
    let now = Now { mono_ms, wall_ms, engine_ms };
    let fired_to = Key { due_ms, sequence };
    Some((BatchMeta { now, fired_to }, events))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_round_trips() {
        let now = Now { mono_ms: 1, wall_ms: 2, engine_ms: 3 };
        let fired_to = Key { due_ms: 4, sequence: 5 };
        let meta = BatchMeta { now, fired_to };
        let bytes = encode(&meta, b"events");
        assert_eq!(decode(&bytes), Some((meta, &b"events"[..])));
        assert_eq!(decode(&bytes[..39]), None);
    }
}
