//! Who writes flushes and merges: a thread of its own, or, for simulators, whoever steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};

use crate::store::{StoreError, StoreStats, Version};

use super::flush::{Flushed, Job, Writer};

/// A flush that failed is tried again this often.
const RETRY: Duration = Duration::from_secs(1);

/// What happened in the background.
pub(super) enum News {
    /// A flush is durable; the version has it.
    Flushed(Flushed, Arc<Version>, Box<StoreStats>),
    /// Runs were merged.
    Merged(Arc<Version>, Box<StoreStats>),
    /// It did not work and is tried again.
    Failed(StoreError),
}

/// The other side of a shard: one flush at a time, merges in between.
pub(super) trait Background: Send {
    /// Begins a flush. Not called again before its [`News::Flushed`].
    fn flush(&mut self, job: Job);
    /// What happened since the last call.
    fn news(&mut self) -> Option<News>;
    /// Whether a merge is under way. Only for people to read.
    fn is_merging(&self) -> bool;
}

/// A thread that writes.
pub(super) struct WriterThread {
    orders: Option<Sender<Job>>,
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
            // A thread that is gone has panicked: the next `news` does not come, nothing is lost.
            let _ = orders.send(job);
        }
    }

    fn news(&mut self) -> Option<News> {
        self.news.try_recv().ok()
    }

    fn is_merging(&self) -> bool {
        self.merging.load(Ordering::Relaxed)
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

fn run(mut writer: Writer, orders: &Receiver<Job>, news: &Sender<News>, merging: &AtomicBool) {
    let mut failed: Option<Job> = None;
    loop {
        let order = if failed.is_some() {
            orders.recv_timeout(RETRY)
        } else if writer.has_merge() {
            merging.store(true, Ordering::Relaxed);
            orders.try_recv().map_err(|error| match error {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            })
        } else {
            merging.store(false, Ordering::Relaxed);
            orders.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        let job = match order {
            Ok(job) => Some(job),
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
                    Some(News::Failed(error))
                }
            },
            None => merge(&mut writer),
        };
        if let Some(told) = told {
            let _ = news.send(told);
        }
    }
}

fn merge(writer: &mut Writer) -> Option<News> {
    match writer.merge_a_bit() {
        Ok(false) => None,
        Ok(true) => Some(News::Merged(writer.version(), Box::new(writer.stats()))),
        Err(error) => Some(News::Failed(error)),
    }
}

/// Writes when it is asked for news, a few steps after the order: what comes in between is seen
/// too, and always the same.
pub(super) struct InlineWriter {
    writer: Writer,
    job: Option<(Job, u32)>,
    delay: u32,
}

impl InlineWriter {
    /// Writes `delay` looks after the order.
    pub(super) fn new(writer: Writer, delay: u32) -> Self {
        Self { writer, job: None, delay }
    }
}

impl Background for InlineWriter {
    fn flush(&mut self, job: Job) {
        self.job = Some((job, self.delay));
    }

    fn news(&mut self) -> Option<News> {
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
                    Some(News::Failed(error))
                }
            },
            None if self.writer.has_merge() => merge(&mut self.writer),
            None => None,
        }
    }

    fn is_merging(&self) -> bool {
        self.writer.is_merging()
    }
}
