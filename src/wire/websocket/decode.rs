//! Frames out of a stream of bytes, cut anywhere.

use bytes::{Buf, Bytes, BytesMut};

use super::{CLOSE_NOT_UTF8, CLOSE_PROTOCOL, Utf8};

/// Longest payload of a control frame, bytes.
const CONTROL_BYTES_MAX: usize = 125;

/// What a client said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The next bytes of a message. An empty message is one event without bytes.
    Data {
        /// The bytes, unmasked.
        bytes: Bytes,
        /// The message ends with them.
        last: bool,
    },
    /// A ping; its bytes are to be sent back.
    Ping(Bytes),
    /// A pong.
    Pong,
    /// The last frame of the client, with its close code if it gave one.
    Close(Option<u16>),
}

/// Why bytes are not frames of a client. Nothing behind them can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} (WebSocket close code {code})")]
pub struct Fault {
    /// The close code to answer with.
    pub code: u16,
    /// What is wrong.
    pub what: &'static str,
}

const fn bad(what: &'static str) -> Fault {
    Fault { code: CLOSE_PROTOCOL, what }
}

const NOT_UTF8: Fault = Fault { code: CLOSE_NOT_UTF8, what: "a text message is not UTF-8" };

/// Reads the frames of one client.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The data frame whose payload is being read.
    open: Option<Open>,
    /// The message that has begun and not ended.
    message: Option<Message>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    mask: [u8; 4],
    /// Where in the mask the next byte stands.
    at: usize,
    left: u64,
    last_frame: bool,
}

#[derive(Debug, Clone, Copy)]
enum Message {
    Binary,
    Text(Utf8),
}

/// The fixed part of a frame.
struct Header {
    fin: bool,
    opcode: u8,
    length: u64,
    mask: [u8; 4],
    /// Its own length, bytes.
    len: usize,
}

impl Decoder {
    /// Takes the next event out of `input`; `None` when more bytes are needed. At most 138 bytes wait in
    /// `input` then, however much the client said is to come.
    ///
    /// # Errors
    /// A [`Fault`] when the bytes break the protocol; this is not to be called again then.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Event>, Fault> {
        loop {
            if self.open.is_some() {
                return if input.is_empty() { Ok(None) } else { self.payload(input).map(Some) };
            }
            let Some(header) = Header::read(input)? else { return Ok(None) };
            if header.opcode & 8 != 0 {
                return control(&header, input);
            }
            input.advance(header.len);
            match (header.opcode, &self.message) {
                (0, Some(_)) => {}
                (0, None) => return Err(bad("a continuation of no message")),
                (_, Some(_)) => return Err(bad("a message inside another")),
                (1, None) => self.message = Some(Message::Text(Utf8::default())),
                (_, None) => self.message = Some(Message::Binary),
            }
            self.open = Some(Open {
                mask: header.mask,
                at: 0,
                left: header.length,
                last_frame: header.fin,
            });
            if header.length == 0 {
                let event = self.payload(input)?;
                if matches!(event, Event::Data { last: true, .. }) {
                    return Ok(Some(event));
                }
            }
        }
    }

    /// What is there of the open frame's payload.
    fn payload(&mut self, input: &mut BytesMut) -> Result<Event, Fault> {
        let Some(open) = &mut self.open else { return Err(bad("a payload of no frame")) };
        let count = usize::try_from(open.left).unwrap_or(usize::MAX).min(input.len());
        let mut bytes = input.split_to(count);
        unmask(&mut bytes, open.mask, open.at);
        open.at = (open.at + count) % 4;
        open.left -= count as u64;
        let ends = open.left == 0;
        let last = ends && open.last_frame;
        if let Some(Message::Text(utf8)) = &mut self.message
            && !(utf8.push(&bytes) && (!last || utf8.end()))
        {
            return Err(NOT_UTF8);
        }
        if ends {
            self.open = None;
        }
        if last {
            self.message = None;
        }
        Ok(Event::Data { bytes: bytes.freeze(), last })
    }
}

impl Header {
    /// Judges the fixed part of a frame, as far as it is there.
    fn read(input: &[u8]) -> Result<Option<Self>, Fault> {
        let &[first, second, ..] = input else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(bad("a reserved bit is set, and no extension was agreed on"));
        }
        if second & 0x80 == 0 {
            return Err(bad("a frame of a client is masked"));
        }
        let (fin, opcode, short) = (first & 0x80 != 0, first & 0x0f, second & 0x7f);
        match opcode {
            0..=2 => {}
            8..=10 if !fin => return Err(bad("a control frame is not cut")),
            8..=10 if usize::from(short) > CONTROL_BYTES_MAX => {
                return Err(bad("a control frame has at most 125 bytes"));
            }
            8..=10 => {}
            _ => return Err(bad("an opcode that means nothing")),
        }
        let more = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let len = 2 + more + 4;
        let (Some(extended), Some(&[a, b, c, d])) =
            (input.get(2..2 + more), input.get(2 + more..len))
        else {
            return Ok(None);
        };
        let length = match more {
            0 => u64::from(short),
            _ => extended.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        let least = match more {
            0 => 0,
            2 => 126,
            _ => 1 << 16,
        };
        if length < least || length > i64::MAX as u64 {
            return Err(bad("a length is written in as few bytes as it needs"));
        }
        Ok(Some(Self { fin, opcode, length, mask: [a, b, c, d], len }))
    }
}

/// A control frame, once it is there as a whole.
fn control(header: &Header, input: &mut BytesMut) -> Result<Option<Event>, Fault> {
    let length = usize::try_from(header.length).map_err(|_| bad("a control frame too long"))?;
    if input.len() < header.len + length {
        return Ok(None);
    }
    input.advance(header.len);
    let mut payload = input.split_to(length);
    unmask(&mut payload, header.mask, 0);
    Ok(Some(match header.opcode {
        8 => Event::Close(close_code(&payload)?),
        9 => Event::Ping(Bytes::copy_from_slice(&payload)),
        _ => Event::Pong,
    }))
}

fn close_code(payload: &[u8]) -> Result<Option<u16>, Fault> {
    match payload {
        [] => Ok(None),
        [_] => Err(bad("half a close code")),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err(bad("a close code that is not to be sent"));
            }
            if std::str::from_utf8(reason).is_err() {
                return Err(Fault { code: CLOSE_NOT_UTF8, what: "a close reason is not UTF-8" });
            }
            Ok(Some(code))
        }
    }
}

fn unmask(bytes: &mut [u8], mask: [u8; 4], at: usize) {
    let mut key = mask;
    key.rotate_left(at % 4);
    let mut words = bytes.chunks_exact_mut(4);
    for word in &mut words {
        for (byte, key) in word.iter_mut().zip(key) {
            *byte ^= key;
        }
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(key) {
        *byte ^= key;
    }
}
