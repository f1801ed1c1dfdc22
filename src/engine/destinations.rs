//! The destinations there are, by number. A number is never given twice, and one that is gone leaves its place
//! to another.

use std::cell::Cell;

use crate::base::destination::Kind;
use crate::base::id::DestinationId;

use super::destination::Destination;
use super::messages::NumberMap;

/// The living destinations, and the next number.
#[derive(Debug, Default)]
pub(super) struct Destinations {
    slab: Vec<Option<Box<Destination>>>,
    free: Vec<u32>,
    /// Where in the slab each number is.
    places: NumberMap<u64, u32>,
    /// Where the one asked for last is: most questions are about the same one as the question before.
    hint: Cell<u32>,
    next: u32,
}

impl Destinations {
    pub(super) fn get(&self, id: DestinationId) -> Option<&Destination> {
        self.slab[self.place(id)?].as_deref()
    }

    pub(super) fn get_mut(&mut self, id: DestinationId) -> Option<&mut Destination> {
        let at = self.place(id)?;
        self.slab[at].as_deref_mut()
    }

    fn place(&self, id: DestinationId) -> Option<usize> {
        let hint = self.hint.get() as usize;
        if let Some(Some(last)) = self.slab.get(hint)
            && last.id == id
        {
            return Some(hint);
        }
        let at = *self.places.get(&u64::from(id.0))?;
        self.hint.set(at);
        Some(at as usize)
    }

    /// Adds one; that which had its number, if any, comes back.
    pub(super) fn insert(&mut self, destination: Destination) -> Option<Box<Destination>> {
        let number = destination.id.0;
        let before = self.remove(destination.id);
        self.next = self.next.max(number.saturating_add(1));
        let new = Some(Box::new(destination));
        let at = match self.free.pop() {
            Some(at) => {
                self.slab[at as usize] = new;
                at
            }
            None => {
                self.slab.push(new);
                (self.slab.len() - 1) as u32
            }
        };
        self.places.insert(u64::from(number), at);
        before
    }

    pub(super) fn remove(&mut self, id: DestinationId) -> Option<Box<Destination>> {
        let at = self.places.remove(&u64::from(id.0))?;
        let gone = self.slab[at as usize].take();
        self.free.push(at);
        if self.places.is_empty() {
            // What many at once made it take is given back.
            (self.slab, self.free, self.places) = Default::default();
        }
        gone
    }

    /// The number of the next new one.
    pub(super) fn next(&self) -> u32 {
        self.next
    }

    /// Numbers below have been given.
    pub(super) fn begin_at(&mut self, next: u32) {
        self.next = self.next.max(next);
    }

    /// How many numbers are left to be given.
    pub(super) fn numbers_left(&self) -> u32 {
        u32::MAX - self.next
    }

    /// All of them, in an order that depends on what was before: for sums.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Destination> {
        self.slab.iter().flatten().map(Box::as_ref)
    }

    /// The same, to change them.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Destination> {
        self.slab.iter_mut().flatten().map(Box::as_mut)
    }

    /// All of them by number.
    pub(super) fn in_order(&self) -> Vec<&Destination> {
        let mut all: Vec<_> = self.iter().collect();
        all.sort_unstable_by_key(|destination| destination.id);
        all
    }

    /// The same, to change them.
    pub(super) fn in_order_mut(&mut self) -> Vec<&mut Destination> {
        let mut all: Vec<_> = self.iter_mut().collect();
        all.sort_unstable_by_key(|destination| destination.id);
        all
    }

    /// Their numbers, in order.
    pub(super) fn ids(&self) -> Vec<DestinationId> {
        let mut all: Vec<_> = self.iter().map(|destination| destination.id).collect();
        all.sort_unstable();
        all
    }

    /// What of them a flush has to know.
    pub(super) fn kinds(&self) -> Kinds {
        let kinds = self.iter().map(|d| (u64::from(d.id.0), d.kind)).collect();
        Kinds { living: kinds, next: self.next }
    }
}

/// Which destinations there were at a moment, and their kinds.
#[derive(Debug, Default)]
pub struct Kinds {
    living: NumberMap<u64, Kind>,
    next: u32,
}

impl Kinds {
    /// The kind of one that was there.
    #[must_use]
    pub fn get(&self, id: DestinationId) -> Option<Kind> {
        self.living.get(&u64::from(id.0)).copied()
    }

    /// Whether it had come to be and was no longer there.
    #[must_use]
    pub fn is_gone(&self, id: DestinationId) -> bool {
        id.0 < self.next && self.get(id).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: those that are gone cost nothing, and no number comes again. Method: make and remove many,
    /// and begin at a number far up, as a forged checkpoint may ask.
    #[test]
    fn what_is_gone_takes_no_memory() {
        let mut all = Destinations::default();
        let new = |n| Destination::new(DestinationId(n), "/queue/a".into(), Kind::Queue);
        for n in 0..100_000 {
            assert_eq!(all.next(), n);
            all.insert(new(n));
            if n >= 10 {
                assert!(all.remove(DestinationId(n - 10)).is_some());
            }
        }
        assert_eq!(all.iter().count(), 10);
        assert!(all.slab.capacity() < 100 && all.places.capacity() < 100, "{}", all.slab.len());
        all.begin_at(u32::MAX - 1);
        assert_eq!((all.next(), all.numbers_left()), (u32::MAX - 1, 1));
        let ids: Vec<u32> = all.ids().iter().map(|id| id.0).collect();
        assert_eq!(ids, (99_990..100_000).collect::<Vec<_>>());
        let kinds = all.kinds();
        let again = new(99_995);
        assert_eq!(all.insert(again).map(|before| before.id), Some(DestinationId(99_995)));
        assert_eq!((all.iter().count(), all.get(DestinationId(99_989)).is_none()), (10, true));
        for id in all.ids() {
            assert_eq!(all.get_mut(id).map(|own| own.id), Some(id));
            assert_eq!(all.remove(id).map(|own| own.id), Some(id));
            assert!(all.get(id).is_none());
        }
        assert_eq!((all.slab.len(), all.next()), (0, u32::MAX - 1));
        assert!(kinds.is_gone(DestinationId(5)) && !kinds.is_gone(DestinationId(99_999)));
        assert!(!kinds.is_gone(DestinationId(u32::MAX)), "it has yet to come");
    }
}
