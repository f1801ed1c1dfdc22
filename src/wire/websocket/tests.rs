//! Goal: what a client sends is read the same however it is cut, and everything the RFC forbids is
//! refused with its close code. Method: frames made by hand, fed whole and byte by byte.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;

/// A frame as a client sends it.
fn frame(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        len @ ..126 => out.push(0x80 | len as u8),
        len @ ..=0xffff => {
            out.push(0x80 | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

fn plain(first: u8, payload: &[u8]) -> Vec<u8> {
    frame(first, payload, [7, 0, 255, 4])
}

/// Everything read, with the pieces of a message joined.
fn read(bytes: &[u8], piece: usize) -> Result<Vec<Event>, Fault> {
    let mut decoder = Decoder::default();
    let mut input = BytesMut::new();
    let mut events = Vec::new();
    let mut message = Vec::new();
    for bytes in bytes.chunks(piece) {
        input.extend_from_slice(bytes);
        while let Some(event) = decoder.next(&mut input)? {
            match event {
                Event::Data { bytes, last } => {
                    message.extend_from_slice(&bytes);
                    if last {
                        let bytes = Bytes::from(std::mem::take(&mut message));
                        events.push(Event::Data { bytes, last });
                    }
                }
                other => events.push(other),
            }
        }
        assert!(input.len() <= 138, "{} bytes are kept", input.len());
    }
    Ok(events)
}

fn data(bytes: &[u8]) -> Event {
    Event::Data { bytes: Bytes::copy_from_slice(bytes), last: true }
}

#[test]
fn messages_and_controls_between_their_fragments_are_read() {
    let long = vec![b'x'; 70_000];
    let all = [
        plain(0x82, b"\0\xff"),
        plain(0x01, "a\u{e9}".as_bytes().split_at(2).0),
        plain(0x89, b"are you there"),
        plain(0x00, b""),
        plain(0x80, "a\u{e9}".as_bytes().split_at(2).1),
        plain(0x81, b""),
        plain(0x8a, b""),
        plain(0x82, &long),
        plain(0x81, &long[..200]),
        plain(0x88, b"\x03\xe8bye"),
    ]
    .concat();
    let wanted = vec![
        data(b"\0\xff"),
        Event::Ping(Bytes::from_static(b"are you there")),
        data("a\u{e9}".as_bytes()),
        data(b""),
        Event::Pong,
        data(&long),
        data(&long[..200]),
        Event::Close(Some(1000)),
    ];
    for piece in [1, 2, 3, 7, 4096, all.len()] {
        assert_eq!(read(&all, piece), Ok(wanted.clone()), "pieces of {piece}");
    }
}

#[test]
fn what_breaks_the_protocol_has_its_close_code() {
    let mut unmasked = plain(0x81, b"x");
    unmasked[1] &= 0x7f;
    let cases: [(u16, Vec<u8>); 17] = [
        (1002, unmasked),
        (1002, plain(0xc1, b"x")),
        (1002, plain(0x83, b"x")),
        (1002, plain(0x8b, b"x")),
        (1002, plain(0x09, b"x")),
        (1002, plain(0x89, &[0; 126])),
        (1002, plain(0x80, b"x")),
        (1002, [plain(0x01, b"x"), plain(0x81, b"x")].concat()),
        (1002, plain(0x88, b"\x03")),
        (1002, plain(0x88, b"\x03\xed")),
        (1002, plain(0x88, b"\x00\x00")),
        (1007, plain(0x88, b"\x03\xe8\xff")),
        (1007, plain(0x81, b"\xff")),
        (1007, plain(0x81, b"a\xc3")),
        (1007, [plain(0x01, b"\xc3"), plain(0x80, b"a")].concat()),
        (1002, vec![0x82, 0xfe, 0, 125, 0, 0, 0, 0]),
        (1002, vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for (code, bytes) in cases {
        for piece in [1, bytes.len()] {
            let found = read(&bytes, piece).map_err(|fault| fault.code);
            assert_eq!(found, Err(code), "{bytes:x?}");
        }
    }
}

/// Goal: a client that says it sends much, or cuts a message into very many fragments, has nothing kept.
#[test]
fn a_huge_message_and_a_flood_of_fragments_keep_nothing() {
    let mut decoder = Decoder::default();
    let mut input = BytesMut::new();
    input.extend_from_slice(&[
        0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0,
    ]);
    assert_eq!(decoder.next(&mut input), Ok(None));
    for _ in 0..1_000 {
        input.extend_from_slice(&[1; 100]);
        let piece = Event::Data { bytes: Bytes::from_static(&[1; 100]), last: false };
        assert_eq!(decoder.next(&mut input), Ok(Some(piece)));
        assert_eq!(decoder.next(&mut input), Ok(None));
        assert!(input.is_empty());
    }
    let flood = [plain(0x02, b""), plain(0x00, b"x").repeat(50_000), plain(0x80, b"")].concat();
    assert_eq!(read(&flood, 4096), Ok(vec![data(&vec![b'x'; 50_000])]));
}

#[test]
fn our_frames_have_the_shortest_length() {
    for (length, header) in [
        (0, &[0x82, 0][..]),
        (125, &[0x82, 125]),
        (126, &[0x82, 126, 0, 126]),
        (65_535, &[0x82, 126, 255, 255]),
        (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let mut out = BytesMut::new();
        encode_header(&mut out, Opcode::Binary, length);
        assert_eq!(out, header);
    }
    let mut out = BytesMut::new();
    encode_close(&mut out, 1002);
    encode_control(&mut out, Opcode::Pong, b"hi");
    assert_eq!(&out[..], b"\x88\x02\x03\xea\x8a\x02hi");
}

#[test]
fn the_newest_sub_protocol_offered_is_chosen() {
    let chosen = |offers: &'static str| choose_protocol(offers.split(", "));
    assert_eq!(chosen("v10.stomp, v11.stomp, v12.stomp"), Some("v12.stomp"));
    assert_eq!(chosen("v12.stomp, v11.stomp"), Some("v12.stomp"));
    assert_eq!(chosen("v10.stomp, mqtt, v11.stomp"), Some("v11.stomp"));
    assert_eq!(chosen("v10.stomp"), Some("v10.stomp"));
    assert_eq!(chosen("mqtt"), None);
    assert_eq!(chosen(""), None);
}

#[test]
fn keys_are_answered_as_the_rfc_does() {
    let answer = accept_key(b"dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(answer.as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    for bad in [
        &b""[..],
        b"dGhlIHNhbXBsZSBub25jZQ",
        b"dGhlIHNhbXBsZSBub25jZQ==x",
        b"dGhlIHNhb-BsZSBub25jZQ==",
    ] {
        assert_eq!(accept_key(bad), None);
    }
}

/// Frames of any kind, right or wrong.
fn any_frames() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop::collection::vec(any::<u8>(), 0..200);
    let one = (any::<u8>(), payload, any::<[u8; 4]>())
        .prop_map(|(first, payload, mask)| frame(first & 0x8f, &payload, mask));
    prop::collection::vec(one, 0..6).prop_map(|frames| frames.concat())
}

/// Bytes that are often UTF-8.
fn nearly_text() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![prop::sample::select(&b"\xc3\xa9\xe2\x82\xaca"[..]), any::<u8>()];
    prop::collection::vec(byte, 0..12)
}

proptest! {
    /// Goal: no bytes make the decoder panic, and cutting changes nothing.
    #[test]
    fn cutting_changes_nothing(bytes in any_frames(), piece in 1_usize..40) {
        prop_assert_eq!(read(&bytes, piece), read(&bytes, bytes.len().max(1)));
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(&bytes, 400);
    }

    #[test]
    fn pieces_are_judged_as_the_whole_is(text in nearly_text(), cut in 0_usize..12) {
        let mut utf8 = Utf8::default();
        let (left, right) = text.split_at(cut.min(text.len()));
        let whole = utf8.push(left) && utf8.push(right) && utf8.end();
        prop_assert_eq!(whole, std::str::from_utf8(&text).is_ok());
    }
}
