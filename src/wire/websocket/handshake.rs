//! What is agreed on before the first frame.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
    Some(STANDARD.encode(digest))
}
