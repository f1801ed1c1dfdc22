//! For those who watch over servers.

use std::sync::Arc;

use axum::Extension;
use axum::response::{IntoResponse, Response};

use super::connection::Link;
use super::problem::Problem;

/// The server runs.
pub(super) async fn live() -> &'static str {
    "live\n"
}

/// The server takes work: it listens only once everything is recovered, and is not ready any more
/// when it stops.
pub(super) async fn ready(Extension(link): Extension<Arc<Link>>) -> Response {
    if *link.stopping.borrow() {
        return Problem::unavailable("the server is stopping").into_response();
    }
    "ready\n".into_response()
}
