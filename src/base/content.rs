//! The content of a message: key, headers and body as one run of bytes.
//!
//! It is encoded once, by the producer, and travels unchanged through protocol, journal, memory
//! and delivery: nobody between producer and consumer pays for decoding it again.
//!
//! ```text
//! key_len u16 | key | header_count u16 | (name_len u16 | name | value_len u16 | value)* | body
//! ```
//! Big-endian; the body is everything to the end.

use crate::base::error::{ClientError, Code};
use crate::base::limits;

/// A content in parts, to build one from or as read back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    /// Key: messages that belong together may share one. Empty means none.
    pub key: String,
    /// Headers in the order given.
    pub headers: Vec<(String, String)>,
    /// The body, any bytes.
    pub body: Vec<u8>,
}

impl Content {
    /// A content of a body alone.
    #[must_use]
    pub fn of_body(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    /// Appends the encoded content.
    ///
    /// # Errors
    /// [`Code::BadHeader`] or [`Code::BodyTooLarge`] when a part is over its limit.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), ClientError> {
        let headers = self.headers.iter().map(|(name, value)| (&**name, &**value));
        encode_parts(&self.key, headers, &self.body, out)
    }

    /// Reads an encoded content.
    ///
    /// # Errors
    /// [`Code::Malformed`] when lengths do not fit; else as [`check`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ClientError> {
        let body_at = check(bytes)?;
        let mut parts = Parts { bytes, at: 0 };
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let key = text(parts.short()?);
        let count = parts.u16()?;
        let mut headers = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            headers.push((text(parts.short()?), text(parts.short()?)));
        }
        Ok(Self { key, headers, body: bytes[body_at..].to_vec() })
    }
}

/// Appends a content that is in parts already. What was appended when it fails is not a content.
///
/// # Errors
/// [`Code::BadHeader`] or [`Code::BodyTooLarge`] when a part is over its limit.
pub fn encode_parts<'a>(
    key: &str,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
    body: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), ClientError> {
    check_sizes(key.len(), 0, body.len())?;
    let short = |out: &mut Vec<u8>, bytes: &[u8]| {
        out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
        out.extend_from_slice(bytes);
    };
    short(out, key.as_bytes());
    let count_at = out.len();
    out.extend_from_slice(&[0; 2]);
    let (mut count, mut total) = (0, key.len());
    for (name, value) in headers {
        check_header(name.len(), value.len())?;
        total += name.len() + value.len();
        count += 1;
        check_sizes(0, count, 0)?;
        short(out, name.as_bytes());
        short(out, value.as_bytes());
    }
    check_total(total)?;
    out[count_at..count_at + 2].copy_from_slice(&(count as u16).to_be_bytes());
    out.extend_from_slice(body);
    Ok(())
}

/// The headers of an encoded content that was checked, in order, and its key. Of one that was not, as
/// much as can be read.
pub fn key_and_headers(bytes: &[u8]) -> (&str, impl Iterator<Item = (&str, &str)>) {
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
    let mut parts = Parts { bytes, at: 0 };
    let key = parts.short().map(text).unwrap_or_default();
    let mut left = parts.u16().unwrap_or_default();
    let headers = std::iter::from_fn(move || {
        left = left.checked_sub(1)?;
        Some((text(parts.short().ok()?), text(parts.short().ok()?)))
    });
    (key, headers)
}

/// Checks an encoded content against shape and limits; tells where the body begins.
///
/// # Errors
/// [`Code::Malformed`], [`Code::BadHeader`] (limits, UTF-8) or [`Code::BodyTooLarge`].
pub fn check(bytes: &[u8]) -> Result<usize, ClientError> {
    let mut parts = Parts { bytes, at: 0 };
    let key = parts.short()?;
    let count = usize::from(parts.u16()?);
    check_sizes(key.len(), count, 0)?;
    check_utf8(key)?;
    let mut total = key.len();
    for _ in 0..count {
        let name = parts.short()?;
        let value = parts.short()?;
        check_header(name.len(), value.len())?;
        check_utf8(name)?;
        check_utf8(value)?;
        total += name.len() + value.len();
    }
    check_total(total)?;
    check_sizes(0, 0, bytes.len() - parts.at)?;
    Ok(parts.at)
}

/// The body of an encoded content that has been checked; the whole when it has not.
#[must_use]
pub fn body(bytes: &[u8]) -> &[u8] {
    check(bytes).ok().and_then(|at| bytes.get(at..)).unwrap_or(bytes)
}

fn check_sizes(key: usize, headers: usize, body: usize) -> Result<(), ClientError> {
    if key > limits::KEY_BYTES_MAX {
        let max = limits::KEY_BYTES_MAX;
        return Err(ClientError::new(
            Code::BadHeader,
            format!("the key has {key} bytes; at most {max} are allowed"),
        ));
    }
    if headers > limits::HEADERS_MAX {
        let max = limits::HEADERS_MAX;
        return Err(ClientError::new(
            Code::BadHeader,
            format!("{headers} headers; at most {max} are allowed"),
        ));
    }
    if body > limits::BODY_BYTES_MAX {
        let max = limits::BODY_BYTES_MAX;
        return Err(ClientError::new(
            Code::BodyTooLarge,
            format!("the body has {body} bytes; at most {max} are allowed"),
        ));
    }
    Ok(())
}

fn check_header(name: usize, value: usize) -> Result<(), ClientError> {
    let max = limits::HEADER_BYTES_MAX;
    if name == 0 {
        return Err(ClientError::new(Code::BadHeader, "a header has no name"));
    }
    if name > max || value > max {
        return Err(ClientError::new(Code::BadHeader, format!("a header is over {max} bytes")));
    }
    Ok(())
}

fn check_total(total: usize) -> Result<(), ClientError> {
    let max = limits::HEADERS_TOTAL_BYTES_MAX;
    if total > max {
        return Err(ClientError::new(
            Code::BadHeader,
            format!("key and headers have {total} bytes; at most {max} are allowed"),
        ));
    }
    Ok(())
}

fn check_utf8(bytes: &[u8]) -> Result<(), ClientError> {
    match std::str::from_utf8(bytes) {
        Ok(_) => Ok(()),
        Err(_) => Err(ClientError::new(Code::BadHeader, "a key or header is not UTF-8")),
    }
}

struct Parts<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Parts<'a> {
    fn u16(&mut self) -> Result<u16, ClientError> {
        let end = self.at + 2;
        let pair = self.bytes.get(self.at..end).ok_or_else(cut)?;
        self.at = end;
        Ok(u16::from_be_bytes([pair[0], pair[1]]))
    }

    fn short(&mut self) -> Result<&'a [u8], ClientError> {
        let len = usize::from(self.u16()?);
        let end = self.at + len;
        let slice = self.bytes.get(self.at..end).ok_or_else(cut)?;
        self.at = end;
        Ok(slice)
    }
}

fn cut() -> ClientError {
    ClientError::new(Code::Malformed, "a message content ends before its key or headers do")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(content: &Content) -> Vec<u8> {
        let mut out = Vec::new();
        content.encode(&mut out).unwrap();
        out
    }

    #[test]
    fn content_round_trips() {
        let full = Content {
            key: "k".into(),
            headers: vec![("a".into(), "1".into()), ("b".into(), String::new())],
            body: vec![0, 255, 7],
        };
        for content in [full, Content::default(), Content::of_body("x")] {
            let bytes = encoded(&content);
            assert_eq!(Content::decode(&bytes).unwrap(), content);
            assert_eq!(body(&bytes), content.body);
        }
    }

    #[test]
    fn every_cut_before_the_body_is_malformed() {
        let content =
            Content { key: "key".into(), headers: vec![("a".into(), "b".into())], body: vec![] };
        let bytes = encoded(&content);
        for cut in 0..bytes.len() {
            assert_eq!(check(&bytes[..cut]).unwrap_err().code, Code::Malformed, "cut at {cut}");
        }
    }

    #[test]
    fn limits_hold_at_the_bound_and_fail_one_past_it() {
        let with = |key: usize, headers: usize, value: usize, body: usize| {
            let content = Content {
                key: "k".repeat(key),
                headers: (0..headers).map(|_| ("h".into(), "v".repeat(value))).collect(),
                body: vec![7; body],
            };
            content.encode(&mut Vec::new()).map_err(|e| e.code)
        };
        assert_eq!(with(limits::KEY_BYTES_MAX, 0, 0, 0), Ok(()));
        assert_eq!(with(limits::KEY_BYTES_MAX + 1, 0, 0, 0), Err(Code::BadHeader));
        assert_eq!(with(0, limits::HEADERS_MAX, 1, 0), Ok(()));
        assert_eq!(with(0, limits::HEADERS_MAX + 1, 1, 0), Err(Code::BadHeader));
        assert_eq!(with(0, 1, limits::HEADER_BYTES_MAX, 0), Ok(()));
        assert_eq!(with(0, 1, limits::HEADER_BYTES_MAX + 1, 0), Err(Code::BadHeader));
        assert_eq!(with(0, 5, limits::HEADER_BYTES_MAX, 0), Err(Code::BadHeader));
        assert_eq!(with(0, 0, 0, limits::BODY_BYTES_MAX), Ok(()));
        assert_eq!(with(0, 0, 0, limits::BODY_BYTES_MAX + 1), Err(Code::BodyTooLarge));
    }

    #[test]
    fn text_that_is_not_utf8_is_refused() {
        assert_eq!(check(&[0, 1, 0xff, 0, 0]).unwrap_err().code, Code::BadHeader);
    }
}
