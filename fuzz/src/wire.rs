//! The binary protocol, as the server and as the client read it.

use bytes::{Bytes, BytesMut};
use postdate::base::command::Answer;
use postdate::base::error::ClientError;
use postdate::base::limits;
use postdate::wire::binary::{
    DeliverFrame, Frame, FrameDecoder, HEADER_BYTES, Reply, Request, RequestType, ServerFrame,
    encode_answer, encode_command, encode_ended, encode_failure, encode_goodbye, encode_heartbeat,
    encode_hello, encode_hello_answer,
};

/// What `length` counts beside the body.
const COUNTED_HEADER_BYTES: usize = 12;

/// A byte that says where to split, and a stream. Cut into frames as it is, and with lengths and
/// checksums put right; each frame is read as a request and as an answer, and what can be read is
/// written and read again.
pub fn binary_protocol(data: &[u8]) -> usize {
    let Some((&split, stream)) = data.split_first() else { return 0 };
    cut(stream, split);
    let mut whole = stream.to_vec();
    repair(&mut whole);
    let frames = cut(&whole, split);
    frames.into_iter().map(|frame| try_request(&frame) + try_server_frame(&frame)).sum()
}

/// The frames of a stream, which are the same wherever it is split.
fn cut(stream: &[u8], split: u8) -> Vec<Frame> {
    let whole = frames(&[stream]);
    let step = usize::from(split) + 1;
    let pieces: Vec<&[u8]> = stream.chunks(step).collect();
    assert_eq!(frames(&pieces), whole, "in pieces of {step} bytes");
    whole.0
}

/// The frames of a stream that comes in pieces, and why it ends before its end.
fn frames(pieces: &[&[u8]]) -> (Vec<Frame>, Option<ClientError>) {
    let mut decoder = FrameDecoder::new(limits::FRAME_BYTES_MAX);
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            let before = buffer.len();
            match decoder.next(&mut buffer) {
                Ok(Some(frame)) => {
                    assert_eq!(buffer.len() + frame.wire_len(), before);
                    frames.push(frame);
                }
                Ok(None) => {
                    let missing = decoder.missing(&buffer);
                    assert!(missing > 0 || buffer.len() < 4, "nothing is missing of a cut frame");
                    break;
                }
                Err(error) => return (frames, Some(error.error)),
            }
        }
    }
    (frames, None)
}

/// Makes every frame of a stream end within it, with the right checksum.
fn repair(stream: &mut [u8]) {
    let mut rest = stream;
    while rest.len() >= HEADER_BYTES {
        let mut length = [0; 4];
        length.copy_from_slice(&rest[..4]);
        let fits = COUNTED_HEADER_BYTES..=rest.len() - 4;
        let mut length = u32::from_be_bytes(length) as usize;
        if !fits.contains(&length) {
            length = rest.len() - 4;
            rest[..4].copy_from_slice(&(length as u32).to_be_bytes());
        }
        let (frame, after) = rest.split_at_mut(4 + length);
        let crc = crc32fast::hash(&frame[8..]);
        frame[4..8].copy_from_slice(&crc.to_be_bytes());
        rest = after;
    }
}

/// The one frame that is written here.
fn only(bytes: &[u8]) -> Frame {
    let (mut frames, error) = frames(&[bytes]);
    assert_eq!(error, None);
    assert_eq!(frames.len(), 1, "one frame was written");
    frames.remove(0)
}

fn try_request(frame: &Frame) -> usize {
    let Ok((request_type, request)) = Request::decode(frame.clone()) else { return 0 };
    assert_eq!(request_type.number(), frame.request_type);
    let mut bytes = Vec::new();
    match &request {
        Request::Hello(hello) => encode_hello(&mut bytes, frame.correlation, hello),
        Request::Heartbeat => encode_heartbeat(&mut bytes, frame.correlation),
        Request::Command(command) => encode_command(&mut bytes, frame.correlation, command),
    }
    let written = only(&bytes);
    assert_eq!(written.correlation, frame.correlation);
    let (written_type, again) = Request::decode(written).expect("what was written is a request");
    assert_eq!(again, request);
    // A delayed produce without any delay may as well be a plain one.
    assert!(written_type == request_type || written_type == RequestType::Produce);
    1
}

fn try_server_frame(frame: &Frame) -> usize {
    let Ok(mut read) = ServerFrame::decode(frame.clone()) else { return 0 };
    let mut bytes = Vec::new();
    match &read {
        ServerFrame::Answer { correlation, reply } => {
            assert_eq!(*correlation, frame.correlation);
            write_reply(&mut bytes, frame, reply);
        }
        ServerFrame::Deliver(deliveries) => {
            let mut deliver = DeliverFrame::begin(&mut bytes, frame.request_type == 103);
            for delivery in deliveries {
                deliver.push(&mut bytes, delivery);
            }
            deliver.finish(&mut bytes);
        }
        ServerFrame::Ended { subscription, reason } => {
            encode_ended(&mut bytes, *subscription, reason);
        }
        ServerFrame::Goodbye(reason) => encode_goodbye(&mut bytes, reason),
        ServerFrame::Failed(error) => encode_failure(&mut bytes, 0, 0, error),
        ServerFrame::Unknown => return 1,
    }
    let again = match &read {
        ServerFrame::Answer { reply: Reply::Stats(counters), .. } => stats(frame, counters),
        _ => only(&bytes),
    };
    let again = ServerFrame::decode(again).expect("what was written is a frame of a server");
    cut_texts(&mut read);
    assert_eq!(again, read);
    1
}

fn write_reply(bytes: &mut Vec<u8>, frame: &Frame, reply: &Reply) {
    match reply {
        Reply::Hello(answer) => encode_hello_answer(bytes, frame.correlation, answer),
        Reply::Answer(answer) => {
            let request_type =
                RequestType::from_number(frame.request_type).expect("an answer has a request type");
            encode_answer(bytes, request_type, frame.correlation, answer);
        }
        // The server's names of counters are fixed, so any others are written by `stats`.
        Reply::Stats(_) => {}
    }
}

/// An answer to stats with these counters.
fn stats(frame: &Frame, counters: &[(String, u64)]) -> Frame {
    let mut body = vec![0];
    body.extend_from_slice(&(counters.len() as u32).to_be_bytes());
    for (name, value) in counters {
        body.extend_from_slice(&(name.len() as u16).to_be_bytes());
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(&value.to_be_bytes());
    }
    Frame { body: Bytes::from(body), ..frame.clone() }
}

/// Cuts the texts of errors to what a server writes of them.
fn cut_texts(frame: &mut ServerFrame) {
    let cut = |error: &mut ClientError| {
        let mut end = error.message.len().min(limits::ERROR_TEXT_BYTES_MAX);
        while !error.message.is_char_boundary(end) {
            end -= 1;
        }
        error.message.truncate(end);
    };
    match frame {
        ServerFrame::Answer { reply: Reply::Answer(Answer::Failed(error)), .. } => cut(error),
        ServerFrame::Answer { reply: Reply::Answer(Answer::Produced(results)), .. } => {
            results.iter_mut().filter_map(|result| result.as_mut().err()).for_each(|e| cut(e));
        }
        ServerFrame::Ended { reason, .. } => cut(reason),
        ServerFrame::Goodbye(error) | ServerFrame::Failed(error) => cut(error),
        _ => {}
    }
}
