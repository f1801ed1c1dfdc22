//! Messages and dedup ids as rows of the store: the value beside the key. `docs/format.md` draws them.
//!
//! Little-endian. What the key says is not said again.

use crate::base::id::{DUE_MS_MAX, DestinationId, Key, MessageId};
use crate::base::limits::PRIORITY_MAX;
use crate::base::stored::{Place, Remembered, Stored};
use crate::base::time::ClockKind;

const WALL: u8 = 1;
const EXPIRES: u8 = 2;
const FAILED: u8 = 4;
/// The public id carries another due time than the current one.
const MOVED: u8 = 8;
/// The priority stands above the flags.
const PRIORITY_SHIFT: u32 = 4;
/// In the place of a priority: there are more flags, and the priority stands below them.
const MORE: u8 = 15;
/// More flags: the key says another time than the due time.
const PUT_BACK: u8 = 16;
/// More flags: a recurring schedule.
const RECURRING: u8 = 32;

const PLACE_SCHEDULED: u8 = 1;
const PLACE_READY: u8 = 2;

/// Appends the value of a message's row.
pub fn encode(message: &Stored<'_>, out: &mut Vec<u8>) {
    let moved = message.id.due_ms() != message.due_ms;
    let put_back = match message.place {
        Place::Scheduled(key) => key.due_ms != message.due_ms,
        Place::Ready { .. } => false,
    };
    let mut more = if put_back { PUT_BACK } else { 0 };
    more |= if message.recurring { RECURRING } else { 0 };
    let mut head = if more != 0 { MORE } else { message.priority } << PRIORITY_SHIFT;
    head |= if message.clock == ClockKind::Wall { WALL } else { 0 };
    head |= if message.expires_mono_ms != 0 { EXPIRES } else { 0 };
    head |= if message.failures != 0 { FAILED } else { 0 };
    head |= if moved { MOVED } else { 0 };
    out.push(head);
    if more != 0 {
        out.push(more | message.priority);
    }
    match message.place {
        Place::Scheduled(_) => put_number(u64::from(message.destination.0), out),
        Place::Ready { .. } => {
            put_due(message.due_ms, out);
            put_number(message.id.sequence(), out);
        }
    }
    if moved {
        put_due(message.id.due_ms(), out);
    }
    if put_back {
        put_due(message.due_ms, out);
    }
    if message.expires_mono_ms != 0 {
        out.extend_from_slice(&message.expires_mono_ms.to_le_bytes());
    }
    if message.failures != 0 {
        out.extend_from_slice(&message.failures.to_le_bytes());
    }
    out.extend_from_slice(message.content);
}

/// Reads the value of a message's row at `place`, of this shard. `None`: it is not one.
#[must_use]
pub fn decode(place: Place, shard: u16, value: &[u8]) -> Option<Stored<'_>> {
    let (&head, mut rest) = value.split_first()?;
    let mut priority = head >> PRIORITY_SHIFT;
    let (mut put_back, mut recurring) = (false, false);
    if priority == MORE {
        let (&more, after) = rest.split_first()?;
        (priority, rest) = (more & 15, after);
        (put_back, recurring) = (more & PUT_BACK != 0, more & RECURRING != 0);
        let known = more & !(PUT_BACK | RECURRING | 15) == 0 && (put_back || recurring);
        if !known || !matches!(place, Place::Scheduled(_)) {
            return None;
        }
    }
    let (destination, mut due_ms, sequence) = match place {
        Place::Scheduled(key) => {
            let destination = u32::try_from(take_number(&mut rest)?).ok()?;
            (DestinationId(destination), key.due_ms, key.sequence)
        }
        Place::Ready { destination, .. } => {
            let due_ms = take_due(&mut rest)?;
            (destination, due_ms, take_number(&mut rest)?)
        }
    };
    let moved_from = if head & MOVED != 0 { Some(take_due(&mut rest)?) } else { None };
    if put_back {
        due_ms = take_due(&mut rest)?;
    }
    let id_due_ms = moved_from.unwrap_or(due_ms);
    let mut expires_mono_ms = 0;
    if head & EXPIRES != 0 {
        let (bytes, after) = rest.split_first_chunk::<8>()?;
        (expires_mono_ms, rest) = (u64::from_le_bytes(*bytes), after);
    }
    let mut failures = 0;
    if head & FAILED != 0 {
        let (bytes, after) = rest.split_first_chunk::<2>()?;
        (failures, rest) = (u16::from_le_bytes(*bytes), after);
    }
    (id_due_ms <= DUE_MS_MAX && priority <= PRIORITY_MAX).then(|| Stored {
        place,
        id: MessageId::new(id_due_ms, shard, sequence),
        destination,
        due_ms,
        clock: if head & WALL != 0 { ClockKind::Wall } else { ClockKind::Mono },
        priority,
        expires_mono_ms,
        failures,
        recurring,
        content: rest,
    })
}

/// Appends a place, as the row that finds a message by its sequence.
pub fn encode_place(place: Place, out: &mut Vec<u8>) {
    match place {
        Place::Scheduled(key) => {
            out.push(PLACE_SCHEDULED);
            put_due(key.due_ms, out);
        }
        Place::Ready { destination, lane, position } => {
            out.push(PLACE_READY);
            out.extend_from_slice(&destination.0.to_le_bytes());
            out.push(lane);
            put_number(position, out);
        }
    }
}

/// Reads the place of the message with this sequence. `None`: it is not one.
#[must_use]
pub fn decode_place(sequence: u64, value: &[u8]) -> Option<Place> {
    let (&kind, mut rest) = value.split_first()?;
    match kind {
        PLACE_SCHEDULED => Some(Place::Scheduled(Key { due_ms: take_due(&mut rest)?, sequence })),
        PLACE_READY => {
            let (destination, rest) = rest.split_first_chunk::<4>()?;
            let (&lane, mut rest) = rest.split_first()?;
            let destination = DestinationId(u32::from_le_bytes(*destination));
            Some(Place::Ready { destination, lane, position: take_number(&mut rest)? })
        }
        _ => None,
    }
}

/// The key of a dedup id's row, behind the kind. Big-endian as keys are.
#[must_use]
pub fn dedup_key(destination: DestinationId, dedup: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(4 + dedup.len());
    key.extend_from_slice(&destination.0.to_be_bytes());
    key.extend_from_slice(dedup);
    key
}

/// Appends the value of a dedup id's row.
pub fn encode_dedup(row: &Remembered<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&row.id.to_bytes());
    out.extend_from_slice(&row.until_mono_ms.to_le_bytes());
}

/// Reads a dedup id's row; `key` is the one of [`dedup_key`]. `None`: it is not one.
#[must_use]
pub fn decode_dedup<'a>(key: &'a [u8], value: &[u8]) -> Option<Remembered<'a>> {
    let (destination, dedup) = key.split_first_chunk::<4>()?;
    let (id, until) = value.split_first_chunk::<16>()?;
    let until_mono_ms = u64::from_le_bytes(until.try_into().ok()?);
    Some(Remembered {
        destination: DestinationId(u32::from_be_bytes(*destination)),
        dedup,
        id: MessageId::from_bytes(*id),
        until_mono_ms,
    })
}

/// A due time as 48 bits; what is above does not exist.
fn put_due(due_ms: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&due_ms.min(DUE_MS_MAX).to_le_bytes()[..6]);
}

fn take_due(rest: &mut &[u8]) -> Option<u64> {
    let (bytes, after) = rest.split_first_chunk::<6>()?;
    let mut due_ms = [0; 8];
    due_ms[..6].copy_from_slice(bytes);
    *rest = after;
    Some(u64::from_le_bytes(due_ms))
}

/// LEB128: seven bits a byte, the lowest first.
fn put_number(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        let bits = u64::from(byte & 0x7F);
        // The tenth byte has room for one bit.
        if bits << shift >> shift != bits {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place() -> impl Strategy<Value = Place> {
        prop_oneof![
            (0..=DUE_MS_MAX, any::<u64>())
                .prop_map(|(due_ms, sequence)| Place::Scheduled(Key { due_ms, sequence })),
            (any::<u32>(), 0u8..10, any::<u64>()).prop_map(|(destination, lane, position)| {
                Place::Ready { destination: DestinationId(destination), lane, position }
            }),
        ]
    }

    /// Goal: a dedup id is read as it was written, in the bytes that the format says, and rows of
    /// any other length are none. Method: one with all numbers different; every cut and one byte more.
    #[test]
    fn dedup_ids_round_trip() {
        let id = MessageId::new(0x0102_0304_0506, 0x0708, 0x090a);
        let destination = DestinationId(0x1112_1314);
        let row = Remembered { destination, dedup: b"once", id, until_mono_ms: 0x2122 };
        let (key, mut value) = (dedup_key(destination, b"once"), Vec::new());
        encode_dedup(&row, &mut value);
        assert_eq!(key, b"\x11\x12\x13\x14once");
        let id = [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 9, 10];
        assert_eq!(value, [&id[..], &[0x22, 0x21, 0, 0, 0, 0, 0, 0]].concat());
        assert_eq!(decode_dedup(&key, &value), Some(row));
        value.push(0);
        for len in (0..=value.len()).filter(|len| *len != 24) {
            assert_eq!(decode_dedup(&key, &value[..len]), None);
        }
        assert_eq!(decode_dedup(&key[..3], &value[..24]), None);
    }

    /// Goal: the byte that says more has one form, and stands in one family. Method: each of its bits turned,
    /// and the same row in the other family.
    #[test]
    fn what_was_put_back_has_one_form() {
        let place = Place::Scheduled(Key { due_ms: 9_000, sequence: 7 });
        let message = Stored {
            place,
            id: MessageId::new(5_000, 3, 7),
            destination: DestinationId(1),
            due_ms: 5_000,
            clock: ClockKind::Wall,
            priority: 9,
            expires_mono_ms: 0,
            failures: 0,
            recurring: false,
            content: b"x",
        };
        let mut bytes = Vec::new();
        encode(&message, &mut bytes);
        assert_eq!(bytes[..2], [MORE << PRIORITY_SHIFT | WALL, PUT_BACK | 9]);
        assert_eq!(decode(place, 3, &bytes), Some(message));
        let (mut schedule, recurring) = (Vec::new(), Stored { recurring: true, ..message });
        encode(&recurring, &mut schedule);
        assert_eq!(schedule[..2], [MORE << PRIORITY_SHIFT | WALL, PUT_BACK | RECURRING | 9]);
        assert_eq!(decode(place, 3, &schedule), Some(recurring));
        let ready = Place::Ready { destination: DestinationId(1), lane: 9, position: 1 };
        // Long enough for the other family.
        let long = [&bytes[..], &[0; 20]].concat();
        assert_eq!(decode(ready, 3, &long), None);
        let mut beyond = bytes.clone();
        beyond[1] = PUT_BACK | (PRIORITY_MAX + 1);
        assert_eq!(decode(place, 3, &beyond), None, "no message has that priority");
        // The bit between says that it is a schedule.
        for bit in [4, 6, 7] {
            let mut other = bytes.clone();
            other[1] ^= 1 << bit;
            assert_eq!(decode(place, 3, &other), None, "bit {bit}");
        }
    }

    proptest! {
        /// Goal: what is written is read, and no bytes panic. Method: random messages; every cut.
        #[test]
        fn rows_and_places_round_trip(
            place in place(),
            (destination, due_ms, sequence) in (any::<u32>(), 0..=DUE_MS_MAX, any::<u64>()),
            moved in proptest::option::of(0..=DUE_MS_MAX),
            put_back in any::<bool>(),
            recurring in any::<bool>(),
            (wall, priority, expires_mono_ms, failures) in
                (any::<bool>(), 0u8..10, 0u64..3, 0u16..3),
            content in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let (due_ms, sequence, destination) = match place {
                Place::Scheduled(key) => {
                    let due_ms = if put_back { due_ms } else { key.due_ms };
                    (due_ms, key.sequence, DestinationId(destination))
                }
                Place::Ready { destination, .. } => (due_ms, sequence, destination),
            };
            let message = Stored {
                place,
                id: MessageId::new(moved.unwrap_or(due_ms), 3, sequence),
                destination,
                due_ms,
                clock: if wall { ClockKind::Wall } else { ClockKind::Mono },
                priority,
                expires_mono_ms,
                failures,
                recurring: recurring && matches!(place, Place::Scheduled(_)),
                content: &content,
            };
            let mut bytes = Vec::new();
            encode(&message, &mut bytes);
            prop_assert_eq!(decode(place, 3, &bytes), Some(message));
            for cut in 0..bytes.len() {
                let _ = decode(place, 3, &bytes[..cut]);
            }
            let mut bytes = Vec::new();
            encode_place(place, &mut bytes);
            prop_assert_eq!(decode_place(sequence, &bytes), Some(place));
            for cut in 0..bytes.len() {
                prop_assert_eq!(decode_place(sequence, &bytes[..cut]), None);
            }
        }
    }
}
