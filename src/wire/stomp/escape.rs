//! Escapes of header names and values: none in 1.0, `\n`, `\c`, `\\` since 1.1, `\r` since 1.2.

use std::borrow::Cow;

use super::Version;

/// What a header says, or the escape that means nothing.
///
/// `\r` is taken in 1.1 too: nothing else could be meant, and clients send it.
pub(super) fn unescape(text: &str, version: Version) -> Result<Cow<'_, str>, String> {
    if version == Version::V10 || !text.contains('\\') {
        return Ok(Cow::Borrowed(text));
    }
    // From left to right in one go: `\\n` is a backslash and an n.
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        if next != '\\' {
            out.push(next);
            continue;
        }
        match rest.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('c') => out.push(':'),
            Some('\\') => out.push('\\'),
            Some(other) => return Err(format!("\\{other}")),
            None => return Err("\\ at its end".to_owned()),
        }
    }
    Ok(Cow::Owned(out))
}

/// Appends a name or a value; `false` when this version cannot say it, and nothing was appended.
pub(super) fn escape(text: &str, raw: bool, version: Version, out: &mut Vec<u8>) -> bool {
    if raw || version == Version::V10 {
        // A NUL would end the frame for whoever looks for one.
        let sayable = !text.bytes().any(|byte| matches!(byte, b'\n' | b'\r' | 0));
        if sayable {
            out.extend_from_slice(text.as_bytes());
        }
        return sayable;
    }
    let sayable = !text.bytes().any(|byte| byte == 0 || byte == b'\r' && version == Version::V11);
    if sayable {
        for byte in text.bytes() {
            match byte {
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b':' => out.extend_from_slice(b"\\c"),
                b'\\' => out.extend_from_slice(b"\\\\"),
                other => out.push(other),
            }
        }
    }
    sayable
}
