//! What a person with a browser sees.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::app::App;

const INDEX: &str = concat!("Postdate ", env!("CARGO_PKG_VERSION"), "\n\n");
const INDEX_STOMP: &str = "\
/demo           try it in the browser\n\
/ws             STOMP over WebSocket\n\
/sockjs         STOMP over SockJS\n";
const INDEX_HEALTH: &str = "\
/health/live    200 while the server runs\n\
/health/ready   200 while it takes work\n\n\
What each does: docs/http.md\n";

/// The page to try it: one file, with everything in it.
const DEMO: &str = include_str!("demo.html");
/// Stands in the page where the nonce belongs.
const NONCE: &str = "@NONCE@";

/// What there is.
pub(super) async fn index(State(app): State<Arc<App>>) -> String {
    let stomp = if app.stomp.is_some() { INDEX_STOMP } else { "" };
    [INDEX, stomp, INDEX_HEALTH].concat()
}

/// The page to try it. It may run its own script, named by a nonce of this answer, and talk to this
/// server; nothing else.
pub(super) async fn demo() -> Response {
    let nonce = format!("{:016x}{:016x}", random(), random());
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    (headers, DEMO.replace(NONCE, &nonce)).into_response()
}

/// A number nobody can guess: the standard library keys its hashes from the system's randomness.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
