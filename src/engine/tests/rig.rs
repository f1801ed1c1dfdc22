//! One helper for all engine tests.

use bytes::Bytes;

use super::super::{Engine, Frozen};
use crate::base::command::{Answer, Command, Delivery, Outgoing, StartAt, Subscribe};
use crate::base::config::ShardConfig;
use crate::base::error::Code;
use crate::base::event::{BatchMeta, Event, EventSink};
use crate::base::id::{Key, MessageId, SessionId};
use crate::base::lifecycle::State;
use crate::base::limits;
use crate::base::message::{Delay, Message, MessageBatch};
use crate::base::stored::Place;
use crate::base::time::Now;
use crate::calendar;
use crate::codec::event;
use crate::sim::SimStore;

pub(super) const START: u64 = 1_700_000_000_000;
pub(super) const A: SessionId = SessionId(1);
pub(super) const B: SessionId = SessionId(2);

#[derive(Default)]
struct Encoded(Vec<u8>);

impl EventSink for Encoded {
    fn record(&mut self, event: &Event<'_>) {
        event::encode(event, &mut self.0);
    }
}

/// An engine, its journal in memory, and what it sent.
pub(super) struct Rig {
    pub(super) engine: Engine,
    pub(super) now: Now,
    pub(super) config: ShardConfig,
    journal: Vec<(BatchMeta, Vec<u8>)>,
    /// The journal since the beginning of time.
    whole: Vec<(BatchMeta, Vec<u8>)>,
    pub(super) received: Vec<(SessionId, Delivery)>,
    pub(super) ended: Vec<(SessionId, u32)>,
    pub(super) refuse_new: Option<Code>,
    answers: Vec<(u64, Answer)>,
    next_tag: u64,
    /// What is durable beside the journal.
    pub(super) root: SimStore,
    pub(super) frozen: Option<Frozen>,
    journal_at_freeze: usize,
    /// Batches are missing from what the engine was made of: it may count what they held.
    pub(super) lossy: bool,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(ShardConfig::default())
    }

    pub(super) fn with(config: ShardConfig) -> Self {
        let now = Now::all(START);
        let mut rig = Self {
            engine: Engine::new(config.clone(), now),
            now,
            config,
            journal: Vec::new(),
            whole: Vec::new(),
            received: Vec::new(),
            ended: Vec::new(),
            refuse_new: None,
            answers: Vec::new(),
            next_tag: 1,
            root: SimStore::default(),
            frozen: None,
            journal_at_freeze: 0,
            lossy: false,
        };
        rig.engine.plan_with(calendar::next);
        rig.engine.open_session(A);
        rig.engine.open_session(B);
        rig
    }

    /// One step as the shard does it.
    pub(super) fn step(&mut self, commands: Vec<(SessionId, Command)>) -> Vec<Answer> {
        self.step_limited(commands, 1_000_000)
    }

    pub(super) fn step_limited(
        &mut self,
        commands: Vec<(SessionId, Command)>,
        limit: usize,
    ) -> Vec<Answer> {
        let mut sink = Encoded::default();
        let soon = Key::end_of(self.now.engine_ms + 1_000);
        self.root.thaw_scheduled(&mut self.engine, soon, limit);
        self.root.serve(&mut self.engine, limit);
        let fired = self.engine.fire(self.now, limit);
        self.engine.delete_ownerless(&mut sink);
        self.engine.run_schedules(self.refuse_new, &mut sink);
        let first = self.next_tag;
        for (session, command) in commands {
            let refuse_new = self.refuse_new;
            self.root.prepare(&mut self.engine, &command);
            self.engine.execute(session, self.next_tag, command, refuse_new, &mut sink);
            self.engine.forget_found();
            self.next_tag += 1;
        }
        self.engine.run_timers(limit, &mut sink);
        self.engine.dispatch(limit, &mut sink);
        // What lies below is handed out in this step too, as if it had been in memory.
        while limit > 1_000 && self.engine.wants_more() {
            self.root.serve(&mut self.engine, 2);
            self.engine.dispatch(limit, &mut sink);
        }
        self.engine.expire_old(limit, &mut sink);
        self.engine.retain_topics(limit, &mut sink);
        if fired.any || !sink.0.is_empty() {
            self.whole.push((self.engine.batch_meta(), sink.0.clone()));
            self.journal.push((self.engine.batch_meta(), sink.0));
        }
        let (received, answers, ended) = (&mut self.received, &mut self.answers, &mut self.ended);
        self.engine.take_outgoing(|session, batch| {
            for outgoing in batch {
                match outgoing {
                    Outgoing::Deliver(delivery) => received.push((session, delivery)),
                    Outgoing::Answer { tag, answer } => answers.push((tag, answer)),
                    Outgoing::Ended { subscription, .. } => ended.push((session, subscription)),
                }
            }
        });
        let mut mine: Vec<_> = self.answers.drain(..).collect();
        mine.sort_by_key(|(tag, _)| *tag);
        assert_eq!(mine.len() as u64, self.next_tag - first, "each command has one answer");
        mine.into_iter().map(|(_, answer)| answer).collect()
    }

    pub(super) fn ask(&mut self, command: Command) -> Answer {
        self.step(vec![(A, command)]).remove(0)
    }

    /// Ends a session, and begins one with its number.
    pub(super) fn vanish(&mut self, session: SessionId) {
        let mut sink = Encoded::default();
        self.engine.close_session(session, &mut sink);
        self.engine.open_session(session);
        if !sink.0.is_empty() {
            self.whole.push((self.engine.batch_meta(), sink.0.clone()));
            self.journal.push((self.engine.batch_meta(), sink.0));
        }
    }

    /// Lets time pass on all clocks, and a step happen.
    pub(super) fn pass(&mut self, ms: u64) {
        let Now { mono_ms, wall_ms, .. } = self.now;
        self.now = self.now.then(mono_ms + ms, wall_ms + ms, self.engine.pace());
        self.step(vec![]);
    }

    pub(super) fn publish(&mut self, to: &str, message: Message) -> MessageId {
        match &self.try_publish(to, message) {
            Ok((id, false)) => *id,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn try_publish(
        &mut self,
        to: &str,
        message: Message,
    ) -> Result<(MessageId, bool), Code> {
        match self.ask(produce(to, &[message])) {
            Answer::Produced(mut results) => {
                let result = results.remove(0);
                result.map(|p| (p.id, p.duplicate)).map_err(|error| error.code)
            }
            Answer::Failed(error) => Err(error.code),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn subscribe(&mut self, session: SessionId, number: u32, to: &str, credit: u32) {
        self.do_subscribe(session, subscribe(number, to, credit));
    }

    /// With an ack timeout of one second.
    pub(super) fn subscribe_1s(&mut self, session: SessionId, number: u32, to: &str, credit: u32) {
        self.do_subscribe(session, subscribe_for(number, to, credit, 1_000));
    }

    fn do_subscribe(&mut self, session: SessionId, command: Command) {
        let answer = self.step(vec![(session, command)]).remove(0);
        assert!(matches!(answer, Answer::Subscribed { .. }), "{answer:?}");
    }

    pub(super) fn state(&mut self, id: MessageId) -> State {
        match self.ask(Command::Query { ids: vec![id] }) {
            Answer::Statuses(statuses) => statuses[0].state,
            other => panic!("{other:?}"),
        }
    }

    /// Asks for something done to one message: whether it was, and where the message stands.
    pub(super) fn verdict(&mut self, command: Command) -> (bool, State) {
        match self.ask(command) {
            Answer::Verdicts(verdicts) => (verdicts[0].done, verdicts[0].state),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn take_received(&mut self) -> Vec<(SessionId, Delivery)> {
        std::mem::take(&mut self.received)
    }

    /// The ids delivered since the last look.
    pub(super) fn ids(&mut self) -> Vec<MessageId> {
        self.take_received().into_iter().map(|(_, delivery)| delivery.id).collect()
    }

    /// An engine that was opened from what is durable.
    pub(super) fn replayed(&self) -> Engine {
        self.replayed_without(usize::MAX)
    }

    /// The same when the journal's batch at this place is damaged and left out.
    pub(super) fn replayed_without(&self, at: usize) -> Engine {
        let mut engine = self.root.opened(&self.config);
        for (_, (meta, payload)) in self.journal.iter().enumerate().filter(|(n, _)| *n != at) {
            self.root.replay(&mut engine, meta, payload);
        }
        engine
    }

    /// Batches since the last flush.
    pub(super) fn batches(&self) -> usize {
        self.journal.len()
    }

    /// An engine that has read the whole journal and was flushed after every so many batches.
    fn flushed_every(&self, batches: usize) -> (Engine, SimStore) {
        let mut store = SimStore::default();
        let mut engine = store.opened(&self.config);
        for (n, (meta, payload)) in (1..).zip(&self.whole) {
            store.replay(&mut engine, meta, payload);
            if n % batches == 0 {
                engine.finish_replay();
                let frozen = engine.freeze(&|event, out| event::encode(event, out));
                let chunks = store.flush(&frozen);
                drop(engine.frozen_lies_below(&chunks));
            }
        }
        (engine, store)
    }

    /// Goal: replay_equals_live, wherever the messages lie.
    pub(super) fn check_replay(&self) {
        self.check_same(&self.replayed(), &self.root, "replay differs from live");
    }

    /// Goal: the state does not depend on when there was a flush. Method: the whole journal without
    /// any, and with others.
    pub(super) fn check_flushes(&self, batches: usize) {
        for batches in [usize::MAX, batches] {
            let (engine, store) = self.flushed_every(batches);
            self.check_same(&engine, &store, "other flushes, another state");
        }
    }

    fn check_same(&self, other: &Engine, store: &SimStore, what: &str) {
        let (live, other_dump) = (dump(&self.engine, &self.root), dump(other, store));
        if live != other_dump {
            panic!("{what}: {}", difference(&live, &other_dump));
        }
        let dedups = |engine: &Engine, store: &SimStore| {
            format!("{:?}", engine.dedups(&store.all_dedups(), self.now.mono_ms))
        };
        assert_eq!(dedups(&self.engine, &self.root), dedups(other, store), "{what}: dedup ids");
    }

    /// Asks without a step: nothing moves.
    pub(super) fn look(&mut self, command: Command) -> Answer {
        look(&mut self.engine, &self.root, command)
    }

    /// Another one over the same store, with this engine, at the same time.
    pub(super) fn with_engine(&self, engine: Engine) -> Self {
        let mut rig = Self::with(self.config.clone());
        (rig.engine, rig.now, rig.root) = (engine, self.now, self.root.clone());
        rig.engine.plan_with(calendar::next);
        rig.engine.open_session(A);
        rig.engine.open_session(B);
        rig
    }

    /// Begins a flush, unless one goes on.
    pub(super) fn freeze(&mut self) {
        if self.frozen.is_none() {
            self.frozen = Some(self.engine.freeze(&|event, out| event::encode(event, out)));
            self.journal_at_freeze = self.journal.len();
        }
    }

    /// Ends the flush: what was in the journal before it is gone.
    pub(super) fn switch(&mut self) {
        let Some(frozen) = self.frozen.take() else { return };
        let chunks = self.root.flush(&frozen);
        if !self.lossy {
            self.check_alive(&frozen);
        }
        self.journal.drain(..self.journal_at_freeze);
        drop(self.engine.frozen_lies_below(&chunks));
    }

    /// What a flush says is alive is what its checkpoint makes of the rows.
    fn check_alive(&self, frozen: &Frozen) {
        let opened = self.root.opened(&self.config);
        let (mut scheduled, mut ready) = (0, 0);
        for row in self.root.all().iter().filter(|row| opened.is_alive_below(row)) {
            match row.place {
                Place::Scheduled(_) => scheduled += 1,
                Place::Ready { .. } => ready += 1,
            }
        }
        let alive = frozen.alive();
        assert_eq!((alive.scheduled, alive.ready), (scheduled, ready), "rows that are alive");
    }

    /// A whole flush between two steps.
    pub(super) fn flush(&mut self) {
        self.freeze();
        self.switch();
    }

    /// Stops and starts again: sessions and leases are gone, time may have passed.
    pub(super) fn restart(&mut self, stopped_ms: u64) {
        self.check_replay();
        self.frozen = None;
        self.engine = self.replayed();
        self.engine.finish_replay();
        self.engine.plan_with(calendar::next);
        self.engine.open_session(A);
        self.engine.open_session(B);
        self.received.clear();
        self.pass(stopped_ms);
    }
}

/// Asks an engine that has session A, without a step.
pub(super) fn look(engine: &mut Engine, store: &SimStore, command: Command) -> Answer {
    store.prepare(engine, &command);
    engine.execute(A, 0, command, None, &mut Encoded::default());
    engine.forget_found();
    let mut answers = Vec::new();
    engine.take_outgoing(|_, batch| answers.extend(batch));
    match answers.pop() {
        Some(Outgoing::Answer { answer, .. }) if answers.is_empty() => answer,
        other => panic!("{other:?}"),
    }
}

/// What only one of two dumps says.
fn difference(left: &[u8], right: &[u8]) -> String {
    let events = |dump: &[u8]| {
        let (mut rest, mut all) = (dump, Vec::new());
        while !rest.is_empty() {
            all.push(format!("{:?}", event::decode(&mut rest).unwrap()));
        }
        all
    };
    let (left, right) = (events(left), events(right));
    let only = |these: &[String], those: &[String]| {
        these.iter().filter(|event| !those.contains(event)).cloned().collect::<Vec<_>>()
    };
    format!("{:#?} against {:#?}", only(&left, &right), only(&right, &left))
}

pub(super) fn dump(engine: &Engine, below: &SimStore) -> Vec<u8> {
    let mut sink = Encoded::default();
    engine.dump(&below.all(), &mut sink);
    sink.0
}

pub(super) fn produce(to: &str, messages: &[Message]) -> Command {
    let mut bytes = Vec::new();
    for message in messages {
        message.encode(&mut bytes).unwrap();
    }
    Command::Produce {
        destination: Bytes::copy_from_slice(to.as_bytes()),
        batch: MessageBatch::parse(bytes.into(), messages.len()).unwrap(),
    }
}

/// With the longest ack timeout, so that a test about something else sees no second delivery.
pub(super) fn subscribe(number: u32, to: &str, credit: u32) -> Command {
    subscribe_for(number, to, credit, *limits::ACK_TIMEOUT_RANGE_MS.end())
}

pub(super) fn subscribe_for(number: u32, to: &str, credit: u32, ack_timeout_ms: u64) -> Command {
    Command::Subscribe(Subscribe {
        subscription: number,
        destination: Bytes::copy_from_slice(to.as_bytes()),
        credit,
        ack_timeout_ms,
        durable: Bytes::new(),
        start: StartAt::Earliest,
        shared: false,
    })
}

/// A subscription of a durable name, shared with others or not.
pub(super) fn durable(number: u32, to: &str, name: &'static str, shared: bool) -> Command {
    let Command::Subscribe(wish) = subscribe(number, to, 100) else { unreachable!() };
    let durable = Bytes::from_static(name.as_bytes());
    Command::Subscribe(Subscribe { durable, shared, ..wish })
}

/// The code of a refusal.
pub(super) fn refused(answer: &Answer) -> Option<Code> {
    match answer {
        Answer::Failed(error) => Some(error.code),
        Answer::Produced(results) => results[0].as_ref().err().map(|error| error.code),
        _ => None,
    }
}

pub(super) fn ack(subscription: u32, ids: &[MessageId]) -> Command {
    Command::Acknowledge { subscription, ids: ids.to_vec(), cumulative: false }
}

pub(super) fn after(ms: i64) -> Message {
    Message::new("body").with_delay(Delay::After(ms))
}
