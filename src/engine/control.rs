//! What operators decide about a destination: purge, pause, and limits of number and age.

use std::collections::{BTreeSet, VecDeque};

use crate::base::command::{Answer, Purged};
use crate::base::error::{ClientError, Code};
use crate::base::event::{Event, EventSink, Sequences};
use crate::base::id::{DestinationId, MessageId};
use crate::base::lifecycle::State;
use crate::base::limits;

use super::Engine;
use super::destination::Destination;
use super::messages::Entry;
use super::queue::Head;

/// Between two looks at all queues for messages past their age, ms.
const SWEEP_EVERY_MS: u64 = 60_000;

/// Where the look for messages past their age stands; soft.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// When the next one begins, ms.
    next_mono_ms: u64,
    /// Queues this one has not done with.
    left: VecDeque<DestinationId>,
}

impl Sweep {
    /// Whether the next step goes on with it.
    pub(super) fn under_way(&self) -> bool {
        !self.left.is_empty()
    }
}

impl Engine {
    /// Drops what is ready in a destination, and what is scheduled for it when asked.
    pub(super) fn purge_destination(
        &mut self,
        name: &[u8],
        scheduled: bool,
        sink: &mut dyn EventSink,
    ) -> Result<Answer, ClientError> {
        let id = self.find_destination(name)?;
        let destination = self.destination(id).ok_or(Code::DestinationNotFound)?;
        let purged = Purged {
            ready: destination.ready,
            scheduled: if scheduled { destination.scheduled } else { 0 },
        };
        let queue = destination.kind.is_queue();
        let waits = !destination.queue.is_empty();
        if !queue && purged.ready > 0 {
            let before = destination.topic.next_offset();
            self.emit(&Event::TopicTrimmed { destination: id, before }, sink);
        }
        let ready = queue && (purged.ready > 0 || waits);
        let scheduled = purged.scheduled > 0;
        if ready || scheduled {
            let spared = if ready { self.in_flight_of(id)? } else { Vec::new() };
            let spared = Sequences::to_bytes(&spared);
            let event = Event::DestinationPurged {
                destination: id,
                ready,
                scheduled,
                before: self.next_sequence,
                spared: Sequences::from_bytes(&spared).unwrap_or_default(),
            };
            self.emit(&event, sink);
        }
        self.totals.purged += purged.ready + purged.scheduled;
        Ok(Answer::Purged(purged))
    }

    /// The messages of a queue that are out with its consumers, by sequence.
    fn in_flight_of(&self, id: DestinationId) -> Result<Vec<u64>, ClientError> {
        let destination = self.destination(id).ok_or(Code::DestinationNotFound)?;
        check_in_flight(destination.in_flight)?;
        let mut held = Vec::with_capacity(destination.in_flight as usize);
        for slot in &destination.subscribers {
            let Some(subscription) = self.slots.get(*slot) else { continue };
            let leases = subscription.deadlines.iter().filter(|d| self.lease_holds(*slot, d));
            held.extend(leases.map(|deadline| deadline.position));
        }
        held.sort_unstable();
        Ok(held)
    }

    /// The part of a purge that is about what is ready in a queue. What lies below goes unread: its
    /// lanes count as consumed.
    ///
    /// In replay nothing is in flight: what was out then lies in the lanes, or came back from the
    /// checkpoint, and is known by `spared`. It was handed out before, so it is in memory.
    pub(super) fn apply_purged_ready(&mut self, id: DestinationId, spared: Sequences<'_>) {
        let spared: BTreeSet<u64> = spared.iter().collect();
        let Some(destination) = self.destinations.get_mut(id) else { return };
        destination.queue.consume_below(self.next_position - 1);
        let messages = &self.messages;
        let (mut gone, mut left) = (Vec::new(), 0);
        destination.queue.retain(|sequence| {
            let here = messages.get(sequence).is_some_and(|entry| {
                entry.destination == id && matches!(entry.state, State::Ready | State::Dead)
            });
            let keep = here && spared.contains(&sequence);
            if keep {
                left += 1;
            } else if here {
                gone.push(sequence);
            }
            keep
        });
        destination.ready = left;
        for sequence in gone {
            self.forget(sequence);
        }
    }

    /// The part of a purge that is about what is scheduled.
    ///
    /// What lies in memory goes at once. What lies below stays there, whatever it is: the mark says
    /// of each row that it counts no more when somebody comes across it.
    pub(super) fn apply_purged_scheduled(&mut self, id: DestinationId, before: u64) {
        let Some(destination) = self.destination_mut(id) else { return };
        destination.control.purged_before = destination.control.purged_before.max(before);
        // All of them are older than the purge.
        destination.scheduled = 0;
        self.drop_scheduled_of(id);
    }

    /// Hands out nothing of a destination, or hands out again.
    pub(super) fn pause_destination(
        &mut self,
        name: &[u8],
        paused: bool,
        sink: &mut dyn EventSink,
    ) -> Result<Answer, ClientError> {
        let id = self.find_destination(name)?;
        if self.destination(id).is_some_and(|d| d.control.paused != paused) {
            self.emit(&Event::DestinationPaused { destination: id, paused }, sink);
        }
        Ok(Answer::Done)
    }

    pub(super) fn apply_paused(&mut self, id: DestinationId, paused: bool) {
        if let Some(destination) = self.destination_mut(id) {
            destination.control.paused = paused;
            self.activate(id);
        }
    }

    /// Sets the limits of a destination; `None` leaves one as it is. Answers what is in force.
    pub(super) fn limit_destination(
        &mut self,
        name: &[u8],
        max_messages: Option<u64>,
        max_age_ms: Option<u64>,
        sink: &mut dyn EventSink,
    ) -> Result<Answer, ClientError> {
        let id = self.find_destination(name)?;
        let control = self.destination(id).ok_or(Code::DestinationNotFound)?.control;
        let max_messages = max_messages.unwrap_or(control.max_messages);
        let max_age_ms = max_age_ms.unwrap_or(control.max_age_ms);
        if (max_messages, max_age_ms) != (control.max_messages, control.max_age_ms) {
            let event = Event::DestinationLimited { destination: id, max_messages, max_age_ms };
            self.emit(&event, sink);
        }
        let info = self.describe(id).ok_or(Code::DestinationNotFound)?;
        Ok(Answer::Destination(info))
    }

    pub(super) fn apply_limited(&mut self, id: DestinationId, max_messages: u64, max_age_ms: u64) {
        if let Some(destination) = self.destination_mut(id) {
            destination.control.max_messages = max_messages;
            destination.control.max_age_ms = max_age_ms;
        }
    }

    /// Refuses one more message when a destination holds as many as it may.
    pub(super) fn check_room(&self, id: DestinationId, more: u64) -> Result<(), ClientError> {
        let Some(destination) = self.destination(id) else { return Ok(()) };
        let (held, most) = (destination.held(), destination.control.max_messages);
        if most != 0 && held + more > most {
            let name = &destination.name;
            return Err(ClientError::new(
                Code::DestinationFull,
                format!(
                    "{name} holds {held} messages and may hold {most}; \
                     consume, cancel or purge some, or raise its limit"
                ),
            ));
        }
        Ok(())
    }

    /// Whether a ready queue message is not to be delivered any more: its own time to live has
    /// passed, or the age that its destination allows.
    pub(super) fn has_expired(&self, entry: &Entry) -> bool {
        let own = entry.expires_mono_ms;
        if own != 0 && own <= self.now.mono_ms {
            return true;
        }
        let max = self.destination(entry.destination).map_or(0, |d| d.control.max_age_ms);
        max != 0 && self.now.on(entry.clock).saturating_sub(entry.due_ms) > max
    }

    /// Drops messages past their age from the heads of queues that limit it, once a minute, at most
    /// `limit` in a step. What is left over makes [`Engine::has_work`] true.
    ///
    /// A lane is in order of firing, so the old ones stand in front. One that stands behind a
    /// younger one, or lies below, is dropped when it is met.
    pub fn expire_old(&mut self, limit: usize, sink: &mut dyn EventSink) {
        if self.now.mono_ms >= self.sweep.next_mono_ms {
            self.sweep.next_mono_ms = self.now.mono_ms + SWEEP_EVERY_MS;
            let all = self.destinations.in_order().into_iter();
            let limited = all.filter(|d| d.control.max_age_ms != 0 && d.kind.is_queue());
            self.sweep.left = limited.map(|d| d.id).collect();
        }
        let mut left = limit;
        while left > 0
            && let Some(id) = self.sweep.left.pop_front()
        {
            let (looked_at, old) = self.take_old_heads(id, left);
            for id in old {
                self.totals.expired += 1;
                self.emit(&Event::Expired { id }, sink);
            }
            if looked_at == left {
                // The rest of this queue is for the next step.
                self.sweep.left.push_front(id);
            }
            left -= looked_at;
        }
    }

    /// Takes what is finished or old off the heads of a queue's lanes. Tells how many that were, and
    /// which of them have now to expire.
    fn take_old_heads(&mut self, id: DestinationId, most: usize) -> (usize, Vec<MessageId>) {
        let Some(destination) = self.destinations.get_mut(id) else {
            return (0, Vec::new());
        };
        let mut queue = std::mem::take(&mut destination.queue);
        let mut old = Vec::new();
        let mut passed: Vec<(u8, u64)> = Vec::new();
        let taken = queue.take_heads(most, |head| {
            let (lane, sequence) = match head {
                Head::Lane(lane, sequence) => (Some(lane), sequence),
                Head::Returned(sequence) => (None, sequence),
                Head::Below(_) | Head::Empty => return false,
            };
            let entry = self.messages.get(sequence).filter(|entry| {
                entry.destination == id
                    && matches!(entry.state, State::Ready | State::Dead)
                    && entry.handed == lane.is_none()
            });
            let Some(entry) = entry else { return true };
            let expired = self.has_expired(entry);
            if expired {
                old.push(self.id_of(sequence, entry.id_due_ms));
                passed.extend(lane.map(|lane| (lane, entry.offset)));
            }
            expired
        });
        // They leave their lanes as if they had been handed out: so their rows need no tombstones.
        for (lane, position) in passed {
            if queue.handed(lane, position) {
                self.handed.push((id, lane));
            }
        }
        if let Some(destination) = self.destination_mut(id) {
            destination.queue = queue;
        }
        (taken, old)
    }
}

impl Destination {
    /// Messages it holds. What a topic has in flight, it keeps.
    fn held(&self) -> u64 {
        let in_flight = if self.kind.is_queue() { self.in_flight } else { 0 };
        self.scheduled + self.ready + in_flight
    }
}

/// The journal has to name each message that a purge leaves alone, in one batch.
fn check_in_flight(in_flight: u64) -> Result<(), ClientError> {
    let most = limits::PURGE_IN_FLIGHT_MAX;
    if in_flight > most as u64 {
        return Err(ClientError::new(
            Code::Overloaded,
            format!("{in_flight} messages are in flight; a purge is possible with at most {most}"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_leaves_alone_as_many_as_fit_its_event() {
        let most = limits::PURGE_IN_FLIGHT_MAX as u64;
        assert_eq!(check_in_flight(most), Ok(()));
        assert_eq!(check_in_flight(most + 1).unwrap_err().code, Code::Overloaded);
    }
}
