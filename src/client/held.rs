//! Subscriptions as the connection's task knows them: enough to go on over another connection.

use std::collections::HashMap;

use super::subscription::Feed;
use crate::base::command::{Delivery, StartAt, Subscribe};
use crate::base::id::MessageId;

/// A subscription as the connection knows it.
pub(super) struct Held {
    pub(super) wish: Subscribe,
    pub(super) feed: Feed,
    cursor: Cursor,
}

/// Where an ephemeral topic subscription goes on over a new connection. The server forgets it with
/// the session, so the client remembers.
#[derive(Default)]
struct Cursor {
    next_offset: u64,
    unacknowledged: HashMap<MessageId, u64>,
}

impl Held {
    pub(super) fn new(wish: Subscribe, feed: Feed) -> Self {
        Self { wish, feed, cursor: Cursor::default() }
    }

    /// The server told the first offset to come; 0 for queues.
    pub(super) fn begin(&mut self, next_offset: u64) {
        self.cursor.next_offset = next_offset;
    }

    fn is_ephemeral_topic(&self) -> bool {
        self.cursor.next_offset > 0 && self.wish.durable.is_empty()
    }

    /// What to ask for to go on without a gap: the oldest unacknowledged message comes first.
    pub(super) fn wish_to_resume(&self) -> Subscribe {
        let mut wish = self.wish.clone();
        // An inbox remembers what its user has acknowledged, by this session, too.
        let remembered = wish.start == StartAt::Unread && wish.destination.starts_with(b"/user/");
        if self.is_ephemeral_topic() && !remembered {
            let oldest = self.cursor.unacknowledged.values().min().copied();
            wish.start = StartAt::Offset(oldest.unwrap_or(self.cursor.next_offset));
        }
        wish
    }

    /// Whether the message is to be handed out: not when it was acknowledged over a connection
    /// that is lost, and comes again only because an older one is missing.
    pub(super) fn note_delivery(&mut self, delivery: &Delivery) -> bool {
        if !self.is_ephemeral_topic() || delivery.offset == 0 {
            return true;
        }
        let cursor = &mut self.cursor;
        if delivery.offset < cursor.next_offset && !cursor.unacknowledged.contains_key(&delivery.id)
        {
            return false;
        }
        cursor.next_offset = cursor.next_offset.max(delivery.offset.saturating_add(1));
        cursor.unacknowledged.insert(delivery.id, delivery.offset);
        true
    }

    pub(super) fn note_acknowledged(&mut self, ids: &[MessageId], cumulative: bool) {
        for id in ids {
            let Some(offset) = self.cursor.unacknowledged.remove(id) else { continue };
            if cumulative {
                self.cursor.unacknowledged.retain(|_, other| *other > offset);
            }
        }
    }
}
