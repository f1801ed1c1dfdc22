//! A destination's own state: the ready lanes of a queue or the log of a topic.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::base::destination::Kind;
use crate::base::event::Control;
use crate::base::id::{DestinationId, Key};
use crate::base::lifecycle::State;
use crate::base::limits;

use super::messages::SlotId;

const LANES: usize = limits::PRIORITY_MAX as usize + 1;
/// Every so many picks the lowest lane goes first, so that high priorities cannot starve it.
const FAIR_PICK: u32 = 16;

/// A destination.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) id: DestinationId,
    pub(super) name: Arc<str>,
    pub(super) kind: Kind,
    pub(super) scheduled: u64,
    pub(super) ready: u64,
    pub(super) in_flight: u64,
    /// What operators have decided about it.
    pub(super) control: Control,
    pub(super) queue: Queue,
    pub(super) topic: Topic,
    /// Attached subscriptions.
    pub(super) subscribers: Vec<SlotId>,
    /// Queue consumers with credit left, in turn.
    pub(super) waiting: VecDeque<SlotId>,
    /// It stands in the engine's list of destinations with something to do.
    pub(super) active: bool,
}

impl Destination {
    pub(super) fn new(id: DestinationId, name: Arc<str>, kind: Kind) -> Self {
        Self {
            id,
            name,
            kind,
            scheduled: 0,
            ready: 0,
            in_flight: 0,
            control: Control::default(),
            queue: Queue::default(),
            topic: Topic { first_offset: 1, ..Topic::default() },
            subscribers: Vec::new(),
            waiting: VecDeque::new(),
            active: false,
        }
    }

    /// The state of a message that is here and not being delivered.
    pub(super) fn resting_state(&self) -> State {
        if self.kind == Kind::DeadLetter { State::Dead } else { State::Ready }
    }
}

/// Ready messages of a work queue: one lane a priority, and what came back, ahead of its lane.
///
/// A lane may hold sequences whose message is finished meanwhile; whoever takes one looks it up.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lanes: [VecDeque<u64>; LANES],
    occupied: u16,
    returned: BTreeSet<(u8, Key)>,
    picks: u32,
    len: u64,
}

impl Queue {
    pub(super) fn push(&mut self, priority: u8, sequence: u64) {
        let lane = usize::from(priority.min(limits::PRIORITY_MAX));
        self.lanes[lane].push_back(sequence);
        self.occupied |= 1 << lane;
        self.len += 1;
    }

    /// Puts a message back ahead of its lane.
    pub(super) fn put_back(&mut self, priority: u8, key: Key) {
        // Highest priority first: the set is ordered upward.
        self.returned.insert((limits::PRIORITY_MAX - priority.min(limits::PRIORITY_MAX), key));
        self.len += 1;
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Takes the next sequence to deliver; it may be stale.
    pub(super) fn pop(&mut self) -> Option<u64> {
        if self.len == 0 {
            return None;
        }
        self.len -= 1;
        self.picks = self.picks.wrapping_add(1);
        let lowest = self.picks.is_multiple_of(FAIR_PICK);
        let (lane, back) = if lowest {
            (self.occupied.trailing_zeros(), self.returned.last())
        } else {
            (15u32.wrapping_sub(self.occupied.leading_zeros()), self.returned.first())
        };
        let lane = (self.occupied != 0).then_some(lane as usize);
        let back = back.map(|(p, _)| usize::from(limits::PRIORITY_MAX - p));
        // Of the same priority, what came back goes first.
        let ahead = |back: usize, lane: usize| back == lane || (back > lane) != lowest;
        match (back, lane) {
            (Some(back), lane) if lane.is_none_or(|lane| ahead(back, lane)) => {
                self.pop_returned(back as u8)
            }
            (_, Some(lane)) => self.pop_lane(lane),
            _ => None,
        }
    }

    /// The first of a priority that came back.
    fn pop_returned(&mut self, priority: u8) -> Option<u64> {
        let from = (limits::PRIORITY_MAX - priority, Key::default());
        let first = *self.returned.range(from..).next()?;
        self.returned.remove(&first);
        Some(first.1.sequence)
    }

    fn pop_lane(&mut self, lane: usize) -> Option<u64> {
        let sequence = self.lanes[lane].pop_front();
        if self.lanes[lane].is_empty() {
            self.occupied &= !(1 << lane);
            // An emptied lane gives back what a burst made it take.
            if self.lanes[lane].capacity() > 4096 {
                self.lanes[lane] = VecDeque::new();
            }
        }
        sequence
    }

    /// Takes from the front of what came back and of each lane, at most `most`, for as long as
    /// `take` says yes. Returns how many it took.
    pub(super) fn take_heads(&mut self, most: usize, mut take: impl FnMut(u64) -> bool) -> usize {
        let mut taken = 0;
        for lane in 0..LANES {
            let back = limits::PRIORITY_MAX - lane as u8;
            let from = (back, Key::default());
            while taken < most
                && let Some(&first) = self.returned.range(from..).next()
                && first.0 == back
                && take(first.1.sequence)
            {
                self.returned.remove(&first);
                taken += 1;
            }
            while taken < most
                && let Some(&first) = self.lanes[lane].front()
                && take(first)
            {
                self.pop_lane(lane);
                taken += 1;
            }
        }
        self.len -= taken as u64;
        taken
    }

    /// Drops every sequence for which `keep` says no.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(u64) -> bool) {
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            lane.retain(|sequence| keep(*sequence));
            if lane.is_empty() {
                self.occupied &= !(1 << at);
            }
        }
        self.returned.retain(|(_, key)| keep(key.sequence));
        self.len =
            self.lanes.iter().map(|l| l.len() as u64).sum::<u64>() + self.returned.len() as u64;
    }
}

/// A message that a topic keeps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub(super) sequence: u64,
    /// When it came, on the monotonic line, ms: its age is how long it could be had, whatever it
    /// was due at and wherever the wall went meanwhile.
    pub(super) since_mono_ms: u64,
}

/// The kept messages of a topic, by offset, dense.
#[derive(Debug, Default)]
pub(super) struct Topic {
    /// Offset of the first message kept.
    pub(super) first_offset: u64,
    pub(super) log: VecDeque<Kept>,
    /// Content bytes kept.
    pub(super) bytes: u64,
}

impl Topic {
    /// The offset the next message will get.
    pub(super) fn next_offset(&self) -> u64 {
        self.first_offset + self.log.len() as u64
    }

    pub(super) fn sequence_at(&self, offset: u64) -> Option<u64> {
        let at = offset.checked_sub(self.first_offset)?;
        self.log.get(usize::try_from(at).ok()?).map(|kept| kept.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn high_priority_goes_first_and_low_priority_is_not_starved() {
        let mut queue = Queue::default();
        for sequence in 0..100 {
            queue.push(9, sequence);
        }
        queue.push(0, 1000);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
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
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert!(order.iter().position(|s| *s == 1000).unwrap() < FAIR_PICK as usize);

        let mut queue = Queue::default();
        for n in 0..100 {
            queue.put_back(9, back(n));
        }
        queue.push(0, 1000);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
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
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [40, 21, 20, 30]);
    }
}
