//! What happened to each message, as told by the events, and what may be delivered after it.

use std::collections::BTreeMap;

use postdate::base::command::Delivery;
use postdate::base::event::Event;
use postdate::base::id::{DestinationId, MessageId};
use postdate::base::time::{ClockKind, Now};

#[derive(Debug)]
struct Line {
    destination: DestinationId,
    due_ms: u64,
    clock: ClockKind,
    /// Its clock has shown its due time at some step; where the clock goes then is no matter.
    reached: bool,
    /// Cancelled, acknowledged, expired, or gone with its destination.
    ended: bool,
}

/// A line for each message.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    lines: BTreeMap<MessageId, Line>,
    /// In order of acceptance.
    ids: Vec<MessageId>,
}

impl Ledger {
    pub(super) fn ids(&self) -> &[MessageId] {
        &self.ids
    }

    /// The latest due time of all.
    pub(super) fn last_due_ms(&self) -> u64 {
        self.lines.values().map(|line| line.due_ms).max().unwrap_or_default()
    }

    pub(super) fn ended(&self, id: MessageId) -> Option<bool> {
        self.lines.get(&id).map(|line| line.ended)
    }

    pub(super) fn note(&mut self, event: &Event<'_>) {
        match *event {
            Event::Produced { id, destination, clock, .. } => {
                let due_ms = id.due_ms();
                let line = Line { destination, due_ms, clock, reached: false, ended: false };
                assert!(self.lines.insert(id, line).is_none(), "the id {id} was used twice");
                self.ids.push(id);
            }
            Event::Occurred { id, due_ms, clock, copies, first, step_ms, .. } => {
                let line = self.alive(id);
                (line.due_ms, line.clock, line.reached) = (due_ms, clock, false);
                line.ended |= due_ms == 0;
                let destination = line.destination;
                for number in 0..u64::from(copies) {
                    let due_ms = first.due_ms() + number * step_ms;
                    let copy = MessageId::new(due_ms, 0, first.sequence() + number);
                    let clock = ClockKind::Mono;
                    let line = Line { destination, due_ms, clock, reached: false, ended: false };
                    assert!(
                        self.lines.insert(copy, line).is_none(),
                        "the id {copy} was used twice"
                    );
                    self.ids.push(copy);
                }
            }
            Event::Rescheduled { id, due_ms, clock, .. } => {
                let line = self.alive(id);
                (line.due_ms, line.clock, line.reached) = (due_ms, clock, false);
            }
            Event::Cancelled { id, .. }
            | Event::Acknowledged { id }
            | Event::Expired { id }
            | Event::GivenUp { id } => {
                self.alive(id).ended = true;
            }
            Event::Dead { id, destination } => self.alive(id).destination = destination,
            Event::Failed { id, .. } => {
                self.alive(id);
            }
            Event::DestinationDeleted { destination } => {
                let gone = self.lines.values_mut().filter(|line| line.destination == destination);
                gone.for_each(|line| line.ended = true);
            }
            _ => {}
        }
    }

    fn alive(&mut self, id: MessageId) -> &mut Line {
        let line = self.lines.get_mut(&id).expect("an event tells of a message that never was");
        assert!(!line.ended, "an event tells of a message that has ended");
        line
    }

    /// The clocks showed this at a step.
    pub(super) fn show(&mut self, now: Now) {
        for line in self.lines.values_mut() {
            line.reached |= line.due_ms <= now.on(line.clock);
        }
    }

    /// no_ghost, no_early_delivery, cancelled_stays_cancelled, acked_stays_acked.
    pub(super) fn check(&self, delivery: &Delivery) {
        let line = self.lines.get(&delivery.id).expect("an unknown message was delivered");
        assert!(!line.ended, "a message that has ended was delivered");
        assert!(line.reached, "a message was delivered early");
        assert_eq!(delivery.due_ms, line.due_ms);
        assert!(delivery.attempt >= 1);
    }
}
