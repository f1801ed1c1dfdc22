//! Goal: a connection ends with one clear error after bad bytes, goes on after a refused request,
//! is bounded in everything, and is drained when the server stops. Method: a real listener on
//! loopback, a shard double behind it, raw sockets before it.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::double::Double;
use super::{FrontConfig, serve_sessions};
use crate::base::command::{Answer, Command, StartAt, Subscribe};
use crate::base::error::{ClientError, Code};
use crate::base::id::MessageId;
use crate::base::limits;
use crate::base::message::{Message, MessageBatch};
use crate::wire::binary::{
    Frame, FrameDecoder, Hello, Reply, RequestType, ServerFrame, encode_command, encode_heartbeat,
    encode_hello,
};

struct Server {
    double: Double,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

fn config() -> FrontConfig {
    FrontConfig::new(|| 1_700_000_000_000)
}

impl Server {
    async fn start(config: FrontConfig) -> Self {
        let double = Double::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        let task = tokio::spawn(serve_sessions(listener, double.open(), config, shutdown));
        Self { double, address, stop: Some(stop), task }
    }

    async fn connect(&self) -> Peer {
        Peer {
            stream: TcpStream::connect(self.address).await.unwrap(),
            decoder: FrameDecoder::new(limits::FRAME_BYTES_MAX),
            buffer: BytesMut::new(),
        }
    }

    /// A connection that has said hello.
    async fn greet(&self) -> Peer {
        let mut peer = self.connect().await;
        peer.send(&hello(1, 1)).await;
        let frame = peer.next().await.unwrap();
        let ServerFrame::Answer { correlation: 1, reply: Reply::Hello(answer) } =
            ServerFrame::decode(frame).unwrap()
        else {
            panic!("no answer to hello")
        };
        assert_eq!((answer.version, answer.wall_ms), (1, 1_700_000_000_000));
        peer
    }

    fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }
}

struct Peer {
    stream: TcpStream,
    decoder: FrameDecoder,
    buffer: BytesMut,
}

impl Peer {
    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn ask(&mut self, correlation: u32, command: &Command) {
        let mut out = Vec::new();
        encode_command(&mut out, correlation, command);
        self.send(&out).await;
    }

    /// The next frame; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next(&mut self.buffer).unwrap() {
                return Some(frame);
            }
            if self.stream.read_buf(&mut self.buffer).await.unwrap() == 0 {
                assert!(self.buffer.is_empty(), "the stream ends inside a frame");
                return None;
            }
        }
    }

    async fn answer(&mut self) -> (u32, Answer) {
        match ServerFrame::decode(self.next().await.unwrap()).unwrap() {
            ServerFrame::Answer { correlation, reply: Reply::Answer(answer) } => {
                (correlation, answer)
            }
            other => panic!("not an answer: {other:?}"),
        }
    }

    /// The last frame of the connection: its type, correlation id and error.
    async fn last_error(&mut self) -> (i32, u32, ClientError) {
        let frame = self.next().await.expect("an error before the end");
        let (number, correlation) = (frame.request_type, frame.correlation);
        let error = match ServerFrame::decode(frame).unwrap() {
            ServerFrame::Answer { reply: Reply::Answer(Answer::Failed(error)), .. }
            | ServerFrame::Failed(error)
            | ServerFrame::Goodbye(error) => error,
            other => panic!("not an error: {other:?}"),
        };
        assert_eq!(self.next().await, None);
        (number, correlation, error)
    }
}

fn hello(version_min: u16, version_max: u16) -> Vec<u8> {
    let mut out = Vec::new();
    let hello = Hello {
        version_min,
        version_max,
        name: "test".into(),
        token: String::new(),
        client_id: String::new(),
    };
    encode_hello(&mut out, 1, &hello);
    out
}

fn heartbeat(correlation: u32) -> Vec<u8> {
    let mut out = Vec::new();
    encode_heartbeat(&mut out, correlation);
    out
}

fn produce(destination: &'static str, body: Vec<u8>) -> Command {
    let mut bytes = Vec::new();
    Message::new(body).encode(&mut bytes).unwrap();
    let batch = MessageBatch::parse(bytes.into(), 1).unwrap();
    Command::Produce { destination: destination.into(), batch }
}

fn subscribe(destination: &'static str, credit: u32) -> Command {
    Command::Subscribe(Subscribe {
        subscription: 1,
        destination: destination.into(),
        credit,
        ack_timeout_ms: 0,
        durable: "".into(),
        start: StartAt::Latest,
        shared: false,
    })
}

#[tokio::test]
async fn bad_frames_get_one_error_and_the_end() {
    let server = Server::start(config()).await;
    let mut wrong_crc = heartbeat(5);
    wrong_crc[4] ^= 1;
    let mut unknown = heartbeat(6);
    unknown[8..12].copy_from_slice(&99i32.to_be_bytes());
    let crc = crc32fast::hash(&unknown[8..]);
    unknown[4..8].copy_from_slice(&crc.to_be_bytes());
    let too_long = [&(limits::FRAME_BYTES_MAX as u32 + 1).to_be_bytes()[..], &[0; 12]].concat();
    let too_short = [0, 0, 0, 11];
    let cases: [(&[u8], i32, u32, Code); 6] = [
        (&wrong_crc, 12, 5, Code::BadChecksum),
        (&unknown, 99, 6, Code::UnknownRequest),
        (&too_long, 0, 0, Code::FrameTooLarge),
        (&too_long[..4], 0, 0, Code::FrameTooLarge),
        (&too_short, 0, 0, Code::Malformed),
        (&hello(1, 1), 40, 1, Code::HelloExpected),
    ];
    for (bytes, number, correlation, code) in cases {
        let mut peer = server.greet().await;
        peer.send(bytes).await;
        let (got_number, got_correlation, error) = peer.last_error().await;
        assert_eq!((got_number, got_correlation, error.code), (number, correlation, code));
    }
}

#[tokio::test]
async fn what_came_before_bad_bytes_is_answered_and_the_error_names_the_byte() {
    let server = Server::start(config()).await;
    let mut peer = server.greet().await;
    let mut out = Vec::new();
    encode_command(&mut out, 2, &produce("/queue/a", b"x".to_vec()));
    let bad_at = hello(1, 1).len() + out.len();
    out.extend_from_slice(&[0, 0, 0, 1]);
    peer.send(&out).await;
    let (correlation, answer) = peer.answer().await;
    assert!(matches!((correlation, answer), (2, Answer::Produced(_))));
    let (_, _, error) = peer.last_error().await;
    assert!(error.message.contains(&format!("at byte {bad_at} ")), "{}", error.message);
}

#[tokio::test]
async fn a_cut_frame_at_the_end_of_a_stream_is_told_and_is_no_request() {
    let server = Server::start(config()).await;
    let mut peer = server.greet().await;
    let bytes = heartbeat(3);
    peer.send(&bytes[..bytes.len() - 1]).await;
    peer.stream.shutdown().await.unwrap();
    let (_, _, error) = peer.last_error().await;
    assert_eq!(error.code, Code::Malformed);
    assert_eq!(server.double.requests(), 0);
}

#[tokio::test]
async fn hello_comes_first_in_a_version_that_is_spoken() {
    let server = Server::start(config()).await;
    let oversized = [&(limits::HELLO_BYTES_MAX as u32 + 1).to_be_bytes()[..], &[0; 12]].concat();
    let cases = [
        (heartbeat(9), 12, Code::HelloExpected),
        (hello(0, 0), 40, Code::UnsupportedVersion),
        (hello(2, 7), 40, Code::UnsupportedVersion),
        (oversized, 0, Code::FrameTooLarge),
    ];
    for (bytes, number, code) in cases {
        let mut peer = server.connect().await;
        peer.send(&bytes).await;
        let (got, _, error) = peer.last_error().await;
        assert_eq!((got, error.code), (number, code));
    }
    // A newer client that also speaks this version is served.
    let mut peer = server.connect().await;
    peer.send(&hello(0, 9)).await;
    assert_eq!(peer.next().await.unwrap().request_type, RequestType::Hello.number());
    assert_eq!(server.double.sessions(), 1);
}

#[tokio::test]
async fn no_hello_in_time_and_long_silence_end_a_connection() {
    let short = Duration::from_millis(30);
    let server =
        Server::start(FrontConfig { hello_timeout: short, idle_timeout: short, ..config() }).await;
    let (number, _, error) = server.connect().await.last_error().await;
    assert_eq!((number, error.code), (0, Code::HelloExpected));
    let (number, _, error) = server.greet().await.last_error().await;
    assert_eq!((number, error.code), (102, Code::Malformed));
    assert_eq!(server.double.sessions(), 0);
}

#[tokio::test]
async fn refused_requests_fail_alone() {
    let server = Server::start(config()).await;
    let mut peer = server.greet().await;
    peer.ask(2, &produce("no/such/kind", b"x".to_vec())).await;
    peer.ask(3, &Command::Query { ids: Vec::new() }).await;
    peer.send(&heartbeat(4)).await;
    peer.ask(5, &Command::Query { ids: vec![MessageId::new(1, 0, 1)] }).await;
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(peer.answer().await);
    }
    answers.sort_by_key(|(correlation, _)| *correlation);
    let code = |at: usize| match &answers[at].1 {
        Answer::Failed(error) => Some(error.code),
        _ => None,
    };
    assert_eq!((code(0), code(1)), (Some(Code::BadDestination), Some(Code::BadBatch)));
    assert_eq!(answers[2], (4, Answer::Done));
    assert!(matches!(answers[3], (5, Answer::Statuses(_))));
}

#[tokio::test]
async fn frames_arrive_in_any_pieces() {
    let server = Server::start(config()).await;
    let mut peer = server.greet().await;
    let mut out = Vec::new();
    for correlation in 2..52 {
        encode_command(&mut out, correlation, &produce("/queue/a", vec![7; 300]));
    }
    encode_command(&mut out, 52, &produce("/queue/a", vec![7; limits::BODY_BYTES_MAX]));
    for piece in out[..4000].chunks(37) {
        peer.send(piece).await;
        tokio::task::yield_now().await;
    }
    peer.send(&out[4000..]).await;
    for correlation in 2..=52 {
        assert_eq!(peer.answer().await.0, correlation);
    }
    assert_eq!(server.double.stored(), 51);
}

#[tokio::test]
async fn deliveries_are_packed_and_come_within_credit() {
    let server = Server::start(config()).await;
    let mut producer = server.greet().await;
    for correlation in 2..302 {
        producer.ask(correlation, &produce("/queue/a", vec![7; 1000])).await;
        producer.answer().await;
    }
    let mut peer = server.greet().await;
    peer.ask(2, &subscribe("/queue/a", 200)).await;
    assert_eq!(peer.answer().await, (2, Answer::Subscribed { next_offset: 0 }));
    let (mut frames, mut messages) = (0, 0);
    while messages < 200 {
        let frame = peer.next().await.unwrap();
        assert!(frame.wire_len() <= limits::DELIVER_FRAME_BYTES);
        let ServerFrame::Deliver(deliveries) = ServerFrame::decode(frame).unwrap() else {
            panic!("not a delivery")
        };
        frames += 1;
        messages += deliveries.len();
    }
    assert_eq!((frames, messages), (4, 200));
}

#[tokio::test]
async fn reading_stops_at_the_limit_of_requests_in_flight() {
    let server = Server::start(config()).await;
    server.double.hold(true);
    let mut peer = server.greet().await;
    let count = limits::REQUESTS_IN_FLIGHT_MAX + 500;
    let mut out = Vec::new();
    for correlation in 0..count as u32 {
        encode_command(&mut out, correlation, &Command::Stats);
    }
    peer.send(&out).await;
    // Another connection is served meanwhile, and shows that the first had its turns.
    let mut other = server.greet().await;
    while server.double.requests() < limits::REQUESTS_IN_FLIGHT_MAX {
        other.send(&heartbeat(1)).await;
        other.next().await.unwrap();
    }
    for _ in 0..100 {
        other.send(&heartbeat(1)).await;
        other.next().await.unwrap();
    }
    assert_eq!(server.double.requests(), limits::REQUESTS_IN_FLIGHT_MAX);
    server.double.hold(false);
    for _ in 0..count {
        peer.next().await.unwrap();
    }
    assert_eq!(server.double.requests(), count);
}

#[tokio::test]
async fn a_subscriber_that_stops_reading_is_closed_and_its_messages_go_back() {
    let server =
        Server::start(FrontConfig { write_stall: Duration::from_millis(50), ..config() }).await;
    let mut stuck = server.greet().await;
    stuck.ask(2, &subscribe("/queue/a", 1000)).await;
    stuck.next().await.unwrap();
    let mut producer = server.greet().await;
    // More than the socket buffers of both sides take.
    for correlation in 0..40 {
        producer.ask(correlation, &produce("/queue/a", vec![7; limits::BODY_BYTES_MAX])).await;
        producer.answer().await;
    }
    while server.double.sessions() > 1 {
        producer.send(&heartbeat(1)).await;
        producer.next().await.unwrap();
    }
    producer.ask(99, &Command::DescribeDestination { name: "/queue/a".into() }).await;
    let (_, Answer::Destination(info)) = producer.answer().await else { panic!("no description") };
    assert_eq!((info.ready, info.in_flight), (40, 0));
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let server = Server::start(FrontConfig { max_connections: 2, ..config() }).await;
    let first = server.greet().await;
    let _second = server.greet().await;
    let mut third = server.connect().await;
    third.send(&hello(1, 1)).await;
    let (number, correlation, error) = third.last_error().await;
    assert_eq!((number, correlation, error.code), (0, 0, Code::TooManyConnections));
    drop(first);
    while server.double.sessions() > 1 {
        tokio::task::yield_now().await;
    }
    // The place is free as soon as the task of the first connection has ended.
    loop {
        let mut again = server.connect().await;
        again.send(&hello(1, 1)).await;
        if again.next().await.unwrap().request_type == RequestType::Hello.number() {
            break;
        }
    }
}

#[tokio::test]
async fn a_stopping_server_answers_what_it_took_and_says_goodbye() {
    let mut server = Server::start(config()).await;
    server.double.hold(true);
    let mut peer = server.greet().await;
    peer.ask(7, &produce("/queue/a", b"x".to_vec())).await;
    while server.double.requests() < 1 {
        tokio::task::yield_now().await;
    }
    let mut silent = server.connect().await;
    let mut idle = server.greet().await;
    server.stop();
    let (_, _, error) = idle.last_error().await;
    assert_eq!(error.code, Code::ShuttingDown);
    let (_, _, error) = silent.last_error().await;
    assert_eq!(error.code, Code::ShuttingDown);
    assert!(TcpStream::connect(server.address).await.is_err());
    server.double.hold(false);
    let (correlation, answer) = peer.answer().await;
    assert!(matches!((correlation, answer), (7, Answer::Produced(_))));
    let (number, _, error) = peer.last_error().await;
    assert_eq!((number, error.code), (102, Code::ShuttingDown));
    drop((idle, silent, peer));
    server.task.await.unwrap();
    assert_eq!(server.double.sessions(), 0);
}

#[tokio::test]
async fn draining_gives_up_after_its_time() {
    let mut server =
        Server::start(FrontConfig { drain: Duration::from_millis(30), ..config() }).await;
    server.double.hold(true);
    let mut peer = server.greet().await;
    peer.ask(7, &Command::Stats).await;
    while server.double.requests() < 1 {
        tokio::task::yield_now().await;
    }
    server.stop();
    let (number, _, error) = peer.last_error().await;
    assert_eq!((number, error.code), (102, Code::ShuttingDown));
    drop(peer);
    server.task.await.unwrap();
}

#[tokio::test]
async fn a_client_that_closed_its_sending_side_is_still_answered() {
    let server = Server::start(config()).await;
    server.double.hold(true);
    let mut peer = server.greet().await;
    peer.ask(7, &Command::Stats).await;
    peer.stream.shutdown().await.unwrap();
    while server.double.requests() < 1 {
        tokio::task::yield_now().await;
    }
    server.double.hold(false);
    assert_eq!(peer.next().await.unwrap().correlation, 7);
    assert_eq!(peer.next().await, None);
}

#[tokio::test]
async fn a_latched_shard_ends_connections_and_refuses_new_ones() {
    let server = Server::start(config()).await;
    let mut peer = server.greet().await;
    server.double.latch();
    let (number, _, error) = peer.last_error().await;
    assert_eq!((number, error.code), (102, Code::StorageFailed));
    let mut late = server.connect().await;
    late.send(&hello(1, 1)).await;
    let (number, correlation, error) = late.last_error().await;
    assert_eq!((number, correlation, error.code), (40, 1, Code::StorageFailed));
}

#[tokio::test]
async fn a_deleted_destination_ends_its_subscriptions() {
    let server = Server::start(config()).await;
    let mut peer = server.greet().await;
    peer.ask(2, &subscribe("/topic/a", 1)).await;
    assert_eq!(peer.answer().await, (2, Answer::Subscribed { next_offset: 1 }));
    server.double.delete("/topic/a");
    let ended = ServerFrame::decode(peer.next().await.unwrap()).unwrap();
    let ServerFrame::Ended { subscription: 1, reason } = ended else { panic!("not ended") };
    assert_eq!(reason.code, Code::DestinationNotFound);
}
