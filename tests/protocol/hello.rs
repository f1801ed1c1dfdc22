//! Goal: hello comes first, once, in a version that is spoken, and later versions may add to it.
//! Method: every other beginning of a connection.

use crate::frames::right_bodies;
use crate::rig::{Server, frame, hello_body};
use crate::words::{In, Out};

/// What a connection that begins with these bytes is told before it is closed: code and text.
async fn told(server: &Server, bytes: &[u8]) -> (u16, String) {
    let mut peer = server.connect().await;
    peer.send(bytes).await;
    let (_, _, refusal) = peer.only_error().await;
    refusal
}

fn named(name: usize, token: usize, client_id: usize, compression: u8) -> Vec<u8> {
    let out = Out::new().u16(1).u16(1).text(&"n".repeat(name)).text(&"t".repeat(token));
    out.text(&"c".repeat(client_id)).u8(compression).0
}

#[tokio::test]
async fn whatever_is_not_a_hello_is_refused_first() {
    let server = Server::start().await;
    for (kind, body) in right_bodies() {
        let (code, text) = told(&server, &frame(kind, 3, &body)).await;
        assert_eq!(code, 6, "{kind}: {text}");
        assert!(text.contains("byte 0"), "{text}");
    }
    assert_eq!(told(&server, &frame(99, 3, &[])).await.0, 4);
}

#[tokio::test]
async fn a_hello_cut_at_any_byte_or_over_its_limits_is_malformed() {
    let server = Server::start().await;
    let right = hello_body(1, 1);
    for cut in 0..right.len() {
        let (code, text) = told(&server, &frame(40, 3, &right[..cut])).await;
        assert_eq!(code, 1, "{cut} bytes: {text}");
        assert!(text.contains("byte "), "{text}");
    }
    for body in [named(129, 0, 0, 0), named(0, 4097, 0, 0), named(0, 0, 129, 0), named(0, 0, 0, 1)]
    {
        assert_eq!(told(&server, &frame(40, 3, &body)).await.0, 1);
    }
    let not_utf8 = Out::new().u16(1).u16(1).raw_text(&[0xff]).text("").text("").u8(0).0;
    assert_eq!(told(&server, &frame(40, 3, &not_utf8)).await.0, 1);
    assert_eq!(told(&server, &frame(40, 3, &hello_body(2, 1))).await.0, 1);
    // A stranger gets no more buffer than a hello needs; judged from the length alone.
    assert_eq!(told(&server, &8193u32.to_be_bytes()).await.0, 2);
}

#[tokio::test]
async fn an_older_or_newer_client_is_told_the_versions_that_are_spoken() {
    let server = Server::start().await;
    for (min, max) in [(0, 0), (2, 2), (2, u16::MAX), (u16::MAX, u16::MAX)] {
        // The rest of a later hello may have any shape.
        let later = Out::new().u16(min).u16(max).bytes(&[0xff; 40]).0;
        for body in [hello_body(min, max), later] {
            let (code, text) = told(&server, &frame(40, 3, &body)).await;
            assert_eq!(code, 5);
            assert!(text.contains("version 1") && text.contains("byte "), "{text}");
        }
    }
}

#[tokio::test]
async fn a_client_that_also_speaks_this_version_is_served_and_later_fields_are_skipped() {
    let server = Server::start().await;
    let later = [&hello_body(1, 7)[..], &[1, 2, 3, 4]].concat();
    let longest = named(128, 4096, 128, 0);
    for body in [hello_body(0, 9), later, longest] {
        let mut peer = server.connect().await;
        peer.send(&frame(40, 77, &body)).await;
        let answer = peer.next().await.unwrap();
        assert_eq!((answer.kind, answer.correlation), (40, 77));
        let mut fields = In(&answer.body);
        assert_eq!((fields.u8(), fields.u16()), (0, 1));
        assert!(fields.text().starts_with("postdate "));
        let limits: Vec<u32> = (0..6).map(|_| fields.u32()).collect();
        assert_eq!(limits, [8_388_608, 10_000, 1_048_576, 4_096, 16_777_216, 120_000]);
        assert!(fields.u64().abs_diff(crate::rig::wall_ms()) < 60_000);
        fields.end();
        peer.heartbeat().await;
    }
}

#[tokio::test]
async fn requests_may_follow_hello_without_waiting_for_its_answer() {
    let server = Server::start().await;
    let mut peer = server.connect().await;
    let beats = (2..50).flat_map(|correlation| frame(12, correlation, &[]));
    let bytes: Vec<u8> = frame(40, 1, &hello_body(1, 1)).into_iter().chain(beats).collect();
    peer.send(&bytes).await;
    for correlation in 1..50 {
        assert_eq!(peer.next().await.unwrap().correlation, correlation);
    }
}
