//! The destinations there are, by number. A number is never given twice, and one that is gone costs
//! nothing.

use crate::base::destination::Kind;
use crate::base::id::DestinationId;

use super::destination::Destination;
use super::messages::NumberMap;

/// The living destinations, and the next number.
#[derive(Debug, Default)]
pub(super) struct Destinations {
    living: NumberMap<u64, Box<Destination>>,
    next: u32,
}

impl Destinations {
    pub(super) fn get(&self, id: DestinationId) -> Option<&Destination> {
        self.living.get(&u64::from(id.0)).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, id: DestinationId) -> Option<&mut Destination> {
        self.living.get_mut(&u64::from(id.0)).map(Box::as_mut)
    }

    /// Adds one; that which had its number, if any, comes back.
    pub(super) fn insert(&mut self, destination: Destination) -> Option<Box<Destination>> {
        let number = destination.id.0;
        self.next = self.next.max(number.saturating_add(1));
        self.living.insert(u64::from(number), Box::new(destination))
    }

    pub(super) fn remove(&mut self, id: DestinationId) -> Option<Box<Destination>> {
        let gone = self.living.remove(&u64::from(id.0));
        // What many at once made it take is given back.
        if self.living.capacity() > 1024 && self.living.len() < self.living.capacity() / 8 {
            self.living.shrink_to(self.living.len() * 2);
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
        self.living.values().map(Box::as_ref)
    }

    /// The same, to change them.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Destination> {
        self.living.values_mut().map(Box::as_mut)
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
        assert!(all.living.capacity() < 100, "{}", all.living.capacity());
        all.begin_at(u32::MAX - 1);
        assert_eq!((all.next(), all.numbers_left()), (u32::MAX - 1, 1));
        let ids: Vec<u32> = all.ids().iter().map(|id| id.0).collect();
        assert_eq!(ids, (99_990..100_000).collect::<Vec<_>>());
        let kinds = all.kinds();
        assert!(kinds.is_gone(DestinationId(5)) && !kinds.is_gone(DestinationId(99_999)));
        assert!(!kinds.is_gone(DestinationId(u32::MAX)), "it has yet to come");
    }
}
