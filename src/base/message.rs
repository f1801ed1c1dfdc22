//! Messages as a producer hands them over, one by one and as a batch.
//!
//! A batch is one run of bytes, checked once at the edge, iterated without allocation after:
//!
//! ```text
//! message := flags u8 | priority u8 | delay_kind u8 | [delay i64] | [expires_after_ms u64]
//!          | [dedup_len u8 | dedup] | content_len u32 | content
//! ```
//! Big-endian. Flags: 1 = expires_after_ms is there, 2 = dedup is there; others must be zero.
//! Delay kinds: 0 none (no delay field), 1 level, 2 after (ms), 3 at (ms since the Unix epoch).

use bytes::Bytes;

use crate::base::content::Content;
use crate::base::error::{ClientError, Code};
use crate::base::limits;

const FLAG_EXPIRES: u8 = 1;
const FLAG_DEDUP: u8 = 2;

/// When a message is to be delivered. Raw as sent: the engine checks ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delay {
    /// Now.
    #[default]
    None,
    /// A level from 1 to 18.
    Level(i64),
    /// After this many ms.
    After(i64),
    /// At this time, ms since the Unix epoch on the wall clock.
    At(i64),
}

impl Delay {
    /// The delay's kind and value as sent.
    #[must_use]
    pub fn to_wire(self) -> (u8, i64) {
        match self {
            Self::None => (0, 0),
            Self::Level(v) => (1, v),
            Self::After(v) => (2, v),
            Self::At(v) => (3, v),
        }
    }

    /// The delay of this kind; `None` for a kind that is not known.
    #[must_use]
    pub fn from_wire(kind: u8, value: i64) -> Option<Self> {
        Some(match kind {
            0 => Self::None,
            1 => Self::Level(value),
            2 => Self::After(value),
            3 => Self::At(value),
            _ => return None,
        })
    }
}

/// A message of a batch, borrowed from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewMessage<'a> {
    /// 0 (lowest) to 9; only work queues look at it.
    pub priority: u8,
    /// When to deliver.
    pub delay: Delay,
    /// Time to live in ms from acceptance; `None` lives for ever.
    pub expires_after_ms: Option<u64>,
    /// Deduplication id as sent: an empty one is not legal, and not the same as none.
    pub dedup: Option<&'a [u8]>,
    /// Encoded [`Content`].
    pub content: &'a [u8],
}

/// A batch of messages: bytes of known shape and a count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageBatch {
    bytes: Bytes,
    count: usize,
}

impl MessageBatch {
    /// Takes bytes that hold exactly `count` messages. Only the shape is checked here; what each
    /// message says is judged one by one when it is decided.
    ///
    /// # Errors
    /// [`Code::Malformed`] when the bytes do not have the shape; [`Code::BadBatch`] for a count of
    /// zero or over [`limits::BATCH_ITEMS_MAX`].
    pub fn parse(bytes: Bytes, count: usize) -> Result<Self, ClientError> {
        if count == 0 || count > limits::BATCH_ITEMS_MAX {
            let max = limits::BATCH_ITEMS_MAX;
            return Err(ClientError::new(
                Code::BadBatch,
                format!("a batch of {count} messages; send 1 to {max}"),
            ));
        }
        let mut rest = &bytes[..];
        for index in 0..count {
            if take(&mut rest).is_none() {
                return Err(ClientError::new(
                    Code::Malformed,
                    format!(
                        "message {index} of the batch is cut or has an unknown flag or delay kind"
                    ),
                ));
            }
        }
        if !rest.is_empty() {
            return Err(ClientError::new(
                Code::Malformed,
                format!("{} bytes follow the last message of the batch", rest.len()),
            ));
        }
        Ok(Self { bytes, count })
    }

    /// Number of messages; at least one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The encoded bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The messages in order.
    pub fn iter(&self) -> impl Iterator<Item = NewMessage<'_>> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || take(&mut rest))
    }
}

/// A message with its own parts, to build batches from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Key, headers and body.
    pub content: Content,
    /// 0 (lowest) to 9.
    pub priority: u8,
    /// When to deliver.
    pub delay: Delay,
    /// Time to live in ms from acceptance.
    pub expires_after_ms: Option<u64>,
    /// Deduplication id; empty means none.
    pub dedup: Vec<u8>,
}

impl Message {
    /// A message of a body alone, for now, with the default priority.
    #[must_use]
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        Self {
            content: Content::of_body(body),
            priority: limits::PRIORITY_DEFAULT,
            delay: Delay::None,
            expires_after_ms: None,
            dedup: Vec::new(),
        }
    }

    /// The same message with a delay.
    #[must_use]
    pub fn with_delay(mut self, delay: Delay) -> Self {
        self.delay = delay;
        self
    }

    /// The same message with a header added.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.content.headers.push((name.into(), value.into()));
        self
    }

    /// The same message with a key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.content.key = key.into();
        self
    }

    /// The same message with a priority.
    #[must_use]
    pub fn with_priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// The same message with a time to live in ms.
    #[must_use]
    pub fn with_expiry(mut self, expires_after_ms: u64) -> Self {
        self.expires_after_ms = Some(expires_after_ms);
        self
    }

    /// The same message with a deduplication id.
    #[must_use]
    pub fn with_dedup(mut self, dedup: impl Into<Vec<u8>>) -> Self {
        self.dedup = dedup.into();
        self
    }

    /// Appends the encoded message.
    ///
    /// # Errors
    /// [`Code::BadDedupId`] or the errors of [`Content::encode`].
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), ClientError> {
        if self.dedup.len() > limits::DEDUP_BYTES_MAX {
            return Err(Code::BadDedupId.into());
        }
        let mut content = Vec::new();
        self.content.encode(&mut content)?;
        encode_parts(
            &NewMessage {
                priority: self.priority,
                delay: self.delay,
                expires_after_ms: self.expires_after_ms,
                dedup: Some(&self.dedup[..]).filter(|dedup| !dedup.is_empty()),
                content: &content,
            },
            out,
        );
        Ok(())
    }
}

/// Appends one message of a batch. The dedup id must be at most 255 bytes.
pub fn encode_parts(message: &NewMessage<'_>, out: &mut Vec<u8>) {
    let mut flags = 0;
    if message.expires_after_ms.is_some() {
        flags |= FLAG_EXPIRES;
    }
    if message.dedup.is_some() {
        flags |= FLAG_DEDUP;
    }
    let (kind, value) = message.delay.to_wire();
    out.extend_from_slice(&[flags, message.priority, kind]);
    if kind != 0 {
        out.extend_from_slice(&value.to_be_bytes());
    }
    if let Some(ms) = message.expires_after_ms {
        out.extend_from_slice(&ms.to_be_bytes());
    }
    if let Some(dedup) = message.dedup {
        out.push(dedup.len() as u8);
        out.extend_from_slice(dedup);
    }
    out.extend_from_slice(&(message.content.len() as u32).to_be_bytes());
    out.extend_from_slice(message.content);
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<NewMessage<'a>> {
    let (&[flags, priority, kind], mut tail) = rest.split_first_chunk::<3>()?;
    if flags & !(FLAG_EXPIRES | FLAG_DEDUP) != 0 {
        return None;
    }
    let u64_field = |tail: &mut &'a [u8]| {
        let (field, after) = tail.split_first_chunk::<8>()?;
        *tail = after;
        Some(u64::from_be_bytes(*field))
    };
    let value = if kind == 0 { 0 } else { u64_field(&mut tail)? };
    let delay = Delay::from_wire(kind, value as i64)?;
    let expires_after_ms =
        if flags & FLAG_EXPIRES != 0 { Some(u64_field(&mut tail)?) } else { None };
    let mut dedup = None;
    if flags & FLAG_DEDUP != 0 {
        let (&len, after) = tail.split_first()?;
        let (id, after) = after.split_at_checked(usize::from(len))?;
        (dedup, tail) = (Some(id), after);
    }
    let (len, after) = tail.split_first_chunk::<4>()?;
    let (content, after) = after.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    *rest = after;
    Some(NewMessage { priority, delay, expires_after_ms, dedup, content })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_round_trips_and_every_cut_is_refused() {
        let messages = [
            Message::new("one"),
            Message::new("two").with_delay(Delay::After(-5)).with_expiry(9).with_dedup("d"),
            Message::new("").with_delay(Delay::Level(18)).with_key("k").with_priority(9),
        ];
        let mut bytes = Vec::new();
        for message in &messages {
            message.encode(&mut bytes).unwrap();
        }
        let batch = MessageBatch::parse(bytes.clone().into(), 3).unwrap();
        let read: Vec<_> = batch.iter().collect();
        assert_eq!(read.len(), batch.count());
        for (read, sent) in read.iter().zip(&messages) {
            assert_eq!(Content::decode(read.content).unwrap(), sent.content);
            assert_eq!((read.priority, read.delay), (sent.priority, sent.delay));
            assert_eq!(
                (read.expires_after_ms, read.dedup.unwrap_or_default()),
                (sent.expires_after_ms, &sent.dedup[..])
            );
        }
        for cut in 0..bytes.len() {
            let cut = MessageBatch::parse(bytes[..cut].to_vec().into(), 3);
            assert_eq!(cut.unwrap_err().code, Code::Malformed);
        }
        let code = |count| MessageBatch::parse(bytes.clone().into(), count).unwrap_err().code;
        assert_eq!((code(2), code(4)), (Code::Malformed, Code::Malformed));
        assert_eq!((code(0), code(limits::BATCH_ITEMS_MAX + 1)), (Code::BadBatch, Code::BadBatch));
    }

    #[test]
    fn unknown_flags_and_delay_kinds_are_malformed() {
        let mut bytes = Vec::new();
        Message::new("x").encode(&mut bytes).unwrap();
        for (at, value) in [(0, 4), (0, 128), (2, 4), (2, 255)] {
            let mut broken = bytes.clone();
            broken[at] = value;
            let error = MessageBatch::parse(broken.into(), 1).unwrap_err();
            assert_eq!(error.code, Code::Malformed);
        }
    }
}
