//! Goal: WebSocket as clients of STOMP use and abuse it. Method: a well-kept client of others, and
//! frames by hand where it is too well-behaved.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::rig::{LONG, Peer, SHORT, Server, config};

pub(super) type Socket = WebSocketStream<TcpStream>;

pub(super) async fn open(
    server: &Server,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<(Socket, Option<String>), u16> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let mut request = format!("ws://{}{path}", server.address).into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    match client_async(request, stream).await {
        Ok((socket, answer)) => {
            let chosen = answer.headers().get("sec-websocket-protocol");
            Ok((socket, chosen.map(|value| value.to_str().unwrap().to_owned())))
        }
        Err(tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
        Err(other) => panic!("{other}"),
    }
}

pub(super) async fn next(socket: &mut Socket) -> Message {
    timeout(LONG, socket.next()).await.expect("no message").expect("the end").unwrap()
}

/// The code of the close frame that comes next.
pub(super) async fn close_code(socket: &mut Socket) -> u16 {
    match next(socket).await {
        Message::Close(Some(frame)) => frame.code.into(),
        other => panic!("no close frame with a code: {other:?}"),
    }
}

fn text(text: &str) -> Message {
    Message::text(text)
}

#[tokio::test]
async fn the_newest_sub_protocol_is_named_if_it_was_offered() {
    let server = Server::start(config()).await;
    for (offers, chosen) in [
        (&["v10.stomp, v11.stomp, v12.stomp"][..], Some("v12.stomp")),
        (&["v12.stomp,v11.stomp"], Some("v12.stomp")),
        (&["mqtt, v10.stomp"], Some("v10.stomp")),
    ] {
        let headers: Vec<_> =
            offers.iter().map(|offer| ("sec-websocket-protocol", *offer)).collect();
        let (_, found) = open(&server, "/ws", &headers).await.unwrap();
        assert_eq!(found.as_deref(), chosen, "{offers:?}");
    }
    let (mut socket, found) = open(&server, "/ws", &[]).await.unwrap();
    assert_eq!(found, None);
    socket.send(text("a\0")).await.unwrap();
    assert_eq!(next(&mut socket).await, text("a\0"));
    // On several lines, which the client above does not understand itself.
    let lines = ["Sec-WebSocket-Protocol: v10.stomp", "Sec-WebSocket-Protocol: v11.stomp"];
    let answer = upgrade(&server, &lines).await.head().await;
    assert_eq!(answer.header("sec-websocket-protocol"), Some("v11.stomp"));
    // Only unknown ones: accepted without a name. Clients that mind end it themselves.
    let mut peer = upgrade(&server, &["Sec-WebSocket-Protocol: mqtt, wamp"]).await;
    let answer = peer.head().await;
    assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, None));
}

/// Asks for a WebSocket by hand.
async fn upgrade(server: &Server, more: &[&str]) -> Peer {
    let mut peer = server.connect().await;
    let headers = [
        "Connection: keep-alive, Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    peer.ask("GET /ws", &[&headers, more].concat(), "").await;
    peer
}

#[tokio::test]
async fn bad_upgrades_are_told_what_is_wrong() {
    let server = Server::start(config()).await;
    let good = [
        "Upgrade: WebSocket",
        "Connection: upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    for (wrong, instead, status, text) in [
        (0, "X: x", 400, "Can \"Upgrade\" only to \"WebSocket\"."),
        (0, "Upgrade: h2c", 400, "Can \"Upgrade\" only to \"WebSocket\"."),
        (1, "Connection: close", 400, "\"Connection\" must be \"Upgrade\"."),
        (2, "Sec-WebSocket-Version: 8", 426, "The version of WebSocket is 13."),
        (3, "Sec-WebSocket-Key: short", 400, "Sec-WebSocket-Key is base 64 of 16 bytes."),
        (3, "X: x", 400, "Sec-WebSocket-Key is base 64 of 16 bytes."),
    ] {
        let mut headers = good;
        headers[wrong] = instead;
        let answer = server.ask("GET /ws", &headers, "").await;
        assert_eq!((answer.status, &*answer.body), (status, text), "{instead}");
    }
    assert_eq!(server.ask("POST /ws", &good, "").await.status, 405);
    // The last good one, to see that the others failed for what they had wrong.
    let mut peer = server.connect().await;
    peer.ask("GET /ws", &good, "").await;
    let answer = peer.head().await;
    assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
}

#[tokio::test]
async fn pages_of_others_are_kept_out() {
    let mut config = config();
    config.http.origins = vec!["https://shop.example".into()];
    let server = Server::start(config).await;
    for (origin, allowed) in [
        ("https://shop.example", true),
        ("http://localhost:3000", true),
        ("https://evil.example", false),
        ("null", false),
    ] {
        let found = open(&server, "/ws", &[("origin", origin)]).await.map(drop);
        assert_eq!(found, if allowed { Ok(()) } else { Err(403) }, "{origin}");
    }
}

#[tokio::test]
async fn tokens_come_with_the_request() {
    let server = Server::start(config()).await;
    for (path, header, told) in [
        ("/ws", Some("Bearer abc"), "abc 127.0.0.1\0"),
        ("/ws?token=xyz", Some("Basic dTpw"), "basic dTpw 127.0.0.1\0"),
        ("/ws?x=1&access_token=a%2Fb", None, "a/b 127.0.0.1\0"),
        ("/ws?token=t", None, "t 127.0.0.1\0"),
        ("/ws", None, "- 127.0.0.1\0"),
    ] {
        let headers: Vec<_> = header.map(|value| ("authorization", value)).into_iter().collect();
        let (mut socket, _) = open(&server, path, &headers).await.unwrap();
        socket.send(text("token\0")).await.unwrap();
        assert_eq!(next(&mut socket).await, text(told), "{path}");
    }
    let long = format!("Bearer {}", "x".repeat(5_000));
    assert_eq!(open(&server, "/ws", &[("authorization", &long)]).await.unwrap_err(), 400);
    assert_eq!(open(&server, "/ws", &[("authorization", "Digest x")]).await.unwrap_err(), 400);
}

/// Goal: texts and binaries are one stream, wherever it is cut, and each frame goes out as one message,
/// a text if it can be.
#[tokio::test]
async fn messages_in_are_a_stream_and_messages_out_are_frames() {
    let server = Server::start(config()).await;
    let (mut socket, _) = open(&server, "/ws", &[]).await.unwrap();
    socket.send(text("one\0two\0th")).await.unwrap();
    socket.send(Message::binary(&b"re"[..])).await.unwrap();
    socket.send(text("")).await.unwrap();
    socket.send(Message::binary(&b"e\0\xff\0"[..])).await.unwrap();
    assert_eq!(next(&mut socket).await, text("one\0"));
    assert_eq!(next(&mut socket).await, text("two\0"));
    assert_eq!(next(&mut socket).await, text("three\0"));
    assert_eq!(next(&mut socket).await, Message::binary(&b"\xff\0"[..]));
    // A frame of a megabyte comes back whole.
    let long = format!("{}\0", "é".repeat(500_000));
    socket.send(text(&long)).await.unwrap();
    assert_eq!(next(&mut socket).await, text(&long));
    // And bytes that no text can hold are no error here.
    socket.send(text("bad\0")).await.unwrap();
    assert_eq!(next(&mut socket).await, text("a\0"));
    assert_eq!(next(&mut socket).await, Message::binary(&b"\xff\0"[..]));
    assert_eq!(next(&mut socket).await, text("true Ok(())\0"));
}

#[tokio::test]
async fn pings_are_answered_between_fragments() {
    let server = Server::start(config()).await;
    let (mut socket, _) = open(&server, "/ws", &[]).await.unwrap();
    let frame = |bytes: &'static [u8], opcode, last| {
        Message::Frame(Frame::message(bytes, OpCode::Data(opcode), last))
    };
    socket.send(frame(b"he", Data::Text, false)).await.unwrap();
    socket.send(Message::Ping("there?".into())).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::Pong("there?".into()));
    socket.send(frame(b"llo\0", Data::Continue, true)).await.unwrap();
    assert_eq!(next(&mut socket).await, text("hello\0"));
}

/// Goal: a peer that is gone without a word is found. Method: one that never reads its pings, so never
/// answers, and one that does.
#[tokio::test]
async fn a_peer_that_answers_no_ping_is_given_up() {
    let mut config = config();
    config.http.ping_every = Duration::from_millis(40);
    let server = Server::start(config).await;
    let mut dead = upgrade(&server, &[]).await;
    let (mut living, _) = open(&server, "/ws", &[]).await.unwrap();
    let life = async {
        // The client answers pings while it waits.
        for _ in 0..8 {
            assert!(next(&mut living).await.is_ping());
        }
        living.send(text("still here\0")).await.unwrap();
        while next(&mut living).await != text("still here\0") {}
    };
    let death = async {
        dead.head().await;
        while dead.fill().await {}
    };
    tokio::join!(life, death);
}

#[tokio::test]
async fn closing_has_its_code() {
    let server = Server::start(config()).await;
    for (said, code) in [("bye\0", 1000), ("oops\0", 1002)] {
        let (mut socket, _) = open(&server, "/ws", &[]).await.unwrap();
        socket.send(text(said)).await.unwrap();
        assert_eq!(close_code(&mut socket).await, code);
        assert!(timeout(LONG, socket.next()).await.unwrap().is_none());
    }
    // Ours answers theirs.
    let (mut socket, _) = open(&server, "/ws", &[]).await.unwrap();
    socket.close(None).await.unwrap();
    assert!(matches!(next(&mut socket).await, Message::Close(_)));
    assert!(timeout(LONG, socket.next()).await.unwrap().is_none());
}

/// Goal: each breach of the protocol ends the connection with the code that names it.
#[tokio::test]
async fn breaches_have_their_code() {
    let server = Server::start(config()).await;
    let masked = |first: u8, payload: &[u8]| {
        [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
    };
    for (bytes, code) in [
        (b"\x81\x01a".to_vec(), 1002_u16),
        (masked(0xc1, b"a"), 1002),
        (masked(0x80, b"a"), 1002),
        (masked(0x83, b"a"), 1002),
        ([masked(0x01, b"a"), masked(0x81, b"a")].concat(), 1002),
        (masked(0x88, b"\x03\xed"), 1002),
        (masked(0x81, b"\xff"), 1007),
    ] {
        let mut peer = upgrade(&server, &[]).await;
        assert_eq!(peer.head().await.status, 101);
        peer.send(&bytes).await;
        let told = peer.rest().await.into_bytes();
        // The code is no UTF-8; what stands for it has three bytes each.
        let wanted = [&[0x88_u8, 2][..], &code.to_be_bytes()].concat();
        assert_eq!(told, String::from_utf8_lossy(&wanted).as_bytes(), "{bytes:x?}");
    }
}

/// Goal: fragments without end, pings without end and lengths without end keep nothing and are served.
#[tokio::test]
async fn floods_are_survived() {
    let server = Server::start(config()).await;
    let mut peer = upgrade(&server, &[]).await;
    assert_eq!(peer.head().await.status, 101);
    let fragments = b"\x00\x81\0\0\0\0x".repeat(20_000);
    let empty = b"\x00\x80\0\0\0\0".repeat(20_000);
    let pings = b"\x89\x81\0\0\0\0p".repeat(20_000);
    peer.send(b"\x02\x80\0\0\0\0").await;
    peer.send(&fragments).await;
    peer.send(&empty).await;
    peer.send(&pings).await;
    peer.send(b"\x80\x81\0\0\0\0\0").await;
    // The echo of all fragments, and the last pong; pongs are owed, not queued.
    let echo = format!("{}\0", "x".repeat(20_000));
    let mut heard = String::new();
    while !heard.contains(&echo) || !heard.contains("\u{1}p") {
        assert!(peer.fill().await);
        heard.push_str(&String::from_utf8_lossy(&peer.taken()));
    }
}

#[tokio::test]
async fn a_server_that_stops_says_so() {
    let mut server = Server::start(config()).await;
    let (mut socket, _) = open(&server, "/ws", &[]).await.unwrap();
    socket.send(text("a\0")).await.unwrap();
    assert_eq!(next(&mut socket).await, text("a\0"));
    server.stop();
    assert_eq!(close_code(&mut socket).await, 1001);
    server.ended().await;
}

/// Goal: a peer that does not read holds the writer for `stall` only. Method: see the rig: its echo waits
/// `LONG`, so here one writes by itself.
#[tokio::test]
async fn a_peer_that_does_not_read_times_out() {
    use std::sync::Arc;

    use tokio::sync::mpsc;

    use crate::front::carrier::Serve;

    let (tell, mut told) = mpsc::unbounded_channel();
    let stomp: Serve = Arc::new(move |mut carrier, _| {
        let tell = tell.clone();
        Box::pin(async move {
            let frames = [bytes::Bytes::from(vec![b'x'; 100_000])];
            loop {
                if let Err(error) = carrier.writer.write(&frames, SHORT).await {
                    tell.send(error.kind()).unwrap();
                    return;
                }
            }
        })
    });
    let server = Server::start_with(config(), Some(stomp)).await;
    let _peer = upgrade(&server, &[]).await;
    let kind = timeout(LONG, told.recv()).await.unwrap().unwrap();
    assert_eq!(kind, std::io::ErrorKind::TimedOut);
}
