//! Keys put in behind the open second: they are due already and come out before all others.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::tombs::Tombs;
use crate::base::id::Key;

/// With fewer dead keys than this the heap is not rewritten.
const DEAD_MIN: usize = 64;

/// A heap, because late keys are rare and may come in any order while others leave. Invariant:
/// the first key is live.
#[derive(Clone, Default)]
pub(super) struct Late {
    heap: BinaryHeap<Reverse<Key>>,
    /// Dead keys, exactly.
    dead: usize,
}

impl Late {
    pub(super) fn push(&mut self, key: Key) {
        self.heap.push(Reverse(key));
    }

    pub(super) fn first(&self) -> Option<Key> {
        self.heap.peek().map(|first| first.0)
    }

    pub(super) fn pop(&mut self, tombs: &mut Tombs) {
        self.heap.pop();
        self.drop_dead(tombs);
        if self.heap.is_empty() && self.heap.capacity() > DEAD_MIN {
            self.heap = BinaryHeap::new();
        }
    }

    /// A key inside has got a tombstone.
    pub(super) fn cancelled(&mut self, tombs: &mut Tombs) {
        self.dead += 1;
        if self.dead > DEAD_MIN && self.dead * 2 > self.heap.len() {
            self.heap.retain(|key| !tombs.remove(&key.0));
            self.heap.shrink_to_fit();
            self.dead = 0;
        }
        self.drop_dead(tombs);
    }

    /// A key inside has lost its tombstone.
    pub(super) fn revived(&mut self) {
        self.dead = self.dead.saturating_sub(1);
    }

    fn drop_dead(&mut self, tombs: &mut Tombs) {
        while self.dead > 0
            && let Some(first) = self.heap.peek()
            && tombs.remove(&first.0)
        {
            self.heap.pop();
            self.dead -= 1;
        }
    }

    /// All keys, live and dead, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Key> {
        self.heap.iter().map(|key| &key.0)
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.heap.capacity() * size_of::<Key>()
    }
}
