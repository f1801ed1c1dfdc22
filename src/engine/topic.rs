//! What a topic keeps: the log by offset, in memory and below.

use std::collections::VecDeque;

/// A message that a topic keeps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub(super) sequence: u64,
    /// When it came, on the monotonic line, ms: its age is how long it could be had, whatever it
    /// was due at and wherever the wall went meanwhile.
    pub(super) since_mono_ms: u64,
}

/// The kept messages of a topic, by offset, dense.
///
/// ```text
///   offsets:  trimmed | below, in chunks | in memory: frozen | active
///                     ^ first_offset     ^ hot_from
/// ```
#[derive(Debug, Default)]
pub(super) struct Topic {
    /// Offset of the first message kept.
    pub(super) first_offset: u64,
    /// Offset of the first message in memory.
    pub(super) hot_from: u64,
    pub(super) log: VecDeque<Kept>,
    /// So many of `log` are in the frozen layer.
    pub(super) frozen: usize,
    /// What lies below, oldest first.
    pub(super) chunks: VecDeque<Chunk>,
    /// Messages at offsets below may have been delivered before the last start.
    pub(super) restart_offset: u64,
    /// Content bytes kept.
    pub(super) bytes: u64,
}

/// Neighbouring messages of a topic that lie below: retention drops them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Just past its last offset.
    pub(super) end: u64,
    /// Its content bytes.
    pub(super) bytes: u64,
    /// When its youngest came, on the monotonic line, ms.
    pub(super) since_mono_ms: u64,
}

impl Topic {
    /// Messages kept.
    pub(super) fn len(&self) -> u64 {
        self.next_offset() - self.first_offset
    }

    /// The offset the next message will get.
    pub(super) fn next_offset(&self) -> u64 {
        self.hot_from + self.log.len() as u64
    }

    /// The message with this offset, when it is in memory.
    pub(super) fn sequence_at(&self, offset: u64) -> Option<u64> {
        self.kept_at(offset).map(|kept| kept.sequence)
    }

    /// The same with when it came.
    pub(super) fn kept_at(&self, offset: u64) -> Option<&Kept> {
        let at = offset.checked_sub(self.hot_from)?;
        self.log.get(usize::try_from(at).ok()?)
    }

    /// Whether this offset is kept, but below.
    pub(super) fn is_below(&self, offset: u64) -> bool {
        (self.first_offset..self.hot_from).contains(&offset)
    }

    /// What is left of the frozen layer lies below now, in these chunks.
    pub(super) fn frozen_lies_below(&mut self, chunks: &[Chunk]) {
        self.log.drain(..self.frozen);
        self.hot_from += self.frozen as u64;
        self.frozen = 0;
        let kept = chunks.iter().filter(|chunk| chunk.end > self.first_offset);
        self.chunks.extend(kept);
    }
}
