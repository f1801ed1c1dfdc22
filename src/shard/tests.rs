//! The shard's own rules, step by step over the simulated disk: what a step may cost, a disk without
//! any space, and how it ends.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::background::{Background, InlineWriter};
use super::broker::{Input, Outbox};
use super::core::Core;
use super::error::ShardError;
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
    core: Core,
    _home: DataDir,
    mailbox: Mailbox,
}

impl Rig {
    fn new() -> Self {
        let disk = SimDisk::new();
        let clock = Arc::new(SimClock::new(0, START));
        let config = ShardConfig { segment_bytes: 64 * 1024, ..ShardConfig::default() };
        let options = ShardOptions { data_dir: PathBuf::from("/data"), config };
        let home = DataDir::open(&disk, &options.data_dir).unwrap();
        let shared = Arc::new(disk.clone());
        let start = |writer| Ok(Box::new(InlineWriter::new(writer, 1)) as Box<dyn Background>);
        let (mut core, _) = recover(shared, clock, &home, options, &start, &mut |_, _| {}).unwrap();
        let mailbox = Mailbox::default();
        core.take(Input::Open(A, Box::new(mailbox.clone())));
        Self { disk, core, _home: home, mailbox }
    }

    fn ask(&mut self, command: Command) -> Option<Answer> {
        self.core.take(Input::Requests(A, vec![(1, command)]));
        self.core.step().unwrap();
        self.mailbox.take().pop()
    }

    fn publish(&mut self, delay: Delay) -> MessageId {
        let mut bytes = Vec::new();
        Message::new("x").with_delay(delay).encode(&mut bytes).unwrap();
        let batch = MessageBatch::parse(bytes.into(), 1).unwrap();
        let destination = Bytes::from_static(b"/queue/q");
        match self.ask(Command::Produce { destination, batch }) {
            Some(Answer::Produced(results)) => results[0].clone().unwrap().id,
            other => panic!("{other:?}"),
        }
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
