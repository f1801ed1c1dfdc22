//! What an outsider was told, and what of it may not be.
//!
//! Every message carries a number, given out from 1 on. Between two rests the ledger holds a record
//! of each; at a rest, when nothing is left on the server, all of them are judged and forgotten,
//! and only the number they ended at stays: whatever comes from below it has come again.

use std::collections::BTreeMap;

use super::report::Counts;
use crate::base::id::MessageId;
use crate::base::lifecycle::State;
use crate::env::{Clock, OsClock};
use crate::sim::random::Random;

/// Records at which producers wait for the next rest. Some 100 bytes each.
pub(super) const RECORDS_MAX: usize = 200_000;
/// Violations that are written down; the rest is counted.
const VIOLATIONS_MAX: usize = 100;
/// So far back a message to be changed is looked for.
const RECENT: u64 = 4_000;

/// Where a message was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A queue with consumers.
    Queue,
    /// A topic with one durable subscription.
    Topic,
    /// A queue that is purged, and consumed only at a rest.
    Side,
}

impl Place {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Queue => "/queue/kill",
            Self::Topic => "/topic/kill",
            Self::Side => "/queue/side",
        }
    }
}

/// Whether something was done to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    No,
    /// It was asked for, and there is no answer.
    Unknown,
    Yes,
}

/// What became of one message, as far as an outsider was told.
#[derive(Debug)]
struct Record {
    place: Place,
    /// The id it was accepted with, or came with when the answer is missing.
    id: Option<MessageId>,
    refused: bool,
    /// Earliest due time that may be in force, ms. A change whose answer is missing makes it 0.
    due_min_ms: u64,
    cancelled: Fate,
    purged: Fate,
    deliveries: u32,
    acknowledged: bool,
}

/// Everything that was acknowledged to somebody.
#[derive(Debug)]
pub(super) struct Ledger {
    records: BTreeMap<u64, Record>,
    next: u64,
    /// Everything below is over.
    floor: u64,
    /// Accepted, and seen or cancelled, since the last rest; the side queue left out.
    begun: u64,
    done: u64,
    /// Something was accepted for the side queue.
    side: bool,
    pub(super) counts: Counts,
    violations: Vec<String>,
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self {
            records: BTreeMap::new(),
            next: 1,
            floor: 1,
            begun: 0,
            done: 0,
            side: false,
            counts: Counts::default(),
            violations: Vec::new(),
        }
    }

    pub(super) fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Something that must not be.
    pub(super) fn violation(&mut self, what: String) {
        self.counts.violations += 1;
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(what);
        }
    }

    fn against(&mut self, number: u64, what: &str) {
        let record = self.records.get(&number).map(|record| format!(": {record:?}"));
        self.violation(format!("message {number} {what}{}", record.unwrap_or_default()));
    }

    /// Messages accepted and not seen yet, about.
    pub(super) fn backlog(&self) -> u64 {
        self.begun.saturating_sub(self.done)
    }

    pub(super) fn is_full(&self) -> bool {
        self.records.len() >= RECORDS_MAX
    }

    /// A message is about to be sent, due at `due_min_ms` at the earliest; its number.
    pub(super) fn sending(&mut self, place: Place, due_min_ms: u64) -> u64 {
        let number = self.next;
        self.next += 1;
        let record = Record {
            place,
            id: None,
            refused: false,
            due_min_ms,
            cancelled: Fate::No,
            purged: Fate::No,
            deliveries: 0,
            acknowledged: false,
        };
        self.records.insert(number, record);
        number
    }

    /// A send was answered.
    pub(super) fn accepted(&mut self, number: u64, id: MessageId) {
        self.counts.accepted += 1;
        let Some(record) = self.records.get_mut(&number) else { return };
        self.side |= record.place == Place::Side;
        self.begun += u64::from(record.place != Place::Side);
        let other = record.id.is_some_and(|known| known != id);
        record.id = Some(id);
        record.due_min_ms = id.due_ms();
        if other {
            self.against(number, &format!("was accepted as {id} and came as another"));
        }
    }

    /// A send was refused: it must never come.
    pub(super) fn refused(&mut self, number: u64) {
        self.counts.refused += 1;
        let Some(record) = self.records.get_mut(&number) else { return };
        record.refused = true;
        if record.deliveries > 0 {
            self.against(number, "was refused, yet delivered");
        }
    }

    /// A send got no answer.
    pub(super) fn unanswered(&mut self) {
        self.counts.unknown += 1;
    }

    /// A recent message that may still be changed.
    pub(super) fn pick(&self, random: &mut Random) -> Option<(u64, MessageId)> {
        let (from, now) = (self.next.saturating_sub(RECENT).max(self.floor), wall_ms());
        (0..64).find_map(|_| {
            let number = from + random.below(self.next - from);
            let record = self.records.get(&number)?;
            let open = record.cancelled == Fate::No && record.deliveries == 0;
            let open = open && record.place != Place::Side && record.due_min_ms > now;
            record.id.filter(|_| open).map(|id| (number, id))
        })
    }

    pub(super) fn cancelling(&mut self, number: u64) {
        if let Some(record) = self.records.get_mut(&number) {
            record.cancelled = Fate::Unknown;
        }
    }

    /// A cancel was answered: whether it was done, and where the message stands.
    pub(super) fn cancel_answered(&mut self, number: u64, done: bool, state: State) {
        let Some(record) = self.records.get_mut(&number) else { return };
        // Also when it was an earlier cancel, whose answer a kill has swallowed.
        let cancelled = state == State::Cancelled;
        record.cancelled = if cancelled { Fate::Yes } else { Fate::No };
        if done {
            self.counts.cancelled += 1;
            self.done += 1;
        }
        if cancelled && record.deliveries > 0 {
            self.against(number, "was cancelled, yet delivered before the answer");
        }
        if done && !cancelled || state == State::Unknown {
            self.against(number, &format!("is {} to a cancel", state.word()));
        }
    }

    /// Until the answer is there, a new due time may be in force as well as the old one.
    pub(super) fn moving(&mut self, number: u64) {
        if let Some(record) = self.records.get_mut(&number) {
            record.due_min_ms = 0;
        }
    }

    /// A new due time was answered.
    pub(super) fn move_answered(&mut self, number: u64, done: bool, state: State, due_ms: u64) {
        let Some(record) = self.records.get_mut(&number) else { return };
        if done {
            record.due_min_ms = due_ms;
            self.counts.rescheduled += 1;
        }
        if state == State::Unknown {
            self.against(number, "is unknown to a new due time");
        }
    }

    /// Whether there is a side queue for certain.
    pub(super) fn has_side(&self) -> bool {
        self.side
    }

    /// The side queue is about to be purged.
    pub(super) fn purging(&mut self) {
        self.mark_purged(Fate::Unknown);
    }

    /// It was, with everything sent to it before.
    pub(super) fn purged(&mut self, messages: u64) {
        self.mark_purged(Fate::Yes);
        self.counts.purged += messages;
    }

    fn mark_purged(&mut self, fate: Fate) {
        let mut open = self.records.values_mut().filter(|record| record.place == Place::Side);
        for record in open.by_ref().filter(|record| record.purged != Fate::Yes) {
            record.purged = fate;
        }
    }

    /// A message came; `number` is what its body says.
    pub(super) fn delivered(&mut self, number: u64, place: Place, id: MessageId, attempt: u32) {
        let now = wall_ms();
        self.counts.deliveries += 1;
        self.counts.redelivered += u64::from(attempt > 1);
        let Some(record) = self.records.get_mut(&number) else {
            let when =
                if number < self.floor { "came again after it was over" } else { "was never sent" };
            return self.against(number, when);
        };
        record.deliveries += 1;
        let first = record.deliveries == 1;
        let mut wrong = Vec::new();
        if *record.id.get_or_insert(id) != id {
            wrong.push(format!("came as {id}"));
        }
        if record.place != place {
            wrong.push(format!("came from {}", place.name()));
        }
        if record.due_min_ms > now {
            wrong.push(format!("came {} ms early", record.due_min_ms - now));
        }
        if record.refused {
            wrong.push("came, yet was refused".into());
        }
        if record.cancelled == Fate::Yes {
            wrong.push("came, yet was cancelled".into());
        }
        if record.purged == Fate::Yes {
            wrong.push("came, yet was purged".into());
        }
        if record.acknowledged {
            wrong.push("came, yet was acknowledged before".into());
        }
        if attempt == 1 && !first {
            wrong.push("came again as if for the first time".into());
        }
        if first {
            self.counts.delivered += 1;
            self.done += u64::from(place != Place::Side);
        }
        for what in wrong {
            self.against(number, &what);
        }
    }

    /// The acknowledgement of a delivery was answered.
    pub(super) fn ack_answered(&mut self, number: u64, done: bool, state: State) {
        if !done {
            self.against(number, &format!("was delivered, yet is {} to its ack", state.word()));
        } else if let Some(record) = self.records.get_mut(&number) {
            record.acknowledged = true;
            self.counts.acknowledged += 1;
        }
    }

    pub(super) fn is_acknowledged(&self, number: u64) -> bool {
        self.records.get(&number).is_some_and(|record| record.acknowledged)
    }

    /// The server says that nothing is left: what was accepted and never came is lost, and all of
    /// it is over.
    pub(super) fn rest(&mut self) {
        let lost = |record: &Record| {
            let taken = record.cancelled != Fate::No || record.purged != Fate::No;
            record.id.is_some() && record.deliveries == 0 && !taken
        };
        let lost = self.records.iter().filter(|(_, record)| lost(record));
        for number in lost.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.against(number, "was accepted and is lost");
        }
        self.records.clear();
        self.floor = self.next;
        (self.begun, self.done) = (0, 0);
        self.counts.rests += 1;
    }
}

/// The wall clock of an outsider, ms.
pub(super) fn wall_ms() -> u64 {
    OsClock.wall_ns() / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(sequence: u64) -> MessageId {
        MessageId::new(1, 0, sequence)
    }

    /// A ledger that was told `told` about one message of a queue with this number and id.
    fn after(told: impl FnOnce(&mut Ledger, u64, MessageId)) -> Vec<String> {
        let mut ledger = Ledger::new();
        let number = ledger.sending(Place::Queue, 0);
        told(&mut ledger, number, id(7));
        ledger.violations
    }

    /// Goal: each broken promise is seen. Method: one message, and for each promise the shortest
    /// story that breaks it; the violation says so.
    #[test]
    fn each_broken_promise_is_seen() {
        let far = MessageId::new(wall_ms() + 3_600_000, 0, 1);
        let stories: [(&str, Vec<String>); 9] = [
            (
                "is lost",
                after(|ledger, number, id| {
                    ledger.accepted(number, id);
                    ledger.rest();
                }),
            ),
            (
                "ms early",
                after(|ledger, number, _| {
                    ledger.accepted(number, far);
                    ledger.delivered(number, Place::Queue, far, 1);
                }),
            ),
            (
                "was cancelled",
                after(|ledger, number, id| {
                    ledger.accepted(number, id);
                    ledger.cancelling(number);
                    ledger.cancel_answered(number, true, State::Cancelled);
                    ledger.delivered(number, Place::Queue, id, 1);
                }),
            ),
            (
                "was acknowledged before",
                after(|ledger, number, id| {
                    ledger.delivered(number, Place::Queue, id, 1);
                    ledger.ack_answered(number, true, State::Acknowledged);
                    ledger.delivered(number, Place::Queue, id, 2);
                }),
            ),
            (
                "as if for the first time",
                after(|ledger, number, id| {
                    ledger.delivered(number, Place::Queue, id, 1);
                    ledger.delivered(number, Place::Queue, id, 1);
                }),
            ),
            (
                "came again after it was over",
                after(|ledger, number, id| {
                    ledger.delivered(number, Place::Queue, id, 1);
                    ledger.rest();
                    ledger.delivered(number, Place::Queue, id, 2);
                }),
            ),
            ("never sent", after(|ledger, _, id| ledger.delivered(99, Place::Queue, id, 1))),
            (
                "came as",
                after(|ledger, number, own| {
                    ledger.accepted(number, own);
                    ledger.delivered(number, Place::Queue, id(8), 1);
                }),
            ),
            (
                "came from /topic/kill",
                after(|ledger, number, id| ledger.delivered(number, Place::Topic, id, 1)),
            ),
        ];
        for (wanted, found) in stories {
            assert!(found.len() == 1 && found[0].contains(wanted), "{wanted}: {found:?}");
        }
    }

    /// Goal: what was purged must not come; what nobody was told about may or may not. Method: a
    /// purge with and without an answer, and a cancel without.
    #[test]
    fn what_was_not_answered_may_be_either() {
        let mut ledger = Ledger::new();
        let first = ledger.sending(Place::Side, 0);
        let cancelled = ledger.sending(Place::Queue, 0);
        for number in [first, cancelled] {
            ledger.accepted(number, id(number));
        }
        ledger.cancelling(cancelled);
        ledger.purging();
        ledger.rest();
        assert!(ledger.violations.is_empty(), "{:?}", ledger.violations);
        let second = ledger.sending(Place::Side, 0);
        ledger.purging();
        ledger.delivered(second, Place::Side, id(3), 1);
        assert!(ledger.violations.is_empty(), "{:?}", ledger.violations);
        ledger.purged(1);
        ledger.delivered(second, Place::Side, id(3), 2);
        assert_eq!(ledger.violations.len(), 1, "{:?}", ledger.violations);
        assert!(ledger.records.len() == 1 && ledger.backlog() == 0);
    }
}
