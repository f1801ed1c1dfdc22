//! What a topic keeps: the log by offset, in memory and below.

use std::collections::VecDeque;

/// Most chunks of a topic after a flush. Retention drops whole chunks, so it keeps some percent more than
/// it has to.
pub(super) const CHUNKS_MAX: usize = 64;
/// The same when the small state is full.
pub(super) const CHUNKS_MIN: usize = 8;

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

    /// Joins neighbouring chunks until there are at most `most`. Always those two that make the least
    /// of a chunk, by their part of the messages, of their bytes, or of the time the chunks span, whichever is largest.
    pub(super) fn join_chunks(&mut self, most: usize) {
        while self.chunks.len() > most.max(1) {
            let part = |of: u64, all: u64| u128::from(of) * 1_000_000 / u128::from(all.max(1));
            let first_ms = self.chunks.front().map_or(0, |chunk| chunk.since_mono_ms);
            let last_ms = self.chunks.back().map_or(0, |chunk| chunk.since_mono_ms);
            let below = self.hot_from - self.first_offset;
            let all_bytes = self.chunks.iter().map(|chunk| chunk.bytes).sum();
            // The time a chunk spans begins with the youngest of the one before.
            let (mut from, mut from_ms) = (self.first_offset, first_ms);
            let mut least = (u128::MAX, 0);
            for (at, (one, next)) in self.chunks.iter().zip(self.chunks.iter().skip(1)).enumerate()
            {
                let messages = part(next.end.saturating_sub(from), below);
                let span = next.since_mono_ms.saturating_sub(from_ms);
                let time = part(span, last_ms.saturating_sub(first_ms));
                let bytes = part(one.bytes + next.bytes, all_bytes);
                least = least.min((messages.max(bytes).max(time), at));
                (from, from_ms) = (one.end, one.since_mono_ms);
            }
            let Some(one) = self.chunks.remove(least.1) else { return };
            if let Some(next) = self.chunks.get_mut(least.1) {
                next.bytes += one.bytes;
                next.since_mono_ms = next.since_mono_ms.max(one.since_mono_ms);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lies_below(topic: &mut Topic, messages: u64, since_mono_ms: u64) {
        topic.hot_from += messages;
        topic.chunks.push_back(Chunk { end: topic.hot_from, bytes: messages * 3, since_mono_ms });
    }

    proptest! {
        /// Goal: joining keeps what there is and what it says. Method: random chunks, each number left.
        #[test]
        fn joined_chunks_say_the_same(
            chunks in proptest::collection::vec((1u64..5_000, 0u64..100_000), 0..40),
            most in 0usize..45,
        ) {
            let mut topic = Topic::default();
            let mut now_ms = 5;
            for (messages, later_ms) in chunks {
                now_ms += later_ms;
                lies_below(&mut topic, messages, now_ms);
            }
            let before = topic.chunks.clone();
            topic.join_chunks(most);
            prop_assert_eq!(topic.chunks.len(), before.len().min(most.max(1)));
            prop_assert_eq!(topic.chunks.back().map(|c| c.end), before.back().map(|c| c.end));
            let bytes = |chunks: &VecDeque<Chunk>| chunks.iter().map(|c| c.bytes).sum::<u64>();
            prop_assert_eq!(bytes(&topic.chunks), bytes(&before));
            for chunk in &topic.chunks {
                let same = before.iter().find(|other| other.end == chunk.end);
                prop_assert_eq!(same.map(|other| other.since_mono_ms), Some(chunk.since_mono_ms));
            }
        }
    }

    /// Goal: retention keeps little more than it has to. Method: a busy hour, a quiet month with a flush for
    /// each message, both over and over: no chunk is a large part of the messages or of the time.
    #[test]
    fn joined_chunks_stay_small_parts_of_the_whole() {
        let mut topic = Topic::default();
        let mut now_ms = 0;
        for n in 0..20_000u64 {
            let busy = n % 2_000 < 100;
            now_ms += if busy { 1_000 } else { 1_000_000 };
            lies_below(&mut topic, if busy { 4_096 } else { 1 }, now_ms);
            topic.join_chunks(CHUNKS_MAX);
        }
        assert_eq!(topic.chunks.len(), CHUNKS_MAX);
        let (mut from, mut from_ms) = (0, 0);
        for chunk in &topic.chunks {
            assert!((chunk.end - from) * 10 < topic.hot_from, "{} messages", chunk.end - from);
            assert!(
                (chunk.since_mono_ms - from_ms) * 10 < now_ms,
                "{} ms",
                chunk.since_mono_ms - from_ms
            );
            (from, from_ms) = (chunk.end, chunk.since_mono_ms);
        }
    }
}
