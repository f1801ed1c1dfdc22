//! Answers: status and body, both ways.

use std::sync::Arc;

use super::delivery::{DELIVERY_BYTES_MIN, decode_delivery, put_delivery};
use super::fields::{BodyError, Fields, put_count, put_error, put_short, read_many};
use super::frame::{begin_frame, finish_frame};
use super::request::{decode_next, put_next};
use super::request_type::RequestType;
use crate::base::command::{
    Answer, BackedUp, DestinationInfo, PartDone, Produced, Purged, SchedulePage, Status, Verdict,
};
use crate::base::destination::Kind;
use crate::base::error::{ClientError, Code};
use crate::base::lifecycle::State;

const OK: u8 = 0;
const FAILED: u8 = 1;

/// Outcomes of the parts of a transaction.
const DONE_PRODUCED: u8 = 1;
const DONE_VERDICTS: u8 = 2;

/// An answer as a client reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To hello.
    Hello(HelloAnswer),
    /// To stats: here the names come from the server.
    Stats(Vec<(String, u64)>),
    /// To everything else, and every failure.
    Answer(Answer),
}

/// What a server tells a client that said hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloAnswer {
    /// Protocol version spoken from now on.
    pub version: u16,
    /// Name and version of the server.
    pub server: String,
    /// Largest `length` of a frame.
    pub frame_max: u32,
    /// Most items of a batch.
    pub batch_max: u32,
    /// Longest body of a message, bytes.
    pub body_max: u32,
    /// Unanswered requests at which the server stops reading.
    pub requests_max: u32,
    /// Bytes of unanswered requests at which the server stops reading.
    pub request_bytes_max: u32,
    /// Silence after which the server closes the connection, ms.
    pub idle_timeout_ms: u32,
    /// The server's wall clock, ms since the Unix epoch.
    pub wall_ms: u64,
}

/// Appends the answer to a request of type `request_type`.
///
/// An answer that cannot be one to that type is a fault of the server and goes out as
/// [`Code::Internal`]: the client could not read it.
pub fn encode_answer(
    out: &mut Vec<u8>,
    request_type: RequestType,
    correlation: u32,
    answer: &Answer,
) {
    if let Answer::Failed(error) = answer {
        encode_failure(out, request_type.number(), correlation, error);
        return;
    }
    if !fits(request_type, answer) {
        let text = format!("{} got an answer of another kind", request_type.word());
        let error = ClientError::new(Code::Internal, text);
        encode_failure(out, request_type.number(), correlation, &error);
        return;
    }
    let start = begin_frame(out, request_type.number(), correlation);
    out.push(OK);
    match answer {
        Answer::Produced(results) => put_results(out, results),
        Answer::Statuses(statuses) => put_statuses(out, statuses),
        Answer::Verdicts(verdicts) => put_verdicts(out, verdicts),
        Answer::Transacted(parts) => {
            put_count(out, parts.len());
            for part in parts {
                match part {
                    PartDone::Produced(produced) => {
                        out.push(DONE_PRODUCED);
                        put_count(out, produced.len());
                        produced.iter().for_each(|produced| put_produced(out, produced));
                    }
                    PartDone::Verdicts(verdicts) => {
                        out.push(DONE_VERDICTS);
                        put_verdicts(out, verdicts);
                    }
                }
            }
        }
        Answer::Subscribed { next_offset } => out.extend_from_slice(&next_offset.to_be_bytes()),
        Answer::Scheduled(page) => {
            put_statuses(out, &page.entries);
            put_next(out, page.next);
        }
        Answer::Fetched { messages, next_offset } => {
            out.extend_from_slice(&next_offset.to_be_bytes());
            put_count(out, messages.len());
            for message in messages {
                put_delivery(out, message);
            }
        }
        Answer::Destinations(infos) => {
            put_count(out, infos.len());
            for info in infos {
                put_info(out, info);
            }
        }
        Answer::Destination(info) => put_info(out, info),
        Answer::Purged(purged) => {
            out.extend_from_slice(&purged.ready.to_be_bytes());
            out.extend_from_slice(&purged.scheduled.to_be_bytes());
        }
        Answer::BackedUp(made) => {
            for number in [made.files, made.bytes, made.linked_files, made.linked_bytes] {
                out.extend_from_slice(&number.to_be_bytes());
            }
        }
        Answer::Stats(counters) => {
            put_count(out, counters.len());
            for (name, value) in counters {
                put_short(out, name.as_bytes());
                out.extend_from_slice(&value.to_be_bytes());
            }
        }
        Answer::Done | Answer::Failed(_) => {}
    }
    finish_frame(out, start);
}

/// Appends a failed answer, or with type and correlation id 0 an error that answers no request.
pub fn encode_failure(out: &mut Vec<u8>, request_type: i32, correlation: u32, error: &ClientError) {
    let start = begin_frame(out, request_type, correlation);
    out.push(FAILED);
    put_error(out, error);
    finish_frame(out, start);
}

/// Appends the answer to hello.
pub fn encode_hello_answer(out: &mut Vec<u8>, correlation: u32, answer: &HelloAnswer) {
    let start = begin_frame(out, RequestType::Hello.number(), correlation);
    out.push(OK);
    out.extend_from_slice(&answer.version.to_be_bytes());
    put_short(out, answer.server.as_bytes());
    for number in [
        answer.frame_max,
        answer.batch_max,
        answer.body_max,
        answer.requests_max,
        answer.request_bytes_max,
        answer.idle_timeout_ms,
    ] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(&answer.wall_ms.to_be_bytes());
    finish_frame(out, start);
}

fn fits(request_type: RequestType, answer: &Answer) -> bool {
    use RequestType as T;
    matches!(
        (request_type, answer),
        (T::Produce | T::DelayedProduce | T::Repeat, Answer::Produced(_))
            | (T::Fetch, Answer::Fetched { .. })
            | (T::ListDestinations, Answer::Destinations(_))
            | (T::DescribeDestination | T::LimitDestination, Answer::Destination(_))
            | (T::CreateDestination | T::DeleteDestination, Answer::Done)
            | (T::PurgeDestination, Answer::Purged(_))
            | (T::PauseDestination, Answer::Done)
            | (T::Backup, Answer::BackedUp(_))
            | (T::Unsubscribe | T::Heartbeat, Answer::Done)
            | (T::Subscribe, Answer::Subscribed { .. })
            | (T::Acknowledge | T::Reject | T::Cancel | T::Reschedule, Answer::Verdicts(_))
            | (T::Transaction, Answer::Transacted(_))
            | (T::Query, Answer::Statuses(_))
            | (T::ListScheduled, Answer::Scheduled(_))
            | (T::Stats, Answer::Stats(_))
    )
}

fn put_results(out: &mut Vec<u8>, results: &[Result<Produced, Box<ClientError>>]) {
    out.reserve(4 + 17 * results.len());
    put_count(out, results.len());
    for result in results {
        match result {
            Ok(produced) => put_produced(out, produced),
            Err(error) => {
                out.push(2);
                put_error(out, error);
            }
        }
    }
}

fn put_produced(out: &mut Vec<u8>, produced: &Produced) {
    out.push(u8::from(produced.duplicate));
    out.extend_from_slice(&produced.id.to_bytes());
}

fn put_verdicts(out: &mut Vec<u8>, verdicts: &[Verdict]) {
    put_count(out, verdicts.len());
    for verdict in verdicts {
        out.extend_from_slice(&verdict.id.to_bytes());
        out.extend_from_slice(&[u8::from(verdict.done), verdict.state as u8]);
        out.extend_from_slice(&verdict.due_ms.to_be_bytes());
    }
}

fn put_statuses(out: &mut Vec<u8>, statuses: &[Status]) {
    put_count(out, statuses.len());
    for status in statuses {
        out.extend_from_slice(&status.id.to_bytes());
        out.push(status.state as u8);
        put_short(out, status.destination.as_bytes());
        out.extend_from_slice(&status.due_ms.to_be_bytes());
        out.extend_from_slice(&status.attempts.to_be_bytes());
        out.push(u8::from(status.recurring));
    }
}

fn kind_number(kind: Kind) -> u8 {
    match kind {
        Kind::Queue => 1,
        Kind::Topic => 2,
        Kind::DeadLetter => 3,
        Kind::Temporary => 4,
        Kind::Inbox => 5,
    }
}

fn put_info(out: &mut Vec<u8>, info: &DestinationInfo) {
    put_short(out, info.name.as_bytes());
    out.push(kind_number(info.kind));
    let DestinationInfo { scheduled, ready, in_flight, consumers, next_offset, unread, .. } = info;
    for number in [scheduled, ready, in_flight, consumers, next_offset, unread] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.push(u8::from(info.paused));
    out.extend_from_slice(&info.max_messages.to_be_bytes());
    out.extend_from_slice(&info.max_age_ms.to_be_bytes());
}

/// Reads the body of an answer to a request of type `request_type`.
pub(super) fn decode_answer(
    request_type: RequestType,
    mut fields: Fields,
) -> Result<Reply, BodyError> {
    use RequestType as T;
    let body = &mut fields;
    if decode_status(body)? {
        let error = body.client_error()?;
        fields.end()?;
        return Ok(Reply::Answer(Answer::Failed(error)));
    }
    let answer = match request_type {
        T::Produce | T::DelayedProduce | T::Repeat => {
            Answer::Produced(decode_many(body, 5, decode_result)?)
        }
        T::Fetch => {
            let next_offset = body.u64()?;
            let messages = decode_many(body, DELIVERY_BYTES_MIN, decode_delivery)?;
            Answer::Fetched { messages, next_offset }
        }
        T::ListDestinations => Answer::Destinations(decode_many(body, 60, decode_info)?),
        T::DescribeDestination | T::LimitDestination => Answer::Destination(decode_info(body)?),
        T::PurgeDestination => {
            Answer::Purged(Purged { ready: body.u64()?, scheduled: body.u64()? })
        }
        T::Backup => Answer::BackedUp(BackedUp {
            files: body.u64()?,
            bytes: body.u64()?,
            linked_files: body.u64()?,
            linked_bytes: body.u64()?,
        }),
        T::CreateDestination | T::DeleteDestination | T::PauseDestination => Answer::Done,
        T::Unsubscribe | T::Heartbeat => Answer::Done,
        T::Subscribe => Answer::Subscribed { next_offset: body.u64()? },
        T::Acknowledge | T::Reject | T::Cancel | T::Reschedule => {
            Answer::Verdicts(decode_many(body, 26, decode_verdict)?)
        }
        T::Transaction => Answer::Transacted(decode_many(body, 5, decode_part)?),
        T::Query => Answer::Statuses(decode_many(body, 32, decode_message_status)?),
        T::ListScheduled => {
            let entries = decode_many(body, 32, decode_message_status)?;
            Answer::Scheduled(SchedulePage { entries, next: decode_next(body)? })
        }
        T::Stats => {
            let counters = decode_many(body, 10, |body| Ok((body.text()?, body.u64()?)))?;
            fields.end()?;
            return Ok(Reply::Stats(counters));
        }
        T::Hello => {
            let answer = decode_hello_answer(body)?;
            return Ok(Reply::Hello(answer));
        }
    };
    fields.end()?;
    Ok(Reply::Answer(answer))
}

/// Whether an answer failed.
pub(super) fn decode_status(body: &mut Fields) -> Result<bool, BodyError> {
    match body.u8()? {
        OK => Ok(false),
        FAILED => Ok(true),
        _ => Err(body.error("a status is not known")),
    }
}

fn decode_many<T>(
    body: &mut Fields,
    item_bytes: usize,
    item: impl Fn(&mut Fields) -> Result<T, BodyError>,
) -> Result<Vec<T>, BodyError> {
    let count = body.count(item_bytes)?;
    read_many(body, count, item)
}

fn decode_result(body: &mut Fields) -> Result<Result<Produced, Box<ClientError>>, BodyError> {
    Ok(match body.u8()? {
        kind @ (0 | 1) => Ok(Produced { id: body.id()?, duplicate: kind == 1 }),
        2 => Err(Box::new(body.client_error()?)),
        _ => return Err(body.error("a result is not known")),
    })
}

fn decode_verdict(body: &mut Fields) -> Result<Verdict, BodyError> {
    Ok(Verdict {
        id: body.id()?,
        done: body.flag()?,
        state: decode_state(body)?,
        due_ms: body.u64()?,
    })
}

fn decode_part(body: &mut Fields) -> Result<PartDone, BodyError> {
    Ok(match body.u8()? {
        DONE_PRODUCED => PartDone::Produced(decode_many(body, 17, |body| {
            Ok(Produced { duplicate: body.flag()?, id: body.id()? })
        })?),
        DONE_VERDICTS => PartDone::Verdicts(decode_many(body, 26, decode_verdict)?),
        _ => return Err(body.error("an outcome of a part is not known")),
    })
}

fn decode_state(body: &mut Fields) -> Result<State, BodyError> {
    State::from_number(body.u8()?).ok_or_else(|| body.error("a state is not known"))
}

fn decode_message_status(body: &mut Fields) -> Result<Status, BodyError> {
    Ok(Status {
        id: body.id()?,
        state: decode_state(body)?,
        destination: body.text::<Arc<str>>()?,
        due_ms: body.u64()?,
        attempts: body.u32()?,
        recurring: body.flag()?,
    })
}

fn decode_info(body: &mut Fields) -> Result<DestinationInfo, BodyError> {
    let name = body.text::<Arc<str>>()?;
    let kind = match body.u8()? {
        1 => Kind::Queue,
        2 => Kind::Topic,
        3 => Kind::DeadLetter,
        4 => Kind::Temporary,
        5 => Kind::Inbox,
        _ => return Err(body.error("a kind of destination is not known")),
    };
    Ok(DestinationInfo {
        name,
        kind,
        scheduled: body.u64()?,
        ready: body.u64()?,
        in_flight: body.u64()?,
        consumers: body.u64()?,
        next_offset: body.u64()?,
        unread: body.u64()?,
        paused: body.flag()?,
        max_messages: body.u64()?,
        max_age_ms: body.u64()?,
    })
}

fn decode_hello_answer(body: &mut Fields) -> Result<HelloAnswer, BodyError> {
    // Bytes behind the fields are from a later server and skipped.
    Ok(HelloAnswer {
        version: body.u16()?,
        server: body.text()?,
        frame_max: body.u32()?,
        batch_max: body.u32()?,
        body_max: body.u32()?,
        requests_max: body.u32()?,
        request_bytes_max: body.u32()?,
        idle_timeout_ms: body.u32()?,
        wall_ms: body.u64()?,
    })
}
