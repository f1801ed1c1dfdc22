//! Writing what was frozen, and merging what was written: work beside the shard's thread.

use std::sync::Arc;

use crate::base::id::Key;
use crate::base::stored::Place;
use crate::codec::{checkpoint, event, row};
use crate::engine::{Frozen, Row, TopicChunk};
use crate::env::clock::Clock;
use crate::store::key::{self, ReadyKey};
use crate::store::{
    Family, Flush, Merge, OnDamage, Snapshot, Store, StoreError, StoreStats, Value, Version,
};

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
    /// A merge met damage that there is no way around: nothing is merged any more until a restart.
    no_merges: bool,
    /// There is something to merge, and no space for it.
    lacks_room: bool,
    /// Steps of merges to be made before the next flush, because there are too many runs.
    owed: u64,
    /// What merges leave free on the disk, bytes.
    reserve: u64,
    /// `None` until the first flush.
    records: Option<Records>,
    clock: Arc<dyn Clock>,
}

impl Writer {
    /// Merges leave `reserve` bytes free.
    pub(super) fn new(store: Store, clock: Arc<dyn Clock>, reserve: u64) -> Self {
        Self {
            store,
            merge: None,
            no_merges: false,
            lacks_room: false,
            owed: 0,
            reserve,
            records: None,
            clock,
        }
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

    /// Writes what was frozen and makes it the truth. One that finds no space takes that of the merge
    /// under way, which begins anew some time.
    pub(super) fn flush(&mut self, job: &Job) -> Result<Flushed, StoreError> {
        let flushed = self.write_out(job);
        if matches!(flushed, Err(StoreError::Full { .. })) {
            self.merge = None;
        }
        flushed
    }

    fn write_out(&mut self, job: &Job) -> Result<Flushed, StoreError> {
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
        let bytes_written = flush.bytes();
        let written = self.clock.mono_ns();
        let any_scheduled =
            !scheduled.is_empty() || self.any_scheduled_behind(frozen.meta().fired_to);
        let known = Known::of(frozen, records.left(&frozen.meta()), any_scheduled);
        self.store.commit(flush, &bytes, *journal_from, Arc::new(known))?;
        self.records = Some(records);
        // With too many runs merges go before the next flush: the more there are, the more of them. With
        // twice as many, as many bytes are merged as are flushed, which is what keeps up.
        let StoreStats { crowd, crowd_max, .. } = self.stats();
        let too_many = crowd.saturating_sub(crowd_max);
        self.owed = (bytes_written * too_many).div_ceil(crowd_max.max(1) * MERGE_STEP_BYTES);
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

    /// Whether the store has scheduled rows behind this key, whatever they are.
    fn any_scheduled_behind(&self, fired_to: Key) -> bool {
        let version = self.store.version();
        let mut files = version.runs(Family::Scheduled).iter().flat_map(|run| &run.segments);
        files.any(|segment| *segment.meta().last_key > key::scheduled(fired_to)[..])
    }

    /// Whether there is something to merge. In a `quiet` time there is more.
    pub(super) fn has_merge(&mut self, quiet: bool) -> bool {
        if self.merge.is_none() && !self.no_merges {
            let plan = self.store.plan_merge(quiet);
            let has_room = |plan: &_| self.store.has_room_for(plan, self.reserve);
            self.lacks_room = plan.as_ref().is_some_and(|plan| !has_room(plan));
            self.merge = plan.filter(|_| !self.lacks_room).and_then(|plan| {
                tracing::debug!(family = ?plan.family, runs = plan.runs.len(), bytes = plan.bytes, "merging");
                self.store.begin_merge(plan).ok()
            });
        }
        self.merge.is_some()
    }

    /// Whether there was something to merge, and no space for it.
    pub(super) fn lacks_room(&self) -> bool {
        self.lacks_room
    }

    /// Whether a merge is under way.
    pub(super) fn is_merging(&self) -> bool {
        self.merge.is_some()
    }

    /// Whether merges go before the next flush.
    pub(super) fn owes_merges(&self) -> bool {
        self.owed > 0
    }

    /// Merges a little. `true`: the store has a new version.
    pub(super) fn merge_a_bit(&mut self) -> Result<bool, StoreError> {
        self.owed = self.owed.saturating_sub(1);
        let Some(merge) = &mut self.merge else { return Ok(false) };
        let done = self.store.merge_step(merge, MERGE_STEP_BYTES);
        match done {
            Ok(false) => Ok(false),
            Ok(true) => {
                self.merge = None;
                Ok(true)
            }
            Err(error) => {
                let plan = merge.plan().clone();
                self.merge = None;
                if !matches!(error, StoreError::Corrupt { .. }) {
                    // What found no space may find it later.
                    return Err(error);
                }
                // What is damaged stays so. The store plans around a block it is to skip.
                let again = |quiet| self.store.plan_merge(quiet).as_ref() == Some(&plan);
                self.no_merges = self.stops_at(&error) || again(false) || again(true);
                if self.no_merges { Err(error) } else { Ok(false) }
            }
        }
    }

    /// Whether an error of a merge is damage that the store is not to pass over.
    pub(super) fn stops_at(&self, error: &StoreError) -> bool {
        matches!(error, StoreError::Corrupt { .. }) && self.store.on_damage() == OnDamage::Stop
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::base::config::ShardConfig;
    use crate::base::event::Event;
    use crate::base::id::{DestinationId, MessageId};
    use crate::base::time::{ClockKind, Now};
    use crate::engine::Engine;
    use crate::sim::{SimClock, SimDisk};
    use crate::store::StoreOptions;

    /// A writer, and an engine that gives it something to write.
    struct Rig {
        disk: SimDisk,
        writer: Writer,
        engine: Engine,
        flushes: u64,
    }

    impl Rig {
        fn new(options: StoreOptions, reserve: u64) -> Self {
            let disk = SimDisk::new();
            let shared = Arc::new(disk.clone());
            let (store, _) = Store::open(shared, Path::new("/store"), options).unwrap();
            let writer = Writer::new(store, Arc::new(SimClock::new(0, 1)), reserve);
            let mut engine = Engine::new(ShardConfig::default(), Now::all(1_000));
            let destination = DestinationId(0);
            engine.apply(&Event::DestinationCreated { destination, name: "/queue/q" });
            Self { disk, writer, engine, flushes: 0 }
        }

        /// A flush of so many messages.
        fn job(&mut self, messages: u64) -> Job {
            self.flushes += 1;
            for number in 0..messages {
                self.engine.apply(&Event::Produced {
                    id: MessageId::new(9_000 + number, 0, self.flushes * 10_000 + number),
                    destination: DestinationId(0),
                    clock: ClockKind::Mono,
                    priority: 4,
                    at_once: false,
                    recurring: false,
                    expires_mono_ms: 0,
                    dedup: b"",
                    content: &[b'x'; 1_000],
                });
            }
            let frozen = self.engine.freeze(&|event, out| event::encode(event, out));
            Job { frozen, journal_from: self.flushes }
        }

        fn flush(&mut self, messages: u64) {
            let job = self.job(messages);
            let flushed = self.writer.flush(&job).unwrap();
            self.engine.frozen_lies_below(&flushed.chunks);
        }
    }

    /// Goal: with too many runs, merges go before the next flush, and only then. Method: flushes of one
    /// message without a merge.
    #[test]
    fn too_many_runs_are_merged_before_the_next_flush() {
        let mut rig = Rig::new(StoreOptions { fanout: 2, ..StoreOptions::default() }, 0);
        for _ in 1..=9 {
            assert!(!rig.writer.owes_merges());
            rig.flush(1);
        }
        let mut writer = rig.writer;
        assert!(writer.stats().behind && writer.owes_merges());
        while writer.owes_merges() {
            assert!(writer.has_merge(false));
            writer.merge_a_bit().unwrap();
        }
    }

    /// Goal: a flush that finds no space gets that of the merge under way, and merges do not begin
    /// without space for what they write and the reserve. Method: a merge of files of many, stopped
    /// half-way; what is free by then.
    #[test]
    fn a_merge_gives_way_to_a_flush() {
        const RESERVE: u64 = 600_000;
        let options = StoreOptions { fanout: 2, file_bytes: 64 * 1024, ..StoreOptions::default() };
        let mut rig = Rig::new(options, RESERVE);
        // Two steps of a merge and some more.
        rig.flush(4_000);
        rig.flush(4_000);
        let before = rig.disk.used_bytes();
        rig.disk.set_capacity(Some(2 * before + RESERVE / 2));
        assert!(!rig.writer.has_merge(false), "the reserve is not left");
        rig.disk.set_capacity(Some(2 * before + RESERVE));
        assert!(rig.writer.has_merge(false));
        rig.writer.merge_a_bit().unwrap();
        assert!(rig.writer.is_merging());
        // Somebody else takes the rest.
        rig.disk.set_capacity(Some(rig.disk.used_bytes() + 10_000));
        let job = rig.job(300);
        let full = rig.writer.flush(&job);
        assert!(matches!(full, Err(StoreError::Full { .. })));
        assert!(!rig.writer.is_merging());
        assert_eq!(rig.disk.used_bytes(), before);
        rig.writer.flush(&job).unwrap();
    }
}
