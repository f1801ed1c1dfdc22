//! A slot: an unordered bag of keys that grows without ever being copied as a whole.

use super::tombs::Tombs;
use crate::base::id::Key;

/// Keys of a full chunk (64 KiB). A bag with more is a list of chunks: no doubling, so no stall
/// and no slack that grows with it, and memory goes back chunk by chunk while it is emptied.
const CHUNK: usize = 4096;
/// Capacity in keys that an emptied bag keeps for its next turn (1 KiB).
const KEEP: usize = 64;
/// With fewer dead keys than this a bag is not rewritten, unless nothing in it lives.
const DEAD_MIN: u32 = 64;

/// Keys in no order, live and dead.
///
/// Invariants: `min` is at most the due time of each live key. When `at_min` is not 0, a live key
/// is due at `min`. `dead` is at least the number of dead keys: it may count too many, never too
/// few. A bag that is not empty holds a live key.
#[derive(Clone)]
pub(super) struct Bag {
    tail: Vec<Key>,
    /// Each exactly [`CHUNK`] long.
    full: Vec<Vec<Key>>,
    min: u64,
    at_min: u32,
    dead: u32,
}

impl Default for Bag {
    fn default() -> Self {
        Self { tail: Vec::new(), full: Vec::new(), min: u64::MAX, at_min: 0, dead: 0 }
    }
}

impl Bag {
    /// Keys inside, dead ones included.
    pub(super) fn len(&self) -> usize {
        self.full.len() * CHUNK + self.tail.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tail.is_empty() && self.full.is_empty()
    }

    /// Earliest due time: see the invariants. `u64::MAX` when empty.
    pub(super) fn min(&self) -> u64 {
        self.min
    }

    /// Whether no key inside can be dead.
    pub(super) fn all_live(&self) -> bool {
        self.dead == 0
    }

    pub(super) fn push(&mut self, key: Key) {
        if self.tail.len() == self.tail.capacity() || self.tail.len() == CHUNK {
            self.make_room();
        }
        self.tail.push(key);
        self.note_live(key.due_ms);
    }

    /// By halves, not by doubling: a quarter of slack on average.
    #[cold]
    fn make_room(&mut self) {
        let len = self.tail.len();
        if len >= CHUNK {
            self.full.push(std::mem::replace(&mut self.tail, Vec::with_capacity(CHUNK)));
        } else {
            self.tail.reserve_exact((len / 2).max(4).min(CHUNK - len));
        }
    }

    /// A key inside is live now and was not counted before.
    pub(super) fn note_live(&mut self, due_ms: u64) {
        if due_ms < self.min {
            (self.min, self.at_min) = (due_ms, 1);
        } else if due_ms == self.min {
            self.at_min = self.at_min.saturating_add(1);
        }
    }

    /// A key inside may be live now: lowers `min` to be safe and finds the true one.
    pub(super) fn note_perhaps_live(&mut self, due_ms: u64, tombs: &Tombs) {
        if due_ms <= self.min && !self.is_empty() {
            self.min = due_ms;
            self.find_min(tombs);
        }
    }

    /// A key due then, perhaps inside, has got a tombstone. With `exact`, `min` is a live key's
    /// due time afterwards. Cost: amortised O(1), except that with `exact` the end of the last
    /// key of the first ms costs a pass over the bag, about 1 ns a key; there are at most 1000.
    pub(super) fn cancelled(&mut self, due_ms: u64, exact: bool, tombs: &mut Tombs) {
        self.dead = self.dead.saturating_add(1);
        if due_ms == self.min {
            self.at_min = self.at_min.saturating_sub(1);
        }
        let (dead, len) = (self.dead as usize, self.len());
        if dead >= len || (self.dead > DEAD_MIN && dead * 2 > len) {
            self.compact(tombs);
        } else if exact && self.at_min == 0 {
            self.find_min(tombs);
        }
    }

    fn compact(&mut self, tombs: &mut Tombs) {
        let old = std::mem::take(self);
        for chunk in old.full.into_iter().chain([old.tail]) {
            for key in chunk {
                if !tombs.remove(&key) {
                    self.push(key);
                }
            }
        }
    }

    /// Relies on `min` being a lower bound: what is below it is dead and needs no look-up.
    fn find_min(&mut self, tombs: &Tombs) {
        let (mut best, mut count) = (u64::MAX, 0);
        for key in self.iter() {
            if key.due_ms >= self.min && key.due_ms <= best && !tombs.contains(key) {
                count = if key.due_ms == best { count + 1 } else { 1 };
                best = key.due_ms;
            }
        }
        (self.min, self.at_min) = (best, count);
    }

    /// The key inside, dead or live, if there is just one.
    pub(super) fn only(&self) -> Option<Key> {
        if let [key] = self.tail[..]
            && self.full.is_empty()
        {
            Some(key)
        } else {
            None
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Key> {
        self.full.iter().flatten().chain(&self.tail)
    }

    /// Takes out up to so many keys, any of them, the live ones to `each`. `min` stays the bound
    /// it was.
    pub(super) fn take_some(&mut self, most: usize, tombs: &mut Tombs, mut each: impl FnMut(Key)) {
        for _ in 0..most {
            let Some(key) = self.pop() else { break };
            if self.dead > 0 && tombs.remove(&key) {
                self.dead -= 1;
            } else {
                each(key);
            }
        }
        if self.dead as usize >= self.len() {
            self.compact(tombs);
        }
    }

    fn pop(&mut self) -> Option<Key> {
        if self.tail.is_empty() {
            self.tail = self.full.pop()?;
        }
        self.tail.pop()
    }

    /// Takes out everything, live keys to `each`, and keeps a little capacity.
    pub(super) fn empty_into(&mut self, tombs: &mut Tombs, mut each: impl FnMut(Key)) {
        let all_live = self.all_live();
        let mut live = |key: Key| {
            if all_live || !tombs.remove(&key) {
                each(key);
            }
        };
        for chunk in std::mem::take(&mut self.full) {
            chunk.into_iter().for_each(&mut live);
        }
        self.tail.drain(..).for_each(&mut live);
        if self.tail.capacity() > KEEP {
            self.tail = Vec::new();
        }
        (self.min, self.at_min, self.dead) = (u64::MAX, 0, 0);
    }

    /// Bytes held outside the bag itself.
    pub(super) fn bytes(&self) -> usize {
        self.full.capacity() * size_of::<Vec<Key>>()
            + (self.full.len() * CHUNK + self.tail.capacity()) * size_of::<Key>()
    }
}
