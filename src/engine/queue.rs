//! The ready messages of a queue: lanes by priority, in memory and below.

use std::collections::{BTreeSet, VecDeque};

use crate::base::id::Key;
use crate::base::limits;

const LANES: usize = limits::PRIORITY_MAX as usize + 1;
/// Every so many picks the lowest lane goes first, so that high priorities cannot starve it.
const FAIR_PICK: u32 = 16;

/// Ready messages of a work queue: one lane a priority, and what came back, ahead of its lane.
///
/// A lane may hold sequences whose message is finished meanwhile; whoever takes one looks it up.
///
/// ```text
///   a lane:  handed out | thawed | below, unread | in memory: frozen | active
///                       ^ handed_to      cold_to ^
/// ```
#[derive(Debug, Default)]
pub(super) struct Queue {
    lanes: [VecDeque<u64>; LANES],
    /// What goes beyond the sequences in memory; made when first needed.
    marks: Option<Box<[Marks; LANES]>>,
    /// Lanes that have something, in memory or below.
    occupied: u16,
    /// Lanes that have, had or will have something: a checkpoint may have to name them.
    used: u16,
    returned: BTreeSet<(u8, Key)>,
    picks: u32,
    len: u64,
}

/// How far a lane is consumed, and what of it lies below.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Read back from below: the front of the lane.
    thawed: VecDeque<u64>,
    /// So many of the lane in memory are in the frozen layer.
    frozen: usize,
    /// Everything up to this position was handed out at least once.
    pub(super) handed_to: u64,
    /// Everything up to this position was read back from below.
    pub(super) thawed_to: u64,
    /// Nothing of the lane below has a higher position.
    pub(super) cold_to: u64,
    /// `handed_to` rose since it was last recorded.
    pub(super) unrecorded: bool,
}

impl Marks {
    /// The position from which on there may be more below; `None`: there is nothing.
    pub(super) fn unread_from(&self) -> Option<u64> {
        let read_to = self.handed_to.max(self.thawed_to);
        (self.cold_to > read_to).then_some(read_to + 1)
    }
}

/// What stands at the head of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// A sequence from a lane; it may be stale.
    Lane(u8, u64),
    /// A sequence that came back; it may be stale.
    Returned(u64),
    /// The lane goes on below: it has to be read back first.
    Below(u8),
    /// Nothing.
    Empty,
}

impl Queue {
    pub(super) fn push(&mut self, priority: u8, sequence: u64) {
        let lane = usize::from(priority.min(limits::PRIORITY_MAX));
        self.lanes[lane].push_back(sequence);
        self.occupied |= 1 << lane;
        self.used |= 1 << lane;
        self.len += 1;
    }

    /// Puts a message back ahead of its lane.
    pub(super) fn put_back(&mut self, priority: u8, key: Key) {
        // Highest priority first: the set is ordered upward.
        self.returned.insert((limits::PRIORITY_MAX - priority.min(limits::PRIORITY_MAX), key));
        self.len += 1;
    }

    /// Sequences in memory, stale ones included.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing, neither in memory nor below.
    pub(super) fn is_empty(&self) -> bool {
        self.occupied == 0 && self.returned.is_empty()
    }

    /// Takes what is to be delivered next.
    pub(super) fn pop(&mut self) -> Head {
        let lowest = self.picks.wrapping_add(1).is_multiple_of(FAIR_PICK);
        let (lane, back) = if lowest {
            (self.occupied.trailing_zeros(), self.returned.last())
        } else {
            (15u32.wrapping_sub(self.occupied.leading_zeros()), self.returned.first())
        };
        let lane = (self.occupied != 0).then_some(lane as usize);
        let back = back.map(|(p, _)| usize::from(limits::PRIORITY_MAX - p));
        // Of the same priority, what came back goes first.
        let ahead = |back: usize, lane: usize| back == lane || (back > lane) != lowest;
        let head = match (back, lane) {
            (Some(back), lane) if lane.is_none_or(|lane| ahead(back, lane)) => {
                self.pop_returned(back as u8)
            }
            (_, Some(lane)) => self.pop_lane(lane),
            _ => Head::Empty,
        };
        if matches!(head, Head::Lane(..) | Head::Returned(_)) {
            self.picks = self.picks.wrapping_add(1);
            self.len -= 1;
        }
        head
    }

    /// The first of a priority that came back.
    fn pop_returned(&mut self, priority: u8) -> Head {
        let from = (limits::PRIORITY_MAX - priority, Key::default());
        let Some(&first) = self.returned.range(from..).next() else { return Head::Empty };
        self.returned.remove(&first);
        Head::Returned(first.1.sequence)
    }

    fn pop_lane(&mut self, lane: usize) -> Head {
        let marks = self.marks.as_deref_mut().map(|marks| &mut marks[lane]);
        let mut sequence = None;
        if let Some(marks) = marks {
            sequence = marks.thawed.pop_front();
            if sequence.is_none() {
                if marks.unread_from().is_some() {
                    return Head::Below(lane as u8);
                }
                marks.frozen = marks.frozen.saturating_sub(1);
            }
        }
        let sequence = sequence.or_else(|| self.lanes[lane].pop_front());
        self.settle(lane);
        sequence.map_or(Head::Empty, |sequence| Head::Lane(lane as u8, sequence))
    }

    /// The first of a lane, if it is in memory. What lies below stands before what came since.
    pub(super) fn first_in(&self, lane: u8) -> Option<u64> {
        let first = self.lanes[usize::from(lane)].front();
        let Some(marks) = self.marks_of(lane) else { return first.copied() };
        match marks.thawed.front() {
            None if marks.unread_from().is_some() => None,
            thawed => thawed.or(first).copied(),
        }
    }

    /// Takes the first of a lane that is in memory out, whatever lies before it below.
    pub(super) fn take_first(&mut self, lane: u8) {
        let at = usize::from(lane);
        let marks = self.marks.as_deref_mut().map(|marks| &mut marks[at]);
        let thawed = marks.and_then(|marks| marks.thawed.pop_front());
        let sequence = thawed.or_else(|| {
            let first = self.lanes[at].pop_front();
            if let Some(marks) = self.marks.as_deref_mut() {
                marks[at].frozen = marks[at].frozen.saturating_sub(1);
            }
            first
        });
        self.len -= u64::from(sequence.is_some());
        self.settle(at);
    }

    /// After something left a lane.
    fn settle(&mut self, lane: usize) {
        if !self.lanes[lane].is_empty() {
            self.occupied |= 1 << lane;
            return;
        }
        // An emptied lane gives back what a burst made it take.
        if self.lanes[lane].capacity() > 4096 {
            self.lanes[lane] = VecDeque::new();
        }
        let marks = self.marks.as_deref().map(|marks| &marks[lane]);
        if marks.is_some_and(|m| !m.thawed.is_empty() || m.unread_from().is_some()) {
            self.occupied |= 1 << lane;
        } else {
            self.occupied &= !(1 << lane);
        }
    }

    /// A message of this priority is on its way.
    pub(super) fn use_lane(&mut self, priority: u8) {
        self.used |= 1 << priority.min(limits::PRIORITY_MAX);
    }

    /// Whether it has or had a message of this priority. That of most messages counts always.
    pub(super) fn uses_lane(&self, priority: u8) -> bool {
        let used = self.used | 1 << limits::PRIORITY_DEFAULT;
        used & 1 << priority.min(limits::PRIORITY_MAX) != 0
    }

    /// How many lanes a checkpoint may have to name; at least one.
    pub(super) fn lanes_used(&self) -> u32 {
        (self.used | 1 << limits::PRIORITY_DEFAULT).count_ones()
    }

    /// The lanes that a checkpoint may have to name.
    pub(super) fn lanes_to_tell(&self) -> impl Iterator<Item = u8> + use<> {
        let used = self.used | 1 << limits::PRIORITY_DEFAULT;
        (0..=limits::PRIORITY_MAX).filter(move |lane| used & 1 << lane != 0)
    }

    pub(super) fn marks(&mut self, lane: u8) -> &mut Marks {
        &mut self.marks.get_or_insert_default()[usize::from(lane.min(limits::PRIORITY_MAX))]
    }

    /// The lanes that have marks.
    pub(super) fn all_marks(&self) -> impl Iterator<Item = (u8, &Marks)> {
        (0u8..).zip(self.marks.iter().flat_map(|marks| marks.iter()))
    }

    /// The marks of a lane, if it has any.
    pub(super) fn marks_of(&self, lane: u8) -> Option<&Marks> {
        self.marks.as_deref()?.get(usize::from(lane))
    }

    /// Nothing of a lane below has a higher position once everything in memory lies there too, whose
    /// last position is `last`.
    pub(super) fn cold_after_flush(&self, lane: u8, last: u64) -> u64 {
        let in_memory = !self.lanes[usize::from(lane)].is_empty();
        if in_memory { last } else { self.marks_of(lane).map_or(0, |marks| marks.cold_to) }
    }

    /// Notes that a lane was consumed up to this position. `true`: for the first time since that
    /// was last recorded.
    pub(super) fn handed(&mut self, lane: u8, position: u64) -> bool {
        let marks = self.marks(lane);
        marks.handed_to = marks.handed_to.max(position);
        !std::mem::replace(&mut marks.unrecorded, true)
    }

    /// A lane was consumed up to this position, as a journal tells.
    pub(super) fn consumed_to(&mut self, lane: u8, position: u64) {
        let marks = self.marks(lane);
        marks.handed_to = marks.handed_to.max(position);
        self.used |= 1 << lane.min(limits::PRIORITY_MAX);
        self.settle(usize::from(lane.min(limits::PRIORITY_MAX)));
    }

    /// Puts a sequence that was read back behind those read back before.
    pub(super) fn push_thawed(&mut self, lane: u8, sequence: u64) {
        self.marks(lane).thawed.push_back(sequence);
        self.len += 1;
        self.settle(usize::from(lane));
    }

    /// Everything below up to this position was read back; `end`: and there is no more.
    pub(super) fn thawed_to(&mut self, lane: u8, position: u64, end: bool) {
        self.used |= 1 << lane.min(limits::PRIORITY_MAX);
        let marks = self.marks(lane);
        marks.thawed_to = marks.thawed_to.max(position);
        if end {
            marks.thawed_to = marks.thawed_to.max(marks.cold_to);
        }
        self.settle(usize::from(lane));
    }

    /// Everything in memory is in the frozen layer now.
    pub(super) fn freeze(&mut self) {
        for lane in 0..LANES {
            let len = self.lanes[lane].len();
            if len > 0 {
                self.marks(lane as u8).frozen = len;
            }
        }
    }

    /// What is left of the frozen layer lies below now, nothing of it beyond `cold_to`. Returns what
    /// had been read back and was not handed out: it is to be read again.
    pub(super) fn frozen_lies_below(&mut self, cold_to: u64) -> Vec<u64> {
        let mut thawed = Vec::new();
        let Some(marks) = self.marks.as_deref_mut() else { return thawed };
        for (lane, marks) in marks.iter_mut().enumerate() {
            self.len -= (marks.frozen + marks.thawed.len()) as u64;
            if marks.frozen > 0 {
                self.lanes[lane].drain(..marks.frozen);
                marks.frozen = 0;
                marks.cold_to = cold_to;
            }
            thawed.extend(std::mem::take(&mut marks.thawed));
            marks.thawed_to = marks.handed_to;
        }
        for lane in 0..LANES {
            self.settle(lane);
        }
        thawed
    }

    /// Takes from the front of what came back and of each lane, at most `most`, for as long as
    /// `take` says yes. A lane that goes on below is left alone from there on. Returns how many it
    /// took.
    pub(super) fn take_heads(&mut self, most: usize, mut take: impl FnMut(Head) -> bool) -> usize {
        let mut taken = 0;
        for lane in 0..=limits::PRIORITY_MAX {
            let back = limits::PRIORITY_MAX - lane;
            let from = (back, Key::default());
            while taken < most
                && let Some(&first) = self.returned.range(from..).next()
                && first.0 == back
                && take(Head::Returned(first.1.sequence))
            {
                self.returned.remove(&first);
                self.len -= 1;
                taken += 1;
            }
            while taken < most
                && let Some(first) = self.first_in(lane)
                && take(Head::Lane(lane, first))
            {
                self.take_first(lane);
                taken += 1;
            }
        }
        taken
    }

    /// Everything that lies below, or is on its way there, was consumed: nothing has a higher
    /// position than `to`.
    pub(super) fn consume_below(&mut self, to: u64) {
        for marks in self.marks.iter_mut().flat_map(|marks| marks.iter_mut()) {
            if marks.frozen > 0 || marks.cold_to > marks.handed_to {
                marks.handed_to = to;
            }
        }
        for lane in 0..LANES {
            self.settle(lane);
        }
    }

    /// Drops every sequence for which `keep` says no.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(u64) -> bool) {
        for lane in 0..LANES {
            let mut marks = self.marks.as_deref_mut().map(|marks| &mut marks[lane]);
            let frozen = marks.as_ref().map_or(0, |marks| marks.frozen);
            let (mut at, mut frozen_left) = (0, 0);
            self.lanes[lane].retain(|sequence| {
                let kept = keep(*sequence);
                frozen_left += usize::from(kept && at < frozen);
                at += 1;
                kept
            });
            if let Some(marks) = &mut marks {
                marks.frozen = frozen_left;
                marks.thawed.retain(|sequence| keep(*sequence));
            }
            self.settle(lane);
        }
        self.returned.retain(|(_, key)| keep(key.sequence));
        let thawed: usize = self.all_marks().map(|(_, marks)| marks.thawed.len()).sum();
        let lanes: usize = self.lanes.iter().map(VecDeque::len).sum();
        self.len = (lanes + thawed + self.returned.len()) as u64;
    }

    /// Every sequence in memory that came back.
    pub(super) fn returned(&self) -> impl Iterator<Item = u64> {
        self.returned.iter().map(|(_, key)| key.sequence)
    }

    /// Takes every sequence in memory out, in no order.
    pub(super) fn drain(&mut self) -> Vec<u64> {
        let mut all: Vec<u64> = self.returned().collect();
        for lane in &mut self.lanes {
            all.extend(lane.drain(..));
        }
        for marks in self.marks.iter_mut().flat_map(|marks| marks.iter_mut()) {
            all.extend(marks.thawed.drain(..));
        }
        *self = Self::default();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(queue: &mut Queue) -> Vec<u64> {
        let next = || match queue.pop() {
            Head::Lane(_, sequence) | Head::Returned(sequence) => Some(sequence),
            Head::Below(_) | Head::Empty => None,
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn high_priority_goes_first_and_low_priority_is_not_starved() {
        let mut queue = Queue::default();
        for sequence in 0..100 {
            queue.push(9, sequence);
        }
        queue.push(0, 1000);
        let order = all(&mut queue);
        assert_eq!(order.len(), 101);
        assert_eq!(&order[..3], &[0, 1, 2]);
        let low = order.iter().position(|s| *s == 1000).unwrap();
        assert!(low < FAIR_PICK as usize, "the low lane waited for {low} picks");
        assert_eq!(queue.len(), 0);
    }

    /// Goal: what came back is starved no more than what waits, nor starves it.
    #[test]
    fn what_came_back_takes_part_in_fair_picks() {
        let back = |n| Key { due_ms: 1, sequence: n };
        let mut queue = Queue::default();
        for n in 0..100 {
            queue.push(9, n);
        }
        queue.put_back(0, back(1000));
        let order = all(&mut queue);
        assert!(order.iter().position(|s| *s == 1000).unwrap() < FAIR_PICK as usize);

        let mut queue = Queue::default();
        for n in 0..100 {
            queue.put_back(9, back(n));
        }
        queue.push(0, 1000);
        let order = all(&mut queue);
        assert!(order.iter().position(|s| *s == 1000).unwrap() < FAIR_PICK as usize);
        assert_eq!((order.len(), queue.len()), (101, 0));
    }

    #[test]
    fn what_came_back_stands_ahead_of_its_lane_in_firing_order() {
        let mut queue = Queue::default();
        queue.push(4, 30);
        queue.push(9, 40);
        queue.put_back(4, Key { due_ms: 2, sequence: 20 });
        queue.put_back(4, Key { due_ms: 1, sequence: 21 });
        let order = all(&mut queue);
        assert_eq!(order, [40, 21, 20, 30]);
    }
}
