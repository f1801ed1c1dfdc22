//! A store in memory, as a model: rows by place and dedup ids, merged at once.

use std::collections::BTreeMap;

use crate::base::command::Command;
use crate::base::config::ShardConfig;
use crate::base::event::{BatchMeta, Event};
use crate::base::id::{DestinationId, Key, MessageId};
use crate::base::stored::{Look, Place, Remembered, Stored, Want};
use crate::base::time::{ClockKind, Now};
use crate::codec::{checkpoint, event};
use crate::engine::{Engine, Frozen, Row, TopicChunk};
use crate::shard;

/// A row with its content.
#[derive(Debug, Clone)]
struct Kept {
    id: MessageId,
    destination: DestinationId,
    due_ms: u64,
    clock: ClockKind,
    priority: u8,
    expires_mono_ms: u64,
    failures: u16,
    recurring: bool,
    content: Vec<u8>,
}

/// The model, and the checkpoint that belongs to it.
#[derive(Debug, Clone, Default)]
pub struct SimStore {
    rows: BTreeMap<Place, Kept>,
    places: BTreeMap<u64, Place>,
    dedups: BTreeMap<(DestinationId, Vec<u8>), (MessageId, u64)>,
    checkpoint: Option<(BatchMeta, Vec<u8>)>,
}

fn stored<'a>((place, row): (&Place, &'a Kept)) -> Stored<'a> {
    Stored {
        place: *place,
        id: row.id,
        destination: row.destination,
        due_ms: row.due_ms,
        clock: row.clock,
        priority: row.priority,
        expires_mono_ms: row.expires_mono_ms,
        failures: row.failures,
        recurring: row.recurring,
        content: &row.content,
    }
}

impl SimStore {
    /// Writes what was frozen.
    pub fn flush(&mut self, frozen: &Frozen) -> Vec<TopicChunk> {
        let (scheduled, ready) = frozen.rows();
        let chunks = frozen.chunks(&ready);
        assert!(scheduled.windows(2).all(|two| two[0].place < two[1].place));
        assert!(ready.windows(2).all(|two| two[0].place < two[1].place));
        for rows in [&scheduled, &ready] {
            self.places.extend(Frozen::places(rows));
            for row in rows {
                self.write(frozen, row);
            }
        }
        let mut last = None;
        for row in frozen.dedups() {
            let key = (row.destination, row.dedup.to_vec());
            assert!(last.as_ref() < Some(&key));
            self.dedups.insert(key.clone(), (row.id, row.until_mono_ms));
            last = Some(key);
        }
        let checkpoint = frozen.checkpoint(&chunks, &|event, out| event::encode(event, out));
        self.checkpoint = Some((frozen.meta(), checkpoint));
        self.drop_dead(frozen);
        chunks
    }

    /// Lets go of all that a store may drop unread.
    fn drop_dead(&mut self, frozen: &Frozen) {
        let alive = frozen.alive();
        self.rows.retain(|place, _| match *place {
            Place::Scheduled(key) => key > frozen.meta().fired_to,
            Place::Ready { destination, lane, position } => {
                let at = (destination, lane, position);
                alive.any_between(at, at)
            }
        });
        if self.rows.is_empty() {
            self.places.clear();
        }
    }

    fn write(&mut self, frozen: &Frozen, row: &Row<'_>) {
        let Some(message) = frozen.message(row) else {
            self.rows.remove(&row.place);
            return;
        };
        let kept = Kept {
            id: message.id,
            destination: message.destination,
            due_ms: message.due_ms,
            clock: message.clock,
            priority: message.priority,
            expires_mono_ms: message.expires_mono_ms,
            failures: message.failures,
            recurring: message.recurring,
            content: message.content.to_vec(),
        };
        self.rows.insert(row.place, kept);
    }

    /// All rows, those that count no more included.
    #[must_use]
    pub fn all(&self) -> Vec<Stored<'_>> {
        self.rows.iter().map(stored).collect()
    }

    /// All dedup ids, those past their time included.
    #[must_use]
    pub fn all_dedups(&self) -> Vec<Remembered<'_>> {
        let rows = self.dedups.iter();
        rows.map(|((destination, dedup), &(id, until_mono_ms))| Remembered {
            destination: *destination,
            dedup,
            id,
            until_mono_ms,
        })
        .collect()
    }

    fn find(&self, id: MessageId, fired_to: Key) -> Option<Stored<'_>> {
        let key = Key { due_ms: id.due_ms(), sequence: id.sequence() };
        let by_id = Some(Place::Scheduled(key)).filter(|_| key > fired_to);
        let by_place = self.places.get(&id.sequence()).copied();
        [by_id, by_place]
            .into_iter()
            .flatten()
            .filter_map(|place| self.rows.get_key_value(&place).map(stored))
            .find(|row| row.id == id)
    }

    /// Thaws scheduled rows up to `to`, at most `limit`.
    pub fn thaw_scheduled(&self, engine: &mut Engine, to: Key, limit: usize) {
        let from = engine.thawed_to();
        if from >= to {
            return;
        }
        let rows =
            self.rows.range(Place::Scheduled(from)..=Place::Scheduled(Key::end_of(u64::MAX)));
        let (mut reached, mut messages, mut bytes) = (Key::end_of(u64::MAX), 0, 0);
        let rows: Vec<_> = rows.map(stored).collect();
        for (at, row) in rows.iter().enumerate() {
            let Place::Scheduled(key) = row.place else { continue };
            if key > to || at == limit {
                break;
            }
            bytes += engine.thaw_scheduled(row);
            messages += 1;
            reached = key;
        }
        let all = messages == rows.len() as u64;
        let within = messages < limit as u64;
        let reached = if all {
            Key::end_of(u64::MAX)
        } else if within {
            to
        } else {
            reached
        };
        engine.scheduled_thawed_to(reached, messages, bytes);
    }

    /// Reads what the engine wants, `limit` rows each.
    pub fn serve(&self, engine: &mut Engine, limit: usize) {
        for want in engine.take_wants() {
            match want {
                Want::Lane { destination, lane, from } => {
                    self.thaw_lane(engine, destination, lane, from, u64::MAX, limit);
                }
                Want::Topic { destination, from, slot } => {
                    let rows = self.lane(destination, 0, from, u64::MAX);
                    let few = &rows[..rows.len().min(limit)];
                    let all = few.len() == rows.len();
                    engine.thaw_topic(destination, slot, from, few, all);
                }
            }
        }
    }

    fn thaw_lane(
        &self,
        engine: &mut Engine,
        destination: DestinationId,
        lane: u8,
        from: u64,
        to: u64,
        limit: usize,
    ) {
        let rows = self.lane(destination, lane, from, to);
        let few = &rows[..rows.len().min(limit)];
        engine.thaw_lane(destination, lane, few, few.len() == rows.len() && to == u64::MAX);
    }

    fn lane(&self, destination: DestinationId, lane: u8, from: u64, to: u64) -> Vec<Stored<'_>> {
        let at = |position| Place::Ready { destination, lane, position };
        self.rows.range(at(from)..=at(to)).map(stored).collect()
    }

    /// Hands in whatever a command needs beyond memory.
    pub fn prepare(&self, engine: &mut Engine, command: &Command) {
        let mut missing = Vec::new();
        engine.missing(command, &mut missing);
        for id in missing {
            if let Some(row) = self.find(id, engine.fired_to()) {
                engine.hand_in(&row, command);
            }
        }
        for (destination, dedup) in engine.missing_dedups(command) {
            let key = (destination, dedup);
            if let Some(&(id, until_mono_ms)) = self.dedups.get(&key) {
                let dedup = &key.1;
                engine.hand_in_dedup(&Remembered { destination, dedup, id, until_mono_ms });
            }
        }
        self.show(engine, command);
    }

    /// The engine of the last flush, before the journal.
    #[must_use]
    pub fn opened(&self, config: &ShardConfig) -> Engine {
        let Some((meta, events)) = &self.checkpoint else {
            return Engine::new(config.clone(), Now::default());
        };
        let bytes = checkpoint::encode(meta, events);
        shard::from_checkpoint(config, &bytes).expect("the engine's own checkpoint is sound")
    }

    fn show(&self, engine: &mut Engine, command: &Command) {
        match engine.looks_at(command) {
            None => {}
            Some(Look::Topic { destination, from, limit }) => {
                let rows = self.lane(destination, 0, from, u64::MAX);
                for row in rows.iter().take(limit) {
                    engine.show(row);
                }
                if rows.len() <= limit {
                    engine.shown_all_of_topic();
                }
            }
            Some(Look::Scheduled { after, to_ms, only, limit }) => {
                let rows = self.rows.range(Place::Scheduled(after)..);
                let mut found = 0;
                for row in rows.map(stored) {
                    let Place::Scheduled(key) = row.place else { break };
                    if key <= after || key.due_ms > to_ms {
                        continue;
                    }
                    if only.is_none_or(|only| row.destination == only) && engine.show(&row) {
                        found += 1;
                    }
                    if found == limit {
                        engine.shown_to(key);
                        break;
                    }
                }
            }
        }
    }

    /// Applies a batch of the journal as recovery does.
    pub fn replay(&self, engine: &mut Engine, meta: &BatchMeta, payload: &[u8]) {
        self.thaw_scheduled(engine, meta.fired_to, usize::MAX);
        engine.begin_replayed(meta);
        let mut rest = payload;
        while !rest.is_empty() {
            let event = event::decode(&mut rest).expect("the engine's own events can be read");
            self.bring_up(engine, &event);
            engine.apply(&event);
        }
    }

    fn bring_up(&self, engine: &mut Engine, event: &Event<'_>) {
        if let Some((Want::Lane { destination, lane, from }, to)) = engine.lane_for(event) {
            self.thaw_lane(engine, destination, lane, from, to, usize::MAX);
        }
        if let Some(id) = engine.missing_for(event)
            && let Some(row) = self.find(id, engine.fired_to())
        {
            engine.bring_up(&row);
        }
    }
}
