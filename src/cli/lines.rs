//! The lines of `publish --lines`: each is a body, or a JSON object that describes a message.

use std::fmt;
use std::io::{self, BufRead, Read};

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::Value;

use crate::base::error::{ClientError, Code};
use crate::base::limits;
use crate::base::message::{Delay, Message};
use crate::base::time::DELAY_MAX_MS;
use crate::cli::failure::Failure;
use crate::cli::time;

/// Messages of a batch. Few enough for a short answer time, enough for throughput.
const BATCH_MESSAGES: usize = 500;
/// Bytes of bodies after which a batch is complete, so that memory stays constant.
const BATCH_BYTES: usize = 1024 * 1024;
/// Longest line: a largest body with every byte escaped, and its headers.
const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What the flags say for every line; an object overrides it.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// Everything but the body.
    pub(crate) template: Message,
    /// Takes every line as a body, whatever it looks like.
    pub(crate) raw: bool,
}

/// Messages of consecutive lines.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Number of the line of the first message; lines count from 1.
    pub(crate) first_line: u64,
    /// One message a line.
    pub(crate) messages: Vec<Message>,
    /// Bytes of the file read so far.
    pub(crate) bytes_read: u64,
}

/// Reads a file batch by batch.
#[derive(Debug)]
pub(crate) struct Batches<R> {
    reader: io::BufReader<R>,
    rules: Rules,
    line: u64,
    bytes_read: u64,
}

impl<R: Read> Batches<R> {
    pub(crate) fn new(source: R, rules: Rules) -> Self {
        let reader = io::BufReader::with_capacity(256 * 1024, source);
        Self { reader, rules, line: 0, bytes_read: 0 }
    }

    /// The next batch; `None` at the end. A batch also ends where the source has nothing more at
    /// hand, so that lines of a slow pipe do not wait for others.
    ///
    /// # Errors
    /// The first bad line of the batch, with its number; nothing of the batch may be sent then.
    pub(crate) fn next(&mut self) -> Result<Option<Batch>, Failure> {
        let mut batch = Batch { first_line: self.line + 1, messages: Vec::new(), bytes_read: 0 };
        let mut bytes = 0;
        let mut line = Vec::new();
        while batch.messages.len() < BATCH_MESSAGES && bytes < BATCH_BYTES {
            line.clear();
            if !self.read_line(&mut line)? {
                break;
            }
            let message =
                parse(&line, self.line, &self.rules).map_err(|error| at(self.line, error))?;
            bytes += line.len();
            batch.messages.push(message);
            if self.reader.buffer().is_empty() {
                break;
            }
        }
        batch.bytes_read = self.bytes_read;
        Ok(if batch.messages.is_empty() { None } else { Some(batch) })
    }

    /// Reads one line without its end; `false` at the end of the file.
    fn read_line(&mut self, line: &mut Vec<u8>) -> Result<bool, Failure> {
        let most = LINE_BYTES_MAX as u64 + 2;
        let read = self.reader.by_ref().take(most).read_until(b'\n', line).map_err(|error| {
            Failure::Failed(format!("cannot read behind line {}: {error}", self.line))
        })?;
        if read == 0 {
            return Ok(false);
        }
        self.line += 1;
        self.bytes_read += read as u64;
        if line.ends_with(b"\n") {
            line.pop();
            if line.ends_with(b"\r") {
                line.pop();
            }
        }
        if line.len() > LINE_BYTES_MAX {
            let why = format!("is longer than {LINE_BYTES_MAX} bytes");
            return Err(at(self.line, ClientError::new(Code::BodyTooLarge, why)));
        }
        Ok(true)
    }
}

/// An error about a line.
pub(crate) fn at(line: u64, error: ClientError) -> Failure {
    Failure::Refused(ClientError::new(error.code, format!("line {line}: {}", error.message)))
}

/// Reads one line.
///
/// # Errors
/// What is wrong with it, as the server would refuse it; [`Code::Malformed`] for an object that
/// does not describe a message.
pub(crate) fn parse(line: &[u8], number: u64, rules: &Rules) -> Result<Message, ClientError> {
    let mut message = rules.template.clone();
    // One dedup id for a whole file makes one for each line, so that a file can be sent again.
    if !message.dedup.is_empty() {
        message.dedup.extend_from_slice(format!(":{number}").as_bytes());
    }
    if rules.raw || !line.trim_ascii_start().starts_with(b"{") {
        message.content.body = line.to_vec();
    } else {
        let object: Object = serde_json::from_slice(line).map_err(|error| {
            let text = error.to_string();
            // The position of the library counts lines of its own.
            let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
            malformed(format!(
                "{text}, at column {}; an object describes a message, as in {{\"body\": \"…\", \
                 \"in\": \"10m\"}}; to publish the lines as they stand, add --raw",
                error.column()
            ))
        })?;
        object.apply(&mut message)?;
    }
    // Sizes are judged here, so that nothing of the batch is sent before.
    message.encode(&mut Vec::new())?;
    Ok(message)
}

fn malformed(why: impl Into<String>) -> ClientError {
    ClientError::new(Code::Malformed, why)
}

/// A message as a line describes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    body: String,
    #[serde(default, rename = "in")]
    after: Option<Value>,
    at: Option<Value>,
    level: Option<i64>,
    key: Option<String>,
    #[serde(default, deserialize_with = "headers")]
    headers: Vec<(String, String)>,
    priority: Option<u64>,
    expires: Option<Value>,
    dedup_id: Option<String>,
}

impl Object {
    /// Puts what the object says over what the flags say; headers of both are kept.
    fn apply(self, message: &mut Message) -> Result<(), ClientError> {
        message.content.body = self.body.into_bytes();
        let bad_delay = |why| ClientError::new(Code::BadDelay, why);
        match (self.after, self.at, self.level) {
            (None, None, None) => {}
            (Some(after), None, None) => {
                let ms = duration_value("in", &after).map_err(bad_delay)?;
                if ms > DELAY_MAX_MS {
                    return Err(Code::DelayTooLong.into());
                }
                message.delay = Delay::After(ms.cast_signed());
            }
            (None, Some(at), None) => {
                message.delay = Delay::At(time_value(&at).map_err(bad_delay)?);
            }
            (None, None, Some(level)) if (1..=18).contains(&level) => {
                message.delay = Delay::Level(level);
            }
            (None, None, Some(_)) => return Err(Code::BadLevel.into()),
            _ => return Err(malformed("use one of in, at, level")),
        }
        if let Some(key) = self.key {
            message.content.key = key;
        }
        message.content.headers.extend(self.headers);
        if let Some(priority) = self.priority {
            message.priority = u8::try_from(priority)
                .ok()
                .filter(|priority| *priority <= limits::PRIORITY_MAX)
                .ok_or_else(|| ClientError::from(Code::BadPriority))?;
        }
        if let Some(expires) = self.expires {
            message.expires_after_ms =
                Some(duration_value("expires", &expires).map_err(malformed)?);
        }
        if let Some(dedup) = self.dedup_id {
            if dedup.is_empty() {
                return Err(Code::BadDedupId.into());
            }
            message.dedup = dedup.into_bytes();
        }
        Ok(())
    }
}

fn duration_value(name: &str, value: &Value) -> Result<u64, String> {
    match value {
        Value::String(text) => time::duration_ms(text).map_err(|why| format!("{name}: {why}")),
        Value::Number(number) => number
            .as_u64()
            .filter(|ms| i64::try_from(*ms).is_ok())
            .ok_or_else(|| format!("{name}: {number} is not a number of ms")),
        _ => Err(format!("{name}: write a text such as \"10m\", or a number of ms")),
    }
}

fn time_value(value: &Value) -> Result<i64, String> {
    match value {
        Value::String(text) => time::time_ms(text).map_err(|why| format!("at: {why}")),
        Value::Number(number) => {
            number.as_i64().ok_or_else(|| format!("at: {number} is not a number of ms since 1970"))
        }
        _ => Err("at: write a time as RFC 3339 text, or ms since 1970".into()),
    }
}

/// Headers in the order given.
fn headers<'de, D: serde::Deserializer<'de>>(source: D) -> Result<Vec<(String, String)>, D::Error> {
    struct Pairs;
    impl<'de> Visitor<'de> for Pairs {
        type Value = Vec<(String, String)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("headers as an object of texts")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            while let Some(pair) = map.next_entry()? {
                pairs.push(pair);
            }
            Ok(pairs)
        }
    }
    source.deserialize_map(Pairs)
}

#[cfg(test)]
#[path = "lines_tests.rs"]
mod tests;
