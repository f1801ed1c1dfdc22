//! Who writes flushes and merges: a thread of its own, or, for simulators, whoever steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TryRecvError};

use crate::base::command::BackedUp;
use crate::store::{Snapshot, StoreError, StoreStats, Version};

use super::backup::{self, BackupError, Copying};
use super::flush::{Flushed, Job, Writer};
use super::worker::{Order, Worker, merge};

/// It is a quiet time after so many looks without an order.
const QUIET_AFTER_LOOKS: u32 = 8;

/// What happened in the background.
pub(super) enum News {
    /// A flush is durable; the version has it.
    Flushed(Flushed, Arc<Version>, Box<StoreStats>),
    /// Runs were merged.
    Merged(Arc<Version>, Box<StoreStats>),
    /// A flush did not work and is tried again.
    FlushFailed(StoreError),
    /// A merge did not work and is tried again.
    MergeFailed(StoreError),
    /// A merge met damage that is not to be passed over.
    Damaged(StoreError),
    /// A backup has its copy of the journal.
    JournalCopied,
    /// A backup is made, or has failed.
    BackedUp(Result<BackedUp, BackupError>),
    /// Nobody writes any more: what was begun never ends.
    Ended,
}

/// The other side of a shard: one flush at a time, merges in between.
pub(super) trait Background: Send {
    /// Begins a flush. Not called again before its [`News::Flushed`].
    fn flush(&mut self, job: Job);
    /// What happened since the last call.
    fn news(&mut self) -> Option<News>;
    /// Whether a merge is under way. Only for people to read.
    fn is_merging(&self) -> bool;
    /// Begins a backup of the store as it is after what was ordered before. Not called again before
    /// its [`News::BackedUp`].
    fn backup(&mut self, job: backup::Job);
}

/// The shard's end of the line to whoever writes.
pub(super) struct Remote {
    orders: Option<Sender<Order>>,
    news: Receiver<News>,
    merging: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

impl Remote {
    /// Both ends of a line, and whoever writes sits at the other.
    pub(super) fn to(writer: Writer) -> (Self, Worker, Receiver<Order>) {
        let (orders, taken) = crossbeam_channel::unbounded();
        let (told, news) = crossbeam_channel::unbounded();
        let worker = Worker::new(writer, told);
        let (merging, stop) = (worker.merging.clone(), worker.stop.clone());
        (Self { orders: Some(orders), news, merging, stop }, worker, taken)
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // Somebody who is gone has panicked: `news` tells it.
            let _ = orders.send(order);
        }
    }

    /// No more orders come. Whoever writes ends after what it is at.
    pub(super) fn hang_up(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.orders = None;
    }
}

impl Background for Remote {
    fn flush(&mut self, job: Job) {
        self.order(Order::Flush(job));
    }

    fn news(&mut self) -> Option<News> {
        match self.news.try_recv() {
            Ok(news) => Some(news),
            Err(TryRecvError::Empty) => None,
            // It ends by itself in one way only.
            Err(TryRecvError::Disconnected) => Some(News::Ended),
        }
    }

    fn is_merging(&self) -> bool {
        self.merging.load(Ordering::Relaxed)
    }

    fn backup(&mut self, job: backup::Job) {
        self.order(Order::Backup(job));
    }
}

/// A thread that writes.
pub(super) struct WriterThread {
    remote: Remote,
    thread: Option<JoinHandle<()>>,
}

impl WriterThread {
    /// Starts it.
    pub(super) fn start(writer: Writer) -> std::io::Result<Self> {
        let (remote, worker, orders) = Remote::to(writer);
        let thread = std::thread::Builder::new()
            .name("postdate-store".into())
            .spawn(move || worker.run(&orders))?;
        Ok(Self { remote, thread: Some(thread) })
    }
}

impl Background for WriterThread {
    fn flush(&mut self, job: Job) {
        self.remote.flush(job);
    }

    fn news(&mut self) -> Option<News> {
        self.remote.news()
    }

    fn is_merging(&self) -> bool {
        self.remote.is_merging()
    }

    fn backup(&mut self, job: backup::Job) {
        self.remote.backup(job);
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        self.remote.hang_up();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Writes when it is asked for news, a few steps after the order: what comes in between is seen
/// too, and always the same.
pub(super) struct InlineWriter {
    writer: Writer,
    job: Option<(Job, u32)>,
    backup: Option<(Result<Snapshot, BackupError>, Copying, u32)>,
    delay: u32,
    /// Looks since the last order.
    idle: u32,
    /// Looks until a merge that failed is tried again.
    merge_rests: u32,
}

impl InlineWriter {
    /// Writes `delay` looks after the order.
    pub(super) fn new(writer: Writer, delay: u32) -> Self {
        Self { writer, job: None, backup: None, delay, idle: 0, merge_rests: 0 }
    }
}

impl Background for InlineWriter {
    fn flush(&mut self, job: Job) {
        self.job = Some((job, self.delay));
        self.idle = 0;
    }

    fn news(&mut self) -> Option<News> {
        if let Some((snapshot, copying, looks)) = self.backup.take() {
            if looks == 0 {
                let made = snapshot.and_then(|snapshot| copying.run(&snapshot, &mut || {}));
                return Some(News::BackedUp(made));
            }
            self.backup = Some((snapshot, copying, looks - 1));
        }
        match &mut self.job {
            Some((_, looks)) if *looks > 0 => {
                *looks -= 1;
                None
            }
            Some((job, looks)) => match self.writer.flush(job) {
                Ok(flushed) => {
                    self.job = None;
                    let stats = Box::new(self.writer.stats());
                    Some(News::Flushed(flushed, self.writer.version(), stats))
                }
                Err(error) => {
                    *looks = self.delay + 1;
                    Some(News::FlushFailed(error))
                }
            },
            None => {
                self.idle = self.idle.saturating_add(1);
                if self.merge_rests > 0 {
                    self.merge_rests -= 1;
                    return None;
                }
                let merges = self.writer.has_merge(self.idle > QUIET_AFTER_LOOKS);
                let news = merges.then(|| merge(&mut self.writer)).flatten();
                if matches!(news, Some(News::MergeFailed(_))) {
                    self.merge_rests = self.delay + 1;
                }
                news
            }
        }
    }

    fn is_merging(&self) -> bool {
        self.writer.is_merging()
    }

    fn backup(&mut self, job: backup::Job) {
        let snapshot = self.writer.snapshot().map_err(BackupError::from);
        self.backup = Some((snapshot, Copying::new(job, Arc::default()), self.delay));
    }
}
