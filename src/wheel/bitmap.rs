//! Which slots hold something: a bit a slot, so empty ones are skipped 64 at a time.

/// A fixed number of bits, all clear at first.
#[derive(Clone)]
pub(super) struct Bitmap {
    words: Box<[u64]>,
}

impl Bitmap {
    pub(super) fn new(bits: usize) -> Self {
        Self { words: vec![0; bits.div_ceil(64)].into() }
    }

    pub(super) fn set(&mut self, at: usize) {
        self.words[at / 64] |= 1 << (at % 64);
    }

    pub(super) fn clear(&mut self, at: usize) {
        self.words[at / 64] &= !(1 << (at % 64));
    }

    pub(super) fn get(&self, at: usize) -> bool {
        self.words[at / 64] & (1 << (at % 64)) != 0
    }

    /// The first set bit at `from` or above it; `from` may lie beyond the end.
    pub(super) fn next(&self, from: usize) -> Option<usize> {
        let start = from / 64;
        let first = self.words.get(start)? & (!0 << (from % 64));
        if first != 0 {
            return Some(start * 64 + first.trailing_zeros() as usize);
        }
        let (word, bits) =
            self.words.iter().enumerate().skip(start + 1).find(|&(_, &bits)| bits != 0)?;
        Some(word * 64 + bits.trailing_zeros() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
