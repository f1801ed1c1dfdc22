//! Inboxes: topics of one user. Each subscription has its own copy and its own cursor; beside them the
//! inbox remembers what the user has acknowledged by any of them, so that a later session begins there.

use crate::base::event::{Event, EventSink};
use crate::base::id::DestinationId;

use super::Engine;
use super::cursor::Cursor;
use super::destination::Destination;
use super::messages::SlotId;
use super::small::{INBOX_RUN_BYTES, RUNS_MAX, RUNS_MIN};
use super::subscription::Role;

impl Destination {
    /// What the user of an inbox has acknowledged, of what is kept.
    pub(super) fn users_cursor(&self) -> Option<Cursor> {
        let mut cursor = self.acknowledged.as_deref()?.clone();
        cursor.raise(self.topic.first_offset);
        Some(cursor)
    }

    /// Messages kept in an inbox that its user has not acknowledged; 0 elsewhere.
    pub(super) fn unread(&self) -> u64 {
        let (from, end) = (self.topic.first_offset, self.topic.next_offset());
        self.acknowledged.as_ref().map_or(0, |cursor| cursor.gaps_between(from, end))
    }

    /// What the user has acknowledged, as events.
    pub(super) fn tell_acknowledged(&self, record: &mut dyn FnMut(&Event<'_>)) {
        let Some(cursor) = self.users_cursor() else { return };
        let destination = self.id;
        let first = self.topic.first_offset;
        let before = (cursor.floor() > first).then(|| (first, cursor.floor() - 1));
        for (from, to) in before.into_iter().chain(cursor.runs()) {
            record(&Event::InboxAcknowledged { destination, subscription: 0, from, to });
        }
    }
}

impl Engine {
    pub(super) fn apply_acknowledged_by_user(&mut self, id: DestinationId, from: u64, to: u64) {
        let Some(destination) = self.destination_mut(id) else { return };
        let first_offset = destination.topic.first_offset;
        let Some(cursor) = &mut destination.acknowledged else { return };
        cursor.raise(first_offset);
        cursor.add(from, to);
        self.recount(id);
    }

    /// Lets go of what is known below what each inbox keeps.
    pub(super) fn raise_inboxes(&mut self) {
        let mut raised = Vec::new();
        for destination in self.destinations.iter_mut() {
            let first_offset = destination.topic.first_offset;
            if let Some(cursor) = &mut destination.acknowledged
                && cursor.floor() < first_offset
            {
                cursor.raise(first_offset);
                raised.push(destination.id);
            }
        }
        for id in raised {
            self.recount(id);
        }
    }

    /// Whether these offsets are to be noted for the user of an inbox: they are not yet, and there is room
    /// for one more gap, if they leave one.
    pub(super) fn notes_for_user(&self, id: DestinationId, from: u64, to: u64) -> bool {
        let cursor = self.destination(id).and_then(|d| d.acknowledged.as_deref());
        cursor.is_some_and(|cursor| cursor.next_gap(from) <= to && self.has_room(cursor, from, to))
    }

    /// A subscription may have one gap more, and its user's cursor not: then what is acknowledged would not be
    /// remembered by anybody, and it is not done.
    pub(super) fn user_has_no_room(&self, slot: SlotId, from: u64, to: u64) -> bool {
        let Some(subscription) = self.slots.get(slot) else { return false };
        let durable = match &subscription.role {
            Role::Reader(reader) => reader.durable().is_some(),
            Role::Consumer => return false,
        };
        let inbox = self.destination(subscription.destination);
        let cursor = inbox.and_then(|inbox| inbox.acknowledged.as_deref());
        !durable && cursor.is_some_and(|cursor| !self.has_room(cursor, from, to))
    }

    fn has_room(&self, cursor: &Cursor, from: u64, to: u64) -> bool {
        let runs = cursor.runs().len();
        // Twice: the subscription's own cursor may have one gap more, too.
        let room = runs < RUNS_MAX && self.growth_left() >= 2 * INBOX_RUN_BYTES;
        !cursor.opens_run(from, to) || runs < RUNS_MIN as usize || room
    }

    /// Copies what the user of an inbox has acknowledged behind gaps to a new durable subscription, as far
    /// as there is room. What is left out comes to it again.
    pub(super) fn copy_users_runs(
        &mut self,
        id: DestinationId,
        subscription: u32,
        sink: &mut dyn EventSink,
    ) {
        let Some(cursor) = self.destination(id).and_then(Destination::users_cursor) else { return };
        for (from, to) in cursor.runs() {
            let Some(durable) = self.durables.get(&subscription) else { return };
            let opens = durable.cursor.opens_run(from, to);
            let runs = durable.cursor.runs().len();
            if opens && runs >= RUNS_MIN as usize && self.growth_left() < INBOX_RUN_BYTES {
                return;
            }
            self.emit(&Event::TopicAcknowledged { subscription, from, to }, sink);
        }
    }
}
