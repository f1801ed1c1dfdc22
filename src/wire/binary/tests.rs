//! Goal: what one side encodes the other side decodes, and no bytes at all can do harm. Method:
//! property tests over every request and answer, every cut, every split, and random bytes.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

use super::arbitrary::*;
use super::*;
use crate::base::command::{Answer, Command, Delivery};
use crate::base::error::{ClientError, Code};
use crate::base::id::MessageId;
use crate::base::limits;
use crate::base::message::{Delay, Message, MessageBatch};

fn frames_of(bytes: &[u8]) -> Vec<Frame> {
    let mut decoder = FrameDecoder::new(limits::FRAME_BYTES_MAX);
    let mut buffer = BytesMut::from(bytes);
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next(&mut buffer).unwrap() {
        frames.push(frame);
    }
    assert!(buffer.is_empty());
    frames
}

fn frame_of(bytes: &[u8]) -> Frame {
    let mut frames = frames_of(bytes);
    assert_eq!(frames.len(), 1);
    frames.remove(0)
}

/// A frame whose body was cut or grown, with everything else in order.
fn with_body(frame: &Frame, body: Bytes) -> Frame {
    Frame { body, ..frame.clone() }
}

fn grown(body: &Bytes) -> Bytes {
    [&body[..], &[0]].concat().into()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn requests_round_trip_and_every_cut_is_bad(command in command(), correlation: u32) {
        let mut bytes = Vec::new();
        encode_command(&mut bytes, correlation, &command);
        let frame = frame_of(&bytes);
        prop_assert_eq!(frame.correlation, correlation);
        prop_assert_eq!(frame.wire_len(), bytes.len());
        let (request_type, request) = Request::decode(frame.clone()).unwrap();
        prop_assert_eq!(request_type, RequestType::of(&command));
        prop_assert_eq!(request, Request::Command(command));
        for cut in 0..frame.body.len() {
            let decoded = Request::decode(with_body(&frame, frame.body.slice(..cut)));
            prop_assert!(matches!(decoded, Err(Fault::Bad(_))), "cut at {}", cut);
        }
        let decoded = Request::decode(with_body(&frame, grown(&frame.body)));
        prop_assert!(matches!(decoded, Err(Fault::Bad(_))));
    }

    #[test]
    fn answers_round_trip_and_every_cut_is_an_error(
        (request_type, answer) in answer(),
        correlation: u32,
    ) {
        let mut bytes = Vec::new();
        encode_answer(&mut bytes, request_type, correlation, &answer);
        let frame = frame_of(&bytes);
        let reply = match answer {
            Answer::Stats(counters) => Reply::Stats(
                counters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            ),
            other => Reply::Answer(other),
        };
        let decoded = ServerFrame::decode(frame.clone()).unwrap();
        prop_assert_eq!(decoded, ServerFrame::Answer { correlation, reply });
        for cut in 0..frame.body.len() {
            let cut = ServerFrame::decode(with_body(&frame, frame.body.slice(..cut)));
            prop_assert!(cut.is_err());
        }
        prop_assert!(ServerFrame::decode(with_body(&frame, grown(&frame.body))).is_err());
    }

    #[test]
    fn pushes_round_trip_and_every_cut_is_an_error(
        deliveries in vec(delivery(), 1..9),
        names in proptest::option::of(vec(text(), 9)),
        error in error(),
        subscription: u32,
    ) {
        let mut deliveries = deliveries;
        for (delivery, name) in deliveries.iter_mut().zip(names.into_iter().flatten()) {
            (delivery.by_pattern, delivery.destination) = (true, name);
        }
        let mut bytes = Vec::new();
        let mut deliver = DeliverFrame::begin(&mut bytes, deliveries[0].by_pattern);
        for delivery in &deliveries {
            deliver.push(&mut bytes, delivery);
        }
        deliver.finish(&mut bytes);
        encode_ended(&mut bytes, subscription, &error);
        encode_goodbye(&mut bytes, &error);
        encode_failure(&mut bytes, 0, 0, &error);
        let frames = frames_of(&bytes);
        let expected = [
            ServerFrame::Deliver(deliveries),
            ServerFrame::Ended { subscription, reason: error.clone() },
            ServerFrame::Goodbye(error.clone()),
            ServerFrame::Failed(error),
        ];
        for (frame, expected) in frames.iter().zip(expected) {
            prop_assert_eq!(ServerFrame::decode(frame.clone()).unwrap(), expected);
            for cut in 0..frame.body.len() {
                let cut = ServerFrame::decode(with_body(frame, frame.body.slice(..cut)));
                prop_assert!(cut.is_err());
            }
        }
    }

    #[test]
    fn a_stream_is_cut_into_the_same_frames_wherever_it_is_split(
        commands in vec(command(), 1..4),
        split in any::<prop::sample::Index>(),
    ) {
        let mut bytes = Vec::new();
        for (correlation, command) in (0..).zip(&commands) {
            encode_command(&mut bytes, correlation, command);
        }
        let whole = frames_of(&bytes);
        let (first, second) = bytes.split_at(split.index(bytes.len() + 1));
        let mut decoder = FrameDecoder::new(limits::FRAME_BYTES_MAX);
        let mut buffer = BytesMut::new();
        let mut frames = Vec::new();
        for part in [first, second] {
            buffer.extend_from_slice(part);
            while let Some(frame) = decoder.next(&mut buffer).unwrap() {
                frames.push(frame);
            }
            if !buffer.is_empty() && buffer.len() >= 4 {
                prop_assert!(decoder.missing(&buffer) > 0);
            }
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(frames, whole);
    }

    #[test]
    fn one_wrong_bit_never_passes(command in command(), at in any::<prop::sample::Index>()) {
        let mut bytes = Vec::new();
        encode_command(&mut bytes, 7, &command);
        // Behind the length, whose change makes another cut and not another frame.
        let bit = 32 + at.index((bytes.len() - 4) * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let error = FrameDecoder::new(limits::FRAME_BYTES_MAX)
            .next(&mut BytesMut::from(&bytes[..]))
            .unwrap_err();
        prop_assert_eq!(error.error.code, Code::BadChecksum);
    }

    #[test]
    fn random_bytes_never_panic(
        bytes in vec(any::<u8>(), 0..200),
        number in prop_oneof![0..45i32, 98..105i32, any::<i32>()],
    ) {
        let mut buffer = BytesMut::from(&bytes[..]);
        let mut decoder = FrameDecoder::new(1000);
        while let Ok(Some(_)) = decoder.next(&mut buffer) {}
        let frame = Frame { request_type: number, correlation: 1, body: bytes.into(), at: 0 };
        let _ = Request::decode(frame.clone());
        let _ = ServerFrame::decode(frame);
    }
}

#[test]
fn every_split_point_of_a_frame_waits_for_more() {
    let mut bytes = Vec::new();
    encode_command(&mut bytes, 9, &Command::CreateDestination { name: "/queue/a".into() });
    for split in 0..bytes.len() {
        let mut decoder = FrameDecoder::new(limits::FRAME_BYTES_MAX);
        let mut buffer = BytesMut::from(&bytes[..split]);
        assert_eq!(decoder.next(&mut buffer), Ok(None));
        assert_eq!(decoder.missing(&buffer), if split < 4 { 0 } else { bytes.len() - split });
        buffer.extend_from_slice(&bytes[split..]);
        assert_eq!(decoder.next(&mut buffer).unwrap().unwrap().correlation, 9);
    }
}

#[test]
fn lengths_are_judged_at_both_bounds_before_anything_is_buffered() {
    let outcome = |length: u32| {
        let mut buffer = BytesMut::from(&length.to_be_bytes()[..]);
        FrameDecoder::new(100).next(&mut buffer).map_err(|error| error.error.code)
    };
    assert_eq!(outcome(11), Err(Code::Malformed));
    assert_eq!(outcome(12), Ok(None));
    assert_eq!(outcome(100), Ok(None));
    assert_eq!(outcome(101), Err(Code::FrameTooLarge));
    assert_eq!(outcome(u32::MAX), Err(Code::FrameTooLarge));
    // With the header there, the error names the request.
    let mut buffer = BytesMut::new();
    for number in [101u32, 0, 28, 5] {
        buffer.extend_from_slice(&number.to_be_bytes());
    }
    let error = FrameDecoder::new(100).next(&mut buffer).unwrap_err();
    assert_eq!((error.request_type, error.correlation), (28, 5));
}

#[test]
fn errors_name_the_byte_of_the_stream() {
    let mut bytes = Vec::new();
    encode_heartbeat(&mut bytes, 1);
    encode_command(&mut bytes, 2, &Command::Unsubscribe { subscription: 1, delete: false });
    let frames = frames_of(&bytes);
    assert_eq!((frames[0].at, frames[1].at), (0, 16));
    let mut body = frames[1].body.to_vec();
    body[4] = 2;
    let Err(Fault::Bad(error)) = Request::decode(with_body(&frames[1], body.into())) else {
        panic!("a flag of 2 passed")
    };
    assert_eq!(error.message, "unsubscribe: a flag is neither 0 nor 1, at byte 36");
}

#[test]
fn a_well_formed_request_is_refused_alone() {
    let refused = |bytes: &[u8]| match Request::decode(frame_of(bytes)) {
        Err(Fault::Refused(error)) => Some(error.code),
        _ => None,
    };
    let mut bytes = Vec::new();
    encode_command(&mut bytes, 1, &Command::Query { ids: Vec::new() });
    assert_eq!(refused(&bytes), Some(Code::BadBatch));
    for (count, code) in
        [(limits::BATCH_ITEMS_MAX, None), (limits::BATCH_ITEMS_MAX + 1, Some(Code::BadBatch))]
    {
        bytes.clear();
        let ids = vec![MessageId::new(1, 0, 1); count];
        encode_command(&mut bytes, 1, &Command::Cancel { ids });
        assert_eq!(refused(&bytes), code);
    }
    // A delay in a plain produce: the same bytes as a delayed produce, under the other number.
    let mut message = Vec::new();
    Message::new("x").with_delay(Delay::Level(1)).encode(&mut message).unwrap();
    let batch = MessageBatch::parse(message.into(), 1).unwrap();
    bytes.clear();
    encode_command(&mut bytes, 1, &Command::Produce { destination: "/queue/a".into(), batch });
    let frame = frame_of(&bytes);
    assert_eq!(frame.request_type, RequestType::DelayedProduce.number());
    let plain = Frame { request_type: RequestType::Produce.number(), ..frame };
    let Err(Fault::Refused(error)) = Request::decode(plain) else { panic!("not refused") };
    assert_eq!(error.code, Code::BadDelay);
}

#[test]
fn versions_are_judged_before_the_rest_of_hello() {
    let code = |body: &'static [u8]| {
        let frame = Frame {
            request_type: RequestType::Hello.number(),
            correlation: 1,
            body: Bytes::from_static(body),
            at: 0,
        };
        match Request::decode(frame) {
            Ok(_) => None,
            Err(Fault::Bad(error) | Fault::Refused(error)) => Some(error.code),
        }
    };
    assert_eq!(code(&[0, 2, 0, 9, 77]), Some(Code::UnsupportedVersion));
    assert_eq!(code(&[0, 0, 0, 0]), Some(Code::UnsupportedVersion));
    assert_eq!(code(&[0, 2, 0, 1]), Some(Code::Malformed));
    assert_eq!(code(&[0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]), None);
    // Fields of a later version follow: fine. Compression: not known.
    assert_eq!(code(&[0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]), None);
    assert_eq!(code(&[0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1]), Some(Code::Malformed));
}

#[test]
fn the_largest_answers_fit_a_frame() {
    let long = ClientError::new(Code::BadDestination, "é".repeat(limits::ERROR_TEXT_BYTES_MAX));
    let count = limits::BATCH_ITEMS_MAX;
    let answer = Answer::Produced(vec![Err(Box::new(long)); count]);
    let mut bytes = Vec::new();
    encode_answer(&mut bytes, RequestType::Produce, 1, &answer);
    let ServerFrame::Answer { reply: Reply::Answer(Answer::Produced(results)), .. } =
        ServerFrame::decode(frame_of(&bytes)).unwrap()
    else {
        panic!("not an answer to produce")
    };
    assert_eq!(results.len(), count);
    let text = &results[0].as_ref().unwrap_err().message;
    assert_eq!(text.len(), limits::ERROR_TEXT_BYTES_MAX);
}

#[test]
fn an_answer_of_the_wrong_kind_is_an_internal_error() {
    let mut bytes = Vec::new();
    encode_answer(&mut bytes, RequestType::Query, 1, &Answer::Done);
    let ServerFrame::Answer { reply: Reply::Answer(Answer::Failed(error)), .. } =
        ServerFrame::decode(frame_of(&bytes)).unwrap()
    else {
        panic!("not a failure")
    };
    assert_eq!(error.code, Code::Internal);
}

#[test]
fn a_frame_of_deliveries_is_full_at_its_size_and_takes_one_large_message() {
    let delivery = |len: usize| Delivery {
        subscription: 1,
        by_pattern: false,
        destination: "".into(),
        id: MessageId::new(1, 0, 1),
        due_ms: 1,
        attempt: 1,
        offset: 0,
        priority: 4,
        content: vec![0; len].into(),
    };
    let mut bytes = Vec::new();
    let mut frame = DeliverFrame::begin(&mut bytes, false);
    assert!(frame.has_room(&bytes, &delivery(limits::CONTENT_BYTES_MAX)));
    frame.push(&mut bytes, &delivery(0));
    let left = limits::DELIVER_FRAME_BYTES - bytes.len() - (bytes.len() - HEADER_BYTES - 4);
    assert!(frame.has_room(&bytes, &delivery(left)));
    assert!(!frame.has_room(&bytes, &delivery(left + 1)));
    let named = Delivery { by_pattern: true, destination: "/topic/a".into(), ..delivery(0) };
    assert!(!frame.has_room(&bytes, &named), "it says its destination");
}

#[test]
fn pushes_and_errors_of_a_later_version_do_no_harm() {
    let frame = |number: i32, body: &'static [u8]| Frame {
        request_type: number,
        correlation: 0,
        body: Bytes::from_static(body),
        at: 0,
    };
    assert_eq!(ServerFrame::decode(frame(104, &[1, 2])), Ok(ServerFrame::Unknown));
    let goodbye = ServerFrame::decode(frame(102, &[0x03, 0xe7, 0, 1, b'x'])).unwrap();
    let ServerFrame::Goodbye(error) = goodbye else { panic!("not a goodbye") };
    assert_eq!((error.code, &error.message[..]), (Code::Internal, "x (error 999)"));
}
