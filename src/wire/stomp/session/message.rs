//! MESSAGE frames, written from what the engine hands over without taking it apart.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::subscriptions::{AckMode, Subscription};
use crate::base::command::Delivery;
use crate::base::content;
use crate::base::id::MessageId;
use crate::base::recur::SCHEDULE_HEADER;
use crate::wire::stomp::encode::{end, header, number};
use crate::wire::stomp::{Command, Version};

/// Headers that the server says of a message. What a producer says under these names is not passed on.
pub(super) const OURS: [&str; 10] = [
    "ack",
    "body-encoding",
    "content-length",
    "delivery-attempt",
    "destination",
    "message-id",
    "offset",
    "priority",
    "redelivered",
    "subscription",
];

/// Writes a message as a frame for a subscription. With `text_only`, a body that is no UTF-8 is in base 64,
/// and the header `body-encoding` says so.
pub(super) fn encode(
    delivery: &Delivery,
    to: &Subscription,
    version: Version,
    text_only: bool,
) -> Bytes {
    let (key, headers) = content::key_and_headers(&delivery.content);
    let body = content::body(&delivery.content);
    let encoded = (text_only && std::str::from_utf8(body).is_err()).then(|| STANDARD.encode(body));
    let mut out = Vec::with_capacity(delivery.content.len() + 320);
    out.extend_from_slice(Command::Message.word().as_bytes());
    out.push(b'\n');
    if let Some(id) = &to.id {
        header("subscription", id, false, version, &mut out);
    }
    // Who subscribed to many is told which one it was.
    let destination = if delivery.by_pattern { &*delivery.destination } else { &*to.destination };
    header("destination", destination, false, version, &mut out);
    let line = |name: &str, value: &str, out: &mut Vec<u8>| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(value.as_bytes());
        out.push(b'\n');
    };
    let count = |name: &str, value: u64, out: &mut Vec<u8>| {
        out.extend_from_slice(name.as_bytes());
        number(value, out);
        out.push(b'\n');
    };
    line("message-id:", &delivery.id.to_string(), &mut out);
    if to.mode != AckMode::Auto {
        line("ack:", &ack_id(delivery), &mut out);
    }
    line("redelivered:", if delivery.attempt > 1 { "true" } else { "false" }, &mut out);
    count("delivery-attempt:", u64::from(delivery.attempt), &mut out);
    if delivery.offset > 0 {
        count("offset:", delivery.offset, &mut out);
    }
    count("priority:", u64::from(delivery.priority), &mut out);
    if !key.is_empty() {
        header("key", key, false, version, &mut out);
    }
    for (name, value) in headers.filter(|(name, _)| !OURS.contains(name)) {
        let name = if name == SCHEDULE_HEADER { "scheduledJobId" } else { name };
        header(name, value, false, version, &mut out);
    }
    if encoded.is_some() {
        line("body-encoding:", "base64", &mut out);
    }
    end(encoded.as_ref().map_or(body, String::as_bytes), true, &mut out);
    out.into()
}

/// What a delivery is acknowledged by: another one each time, of letters, digits and hyphens only. It says
/// itself what it stands for.
fn ack_id(delivery: &Delivery) -> String {
    format!("{}-{}-{}", delivery.subscription, delivery.id, delivery.attempt)
}

/// The subscription and the message that an `ack` stands for.
pub(super) fn parse_ack_id(text: &str) -> Option<(u32, MessageId)> {
    let mut parts = text.split('-');
    let (number, id, attempt) = (parts.next()?, parts.next()?, parts.next()?);
    let _: u32 = attempt.parse().ok()?;
    let parsed = (number.parse().ok()?, id.parse().ok()?);
    parts.next().is_none().then_some(parsed)
}
