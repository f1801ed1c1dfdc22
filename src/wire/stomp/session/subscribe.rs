//! SUBSCRIBE and UNSUBSCRIBE.

use bytes::Bytes;

use super::names::part;
use super::owed::{Receipt, What};
use super::subscriptions::{AckMode, Out, Subscription};
use super::{Session, flag, required};
use crate::base::command::{Command, StartAt, Subscribe};
use crate::base::error::{ClientError, Code};
use crate::base::limits;
use crate::base::time::parse_duration_ms;
use crate::wire::stomp::{Frame, Version};

/// Headers that name a durable subscription, in the order they are looked at.
const DURABLE_NAMES: [&str; 3] =
    ["durable-subscription-name", "durable-subscriber-name", "activemq.subscriptionName"];
/// Headers that say how many messages may be out.
const PREFETCHES: [&str; 2] = ["prefetch-count", "activemq.prefetchSize"];
/// What would choose messages, and is not done: to ignore it would deliver what was not asked for.
const CHOICES: [(&str, &str); 4] =
    [("selector", ""), ("browser", "false"), ("no-local", "false"), ("activemq.noLocal", "false")];

/// How a subscription outlives its session.
#[derive(Debug, Default)]
struct Lasting {
    /// What the engine is to call it; empty when it does not.
    name: String,
    /// Others may have it too.
    shared: bool,
}

impl Session {
    pub(super) fn subscribe(&mut self, frame: &Frame, receipt: Receipt) -> Result<(), ClientError> {
        let destination = required(frame, "destination")?;
        let id = match frame.get("id") {
            None if self.version > Version::V10 => {
                return Err(ClientError::new(Code::Malformed, "SUBSCRIBE needs the header id"));
            }
            id => id,
        };
        let key = id.unwrap_or(destination);
        if self.subscriptions.number(key).is_some() {
            let why = format!("there is a subscription with the id {key:?} already");
            return Err(ClientError::new(Code::SubscriptionExists, why));
        }
        for (name, harmless) in CHOICES {
            if let Some(value) = frame.get(name).filter(|value| *value != harmless) {
                let why = format!("{name}:{value} is not done here: all messages would come");
                return Err(ClientError::new(Code::BadHeader, why));
            }
        }
        let mode = match frame.get("ack") {
            None | Some("auto") => AckMode::Auto,
            Some("client") => AckMode::Cumulative,
            Some("client-individual") => AckMode::Individual,
            Some(other) => {
                let why = format!("ack is {other:?}; it is auto, client or client-individual");
                return Err(ClientError::new(Code::BadHeader, why));
            }
        };
        let source = self.names.source(destination)?;
        let lasting = self.lasting(frame, &source)?;
        let subscription = Subscription {
            id: id.map(Into::into),
            destination: destination.into(),
            source: (*source).into(),
            mode,
            durable: !lasting.name.is_empty(),
            credit: credit(frame)?,
            out: Out::default(),
        };
        let (start, ack_timeout_ms) = (start(frame)?, ack_timeout_ms(frame)?);
        self.begin(subscription, lasting, start, ack_timeout_ms, receipt);
        Ok(())
    }

    fn begin(
        &mut self,
        subscription: Subscription,
        lasting: Lasting,
        start: StartAt,
        ack_timeout_ms: u64,
        receipt: Receipt,
    ) {
        let wish = Subscribe {
            subscription: 0,
            destination: Bytes::copy_from_slice(subscription.source.as_bytes()),
            credit: subscription.credit,
            ack_timeout_ms,
            durable: lasting.name.into(),
            start,
            shared: lasting.shared,
        };
        let number = self.subscriptions.add(subscription);
        let command = Command::Subscribe(Subscribe { subscription: number, ..wish });
        self.ask(What::Plain, receipt, 0, command);
    }

    /// Subscribes to a temporary queue that was named as a reply address, unless that was done.
    pub(super) fn subscribe_replies(&mut self, name: &str) -> Result<(), ClientError> {
        let source = self.names.source(name)?;
        if self.subscriptions.reads(&source) {
            return Ok(());
        }
        let subscription = Subscription {
            id: Some(name.into()),
            destination: name.into(),
            source: (*source).into(),
            mode: AckMode::Auto,
            durable: false,
            credit: limits::STOMP_CREDIT_DEFAULT,
            out: Out::default(),
        };
        self.begin(subscription, Lasting::default(), StartAt::Unread, 0, None);
        Ok(())
    }

    /// What outlives the session. It belongs to the user: nobody else comes to the same name.
    fn lasting(&self, frame: &Frame, source: &str) -> Result<Lasting, ClientError> {
        let named = DURABLE_NAMES.iter().find_map(|name| frame.get(name));
        let wanted = flag(frame, "durable")?.or(flag(frame, "persistent")?).unwrap_or(false);
        let shared = flag(frame, "shared")?.unwrap_or(false);
        let inbox = source.starts_with("/user/");
        let (user, client) = (self.names.user(), part(&self.client));
        let lasting = match named {
            Some(_) if !inbox && !source.starts_with("/topic/") => {
                return Err(ClientError::new(
                    Code::WrongKind,
                    "a queue needs no durable subscription: it keeps its messages by itself",
                ));
            }
            Some(name) => Lasting { name: format!("{user}/{client}/{}", part(name)), shared },
            // A device with a name has its own place in an inbox.
            None if inbox => Lasting { name: client, shared: false },
            None if !wanted || !source.starts_with("/topic/") => Lasting::default(),
            // By its id alone, from whatever client: as many as say it share it.
            None => {
                Lasting { name: format!("{user}//{}", part(required(frame, "id")?)), shared: true }
            }
        };
        let (bytes, max) = (lasting.name.len(), limits::SUBSCRIPTION_NAME_BYTES_MAX);
        if bytes > max {
            let why = format!(
                "user, client-id and the subscription's name have {bytes} bytes together; at most {max} are allowed"
            );
            return Err(ClientError::new(Code::BadHeader, why));
        }
        Ok(lasting)
    }

    pub(super) fn unsubscribe(
        &mut self,
        frame: &Frame,
        receipt: Receipt,
    ) -> Result<(), ClientError> {
        let key = match (frame.get("id"), frame.get("destination")) {
            (Some(id), _) => id,
            (None, Some(destination)) if self.version == Version::V10 => destination,
            _ => return Err(ClientError::new(Code::Malformed, "UNSUBSCRIBE needs the header id")),
        };
        let number = self.subscriptions.number(key).ok_or_else(|| {
            ClientError::new(
                Code::SubscriptionNotFound,
                format!("there is no subscription {key:?}"),
            )
        })?;
        let forget = DURABLE_NAMES.iter().any(|name| frame.get(name).is_some())
            || flag(frame, "durable")? == Some(true)
            || flag(frame, "persistent")? == Some(true);
        let durable = self.subscriptions.remove(number).is_some_and(|ended| ended.durable);
        let command = Command::Unsubscribe { subscription: number, delete: forget && durable };
        self.ask(What::Plain, receipt, 0, command);
        Ok(())
    }
}

/// How many messages may be out. There is always a bound.
fn credit(frame: &Frame) -> Result<u32, ClientError> {
    let Some((name, text)) = PREFETCHES.iter().find_map(|name| Some((name, frame.get(name)?)))
    else {
        return Ok(limits::STOMP_CREDIT_DEFAULT);
    };
    match text.trim().parse::<u64>() {
        Ok(0) => Ok(limits::STOMP_CREDIT_DEFAULT),
        Ok(count) => Ok(u32::try_from(count).unwrap_or(u32::MAX).min(limits::CREDIT_MAX)),
        Err(_) => {
            let why = format!("{name} is {text:?}; it is a number of messages");
            Err(ClientError::new(Code::BadCredit, why))
        }
    }
}

/// Where it begins, in the words of two systems.
fn start(frame: &Frame) -> Result<StartAt, ClientError> {
    let said = ["from", "x-stream-offset"].iter().find_map(|name| Some((name, frame.get(name)?)));
    let Some((name, text)) = said else { return Ok(StartAt::Unread) };
    match text {
        "earliest" | "first" => Ok(StartAt::Earliest),
        "latest" | "next" => Ok(StartAt::Latest),
        _ => text.strip_prefix("offset=").unwrap_or(text).parse().map(StartAt::Offset).map_err(
            |_| {
                let why = format!("{name} is {text:?}; it is earliest, latest or an offset");
                ClientError::new(Code::BadHeader, why)
            },
        ),
    }
}

fn ack_timeout_ms(frame: &Frame) -> Result<u64, ClientError> {
    let Some(text) = frame.get("ack-timeout") else { return Ok(0) };
    parse_duration_ms(text).ok_or_else(|| {
        let why = format!("ack-timeout is {text:?}; write for example 30s");
        ClientError::new(Code::BadDelay, why)
    })
}
