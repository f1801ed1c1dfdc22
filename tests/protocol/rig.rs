//! A server in this process on a real disk and a loopback socket, and a client for it that was
//! written from `docs/protocol.md` alone: it shares no code with the server.
#![allow(dead_code, reason = "each test uses its part")]

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use postdate::base::config::ShardConfig;
use postdate::env::{Clock, OsClock, OsDisk};
use postdate::front::{self, FrontConfig};
use postdate::shard::{self, Broker, Shard, ShardOptions};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::words::{Delivery, In, Info, Message, Out, Outcome, Status, Verdict};

/// Longest any one thing may take before the test fails: far more than it needs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A message id as it travels.
pub(crate) type Id = [u8; 16];

/// What a client is told when something is refused: code and text.
pub(crate) type Refusal = (u16, String);

/// Waits for something that must happen.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// The server's wall clock, ms.
pub(crate) fn wall_ms() -> u64 {
    OsClock.wall_ns() / 1_000_000
}

/// A listening server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shard: Shard,
    stop: oneshot::Sender<()>,
    front: JoinHandle<()>,
    dir: TempDir,
}

/// A data directory between two lives of a server.
pub(crate) struct Stopped(TempDir);

fn front_config() -> FrontConfig {
    FrontConfig::new(wall_ms)
}

fn shard_config() -> ShardConfig {
    ShardConfig { segment_bytes: 40 * 1024 * 1024, ..ShardConfig::default() }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_, _| {}).await
    }

    /// Starts with other settings.
    pub(crate) async fn start_with(
        change: impl FnOnce(&mut FrontConfig, &mut ShardConfig),
    ) -> Self {
        let (mut front, mut shard) = (front_config(), shard_config());
        change(&mut front, &mut shard);
        Self::open(tempfile::tempdir().unwrap(), front, shard).await
    }

    async fn open(dir: TempDir, front: FrontConfig, config: ShardConfig) -> Self {
        let options = ShardOptions { data_dir: dir.path().to_path_buf(), config };
        let disk = Arc::new(OsDisk::default());
        let shard = shard::open(disk, Arc::new(OsClock), options, &mut |_, _| {}).unwrap();
        let listener = front::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            // A test that panicked stops its server as well.
            let _ = stopped.await;
        };
        let front = tokio::spawn(front::serve(listener, shard.broker(), front, shutdown));
        Self { address, shard, stop, front, dir }
    }

    pub(crate) fn broker(&self) -> Broker {
        self.shard.broker()
    }

    /// A connection that has said nothing.
    pub(crate) async fn connect(&self) -> Peer {
        Peer::connect(self.address).await
    }

    /// A connection that has said hello.
    pub(crate) async fn greet(&self) -> Peer {
        Peer::greet(self.address).await
    }

    /// Tells the front to stop; it goes on answering what it took.
    pub(crate) fn begin_stop(self) -> Stopping {
        let Self { shard, stop, front, dir, .. } = self;
        stop.send(()).unwrap();
        Stopping { shard, front, dir }
    }

    /// Stops in good order.
    pub(crate) async fn stop(self) -> Stopped {
        self.begin_stop().finish().await
    }
}

/// A server that was told to stop.
pub(crate) struct Stopping {
    shard: Shard,
    front: JoinHandle<()>,
    dir: TempDir,
}

impl Stopping {
    pub(crate) async fn finish(self) -> Stopped {
        soon("the front to end", self.front).await.unwrap();
        self.shard.shutdown().unwrap();
        Stopped(self.dir)
    }
}

impl Stopped {
    pub(crate) async fn reopen(self) -> Server {
        Server::open(self.0, front_config(), shard_config()).await
    }
}

/// One frame, taken apart as section 2 of the document says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: i32,
    pub(crate) correlation: u32,
    pub(crate) body: Vec<u8>,
}

impl Frame {
    /// The error of a failed answer.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        let mut body = In(&self.body);
        (body.u8() == 1).then(|| {
            let error = body.error();
            body.end();
            error
        })
    }
}

/// The bytes of a frame.
pub(crate) fn frame(kind: i32, correlation: u32, body: &[u8]) -> Vec<u8> {
    let mut counted = Vec::with_capacity(body.len() + 8);
    counted.extend_from_slice(&kind.to_be_bytes());
    counted.extend_from_slice(&correlation.to_be_bytes());
    counted.extend_from_slice(body);
    let mut out = Vec::with_capacity(counted.len() + 8);
    out.extend_from_slice(&(counted.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(&crc32fast::hash(&counted).to_be_bytes());
    out.extend_from_slice(&counted);
    out
}

/// The body of a hello.
pub(crate) fn hello_body(version_min: u16, version_max: u16) -> Vec<u8> {
    Out::new().u16(version_min).u16(version_max).text("attacker").text("").text("").u8(0).0
}

/// The first bytes of a usual connection.
pub(crate) fn hello() -> Vec<u8> {
    frame(40, 1, &hello_body(1, 1))
}

/// A client.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    input: BytesMut,
    /// Pushes that came while an answer was waited for.
    pushes: Vec<Frame>,
    deliveries: std::collections::VecDeque<Delivery>,
    correlation: u32,
    /// Bytes sent so far.
    pub(crate) sent: u64,
}

impl Peer {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            input: BytesMut::new(),
            pushes: Vec::new(),
            deliveries: std::collections::VecDeque::new(),
            correlation: 1,
            sent: 0,
        }
    }

    pub(crate) async fn greet(address: SocketAddr) -> Self {
        let mut peer = Self::connect(address).await;
        peer.send(&hello()).await;
        let answer = peer.next().await.expect("an answer to hello");
        assert_eq!((answer.kind, answer.correlation, answer.body[0]), (40, 1, 0));
        peer
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        soon("the server to take bytes", self.stream.write_all(bytes)).await.unwrap();
        self.sent += bytes.len() as u64;
    }

    /// No more will be sent.
    pub(crate) async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = take_frame(&mut self.input) {
                return Some(frame);
            }
            let read = soon("a frame", self.stream.read_buf(&mut self.input)).await.unwrap();
            if read == 0 {
                assert!(self.input.is_empty(), "the server's stream ends inside a frame");
                return None;
            }
        }
    }

    /// Sends, and meanwhile reads so many frames: as the document demands, since what is not read
    /// holds the rest back.
    pub(crate) async fn exchange(&mut self, bytes: &[u8], count: usize) -> Vec<Frame> {
        let (mut read, mut write) = self.stream.split();
        let input = &mut self.input;
        let mut frames = Vec::with_capacity(count);
        let receive = async {
            while frames.len() < count {
                match take_frame(input) {
                    Some(frame) => frames.push(frame),
                    None => assert_ne!(read.read_buf(input).await.unwrap(), 0),
                }
            }
        };
        let both = async { tokio::join!(write.write_all(bytes), receive) };
        soon("all answers", both).await.0.unwrap();
        self.sent += bytes.len() as u64;
        frames
    }

    /// Reads to the end of the stream.
    pub(crate) async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }

    /// Expects exactly one more frame, an error, and then the end.
    pub(crate) async fn only_error(&mut self) -> (i32, u32, Refusal) {
        let frames = self.rest().await;
        let [frame] = &frames[..] else { panic!("not one frame: {frames:?}") };
        let refusal = frame.refusal().expect("an error");
        assert!(refusal.1.len() <= 512 && !refusal.1.is_empty());
        (frame.kind, frame.correlation, refusal)
    }

    /// Sends a request and gives its answer's body behind the status, or why it was refused.
    pub(crate) async fn ask(&mut self, kind: i32, body: &[u8]) -> Result<Vec<u8>, Refusal> {
        self.correlation += 1;
        let correlation = self.correlation;
        self.send(&frame(kind, correlation, body)).await;
        loop {
            let got = self.next().await.expect("an answer before the end");
            if got.kind >= 100 {
                self.pushes.push(got);
                continue;
            }
            assert_eq!((got.kind, got.correlation), (kind, correlation));
            if let Some(refusal) = got.refusal() {
                return Err(refusal);
            }
            return Ok(got.body[1..].to_vec());
        }
    }

    /// The code with which a request is refused.
    pub(crate) async fn code(&mut self, kind: i32, body: &[u8]) -> u16 {
        let (code, text) = self.ask(kind, body).await.expect_err("it is refused");
        assert!(!text.is_empty());
        code
    }

    /// A sign of life.
    pub(crate) async fn heartbeat(&mut self) {
        assert_eq!(self.ask(12, &[]).await, Ok(Vec::new()));
    }

    pub(crate) async fn produce(&mut self, to: &str, messages: &[Message]) -> Vec<Outcome> {
        let body = Message::produce(to.as_bytes(), messages);
        Outcome::read_all(&self.ask(26, &body).await.unwrap())
    }

    pub(crate) async fn produce_one(&mut self, to: &str, message: Message) -> Result<Id, Refusal> {
        match self.produce(to, &[message]).await.remove(0) {
            Outcome::Accepted(id) => Ok(id),
            Outcome::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn subscribe(&mut self, number: u32, to: &str, credit: u32) -> u64 {
        self.subscribe_for(number, to, credit, 0).await
    }

    /// The same with an ack timeout in ms.
    pub(crate) async fn subscribe_for(
        &mut self,
        number: u32,
        to: &str,
        credit: u32,
        ack_timeout_ms: u64,
    ) -> u64 {
        let wish = subscribe_body(number, to.as_bytes(), credit, ack_timeout_ms);
        let answer = self.ask(10, &wish).await.unwrap();
        let mut answer = In(&answer);
        let next = answer.u64();
        answer.end();
        next
    }

    /// The next delivered message.
    pub(crate) async fn delivery(&mut self) -> Delivery {
        loop {
            if let Some(delivery) = self.deliveries.pop_front() {
                return delivery;
            }
            let push = if self.pushes.is_empty() {
                self.next().await.expect("a delivery before the end")
            } else {
                self.pushes.remove(0)
            };
            assert_eq!((push.kind, push.correlation), (100, 0), "not a delivery: {push:?}");
            self.deliveries.extend(Delivery::read_all(&push.body));
        }
    }

    /// The next push that is not a delivery.
    pub(crate) async fn other_push(&mut self) -> Frame {
        loop {
            if let Some(at) = self.pushes.iter().position(|push| push.kind != 100) {
                return self.pushes.remove(at);
            }
            let push = self.next().await.expect("a push before the end");
            self.pushes.push(push);
        }
    }

    /// The next push of whatever kind.
    pub(crate) async fn any_push(&mut self) -> Frame {
        match self.pushes.is_empty() {
            true => self.next().await.expect("a push before the end"),
            false => self.pushes.remove(0),
        }
    }

    /// Deliveries that came already.
    pub(crate) fn waiting_deliveries(&mut self) -> usize {
        for push in self.pushes.extract_if(.., |push| push.kind == 100) {
            self.deliveries.extend(Delivery::read_all(&push.body));
        }
        self.deliveries.len()
    }

    pub(crate) async fn acknowledge(&mut self, subscription: u32, ids: &[Id]) -> Vec<Verdict> {
        let body = Out::new().u32(subscription).u8(0).ids(ids).0;
        Verdict::read_all(&self.ask(13, &body).await.unwrap())
    }

    pub(crate) async fn reject(
        &mut self,
        subscription: u32,
        requeue: bool,
        ids: &[Id],
    ) -> Vec<Verdict> {
        let body = Out::new().u32(subscription).u8(u8::from(requeue)).ids(ids).0;
        Verdict::read_all(&self.ask(14, &body).await.unwrap())
    }

    pub(crate) async fn cancel(&mut self, ids: &[Id]) -> Vec<Verdict> {
        Verdict::read_all(&self.ask(28, &Out::new().ids(ids).0).await.unwrap())
    }

    pub(crate) async fn reschedule(
        &mut self,
        id: Id,
        kind: u8,
        delay: i64,
    ) -> Result<Verdict, Refusal> {
        let body = Out::new().u32(1).bytes(&id).u8(kind).i64(delay).0;
        Ok(Verdict::read_all(&self.ask(29, &body).await?).remove(0))
    }

    pub(crate) async fn query(&mut self, ids: &[Id]) -> Vec<Status> {
        Status::read_all(&self.ask(27, &Out::new().ids(ids).0).await.unwrap())
    }

    /// The state of one message.
    pub(crate) async fn state(&mut self, id: Id) -> u8 {
        self.query(&[id]).await[0].state
    }

    pub(crate) async fn describe(&mut self, name: &str) -> Info {
        Info::read(&self.ask(15, &Out::new().text(name).0).await.unwrap())
    }

    /// A counter of the server.
    pub(crate) async fn counter(&mut self, wanted: &str) -> u64 {
        let answer = self.ask(38, &[]).await.unwrap();
        let mut answer = In(&answer);
        let mut found = None;
        for _ in 0..answer.u32() {
            let (name, value) = (answer.text(), answer.u64());
            if name == wanted {
                found = Some(value);
            }
        }
        answer.end();
        found.unwrap_or_else(|| panic!("there is no counter {wanted}"))
    }

    /// Asks the server again and again until it shows what must come.
    pub(crate) async fn until(&mut self, counter: &str, enough: impl Fn(u64) -> bool) -> u64 {
        soon(counter, async {
            loop {
                let value = self.counter(counter).await;
                if enough(value) {
                    return value;
                }
            }
        })
        .await
    }
}

fn take_frame(input: &mut BytesMut) -> Option<Frame> {
    let length = u32::from_be_bytes(*input.first_chunk()?) as usize;
    assert!((12..=8_388_608).contains(&length), "the server sent a length of {length}");
    let bytes = input.get(4..4 + length)?;
    let mut fields = In(bytes);
    let crc = fields.u32();
    assert_eq!(crc, crc32fast::hash(&bytes[4..]), "the server sent a wrong checksum");
    let (kind, correlation) = (fields.u32() as i32, fields.u32());
    let body = fields.0.to_vec();
    input.advance(4 + length);
    Some(Frame { kind, correlation, body })
}

/// The body of a subscribe that begins at the oldest message.
pub(crate) fn subscribe_body(number: u32, to: &[u8], credit: u32, ack_timeout_ms: u64) -> Vec<u8> {
    let out = Out::new().u32(number).u32(credit).u64(ack_timeout_ms).u8(1).u64(0).u8(0);
    out.raw_text(to).text("").0
}
