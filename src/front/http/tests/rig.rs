//! A server with the echo behind it, and a client that speaks HTTP by hand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::front::carrier::{Carrier, Closing, Greeting, Serve};
use crate::front::{FrontConfig, serve_http};

/// So long nothing in these tests takes.
pub(super) const LONG: Duration = Duration::from_secs(20);
/// And a moment that is over soon.
pub(super) const SHORT: Duration = Duration::from_millis(120);

pub(super) struct Server {
    pub(super) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// Nothing happens by itself.
pub(super) fn config() -> FrontConfig {
    let mut config = FrontConfig::new(|| 0);
    config.drain = Duration::from_secs(2);
    config.http.ping_every = LONG;
    config.http.sockjs_heartbeat = LONG;
    config
}

impl Server {
    pub(super) async fn start(config: FrontConfig) -> Self {
        Self::start_with(config, Some(echo())).await
    }

    pub(super) async fn start_with(config: FrontConfig, stomp: Option<Serve>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        let task = tokio::spawn(serve_http(listener, config, stomp, shutdown));
        Self { address, stop: Some(stop), task }
    }

    pub(super) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits until the server has ended.
    pub(super) async fn ended(self) {
        tokio::time::timeout(LONG, self.task).await.unwrap().unwrap();
    }

    pub(super) async fn connect(&self) -> Peer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        Peer { stream, buffer: BytesMut::new() }
    }

    /// One request on a connection of its own.
    pub(super) async fn ask(&self, line: &str, headers: &[&str], body: &str) -> Answer {
        let mut peer = self.connect().await;
        peer.ask(line, headers, body).await;
        peer.answer().await
    }
}

/// What a client sees of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value)
    }
}

pub(super) struct Peer {
    pub(super) stream: TcpStream,
    buffer: BytesMut,
}

impl Peer {
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub(super) async fn ask(&mut self, line: &str, headers: &[&str], body: &str) {
        let mut text = format!("{line} HTTP/1.1\r\nHost: queue.example\r\n");
        for header in headers {
            text.push_str(&format!("{header}\r\n"));
        }
        if !body.is_empty() || line.starts_with("POST") {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str(&format!("\r\n{body}"));
        self.send(text.as_bytes()).await;
    }

    /// Reads more; `false` at the end.
    pub(super) async fn fill(&mut self) -> bool {
        let read = self.stream.read_buf(&mut self.buffer);
        matches!(tokio::time::timeout(LONG, read).await.expect("no answer"), Ok(1..))
    }

    async fn until(&mut self, end: &[u8]) -> String {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|found| found == end) {
                return String::from_utf8(self.buffer.split_to(at + end.len()).to_vec()).unwrap();
            }
            assert!(self.fill().await, "the end, after {:?}", self.buffer);
        }
    }

    /// Status and headers.
    pub(super) async fn head(&mut self) -> Answer {
        let head = self.until(b"\r\n\r\n").await;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: String::new() }
    }

    /// A whole answer.
    pub(super) async fn answer(&mut self) -> Answer {
        let mut answer = self.head().await;
        if answer.header("transfer-encoding").is_some() {
            while let Some(chunk) = self.chunk().await {
                answer.body.push_str(&chunk);
            }
        } else {
            let length = answer.header("content-length").map_or(0, |text| text.parse().unwrap());
            while self.buffer.len() < length {
                assert!(self.fill().await, "the end inside a body");
            }
            answer.body = String::from_utf8(self.buffer.split_to(length).to_vec()).unwrap();
        }
        answer
    }

    /// The next chunk of a body; `None` at its end.
    pub(super) async fn chunk(&mut self) -> Option<String> {
        let length = self.until(b"\r\n").await;
        let length = usize::from_str_radix(length.trim(), 16).unwrap();
        while self.buffer.len() < length + 2 {
            assert!(self.fill().await, "the end inside a chunk");
        }
        let chunk = self.buffer.split_to(length + 2).split_to(length);
        (length > 0).then(|| String::from_utf8(chunk.to_vec()).unwrap())
    }

    /// Everything up to the end of the connection.
    pub(super) async fn rest(&mut self) -> String {
        while self.fill().await {}
        String::from_utf8_lossy(&self.buffer).into_owned()
    }
}

/// Gives back every frame. `token` is answered with the token and who came, `bad` answers
/// bytes that are not UTF-8 and then tells what became of that, `bye` and `oops` close.
pub(super) fn echo() -> Serve {
    Arc::new(|carrier, greeting| Box::pin(serve(carrier, greeting)))
}

async fn serve(carrier: Carrier, mut greeting: Greeting) {
    let Carrier { mut reader, mut writer } = carrier;
    let mut buffer = BytesMut::new();
    let how = loop {
        let piece = tokio::select! {
            piece = reader.read() => piece,
            _ = greeting.stopping.wait_for(|stop| *stop) => break Closing::GoingAway,
        };
        match piece {
            Ok(Some(piece)) => buffer.extend_from_slice(&piece),
            Ok(None) => break Closing::Normal,
            Err(_) => break Closing::Protocol,
        }
        let mut frames: Vec<Bytes> = Vec::new();
        let mut how = None;
        while let Some(end) = buffer.iter().position(|byte| *byte == 0) {
            let frame = buffer.split_to(end + 1).freeze();
            match &frame[..end] {
                b"token" => {
                    let token = greeting.token.as_deref().unwrap_or("-");
                    let basic = if greeting.basic { "basic " } else { "" };
                    frames.push(format!("{basic}{token} {}\0", greeting.peer.ip()).into());
                }
                b"bad" => {
                    let bad = Bytes::from_static(b"\xff\0");
                    let carried = writer.carries(&bad);
                    let written = writer.write(&[Bytes::from_static(b"a\0"), bad], LONG).await;
                    let told = written.map_err(|error| error.kind());
                    frames.push(format!("{carried} {told:?}\0").into());
                }
                b"bye" => how = Some(Closing::Normal),
                b"oops" => how = Some(Closing::Protocol),
                _ => frames.push(frame),
            }
        }
        if writer.write(&frames, LONG).await.is_err() {
            break Closing::Normal;
        }
        if let Some(how) = how {
            break how;
        }
    };
    writer.close(how).await;
}

impl Peer {
    /// What was read and not looked at.
    pub(super) fn taken(&mut self) -> BytesMut {
        self.buffer.split()
    }
}
