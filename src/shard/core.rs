//! One step of a shard: take the time, fire, carry out, commit, release.
//!
//! The same step runs under the shard's thread and under a simulator.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::base::error::{ClientError, Code};
use crate::base::event::{BatchMeta, Event, EventSink};
use crate::base::id::SessionId;
use crate::base::limits;
use crate::base::time::Now;
use crate::codec::frame::BatchBuffer;
use crate::codec::{event, row};
use crate::engine::Engine;
use crate::env::clock::Clock;
use crate::env::disk::Disk;
use crate::journal::{Journal, JournalError};
use crate::store::{StoreStats, Version};

use super::background::Background;
use super::backup::Backups;
use super::below::{self, Below};
use super::broker::{Input, Outbox};
use super::error::ShardError;
use super::open::ShardOptions;
use super::spill::Spill;
use super::timekeeper::{ClockNote, Reading, Timekeeper};
use super::work::Work;

/// A batch that found no space is tried again this often.
const STUCK_RETRY: Duration = Duration::from_millis(50);
/// While a session's outbox is full, it is looked at this often; so is a flush that is under way.
const FULL_RETRY: Duration = Duration::from_millis(5);
/// While requests to publish wait for memory, it is looked at this often.
const HELD_RETRY: Duration = Duration::from_millis(1);
/// The clocks are looked at this often, whatever happens.
const IDLE_MAX: Duration = Duration::from_millis(500);

/// Encodes events into the batch of the step.
pub(super) struct BatchSink<'a>(pub(super) &'a mut BatchBuffer);

impl EventSink for BatchSink<'_> {
    fn record(&mut self, event: &Event<'_>) {
        event::encode(event, self.0.payload_mut());
    }
}

/// What a core is made of.
pub(super) struct Parts {
    pub(super) engine: Engine,
    pub(super) journal: Box<dyn Journal>,
    pub(super) keeper: Timekeeper,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) version: Arc<Version>,
    pub(super) store_stats: StoreStats,
    pub(super) background: Box<dyn Background>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) options: ShardOptions,
}

/// A shard without its thread.
pub(super) struct Core {
    pub(super) engine: Engine,
    /// Time of the last batch: a restart goes on from there.
    committed: Now,
    pub(super) journal: Box<dyn Journal>,
    pub(super) below: Below,
    pub(super) background: Box<dyn Background>,
    pub(super) spill: Spill,
    pub(super) backups: Backups,
    pub(super) store_stats: StoreStats,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) data_dir: PathBuf,
    /// Memory that messages should take, bytes.
    pub(super) memory: u64,
    /// Journal after which a flush pays, bytes.
    pub(super) journal_tail: u64,
    /// Space on the disk below which new messages are refused, bytes.
    pub(super) disk_reserve: u64,
    pub(super) batch: BatchBuffer,
    pub(super) keeper: Timekeeper,
    clock: Arc<dyn Clock>,
    pub(super) outboxes: HashMap<SessionId, Box<dyn Outbox>>,
    /// Sessions whose outbox is full: they are handed no deliveries.
    full: BTreeSet<SessionId>,
    pub(super) work: VecDeque<Work>,
    /// What is left of the step's room for requests.
    pub(super) effort_left: usize,
    /// Requests to publish wait until memory is given back.
    pub(super) holding: bool,
    /// More is due than the last step could fire or time out.
    overdue: bool,
    /// A batch that found no space at all: nothing goes on until it is written.
    pub(super) stuck: Option<BatchMeta>,
    pub(super) commits: u64,
    pub(super) commit_ns_max: u64,
    pub(super) commit_ns_total: u64,
}

impl Core {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts {
            engine,
            journal,
            keeper,
            clock,
            version,
            store_stats,
            background,
            disk,
            options,
        } = parts;
        let config = options.config;
        Self {
            committed: engine.now(),
            engine,
            journal,
            below: Below::new(version),
            background,
            spill: Spill::default(),
            backups: Backups::default(),
            store_stats,
            disk,
            data_dir: options.data_dir,
            memory: config.memory,
            journal_tail: config.journal_tail,
            disk_reserve: config.disk_reserve,
            batch: BatchBuffer::new(),
            keeper,
            clock,
            outboxes: HashMap::new(),
            full: BTreeSet::new(),
            work: VecDeque::new(),
            effort_left: 0,
            holding: false,
            overdue: false,
            stuck: None,
            commits: 0,
            commit_ns_max: 0,
            commit_ns_total: 0,
        }
    }

    /// Puts an input in line for the next step. `false`: the shard is asked to stop.
    pub(super) fn take(&mut self, input: Input) -> bool {
        self.work.push_back(match input {
            Input::Open(session, outbox) => Work::Open(session, outbox),
            Input::Requests(session, requests) => Work::Requests(session, requests.into_iter()),
            Input::Close(session) => Work::Close(session),
            Input::ReleaseClock => {
                self.keeper.release();
                return true;
            }
            Input::Stop => return false,
        });
        true
    }

    /// The monotonic clock, ns.
    pub(super) fn mono_ns(&self) -> u64 {
        self.clock.mono_ns()
    }

    /// Inputs in line.
    pub(super) fn backlog(&self) -> usize {
        self.work.len()
    }

    /// How long the next step can wait when nothing comes in.
    pub(super) fn wait(&self) -> Duration {
        if self.stuck.is_some() {
            return STUCK_RETRY;
        }
        if self.overdue || self.engine.has_work() || self.has_remains() {
            return Duration::ZERO;
        }
        if !self.work.is_empty() {
            return if self.holding { HELD_RETRY } else { Duration::ZERO };
        }
        if self.firing_waits() {
            return FULL_RETRY;
        }
        let now = self.engine.now();
        let engine = self.engine.next_wait_ms();
        let journal = self.journal.next_maintenance_ms().map(|at| at.saturating_sub(now.mono_ms));
        let looks_often = !self.full.is_empty() || self.engine.is_frozen() || self.backups.any();
        let longest = if looks_often { FULL_RETRY } else { IDLE_MAX };
        let Some(wait_ms) = [engine, journal].into_iter().flatten().min() else { return longest };
        let target = self.keeper.mono_ns_at(now.mono_ms.saturating_add(wait_ms));
        Duration::from_nanos(target.saturating_sub(self.clock.mono_ns())).min(longest)
    }

    /// One step.
    ///
    /// # Errors
    /// When the journal failed: nothing that is not durable was released, and the shard is to
    /// stop.
    pub(super) fn step(&mut self) -> Result<(), ShardError> {
        let now = self.read_clock();
        if let Some(meta) = self.stuck {
            // A flush that is done gives back the journal before it.
            self.take_news()?;
            self.journal.maintain(now.mono_ms)?;
            self.commit(meta)?;
            if self.stuck.is_none() {
                self.release();
            }
            return Ok(());
        }
        self.take_news()?;
        self.clear_remains();
        self.thaw(now)?;
        let fired = self.engine.fire(now, self.fire_limit());
        let refuse_new = self.refusal(now.mono_ms);
        self.engine.run_schedules(refuse_new, &mut BatchSink(&mut self.batch));
        self.resume();
        self.engine.delete_ownerless(&mut BatchSink(&mut self.batch));
        self.do_work(now.mono_ms)?;
        let mut sink = BatchSink(&mut self.batch);
        let timers = self.engine.run_timers(limits::FIRE_PER_STEP_MAX, &mut sink);
        self.engine.dispatch(limits::DELIVER_PER_STEP_MAX, &mut sink);
        self.engine.expire_old(limits::EXPIRE_PER_STEP_MAX, &mut sink);
        self.engine.retain_topics(limits::TRIM_PER_STEP_MAX, &mut sink);
        self.overdue = timers || fired.more && !self.firing_waits();
        // A firing without an event is a fact too: it must be durable before its deliveries leave.
        if fired.any || !self.batch.is_empty() {
            self.commit(self.engine.batch_meta())?;
            if self.stuck.is_some() {
                return Ok(());
            }
        }
        self.release();
        self.journal.maintain(now.mono_ms)?;
        self.begin_backup()?;
        self.consider_flush()
    }

    fn read_clock(&mut self) -> Now {
        let read =
            |clock: &dyn Clock| Reading { mono_ns: clock.mono_ns(), wall_ns: clock.wall_ns() };
        let mut reading = read(&*self.clock);
        // Being held up between the two readings looks like a step of the wall; it does not repeat.
        for _ in 0..3 {
            if !self.keeper.looks_stepped(reading) {
                break;
            }
            reading = read(&*self.clock);
        }
        let (now, note) = self.keeper.now(reading, self.engine.pace());
        if let Some(note) = note {
            log_clock(note);
        }
        now
    }

    /// Makes the step's batch durable. When there is no space left at all, not even in the
    /// reserve, the batch stays and is tried again: nothing is lost, nothing is answered.
    fn commit(&mut self, meta: BatchMeta) -> Result<(), JournalError> {
        let before = self.clock.mono_ns();
        match self.journal.append(&meta, &mut self.batch) {
            Ok(_) => {
                self.committed = meta.now;
                if self.stuck.take().is_some() {
                    tracing::warn!("there is disk space again; the server goes on");
                }
            }
            Err(JournalError::Full { .. }) => {
                if self.stuck.replace(meta).is_none() {
                    tracing::error!(
                        "the disk is full and the reserve is used up; the server waits for space"
                    );
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        self.batch.clear();
        let took = self.clock.mono_ns().saturating_sub(before);
        self.commits += 1;
        self.commit_ns_total += took;
        self.commit_ns_max = self.commit_ns_max.max(took);
        Ok(())
    }

    fn release(&mut self) {
        let outboxes = &self.outboxes;
        let mut full = Vec::new();
        self.engine.take_outgoing(|session, batch| {
            if let Some(outbox) = outboxes.get(&session) {
                outbox.push(batch);
                if outbox.is_full() {
                    full.push(session);
                }
            }
        });
        for session in full {
            if self.full.insert(session) {
                self.engine.pause(session, true);
            }
        }
    }

    /// Hands deliveries again to sessions whose outbox has room again.
    fn resume(&mut self) {
        let (engine, outboxes) = (&mut self.engine, &self.outboxes);
        self.full.retain(|session| {
            let full = outboxes.get(session).is_some_and(|outbox| outbox.is_full());
            if !full {
                engine.pause(*session, false);
            }
            full
        });
    }

    /// The durable state, encoded.
    pub(super) fn state(&self) -> Result<Vec<u8>, ShardError> {
        let rows = self.below.all(self.engine.shard())?;
        let rows = below::stored(&rows, self.engine.shard())?;
        let mut batch = BatchBuffer::new();
        self.engine.dump(&rows, &mut BatchSink(&mut batch));
        let mut state = batch.payload().to_vec();
        let rows = self.below.all_dedups()?;
        let rows = below::remembered(&rows)?;
        for dedup in self.engine.dedups(&rows, self.committed.mono_ms) {
            state.extend(row::dedup_key(dedup.destination, dedup.dedup));
            row::encode_dedup(&dedup, &mut state);
        }
        Ok(state)
    }

    /// Whether a batch waits for space on the disk, and all else for it.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck.is_some()
    }

    /// Tells every session that nothing more will come, and why; also those whose opening is in
    /// line.
    pub(super) fn hang_up(&mut self, reason: &ClientError) {
        for outbox in self.outboxes.values() {
            outbox.closed(reason.clone());
        }
        self.outboxes.clear();
        for work in self.work.drain(..) {
            if let Work::Open(_, outbox) = work {
                outbox.closed(reason.clone());
            }
        }
    }

    /// Ends in good order.
    pub(super) fn close(mut self) -> Result<(), ShardError> {
        self.hang_up(&Code::ShuttingDown.into());
        Ok(self.journal.close()?)
    }
}

pub(super) fn log_clock(note: ClockNote) {
    match note {
        ClockNote::Forward(ms) => {
            tracing::warn!(ms, "the wall clock stepped forward; messages due at a time follow it");
        }
        ClockNote::Backward(ms) => {
            tracing::warn!(ms, "the wall clock stepped back; messages due at a time wait for it");
        }
        ClockNote::Held(ms) => tracing::error!(
            ms,
            hold_ms = limits::CLOCK_HOLD_TIMEOUT_MS,
            "the wall clock is far ahead of where it should be; messages due at a time are held \
             until it is put right, SIGUSR1 releases them, or the hold times out"
        ),
        ClockNote::Released(ms) => {
            tracing::warn!(ms, "the wall clock is believed again; held messages fire");
        }
    }
}
