//! What a server says.

/// Why a session ends, as its clients know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It has served its purpose.
    GoAway,
    /// The server stops.
    Stopping,
    /// The client broke the protocol.
    Protocol,
    /// A second request came to receive what only one can.
    AnotherConnection,
    /// The request that was receiving broke off; what was on its way may be lost.
    Interrupted,
}

impl Reason {
    /// The frame that tells it.
    #[must_use]
    pub fn frame(self) -> &'static str {
        match self {
            Self::GoAway => r#"c[3000,"Go away!"]"#,
            Self::Stopping => r#"c[1001,"The server is stopping"]"#,
            Self::Protocol => r#"c[1002,"Protocol error"]"#,
            Self::AnotherConnection => r#"c[2010,"Another connection still open"]"#,
            Self::Interrupted => r#"c[1002,"Connection interrupted"]"#,
        }
    }
}

/// Appends a text as a JSON string. Characters that some browsers lose on their way are escaped.
pub fn encode_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut done = 0;
    for (at, c) in text.char_indices() {
        if !is_escaped(c) {
            continue;
        }
        out.extend_from_slice(text.get(done..at).unwrap_or_default().as_bytes());
        match c {
            '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
            '\n' => out.extend_from_slice(b"\\n"),
            // Every escaped character is below 65 536.
            c => out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes()),
        }
        done = at + c.len_utf8();
    }
    out.extend_from_slice(text.get(done..).unwrap_or_default().as_bytes());
    out.push(b'"');
}

fn is_escaped(c: char) -> bool {
    matches!(c,
        '"' | '\\' | '\0'..='\x1f'
        | '\u{200c}'..='\u{200f}' | '\u{2028}'..='\u{202f}'
        | '\u{2060}'..='\u{206f}' | '\u{fff0}'..='\u{ffff}')
}
