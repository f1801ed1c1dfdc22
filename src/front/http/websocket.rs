//! How a request becomes a WebSocket.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{Method, StatusCode, Version};
use axum::response::{IntoResponse, Response};

use super::app::App;
use super::connection::{Link, Upgrade};
use super::problem::Problem;
use super::request::{greeting, has_word, words};
use crate::front::carrier::WebSocketOptions;
use crate::wire::websocket::{accept_key, choose_protocol};

/// STOMP in WebSocket messages.
pub(super) async fn stomp(
    State(app): State<Arc<App>>,
    Extension(link): Extension<Arc<Link>>,
    request: Request,
) -> Response {
    let options = WebSocketOptions { beat: app.http.ping_every, sockjs: false };
    upgrade(&app, &link, &request, options)
}

/// STOMP in SockJS frames in WebSocket messages.
pub(super) fn sockjs(app: &App, link: &Link, request: &Request, beat: Duration) -> Response {
    upgrade(app, link, request, WebSocketOptions { beat, sockjs: true })
}

fn upgrade(app: &App, link: &Link, request: &Request, options: WebSocketOptions) -> Response {
    let headers = request.headers();
    let accept = match agree(request) {
        Ok(accept) => accept,
        Err((status, text)) => {
            // Only a wrong version needs it, and nobody else minds.
            let version = [(header::SEC_WEBSOCKET_VERSION, "13")];
            return (status, version, text).into_response();
        }
    };
    if !app.origins.allows(headers, link.peer.ip()) {
        return Problem::forbidden("pages of this origin may not connect; see http.origins")
            .into_response();
    }
    let greeting = match greeting(headers, request.uri(), link) {
        Ok(greeting) => greeting,
        Err(problem) => return problem.into_response(),
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = protocol(headers).filter(|_| !options.sockjs) {
        answer.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    *link.upgrade.lock() = Some(Upgrade { greeting, options });
    response
}

fn protocol(headers: &HeaderMap) -> Option<&'static str> {
    choose_protocol(words(headers, header::SEC_WEBSOCKET_PROTOCOL))
}

/// The proof for the client that we have read its key, or what is wrong with its request.
fn agree(request: &Request) -> Result<HeaderValue, (StatusCode, &'static str)> {
    let headers = request.headers();
    let bad = |text| Err((StatusCode::BAD_REQUEST, text));
    if request.method() != Method::GET {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "A WebSocket begins with GET."));
    }
    if !has_word(headers, header::UPGRADE, "websocket") {
        return bad("Can \"Upgrade\" only to \"WebSocket\".");
    }
    if !has_word(headers, header::CONNECTION, "upgrade") {
        return bad("\"Connection\" must be \"Upgrade\".");
    }
    if request.version() != Version::HTTP_11 {
        return bad("A WebSocket begins with HTTP/1.1.");
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err((StatusCode::UPGRADE_REQUIRED, "The version of WebSocket is 13."));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let accept = key.and_then(|key| accept_key(key.as_bytes()));
    match accept.map(HeaderValue::try_from) {
        Some(Ok(accept)) => Ok(accept),
        _ => bad("Sec-WebSocket-Key is base 64 of 16 bytes."),
    }
}
