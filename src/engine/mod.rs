//! F3: the engine. A deterministic function of what it is told: no clock, disk, randomness,
//! thread or log inside.
//!
//! A step goes: [`Engine::fire`] what is due, [`Engine::execute`] each command,
//! [`Engine::run_timers`] and [`Engine::dispatch`] to subscribers; every change of durable state is
//! an [`Event`], recorded in a sink and applied at once. What goes out to sessions is collected and
//! must be released only when the step's events are durable.
//!
//! Invariants:
//! - Durable state changes only in `apply.rs` and by firing; replaying the same batches gives the
//!   same durable state ([`Engine::dump`] is equal).
//! - Leases, credit and sessions are soft: they are gone after a restart.
//! - No message fires before the clock that judges it has reached its due time.

mod acknowledge;
mod alive;
mod apply;
mod attach;
mod control;
mod cursor;
mod dedup;
mod deliver;
mod destination;
mod destinations;
mod dump;
mod fire;
mod freeze;
mod frozen;
mod inbox;
mod inspect;
mod messages;
mod patterns;
mod publish;
mod queue;
mod readers;
mod recur;
mod restore;
mod schedule;
mod small;
mod subscription;
mod temporary;
mod thaw;
mod topic;
mod transaction;
mod wheels;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::base::command::{Answer, Command, Outgoing};
use crate::base::config::ShardConfig;
use crate::base::error::{ClientError, Code};
use crate::base::event::{BatchMeta, Event, EventSink};
use crate::base::id::{DestinationId, Key, MessageId, SessionId};
use crate::base::limits;
use crate::base::recur::Planner;
use crate::base::stored::Want;
use crate::base::time::{Now, Pace};

use control::Sweep;
use dedup::Dedup;
use destination::Destination;
use destinations::Destinations;
use freeze::Freezing;
use messages::{Messages, NumberMap, Outcomes, SlotId, Tombs};
use patterns::{Attached, Patterns};
use small::Small;
use subscription::{Durable, Slots};
use thaw::{Found, Portions, Shown};
use wheels::Wheels;

pub use alive::{Alive, ReadyPlace};
pub use destinations::Kinds;
pub use fire::Fired;
pub use freeze::Remains;
pub use frozen::{Frozen, Row, TopicChunk};

/// A connected session: its subscriptions and what waits to go out to it.
#[derive(Debug, Default)]
struct Session {
    subscriptions: BTreeMap<u32, Attached>,
    /// The temporary queues it owns.
    temporary: Vec<DestinationId>,
    out: Vec<Outgoing>,
    /// It is handed no deliveries for now.
    paused: bool,
}

/// Totals since the engine was made; soft.
#[derive(Debug, Default, Clone, Copy)]
struct Totals {
    produced: u64,
    duplicates: u64,
    refused: u64,
    fired: u64,
    put_back: u64,
    gaps_refused: u64,
    put_back_bytes: u64,
    delivered: u64,
    redelivered: u64,
    acknowledged: u64,
    rejected: u64,
    timed_out: u64,
    cancelled: u64,
    rescheduled: u64,
    dead: u64,
    expired: u64,
    purged: u64,
    runs: u64,
    runs_skipped: u64,
    plans_failed: u64,
}

/// One shard's state and rules.
#[derive(Debug)]
pub struct Engine {
    config: ShardConfig,
    shard: u16,
    now: Now,
    /// Nothing at or below is left in the wheel.
    fired_to: Key,
    /// Every row of the store up to here is in the wheel: firing goes no further.
    thawed_to: Key,
    /// How the engine line goes on when it is ahead: messages were put back by it.
    pace: Pace,
    wheel: Wheels,
    messages: Messages,
    /// Rows below the active layer that no longer count, by sequence; no watermark covers them.
    tombs: Tombs,
    outcomes: Outcomes,
    dedup: Dedup,
    names: BTreeMap<Arc<str>, DestinationId>,
    destinations: Destinations,
    /// The destination named last: most batches go where the one before went.
    last_named: Option<(Arc<str>, DestinationId)>,
    durables: BTreeMap<u32, Durable>,
    durable_names: BTreeMap<(DestinationId, Box<str>), u32>,
    slots: Slots,
    patterns: Patterns,
    sessions: NumberMap<u64, Session>,
    /// Sessions with something to go out.
    dirty: Vec<SessionId>,
    /// Destinations that may have something to deliver.
    active: VecDeque<DestinationId>,
    /// Temporary queues that were there at the start.
    ownerless: Vec<DestinationId>,
    /// Topics that grew since retention last looked at them, or were left with too much by it.
    grown: Vec<DestinationId>,
    /// When topics are next swept for old messages, ms.
    next_sweep_mono_ms: u64,
    /// The look for queue messages past their age.
    sweep: Sweep,
    lease_timers: BTreeSet<(u64, SlotId)>,
    /// Lanes handed out since a journaled event last said so.
    handed: Vec<(DestinationId, u8)>,
    frozen_tombs: Option<Arc<Tombs>>,
    freezing: Option<Freezing>,
    /// Thawed ahead of firing.
    portions: Portions,
    /// What has to be read from the store before deliveries go on.
    wants: BTreeSet<Want>,
    /// Messages read from the store for the command that is carried out.
    found: NumberMap<u64, Found>,
    shown: Shown,
    /// Sequences below may lie in the store.
    below_sequence: u64,
    /// Messages at positions below may have been handed out before the last start.
    restart_position: u64,
    /// Recurring schedules that have fired in this step, in order.
    set_aside: VecDeque<u64>,
    planner: Planner,
    next_sequence: u64,
    /// The position the next message that becomes ready gets.
    next_position: u64,
    next_subscription: u32,
    /// Content and overhead of all live messages.
    memory_bytes: u64,
    /// What destinations and durable subscriptions take in a checkpoint, at most.
    small: Small,
    totals: Totals,
}

impl Engine {
    /// An empty engine that begins at `now`.
    #[must_use]
    pub fn new(config: ShardConfig, now: Now) -> Self {
        Self {
            config,
            shard: 0,
            now,
            fired_to: Key::end_of(now.engine_ms.saturating_sub(1)),
            pace: Pace::default(),
            thawed_to: Key { due_ms: u64::MAX, sequence: u64::MAX },
            wheel: Wheels::new(now.engine_ms),
            messages: Messages::default(),
            tombs: Tombs::default(),
            outcomes: Outcomes::new(limits::OUTCOMES_REMEMBERED),
            dedup: Dedup::new(limits::DEDUP_ENTRIES_HARD_MAX),
            names: BTreeMap::new(),
            destinations: Destinations::default(),
            last_named: None,
            durables: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            slots: Slots::default(),
            patterns: Patterns::default(),
            sessions: NumberMap::default(),
            dirty: Vec::new(),
            active: VecDeque::new(),
            ownerless: Vec::new(),
            grown: Vec::new(),
            next_sweep_mono_ms: 0,
            sweep: Sweep::default(),
            lease_timers: BTreeSet::new(),
            handed: Vec::new(),
            frozen_tombs: None,
            freezing: None,
            portions: Portions::new(),
            wants: BTreeSet::new(),
            found: NumberMap::default(),
            shown: Shown::default(),
            below_sequence: 0,
            restart_position: 0,
            set_aside: VecDeque::new(),
            planner: recur::no_planner,
            next_sequence: 1,
            next_position: 1,
            next_subscription: 1,
            memory_bytes: 0,
            small: Small::default(),
            totals: Totals::default(),
        }
    }

    /// What the current step's batch has to say beside its events.
    #[must_use]
    pub fn batch_meta(&self) -> BatchMeta {
        BatchMeta { now: self.now, fired_to: self.fired_to }
    }

    /// Carries out one command of a session and queues its answer.
    ///
    /// `refuse_new` names why new messages, destinations and durable subscriptions are refused at the
    /// moment, if they are; everything else goes on.
    pub fn execute(
        &mut self,
        session: SessionId,
        tag: u64,
        command: Command,
        refuse_new: Option<Code>,
        sink: &mut dyn EventSink,
    ) {
        let answer = match command {
            Command::Produce { destination, batch } => {
                self.produce(&destination, &batch, None, refuse_new, sink)
            }
            Command::Repeat { destination, rule, batch } => {
                self.produce(&destination, &batch, Some(&rule), refuse_new, sink)
            }
            Command::Transaction { parts } => self.transact(session, &parts, refuse_new, sink),
            Command::Query { ids } => batched(&ids)
                .map(|()| Answer::Statuses(ids.iter().map(|id| self.status(*id)).collect())),
            Command::Cancel { ids } => batched(&ids)
                .map(|()| Answer::Verdicts(ids.iter().map(|id| self.cancel(*id, sink)).collect())),
            Command::Reschedule { items } => self.reschedule(&items, sink),
            Command::Subscribe(wish) => self.subscribe(session, &wish, refuse_new, sink),
            Command::Unsubscribe { subscription, delete } => {
                self.unsubscribe(session, subscription, delete, sink)
            }
            Command::Acknowledge { subscription, ids, cumulative } => {
                self.acknowledge(session, subscription, &ids, cumulative, sink)
            }
            Command::Reject { subscription, ids, requeue } => {
                self.reject(session, subscription, &ids, requeue, sink)
            }
            Command::List { destination, from_ms, to_ms, limit, after } => {
                self.list(&destination, from_ms, to_ms, limit, after)
            }
            Command::Fetch { destination, offset, limit } => {
                self.fetch(&destination, offset, limit)
            }
            Command::ListDestinations { after, limit } => Ok(self.list_destinations(&after, limit)),
            Command::CreateDestination { name } => {
                self.create_destination(session, &name, refuse_new, sink)
            }
            Command::DeleteDestination { name } => self.delete_destination(&name, sink),
            Command::DescribeDestination { name } => self.find_destination(&name).and_then(|id| {
                let info = self.describe(id).ok_or(Code::DestinationNotFound)?;
                Ok(Answer::Destination(info))
            }),
            Command::PurgeDestination { name, scheduled } => {
                self.purge_destination(&name, scheduled, sink)
            }
            Command::PauseDestination { name, paused } => {
                self.pause_destination(&name, paused, sink)
            }
            Command::LimitDestination { name, max_messages, max_age_ms } => {
                self.limit_destination(&name, max_messages, max_age_ms, sink)
            }
            Command::Stats => Ok(Answer::Stats(self.stats())),
            // Files are not the engine's; its owner takes this before.
            Command::Backup { .. } => Err(Code::BackupFailed.into()),
        };
        let answer = answer.unwrap_or_else(Answer::Failed);
        self.send(session, Outgoing::Answer { tag, answer });
    }

    /// Answers a request from outside the engine, in order with the others.
    pub fn answer(&mut self, session: SessionId, tag: u64, answer: Answer) {
        self.send(session, Outgoing::Answer { tag, answer });
    }

    /// Hands over what is to go out, session by session. Only what is durable may leave.
    pub fn take_outgoing(&mut self, mut give: impl FnMut(SessionId, Vec<Outgoing>)) {
        for id in std::mem::take(&mut self.dirty) {
            if let Some(session) = self.sessions.get_mut(&id.0) {
                give(id, std::mem::take(&mut session.out));
            }
        }
    }

    /// Whether the next step has something to do without any new input.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.active.is_empty()
            || !self.grown.is_empty()
            || !self.ownerless.is_empty()
            || !self.wants.is_empty()
            || self.sweep.under_way()
    }

    /// How long nothing will happen by itself, in ms from the current step's time. `None`: for
    /// ever.
    #[must_use]
    pub fn next_wait_ms(&self) -> Option<u64> {
        let until = |due: u64| self.now.until(due, self.pace);
        let wheel = self.wheel.next_deadline().map(until);
        let lease = self.lease_timers.first().map(|(at, _)| at.saturating_sub(self.now.mono_ms));
        // What lies behind in the store has to be read before it is due.
        let unread = Some(self.thawed_to.due_ms).filter(|due_ms| *due_ms != u64::MAX);
        let unread = unread.map(until);
        [wheel, lease, unread].into_iter().flatten().min()
    }

    /// How the engine line goes on when it is ahead of both clocks.
    #[must_use]
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// Messages put back since the start.
    #[must_use]
    pub fn put_back(&self) -> u64 {
        self.totals.put_back
    }

    /// Bytes of the messages that were put back since the start: what they were below is over, so
    /// they are worth writing.
    #[must_use]
    pub fn put_back_bytes(&self) -> u64 {
        self.totals.put_back_bytes
    }

    /// Which shard this is.
    #[must_use]
    pub fn shard(&self) -> u16 {
        self.shard
    }

    /// Number of the next new message.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// The time of the current step.
    #[must_use]
    pub fn now(&self) -> Now {
        self.now
    }

    /// Live messages, in memory and in the store.
    #[must_use]
    pub fn messages(&self) -> u64 {
        let all = self.destinations.iter();
        all.map(|d| d.scheduled + d.ready + if d.kind.is_queue() { d.in_flight } else { 0 }).sum()
    }

    /// Scheduled and ready messages, wherever they lie. Walks the destinations.
    #[must_use]
    pub fn waiting(&self) -> (u64, u64) {
        let all = self.destinations.iter();
        all.fold((0, 0), |(scheduled, ready), d| (scheduled + d.scheduled, ready + d.ready))
    }

    /// Records an event and applies it.
    fn emit(&mut self, event: &Event<'_>, sink: &mut dyn EventSink) {
        if !self.handed.is_empty() {
            self.record_handed(sink);
        }
        sink.record(event);
        self.apply(event);
    }

    /// Records what was handed out, before an event that may be about it.
    fn record_handed(&mut self, sink: &mut dyn EventSink) {
        for (id, lane) in std::mem::take(&mut self.handed) {
            if let Some(destination) = self.destination_mut(id) {
                let marks = destination.queue.marks(lane);
                marks.unrecorded = false;
                sink.record(&Event::HandedOut { destination: id, lane, to: marks.handed_to });
            }
        }
    }

    fn send(&mut self, id: SessionId, outgoing: Outgoing) {
        if let Some(session) = self.sessions.get_mut(&id.0) {
            if session.out.is_empty() {
                self.dirty.push(id);
            }
            session.out.push(outgoing);
        }
    }

    fn destination(&self, id: DestinationId) -> Option<&Destination> {
        self.destinations.get(id)
    }

    fn destination_mut(&mut self, id: DestinationId) -> Option<&mut Destination> {
        self.destinations.get_mut(id)
    }

    /// Puts a destination on the list of those with something to deliver.
    fn activate(&mut self, id: DestinationId) {
        if let Some(destination) = self.destinations.get_mut(id)
            && !destination.active
            && !destination.subscribers.is_empty()
        {
            destination.active = true;
            self.active.push_back(id);
        }
    }

    /// The message with this id, if it is alive.
    fn live(&self, id: MessageId) -> Option<&messages::Entry> {
        if id.shard() != self.shard {
            return None;
        }
        self.messages.get(id.sequence()).filter(|entry| entry.id_due_ms == id.due_ms())
    }

    fn id_of(&self, sequence: u64, id_due_ms: u64) -> MessageId {
        MessageId::new(id_due_ms, self.shard, sequence)
    }
}

/// Refuses a batch request without items or with too many.
fn batched<T>(items: &[T]) -> Result<(), ClientError> {
    if items.is_empty() || items.len() > limits::BATCH_ITEMS_MAX {
        let max = limits::BATCH_ITEMS_MAX;
        let found = items.len();
        return Err(ClientError::new(
            Code::BadBatch,
            format!("a batch of {found} items; send 1 to {max}"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
