//! Which tombstones a file may hold, in memory: look-ups that would find nothing read nothing.
//!
//! What a flush puts was published lately, so that the range of its sequences tells whether a key can
//! be there. Its tombstones are of messages of any age: without a filter every look-up by id would
//! have to read a block of every file that has some. Files written before this process began have
//! no filter, and look-ups are slower until merges have dropped their tombstones.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::limits::STORE_FILTER_BYTES_MAX;
use crate::store::key::tail;

/// Bits for each key: with [`PROBES`] about one key in a hundred is taken for one that is there.
const BITS_PER_KEY: usize = 10;
/// Without a pattern in its bits: 2 to the 64 divided by the golden ratio.
const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
/// Bits looked at for each key.
const PROBES: u64 = 6;

/// Tombstones a file has at most when it is to have a filter. What the filter is made from takes 8 bytes
/// each until the file is finished.
pub(super) const TOMBSTONES_MAX: usize = 1 << 20;

/// What is noted of the rows of a file while it is written.
#[derive(Debug)]
pub(super) struct Noted {
    /// Hashes of the tombstones' keys.
    tombstones: Vec<u64>,
    /// Lowest and highest tail of the others' keys.
    puts: (u64, u64),
}

impl Default for Noted {
    fn default() -> Self {
        Self { tombstones: Vec::new(), puts: (u64::MAX, 0) }
    }
}

impl Noted {
    pub(super) fn put(&mut self, key: &[u8]) {
        let (low, high) = self.puts;
        self.puts = (low.min(tail(key)), high.max(tail(key)));
    }

    pub(super) fn tombstone(&mut self, key: &[u8]) {
        self.tombstones.push(hash(key));
    }

    /// Whether the file should have no more rows.
    pub(super) fn is_full(&self) -> bool {
        self.tombstones.len() >= TOMBSTONES_MAX
    }

    /// The filter of what was noted. `None` when there are no tombstones, or when the filters of
    /// this store take all the memory they may.
    pub(super) fn filter(&self, room: &Arc<Room>) -> Option<Filter> {
        if self.tombstones.is_empty() {
            return None;
        }
        Filter::of(&self.tombstones, self.puts, room)
    }
}

/// The tails of the rows that are no tombstones, and for the tombstones a Bloom filter (Bloom 1970),
/// its bits found by multiplying the hash by an odd number for each (Dietzfelbinger 1997).
#[derive(Debug)]
pub(super) struct Filter {
    puts: (u64, u64),
    words: Box<[u64]>,
    room: Arc<Room>,
}

impl Filter {
    fn of(hashes: &[u64], puts: (u64, u64), room: &Arc<Room>) -> Option<Self> {
        let words = (hashes.len() * BITS_PER_KEY).div_ceil(64).max(1);
        room.take(8 * words as u64).then(|| {
            let mut filter = Self { puts, words: vec![0; words].into(), room: room.clone() };
            for &hash in hashes {
                for (word, bit) in filter.places(hash) {
                    filter.words[word] |= bit;
                }
            }
            filter
        })
    }

    /// Whether the file may say something of this key. `false` is certain.
    pub(super) fn may_hold(&self, key: &[u8]) -> bool {
        let (low, high) = self.puts;
        (low..=high).contains(&tail(key)) || self.has(hash(key))
    }

    fn has(&self, hash: u64) -> bool {
        self.places(hash).all(|(word, bit)| self.words[word] & bit != 0)
    }

    fn places(&self, hash: u64) -> impl Iterator<Item = (usize, u64)> + use<> {
        let bits = self.words.len() as u128 * 64;
        (0..PROBES).map(move |probe| {
            let at = hash.wrapping_mul(ODD.wrapping_mul(2 * probe + 1));
            // Maps the hash to 0 .. bits without a division (Lemire 2016).
            let bit = ((u128::from(at) * bits) >> 64) as u64;
            ((bit / 64) as usize, 1 << (bit % 64))
        })
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        self.room.0.fetch_sub(8 * self.words.len() as u64, Ordering::Relaxed);
    }
}

/// Memory that the filters of a store take, bytes: at most [`STORE_FILTER_BYTES_MAX`].
#[derive(Debug, Default)]
pub(super) struct Room(AtomicU64);

impl Room {
    fn take(&self, bytes: u64) -> bool {
        let more = |taken: u64| Some(taken + bytes).filter(|&sum| sum <= STORE_FILTER_BYTES_MAX);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

/// The hash of a key: words of it folded in one after the other, well mixed. Nobody gains by
/// collisions: a key that is taken for one that is there costs a read.
fn hash(key: &[u8]) -> u64 {
    let mut hash = key.len() as u64;
    for word in key.chunks(8) {
        let mut bytes = [0; 8];
        bytes[..word.len()].copy_from_slice(word);
        hash = (hash ^ u64::from_le_bytes(bytes)).wrapping_mul(ODD);
        hash ^= hash >> 32;
    }
    hash = hash.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash ^ (hash >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> Vec<u8> {
        [(number * 7).to_be_bytes(), number.to_be_bytes()].concat()
    }

    /// Goal: what is there is never denied, and little else is let through. Method: keys as those of
    /// scheduled messages: every other one is a tombstone, and behind them all some that are none.
    #[test]
    fn what_is_there_is_let_through_and_little_else() {
        let room = Arc::default();
        for count in [1, 2, 100, 50_000] {
            let mut noted = Noted::default();
            (0..count).for_each(|number| noted.tombstone(&key(2 * number)));
            (3 * count..4 * count).for_each(|number| noted.put(&key(number)));
            let filter = noted.filter(&room).expect("there is room");
            assert!((0..count).all(|number| filter.may_hold(&key(2 * number))));
            assert!((3 * count..4 * count).all(|number| filter.may_hold(&key(number))));
            let wrong = (0..count).filter(|number| filter.may_hold(&key(2 * number + 1)));
            assert!(wrong.count() as u64 <= 1 + count / 40, "of {count}");
        }
    }

    /// Goal: a file without tombstones has no filter, one of nothing else denies what it has not.
    #[test]
    fn only_tombstones_need_a_filter() {
        let room = Arc::default();
        let mut noted = Noted::default();
        noted.put(&key(7));
        assert!(noted.filter(&room).is_none());
        let mut noted = Noted::default();
        noted.tombstone(&key(7));
        let filter = noted.filter(&room).expect("there is room");
        assert!(filter.may_hold(&key(7)));
        assert!(!filter.may_hold(&key(8)));
    }

    /// Goal: filters stay within their memory, and give it back. Method: as many as there is room for,
    /// one more, and again when one of them is gone.
    #[test]
    fn filters_stay_within_their_memory() {
        let room = Arc::default();
        // An eighth of what there is.
        let hashes = vec![7; STORE_FILTER_BYTES_MAX as usize / BITS_PER_KEY];
        let of = || Filter::of(&hashes, (1, 0), &room);
        let mut filters: Vec<_> = (0..8).map_while(|_| of()).collect();
        assert_eq!(filters.len(), 8);
        assert!(of().is_none());
        filters.pop();
        assert!(of().is_some());
    }
}
