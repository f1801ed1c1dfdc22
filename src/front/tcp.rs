//! One connection: hello, then a reading and a writing side until one of them ends.
//!
//! Both sides are futures of one task: they share counters without locks, an idle connection
//! costs one task, and a wake-up serves both.

mod flow;
mod read;
mod write;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::WriteHalf;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use self::flow::Flow;
use self::read::{Ending, Input, read_requests};
use self::write::{Channel, Finish, Work, write_all, write_answers};
use super::outbox::Unwritten;
use super::{FrontConfig, OpenSession};
use crate::base::error::{ClientError, Code};
use crate::base::limits;
use crate::wire::binary::{
    Fault, HelloAnswer, PROTOCOL_VERSION, Request, RequestType, encode_failure, encode_goodbye,
    encode_hello_answer,
};

/// How long a closed connection is listened to, so that the peer can read our last words: closing
/// a socket with unread bytes resets it, and a reset overtakes what was written.
const LINGER: Duration = Duration::from_millis(500);

/// How a connection ended.
enum Close {
    /// The last words are written, and the peer may still be sending.
    Linger,
    /// Nobody is there to read, or nothing was said.
    Quiet,
}

/// Serves one connection to its end.
pub(super) async fn serve_connection(
    mut stream: TcpStream,
    open: OpenSession,
    config: Arc<FrontConfig>,
    stopping: watch::Receiver<bool>,
) {
    match converse(&mut stream, open, &config, stopping).await {
        Ok(Close::Linger) => linger(stream).await,
        Ok(Close::Quiet) => {}
        Err(error) => tracing::debug!(%error, "connection lost"),
    }
}

/// Tells a connection that there are too many.
pub(super) async fn refuse_connection(mut stream: TcpStream) {
    let mut out = Vec::new();
    encode_failure(&mut out, 0, 0, &Code::TooManyConnections.into());
    if let Ok(Ok(())) = timeout(LINGER, stream.write_all(&out)).await {
        linger(stream).await;
    }
}

async fn linger(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut scrap = [0; 1024];
    let discard = async { while matches!(stream.read(&mut scrap).await, Ok(1..)) {} };
    // Whether the peer finished or the time is over: the socket is closed now.
    let _ = timeout(LINGER, discard).await;
}

async fn converse(
    stream: &mut TcpStream,
    open: OpenSession,
    config: &FrontConfig,
    mut stopping: watch::Receiver<bool>,
) -> io::Result<Close> {
    let neighbour =
        stream.peer_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback());
    let (read_half, mut write_half) = stream.split();
    let mut input = Input::new(read_half, limits::HELLO_BYTES_MAX);
    input.neighbour = neighbour;
    let hello = tokio::select! {
        hello = timeout(config.hello_timeout, read_hello(&mut input)) => hello,
        () = stopped(&mut stopping) => {
            let mut out = Vec::new();
            encode_goodbye(&mut out, &Code::ShuttingDown.into());
            return say(&mut write_half, &out, config).await;
        }
    };
    let correlation = match hello {
        Ok(Ok(Some(correlation))) => correlation,
        Ok(Ok(None)) => return Ok(Close::Quiet),
        Ok(Err(Ending::Gone(error))) => return Err(error),
        Ok(Err(ending)) => return say(&mut write_half, &ending.last_words(config), config).await,
        Err(_) => {
            let ms = config.hello_timeout.as_millis();
            let late = ClientError::new(Code::HelloExpected, format!("no hello within {ms} ms"));
            let mut out = Vec::new();
            encode_failure(&mut out, 0, 0, &late);
            return say(&mut write_half, &out, config).await;
        }
    };
    let (sender, receiver) = mpsc::unbounded_channel();
    let unwritten = Arc::new(Unwritten::default());
    let channel = Channel { sender: sender.clone(), unwritten: Arc::clone(&unwritten) };
    let submit = match open(Box::new(channel)) {
        Ok(submit) => submit,
        Err(error) => {
            let mut out = Vec::new();
            encode_failure(&mut out, RequestType::Hello.number(), correlation, &error);
            return say(&mut write_half, &out, config).await;
        }
    };
    let mut out = Vec::new();
    encode_hello_answer(&mut out, correlation, &hello_answer(config));
    write_all(&mut write_half, &out, config.write_stall).await?;
    drop(out);
    input.decoder.set_length_max(limits::FRAME_BYTES_MAX);

    let flow = Flow::default();
    let write = write_answers(&mut write_half, receiver, &unwritten, &flow, config.write_stall);
    tokio::pin!(write);
    let read = read_requests(&mut input, submit, &sender, &flow, &mut stopping, config);
    let (ending, session) = tokio::select! {
        written = &mut write => return written,
        ended = read => ended,
    };
    if let Ending::Gone(error) = ending {
        return Err(error);
    }
    // The session stays until what it owes is answered and written.
    let deadline = Instant::now() + config.drain;
    let finish = Finish { last_words: ending.last_words(config), deadline };
    if sender.send(Work::Finish(finish)).is_err() {
        return Ok(Close::Quiet);
    }
    let written = write.await;
    drop(session);
    written
}

/// Waits until the server is told to stop, or is gone.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// Waits for hello and gives its correlation id; `None` when the peer left without a word.
async fn read_hello(input: &mut Input<'_>) -> Result<Option<u32>, Ending> {
    loop {
        let next = input.next().map_err(Ending::bad_frame)?;
        let Some(frame) = next else {
            match input.fill().await {
                Ok(0) => match input.end() {
                    Ending::Finished => return Ok(None),
                    cut => return Err(cut),
                },
                Ok(_) => continue,
                Err(error) => return Err(Ending::Gone(error)),
            }
        };
        let (request_type, correlation, at) = (frame.request_type, frame.correlation, frame.at);
        let error = match Request::decode(frame) {
            Ok((_, Request::Hello(hello))) => {
                tracing::debug!(name = %hello.name, client = %hello.client_id, "connected");
                return Ok(Some(correlation));
            }
            Err(Fault::Bad(error)) => error,
            Ok(_) | Err(Fault::Refused(_)) => ClientError::new(
                Code::HelloExpected,
                format!("the request at byte {at} is not hello, which comes first"),
            ),
        };
        return Err(Ending::Bad { request_type, correlation, error });
    }
}

fn hello_answer(config: &FrontConfig) -> HelloAnswer {
    HelloAnswer {
        version: PROTOCOL_VERSION,
        server: config.server.clone(),
        frame_max: limits::FRAME_BYTES_MAX as u32,
        batch_max: limits::BATCH_ITEMS_MAX as u32,
        body_max: limits::BODY_BYTES_MAX as u32,
        requests_max: limits::REQUESTS_IN_FLIGHT_MAX as u32,
        request_bytes_max: limits::REQUEST_BYTES_IN_FLIGHT_MAX as u32,
        idle_timeout_ms: u32::try_from(config.idle_timeout.as_millis()).unwrap_or(u32::MAX),
        wall_ms: (config.wall_ms)(),
    }
}

/// Writes the last words of a connection that has no session.
async fn say(half: &mut WriteHalf<'_>, words: &[u8], config: &FrontConfig) -> io::Result<Close> {
    write_all(half, words, config.write_stall).await?;
    Ok(Close::Linger)
}
