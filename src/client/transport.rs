//! The two ways to a shard: a TCP connection, or a session in the same process.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Submit;
use super::error::Error;
use super::options::ClientOptions;
use crate::base::command::{Answer, Command, Outgoing};
use crate::base::error::{ClientError, Code};
use crate::base::limits;
use crate::shard::Outbox;
use crate::wire::binary::{
    FrameDecoder, Hello, PROTOCOL_VERSION, Reply, ServerFrame, encode_command, encode_heartbeat,
    encode_hello,
};

/// Room made for each read.
const READ_BYTES: usize = 64 * 1024;
/// Size to which a buffer that was written out is cut back.
const KEPT_BYTES: usize = 512 * 1024;

/// A connection to a shard.
pub(super) enum Transport {
    Tcp(Box<Tcp>),
    Embedded(Embedded),
}

impl Transport {
    /// Whether the next requests may be queued: what was queued is on its way.
    pub(super) fn is_clear(&self) -> bool {
        match self {
            Self::Tcp(tcp) => tcp.out.is_empty(),
            Self::Embedded(_) => true,
        }
    }

    /// Adds a request to what goes out next.
    pub(super) fn queue(&mut self, correlation: u32, command: Command) {
        match self {
            Self::Tcp(tcp) => encode_command(&mut tcp.out, correlation, &command),
            Self::Embedded(embedded) => embedded.out.push((u64::from(correlation), command)),
        }
    }

    /// Adds a sign of life; the same process needs none.
    pub(super) fn queue_heartbeat(&mut self, correlation: u32) -> bool {
        match self {
            Self::Tcp(tcp) => {
                encode_heartbeat(&mut tcp.out, correlation);
                true
            }
            Self::Embedded(_) => false,
        }
    }

    /// Sends what is queued and receives, until something was received or everything is sent.
    /// Received frames are appended to `incoming`. Cancel safe.
    ///
    /// # Errors
    /// Why the connection is lost.
    pub(super) async fn drive(
        &mut self,
        incoming: &mut VecDeque<ServerFrame>,
    ) -> Result<(), Error> {
        match self {
            Self::Tcp(tcp) => tcp.drive(incoming).await,
            Self::Embedded(embedded) => embedded.drive(incoming).await,
        }
    }
}

/// A TCP connection that has said hello.
pub(super) struct Tcp {
    stream: TcpStream,
    decoder: FrameDecoder,
    input: BytesMut,
    out: Vec<u8>,
    written: usize,
}

impl Tcp {
    /// Connects and says hello.
    pub(super) async fn connect(options: &ClientOptions) -> Result<Self, Error> {
        match timeout(options.connect_timeout, Self::connect_now(options)).await {
            Ok(connected) => connected,
            Err(_) => Err(connect_error(options, io::ErrorKind::TimedOut.into())),
        }
    }

    async fn connect_now(options: &ClientOptions) -> Result<Self, Error> {
        let failed = |error| connect_error(options, error);
        let stream = TcpStream::connect(&options.server).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let mut tcp = Self {
            stream,
            decoder: FrameDecoder::new(limits::FRAME_BYTES_MAX),
            input: BytesMut::new(),
            out: Vec::new(),
            written: 0,
        };
        let hello = Hello {
            version_min: PROTOCOL_VERSION,
            version_max: PROTOCOL_VERSION,
            name: options.name.clone(),
            token: options.token.clone(),
            client_id: options.client_id.clone(),
        };
        encode_hello(&mut tcp.out, 1, &hello);
        let mut incoming = VecDeque::new();
        loop {
            match incoming.pop_front() {
                Some(ServerFrame::Answer { reply: Reply::Hello(answer), .. }) => {
                    if answer.version == PROTOCOL_VERSION {
                        return Ok(tcp);
                    }
                    let text =
                        format!("it chose version {}, which was not offered", answer.version);
                    return Err(Error::Protocol(text));
                }
                Some(
                    ServerFrame::Answer { reply: Reply::Answer(Answer::Failed(error)), .. }
                    | ServerFrame::Failed(error)
                    | ServerFrame::Goodbye(error),
                ) => return Err(Error::Refused(error)),
                Some(ServerFrame::Unknown) => {}
                Some(_) => return Err(Error::Protocol("it does not answer hello".to_owned())),
                None => tcp.drive(&mut incoming).await.map_err(|lost| match lost {
                    Error::Disconnected => failed(io::ErrorKind::UnexpectedEof.into()),
                    other => other,
                })?,
            }
        }
    }

    async fn drive(&mut self, incoming: &mut VecDeque<ServerFrame>) -> Result<(), Error> {
        let (mut read, mut write) = self.stream.split();
        loop {
            self.input.reserve(READ_BYTES);
            let unsent = self.out.get(self.written..).unwrap_or_default();
            tokio::select! {
                biased;
                sent = write.write(unsent), if !unsent.is_empty() => {
                    self.written += sent.map_err(|error| lost(&error))?;
                    if self.written >= self.out.len() {
                        self.out.clear();
                        self.out.shrink_to(KEPT_BYTES);
                        self.written = 0;
                        return Ok(());
                    }
                }
                received = read.read_buf(&mut self.input) => {
                    if received.map_err(|error| lost(&error))? == 0 {
                        return Err(Error::Disconnected);
                    }
                    let before = incoming.len();
                    while let Some(frame) =
                        self.decoder.next(&mut self.input).map_err(|error| bad(&error))?
                    {
                        incoming.push_back(ServerFrame::decode(frame).map_err(|error| bad(&error))?);
                    }
                    if incoming.len() > before {
                        return Ok(());
                    }
                }
            }
        }
    }
}

fn connect_error(options: &ClientOptions, source: io::Error) -> Error {
    Error::Connect { server: options.server.clone(), source: Arc::new(source) }
}

fn lost(error: &io::Error) -> Error {
    tracing::debug!(%error, "connection lost");
    Error::Disconnected
}

fn bad(error: &impl std::fmt::Display) -> Error {
    Error::Protocol(error.to_string())
}

/// What a session of the same process sends.
enum FromShard {
    Batch(Vec<Outgoing>),
    Closed(ClientError),
}

/// The receiving end is bounded as that of a connection: by unanswered requests and by credit.
struct Inbox(mpsc::UnboundedSender<FromShard>);

impl Outbox for Inbox {
    fn push(&self, batch: Vec<Outgoing>) {
        // Nobody there: the client is gone, its session is about to be dropped.
        let _ = self.0.send(FromShard::Batch(batch));
    }

    fn closed(&self, reason: ClientError) {
        let _ = self.0.send(FromShard::Closed(reason));
    }
}

/// A session in the same process: no socket, no codec.
pub(super) struct Embedded {
    submit: Submit,
    out: Vec<(u64, Command)>,
    inbox: mpsc::UnboundedReceiver<FromShard>,
}

impl Embedded {
    pub(super) fn open(
        open: impl FnOnce(Box<dyn Outbox>) -> Result<Submit, ClientError>,
    ) -> Result<Self, Error> {
        let (sender, inbox) = mpsc::unbounded_channel();
        let submit = open(Box::new(Inbox(sender)))?;
        Ok(Self { submit, out: Vec::new(), inbox })
    }

    async fn drive(&mut self, incoming: &mut VecDeque<ServerFrame>) -> Result<(), Error> {
        if !self.out.is_empty() {
            (self.submit)(std::mem::take(&mut self.out))?;
        }
        match self.inbox.recv().await {
            Some(FromShard::Batch(batch)) => {
                for outgoing in batch {
                    receive(outgoing, incoming);
                }
                Ok(())
            }
            Some(FromShard::Closed(reason)) => Err(Error::Refused(reason)),
            None => Err(Error::Refused(Code::ShuttingDown.into())),
        }
    }
}

fn receive(outgoing: Outgoing, incoming: &mut VecDeque<ServerFrame>) {
    match outgoing {
        Outgoing::Answer { tag, answer } => {
            let reply = match answer {
                Answer::Stats(counters) => Reply::Stats(
                    counters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
                ),
                other => Reply::Answer(other),
            };
            incoming.push_back(ServerFrame::Answer { correlation: tag as u32, reply });
        }
        Outgoing::Deliver(delivery) => match incoming.back_mut() {
            Some(ServerFrame::Deliver(deliveries)) => deliveries.push(delivery),
            _ => incoming.push_back(ServerFrame::Deliver(vec![delivery])),
        },
        Outgoing::Ended { subscription, reason } => {
            incoming.push_back(ServerFrame::Ended { subscription, reason });
        }
    }
}
