//! Frames out of a stream of bytes, cut anywhere.

use std::str;

use bytes::{Buf, Bytes, BytesMut};

use super::escape::unescape;
use super::{Command, Frame, Headers, Version};

/// How much of anything a frame may have. Judged while it comes in: nothing is kept for a frame that
/// is too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Header lines, repeated ones included.
    pub headers: usize,
    /// Bytes of one header line as it is sent.
    pub header_line_bytes: usize,
    /// Bytes of all header lines together.
    pub header_bytes: usize,
    /// Bytes of a body.
    pub body_bytes: usize,
}

/// Why bytes are not a frame. The stream has no known continuation behind it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The first line is no command.
    #[error("{0:?} is not a command; commands are in capitals, as SEND")]
    Command(String),
    /// A carriage return that is not the end of a line.
    #[error("a carriage return in the middle of a line; in a header write \\r (since 1.2)")]
    BareReturn,
    /// A NUL before the headers have ended.
    #[error("the frame ends among its headers; an empty line ends the headers")]
    EndsEarly,
    /// A header line without a colon.
    #[error("the header line {0:?} has no colon; write name:value")]
    NoColon(String),
    /// A header line that begins with a colon.
    #[error("a header has no name; write name:value")]
    NoName,
    /// A header line that is not UTF-8.
    #[error("a header is not UTF-8")]
    NotUtf8,
    /// An escape that means nothing.
    #[error("the header line {line:?} has the escape {escape}; \\\\, \\c, \\n and \\r are known")]
    Escape {
        /// The line.
        line: String,
        /// What follows the backslash.
        escape: String,
    },
    /// A header line that is too long.
    #[error("a header line has more than {0} bytes")]
    LineTooLong(usize),
    /// Too many headers.
    #[error("the frame has more than {0} headers")]
    TooManyHeaders(usize),
    /// Header lines that are too long together.
    #[error("the headers of the frame have more than {0} bytes")]
    HeadersTooLong(usize),
    /// `content-length` is no number.
    #[error("content-length is {0:?}; it is the number of bytes of the body")]
    BadLength(String),
    /// A body that is too long.
    #[error("the body has {}more than the {most} bytes allowed", told(*said))]
    BodyTooLong {
        /// What `content-length` says.
        said: Option<u64>,
        /// So much is allowed.
        most: usize,
    },
    /// No NUL where `content-length` says the body ends.
    #[error(
        "no NUL follows the {0} bytes that content-length says; it counts bytes, not characters"
    )]
    NoNul(usize),
    /// A body where none may be.
    #[error("{0} has no body")]
    UnexpectedBody(&'static str),
}

#[derive(Debug)]
enum State {
    /// Between two frames.
    Between,
    /// In the first line.
    Command,
    /// In the headers of a frame.
    Headers(Command),
    /// In its body: so many bytes, or up to the first NUL.
    Body(Command, Option<usize>),
}

/// Cuts frames out of a stream.
///
/// Feed it with [`Decoder::push`], and take frames with [`Decoder::next`] until there are none. What it
/// keeps is bounded by its limits and the last piece pushed. Every byte is looked at once.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    version: Version,
    buffer: BytesMut,
    /// So much of the buffer was searched for the end of what is being read.
    searched: usize,
    state: State,
    headers: Headers,
    lines: usize,
    header_bytes: usize,
}

impl Decoder {
    /// A decoder at the beginning of a stream, where no version is agreed on yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            version: Version::V10,
            buffer: BytesMut::new(),
            searched: 0,
            state: State::Between,
            headers: Headers::default(),
            lines: 0,
            header_bytes: 0,
        }
    }

    /// A version was agreed on, and the client is known: frames from now on.
    pub fn agree(&mut self, version: Version, limits: Limits) {
        self.version = version;
        self.limits = limits;
    }

    /// More of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes kept for a frame that has not ended.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.buffer.len() + self.header_bytes
    }

    /// The next frame; `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`DecodeError`], after which there is nothing more to be had.
    // Not an iterator: there may be more after `None`.
    #[expect(clippy::should_implement_trait, reason = "the usual name of a decoder's step")]
    pub fn next(&mut self) -> Result<Option<Frame>, DecodeError> {
        loop {
            match self.state {
                State::Between => {
                    // Ends of lines are heart-beats; some clients send a NUL too many.
                    let noise = |byte: &&u8| matches!(byte, b'\n' | b'\r' | 0);
                    let noise = self.buffer.iter().take_while(noise).count();
                    self.buffer.advance(noise);
                    if self.buffer.is_empty() {
                        return Ok(None);
                    }
                    self.state = State::Command;
                }
                State::Command => {
                    let Some(line) = self.line(Command::WORD_BYTES_MAX)? else { return Ok(None) };
                    let command =
                        Command::of(&line).ok_or_else(|| DecodeError::Command(shown(&line)))?;
                    self.state = State::Headers(command);
                }
                State::Headers(command) => {
                    let Some(line) = self.line(self.limits.header_line_bytes)? else {
                        return Ok(None);
                    };
                    if line.is_empty() {
                        self.state = State::Body(command, self.body_length()?);
                    } else {
                        self.header(command, &line)?;
                    }
                }
                State::Body(command, length) => {
                    let Some(body) = self.body(length)? else { return Ok(None) };
                    return self.finish(command, body).map(Some);
                }
            }
        }
    }

    /// The next line without its end; `None` when it has not ended.
    fn line(&mut self, most: usize) -> Result<Option<Bytes>, DecodeError> {
        let too_long = |decoder: &Self| match decoder.state {
            State::Headers(_) => DecodeError::LineTooLong(most),
            _ => DecodeError::Command(shown(&decoder.buffer[..most])),
        };
        let end = self.buffer[self.searched..].iter().position(|byte| matches!(byte, b'\n' | 0));
        let Some(end) = end.map(|end| end + self.searched) else {
            self.searched = self.buffer.len();
            // One more for a carriage return.
            return if self.buffer.len() > most + 1 { Err(too_long(self)) } else { Ok(None) };
        };
        if self.buffer[end] == 0 {
            return Err(DecodeError::EndsEarly);
        }
        let ends_with_return = end > 0 && self.buffer[end - 1] == b'\r';
        let len = end - usize::from(ends_with_return);
        if len > most {
            return Err(too_long(self));
        }
        let mut line = self.buffer.split_to(end + 1);
        self.searched = 0;
        line.truncate(len);
        if line.contains(&b'\r') {
            return Err(DecodeError::BareReturn);
        }
        Ok(Some(line.freeze()))
    }

    fn header(&mut self, command: Command, line: &[u8]) -> Result<(), DecodeError> {
        self.lines += 1;
        self.header_bytes += line.len();
        if self.lines > self.limits.headers {
            return Err(DecodeError::TooManyHeaders(self.limits.headers));
        }
        if self.header_bytes > self.limits.header_bytes {
            return Err(DecodeError::HeadersTooLong(self.limits.header_bytes));
        }
        let text = str::from_utf8(line).map_err(|_| DecodeError::NotUtf8)?;
        let Some((name, value)) = text.split_once(':') else {
            return Err(DecodeError::NoColon(shown(line)));
        };
        let version = if command.is_raw() { Version::V10 } else { self.version };
        // Only 1.0 knows blanks that mean nothing; before a version is agreed on, they may be in a password.
        let trims = self.version == Version::V10 && !command.is_raw();
        let (name, value) = if trims { (name.trim(), value.trim()) } else { (name, value) };
        let unescaped = |text| {
            unescape(text, version)
                .map_err(|escape| DecodeError::Escape { line: shown(line), escape })
        };
        let (name, value) = (unescaped(name)?, unescaped(value)?);
        if name.is_empty() {
            return Err(DecodeError::NoName);
        }
        self.headers.add(&name, &value);
        Ok(())
    }

    fn body_length(&self) -> Result<Option<usize>, DecodeError> {
        let Some(text) = self.headers.get("content-length") else { return Ok(None) };
        let digits = text.trim();
        let number =
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u64>());
        let Some(Ok(said)) = number else {
            return Err(DecodeError::BadLength(shown(text.as_bytes())));
        };
        let most = self.limits.body_bytes;
        let too_long = DecodeError::BodyTooLong { said: Some(said), most };
        usize::try_from(said).ok().filter(|len| *len <= most).map(Some).ok_or(too_long)
    }

    fn body(&mut self, length: Option<usize>) -> Result<Option<Bytes>, DecodeError> {
        let most = self.limits.body_bytes;
        let len = match length {
            Some(len) if self.buffer.len() <= len => return Ok(None),
            Some(len) if self.buffer[len] != 0 => return Err(DecodeError::NoNul(len)),
            Some(len) => len,
            None => {
                let end = self.buffer[self.searched..].iter().position(|byte| *byte == 0);
                let end = end.map(|end| end + self.searched);
                self.searched = self.buffer.len();
                if end.unwrap_or(self.searched) > most {
                    return Err(DecodeError::BodyTooLong { said: None, most });
                }
                let Some(end) = end else { return Ok(None) };
                end
            }
        };
        let mut body = self.buffer.split_to(len + 1);
        self.searched = 0;
        body.truncate(len);
        Ok(Some(body.freeze()))
    }

    fn finish(&mut self, command: Command, body: Bytes) -> Result<Frame, DecodeError> {
        self.state = State::Between;
        (self.lines, self.header_bytes) = (0, 0);
        let headers = std::mem::take(&mut self.headers);
        let body = match command.may_have_body() {
            true => body,
            false if body.is_empty() || self.version == Version::V10 => Bytes::new(),
            false => return Err(DecodeError::UnexpectedBody(command.word())),
        };
        Ok(Frame { command, headers, body })
    }
}

/// How long a body says it is.
fn told(said: Option<u64>) -> String {
    said.map(|bytes| format!("{bytes} bytes, ")).unwrap_or_default()
}

/// The beginning of something a client sent, to be shown to it.
fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 60;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MOST)]).into_owned();
    if bytes.len() > MOST { text + "..." } else { text }
}
