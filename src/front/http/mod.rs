//! The HTTP listener: health, WebSocket and SockJS for STOMP, and the page to try it.

mod app;
mod body;
mod connection;
mod health;
mod origin;
mod pages;
mod problem;
mod request;
mod router;
mod sockjs;
mod stall;
mod websocket;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;

use tokio::net::TcpListener;

use self::app::App;
use super::carrier::Serve;
use super::config::FrontConfig;
use super::listen::{Protocol, serve_protocol};

/// Serves HTTP on `listener` until `shutdown` completes. STOMP connections go to `stomp`; without it
/// there are none, and their paths are unknown.
///
/// Then nothing more is accepted, requests under way are answered, STOMP sessions are told, and all have
/// [`FrontConfig::drain`] to end. Returns when they have ended, or were cut off.
pub(crate) async fn serve_http(
    listener: TcpListener,
    config: FrontConfig,
    stomp: Option<Serve>,
    shutdown: impl Future<Output = ()>,
) {
    let app = Arc::new(App::new(&config, stomp));
    let router = router::router(&app);
    let connections = {
        let app = Arc::clone(&app);
        Protocol {
            serve: Box::new(move |stream, stopping| {
                let served = connection::serve_connection(
                    stream,
                    Arc::clone(&app),
                    router.clone(),
                    stopping,
                );
                Box::pin(served)
            }),
            refuse: Box::new(|stream| Box::pin(connection::refuse_connection(stream))),
        }
    };
    serve_protocol(listener, connections, &config, shutdown).await;
    // The sessions without a connection had the same time.
    app.sessions.finish().await;
}
