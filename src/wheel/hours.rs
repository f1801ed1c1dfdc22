//! Level 1: the hours behind the next one, and what lies beyond 40 days.

use std::collections::BTreeMap;

use super::bag::Bag;
use super::bitmap::Bitmap;
use super::tombs::Tombs;
use crate::base::id::Key;
use crate::base::time::DELAY_MAX_MS;

/// Milliseconds of an hour.
pub(super) const HOUR_MS: u64 = 3_600_000;
/// Hours of the longest delay.
pub(super) const SLOTS: u64 = DELAY_MAX_MS / HOUR_MS;

const _: () = assert!(SLOTS == 960);

/// A bag an hour. Hours from `base + 2` to `base + 960` are in slots, later ones in `far`; the
/// hours `base` and `base + 1` are in level 0.
///
/// Invariants: a slot's bit is set exactly when its bag is not empty; no bag in `far` is empty,
/// and all of them are later than each slot.
#[derive(Clone)]
pub(super) struct Hours {
    base: u64,
    slots: Vec<Bag>,
    occupied: Bitmap,
    far: BTreeMap<u64, Bag>,
}

impl Hours {
    pub(super) fn new(base: u64) -> Self {
        Self {
            base,
            slots: vec![Bag::default(); SLOTS as usize],
            occupied: Bitmap::new(SLOTS as usize),
            far: BTreeMap::new(),
        }
    }

    fn in_slots(&self, hour: u64) -> bool {
        hour <= self.base + SLOTS
    }

    fn slot_of(hour: u64) -> usize {
        (hour % SLOTS) as usize
    }

    pub(super) fn push(&mut self, key: Key) {
        let hour = key.due_ms / HOUR_MS;
        if self.in_slots(hour) {
            let at = Self::slot_of(hour);
            self.slots[at].push(key);
            self.occupied.set(at);
        } else {
            self.far.entry(hour).or_default().push(key);
        }
    }

    pub(super) fn cancelled(&mut self, due_ms: u64, tombs: &mut Tombs) {
        let hour = due_ms / HOUR_MS;
        if self.in_slots(hour) {
            let at = Self::slot_of(hour);
            self.slots[at].cancelled(due_ms, false, tombs);
            if self.slots[at].is_empty() {
                self.occupied.clear(at);
            }
        } else if let Some(bag) = self.far.get_mut(&hour) {
            bag.cancelled(due_ms, false, tombs);
            if bag.is_empty() {
                self.far.remove(&hour);
            }
        }
    }

    /// The first hour at `from` or later that holds something, and its bag.
    pub(super) fn next(&self, from: u64) -> Option<(u64, &Bag)> {
        let first = self.base + 2;
        let from = from.max(first);
        if self.in_slots(from) {
            // The ring holds each hour of its window at its own place: search to the end of the
            // array, then from its beginning, and drop a find from before `from`.
            let at = Self::slot_of(from);
            let found = self.occupied.next(at).or_else(|| self.occupied.next(0));
            if let Some(found) = found {
                let hour = from + (found as u64 + SLOTS - at as u64) % SLOTS;
                if self.in_slots(hour) {
                    return Some((hour, &self.slots[found]));
                }
            }
        }
        self.far.range(from..).next().map(|(&hour, bag)| (hour, bag))
    }

    /// Moves the window to begin at `base` and takes out the bags of `base` and `base + 1`. All
    /// earlier hours must be empty.
    pub(super) fn move_to(&mut self, base: u64) -> (Bag, Bag) {
        let now = self.take(base);
        let next = self.take(base + 1);
        self.base = base;
        while let Some(entry) = self.far.first_entry()
            && *entry.key() <= base + SLOTS
        {
            let at = Self::slot_of(*entry.key());
            self.slots[at] = entry.remove();
            self.occupied.set(at);
        }
        (now, next)
    }

    fn take(&mut self, hour: u64) -> Bag {
        if !self.in_slots(hour) {
            return self.far.remove(&hour).unwrap_or_default();
        }
        let at = Self::slot_of(hour);
        self.occupied.clear(at);
        std::mem::take(&mut self.slots[at])
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        let far = self.far.len() * size_of::<(u64, Bag)>();
        let bags = self.slots.iter().chain(self.far.values());
        self.slots.len() * size_of::<Bag>() + far + bags.map(Bag::bytes).sum::<usize>()
    }
}
