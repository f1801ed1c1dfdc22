//! Message ids and the sort key they carry.
//!
//! A message id is 128 bits: `due time in ms (48) | shard (16) | sequence (64)`. The id *is* the
//! sort key of the store, so a look-up by id needs no map. Printed, it is 26 characters of
//! Crockford base 32: the shape of a ULID whose timestamp is the due time.

use std::fmt;
use std::str::FromStr;

/// Largest due time an id can carry, in ms since the Unix epoch (year 10889).
pub const DUE_MS_MAX: u64 = (1 << 48) - 1;

/// Number of characters of a printed id.
pub const ID_TEXT_LEN: usize = 26;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The public, permanent identity of a message. Rescheduling a message keeps its id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(u128);

impl MessageId {
    /// Builds an id. `due_ms` above [`DUE_MS_MAX`] is a programming error.
    #[must_use]
    pub fn new(due_ms: u64, shard: u16, sequence: u64) -> Self {
        assert!(due_ms <= DUE_MS_MAX, "due time does not fit an id");
        Self((u128::from(due_ms) << 80) | (u128::from(shard) << 64) | u128::from(sequence))
    }

    /// Due time the message was first given, in ms since the Unix epoch.
    #[must_use]
    pub fn due_ms(self) -> u64 {
        (self.0 >> 80) as u64
    }

    /// Shard that allocated the id.
    #[must_use]
    pub fn shard(self) -> u16 {
        (self.0 >> 64) as u16
    }

    /// Sequence number within the shard; starts at 1, never reused.
    #[must_use]
    pub fn sequence(self) -> u64 {
        self.0 as u64
    }

    /// The 16 bytes of the id, most significant first (byte order is sort order).
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Reads an id from its 16 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; ID_TEXT_LEN];
        let mut rest = self.0;
        for slot in text.iter_mut().rev() {
            *slot = ALPHABET[(rest & 31) as usize];
            rest >>= 5;
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not a message id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdError {
    /// Not exactly 26 characters.
    Length(usize),
    /// A character outside Crockford base 32, at this position.
    Character(usize),
    /// The first character is above `7`: more than 128 bits.
    Overflow,
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(n) => write!(f, "a message id has {ID_TEXT_LEN} characters, this has {n}"),
            Self::Character(at) => {
                write!(f, "character {} is not one of 0-9, A-Z without I, L, O, U", at + 1)
            }
            Self::Overflow => write!(f, "a message id begins with a digit from 0 to 7"),
        }
    }
}

impl std::error::Error for IdError {}

impl FromStr for MessageId {
    type Err = IdError;

    /// Reads the printed form. Lower case is accepted; `I` and `L` read as 1, `O` as 0.
    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() != ID_TEXT_LEN {
            return Err(IdError::Length(text.chars().count()));
        }
        let mut value: u128 = 0;
        for (at, c) in text.bytes().enumerate() {
            let digit = match c.to_ascii_uppercase() {
                b'I' | b'L' => 1,
                b'O' => 0,
                upper => {
                    ALPHABET.iter().position(|&a| a == upper).ok_or(IdError::Character(at))? as u128
                }
            };
            if at == 0 && digit > 7 {
                return Err(IdError::Overflow);
            }
            value = (value << 5) | digit;
        }
        Ok(Self(value))
    }
}

/// Where a message stands in the firing order: by due time, then by sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key {
    /// Due time in ms since the Unix epoch.
    pub due_ms: u64,
    /// Sequence number of the message.
    pub sequence: u64,
}

impl Key {
    /// The key past every message due up to and including `due_ms`.
    #[must_use]
    pub fn end_of(due_ms: u64) -> Self {
        Self { due_ms, sequence: u64::MAX }
    }
}

/// One connected client, unique within a run of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// A destination's number, given at its creation and never reused within a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DestinationId(pub u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_sorts_like_the_number() {
        let early = MessageId::new(1_000, 3, u64::MAX);
        let late = MessageId::new(1_001, 0, 0);
        assert!(early < late);
        assert!(early.to_string() < late.to_string());
        for id in [early, late, MessageId::new(DUE_MS_MAX, u16::MAX, 7)] {
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(id.to_string().to_lowercase().parse(), Ok(id));
            assert_eq!(MessageId::from_bytes(id.to_bytes()), id);
        }
        assert_eq!((late.due_ms(), early.shard(), early.sequence()), (1_001, 3, u64::MAX));
    }

    #[test]
    fn what_is_not_an_id_is_named() {
        assert_eq!("".parse::<MessageId>(), Err(IdError::Length(0)));
        assert_eq!("0".repeat(27).parse::<MessageId>(), Err(IdError::Length(27)));
        assert_eq!("0000000000000000000000000U".parse::<MessageId>(), Err(IdError::Character(25)));
        assert_eq!("8".repeat(26).parse::<MessageId>(), Err(IdError::Overflow));
        assert_eq!("é".repeat(13).parse::<MessageId>(), Err(IdError::Character(0)));
    }
}
