//! What goes to stdout: the JSON contract of the commands, and texts for people.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use serde::Serialize;

use crate::base::command::{DestinationInfo, Status, Verdict};
use crate::base::lifecycle::State;
use crate::cli::failure::Failure;
use crate::cli::time::{show_distance, show_duration, show_time};

/// Buffered stdout, for people or for programs.
#[derive(Debug)]
pub(crate) struct Out {
    writer: BufWriter<Stdout>,
    /// Whether programs read it: one JSON object a line.
    pub(crate) json: bool,
}

impl Out {
    /// The output of a command.
    pub(crate) fn new(json: bool) -> Self {
        Self { writer: BufWriter::with_capacity(64 * 1024, io::stdout()), json }
    }

    /// Writes a line of text.
    pub(crate) fn text(&mut self, text: &str) -> io::Result<()> {
        self.writer.write_all(text.as_bytes())?;
        self.writer.write_all(b"\n")
    }

    /// Writes a line of JSON.
    pub(crate) fn object(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.writer, value)?;
        self.writer.write_all(b"\n")
    }

    /// Writes the object for programs, or else the text for people.
    pub(crate) fn either(
        &mut self,
        value: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> io::Result<()> {
        if self.json { self.object(value) } else { self.text(&text()) }
    }

    /// Hands over everything written so far.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Whether a person watches stderr.
pub(crate) fn person_watches() -> bool {
    io::stderr().is_terminal()
}

/// A line of `publish --json`.
#[derive(Debug, Serialize)]
pub(crate) struct PublishedLine<'a> {
    pub(crate) id: String,
    pub(crate) destination: &'a str,
    pub(crate) due_ms: u64,
}

/// A line of `query --json` and of `list --json`.
#[derive(Debug, Serialize)]
pub(crate) struct StatusLine<'a> {
    id: String,
    state: &'static str,
    destination: &'a str,
    due_ms: u64,
    attempts: u32,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    recurring: bool,
}

impl<'a> From<&'a Status> for StatusLine<'a> {
    fn from(status: &'a Status) -> Self {
        Self {
            id: status.id.to_string(),
            state: status.state.word(),
            destination: &status.destination,
            due_ms: status.due_ms,
            attempts: status.attempts,
            recurring: status.recurring,
        }
    }
}

/// A status for people.
pub(crate) fn show_status(status: &Status, now_ms: u64) -> String {
    let mut text = format!("{}  {}", status.id, status.state.word());
    if !status.destination.is_empty() {
        text.push_str(&format!("  {}", status.destination));
    }
    if status.due_ms != 0 {
        let distance = show_distance(status.due_ms, now_ms);
        text.push_str(&format!("  due {} ({distance})", show_time(status.due_ms)));
    }
    if status.recurring {
        text.push_str(&format!("  recurring, {} runs so far", status.attempts));
        return text;
    }
    match status.attempts {
        0 => {}
        1 => text.push_str("  delivered once"),
        n => text.push_str(&format!("  delivered {n} times")),
    }
    text
}

/// A line of `cancel --json` and `reschedule --json`.
#[derive(Debug, Serialize)]
pub(crate) struct AnswerLine {
    pub(crate) id: String,
    pub(crate) answer: &'static str,
}

/// The answer word of cancel and reschedule: `done` when it took place, else why not.
pub(crate) fn answer_word(verdict: &Verdict, done: &'static str) -> &'static str {
    if verdict.done {
        return done;
    }
    match verdict.state {
        // Not done and still scheduled: nothing happened to it.
        State::Scheduled => "scheduled",
        State::Ready => "delivered",
        State::InFlight => "in delivery",
        State::Acknowledged => "acknowledged",
        State::Cancelled => "already cancelled",
        State::Expired => "expired",
        State::Dead => "dead",
        State::Gone => "gone",
        State::Unknown => "unknown",
        State::Ended => "ended",
    }
}

/// A line of `subscribe --json`.
#[derive(Debug, Serialize)]
pub(crate) struct ReceivedLine<'a> {
    pub(crate) id: String,
    pub(crate) destination: &'a str,
    /// `null` when the body is not UTF-8; then `body_base64` stands beside it.
    pub(crate) body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) body_base64: Option<String>,
    pub(crate) due_ms: u64,
    pub(crate) received_ms: u64,
    pub(crate) attempt: u32,
    pub(crate) redelivered: bool,
}

/// The two fields of a body: text, or base 64 of what is not text.
pub(crate) fn body_fields(body: &[u8]) -> (Option<&str>, Option<String>) {
    match std::str::from_utf8(body) {
        Ok(text) => (Some(text), None),
        Err(_) => (None, Some(base64(body))),
    }
}

/// A body on one line for people: control characters are escaped, what is not text is base 64.
pub(crate) fn show_body(body: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(body) else {
        return format!("base64:{}", base64(body));
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A line of `destinations --json`.
#[derive(Debug, Serialize)]
pub(crate) struct DestinationLine<'a> {
    name: &'a str,
    kind: &'static str,
    scheduled: u64,
    ready: u64,
    in_flight: u64,
    consumers: u64,
    next_offset: u64,
    unread: u64,
    paused: bool,
    max_messages: u64,
    max_age_ms: u64,
}

impl<'a> From<&'a DestinationInfo> for DestinationLine<'a> {
    fn from(info: &'a DestinationInfo) -> Self {
        Self {
            name: &info.name,
            kind: info.kind.word(),
            scheduled: info.scheduled,
            ready: info.ready,
            in_flight: info.in_flight,
            consumers: info.consumers,
            next_offset: info.next_offset,
            unread: info.unread,
            paused: info.paused,
            max_messages: info.max_messages,
            max_age_ms: info.max_age_ms,
        }
    }
}

/// The limits of a destination for people; empty when it has none.
pub(crate) fn show_limits(info: &DestinationInfo) -> String {
    let mut parts = Vec::new();
    if info.max_messages != 0 {
        parts.push(format!("at most {}", count_of(info.max_messages, "message")));
    }
    if info.max_age_ms != 0 {
        parts.push(format!("at most {} old", show_duration(info.max_age_ms)));
    }
    parts.join(", ")
}

/// A line of `create --json`, `delete --json`, `pause --json` and `resume --json`.
#[derive(Debug, Serialize)]
pub(crate) struct DoneLine<'a> {
    pub(crate) destination: &'a str,
    pub(crate) answer: &'static str,
}

impl DoneLine<'_> {
    /// Writes it as the one result of a command.
    pub(crate) fn write(&self, out: &mut Out) -> Result<(), Failure> {
        out.either(self, || format!("{}  {}", self.destination, self.answer))?;
        Ok(out.flush()?)
    }
}

/// A line of `purge --json`.
#[derive(Debug, Serialize)]
pub(crate) struct PurgedLine<'a> {
    pub(crate) destination: &'a str,
    pub(crate) ready: u64,
    pub(crate) scheduled: u64,
}

/// A line of `limit --json`.
#[derive(Debug, Serialize)]
pub(crate) struct LimitLine<'a> {
    pub(crate) destination: &'a str,
    pub(crate) max_messages: u64,
    pub(crate) max_age_ms: u64,
}

/// A number with its thousands apart.
pub(crate) fn show_count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at != 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A number and its noun: `1 message`, `2 000 messages`.
pub(crate) fn count_of(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", show_count(number), if number == 1 { "" } else { "s" })
}

/// Standard base 64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let group = (at(0) << 16) | (at(1) << 8) | at(2);
        for position in 0..4 {
            if position <= chunk.len() {
                let sextet = (group >> (18 - 6 * position)) & 63;
                text.push(char::from(ALPHABET[sextet as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
