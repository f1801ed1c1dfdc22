//! The shard's own rules, step by step over the simulated disk: what a step may cost, a disk without
//! any space, and how it ends.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use super::background::{Background, InlineWriter, News};
use super::backup;
use super::broker::{Input, Outbox};
use super::core::Core;
use super::error::ShardError;
use super::flush::Job;
use super::open::{ShardOptions, open, recover};
use super::thread;
use crate::base::command::{Answer, Command, Outgoing};
use crate::base::config::ShardConfig;
use crate::base::error::{ClientError, Code};
use crate::base::id::{MessageId, SessionId};
use crate::base::limits;
use crate::base::message::{Delay, Message, MessageBatch};
use crate::env::clock::Clock;
use crate::journal::home::DataDir;
use crate::sim::{SimClock, SimDisk};
use crate::store::StoreError;

const START: u64 = 1_700_000_000_000;
const A: SessionId = SessionId(1);
const B: SessionId = SessionId(2);

/// What one session got.
#[derive(Clone, Default)]
struct Mailbox(Arc<Mutex<(Vec<Answer>, Option<Code>)>>);

impl Mailbox {
    fn take(&self) -> Vec<Answer> {
        std::mem::take(&mut self.0.lock().unwrap().0)
    }

    fn closed(&self) -> Option<Code> {
        self.0.lock().unwrap().1
    }
}

impl Outbox for Mailbox {
    fn push(&self, batch: Vec<Outgoing>) {
        let answers = batch.into_iter().filter_map(|outgoing| match outgoing {
            Outgoing::Answer { answer, .. } => Some(answer),
            _ => None,
        });
        self.0.lock().unwrap().0.extend(answers);
    }

    fn closed(&self, reason: ClientError) {
        self.0.lock().unwrap().1 = Some(reason.code);
    }
}

/// A core with session A open.
struct Rig {
    disk: SimDisk,
    clock: SimClock,
    core: Core,
    _home: DataDir,
    mailbox: Mailbox,
    /// To be told by the writer.
    news: Arc<Mutex<VecDeque<News>>>,
    /// Whether the writer tells that it has written.
    tells: Arc<AtomicBool>,
}

/// A writer that does as it is told, and tells what the test wants, when the test wants.
struct Told {
    inner: InlineWriter,
    news: Arc<Mutex<VecDeque<News>>>,
    /// What was written, and is not told before this says so.
    written: Vec<News>,
    tells: Arc<AtomicBool>,
}

impl Background for Told {
    fn flush(&mut self, job: Job) {
        self.inner.flush(job);
        self.written.extend(self.inner.news());
    }

    fn news(&mut self) -> Option<News> {
        let told = self.news.lock().unwrap().pop_front();
        told.or_else(|| if self.tells.load(Ordering::SeqCst) { self.written.pop() } else { None })
    }

    fn is_merging(&self) -> bool {
        false
    }

    fn backup(&mut self, _: backup::Job) {}
}

impl Rig {
    fn new() -> Self {
        Self::with(ShardConfig::default())
    }

    fn with(config: ShardConfig) -> Self {
        let disk = SimDisk::new();
        let clock = SimClock::new(0, START);
        let config = ShardConfig { segment_bytes: 64 * 1024, ..config };
        let options = ShardOptions { data_dir: PathBuf::from("/data"), config };
        let home = DataDir::open(&disk, &options.data_dir).unwrap();
        let shared = Arc::new(disk.clone());
        let news = Arc::new(Mutex::new(VecDeque::new()));
        let tells = Arc::new(AtomicBool::new(true));
        let start = |writer| {
            let inner = InlineWriter::new(writer, 0);
            let (news, tells) = (news.clone(), tells.clone());
            Ok(Box::new(Told { inner, news, written: Vec::new(), tells }) as Box<dyn Background>)
        };
        let times = Arc::new(clock.clone());
        let (mut core, _) = recover(shared, times, &home, options, &start, &mut |_, _| {}).unwrap();
        let mailbox = Mailbox::default();
        core.take(Input::Open(A, Box::new(mailbox.clone())));
        Self { disk, clock, core, _home: home, mailbox, news, tells }
    }

    fn ask(&mut self, command: Command) -> Option<Answer> {
        self.core.take(Input::Requests(A, vec![(1, command)]));
        self.core.step().unwrap();
        self.mailbox.take().pop()
    }

    fn publish(&mut self, delay: Delay) -> MessageId {
        match self.try_publish("x", delay) {
            Some(Answer::Produced(results)) => results[0].clone().unwrap().id,
            other => panic!("{other:?}"),
        }
    }

    fn try_publish(&mut self, body: &str, delay: Delay) -> Option<Answer> {
        let mut bytes = Vec::new();
        Message::new(body).with_delay(delay).encode(&mut bytes).unwrap();
        let batch = MessageBatch::parse(bytes.into(), 1).unwrap();
        let destination = Bytes::from_static(b"/queue/q");
        self.ask(Command::Produce { destination, batch })
    }

    fn stat(&mut self, name: &str) -> u64 {
        match self.ask(Command::Stats) {
            Some(Answer::Stats(stats)) => stats.iter().find(|stat| stat.0 == name).unwrap().1,
            other => panic!("{other:?}"),
        }
    }

    /// The writer tells that it found no space.
    fn tell_no_space(&mut self, news: fn(StoreError) -> News) {
        let full = StoreError::Full { dir: PathBuf::from("/data/store") };
        self.news.lock().unwrap().push_back(news(full));
    }

    /// Uses up the disk and the reserve with what is not refused, until a batch finds no space.
    fn get_stuck(&mut self) {
        let id = self.publish(Delay::After(1_000_000));
        self.disk.set_capacity(Some(self.disk.used_bytes()));
        for n in 0.. {
            let items = vec![(id, Delay::After(1_000_000 + n))];
            if self.ask(Command::Reschedule { items }).is_none() {
                break;
            }
            assert!(n < 10_000, "there is always space");
        }
        assert!(self.core.is_stuck());
    }

    /// Lets the shard's loop run over these inputs until it ends.
    fn run(self, inputs: Vec<Input>) {
        let (sender, inbox) = crossbeam_channel::unbounded();
        for input in inputs {
            sender.send(input).unwrap();
        }
        let failed = Arc::new(AtomicBool::new(false));
        thread::run(self.core, &inbox, &failed).unwrap();
        assert!(!failed.load(Ordering::SeqCst));
    }
}

fn list() -> Command {
    Command::List { destination: Bytes::new(), from_ms: 0, to_ms: u64::MAX, limit: 1, after: None }
}

#[test]
fn a_step_does_so_much_looking_up_and_no_more() {
    let queries = || Command::Query { ids: vec![MessageId::new(1, 0, 1); limits::BATCH_ITEMS_MAX] };
    for (command, most) in [(list(), 8), (queries(), 16), (Command::Stats, 128)] {
        let mut rig = Rig::new();
        let requests = (0..200).map(|tag| (tag, command.clone())).collect();
        rig.core.take(Input::Requests(A, requests));
        let mut answered = 0;
        while answered < 200 {
            rig.core.step().unwrap();
            let now = rig.mailbox.take().len();
            assert!((1..=most).contains(&now), "{now} in one step");
            answered += now;
        }
    }
}

/// Goal: a server that waits for disk space can be stopped, and everybody hears of it.
#[test]
fn a_stuck_shard_stops_when_asked_and_tells_all_sessions() {
    let mut rig = Rig::new();
    rig.get_stuck();
    let late = Mailbox::default();
    let mailbox = rig.mailbox.clone();
    rig.run(vec![
        Input::Requests(A, vec![(7, Command::Stats)]),
        Input::Open(B, Box::new(late.clone())),
        Input::Stop,
    ]);
    assert!(mailbox.take().is_empty(), "nothing that is not durable is answered");
    assert_eq!([mailbox.closed(), late.closed()], [Some(Code::ShuttingDown); 2]);
}

#[test]
fn a_session_opened_behind_the_stop_hears_that_there_is_no_shard() {
    let rig = Rig::new();
    let late = Mailbox::default();
    let mailbox = rig.mailbox.clone();
    rig.run(vec![
        Input::Requests(A, vec![(7, Command::Stats)]),
        Input::Stop,
        Input::Open(B, Box::new(late.clone())),
    ]);
    assert_eq!(mailbox.take().len(), 1, "what was asked before is answered");
    assert_eq!(late.closed(), Some(Code::ShuttingDown));
}

#[test]
fn a_stuck_shard_goes_on_where_it_was_when_there_is_space() {
    let mut rig = Rig::new();
    rig.get_stuck();
    rig.core.take(Input::Requests(A, vec![(9, Command::Stats)]));
    rig.core.step().unwrap();
    assert!(rig.mailbox.take().is_empty());
    rig.disk.set_capacity(None);
    rig.core.step().unwrap();
    assert!(matches!(&rig.mailbox.take()[..], [Answer::Verdicts(_)]), "what waited is answered");
    rig.core.step().unwrap();
    assert!(matches!(&rig.mailbox.take()[..], [Answer::Stats(_)]));
}

/// A clock that lets the thread die that writes the store, when it begins a flush.
struct DeadlyClock(SimClock);

impl Clock for DeadlyClock {
    fn mono_ns(&self) -> u64 {
        let own = std::thread::current();
        assert_ne!(own.name(), Some("postdate-store"), "the test wants it so");
        self.0.mono_ns()
    }

    fn wall_ns(&self) -> u64 {
        self.0.wall_ns()
    }
}

/// Says why a session was closed.
struct Ending(crossbeam_channel::Sender<Code>);

impl Outbox for Ending {
    fn push(&self, _: Vec<Outgoing>) {}

    fn closed(&self, reason: ClientError) {
        self.0.send(reason.code).unwrap();
    }
}

/// Goal: a flush that nobody ends any more stops the shard with its reason, instead of filling memory.
/// What was accepted is there after a restart. Method: a running shard whose writer panics.
#[test]
fn a_shard_stops_when_its_writer_has_died() {
    let (disk, clock) = (Arc::new(SimDisk::new()), SimClock::new(0, START));
    let config = ShardConfig {
        segment_bytes: 64 * 1024,
        memory: 16 * 1024,
        disk_reserve: 0,
        ..ShardConfig::default()
    };
    let options = ShardOptions { data_dir: PathBuf::from("/data"), config };
    let deadly = Arc::new(DeadlyClock(clock.clone()));
    let shard = open(disk.clone(), deadly, options.clone(), &mut |_, _| {}).unwrap();
    let (ended, ending) = crossbeam_channel::unbounded();
    let session = shard.broker().session(Box::new(Ending(ended))).unwrap();
    let mut bytes = Vec::new();
    let message = Message::new(vec![7; 10_000]).with_delay(Delay::After(1_000_000));
    message.encode(&mut bytes).unwrap();
    let batch = MessageBatch::parse(bytes.into(), 1).unwrap();
    let destination = Bytes::from_static(b"/queue/q");
    session.submit(vec![(1, Command::Produce { destination, batch })]).unwrap();
    let code = ending.recv_timeout(std::time::Duration::from_secs(60));
    assert_eq!(code, Ok(Code::StorageFailed));
    assert!(shard.failed());
    let error = shard.shutdown().unwrap_err();
    assert!(matches!(error, ShardError::WriterEnded), "{error}");
    let again = open(disk, Arc::new(clock), options, &mut |_, _| {}).unwrap();
    assert_eq!(again.recovery().messages, 1);
    again.shutdown().unwrap();
}

/// Goal: a disk that is full by what a flush has just made needless is not full for ever. Method: the
/// flush is written, and told only while a batch waits for space.
#[test]
fn a_stuck_shard_takes_the_space_that_a_flush_gives_back() {
    let journal_tail = 128 * 1024;
    let mut rig = Rig::with(ShardConfig { journal_tail, ..ShardConfig::default() });
    rig.tells.store(false, Ordering::SeqCst);
    while rig.stat("flushing") == 0 {
        rig.publish(Delay::After(1_000_000));
    }
    rig.get_stuck();
    rig.core.step().unwrap();
    assert!(rig.core.is_stuck());
    rig.tells.store(true, Ordering::SeqCst);
    rig.core.step().unwrap();
    assert!(!rig.core.is_stuck());
    assert!(matches!(&rig.mailbox.take()[..], [Answer::Verdicts(_)]), "what waited is answered");
}

/// Goal: what is due fires although memory cannot be written out. Method: far more than memory should
/// have, a flush that goes on and then finds no space, and then time.
#[test]
fn what_is_due_fires_while_nothing_can_be_written_out() {
    let mut rig = Rig::with(ShardConfig { memory: 20_000, ..ShardConfig::default() });
    rig.tells.store(false, Ordering::SeqCst);
    while rig.stat("memory_bytes") < 35_000 {
        rig.try_publish(&"x".repeat(1_000), Delay::After(1_000));
    }
    rig.clock.advance_ms(1_000);
    assert_eq!(rig.stat("ready"), 0, "the flush is about to give memory back");
    assert!(rig.core.wait() > Duration::ZERO, "until then there is nothing to do");
    rig.tell_no_space(News::FlushFailed);
    assert!(rig.stat("ready") > 0);
}

/// Goal: memory is bounded all the same. Method: ten times as much as it should have is due, in the
/// store.
#[test]
fn what_comes_from_the_store_waits_while_nothing_can_be_written_out() {
    let memory = 20_000;
    let mut rig = Rig::with(ShardConfig { memory, ..ShardConfig::default() });
    let publish = |rig: &mut Rig| rig.try_publish(&"x".repeat(1_000), Delay::After(60_000));
    for _ in 0..200 {
        publish(&mut rig);
    }
    rig.tells.store(false, Ordering::SeqCst);
    while rig.stat("flushing") == 0 {
        publish(&mut rig);
    }
    rig.tell_no_space(News::FlushFailed);
    rig.clock.advance_ms(60_000);
    for _ in 0..10 {
        rig.core.step().unwrap();
    }
    assert!(rig.stat("ready") > 50);
    assert!(rig.stat("memory_bytes") < 4 * memory + 2_000);
    assert!(rig.core.wait() > Duration::ZERO);
    rig.tells.store(true, Ordering::SeqCst);
    for _ in 0..100 {
        rig.core.step().unwrap();
    }
    assert_eq!(rig.stat("scheduled"), 0);
}

/// Goal: a merge without space is no reason to refuse messages. Method: it is told of while there is no
/// flush, and while there is one.
#[test]
fn a_merge_without_space_refuses_nothing() {
    let mut rig = Rig::new();
    rig.tell_no_space(News::MergeFailed);
    rig.publish(Delay::None);
    let mut rig = Rig::with(ShardConfig { memory: 20_000, ..ShardConfig::default() });
    rig.tells.store(false, Ordering::SeqCst);
    while rig.stat("flushing") == 0 {
        rig.publish(Delay::After(60_000));
    }
    rig.tell_no_space(News::MergeFailed);
    rig.publish(Delay::None);
}
