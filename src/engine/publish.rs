//! Accepting messages and destinations.

use std::sync::Arc;

use crate::base::command::{Answer, Produced};
use crate::base::destination::{self, Kind};
use crate::base::error::{ClientError, Code};
use crate::base::event::{Event, EventSink};
use crate::base::id::{DestinationId, MessageId, SessionId};
use crate::base::message::{Delay, MessageBatch, NewMessage};
use crate::base::recur::Rule;
use crate::base::time::{ClockKind, DELAY_MAX_MS, Now, delay_level_ms};
use crate::base::{content, limits};

use super::Engine;
use super::messages::MESSAGE_OVERHEAD_BYTES;
use super::recur::Repeated;

/// A delay made absolute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) due_ms: u64,
    pub(super) clock: ClockKind,
    pub(super) at_once: bool,
}

/// Turns a delay into a due time, once and for all.
pub(super) fn resolve(now: &Now, delay: Delay) -> Result<Due, ClientError> {
    let after =
        |ms: u64| Due { due_ms: now.mono_ms + ms, clock: ClockKind::Mono, at_once: ms == 0 };
    let negative = |what: &str, value: i64| {
        ClientError::new(Code::BadDelay, format!("the {what} {value} is negative"))
    };
    match delay {
        Delay::None => Ok(Due { due_ms: now.wall_ms, clock: ClockKind::Wall, at_once: true }),
        Delay::Level(level) => {
            u64::try_from(level).ok().and_then(delay_level_ms).map(after).ok_or_else(|| {
                ClientError::new(Code::BadLevel, format!("delay level {level} is not from 1 to 18"))
            })
        }
        Delay::After(ms) => {
            let delay = u64::try_from(ms).map_err(|_| negative("delay", ms))?;
            within_reach(delay)?;
            Ok(after(delay))
        }
        Delay::At(at) => {
            let due_ms = u64::try_from(at).map_err(|_| negative("due time", at))?;
            within_reach(due_ms.saturating_sub(now.wall_ms))?;
            // The past means now: a due time long ago must not make it old, or first of all.
            let at_once = due_ms <= now.wall_ms;
            Ok(Due { due_ms: due_ms.max(now.wall_ms), clock: ClockKind::Wall, at_once })
        }
    }
}

fn within_reach(delay_ms: u64) -> Result<(), ClientError> {
    if delay_ms > DELAY_MAX_MS {
        return Err(ClientError::new(
            Code::DelayTooLong,
            format!(
                "the message is due in {delay_ms} ms; at most 40 days ({DELAY_MAX_MS} ms) are allowed"
            ),
        ));
    }
    Ok(())
}

impl Engine {
    pub(super) fn produce(
        &mut self,
        name: &[u8],
        batch: &MessageBatch,
        rule: Option<&Rule>,
        refuse_new: Option<Code>,
        sink: &mut dyn EventSink,
    ) -> Result<Answer, ClientError> {
        if let Some(code) = refuse_new {
            self.totals.refused += batch.count() as u64;
            return Err(code.into());
        }
        // Nothing from the wire is longer; in the same process a batch could outgrow the journal.
        let (bytes, max) = (batch.bytes().len(), limits::FRAME_BYTES_MAX);
        if bytes > max {
            let text = format!("a batch of {bytes} bytes; at most {max} are allowed");
            return Err(ClientError::new(Code::BadBatch, text));
        }
        if self.last_named.as_ref().is_none_or(|(last, _)| last.as_bytes() != name) {
            destination::parse(name)?;
        }
        let by = rule.map(|rule| self.repeated(rule)).transpose()?;
        let mut destination = None;
        let mut results = Vec::with_capacity(batch.count());
        for message in batch.iter() {
            let judged = match &by {
                None => self.check(&message),
                Some(by) => self.check_schedule(&message, by),
            };
            let result = match judged {
                Ok(due) => {
                    // Created for a good message, not for one that is refused.
                    let to = match destination {
                        Some(id) => id,
                        None => *destination.insert(self.named(name, None, sink)?),
                    };
                    self.accept(to, &message, due, by.as_ref(), sink)
                }
                Err(error) => Err(error),
            };
            self.totals.refused += u64::from(result.is_err());
            results.push(result.map_err(Box::new));
        }
        Ok(Answer::Produced(results))
    }

    /// Judges a message; its due time when it is a good one.
    pub(super) fn check(&self, message: &NewMessage<'_>) -> Result<Due, ClientError> {
        content::check(message.content)?;
        if message.priority > limits::PRIORITY_MAX {
            return Err(ClientError::new(
                Code::BadPriority,
                format!("priority {} is not from 0 to 9", message.priority),
            ));
        }
        if message.dedup.is_some_and(|id| id.is_empty() || id.len() > limits::DEDUP_BYTES_MAX) {
            return Err(Code::BadDedupId.into());
        }
        resolve(&self.now, message.delay)
    }

    fn accept(
        &mut self,
        destination: DestinationId,
        message: &NewMessage<'_>,
        due: Due,
        by: Option<&Repeated<'_>>,
        sink: &mut dyn EventSink,
    ) -> Result<Produced, ClientError> {
        if let Some(dedup) = message.dedup
            && let Some(id) = self.seen(destination, dedup)
        {
            self.totals.duplicates += 1;
            return Ok(Produced { id, duplicate: true });
        }
        self.check_room(destination, 1)?;
        self.check_priority(destination, message.priority)?;
        let id = match by {
            None => {
                self.check_memory(message.content.len() as u64 + MESSAGE_OVERHEAD_BYTES)?;
                self.take_in(destination, message, due, sink)
            }
            Some(by) => self.accept_schedule(destination, message, due, by, sink)?,
        };
        self.totals.produced += 1;
        Ok(Produced { id, duplicate: false })
    }

    /// The message that a dedup id stands for, if it was used with this destination.
    pub(super) fn seen(&self, destination: DestinationId, dedup: &[u8]) -> Option<MessageId> {
        self.dedup.get(destination, dedup, self.now.mono_ms)
    }

    /// Takes a message in that was judged. Returns its id.
    pub(super) fn take_in(
        &mut self,
        destination: DestinationId,
        message: &NewMessage<'_>,
        due: Due,
        sink: &mut dyn EventSink,
    ) -> MessageId {
        let id = MessageId::new(due.due_ms, self.shard, self.next_sequence);
        let expires_mono_ms =
            message.expires_after_ms.map_or(0, |ttl| self.now.mono_ms.saturating_add(ttl).max(1));
        let event = Event::Produced {
            id,
            destination,
            priority: message.priority,
            clock: due.clock,
            at_once: due.at_once,
            recurring: false,
            expires_mono_ms,
            dedup: message.dedup.unwrap_or_default(),
            content: message.content,
        };
        self.emit(&event, sink);
        id
    }

    /// Refuses so many bytes more when messages take too many already.
    pub(super) fn check_memory(&self, more: u64) -> Result<(), ClientError> {
        if self.memory_bytes + more > self.config.memory * limits::MEMORY_TIMES_MAX {
            return Err(Code::MemoryFull.into());
        }
        Ok(())
    }

    /// The destination with this name, created if need be. `by`: who may own it.
    pub(super) fn named(
        &mut self,
        name: &[u8],
        by: Option<SessionId>,
        sink: &mut dyn EventSink,
    ) -> Result<DestinationId, ClientError> {
        if let Some((last, id)) = &self.last_named
            && last.as_bytes() == name
        {
            return Ok(*id);
        }
        let (text, kind) = destination::parse(name)?;
        let id = match self.names.get(text) {
            Some(id) => *id,
            None if kind.is_owned() => self.create_temporary(text, by, sink)?,
            None => self.create(text, sink)?,
        };
        self.last_named = Some((Arc::from(text), id));
        Ok(id)
    }

    pub(super) fn create(
        &mut self,
        name: &str,
        sink: &mut dyn EventSink,
    ) -> Result<DestinationId, ClientError> {
        self.check_new_destinations(1, self.small_base_for(name))?;
        let id = DestinationId(self.destinations.next());
        self.emit(&Event::DestinationCreated { destination: id, name }, sink);
        self.attach_new_topic(id);
        Ok(id)
    }

    /// Refuses so many destinations more, for which the small state takes so many bytes.
    pub(super) fn check_new_destinations(&self, more: usize, base: u64) -> Result<(), ClientError> {
        // The last numbers are for dead letters, which come without being asked for.
        let last_numbers =
            self.destinations.numbers_left() as usize <= self.config.max_destinations + more;
        if self.names.len() + more > self.config.max_destinations || last_numbers {
            return Err(Code::TooManyDestinations.into());
        }
        self.check_base(base, Code::TooManyDestinations)
    }

    /// The dead letter destination of a queue, created if need be. It is never the one too many: a
    /// message that is given up has to go somewhere. `None`: it has none, or no number is left.
    pub(super) fn dead_letters_of(
        &mut self,
        queue: DestinationId,
        sink: &mut dyn EventSink,
    ) -> Option<DestinationId> {
        let queue = self.destination(queue).filter(|queue| queue.kind == Kind::Queue)?;
        let name = destination::dead_letter_name(&queue.name);
        if let Some(id) = self.names.get(name.as_str()) {
            return Some(*id);
        }
        let id = DestinationId(self.destinations.next());
        if self.destinations.numbers_left() == 0 {
            return None;
        }
        self.emit(&Event::DestinationCreated { destination: id, name: &name }, sink);
        Some(id)
    }

    pub(super) fn create_destination(
        &mut self,
        session: SessionId,
        name: &[u8],
        refuse_new: Option<Code>,
        sink: &mut dyn EventSink,
    ) -> Result<Answer, ClientError> {
        if let Some(code) = refuse_new {
            return Err(code.into());
        }
        let id = self.named(name, Some(session), sink)?;
        self.check_owner(id, session)?;
        Ok(Answer::Done)
    }

    pub(super) fn find_destination(&self, name: &[u8]) -> Result<DestinationId, ClientError> {
        let (text, _) = destination::parse(name)?;
        self.names.get(text).copied().ok_or_else(|| {
            ClientError::new(Code::DestinationNotFound, format!("there is no destination {text}"))
        })
    }

    pub(super) fn delete_destination(
        &mut self,
        name: &[u8],
        sink: &mut dyn EventSink,
    ) -> Result<Answer, ClientError> {
        let id = self.find_destination(name)?;
        self.delete(id, sink);
        Ok(Answer::Done)
    }
}
