//! One connection: requests until it ends, or until one of them turns it into something else.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::app::App;
use super::stall::Stalling;
use crate::base::limits::{HTTP_HEADER_BYTES_MAX, HTTP_HEADERS_MAX};
use crate::front::carrier::{Carrier, Greeting, WebSocketOptions, linger};

/// What the requests of a connection know of it.
pub(super) struct Link {
    pub(super) peer: SocketAddr,
    /// Turns true when the server stops.
    pub(super) stopping: watch::Receiver<bool>,
    /// Set by the request that turns the connection into a WebSocket, along with its answer.
    pub(super) upgrade: Mutex<Option<Upgrade>>,
}

/// What becomes of a connection that is not for requests any more.
pub(super) struct Upgrade {
    pub(super) greeting: Greeting,
    pub(super) options: WebSocketOptions,
}

/// Serves one connection to its end.
pub(super) async fn serve_connection(
    stream: TcpStream,
    app: Arc<App>,
    router: Router,
    stopping: watch::Receiver<bool>,
) {
    let Ok(peer) = stream.peer_addr() else { return };
    let link = Arc::new(Link { peer, stopping, upgrade: Mutex::new(None) });
    // In a box of its own, so that a WebSocket does not keep the memory of its requests.
    let answered = Box::pin(answer(stream, &app, router, &link)).await;
    let (stream, rest) = match answered {
        Ok(done) => done,
        Err(error) => return tracing::debug!(%error, %peer, "connection lost"),
    };
    let upgrade = link.upgrade.lock().take();
    drop(link);
    match (upgrade, &app.stomp) {
        (Some(Upgrade { greeting, options }), Some(stomp)) => {
            let served = stomp(Carrier::web_socket(stream, rest, options), greeting);
            drop(app);
            served.await;
        }
        _ => linger(stream).await,
    }
}

/// Answers requests as long as there are some. Gives back the socket, and what was read too much.
async fn answer(
    stream: TcpStream,
    app: &Arc<App>,
    router: Router,
    link: &Arc<Link>,
) -> hyper::Result<(TcpStream, Bytes)> {
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(Arc::clone(link));
        // The connection wants it movable.
        Box::pin(router.call(request))
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Also the longest a connection may be silent between two requests.
        .header_read_timeout(app.http.header_timeout)
        .max_buf_size(HTTP_HEADER_BYTES_MAX)
        .max_headers(HTTP_HEADERS_MAX)
        .serve_connection(TokioIo::new(Stalling::new(stream, app.write_stall)), service);
    let mut stopping = link.stopping.clone();
    let mut told = false;
    loop {
        tokio::select! {
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => {
                ended?;
                break;
            }
            // A server that is gone without a word stops, too.
            _ = stopping.wait_for(|stop| *stop), if !told => {
                told = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
        }
    }
    let parts = connection.into_parts();
    Ok((parts.io.into_inner().into_stream(), parts.read_buf))
}

/// Tells a connection that there are too many.
pub(super) async fn refuse_connection(mut stream: TcpStream) {
    const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\
        content-type: text/plain\r\ncontent-length: 21\r\nretry-after: 1\r\n\r\ntoo many connections\n";
    let written = timeout(Duration::from_secs(1), stream.write_all(BUSY)).await;
    if let Ok(Ok(())) = written {
        linger(stream).await;
    }
}
