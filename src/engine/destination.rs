//! A destination's own state, beside the lanes of a queue and the log of a topic.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::destination::Kind;
use crate::base::event::Control;
use crate::base::id::{DestinationId, SessionId};
use crate::base::lifecycle::State;

use super::cursor::Cursor;
use super::messages::SlotId;
use super::queue::Queue;
use super::small::Small;
use super::topic::Topic;

/// A destination.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) id: DestinationId,
    pub(super) name: Arc<str>,
    pub(super) kind: Kind,
    /// Messages scheduled. As with `ready`, what a damaged part of the store held is still counted, and
    /// what it brings back is not: neither goes below 0, and nothing is judged by them alone.
    pub(super) scheduled: u64,
    pub(super) ready: u64,
    pub(super) in_flight: u64,
    /// What operators have decided about it.
    pub(super) control: Control,
    pub(super) queue: Queue,
    pub(super) topic: Topic,
    /// Attached subscriptions.
    pub(super) subscribers: Vec<SlotId>,
    /// Queue consumers with credit left, in turn.
    pub(super) waiting: VecDeque<SlotId>,
    /// It stands in the engine's list of destinations with something to do.
    pub(super) active: bool,
    /// Whose temporary queue it is; soft.
    pub(super) owner: Option<SessionId>,
    /// An inbox: what its user has acknowledged, by whatever session.
    pub(super) acknowledged: Option<Box<Cursor>>,
    /// A queue whose dead letters have a destination.
    pub(super) has_dead_letters: bool,
    /// Its part of the engine's count of small state.
    pub(super) counted: Small,
}

impl Destination {
    pub(super) fn new(id: DestinationId, name: Arc<str>, kind: Kind) -> Self {
        Self {
            id,
            name,
            kind,
            scheduled: 0,
            ready: 0,
            in_flight: 0,
            control: Control::default(),
            queue: Queue::default(),
            topic: Topic { first_offset: 1, hot_from: 1, ..Topic::default() },
            subscribers: Vec::new(),
            waiting: VecDeque::new(),
            active: false,
            owner: None,
            acknowledged: (kind == Kind::Inbox).then(|| Box::new(Cursor::at(1))),
            has_dead_letters: false,
            counted: Small::default(),
        }
    }

    /// One message is no longer scheduled. Where a damaged part of the journal was passed over, more
    /// may leave than is known to have come: then the counter stays at zero.
    pub(super) fn less_scheduled(&mut self) {
        self.scheduled = self.scheduled.saturating_sub(1);
    }

    /// So many messages are no longer ready; the same holds.
    pub(super) fn less_ready(&mut self, count: u64) {
        self.ready = self.ready.saturating_sub(count);
    }

    /// The state of a message that is here and not being delivered.
    pub(super) fn resting_state(&self) -> State {
        if self.kind == Kind::DeadLetter { State::Dead } else { State::Ready }
    }
}
