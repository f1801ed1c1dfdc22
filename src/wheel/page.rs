//! Level 0: the seconds of one hour.

use super::bag::Bag;
use super::bitmap::Bitmap;
use super::tombs::Tombs;
use crate::base::id::Key;

/// Seconds of an hour.
pub(super) const SLOTS: usize = 3600;

/// A slot a second. Invariant: a slot's bit is set exactly when its bag is not empty.
#[derive(Clone)]
pub(super) struct Page {
    slots: Vec<Bag>,
    occupied: Bitmap,
}

impl Page {
    pub(super) fn new() -> Self {
        Self { slots: vec![Bag::default(); SLOTS], occupied: Bitmap::new(SLOTS) }
    }

    /// The slot of a second, by its place within the hour.
    pub(super) fn slot_of(second: u64) -> usize {
        (second % SLOTS as u64) as usize
    }

    fn slot_of_due(due_ms: u64) -> usize {
        Self::slot_of(due_ms / 1000)
    }

    pub(super) fn push(&mut self, key: Key) {
        let at = Self::slot_of_due(key.due_ms);
        self.slots[at].push(key);
        self.occupied.set(at);
    }

    /// First slot that holds something, at `from` or behind it.
    pub(super) fn next(&self, from: usize) -> Option<usize> {
        self.occupied.next(from)
    }

    pub(super) fn bag(&self, at: usize) -> &Bag {
        &self.slots[at]
    }

    /// The bag of this due time, to note a revived key. It must not be emptied.
    pub(super) fn bag_of_mut(&mut self, due_ms: u64) -> &mut Bag {
        &mut self.slots[Self::slot_of_due(due_ms)]
    }

    pub(super) fn cancelled(&mut self, due_ms: u64, tombs: &mut Tombs) {
        let at = Self::slot_of_due(due_ms);
        self.slots[at].cancelled(due_ms, true, tombs);
        if self.slots[at].is_empty() {
            self.occupied.clear(at);
        }
    }

    /// Takes the live keys of a slot out.
    pub(super) fn empty_slot(&mut self, at: usize, tombs: &mut Tombs, each: impl FnMut(Key)) {
        if self.occupied.get(at) {
            self.slots[at].empty_into(tombs, each);
            self.occupied.clear(at);
        }
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.slots.iter().map(|bag| size_of::<Bag>() + bag.bytes()).sum()
    }
}
