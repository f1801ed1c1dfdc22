//! Who writes flushes and merges: a thread of its own, or, for simulators, whoever steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};

use crate::base::command::BackedUp;
use crate::store::{Snapshot, StoreError, StoreStats, Version};

use super::backup::{self, BackupError, Copying};
use super::flush::{Flushed, Job, Writer};

/// A flush that failed is tried again this often.
const RETRY: Duration = Duration::from_secs(1);

/// It is a quiet time when nothing was ordered for so long.
const QUIET_AFTER: Duration = Duration::from_secs(10);

/// The same where looks are counted.
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

enum Order {
    Flush(Job),
    Backup(backup::Job),
}

/// A thread that writes.
pub(super) struct WriterThread {
    orders: Option<Sender<Order>>,
    news: Receiver<News>,
    merging: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl WriterThread {
    /// Starts it.
    pub(super) fn start(writer: Writer) -> std::io::Result<Self> {
        let (orders, taken) = crossbeam_channel::unbounded();
        let (told, news) = crossbeam_channel::unbounded();
        let merging = Arc::new(AtomicBool::new(false));
        let merges = merging.clone();
        let thread = std::thread::Builder::new()
            .name("postdate-store".into())
            .spawn(move || run(writer, &taken, &told, &merges))?;
        Ok(Self { orders: Some(orders), news, merging, thread: Some(thread) })
    }
}

impl Background for WriterThread {
    fn flush(&mut self, job: Job) {
        if let Some(orders) = &self.orders {
            // A thread that is gone has panicked: `news` tells it.
            let _ = orders.send(Order::Flush(job));
        }
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
        if let Some(orders) = &self.orders {
            let _ = orders.send(Order::Backup(job));
        }
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        // Without orders it ends after what it is at; a merge it has begun is dropped.
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(mut writer: Writer, orders: &Receiver<Order>, news: &Sender<News>, merging: &AtomicBool) {
    let mut failed: Option<Job> = None;
    // A merge that failed is tried again as late as a flush.
    let mut merge_failed = false;
    let mut quiet = false;
    let mut backup = BackupThread::default();
    loop {
        let merges = writer.has_merge(quiet);
        merging.store(merges, Ordering::Relaxed);
        let order = if failed.is_some() || merge_failed {
            orders.recv_timeout(RETRY)
        } else if merges && writer.owes_merges() {
            Err(RecvTimeoutError::Timeout)
        } else if merges {
            orders.recv_timeout(Duration::ZERO)
        } else if !quiet {
            orders.recv_timeout(QUIET_AFTER)
        } else {
            orders.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        quiet &= order.is_err();
        let job = match order {
            Ok(Order::Flush(job)) => Some(job),
            Ok(Order::Backup(job)) => {
                if let Err(error) = backup.start(&writer, job, news.clone()) {
                    let _ = news.send(News::BackedUp(Err(error)));
                }
                continue;
            }
            Err(RecvTimeoutError::Timeout) => failed.take(),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let told = match job {
            Some(job) => match writer.flush(&job) {
                Ok(flushed) => {
                    let stats = Box::new(writer.stats());
                    Some(News::Flushed(flushed, writer.version(), stats))
                }
                Err(error) => {
                    failed = Some(job);
                    Some(News::FlushFailed(error))
                }
            },
            None if merges => merge(&mut writer),
            None => {
                quiet = true;
                continue;
            }
        };
        merge_failed = matches!(told, Some(News::MergeFailed(_)));
        if let Some(told) = told {
            let _ = news.send(told);
        }
    }
}

fn merge(writer: &mut Writer) -> Option<News> {
    match writer.merge_a_bit() {
        Ok(false) => None,
        Ok(true) => Some(News::Merged(writer.version(), Box::new(writer.stats()))),
        Err(error) if writer.stops_at(&error) => Some(News::Damaged(error)),
        Err(error) => Some(News::MergeFailed(error)),
    }
}

/// Makes a backup beside flushes and merges. Dropped, it ends early and leaves nothing.
#[derive(Default)]
struct BackupThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl BackupThread {
    fn start(
        &mut self,
        writer: &Writer,
        job: backup::Job,
        news: Sender<News>,
    ) -> Result<(), BackupError> {
        let snapshot = writer.snapshot()?;
        let copying = Copying::new(job, self.stop.clone());
        let work = move || {
            let made = copying.run(&snapshot, &mut || {
                let _ = news.send(News::JournalCopied);
            });
            let _ = news.send(News::BackedUp(made));
        };
        let thread = std::thread::Builder::new().name("postdate-backup".into()).spawn(work);
        // The one before has told that it is over.
        self.thread = Some(thread.map_err(BackupError::Thread)?);
        Ok(())
    }
}

impl Drop for BackupThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
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
