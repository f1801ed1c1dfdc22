//! The hand-over between the shard and whoever writes for it, in every order of events. The real code of both
//! sides, without threads: the shard's step, and the worker's one thing between two looks at its orders.

use std::cell::RefCell;
use std::io;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::Receiver;

use super::background::{Background, InlineWriter, News, Remote};
use super::backup;
use super::broker::{Input, Outbox};
use super::core::Core;
use super::error::ShardError;
use super::flush::{Job, Writer};
use super::open::{ShardOptions, recover};
use super::worker::{Order, Patience, Worker};
use crate::base::command::{Answer, Command, Outgoing};
use crate::base::config::ShardConfig;
use crate::base::error::{ClientError, Code};
use crate::base::id::SessionId;
use crate::base::message::{Delay, Message, MessageBatch};
use crate::env::{Disk, DiskFile, OpenMode};
use crate::journal::home::DataDir;
use crate::sim::{SimClock, SimDisk};
use crate::store::{Store, StoreOptions};

const START: u64 = 1_700_000_000_000;
const SESSION: SessionId = SessionId(1);
/// Looks within which either side must have done what it can: some flushes, retries and merges.
const LOOKS_MAX: usize = 60;

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The shard takes a message and steps.
    Shard,
    /// The worker looks at its orders once.
    Worker,
    /// The same, and the disk is full meanwhile.
    Full,
}

const TURNS: [Turn; 3] = [Turn::Shard, Turn::Worker, Turn::Full];

/// Counts the messages that were accepted.
#[derive(Clone, Default)]
struct Accepted(Arc<AtomicU64>);

impl Outbox for Accepted {
    fn push(&self, batch: Vec<Outgoing>) {
        for outgoing in batch {
            if let Outgoing::Answer { answer: Answer::Produced(results), .. } = outgoing {
                let accepted = results.iter().filter(|result| result.is_ok()).count();
                self.0.fetch_add(accepted as u64, Ordering::SeqCst);
            }
        }
    }

    fn closed(&self, _: ClientError) {}
}

/// The shard's end of the line, counted.
struct Counted {
    remote: Remote,
    ordered: u64,
    flushed: u64,
}

impl Background for Counted {
    fn flush(&mut self, job: Job) {
        assert_eq!(self.ordered, self.flushed, "a flush is ordered while there is one");
        self.ordered += 1;
        self.remote.flush(job);
    }

    fn news(&mut self) -> Option<News> {
        let news = self.remote.news();
        if matches!(news, Some(News::Flushed(..))) {
            self.flushed += 1;
            assert_eq!(self.ordered, self.flushed, "a flush is told of twice");
        }
        news
    }

    fn is_merging(&self) -> bool {
        self.remote.is_merging()
    }

    fn backup(&mut self, job: backup::Job) {
        self.remote.backup(job);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.remote.hang_up();
    }
}

/// Both sides.
struct Pair {
    disk: SimDisk,
    core: Core,
    worker: Worker,
    orders: Receiver<Order>,
    accepted: Accepted,
    home: DataDir,
}

/// What the worker came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Did,
    /// It waits for an order.
    Waits,
}

fn options() -> ShardOptions {
    // A flush for every two messages.
    let config = ShardConfig {
        segment_bytes: 64 * 1024,
        memory: 5_600,
        disk_reserve: 0,
        ..ShardConfig::default()
    };
    ShardOptions { data_dir: PathBuf::from("/data"), config }
}

/// A message of a kilobyte, for much later.
fn produce() -> Command {
    let mut bytes = Vec::new();
    let message = Message::new(vec![7; 1_000]).with_delay(Delay::After(1_000_000));
    message.encode(&mut bytes).unwrap();
    let batch = MessageBatch::parse(bytes.into(), 1).unwrap();
    Command::Produce { destination: Bytes::from_static(b"/queue/q"), batch }
}

impl Pair {
    fn new() -> Self {
        let (disk, clock) = (SimDisk::new(), SimClock::new(0, START));
        let options = options();
        let home = DataDir::open(&disk, &options.data_dir).unwrap();
        let shared = Arc::new(disk.clone());
        let times = Arc::new(clock);
        let other_end = RefCell::new(None);
        let start = |own: Writer| {
            drop(own);
            // Merges come soon.
            let merging = StoreOptions { fanout: 2, ..StoreOptions::default() };
            let (store, _) = Store::open(shared.clone(), &home.store(), merging).unwrap();
            let (remote, worker, orders) = Remote::to(Writer::new(store, times.clone(), 0));
            *other_end.borrow_mut() = Some((worker, orders));
            Ok(Box::new(Counted { remote, ordered: 0, flushed: 0 }) as Box<dyn Background>)
        };
        let opened = recover(shared.clone(), times.clone(), &home, options, &start, &mut |_, _| {});
        let (mut core, _) = opened.unwrap();
        let (worker, orders) = other_end.take().unwrap();
        let accepted = Accepted::default();
        core.take(Input::Open(SESSION, Box::new(accepted.clone())));
        Self { disk, core, worker, orders, accepted, home }
    }

    fn publish(&mut self) -> Result<(), ShardError> {
        self.core.take(Input::Requests(SESSION, vec![(1, produce())]));
        self.core.step()
    }

    /// What the loop of the thread does between two looks.
    fn work(&mut self) -> Look {
        let patience = self.worker.patience();
        let order = if patience == Patience::None { None } else { self.orders.try_recv().ok() };
        match order {
            Some(order) => self.worker.take(order),
            None if patience == Patience::Forever => return Look::Waits,
            None => self.worker.go_on(),
        }
        Look::Did
    }

    fn turn(&mut self, turn: Turn) {
        match turn {
            Turn::Shard => {
                self.publish().unwrap();
            }
            Turn::Worker => {
                self.work();
            }
            Turn::Full => {
                self.disk.set_capacity(Some(self.disk.used_bytes()));
                self.work();
                self.disk.set_capacity(None);
            }
        }
    }

    /// Flushes and no merges.
    fn worker_takes_orders_only(&mut self) {
        if let Ok(order) = self.orders.try_recv() {
            self.worker.take(order);
        }
    }

    /// Both go on until neither has anything to do.
    fn rest(&mut self) {
        for _ in 0..LOOKS_MAX {
            let look = self.work();
            self.core.step().unwrap();
            if look == Look::Waits && !self.core.engine.is_frozen() && !self.core.has_remains() {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// What is left when both sides are gone.
    fn end(self) -> Left {
        let Self { disk, accepted, home, .. } = self;
        Left { disk, accepted, home }
    }
}

struct Left {
    disk: SimDisk,
    accepted: Accepted,
    home: DataDir,
}

impl Left {
    /// What a restart finds is everything that was accepted, once.
    fn check(self) {
        let start = |writer| Ok(Box::new(InlineWriter::new(writer, 0)) as Box<dyn Background>);
        let (disk, clock) = (Arc::new(self.disk), Arc::new(SimClock::new(0, START)));
        let opened = recover(disk, clock, &self.home, options(), &start, &mut |_, _| {});
        assert_eq!(opened.unwrap().1.messages, self.accepted.0.load(Ordering::SeqCst));
    }
}

/// Takes a pair through every order of so many turns.
fn for_every_order(turns: u32, check: fn(Pair)) {
    for mut number in 0..TURNS.len().pow(turns) {
        let mut order = Vec::new();
        for _ in 0..turns {
            order.push(TURNS[number % TURNS.len()]);
            number /= TURNS.len();
        }
        let done = catch_unwind(|| {
            let mut pair = Pair::new();
            order.iter().for_each(|turn| pair.turn(*turn));
            check(pair);
        });
        assert!(done.is_ok(), "after {order:?}");
    }
}

/// Goal: in whatever order shard and writer do what they do, each flush is done once and heard of once,
/// both come to rest, and nothing is lost or doubled on disk. Method: every order of turns, some of
/// them with a full disk; the shard's end of the line counts.
#[test]
fn every_flush_is_done_once_in_every_order() {
    for_every_order(7, |mut pair| {
        pair.rest();
        pair.end().check();
    });
}

/// Goal: a shard that ends does not wait for what nobody needs: the thread ends whatever it is at,
/// with an order in line, a flush to be tried again, a merge under way or nothing to do. Method: its real
/// loop behind every order of turns, on a thread that must end.
#[test]
fn the_writer_ends_at_each_of_its_stages() {
    for_every_order(5, |pair| {
        let Pair { disk, core, worker, orders, accepted, home } = pair;
        core.close().unwrap();
        let before = disk.operations();
        let (ended, end) = crossbeam_channel::bounded(1);
        let thread = std::thread::spawn(move || {
            worker.run(&orders);
            ended.send(()).unwrap();
        });
        end.recv_timeout(Duration::from_secs(60)).expect("the writer does not end");
        thread.join().unwrap();
        assert!(disk.operations() <= before + 4, "it has begun something");
        Left { disk, accepted, home }.check();
    });
}

/// Goal: a writer that is gone is noticed at the next step, whatever it was at, and nothing is lost.
/// Method: it is dropped as a panic drops it, behind every order of turns.
#[test]
fn a_writer_that_is_gone_is_noticed_at_each_of_its_stages() {
    for_every_order(5, |pair| {
        let Pair { disk, mut core, worker, orders, accepted, home } = pair;
        drop((worker, orders));
        let error = core.step().unwrap_err();
        assert!(matches!(error, ShardError::WriterEnded), "{error}");
        drop(core);
        Left { disk, accepted, home }.check();
    });
}

/// Goal: a merge for which there was no space is made when there is, without an order. Method: runs to be
/// merged on a full disk, until the worker waits; then space.
#[test]
fn a_merge_that_lacks_space_is_not_forgotten() {
    let mut pair = Pair::new();
    while pair.core.spill.flushes < 2 {
        pair.publish().unwrap();
        pair.worker_takes_orders_only();
    }
    pair.disk.set_capacity(Some(pair.disk.used_bytes()));
    for _ in 0..LOOKS_MAX {
        assert_eq!(pair.work(), Look::Did, "it looks again by itself");
    }
    assert!(!pair.core.background.is_merging());
    pair.disk.set_capacity(None);
    pair.rest();
    assert!(pair.core.store_stats.merges > 0);
}

/// A disk that lets the thread of a backup die once it has begun.
struct DeadlyDisk(SimDisk);

impl Disk for DeadlyDisk {
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let own = std::thread::current();
        assert_ne!(own.name(), Some("postdate-backup"), "the test wants it so");
        self.0.hard_link(from, to)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir_all(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.0.list(path)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.0.exists(path)
    }
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        self.0.open(path, mode)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.0.remove_dir(path)
    }
    fn real_path(&self, path: &Path) -> io::Result<PathBuf> {
        self.0.real_path(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.sync_dir(path)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.0.free_bytes(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.0.lock(path)
    }
}

/// Hands on every answer.
struct Answers(crossbeam_channel::Sender<Answer>);

impl Outbox for Answers {
    fn push(&self, batch: Vec<Outgoing>) {
        for outgoing in batch {
            if let Outgoing::Answer { answer, .. } = outgoing {
                self.0.send(answer).unwrap();
            }
        }
    }

    fn closed(&self, _: ClientError) {}
}

/// Goal: whoever asked for a backup hears that its thread has died, nothing is left of it, the server goes on
/// and makes another. Method: a running shard, a disk that panics, twice.
#[test]
fn a_backup_whose_thread_dies_is_told() {
    let disk = SimDisk::new();
    let clock = Arc::new(SimClock::new(0, START));
    let deadly = Arc::new(DeadlyDisk(disk.clone()));
    let shard = super::open(deadly, clock, options(), &mut |_, _| {}).unwrap();
    let (told, answers) = crossbeam_channel::unbounded();
    let session = shard.broker().session(Box::new(Answers(told))).unwrap();
    let ask = |command| {
        session.submit(vec![(1, command)]).unwrap();
        answers.recv_timeout(Duration::from_secs(60)).expect("an answer")
    };
    // So that there is a file to be linked.
    for _ in 0..8 {
        assert!(matches!(ask(produce()), Answer::Produced(_)));
    }
    let stats = |name: &str| match ask(Command::Stats) {
        Answer::Stats(stats) => stats.iter().find(|stat| stat.0 == name).unwrap().1,
        other => panic!("{other:?}"),
    };
    while stats("flushes_total") == 0 {}
    for _ in 0..2 {
        let answer = ask(Command::Backup { directory: Bytes::from_static(b"/backup") });
        let Answer::Failed(error) = answer else { panic!("{answer:?}") };
        assert_eq!(error.code, Code::BackupFailed);
        assert!(error.message.contains("bug"), "{}", error.message);
        assert!(!disk.exists(Path::new("/backup")).unwrap());
    }
    assert!(matches!(ask(produce()), Answer::Produced(_)));
    shard.shutdown().unwrap();
}
