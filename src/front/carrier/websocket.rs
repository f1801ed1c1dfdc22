//! STOMP over WebSocket, plain or in SockJS strings.
//!
//! Pings are answered by the reading side, while frames are written by the other one. Both write through
//! one sink behind a lock; what waits in it begins and ends with whole frames, but for the one that
//! is on its way. What the reading side has to say waits in `Owed`, where a flood of pings takes the
//! room of one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::{Instant, sleep_until, timeout};

use super::Closing;
use super::input::Input;
use super::output::{GROUP_BYTES, LINGER, hang_up, within};
use crate::wire::sockjs::{self, Reason, encode_string};
use crate::wire::websocket::{
    CLOSE_GOING_AWAY, CLOSE_NORMAL, CLOSE_PROTOCOL, Decoder, Event, Opcode, encode_close,
    encode_control, encode_header,
};

/// So many pings in a row may go unanswered.
const PINGS_UNANSWERED: u32 = 2;

/// How a WebSocket is used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WebSocketOptions {
    /// A peer that was silent for so long is pinged. SockJS says `h` each time as well.
    pub(crate) beat: Duration,
    /// Messages hold SockJS frames.
    pub(crate) sockjs: bool,
}

/// The incoming side.
pub(crate) struct SocketReader {
    input: Input,
    decoder: Decoder,
    sockjs: Option<Box<sockjs::Decoder>>,
    shared: Arc<Shared>,
    beat: Duration,
    next_beat: Instant,
    /// Something was heard since the last beat.
    heard: bool,
    /// Beats without anything heard.
    silent: u32,
    ended: bool,
}

/// The outgoing side.
pub(crate) struct SocketWriter {
    shared: Arc<Shared>,
    sockjs: bool,
}

struct Shared {
    owed: Mutex<Owed>,
    sink: tokio::sync::Mutex<Sink>,
}

/// What the reading side has to say.
#[derive(Default)]
struct Owed {
    /// To the last ping; earlier ones need no answer of their own.
    pong: Option<Bytes>,
    ping: bool,
    /// A heart-beat of SockJS.
    beat: bool,
    /// The peer has closed, or is to be closed, with this code.
    close: Option<u16>,
    /// What the peer did wrong decides over the code of our close frame.
    fault: Option<u16>,
    /// Something is owed, or waits in the sink.
    behind: bool,
}

struct Sink {
    half: OwnedWriteHalf,
    unsent: BytesMut,
    /// Our close frame was written: nothing may follow.
    closed: bool,
    broken: bool,
}

pub(super) fn split(
    stream: TcpStream,
    rest: Bytes,
    options: WebSocketOptions,
) -> (SocketReader, SocketWriter) {
    let (read, half) = stream.into_split();
    let sink = Sink { half, unsent: BytesMut::new(), closed: false, broken: false };
    let mut owed = Owed::default();
    if options.sockjs {
        owed.behind = true;
    }
    let shared = Arc::new(Shared { owed: Mutex::new(owed), sink: tokio::sync::Mutex::new(sink) });
    if options.sockjs
        && let Ok(mut sink) = shared.sink.try_lock()
    {
        sink.message(sockjs::OPEN.as_bytes());
    }
    let reader = SocketReader {
        input: Input::new(read, BytesMut::from(rest)),
        decoder: Decoder::default(),
        sockjs: options.sockjs.then(Box::default),
        shared: Arc::clone(&shared),
        beat: options.beat,
        next_beat: Instant::now() + options.beat,
        heard: true,
        silent: 0,
        ended: false,
    };
    (reader, SocketWriter { shared, sockjs: options.sockjs })
}

impl SocketReader {
    pub(super) async fn read(&mut self) -> io::Result<Option<Bytes>> {
        while !self.ended {
            match self.decoder.next(&mut self.input.buffer) {
                Ok(Some(event)) => {
                    if let Some(bytes) = self.take(event)? {
                        return Ok(Some(bytes));
                    }
                }
                Ok(None) => self.fill().await?,
                Err(fault) => return Err(self.fail(fault.code, &fault.to_string())),
            }
        }
        // The peer closed: it gets its answer, if it takes it.
        let _ = timeout(LINGER, self.shared.settle()).await;
        Ok(None)
    }

    /// The bytes of the stream that an event brings.
    fn take(&mut self, event: Event) -> io::Result<Option<Bytes>> {
        match event {
            Event::Data { bytes, last } => {
                let bytes = match &mut self.sockjs {
                    None => bytes,
                    Some(decoder) => {
                        let mut said = Vec::new();
                        let mut read = decoder.push(&bytes, &mut said);
                        if last {
                            // An empty message is nothing.
                            read = read.and_then(|()| decoder.end().map(|_| ()));
                        }
                        if let Err(error) = read {
                            return Err(self.fail(CLOSE_PROTOCOL, &error.to_string()));
                        }
                        Bytes::from(said)
                    }
                };
                return Ok((!bytes.is_empty()).then_some(bytes));
            }
            Event::Ping(bytes) => self.shared.owe(|owed| owed.pong = Some(bytes)),
            Event::Pong => {}
            Event::Close(code) => {
                self.shared.owe(|owed| owed.close = Some(code.unwrap_or(CLOSE_NORMAL)));
                self.ended = true;
            }
        }
        Ok(None)
    }

    /// Reads more; meanwhile says what is owed, and looks after the peer's life.
    async fn fill(&mut self) -> io::Result<()> {
        loop {
            let behind = self.shared.behind();
            tokio::select! {
                biased;
                // First, or a peer that never stops talking would get no answer to its ping.
                () = self.shared.settle(), if behind => {}
                read = self.input.fill() => {
                    self.ended = read? == 0;
                    self.heard = true;
                    return Ok(());
                }
                () = sleep_until(self.next_beat) => self.beat()?,
            }
        }
    }

    fn beat(&mut self) -> io::Result<()> {
        self.next_beat = Instant::now() + self.beat;
        let heard = std::mem::take(&mut self.heard);
        self.silent = if heard { 0 } else { self.silent + 1 };
        if self.silent > PINGS_UNANSWERED {
            self.ended = true;
            let text = format!("{PINGS_UNANSWERED} pings were not answered");
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        let sockjs = self.sockjs.is_some();
        self.shared.owe(|owed| (owed.ping, owed.beat) = (!heard, sockjs));
        Ok(())
    }

    fn fail(&mut self, code: u16, text: &str) -> io::Error {
        self.ended = true;
        self.shared.owed.lock().fault = Some(code);
        io::Error::new(io::ErrorKind::InvalidData, text)
    }
}

impl Shared {
    fn owe(&self, what: impl FnOnce(&mut Owed)) {
        let mut owed = self.owed.lock();
        what(&mut owed);
        owed.behind = true;
    }

    fn behind(&self) -> bool {
        self.owed.lock().behind
    }

    /// Says what is owed. Cancel safe: what is not written stays in the sink. A connection that cannot be
    /// written to may still be read, so its error is for those who write.
    async fn settle(&self) {
        let mut sink = self.sink.lock().await;
        let _ = self.flush(&mut sink).await;
    }

    /// Writes all that waits in the sink, and what is owed behind it.
    async fn flush(&self, sink: &mut Sink) -> io::Result<()> {
        loop {
            self.collect(sink);
            if sink.broken {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            if sink.unsent.is_empty() {
                // An idle connection keeps no buffer.
                sink.unsent = BytesMut::new();
                return Ok(());
            }
            let written = sink.half.write_buf(&mut sink.unsent).await;
            if !matches!(written, Ok(1..)) {
                sink.broken = true;
                sink.unsent = BytesMut::new();
                self.collect(sink);
                return Err(written.err().unwrap_or_else(|| io::ErrorKind::WriteZero.into()));
            }
        }
    }

    /// Puts what is owed into the sink.
    fn collect(&self, sink: &mut Sink) {
        let mut owed = self.owed.lock();
        let (pong, close) = (owed.pong.take(), owed.close.take());
        let (ping, beat) = (std::mem::take(&mut owed.ping), std::mem::take(&mut owed.beat));
        if !sink.closed && !sink.broken {
            if let Some(bytes) = pong {
                encode_control(&mut sink.unsent, Opcode::Pong, &bytes);
            }
            if beat {
                sink.message(sockjs::HEARTBEAT.as_bytes());
            }
            if ping {
                encode_control(&mut sink.unsent, Opcode::Ping, b"");
            }
            if let Some(code) = close {
                encode_close(&mut sink.unsent, code);
                sink.closed = true;
            }
        }
        owed.behind = !sink.unsent.is_empty();
    }
}

impl Sink {
    /// Adds a message, as a text if it can be one.
    fn message(&mut self, payload: &[u8]) {
        let text = std::str::from_utf8(payload).is_ok();
        let opcode = if text { Opcode::Text } else { Opcode::Binary };
        self.unsent.reserve(payload.len() + 10);
        encode_header(&mut self.unsent, opcode, payload.len());
        self.unsent.extend_from_slice(payload);
    }
}

impl SocketWriter {
    pub(super) fn is_sockjs(&self) -> bool {
        self.sockjs
    }

    pub(super) async fn write(&mut self, frames: &[Bytes], stall: Duration) -> io::Result<()> {
        let mut texts = Vec::new();
        if self.sockjs {
            for frame in frames {
                texts.push(text_of(frame)?);
            }
        }
        let mut texts = texts.into_iter();
        let mut sink = within(stall, async { Ok(self.shared.sink.lock().await) }).await?;
        for frame in frames {
            if sink.closed || sink.broken {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            match texts.next() {
                None => sink.message(frame),
                Some(text) => {
                    let mut array = b"a[".to_vec();
                    encode_string(&mut array, text);
                    array.push(b']');
                    sink.message(&array);
                }
            }
            if sink.unsent.len() >= GROUP_BYTES {
                within(stall, self.shared.flush(&mut sink)).await?;
            }
        }
        within(stall, self.shared.flush(&mut sink)).await
    }

    pub(super) async fn close(&mut self, how: Closing) {
        let (code, reason) = match how {
            Closing::Normal => (CLOSE_NORMAL, Reason::GoAway),
            Closing::Protocol => (CLOSE_PROTOCOL, Reason::Protocol),
            Closing::GoingAway => (CLOSE_GOING_AWAY, Reason::Stopping),
        };
        let last_words = async {
            let mut sink = self.shared.sink.lock().await;
            if self.sockjs && !sink.closed {
                sink.message(reason.frame().as_bytes());
            }
            self.shared.owe(|owed| owed.close = Some(owed.fault.unwrap_or(code)));
            let _ = self.shared.flush(&mut sink).await;
        };
        let _ = timeout(LINGER, last_words).await;
        if let Ok(mut sink) = self.shared.sink.try_lock() {
            hang_up(&mut sink.half).await;
        }
    }
}

/// What SockJS can carry.
pub(super) fn text_of(frame: &[u8]) -> io::Result<&str> {
    std::str::from_utf8(frame).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidData, "SockJS carries UTF-8 only, and a frame is not")
    })
}
