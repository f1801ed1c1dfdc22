//! SEND: a frame as a message.

use bytes::Bytes;

use super::message::OURS;
use super::owed::{Receipt, What};
use super::transaction::Step;
use super::{Moment, Session, required, when};
use crate::base::command::Command;
use crate::base::error::{ClientError, Code};
use crate::base::id::MessageId;
use crate::base::message::{MessageBatch, NewMessage, encode_parts};
use crate::base::recur::SCHEDULE_HEADER;
use crate::base::{content, limits};
use crate::wire::stomp::Frame;

/// Headers that are for the server and not for those who get the message, beside [`OURS`].
const FOR_US: [&str; 18] = [
    "AMQ_SCHEDULED_CRON",
    "AMQ_SCHEDULED_DELAY",
    "AMQ_SCHEDULED_PERIOD",
    "AMQ_SCHEDULED_REPEAT",
    "AMQ_SCHEDULED_TIME",
    "cron",
    "deliver-at",
    "delay",
    "delay-level",
    "key",
    "period",
    "receipt",
    "repeat",
    SCHEDULE_HEADER,
    "scheduledJobId",
    "time-zone",
    "transaction",
    "x-delay",
];

/// Where requests to the scheduler of another broker go; some clients know how to ask there.
const MANAGEMENT: &str = "ActiveMQ.Scheduler.Management";

impl Session {
    pub(super) fn send(
        &mut self,
        frame: &Frame,
        receipt: Receipt,
        now: Moment,
    ) -> Result<(), ClientError> {
        let destination = required(frame, "destination")?;
        if destination.trim_start_matches("/topic/").trim_start_matches("/queue/") == MANAGEMENT {
            return self.manage(frame, receipt);
        }
        let to = self.names.target(destination)?.into_owned();
        let when = when::read(&frame.headers, now.wall_ms)?;
        let reply_to = self.reply_to(frame)?;
        let mut content = Vec::with_capacity(frame.body.len() + 256);
        let expires = when.expires_at_ms.map(|ms| ms.to_string());
        let headers = frame.headers.iter().filter_map(|(name, value)| match name {
            "expires" => Some((name, expires.as_deref()?)),
            "reply-to" => Some((name, reply_to.as_deref().unwrap_or(value))),
            _ if OURS.contains(&name) || FOR_US.contains(&name) => None,
            _ => Some((name, value)),
        });
        let key = frame.get("key").unwrap_or_default();
        content::encode_parts(key, headers, &frame.body, &mut content)?;
        let mut message = Vec::with_capacity(content.len() + 64);
        encode_parts(
            &NewMessage {
                priority: priority(frame)?,
                delay: when.delay,
                expires_after_ms: when.expires_after_ms,
                dedup: dedup(frame)?,
                content: &content,
            },
            &mut message,
        );
        let Some(rule) = when.rule else {
            let step = Step::Send { to: to.into(), message };
            if let Some(Step::Send { to, message }) = self.in_transaction(frame, &receipt, step)? {
                self.gather_send(&to, &message, receipt);
            }
            return Ok(());
        };
        if frame.get("transaction").is_some() {
            let why = "a recurring schedule is not part of a transaction; send it by itself";
            return Err(ClientError::new(Code::BadSchedule, why));
        }
        let bytes = message.len();
        let batch = MessageBatch::parse(message.into(), 1)?;
        let destination = Bytes::from(to);
        self.ask(What::Sends, receipt, bytes, Command::Repeat { destination, rule, batch });
        Ok(())
    }

    /// The reply address that others can use, when it is a temporary queue of this session: it is made,
    /// and subscribed to, by being named.
    fn reply_to(&mut self, frame: &Frame) -> Result<Option<String>, ClientError> {
        let Some(name) = frame.get("reply-to") else { return Ok(None) };
        let Some(told) = self.names.temporary(name) else { return Ok(None) };
        if told != name {
            self.subscribe_replies(name)?;
        }
        Ok(Some(told))
    }

    /// Cancels a schedule for clients that know how to ask another broker to.
    fn manage(&mut self, frame: &Frame, receipt: Receipt) -> Result<(), ClientError> {
        let action = required(frame, "AMQ_SCHEDULER_ACTION")?;
        if action != "REMOVE" {
            let why = format!("the scheduler knows REMOVE only, not {action:?}");
            return Err(ClientError::new(Code::Malformed, why));
        }
        let text = required(frame, "scheduledJobId")?;
        let id: MessageId = text.parse().map_err(|_| {
            ClientError::new(Code::BadId, format!("scheduledJobId {text:?} is no message id"))
        })?;
        self.ask(What::Cancel, receipt, 0, Command::Cancel { ids: vec![id] });
        Ok(())
    }
}

fn priority(frame: &Frame) -> Result<u8, ClientError> {
    let Some(text) = frame.get("priority") else { return Ok(limits::PRIORITY_DEFAULT) };
    text.trim().parse().ok().filter(|priority| *priority <= limits::PRIORITY_MAX).ok_or_else(|| {
        ClientError::new(Code::BadPriority, format!("priority is {text:?}; it is from 0 to 9"))
    })
}

fn dedup(frame: &Frame) -> Result<Option<&[u8]>, ClientError> {
    let Some(id) = frame.get("dedup-id") else { return Ok(None) };
    if id.is_empty() || id.len() > limits::DEDUP_BYTES_MAX {
        return Err(Code::BadDedupId.into());
    }
    Ok(Some(id.as_bytes()))
}
