//! Requests: their bodies both ways.

use bytes::Bytes;

use super::fields::{BodyError, Fields, put_count, put_short, read_many};
use super::frame::{Frame, HEADER_BYTES, begin_frame, finish_frame};
use super::request_type::{RequestType, is_delayed};
use crate::base::command::{Command, Part, StartAt, Subscribe};
use crate::base::error::{ClientError, Code};
use crate::base::id::{Key, MessageId};
use crate::base::limits;
use crate::base::message::{Delay, MessageBatch};

/// The version of the protocol spoken here.
pub const PROTOCOL_VERSION: u16 = 1;

/// A flag of subscribe: the durable subscription is shared.
const SUBSCRIBE_SHARED: u8 = 1;

/// Which limits a limit destination sets.
const LIMIT_MESSAGES: u8 = 1;
const LIMIT_AGE: u8 = 2;

/// Kinds of parts of a transaction, and the least that one takes, bytes.
const PART_PRODUCE: u8 = 1;
const PART_ACKNOWLEDGE: u8 = 2;
const PART_REJECT: u8 = 3;
const PART_BYTES_MIN: usize = 10;

/// What a client says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Lowest protocol version the client speaks.
    pub version_min: u16,
    /// Highest protocol version the client speaks.
    pub version_max: u16,
    /// Name of the client, for logs.
    pub name: String,
    /// Authentication; empty for now.
    pub token: String,
    /// Names the device or process over reconnects; may be empty.
    pub client_id: String,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The first request of a connection.
    Hello(Hello),
    /// A sign of life.
    Heartbeat,
    /// Anything that the shard executes.
    Command(Command),
}

/// Why a frame is not a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The bytes do not follow the protocol: the connection ends after this error.
    #[error("{0}")]
    Bad(ClientError),
    /// The request is well-formed and refused; the connection goes on.
    #[error("{0}")]
    Refused(ClientError),
}

impl Request {
    /// Reads a request. The messages of a produce stay where they are in the frame's buffer.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn decode(frame: Frame) -> Result<(RequestType, Self), Fault> {
        let Some(request_type) = RequestType::from_number(frame.request_type) else {
            return Err(Fault::Bad(ClientError::new(
                Code::UnknownRequest,
                format!(
                    "the frame at byte {} has request type {}, which this server does not know",
                    frame.at, frame.request_type
                ),
            )));
        };
        let at = frame.at;
        match decode_body(request_type, frame.body) {
            Ok(request) => Ok((request_type, request)),
            Err(BodyFault::Refused(error)) => Err(Fault::Refused(error)),
            Err(BodyFault::Bad(error)) => {
                let byte = at + (HEADER_BYTES + error.at) as u64;
                Err(Fault::Bad(ClientError::new(
                    Code::Malformed,
                    format!("{}: {}, at byte {byte}", request_type.word(), error.what),
                )))
            }
            Err(BodyFault::Version(min, max)) => Err(Fault::Bad(ClientError::new(
                Code::UnsupportedVersion,
                format!(
                    "this server speaks protocol version {PROTOCOL_VERSION}, \
                     the hello at byte {at} asks for {min} to {max}"
                ),
            ))),
            Err(BodyFault::Messages(error)) => Err(Fault::Bad(ClientError::new(
                error.code,
                format!("{}: {}, in the frame at byte {at}", request_type.word(), error.message),
            ))),
        }
    }
}

enum BodyFault {
    Bad(BodyError),
    Messages(ClientError),
    Version(u16, u16),
    Refused(ClientError),
}

impl From<BodyError> for BodyFault {
    fn from(error: BodyError) -> Self {
        Self::Bad(error)
    }
}

fn decode_body(request_type: RequestType, body: Bytes) -> Result<Request, BodyFault> {
    let mut fields = Fields::new(body);
    let body = &mut fields;
    let command = match request_type {
        RequestType::Produce | RequestType::DelayedProduce => {
            return decode_produce(fields, request_type == RequestType::Produce);
        }
        RequestType::Repeat => return decode_repeat(fields),
        RequestType::Hello => return decode_hello(fields),
        RequestType::Heartbeat => {
            fields.end()?;
            return Ok(Request::Heartbeat);
        }
        RequestType::Fetch => {
            Command::Fetch { destination: body.name()?, offset: body.u64()?, limit: body.u32()? }
        }
        RequestType::ListDestinations => {
            Command::ListDestinations { after: body.name()?, limit: body.u32()? }
        }
        RequestType::CreateDestination => Command::CreateDestination { name: body.name()? },
        RequestType::DeleteDestination => Command::DeleteDestination { name: body.name()? },
        RequestType::DescribeDestination => Command::DescribeDestination { name: body.name()? },
        RequestType::Subscribe => Command::Subscribe(decode_subscribe(body)?),
        RequestType::Unsubscribe => {
            Command::Unsubscribe { subscription: body.u32()?, delete: body.flag()? }
        }
        RequestType::Acknowledge => {
            let (subscription, cumulative) = (body.u32()?, body.flag()?);
            Command::Acknowledge { subscription, cumulative, ids: decode_ids(body)? }
        }
        RequestType::Reject => {
            let (subscription, requeue) = (body.u32()?, body.flag()?);
            Command::Reject { subscription, requeue, ids: decode_ids(body)? }
        }
        RequestType::Transaction => Command::Transaction { parts: decode_parts(body)? },
        RequestType::Query => Command::Query { ids: decode_ids(body)? },
        RequestType::Cancel => Command::Cancel { ids: decode_ids(body)? },
        RequestType::Reschedule => Command::Reschedule {
            items: decode_items(body, 25, |fields| {
                let id = fields.id()?;
                let (kind, value) = (fields.u8()?, fields.i64()?);
                let delay = Delay::from_wire(kind, value)
                    .ok_or_else(|| fields.error("a delay kind is not known"))?;
                Ok((id, delay))
            })?,
        },
        RequestType::ListScheduled => Command::List {
            destination: body.name()?,
            from_ms: body.u64()?,
            to_ms: body.u64()?,
            limit: body.u32()?,
            after: decode_next(body)?,
        },
        RequestType::PurgeDestination => {
            Command::PurgeDestination { name: body.name()?, scheduled: body.flag()? }
        }
        RequestType::PauseDestination => {
            Command::PauseDestination { name: body.name()?, paused: body.flag()? }
        }
        RequestType::LimitDestination => decode_limit(body)?,
        RequestType::Backup => Command::Backup { directory: body.name()? },
        RequestType::Stats => Command::Stats,
    };
    fields.end()?;
    Ok(Request::Command(command))
}

fn decode_produce(mut fields: Fields, only_now: bool) -> Result<Request, BodyFault> {
    let destination = fields.name()?;
    let (count, messages) = (fields.u32()?, fields.into_rest());
    let batch = decode_batch(count, messages)?;
    if only_now && is_delayed(&batch) {
        return Err(BodyFault::Refused(ClientError::new(
            Code::BadDelay,
            "a message of a produce (1) has a delay; use delayed produce (26)",
        )));
    }
    Ok(Request::Command(Command::Produce { destination, batch }))
}

fn decode_repeat(mut fields: Fields) -> Result<Request, BodyFault> {
    let (destination, rule) = (fields.name()?, fields.rule()?);
    let (count, messages) = (fields.u32()?, fields.into_rest());
    let batch = decode_batch(count, messages)?;
    Ok(Request::Command(Command::Repeat { destination, rule, batch }))
}

fn decode_batch(count: u32, messages: Bytes) -> Result<MessageBatch, BodyFault> {
    MessageBatch::parse(messages, count as usize).map_err(|error| match error.code {
        Code::BadBatch => BodyFault::Refused(error),
        _ => BodyFault::Messages(error),
    })
}

fn decode_parts(fields: &mut Fields) -> Result<Vec<Part>, BodyFault> {
    let count = fields.count(PART_BYTES_MIN)?;
    let max = limits::TRANSACTION_PARTS_MAX;
    if count == 0 || count > max {
        return Err(BodyFault::Refused(ClientError::new(
            Code::BadBatch,
            format!("a transaction of {count} parts; send 1 to {max}"),
        )));
    }
    let mut parts = Vec::with_capacity(count);
    for _ in 0..count {
        parts.push(match fields.u8()? {
            PART_PRODUCE => {
                let (destination, count) = (fields.name()?, fields.u32()?);
                let len = fields.u32()?;
                let batch = decode_batch(count, fields.bytes(len as usize)?)?;
                Part::Produce { destination, batch }
            }
            PART_ACKNOWLEDGE => {
                let (subscription, cumulative) = (fields.u32()?, fields.flag()?);
                Part::Acknowledge { subscription, cumulative, ids: decode_part_ids(fields)? }
            }
            PART_REJECT => {
                let (subscription, requeue) = (fields.u32()?, fields.flag()?);
                Part::Reject { subscription, requeue, ids: decode_part_ids(fields)? }
            }
            _ => return Err(fields.error("a part is not known").into()),
        });
    }
    Ok(parts)
}

/// As many as there are; how many there may be is for the engine to say.
fn decode_part_ids(fields: &mut Fields) -> Result<Vec<MessageId>, BodyError> {
    let count = fields.count(16)?;
    read_many(fields, count, Fields::id)
}

fn put_part(out: &mut Vec<u8>, part: &Part) {
    match part {
        Part::Produce { destination, batch } => {
            out.push(PART_PRODUCE);
            put_short(out, destination);
            put_count(out, batch.count());
            put_count(out, batch.bytes().len());
            out.extend_from_slice(batch.bytes());
        }
        Part::Acknowledge { subscription, ids, cumulative: flag } => {
            out.push(PART_ACKNOWLEDGE);
            put_held(out, *subscription, *flag, ids);
        }
        Part::Reject { subscription, ids, requeue: flag } => {
            out.push(PART_REJECT);
            put_held(out, *subscription, *flag, ids);
        }
    }
}

/// Deliveries of a subscription, and what of them is wanted.
fn put_held(out: &mut Vec<u8>, subscription: u32, flag: bool, ids: &[MessageId]) {
    out.extend_from_slice(&subscription.to_be_bytes());
    out.push(u8::from(flag));
    put_ids(out, ids);
}

fn decode_hello(mut fields: Fields) -> Result<Request, BodyFault> {
    // The versions are judged before the rest, whose shape belongs to the version.
    let (version_min, version_max) = (fields.u16()?, fields.u16()?);
    if version_min > version_max {
        return Err(fields.error("the lowest version is above the highest").into());
    }
    if !(version_min..=version_max).contains(&PROTOCOL_VERSION) {
        return Err(BodyFault::Version(version_min, version_max));
    }
    let mut limited = |max: usize| {
        let text: String = fields.text()?;
        if text.len() > max {
            return Err(fields.error("a text of hello is longer than allowed"));
        }
        Ok(text)
    };
    let name = limited(limits::CLIENT_NAME_BYTES_MAX)?;
    let token = limited(limits::TOKEN_BYTES_MAX)?;
    let client_id = limited(limits::CLIENT_NAME_BYTES_MAX)?;
    if fields.u8()? != 0 {
        return Err(fields.error("compression other than 0 is not known").into());
    }
    Ok(Request::Hello(Hello { version_min, version_max, name, token, client_id }))
}

fn decode_subscribe(fields: &mut Fields) -> Result<Subscribe, BodyError> {
    let (subscription, credit) = (fields.u32()?, fields.u32()?);
    let ack_timeout_ms = fields.u64()?;
    let (start, offset) = (fields.u8()?, fields.u64()?);
    let start = match (start, offset) {
        (0, 0) => StartAt::Latest,
        (1, 0) => StartAt::Earliest,
        (2, offset) => StartAt::Offset(offset),
        (3, 0) => StartAt::Unread,
        (0 | 1 | 3, _) => return Err(fields.error("an offset without start 2")),
        _ => return Err(fields.error("a start is not known")),
    };
    let flags = fields.u8()?;
    if flags & !SUBSCRIBE_SHARED != 0 {
        return Err(fields.error("a flag of subscribe is not known"));
    }
    let shared = flags & SUBSCRIBE_SHARED != 0;
    let (destination, durable) = (fields.name()?, fields.name()?);
    Ok(Subscribe { subscription, destination, credit, ack_timeout_ms, durable, start, shared })
}

fn decode_limit(fields: &mut Fields) -> Result<Command, BodyError> {
    let name = fields.name()?;
    let there = fields.u8()?;
    if there & !(LIMIT_MESSAGES | LIMIT_AGE) != 0 {
        return Err(fields.error("a limit is not known"));
    }
    let mut limit = |bit| (there & bit != 0).then(|| fields.u64()).transpose();
    let (max_messages, max_age_ms) = (limit(LIMIT_MESSAGES)?, limit(LIMIT_AGE)?);
    Ok(Command::LimitDestination { name, max_messages, max_age_ms })
}

fn decode_ids(fields: &mut Fields) -> Result<Vec<MessageId>, BodyFault> {
    decode_items(fields, 16, Fields::id)
}

fn decode_items<T>(
    fields: &mut Fields,
    item_bytes: usize,
    item: impl Fn(&mut Fields) -> Result<T, BodyError>,
) -> Result<Vec<T>, BodyFault> {
    let count = fields.count(item_bytes)?;
    if count * item_bytes < fields.remaining() {
        return Err(fields.error("more bytes than the count says").into());
    }
    let max = limits::BATCH_ITEMS_MAX;
    if count == 0 || count > max {
        return Err(BodyFault::Refused(ClientError::new(
            Code::BadBatch,
            format!("a batch of {count} items; send 1 to {max}"),
        )));
    }
    Ok(read_many(fields, count, item)?)
}

pub(super) fn decode_next(fields: &mut Fields) -> Result<Option<Key>, BodyError> {
    if fields.flag()? {
        Ok(Some(Key { due_ms: fields.u64()?, sequence: fields.u64()? }))
    } else {
        Ok(None)
    }
}

pub(super) fn put_next(out: &mut Vec<u8>, next: Option<Key>) {
    out.push(u8::from(next.is_some()));
    if let Some(key) = next {
        out.extend_from_slice(&key.due_ms.to_be_bytes());
        out.extend_from_slice(&key.sequence.to_be_bytes());
    }
}

/// Appends a frame that asks for `command`.
pub fn encode_command(out: &mut Vec<u8>, correlation: u32, command: &Command) {
    let start = begin_frame(out, RequestType::of(command).number(), correlation);
    match command {
        Command::Produce { destination, batch } => {
            put_short(out, destination);
            put_batch(out, batch);
        }
        Command::Repeat { destination, rule, batch } => {
            put_short(out, destination);
            rule.encode(out);
            put_batch(out, batch);
        }
        Command::Query { ids } | Command::Cancel { ids } => put_ids(out, ids),
        Command::Reschedule { items } => {
            put_count(out, items.len());
            for (id, delay) in items {
                let (kind, value) = delay.to_wire();
                out.extend_from_slice(&id.to_bytes());
                out.push(kind);
                out.extend_from_slice(&value.to_be_bytes());
            }
        }
        Command::Subscribe(subscribe) => put_subscribe(out, subscribe),
        Command::Unsubscribe { subscription, delete } => {
            out.extend_from_slice(&subscription.to_be_bytes());
            out.push(u8::from(*delete));
        }
        Command::Acknowledge { subscription, ids, cumulative: flag }
        | Command::Reject { subscription, ids, requeue: flag } => {
            put_held(out, *subscription, *flag, ids);
        }
        Command::Transaction { parts } => {
            put_count(out, parts.len());
            parts.iter().for_each(|part| put_part(out, part));
        }
        Command::List { destination, from_ms, to_ms, limit, after } => {
            put_short(out, destination);
            out.extend_from_slice(&from_ms.to_be_bytes());
            out.extend_from_slice(&to_ms.to_be_bytes());
            out.extend_from_slice(&limit.to_be_bytes());
            put_next(out, *after);
        }
        Command::Fetch { destination, offset, limit } => {
            put_short(out, destination);
            out.extend_from_slice(&offset.to_be_bytes());
            out.extend_from_slice(&limit.to_be_bytes());
        }
        Command::ListDestinations { after, limit } => {
            put_short(out, after);
            out.extend_from_slice(&limit.to_be_bytes());
        }
        Command::CreateDestination { name }
        | Command::DeleteDestination { name }
        | Command::DescribeDestination { name }
        | Command::Backup { directory: name } => put_short(out, name),
        Command::PurgeDestination { name, scheduled: flag }
        | Command::PauseDestination { name, paused: flag } => {
            put_short(out, name);
            out.push(u8::from(*flag));
        }
        Command::LimitDestination { name, max_messages, max_age_ms } => {
            put_short(out, name);
            let messages = max_messages.map_or(0, |_| LIMIT_MESSAGES);
            out.push(messages | max_age_ms.map_or(0, |_| LIMIT_AGE));
            for limit in [max_messages, max_age_ms].into_iter().flatten() {
                out.extend_from_slice(&limit.to_be_bytes());
            }
        }
        Command::Stats => {}
    }
    finish_frame(out, start);
}

fn put_batch(out: &mut Vec<u8>, batch: &MessageBatch) {
    put_count(out, batch.count());
    out.extend_from_slice(batch.bytes());
}

fn put_subscribe(out: &mut Vec<u8>, subscribe: &Subscribe) {
    let (start, offset) = match subscribe.start {
        StartAt::Latest => (0, 0),
        StartAt::Earliest => (1, 0),
        StartAt::Offset(offset) => (2, offset),
        StartAt::Unread => (3, 0),
    };
    out.extend_from_slice(&subscribe.subscription.to_be_bytes());
    out.extend_from_slice(&subscribe.credit.to_be_bytes());
    out.extend_from_slice(&subscribe.ack_timeout_ms.to_be_bytes());
    out.push(start);
    out.extend_from_slice(&offset.to_be_bytes());
    out.push(if subscribe.shared { SUBSCRIBE_SHARED } else { 0 });
    put_short(out, &subscribe.destination);
    put_short(out, &subscribe.durable);
}

fn put_ids(out: &mut Vec<u8>, ids: &[MessageId]) {
    put_count(out, ids.len());
    for id in ids {
        out.extend_from_slice(&id.to_bytes());
    }
}

/// Appends a hello frame.
pub fn encode_hello(out: &mut Vec<u8>, correlation: u32, hello: &Hello) {
    let start = begin_frame(out, RequestType::Hello.number(), correlation);
    out.extend_from_slice(&hello.version_min.to_be_bytes());
    out.extend_from_slice(&hello.version_max.to_be_bytes());
    put_short(out, hello.name.as_bytes());
    put_short(out, hello.token.as_bytes());
    put_short(out, hello.client_id.as_bytes());
    out.push(0);
    finish_frame(out, start);
}

/// Appends a heartbeat frame.
pub fn encode_heartbeat(out: &mut Vec<u8>, correlation: u32) {
    let start = begin_frame(out, RequestType::Heartbeat.number(), correlation);
    finish_frame(out, start);
}
