//! Memory at a 4096-aligned address, as direct writes need it.

use crate::base::limits::FRAME_ALIGN;

/// Zeroed, aligned bytes of a fixed length.
pub(super) struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    pub(super) fn zeroed(len: usize) -> Self {
        let bytes = vec![0; len + FRAME_ALIGN];
        let start = bytes.as_ptr().addr().wrapping_neg() % FRAME_ALIGN;
        Self { bytes, start, len }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}
