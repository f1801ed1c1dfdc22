//! A STOMP client that says exactly what it is told to.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use postdate::wire::stomp::{Command, Decoder, Frame, Limits, Version};

const LIMITS: Limits =
    Limits { headers: 100, header_line_bytes: 1 << 20, header_bytes: 1 << 20, body_bytes: 2 << 20 };

/// Longer than anything takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Client {
    stream: TcpStream,
    decoder: Decoder,
    receipts: u32,
}

impl Client {
    /// A connection on which nothing was said.
    pub(crate) fn raw(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut decoder = Decoder::new(LIMITS);
        decoder.agree(Version::V12, LIMITS);
        Self { stream, decoder, receipts: 0 }
    }

    /// Connected in 1.2 under a name.
    pub(crate) fn open(address: &str, login: &str) -> Self {
        let mut client = Self::raw(address);
        client.say(&format!("CONNECT\naccept-version:1.2\nlogin:{login}\nclient-id:test\n\n\0"));
        assert_eq!(client.frame().command, Command::Connected);
        client
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// The next frame.
    pub(crate) fn frame(&mut self) -> Frame {
        self.next().expect("a frame, not the end")
    }

    /// The next frame; `None` when the server has closed.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let mut piece = [0; 16 * 1024];
        loop {
            if let Some(frame) = self.decoder.next().unwrap() {
                return Some(frame);
            }
            match self.stream.read(&mut piece) {
                Ok(0) => return None,
                Ok(count) => self.decoder.push(&piece[..count]),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Whether no frame comes for so long.
    pub(crate) fn is_quiet(&mut self, ms: u64) -> bool {
        let mut piece = [0; 1024];
        self.stream.set_read_timeout(Some(Duration::from_millis(ms))).unwrap();
        let quiet = match self.stream.read(&mut piece) {
            Ok(count) => {
                self.decoder.push(&piece[..count]);
                count > 0 && piece[..count].iter().all(|byte| *byte == b'\n')
            }
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        };
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        quiet && self.decoder.next().unwrap().is_none()
    }

    /// Says a frame, without its NUL, and waits for its receipt.
    pub(crate) fn ask(&mut self, head: &str, body: &str) -> Frame {
        self.receipts += 1;
        let receipt = format!("r{}", self.receipts);
        self.say(&format!("{head}\nreceipt:{receipt}\n\n{body}\0"));
        let frame = self.frame();
        assert_eq!(frame.get("receipt-id"), Some(&*receipt), "{frame:?}");
        frame
    }

    pub(crate) fn subscribe(&mut self, id: &str, destination: &str, more: &str) {
        let receipt = self.ask(&format!("SUBSCRIBE\nid:{id}\ndestination:{destination}{more}"), "");
        assert_eq!(receipt.command, Command::Receipt);
    }

    pub(crate) fn send(&mut self, destination: &str, more: &str, body: &str) -> Frame {
        let receipt = self.ask(&format!("SEND\ndestination:{destination}{more}"), body);
        assert_eq!(receipt.command, Command::Receipt, "{receipt:?}");
        receipt
    }

    /// The next message's body.
    pub(crate) fn message(&mut self) -> Frame {
        let frame = self.frame();
        assert_eq!(frame.command, Command::Message, "{frame:?}");
        frame
    }

    pub(crate) fn ack(&mut self, message: &Frame) {
        self.ask(&format!("ACK\nid:{}", message.get("ack").unwrap()), "");
    }
}

pub(crate) fn text(frame: &Frame) -> &str {
    std::str::from_utf8(&frame.body).unwrap()
}
