//! Accepting connections, within a limit, until told to stop.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::{FrontConfig, OpenSession, sessions_of, tcp};
use crate::shard::Broker;

/// Connections that are being told that there are too many, at once. Accepting waits beyond it.
const REFUSALS_MAX: usize = 64;
/// First and longest pause after a failed accept (no file descriptors left, for example).
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));
/// What a connection may take beyond its drain time to write its last answers.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// Connections that may wait to be accepted: thousands of clients come at once when a server comes
/// back. With the usual 128, most of them would be dropped and try again a second later.
const BACKLOG: u32 = 4096;

/// Listens on `address`, with room for a rush of clients. Must be called within a tokio runtime.
///
/// # Errors
/// Those of the operating system: the address is in use, or not ours.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A server that was just stopped does not keep the next one from its address.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves the binary protocol on `listener` until `shutdown` completes.
///
/// Then nothing more is accepted and nothing more is read; what was asked is answered within
/// [`FrontConfig::drain`], every client is told goodbye, and the connections are closed. Returns
/// when all of that is done.
pub async fn serve(
    listener: TcpListener,
    broker: Broker,
    config: FrontConfig,
    shutdown: impl Future<Output = ()>,
) {
    serve_sessions(listener, sessions_of(broker), config, shutdown).await;
}

pub(crate) async fn serve_sessions(
    listener: TcpListener,
    open: OpenSession,
    config: FrontConfig,
    shutdown: impl Future<Output = ()>,
) {
    let shared = Arc::new(config.clone());
    let binary = Protocol {
        serve: Box::new(move |stream, stopping| {
            let (open, config) = (Arc::clone(&open), Arc::clone(&shared));
            Box::pin(tcp::serve_connection(stream, open, config, stopping))
        }),
        refuse: Box::new(|stream| Box::pin(tcp::refuse_connection(stream))),
    };
    serve_protocol(listener, binary, &config, shutdown).await;
}

type Served = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What is done with the connections of a listener.
pub(crate) struct Protocol {
    /// Serves one to its end. The second argument turns true when the server stops: it is to end then,
    /// within [`FrontConfig::drain`].
    pub(crate) serve: Box<dyn Fn(TcpStream, watch::Receiver<bool>) -> Served + Send>,
    /// Tells one that there are too many.
    pub(crate) refuse: Box<dyn Fn(TcpStream) -> Served + Send>,
}

/// Accepts connections and has them served, within [`FrontConfig::max_connections`], until `shutdown`
/// completes and all have ended or were cut off.
pub(crate) async fn serve_protocol(
    listener: TcpListener,
    protocol: Protocol,
    config: &FrontConfig,
    shutdown: impl Future<Output = ()>,
) {
    let connections = config.places();
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    let (stop, stopping) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let mut back_off = BACK_OFF.0;
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(ended) = tasks.join_next() => {
                report_panic(ended);
                continue;
            }
            accepted = accept(&listener, &refusals) => accepted,
        };
        let (stream, refusal) = match accepted {
            Ok(accepted) => {
                back_off = BACK_OFF.0;
                accepted
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                tokio::select! {
                    () = &mut shutdown => break,
                    () = tokio::time::sleep(back_off) => {}
                }
                back_off = (back_off * 2).min(BACK_OFF.1);
                continue;
            }
        };
        match Arc::clone(&connections).try_acquire_owned() {
            Ok(place) => {
                drop(refusal);
                let served = (protocol.serve)(stream, stopping.clone());
                tasks.spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            Err(_) => {
                tracing::warn!(max = config.max_connections, "too many connections, one refused");
                let refused = (protocol.refuse)(stream);
                tasks.spawn(async move {
                    refused.await;
                    drop(refusal);
                });
            }
        }
    }
    drop(listener);
    stop.send_replace(true);
    let drained = async {
        while let Some(ended) = tasks.join_next().await {
            report_panic(ended);
        }
    };
    if tokio::time::timeout(config.drain + LAST_WRITES, drained).await.is_err() {
        tracing::warn!(connections = tasks.len(), "connections closed before they were drained");
        tasks.shutdown().await;
    }
}

/// The next connection, once there is a place to refuse it politely should that be needed.
async fn accept(
    listener: &TcpListener,
    refusals: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let refusal = Arc::clone(refusals).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // Answers are written as whole batches, so there is nothing to gain from waiting for more.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY; the peer is gone");
    }
    Ok((stream, refusal))
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection ended by a fault of the server");
    }
}
