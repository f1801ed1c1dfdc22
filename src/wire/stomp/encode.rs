//! Frames as bytes.

use super::escape::escape;
use super::{Command, Frame, Version};

const LENGTH: &str = "content-length";

/// Appends a frame, its NUL included and no EOL behind it: one frame, one WebSocket message.
///
/// Where a body may be, `content-length` is said, and nowhere else; one among the headers is left out.
/// A header that the version has no way to say is left out too: it must not become another one.
pub fn encode(frame: &Frame, version: Version, out: &mut Vec<u8>) {
    let raw = frame.command.is_raw();
    out.extend_from_slice(frame.command.word().as_bytes());
    out.push(b'\n');
    for (name, value) in frame.headers.iter().filter(|(name, _)| *name != LENGTH) {
        header(name, value, raw, version, out);
    }
    let has_body = matches!(frame.command, Command::Message | Command::Error);
    end(&frame.body, has_body || !frame.body.is_empty(), out);
}

/// Appends a header line, or nothing when the version has no way to say it.
pub(super) fn header(name: &str, value: &str, raw: bool, version: Version, out: &mut Vec<u8>) {
    let start = out.len();
    // In 1.0 a colon in a name would end it, and blanks around it are nothing.
    let plain = raw || version == Version::V10;
    let clear = !(plain && (name.contains(':') || name.trim().is_empty()));
    let said = clear && !name.is_empty() && escape(name, raw, version, out) && {
        out.push(b':');
        escape(value, raw, version, out)
    };
    if said {
        out.push(b'\n');
    } else {
        out.truncate(start);
    }
}

/// Ends the headers of a frame and appends its body.
pub(super) fn end(body: &[u8], says_length: bool, out: &mut Vec<u8>) {
    if says_length {
        out.extend_from_slice(LENGTH.as_bytes());
        out.push(b':');
        number(body.len() as u64, out);
        out.push(b'\n');
    }
    out.push(b'\n');
    out.extend_from_slice(body);
    out.push(0);
}

/// Appends a number in digits.
pub(super) fn number(mut value: u64, out: &mut Vec<u8>) {
    let start = out.len();
    loop {
        out.push(b'0' + (value % 10) as u8);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out[start..].reverse();
}
