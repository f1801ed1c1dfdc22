//! Bodies and frames of the load, made without allocation for each message.

use crate::base::message::{Delay, NewMessage, encode_parts};
use crate::wire::binary::{HEADER_BYTES, RequestType};

/// 16 digits of time in us and 10 of sequence.
pub(super) const BODY_BYTES_MIN: usize = 26;
const TIME_DIGITS: usize = 16;
/// Key of no bytes and no headers, in front of every body.
const CONTENT_HEADER: [u8; 4] = [0; 4];
/// Bytes of filler that bodies are cut from.
const POOL_BYTES: usize = 1 << 16;

/// A small generator of random numbers (splitmix64): the load is the same in every run.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `min` to `max`, both included.
    pub(super) fn between(&mut self, min: u64, max: u64) -> u64 {
        let span = max.saturating_sub(min).saturating_add(1);
        min + self.next() % span
    }
}

/// Makes bodies: time, sequence, random base 62 text.
#[derive(Debug)]
pub(super) struct Bodies {
    pool: Vec<u8>,
    /// The content of the last message: header and body.
    content: Vec<u8>,
}

impl Bodies {
    pub(super) fn new(size: usize) -> Self {
        const ALPHABET: &[u8; 62] =
            b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let mut random = Random::new(1);
        let size = size.max(BODY_BYTES_MIN);
        let pool = (0..POOL_BYTES + size)
            .map(|_| ALPHABET[(random.next() % ALPHABET.len() as u64) as usize])
            .collect();
        Self { pool, content: vec![0; CONTENT_HEADER.len() + size] }
    }

    /// The encoded content of a message.
    fn content(&mut self, time_us: u64, sequence: u64) -> &[u8] {
        let body = &mut self.content[CONTENT_HEADER.len()..];
        let (digits, filler) = body.split_at_mut(BODY_BYTES_MIN);
        let (time, number) = digits.split_at_mut(TIME_DIGITS);
        write_digits(time, time_us);
        write_digits(number, sequence);
        let start = (sequence as usize).wrapping_mul(7919) % POOL_BYTES;
        filler.copy_from_slice(&self.pool[start..start + filler.len()]);
        &self.content
    }
}

/// Reads time in us and sequence from a body; `None` when it is not of this load.
pub(super) fn read_body(body: &[u8]) -> Option<(u64, u64)> {
    let (time, rest) = body.split_at_checked(TIME_DIGITS)?;
    let number = rest.get(..BODY_BYTES_MIN - TIME_DIGITS)?;
    Some((read_digits(time)?, read_digits(number)?))
}

fn write_digits(out: &mut [u8], mut number: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn read_digits(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0'))
    })
}

/// One message of a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    /// When to deliver.
    pub(super) delay: Delay,
    /// Time in the body, us since the Unix epoch.
    pub(super) time_us: u64,
    /// Number in the body.
    pub(super) sequence: u64,
}

/// Appends a produce frame. It is what the codec makes of the same command, without the copy.
pub(super) fn produce_frame(
    out: &mut Vec<u8>,
    correlation: u32,
    destination: &[u8],
    priority: u8,
    bodies: &mut Bodies,
    items: impl ExactSizeIterator<Item = Item>,
) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    out.extend_from_slice(&(destination.len() as u16).to_be_bytes());
    out.extend_from_slice(destination);
    out.extend_from_slice(&(items.len() as u32).to_be_bytes());
    let mut request_type = RequestType::Produce;
    for item in items {
        if item.delay != Delay::None {
            request_type = RequestType::DelayedProduce;
        }
        let content = bodies.content(item.time_us, item.sequence);
        let message = NewMessage {
            priority,
            delay: item.delay,
            expires_after_ms: None,
            dedup: None,
            content,
        };
        encode_parts(&message, out);
    }
    let frame = &mut out[start..];
    let length = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame[8..12].copy_from_slice(&request_type.number().to_be_bytes());
    frame[12..16].copy_from_slice(&correlation.to_be_bytes());
    let crc = crc32fast::hash(&frame[8..]);
    frame[4..8].copy_from_slice(&crc.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::command::Command;
    use crate::base::content;
    use crate::base::limits;
    use crate::wire::binary::{FrameDecoder, Request, encode_command};

    /// Goal: the frames are those of the protocol. Method: read one with the codec, and compare
    /// with what the codec itself makes of it.
    #[test]
    fn frames_are_those_of_the_codec() {
        for delay in [Delay::None, Delay::After(5), Delay::At(1_700_000_000_000)] {
            let mut bodies = Bodies::new(100);
            let items = (0..3).map(|n| Item { delay, time_us: 1_700_000 + n, sequence: 7 + n });
            let items: Vec<_> = items.collect();
            let mut out = b"before".to_vec();
            produce_frame(&mut out, 9, b"/queue/a", 4, &mut bodies, items.into_iter());
            let mut buffer = bytes::BytesMut::from(&out[6..]);
            let frame =
                FrameDecoder::new(limits::FRAME_BYTES_MAX).next(&mut buffer).unwrap().unwrap();
            assert_eq!(frame.correlation, 9);
            let (_, request) = Request::decode(frame).unwrap();
            let Request::Command(command) = request else { panic!("{request:?}") };
            let mut again = Vec::new();
            encode_command(&mut again, 9, &command);
            assert_eq!(again, out[6..]);
            let Command::Produce { batch, .. } = command else { panic!("{command:?}") };
            for (n, message) in (0..).zip(batch.iter()) {
                let body = content::body(message.content);
                assert_eq!(body.len(), 100);
                assert!(body.is_ascii());
                assert_eq!(read_body(body), Some((1_700_000 + n, 7 + n)));
            }
        }
    }

    #[test]
    fn foreign_bodies_are_not_read() {
        assert_eq!(read_body(b"hello"), None);
        assert_eq!(read_body(&[b'x'; 40]), None);
        assert_eq!(Bodies::new(0).content(1, 2).len(), BODY_BYTES_MIN + CONTENT_HEADER.len());
    }

    #[test]
    fn random_numbers_stay_between_their_bounds() {
        let mut random = Random::new(3);
        let mut seen = [false; 4];
        for _ in 0..1_000 {
            seen[(random.between(10, 13) - 10) as usize] = true;
        }
        assert_eq!(seen, [true; 4]);
        assert_eq!(random.between(5, 5), 5);
    }
}
