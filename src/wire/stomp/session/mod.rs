//! One STOMP session as a state machine: bytes and answers in, commands and frames out. It knows no socket
//! and no clock, so every rule of the protocol can be tried at every cut of the stream.
//!
//! The owner of a session hands it what the client sent ([`Session::receive`]), what the engine says
//! ([`Session::hear`]) and the time ([`Session::tick`]); then takes what is to be asked
//! ([`Session::take_commands`]) and what is to be written ([`Session::take_frames`]), and tells when that was
//! written ([`Session::written`]).
//!
//! Answers come in the order of the frames. A session that is owed much takes no further frame until it was
//! answered ([`Session::is_full`]): its owner reads no more meanwhile.

mod answers;
mod connect;
mod gather;
mod message;
mod names;
mod owed;
mod pulse;
mod send;
mod settle;
mod subscribe;
mod subscriptions;
mod transaction;
mod when;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;

use self::gather::Gather;
use self::names::Names;
use self::owed::{Owed, Receipt, What};
use self::pulse::Pulse;
use self::subscriptions::{AckMode, Subscriptions};
use self::transaction::Transactions;
use crate::base::command::{self, Outgoing};
use crate::base::error::{ClientError, Code};
use crate::base::id::MessageId;
use crate::base::limits;
use crate::wire::stomp::{Command, Decoder, Frame, Limits, Version};

pub use self::connect::Credentials;
pub use self::names::SESSION_NAME_LEN;

/// The time, as its owner's clocks say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// On a clock that only goes forward, ms.
    pub mono_ms: u64,
    /// Since the Unix epoch, ms.
    pub wall_ms: u64,
}

/// What all sessions of a server have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name and version of the server: `name/version`, without a blank.
    pub server: String,
    /// How often the server can be heard and wants to hear its clients, ms; 0 neither.
    pub heart_beat_ms: u64,
    /// How long a client may take until it is connected, ms.
    pub connect_timeout_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server: concat!("postdate/", env!("CARGO_PKG_VERSION")).to_owned(),
            heart_beat_ms: limits::STOMP_HEART_BEAT_MS,
            connect_timeout_ms: limits::HELLO_TIMEOUT_MS,
        }
    }
}

/// How large a frame may be that comes from a stranger, and from one who is known.
const STRANGER: Limits = Limits {
    headers: limits::STOMP_HEADERS_MAX,
    header_line_bytes: limits::HELLO_BYTES_MAX,
    header_bytes: limits::HELLO_BYTES_MAX,
    body_bytes: 0,
};
const KNOWN: Limits = Limits {
    headers: limits::STOMP_HEADERS_MAX,
    header_line_bytes: limits::STOMP_HEADER_LINE_BYTES_MAX,
    header_bytes: limits::STOMP_HEADER_BYTES_MAX,
    body_bytes: limits::BODY_BYTES_MAX,
};

/// How a connection is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The client said goodbye, and was answered.
    Goodbye,
    /// An ERROR frame was the last.
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// CONNECT is to come.
    Waiting,
    /// CONNECT came; whether the client may come in is being looked at.
    Judging,
    Open,
    /// No further frame is taken. What is owed is told, and then it ends.
    Closing,
    Ended(Ending),
}

/// A session. See the module.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    name: Box<str>,
    opened_ms: u64,
    stage: Stage,
    version: Version,
    decoder: Decoder,
    credentials: Option<Credentials>,
    heart_beat: pulse::Wish,
    pulse: Pulse,
    names: Names,
    client: Box<str>,
    subscriptions: Subscriptions,
    transactions: Transactions,
    owed: Owed,
    gather: Option<Gather>,
    commands: Vec<(u64, command::Command)>,
    frames: Vec<Bytes>,
    /// Messages among `frames` that are acknowledged by being written.
    unwritten: Vec<(u32, MessageId)>,
    /// The same of frames that were taken.
    writing: Vec<(u32, MessageId)>,
    ignored: u64,
    /// What carries the session carries text only.
    text_only: bool,
}

impl Session {
    /// A session of a connection that was just made. `name` tells it from all others, of
    /// [`SESSION_NAME_LEN`] hexadecimal digits.
    #[must_use]
    pub fn new(settings: Arc<Settings>, name: &str, now: Moment) -> Self {
        Self {
            settings,
            name: name.into(),
            opened_ms: now.mono_ms,
            stage: Stage::Waiting,
            version: Version::V10,
            decoder: Decoder::new(STRANGER),
            credentials: None,
            heart_beat: pulse::Wish::default(),
            pulse: Pulse::new(now.mono_ms),
            names: Names::new(name, ""),
            client: "".into(),
            subscriptions: Subscriptions::default(),
            transactions: Transactions::default(),
            owed: Owed::default(),
            gather: None,
            commands: Vec::new(),
            frames: Vec::new(),
            unwritten: Vec::new(),
            writing: Vec::new(),
            ignored: 0,
            text_only: false,
        }
    }

    /// What carries the session carries UTF-8 only: a body that is none is written in base 64.
    pub fn write_text_only(&mut self) {
        self.text_only = true;
    }

    /// The client sent something.
    pub fn receive(&mut self, bytes: &[u8], now: Moment) {
        self.pulse.heard(now.mono_ms);
        if matches!(self.stage, Stage::Waiting | Stage::Judging | Stage::Open) {
            self.decoder.push(bytes);
            self.work(now);
        }
    }

    /// The engine says something.
    pub fn hear(&mut self, outgoing: Outgoing, now: Moment) {
        match outgoing {
            Outgoing::Answer { tag, answer } => {
                self.owed.answered(tag, answer);
                self.pay();
                self.work(now);
            }
            Outgoing::Deliver(delivery) => {
                let number = delivery.subscription;
                // One that crossed with UNSUBSCRIBE; the engine has it back.
                let Some(subscription) = self.subscriptions.get_mut(number) else { return };
                if matches!(self.stage, Stage::Ended(_)) {
                    return;
                }
                self.frames.push(message::encode(
                    &delivery,
                    subscription,
                    self.version,
                    self.text_only,
                ));
                if subscription.mode == AckMode::Auto {
                    self.unwritten.push((number, delivery.id));
                } else {
                    subscription.delivered(delivery.id);
                }
            }
            Outgoing::Ended { subscription, reason } => {
                if self.subscriptions.remove(subscription).is_some() {
                    self.refuse(reason, None);
                }
            }
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Moment) {
        match self.stage {
            Stage::Waiting if now.mono_ms >= self.connect_deadline() => {
                let ms = self.settings.connect_timeout_ms;
                let why = format!("no CONNECT within {ms} ms");
                self.refuse(ClientError::new(Code::HelloExpected, why), None);
            }
            Stage::Open => {
                if self.is_full() {
                    // Nobody listens at the moment.
                    self.pulse.heard(now.mono_ms);
                }
                if let Some(silent_ms) = self.pulse.gone(now.mono_ms) {
                    let why =
                        format!("nothing was heard for {silent_ms} ms; send heart-beats as agreed");
                    self.end(ClientError::new(Code::Malformed, why));
                } else if self.pulse.beats(now.mono_ms) && self.frames.is_empty() {
                    self.frames.push(Bytes::from_static(b"\n"));
                }
            }
            _ => {}
        }
    }

    /// When [`Self::tick`] has something to do, ms on the monotonic clock.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u64> {
        match self.stage {
            Stage::Waiting => Some(self.connect_deadline()),
            Stage::Open => self.pulse.next(),
            _ => None,
        }
    }

    fn connect_deadline(&self) -> u64 {
        self.opened_ms.saturating_add(self.settings.connect_timeout_ms)
    }

    /// What is to be asked of the engine, in order, with the tags that its answers carry.
    pub fn take_commands(&mut self) -> Vec<(u64, command::Command)> {
        self.seal();
        std::mem::take(&mut self.commands)
    }

    /// What is to be written: whole frames and heart-beats. [`Self::written`] is to be said when they are.
    pub fn take_frames(&mut self, now: Moment) -> Vec<Bytes> {
        if !self.frames.is_empty() {
            self.pulse.sent(now.mono_ms);
            self.writing.append(&mut self.unwritten);
        }
        std::mem::take(&mut self.frames)
    }

    /// What was taken is written: messages that need no acknowledgement of their own have it now. On a
    /// connection that broke before, they come again.
    pub fn written(&mut self) {
        for (number, id) in std::mem::take(&mut self.writing) {
            if self.subscriptions.get(number).is_some() {
                self.settle(number, &[id], settle::Verdict::Done, None);
            }
        }
    }

    /// Whether so much is owed that nothing more is to be read from the client.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.owed.frames() >= limits::REQUESTS_IN_FLIGHT_MAX
            || self.owed.bytes() >= limits::REQUEST_BYTES_IN_FLIGHT_MAX
    }

    /// Whether something that was asked is not answered.
    #[must_use]
    pub fn is_owed(&self) -> bool {
        self.owed.frames() > 0
    }

    /// How the connection is to be closed, once everything is written.
    #[must_use]
    pub fn ending(&self) -> Option<Ending> {
        match self.stage {
            Stage::Ended(ending) => Some(ending),
            _ => None,
        }
    }

    /// The server says goodbye: what was asked is still answered.
    pub fn leave(&mut self, reason: ClientError) {
        self.refuse(reason, None);
    }

    /// Ends at once; no answer will come any more.
    pub fn end(&mut self, reason: ClientError) {
        if !matches!(self.stage, Stage::Ended(_)) {
            self.error(&reason, None, None);
        }
    }

    /// Acknowledgements of what was not out, so far.
    #[must_use]
    pub fn ignored_acknowledgements(&self) -> u64 {
        self.ignored
    }

    /// Takes frames as long as there are any and they may be taken.
    fn work(&mut self, now: Moment) {
        while matches!(self.stage, Stage::Waiting | Stage::Open) && !self.is_full() {
            match self.decoder.next() {
                Ok(Some(frame)) => self.take(frame, now),
                Ok(None) => return,
                Err(error) => {
                    self.refuse(ClientError::new(Code::Malformed, error.to_string()), None);
                }
            }
        }
    }

    fn take(&mut self, frame: Frame, now: Moment) {
        let receipt: Receipt = frame.get("receipt").map(Into::into);
        if let Err(error) = self.carry_out(frame, receipt.clone(), now) {
            self.refuse(error, receipt);
        }
    }

    fn carry_out(
        &mut self,
        frame: Frame,
        receipt: Receipt,
        now: Moment,
    ) -> Result<(), ClientError> {
        let connects = matches!(frame.command, Command::Connect | Command::Stomp);
        if connects != (self.stage == Stage::Waiting) {
            let why = if connects {
                "this connection is connected already".to_owned()
            } else {
                format!("{} before CONNECT", frame.command.word())
            };
            return Err(ClientError::new(Code::HelloExpected, why));
        }
        match frame.command {
            Command::Connect | Command::Stomp => self.connect(&frame),
            Command::Send => self.send(&frame, receipt, now),
            Command::Subscribe => self.subscribe(&frame, receipt),
            Command::Unsubscribe => self.unsubscribe(&frame, receipt),
            Command::Ack => self.ack(&frame, settle::Verdict::Done, receipt),
            Command::Nack => self.nack(&frame, receipt),
            Command::Disconnect => {
                self.seal();
                self.owed.say(What::Leave, receipt);
                self.stage = Stage::Closing;
                self.pay();
                Ok(())
            }
            Command::Begin => self.begin_transaction(&frame, receipt),
            Command::Commit => self.commit(&frame, receipt),
            Command::Abort => self.abort(&frame, receipt),
            Command::Connected | Command::Message | Command::Receipt | Command::Error => {
                let why = format!("{} is for servers to send", frame.command.word());
                Err(ClientError::new(Code::Malformed, why))
            }
        }
    }

    /// Something asks the engine: what was gathered goes before it.
    fn ask(&mut self, what: What, receipt: Receipt, bytes: usize, command: command::Command) {
        self.seal();
        let tag = self.owed.ask(what, receipt, bytes);
        self.commands.push((tag, command));
    }

    /// A frame was done without asking anybody.
    fn done(&mut self, receipt: Receipt) {
        if receipt.is_some() {
            self.seal();
            self.owed.say(What::Plain, receipt);
            self.pay();
        }
    }

    /// Takes no further frame, and tells why after what is owed.
    fn refuse(&mut self, error: ClientError, receipt: Receipt) {
        self.refuse_with(error, receipt, None);
    }

    fn refuse_with(
        &mut self,
        error: ClientError,
        receipt: Receipt,
        header: Option<(&'static str, &'static str)>,
    ) {
        if matches!(self.stage, Stage::Closing | Stage::Ended(_)) {
            return;
        }
        self.stage = Stage::Closing;
        self.seal();
        self.owed.say(What::Fail(error, header), receipt);
        self.pay();
    }
}

/// A header that a frame must have.
fn required<'a>(frame: &'a Frame, name: &str) -> Result<&'a str, ClientError> {
    frame.get(name).ok_or_else(|| {
        let why = format!("{} needs the header {name}", frame.command.word());
        ClientError::new(Code::Malformed, why)
    })
}

/// A header that is true or false; `None` when it is not there.
fn flag(frame: &Frame, name: &str) -> Result<Option<bool>, ClientError> {
    match frame.get(name) {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(other) => {
            let why = format!("{name} is {other:?}; it is true or false");
            Err(ClientError::new(Code::BadHeader, why))
        }
    }
}
