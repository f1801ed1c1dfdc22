//! Fields of bodies: a reader that tells where a body is cut, and the writers.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use crate::base::error::{ClientError, Code};
use crate::base::id::MessageId;
use crate::base::limits;
use crate::base::recur::Rule;

/// A body that does not have the shape of its request type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what}, at byte {at} of the body")]
pub struct BodyError {
    /// Offset in the body at which it was noticed.
    pub at: usize,
    /// What is wrong.
    pub what: &'static str,
}

/// Reads the fields of a body one after the other.
pub(super) struct Fields {
    rest: Bytes,
    len: usize,
}

impl Fields {
    pub(super) fn new(body: Bytes) -> Self {
        Self { len: body.len(), rest: body }
    }

    /// An error at the place reached.
    pub(super) fn error(&self, what: &'static str) -> BodyError {
        BodyError { at: self.len - self.rest.len(), what }
    }

    /// Bytes not read yet.
    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BodyError> {
        match self.rest.first_chunk::<N>() {
            Some(&field) => {
                self.rest.advance(N);
                Ok(field)
            }
            None => Err(self.error("the body ends inside a field")),
        }
    }

    pub(super) fn u8(&mut self) -> Result<u8, BodyError> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, BodyError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, BodyError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, BodyError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, BodyError> {
        self.array().map(i64::from_be_bytes)
    }

    pub(super) fn id(&mut self) -> Result<MessageId, BodyError> {
        self.array().map(MessageId::from_bytes)
    }

    pub(super) fn flag(&mut self) -> Result<bool, BodyError> {
        match self.rest.first() {
            Some(0 | 1) | None => Ok(self.u8()? == 1),
            Some(_) => Err(self.error("a flag is neither 0 nor 1")),
        }
    }

    /// So many bytes, shared with the body.
    pub(super) fn bytes(&mut self, len: usize) -> Result<Bytes, BodyError> {
        if self.rest.len() < len {
            return Err(self.error("the body ends inside a field"));
        }
        Ok(self.rest.split_to(len))
    }

    fn borrowed<T>(
        &mut self,
        len: usize,
        read: impl FnOnce(&[u8]) -> Option<T>,
        what: &'static str,
    ) -> Result<T, BodyError> {
        let Some(field) = self.rest.get(..len) else {
            return Err(self.error("the body ends inside a field"));
        };
        let value = read(field).ok_or_else(|| self.error(what))?;
        self.rest.advance(len);
        Ok(value)
    }

    /// A length and so many raw bytes: a name that the engine judges.
    pub(super) fn name(&mut self) -> Result<Bytes, BodyError> {
        let len = self.u16()?;
        self.bytes(usize::from(len))
    }

    /// The rule of a recurring schedule.
    pub(super) fn rule(&mut self) -> Result<Rule, BodyError> {
        let mut rest = &self.rest[..];
        let rule = Rule::take(&mut rest).ok_or_else(|| self.error("a rule is cut or not known"))?;
        let read = self.rest.len() - rest.len();
        self.rest.advance(read);
        Ok(rule)
    }

    /// A text.
    pub(super) fn text<T: for<'a> From<&'a str>>(&mut self) -> Result<T, BodyError> {
        let len = self.u16()?;
        self.borrowed(
            usize::from(len),
            |field| std::str::from_utf8(field).ok().map(T::from),
            "a text is not UTF-8",
        )
    }

    /// A length and so many bytes, as the content of a delivery.
    pub(super) fn content(&mut self) -> Result<Arc<[u8]>, BodyError> {
        let len = self.u32()?;
        self.borrowed(len as usize, |field| Some(Arc::from(field)), "")
    }

    /// A code and a text. A code from a later version reads as [`Code::Internal`] and keeps its
    /// number in the text.
    pub(super) fn client_error(&mut self) -> Result<ClientError, BodyError> {
        let number = self.u16()?;
        let message: String = self.text()?;
        Ok(match Code::from_number(number) {
            Some(code) => ClientError { code, message },
            None => ClientError::new(Code::Internal, format!("{message} (error {number})")),
        })
    }

    /// A count of items that have at least `item_bytes` each; the items must fit the body, so the
    /// count is safe to reserve memory by.
    pub(super) fn count(&mut self, item_bytes: usize) -> Result<usize, BodyError> {
        let at = self.len - self.rest.len();
        let count = self.u32()? as usize;
        if count > self.remaining() / item_bytes {
            return Err(BodyError { at, what: "a count is larger than the body" });
        }
        Ok(count)
    }

    /// Everything that is left.
    pub(super) fn into_rest(self) -> Bytes {
        self.rest
    }

    /// The body must be read to its end.
    pub(super) fn end(&self) -> Result<(), BodyError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.error("bytes follow the last field")) }
    }
}

/// Reads `count` items; the count must come from [`Fields::count`], which bounds it by the body.
pub(super) fn read_many<T>(
    fields: &mut Fields,
    count: usize,
    item: impl Fn(&mut Fields) -> Result<T, BodyError>,
) -> Result<Vec<T>, BodyError> {
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        items.push(item(fields)?);
    }
    Ok(items)
}

/// Writes a length of 16 bits and the bytes. What does not fit is cut: callers keep to the limits,
/// and an over-long name is refused by the engine all the same.
pub(super) fn put_short(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Writes an error, its text cut to [`limits::ERROR_TEXT_BYTES_MAX`].
pub(super) fn put_error(out: &mut Vec<u8>, error: &ClientError) {
    out.extend_from_slice(&error.code.number().to_be_bytes());
    let mut end = error.message.len().min(limits::ERROR_TEXT_BYTES_MAX);
    while !error.message.is_char_boundary(end) {
        end -= 1;
    }
    put_short(out, &error.message.as_bytes()[..end]);
}

/// Writes a 32-bit count.
pub(super) fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&(count as u32).to_be_bytes());
}
