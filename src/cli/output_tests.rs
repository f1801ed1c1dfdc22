use std::sync::Arc;

use serde_json::Value;

use super::*;
use crate::base::destination::Kind;
use crate::base::id::MessageId;

fn keys(value: &impl Serialize) -> Vec<String> {
    let text = serde_json::to_string(value).unwrap();
    let parsed: Value = serde_json::from_str(&text).unwrap();
    // The order on the line is that of the struct; the contract is the set.
    parsed.as_object().unwrap().keys().cloned().collect()
}

fn id() -> MessageId {
    MessageId::new(1_000, 0, 1)
}

/// Goal: programs rely on exactly these keys. Method: the contract written out once more.
#[test]
fn the_json_keys_are_the_contract() {
    let published = PublishedLine { id: id().to_string(), destination: "/queue/a", due_ms: 1_000 };
    assert_eq!(keys(&published), ["destination", "due_ms", "id"]);
    let status = Status {
        id: id(),
        state: State::InFlight,
        destination: Arc::from("/queue/a"),
        due_ms: 1_000,
        attempts: 2,
        recurring: false,
    };
    assert_eq!(
        serde_json::to_string(&StatusLine::from(&status)).unwrap(),
        format!(
            concat!(
                r#"{{"id":"{}","state":"in flight","destination":"/queue/a","#,
                r#""due_ms":1000,"attempts":2}}"#
            ),
            id()
        )
    );
    assert_eq!(keys(&AnswerLine { id: id().to_string(), answer: "gone" }), ["answer", "id"]);
    let line = |body: &[u8]| {
        let (body, body_base64) = body_fields(body);
        serde_json::to_value(ReceivedLine {
            id: id().to_string(),
            destination: "/queue/a",
            body,
            body_base64,
            due_ms: 1,
            received_ms: 2,
            attempt: 1,
            redelivered: false,
        })
        .unwrap()
    };
    let mut contract =
        vec!["attempt", "body", "destination", "due_ms", "id", "received_ms", "redelivered"];
    assert_eq!(keys(&line(b"text")), contract);
    assert_eq!(line(b"text")["body"], "text");
    contract.insert(2, "body_base64");
    assert_eq!(keys(&line(&[0xff])), contract);
    assert_eq!(line(&[0xff])["body"], Value::Null);
    assert_eq!(line(&[0xff])["body_base64"], "/w==");
    let info = DestinationInfo {
        name: Arc::from("/topic/a"),
        kind: Kind::Topic,
        scheduled: 1,
        ready: 2,
        in_flight: 3,
        consumers: 4,
        next_offset: 5,
        unread: 0,
        paused: true,
        max_messages: 6,
        max_age_ms: 90_000,
    };
    assert_eq!(
        keys(&DestinationLine::from(&info)),
        [
            "consumers",
            "in_flight",
            "kind",
            "max_age_ms",
            "max_messages",
            "name",
            "next_offset",
            "paused",
            "ready",
            "scheduled",
            "unread"
        ]
    );
    assert_eq!(show_limits(&info), "at most 6 messages, at most 1m30s old");
    assert_eq!(show_limits(&DestinationInfo { max_messages: 0, max_age_ms: 0, ..info }), "");
}

#[test]
fn every_verdict_has_its_word() {
    let word = |done, state| {
        answer_word(&Verdict { id: id(), done, state, due_ms: 0 }, "cancelled").to_owned()
    };
    assert_eq!(word(true, State::Cancelled), "cancelled");
    let table = [
        (State::Scheduled, "scheduled"),
        (State::Ready, "delivered"),
        (State::InFlight, "in delivery"),
        (State::Acknowledged, "acknowledged"),
        (State::Cancelled, "already cancelled"),
        (State::Expired, "expired"),
        (State::Dead, "dead"),
        (State::Gone, "gone"),
        (State::Unknown, "unknown"),
        (State::Ended, "ended"),
    ];
    assert_eq!(table.len(), State::ALL.len());
    for (state, expected) in table {
        assert_eq!(word(false, state), expected);
    }
}

#[test]
fn base64_is_the_standard_one() {
    // The vectors of RFC 4648.
    for (bytes, text) in [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ] {
        assert_eq!(base64(bytes.as_bytes()), text);
    }
    assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
}

#[test]
fn what_people_read_stays_on_one_line() {
    assert_eq!(show_body(b"a\nb\x1b[31m\tc"), "a\\nb\\u{1b}[31m\\tc");
    assert_eq!(show_body("gr\u{fc}n".as_bytes()), "gr\u{fc}n");
    assert_eq!(show_body(&[0xff]), "base64:/w==");
    assert_eq!(show_count(1_234_567), "1 234 567");
    assert_eq!(show_count(999), "999");
    assert_eq!(count_of(1, "message"), "1 message");
    assert_eq!(count_of(1_000, "message"), "1 000 messages");
    let status = Status {
        id: id(),
        state: State::Scheduled,
        destination: Arc::from("/queue/a"),
        due_ms: 61_000,
        attempts: 0,
        recurring: false,
    };
    let text = show_status(&status, 1_000);
    assert!(text.ends_with("scheduled  /queue/a  due 1970-01-01T00:01:01.000Z (in 1m)"), "{text}");
}
