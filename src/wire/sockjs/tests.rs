//! Goal: strings are read as JSON has them, cut anywhere, and halves of characters find each other.
//! Method: texts by hand, whole and byte by byte; what serde_json makes of the same.

use proptest::prelude::*;

use super::*;

fn read(decoder: &mut Decoder, text: &[u8], piece: usize) -> Result<Option<Vec<u8>>, Broken> {
    let mut out = Vec::new();
    for bytes in text.chunks(piece) {
        decoder.push(bytes, &mut out)?;
    }
    Ok(decoder.end()?.then_some(out))
}

fn said(text: &str) -> Result<Option<String>, Broken> {
    let whole = read(&mut Decoder::default(), text.as_bytes(), text.len().max(1));
    assert_eq!(whole, read(&mut Decoder::default(), text.as_bytes(), 1), "{text}");
    Ok(whole?.map(|bytes| String::from_utf8(bytes).unwrap()))
}

#[test]
fn strings_of_an_array_are_one_stream() {
    for (text, wanted) in [
        (r#"["a","b"]"#, "ab"),
        (r#" [ "a" , "" ,"b" ] "#, "ab"),
        (r#""alone""#, "alone"),
        ("[]", ""),
        (r#"["SEND\n\na\\\"\/\b\f\r\t\u0000"]"#, "SEND\n\na\\\"/\u{8}\u{c}\r\t\0"),
        (r#"["é€\u00e9\u20AC\ud83d\ude00"]"#, "é€é€\u{1f600}"),
        (r#"["\ud83d","\ude00"]"#, "\u{1f600}"),
        (r#"["\ud83d","a\ude00"]"#, "\u{fffd}a\u{fffd}"),
        (r#"["\ud83d\ud83d\ude00"]"#, "\u{fffd}\u{1f600}"),
        (r#"["\ud83d\n\ud83d\u0041"]"#, "\u{fffd}\n\u{fffd}A"),
    ] {
        assert_eq!(said(text), Ok(Some(wanted.to_owned())), "{text}");
    }
    assert_eq!(said(""), Ok(None));
    assert_eq!(said(" \n"), Ok(None));
}

#[test]
fn halves_meet_across_two_texts() {
    let mut decoder = Decoder::default();
    assert_eq!(read(&mut decoder, br#"["a\ud83d"]"#, 99), Ok(Some(b"a".to_vec())));
    let rest = read(&mut decoder, br#"["\ude00b"]"#, 99).unwrap().unwrap();
    assert_eq!(rest, "\u{1f600}b".as_bytes());
}

#[test]
fn what_is_no_array_of_strings_is_broken() {
    for text in [
        "x",
        "{}",
        "1",
        "[1]",
        "[\"a\"",
        "[\"a",
        "\"a",
        "[\"a\",]",
        "[,\"a\"]",
        "[\"a\" \"b\"]",
        "[\"a\"]]",
        "[\"a\"]x",
        "\"a\"\"b\"",
        "[\"\\x\"]",
        "[\"\\u12g4\"]",
        "[\"\\u123\"]",
        "[\"a\nb\"]",
        "[[\"a\"]]",
        "null",
    ] {
        assert_eq!(said(text), Err(Broken), "{text}");
    }
    for bytes in [&b"[\"\xff\"]"[..], b"[\"\xc3\"]", b"[\"a\"] \xc3"] {
        assert_eq!(read(&mut Decoder::default(), bytes, 99), Err(Broken));
    }
}

#[test]
fn what_browsers_lose_is_escaped() {
    let mut out = Vec::new();
    encode_string(
        &mut out,
        "M\na:\"\\\r\0é\u{200c}\u{2028}\u{2060}\u{ffff}\u{fff0}\u{1f600}\u{200b}",
    );
    let wanted =
        "\"M\\na:\\\"\\\\\\u000d\\u0000é\\u200c\\u2028\\u2060\\uffff\\ufff0\u{1f600}\u{200b}\"";
    assert_eq!(String::from_utf8(out).unwrap(), wanted);
}

#[test]
fn ends_are_told_as_clients_know_them() {
    assert_eq!(Reason::GoAway.frame(), r#"c[3000,"Go away!"]"#);
    assert_eq!(Reason::AnotherConnection.frame(), r#"c[2010,"Another connection still open"]"#);
}

proptest! {
    #[test]
    fn strings_survive_both_ways(texts in prop::collection::vec(any::<String>(), 0..4), piece in 1_usize..9) {
        let mut ours = b"[".to_vec();
        for (at, text) in texts.iter().enumerate() {
            if at > 0 {
                ours.push(b',');
            }
            encode_string(&mut ours, text);
        }
        ours.push(b']');
        prop_assert_eq!(&serde_json::from_slice::<Vec<String>>(&ours).unwrap(), &texts);
        let joined = texts.concat().into_bytes();
        prop_assert_eq!(read(&mut Decoder::default(), &ours, piece), Ok(Some(joined.clone())));
        let theirs = serde_json::to_vec(&texts).unwrap();
        prop_assert_eq!(read(&mut Decoder::default(), &theirs, piece), Ok(Some(joined)));
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..60), piece in 1_usize..9) {
        let whole = read(&mut Decoder::default(), &bytes, 99);
        prop_assert_eq!(whole, read(&mut Decoder::default(), &bytes, piece));
    }
}
