//! From a data directory to a running shard: lock, recover, start the thread.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::base::config::{RecoveryPolicy, ShardConfig};
use crate::base::event::BatchMeta;
use crate::base::time::Now;
use crate::calendar;
use crate::codec::event;
use crate::engine::Engine;
use crate::env::clock::Clock;
use crate::env::disk::Disk;
use crate::journal::home::{DataDir, HomeError};
use crate::journal::{self, JournalError, JournalOptions};

use crate::store::{OnDamage, Store, StoreError, StoreOptions};

use super::background::{Background, WriterThread};
use super::below::{Below, Portion};
use super::broker::{Broker, Input};
use super::core::{Core, Parts};
use super::error::ShardError;
use super::flush::Writer;
use super::sound;
use super::thread;
use super::timekeeper::{Reading, Timekeeper};

/// Where a shard lives and how it behaves.
#[derive(Debug, Clone)]
pub struct ShardOptions {
    /// The data directory; made when it does not exist.
    pub data_dir: PathBuf,
    /// Settings.
    pub config: ShardConfig,
}

/// Why a data directory cannot be opened. The text tells the operator what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory: in use, not writable, of a newer version, not ours.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Its journal: damaged, unreadable.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Its store: damaged, unreadable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A part of it passed its checksum and makes no sense.
    #[error(transparent)]
    Content(#[from] ShardError),
    /// The shard's thread could not be started.
    #[error("cannot start the shard's thread: {0}; check the limits on processes and memory")]
    Thread(std::io::Error),
}

/// What was found at opening.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Live messages.
    pub messages: u64,
    /// Batches replayed.
    pub batches: u64,
    /// Bytes of an unacknowledged, torn write that were ignored.
    pub torn_bytes: u64,
}

/// A running shard.
#[derive(Debug)]
pub struct Shard {
    broker: Broker,
    thread: Option<JoinHandle<Result<(), ShardError>>>,
    failed: Arc<AtomicBool>,
    recovery: Recovery,
}

/// Opens a data directory and starts its shard. `progress` is told bytes done and in all.
///
/// # Errors
/// [`OpenError`], with advice in its text.
pub fn open(
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    options: ShardOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Shard, OpenError> {
    let home = DataDir::open(&*disk, &options.data_dir)?;
    let start = |writer| {
        let thread = WriterThread::start(writer).map_err(OpenError::Thread)?;
        Ok(Box::new(thread) as Box<dyn Background>)
    };
    let (core, recovery) = recover(disk, clock, &home, options, &start, progress)?;
    let (inbox, work) = crossbeam_channel::unbounded();
    let failed = Arc::new(AtomicBool::new(false));
    let thread = std::thread::Builder::new()
        .name("postdate-shard".into())
        .spawn({
            let failed = failed.clone();
            move || {
                // The directory stays locked for as long as the shard lives.
                let _home = home;
                let guard = FailOnPanic(failed.clone());
                let outcome = thread::run(core, &work, &failed);
                drop(guard);
                outcome
            }
        })
        .map_err(OpenError::Thread)?;
    let broker = Broker::new(inbox, failed.clone());
    Ok(Shard { broker, thread: Some(thread), failed, recovery })
}

/// Gives a store to whoever writes it.
pub(super) type StartWriter<'a> = &'a dyn Fn(Writer) -> Result<Box<dyn Background>, OpenError>;

/// Reads the checkpoint and the journal into an engine.
pub(super) fn recover(
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    home: &DataDir,
    options: ShardOptions,
    start_writer: StartWriter<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Core, Recovery), OpenError> {
    let config = &options.config;
    let on_damage = match config.recovery {
        RecoveryPolicy::SkipDamaged => OnDamage::Skip,
        // The store has no tail that could go.
        RecoveryPolicy::Strict | RecoveryPolicy::TruncateTail => OnDamage::Stop,
    };
    let store_options = StoreOptions { on_damage, ..StoreOptions::default() };
    let (store, opened) = Store::open(disk.clone(), &home.store(), store_options)?;
    let mut below = Below::new(store.version());
    let mut last: Option<Now> = None;
    let (mut engine, journal_from) = match &opened {
        None => (Engine::new(config.clone(), Now::default()), 1),
        Some(opened) => {
            let engine = sound::from_checkpoint(config, &opened.checkpoint)
                .map_err(|why| ShardError::BadRow(format!("the checkpoint: {why}")))?;
            last = Some(engine.now());
            (engine, opened.journal_from)
        }
    };
    let mut batches = 0;
    let mut failure = None;
    let mut replay = |meta: &BatchMeta, payload: &[u8], _at| {
        last = Some(meta.now);
        batches += 1;
        replay_batch(&mut engine, &mut below, meta, payload).map_err(|error| {
            let text = error.to_string();
            failure = Some(error);
            text
        })
    };
    let journal_options = JournalOptions {
        segment_bytes: config.segment_bytes,
        durability: config.durability,
        recovery: config.recovery,
    };
    let opened = journal::open(
        disk.clone(),
        &home.journal(),
        journal_options,
        journal_from,
        &mut replay,
        progress,
    );
    let (journal, recovered) = match (opened, failure) {
        // The journal is sound; what it is about could not be read.
        (Err(_), Some(failure @ ShardError::Store(_))) => return Err(failure.into()),
        (opened, _) => opened?,
    };
    engine.finish_replay();
    engine.plan_with(calendar::next);
    // The wall first: who is held up in between is late by that, and not early in every life from then on.
    let wall_ns = clock.wall_ns();
    let reading = Reading { mono_ns: clock.mono_ns(), wall_ns };
    let (keeper, note) = Timekeeper::start(reading, last);
    if let Some(note) = note {
        super::core::log_clock(note);
    }
    let recovery = Recovery {
        messages: engine.messages(),
        batches,
        torn_bytes: recovered.torn.map_or(0, |torn| torn.bytes),
    };
    let (version, store_stats) = (store.version(), store.stats());
    let background = start_writer(Writer::new(store, clock.clone(), options.config.disk_reserve))?;
    let parts = Parts {
        engine,
        journal: Box::new(journal),
        keeper,
        clock,
        version,
        store_stats,
        background,
        disk,
        options,
    };
    Ok((Core::new(parts), recovery))
}

/// Applies one batch of the journal.
fn replay_batch(
    engine: &mut Engine,
    below: &mut Below,
    meta: &BatchMeta,
    payload: &[u8],
) -> Result<(), ShardError> {
    let all = Portion { to: meta.fired_to, rows: u64::MAX, bytes: u64::MAX };
    below.thaw_scheduled(engine, all)?;
    engine.begin_replayed(meta);
    let mut rest = payload;
    while !rest.is_empty() {
        let event =
            event::decode(&mut rest).map_err(|error| ShardError::BadRow(error.to_string()))?;
        below.prepare_replay(engine, &event)?;
        engine.apply(&event);
    }
    Ok(())
}

impl Shard {
    /// A handle to talk to the shard.
    #[must_use]
    pub fn broker(&self) -> Broker {
        self.broker.clone()
    }

    /// What was found at opening.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        self.recovery
    }

    /// Whether the shard has stopped because its journal failed.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// Carries out what was asked, syncs, and stops.
    ///
    /// # Errors
    /// [`ShardError`] when the shard had failed or its last sync did.
    pub fn shutdown(mut self) -> Result<(), ShardError> {
        self.stop()
    }

    fn stop(&mut self) -> Result<(), ShardError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        // A shard that has stopped by itself has nobody to hear it.
        let _ = self.broker.inbox.send(Input::Stop);
        thread.join().map_err(|_| ShardError::Panicked)?
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!(%error, "the shard did not stop in good order");
        }
    }
}

/// A panic on the shard's thread counts as a failure: nothing is acknowledged after it.
struct FailOnPanic(Arc<AtomicBool>);

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}
