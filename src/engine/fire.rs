//! Time passes: firing, lease timers, topic retention.

use crate::base::event::{BatchMeta, Event, EventSink, FailureReason};
use crate::base::id::{DestinationId, Key, SessionId};
use crate::base::time::Now;

use super::Engine;
use super::destination::Destination;
use super::messages::SlotId;
use super::patterns::Attached;
use super::subscription::Role;
use super::topic::Kept;

/// Between two sweeps of all topics for messages past their age, ms.
const SWEEP_EVERY_MS: u64 = 60_000;

/// Longest time a message is put back by, ms: the clock may be put right long before it would come.
const PUT_BACK_MAX_MS: u64 = 24 * 3_600_000;

/// What firing did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fired {
    /// Something fired: the batch must be journaled before its deliveries leave.
    pub any: bool,
    /// More is due than one step may fire.
    pub more: bool,
}

impl Engine {
    /// Begins a step: takes its time and fires what is due, at most some `limit` messages. Goes no
    /// further than what was read from the store. [`Engine::run_schedules`] has to follow.
    pub fn fire(&mut self, now: Now, limit: usize) -> Fired {
        self.now = now;
        self.give_back_set_aside();
        let mut keys = Vec::new();
        let due = Key::end_of(now.engine_ms);
        let reach = due.min(self.thawed_to);
        let mut more = self.wheel.advance(reach, limit, &mut keys);
        // Everything due has left the wheel, or everything up to the last key has.
        let mark = match keys.last() {
            Some(last) if more => *last,
            _ if more => self.fired_to,
            _ => reach,
        };
        self.fired_to = self.fired_to.max(mark);
        more |= reach < due;
        self.fire_all(&mut keys);
        Fired { any: !keys.is_empty(), more }
    }

    /// Begins a batch read from the journal: fires exactly what it says was fired. The rows of the
    /// store up to there must have been thawed.
    pub fn begin_replayed(&mut self, meta: &BatchMeta) {
        debug_assert!(self.thawed_to >= meta.fired_to, "rows are missing");
        self.now = meta.now;
        self.give_back_set_aside();
        let mut keys = Vec::new();
        // The wheel has no limit, so nothing is left.
        let _ = self.wheel.advance(meta.fired_to, usize::MAX, &mut keys);
        self.fired_to = self.fired_to.max(meta.fired_to);
        self.fire_all(&mut keys);
    }

    /// Fires what has left the wheel. What was put back is not in its place among the others: of those that
    /// fire in one step, the one due first is the first.
    fn fire_all(&mut self, keys: &mut [Key]) {
        if keys.first().is_some_and(|first| first.due_ms <= self.pace.slow_to) {
            let due_ms =
                |key: &Key| self.messages.get(key.sequence).map_or(0, |entry| entry.due_ms);
            keys.sort_by_cached_key(|key| (due_ms(key), key.sequence));
        }
        for key in keys {
            self.fire_one(*key);
        }
    }

    fn fire_one(&mut self, key: Key) {
        let Some(entry) = self.messages.get(key.sequence) else { return };
        if entry.due_ms > self.now.on(entry.clock) {
            // The clock that judges it lags behind the engine line: never be early.
            self.put_back_one(key.sequence);
        } else if entry.recurring && self.destination(entry.destination).is_some() {
            self.set_aside.push_back(key.sequence);
        } else {
            self.fire_ready(key.sequence);
        }
    }

    /// Schedules a message again that the wheel is done with and its clock is not: for when the
    /// engine line will be where its clock has to be. It is kept as one that was rescheduled, so a
    /// clock that was stepped by hours fills the store and not the memory.
    pub(super) fn put_back_one(&mut self, sequence: u64) {
        let now = self.now;
        // The watermark has passed its row, if it has one: from now on memory is where it is.
        let Some(entry) = self.messages.get_mut(sequence) else { return };
        let lag = entry.due_ms.saturating_sub(now.on(entry.clock)).min(PUT_BACK_MAX_MS);
        let line_ms = if now.leads() {
            self.pace.plan(now.engine_ms, lag)
        } else {
            // The other clock leads. Should it be stepped back, the line goes on as planned here.
            self.pace.steady_to = self.pace.steady_to.max(now.engine_ms + lag);
            now.engine_ms + lag
        };
        entry.below = false;
        entry.offset = line_ms.max(now.engine_ms + 1);
        self.totals.put_back += 1;
        self.totals.put_back_bytes += entry.memory_bytes();
        let key = entry.key(sequence);
        self.pace.slow_to = self.pace.slow_to.max(key.due_ms);
        self.wheel.insert(key);
    }

    /// Makes a message ready. One whose destination was deleted meanwhile is dropped.
    fn fire_ready(&mut self, sequence: u64) {
        let Some(entry) = self.messages.get(sequence) else { return };
        let destination = entry.destination;
        let Some(destination) = self.destination_mut(destination) else {
            self.forget(sequence);
            return;
        };
        destination.less_scheduled();
        self.totals.fired += 1;
        self.make_ready(sequence);
    }

    /// Puts a live message into its destination: as ready, or as dead among dead letters.
    pub(super) fn make_ready(&mut self, sequence: u64) {
        self.make_ready_since(sequence, self.now.mono_ms);
    }

    /// The same for one that came at a time before, on the monotonic line.
    pub(super) fn make_ready_since(&mut self, sequence: u64, since_mono_ms: u64) {
        let Some(entry) = self.messages.get_mut(sequence) else { return };
        let Some(destination) = self.destinations.get_mut(entry.destination) else {
            return;
        };
        let state = destination.resting_state();
        if entry.state != state {
            entry.become_state(state);
        }
        entry.below = false;
        entry.handed = false;
        destination.ready += 1;
        let id = destination.id;
        if destination.kind.is_queue() {
            entry.offset = self.next_position;
            self.next_position += 1;
            destination.queue.push(entry.priority, sequence);
        } else {
            entry.offset = destination.topic.next_offset();
            destination.topic.log.push_back(Kept { sequence, since_mono_ms });
            destination.topic.bytes += entry.content.len() as u64;
            if self.grown.last() != Some(&id) {
                self.grown.push(id);
            }
        }
        self.recount(id);
        self.activate(id);
    }

    /// Takes a message out of the table, with its memory.
    pub(super) fn forget(&mut self, sequence: u64) -> Option<super::messages::Entry> {
        let entry = self.messages.remove(sequence)?;
        self.memory_bytes -= entry.memory_bytes();
        Some(entry)
    }

    /// Ends leases that ran out, at most `limit`. Returns whether more are due.
    pub fn run_timers(&mut self, limit: usize, sink: &mut dyn EventSink) -> bool {
        let mut left = limit;
        while let Some(&(at, slot)) = self.lease_timers.first() {
            if at > self.now.mono_ms {
                return false;
            }
            if left == 0 {
                return true;
            }
            self.lease_timers.remove(&(at, slot));
            if let Some(subscription) = self.slots.get_mut(slot) {
                subscription.timer = None;
            }
            self.end_leases(slot, &mut left, sink);
            self.arm_timer(slot);
        }
        false
    }

    fn end_leases(&mut self, slot: SlotId, left: &mut usize, sink: &mut dyn EventSink) {
        while let Some(subscription) = self.slots.get_mut(slot) {
            let Some(&deadline) = subscription.deadlines.front() else { return };
            let reader = matches!(subscription.role, Role::Reader(_));
            let held = self.lease_holds(slot, &deadline);
            if held && (deadline.at_mono_ms > self.now.mono_ms || *left == 0) {
                return;
            }
            if let Some(subscription) = self.slots.get_mut(slot) {
                subscription.deadlines.pop_front();
            }
            if held {
                *left -= 1;
                self.totals.timed_out += 1;
                if reader {
                    self.take_back_topic(slot, deadline.position);
                } else {
                    self.fail(deadline.position, FailureReason::Timeout, true, sink);
                }
            }
        }
    }

    /// Lets the engine wake up for the oldest lease of a subscription.
    pub(super) fn arm_timer(&mut self, slot: SlotId) {
        if let Some(subscription) = self.slots.get_mut(slot)
            && subscription.timer.is_none()
            && let Some(front) = subscription.deadlines.front()
        {
            subscription.timer = Some(front.at_mono_ms);
            self.lease_timers.insert((front.at_mono_ms, slot));
        }
    }

    /// Drops the oldest messages of topics that grew beyond their bounds, and now and then of
    /// those whose messages grew old; at most `limit` of a topic. What is left over makes
    /// [`Engine::has_work`] true.
    pub fn retain_topics(&mut self, limit: usize, sink: &mut dyn EventSink) {
        let mut topics = std::mem::take(&mut self.grown);
        if self.now.mono_ms >= self.next_sweep_mono_ms {
            self.next_sweep_mono_ms = self.now.mono_ms + SWEEP_EVERY_MS;
            let all = self.destinations.in_order().into_iter();
            topics = all.filter(|d| d.topic.len() > 0).map(|d| d.id).collect();
        }
        for id in topics {
            let Some(before) = self.trim_point(id, limit as u64) else { continue };
            self.emit(&Event::TopicTrimmed { destination: id, before }, sink);
            // The rest is for the next step, whether or not it grows again.
            if self.trim_point(id, 1).is_some() {
                self.grown.push(id);
            }
        }
    }

    /// The first offset that a topic should keep, if it should not keep all; at most `limit`
    /// messages in memory are looked at. What lies below goes by the chunk.
    fn trim_point(&self, id: DestinationId, limit: u64) -> Option<u64> {
        let Destination { topic, control, .. } = self.destination(id)?;
        let age_ms = match control.max_age_ms {
            0 => self.config.topic_age_ms,
            ms => ms,
        };
        let old = |since_mono_ms: u64| since_mono_ms.saturating_add(age_ms) < self.now.mono_ms;
        let (mut first, mut bytes) = (topic.first_offset, topic.bytes);
        for chunk in &topic.chunks {
            let count_without = topic.next_offset() - chunk.end;
            let bytes_without = bytes.saturating_sub(chunk.bytes);
            // Without it there must still be as much as is promised to be kept.
            let over = count_without >= self.config.topic_messages
                || bytes_without >= self.config.topic_bytes;
            if !over && !old(chunk.since_mono_ms) {
                return (first > topic.first_offset).then_some(first);
            }
            (first, bytes) = (chunk.end, bytes_without);
        }
        for kept in topic.log.iter().take(limit as usize) {
            let Some(entry) = self.messages.get(kept.sequence) else { break };
            let count = topic.next_offset() - first;
            let fits = count <= self.config.topic_messages && bytes <= self.config.topic_bytes;
            if fits && !old(kept.since_mono_ms) {
                break;
            }
            first += 1;
            bytes = bytes.saturating_sub(entry.content.len() as u64);
        }
        (first > topic.first_offset).then_some(first)
    }

    /// Ends a session: what was out with it goes back, and its temporary queues go.
    pub fn close_session(&mut self, id: SessionId, sink: &mut dyn EventSink) {
        if let Some(session) = self.sessions.remove(&id.0) {
            for attached in session.subscriptions.into_values() {
                match attached {
                    Attached::Slot(slot) => self.detach(slot),
                    Attached::Pattern(pattern) => self.end_pattern(pattern),
                }
            }
            for temporary in session.temporary {
                self.delete(temporary, sink);
            }
        }
    }

    /// Begins a session.
    pub fn open_session(&mut self, id: SessionId) {
        self.sessions.insert(id.0, super::Session::default());
    }
}
