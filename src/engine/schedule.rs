//! Cancel and reschedule: exact answers, decided in order with firing.

use crate::base::command::{Answer, Verdict};
use crate::base::error::ClientError;
use crate::base::event::{Event, EventSink};
use crate::base::id::{Key, MessageId};
use crate::base::lifecycle::State;
use crate::base::message::Delay;
use crate::base::stored::Place;

use super::messages::Entry;
use super::publish::resolve;
use super::thaw::Found;
use super::{Engine, batched};

impl Engine {
    pub(super) fn cancel(&mut self, id: MessageId, sink: &mut dyn EventSink) -> Verdict {
        if let Some(refused) = self.refuse_unless_scheduled(id) {
            return refused;
        }
        let here = self.live(id).map(|entry| (entry.destination, entry.place(id.sequence())));
        let below = || self.found(id).map(|found| (found.destination, found.place));
        let Some((destination, Place::Scheduled(Key { due_ms, .. }))) = here.or_else(below) else {
            return Verdict { id, done: false, state: State::Gone, due_ms: 0 };
        };
        self.totals.cancelled += 1;
        self.emit(&Event::Cancelled { id, destination, due_ms }, sink);
        Verdict { id, done: true, state: State::Cancelled, due_ms: 0 }
    }

    pub(super) fn reschedule(
        &mut self,
        items: &[(MessageId, Delay)],
        sink: &mut dyn EventSink,
    ) -> Result<Answer, ClientError> {
        batched(items)?;
        // All or nothing on what the caller can get wrong; each message on where it stands.
        let mut dues = Vec::with_capacity(items.len());
        for (_, delay) in items {
            dues.push(resolve(&self.now, *delay)?);
        }
        let mut verdicts = Vec::with_capacity(items.len());
        for ((id, _), due) in items.iter().zip(dues) {
            if let Some(refused) = self.refuse_unless_scheduled(*id) {
                verdicts.push(refused);
                continue;
            }
            self.totals.rescheduled += 1;
            self.emit(
                &Event::Rescheduled {
                    id: *id,
                    due_ms: due.due_ms,
                    clock: due.clock,
                    at_once: due.at_once,
                },
                sink,
            );
            // A schedule runs then, and stays one.
            let recurring = self.live(*id).is_some_and(|entry| entry.recurring);
            let ready = due.at_once && !recurring;
            let state = if ready { State::Ready } else { State::Scheduled };
            verdicts.push(Verdict { id: *id, done: true, state, due_ms: due.due_ms });
        }
        Ok(Answer::Verdicts(verdicts))
    }

    fn refuse_unless_scheduled(&self, id: MessageId) -> Option<Verdict> {
        let (state, due_ms) = self.state_of(id);
        (state != State::Scheduled).then_some(Verdict { id, done: false, state, due_ms })
    }

    /// Where a message stands and its current due time (0 when not known).
    pub(super) fn state_of(&self, id: MessageId) -> (State, u64) {
        match self.live(id) {
            Some(entry) if self.destination(entry.destination).is_some() => {
                (entry.state, entry.told().0)
            }
            Some(_) => (State::Gone, 0),
            None => match self.found(id) {
                Some(found) => (self.state_at(found), found.due_ms),
                None => (self.outcome_of(id), 0),
            },
        }
    }

    /// A message that was looked up in the store for this command.
    pub(super) fn found(&self, id: MessageId) -> Option<&Found> {
        self.found.get(&id.sequence()).filter(|found| found.id == id)
    }

    fn state_at(&self, found: &Found) -> State {
        match (found.place, self.destination(found.destination)) {
            (Place::Scheduled(_), _) => State::Scheduled,
            (Place::Ready { .. }, Some(destination)) => destination.resting_state(),
            (Place::Ready { .. }, None) => State::Gone,
        }
    }

    fn outcome_of(&self, id: MessageId) -> State {
        if let Some(state) = self.outcomes.get(id) {
            return state;
        }
        let sequence = id.sequence();
        let ours = id.shard() == self.shard && (1..self.next_sequence).contains(&sequence);
        // The sequence is alive under another due time: this id never existed.
        let other = self.messages.get(sequence).is_some() || self.found.contains_key(&sequence);
        if ours && !other { State::Gone } else { State::Unknown }
    }

    /// Takes a scheduled message out of the wheel, or a schedule from among those that have fired.
    pub(super) fn unschedule(&mut self, sequence: u64, entry: &Entry) {
        if let Some(at) = self.set_aside.iter().position(|aside| *aside == sequence) {
            self.set_aside.remove(at);
            return;
        }
        self.wheel.cancel(entry.key(sequence), self.messages.is_frozen(sequence));
    }
}
