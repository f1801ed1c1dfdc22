//! What carries STOMP: plain TCP, WebSocket, or SockJS. A session sees a stream of bytes one way and
//! whole frames the other way, whatever is outside.
//!
//! Nothing is kept for an idle peer but its socket and a few words of state: buffers live only while
//! there is something in them.

mod input;
mod output;
mod polled;
#[cfg(test)]
mod polled_tests;
mod tcp;
#[cfg(test)]
mod tcp_tests;
mod websocket;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::watch;

pub(super) use output::linger;
pub(crate) use polled::{Polled, PolledReader, PolledWriter, SendError, Taken};
pub(crate) use tcp::{TcpReader, TcpWriter};
pub(crate) use websocket::{SocketReader, SocketWriter, WebSocketOptions};

/// What was said while connecting, before the first STOMP frame.
#[derive(Debug, Clone)]
pub(crate) struct Greeting {
    /// What `Authorization: Bearer …` or `Basic …` says behind the scheme, else the parameter
    /// `access_token` or `token` of the query.
    pub(crate) token: Option<String>,
    /// The token came as `Basic`: base 64 of `user:password`.
    pub(crate) basic: bool,
    /// Who connected, as the socket knows it.
    pub(crate) peer: SocketAddr,
    /// Turns true when the server stops: the session is to end by itself, soon.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// A two-way stream of STOMP bytes. The sides may be used by different tasks.
pub(crate) struct Carrier {
    /// What the peer says.
    pub(crate) reader: Reader,
    /// What is said to it.
    pub(crate) writer: Writer,
}

impl Carrier {
    /// STOMP over a plain connection.
    pub(crate) fn tcp(stream: TcpStream) -> Self {
        let (reader, writer) = tcp::split(stream);
        Self { reader: Reader::Tcp(reader), writer: Writer::Tcp(writer) }
    }

    /// A connection that has agreed on WebSocket; `rest` came behind the agreement.
    pub(crate) fn web_socket(stream: TcpStream, rest: Bytes, options: WebSocketOptions) -> Self {
        let (reader, writer) = websocket::split(stream, rest, options);
        Self { reader: Reader::WebSocket(reader), writer: Writer::WebSocket(writer) }
    }

    /// A SockJS session that is carried by one request after the other.
    pub(crate) fn polled(session: &Arc<Polled>) -> Self {
        let reader = Reader::SockJs(PolledReader::new(Arc::clone(session)));
        Self { reader, writer: Writer::SockJs(PolledWriter::new(Arc::clone(session))) }
    }
}

/// The incoming side.
pub(crate) enum Reader {
    /// Plain TCP.
    Tcp(TcpReader),
    /// WebSocket, also with SockJS inside.
    WebSocket(SocketReader),
    /// SockJS by requests.
    SockJs(PolledReader),
}

impl Reader {
    /// The next piece of the stream, cut anywhere; `None` at its end. Cancel safe.
    ///
    /// A piece has at most 16 KiB, but with SockJS by requests, where it is what one request brought.
    /// What belongs to the outer protocol (pings, closing) is answered from within: somebody has to
    /// wait here for a WebSocket to be kept alive.
    ///
    /// # Errors
    /// The connection is lost; `TimedOut` when its peer is found dead; `InvalidData` when the outer
    /// protocol was broken: [`Writer::close`] tells the peer the right code by itself.
    pub(crate) async fn read(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Self::Tcp(reader) => reader.read().await,
            Self::WebSocket(reader) => reader.read().await,
            Self::SockJs(reader) => Ok(reader.read().await),
        }
    }
}

/// The outgoing side.
pub(crate) enum Writer {
    /// Plain TCP.
    Tcp(TcpWriter),
    /// WebSocket, also with SockJS inside.
    WebSocket(SocketWriter),
    /// SockJS by requests.
    SockJs(PolledWriter),
}

impl Writer {
    /// Writes whole STOMP frames; each `Bytes` is exactly one of them, or `"\n"`, a heart-beat.
    ///
    /// TCP joins them. WebSocket makes a message of each, a text if it is UTF-8 and binary if not; SockJS
    /// a string of each. Returns when they are with the socket; with SockJS by requests, when they wait
    /// for the next request, which is bounded as a socket's buffer is. After an error, and when the
    /// future is dropped before its end, the connection is good for [`Self::close`] only, but for
    /// `InvalidData`.
    ///
    /// # Errors
    /// `TimedOut` when the peer does not take a frame (or 64 KiB of small ones) within `stall`;
    /// `InvalidData`, and nothing is written, when a frame cannot be carried, see [`Self::carries`];
    /// others when the connection is lost.
    pub(crate) async fn write(&mut self, frames: &[Bytes], stall: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(writer) => writer.write(frames, stall).await,
            Self::WebSocket(writer) => writer.write(frames, stall).await,
            Self::SockJs(writer) => writer.write(frames, stall).await,
        }
    }

    /// Whether a frame can be carried: SockJS carries UTF-8 only.
    pub(crate) fn carries(&self, frame: &[u8]) -> bool {
        match self {
            Self::WebSocket(writer) if !writer.is_sockjs() => true,
            Self::Tcp(_) => true,
            Self::WebSocket(_) | Self::SockJs(_) => std::str::from_utf8(frame).is_ok(),
        }
    }

    /// Ends the stream: what was written goes out, the peer is told why, and the socket is listened to
    /// for a moment, so that our last words are not overtaken by a reset. Bounded by two seconds.
    pub(crate) async fn close(&mut self, how: Closing) {
        match self {
            Self::Tcp(writer) => writer.close().await,
            Self::WebSocket(writer) => writer.close(how).await,
            Self::SockJs(writer) => writer.close(how).await,
        }
    }
}

/// Why a stream is ended by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closing {
    /// The peer said goodbye, or nothing is wrong: WebSocket code 1000.
    Normal,
    /// The peer was told an ERROR: 1002.
    Protocol,
    /// The server stops: 1001.
    GoingAway,
}

/// Serves one STOMP connection to its end.
pub(crate) type Serve =
    Arc<dyn Fn(Carrier, Greeting) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;
