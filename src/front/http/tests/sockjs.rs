//! Goal: each point of the SockJS protocol that a client of today meets. Method: requests by hand.

use futures_util::SinkExt;
use tokio_tungstenite::tungstenite::Message;

use super::rig::{Answer, Peer, SHORT, Server, config};
use super::websocket::{close_code, next, open};
use crate::base::limits;

async fn post(server: &Server, path: &str, body: &str) -> Answer {
    server.ask(&format!("POST /sockjs/000/{path}"), &[], body).await
}

/// Begins a session by polling.
async fn begin(server: &Server, session: &str) {
    let answer = post(server, &format!("{session}/xhr"), "").await;
    assert_eq!((answer.status, &*answer.body), (200, "o\n"));
}

/// Begins to receive a stream, and reads what comes before everything.
async fn stream(server: &Server, session: &str) -> Peer {
    let mut peer = server.connect().await;
    peer.ask(&format!("POST /sockjs/000/{session}/xhr_streaming"), &[], "").await;
    assert_eq!(peer.head().await.status, 200);
    assert_eq!(peer.chunk().await.unwrap(), format!("{}\n", "h".repeat(2048)));
    peer
}

#[tokio::test]
async fn greeting_and_info() {
    let server = Server::start(config()).await;
    for path in ["/sockjs", "/sockjs/"] {
        let answer = server.ask(&format!("GET {path}"), &[], "").await;
        assert_eq!((answer.status, &*answer.body), (200, "Welcome to SockJS!\n"));
    }
    let origin = "Origin: http://localhost:9000";
    let info = server.ask("GET /sockjs/info", &[origin], "").await;
    assert_eq!(info.header("content-type"), Some("application/json; charset=UTF-8"));
    assert!(info.header("cache-control").unwrap().contains("no-store"));
    assert_eq!(info.header("access-control-allow-origin"), Some("http://localhost:9000"));
    assert_eq!(info.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(info.header("vary"), Some("Origin"));
    let told: serde_json::Value = serde_json::from_str(&info.body).unwrap();
    assert_eq!(told["websocket"], true);
    assert_eq!(told["cookie_needed"], false);
    assert_eq!(told["origins"], serde_json::json!(["*:*"]));
    let again = server.ask("GET /sockjs/info", &[], "").await;
    let again: serde_json::Value = serde_json::from_str(&again.body).unwrap();
    assert_ne!(told["entropy"], again["entropy"]);

    let asked = ["Access-Control-Request-Headers: a, b", origin];
    let before = server.ask("OPTIONS /sockjs/info", &asked, "").await;
    assert_eq!(before.status, 204);
    assert_eq!(before.header("access-control-allow-methods"), Some("OPTIONS, GET"));
    assert_eq!(before.header("access-control-allow-headers"), Some("a, b"));
    assert_eq!(before.header("access-control-max-age"), Some("31536000"));
    assert!(before.header("cache-control").unwrap().contains("public"));
    assert_eq!(server.ask("POST /sockjs/info", &[], "").await.status, 405);
    let evil = server.ask("GET /sockjs/info", &["Origin: https://evil.example"], "").await;
    assert_eq!((evil.status, evil.header("access-control-allow-origin")), (403, None));
}

#[tokio::test]
async fn what_clients_can_do_without_is_not_there() {
    let server = Server::start(config()).await;
    for path in [
        "/sockjs/000/s/eventsource",
        "/sockjs/000/s/htmlfile",
        "/sockjs/000/s/jsonp",
        "/sockjs/000/s/jsonp_send",
        "/sockjs/iframe.html",
        "/sockjs/000/s/",
        "/sockjs/000/s",
        "/sockjs/000/a.b/xhr",
        "/sockjs/0.0/s/xhr",
        "/sockjs/000//xhr",
        "/sockjs/a/b/c/xhr",
    ] {
        assert_eq!(server.ask(&format!("POST {path}"), &[], "").await.status, 404, "{path}");
        assert_eq!(server.ask(&format!("GET {path}"), &[], "").await.status, 404, "{path}");
    }
    let most = "s".repeat(limits::SOCKJS_SESSION_ID_BYTES_MAX);
    begin(&server, &most).await;
    assert_eq!(post(&server, &format!("{most}s/xhr"), "").await.status, 404);
}

#[tokio::test]
async fn polling_sends_and_receives() {
    let server = Server::start(config()).await;
    let origin = "Origin: http://127.0.0.1:1";
    let opened = server.ask("POST /sockjs/000/p/xhr", &[origin], "").await;
    assert_eq!((opened.status, &*opened.body), (200, "o\n"));
    assert_eq!(opened.header("content-type"), Some("application/javascript; charset=UTF-8"));
    assert_eq!(opened.header("access-control-allow-origin"), Some("http://127.0.0.1:1"));
    assert!(opened.header("cache-control").unwrap().contains("no-cache"));
    let sent = post(&server, "p/xhr_send", r#"["one\u0000two\u0000"]"#).await;
    assert_eq!((sent.status, &*sent.body), (204, ""));
    assert_eq!(sent.header("content-type"), Some("text/plain; charset=UTF-8"));
    // Any server part means the same session; each frame is an element.
    let got = server.ask("POST /sockjs/777/p/xhr", &[], "").await;
    assert_eq!(got.body, "a[\"one\\u0000\",\"two\\u0000\"]\n");
    let before = server.ask("OPTIONS /sockjs/000/p/xhr_send", &[origin], "").await;
    assert_eq!(before.header("access-control-allow-methods"), Some("OPTIONS, POST"));
    assert_eq!(server.ask("GET /sockjs/000/p/xhr", &[], "").await.status, 405);
    assert_eq!(post(&server, "unknown/xhr_send", "[\"x\"]").await.status, 404);
}

#[tokio::test]
async fn bad_sends_are_told_and_leave_no_trace() {
    let server = Server::start(config()).await;
    begin(&server, "b").await;
    for (body, text) in [
        ("", "Payload expected."),
        ("x", "Broken JSON encoding."),
        ("[\"x", "Broken JSON encoding."),
        ("[\"x\", 1]", "Broken JSON encoding."),
    ] {
        let answer = post(&server, "b/xhr_send", body).await;
        assert_eq!((answer.status, &*answer.body), (500, text), "{body}");
    }
    assert_eq!(post(&server, "b/xhr_send", "[]").await.status, 204);
    assert_eq!(post(&server, "b/xhr_send", r#"["a\ud83d"]"#).await.status, 204);
    assert_eq!(post(&server, "b/xhr_send", r#"["\ude00\u0000"]"#).await.status, 204);
    // The two halves of a character met.
    assert_eq!(post(&server, "b/xhr", "").await.body, "a[\"a\u{1f600}\\u0000\"]\n");

    let large = "x".repeat(limits::HTTP_BODY_BYTES_MAX + 1);
    let mut peer = server.connect().await;
    let head = format!(
        "POST /sockjs/000/b/xhr_send HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        large.len()
    );
    peer.send(head.as_bytes()).await;
    assert_eq!(peer.head().await.status, 413);
}

#[tokio::test]
async fn a_stream_brings_frames_until_it_is_long() {
    let server = Server::start(config()).await;
    let mut peer = stream(&server, "s").await;
    assert_eq!(peer.chunk().await.unwrap(), "o\n");
    let frame = format!("[\"{}\\u0000\"]", "x".repeat(50_000));
    let mut bytes = 2;
    for _ in 0..3 {
        assert_eq!(post(&server, "s/xhr_send", &frame).await.status, 204);
        let chunk = peer.chunk().await.unwrap();
        assert_eq!(chunk, format!("a{frame}\n"));
        bytes += chunk.len();
    }
    assert!(bytes >= limits::SOCKJS_STREAM_BYTES);
    assert_eq!(peer.chunk().await, None);
    // The same connection goes on with the next, and the session with it.
    assert_eq!(post(&server, "s/xhr_send", "[\"a\\u0000\"]").await.status, 204);
    peer.ask("POST /sockjs/000/s/xhr_streaming", &[], "").await;
    assert_eq!(peer.head().await.status, 200);
    peer.chunk().await.unwrap();
    assert_eq!(peer.chunk().await.unwrap(), "a[\"a\\u0000\"]\n");
}

#[tokio::test]
async fn one_request_receives_at_a_time() {
    let server = Server::start(config()).await;
    let mut first = stream(&server, "d").await;
    assert_eq!(first.chunk().await.unwrap(), "o\n");
    let busy = "c[2010,\"Another connection still open\"]\n";
    assert_eq!(post(&server, "d/xhr", "").await.body, busy);
    let second = post(&server, "d/xhr_streaming", "").await.body;
    assert_eq!(second, format!("{}\n{busy}", "h".repeat(2048)));
    // The first is not disturbed.
    assert_eq!(post(&server, "d/xhr_send", "[\"a\\u0000\"]").await.status, 204);
    assert_eq!(first.chunk().await.unwrap(), "a[\"a\\u0000\"]\n");
}

#[tokio::test]
async fn a_request_that_breaks_off_ends_the_session() {
    let server = Server::start(config()).await;
    let mut first = stream(&server, "i").await;
    assert_eq!(first.chunk().await.unwrap(), "o\n");
    drop(first);
    // As soon as the server has seen it.
    loop {
        let answer = post(&server, "i/xhr", "").await;
        if answer.body == "c[1002,\"Connection interrupted\"]\n" {
            break;
        }
        assert_eq!(answer.body, "c[2010,\"Another connection still open\"]\n");
    }
    assert_eq!(post(&server, "i/xhr_send", "[\"a\\u0000\"]").await.status, 404);
}

#[tokio::test]
async fn a_session_dies_when_nobody_receives() {
    let mut config = config();
    config.http.sockjs_disconnect = SHORT;
    let server = Server::start(config).await;
    begin(&server, "t").await;
    assert_eq!(post(&server, "t/xhr_send", "[\"a\"]").await.status, 204);
    while post(&server, "t/xhr_send", "[\"a\"]").await.status == 204 {}
    // Its name is free for a new one.
    begin(&server, "t").await;
}

#[tokio::test]
async fn heart_beats_come_when_nothing_else_does() {
    let mut config = config();
    config.http.sockjs_heartbeat = SHORT;
    let server = Server::start(config).await;
    let mut peer = stream(&server, "h").await;
    assert_eq!(peer.chunk().await.unwrap(), "o\n");
    assert_eq!(peer.chunk().await.unwrap(), "h\n");
    assert_eq!(peer.chunk().await.unwrap(), "h\n");
    begin(&server, "k").await;
    assert_eq!(post(&server, "k/xhr", "").await.body, "h\n");
    let (mut socket, _) = open(&server, "/sockjs/000/w/websocket", &[]).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::text("o"));
    loop {
        match next(&mut socket).await {
            Message::Text(text) if text == "h" => break,
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn the_end_is_told_to_who_receives_and_who_comes_later() {
    let mut server = Server::start(config()).await;
    begin(&server, "e").await;
    assert_eq!(post(&server, "e/xhr_send", "[\"a\\u0000bye\\u0000\"]").await.status, 204);
    assert_eq!(post(&server, "e/xhr", "").await.body, "a[\"a\\u0000\"]\n");
    for _ in 0..2 {
        assert_eq!(post(&server, "e/xhr", "").await.body, "c[3000,\"Go away!\"]\n");
    }
    let mut peer = stream(&server, "f").await;
    assert_eq!(peer.chunk().await.unwrap(), "o\n");
    server.stop();
    assert_eq!(peer.chunk().await.unwrap(), "c[1001,\"The server is stopping\"]\n");
    assert_eq!(peer.chunk().await, None);
    server.ended().await;
}

#[tokio::test]
async fn what_is_no_text_is_not_carried() {
    let server = Server::start(config()).await;
    begin(&server, "n").await;
    assert_eq!(post(&server, "n/xhr_send", "[\"bad\\u0000\"]").await.status, 204);
    let told = post(&server, "n/xhr", "").await.body;
    assert_eq!(told, "a[\"false Err(InvalidData)\\u0000\"]\n", "nothing of that write went out");
}

#[tokio::test]
async fn websocket_carries_frames_of_sockjs() {
    let server = Server::start(config()).await;
    let (mut socket, _) = open(&server, "/sockjs/000/w/websocket", &[]).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::text("o"));
    for said in ["", "[\"one\\u0000\",\"tw\"]", "\"o\\u0000\"", "[]", "[\"bad\\u0000\"]"] {
        socket.send(Message::text(said)).await.unwrap();
    }
    assert_eq!(next(&mut socket).await, Message::text("a[\"one\\u0000\"]"));
    assert_eq!(next(&mut socket).await, Message::text("a[\"two\\u0000\"]"));
    let told = "a[\"false Err(InvalidData)\\u0000\"]";
    assert_eq!(next(&mut socket).await, Message::text(told));
    socket.send(Message::text("[\"bye\\u0000\"]")).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::text("c[3000,\"Go away!\"]"));
    assert_eq!(close_code(&mut socket).await, 1000);

    let (mut socket, _) = open(&server, "/sockjs/000/w/websocket", &[]).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::text("o"));
    socket.send(Message::text("[\"broken")).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::text("c[1002,\"Protocol error\"]"));
    assert_eq!(close_code(&mut socket).await, 1002);

    // Without frames, where clients of plain WebSocket come.
    let protocol = [("sec-websocket-protocol", "v12.stomp")];
    let (mut socket, chosen) = open(&server, "/sockjs/websocket", &protocol).await.unwrap();
    assert_eq!(chosen.as_deref(), Some("v12.stomp"));
    socket.send(Message::text("a\0")).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::text("a\0"));

    let answer = server.ask("GET /sockjs/000/w/websocket", &[], "").await;
    assert_eq!((answer.status, &*answer.body), (400, "Can \"Upgrade\" only to \"WebSocket\"."));
    assert_eq!(server.ask("POST /sockjs/000/w/websocket", &[], "").await.status, 405);
}
