//! Which keys a file may hold, in memory: look-ups that would find nothing read nothing.
//!
//! Kept for files that mostly hold tombstones and were written by this process. Their keys lie anywhere
//! among all others, so that every look-up by id would have to read a block of each. Others need none:
//! the range of numbers in their footer tells them apart. After a restart there is no filter, and
//! look-ups are slower until merges have dropped the tombstones.

/// Bits for each key: with [`PROBES`] about one key in a hundred is taken for one that is there.
const BITS_PER_KEY: usize = 10;
/// Bits looked at for each key.
const PROBES: u64 = 6;

/// A Bloom filter (Bloom 1970), its bits found by double hashing (Kirsch and Mitzenmacher 2006).
#[derive(Debug)]
pub(super) struct Filter {
    /// A power of two of them.
    words: Box<[u64]>,
}

impl Filter {
    /// The filter of these keys, by their hashes.
    pub(super) fn of(hashes: &[u64]) -> Self {
        let words = (hashes.len() * BITS_PER_KEY).div_ceil(64).next_power_of_two();
        let mut filter = Self { words: vec![0; words].into_boxed_slice() };
        for &hash in hashes {
            for (word, bit) in filter.places(hash) {
                filter.words[word] |= bit;
            }
        }
        filter
    }

    /// Whether a key with this hash may be among them. `false` is certain.
    pub(super) fn may_hold(&self, hash: u64) -> bool {
        self.places(hash).all(|(word, bit)| self.words[word] & bit != 0)
    }

    fn places(&self, hash: u64) -> impl Iterator<Item = (usize, u64)> + use<> {
        let mask = self.words.len() as u64 * 64 - 1;
        let step = hash.rotate_left(32) | 1;
        (0..PROBES).map(move |probe| {
            let bit = hash.wrapping_add(step.wrapping_mul(probe)) & mask;
            ((bit / 64) as usize, 1 << (bit % 64))
        })
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
        for count in [1, 2, 100, 50_000] {
            let hashes: Vec<u64> = (0..count).map(|number| hash(&key(2 * number))).collect();
            let filter = Filter::of(&hashes);
            assert!((0..count).all(|number| filter.may_hold(hash(&key(2 * number)))));
            let wrong = (0..count).filter(|number| filter.may_hold(hash(&key(2 * number + 1))));
            assert!(wrong.count() as u64 <= 1 + count / 40, "of {count}");
        }
        assert!(!Filter::of(&[]).may_hold(hash(b"x")));
    }
}
