//! The codec against the letter of the specification, and against itself.

use proptest::prelude::*;

use super::*;

const LIMITS: Limits =
    Limits { headers: 10, header_line_bytes: 100, header_bytes: 300, body_bytes: 1_000 };

fn decoder(version: Version) -> Decoder {
    let mut decoder = Decoder::new(LIMITS);
    decoder.agree(version, LIMITS);
    decoder
}

/// All frames in these bytes, pushed in pieces of this size.
fn decode_in(version: Version, bytes: &[u8], piece: usize) -> Result<Vec<Frame>, DecodeError> {
    let mut decoder = decoder(version);
    let mut frames = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        decoder.push(piece);
        while let Some(frame) = decoder.next()? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

fn decode(version: Version, bytes: &[u8]) -> Result<Vec<Frame>, DecodeError> {
    let whole = decode_in(version, bytes, bytes.len());
    // However it is cut, it means the same (what an error shows may be cut, too).
    for piece in [1, 2, 3, 7] {
        let cut = decode_in(version, bytes, piece);
        assert_eq!(cut.is_ok(), whole.is_ok(), "in pieces of {piece}: {cut:?}, {whole:?}");
        if let (Ok(cut), Ok(whole)) = (&cut, &whole) {
            assert_eq!(cut, whole, "in pieces of {piece}");
        }
    }
    whole
}

fn one(version: Version, bytes: &[u8]) -> Frame {
    let mut frames = decode(version, bytes).unwrap();
    assert_eq!(frames.len(), 1, "{frames:?}");
    frames.remove(0)
}

fn error(version: Version, bytes: &[u8]) -> DecodeError {
    decode(version, bytes).unwrap_err()
}

fn encoded(frame: &Frame, version: Version) -> Vec<u8> {
    let mut out = Vec::new();
    encode(frame, version, &mut out);
    out
}

#[test]
fn lines_end_as_each_version_says_and_a_little_more() {
    for version in Version::ALL {
        let expected = Frame::new(Command::Send).with("destination", "/queue/a").with_body("hi");
        for bytes in [
            &b"SEND\ndestination:/queue/a\n\nhi\0"[..],
            b"SEND\r\ndestination:/queue/a\r\n\r\nhi\0",
            b"\n\r\n\n\0SEND\ndestination:/queue/a\r\n\nhi\0\n\n\0\r\n",
        ] {
            assert_eq!(one(version, bytes), expected);
        }
        assert_eq!(error(version, b"SEND\na:b\rc\n\n\0"), DecodeError::BareReturn);
        assert_eq!(error(version, b"SE\rND\n\n\0"), DecodeError::BareReturn);
    }
}

/// Goal: lengths count bytes, and what is in a body does not matter. Method: NULs, frames in a body, text
/// of one to four bytes a character.
#[test]
fn a_length_counts_bytes() {
    for body in ["", "\0", "a\0b\0", "SEND\n\n\0", "£ € 😀", "\n\n"] {
        let bytes = format!("SEND\ncontent-length:{}\n\n{body}\0\nACK\nid:1\n\n\0", body.len());
        let frames = decode(Version::V12, bytes.as_bytes()).unwrap();
        assert_eq!(frames.len(), 2);
        assert_eq!(frames[0].body, body.as_bytes());
        assert_eq!(frames[1].get("id"), Some("1"));
    }
    let chars = b"SEND\ncontent-length:1\n\n\xc2\xa3\0";
    assert_eq!(error(Version::V12, chars), DecodeError::NoNul(1));
    let zero = one(Version::V12, b"SUBSCRIBE\nid:0\ncontent-length:0\n\n\0");
    assert_eq!(zero.body.len(), 0);
    for bad in ["-1", "x", "", "1x", "99999999999999999999", "0x1", "+1"] {
        let bytes = format!("SEND\ncontent-length:{bad}\n\n\0");
        assert!(
            matches!(error(Version::V11, bytes.as_bytes()), DecodeError::BadLength(_)),
            "{bad}"
        );
    }
    let twice = one(Version::V12, b"SEND\ncontent-length:3\ncontent-length:1\n\nabc\0");
    assert_eq!(twice.body, "abc", "the first counts");
}

#[test]
fn of_headers_with_one_name_the_first_counts() {
    let frame = one(Version::V12, b"SEND\na:1\nb:2\na:3\n\n\0");
    assert_eq!(frame.headers.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "2")]);
}

#[test]
fn only_the_first_colon_splits() {
    for version in Version::ALL {
        let frame = one(version, b"SEND\ndestination:/queue/a:b:c\nempty:\n\n\0");
        assert_eq!(frame.get("destination"), Some("/queue/a:b:c"));
        assert_eq!(frame.get("empty"), Some(""));
        assert!(matches!(error(version, b"SEND\nnothing\n\n\0"), DecodeError::NoColon(_)));
        assert_eq!(error(version, b"SEND\n:value\n\n\0"), DecodeError::NoName);
    }
}

#[test]
fn blanks_are_trimmed_in_1_0_only_and_never_in_a_password() {
    let bytes = b"SEND\n a : b \n\n\0";
    assert_eq!(one(Version::V10, bytes).get("a"), Some("b"));
    assert_eq!(one(Version::V11, bytes).get(" a "), Some(" b "));
    assert_eq!(one(Version::V12, bytes).get(" a "), Some(" b "));
    let connect = one(Version::V10, b"CONNECT\npasscode: a:\\c \n\n\0");
    assert_eq!(connect.get("passcode"), Some(" a:\\c "), "as it is, colons and backslashes too");
}

/// Goal: each version reads its escapes, in one go from left to right.
#[test]
fn escapes_are_those_of_the_version() {
    let bytes = br"SEND
a\cb:x\ny\\nz\cq\r
";
    let bytes = [&bytes[..], b"\n\0"].concat();
    let frame = one(Version::V12, &bytes);
    assert_eq!(frame.get("a:b"), Some("x\ny\\nz:q\r"));
    assert_eq!(one(Version::V11, &bytes), frame);
    assert_eq!(one(Version::V10, &bytes).get(r"a\cb"), Some(r"x\ny\\nz\cq\r"));
    for version in [Version::V11, Version::V12] {
        for bad in [r"\t", r"a\", r"\C"] {
            let bytes = format!("SEND\na:{bad}\n\n\0");
            let wrong = error(version, bytes.as_bytes());
            assert!(matches!(wrong, DecodeError::Escape { .. }), "{wrong}");
        }
    }
    for command in ["CONNECT", "STOMP"] {
        let frame = one(Version::V12, format!("{command}\nlogin:a\\tb\n\n\0").as_bytes());
        assert_eq!(frame.get("login"), Some("a\\tb"), "never in these");
    }
}

#[test]
fn what_cannot_be_said_in_a_version_is_left_out() {
    let frame = Frame::new(Command::Message)
        .with("line", "a\nb")
        .with("return", "a\rb")
        .with("colon:name", "c:d")
        .with("nul", "a\0b");
    let v10 = encoded(&frame, Version::V10);
    assert_eq!(v10, b"MESSAGE\ncontent-length:0\n\n\0");
    let v11 = encoded(&frame, Version::V11);
    assert_eq!(v11, b"MESSAGE\nline:a\\nb\ncolon\\cname:c\\cd\ncontent-length:0\n\n\0");
    let v12 = encoded(&frame, Version::V12);
    assert_eq!(
        v12,
        b"MESSAGE\nline:a\\nb\nreturn:a\\rb\ncolon\\cname:c\\cd\ncontent-length:0\n\n\0"
    );
    let connected = Frame::new(Command::Connected).with("server", "a:b\\");
    assert_eq!(encoded(&connected, Version::V12), b"CONNECTED\nserver:a:b\\\n\n\0");
    assert_eq!(
        encoded(&Frame::new(Command::Receipt).with("receipt-id", "1"), Version::V12),
        b"RECEIPT\nreceipt-id:1\n\n\0",
        "no length where there is no body"
    );
}

#[test]
fn a_body_where_none_may_be() {
    let bytes = b"SUBSCRIBE\nid:1\n\nbody\0ACK\nid:2\n\n\0";
    assert_eq!(decode(Version::V10, bytes).unwrap().len(), 2, "ignored");
    for version in [Version::V11, Version::V12] {
        assert_eq!(error(version, bytes), DecodeError::UnexpectedBody("SUBSCRIBE"));
    }
}

#[test]
fn commands_are_known_by_their_exact_words() {
    for word in ["send", "SENDX", "FOO", "SEND ", "CONNECTEDX"] {
        let wrong = error(Version::V12, format!("{word}\n\n\0").as_bytes());
        assert!(matches!(wrong, DecodeError::Command(_)), "{wrong}");
    }
    assert!(Command::ALL.iter().all(|command| command.word().len() <= Command::WORD_BYTES_MAX));
}

/// Goal: nothing is kept for a frame that is too large, and a frame at the bound passes. Method: a line, a
/// number of headers, their sum, and a body with and without its length, at the bound and one over.
#[test]
fn limits_are_judged_while_a_frame_comes_in() {
    let line = |n: usize| format!("SEND\na:{}\n\n\0", "x".repeat(n - 2));
    assert!(decode(Version::V12, line(100).as_bytes()).is_ok());
    assert_eq!(error(Version::V12, line(101).as_bytes()), DecodeError::LineTooLong(100));
    let headers = |n: usize| format!("SEND\n{}\n\0", "a:b\n".repeat(n));
    assert!(decode(Version::V12, headers(10).as_bytes()).is_ok());
    assert_eq!(error(Version::V12, headers(11).as_bytes()), DecodeError::TooManyHeaders(10));
    let sum = |n: usize| {
        format!(
            "SEND\n{0}\n{0}\n{0}\n{1}\n\n\0",
            format!("a:{}", "x".repeat(96)),
            "b:".to_owned() + &"x".repeat(n)
        )
    };
    assert!(decode(Version::V12, sum(4).as_bytes()).is_ok());
    assert_eq!(error(Version::V12, sum(5).as_bytes()), DecodeError::HeadersTooLong(300));
    let body = |n: usize, said: &str| format!("SEND\n{said}\n{}\0", "x".repeat(n));
    assert!(decode(Version::V12, body(1_000, "").as_bytes()).is_ok());
    assert!(decode(Version::V12, body(1_000, "content-length:1000\n").as_bytes()).is_ok());
    let most = 1_000;
    let endless = DecodeError::BodyTooLong { said: None, most };
    assert_eq!(error(Version::V12, body(1_001, "").as_bytes()), endless);
    let said = DecodeError::BodyTooLong { said: Some(1_001), most };
    assert_eq!(error(Version::V12, b"SEND\ncontent-length:1001\n\n"), said, "before it comes");
    // A line or a body that never ends: byte by byte, no more is kept than the bound.
    for beginning in ["x", "SEND\nx", "SEND\n\nx"] {
        let mut decoder = decoder(Version::V12);
        decoder.push(beginning.as_bytes());
        let mut kept = 0;
        let stopped = (0..10_000).any(|_| {
            decoder.push(b"x");
            kept = kept.max(decoder.kept_bytes());
            decoder.next().is_err()
        });
        assert!(stopped && kept <= 1_010, "{beginning:?}: {kept}");
    }
}

#[test]
fn headers_are_utf8() {
    let frame = one(Version::V12, "SEND\nheadꕙr1:valꙕe1\n\n\0".as_bytes());
    assert_eq!(frame.get("headꕙr1"), Some("valꙕe1"));
    assert_eq!(error(Version::V12, b"SEND\na:\xff\n\n\0"), DecodeError::NotUtf8);
    assert_eq!(error(Version::V12, b"SEND\na:b\0"), DecodeError::EndsEarly);
}

#[test]
fn the_highest_common_version_is_agreed_on() {
    for (accept, agreed) in [
        (None, Some(Version::V10)),
        (Some("1.2,1.1,1.0"), Some(Version::V12)),
        (Some("1.1,1.2"), Some(Version::V12)),
        (Some(" 1.0 , 1.1,2.0"), Some(Version::V11)),
        (Some("1.0"), Some(Version::V10)),
        (Some("2.0"), None),
        (Some(""), None),
        (Some("1"), None),
    ] {
        assert_eq!(Version::agreed(accept), agreed, "{accept:?}");
    }
    assert_eq!(Version::offered_in("v10.stomp, v11.stomp,v12.stomp"), Some(Version::V12));
    assert_eq!(Version::offered_in("v11.stomp,v10.stomp"), Some(Version::V11));
    assert_eq!(Version::offered_in("mqtt"), None);
}

/// Goal: a long session does not run into its own limits. Method: many frames near each of them.
#[test]
fn what_is_counted_begins_anew_with_each_frame() {
    let frame = format!("SEND\n{}\n{}\0", "a:b\n".repeat(10), "x".repeat(1_000));
    assert_eq!(decode_in(Version::V12, frame.repeat(200).as_bytes(), 611).unwrap().len(), 200);
}

fn text() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[ -~\n\r\u{a3}\u{1f600}:\\\\]{0,12}").unwrap()
}

fn frame() -> impl Strategy<Value = Frame> {
    let command = proptest::sample::select(Command::ALL);
    let headers = proptest::collection::vec((text(), text()), 0..6);
    let body = proptest::collection::vec(any::<u8>(), 0..50);
    (command, headers, body).prop_map(|(command, headers, body)| {
        let mut frame = Frame::new(command);
        for (name, value) in headers {
            frame.headers.add(&name, &value);
        }
        if command.may_have_body() { frame.with_body(body) } else { frame }
    })
}

proptest! {
    /// Goal: what is written is read, in 1.2 all of it and in the others what they can say, wherever the stream
    /// is cut. Method: random frames one behind the other, and every cut.
    #[test]
    fn frames_round_trip_at_every_cut(frames in proptest::collection::vec(frame(), 1..4)) {
        for version in Version::ALL {
            let bytes: Vec<u8> = frames.iter().flat_map(|frame| encoded(frame, version)).collect();
            let whole = decode_in(version, &bytes, bytes.len()).unwrap();
            prop_assert_eq!(whole.len(), frames.len());
            for (read, written) in whole.iter().zip(&frames) {
                prop_assert_eq!(read.command, written.command);
                prop_assert_eq!(&read.body, &written.body);
                if version == Version::V12 && !written.command.is_raw() {
                    for (name, value) in written.headers.iter().filter(|(name, _)| !name.is_empty()) {
                        prop_assert_eq!(read.get(name), Some(value));
                    }
                }
                for (name, value) in read.headers.iter().filter(|(name, _)| *name != "content-length") {
                    let same = |other: &str, own: &str| {
                        other == own || version == Version::V10 && other.trim() == own
                    };
                    prop_assert!(written.headers.iter().any(|(n, v)| same(n, name) && same(v, value)));
                }
            }
            for cut in 0..=bytes.len() {
                let mut decoder = decoder(version);
                let mut read = Vec::new();
                for part in [&bytes[..cut], &bytes[cut..]] {
                    decoder.push(part);
                    while let Some(frame) = decoder.next().unwrap() {
                        read.push(frame);
                    }
                }
                prop_assert_eq!(&read, &whole);
                prop_assert_eq!(decoder.kept_bytes(), 0);
            }
        }
    }

    /// Goal: no bytes panic, and nothing is kept beyond the limits. Method: random bytes in the alphabet of frames.
    #[test]
    fn no_bytes_panic(pieces in proptest::collection::vec(
        proptest::sample::select(&[
            "SEND", "CONNECT", "\n", "\r\n", "\0", ":", "a", "\\", "content-length:3", "x:y", "é", "\r",
        ][..]), 0..60))
    {
        for version in Version::ALL {
            let mut decoder = decoder(version);
            for piece in &pieces {
                decoder.push(piece.as_bytes());
                while let Ok(Some(_)) = decoder.next() {}
            }
        }
    }
}
