//! A raw connection: frames out, frames in, nothing kept.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::base::command::{Answer, Command};
use crate::base::limits;
use crate::cli::failure::Failure;
use crate::wire::binary::{
    FrameDecoder, Hello, PROTOCOL_VERSION, Reply, ServerFrame, encode_command, encode_hello,
};

/// Room made for reading at once, bytes.
const READ_BYTES: usize = 256 * 1024;
/// How long hello, or a single question, may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// Correlation id of single questions; load uses small ones.
const QUESTION: u32 = u32::MAX;

/// One connection that has said hello.
#[derive(Debug)]
pub(super) struct Link {
    stream: TcpStream,
    decoder: FrameDecoder,
    input: BytesMut,
    /// Frames to be written; [`Link::turn`] writes them.
    pub(super) out: Vec<u8>,
    written: usize,
}

impl Link {
    pub(super) async fn connect(server: &str) -> Result<Self, Failure> {
        let cannot = |error: io::Error| {
            Failure::Connect(format!(
                "cannot connect to {server}: {error}; start a server with `postdate serve`"
            ))
        };
        let stream = TcpStream::connect(server).await.map_err(cannot)?;
        stream.set_nodelay(true).map_err(cannot)?;
        let mut link = Self {
            stream,
            decoder: FrameDecoder::new(limits::FRAME_BYTES_MAX),
            input: BytesMut::new(),
            out: Vec::new(),
            written: 0,
        };
        let hello = Hello {
            version_min: PROTOCOL_VERSION,
            version_max: PROTOCOL_VERSION,
            name: "postdate bench".into(),
            token: String::new(),
            client_id: String::new(),
        };
        encode_hello(&mut link.out, QUESTION, &hello);
        match link.answer().await? {
            Reply::Hello(_) => Ok(link),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks one question while nothing else is unanswered.
    pub(super) async fn ask(&mut self, command: &Command) -> Result<Answer, Failure> {
        encode_command(&mut self.out, QUESTION, command);
        match self.answer().await? {
            Reply::Answer(answer) => Ok(answer),
            other => Err(unexpected(&other)),
        }
    }

    /// The counters of the server.
    pub(super) async fn stats(&mut self) -> Result<Vec<(String, u64)>, Failure> {
        encode_command(&mut self.out, QUESTION, &Command::Stats);
        match self.answer().await? {
            Reply::Stats(counters) => Ok(counters),
            other => Err(unexpected(&other)),
        }
    }

    async fn answer(&mut self) -> Result<Reply, Failure> {
        let wait = async {
            loop {
                match self.next()? {
                    Some(ServerFrame::Answer { correlation: QUESTION, reply }) => match reply {
                        Reply::Answer(Answer::Failed(error)) => return Err(error.into()),
                        reply => return Ok(reply),
                    },
                    Some(_) => {}
                    None => self.turn().await?,
                }
            }
        };
        timeout(ANSWER_TIMEOUT, wait)
            .await
            .map_err(|_| Failure::Failed("the server does not answer".into()))?
    }

    /// Writes what there is and waits until something was read. Both go on at the same time, so a
    /// server that waits for us to read is never waited for. May be dropped at any time.
    pub(super) async fn turn(&mut self) -> Result<(), Failure> {
        loop {
            let interest = if self.write_some()? {
                Interest::READABLE | Interest::WRITABLE
            } else {
                Interest::READABLE
            };
            let ready = self.stream.ready(interest).await?;
            if !ready.is_readable() {
                continue;
            }
            self.input.reserve(READ_BYTES);
            match self.stream.try_read_buf(&mut self.input) {
                Ok(0) => return Err(Failure::Connect("the server closed the connection".into())),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(Failure::Connect(format!("connection lost: {error}"))),
            }
        }
    }

    /// Writes as much as the socket takes; whether something is left.
    pub(super) fn write_some(&mut self) -> Result<bool, Failure> {
        while self.written < self.out.len() {
            match self.stream.try_write(&self.out[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(Failure::Connect(format!("connection lost: {error}"))),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(false)
    }

    /// The next frame that was read already.
    pub(super) fn next(&mut self) -> Result<Option<ServerFrame>, Failure> {
        let Some(frame) = self.decoder.next(&mut self.input).map_err(|e| broken(&e))? else {
            return Ok(None);
        };
        match ServerFrame::decode(frame).map_err(|e| broken(&e))? {
            ServerFrame::Failed(error) | ServerFrame::Goodbye(error) => Err(error.into()),
            ServerFrame::Ended { reason, .. } => Err(reason.into()),
            frame => Ok(Some(frame)),
        }
    }
}

fn broken(error: &dyn std::error::Error) -> Failure {
    Failure::Failed(format!("the server does not follow the protocol: {error}"))
}

fn unexpected(reply: &Reply) -> Failure {
    Failure::Failed(format!("the server gave another kind of answer: {reply:?}"))
}
