//! Reading what lies below memory: between the store's bytes and the engine's messages.

use std::sync::Arc;

use bytes::Bytes;

use crate::base::command::Command;
use crate::base::event::Event;
use crate::base::id::{DestinationId, Key, MessageId};
use crate::base::limits;
use crate::base::stored::{Look, Place, Remembered, Stored, Want};
use crate::codec::row;
use crate::engine::Engine;
use crate::store::key::{self, ReadyKey};
use crate::store::{Family, MergeCursor, Scratch, Version};

use super::error::ShardError;

/// Record kind: where the message with a sequence stands, when its id does not say so.
pub(super) const KIND_PLACE: u8 = 1;
/// Record kind: what a dedup id stands for.
pub(super) const KIND_DEDUP: u8 = 2;

/// Rows of messages: where they stand and their values.
pub(super) type Rows = Vec<(Place, Vec<u8>)>;

/// Rows of dedup ids: their keys behind the kind and their values.
pub(super) type DedupRows = Vec<(Vec<u8>, Vec<u8>)>;

/// How much of a lane is read at once.
#[derive(Clone, Copy)]
struct Window {
    rows: usize,
    bytes: usize,
}

impl Window {
    /// With little memory, much less: there may be a window for each destination.
    fn of(rows: usize, short: bool) -> Self {
        let part = if short { limits::THAW_SHORT_PART } else { 1 };
        Self { rows: rows.div_ceil(part), bytes: limits::THAW_BYTES_MAX / part }
    }
}

/// No row has a higher key.
const END: Key = Key { due_ms: u64::MAX, sequence: u64::MAX };

/// The store as the shard reads it.
pub(super) struct Below {
    version: Arc<Version>,
    scratch: Scratch,
    /// Reads the scheduled rows forward.
    scheduled: Option<MergeCursor>,
    /// The row it has read and that nobody wanted yet.
    ahead: Option<(Key, Vec<u8>)>,
}

/// How far a thaw may go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portion {
    /// Up to and including this key.
    pub(super) to: Key,
    /// Rows.
    pub(super) rows: u64,
    /// Bytes of memory.
    pub(super) bytes: u64,
}

impl Below {
    pub(super) fn new(version: Arc<Version>) -> Self {
        Self { version, scratch: Scratch::default(), scheduled: None, ahead: None }
    }

    /// From now on it is read from this version.
    pub(super) fn switch(&mut self, version: Arc<Version>) {
        *self = Self::new(version);
    }

    /// Damaged blocks that were met and passed over, each counted once.
    pub(super) fn damaged_blocks(&self) -> u64 {
        self.version.damaged_blocks()
    }

    /// Brings scheduled rows up, in order, from where the engine has them.
    pub(super) fn thaw_scheduled(
        &mut self,
        engine: &mut Engine,
        portion: Portion,
    ) -> Result<(), ShardError> {
        let from = engine.thawed_to();
        if from >= portion.to {
            return Ok(());
        }
        let (mut reached, mut rows, mut bytes) = (from, 0, 0);
        loop {
            if rows >= portion.rows || bytes >= portion.bytes {
                break;
            }
            let Some((key, value)) = self.next_scheduled(from)? else {
                reached = END;
                break;
            };
            if key > portion.to {
                self.ahead = Some((key, value));
                reached = portion.to;
                break;
            }
            let message = decode(Place::Scheduled(key), engine.shard(), &value)?;
            bytes += engine.thaw_scheduled(&message);
            rows += 1;
            reached = key;
        }
        engine.scheduled_thawed_to(reached, rows, bytes);
        Ok(())
    }

    fn next_scheduled(&mut self, from: Key) -> Result<Option<(Key, Vec<u8>)>, ShardError> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        let version = &self.version;
        let cursor = self
            .scheduled
            .get_or_insert_with(|| version.cursor(Family::Scheduled, &key::scheduled(from)));
        while let Some((bytes, value)) = cursor.next()? {
            let key = scheduled_key(bytes)?;
            if key > from {
                return Ok(Some((key, value.to_vec())));
            }
        }
        Ok(None)
    }

    /// Reads what deliveries wait for.
    /// `short`: there is little memory, so little is read at once.
    pub(super) fn serve(
        &mut self,
        engine: &mut Engine,
        want: Want,
        short: bool,
    ) -> Result<(), ShardError> {
        match want {
            Want::Lane { destination, lane, from } => {
                let window = Window::of(limits::THAW_LANE_MAX, short);
                self.thaw_lane(engine, destination, lane, from, u64::MAX, window)
            }
            Want::Topic { destination, from, slot } => {
                let window = Window::of(limits::THAW_TOPIC_MAX, short);
                let (rows, all) = self.lane(destination, 0, from, u64::MAX, window)?;
                let rows = stored(&rows, engine.shard())?;
                engine.thaw_topic(destination, slot, from, &rows, all);
                Ok(())
            }
        }
    }

    fn thaw_lane(
        &mut self,
        engine: &mut Engine,
        destination: DestinationId,
        lane: u8,
        from: u64,
        to: u64,
        window: Window,
    ) -> Result<(), ShardError> {
        let (rows, all) = self.lane(destination, lane, from, to, window)?;
        let rows = stored(&rows, engine.shard())?;
        engine.thaw_lane(destination, lane, &rows, all && to == u64::MAX);
        Ok(())
    }

    /// Rows of a lane from one position to another, both included, and whether these are all.
    fn lane(
        &self,
        destination: DestinationId,
        lane: u8,
        from: u64,
        to: u64,
        window: Window,
    ) -> Result<(Rows, bool), ShardError> {
        let first = ReadyKey { destination, lane, position: from };
        let mut cursor = self.version.cursor(Family::Ready, &key::ready(first));
        let mut rows = Vec::new();
        let mut bytes = 0;
        while rows.len() < window.rows && bytes < window.bytes {
            let Some((key, value)) = cursor.next()? else { return Ok((rows, true)) };
            let key = key::parse_ready(key).ok_or_else(|| bad(key))?;
            if (key.destination, key.lane) != (destination, lane) || key.position > to {
                return Ok((rows, true));
            }
            bytes += value.len();
            let ReadyKey { destination, lane, position } = key;
            rows.push((Place::Ready { destination, lane, position }, value.to_vec()));
        }
        Ok((rows, false))
    }

    /// The message with this id, wherever it lies.
    fn find(&mut self, id: MessageId, fired_to: Key) -> Result<Option<(Place, Bytes)>, ShardError> {
        let key = Key { due_ms: id.due_ms(), sequence: id.sequence() };
        if key > fired_to
            && let Some(value) =
                self.version.get(Family::Scheduled, &key::scheduled(key), &mut self.scratch)?
        {
            return Ok(Some((Place::Scheduled(key), value)));
        }
        let record = key::record(KIND_PLACE, &id.sequence().to_be_bytes());
        let Some(value) = self.version.get(Family::Record, &record, &mut self.scratch)? else {
            return Ok(None);
        };
        let place = row::decode_place(id.sequence(), &value).ok_or_else(|| bad(&record))?;
        let value = match place {
            Place::Scheduled(key) => {
                self.version.get(Family::Scheduled, &key::scheduled(key), &mut self.scratch)?
            }
            Place::Ready { destination, lane, position } => {
                let key = key::ready(ReadyKey { destination, lane, position });
                self.version.get(Family::Ready, &key, &mut self.scratch)?
            }
        };
        Ok(value.map(|value| (place, value)))
    }

    /// Shows a message by its id, if it is there.
    fn show_by_id(
        &mut self,
        engine: &mut Engine,
        id: MessageId,
        show: impl FnOnce(&mut Engine, &Stored<'_>),
    ) -> Result<(), ShardError> {
        if let Some((place, value)) = self.find(id, engine.fired_to())? {
            let message = decode(place, engine.shard(), &value)?;
            if message.id == id {
                show(engine, &message);
            }
        }
        Ok(())
    }

    /// Hands in whatever a command needs beyond memory. Returns how often the store was asked.
    pub(super) fn prepare(
        &mut self,
        engine: &mut Engine,
        command: &Command,
    ) -> Result<usize, ShardError> {
        let mut ids = Vec::new();
        engine.missing(command, &mut ids);
        for id in &ids {
            self.show_by_id(engine, *id, |engine, row| engine.hand_in(row, command))?;
        }
        let dedups = engine.missing_dedups(command);
        for (destination, dedup) in &dedups {
            let own = row::dedup_key(*destination, dedup);
            let key = key::record(KIND_DEDUP, &own);
            if let Some(value) = self.version.get(Family::Record, &key, &mut self.scratch)? {
                engine.hand_in_dedup(&row::decode_dedup(&own, &value).ok_or_else(|| bad(&key))?);
            }
        }
        match engine.looks_at(command) {
            None => {}
            Some(Look::Topic { destination, from, limit }) => {
                let (rows, all) =
                    self.lane(destination, 0, from, u64::MAX, Window::of(limit, false))?;
                for message in stored(&rows, engine.shard())? {
                    engine.show(&message);
                }
                if all {
                    engine.shown_all_of_topic();
                }
            }
            Some(Look::Scheduled { after, to_ms, only, limit }) => {
                self.show_scheduled(engine, after, to_ms, only, limit)?;
            }
        }
        Ok(ids.len() + dedups.len())
    }

    fn show_scheduled(
        &mut self,
        engine: &mut Engine,
        after: Key,
        to_ms: u64,
        only: Option<DestinationId>,
        limit: usize,
    ) -> Result<(), ShardError> {
        let mut cursor = self.version.cursor(Family::Scheduled, &key::scheduled(after));
        let (mut shown, mut seen) = (0, 0);
        while let Some((bytes, value)) = cursor.next()? {
            let key = scheduled_key(bytes)?;
            if key <= after {
                continue;
            }
            if key.due_ms > to_ms {
                break;
            }
            let message = decode(Place::Scheduled(key), engine.shard(), value)?;
            seen += 1;
            if only.is_none_or(|only| message.destination == only) && engine.show(&message) {
                shown += 1;
            }
            if shown == limit || seen == limits::LIST_SCAN_MAX {
                engine.shown_to(key);
                break;
            }
        }
        Ok(())
    }

    /// Brings up what a replayed event is about.
    pub(super) fn prepare_replay(
        &mut self,
        engine: &mut Engine,
        event: &Event<'_>,
    ) -> Result<(), ShardError> {
        if let Some((Want::Lane { destination, lane, from }, to)) = engine.lane_for(event) {
            let mut from = from;
            loop {
                let window = Window::of(limits::THAW_LANE_MAX, false);
                let (rows, all) = self.lane(destination, lane, from, to, window)?;
                let last = stored(&rows, engine.shard())?;
                engine.thaw_lane(destination, lane, &last, false);
                match last.last().map(|row| row.place) {
                    Some(Place::Ready { position, .. }) if !all => from = position + 1,
                    _ => break,
                }
            }
        }
        match engine.missing_for(event) {
            Some(id) => self.show_by_id(engine, id, Engine::bring_up),
            None => Ok(()),
        }
    }

    /// Every dedup id there is, for comparing two shards.
    pub(super) fn all_dedups(&self) -> Result<DedupRows, ShardError> {
        let mut rows = Vec::new();
        let mut cursor = self.version.cursor(Family::Record, &[KIND_DEDUP]);
        while let Some((bytes, value)) = cursor.next()? {
            let Some((KIND_DEDUP, own)) = key::parse_record(bytes) else { break };
            rows.push((own.to_vec(), value.to_vec()));
        }
        Ok(rows)
    }

    /// Every row there is, for comparing two shards.
    pub(super) fn all(&self, shard: u16) -> Result<Rows, ShardError> {
        let mut rows = Vec::new();
        let mut cursor = self.version.cursor(Family::Scheduled, &[]);
        while let Some((bytes, value)) = cursor.next()? {
            rows.push((Place::Scheduled(scheduled_key(bytes)?), value.to_vec()));
        }
        let mut cursor = self.version.cursor(Family::Ready, &[]);
        while let Some((bytes, value)) = cursor.next()? {
            let key = key::parse_ready(bytes).ok_or_else(|| bad(bytes))?;
            let ReadyKey { destination, lane, position } = key;
            rows.push((Place::Ready { destination, lane, position }, value.to_vec()));
        }
        stored(&rows, shard)?;
        Ok(rows)
    }
}

/// Rows as messages.
pub(super) fn stored(rows: &[(Place, Vec<u8>)], shard: u16) -> Result<Vec<Stored<'_>>, ShardError> {
    rows.iter().map(|(place, value)| decode(*place, shard, value)).collect()
}

/// Rows as dedup ids.
pub(super) fn remembered(rows: &DedupRows) -> Result<Vec<Remembered<'_>>, ShardError> {
    rows.iter().map(|(key, value)| row::decode_dedup(key, value).ok_or_else(|| bad(key))).collect()
}

fn decode(place: Place, shard: u16, value: &[u8]) -> Result<Stored<'_>, ShardError> {
    row::decode(place, shard, value).ok_or_else(|| ShardError::BadRow(format!("{place:?}")))
}

fn scheduled_key(bytes: &[u8]) -> Result<Key, ShardError> {
    key::parse_scheduled(bytes).ok_or_else(|| bad(bytes))
}

fn bad(key: &[u8]) -> ShardError {
    ShardError::BadRow(format!("key {key:02x?}"))
}
