//! Deduplication ids: which were used, with which message, until when.
//!
//! They lie in layers as messages do: what came since the last freeze, what a flush writes just now,
//! and rows of the store. Nothing is ever read back: a row is looked up for one command, and what
//! is past its time dies where it lies.

use std::collections::{BTreeMap, VecDeque, btree_map};
use std::sync::Arc;

use crate::base::command::Command;
use crate::base::id::{DestinationId, MessageId};
use crate::base::limits;
use crate::base::stored::Remembered;

use super::Engine;

/// What an id costs in memory beside its bytes: two map entries and an allocation.
const OVERHEAD_BYTES: u64 = 144;

/// Of one destination: the message each id stands for, and until when.
type Seen = BTreeMap<Arc<[u8]>, (MessageId, u64)>;

/// One layer. Ordered maps only: ids that clients choose must not be able to aim at a fixed hash.
#[derive(Debug, Default)]
pub(super) struct Layer {
    seen: BTreeMap<DestinationId, Seen>,
    /// The same ids, by the end of their time.
    by_expiry: VecDeque<(u64, DestinationId, Arc<[u8]>)>,
    bytes: u64,
}

impl Layer {
    fn get(&self, to: DestinationId, dedup: &[u8]) -> Option<(MessageId, u64)> {
        self.seen.get(&to)?.get(dedup).copied()
    }

    /// What the ids stand for, in the order of their rows.
    pub(super) fn iter(&self) -> impl Iterator<Item = Remembered<'_>> {
        self.seen.iter().flat_map(|(&destination, seen)| {
            seen.iter().map(move |(dedup, &(id, until_mono_ms))| Remembered {
                destination,
                dedup,
                id,
                until_mono_ms,
            })
        })
    }
}

/// A layer that is over, to be taken apart little by little.
#[derive(Debug)]
pub(super) struct Ruins {
    destinations: btree_map::IntoIter<DestinationId, Seen>,
    seen: btree_map::IntoIter<Arc<[u8]>, (MessageId, u64)>,
    by_expiry: VecDeque<(u64, DestinationId, Arc<[u8]>)>,
}

impl Ruins {
    pub(super) fn of(layer: Arc<Layer>) -> Option<Self> {
        // Somebody else who still has it takes it apart.
        let Layer { seen, by_expiry, .. } = Arc::into_inner(layer)?;
        Some(Self { destinations: seen.into_iter(), seen: Seen::new().into_iter(), by_expiry })
    }

    /// Frees so many ids. `false`: none is left.
    pub(super) fn clear(&mut self, ids: usize) -> bool {
        for _ in 0..ids {
            self.by_expiry.pop_front();
            if self.seen.next().is_none() {
                match self.destinations.next() {
                    Some((_, seen)) => self.seen = seen.into_iter(),
                    None => return !self.by_expiry.is_empty(),
                }
            }
        }
        true
    }
}

/// The layers that are in memory.
#[derive(Debug)]
pub(super) struct Dedup {
    active: Layer,
    frozen: Option<Arc<Layer>>,
    /// Rows looked up for the command that is carried out.
    found: BTreeMap<DestinationId, Seen>,
    /// Of so many ids of the active layer the oldest is forgotten for a new one.
    most: usize,
}

impl Dedup {
    pub(super) fn new(most: usize) -> Self {
        Self { active: Layer::default(), frozen: None, found: BTreeMap::new(), most }
    }

    fn in_memory(&self, to: DestinationId, dedup: &[u8]) -> Option<(MessageId, u64)> {
        let frozen = || self.frozen.as_ref()?.get(to, dedup);
        self.active.get(to, dedup).or_else(frozen)
    }

    /// The message a dedup id stands for, if it is still remembered at `mono_ms`.
    pub(super) fn get(&self, to: DestinationId, dedup: &[u8], mono_ms: u64) -> Option<MessageId> {
        let found = || self.found.get(&to)?.get(dedup).copied();
        let (id, until) = self.in_memory(to, dedup).or_else(found)?;
        (until > mono_ms).then_some(id)
    }

    /// Remembers one, and forgets what is past its time or beyond the bound.
    pub(super) fn remember(&mut self, new: &Remembered<'_>, now_mono_ms: u64) {
        let Remembered { destination, dedup, id, until_mono_ms } = *new;
        let key: Arc<[u8]> = Arc::from(dedup);
        let Layer { seen, by_expiry, bytes } = &mut self.active;
        seen.entry(destination).or_default().insert(key.clone(), (id, until_mono_ms));
        by_expiry.push_back((until_mono_ms, destination, key));
        *bytes += cost(dedup);
        while let Some((until, destination, key)) = by_expiry.front() {
            if *until > now_mono_ms && by_expiry.len() <= self.most {
                break;
            }
            if let Some(theirs) = seen.get_mut(destination) {
                // An id used again after its time has a newer entry, which stays.
                if theirs.get(key).is_some_and(|(_, newest)| newest == until) {
                    theirs.remove(key);
                }
                if theirs.is_empty() {
                    seen.remove(destination);
                }
            }
            *bytes -= cost(key);
            by_expiry.pop_front();
        }
    }

    /// Begins a frozen layer with everything there is. Returns it.
    pub(super) fn freeze(&mut self) -> Arc<Layer> {
        assert!(self.frozen.is_none(), "one flush at a time");
        let layer = Arc::new(std::mem::take(&mut self.active));
        self.frozen = Some(layer.clone());
        layer
    }

    /// Ends the frozen layer: its rows lie below now.
    pub(super) fn drop_frozen(&mut self) -> Option<Arc<Layer>> {
        self.frozen.take()
    }

    pub(super) fn forget_found(&mut self) {
        self.found.clear();
    }

    /// Ids since the last freeze.
    pub(super) fn active_len(&self) -> usize {
        self.active.by_expiry.len()
    }

    /// What the ids since the last freeze take, bytes.
    pub(super) fn active_bytes(&self) -> u64 {
        self.active.bytes
    }

    /// What all ids in memory take, bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.active.bytes + self.frozen.as_ref().map_or(0, |frozen| frozen.bytes)
    }
}

fn cost(dedup: &[u8]) -> u64 {
    dedup.len() as u64 + OVERHEAD_BYTES
}

impl Engine {
    /// The dedup ids of `command` that may have a row in the store, in the order of the rows: they
    /// are to be looked up and handed in before it is executed.
    #[must_use]
    pub fn missing_dedups(&self, command: &Command) -> Vec<(DestinationId, Vec<u8>)> {
        let mut missing: Vec<_> = Vec::new();
        for (destination, batch) in command.batches().filter(|_| self.below_sequence > 0) {
            let Some(to) = self.known(destination) else { continue };
            let dedups = batch.iter().filter_map(|message| message.dedup);
            // Others are refused.
            let dedups = dedups.filter(|id| (1..=limits::DEDUP_BYTES_MAX).contains(&id.len()));
            let dedups = dedups.filter(|id| self.dedup.in_memory(to, id).is_none());
            missing.extend(dedups.map(|dedup| (to, dedup.to_vec())));
        }
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    /// The destination with this name, if there is one.
    fn known(&self, name: &[u8]) -> Option<DestinationId> {
        match &self.last_named {
            Some((last, id)) if last.as_bytes() == name => Some(*id),
            _ => self.names.get(std::str::from_utf8(name).ok()?).copied(),
        }
    }

    /// Hands in a dedup id that was looked up for a command, until [`Engine::forget_found`].
    pub fn hand_in_dedup(&mut self, row: &Remembered<'_>) {
        let found = self.dedup.found.entry(row.destination).or_default();
        found.insert(Arc::from(row.dedup), (row.id, row.until_mono_ms));
    }

    /// Whether so many dedup ids are in memory that they should be written out.
    #[must_use]
    pub fn has_many_dedups(&self) -> bool {
        self.dedup.active_len() >= limits::DEDUP_ENTRIES_MAX
    }

    /// Every dedup id that is remembered at `mono_ms`, in one order that does not depend on where
    /// they lie: `below` are all rows of the store. For comparing engines; walks everything.
    #[must_use]
    pub fn dedups<'a>(&'a self, below: &[Remembered<'a>], mono_ms: u64) -> Vec<Remembered<'a>> {
        let frozen = self.dedup.frozen.iter().flat_map(|layer| layer.iter());
        let all = below.iter().copied().chain(frozen).chain(self.dedup.active.iter());
        // Of one id the highest layer counts.
        let newest: BTreeMap<_, _> = all.map(|row| ((row.destination, row.dedup), row)).collect();
        let counts = |row: &Remembered<'_>| {
            row.until_mono_ms > mono_ms && self.destination(row.destination).is_some()
        };
        newest.into_values().filter(counts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: DestinationId = DestinationId(1);

    fn row(dedup: &'static [u8], sequence: u64, until_mono_ms: u64) -> Remembered<'static> {
        let id = MessageId::new(7, 0, sequence);
        Remembered { destination: TO, dedup, id, until_mono_ms }
    }

    /// Goal: an id is found in the highest layer that has it, for its time. Method: one id a layer,
    /// and one that was used again in each after its time.
    #[test]
    fn the_highest_layer_counts_and_all_of_them_for_their_time() {
        let mut dedup = Dedup::new(10);
        dedup.remember(&row(b"frozen", 1, 100), 0);
        dedup.remember(&row(b"again", 2, 100), 0);
        let written = dedup.freeze();
        dedup.remember(&row(b"active", 3, 300), 200);
        dedup.remember(&row(b"again", 4, 300), 200);
        let found = dedup.found.entry(TO).or_default();
        found.insert(Arc::from(&b"below"[..]), (row(b"", 5, 0).id, 300));
        found.insert(Arc::from(&b"again"[..]), (row(b"", 6, 0).id, 50));
        let at = |dedup: &Dedup, key: &[u8], ms| dedup.get(TO, key, ms).map(MessageId::sequence);
        assert_eq!([99, 100].map(|ms| at(&dedup, b"frozen", ms)), [Some(1), None]);
        assert_eq!([299, 300].map(|ms| at(&dedup, b"active", ms)), [Some(3), None]);
        assert_eq!([299, 300].map(|ms| at(&dedup, b"below", ms)), [Some(5), None]);
        assert_eq!(at(&dedup, b"again", 40), Some(4));
        assert_eq!(dedup.get(DestinationId(2), b"active", 0), None);
        let rows: Vec<_> = written.iter().map(|row| row.dedup).collect();
        assert_eq!(rows, [&b"again"[..], b"frozen"], "in the order of their rows");
        dedup.forget_found();
        assert_eq!(at(&dedup, b"below", 0), None);
        drop(dedup.drop_frozen());
        assert_eq!(at(&dedup, b"frozen", 0), None, "looked up from now on");
    }

    /// Goal: memory is given back, by time and at the hard end. Method: more ids than the bound,
    /// then time; the count and the bytes are compared with what is left.
    #[test]
    fn the_oldest_is_forgotten_at_the_bound_and_what_is_past_its_time_before() {
        let mut dedup = Dedup::new(3);
        for (sequence, key) in (1..).zip([&b"a"[..], b"bb", b"ccc"]) {
            dedup.remember(&row(key, sequence, 100 + sequence), 0);
        }
        assert_eq!((dedup.active_len(), dedup.bytes()), (3, 3 * OVERHEAD_BYTES + 6));
        assert!(dedup.get(TO, b"a", 0).is_some(), "at the bound nothing is forgotten");
        dedup.remember(&row(b"dddd", 4, 104), 0);
        assert_eq!((dedup.active_len(), dedup.bytes()), (3, 3 * OVERHEAD_BYTES + 9));
        assert!(dedup.get(TO, b"a", 0).is_none() && dedup.get(TO, b"bb", 0).is_some());
        dedup.remember(&row(b"bb", 5, 300), 103);
        assert_eq!(dedup.active_len(), 2, "two were past their time");
        assert_eq!(dedup.get(TO, b"bb", 200).map(MessageId::sequence), Some(5));
        let frozen = dedup.freeze();
        assert_eq!((dedup.active_len(), dedup.active_bytes()), (0, 0));
        assert_eq!(dedup.bytes(), frozen.bytes);
        drop(dedup.drop_frozen());
        assert_eq!(dedup.bytes(), 0);
    }

    /// Goal: what a flush leaves is freed in small parts, all of it. Method: more ids than destinations
    /// and the other way round; an id is gone when nobody else has it.
    #[test]
    fn a_layer_is_taken_apart_little_by_little() {
        for destinations in [1, 2, 7, 50] {
            let mut dedup = Dedup::new(100);
            for n in 0..50u8 {
                let destination = DestinationId(u32::from(n) % destinations);
                dedup.remember(&Remembered { destination, dedup: &[n], ..row(b"", 1, 9) }, 0);
            }
            dedup.freeze();
            let layer = dedup.drop_frozen().unwrap();
            let key = layer.by_expiry[49].2.clone();
            let mut ruins = Ruins::of(layer).unwrap();
            let parts = (0..1_000).take_while(|_| ruins.clear(3)).count();
            assert!((16..=35).contains(&parts), "{parts} parts");
            assert_eq!(Arc::strong_count(&key), 1);
        }
    }
}
