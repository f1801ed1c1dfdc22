//! The reading side of a connection: bytes in large pieces, all complete frames of a piece as one
//! list of requests to the session.

use std::io;
use std::pin::pin;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::ReadHalf;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::flow::{Flow, Tag, answer_bytes};
use super::stopped;
use super::write::Work;
use crate::base::command::{Answer, Command, Outgoing};
use crate::base::error::{ClientError, Code};
use crate::front::{FrontConfig, Submit};
use crate::wire::binary::{
    Fault, Frame, FrameDecoder, FrameError, Request, RequestType, encode_failure, encode_goodbye,
};

/// First and largest size of the pieces read at once; it follows the traffic.
const PIECE_BYTES: (usize, usize) = (4 * 1024, 256 * 1024);
/// Pieces read before the writing side and other connections get their turn.
const PIECES_PER_TURN: usize = 8;

/// Why a connection ends, seen from the reading side.
pub(super) enum Ending {
    /// The peer closed its sending side.
    Finished,
    /// The peer is gone.
    Gone(io::Error),
    /// Bytes that do not follow the protocol.
    Bad {
        /// Request type of the bad frame, or 0.
        request_type: i32,
        /// Correlation id of the bad frame, or 0.
        correlation: u32,
        /// What is wrong.
        error: ClientError,
    },
    /// The client was silent for too long.
    Idle,
    /// The server stops.
    Stopping,
    /// The session takes nothing more.
    Closed(ClientError),
}

impl Ending {
    pub(super) fn bad_frame(error: FrameError) -> Self {
        let FrameError { request_type, correlation, error } = error;
        Self::Bad { request_type, correlation, error }
    }

    /// The frame that tells the peer; empty when there is nothing to tell.
    pub(super) fn last_words(&self, config: &FrontConfig) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Finished | Self::Gone(_) => {}
            Self::Bad { request_type, correlation, error } => {
                tracing::debug!(%error, "bad bytes");
                encode_failure(&mut out, *request_type, *correlation, error);
            }
            Self::Idle => {
                let ms = config.idle_timeout.as_millis();
                let text = format!("nothing was received for {ms} ms; send heartbeats");
                encode_goodbye(&mut out, &ClientError::new(Code::Malformed, text));
            }
            Self::Stopping => encode_goodbye(&mut out, &Code::ShuttingDown.into()),
            Self::Closed(error) => encode_goodbye(&mut out, error),
        }
        out
    }
}

/// The incoming bytes of a connection.
pub(super) struct Input<'a> {
    half: ReadHalf<'a>,
    buffer: BytesMut,
    piece: usize,
    pub(super) decoder: FrameDecoder,
    /// The peer is on this machine.
    pub(super) neighbour: bool,
}

impl<'a> Input<'a> {
    pub(super) fn new(half: ReadHalf<'a>, length_max: usize) -> Self {
        Self {
            half,
            buffer: BytesMut::new(),
            piece: PIECE_BYTES.0,
            decoder: FrameDecoder::new(length_max),
            neighbour: false,
        }
    }

    /// The next complete frame that is here already.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        self.decoder.next(&mut self.buffer)
    }

    /// How a stream ends that ends here: between two frames, or inside one.
    pub(super) fn end(&self) -> Ending {
        self.decoder.end(&self.buffer).map_or(Ending::Finished, Ending::bad_frame)
    }

    /// Reads a piece and tells its size; 0 is the end. Cancel safe.
    pub(super) async fn fill(&mut self) -> io::Result<usize> {
        if self.buffer.is_empty() {
            // Nothing is kept while nothing comes: an idle connection holds no buffer.
            self.buffer = BytesMut::new();
        }
        self.half.readable().await?;
        // A long frame is given room as it comes, not as its length claims.
        let missing = self.decoder.missing(&self.buffer);
        let room = missing.min(self.buffer.len().max(PIECE_BYTES.1)).max(self.piece);
        self.buffer.reserve(room);
        let count = self.half.read_buf(&mut self.buffer).await?;
        if self.buffer.len() == self.buffer.capacity() {
            self.piece = (self.piece * 2).min(PIECE_BYTES.1);
        } else if count < self.piece / 4 {
            self.piece = (self.piece / 2).max(PIECE_BYTES.0);
        }
        Ok(count)
    }
}

/// Reads requests and hands them to the session until the connection ends. Gives the session back:
/// answers may still be owed.
pub(super) async fn read_requests(
    input: &mut Input<'_>,
    submit: Submit,
    answers: &UnboundedSender<Work>,
    flow: &Flow,
    stopping: &mut watch::Receiver<bool>,
    config: &FrontConfig,
) -> (Ending, Submit) {
    let mut idle = pin!(sleep_until(Instant::now() + config.idle_timeout));
    let mut last_heard = Instant::now();
    let mut usual_count = 1;
    let mut pieces = 0;
    loop {
        let mut requests = Vec::with_capacity(usual_count);
        let taken = take_requests(input, &mut requests, answers, flow);
        usual_count = requests.len().clamp(1, 256);
        if !requests.is_empty()
            && let Err(error) = submit(requests)
        {
            return (Ending::Closed(error), submit);
        }
        let more = match taken {
            Ok(more) => more,
            Err(ending) => return (ending, submit),
        };
        pieces += 1;
        if pieces % PIECES_PER_TURN == 0 {
            tokio::task::yield_now().await;
        }
        // Not whether it is full now: requests that wait in the buffer are followed by no wake-up.
        if more {
            tokio::select! {
                biased;
                () = stopped(stopping) => return (Ending::Stopping, submit),
                () = flow.room() => {}
            }
            // The client could not say anything while nobody listened.
            last_heard = Instant::now();
            continue;
        }
        loop {
            tokio::select! {
                biased;
                read = input.fill() => match read {
                    Ok(0) => return (input.end(), submit),
                    Ok(_) => break,
                    Err(error) => return (Ending::Gone(error), submit),
                },
                () = stopped(stopping) => return (Ending::Stopping, submit),
                () = &mut idle => {
                    if last_heard.elapsed() >= config.idle_timeout {
                        return (Ending::Idle, submit);
                    }
                    idle.as_mut().reset(last_heard + config.idle_timeout);
                }
            }
        }
        last_heard = Instant::now();
        if *stopping.borrow() {
            return (Ending::Stopping, submit);
        }
    }
}

/// Takes the frames that are complete, up to the limits of what may be in flight. Tells whether it
/// stopped there, and there may be more.
fn take_requests(
    input: &mut Input<'_>,
    requests: &mut Vec<(u64, Command)>,
    answers: &UnboundedSender<Work>,
    flow: &Flow,
) -> Result<bool, Ending> {
    while !flow.is_full() {
        let Some(frame) = input.next().map_err(Ending::bad_frame)? else { return Ok(false) };
        let (number, correlation, bytes) =
            (frame.request_type, frame.correlation, frame.wire_len());
        let at = frame.at;
        let bad = |error| Ending::Bad { request_type: number, correlation, error };
        let (request_type, answer) = match Request::decode(frame) {
            // It writes files where it is told to.
            Ok((request_type, Request::Command(Command::Backup { .. }))) if !input.neighbour => {
                let text = "a backup is made for a client on the server's machine only";
                (request_type, Answer::Failed(ClientError::new(Code::BackupFailed, text)))
            }
            Ok((request_type, Request::Command(command))) => {
                let bytes = bytes + answer_bytes(&command);
                flow.begin(bytes);
                requests.push((Tag { correlation, bytes, request_type }.pack(), command));
                continue;
            }
            Ok((request_type, Request::Heartbeat)) => (request_type, Answer::Done),
            Ok((_, Request::Hello(_))) => {
                let text = format!("the hello at byte {at} is the second one");
                return Err(bad(ClientError::new(Code::HelloExpected, text)));
            }
            Err(Fault::Bad(error)) => return Err(bad(error)),
            Err(Fault::Refused(error)) => {
                let Some(request_type) = RequestType::from_number(number) else {
                    return Err(bad(error));
                };
                (request_type, Answer::Failed(error))
            }
        };
        flow.begin(bytes);
        let tag = Tag { correlation, bytes, request_type }.pack();
        // The writing side is gone only when the connection is: reading will notice.
        let _ = answers.send(Work::Outgoing(vec![Outgoing::Answer { tag, answer }]));
    }
    Ok(true)
}
