//! The open second: one lane a millisecond, put in order when it is reached.

use super::bitmap::Bitmap;
use super::tombs::Tombs;
use crate::base::id::Key;

const LANES: usize = 1000;
/// Capacity in keys that an emptied lane keeps (512 bytes).
const KEEP: usize = 64;
/// With fewer dead keys than this a lane is not rewritten, unless nothing in it lives.
const DEAD_MIN: usize = 64;

/// The keys of one ms. All counts are exact, unlike those of a bag.
#[derive(Clone)]
struct Lane {
    sequences: Vec<u64>,
    /// Those before it have left.
    head: usize,
    /// Dead keys from `head` on.
    dead: usize,
    /// From `head` on they ascend.
    sorted: bool,
}

impl Lane {
    const EMPTY: Self = Self { sequences: Vec::new(), head: 0, dead: 0, sorted: true };

    fn rest(&self) -> &[u64] {
        &self.sequences[self.head..]
    }

    fn sort(&mut self) {
        if !self.sorted {
            // The stable sort: keys added to a sorted lane cost a merge, not a new sort.
            self.sequences[self.head..].sort();
            self.sorted = true;
        }
    }

    fn reset(&mut self) {
        self.sequences.clear();
        if self.sequences.capacity() > KEEP {
            self.sequences = Vec::new();
        }
        (self.head, self.dead, self.sorted) = (0, 0, true);
    }
}

/// The lanes of one second. Invariant: a lane's bit is set exactly when a live key is in it, and
/// a lane whose bit is clear is empty.
#[derive(Clone)]
pub(super) struct Lanes {
    /// Start of the second, ms.
    start_ms: u64,
    lanes: Vec<Lane>,
    occupied: Bitmap,
}

impl Lanes {
    pub(super) fn new() -> Self {
        Self { start_ms: 0, lanes: vec![Lane::EMPTY; LANES], occupied: Bitmap::new(LANES) }
    }

    /// Takes the lanes, all empty, to another second.
    pub(super) fn move_to(&mut self, second: u64) {
        debug_assert!(self.first_due().is_none(), "the second before has not been emptied");
        self.start_ms = second * 1000;
    }

    fn lane_of(due_ms: u64) -> usize {
        (due_ms % 1000) as usize
    }

    pub(super) fn push(&mut self, key: Key) {
        let at = Self::lane_of(key.due_ms);
        let lane = &mut self.lanes[at];
        lane.sorted &= lane.sequences.last().is_none_or(|&last| last < key.sequence);
        lane.sequences.push(key.sequence);
        self.occupied.set(at);
    }

    /// Due time of the first live key.
    pub(super) fn first_due(&self) -> Option<u64> {
        self.occupied.next(0).map(|at| self.start_ms + at as u64)
    }

    /// The first live key of this ms, which must be what [`Self::first_due`] gave.
    pub(super) fn head(&mut self, due_ms: u64, tombs: &mut Tombs) -> Option<Key> {
        let lane = &mut self.lanes[Self::lane_of(due_ms)];
        lane.sort();
        while let Some(&sequence) = lane.sequences.get(lane.head) {
            let key = Key { due_ms, sequence };
            if lane.dead == 0 || !tombs.remove(&key) {
                return Some(key);
            }
            lane.head += 1;
            lane.dead -= 1;
        }
        None
    }

    /// Fires live keys of this ms in order, up to and including sequence `last`, at most `room`.
    pub(super) fn fire(
        &mut self,
        due_ms: u64,
        last: u64,
        room: usize,
        tombs: &mut Tombs,
        out: &mut Vec<Key>,
    ) {
        let at = Self::lane_of(due_ms);
        let lane = &mut self.lanes[at];
        lane.sort();
        let end = out.len() + room;
        if lane.dead == 0 {
            let rest = lane.rest();
            let rest = &rest[..rest.len().min(room)];
            let count = match rest.last() {
                Some(&highest) if highest > last => rest.partition_point(|&s| s <= last),
                _ => rest.len(),
            };
            out.extend(rest[..count].iter().map(|&sequence| Key { due_ms, sequence }));
            lane.head += count;
        } else {
            while let Some(&sequence) = lane.sequences.get(lane.head) {
                let key = Key { due_ms, sequence };
                if lane.dead > 0 && tombs.remove(&key) {
                    lane.dead -= 1;
                } else if sequence <= last && out.len() < end {
                    out.push(key);
                } else {
                    break;
                }
                lane.head += 1;
            }
        }
        if lane.rest().is_empty() {
            lane.reset();
            self.occupied.clear(at);
        }
    }

    /// A key inside has got a tombstone.
    pub(super) fn cancelled(&mut self, due_ms: u64, tombs: &mut Tombs) {
        let at = Self::lane_of(due_ms);
        let lane = &mut self.lanes[at];
        lane.dead += 1;
        let rest = lane.rest().len();
        if lane.dead >= rest || (lane.dead > DEAD_MIN && lane.dead * 2 > rest) {
            lane.sequences.drain(..lane.head);
            lane.head = 0;
            lane.sequences.retain(|&sequence| !tombs.remove(&Key { due_ms, sequence }));
            lane.sequences.shrink_to(lane.sequences.len().max(KEEP));
            lane.dead = 0;
        }
        if lane.rest().is_empty() {
            lane.reset();
            self.occupied.clear(at);
        }
    }

    /// A key inside has lost its tombstone. Its lane was not empty: the bit is set already.
    pub(super) fn revived(&mut self, due_ms: u64) {
        let lane = &mut self.lanes[Self::lane_of(due_ms)];
        lane.dead = lane.dead.saturating_sub(1);
    }

    /// Lanes from this ms on that hold something: due time and sequences, live and dead, in no
    /// order.
    pub(super) fn from(&self, due_ms: u64) -> impl Iterator<Item = (u64, &[u64])> {
        let skip = due_ms.saturating_sub(self.start_ms).min(LANES as u64) as usize;
        std::iter::successors(self.occupied.next(skip), |&at| self.occupied.next(at + 1))
            .map(|at| (self.start_ms + at as u64, self.lanes[at].rest()))
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        let held: usize = self.lanes.iter().map(|lane| lane.sequences.capacity()).sum();
        LANES * size_of::<Lane>() + held * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a lane that a busy ms filled does not keep its memory, and one of usual size does not give it back
    /// only to ask for it again. Method: fill one and fire it, at the capacity that is kept and on both sides of it.
    #[test]
    fn an_emptied_lane_keeps_little() {
        for (keys, kept) in
            [(3, true), (KEEP as u64, true), (KEEP as u64 + 1, false), (5_000, false)]
        {
            let (mut lanes, mut tombs, mut out) = (Lanes::new(), Tombs::default(), Vec::new());
            for round in 0..3 {
                (0..keys).for_each(|n| lanes.push(Key { due_ms: 7, sequence: round * keys + n }));
                lanes.fire(7, u64::MAX, usize::MAX / 2, &mut tombs, &mut out);
                let lane = &lanes.lanes[7];
                assert!(lane.sequences.is_empty() && lane.head == 0, "{keys} keys");
                assert_eq!(lane.sequences.capacity() > 0, kept, "{keys} keys");
            }
            assert_eq!(out.len() as u64, 3 * keys);
        }
    }
}
