//! What an outsider was told, and what of it may not be.
//!
//! Every message carries a number, given out from 1 on. Between two rests the ledger holds a record
//! of each; at a rest, when nothing is left on the server, all of them are judged and forgotten,
//! and only the number they ended at stays: whatever comes from below it has come again.

use std::collections::BTreeMap;

use super::believed::Believed;
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
/// How far a server's clocks may be from the system's, and drift in a restart, ms: a step of less is
/// none to it, and its lines are kept in whole ms.
const CLOCK_ERROR_MS: u64 = 4;
/// Longest time from when a message is due to its first delivery, ms: some restarts, and the wait in a queue
/// whose consumers acknowledge one by one.
const LATE_MAX_MS: u64 = 60_000;

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

/// When a message is due, by the clock that judges it, ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// A change whose answer is missing: any time.
    Unknown,
    /// "After" a time: by the outsider's clock, which nobody steps.
    After(u64),
    /// "At" a time: by the server's wall clock.
    At(u64),
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
    /// Earliest due time that may be in force.
    due: Due,
    /// When it was sent, ms, and in which of the lives.
    sent_ms: u64,
    life: u64,
    /// It will come within a few lives, whatever is done to the clocks.
    soon: bool,
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
    /// The wall is stepped.
    steps: bool,
    believed: Believed,
    /// How far the server's wall clock is ahead, believed or not, ms.
    shown_ms: i64,
}

impl Ledger {
    /// One for a server whose wall is stepped, or is not.
    pub(super) fn new(steps: bool) -> Self {
        Self {
            records: BTreeMap::new(),
            next: 1,
            floor: 1,
            begun: 0,
            done: 0,
            side: false,
            counts: Counts::default(),
            violations: Vec::new(),
            steps,
            believed: Believed::new(),
            shown_ms: 0,
        }
    }

    /// The server's wall will be set to so far ahead of the truth.
    pub(super) fn show(&mut self, ahead_s: i64) {
        self.shown_ms = ahead_s * 1_000;
    }

    /// What it shows, ms, to anybody on the server's machine.
    pub(super) fn shown_ms(&self) -> u64 {
        wall_ms().saturating_add_signed(self.shown_ms)
    }

    /// The server may follow such a wall from now on.
    pub(super) fn begin_step(&mut self, now_ms: u64, ahead_s: i64) {
        self.believed.begin(now_ms, ahead_s * 1_000);
    }

    /// It follows no other any more.
    pub(super) fn end_step(&mut self, now_ms: u64) {
        self.believed.settle(now_ms + CLOCK_ERROR_MS);
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

    /// A message is about to be sent, due then at the earliest; its number.
    pub(super) fn sending(&mut self, place: Place, due: Due) -> u64 {
        let number = self.next;
        self.next += 1;
        let record = Record {
            place,
            id: None,
            refused: false,
            due,
            sent_ms: wall_ms(),
            life: self.counts.lives,
            soon: place != Place::Side && !(self.steps && matches!(due, Due::At(_))),
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
        self.begun += u64::from(record.soon);
        let other = record.id.is_some_and(|known| known != id);
        record.id = Some(id);
        if !self.steps {
            record.due = Due::After(id.due_ms());
        }
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
        let from = self.next.saturating_sub(RECENT).max(self.floor);
        let (now, shown) = (wall_ms(), self.shown_ms());
        (0..64).find_map(|_| {
            let number = from + random.below(self.next - from);
            let record = self.records.get(&number)?;
            let open = record.cancelled == Fate::No && record.deliveries == 0;
            let waits = match record.due {
                Due::Unknown => false,
                Due::After(due_ms) => due_ms > now,
                Due::At(due_ms) => due_ms > shown,
            };
            let open = open && record.place != Place::Side && waits;
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
            self.done += u64::from(record.soon);
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
            record.due = Due::Unknown;
        }
    }

    /// A new due time was answered: `due` is what was asked for, `due_ms` what the server says.
    pub(super) fn move_answered(
        &mut self,
        number: u64,
        done: bool,
        state: State,
        due: Due,
        due_ms: u64,
    ) {
        let Some(record) = self.records.get_mut(&number) else { return };
        if done {
            record.due = if self.steps { due } else { Due::After(due_ms) };
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
        wrong.extend(judge_time(
            record,
            now,
            &self.believed,
            self.steps.then_some(&mut self.counts),
        ));
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
            self.done += u64::from(record.soon);
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
        self.believed.forget();
        self.floor = self.next;
        (self.begun, self.done) = (0, 0);
        self.counts.rests += 1;
    }
}

/// What is wrong with the time of a delivery. `steps`: the clock is stepped, and this takes how late it
/// is.
fn judge_time(
    record: &Record,
    now_ms: u64,
    believed: &Believed,
    steps: Option<&mut Counts>,
) -> Option<String> {
    let Some(counts) = steps else {
        return match record.due {
            Due::After(due_ms) | Due::At(due_ms) if due_ms > now_ms => {
                Some(format!("came {} ms early", due_ms - now_ms))
            }
            _ => None,
        };
    };
    // Each start counts on from the wall of the last batch, which is the server's to within a few ms.
    let to_ms = now_ms + CLOCK_ERROR_MS * (1 + counts.lives.saturating_sub(record.life));
    let (is_due, since_ms, longest) = match record.due {
        Due::Unknown => return None,
        Due::After(due_ms) => (due_ms <= to_ms, due_ms, &mut counts.late_after_ms),
        Due::At(due_ms) => (
            believed.has_shown(due_ms, record.sent_ms, to_ms),
            believed.shows_since(due_ms, record.sent_ms),
            &mut counts.late_at_ms,
        ),
    };
    if !is_due {
        return Some(format!("came early, at {now_ms}, on {believed:?}"));
    }
    if record.deliveries > 1 || record.place == Place::Side {
        return None;
    }
    let late_ms = now_ms.saturating_sub(since_ms);
    *longest = late_ms.max(*longest);
    (late_ms > LATE_MAX_MS).then(|| format!("came {late_ms} ms late, on {believed:?}"))
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
        let mut ledger = Ledger::new(false);
        let number = ledger.sending(Place::Queue, Due::After(0));
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

    /// Goal: with a wall that is stepped, each message is judged by its own clock. Method: one "after" and one
    /// "at", a step forward that only the second may follow, and a step back.
    #[test]
    fn each_message_is_judged_by_its_own_clock() {
        let found = |due: fn(u64) -> Due, ahead_s: i64, late_ms: u64| {
            let mut ledger = Ledger::new(true);
            let number = ledger.sending(Place::Queue, due(wall_ms() - late_ms));
            ledger.accepted(number, id(7));
            ledger.records.get_mut(&number).unwrap().sent_ms -= late_ms;
            ledger.begin_step(wall_ms() - late_ms, ahead_s);
            ledger.end_step(wall_ms() - late_ms);
            ledger.delivered(number, Place::Queue, id(7), 1);
            ledger.violations.join(" ")
        };
        let after: fn(u64) -> Due = |now| Due::After(now + 90_000);
        let at: fn(u64) -> Due = |now| Due::At(now + 90_000);
        assert!(found(after, 100, 0).contains("came early"));
        assert_eq!(found(at, 100, 0), "");
        assert_eq!(found(after, -100, 100_000), "");
        assert!(found(at, -100, 100_000).contains("came early"));
        assert!(found(after, 0, 160_000).contains("ms late"));
        assert!(found(at, 100, 100_000).contains("ms late"));
    }

    /// Goal: what was purged must not come; what nobody was told about may or may not. Method: a
    /// purge with and without an answer, and a cancel without.
    #[test]
    fn what_was_not_answered_may_be_either() {
        let mut ledger = Ledger::new(false);
        let first = ledger.sending(Place::Side, Due::After(0));
        let cancelled = ledger.sending(Place::Queue, Due::After(0));
        for number in [first, cancelled] {
            ledger.accepted(number, id(number));
        }
        ledger.cancelling(cancelled);
        ledger.purging();
        ledger.rest();
        assert!(ledger.violations.is_empty(), "{:?}", ledger.violations);
        let second = ledger.sending(Place::Side, Due::After(0));
        ledger.purging();
        ledger.delivered(second, Place::Side, id(3), 1);
        assert!(ledger.violations.is_empty(), "{:?}", ledger.violations);
        ledger.purged(1);
        ledger.delivered(second, Place::Side, id(3), 2);
        assert_eq!(ledger.violations.len(), 1, "{:?}", ledger.violations);
        assert!(ledger.records.len() == 1 && ledger.backlog() == 0);
    }
}
