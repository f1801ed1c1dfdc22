//! Keys of the families. Big-endian, so that the order of the bytes is the order of the rows.

use crate::base::id::{DestinationId, Key};

/// Bytes of a key in [`Family::Scheduled`](super::Family::Scheduled).
pub const SCHEDULED_BYTES: usize = 14;
/// Bytes of a key in [`Family::Ready`](super::Family::Ready).
pub const READY_BYTES: usize = 13;

/// Where a row stands in [`Family::Ready`](super::Family::Ready).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadyKey {
    /// Whose lane it is.
    pub destination: DestinationId,
    /// Which of its lanes.
    pub lane: u8,
    /// Where in the lane; an offset on topics.
    pub position: u64,
}

/// `due_ms` as u48, then the sequence.
///
/// Due times need 48 bits, as in message ids: what is above becomes the highest of them, which
/// sorts last.
#[must_use]
pub fn scheduled(key: Key) -> [u8; SCHEDULED_BYTES] {
    let due_ms = key.due_ms.min((1 << 48) - 1);
    let mut bytes = [0; SCHEDULED_BYTES];
    bytes[..6].copy_from_slice(&due_ms.to_be_bytes()[2..]);
    bytes[6..].copy_from_slice(&key.sequence.to_be_bytes());
    bytes
}

/// What [`scheduled`] wrote; `None` for any other length.
#[must_use]
pub fn parse_scheduled(bytes: &[u8]) -> Option<Key> {
    let (due, sequence) = bytes.split_first_chunk::<6>()?;
    let mut due_ms = [0; 8];
    due_ms[2..].copy_from_slice(due);
    Some(Key {
        due_ms: u64::from_be_bytes(due_ms),
        sequence: u64::from_be_bytes(sequence.try_into().ok()?),
    })
}

/// Destination, lane, position.
#[must_use]
pub fn ready(key: ReadyKey) -> [u8; READY_BYTES] {
    let mut bytes = [0; READY_BYTES];
    bytes[..4].copy_from_slice(&key.destination.0.to_be_bytes());
    bytes[4] = key.lane;
    bytes[5..].copy_from_slice(&key.position.to_be_bytes());
    bytes
}

/// What [`ready`] wrote; `None` for any other length.
#[must_use]
pub fn parse_ready(bytes: &[u8]) -> Option<ReadyKey> {
    let (destination, rest) = bytes.split_first_chunk::<4>()?;
    let (lane, position) = rest.split_first()?;
    Some(ReadyKey {
        destination: DestinationId(u32::from_be_bytes(*destination)),
        lane: *lane,
        position: u64::from_be_bytes(position.try_into().ok()?),
    })
}

/// A key of [`Family::Record`](super::Family::Record): the kind of the record, then its own bytes.
#[must_use]
pub fn record(kind: u8, own: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + own.len());
    bytes.push(kind);
    bytes.extend_from_slice(own);
    bytes
}

/// What [`record`] wrote; `None` for nothing.
#[must_use]
pub fn parse_record(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (kind, own) = bytes.split_first()?;
    Some((*kind, own))
}

/// The last eight bytes of a key as a number, 0 for a shorter key: the sequence of a scheduled
/// row. Segments keep the range of it.
#[must_use]
pub fn tail(key: &[u8]) -> u64 {
    key.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: keys are read as they were written and sort as what they stand for. Method: pairs in
    /// order, with a larger low part before a smaller one.
    #[test]
    fn keys_round_trip_and_sort() {
        let at = |due_ms, sequence| Key { due_ms, sequence };
        let keys = [at(0, 0), at(0, u64::MAX), at(1, 0), at(255, 9), at(256, 1), at(1 << 47, 0)];
        for (low, high) in keys.iter().zip(&keys[1..]) {
            assert!(scheduled(*low) < scheduled(*high));
            assert_eq!(parse_scheduled(&scheduled(*low)), Some(*low));
            assert_eq!(tail(&scheduled(*low)), low.sequence);
        }
        assert_eq!(scheduled(at(u64::MAX, 7)), scheduled(at((1 << 48) - 1, 7)));

        let at = |number, lane, position| ReadyKey {
            destination: DestinationId(number),
            lane,
            position,
        };
        let keys = [at(0, 9, u64::MAX), at(1, 0, 0), at(1, 0, 256), at(1, 1, 0), at(256, 0, 0)];
        for (low, high) in keys.iter().zip(&keys[1..]) {
            assert!(ready(*low) < ready(*high));
            assert_eq!(parse_ready(&ready(*high)), Some(*high));
        }
        assert_eq!(parse_record(&record(3, b"x")), Some((3, &b"x"[..])));
    }

    #[test]
    fn other_lengths_are_no_keys() {
        for len in (0..20).filter(|len| *len != SCHEDULED_BYTES) {
            assert_eq!(parse_scheduled(&vec![1; len]), None);
        }
        for len in (0..20).filter(|len| *len != READY_BYTES) {
            assert_eq!(parse_ready(&vec![1; len]), None);
        }
        assert_eq!(parse_record(&[]), None);
        assert_eq!((tail(&[1; 7]), tail(&[1; 8])), (0, 0x0101_0101_0101_0101));
    }
}
