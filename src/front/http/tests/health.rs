//! Goal: HTTP itself: what is there, what is refused, and that nobody can hold on to anything for ever.

use std::time::Duration;

use super::rig::{LONG, SHORT, Server, config};

#[tokio::test]
async fn health_index_and_the_page_are_there() {
    let server = Server::start(config()).await;
    assert_eq!(server.ask("GET /health/live", &[], "").await.status, 200);
    assert_eq!(server.ask("GET /health/ready", &[], "").await.status, 200);
    let index = server.ask("GET /", &[], "").await;
    assert!(index.body.contains("/demo") && index.body.contains("/ws"), "{}", index.body);
    assert_eq!(index.header("x-content-type-options"), Some("nosniff"));

    let page = server.ask("GET /demo", &[], "").await;
    let policy = page.header("content-security-policy").unwrap();
    let nonce = policy.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap();
    assert_eq!(page.body.matches(&format!("nonce=\"{nonce}\"")).count(), 2, "script and style");
    assert!(!page.body.contains("@NONCE@"));
    // Nothing that the policy forbids, and nothing from elsewhere.
    for bad in [" style=\"", " onclick=\"", " src=", "https://", "http://"] {
        assert!(!page.body.contains(bad), "{bad}");
    }
    let again = server.ask("GET /demo", &[], "").await;
    assert!(!again.head.contains(nonce), "a nonce is used once");
}

#[tokio::test]
async fn what_is_not_there_is_a_problem() {
    let server = Server::start(config()).await;
    let answer = server.ask("GET /nowhere", &[], "").await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (404, Some("application/problem+json"))
    );
    let problem: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(problem["status"], 404);
    assert_eq!(problem["type"], "about:blank");
    assert_eq!(problem["detail"], "there is nothing at /nowhere");
    let answer = server.ask("POST /health/live", &[], "x").await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (405, Some("application/problem+json"))
    );

    // Without STOMP there is nothing half of it.
    let server = Server::start_with(config(), None).await;
    for path in ["/ws", "/sockjs/info", "/demo", "/sockjs/websocket"] {
        assert_eq!(server.ask(&format!("GET {path}"), &[], "").await.status, 404, "{path}");
    }
    assert_eq!(server.ask("GET /health/ready", &[], "").await.status, 200);
}

#[tokio::test]
async fn requests_follow_each_other_on_a_connection() {
    let server = Server::start(config()).await;
    let mut peer = server.connect().await;
    for _ in 0..3 {
        peer.ask("GET /health/live", &[], "").await;
        assert_eq!(peer.answer().await.body, "live\n");
    }
}

/// Goal: a head that comes byte by byte, never, or is too long ends the connection.
#[tokio::test]
async fn slow_and_long_heads_end_the_connection() {
    let mut config = config();
    config.http.header_timeout = SHORT;
    let server = Server::start(config).await;
    let mut silent = server.connect().await;
    let mut slow = server.connect().await;
    slow.send(b"GET / HTTP/1.1\r\nHost: x\r\nX: ").await;
    assert!(!silent.fill().await);
    assert!(!slow.rest().await.contains("200"));
    // A connection that has asked once may not wait for ever either.
    let mut kept = server.connect().await;
    kept.ask("GET /", &[], "").await;
    assert_eq!(kept.answer().await.status, 200);
    assert!(!kept.fill().await);

    let long = format!("X: {}", "x".repeat(20_000));
    let answer = server.ask("GET /", &[&long], "").await;
    assert_eq!(answer.status, 431);
    let many = vec!["X: x"; 65];
    assert_eq!(server.ask("GET /", &many, "").await.status, 431);
    assert_eq!(server.ask("GET /", &many[..60], "").await.status, 200);
}

#[tokio::test]
async fn one_connection_too_many_is_told() {
    let mut config = config();
    config.max_connections = 1;
    let server = Server::start(config).await;
    let mut first = server.connect().await;
    first.ask("GET /health/live", &[], "").await;
    assert_eq!(first.answer().await.status, 200);
    let mut second = server.connect().await;
    let refused = second.answer().await;
    assert_eq!((refused.status, &*refused.body), (503, "too many connections\n"));
    drop(first);
    // Its place is free as soon as the server has seen it go.
    loop {
        let mut next = server.connect().await;
        next.ask("GET /health/live", &[], "").await;
        if next.answer().await.status == 200 {
            break;
        }
    }
}

/// Goal: an answer that nobody reads is given up. Method: a stream that is filled with echoes, and a peer
/// that takes nothing.
#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up() {
    let mut config = config();
    config.write_stall = SHORT;
    let server = Server::start(config).await;
    let mut peer = server.connect().await;
    // More answers than the sockets between us hold.
    let request = b"GET /demo HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut sent = 0;
    let flood = async {
        while tokio::io::AsyncWriteExt::write_all(&mut peer.stream, request).await.is_ok() {
            sent += 1;
        }
    };
    tokio::time::timeout(LONG, flood).await.expect("the connection is never ended");
    assert!(sent > 10);
}

#[tokio::test]
async fn stopping_ends_idle_connections_and_answers_what_was_asked() {
    let mut server = Server::start(config()).await;
    let mut idle = server.connect().await;
    idle.ask("GET /health/live", &[], "").await;
    assert_eq!(idle.answer().await.status, 200);
    server.stop();
    assert!(!idle.fill().await);
    let before = std::time::Instant::now();
    server.ended().await;
    assert!(before.elapsed() < Duration::from_secs(2), "nothing waits for idle connections");
}
