//! Bytes gathered for large writes.

use crate::base::limits::DIRECT_ALIGN;

/// Bytes that are to be written behind each other, beginning at an aligned address, so that they can
/// go past the page cache.
pub(super) struct Gathered {
    /// What is gathered stands behind `start` bytes that mean nothing.
    bytes: Vec<u8>,
    start: usize,
}

impl Gathered {
    /// Begins with these bytes. It has room for so many and some more before it moves.
    pub(super) fn new(first: &[u8], room: usize) -> Self {
        let mut gathered = Self { bytes: Vec::with_capacity(room + room / 8), start: 0 };
        gathered.align();
        gathered.bytes.extend_from_slice(first);
        gathered
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Everything.
    pub(super) fn all(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The part of it, from the front, that can be written in whole pieces.
    pub(super) fn whole(&self) -> &[u8] {
        let len = self.len();
        &self.all()[..len - len % DIRECT_ALIGN]
    }

    /// Where more is to be appended.
    pub(super) fn end(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Keeps only what is behind [`Gathered::whole`].
    pub(super) fn drop_whole(&mut self) {
        let rest = self.bytes.len() - self.len() % DIRECT_ALIGN;
        // A rest is shorter than what it is aligned to, and there is room for both.
        let rest = self.bytes.split_off(rest);
        self.bytes.clear();
        self.align();
        self.bytes.extend(rest);
    }

    /// Puts an empty one where it is aligned. Should more be appended than there is room for, it
    /// moves and may not be aligned any more: then it is written like anything else.
    fn align(&mut self) {
        self.start = self.bytes.as_ptr().addr().wrapping_neg() % DIRECT_ALIGN;
        self.bytes.resize(self.start, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: nothing is lost or moved, whole pieces are aligned, and that again after more was appended
    /// than there was room for. Method: pieces of odd lengths, compared with all of them in one.
    #[test]
    fn everything_comes_out_in_order() {
        let room = 16 * DIRECT_ALIGN;
        let all: Vec<u8> = (0..400 * DIRECT_ALIGN).map(|at| (at / 5) as u8).collect();
        let mut gathered = Gathered::new(&all[..10], room);
        let (mut taken, mut written, mut large) = (10, Vec::new(), 0);
        for piece in [3_000, 4_000, 1, 2_000]
            .repeat(20)
            .into_iter()
            .chain([300_000, 4_000])
            .cycle()
            .take(170)
        {
            gathered.end().extend_from_slice(&all[taken..taken + piece]);
            taken += piece;
            if gathered.len() >= room {
                let whole = gathered.whole();
                large += usize::from(whole.len() > 4 * room);
                assert!(
                    whole.len() > 4 * room || whole.as_ptr().addr().is_multiple_of(DIRECT_ALIGN)
                );
                assert_eq!(whole.len() % DIRECT_ALIGN, 0);
                written.extend_from_slice(whole);
                gathered.drop_whole();
            }
        }
        written.extend_from_slice(gathered.all());
        assert_eq!((written.len(), large), (taken, 2));
        assert!(written == all[..taken]);
    }
}
