//! Every live message, found by its sequence number.
//!
//! Sequences are dense when allocated and thin out as messages finish, so entries live in small
//! pages by sequence: one hash look-up per page, no id map, memory in step with what is alive.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use crate::base::id::{DestinationId, Key, MessageId};
use crate::base::lifecycle::State;
use crate::base::time::ClockKind;

const PAGE: usize = 16;

/// What a message costs beside its content: entry, wheel key, allocation headers (bytes).
pub(super) const MESSAGE_OVERHEAD_BYTES: u64 = 128;

/// A subscription slot of this run; meaningful only while a message is in flight.
pub(super) type SlotId = u32;

/// A live message. The sequence is where it is kept.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The due time its id carries, ms.
    pub(super) id_due_ms: u64,
    /// Current due time, ms.
    pub(super) due_ms: u64,
    /// Expiry on the monotonic line, ms; 0 never.
    pub(super) expires_mono_ms: u64,
    /// Offset on a topic once fired.
    pub(super) offset: u64,
    pub(super) content: Arc<[u8]>,
    pub(super) destination: DestinationId,
    /// Who holds it, while in flight.
    pub(super) lease: SlotId,
    /// Failed deliveries; durable.
    pub(super) failures: u16,
    /// Deliveries so far; known for this run only.
    pub(super) attempts: u16,
    pub(super) state: State,
    pub(super) priority: u8,
    pub(super) clock: ClockKind,
}

impl Entry {
    /// Moves along the life-cycle table. An illegal move is a bug, found here.
    pub(super) fn become_state(&mut self, next: State) {
        assert!(self.state.may_become(next), "illegal move {:?} -> {next:?}", self.state);
        self.state = next;
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.content.len() as u64 + MESSAGE_OVERHEAD_BYTES
    }
}

#[derive(Debug, Default)]
struct Page {
    entries: [Option<Entry>; PAGE],
    live: usize,
}

/// Hashes numbers that the engine itself hands out, so no client can aim at collisions; fixed, so
/// two runs over the same journal behave the same.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }
    fn write_u64(&mut self, value: u64) {
        // Fibonacci hashing, then a fold: the map takes its bucket from one end of the word and
        // its tag from the other.
        let mixed = (self.0 ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

pub(super) type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// The table of live messages.
#[derive(Debug, Default)]
pub(super) struct Messages {
    pages: NumberMap<u64, Box<Page>>,
    live: u64,
}

fn place(sequence: u64) -> (u64, usize) {
    (sequence / PAGE as u64, (sequence % PAGE as u64) as usize)
}

impl Messages {
    pub(super) fn len(&self) -> u64 {
        self.live
    }

    pub(super) fn insert(&mut self, sequence: u64, entry: Entry) {
        let (page, at) = place(sequence);
        let page = self.pages.entry(page).or_default();
        assert!(page.entries[at].replace(entry).is_none(), "sequence {sequence} used twice");
        page.live += 1;
        self.live += 1;
    }

    pub(super) fn get(&self, sequence: u64) -> Option<&Entry> {
        let (page, at) = place(sequence);
        self.pages.get(&page)?.entries[at].as_ref()
    }

    pub(super) fn get_mut(&mut self, sequence: u64) -> Option<&mut Entry> {
        let (page, at) = place(sequence);
        self.pages.get_mut(&page)?.entries[at].as_mut()
    }

    pub(super) fn remove(&mut self, sequence: u64) -> Option<Entry> {
        let (number, at) = place(sequence);
        let page = self.pages.get_mut(&number)?;
        let entry = page.entries[at].take()?;
        page.live -= 1;
        if page.live == 0 {
            self.pages.remove(&number);
        }
        self.live -= 1;
        Some(entry)
    }

    /// Sequences of all live messages, ascending.
    pub(super) fn sequences(&self) -> Vec<u64> {
        let mut all = Vec::with_capacity(self.live as usize);
        for (number, page) in &self.pages {
            for (at, entry) in page.entries.iter().enumerate() {
                if entry.is_some() {
                    all.push(number * PAGE as u64 + at as u64);
                }
            }
        }
        all.sort_unstable();
        all
    }
}

/// How finished messages ended: a ring by sequence, so exact answers cost no map and no scan.
#[derive(Debug)]
pub(super) struct Outcomes {
    ring: Vec<(Key, Option<State>)>,
}

impl Outcomes {
    pub(super) fn new(slots: usize) -> Self {
        Self { ring: vec![(Key::default(), None); slots] }
    }

    pub(super) fn set(&mut self, id: MessageId, state: State) {
        let slots = self.ring.len() as u64;
        let key = Key { due_ms: id.due_ms(), sequence: id.sequence() };
        self.ring[(key.sequence % slots) as usize] = (key, Some(state));
    }

    pub(super) fn get(&self, id: MessageId) -> Option<State> {
        let slots = self.ring.len() as u64;
        let (key, state) = self.ring[(id.sequence() % slots) as usize];
        (key == Key { due_ms: id.due_ms(), sequence: id.sequence() }).then_some(state)?
    }

    /// All remembered outcomes, by sequence.
    pub(super) fn all(&self) -> Vec<(Key, State)> {
        let mut all: Vec<_> =
            self.ring.iter().filter_map(|(key, state)| state.map(|s| (*key, s))).collect();
        all.sort_unstable_by_key(|(key, _)| key.sequence);
        all
    }
}
