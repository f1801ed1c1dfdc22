//! Live messages in memory, found by their sequence number.
//!
//! Sequences are dense when allocated and thin out as messages finish, so entries live in small
//! pages by sequence: one hash look-up per page, no id map, memory in step with what is alive.
//!
//! There are two layers: the active one, and while a flush goes on the frozen one, which nobody
//! changes. To change a frozen message is to move a copy of it up; from then on it is hidden below.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use crate::base::id::{DestinationId, Key, MessageId};
use crate::base::lifecycle::State;
use crate::base::recur::{NOT_PLANNED_MS, Plan};
use crate::base::stored::{Place, Stored};
use crate::base::time::ClockKind;

const PAGE: usize = 16;

/// What a message costs beside its content: entry, wheel key, allocation headers (bytes).
pub(super) const MESSAGE_OVERHEAD_BYTES: u64 = 128;

/// Rows that no longer count, by sequence. A message has at most one row that counts.
pub(super) type Tombs = NumberMap<u64, Place>;

/// What a tombstone costs, bytes.
pub(super) const TOMB_BYTES: u64 = 48;

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
    /// Once fired: its offset on a topic, its position in a queue. While scheduled: the due time of
    /// its key, ms, when it was put back, or 0.
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
    /// A row that says the same lies in a layer below.
    pub(super) below: bool,
    /// It was handed out at least once: it no longer stands in its lane.
    pub(super) handed: bool,
    /// It is a recurring schedule: its content begins with a plan.
    pub(super) recurring: bool,
}

impl Entry {
    /// Moves along the life-cycle table. An illegal move is a bug, found here.
    pub(super) fn become_state(&mut self, next: State) {
        assert!(self.state.may_become(next), "illegal move {:?} -> {next:?}", self.state);
        self.state = next;
    }

    /// The message of a row, as it waits.
    pub(super) fn of(row: &Stored<'_>, state: State) -> Self {
        Self {
            id_due_ms: row.id.due_ms(),
            due_ms: row.due_ms,
            expires_mono_ms: row.expires_mono_ms,
            offset: match row.place {
                Place::Scheduled(key) if key.due_ms != row.due_ms => key.due_ms,
                Place::Scheduled(_) => 0,
                Place::Ready { position, .. } => position,
            },
            content: Arc::from(row.content),
            destination: row.destination,
            lease: 0,
            failures: row.failures,
            // Each failure was an attempt. What else there was is not told by a row.
            attempts: row.failures,
            state,
            priority: row.priority,
            clock: row.clock,
            below: true,
            handed: false,
            recurring: row.recurring,
        }
    }

    /// While scheduled: where it stands in the wheel and among the rows. It is its due time, unless
    /// it was put back.
    pub(super) fn key(&self, sequence: u64) -> Key {
        let due_ms = if self.offset == 0 { self.due_ms } else { self.offset };
        Key { due_ms, sequence }
    }

    /// Where its row stands, if it has one.
    pub(super) fn place(&self, sequence: u64) -> Place {
        if self.state == State::Scheduled {
            return Place::Scheduled(self.key(sequence));
        }
        Place::Ready { destination: self.destination, lane: self.priority, position: self.offset }
    }

    /// What is told about it: when it is due or comes next, and how often it was delivered or has come.
    pub(super) fn told(&self) -> (u64, u32) {
        told(self.recurring, &self.content, self.due_ms, self.attempts)
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.content.len() as u64 + MESSAGE_OVERHEAD_BYTES
    }
}

/// See [`Entry::told`].
pub(super) fn told(recurring: bool, content: &[u8], due_ms: u64, attempts: u16) -> (u64, u32) {
    match Plan::of(content).filter(|_| recurring) {
        Some(plan) if plan.planned_ms == NOT_PLANNED_MS => (0, plan.runs),
        Some(plan) => (plan.planned_ms, plan.runs),
        None => (due_ms, u32::from(attempts)),
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
pub(super) type NumberSet = HashSet<u64, BuildHasherDefault<NumberHasher>>;

/// One layer of messages.
#[derive(Debug, Default)]
pub(super) struct Table {
    pages: NumberMap<u64, Box<Page>>,
    live: u64,
}

fn place(sequence: u64) -> (u64, usize) {
    (sequence / PAGE as u64, (sequence % PAGE as u64) as usize)
}

impl Table {
    fn insert(&mut self, sequence: u64, entry: Entry) {
        let (page, at) = place(sequence);
        let page = self.pages.entry(page).or_default();
        assert!(page.entries[at].replace(entry).is_none(), "sequence {sequence} used twice");
        page.live += 1;
        self.live += 1;
    }

    fn get(&self, sequence: u64) -> Option<&Entry> {
        let (page, at) = place(sequence);
        self.pages.get(&page)?.entries[at].as_ref()
    }

    fn get_mut(&mut self, sequence: u64) -> Option<&mut Entry> {
        let (page, at) = place(sequence);
        self.pages.get_mut(&page)?.entries[at].as_mut()
    }

    fn remove(&mut self, sequence: u64) -> Option<Entry> {
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

    /// All messages of the layer, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.pages.iter().flat_map(|(number, page)| {
            let first = number * PAGE as u64;
            (first..).zip(&page.entries).filter_map(|(at, entry)| Some((at, entry.as_ref()?)))
        })
    }
}

/// A layer that is over, to be taken apart little by little.
#[derive(Debug)]
pub(super) struct Ruins {
    pages: std::collections::hash_map::IntoIter<u64, Box<Page>>,
    /// Messages that are left.
    left: u64,
    /// What one of them takes, on average, bytes.
    each: u64,
}

impl Ruins {
    /// `bytes`: what all messages of the layer take.
    fn of(table: Arc<Table>, bytes: u64) -> Option<Self> {
        // Somebody else who still has it takes it apart.
        let Table { pages, live } = Arc::into_inner(table)?;
        Some(Self { pages: pages.into_iter(), left: live, each: bytes / live.max(1) })
    }

    /// Frees about so many messages. `false`: none is left.
    pub(super) fn clear(&mut self, messages: usize) -> bool {
        for _ in 0..messages.div_ceil(PAGE) {
            let Some((_, page)) = self.pages.next() else { return false };
            self.left -= page.live as u64;
        }
        true
    }

    /// What is left, about, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.left * self.each
    }
}

/// The layers of messages that are in memory.
#[derive(Debug, Default)]
pub(super) struct Messages {
    active: Table,
    frozen: Option<Arc<Table>>,
    /// Frozen messages that were moved up or ended since.
    hidden: NumberSet,
    /// What the others of the frozen layer take.
    frozen_bytes: u64,
}

impl Messages {
    pub(super) fn len(&self) -> u64 {
        let frozen = self.frozen.as_ref().map_or(0, |frozen| frozen.live);
        self.active.live + frozen - self.hidden.len() as u64
    }

    pub(super) fn insert(&mut self, sequence: u64, entry: Entry) {
        self.active.insert(sequence, entry);
    }

    fn frozen(&self, sequence: u64) -> Option<&Entry> {
        let entry = self.frozen.as_ref()?.get(sequence)?;
        (!self.hidden.contains(&sequence)).then_some(entry)
    }

    /// Whether a message lies in the frozen layer, untouched.
    pub(super) fn is_frozen(&self, sequence: u64) -> bool {
        self.frozen.is_some()
            && self.active.get(sequence).is_none()
            && self.frozen(sequence).is_some()
    }

    pub(super) fn get(&self, sequence: u64) -> Option<&Entry> {
        match self.active.get(sequence) {
            None if self.frozen.is_some() => self.frozen(sequence),
            found => found,
        }
    }

    /// For a change: a frozen message is moved up first.
    pub(super) fn get_mut(&mut self, sequence: u64) -> Option<&mut Entry> {
        if self.is_frozen(sequence) {
            self.move_up(sequence);
        }
        self.active.get_mut(sequence)
    }

    fn move_up(&mut self, sequence: u64) {
        let Some(entry) = self.frozen(sequence) else { return };
        // Its row is being written.
        let entry = Entry { below: true, ..entry.clone() };
        self.frozen_bytes -= entry.memory_bytes();
        self.active.insert(sequence, entry);
        self.hidden.insert(sequence);
    }

    pub(super) fn remove(&mut self, sequence: u64) -> Option<Entry> {
        if self.is_frozen(sequence) {
            self.move_up(sequence);
        }
        self.active.remove(sequence)
    }

    /// Bytes of the frozen layer that are not in the active one too.
    pub(super) fn frozen_bytes(&self) -> u64 {
        self.frozen_bytes
    }

    /// Begins a frozen layer with everything there is, `bytes` in all, save `keep`, which stays
    /// active. Returns it.
    pub(super) fn freeze(&mut self, keep: &[u64], bytes: u64) -> Arc<Table> {
        assert!(self.frozen.is_none(), "one flush at a time");
        self.frozen_bytes = bytes;
        let mut table = std::mem::take(&mut self.active);
        for &sequence in keep {
            if let Some(entry) = table.remove(sequence) {
                self.frozen_bytes -= entry.memory_bytes();
                self.active.insert(sequence, entry);
            }
        }
        let table = Arc::new(table);
        self.frozen = Some(table.clone());
        table
    }

    /// Ends the frozen layer. What is left of it has its rows below now.
    pub(super) fn drop_frozen(&mut self) -> Option<Ruins> {
        self.hidden = NumberSet::default();
        let bytes = std::mem::take(&mut self.frozen_bytes);
        Ruins::of(self.frozen.take()?, bytes)
    }

    /// Sequences of all live messages in memory, ascending.
    pub(super) fn sequences(&self) -> Vec<u64> {
        let frozen = self.frozen.iter().flat_map(|table| table.iter());
        let frozen = frozen.map(|(sequence, _)| sequence).filter(|s| !self.hidden.contains(s));
        let mut all: Vec<u64> = self.active.iter().map(|(sequence, _)| sequence).collect();
        all.extend(frozen);
        all.sort_unstable();
        all
    }
}

/// How finished messages ended: a ring by sequence, so exact answers cost no map and no scan.
#[derive(Debug, Clone)]
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
