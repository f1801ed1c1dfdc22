//! A STOMP connection of the load generator, over TCP or WebSocket.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::base::limits;
use crate::cli::failure::Failure;
use crate::wire::stomp::{Command, Decoder, Frame, Limits, Version, encode};

/// Room made for reading at once, bytes.
const READ_BYTES: usize = 16 * 1024;

const LIMITS: Limits = Limits {
    headers: limits::STOMP_HEADERS_MAX,
    header_line_bytes: limits::STOMP_HEADER_LINE_BYTES_MAX,
    header_bytes: limits::STOMP_HEADER_BYTES_MAX,
    body_bytes: limits::BODY_BYTES_MAX,
};

/// Where a server is, as `tcp://HOST:PORT` or `ws://HOST:PORT/PATH`.
#[derive(Debug, Clone)]
pub(super) struct Url {
    address: String,
    /// Of a WebSocket.
    path: Option<String>,
}

/// Reads an address.
pub(super) fn url(text: &str) -> Result<Url, String> {
    let wrong = || format!("`{text}` is not tcp://HOST:PORT or ws://HOST:PORT/PATH");
    if let Some(address) = text.strip_prefix("tcp://") {
        return Ok(Url { address: address.to_owned(), path: None });
    }
    let rest = text.strip_prefix("ws://").ok_or_else(wrong)?;
    let (address, path) = rest.split_once('/').ok_or_else(wrong)?;
    Ok(Url { address: address.to_owned(), path: Some(format!("/{path}")) })
}

/// One connection that is connected in 1.2.
#[derive(Debug)]
pub(super) struct Link {
    stream: TcpStream,
    web: bool,
    input: BytesMut,
    /// Bytes of the message of a WebSocket that are still to come.
    left: usize,
    decoder: Decoder,
    out: BytesMut,
}

impl Link {
    pub(super) async fn connect(url: &Url) -> Result<Self, Failure> {
        let cannot = |error: io::Error| {
            let address = &url.address;
            Failure::Connect(format!("cannot connect to {address}: {error}; is the server there?"))
        };
        let stream = TcpStream::connect(&url.address).await.map_err(cannot)?;
        stream.set_nodelay(true).map_err(cannot)?;
        let mut decoder = Decoder::new(LIMITS);
        decoder.agree(Version::V12, LIMITS);
        let (input, out) = (BytesMut::new(), BytesMut::new());
        let mut link = Self { stream, web: false, input, left: 0, decoder, out };
        if let Some(path) = &url.path {
            link.upgrade(&url.address, path).await?;
        }
        let hello = Frame::new(Command::Connect)
            .with("accept-version", "1.2")
            .with("login", "bench")
            .with("heart-beat", "0,0");
        link.push(&hello);
        match link.frame().await? {
            frame if frame.command == Command::Connected => Ok(link),
            other => Err(refused(&other)),
        }
    }

    async fn upgrade(&mut self, host: &str, path: &str) -> Result<(), Failure> {
        // The key proves that the other side speaks WebSocket, not who we are: any will do.
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: v12.stomp\r\n\r\n"
        );
        self.out.extend_from_slice(request.as_bytes());
        let end = loop {
            let end = self.input.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            match end {
                Some(end) => break end,
                None => self.turn().await?,
            }
        };
        if !self.input.starts_with(b"HTTP/1.1 101") {
            let text = String::from_utf8_lossy(&self.input).lines().next().map(ToOwned::to_owned);
            let text = text.unwrap_or_default();
            return Err(Failure::Connect(format!("the server does not upgrade: {text}")));
        }
        self.input.advance(end + 4);
        self.web = true;
        Ok(())
    }

    /// Has a frame written with the next turn.
    pub(super) fn push(&mut self, frame: &Frame) {
        let mut bytes = Vec::new();
        encode(frame, Version::V12, &mut bytes);
        if self.web {
            self.web_frame(0x81, &bytes);
        } else {
            self.out.extend_from_slice(&bytes);
        }
    }

    /// A frame of WebSocket. Clients have to mask; the mask of zeros changes nothing.
    fn web_frame(&mut self, first: u8, payload: &[u8]) {
        let len = payload.len();
        self.out.extend_from_slice(&[first]);
        match (u8::try_from(len), u16::try_from(len)) {
            (Ok(short), _) if short < 126 => self.out.extend_from_slice(&[0x80 | short]),
            (_, Ok(medium)) => {
                self.out.extend_from_slice(&[0x80 | 126]);
                self.out.extend_from_slice(&medium.to_be_bytes());
            }
            _ => {
                self.out.extend_from_slice(&[0x80 | 127]);
                self.out.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        self.out.extend_from_slice(&[0; 4]);
        self.out.extend_from_slice(payload);
    }

    /// Waits for the next frame.
    pub(super) async fn frame(&mut self) -> Result<Frame, Failure> {
        loop {
            if let Some(frame) = self.next()? {
                return Ok(frame);
            }
            self.turn().await?;
        }
    }

    /// The next frame that is here already.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, Failure> {
        self.unwrap_web()?;
        let frame = self.decoder.next().map_err(|error| {
            Failure::Failed(format!("the server does not follow the protocol: {error}"))
        })?;
        match frame {
            Some(frame) if frame.command == Command::Error => Err(refused(&frame)),
            frame => Ok(frame),
        }
    }

    /// Takes what was read out of its frames of WebSocket.
    fn unwrap_web(&mut self) -> Result<(), Failure> {
        loop {
            if !self.web {
                self.left = self.input.len();
            }
            let here = self.left.min(self.input.len());
            if here > 0 {
                let bytes = self.input.split_to(here);
                self.decoder.push(&bytes);
                self.left -= here;
            }
            if !self.web || self.left > 0 {
                return Ok(());
            }
            let Some((opcode, header, len)) = web_header(&self.input) else { return Ok(()) };
            match opcode {
                0..=2 => {
                    self.input.advance(header);
                    self.left = len;
                }
                8 => return Err(Failure::Connect("the server closed the connection".into())),
                _ => {
                    if self.input.len() < header + len {
                        return Ok(());
                    }
                    self.input.advance(header);
                    let payload = self.input.split_to(len);
                    if opcode == 9 {
                        self.web_frame(0x8a, &payload);
                    }
                }
            }
        }
    }

    /// Writes what there is and waits until something was read. May be dropped at any time.
    pub(super) async fn turn(&mut self) -> Result<(), Failure> {
        if self.input.is_empty() {
            // Ten thousand idle connections should not cost a buffer each.
            self.input = BytesMut::new();
        }
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
        while !self.out.is_empty() {
            match self.stream.try_write(&self.out) {
                Ok(count) => self.out.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(Failure::Connect(format!("connection lost: {error}"))),
            }
        }
        self.out = BytesMut::new();
        Ok(false)
    }

    /// Subscribes and waits for the receipt.
    pub(super) async fn subscribe(&mut self, frame: Frame) -> Result<(), Failure> {
        self.push(&frame.with("receipt", "subscribed"));
        match self.frame().await? {
            frame if frame.command == Command::Receipt => Ok(()),
            other => Err(refused(&other)),
        }
    }
}

/// Opcode, length of the header and of the payload of a frame of a server.
fn web_header(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (&[first, second], rest) = bytes.split_first_chunk::<2>()?;
    let (header, len) = match second & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(*rest.first_chunk()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?),
        short => (2, usize::from(short)),
    };
    Some((first & 0x0f, header, len))
}

fn refused(frame: &Frame) -> Failure {
    let text = String::from_utf8_lossy(&frame.body);
    Failure::Failed(format!("the server says {}: {text}", frame.command.word()))
}
