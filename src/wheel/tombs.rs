//! Tombstones: keys that were cancelled and still lie in a slot.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use crate::base::id::Key;

/// Capacity below which the set is not worth shrinking.
const SMALL: usize = 1024;

/// A fixed hash: a folded 64 x 64 bit product a word. Keys are made by ourselves, so nobody can
/// choose colliding ones, and a fixed hash keeps the wheel deterministic.
#[derive(Default)]
pub(super) struct Mix(u64);

impl Hasher for Mix {
    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }

    // A key hashes as two words; this is here because the trait wants it.
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The set of tombstones. Invariant: each of its keys lies in exactly one container of the wheel,
/// and whoever takes the key out of there takes the tombstone out of here.
#[derive(Clone, Default)]
pub(super) struct Tombs {
    set: HashSet<Key, BuildHasherDefault<Mix>>,
}

impl Tombs {
    pub(super) fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.set.contains(key)
    }

    /// `false` when the key was cancelled already.
    pub(super) fn insert(&mut self, key: Key) -> bool {
        self.set.insert(key)
    }

    /// `true` when the key was cancelled; its tombstone is gone now.
    pub(super) fn remove(&mut self, key: &Key) -> bool {
        let hit = self.set.remove(key);
        let room = self.set.capacity();
        if hit && room > SMALL && self.set.len() < room / 8 {
            self.set.shrink_to(room / 4);
        }
        hit
    }

    /// Bytes held, by estimate: a key and a control byte a bucket, seven of eight in use.
    pub(super) fn bytes(&self) -> usize {
        self.set.capacity() / 7 * 8 * (size_of::<Key>() + 1)
    }
}
