//! Which slots hold something: a bit a slot, so empty ones are skipped 64 at a time.

/// Most bits of a map: the summary is one word.
const BITS_MAX: usize = 64 * 64;

/// A fixed number of bits, all clear at first, with a bit a word that tells which are not 0.
#[derive(Clone)]
pub(super) struct Bitmap {
    words: Box<[u64]>,
    summary: u64,
}

impl Bitmap {
    /// A map of so many bits, at most 4096.
    pub(super) fn new(bits: usize) -> Self {
        assert!(bits <= BITS_MAX, "the summary has a bit a word");
        Self { words: vec![0; bits.div_ceil(64)].into(), summary: 0 }
    }

    pub(super) fn set(&mut self, at: usize) {
        self.words[at / 64] |= 1 << (at % 64);
        self.summary |= 1 << (at / 64);
    }

    pub(super) fn clear(&mut self, at: usize) {
        let word = &mut self.words[at / 64];
        *word &= !(1 << (at % 64));
        if *word == 0 {
            self.summary &= !(1 << (at / 64));
        }
    }

    pub(super) fn get(&self, at: usize) -> bool {
        self.words[at / 64] & (1 << (at % 64)) != 0
    }

    /// The first set bit at `from` or above it; `from` may lie beyond the end.
    pub(super) fn next(&self, from: usize) -> Option<usize> {
        let word = from / 64;
        let bits = self.words.get(word)? & (!0 << (from % 64));
        if bits != 0 {
            return Some(word * 64 + bits.trailing_zeros() as usize);
        }
        // Two shifts, because a shift by 64 is none.
        let behind = self.summary & ((!0 << word) << 1);
        let bits = self.words.get(behind.trailing_zeros() as usize)?;
        Some(behind.trailing_zeros() as usize * 64 + bits.trailing_zeros() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_map_works_to_its_end() {
        let mut map = Bitmap::new(BITS_MAX);
        map.set(BITS_MAX - 1);
        assert_eq!((map.next(0), map.next(BITS_MAX)), (Some(BITS_MAX - 1), None));
        map.clear(BITS_MAX - 1);
        assert_eq!((map.next(0), map.next(BITS_MAX - 1)), (None, None));
    }

    #[test]
    fn the_next_bit_is_found_across_words_and_never_behind() {
        let mut map = Bitmap::new(960);
        assert_eq!(map.next(0), None);
        for at in [0, 63, 64, 500, 959] {
            map.set(at);
        }
        let all: Vec<_> = std::iter::successors(map.next(0), |&at| map.next(at + 1)).collect();
        assert_eq!(all, [0, 63, 64, 500, 959]);
        assert!(map.get(500) && !map.get(501));
        map.clear(500);
        assert_eq!((map.next(65), map.next(960), map.next(5_000)), (Some(959), None, None));
    }
}
