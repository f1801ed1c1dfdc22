//! Writing what was frozen, and merging what was written: work beside the shard's thread.

use std::sync::Arc;

use crate::base::stored::Place;
use crate::codec::{checkpoint, event, row};
use crate::engine::{Frozen, Row, TopicChunk};
use crate::env::clock::Clock;
use crate::store::key::{self, ReadyKey};
use crate::store::{Family, Flush, Merge, Snapshot, Store, StoreError, StoreStats, Value, Version};

use super::below::{KIND_DEDUP, KIND_PLACE};
use super::known::Known;
use super::records::Records;

/// Input bytes of one step of a merge: a flush waits for no more than one.
const MERGE_STEP_BYTES: u64 = 4 << 20;

/// Rows fetched into the processor's caches at once.
const TOUCHED: usize = 32;

/// One flush to be done.
pub(super) struct Job {
    pub(super) frozen: Frozen,
    /// The journal is needed from this segment on, once it is done.
    pub(super) journal_from: u64,
}

/// What was done.
pub(super) struct Flushed {
    pub(super) chunks: Vec<TopicChunk>,
    pub(super) journal_from: u64,
}

/// The store and the merge that is under way.
pub(super) struct Writer {
    store: Store,
    merge: Option<Merge>,
    /// `None` until the first flush.
    records: Option<Records>,
    /// A merge met damage: nothing is merged any more until a restart.
    no_merges: bool,
    clock: Arc<dyn Clock>,
}

impl Writer {
    pub(super) fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { store, merge: None, records: None, no_merges: false, clock }
    }

    pub(super) fn version(&self) -> Arc<Version> {
        self.store.version()
    }

    pub(super) fn stats(&self) -> StoreStats {
        self.store.stats()
    }

    /// The store as it is now, to be copied.
    pub(super) fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.store.snapshot()
    }

    /// Writes what was frozen and makes it the truth.
    pub(super) fn flush(&mut self, job: &Job) -> Result<Flushed, StoreError> {
        let Job { frozen, journal_from } = job;
        let begun = self.clock.mono_ns();
        let (scheduled, ready) = frozen.rows();
        let sorted = self.clock.mono_ns();
        let mut flush = self.store.flush();
        write(&mut flush, frozen, &scheduled)?;
        write(&mut flush, frozen, &ready)?;
        let mut places = Frozen::places(&scheduled);
        places.extend(Frozen::places(&ready));
        places.sort_unstable_by_key(|(sequence, _)| *sequence);
        places.dedup_by_key(|(sequence, _)| *sequence);
        let mut records = match &self.records {
            Some(records) => records.clone(),
            None => Records::found(&self.store.version(), frozen.meta().now.mono_ms),
        };
        let mut value = Vec::new();
        for (sequence, place) in places {
            records.add_place(place);
            value.clear();
            row::encode_place(place, &mut value);
            let key = key::record(KIND_PLACE, &sequence.to_be_bytes());
            flush.put(Family::Record, &key, Value::Put(&value))?;
        }
        for remembered in frozen.dedups() {
            records.add_dedup(remembered.until_mono_ms);
            value.clear();
            row::encode_dedup(&remembered, &mut value);
            let own = row::dedup_key(remembered.destination, remembered.dedup);
            flush.put(Family::Record, &key::record(KIND_DEDUP, &own), Value::Put(&value))?;
        }
        let chunks = frozen.chunks(&ready);
        let events = frozen.checkpoint(&chunks, &|event, out| event::encode(event, out));
        let bytes = checkpoint::encode(&frozen.meta(), &events);
        let written = self.clock.mono_ns();
        let known = Known::of(frozen, records.left(&frozen.meta()));
        self.store.commit(flush, &bytes, *journal_from, Arc::new(known))?;
        self.records = Some(records);
        let ms = |from: u64, to: u64| to.saturating_sub(from) / 1_000_000;
        tracing::debug!(
            scheduled = scheduled.len(),
            ready = ready.len(),
            sort_ms = ms(begun, sorted),
            write_ms = ms(sorted, written),
            commit_ms = ms(written, self.clock.mono_ns()),
            "messages written out"
        );
        Ok(Flushed { chunks, journal_from: *journal_from })
    }

    /// Whether there is something to merge.
    pub(super) fn has_merge(&mut self) -> bool {
        if self.merge.is_none() && !self.no_merges {
            self.merge = self.store.plan_merge().and_then(|plan| {
                tracing::debug!(family = ?plan.family, runs = plan.runs.len(), bytes = plan.bytes, "merging");
                self.store.begin_merge(plan).ok()
            });
        }
        self.merge.is_some()
    }

    /// Whether a merge is under way.
    pub(super) fn is_merging(&self) -> bool {
        self.merge.is_some()
    }

    /// Merges a little. `true`: the store has a new version.
    pub(super) fn merge_a_bit(&mut self) -> Result<bool, StoreError> {
        let Some(merge) = &mut self.merge else { return Ok(false) };
        let done = self.store.merge_step(merge, MERGE_STEP_BYTES);
        match done {
            Ok(false) => Ok(false),
            Ok(true) => {
                self.merge = None;
                Ok(true)
            }
            Err(error) => {
                self.merge = None;
                // What is damaged stays so; what found no space may find it later.
                self.no_merges = matches!(error, StoreError::Corrupt { .. });
                Err(error)
            }
        }
    }
}

fn write(flush: &mut Flush, frozen: &Frozen, rows: &[Row<'_>]) -> Result<(), StoreError> {
    let mut bytes = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        if at.is_multiple_of(TOUCHED) {
            Frozen::touch(&rows[at..rows.len().min(at + TOUCHED)]);
        }
        bytes.clear();
        let value = match &frozen.message(row) {
            None => Value::Tombstone,
            Some(message) => {
                row::encode(message, &mut bytes);
                Value::Put(&bytes)
            }
        };
        match row.place {
            Place::Scheduled(key) => flush.put(Family::Scheduled, &key::scheduled(key), value)?,
            Place::Ready { destination, lane, position } => {
                let key = ReadyKey { destination, lane, position };
                flush.put(Family::Ready, &key::ready(key), value)?;
            }
        }
    }
    Ok(())
}
