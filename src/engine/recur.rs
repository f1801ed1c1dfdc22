//! Recurring schedules: accepted as scheduled messages, and run when they fire.
//!
//! A schedule that fires does not become ready. It is set aside, and in the same step one event says what
//! came of it: the copies that are published, and when it comes next. Replay fires it, and the event is
//! in the same batch. So a run is neither lost nor doubled, and nothing about it is computed twice.

use std::sync::Arc;

use crate::base::error::{ClientError, Code};
use crate::base::event::{Event, EventSink};
use crate::base::id::{DUE_MS_MAX, DestinationId, Key, MessageId};
use crate::base::lifecycle::State;
use crate::base::message::{Delay, NewMessage};
use crate::base::recur::{self, NOT_PLANNED_MS, Plan, Planner, Rule};
use crate::base::time::{ClockKind, DELAY_MAX_MS};
use crate::base::{content, limits};

use super::Engine;
use super::messages::{Entry, MESSAGE_OVERHEAD_BYTES};
use super::publish::{Due, resolve};

/// What a cron run costs beside its copies, in copies: its next time has to be found.
const PLAN_COST: u32 = 4;

/// A rule that was judged, for the messages of one request.
pub(super) struct Repeated<'a> {
    rule: &'a Rule,
    encoded: Vec<u8>,
    /// The first run of a cron rule, ms.
    first_ms: Option<u64>,
}

/// When a schedule comes next.
struct Next {
    due_ms: u64,
    clock: ClockKind,
    planned_ms: u64,
}

/// Where no planner was handed in there is no calendar.
pub(super) fn no_planner(_: &recur::Cron, _: u64) -> Result<u64, ClientError> {
    Err(ClientError::new(Code::BadSchedule, "there is no calendar here"))
}

impl Engine {
    /// Hands in the calendar. Without it cron rules are refused.
    pub fn plan_with(&mut self, planner: Planner) {
        self.planner = planner;
    }

    /// Judges a rule, and when it comes first.
    pub(super) fn repeated<'a>(&self, rule: &'a Rule) -> Result<Repeated<'a>, ClientError> {
        rule.check(0)?;
        let first_ms = match rule {
            Rule::Every { .. } => None,
            Rule::Cron(cron) => Some((self.planner)(cron, self.now.wall_ms)?),
        };
        let mut encoded = Vec::new();
        rule.encode(&mut encoded);
        Ok(Repeated { rule, encoded, first_ms })
    }

    /// Judges a message of a schedule; its first run when it is a good one.
    pub(super) fn check_schedule(
        &self,
        message: &NewMessage<'_>,
        by: &Repeated<'_>,
    ) -> Result<Due, ClientError> {
        self.check(message)?;
        // The id has the same length whatever it is.
        let content = copies_content(message, MessageId::new(0, 0, 0))?;
        content::check(&content)?;
        by.rule.check(content.len())?;
        match (by.rule, by.first_ms, message.delay) {
            (Rule::Every { period_ms, .. }, _, Delay::None) => {
                let due_ms = self.now.mono_ms + period_ms;
                Ok(Due { due_ms, clock: ClockKind::Mono, at_once: false })
            }
            (_, None, delay) => resolve(&self.now, delay),
            (_, Some(due_ms), Delay::None) => {
                Ok(Due { due_ms, clock: ClockKind::Wall, at_once: false })
            }
            (_, Some(_), _) => Err(ClientError::new(
                Code::BadSchedule,
                "a message of a cron schedule has a delay; the expression says when it comes",
            )),
        }
    }

    /// Takes a schedule in. Returns its id.
    pub(super) fn accept_schedule(
        &mut self,
        destination: DestinationId,
        message: &NewMessage<'_>,
        first: Due,
        by: &Repeated<'_>,
        sink: &mut dyn EventSink,
    ) -> Result<MessageId, ClientError> {
        let due_ms = within_reach(first.due_ms, self.now.on(first.clock));
        let id = MessageId::new(due_ms, self.shard, self.next_sequence);
        let content = copies_content(message, id)?;
        let plan = Plan {
            planned_ms: first.due_ms,
            runs: 0,
            expires_after_ms: message.expires_after_ms.map_or(0, |ttl| ttl.max(1)),
            rule: &by.encoded,
            content: &content,
        };
        let mut bytes = Vec::with_capacity(recur::PLAN_BYTES + by.encoded.len() + content.len());
        plan.encode(&mut bytes);
        self.check_memory(bytes.len() as u64 + MESSAGE_OVERHEAD_BYTES)?;
        let event = Event::Produced {
            id,
            destination,
            priority: message.priority,
            clock: first.clock,
            at_once: false,
            recurring: true,
            expires_mono_ms: 0,
            dedup: message.dedup.unwrap_or_default(),
            content: &bytes,
        };
        self.emit(&event, sink);
        Ok(id)
    }

    /// Runs the schedules that fired in this step. To be called behind [`Engine::fire`], before anything
    /// else. `refuse_new` names why no messages are published at the moment, if so: then runs are
    /// skipped, and schedules go on.
    pub fn run_schedules(&mut self, refuse_new: Option<Code>, sink: &mut dyn EventSink) {
        let mut left = limits::RUNS_PER_STEP_MAX;
        while let Some(&sequence) = self.set_aside.front() {
            if let Some(event) = self.decide_run(sequence, &mut left, refuse_new) {
                self.emit(&event, sink);
            }
            if self.set_aside.front() == Some(&sequence) {
                self.set_aside.pop_front();
            }
        }
    }

    /// What comes of a schedule that fired. `left` is what the step may still publish.
    fn decide_run(
        &mut self,
        sequence: u64,
        left: &mut u32,
        refuse_new: Option<Code>,
    ) -> Option<Event<'static>> {
        let entry = self.messages.get(sequence)?.clone();
        let id = self.id_of(sequence, entry.id_due_ms);
        let plan = Plan::of(&entry.content);
        let rule = plan.and_then(|plan| plan.parse_rule());
        let (Some(plan), Some(rule)) = (plan, rule) else {
            // Not written by us. It cannot go on.
            return Some(told(id, 0, &Next { due_ms: 0, clock: entry.clock, planned_ms: 0 }));
        };
        let copies = rule.copies();
        let planning = if matches!(rule, Rule::Cron(_)) { PLAN_COST } else { 0 };
        if copies.count + planning > *left {
            // In the next step, and before what is due later.
            *left = 0;
            let Entry { due_ms, clock, .. } = entry;
            let same = Next { due_ms, clock, planned_ms: plan.planned_ms };
            return Some(told(id, plan.runs, &same));
        }
        *left -= copies.count + planning;
        let next = self.next_after(&rule, plan.planned_ms, entry.clock);
        if plan.planned_ms > self.now.on(entry.clock) {
            // It was too far away to be planned for good: no run stands here.
            return Some(told(id, plan.runs, &next));
        }
        let runs = plan.runs.saturating_add(1);
        let last = Next { due_ms: 0, clock: next.clock, planned_ms: 0 };
        let over = rule.times() != 0 && runs >= rule.times();
        let mut event = told(id, runs, if over { &last } else { &next });
        if self.check_run(&entry, plan.content.len(), copies.count, refuse_new).is_err() {
            self.totals.runs_skipped += 1;
            return Some(event);
        }
        self.totals.runs += 1;
        let due = self.now.mono_ms.saturating_add(copies.delay_ms);
        if let Event::Occurred { copies: count, first, at_once, step_ms, expires_mono_ms, .. } =
            &mut event
        {
            *count = copies.count;
            *first = MessageId::new(due.min(DUE_MS_MAX), self.shard, self.next_sequence);
            *at_once = copies.delay_ms == 0;
            *step_ms = copies.step_ms;
            *expires_mono_ms = match plan.expires_after_ms {
                0 => 0,
                ttl => due.saturating_add(ttl),
            };
        }
        Some(event)
    }

    /// The first planned time that lies ahead: runs that were missed are one with this one.
    fn next_after(&mut self, rule: &Rule, planned_ms: u64, clock: ClockKind) -> Next {
        let now_ms = self.now.on(clock);
        match rule {
            Rule::Every { period_ms, .. } => {
                let period_ms = (*period_ms).max(*limits::PERIOD_RANGE_MS.start());
                let passed = now_ms.saturating_sub(planned_ms) / period_ms;
                let due_ms = planned_ms.saturating_add((passed + 1).saturating_mul(period_ms));
                Next { due_ms: within_reach(due_ms, now_ms), clock, planned_ms: due_ms }
            }
            Rule::Cron(cron) => {
                let (now_ms, clock) = (self.now.wall_ms, ClockKind::Wall);
                match (self.planner)(cron, now_ms) {
                    Ok(at) => Next { due_ms: within_reach(at, now_ms), clock, planned_ms: at },
                    // Its time zone is not known any more: perhaps it comes back.
                    Err(_) => {
                        self.totals.plans_failed += 1;
                        let due_ms = within_reach(now_ms + limits::REPLAN_MS, now_ms);
                        Next { due_ms, clock, planned_ms: NOT_PLANNED_MS }
                    }
                }
            }
        }
    }

    /// Refuses a run for which there is no room.
    fn check_run(
        &self,
        entry: &Entry,
        content_bytes: usize,
        copies: u32,
        refuse_new: Option<Code>,
    ) -> Result<(), ClientError> {
        if let Some(code) = refuse_new {
            return Err(code.into());
        }
        // The schedule itself holds a place, and gives it up only when it is over.
        self.check_room(entry.destination, u64::from(copies))?;
        self.check_priority(entry.destination, entry.priority)?;
        self.check_memory((content_bytes as u64 + MESSAGE_OVERHEAD_BYTES) * u64::from(copies))
    }

    pub(super) fn apply_occurred(&mut self, event: &Event<'_>) {
        let Event::Occurred { id, copies, first, due_ms, clock, planned_ms, runs, .. } = *event
        else {
            return;
        };
        if copies > 0 {
            let last = first.sequence().saturating_add(u64::from(copies));
            self.next_sequence = self.next_sequence.max(last);
        }
        let sequence = id.sequence();
        let schedule = |entry: &&Entry| entry.state == State::Scheduled && entry.recurring;
        let Some(old) = self.live(id).filter(schedule).cloned() else { return };
        self.supersede(sequence);
        self.unschedule(sequence, &old);
        self.publish_copies(&old, event);
        if let Some(destination) = self.destination_mut(old.destination) {
            destination.less_scheduled();
        }
        if due_ms == 0 {
            self.forget(sequence);
            self.outcomes.set(id, State::Ended);
            return;
        }
        self.put_at(sequence, due_ms, clock);
        self.set_plan(sequence, planned_ms, runs);
        self.schedule(Key { due_ms, sequence }, old.destination);
    }

    fn publish_copies(&mut self, schedule: &Entry, event: &Event<'_>) {
        let Event::Occurred { copies, first, at_once, step_ms, expires_mono_ms, .. } = *event
        else {
            return;
        };
        let Some(plan) = Plan::of(&schedule.content).filter(|_| copies > 0) else { return };
        let content: Arc<[u8]> = Arc::from(plan.content);
        let mut later_ms = 0;
        for number in 0..u64::from(copies) {
            let due_ms = first.due_ms().saturating_add(later_ms).min(DUE_MS_MAX);
            let id = MessageId::new(due_ms, self.shard, first.sequence().saturating_add(number));
            let expires_mono_ms = match expires_mono_ms {
                0 => 0,
                at => at.saturating_add(later_ms),
            };
            let entry = Entry {
                id_due_ms: due_ms,
                due_ms,
                expires_mono_ms,
                content: content.clone(),
                clock: ClockKind::Mono,
                offset: 0,
                below: false,
                recurring: false,
                ..schedule.clone()
            };
            self.add_new(id, entry, at_once && number == 0);
            later_ms = later_ms.saturating_add(step_ms);
        }
    }

    /// Writes down when a schedule comes next.
    pub(super) fn set_plan(&mut self, sequence: u64, planned_ms: u64, runs: u32) {
        if let Some(entry) = self.messages.get_mut(sequence).filter(|entry| entry.recurring) {
            recur::set_plan(Arc::make_mut(&mut entry.content), planned_ms, runs);
        }
    }

    /// Schedules that fired and of which no event says what came of it: a recovery policy left out the
    /// batch. They fire again.
    pub(super) fn give_back_set_aside(&mut self) {
        for sequence in std::mem::take(&mut self.set_aside) {
            self.put_back_one(sequence);
        }
    }
}

/// An event without copies.
fn told(id: MessageId, runs: u32, next: &Next) -> Event<'static> {
    let &Next { due_ms, clock, planned_ms } = next;
    Event::Occurred {
        id,
        copies: 0,
        first: MessageId::new(0, 0, 0),
        at_once: false,
        step_ms: 0,
        expires_mono_ms: 0,
        due_ms,
        clock,
        planned_ms,
        runs,
    }
}

/// The due time of a schedule that comes at `planned_ms`: no farther away than any message may be.
fn within_reach(planned_ms: u64, now_ms: u64) -> u64 {
    planned_ms.min(now_ms.saturating_add(DELAY_MAX_MS)).min(DUE_MS_MAX)
}

fn copies_content(message: &NewMessage<'_>, schedule: MessageId) -> Result<Vec<u8>, ClientError> {
    recur::with_schedule_header(message.content, &schedule.to_string())
        .ok_or_else(|| Code::Malformed.into())
}
