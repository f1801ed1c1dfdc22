use super::*;

fn rules() -> Rules {
    Rules { template: Message::new(""), raw: false }
}

fn one(line: &str) -> Result<Message, ClientError> {
    parse(line.as_bytes(), 7, &rules())
}

#[test]
fn a_line_is_a_body_unless_it_is_an_object() {
    for text in ["hello", "", "  spaced ", "[1,2]", "\"quoted\"", "12", "a { b }"] {
        assert_eq!(one(text), Ok(Message::new(text)), "{text}");
    }
    assert_eq!(parse(&[0xff, 0xfe], 1, &rules()), Ok(Message::new([0xff, 0xfe])));
    let raw = Rules { raw: true, ..rules() };
    assert_eq!(parse(br#"{"id":1}"#, 1, &raw), Ok(Message::new(r#"{"id":1}"#)));
}

#[test]
fn an_object_describes_a_message() {
    let message = one(
        r#" {"body":"b","in":"10m","key":"k","headers":{"z":"1","a":"2"},"priority":9,"expires":"1h","dedup_id":"d"}"#,
    )
    .unwrap();
    let expected = Message::new("b")
        .with_delay(Delay::After(600_000))
        .with_key("k")
        .with_header("z", "1")
        .with_header("a", "2")
        .with_priority(9)
        .with_expiry(3_600_000)
        .with_dedup("d");
    assert_eq!(message, expected);
    let delay = |text: &str| one(text).unwrap().delay;
    assert_eq!(delay(r#"{"body":"b"}"#), Delay::None);
    assert_eq!(delay(r#"{"body":"b","in":1500}"#), Delay::After(1_500));
    assert_eq!(delay(r#"{"body":"b","in":"40d"}"#), Delay::After(3_456_000_000));
    assert_eq!(delay(r#"{"body":"b","at":1700000000000}"#), Delay::At(1_700_000_000_000));
    assert_eq!(delay(r#"{"body":"b","at":"1970-01-01T00:00:01Z"}"#), Delay::At(1_000));
    assert_eq!(delay(r#"{"body":"b","level":18}"#), Delay::Level(18));
}

#[test]
fn an_object_overrides_the_flags() {
    let template = Message::new("")
        .with_delay(Delay::After(1))
        .with_key("flag")
        .with_header("x", "flag")
        .with_dedup("file");
    let rules = Rules { template: template.clone(), raw: false };
    let parsed = |line: &str| parse(line.as_bytes(), 7, &rules).unwrap();
    let plain = parsed("b");
    assert_eq!(plain.delay, Delay::After(1));
    assert_eq!(plain.dedup, b"file:7");
    let object =
        parsed(r#"{"body":"b","in":2,"key":"own","headers":{"y":"own"},"dedup_id":"own"}"#);
    assert_eq!(object.delay, Delay::After(2));
    assert_eq!(object.content.key, "own");
    assert_eq!(object.content.headers, [("x".into(), "flag".into()), ("y".into(), "own".into())]);
    assert_eq!(object.dedup, b"own");
}

#[test]
fn bad_objects_are_refused_with_a_reason() {
    let long_key = format!(r#"{{"body":"b","key":"{}"}}"#, "k".repeat(256));
    let table: &[(&str, Code, &str)] = &[
        ("{", Code::Malformed, "column"),
        ("{broken", Code::Malformed, "--raw"),
        (r#"{"body":"b"} tail"#, Code::Malformed, "trailing"),
        (r#"{"order":1}"#, Code::Malformed, "unknown field `order`"),
        (r#"{"in":"10m"}"#, Code::Malformed, "missing field `body`"),
        (r#"{"body":1}"#, Code::Malformed, "expected a string"),
        (r#"{"body":"b","body":"c"}"#, Code::Malformed, "duplicate field"),
        (r#"{"body":"b","headers":["x"]}"#, Code::Malformed, "headers as an object"),
        (r#"{"body":"b","headers":{"x":1}}"#, Code::Malformed, "expected a string"),
        (r#"{"body":"b","in":1,"at":1}"#, Code::Malformed, "one of in, at, level"),
        (r#"{"body":"b","in":"-5s"}"#, Code::BadDelay, "negative"),
        (r#"{"body":"b","in":-5}"#, Code::BadDelay, "not a number of ms"),
        (r#"{"body":"b","in":1.5}"#, Code::BadDelay, "not a number of ms"),
        (r#"{"body":"b","in":"soon"}"#, Code::BadDelay, "1h30m"),
        (r#"{"body":"b","in":true}"#, Code::BadDelay, "10m"),
        (r#"{"body":"b","in":9223372036854775808}"#, Code::BadDelay, "not a number of ms"),
        (r#"{"body":"b","in":3456000001}"#, Code::DelayTooLong, "40 days"),
        (r#"{"body":"b","at":"tomorrow"}"#, Code::BadDelay, "RFC 3339"),
        (r#"{"body":"b","at":[]}"#, Code::BadDelay, "RFC 3339"),
        (r#"{"body":"b","at":99999999999999999999}"#, Code::BadDelay, "since 1970"),
        (r#"{"body":"b","level":19}"#, Code::BadLevel, "1 to 18"),
        (r#"{"body":"b","level":0}"#, Code::BadLevel, "1 to 18"),
        (r#"{"body":"b","priority":10}"#, Code::BadPriority, "0 to 9"),
        (r#"{"body":"b","priority":256}"#, Code::BadPriority, "0 to 9"),
        (r#"{"body":"b","expires":"x"}"#, Code::Malformed, "expires"),
        (r#"{"body":"b","dedup_id":""}"#, Code::BadDedupId, "1 to 128"),
        (&long_key, Code::BadHeader, "256 bytes"),
    ];
    for (line, code, part) in table {
        let error = one(line).unwrap_err();
        assert_eq!(error.code, *code, "{line}: {error}");
        assert!(error.message.contains(part), "{line}: {error}");
    }
}

fn collect(text: &[u8]) -> Result<Vec<Batch>, Failure> {
    let mut batches = Batches::new(text, rules());
    let mut all = Vec::new();
    while let Some(batch) = batches.next()? {
        all.push(batch);
    }
    Ok(all)
}

#[test]
fn lines_become_batches_that_know_their_lines() {
    let text: String = (1..=1_201).map(|n| format!("body {n}\r\n")).collect();
    let batches = collect(text.as_bytes()).unwrap();
    let shape: Vec<_> = batches.iter().map(|b| (b.first_line, b.messages.len())).collect();
    assert_eq!(shape, [(1, 500), (501, 500), (1_001, 201)]);
    assert_eq!(batches[1].messages[0], Message::new("body 501"));
    assert_eq!(batches[2].bytes_read, text.len() as u64);
    // The last line needs no end, and an empty line is an empty body.
    let batches = collect(b"a\n\nb").unwrap();
    let bodies: Vec<_> = batches[0].messages.iter().map(|m| m.content.body.clone()).collect();
    assert_eq!(bodies, [b"a".to_vec(), vec![], b"b".to_vec()]);
    assert!(collect(b"").unwrap().is_empty());
}

#[test]
fn large_bodies_end_a_batch_by_bytes() {
    let line = format!("{}\n", "x".repeat(600_000));
    let batches = collect(line.repeat(5).as_bytes()).unwrap();
    assert!(batches.iter().all(|batch| batch.messages.len() <= 2), "memory stays constant");
    assert_eq!(batches.iter().map(|batch| batch.messages.len()).sum::<usize>(), 5);
}

/// Goal: a bad line stops everything of its batch, and the error names it. Method: one in the
/// second batch, of each kind.
#[test]
fn a_bad_line_is_named_and_stops_its_batch() {
    let long = "x".repeat(limits::BODY_BYTES_MAX + 1);
    for bad in [r#"{"in":"x"}"#, &long] {
        let mut text = "good\n".repeat(700);
        text.push_str(bad);
        text.push_str("\ngood\n");
        let mut batches = Batches::new(text.as_bytes(), rules());
        assert_eq!(batches.next().unwrap().unwrap().messages.len(), 500);
        let error = loop {
            match batches.next() {
                Ok(Some(batch)) => assert!(batch.first_line + batch.messages.len() as u64 <= 701),
                Ok(None) => panic!("the bad line was taken"),
                Err(error) => break error,
            }
        };
        assert!(error.message().unwrap().starts_with("line 701: "), "{error:?}");
        assert_eq!(error.code(), 1);
    }
    let longest = "x".repeat(limits::BODY_BYTES_MAX);
    assert_eq!(collect(longest.as_bytes()).unwrap().len(), 1);
    let endless = vec![b'x'; LINE_BYTES_MAX + 1];
    let error = collect(&endless).unwrap_err();
    assert!(error.message().unwrap().starts_with("line 1: is longer than"), "{error:?}");
}
