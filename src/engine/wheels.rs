//! The timing wheel in two layers: what is being flushed and what came since.

use crate::base::id::Key;
use crate::base::limits;
use crate::wheel::Wheel;

/// Scheduled keys in memory. A key is in the layer its message is in.
#[derive(Debug)]
pub(super) struct Wheels {
    active: Wheel,
    frozen: Option<Wheel>,
}

impl Wheels {
    pub(super) fn new(now_ms: u64) -> Self {
        Self { active: Wheel::new(now_ms), frozen: None }
    }

    pub(super) fn insert(&mut self, key: Key) {
        self.active.insert(key);
    }

    /// Takes a key out of the layer it is in.
    pub(super) fn cancel(&mut self, key: Key, from_frozen: bool) {
        match &mut self.frozen {
            Some(frozen) if from_frozen => frozen.cancel(key),
            _ => self.active.cancel(key),
        }
    }

    /// Appends to `out`, in order, what is due up to and including `last`; of each layer at most
    /// `limit` keys. `true` when more is due: then nothing behind the last one has left.
    pub(super) fn advance(&mut self, last: Key, limit: usize, out: &mut Vec<Key>) -> bool {
        let Some(frozen) = &mut self.frozen else {
            return self.active.advance_within(last, limit, out);
        };
        let mut old = Vec::new();
        let mut more = frozen.advance_within(last, limit, &mut old);
        let reach = if more { old.last().copied().unwrap_or_default() } else { last };
        let start = out.len();
        if self.active.advance_within(reach, limit, out) {
            more = true;
            // The active layer got less far: what the frozen one gave beyond goes back.
            let reach = out.last().copied().unwrap_or_default();
            let beyond = old.partition_point(|key| *key <= reach);
            old.drain(beyond..).for_each(|key| frozen.insert(key));
        }
        if !old.is_empty() {
            out.append(&mut old);
            out[start..].sort_unstable();
        }
        more
    }

    /// Begins a frozen layer; new keys are behind `fired_to`.
    pub(super) fn freeze(&mut self, fired_to: Key) {
        let fresh = Wheel::new(fired_to.due_ms);
        self.frozen = Some(std::mem::replace(&mut self.active, fresh));
    }

    /// Ends the frozen layer. It may be large: drop it where nobody waits.
    pub(super) fn drop_frozen(&mut self) -> Option<Wheel> {
        self.frozen.take()
    }

    /// See [`Wheel::next_deadline`].
    pub(super) fn next_deadline(&self) -> Option<u64> {
        let frozen = self.frozen.as_ref().and_then(Wheel::next_deadline);
        [frozen, self.active.next_deadline()].into_iter().flatten().min()
    }

    /// See [`Wheel::scan`].
    pub(super) fn scan(&self, from: Key, to_due_ms: u64, visit: &mut dyn FnMut(Key) -> bool) {
        let Some(frozen) = &self.frozen else {
            return self.active.scan(from, to_due_ms, visit);
        };
        let mut keys = Vec::new();
        for wheel in [frozen, &self.active] {
            let most = keys.len() + limits::LIST_SCAN_MAX;
            wheel.scan(from, to_due_ms, &mut |key| {
                keys.push(key);
                keys.len() < most
            });
        }
        keys.sort_unstable();
        keys.into_iter().all(visit);
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.active.memory_bytes() + self.frozen.as_ref().map_or(0, Wheel::memory_bytes)
    }
}
