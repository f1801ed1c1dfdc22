//! Random numbers that stay the same for ever.

/// A small, seeded, well known generator (splitmix64, Steele, Lea and Flood 2014): seeds stay valid
/// for ever, whatever becomes of libraries.
#[derive(Debug, Clone)]
pub struct Random(pub(super) u64);

impl Random {
    /// The stream of one concern under a seed. What one concern takes moves no other, so a change
    /// to one leaves the others of a seed as they were.
    #[must_use]
    pub fn new(seed: u64, concern: &str) -> Self {
        let mut mixed = Self(seed);
        for byte in concern.bytes() {
            mixed.0 = mixed.next() ^ u64::from(byte);
        }
        mixed
    }

    /// Any number.
    // Not an iterator: it never ends.
    #[expect(clippy::should_implement_trait, reason = "the usual name of a generator's step")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 when that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// Heads or tails.
    pub fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of them; the slice is not empty.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a seed means the same for ever, and concerns do not move each other. Method: known
    /// numbers of splitmix64; two concerns of one seed.
    #[test]
    fn streams_are_fixed_and_apart() {
        let mut known = Random(1_234_567);
        assert_eq!(known.next(), 6_457_827_717_110_365_317);
        assert_eq!(known.next(), 3_203_168_211_198_807_973);
        let first = |concern| Random::new(7, concern).next();
        assert_eq!(first("disk"), first("disk"));
        assert_ne!(first("disk"), first("time"));
        assert_ne!(first("disk"), Random::new(8, "disk").next());
    }
}
