//! SockJS 0.3.3 under `/sockjs`: for clients that cannot have a WebSocket.
//!
//! There are the transports that browsers of today fall back to: WebSocket, `xhr_streaming` and `xhr`.
//! The others answer 404, and clients go on to the next.

mod cors;
mod receiver;
mod sessions;

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Extension, Router};
use serde_json::json;

use self::cors::{Cors, NO_CACHE};
use self::receiver::{Kind, Receiver};
use self::sessions::Attached;
pub(super) use self::sessions::Sessions;
use super::app::App;
use super::connection::Link;
use super::pages::random;
use super::problem::Problem;
use super::request::greeting;
use super::websocket;
use crate::base::limits::SOCKJS_SESSION_ID_BYTES_MAX;
use crate::front::carrier::{SendError, Serve};

/// Everything of SockJS.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/sockjs", get(hello))
        .route("/sockjs/", get(hello))
        .route("/sockjs/info", any(info))
        .route("/sockjs/websocket", any(websocket::stomp))
        .route("/sockjs/{server}/{session}/{transport}", any(transport))
}

async fn hello() -> &'static str {
    "Welcome to SockJS!\n"
}

/// What clients ask first.
async fn info(
    State(app): State<Arc<App>>,
    Extension(link): Extension<Arc<Link>>,
    request: Request,
) -> Response {
    let cors = match Cors::judge(&app.origins, request.headers(), link.peer.ip()) {
        Ok(cors) => cors,
        Err(problem) => return problem.into_response(),
    };
    if let Some(answer) = cors.preflight(&request, "OPTIONS, GET") {
        return answer;
    }
    if request.method() != "GET" {
        return wrong_method();
    }
    let entropy = u32::try_from(random() >> 32).unwrap_or_default();
    let text = json!({
        "websocket": true, "cookie_needed": false, "origins": ["*:*"], "entropy": entropy,
    });
    let headers = [
        (header::CONTENT_TYPE, "application/json; charset=UTF-8"),
        (header::CACHE_CONTROL, NO_CACHE),
    ];
    cors.put_on((headers, text.to_string()).into_response())
}

/// A request of a session. The server part of its path is for balancers, and means nothing here.
async fn transport(
    State(app): State<Arc<App>>,
    Extension(link): Extension<Arc<Link>>,
    Path((server, session, transport)): Path<(String, String, String)>,
    request: Request,
) -> Response {
    let legal = |part: &str| !part.is_empty() && !part.contains('.');
    let known = matches!(&*transport, "websocket" | "xhr" | "xhr_streaming" | "xhr_send");
    if !known || !legal(&server) || !legal(&session) || session.len() > SOCKJS_SESSION_ID_BYTES_MAX
    {
        return Problem::not_found("SockJS has nothing here").into_response();
    }
    if transport == "websocket" {
        return websocket::sockjs(&app, &link, &request, app.http.sockjs_heartbeat);
    }
    let cors = match Cors::judge(&app.origins, request.headers(), link.peer.ip()) {
        Ok(cors) => cors,
        Err(problem) => return problem.into_response(),
    };
    if let Some(answer) = cors.preflight(&request, "OPTIONS, POST") {
        return answer;
    }
    if request.method() != "POST" {
        return wrong_method();
    }
    let answer = match (&*transport, &app.stomp) {
        ("xhr_send", _) => send(&app, &session, request).await,
        (_, None) => Problem::not_found("SockJS has nothing here").into_response(),
        ("xhr", Some(stomp)) => receive(&app, stomp, &link, session, &request, Kind::Once),
        (_, Some(stomp)) => receive(&app, stomp, &link, session, &request, Kind::Stream),
    };
    cors.put_on(answer)
}

fn wrong_method() -> Response {
    StatusCode::METHOD_NOT_ALLOWED.into_response()
}

/// Waits for what the server says; begins the session if there is none.
fn receive(
    app: &Arc<App>,
    stomp: &Serve,
    link: &Link,
    name: String,
    request: &Request,
    kind: Kind,
) -> Response {
    let greeting = match greeting(request.headers(), request.uri(), link) {
        Ok(greeting) => greeting,
        Err(problem) => return problem.into_response(),
    };
    let attached = app.sessions.attach(name, stomp, greeting, app.http.sockjs_disconnect);
    let body = match attached {
        Attached::Receiving(session) => {
            Receiver::new(session, kind, app.http.sockjs_heartbeat).into_body()
        }
        Attached::Busy => Receiver::refusal(kind),
        Attached::Full => {
            let text = "too many SockJS sessions; try again in a moment";
            return Problem::unavailable(text).into_response();
        }
    };
    let headers = [
        (header::CONTENT_TYPE, "application/javascript; charset=UTF-8"),
        (header::CACHE_CONTROL, NO_CACHE),
    ];
    (headers, body).into_response()
}

/// Takes what the client says.
async fn send(app: &App, name: &str, request: Request) -> Response {
    let unknown = || Problem::not_found("there is no such session").into_response();
    let Some(session) = app.sessions.find(name) else { return unknown() };
    let held = match app.bodies.read(request.into_body()).await {
        Ok(held) => held,
        Err(problem) => return problem.into_response(),
    };
    let kind = HeaderValue::from_static("text/plain; charset=UTF-8");
    let mut answer = match session.send(&held.bytes, held.room, app.http.body_timeout).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(SendError::Empty) => failed("Payload expected."),
        Err(SendError::Broken) => failed("Broken JSON encoding."),
        Err(SendError::Gone) => return unknown(),
        Err(SendError::Full) => {
            let text = "the session does not read what was sent; try again in a moment";
            return Problem::unavailable(text).into_response();
        }
    };
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

fn failed(text: &'static str) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
}
