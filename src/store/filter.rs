//! Which keys a file may hold, in memory: look-ups that would find nothing read nothing.
//!
//! Kept for files that mostly hold tombstones and were written by this process. Their keys lie anywhere
//! among all others, so that every look-up by id would have to read a block of each. Others need none:
//! the range of numbers in their footer tells them apart. After a restart there is no filter, and
//! look-ups are slower until merges have dropped the tombstones.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::limits::STORE_FILTER_BYTES_MAX;

/// Bits for each key: with [`PROBES`] about one key in a hundred is taken for one that is there.
const BITS_PER_KEY: usize = 10;
/// Bits looked at for each key.
const PROBES: u64 = 6;

/// A Bloom filter (Bloom 1970), its bits found by double hashing (Kirsch and Mitzenmacher 2006).
#[derive(Debug)]
pub(super) struct Filter {
    words: Box<[u64]>,
    room: Arc<Room>,
}

impl Filter {
    /// The filter of these keys, by their hashes; `None` when the filters of this store take all
    /// the memory they may.
    pub(super) fn of(hashes: &[u64], room: &Arc<Room>) -> Option<Self> {
        let words = (hashes.len() * BITS_PER_KEY).div_ceil(64).max(1);
        room.take(8 * words as u64).then(|| {
            let mut filter = Self { words: vec![0; words].into(), room: room.clone() };
            for &hash in hashes {
                for (word, bit) in filter.places(hash) {
                    filter.words[word] |= bit;
                }
            }
            filter
        })
    }

    /// Whether a key with this hash may be among them. `false` is certain.
    pub(super) fn may_hold(&self, hash: u64) -> bool {
        self.places(hash).all(|(word, bit)| self.words[word] & bit != 0)
    }

    fn places(&self, hash: u64) -> impl Iterator<Item = (usize, u64)> + use<> {
        let bits = self.words.len() as u128 * 64;
        let step = hash.rotate_left(32) | 1;
        (0..PROBES).map(move |probe| {
            let at = hash.wrapping_add(step.wrapping_mul(probe));
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
pub(super) fn hash(key: &[u8]) -> u64 {
    let mut hash = key.len() as u64;
    for word in key.chunks(8) {
        let mut bytes = [0; 8];
        bytes[..word.len()].copy_from_slice(word);
        hash = (hash ^ u64::from_le_bytes(bytes)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        hash ^= hash >> 32;
    }
    hash = hash.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash ^ (hash >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what is in a filter is never denied, and little else is let through. Method: keys as those
    /// of scheduled messages, every other one in it.
    #[test]
    fn what_is_there_is_let_through_and_little_else() {
        let key = |number: u64| [number.to_be_bytes(), (number * 7).to_be_bytes()].concat();
        let room = Arc::default();
        for count in [1, 2, 100, 50_000] {
            let hashes: Vec<u64> = (0..count).map(|number| hash(&key(2 * number))).collect();
            let filter = Filter::of(&hashes, &room).expect("there is room");
            assert!((0..count).all(|number| filter.may_hold(hash(&key(2 * number)))));
            let wrong = (0..count).filter(|number| filter.may_hold(hash(&key(2 * number + 1))));
            assert!(wrong.count() as u64 <= 1 + count / 40, "of {count}");
        }
        assert!(!Filter::of(&[], &room).expect("there is room").may_hold(hash(b"x")));
    }

    /// Goal: filters stay within their memory, and give it back. Method: as many as there is room for,
    /// one more, and again when one of them is gone.
    #[test]
    fn filters_stay_within_their_memory() {
        let room = Arc::default();
        // An eighth of what there is.
        let hashes = vec![7; STORE_FILTER_BYTES_MAX as usize / BITS_PER_KEY];
        let mut filters: Vec<_> = (0..8).map_while(|_| Filter::of(&hashes, &room)).collect();
        assert_eq!(filters.len(), 8);
        assert!(Filter::of(&hashes, &room).is_none());
        filters.pop();
        assert!(Filter::of(&hashes, &room).is_some());
    }
}
