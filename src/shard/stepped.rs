//! A shard without a thread: whoever holds it decides when it steps. For simulators, and for
//! programs that have a loop of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::Receiver;

use crate::base::error::Code;
use crate::env::clock::Clock;
use crate::env::disk::Disk;
use crate::journal::JournalError;
use crate::journal::home::DataDir;

use super::background::{Background, InlineWriter};
use super::broker::{Broker, Input};
use super::core::Core;
use super::error::ShardError;
use super::open::{OpenError, Recovery, ShardOptions, recover};

/// A flush is written so many steps after it began, so that steps in between are seen.
const FLUSH_AFTER_STEPS: u32 = 3;

/// A shard that steps when told to.
pub struct SteppedShard {
    core: Core,
    inbox: Receiver<Input>,
    broker: Broker,
    failed: Arc<AtomicBool>,
    recovery: Recovery,
    /// Keeps the directory locked.
    _home: DataDir,
}

impl std::fmt::Debug for SteppedShard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SteppedShard").field("recovery", &self.recovery).finish_non_exhaustive()
    }
}

impl SteppedShard {
    /// Opens a data directory.
    ///
    /// # Errors
    /// As [`super::open`].
    pub fn open(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        options: ShardOptions,
    ) -> Result<Self, OpenError> {
        let home = DataDir::open(&*disk, &options.data_dir)?;
        let start = |writer| {
            Ok(Box::new(InlineWriter::new(writer, FLUSH_AFTER_STEPS)) as Box<dyn Background>)
        };
        let (core, recovery) = recover(disk, clock, &home, options, &start, &mut |_, _| {})?;
        let (sender, inbox) = crossbeam_channel::unbounded();
        let failed = Arc::new(AtomicBool::new(false));
        let broker = Broker::new(sender, failed.clone());
        Ok(Self { core, inbox, broker, failed, recovery, _home: home })
    }

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

    /// How long nothing happens by itself.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.core.wait()
    }

    /// Takes what came in and does one step.
    ///
    /// # Errors
    /// When the journal failed: nothing that is not durable was released, sessions were told, and
    /// every further step does nothing but fail.
    pub fn step(&mut self) -> Result<(), ShardError> {
        if self.failed.load(Ordering::SeqCst) {
            return Err(JournalError::Latched.into());
        }
        while let Ok(input) = self.inbox.try_recv() {
            self.core.take(input);
        }
        let outcome = self.core.step();
        if outcome.is_err() {
            self.failed.store(true, Ordering::SeqCst);
            self.core.hang_up(&Code::StorageFailed.into());
        }
        outcome
    }

    /// Syncs and ends in good order. Dropping it instead is a crash of the process.
    ///
    /// # Errors
    /// When the last sync failed.
    pub fn close(self) -> Result<(), ShardError> {
        self.core.close()
    }

    /// The durable state as bytes, to compare two shards by.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn state(&self) -> Result<Vec<u8>, ShardError> {
        self.core.state()
    }
}
