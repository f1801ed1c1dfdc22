//! What comes back from the store: messages whose time is near, lanes that are consumed, messages
//! that a command names. A thawed message means nothing durable; its row still stands for it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::command::{Command, Delivery, Part};
use crate::base::event::Event;
use crate::base::id::{DestinationId, Key, MessageId};
use crate::base::lifecycle::State;
use crate::base::stored::{Look, Place, Stored, Want};

use super::Engine;
use super::inspect::{list_start, page};
use super::messages::{Entry, SlotId, told};
use super::subscription::Role;

/// A message that was read for a command and stays in the store.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) id: MessageId,
    pub(super) destination: DestinationId,
    /// As told: see [`Entry::told`].
    pub(super) due_ms: u64,
    pub(super) attempts: u32,
    pub(super) recurring: bool,
}

impl Found {
    fn of(row: &Stored<'_>) -> Self {
        let &Stored { place, id, destination, recurring, .. } = row;
        let (due_ms, attempts) = told(recurring, row.content, row.due_ms, row.failures);
        Self { place, id, destination, due_ms, attempts, recurring }
    }
}

/// A message of a topic that was read ahead for one subscription.
#[derive(Debug, Clone)]
pub(super) struct Ahead {
    pub(super) offset: u64,
    pub(super) id: MessageId,
    pub(super) due_ms: u64,
    pub(super) expires_mono_ms: u64,
    pub(super) priority: u8,
    pub(super) content: Arc<[u8]>,
}

impl Ahead {
    /// A message in memory, in the same shape.
    pub(super) fn of(entry: &Entry, id: MessageId) -> Self {
        Self {
            offset: entry.offset,
            id,
            due_ms: entry.due_ms,
            expires_mono_ms: entry.expires_mono_ms,
            priority: entry.priority,
            content: entry.content.clone(),
        }
    }

    /// As an answer to a fetch.
    pub(super) fn fetched(self, topic: &Arc<str>) -> Delivery {
        Delivery {
            subscription: 0,
            by_pattern: false,
            destination: topic.clone(),
            id: self.id,
            due_ms: self.due_ms,
            attempt: 1,
            offset: self.offset,
            priority: self.priority,
            content: self.content,
        }
    }

    fn of_row(row: &Stored<'_>, offset: u64, id: MessageId) -> Self {
        Self {
            offset,
            id,
            due_ms: row.due_ms,
            expires_mono_ms: row.expires_mono_ms,
            priority: row.priority,
            content: Arc::from(row.content),
        }
    }
}

/// Rows handed in for a command that looks.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) scheduled: Vec<(Key, Found)>,
    pub(super) topic: VecDeque<Ahead>,
    /// Nothing behind was looked at.
    pub(super) reach: Option<Key>,
    /// The topic has no more rows behind those handed in.
    pub(super) all_of_topic: bool,
}

/// What was thawed in one go and has not fired.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portion {
    last: Key,
    messages: u64,
    bytes: u64,
}

/// Portions of thawed messages, by due time.
pub(super) type Portions = VecDeque<Portion>;

impl Engine {
    /// Up to where the scheduled rows of the store have been thawed.
    #[must_use]
    pub fn thawed_to(&self) -> Key {
        self.thawed_to
    }

    /// Firing watermark: rows up to here count no more.
    #[must_use]
    pub fn fired_to(&self) -> Key {
        self.fired_to
    }

    /// Messages thawed and not fired yet, and their bytes.
    pub fn thawed_ahead(&mut self) -> (u64, u64) {
        while self.portions.front().is_some_and(|portion| portion.last <= self.fired_to) {
            self.portions.pop_front();
        }
        self.portions.iter().fold((0, 0), |(messages, bytes), portion| {
            (messages + portion.messages, bytes + portion.bytes)
        })
    }

    /// Takes a scheduled row into the wheel, unless it counts no more or is there already. Rows come
    /// in order; [`Engine::scheduled_thawed_to`] ends a portion. Returns the memory it takes.
    pub fn thaw_scheduled(&mut self, row: &Stored<'_>) -> u64 {
        let Place::Scheduled(key) = row.place else { return 0 };
        if key <= self.fired_to || !self.counts(row) || self.messages.get(key.sequence).is_some() {
            return 0;
        }
        let bytes = self.insert_thawed(row, State::Scheduled);
        self.wheel.insert(key);
        bytes
    }

    /// All scheduled rows up to and including `key` have been handed in, so many of them new.
    pub fn scheduled_thawed_to(&mut self, key: Key, messages: u64, bytes: u64) {
        self.thawed_to = self.thawed_to.max(key);
        if messages > 0 {
            self.portions.push_back(Portion { last: key, messages, bytes });
        }
    }

    /// Whether something has to be read before deliveries can go on.
    #[must_use]
    pub fn wants_more(&self) -> bool {
        !self.wants.is_empty()
    }

    /// What has to be read before deliveries can go on. Each is asked for once.
    pub fn take_wants(&mut self) -> Vec<Want> {
        std::mem::take(&mut self.wants).into_iter().collect()
    }

    /// Hands in rows of a queue's lane, in order, from where it was asked for. `end`: there are
    /// no more.
    pub fn thaw_lane(&mut self, id: DestinationId, lane: u8, rows: &[Stored<'_>], end: bool) {
        let Some(state) = self.destination(id).map(|d| d.resting_state()) else { return };
        let handed_to = self.destination(id).and_then(|d| Some(d.queue.marks_of(lane)?.handed_to));
        let mut last = 0;
        for row in rows {
            let Place::Ready { position, .. } = row.place else { continue };
            last = position;
            let sequence = row.id.sequence();
            // A purge may have been faster than the read.
            if !self.counts(row) || Some(position) <= handed_to {
                continue;
            }
            match self.messages.get(sequence) {
                // Read back before, and not handed out since.
                Some(entry) if entry.place(sequence) == row.place && !entry.handed => {}
                Some(_) => continue,
                None => {
                    self.insert_thawed(row, state);
                    if position < self.restart_position
                        && let Some(entry) = self.messages.get_mut(sequence)
                    {
                        entry.attempts = entry.failures.saturating_add(1);
                    }
                }
            }
            if let Some(destination) = self.destination_mut(id) {
                destination.queue.push_thawed(lane, sequence);
            }
        }
        if let Some(destination) = self.destination_mut(id) {
            destination.queue.thawed_to(lane, last, end);
        }
        self.activate(id);
    }

    /// Hands in rows of a topic for the subscription that asked for them, in order, from where it
    /// asked for them. `end`: there are no more. What should be there and is not was in a damaged
    /// part of the store.
    pub fn thaw_topic(
        &mut self,
        id: DestinationId,
        slot: SlotId,
        from: u64,
        rows: &[Stored<'_>],
        end: bool,
    ) {
        let Some(hot_from) = self.destination(id).map(|d| d.topic.hot_from) else { return };
        let Some(subscription) = self.slots.get_mut(slot) else { return };
        // The one that asked may be gone, and its slot another's.
        if subscription.destination != id {
            return;
        }
        let Role::Reader(reader) = &mut subscription.role else { return };
        let Some((_, reading)) = reader.source.place(&mut self.durables) else { return };
        reading.ahead.clear();
        for row in rows {
            let Place::Ready { position, .. } = row.place else { continue };
            reading.ahead.push_back(Ahead::of_row(row, position, row.id));
        }
        let first = reading.ahead.front().map(|ahead| ahead.offset);
        let there = first.or(end.then_some(hot_from)).unwrap_or(from);
        reading.missing = from..there;
        self.activate(id);
    }

    /// Appends the ids that `command` names and that may lie in the store: they are to be looked up
    /// and handed in before it is executed.
    pub fn missing(&self, command: &Command, ids: &mut Vec<MessageId>) {
        match command {
            Command::Query { ids: named }
            | Command::Cancel { ids: named }
            | Command::Acknowledge { ids: named, .. }
            | Command::Reject { ids: named, .. } => {
                ids.extend(named.iter().filter(|id| self.may_lie_below(**id)));
            }
            Command::Transaction { parts } => {
                let named = parts.iter().flat_map(Part::ids);
                ids.extend(named.filter(|id| self.may_lie_below(**id)));
            }
            Command::Reschedule { items } => {
                ids.extend(items.iter().map(|(id, _)| *id).filter(|id| self.may_lie_below(*id)));
            }
            _ => {}
        }
    }

    /// The id that a replayed event is about, if it may lie in the store.
    #[must_use]
    pub fn missing_for(&self, event: &Event<'_>) -> Option<MessageId> {
        match *event {
            Event::Rescheduled { id, .. }
            | Event::Occurred { id, .. }
            | Event::Acknowledged { id }
            | Event::Expired { id }
            | Event::GivenUp { id }
            | Event::Failed { id, .. }
            | Event::Dead { id, .. } => self.may_lie_below(id).then_some(id),
            _ => None,
        }
    }

    /// The lane that has to be thawed before a replayed event is applied, and up to where.
    #[must_use]
    pub fn lane_for(&self, event: &Event<'_>) -> Option<(Want, u64)> {
        let Event::HandedOut { destination, lane, to } = *event else { return None };
        let marks = self.destination(destination)?.queue.marks_of(lane)?;
        let from = marks.unread_from().filter(|from| *from <= to)?;
        Some((Want::Lane { destination, lane, from }, to))
    }

    fn may_lie_below(&self, id: MessageId) -> bool {
        id.shard() == self.shard
            && id.sequence() < self.below_sequence
            && self.messages.get(id.sequence()).is_none()
            && self.outcomes.get(id).is_none()
    }

    /// Hands in a message that was looked up by its id for `command`. It stays where it is and is
    /// known until [`Engine::forget_found`]: to be asked about, cancelled or acknowledged costs no
    /// memory, and what is refused moves nothing. Only one to be rescheduled is brought up.
    pub fn hand_in(&mut self, row: &Stored<'_>, command: &Command) {
        if !self.is_alive_below(row) {
            return;
        }
        if let (Place::Scheduled(_), Command::Reschedule { .. }) = (row.place, command) {
            return self.bring_up(row);
        }
        let mut found = Found::of(row);
        if matches!(row.place, Place::Ready { position, .. } if position < self.restart_position) {
            found.attempts = u32::from(row.failures) + 1;
        }
        self.found.insert(row.id.sequence(), found);
    }

    /// Brings up a message that was looked up by its id, because an event is going to change it.
    pub fn bring_up(&mut self, row: &Stored<'_>) {
        if !self.is_alive_below(row) {
            return;
        }
        match row.place {
            Place::Scheduled(key) => {
                self.insert_thawed(row, State::Scheduled);
                self.wheel.insert(key);
            }
            Place::Ready { destination, .. } => {
                if self.destination(destination).is_some_and(|d| d.kind.is_queue()) {
                    self.take_out_of_order(row);
                }
            }
        }
    }

    /// What `command` looks at beyond memory.
    #[must_use]
    pub fn looks_at(&self, command: &Command) -> Option<Look> {
        if self.below_sequence == 0 {
            return None;
        }
        match command {
            Command::List { destination, from_ms, to_ms, limit, after } => {
                let only = match &destination[..] {
                    [] => None,
                    name => Some(self.find_destination(name).ok()?),
                };
                let after = list_start(*from_ms, *after).max(self.thawed_to);
                let limit = page(*limit);
                Some(Look::Scheduled { after, to_ms: *to_ms, only, limit })
            }
            Command::Fetch { destination, offset, limit } => {
                let id = self.find_destination(destination).ok()?;
                let topic = &self.destination(id)?.topic;
                let from = topic.first_offset.max(*offset);
                let limit = page(*limit);
                topic.is_below(from).then_some(Look::Topic { destination: id, from, limit })
            }
            _ => None,
        }
    }

    /// Hands in one row that a command looks at, in order. `false`: it does not count.
    pub fn show(&mut self, row: &Stored<'_>) -> bool {
        let counts = self.is_alive_below(row);
        match row.place {
            Place::Scheduled(key) if counts => {
                self.shown.scheduled.push((key, Found::of(row)));
            }
            Place::Ready { position, .. } if counts => {
                let id = row.id;
                self.shown.topic.push_back(Ahead::of_row(row, position, id));
            }
            _ => {}
        }
        counts
    }

    /// Rows behind `reach` were not looked at.
    pub fn shown_to(&mut self, reach: Key) {
        self.shown.reach = Some(reach);
    }

    /// All rows of the topic that a command looks at have been handed in, from where it looks on.
    pub fn shown_all_of_topic(&mut self) {
        self.shown.all_of_topic = true;
    }

    /// Ends the looking: what was handed in for it is forgotten.
    pub fn forget_found(&mut self) {
        if !self.found.is_empty() {
            self.found.clear();
        }
        self.dedup.forget_found();
        self.shown = Shown::default();
    }

    /// Brings a message of a lane up before its turn, in replay: it stands among those that came
    /// back.
    fn take_out_of_order(&mut self, row: &Stored<'_>) {
        let Some(state) = self.destination(row.destination).map(|d| d.resting_state()) else {
            return;
        };
        let sequence = row.id.sequence();
        self.bury(sequence, row.place);
        self.insert_thawed(row, state);
        if let Some(entry) = self.messages.get_mut(sequence) {
            entry.below = false;
            entry.handed = true;
            entry.attempts = entry.failures.saturating_add(1);
        }
        if let Some(destination) = self.destination_mut(row.destination) {
            destination.queue.put_back(row.priority, Key { due_ms: row.due_ms, sequence });
        }
        self.activate(row.destination);
    }

    /// Whether no tombstone says that this row counts no more. What belongs to a destination that
    /// is gone counts no more either, nor what was purged while it was scheduled.
    pub(super) fn counts(&self, row: &Stored<'_>) -> bool {
        self.tombs.get(&row.id.sequence()) != Some(&row.place)
            && self
                .frozen_tombs
                .as_ref()
                .is_none_or(|t| t.get(&row.id.sequence()) != Some(&row.place))
            && self.destination(row.destination).is_some_and(|destination| match row.place {
                Place::Scheduled(key) => key.sequence >= destination.control.purged_before,
                Place::Ready { .. } => true,
            })
    }

    fn insert_thawed(&mut self, row: &Stored<'_>, state: State) -> u64 {
        let entry = Entry::of(row, state);
        let bytes = entry.memory_bytes();
        self.memory_bytes += bytes;
        self.messages.insert(row.id.sequence(), entry);
        bytes
    }
}
