//! Recurring schedules of simulated clients, and what must be true of their runs: none early, none too
//! many, none once a cancel was answered, none lost while the shard lives.

use std::collections::BTreeMap;

use crate::base::command::{Answer, Command, Delivery, Status, Verdict};
use crate::base::error::Code;
use crate::base::id::{Key, MessageId};
use crate::base::lifecycle::State;
use crate::base::message::{Delay, Message as Content, MessageBatch};
use crate::base::recur::{Cron, Rule};
use crate::sim::ask::{Asked, name};
use crate::sim::model::Sure;
use crate::sim::world::{DESTINATIONS, START_MS, World, Wrong};

/// Bodies of copies have the number of their schedule with this bit.
const COPY: u64 = 1 << 63;
/// Where clocks agree, a time told inside and outside differ by no more than this, ms.
const SLACK_MS: u64 = 3;

/// One schedule, as the outside knows it.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    destination: usize,
    accepted: Sure,
    id: Option<MessageId>,
    /// No two runs are nearer to each other, ms.
    period_ms: u64,
    times: u32,
    /// No run is before, ms since the beginning.
    first_ms: u64,
    /// How often it was moved, or may have been.
    moves: u64,
    cancelled: Sure,
    /// When that was answered, ms since the beginning.
    cancelled_ms: u64,
    /// Its destination was purged or deleted.
    touched: bool,
    asked: u32,
    /// Messages of its runs, and whether they were acknowledged.
    copies: BTreeMap<MessageId, bool>,
}

/// All of them, and copies that are to be acknowledged: session, subscription, id.
#[derive(Debug, Default)]
pub(super) struct Schedules {
    all: BTreeMap<u64, Schedule>,
    came: Vec<(u64, u32, MessageId)>,
}

impl Schedules {
    /// A destination is purged, deleted or limited: runs may be lost there.
    pub(super) fn touch(&mut self, destination: usize) {
        let there = self.all.values_mut().filter(|own| own.destination == destination);
        there.for_each(|own| own.touched = true);
    }
}

impl World {
    /// Makes a schedule, or does something with one there is.
    pub(super) fn schedule_something(&mut self, client: usize) {
        let known: Vec<u64> = self.schedules.all.keys().copied().collect();
        let number = if known.is_empty() { 0 } else { *self.content.pick(&known) };
        let id = self.schedules.all.get(&number).and_then(|own| own.id);
        match (id, self.content.below(5)) {
            (Some(id), 3) => {
                if let Some(own) = self.schedules.all.get_mut(&number) {
                    own.asked += 1;
                    own.cancelled = own.cancelled.max(Sure::Maybe);
                }
                let cancel = Command::Cancel { ids: vec![id] };
                self.submit(client, Asked::EndSchedule(number), cancel);
            }
            (Some(id), 4) => {
                let delay = self.content.below(200_000);
                let first_ms = self.times.elapsed_ms + delay;
                if let Some(own) = self.schedules.all.get_mut(&number) {
                    own.asked += 1;
                    own.moves += 1;
                    own.first_ms = own.first_ms.min(first_ms);
                }
                let items = vec![(id, Delay::After(delay.cast_signed()))];
                self.submit(client, Asked::MoveSchedule(number), Command::Reschedule { items });
            }
            _ if known.len() < 20 => self.make_schedule(client),
            _ => {}
        }
    }

    fn make_schedule(&mut self, client: usize) {
        let number = self.next_message;
        self.next_message += 1;
        // Of queues only: there each copy goes to one.
        let destination = self.content.below(2) as usize;
        let times = *self.content.pick(&[0, 0, 1, 3, 10]);
        let mut message = Content::new((COPY | number).to_be_bytes());
        let (rule, period_ms, mut wait_ms) = if self.content.percent(70) {
            let period_ms = *self.content.pick(&[1_000, 7_500, 60_000, 3_600_000, 86_400_000]);
            (Rule::Every { period_ms, times }, period_ms, period_ms)
        } else {
            let minutes = *self.content.pick(&[1, 7, 30]);
            let expression = format!("*/{minutes} * * * *");
            let cron = Cron { expression, zone: String::new(), times, then: None };
            (Rule::Cron(cron), 60_000, 0)
        };
        if matches!(rule, Rule::Every { .. }) && self.content.coin() {
            wait_ms = self.content.below(100_000);
            message = message.with_delay(Delay::After(wait_ms.cast_signed()));
        }
        let schedule = Schedule {
            destination,
            accepted: Sure::Maybe,
            id: None,
            period_ms,
            times,
            first_ms: self.times.elapsed_ms + wait_ms,
            moves: 0,
            cancelled: Sure::No,
            cancelled_ms: 0,
            touched: self.limited[destination],
            asked: 1,
            copies: BTreeMap::new(),
        };
        self.schedules.all.insert(number, schedule);
        let mut bytes = Vec::new();
        // It is within its bounds.
        let _ = message.encode(&mut bytes);
        if let Ok(batch) = MessageBatch::parse(bytes.into(), 1) {
            let repeat = Command::Repeat { destination: name(destination), rule, batch };
            self.submit(client, Asked::Schedule(number), repeat);
        }
    }

    /// The number of the schedule that a body is a copy of.
    pub(super) fn schedule_of(number: Option<u64>) -> Option<u64> {
        number.filter(|number| number & COPY != 0).map(|number| number & !COPY)
    }

    /// A copy came.
    pub(super) fn copy_came(
        &mut self,
        number: u64,
        session: u64,
        destination: usize,
        delivery: &Delivery,
    ) -> Result<(), Wrong> {
        let (now, id) = (self.times, delivery.id);
        let clocks_agree = now.ahead_ms == 0 && now.back_ms == 0;
        let Some(own) = self.schedules.all.get_mut(&number) else {
            return Err(format!("no_ghost: {id} is of schedule {number}, that nobody made"));
        };
        let tell = |what: &str, own: &Schedule| {
            Err(format!("{what}: {id} of schedule {number} at {now:?}: {own:?}"))
        };
        if own.accepted == Sure::No || own.destination != destination {
            return tell("no_ghost", own);
        }
        if own.id == Some(id) {
            return tell("schedules_stay", own);
        }
        let before = own.copies.insert(id, false);
        if before == Some(true) {
            return tell("acked_stays_acked", own);
        }
        let passed_ms = now.elapsed_ms + now.ahead_ms;
        if passed_ms < own.first_ms {
            return tell("no_early_delivery", own);
        }
        let runs = own.copies.len() as u64;
        // Where clocks were set, the runs of one period may be twice on one of them.
        let most = 1 + own.moves + (passed_ms + now.back_ms - own.first_ms) / own.period_ms;
        if runs > most || own.times != 0 && runs > u64::from(own.times) {
            return tell("no_run_too_many", own);
        }
        let late = id.due_ms() > START_MS + own.cancelled_ms + SLACK_MS;
        if clocks_agree && own.cancelled == Sure::Yes && late {
            return tell("cancelled_stays_cancelled", own);
        }
        own.accepted = Sure::Yes;
        self.schedules.came.push((session, delivery.subscription, id));
        Ok(())
    }

    /// Acknowledges copies that came.
    pub(super) fn acknowledge_copies(&mut self) {
        for (session, subscription, id) in std::mem::take(&mut self.schedules.came) {
            if let Some(client) = self.clients.iter().position(|own| own.number == session) {
                let acknowledge =
                    Command::Acknowledge { subscription, ids: vec![id], cumulative: false };
                self.submit(client, Asked::Copy(id), acknowledge);
            }
        }
    }

    pub(super) fn copy_acknowledged(&mut self, id: MessageId, verdict: &Verdict) {
        if verdict.state == State::Acknowledged {
            let copies = self.schedules.all.values_mut().filter_map(|own| own.copies.get_mut(&id));
            copies.for_each(|done| *done = true);
        }
    }

    /// The answer to making a schedule.
    pub(super) fn schedule_answered(&mut self, number: u64, answer: Answer) -> Result<(), Wrong> {
        let Some(own) = self.schedules.all.get_mut(&number) else { return Ok(()) };
        own.asked -= 1;
        let refused = match answer {
            Answer::Produced(results) => match results.into_iter().next() {
                Some(Ok(produced)) => {
                    (own.accepted, own.id) = (Sure::Yes, Some(produced.id));
                    return Ok(());
                }
                Some(Err(error)) => *error,
                None => return Err("fitting_answer: no result".into()),
            },
            Answer::Failed(error) => error,
            other => return Err(format!("fitting_answer: {other:?}")),
        };
        Self::tolerate(&refused)?;
        own.accepted = Sure::No;
        match refused.code {
            Code::BadSchedule | Code::BadDelay => Err(format!("clear_refusals: {refused}")),
            _ => Ok(()),
        }
    }

    /// The answer to cancelling or moving one.
    pub(super) fn schedule_judged(&mut self, number: u64, ends: bool, verdict: Option<&Verdict>) {
        let at_ms = self.times.elapsed_ms;
        let Some(own) = self.schedules.all.get_mut(&number) else { return };
        own.asked -= 1;
        match verdict.map(|verdict| verdict.state) {
            Some(State::Cancelled) if own.cancelled != Sure::Yes => {
                (own.cancelled, own.cancelled_ms) = (Sure::Yes, at_ms);
            }
            Some(State::Cancelled | State::Gone | State::Unknown) => {}
            _ if ends && own.asked == 0 => own.cancelled = Sure::No,
            _ => {}
        }
    }

    /// At rest: every schedule that was not ended goes on, and its next run lies ahead. Then all are ended.
    pub(super) fn end_schedules(&mut self) -> Result<BTreeMap<u64, u32>, Wrong> {
        let mut runs = BTreeMap::new();
        let known: Vec<(u64, MessageId)> =
            self.schedules.all.iter().filter_map(|(n, own)| Some((*n, own.id?))).collect();
        for (number, id) in known {
            let Some(Answer::Statuses(told)) = self.ask_once(Command::Query { ids: vec![id] })?
            else {
                continue;
            };
            self.check_schedule(number, &told[0])?;
            runs.insert(number, told[0].attempts);
        }
        let mut after: Option<Key> = None;
        loop {
            let list = Command::List {
                destination: bytes::Bytes::new(),
                from_ms: 0,
                to_ms: u64::MAX,
                limit: 1_000,
                after,
            };
            let Some(Answer::Scheduled(page)) = self.ask_once(list)? else { break };
            let recurring = page.entries.iter().filter(|entry| entry.recurring);
            let ids: Vec<MessageId> = recurring.map(|entry| entry.id).collect();
            if !ids.is_empty() {
                self.ask_once(Command::Cancel { ids })?;
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(runs)
    }

    fn check_schedule(&self, number: u64, told: &Status) -> Result<(), Wrong> {
        let (own, now) = (&self.schedules.all[&number], self.times);
        if own.touched || own.cancelled != Sure::No || own.accepted != Sure::Yes {
            return Ok(());
        }
        let tell =
            |what: &str| Err(format!("{what}: schedule {number}: {told:?}, {own:?} at {now:?}"));
        let ended = own.times != 0 && matches!(told.state, State::Ended | State::Gone);
        if !ended && (told.state != State::Scheduled || !told.recurring) {
            return tell("schedules_stay");
        }
        let clocks_agree = now.ahead_ms == 0 && now.back_ms == 0;
        if clocks_agree && !ended && told.due_ms + SLACK_MS < START_MS + now.elapsed_ms {
            return tell("no_run_missed");
        }
        if !ended && (told.attempts as usize) < own.copies.len() {
            return tell("runs_are_counted");
        }
        Ok(())
    }

    /// After everything has come: each run has, where none could be skipped. `runs` is what the schedules
    /// told when they were ended.
    pub(super) fn check_runs(&self, runs: &BTreeMap<u64, u32>, skipped: u64) -> Result<(), Wrong> {
        // Skipped runs are counted since the last start only.
        let memory = self.swarm.config.memory >= 4 << 20 || self.report.starts == 1;
        if skipped > 0 || !memory || !self.report.faults.is_empty() {
            return Ok(());
        }
        for (number, runs) in runs {
            let own = &self.schedules.all[number];
            // One that has ended tells no runs.
            let counted = *runs > 0 && !own.touched && own.cancelled == Sure::No;
            if counted && own.copies.len() as u64 != u64::from(*runs) {
                return Err(format!("no_run_lost: schedule {number} had {runs}: {own:?}"));
            }
        }
        Ok(())
    }
}

const _: () = assert!(DESTINATIONS[0].1 && DESTINATIONS[1].1);
