//! What a server sends: pushes, and the frames of a server as a client reads them.

use super::answer::{Reply, decode_answer, decode_status};
use super::delivery::{
    DELIVERY_BYTES_MIN, NAMED_BYTES_MIN, decode_delivery, decode_named, put_delivery, put_named,
};
use super::fields::{BodyError, Fields, put_count, put_error, read_many};
use super::frame::{Frame, HEADER_BYTES, begin_frame, finish_frame};
use super::request_type::RequestType;
use crate::base::command::Delivery;
use crate::base::error::ClientError;
use crate::base::limits;

/// Numbers of pushes. They are permanent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum PushType {
    /// Messages for subscriptions.
    Deliver = 100,
    /// A subscription was ended by the server.
    Ended = 101,
    /// The server closes the connection after this.
    Goodbye = 102,
    /// Messages for subscriptions with a pattern, with their destinations.
    DeliverNamed = 103,
}

impl PushType {
    /// Every push type, in order of number.
    pub const ALL: [Self; 4] = [Self::Deliver, Self::Ended, Self::Goodbye, Self::DeliverNamed];

    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> i32 {
        i32::from(self as u8)
    }

    /// The name of the push, as in the protocol document.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Deliver => "deliver",
            Self::Ended => "ended",
            Self::Goodbye => "goodbye",
            Self::DeliverNamed => "deliver named",
        }
    }
}

/// A frame of deliveries that is being filled at the end of a buffer. Nothing else may be written
/// to the buffer until it is finished.
#[derive(Debug)]
pub struct DeliverFrame {
    start: usize,
    count: usize,
    /// Each message says its destination.
    named: bool,
}

impl DeliverFrame {
    /// Begins a frame at the end of `out`. `named`: each message says its destination, as those of
    /// subscriptions with a pattern do.
    #[must_use]
    pub fn begin(out: &mut Vec<u8>, named: bool) -> Self {
        let push = if named { PushType::DeliverNamed } else { PushType::Deliver };
        let start = begin_frame(out, push.number(), 0);
        put_count(out, 0);
        Self { start, count: 0, named }
    }

    /// Appends one message.
    pub fn push(&mut self, out: &mut Vec<u8>, delivery: &Delivery) {
        if self.named {
            put_named(out, delivery);
        } else {
            put_delivery(out, delivery);
        }
        self.count += 1;
    }

    /// Whether `delivery` still belongs into this frame: it is like those before, and the frame stays within
    /// [`limits::DELIVER_FRAME_BYTES`], or is empty.
    #[must_use]
    pub fn has_room(&self, out: &[u8], delivery: &Delivery) -> bool {
        let filled = out.len() - self.start;
        let name = if self.named { 2 + delivery.destination.len() } else { 0 };
        let wanted = filled + name + DELIVERY_BYTES_MIN + delivery.content.len();
        let fits = self.count == 0 || wanted <= limits::DELIVER_FRAME_BYTES;
        fits && self.named == delivery.by_pattern
    }

    /// Completes the frame.
    pub fn finish(self, out: &mut [u8]) {
        let count_at = self.start + HEADER_BYTES;
        out[count_at..count_at + 4].copy_from_slice(&(self.count as u32).to_be_bytes());
        finish_frame(out, self.start);
    }
}

/// Appends a push that tells the end of a subscription.
pub fn encode_ended(out: &mut Vec<u8>, subscription: u32, reason: &ClientError) {
    let start = begin_frame(out, PushType::Ended.number(), 0);
    out.extend_from_slice(&subscription.to_be_bytes());
    put_error(out, reason);
    finish_frame(out, start);
}

/// Appends the push after which the server closes the connection.
pub fn encode_goodbye(out: &mut Vec<u8>, reason: &ClientError) {
    let start = begin_frame(out, PushType::Goodbye.number(), 0);
    put_error(out, reason);
    finish_frame(out, start);
}

/// A frame of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerFrame {
    /// The answer to a request.
    Answer {
        /// Correlation id of the request.
        correlation: u32,
        /// The answer.
        reply: Reply,
    },
    /// Messages for subscriptions.
    Deliver(Vec<Delivery>),
    /// A subscription was ended by the server.
    Ended {
        /// The session's number of the subscription.
        subscription: u32,
        /// Why.
        reason: ClientError,
    },
    /// The server closes the connection after this.
    Goodbye(ClientError),
    /// The server could not read what it was sent, or takes no connection; it closes.
    Failed(ClientError),
    /// A push of a later version, to be skipped.
    Unknown,
}

impl ServerFrame {
    /// Reads a frame of a server.
    ///
    /// # Errors
    /// [`BodyError`] when the body does not have the shape of its type.
    pub fn decode(frame: Frame) -> Result<Self, BodyError> {
        let (number, correlation) = (frame.request_type, frame.correlation);
        let mut fields = Fields::new(frame.body);
        if let Some(request_type) = RequestType::from_number(number) {
            let reply = decode_answer(request_type, fields)?;
            return Ok(Self::Answer { correlation, reply });
        }
        let body = &mut fields;
        let read = match PushType::ALL.into_iter().find(|push| push.number() == number) {
            Some(PushType::Deliver) => {
                let count = body.count(DELIVERY_BYTES_MIN)?;
                Self::Deliver(read_many(body, count, decode_delivery)?)
            }
            Some(PushType::DeliverNamed) => {
                let count = body.count(NAMED_BYTES_MIN)?;
                Self::Deliver(read_many(body, count, decode_named)?)
            }
            Some(PushType::Ended) => {
                Self::Ended { subscription: body.u32()?, reason: body.client_error()? }
            }
            Some(PushType::Goodbye) => Self::Goodbye(body.client_error()?),
            None if number > PushType::DeliverNamed.number() => return Ok(Self::Unknown),
            // An error about a frame whose type the server does not know, or could not read.
            None => {
                if !decode_status(body)? {
                    return Err(body.error("an answer to a request type that is not known"));
                }
                Self::Failed(body.client_error()?)
            }
        };
        fields.end()?;
        Ok(read)
    }
}
