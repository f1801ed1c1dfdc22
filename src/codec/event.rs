//! Events as bytes of a journal frame's payload. `docs/format.md` draws them.
//!
//! Little-endian. An event is a tag byte and its fields; texts and byte runs carry their length in
//! front. Message ids are 16 bytes, most significant first.

use crate::base::event::{Control, Event, FailureReason, Sequences};
use crate::base::id::{DestinationId, MessageId};
use crate::base::lifecycle::State;
use crate::base::limits;
use crate::base::time::{ClockKind, Pace};

const FLAG_AT_ONCE: u8 = 1;
const FLAG_WALL: u8 = 2;
const FLAG_EXPIRES: u8 = 4;
const FLAG_DEDUP: u8 = 8;
const FLAG_RECURRING: u8 = 16;

const FLAG_READY: u8 = 1;
const FLAG_SCHEDULED: u8 = 2;

/// Why bytes are not an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The bytes end inside an event.
    #[error("an event is cut short")]
    Cut,
    /// A tag or a field value this version does not know.
    #[error("an event has the unknown tag or value {0}")]
    Unknown(u8),
    /// A name is not UTF-8.
    #[error("a name in an event is not UTF-8")]
    Text,
}

/// Appends one event.
pub fn encode(event: &Event<'_>, out: &mut Vec<u8>) {
    let mut w = Writer(out);
    match *event {
        Event::DestinationCreated { destination, name } => {
            w.u8(1).u32(destination.0).short(name.as_bytes());
        }
        Event::DestinationDeleted { destination } => {
            w.u8(2).u32(destination.0);
        }
        Event::Produced {
            id,
            destination,
            priority,
            clock,
            at_once,
            recurring,
            expires_mono_ms,
            dedup,
            content,
        } => {
            let mut flags = clock_flag(clock) | at_once_flag(at_once) | recurring_flag(recurring);
            flags |= if expires_mono_ms != 0 { FLAG_EXPIRES } else { 0 };
            flags |= if dedup.is_empty() { 0 } else { FLAG_DEDUP };
            w.u8(3).u8(flags).u8(priority).u32(destination.0).id(id);
            if expires_mono_ms != 0 {
                w.u64(expires_mono_ms);
            }
            if !dedup.is_empty() {
                w.short(dedup);
            }
            w.long(content);
        }
        Event::Cancelled { id, destination, due_ms } => {
            w.u8(4).u32(destination.0).id(id).u64(due_ms);
        }
        Event::Rescheduled { id, due_ms, clock, at_once } => {
            w.u8(5).u8(clock_flag(clock) | at_once_flag(at_once)).id(id).u64(due_ms);
        }
        Event::Acknowledged { id } => {
            w.u8(6).id(id);
        }
        Event::Failed { id, reason } => {
            w.u8(7).u8(reason as u8).id(id);
        }
        Event::Dead { id, destination } => {
            w.u8(8).u32(destination.0).id(id);
        }
        Event::Expired { id } => {
            w.u8(9).id(id);
        }
        Event::SubscriptionCreated { subscription, destination, name, next_offset } => {
            w.u8(10).u32(subscription).u32(destination.0).u64(next_offset).short(name.as_bytes());
        }
        Event::SubscriptionDeleted { subscription } => {
            w.u8(11).u32(subscription);
        }
        Event::TopicAcknowledged { subscription, from, to } => {
            w.u8(12).u32(subscription).u64(from).u64(to);
        }
        Event::TopicTrimmed { destination, before } => {
            w.u8(13).u32(destination.0).u64(before);
        }
        Event::Counters { next_sequence, next_destination, next_subscription, next_position } => {
            w.u8(14).u64(next_sequence).u32(next_destination).u32(next_subscription);
            w.u64(next_position);
        }
        Event::DestinationRestored {
            destination,
            name,
            first_offset,
            next_offset,
            scheduled,
            ready,
            control,
        } => {
            w.u8(15).u32(destination.0).u64(first_offset).u64(next_offset).u64(scheduled);
            w.u64(ready).control(control).short(name.as_bytes());
        }
        Event::Restored {
            id,
            destination,
            due_ms,
            state,
            priority,
            clock,
            recurring,
            expires_mono_ms,
            failures,
            offset,
            content,
        } => {
            w.u8(16).u8(clock_flag(clock) | recurring_flag(recurring)).u8(state as u8).u8(priority);
            w.u16(failures).u32(destination.0).id(id).u64(due_ms).u64(expires_mono_ms);
            w.u64(offset).long(content);
        }
        Event::Finished { id, state } => {
            w.u8(17).u8(state as u8).id(id);
        }
        // 18 is left out: dedup ids once stood in checkpoints.
        Event::HandedOut { destination, lane, to } => {
            w.u8(19).u32(destination.0).u8(lane).u64(to);
        }
        Event::LaneRestored { destination, lane, handed_to, cold_to } => {
            w.u8(20).u32(destination.0).u8(lane).u64(handed_to).u64(cold_to);
        }
        Event::ChunkRestored { destination, end, bytes, since_mono_ms } => {
            w.u8(21).u32(destination.0).u64(end).u64(bytes).u64(since_mono_ms);
        }
        Event::LineRestored { pace: Pace { steady_to, slow_to } } => {
            w.u8(22).u64(steady_to).u64(slow_to);
        }
        Event::GivenUp { id } => {
            w.u8(40).id(id);
        }
        Event::InboxAcknowledged { destination, subscription, from, to } => {
            w.u8(41).u32(destination.0).u32(subscription).u64(from).u64(to);
        }
        // 23 to 31 are left to what the storage of messages has to say.
        Event::DestinationPurged { destination, ready, scheduled, before, spared } => {
            let ready = if ready { FLAG_READY } else { 0 };
            let scheduled = if scheduled { FLAG_SCHEDULED } else { 0 };
            w.u8(32).u8(ready | scheduled).u32(destination.0).u64(before).long(spared.as_bytes());
        }
        Event::DestinationPaused { destination, paused } => {
            w.u8(33).u8(u8::from(paused)).u32(destination.0);
        }
        Event::Occurred {
            id,
            copies,
            first,
            at_once,
            step_ms,
            expires_mono_ms,
            due_ms,
            clock,
            planned_ms,
            runs,
        } => {
            w.u8(42).u8(clock_flag(clock) | at_once_flag(at_once)).id(id).u32(runs).u64(due_ms);
            w.u64(planned_ms).u32(copies);
            if copies > 0 {
                w.id(first).u64(step_ms).u64(expires_mono_ms);
            }
        }
        Event::DestinationLimited { destination, max_messages, max_age_ms } => {
            w.u8(34).u32(destination.0).u64(max_messages).u64(max_age_ms);
        }
    }
}

/// Takes the first event off `rest`.
///
/// # Errors
/// [`EventError`] when the bytes are not an event; `rest` is then unspecified.
pub fn decode<'a>(rest: &mut &'a [u8]) -> Result<Event<'a>, EventError> {
    let mut r = Reader(rest);
    let event = match r.u8()? {
        1 => Event::DestinationCreated { destination: r.destination()?, name: r.name()? },
        2 => Event::DestinationDeleted { destination: r.destination()? },
        3 => {
            let flags = r.u8()?;
            let known = FLAG_AT_ONCE | FLAG_WALL | FLAG_EXPIRES | FLAG_DEDUP | FLAG_RECURRING;
            // A schedule is never ready itself.
            if flags & !known != 0 || flags & FLAG_AT_ONCE != 0 && flags & FLAG_RECURRING != 0 {
                return Err(EventError::Unknown(flags));
            }
            Event::Produced {
                priority: r.u8()?,
                destination: r.destination()?,
                id: r.id()?,
                clock: clock_of(flags),
                at_once: flags & FLAG_AT_ONCE != 0,
                recurring: flags & FLAG_RECURRING != 0,
                expires_mono_ms: if flags & FLAG_EXPIRES != 0 { r.u64()? } else { 0 },
                dedup: if flags & FLAG_DEDUP != 0 { r.short()? } else { &[] },
                content: r.long()?,
            }
        }
        4 => Event::Cancelled { destination: r.destination()?, id: r.id()?, due_ms: r.u64()? },
        5 => {
            let flags = r.u8()?;
            if flags & !(FLAG_AT_ONCE | FLAG_WALL) != 0 {
                return Err(EventError::Unknown(flags));
            }
            Event::Rescheduled {
                id: r.id()?,
                due_ms: r.u64()?,
                clock: clock_of(flags),
                at_once: flags & FLAG_AT_ONCE != 0,
            }
        }
        6 => Event::Acknowledged { id: r.id()? },
        7 => {
            let reason = match r.u8()? {
                1 => FailureReason::Timeout,
                2 => FailureReason::Rejected,
                other => return Err(EventError::Unknown(other)),
            };
            Event::Failed { reason, id: r.id()? }
        }
        8 => Event::Dead { destination: r.destination()?, id: r.id()? },
        9 => Event::Expired { id: r.id()? },
        10 => Event::SubscriptionCreated {
            subscription: r.u32()?,
            destination: r.destination()?,
            next_offset: r.u64()?,
            name: r.name()?,
        },
        11 => Event::SubscriptionDeleted { subscription: r.u32()? },
        12 => Event::TopicAcknowledged { subscription: r.u32()?, from: r.u64()?, to: r.u64()? },
        13 => Event::TopicTrimmed { destination: r.destination()?, before: r.u64()? },
        14 => Event::Counters {
            next_sequence: r.u64()?,
            next_destination: r.u32()?,
            next_subscription: r.u32()?,
            next_position: r.u64()?,
        },
        15 => Event::DestinationRestored {
            destination: r.destination()?,
            first_offset: r.u64()?,
            next_offset: r.u64()?,
            scheduled: r.u64()?,
            ready: r.u64()?,
            control: r.control()?,
            name: r.name()?,
        },
        16 => {
            let flags = r.u8()?;
            if flags & !(FLAG_WALL | FLAG_RECURRING) != 0 {
                return Err(EventError::Unknown(flags));
            }
            Event::Restored {
                clock: clock_of(flags),
                recurring: flags & FLAG_RECURRING != 0,
                state: r.state()?,
                priority: r.u8()?,
                failures: r.u16()?,
                destination: r.destination()?,
                id: r.id()?,
                due_ms: r.u64()?,
                expires_mono_ms: r.u64()?,
                offset: r.u64()?,
                content: r.long()?,
            }
        }
        17 => Event::Finished { state: r.state()?, id: r.id()? },
        19 => Event::HandedOut { destination: r.destination()?, lane: r.u8()?, to: r.u64()? },
        20 => Event::LaneRestored {
            destination: r.destination()?,
            lane: r.u8()?,
            handed_to: r.u64()?,
            cold_to: r.u64()?,
        },
        21 => Event::ChunkRestored {
            destination: r.destination()?,
            end: r.u64()?,
            bytes: r.u64()?,
            since_mono_ms: r.u64()?,
        },
        22 => Event::LineRestored { pace: Pace { steady_to: r.u64()?, slow_to: r.u64()? } },
        32 => {
            let flags = r.u8()?;
            if flags & !(FLAG_READY | FLAG_SCHEDULED) != 0 {
                return Err(EventError::Unknown(flags));
            }
            Event::DestinationPurged {
                ready: flags & FLAG_READY != 0,
                scheduled: flags & FLAG_SCHEDULED != 0,
                destination: r.destination()?,
                before: r.u64()?,
                spared: Sequences::from_bytes(r.long()?).ok_or(EventError::Cut)?,
            }
        }
        33 => Event::DestinationPaused { paused: r.flag()?, destination: r.destination()? },
        34 => Event::DestinationLimited {
            destination: r.destination()?,
            max_messages: r.u64()?,
            max_age_ms: r.u64()?,
        },
        40 => Event::GivenUp { id: r.id()? },
        41 => Event::InboxAcknowledged {
            destination: r.destination()?,
            subscription: r.u32()?,
            from: r.u64()?,
            to: r.u64()?,
        },
        42 => r.occurred()?,
        other => return Err(EventError::Unknown(other)),
    };
    *rest = r.0;
    Ok(event)
}

fn clock_flag(clock: ClockKind) -> u8 {
    match clock {
        ClockKind::Mono => 0,
        ClockKind::Wall => FLAG_WALL,
    }
}

fn at_once_flag(at_once: bool) -> u8 {
    if at_once { FLAG_AT_ONCE } else { 0 }
}

fn recurring_flag(recurring: bool) -> u8 {
    if recurring { FLAG_RECURRING } else { 0 }
}

fn clock_of(flags: u8) -> ClockKind {
    if flags & FLAG_WALL != 0 { ClockKind::Wall } else { ClockKind::Mono }
}

struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }
    fn u8(&mut self, v: u8) -> &mut Self {
        self.bytes(&[v])
    }
    fn u16(&mut self, v: u16) -> &mut Self {
        self.bytes(&v.to_le_bytes())
    }
    fn u32(&mut self, v: u32) -> &mut Self {
        self.bytes(&v.to_le_bytes())
    }
    fn u64(&mut self, v: u64) -> &mut Self {
        self.bytes(&v.to_le_bytes())
    }
    fn id(&mut self, id: MessageId) -> &mut Self {
        self.bytes(&id.to_bytes())
    }
    fn control(&mut self, control: Control) -> &mut Self {
        let Control { paused, max_messages, max_age_ms, purged_before } = control;
        self.u8(u8::from(paused)).u64(max_messages).u64(max_age_ms).u64(purged_before)
    }
    fn short(&mut self, bytes: &[u8]) -> &mut Self {
        debug_assert!(bytes.len() <= usize::from(u16::MAX));
        self.u16(bytes.len() as u16).bytes(bytes)
    }
    fn long(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(bytes.len() as u32).bytes(bytes)
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], EventError> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(EventError::Cut)?;
        self.0 = tail;
        Ok(*head)
    }
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], EventError> {
        let (head, tail) = self.0.split_at_checked(len).ok_or(EventError::Cut)?;
        self.0 = tail;
        Ok(head)
    }
    fn u8(&mut self) -> Result<u8, EventError> {
        self.array::<1>().map(|[v]| v)
    }
    fn u16(&mut self) -> Result<u16, EventError> {
        self.array().map(u16::from_le_bytes)
    }
    fn u32(&mut self) -> Result<u32, EventError> {
        self.array().map(u32::from_le_bytes)
    }
    fn u64(&mut self) -> Result<u64, EventError> {
        self.array().map(u64::from_le_bytes)
    }
    fn id(&mut self) -> Result<MessageId, EventError> {
        self.array().map(MessageId::from_bytes)
    }
    fn destination(&mut self) -> Result<DestinationId, EventError> {
        self.u32().map(DestinationId)
    }
    fn flag(&mut self) -> Result<bool, EventError> {
        match self.u8()? {
            flag @ (0 | 1) => Ok(flag == 1),
            other => Err(EventError::Unknown(other)),
        }
    }
    fn control(&mut self) -> Result<Control, EventError> {
        Ok(Control {
            paused: self.flag()?,
            max_messages: self.u64()?,
            max_age_ms: self.u64()?,
            purged_before: self.u64()?,
        })
    }
    fn short(&mut self) -> Result<&'a [u8], EventError> {
        let len = self.u16()?;
        self.bytes(usize::from(len))
    }
    fn long(&mut self) -> Result<&'a [u8], EventError> {
        let len = self.u32()?;
        self.bytes(len as usize)
    }
    fn occurred(&mut self) -> Result<Event<'a>, EventError> {
        let flags = self.u8()?;
        if flags & !(FLAG_AT_ONCE | FLAG_WALL) != 0 {
            return Err(EventError::Unknown(flags));
        }
        let (id, runs, due_ms, planned_ms) = (self.id()?, self.u32()?, self.u64()?, self.u64()?);
        let copies = self.u32()?;
        if copies > limits::REPEAT_MAX + 1 {
            return Err(EventError::Unknown(42));
        }
        let none = (MessageId::new(0, 0, 0), 0, 0);
        let (first, step_ms, expires_mono_ms) =
            if copies > 0 { (self.id()?, self.u64()?, self.u64()?) } else { none };
        let (clock, at_once) = (clock_of(flags), flags & FLAG_AT_ONCE != 0);
        Ok(Event::Occurred {
            id,
            copies,
            first,
            at_once,
            step_ms,
            expires_mono_ms,
            due_ms,
            clock,
            planned_ms,
            runs,
        })
    }
    fn name(&mut self) -> Result<&'a str, EventError> {
        std::str::from_utf8(self.short()?).map_err(|_| EventError::Text)
    }
    fn state(&mut self) -> Result<State, EventError> {
        let number = self.u8()?;
        State::from_number(number).ok_or(EventError::Unknown(number))
    }
}

#[cfg(test)]
mod tests;
