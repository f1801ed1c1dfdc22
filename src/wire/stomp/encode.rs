//! Frames as bytes.

use super::escape::escape;
use super::{Command, Frame, Version};

/// Appends a frame, its NUL included and no EOL behind it: one frame, one WebSocket message.
///
/// Where a body may be, `content-length` is said, and nowhere else; one among the headers is left out.
/// A header that the version has no way to say is left out too: it must not become another one.
pub fn encode(frame: &Frame, version: Version, out: &mut Vec<u8>) {
    let raw = frame.command.is_raw();
    out.extend_from_slice(frame.command.word().as_bytes());
    out.push(b'\n');
    for (name, value) in frame.headers.iter().filter(|(name, _)| *name != "content-length") {
        let start = out.len();
        // In 1.0 a colon in a name would end it.
        let clear = !((raw || version == Version::V10) && name.contains(':'));
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
    let has_body = matches!(frame.command, Command::Message | Command::Error);
    if has_body || !frame.body.is_empty() {
        out.extend_from_slice(format!("content-length:{}\n", frame.body.len()).as_bytes());
    }
    out.push(b'\n');
    out.extend_from_slice(&frame.body);
    out.push(0);
}
