//! One step of a shard: take the time, fire, carry out, commit, release.
//!
//! The same step runs under the shard's thread and under a simulator.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::base::command::{Answer, Command};
use crate::base::error::{ClientError, Code};
use crate::base::event::{BatchMeta, Event, EventSink};
use crate::base::id::SessionId;
use crate::base::limits;
use crate::codec::event;
use crate::codec::frame::BatchBuffer;
use crate::engine::Engine;
use crate::env::clock::Clock;
use crate::journal::{Journal, JournalError, Room};

use super::broker::{Input, Outbox};
use super::effort;
use super::timekeeper::{ClockNote, Reading, Timekeeper};

/// A live state may be rewritten as a baseline when the journal is this many times its size.
const BASELINE_GAIN: u64 = 8;
/// The same while the disk is full.
const BASELINE_GAIN_FULL: u64 = 2;
/// While the disk is full, a baseline that would free segments is thought about this often, ms.
const RESCUE_EVERY_MS: u64 = 1_000;
/// A batch that found no space is tried again this often.
const STUCK_RETRY: Duration = Duration::from_millis(50);
/// While a session's outbox is full, it is looked at this often.
const FULL_RETRY: Duration = Duration::from_millis(5);
/// The clocks are looked at this often, whatever happens.
const IDLE_MAX: Duration = Duration::from_millis(500);

/// Encodes events into the batch of the step.
struct BatchSink<'a>(&'a mut BatchBuffer);

impl EventSink for BatchSink<'_> {
    fn record(&mut self, event: &Event<'_>) {
        event::encode(event, self.0.payload_mut());
    }
}

/// Work taken from the inbox, some of it perhaps half done.
enum Work {
    Open(SessionId, Box<dyn Outbox>),
    Requests(SessionId, std::vec::IntoIter<(u64, Command)>),
    Close(SessionId),
}

impl Work {
    fn session(&self) -> SessionId {
        match self {
            Self::Open(session, _) | Self::Requests(session, _) | Self::Close(session) => *session,
        }
    }
}

/// A shard without its thread.
pub(super) struct Core {
    engine: Engine,
    journal: Box<dyn Journal>,
    batch: BatchBuffer,
    keeper: Timekeeper,
    clock: Arc<dyn Clock>,
    outboxes: HashMap<SessionId, Box<dyn Outbox>>,
    /// Sessions whose outbox is full: they are handed no deliveries.
    full: BTreeSet<SessionId>,
    work: VecDeque<Work>,
    /// More is due than the last step could fire or time out.
    overdue: bool,
    /// A batch that found no space at all: nothing goes on until it is written.
    stuck: Option<BatchMeta>,
    /// The segment in which a baseline was last thought about.
    baseline_checked_at: u64,
    /// While the disk is full: when a baseline is next thought about, ms.
    next_rescue_mono_ms: u64,
    commits: u64,
    commit_ns_max: u64,
    commit_ns_total: u64,
    baselines: u64,
}

impl Core {
    pub(super) fn new(
        engine: Engine,
        journal: Box<dyn Journal>,
        keeper: Timekeeper,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            engine,
            journal,
            batch: BatchBuffer::new(),
            keeper,
            clock,
            outboxes: HashMap::new(),
            full: BTreeSet::new(),
            work: VecDeque::new(),
            overdue: false,
            stuck: None,
            baseline_checked_at: 0,
            next_rescue_mono_ms: 0,
            commits: 0,
            commit_ns_max: 0,
            commit_ns_total: 0,
            baselines: 0,
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

    /// Inputs in line.
    pub(super) fn backlog(&self) -> usize {
        self.work.len()
    }

    /// How long the next step can wait when nothing comes in.
    pub(super) fn wait(&self) -> Duration {
        if self.stuck.is_some() {
            return STUCK_RETRY;
        }
        if self.overdue || !self.work.is_empty() || self.engine.has_work() {
            return Duration::ZERO;
        }
        let now = self.engine.now();
        let engine = self.engine.next_wait_ms();
        let journal = self.journal.next_maintenance_ms().map(|at| at.saturating_sub(now.mono_ms));
        let longest = if self.full.is_empty() { IDLE_MAX } else { FULL_RETRY };
        let Some(wait_ms) = [engine, journal].into_iter().flatten().min() else { return longest };
        let target = self.keeper.mono_ns_at(now.mono_ms.saturating_add(wait_ms));
        Duration::from_nanos(target.saturating_sub(self.clock.mono_ns())).min(longest)
    }

    /// One step.
    ///
    /// # Errors
    /// When the journal failed: nothing that is not durable was released, and the shard is to
    /// stop.
    pub(super) fn step(&mut self) -> Result<(), JournalError> {
        let now = self.read_clock();
        if let Some(meta) = self.stuck {
            self.journal.maintain(now.mono_ms)?;
            self.commit(meta)?;
            if self.stuck.is_none() {
                self.release();
            }
            return Ok(());
        }
        let fired = self.engine.fire(now, limits::FIRE_PER_STEP_MAX);
        self.resume();
        self.do_work();
        let mut sink = BatchSink(&mut self.batch);
        let timers = self.engine.run_timers(limits::FIRE_PER_STEP_MAX, &mut sink);
        self.engine.dispatch(limits::DELIVER_PER_STEP_MAX, &mut sink);
        self.engine.expire_old(limits::EXPIRE_PER_STEP_MAX, &mut sink);
        self.engine.retain_topics(limits::TRIM_PER_STEP_MAX, &mut sink);
        self.overdue = fired.more || timers;
        // A firing without an event is a fact too: it must be durable before its deliveries leave.
        if fired.any || !self.batch.is_empty() {
            self.commit(self.engine.batch_meta())?;
            if self.stuck.is_some() {
                return Ok(());
            }
        }
        self.release();
        self.journal.maintain(now.mono_ms)?;
        if self.baseline_pays(now.mono_ms) {
            self.write_baseline()?;
        }
        Ok(())
    }

    fn read_clock(&mut self) -> crate::base::time::Now {
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
        let (now, note) = self.keeper.now(reading);
        if let Some(note) = note {
            log_clock(note);
        }
        now
    }

    fn do_work(&mut self) {
        let refuse_new = match self.journal.room() {
            Room::Plenty => None,
            Room::ReserveOnly => Some(Code::DiskFull),
        };
        let mut effort_left = limits::STEP_REQUESTS_MAX;
        while let Some(work) = self.work.pop_front() {
            match work {
                Work::Open(session, outbox) => {
                    self.engine.open_session(session);
                    self.outboxes.insert(session, outbox);
                }
                Work::Close(session) => {
                    self.engine.close_session(session);
                    self.outboxes.remove(&session);
                }
                Work::Requests(session, mut requests) => {
                    for (tag, command) in requests.by_ref() {
                        effort_left = effort_left.saturating_sub(effort::of(&command));
                        self.execute(session, tag, command, refuse_new);
                        if effort_left == 0 || self.batch.len() >= limits::STEP_BYTES_SOFT_MAX {
                            break;
                        }
                    }
                    if requests.len() > 0 {
                        self.put_off(session, requests);
                    }
                }
            }
            if effort_left == 0 || self.batch.len() >= limits::STEP_BYTES_SOFT_MAX {
                return;
            }
        }
    }

    /// Lets others go first with the next step. What a session asked stays in order: what it said
    /// since goes behind.
    fn put_off(&mut self, session: SessionId, requests: std::vec::IntoIter<(u64, Command)>) {
        let all = std::mem::take(&mut self.work);
        let (later, others): (VecDeque<_>, _) =
            all.into_iter().partition(|work| work.session() == session);
        self.work = others;
        self.work.push_back(Work::Requests(session, requests));
        self.work.extend(later);
    }

    fn execute(&mut self, session: SessionId, tag: u64, command: Command, refuse: Option<Code>) {
        if matches!(command, Command::Stats) {
            let stats = self.stats();
            self.engine.answer(session, tag, Answer::Stats(stats));
            return;
        }
        let mut sink = BatchSink(&mut self.batch);
        self.engine.execute(session, tag, command, refuse, &mut sink);
    }

    /// Makes the step's batch durable. When there is no space left at all, not even in the
    /// reserve, the batch stays and is tried again: nothing is lost, nothing is answered.
    fn commit(&mut self, meta: BatchMeta) -> Result<(), JournalError> {
        let before = self.clock.mono_ns();
        match self.journal.append(&meta, &mut self.batch) {
            Ok(_) => {
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

    /// Whether writing the live state anew would free enough of the journal.
    fn baseline_pays(&mut self, mono_ms: u64) -> bool {
        let segment = self.journal.end().segment;
        let full = self.journal.room() == Room::ReserveOnly;
        let rescue = full && mono_ms >= self.next_rescue_mono_ms;
        if segment == self.baseline_checked_at && !rescue {
            return false;
        }
        self.baseline_checked_at = segment;
        self.next_rescue_mono_ms = mono_ms + RESCUE_EVERY_MS;
        let gain = if full { BASELINE_GAIN_FULL } else { BASELINE_GAIN };
        let estimate = self.engine.dump_bytes_estimate();
        let stats = self.journal.stats();
        stats.live_segments >= 2
            && estimate <= limits::BASELINE_BYTES_MAX as u64
            && estimate * gain <= stats.live_bytes
    }

    /// Writes the live state anew, and lets go of the segments before it.
    fn write_baseline(&mut self) -> Result<(), JournalError> {
        self.engine.dump(&mut BatchSink(&mut self.batch));
        let meta = BatchMeta { baseline: true, released: [0; 2], ..self.engine.batch_meta() };
        let bytes = self.batch.len();
        let written = self.journal.append(&meta, &mut self.batch);
        self.batch.clear();
        let position = match written {
            Ok(position) => position,
            // It was an offer; what it would have freed stays. The size before was an estimate.
            Err(JournalError::Full { .. } | JournalError::TooLarge { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        self.journal.trim(position)?;
        self.baseline_checked_at = self.journal.end().segment;
        self.baselines += 1;
        tracing::info!(bytes, segment = position.segment, "journal rewritten from a baseline");
        Ok(())
    }

    fn stats(&self) -> Vec<(&'static str, u64)> {
        let mut stats = self.engine.stats();
        let journal = self.journal.stats();
        stats.extend([
            ("journal_segments", journal.live_segments),
            ("journal_live_bytes", journal.live_bytes),
            ("journal_disk_bytes", journal.disk_bytes),
            ("journal_frames_total", journal.frames),
            ("journal_payload_bytes_total", journal.payload_bytes),
            ("journal_syncs_total", journal.syncs),
            ("commits_total", self.commits),
            ("commit_us_mean", self.commit_ns_total / self.commits.max(1) / 1000),
            ("commit_us_max", self.commit_ns_max / 1000),
            ("baselines_total", self.baselines),
            ("disk_full", u64::from(self.journal.room() == Room::ReserveOnly)),
            ("wall_clock_held", u64::from(self.keeper.held())),
        ]);
        stats
    }

    /// The durable state, encoded.
    pub(super) fn state(&self) -> Vec<u8> {
        let mut batch = BatchBuffer::new();
        self.engine.dump(&mut BatchSink(&mut batch));
        batch.payload().to_vec()
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
    pub(super) fn close(mut self) -> Result<(), JournalError> {
        self.hang_up(&Code::ShuttingDown.into());
        self.journal.close()
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
