//! Whether what is stored makes sense, for `verify`: what passed its checksum may still be something
//! that no shard wrote.

use crate::base::content;
use crate::base::limits;
use crate::base::stored::Place;
use crate::codec::{event, row};
use crate::store::key::{self, ReadyKey};
use crate::store::{Family, Value};

use super::below::{KIND_DEDUP, KIND_PLACE};

/// Judges a row of the store.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_row(family: Family, key: &[u8], value: Value<'_>) -> Result<(), String> {
    match family {
        Family::Scheduled => {
            let key = key::parse_scheduled(key).ok_or("it is no key of a scheduled message")?;
            check_message(Place::Scheduled(key), value)
        }
        Family::Ready => {
            let ReadyKey { destination, lane, position } =
                key::parse_ready(key).ok_or("it is no key of a ready message")?;
            check_message(Place::Ready { destination, lane, position }, value)
        }
        Family::Record => match (key::parse_record(key), value) {
            (Some((KIND_PLACE, own)), value) => {
                let sequence = own.try_into().map_err(|_| "it is no key of a place")?;
                let Value::Put(value) = value else { return Ok(()) };
                let place = row::decode_place(u64::from_be_bytes(sequence), value);
                place.map(drop).ok_or_else(|| "it is no place".into())
            }
            (Some((KIND_DEDUP, own)), value) => {
                // A destination and an id.
                if !(5..=4 + limits::DEDUP_BYTES_MAX).contains(&own.len()) {
                    return Err("it is no key of a dedup id".into());
                }
                let Value::Put(value) = value else { return Ok(()) };
                row::decode_dedup(own, value).map(drop).ok_or_else(|| "it is no dedup id".into())
            }
            _ => Err("it is a record of no kind that is known".into()),
        },
    }
}

fn check_message(place: Place, value: Value<'_>) -> Result<(), String> {
    let Value::Put(value) = value else { return Ok(()) };
    let message = row::decode(place, 0, value).ok_or("it is no message")?;
    content::check(message.content).map(drop).map_err(|error| error.message)
}

/// Judges the events of a batch of the journal, and counts them.
///
/// # Errors
/// What is wrong with them, in words.
pub fn check_events(mut events: &[u8]) -> Result<u64, String> {
    let mut count = 0;
    while !events.is_empty() {
        event::decode(&mut events).map_err(|error| format!("event {count}: {error}"))?;
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::content::Content;
    use crate::base::id::{DestinationId, Key, MessageId};
    use crate::base::stored::{Remembered, Stored};
    use crate::base::time::ClockKind;

    fn message(place: Place) -> Vec<u8> {
        let (mut content, mut bytes) = (Vec::new(), Vec::new());
        Content::of_body("hello").encode(&mut content).unwrap();
        let stored = Stored {
            place,
            id: MessageId::new(5, 0, 7),
            destination: DestinationId(1),
            due_ms: 5,
            clock: ClockKind::Mono,
            priority: 4,
            expires_mono_ms: 0,
            failures: 0,
            recurring: false,
            content: &content,
        };
        row::encode(&stored, &mut bytes);
        bytes
    }

    /// Goal: what a shard writes is judged sound, and what it never writes is not. Method: a row of
    /// each kind, then the same with other keys, cut values, and in another family.
    #[test]
    fn rows_are_told_from_nonsense() {
        let at = Key { due_ms: 5, sequence: 7 };
        let (scheduled, ready) =
            (key::scheduled(at), ReadyKey { destination: DestinationId(1), lane: 4, position: 9 });
        let ReadyKey { destination, lane, position } = ready;
        let place = Place::Ready { destination, lane, position };
        let mut put = Vec::new();
        row::encode_place(place, &mut put);
        let mut dedup = Vec::new();
        let id = MessageId::new(5, 0, 7);
        let once = Remembered { destination, dedup: b"x", id, until_mono_ms: 9 };
        row::encode_dedup(&once, &mut dedup);
        let rows = [
            (Family::Scheduled, scheduled.to_vec(), message(Place::Scheduled(at))),
            (Family::Ready, key::ready(ready).to_vec(), message(place)),
            (Family::Record, key::record(KIND_PLACE, &7u64.to_be_bytes()), put),
            (Family::Record, key::record(KIND_DEDUP, &row::dedup_key(destination, b"x")), dedup),
        ];
        for (at, (family, key, value)) in rows.iter().enumerate() {
            check_row(*family, key, Value::Put(value)).unwrap();
            check_row(*family, key, Value::Tombstone).unwrap();
            check_row(*family, &key[1..], Value::Put(value)).unwrap_err();
            check_row(*family, &key[1..], Value::Tombstone).unwrap_err();
            check_row(*family, key, Value::Put(&[])).unwrap_err();
            let other = &rows[(at + 1) % rows.len()].1;
            check_row(*family, other, Value::Put(value)).unwrap_err();
        }
        let strange = key::record(KIND_DEDUP + 1, &7u64.to_be_bytes());
        check_row(Family::Record, &strange, Value::Put(&rows[2].2)).unwrap_err();
        for (len, sound) in [(0, false), (1, true), (128, true), (129, false)] {
            let own = row::dedup_key(destination, &vec![b'x'; len]);
            let key = key::record(KIND_DEDUP, &own);
            assert_eq!(check_row(Family::Record, &key, Value::Put(&rows[3].2)).is_ok(), sound);
        }
    }
}
