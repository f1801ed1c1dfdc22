//! What a client says: JSON arrays of strings, whose strings are one stream.
//!
//! Browsers cut long texts at any of their 16-bit units, also between the two halves of a character
//! beyond U+FFFF. JSON can say a half, UTF-8 cannot: a half at the end of a string waits for the other
//! one, at the beginning of the next. A half that stays alone becomes U+FFFD, as browsers make it.

use crate::wire::websocket::Utf8;

/// What comes is not an array of strings in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Broken JSON encoding.")]
pub struct Broken;

/// Reads one text after the other. What is kept of a text is a few bytes.
#[derive(Debug, Clone, Default)]
pub struct Decoder {
    state: State,
    /// The text is a string and no array.
    lone: bool,
    utf8: Utf8,
    /// The first half of a character whose second half may follow.
    high: Option<u16>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Nothing but space so far.
    #[default]
    Start,
    /// Behind `[`.
    First,
    /// Behind a string.
    Behind,
    /// Behind a comma.
    Next,
    /// In a string.
    Text,
    /// Behind a backslash.
    Escape,
    /// In `\uXXXX`: so many digits, of this value.
    Unit(u8, u16),
    /// Behind everything.
    End,
}

impl Decoder {
    /// Reads the next piece of a text and appends to `out` what its strings say.
    ///
    /// # Errors
    /// [`Broken`]; what came before may be in `out`.
    pub fn push(&mut self, mut piece: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        if !self.utf8.push(piece) {
            return Err(Broken);
        }
        while let Some((&byte, rest)) = piece.split_first() {
            if self.state == State::Text {
                let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
                let count = piece.iter().position(special).unwrap_or(piece.len());
                if let (Some((text, rest)), 1..) = (piece.split_at_checked(count), count) {
                    self.lone_half(out);
                    out.extend_from_slice(text);
                    piece = rest;
                    continue;
                }
            }
            self.state = self.step(byte, out)?;
            piece = rest;
        }
        Ok(())
    }

    /// Ends a text. Tells whether there was one: `false` means nothing but space.
    ///
    /// # Errors
    /// [`Broken`] when it is not complete.
    pub fn end(&mut self) -> Result<bool, Broken> {
        let state = std::mem::take(&mut self.state);
        self.lone = false;
        match state {
            _ if !self.utf8.end() => Err(Broken),
            State::Start => Ok(false),
            State::End => Ok(true),
            _ => Err(Broken),
        }
    }

    fn step(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<State, Broken> {
        Ok(match (self.state, byte) {
            (State::Text, b'"') if self.lone => State::End,
            (State::Text, b'"') => State::Behind,
            (State::Text, b'\\') => State::Escape,
            (State::Escape, b'u') => State::Unit(0, 0),
            (State::Escape, byte) => {
                self.lone_half(out);
                out.push(unescape(byte)?);
                State::Text
            }
            (State::Unit(count, value), byte) => {
                let digit = char::from(byte).to_digit(16).ok_or(Broken)?;
                let value = value << 4 | u16::try_from(digit).map_err(|_| Broken)?;
                if count < 3 {
                    State::Unit(count + 1, value)
                } else {
                    self.unit(value, out);
                    State::Text
                }
            }
            (state, b' ' | b'\t' | b'\r' | b'\n') if state != State::Text => state,
            (State::Start, b'[') => State::First,
            (State::Start, b'"') => {
                self.lone = true;
                State::Text
            }
            (State::First | State::Next, b'"') => State::Text,
            (State::First | State::Behind, b']') => State::End,
            (State::Behind, b',') => State::Next,
            _ => return Err(Broken),
        })
    }

    /// Takes a 16-bit unit: a character, or one half of one.
    fn unit(&mut self, unit: u16, out: &mut Vec<u8>) {
        let units: &[u16] = match self.high.take() {
            Some(high) => &[high, unit],
            None => &[unit],
        };
        if let 0xd800..=0xdbff = unit {
            self.high = Some(unit);
        }
        let whole = units.get(..units.len() - usize::from(self.high.is_some())).unwrap_or_default();
        for c in char::decode_utf16(whole.iter().copied()) {
            push_char(out, c.unwrap_or(char::REPLACEMENT_CHARACTER));
        }
    }

    /// Something else follows than the second half.
    fn lone_half(&mut self, out: &mut Vec<u8>) {
        if self.high.take().is_some() {
            push_char(out, char::REPLACEMENT_CHARACTER);
        }
    }
}

fn unescape(byte: u8) -> Result<u8, Broken> {
    Ok(match byte {
        b'"' | b'\\' | b'/' => byte,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        _ => return Err(Broken),
    })
}

fn push_char(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}
