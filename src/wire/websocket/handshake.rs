//! What is agreed on before the first frame.

use sha1::{Digest, Sha1};

/// The sub-protocols that carry STOMP, the newest first.
pub const PROTOCOLS: [&str; 3] = ["v12.stomp", "v11.stomp", "v10.stomp"];

/// What RFC 6455 has appended to a client's key.
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The newest STOMP among the sub-protocols offered, in whatever order they are: old clients begin with
/// the oldest. `None` when there is none; then none is named in the answer.
pub fn choose_protocol<'a>(offers: impl Iterator<Item = &'a str>) -> Option<&'static str> {
    let known = offers.filter_map(|offer| PROTOCOLS.iter().position(|known| *known == offer));
    known.min().and_then(|newest| PROTOCOLS.get(newest).copied())
}

/// The proof that the key of a client was read by a server that knows WebSocket; `None` when the key
/// is not base 64 of 16 bytes.
#[must_use]
pub fn accept_key(key: &[u8]) -> Option<String> {
    let (digits, end) = key.split_at_checked(22)?;
    let digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    if end != b"==" || !digits.iter().all(digit) {
        return None;
    }
    let digest = Sha1::new().chain_update(key).chain_update(MAGIC).finalize();
    Some(base64(&digest))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or_default());
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = DIGITS.get((word >> (18 - 6 * place) & 63) as usize);
            let padding = place > group.len();
            text.push(digit.filter(|_| !padding).map_or('=', |digit| char::from(*digit)));
        }
    }
    text
}
