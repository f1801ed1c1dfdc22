//! Goal: whatever does not follow the protocol gets one error frame with the right code and a text
//! that says where, then the end; what came before is answered, other connections go on. Method:
//! break frames in every way the document names, beside a connection that must not notice.

use crate::rig::{Peer, Server, frame, hello, subscribe_body};
use crate::words::{Message, Out};

/// Every request but hello with a body that is right.
pub(crate) fn right_bodies() -> Vec<(i32, Vec<u8>)> {
    let id = [7; 16];
    let rich = Message::new("body").dedup("d").expires(9_000).key("k").header("n", "v").after(5);
    let plain = Message::new("body");
    vec![
        (1, Message::produce(b"/queue/a", std::slice::from_ref(&plain))),
        (2, Out::new().text("/topic/a").u64(1).u32(10).0),
        (3, Out::new().text("").u32(10).0),
        (4, Out::new().text("/queue/a").0),
        (5, Out::new().text("/queue/a").0),
        (10, subscribe_body(1, b"/queue/a", 1, 0)),
        (11, Out::new().u32(1).u8(0).0),
        (12, Vec::new()),
        (13, Out::new().u32(0).u8(1).ids(&[id, id]).0),
        (14, Out::new().u32(0).u8(1).ids(&[id, id]).0),
        (15, Out::new().text("/queue/a").0),
        (16, Out::new().text("/queue/a").u8(1).0),
        (17, Out::new().text("/queue/a").u8(1).0),
        (18, Out::new().text("/queue/a").u8(3).u64(1).u64(2).0),
        (26, Message::produce(b"/queue/a", &[plain, rich])),
        (27, Out::new().ids(&[id, id]).0),
        (28, Out::new().ids(&[id, id]).0),
        (29, Out::new().u32(2).bytes(&id).u8(2).i64(5).bytes(&id).u8(0).i64(0).0),
        (37, Out::new().text("").u64(0).u64(9).u32(10).u8(1).u64(3).u64(4).0),
        (38, Vec::new()),
    ]
}

/// Sends bytes over a connection that has said hello, and expects the error and the end.
async fn refused(server: &Server, bytes: &[u8]) -> (i32, u32, u16, String) {
    let mut peer = server.greet().await;
    let at = peer.sent;
    peer.send(bytes).await;
    let (kind, correlation, (code, text)) = peer.only_error().await;
    let told = text.split("byte ").skip(1).filter_map(|rest| {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        rest[..digits].parse::<u64>().ok()
    });
    let near = at..=at + bytes.len() as u64;
    let told: Vec<u64> = told.collect();
    assert!(told.iter().any(|byte| near.contains(byte)), "no byte of {near:?} is named: {text}");
    (kind, correlation, code, text)
}

fn with_kind(kind: i32) -> Vec<u8> {
    frame(kind, 9, &[])
}

#[tokio::test]
async fn frames_that_are_wrong_in_themselves_get_one_error_and_the_end() {
    let server = Server::start().await;
    let mut bystander = server.greet().await;
    let right = frame(12, 9, &[]);
    let with_length = |length: u32| [&length.to_be_bytes()[..], &right[4..]].concat();
    let long = 8_388_609u32.to_be_bytes();
    let mut cases: Vec<(Vec<u8>, (i32, u32, u16))> = vec![
        // Judged from the length alone: not a byte more is sent.
        (long.to_vec(), (0, 0, 2)),
        (u32::MAX.to_be_bytes().to_vec(), (0, 0, 2)),
        (0u32.to_be_bytes().to_vec(), (0, 0, 1)),
        (11u32.to_be_bytes().to_vec(), (0, 0, 1)),
        (with_length(8_388_609), (12, 9, 2)),
        (with_length(11), (12, 9, 1)),
        (frame(40, 9, &crate::rig::hello_body(1, 1)), (40, 9, 6)),
    ];
    let unknown = [0, 6, 9, 20, 25, 32, 36, 39, 41, 99, 100, 101, 102, -1, i32::MAX, i32::MIN];
    cases.extend(unknown.map(|kind| (with_kind(kind), (kind, 9, 4))));
    for (bytes, expected) in cases {
        let (kind, correlation, code, text) = refused(&server, &bytes).await;
        assert_eq!((kind, correlation, code), expected, "{text}");
        bystander.heartbeat().await;
    }
}

#[tokio::test]
async fn one_flipped_bit_anywhere_behind_the_length_is_noticed() {
    let server = Server::start().await;
    let body = Message::produce(b"/queue/flip", &[Message::new("x")]);
    let right = frame(26, 9, &body);
    for byte in 4..right.len() {
        let mut wrong = right.clone();
        wrong[byte] ^= 1 << (byte % 8);
        let (_, _, code, _) = refused(&server, &wrong).await;
        assert_eq!(code, 3, "byte {byte}");
    }
    let refusal = server.greet().await.ask(15, &Out::new().text("/queue/flip").0).await;
    assert_eq!(refusal.unwrap_err().0, 11, "a damaged request was executed");
}

#[tokio::test]
async fn a_body_cut_at_any_byte_or_longer_than_it_says_is_malformed() {
    let server = Server::start().await;
    let mut bystander = server.greet().await;
    for (kind, body) in right_bodies() {
        for cut in 0..body.len() {
            let (got, correlation, code, text) =
                refused(&server, &frame(kind, 9, &body[..cut])).await;
            assert_eq!((got, correlation, code), (kind, 9, 1), "{cut} bytes of {kind}: {text}");
        }
        let longer = [&body[..], &[0]].concat();
        let (_, _, code, text) = refused(&server, &frame(kind, 9, &longer)).await;
        assert_eq!(code, 1, "{kind} with a byte too many: {text}");
        bystander.heartbeat().await;
    }
}

#[tokio::test]
async fn fields_without_meaning_are_malformed() {
    let server = Server::start().await;
    let id = [7; 16];
    let message = |flags: u8, delay_kind: u8| {
        let content = Message::new("x").content();
        let head = Out::new().text("/queue/a").u32(1).u8(flags).u8(4).u8(delay_kind).i64(0);
        head.u32(content.len() as u32).bytes(&content).0
    };
    let subscribe = |start: u8, offset: u64, flags: u8| {
        let out = Out::new().u32(1).u32(1).u64(0).u8(start).u64(offset).u8(flags);
        out.text("/topic/a").text("").0
    };
    let start = |start: u8, offset: u64| subscribe(start, offset, 0);
    let cases = [
        (26, message(4, 1)),
        (26, message(128, 1)),
        (26, message(0, 4)),
        (26, message(0, 255)),
        (10, start(4, 0)),
        (10, start(3, 1)),
        (10, subscribe(0, 0, 2)),
        (10, subscribe(0, 0, 0x81)),
        (10, start(0, 1)),
        (10, start(1, 1)),
        (11, Out::new().u32(1).u8(2).0),
        (13, Out::new().u32(0).u8(2).ids(&[id]).0),
        (14, Out::new().u32(0).u8(255).ids(&[id]).0),
        (29, Out::new().u32(1).bytes(&id).u8(4).i64(0).0),
        (27, Out::new().u32(2).bytes(&id).0),
        (27, Out::new().u32(u32::MAX).bytes(&id).0),
        (37, Out::new().text("").u64(0).u64(9).u32(10).u8(2).0),
    ];
    for (kind, body) in cases {
        let (_, _, code, text) = refused(&server, &frame(kind, 9, &body)).await;
        assert_eq!(code, 1, "{kind}: {text}");
    }
}

#[tokio::test]
async fn a_frame_cut_off_by_the_end_of_the_stream_is_told_and_not_executed() {
    let server = Server::start().await;
    let right = frame(26, 9, &Message::produce(b"/queue/cut", &[Message::new("x")]));
    for cut in 1..right.len() {
        let mut peer = server.greet().await;
        let at = peer.sent;
        peer.send(&right[..cut]).await;
        peer.finish().await;
        let (kind, correlation, (code, text)) = peer.only_error().await;
        assert_eq!(code, 1);
        let known = if cut < 16 { (0, 0) } else { (26, 9) };
        assert_eq!((kind, correlation), known, "{cut} bytes");
        assert!(text.contains(&format!("byte {at}")), "{text}");
    }
    // The end between two frames is no error: what was asked is answered.
    let mut peer = server.greet().await;
    peer.send(&frame(12, 5, &[])).await;
    peer.finish().await;
    let frames = peer.rest().await;
    assert_eq!((frames.len(), frames[0].kind, frames[0].correlation), (1, 12, 5));
    let refusal = server.greet().await.ask(15, &Out::new().text("/queue/cut").0).await;
    assert_eq!(refusal.unwrap_err().0, 11, "a cut request was executed");
}

#[tokio::test]
async fn what_came_before_bad_bytes_is_answered_and_what_comes_after_is_not_executed() {
    let server = Server::start().await;
    let mut peer = server.greet().await;
    let produce = |name: &str| Message::produce(name.as_bytes(), &[Message::new("x")]);
    let bytes = [
        frame(26, 2, &produce("/queue/before")),
        frame(27, 3, &Out::new().ids(&[]).0),
        frame(99, 4, &[]),
        frame(26, 5, &produce("/queue/after")),
    ];
    peer.send(&bytes.concat()).await;
    let mut frames = peer.rest().await;
    let error = frames.pop().unwrap();
    assert_eq!((error.kind, error.correlation, error.refusal().unwrap().0), (99, 4, 4));
    frames.sort_by_key(|frame| frame.correlation);
    let answers: Vec<_> = frames.iter().map(|f| (f.kind, f.correlation, f.body[0])).collect();
    assert_eq!(answers, [(26, 2, 0), (27, 3, 1)]);
    let mut other = server.greet().await;
    assert_eq!(other.describe("/queue/before").await.ready, 1);
    assert_eq!(other.code(15, &Out::new().text("/queue/after").0).await, 11);
}

#[tokio::test]
async fn requests_may_arrive_byte_by_byte() {
    let server = Server::start().await;
    let mut peer = Peer::connect(server.address).await;
    let produce = frame(26, 7, &Message::produce(b"/queue/a", &[Message::new("slow")]));
    for byte in [hello(), produce].concat() {
        peer.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    let correlations = [peer.next().await.unwrap(), peer.next().await.unwrap()];
    assert_eq!(correlations.map(|frame| (frame.correlation, frame.body[0])), [(1, 0), (7, 0)]);
}
