//! Looking without touching: query, list, fetch, describe, statistics.

use std::ops::Bound;
use std::sync::Arc;

use crate::base::command::{Answer, DestinationInfo, SchedulePage, Status};
use crate::base::error::{ClientError, Code};
use crate::base::id::{DestinationId, Key, MessageId};
use crate::base::lifecycle::State;
use crate::base::limits;

use super::Engine;
use super::thaw::{Ahead, Found};

impl Engine {
    pub(super) fn status(&self, id: MessageId) -> Status {
        let (state, due_ms) = self.state_of(id);
        let entry = self.live(id).filter(|_| state != State::Gone);
        let entry = entry.map(|entry| (entry.destination, entry.told().1, entry.recurring));
        let found = || self.found(id).map(|f| (f.destination, f.attempts, f.recurring));
        let entry = entry.or_else(found);
        let destination = entry.and_then(|(destination, ..)| self.destination(destination));
        Status {
            id,
            state,
            destination: destination.map_or_else(|| Arc::from(""), |d| d.name.clone()),
            due_ms,
            attempts: entry.map_or(0, |(_, attempts, _)| attempts),
            recurring: entry.is_some_and(|(.., recurring)| recurring),
        }
    }

    pub(super) fn list(
        &self,
        destination: &[u8],
        from_ms: u64,
        to_ms: u64,
        limit: u32,
        after: Option<Key>,
    ) -> Result<Answer, ClientError> {
        let only = match destination {
            [] => None,
            name => Some(self.find_destination(name)?),
        };
        let limit = page(limit);
        let start = list_start(from_ms, after);
        let mut page = SchedulePage::default();
        let mut looked_at = 0;
        let mut below = self.shown.scheduled.iter().peekable();
        let reach = self.shown.reach;
        let mut add = |page: &mut SchedulePage, key: Key, status: Option<Status>| {
            looked_at += 1;
            page.entries.extend(status);
            let stop = page.entries.len() >= limit || looked_at >= limits::LIST_SCAN_MAX;
            page.next = stop.then_some(key);
            !stop
        };
        let mut visit = |key: Key| {
            while let Some((first, found)) = below.next_if(|row| row.0 < key) {
                if !add(&mut page, *first, self.status_below(found)) {
                    return false;
                }
            }
            if let Some(reach) = reach.filter(|reach| key > *reach) {
                page.next = Some(reach);
                return false;
            }
            let status = self.messages.get(key.sequence).filter(|entry| {
                only.is_none_or(|only| entry.destination == only)
                    && self.destination(entry.destination).is_some()
            });
            let status = status.map(|entry| self.status(self.id_of(key.sequence, entry.id_due_ms)));
            add(&mut page, key, status)
        };
        let mut going = true;
        self.wheel.scan(start, to_ms, &mut |key| {
            going = visit(key);
            going
        });
        // What lies below and behind the last in memory.
        if going {
            visit(Key { due_ms: u64::MAX, sequence: u64::MAX });
        }
        Ok(Answer::Scheduled(page))
    }

    fn status_below(&self, found: &Found) -> Option<Status> {
        let destination = self.destination(found.destination)?.name.clone();
        let &Found { id, due_ms, attempts, recurring, .. } = found;
        Some(Status { id, state: State::Scheduled, destination, due_ms, attempts, recurring })
    }

    pub(super) fn fetch(
        &self,
        destination: &[u8],
        offset: u64,
        limit: u32,
    ) -> Result<Answer, ClientError> {
        let id = self.find_destination(destination)?;
        let destination = self.destination(id).ok_or(Code::DestinationNotFound)?;
        if destination.kind.is_queue() {
            return Err(ClientError::new(Code::WrongKind, "only topics can be fetched from"));
        }
        let topic = &destination.topic;
        let mut next_offset = offset.max(topic.first_offset);
        let mut messages = Vec::new();
        let mut bytes = 0;
        let first = next_offset;
        for below in self.shown.topic.iter().filter(|below| below.offset >= first) {
            if messages.len() == page(limit) || bytes >= limits::PAGE_BYTES_MAX {
                return Ok(Answer::Fetched { messages, next_offset });
            }
            bytes += below.content.len();
            next_offset = below.offset + 1;
            messages.push(below.clone().fetched(&destination.name));
        }
        if self.shown.all_of_topic {
            // What was in a damaged part of the store at its end is passed over.
            next_offset = next_offset.max(topic.hot_from);
        }
        while messages.len() < page(limit) && bytes < limits::PAGE_BYTES_MAX {
            let Some(sequence) = topic.sequence_at(next_offset) else { break };
            if let Some(entry) = self.messages.get(sequence) {
                bytes += entry.content.len();
                messages.push(
                    Ahead::of(entry, self.id_of(sequence, entry.id_due_ms))
                        .fetched(&destination.name),
                );
            }
            next_offset += 1;
        }
        Ok(Answer::Fetched { messages, next_offset })
    }

    pub(super) fn list_destinations(&self, after: &[u8], limit: u32) -> Answer {
        let after = String::from_utf8_lossy(after);
        let range = (Bound::Excluded(&after[..]), Bound::Unbounded);
        let names = self.names.range::<str, _>(range).take(page(limit));
        Answer::Destinations(names.filter_map(|(_, id)| self.describe(*id)).collect())
    }

    pub(super) fn describe(&self, id: DestinationId) -> Option<DestinationInfo> {
        let d = self.destination(id)?;
        Some(DestinationInfo {
            name: d.name.clone(),
            kind: d.kind,
            scheduled: d.scheduled,
            ready: d.ready,
            in_flight: d.in_flight,
            consumers: d.subscribers.len() as u64,
            next_offset: if d.kind.is_queue() { 0 } else { d.topic.next_offset() },
            unread: d.unread(),
            paused: d.control.paused,
            max_messages: d.control.max_messages,
            max_age_ms: d.control.max_age_ms,
        })
    }

    /// Counters by name. Those ending in `_total` count since the server started.
    #[must_use]
    pub fn stats(&self) -> Vec<(&'static str, u64)> {
        let mut scheduled = 0;
        let mut ready = 0;
        let mut in_flight = 0;
        for destination in self.destinations.iter() {
            scheduled += destination.scheduled;
            ready += destination.ready;
            in_flight += destination.in_flight;
        }
        let t = &self.totals;
        let patterns = self.patterns.all.len();
        let subscriptions = self.slots.len() - self.patterns.topics() + patterns;
        vec![
            ("messages", self.messages()),
            ("messages_in_memory", self.messages.len()),
            ("scheduled", scheduled),
            ("ready", ready),
            ("in_flight", in_flight),
            ("destinations", self.names.len() as u64),
            ("sessions", self.sessions.len() as u64),
            ("subscriptions", subscriptions as u64),
            ("patterns", patterns as u64),
            ("durable_subscriptions", self.durables.len() as u64),
            ("dedup_ids", self.dedup.active_len() as u64),
            ("message_memory_bytes", self.memory_bytes),
            ("small_state_bytes", self.small.base),
            ("small_state_growth_bytes", self.small.growth),
            ("wheel_memory_bytes", self.wheel.memory_bytes() as u64),
            ("next_sequence", self.next_sequence),
            ("produced_total", t.produced),
            ("duplicates_total", t.duplicates),
            ("refused_total", t.refused),
            ("fired_total", t.fired),
            ("put_back_total", t.put_back),
            ("gaps_refused_total", t.gaps_refused),
            ("pattern_topics_left_out_total", self.patterns.left_out),
            ("delivered_total", t.delivered),
            ("redelivered_total", t.redelivered),
            ("acknowledged_total", t.acknowledged),
            ("rejected_total", t.rejected),
            ("timed_out_total", t.timed_out),
            ("cancelled_total", t.cancelled),
            ("rescheduled_total", t.rescheduled),
            ("dead_total", t.dead),
            ("expired_total", t.expired),
            ("purged_total", t.purged),
            ("runs_total", t.runs),
            ("runs_skipped_total", t.runs_skipped),
            ("plans_failed_total", t.plans_failed),
        ]
    }
}

/// The key behind which a list begins.
pub(super) fn list_start(from_ms: u64, after: Option<Key>) -> Key {
    let start = match from_ms.checked_sub(1) {
        None => Key::default(),
        Some(before) => Key::end_of(before),
    };
    start.max(after.unwrap_or_default())
}

/// How many entries a page has.
pub(super) fn page(limit: u32) -> usize {
    (limit as usize).clamp(1, limits::PAGE_ITEMS_MAX)
}
