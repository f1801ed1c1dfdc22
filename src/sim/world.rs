//! One seed from beginning to end: a shard on a simulated disk and clock, simulated sessions, faults,
//! and the model that watches.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, atomic::AtomicBool, atomic::Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::base::command::Outgoing;
use crate::base::error::{ClientError, Code};
use crate::shard::{Outbox, Session, ShardOptions, SteppedShard};
use crate::sim::ask::Asked;
use crate::sim::model::{Model, Times};
use crate::sim::random::Random;
use crate::sim::recurring::Schedules;
use crate::sim::report::{Report, Trace, Violation};
use crate::sim::swarm::{Op, Swarm};
use crate::sim::{FaultKind, Repeat, SimClock, SimDisk, Survival};

/// When simulations begin, ms since the Unix epoch.
pub(super) const START_MS: u64 = 1_700_000_000_000;

/// Most steps in which a shard has to come to rest.
const STEPS_MAX: usize = 20_000;

/// A shard that would wait for longer has nothing to do at this time.
const REST: Duration = Duration::from_millis(100);

const DAY_MS: u64 = 24 * 3_600_000;

/// Destinations, and whether each message goes to one consumer.
pub(super) const DESTINATIONS: [(&str, bool); 5] = [
    ("/queue/a", true),
    ("/queue/b", true),
    ("/topic/t", false),
    ("/topic/u", false),
    ("/user/u/queue/i", false),
];
/// The inbox stands last.
pub(super) const INBOX: usize = 4;
/// The topics, and a pattern that takes them.
pub(super) const TOPICS: std::ops::Range<usize> = 2..4;
pub(super) const PATTERN: &str = "/topic/*";

/// What came out, in the order it came out, with the session it came to.
pub(super) type Log = Arc<Mutex<Vec<(u64, Outgoing)>>>;

/// The shard's side of a session.
struct Mailbox {
    session: u64,
    log: Log,
    stalled: Arc<AtomicBool>,
}

impl Outbox for Mailbox {
    fn push(&self, batch: Vec<Outgoing>) {
        let session = self.session;
        self.log.lock().extend(batch.into_iter().map(|outgoing| (session, outgoing)));
    }
    fn is_full(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }
    fn closed(&self, _reason: ClientError) {}
}

/// A subscription as its session knows it.
#[derive(Debug, Clone)]
pub(super) struct Sub {
    pub(super) number: u32,
    pub(super) destination: usize,
    pub(super) dead: bool,
    pub(super) durable: Option<&'static str>,
    pub(super) shared: bool,
    /// It is to all topics; `destination` is one of them.
    pub(super) pattern: bool,
    pub(super) ack_timeout_ms: u64,
}

/// A simulated client.
pub(super) struct Client {
    pub(super) number: u64,
    pub(super) session: Session,
    pub(super) stalled: Arc<AtomicBool>,
    pub(super) subs: Vec<Sub>,
    pub(super) next_sub: u32,
    /// Delivered and not acknowledged: subscription, number of the message.
    pub(super) unacked: Vec<(u32, u64)>,
    /// Everything that its subscriptions of topics were ever delivered.
    pub(super) got: Vec<(u32, u64)>,
}

/// See the module.
pub struct World {
    pub(super) swarm: Swarm,
    ops: Random,
    pub(super) content: Random,
    pub(super) time: Random,
    faults: Random,
    pub(super) disk: SimDisk,
    pub(super) clock: SimClock,
    pub(super) times: Times,
    drift_ppm: i64,
    drifted_ns: i64,
    pub(super) model: Model,
    pub(super) schedules: Schedules,
    pub(super) shard: Option<SteppedShard>,
    pub(super) clients: Vec<Client>,
    pub(super) log: Log,
    pub(super) asked: BTreeMap<u64, (u64, Asked)>,
    pub(super) next_tag: u64,
    pub(super) next_message: u64,
    next_client: u64,
    /// Dedup ids used: who sent them, and when.
    pub(super) dedups: BTreeMap<(usize, u64), Vec<(u64, u64)>>,
    /// Readers with a name: first offset, and what need not come to them.
    pub(super) durables: BTreeMap<(usize, &'static str), (u64, std::collections::BTreeSet<u64>)>,
    /// What the user of the inbox acknowledged, by whatever session; and of that what is sure.
    pub(super) user_read: std::collections::BTreeSet<u64>,
    pub(super) user_read_surely: std::collections::BTreeSet<u64>,
    /// What came by a pattern in the finale.
    pub(super) by_pattern: std::collections::BTreeSet<u64>,
    /// Messages of a destination may grow too old, or too many.
    pub(super) limited: [bool; DESTINATIONS.len()],
    /// A disk fault is on its way.
    armed: Option<FaultKind>,
    small_disk: bool,
    pub(super) trace: Trace,
    pub(super) report: Report,
}

/// What went wrong in a run: the invariant, and what it saw.
pub(super) type Wrong = String;

impl World {
    /// The world of a seed, before anything happened.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let swarm = Swarm::new(seed);
        let mut time = Random::new(seed, "time");
        let drift_ppm = *time.pick(&[0, 0, 0, 100, -100]);
        let times = Times { wall_max_ms: START_MS, ..Times::default() };
        let max_failures = u32::from(swarm.config.max_failures);
        Self {
            ops: Random::new(seed, "operations"),
            content: Random::new(seed, "content"),
            faults: Random::new(seed, "faults"),
            time,
            disk: SimDisk::new(),
            clock: SimClock::new(0, START_MS),
            times,
            drift_ppm: if swarm.has(Op::ClockStep) { drift_ppm } else { 0 },
            drifted_ns: 0,
            model: Model::new(max_failures, !swarm.has(Op::ClockStep), !swarm.has(Op::Delete)),
            schedules: Schedules::default(),
            shard: None,
            clients: Vec::new(),
            log: Log::default(),
            asked: BTreeMap::new(),
            next_tag: 0,
            next_message: 1,
            next_client: 1,
            dedups: BTreeMap::new(),
            durables: BTreeMap::new(),
            by_pattern: std::collections::BTreeSet::new(),
            user_read: std::collections::BTreeSet::new(),
            user_read_surely: std::collections::BTreeSet::new(),
            limited: [false; DESTINATIONS.len()],
            armed: None,
            small_disk: false,
            trace: Trace::default(),
            report: Report::default(),
            swarm,
        }
    }

    /// Runs a seed: faults and work, then work alone until everything that is owed has come. `loud`
    /// tells everything that happens.
    ///
    /// # Errors
    /// The invariant that did not hold.
    pub fn run(seed: u64, loud: bool) -> Result<Report, Violation> {
        let mut world = Self::new(seed);
        if loud {
            world.trace.tell();
        }
        let done = world.play().and_then(|()| world.finale());
        let hash = world.trace.hash();
        match done {
            Ok(()) => {
                world.report.virtual_ms = world.times.elapsed_ms;
                world.report.messages = world.model.messages.len() as u64;
                Ok(Report { seeds: 1, hash, ..world.report })
            }
            Err(what) => Err(Violation { seed, operation: world.report.operations, what, hash }),
        }
    }

    fn play(&mut self) -> Result<(), Wrong> {
        self.start()?;
        for _ in 0..self.swarm.length {
            let op = self.swarm.next(&mut self.ops);
            self.trace.note(&(self.times.elapsed_ms, op));
            self.report.operations += 1;
            self.act(op)?;
            let steps = 1 + self.time.below(4);
            for _ in 0..steps {
                self.step()?;
            }
            if self.armed.is_some() && self.faults.percent(3) {
                self.disk.clear_faults();
                self.armed = None;
            }
        }
        Ok(())
    }

    fn act(&mut self, op: Op) -> Result<(), Wrong> {
        match op {
            Op::Moment => {
                let ms = self.time.below(50);
                self.advance(ms);
            }
            Op::Seconds => {
                let ms = self.time.below(20_000);
                self.advance(ms);
            }
            Op::Hours => {
                let ms = self.time.below(5 * 3_600_000);
                self.advance(ms);
            }
            Op::Days => {
                let ms = self.time.below(12 * DAY_MS);
                self.advance(ms);
            }
            Op::ClockStep => {
                let choices = [1, 400, 60_000, 3_600_000, 10 * 365 * DAY_MS];
                let ms = self.time.pick(&choices).cast_signed();
                let ms = if self.time.coin() { ms } else { -ms.min(3_600_000) };
                self.step_wall(ms);
            }
            Op::ClockRelease => {
                if let Some(shard) = &self.shard {
                    // A shard that has stopped has no clock to release.
                    let _ = shard.broker().release_clock();
                }
            }
            Op::Connect => self.connect(),
            Op::Vanish => {
                let at = self.ops.below(self.clients.len() as u64) as usize;
                if at < self.clients.len() {
                    let gone = self.clients.remove(at);
                    self.model.end_leases(|lease| lease.session == gone.number);
                }
            }
            Op::Stall => {
                let at = self.ops.below(self.clients.len() as u64) as usize;
                if let Some(client) = self.clients.get(at) {
                    client.stalled.fetch_xor(true, Ordering::Relaxed);
                }
            }
            Op::Restart => {
                let closed = self.shard.take().map(SteppedShard::close);
                self.report.restarts += 1;
                if matches!(closed, Some(Err(_))) && self.armed.is_none() && !self.small_disk {
                    return Err(format!("clean_stop: {closed:?}"));
                }
                self.hear()?;
                self.start()?;
            }
            Op::Kill => {
                let before = self.state();
                self.report.kills += 1;
                self.disk.kill();
                self.shard = None;
                self.hear()?;
                self.start()?;
                if let (Some(before), Some(after)) = (before, self.state())
                    && before != after
                {
                    return Err("replay_equals_live: the state after a kill is another".into());
                }
            }
            Op::PowerLoss => {
                self.power_loss();
                self.hear()?;
                self.start()?;
            }
            Op::DiskFault => {
                let kinds =
                    [FaultKind::Eio, FaultKind::Enospc, FaultKind::ShortWrite, FaultKind::CrashNow];
                let kind = *self.faults.pick(&kinds);
                let repeat = if self.faults.coin() { Repeat::Once } else { Repeat::Forever };
                let at = self.disk.operations() + self.faults.below(30);
                self.disk.fail_at(at, kind, repeat);
                self.armed = Some(kind);
                *self.report.faults.entry(format!("{kind:?} {repeat:?}")).or_default() += 1;
            }
            Op::ReadFault => {
                self.disk.fail_read_at(self.disk.reads() + self.faults.below(5), Repeat::Once);
                self.armed.get_or_insert(FaultKind::Eio);
                *self.report.faults.entry("read".into()).or_default() += 1;
            }
            Op::DiskSpace => {
                self.small_disk = !self.small_disk;
                let room = self.disk.used_bytes() + self.faults.below(200_000);
                self.disk.set_capacity(self.small_disk.then_some(room));
                *self.report.faults.entry("space".into()).or_default() += 1;
            }
            other => self.ask_something(other)?,
        }
        Ok(())
    }

    fn power_loss(&mut self) {
        let survival = *self.faults.pick(&Survival::ALL);
        self.disk.crash(survival, self.faults.next());
        self.shard = None;
        self.armed = None;
        self.report.power_losses += 1;
        self.trace.note(&survival);
    }

    /// Lets time pass.
    pub(super) fn advance(&mut self, ms: u64) {
        self.clock.advance_ms(ms);
        self.times.elapsed_ms += ms;
        self.drifted_ns += ms.cast_signed() * self.drift_ppm;
        let drifted_ms = self.drifted_ns / 1_000_000;
        self.drifted_ns -= drifted_ms * 1_000_000;
        self.step_wall(drifted_ms);
    }

    fn step_wall(&mut self, ms: i64) {
        self.clock.step_wall_ms(ms);
        self.times.ahead_ms += ms.max(0).cast_unsigned();
        self.times.back_ms += ms.min(0).unsigned_abs();
        self.times.wall_max_ms = self.times.wall_max_ms.max(self.wall_ms());
    }

    pub(super) fn wall_ms(&self) -> u64 {
        use crate::env::Clock;
        self.clock.wall_ns() / 1_000_000
    }

    fn state(&self) -> Option<Vec<u8>> {
        if self.armed.is_some() || self.small_disk {
            return None;
        }
        self.shard.as_ref()?.state().ok()
    }

    /// A shard on what is on the disk. Faults on their way may hit it; then they go, and it must
    /// open.
    pub(super) fn start(&mut self) -> Result<(), Wrong> {
        self.clients.clear();
        self.asked.clear();
        self.model.new_life();
        if self.disk.is_down() {
            self.power_loss();
        }
        for retry in [true, false] {
            let options = ShardOptions {
                data_dir: PathBuf::from("/data"),
                config: self.swarm.config.clone(),
            };
            let disk = Arc::new(self.disk.clone());
            match SteppedShard::open(disk, Arc::new(self.clock.clone()), options) {
                Ok(shard) => {
                    self.report.starts += 1;
                    self.shard = Some(shard);
                    return Ok(());
                }
                Err(_) if retry && (self.armed.is_some() || self.small_disk) => self.mend(),
                Err(error) => return Err(format!("opens_again: {error}")),
            }
        }
        Ok(())
    }

    /// The disk is sound and has space again.
    pub(super) fn mend(&mut self) {
        if self.disk.is_down() {
            self.power_loss();
        }
        self.disk.clear_faults();
        self.disk.set_capacity(None);
        (self.armed, self.small_disk) = (None, false);
    }

    /// One step of the shard. When it fails, it is started again.
    pub(super) fn step(&mut self) -> Result<(), Wrong> {
        let Some(shard) = &mut self.shard else { return Err("there is no shard".into()) };
        let outcome = shard.step();
        self.report.steps += 1;
        self.hear()?;
        if self.disk.is_down() {
            // Perhaps the shard has not met it yet; it has lost its machine all the same.
            self.power_loss();
            return self.start();
        }
        let Err(error) = outcome else { return Ok(()) };
        if self.armed.is_none() && !self.small_disk {
            return Err(format!("goes_on: the shard failed on a sound disk: {error}"));
        }
        if self.shard.as_mut().is_some_and(|shard| shard.step().is_ok()) {
            return Err("latch: a shard that failed works again".into());
        }
        self.report.latched += 1;
        if self.faults.coin() {
            self.power_loss();
        } else {
            self.disk.clear_faults();
            self.armed = None;
            self.disk.kill();
            self.shard = None;
        }
        self.start()
    }

    /// Steps until nothing is left to do at this time, or very soon.
    pub(super) fn settle(&mut self) -> Result<(), Wrong> {
        for _ in 0..STEPS_MAX {
            self.step()?;
            let Some(wait) = self.shard.as_ref().map(SteppedShard::wait) else { continue };
            if wait > REST {
                return Ok(());
            }
            // It waits for a flush, or for something that is due very soon.
            if !wait.is_zero() {
                self.advance(1);
            }
        }
        Err(format!("eventual_rest: the shard does not come to rest: {:?}", self.stats()))
    }

    /// The shard's own figures, as far as it tells them now.
    pub(super) fn stats(&mut self) -> Vec<(&'static str, u64)> {
        use crate::base::command::{Answer, Command};
        if self.clients.is_empty() {
            self.connect();
        }
        match self.ask_once(Command::Stats) {
            Ok(Some(Answer::Stats(stats))) => stats.into_iter().filter(|(_, n)| *n > 0).collect(),
            _ => Vec::new(),
        }
    }

    pub(super) fn connect(&mut self) {
        if self.clients.len() >= 5 {
            return;
        }
        let Some(shard) = &self.shard else { return };
        let stalled = Arc::new(AtomicBool::new(false));
        let number = self.next_client;
        let mailbox = Mailbox { session: number, log: self.log.clone(), stalled: stalled.clone() };
        if let Ok(session) = shard.broker().session(Box::new(mailbox)) {
            self.next_client += 1;
            let (subs, unacked, got) = (Vec::new(), Vec::new(), Vec::new());
            self.clients.push(Client { number, session, stalled, subs, next_sub: 1, unacked, got });
        }
    }

    /// Hands a request to the shard.
    pub(super) fn submit(
        &mut self,
        client: usize,
        asked: Asked,
        command: crate::base::command::Command,
    ) {
        self.next_tag += 1;
        let own = &self.clients[client];
        // A shard that has failed answers nobody; what was asked stays unknown.
        if own.session.submit(vec![(self.next_tag, command)]).is_ok() {
            self.asked.insert(self.next_tag, (own.number, asked));
        }
    }

    /// Takes note of what came out.
    pub(super) fn hear(&mut self) -> Result<(), Wrong> {
        let came = std::mem::take(&mut *self.log.lock());
        for (session, outgoing) in came {
            self.trace.note(&(session, &outgoing));
            self.heard(session, outgoing)?;
        }
        self.acknowledge_copies();
        Ok(())
    }

    /// Codes that no request of a client may meet.
    pub(super) fn tolerate(error: &ClientError) -> Result<(), Wrong> {
        match error.code {
            Code::Internal | Code::Malformed | Code::StorageFailed => {
                Err(format!("clear_refusals: {error}"))
            }
            _ => Ok(()),
        }
    }
}
