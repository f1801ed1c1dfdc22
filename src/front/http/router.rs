//! Which path leads where.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, Method, Uri, header};
use axum::middleware;
use axum::response::Response;
use axum::routing::get;

use super::app::App;
use super::problem::Problem;
use super::{health, pages, sockjs, websocket};

/// Every path of the listener.
pub(super) fn router(app: &Arc<App>) -> Router {
    let mut router = Router::new()
        .route("/", get(pages::index))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready));
    if app.stomp.is_some() {
        router = router
            .route("/demo", get(pages::demo))
            .route("/ws", get(websocket::stomp))
            .merge(sockjs::routes());
    }
    router
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::map_response(no_sniffing))
        .with_state(Arc::clone(app))
}

async fn unknown(uri: Uri) -> Problem {
    Problem::not_found(format!("there is nothing at {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::wrong_method(format!("{} is not for {method}", uri.path()))
}

/// Nobody is to guess what an answer is.
async fn no_sniffing(mut response: Response) -> Response {
    let value = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, value);
    response
}
