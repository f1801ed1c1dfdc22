//! An engine in virtual time, its journal in memory, and what an outsider knows of it.

use std::collections::{BTreeMap, BTreeSet};

use postdate::base::command::{Answer, Command, Outgoing};
use postdate::base::config::ShardConfig;
use postdate::base::event::{BatchMeta, Event, EventSink, NoSink};
use postdate::base::id::{Key, MessageId, SessionId};
use postdate::base::lifecycle::State;
use postdate::base::limits;
use postdate::base::time::Now;
use postdate::codec::{event, row};
use postdate::engine::Engine;
use postdate::sim::SimStore;

use super::SESSIONS;
use super::ledger::Ledger;

/// Where time begins, ms.
pub(super) const START: u64 = 1_700_000_000_000;
/// Where all clocks end, ms: far beyond, and with room for a delay in an id.
const END: u64 = 1 << 47;
/// Steps after which what is overdue must have been worked off.
const DRAIN_STEPS: usize = 100;

#[derive(Default)]
struct Encoded(Vec<u8>);

impl EventSink for Encoded {
    fn record(&mut self, event: &Event<'_>) {
        event::encode(event, &mut self.0);
    }
}

/// What a step is to do, in order.
#[derive(Debug)]
pub(super) enum Work {
    Command(SessionId, Command),
    Open(SessionId),
    Close(SessionId),
}

pub(super) struct Rig {
    engine: Engine,
    now: Now,
    config: ShardConfig,
    journal: Vec<(BatchMeta, Vec<u8>)>,
    ledger: Ledger,
    store: SimStore,
    open: BTreeSet<SessionId>,
    next_tag: u64,
}

impl Rig {
    pub(super) fn new(config: ShardConfig) -> Self {
        let now = Now::all(START);
        let mut rig = Self {
            engine: Engine::new(config.clone(), now),
            now,
            config,
            journal: Vec::new(),
            ledger: Ledger::default(),
            store: SimStore::default(),
            open: BTreeSet::new(),
            next_tag: 1,
        };
        rig.open_all();
        rig
    }

    fn open_all(&mut self) {
        self.open = (1..=u64::from(SESSIONS)).map(SessionId).collect();
        for session in &self.open {
            self.engine.open_session(*session);
        }
    }

    /// Every message that was accepted, in order.
    pub(super) fn ids(&self) -> &[MessageId] {
        self.ledger.ids()
    }

    /// Moves the clocks, without a step.
    pub(super) fn pass(&mut self, forward_ms: u64, wall_aside_ms: i64) {
        let mono_ms = (self.now.mono_ms + forward_ms).min(END);
        let wall_ms = (self.now.wall_ms + forward_ms).saturating_add_signed(wall_aside_ms).min(END);
        self.now = self.now.then(mono_ms, wall_ms, self.engine.pace());
    }

    /// One step as the shard does it.
    pub(super) fn step(&mut self, work: Vec<Work>, limit: usize) {
        let mut sink = Encoded::default();
        let soon = Key::end_of(self.now.engine_ms.saturating_add(1_000));
        self.store.thaw_scheduled(&mut self.engine, soon, limit);
        self.store.serve(&mut self.engine, limit);
        let fired = self.engine.fire(self.now, limit);
        self.engine.run_schedules(None, &mut sink);
        self.engine.delete_ownerless(&mut sink);
        let mut asked = BTreeMap::new();
        for work in work {
            match work {
                Work::Command(session, command) => {
                    let tag = self.next_tag;
                    self.next_tag += 1;
                    if self.open.contains(&session) {
                        asked.insert(tag, (session, command.clone()));
                    }
                    self.store.prepare(&mut self.engine, &command);
                    self.engine.execute(session, tag, command, None, &mut sink);
                    self.engine.forget_found();
                }
                // A session's number is never used by two at once.
                Work::Open(session) => {
                    if self.open.insert(session) {
                        self.engine.open_session(session);
                    }
                }
                Work::Close(session) => {
                    self.open.remove(&session);
                    self.engine.close_session(session, &mut sink);
                    asked.retain(|_, (asker, _)| *asker != session);
                }
            }
        }
        self.engine.run_timers(limit, &mut sink);
        self.engine.dispatch(limit, &mut sink);
        self.engine.expire_old(limit, &mut sink);
        self.engine.retain_topics(1_000_000, &mut sink);
        for_each_event(&sink.0, |event| self.ledger.note(event));
        if fired.any || !sink.0.is_empty() {
            self.journal.push((self.engine.batch_meta(), sink.0));
        }
        self.ledger.show(self.now);
        let ledger = &self.ledger;
        self.engine.take_outgoing(|session, batch| {
            for outgoing in batch {
                match outgoing {
                    Outgoing::Deliver(delivery) => ledger.check(&delivery),
                    Outgoing::Answer { tag, answer } => {
                        let (asker, command) = asked.remove(&tag).expect("an answer to nothing");
                        assert_eq!(asker, session, "an answer to another session");
                        check_answer(ledger, &command, &answer);
                    }
                    Outgoing::Ended { .. } => {}
                }
            }
        });
        assert!(asked.is_empty(), "commands without an answer: {asked:?}");
    }

    /// An engine that has only read the journal.
    fn replayed(&self) -> Engine {
        let mut engine = self.store.opened(&self.config);
        for (meta, payload) in &self.journal {
            self.store.replay(&mut engine, meta, payload);
        }
        engine
    }

    fn check_replay(&self) -> Engine {
        let replayed = self.replayed();
        let dump = |engine| dump(engine, &self.store, self.now.mono_ms);
        let (live, again) = (dump(&self.engine), dump(&replayed));
        if live != again {
            let (mut live_only, mut again_only) = (Vec::new(), Vec::new());
            for_each_event(&live, |event| live_only.push(format!("{event:?}")));
            for_each_event(&again, |event| again_only.push(format!("{event:?}")));
            let common: BTreeSet<_> =
                live_only.iter().filter(|event| again_only.contains(event)).cloned().collect();
            live_only.retain(|event| !common.contains(event));
            again_only.retain(|event| !common.contains(event));
            panic!("replay differs from live: {live_only:#?} live, {again_only:#?} replayed");
        }
        replayed
    }

    /// Writes what is alive to the store in place of the journal, as the shard does between steps.
    pub(super) fn flush(&mut self) {
        let frozen = self.engine.freeze(&|event, out| event::encode(event, out));
        let chunks = self.store.flush(&frozen);
        self.journal.clear();
        drop(self.engine.frozen_lies_below(&chunks));
        self.check_replay();
    }

    /// Stops and starts again: sessions and leases are gone.
    pub(super) fn restart(&mut self) {
        self.engine = self.check_replay();
        self.engine.finish_replay();
        self.open_all();
    }

    /// replay_equals_live, conservation; and once everything is due, nothing stays scheduled.
    pub(super) fn finish(mut self) {
        self.check_replay();
        self.check_counters();
        // What was put back because its clock lagged waits for a day more, at most.
        let last = self.ledger.last_due_ms().max(self.now.engine_ms) + 24 * 3_600_000;
        self.now = Now::all(last);
        for _ in 0..DRAIN_STEPS {
            self.step(Vec::new(), limits::FIRE_PER_STEP_MAX);
            if !self.engine.has_work() {
                break;
            }
        }
        assert!(!self.engine.has_work(), "the engine never comes to rest");
        let stats: BTreeMap<_, _> = self.engine.stats().into_iter().collect();
        assert_eq!(stats["scheduled"], 0, "a due message did not fire");
        self.check_counters();
        self.flush();
    }

    /// The counters agree with a walk over all messages.
    fn check_counters(&mut self) {
        let session = SessionId(u64::MAX);
        let mut found = BTreeMap::new();
        self.engine.open_session(session);
        for ids in self.ledger.ids().chunks(limits::BATCH_ITEMS_MAX) {
            let query = Command::Query { ids: ids.to_vec() };
            self.store.prepare(&mut self.engine, &query);
            self.engine.execute(session, 0, query, None, &mut Encoded::default());
            self.engine.forget_found();
        }
        self.engine.take_outgoing(|_, batch| {
            for outgoing in batch {
                if let Outgoing::Answer { answer: Answer::Statuses(statuses), .. } = outgoing {
                    // What was given up where there are no dead letters is over.
                    for status in statuses.iter().filter(|s| !s.destination.is_empty()) {
                        *found.entry(status.state).or_insert(0) += 1;
                    }
                }
            }
        });
        self.engine.close_session(session, &mut NoSink);
        let count = |state| found.get(&state).copied().unwrap_or(0);
        let stats: BTreeMap<_, _> = self.engine.stats().into_iter().collect();
        assert_eq!(stats["scheduled"], count(State::Scheduled));
        assert_eq!(stats["ready"], count(State::Ready) + count(State::Dead));
        // A topic message in flight to a subscription is still ready in its topic.
        assert!(stats["in_flight"] >= count(State::InFlight));
        assert_eq!(count(State::Unknown), 0, "an accepted message is not known");
    }
}

/// What an answer claims was done is what the events say.
fn check_answer(ledger: &Ledger, command: &Command, answer: &Answer) {
    match (command, answer) {
        (Command::Produce { batch, .. }, Answer::Produced(results)) => {
            assert_eq!(results.len(), batch.count());
            let accepted = results.iter().flatten();
            accepted.for_each(|p| assert!(ledger.ended(p.id).is_some(), "accepted, not recorded"));
        }
        (Command::Cancel { ids }, Answer::Verdicts(verdicts)) => {
            assert!(ids.iter().eq(verdicts.iter().map(|verdict| &verdict.id)));
            let done = verdicts.iter().filter(|verdict| verdict.done);
            done.for_each(|verdict| assert_eq!(ledger.ended(verdict.id), Some(true)));
        }
        (Command::Query { ids }, Answer::Statuses(statuses)) => {
            assert!(ids.iter().eq(statuses.iter().map(|status| &status.id)));
        }
        _ => {}
    }
}

fn for_each_event(payload: &[u8], mut visit: impl FnMut(&Event<'_>)) {
    let mut rest = payload;
    while !rest.is_empty() {
        visit(&event::decode(&mut rest).expect("the engine's own events can be read"));
    }
}

fn dump(engine: &Engine, store: &SimStore, mono_ms: u64) -> Vec<u8> {
    let mut sink = Encoded::default();
    engine.dump(&store.all(), &mut sink);
    for dedup in engine.dedups(&store.all_dedups(), mono_ms) {
        sink.0.extend(row::dedup_key(dedup.destination, dedup.dedup));
        row::encode_dedup(&dedup, &mut sink.0);
    }
    sink.0
}
