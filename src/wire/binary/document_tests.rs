//! Goal: `docs/protocol.md` says what the code does. Method: look for every number of the code in
//! the document's tables, and run its worked example through the codec.

use bytes::BytesMut;

use super::*;
use crate::base::command::{Answer, Command, Produced};
use crate::base::error::Code;
use crate::base::id::MessageId;
use crate::base::lifecycle::State;
use crate::base::limits;
use crate::base::message::{Delay, Message, MessageBatch};
use crate::base::time;

const DOCUMENT: &str = include_str!("../../../docs/protocol.md");

fn assert_row(row: &str) {
    let found = DOCUMENT.lines().any(|line| line.starts_with(row));
    assert!(found, "docs/protocol.md has no row {row:?}");
}

/// The bytes of the example in a block that begins with "```hex name".
fn example(name: &str) -> Vec<u8> {
    let fence = format!("```hex {name}\n");
    let (_, rest) = DOCUMENT.split_once(&fence).unwrap();
    let (block, _) = rest.split_once("```").unwrap();
    let digits: String = block.chars().filter(char::is_ascii_hexdigit).collect();
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn frame_of(bytes: &[u8]) -> Frame {
    let mut buffer = BytesMut::from(bytes);
    let frame = FrameDecoder::new(limits::FRAME_BYTES_MAX).next(&mut buffer).unwrap().unwrap();
    assert!(buffer.is_empty());
    frame
}

#[test]
fn every_code_state_request_and_push_stands_in_the_document() {
    for code in Code::ALL {
        assert_row(&format!("| {} | {} | ", code.number(), code.word()));
    }
    for state in State::ALL {
        assert_row(&format!("| {} | {} |", state as u8, state.word()));
    }
    for request in RequestType::ALL {
        assert_row(&format!("| {} | {} |", request.number(), request.word()));
        assert_eq!(RequestType::from_number(request.number()), Some(*request));
    }
    for push in PushType::ALL {
        assert_row(&format!("{} {}", push.number(), push.word()));
    }
}

#[test]
fn the_limits_stand_in_the_document() {
    for (what, limit) in [
        ("longest frame (`length`)", limits::FRAME_BYTES_MAX as u64),
        ("longest first frame", limits::HELLO_BYTES_MAX as u64),
        ("items of a batch", limits::BATCH_ITEMS_MAX as u64),
        ("entries of a page", limits::PAGE_ITEMS_MAX as u64),
        ("body of a message", limits::BODY_BYTES_MAX as u64),
        ("name of a destination", limits::DESTINATION_BYTES_MAX as u64),
        ("dedup id", limits::DEDUP_BYTES_MAX as u64),
        ("unanswered requests of a connection", limits::REQUESTS_IN_FLIGHT_MAX as u64),
        ("unanswered bytes of a connection", limits::REQUEST_BYTES_IN_FLIGHT_MAX as u64),
        ("subscriptions of a session", limits::SUBSCRIPTIONS_PER_SESSION_MAX as u64),
        ("credit of a subscription", u64::from(limits::CREDIT_MAX)),
        ("messages in flight of a queue that is purged", limits::PURGE_IN_FLIGHT_MAX as u64),
        ("delay", time::DELAY_MAX_MS),
        ("time for hello", limits::HELLO_TIMEOUT_MS),
        ("silence of a client", limits::IDLE_TIMEOUT_MS),
        ("time without reading, when there is something to read", limits::WRITE_STALL_MS),
        ("body", limits::BODY_BYTES_MAX as u64),
        ("key", limits::KEY_BYTES_MAX as u64),
        ("headers", limits::HEADERS_MAX as u64),
        ("name or value of a header", limits::HEADER_BYTES_MAX as u64),
        ("key and headers together", limits::HEADERS_TOTAL_BYTES_MAX as u64),
    ] {
        assert_row(&format!("| {what} | {limit}"));
    }
    for said in [
        format!("at most {} bytes, written for a person", limits::ERROR_TEXT_BYTES_MAX),
        format!("at most {} bytes. Empty, for now", limits::TOKEN_BYTES_MAX),
        format!("at most {} bytes; may be empty", limits::CLIENT_NAME_BYTES_MAX),
        format!("up to about {} bytes", limits::DELIVER_FRAME_BYTES),
        format!("at {} bytes of them", limits::SUBSCRIPTION_BYTES_IN_FLIGHT_MAX),
        format!("near {} bytes", limits::PAGE_BYTES_MAX),
        format!("After {} failed deliveries", limits::FAILED_DELIVERIES_MAX),
        format!("looks at no more than {} messages", limits::LIST_SCAN_MAX),
        format!("for {} hours", limits::DEDUP_WINDOW_MS / 3_600_000),
        format!("the newest {}", limits::DEDUP_ENTRIES_MAX),
    ] {
        assert!(DOCUMENT.contains(&said), "docs/protocol.md does not say {said:?}");
    }
}

#[test]
fn the_worked_example_is_right() {
    let hello = Hello {
        version_min: 1,
        version_max: 1,
        name: "demo".into(),
        token: String::new(),
        client_id: String::new(),
    };
    let mut out = Vec::new();
    encode_hello(&mut out, 1, &hello);
    assert_eq!(out, example("hello"));
    let decoded = Request::decode(frame_of(&out)).unwrap();
    assert_eq!(decoded, (RequestType::Hello, Request::Hello(hello)));

    let ServerFrame::Answer { correlation: 1, reply: Reply::Hello(answer) } =
        ServerFrame::decode(frame_of(&example("hello-answer"))).unwrap()
    else {
        panic!("not an answer to hello")
    };
    assert_eq!((&answer.server[..], answer.wall_ms), ("postdate 0.1.0", 1_700_000_000_000));
    assert_eq!(u64::from(answer.idle_timeout_ms), limits::IDLE_TIMEOUT_MS);
    out.clear();
    encode_hello_answer(&mut out, 1, &answer);
    assert_eq!(out, example("hello-answer"));

    let mut bytes = Vec::new();
    Message::new("hi").with_delay(Delay::After(5_000)).with_dedup("k1").encode(&mut bytes).unwrap();
    let batch = MessageBatch::parse(bytes.into(), 1).unwrap();
    let command = Command::Produce { destination: "/queue/a".into(), batch };
    out.clear();
    encode_command(&mut out, 2, &command);
    assert_eq!(out, example("produce"));
    let decoded = Request::decode(frame_of(&out)).unwrap();
    assert_eq!(decoded, (RequestType::DelayedProduce, Request::Command(command)));

    let id = MessageId::new(1_700_000_005_032, 0, 1);
    assert!(DOCUMENT.contains(&format!("`{id}`")));
    let answer = Answer::Produced(vec![Ok(Produced { id, duplicate: false })]);
    out.clear();
    encode_answer(&mut out, RequestType::DelayedProduce, 2, &answer);
    assert_eq!(out, example("produce-answer"));
}
