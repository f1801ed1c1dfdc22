//! What a flush has to write, as the thread that writes it sees it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::destination::Kind;
use crate::base::event::{BatchMeta, Event};
use crate::base::id::{DestinationId, Key, MessageId};
use crate::base::lifecycle::State;
use crate::base::stored::{Place, Remembered, Stored};

use super::alive::Alive;
use super::dedup;
use super::destinations::Kinds;
use super::messages::{Entry, Outcomes, Table, Tombs};

/// Everything alive at one moment. Immutable; made to be read on
/// another thread.
#[derive(Debug)]
pub struct Frozen {
    pub(super) table: Arc<Table>,
    pub(super) tombs: Arc<Tombs>,
    pub(super) dedups: Arc<dedup::Layer>,
    pub(super) outcomes: Outcomes,
    pub(super) open: Vec<(u64, Entry)>,
    pub(super) kinds: Arc<Kinds>,
    pub(super) marks: BTreeMap<(DestinationId, u8), u64>,
    pub(super) purged: BTreeMap<DestinationId, u64>,
    pub(super) alive: Arc<Alive>,
    pub(super) chunks: Vec<TopicChunk>,
    pub(super) state: Vec<u8>,
    pub(super) meta: BatchMeta,
    pub(super) shard: u16,
}

/// Neighbouring messages of a topic that a flush writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicChunk {
    /// Which topic.
    pub destination: DestinationId,
    /// First offset.
    pub from: u64,
    /// Just past the last offset.
    pub end: u64,
    /// Content bytes.
    pub bytes: u64,
    /// When the youngest came, on the monotonic line, ms.
    pub since_mono_ms: u64,
}

/// A row to be written: the message, or that there is none any more. Small, because a flush sorts
/// very many of them.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Where it stands.
    pub place: Place,
    /// Which message, by its sequence.
    pub sequence: u64,
    /// `None`: a tombstone.
    entry: Option<&'a Entry>,
}

impl Frozen {
    /// What the checkpoint says beside its events.
    #[must_use]
    pub fn meta(&self) -> BatchMeta {
        self.meta
    }

    /// The scheduled rows and the ready rows, each in order.
    #[must_use]
    pub fn rows(&self) -> (Vec<Row<'_>>, Vec<Row<'_>>) {
        let mut rows: (Vec<Row<'_>>, Vec<Row<'_>>) = (Vec::new(), Vec::new());
        self.collect(&mut |row| match row.place {
            Place::Scheduled(_) => rows.0.push(row),
            Place::Ready { .. } => rows.1.push(row),
        });
        for rows in [&mut rows.0, &mut rows.1] {
            // Of a row that ended and came back at the same place, the one that came back counts.
            rows.sort_unstable_by_key(|row| (row.place, row.entry.is_none()));
            rows.dedup_by_key(|row| row.place);
        }
        rows
    }

    /// The rows that the message with this sequence cannot be found by its id: those are written
    /// once more by sequence.
    #[must_use]
    pub fn places(rows: &[Row<'_>]) -> Vec<(u64, Place)> {
        let hidden = |row: &Row<'_>| {
            let due_ms = row.entry?.id_due_ms;
            let by_id = Place::Scheduled(Key { due_ms, sequence: row.sequence });
            (row.place != by_id).then_some((row.sequence, row.place))
        };
        let mut places: Vec<_> = rows.iter().filter_map(hidden).collect();
        places.sort_unstable_by_key(|(sequence, _)| *sequence);
        places
    }

    /// The dedup ids to be written, in order: those still remembered, of destinations there are.
    pub fn dedups(&self) -> impl Iterator<Item = Remembered<'_>> {
        self.dedups.iter().filter(|row| {
            let there = self.kinds.get(row.destination).is_some();
            row.until_mono_ms > self.meta.now.mono_ms && there
        })
    }

    fn collect<'a>(&'a self, add: &mut dyn FnMut(Row<'a>)) {
        for (sequence, entry) in self.table.iter() {
            // A row that says the same lies below already.
            if entry.below {
                continue;
            }
            let kind = self.kinds.get(entry.destination);
            let Some(kind) = kind else { continue };
            let place = match entry.place(sequence) {
                Place::Ready { destination, position, .. } if !kind.is_queue() => {
                    Place::Ready { destination, lane: 0, position }
                }
                place => place,
            };
            add(Row { place, sequence, entry: Some(entry) });
        }
        for (&sequence, &place) in &*self.tombs {
            let counts = match place {
                Place::Scheduled(key) => key > self.meta.fired_to,
                Place::Ready { destination, lane, position } => {
                    let handed_to = self.marks.get(&(destination, lane));
                    handed_to.is_none_or(|handed_to| position > *handed_to)
                }
            };
            if counts {
                add(Row { place, sequence, entry: None });
            }
        }
    }

    /// Has the contents of these rows fetched into the processor's caches, all at once: in order of
    /// due time they lie anywhere in memory, and one after the other each would be waited for.
    pub fn touch(rows: &[Row<'_>]) {
        let mut sum = 0;
        for content in rows.iter().filter_map(|row| Some(&row.entry?.content)) {
            sum += content.len();
        }
        for content in rows.iter().filter_map(|row| Some(&row.entry?.content)) {
            sum += usize::from(content.first().copied().unwrap_or(0));
            sum += usize::from(content.get(64).copied().unwrap_or(0));
        }
        std::hint::black_box(sum);
    }

    /// What a row says; `None`: it is a tombstone.
    #[must_use]
    pub fn message<'a>(&self, row: &Row<'a>) -> Option<Stored<'a>> {
        let entry = row.entry?;
        Some(Stored {
            place: row.place,
            id: MessageId::new(entry.id_due_ms, self.shard, row.sequence),
            destination: entry.destination,
            due_ms: entry.due_ms,
            clock: entry.clock,
            priority: entry.priority,
            expires_mono_ms: entry.expires_mono_ms,
            failures: entry.failures,
            recurring: entry.recurring,
            content: &entry.content,
        })
    }

    /// The topics' chunks with their bytes.
    #[must_use]
    pub fn chunks(&self, ready: &[Row<'_>]) -> Vec<TopicChunk> {
        let mut chunks = self.chunks.clone();
        let mut at = 0;
        for row in ready {
            let (Place::Ready { destination, position, .. }, Some(entry)) = (row.place, row.entry)
            else {
                continue;
            };
            // Both are in order of (destination, offset).
            while chunks.get(at).is_some_and(|c| (c.destination, c.end) <= (destination, position))
            {
                at += 1;
            }
            if let Some(chunk) = chunks.get_mut(at)
                && chunk.destination == destination
            {
                chunk.bytes += entry.content.len() as u64;
            }
        }
        chunks
    }

    /// The checkpoint: events that, applied in order to [`super::Engine::from_checkpoint`], give the
    /// state but for what lies in the store. `chunks` are those of [`Frozen::chunks`].
    #[must_use]
    pub fn checkpoint(
        &self,
        chunks: &[TopicChunk],
        encode: &dyn Fn(&Event<'_>, &mut Vec<u8>),
    ) -> Vec<u8> {
        let mut out = self.state.clone();
        for chunk in chunks {
            let TopicChunk { destination, end, bytes, since_mono_ms, .. } = *chunk;
            encode(&Event::ChunkRestored { destination, end, bytes, since_mono_ms }, &mut out);
        }
        for (sequence, entry) in &self.open {
            let state = match self.kinds.get(entry.destination) {
                Some(Kind::DeadLetter) => State::Dead,
                _ => State::Ready,
            };
            let open = Event::Restored {
                id: MessageId::new(entry.id_due_ms, self.shard, *sequence),
                destination: entry.destination,
                due_ms: entry.due_ms,
                state,
                priority: entry.priority,
                clock: entry.clock,
                recurring: entry.recurring,
                expires_mono_ms: entry.expires_mono_ms,
                failures: entry.failures,
                offset: entry.offset,
                content: &entry.content,
            };
            encode(&open, &mut out);
        }
        for (key, state) in self.outcomes.all() {
            let id = MessageId::new(key.due_ms, self.shard, key.sequence);
            encode(&Event::Finished { id, state }, &mut out);
        }
        out
    }

    /// Up to where each lane was handed out, each topic trimmed: what merges may leave out.
    #[must_use]
    pub fn consumed(&self) -> &BTreeMap<(DestinationId, u8), u64> {
        &self.marks
    }

    /// Scheduled messages of these destinations with a sequence below have been purged: merges may
    /// leave them out.
    #[must_use]
    pub fn purged(&self) -> &BTreeMap<DestinationId, u64> {
        &self.purged
    }

    /// What of the store is alive once it is written.
    #[must_use]
    pub fn alive(&self) -> &Arc<Alive> {
        &self.alive
    }

    /// Which destinations there are.
    #[must_use]
    pub fn kinds(&self) -> &Arc<Kinds> {
        &self.kinds
    }
}
