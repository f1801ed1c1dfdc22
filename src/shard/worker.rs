//! What the writer's thread does: one order at a time, merges in between. Between two looks at its
//! orders it does one thing, so that a test can take it through every order of events.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::background::News;
use super::backup::{self, BackupError, Copying};
use super::flush::{Job, Writer};

/// A flush that failed is tried again this often.
const RETRY: Duration = Duration::from_secs(1);

/// It is a quiet time when nothing was ordered for so long.
const QUIET_AFTER: Duration = Duration::from_secs(10);

/// What a shard asks for.
pub(super) enum Order {
    Flush(Job),
    Backup(backup::Job),
}

/// How long the next order is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// There is something to do before it is looked for.
    None,
    /// If it is not there by then, there is something else to do.
    For(Duration),
    /// There is nothing to do without one.
    Forever,
}

/// Whoever writes.
pub(super) struct Worker {
    writer: Writer,
    news: Sender<News>,
    /// To be tried again.
    failed: Option<Job>,
    /// A merge that failed is tried again as late as a flush.
    merge_failed: bool,
    quiet: bool,
    backup: BackupThread,
    /// A merge is under way.
    pub(super) merging: Arc<AtomicBool>,
    /// Nobody waits for what it does.
    pub(super) stop: Arc<AtomicBool>,
}

impl Worker {
    pub(super) fn new(writer: Writer, news: Sender<News>) -> Self {
        Self {
            writer,
            news,
            failed: None,
            merge_failed: false,
            quiet: false,
            backup: BackupThread::default(),
            merging: Arc::default(),
            stop: Arc::default(),
        }
    }

    /// Works until no more orders come. What it is at then is ended, a merge that it has begun is dropped.
    pub(super) fn run(mut self, orders: &Receiver<Order>) {
        while !self.stop.load(Ordering::Relaxed) {
            let order = match self.patience() {
                Patience::None => Err(RecvTimeoutError::Timeout),
                Patience::For(time) => orders.recv_timeout(time),
                Patience::Forever => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match order {
                Ok(order) => self.take(order),
                Err(RecvTimeoutError::Timeout) => self.go_on(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// How long it can wait for an order.
    pub(super) fn patience(&mut self) -> Patience {
        let merges = self.writer.has_merge(self.quiet);
        self.merging.store(merges, Ordering::Relaxed);
        if self.failed.is_some() || self.merge_failed {
            Patience::For(RETRY)
        } else if merges && self.writer.owes_merges() {
            Patience::None
        } else if merges {
            Patience::For(Duration::ZERO)
        } else if !self.quiet || self.writer.lacks_room() {
            // Nobody tells when there is space again.
            Patience::For(QUIET_AFTER)
        } else {
            Patience::Forever
        }
    }

    /// Carries out an order.
    pub(super) fn take(&mut self, order: Order) {
        self.quiet = false;
        match order {
            Order::Flush(job) => self.flush(job),
            Order::Backup(job) => {
                if let Err(error) = self.backup.start(&self.writer, job, self.news.clone()) {
                    self.tell(News::BackedUp(Err(error)));
                }
            }
        }
    }

    /// No order came for as long as it waited.
    pub(super) fn go_on(&mut self) {
        if let Some(job) = self.failed.take() {
            return self.flush(job);
        }
        if !self.writer.has_merge(self.quiet) {
            self.quiet = true;
            return;
        }
        let told = merge(&mut self.writer);
        self.merge_failed = matches!(told, Some(News::MergeFailed(_)));
        if let Some(told) = told {
            self.tell(told);
        }
    }

    fn flush(&mut self, job: Job) {
        debug_assert!(self.failed.is_none(), "one flush at a time");
        self.merge_failed = false;
        let told = match self.writer.flush(&job) {
            Ok(flushed) => {
                let stats = Box::new(self.writer.stats());
                News::Flushed(flushed, self.writer.version(), stats)
            }
            Err(error) => {
                self.failed = Some(job);
                News::FlushFailed(error)
            }
        };
        self.tell(told);
    }

    fn tell(&self, news: News) {
        // A shard that is gone has nobody to hear it.
        let _ = self.news.send(news);
    }
}

/// Merges a little.
pub(super) fn merge(writer: &mut Writer) -> Option<News> {
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
            let copy = || {
                copying.run(&snapshot, &mut || {
                    let _ = news.send(News::JournalCopied);
                })
            };
            // Whatever becomes of it: somebody waits for the answer, and the journal is held for it.
            let made = catch_unwind(AssertUnwindSafe(copy));
            let _ = news.send(News::BackedUp(made.unwrap_or(Err(BackupError::Panicked))));
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
