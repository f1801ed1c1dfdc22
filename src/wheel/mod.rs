//! The timing wheel: which message is due when, at O(1) a message.
//!
//! A hierarchical timing wheel after G. Varghese and A. Lauck, "Hashed and Hierarchical Timing
//! Wheels" (SOSP 1987; IEEE/ACM Transactions on Networking 5(6), 1997), with two levels. It is
//! pure: time is an argument, the answer depends on nothing but the calls made. It holds a
//! [`Key`] a message, 16 bytes; the caller finds the message by its sequence.
//!
//! ```text
//!  late     | open second  | level 0: seconds of this hour,    | level 1: hours up   | far: map
//!  (a heap) | 1000 ms lanes| and of the next (`rest`: unsplit) | to 40 days          | by hour
//!  ---------+--------------+-----------------------------------+---------------------+--------->
//!           ^ `second`: the cursor                                               due time
//! ```
//!
//! What differs from the textbook, and why:
//! - **Time drives it, not ticks.** The cursor goes from one occupied second to the next by
//!   bitmap, however far time has jumped. Missing a thousand calls costs nothing.
//! - **The cursor is not the clock.** `position` is the latest time seen, `second` is where firing
//!   has got to. When a limit stops it, what is put in between goes to its proper place in order.
//! - **Slots are aligned to time**, not to the cursor: a key leaves its second slot for the lanes
//!   when that second is opened, so it neither waits a turn nor fires before its own ms.
//! - **The next hour is split ahead**, at most [`SPLIT_PER_ADVANCE`] keys a call, so an hour with
//!   millions of keys does not stall the call that enters it. There are two pages of 3600 seconds
//!   therefore, this hour's and the next one's, used in turn; new keys of the next hour go to its
//!   page directly. If time gets there first, the rest is split at once: slower, still exact.
//! - **Cancel leaves a tombstone** and searches nothing. A slot that is more than half dead is
//!   rewritten, so cancelled memory comes back.
//!
//! Invariants:
//! - Everything before `second` has left or is in `late`; both pages and `hours` hold only later
//!   seconds; the lanes hold `second` itself.
//! - A key is where `Wheel::place` says, by its due time alone; only for the next hour it may be
//!   in the page or in `rest`, which is why bags may count too many dead keys but never too few.
//! - A key has a tombstone exactly when a dead copy of it is inside.
//! - A container that is not empty holds a live key, so [`Wheel::next_deadline`] just looks.

mod bag;
mod bitmap;
mod hours;
mod lanes;
mod late;
#[cfg(test)]
mod model_tests;
mod page;
#[cfg(test)]
mod parts_tests;
mod scan;
#[cfg(test)]
mod tests;
mod tombs;

use std::fmt;

use crate::base::id::Key;
use bag::Bag;
use hours::Hours;
use lanes::Lanes;
use late::Late;
use page::Page;
use tombs::Tombs;

/// Most keys of the next hour moved to their seconds in one call of [`Wheel::advance`]. At one
/// call a second an hour of 29 million keys is split in time.
pub const SPLIT_PER_ADVANCE: usize = 8192;

/// A second with at most so many keys, all due, is sorted as it is: cheaper than the lanes.
const SPARSE: usize = 64;

const HOUR_S: u64 = page::SLOTS as u64;

/// Where a key is kept.
enum Place {
    Late,
    Lane,
    Page { index: usize, splitting: bool },
    Hours,
}

/// The keys of all scheduled messages and timers, ordered by (due, sequence) as they leave.
///
/// A key may be inside only once at a time. Nothing here panics, whatever the due times are.
#[derive(Clone)]
pub struct Wheel {
    /// Latest time seen, ms.
    position: u64,
    /// The open second, in seconds since the Unix epoch.
    second: u64,
    late: Late,
    lanes: Lanes,
    /// This hour and the next, each at its parity.
    pages: [Page; 2],
    /// Keys of the next hour that are not in its page yet.
    rest: Bag,
    hours: Hours,
    tombs: Tombs,
    len: usize,
    /// [`SPLIT_PER_ADVANCE`]; tests take less to see more of the time in between.
    split_per_advance: usize,
}

impl Wheel {
    /// An empty wheel at this time, in ms since the Unix epoch.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        let second = now_ms / 1000;
        let mut lanes = Lanes::new();
        lanes.move_to(second);
        Self {
            position: now_ms,
            second,
            late: Late::default(),
            lanes,
            pages: [Page::new(), Page::new()],
            rest: Bag::default(),
            hours: Hours::new(second / HOUR_S),
            tombs: Tombs::default(),
            len: 0,
            split_per_advance: SPLIT_PER_ADVANCE,
        }
    }

    /// Live keys inside.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no live key is inside.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn hour(&self) -> u64 {
        self.second / HOUR_S
    }

    fn place(&self, due_ms: u64) -> Place {
        let second = due_ms / 1000;
        if second <= self.second {
            return if second == self.second { Place::Lane } else { Place::Late };
        }
        let (hour, now) = (second / HOUR_S, self.hour());
        if hour > now + 1 {
            return Place::Hours;
        }
        Place::Page { index: parity(hour), splitting: hour > now && !self.rest.is_empty() }
    }

    /// Puts a key in. The key must not be inside, unless cancelled. A key that is due already
    /// leaves with the next advance, before all later ones. O(1); behind the open second O(log n)
    /// of the number of such late keys.
    pub fn insert(&mut self, key: Key) {
        self.len += 1;
        if !self.tombs.is_empty() && self.tombs.remove(&key) {
            return self.revive(key);
        }
        match self.place(key.due_ms) {
            Place::Late => self.late.push(key),
            Place::Lane => self.lanes.push(key),
            Place::Page { index, .. } => self.pages[index].push(key),
            Place::Hours => self.hours.push(key),
        }
    }

    /// The dead copy has just lost its tombstone, so it is the key now.
    #[cold]
    fn revive(&mut self, key: Key) {
        match self.place(key.due_ms) {
            Place::Late => self.late.revived(),
            Place::Lane => self.lanes.revived(key.due_ms),
            // Whether the copy is in the page or still in `rest` is not known.
            Place::Page { index, splitting: true } => {
                self.pages[index].bag_of_mut(key.due_ms).note_perhaps_live(key.due_ms, &self.tombs);
            }
            Place::Page { index, splitting: false } => {
                self.pages[index].bag_of_mut(key.due_ms).note_live(key.due_ms);
            }
            // The bound of an hour never rose above the copy.
            Place::Hours => {}
        }
    }

    /// Takes a key out; it will not leave by an advance. Amortised O(1), without a search.
    ///
    /// The key must be inside. Of one that was never put in, has left or was cancelled already,
    /// the wheel cannot know: it would count wrongly and swallow a later insert of the same key.
    pub fn cancel(&mut self, key: Key) {
        let first = self.tombs.insert(key);
        debug_assert!(first && self.len > 0, "cancelled a key that is not inside");
        if !first {
            return;
        }
        self.len = self.len.saturating_sub(1);
        match self.place(key.due_ms) {
            Place::Late => self.late.cancelled(&mut self.tombs),
            Place::Lane => self.lanes.cancelled(key.due_ms, &mut self.tombs),
            Place::Page { index, splitting } => {
                self.pages[index].cancelled(key.due_ms, &mut self.tombs);
                if splitting {
                    self.rest.cancelled(key.due_ms, false, &mut self.tombs);
                }
            }
            Place::Hours => self.hours.cancelled(key.due_ms, &mut self.tombs),
        }
    }

    /// Moves time forward to `now_ms` and appends to `out`, in order of (due, sequence), what is
    /// due at that time, at most `limit` keys. `true` when more is due; the next call goes on
    /// exactly there, be it inside a ms.
    ///
    /// Time never goes back: a `now_ms` below an earlier one counts as that earlier one.
    #[must_use = "more may be due"]
    pub fn advance(&mut self, now_ms: u64, limit: usize, out: &mut Vec<Key>) -> bool {
        self.position = self.position.max(now_ms);
        self.fire(Key::end_of(self.position), limit, out)
    }

    /// The same up to and including a key, which may lie inside a ms.
    #[must_use = "more may be due"]
    pub fn advance_within(&mut self, last: Key, limit: usize, out: &mut Vec<Key>) -> bool {
        self.position = self.position.max(last.due_ms);
        self.fire(last, limit, out)
    }

    /// Fires everything up to and including `last`, and nothing behind it: what a journal says
    /// has been fired. Moves time to at least `last.due_ms`.
    pub fn advance_to(&mut self, last: Key, out: &mut Vec<Key>) {
        self.position = self.position.max(last.due_ms);
        let more = self.fire(last, usize::MAX, out);
        debug_assert!(!more, "without a limit nothing is left");
    }

    fn fire(&mut self, last: Key, limit: usize, out: &mut Vec<Key>) -> bool {
        let before = out.len();
        let end = before.saturating_add(limit);
        let more = loop {
            let room = end - out.len();
            if let Some(first) = self.late.first() {
                if first > last || room == 0 {
                    break first <= last;
                }
                self.late.pop(&mut self.tombs);
                out.push(first);
            } else if let Some(due_ms) = self.lanes.first_due() {
                if due_ms > last.due_ms {
                    break false;
                }
                let more = self.lanes.head(due_ms, &mut self.tombs).is_some_and(|key| key <= last);
                if !more || room == 0 {
                    break more;
                }
                let sequence = if due_ms == last.due_ms { last.sequence } else { u64::MAX };
                self.lanes.fire(due_ms, sequence, room, &mut self.tombs, out);
            } else {
                let Some(second) = self.find_next(last.due_ms / 1000) else { break false };
                if !self.fire_sparse(second, last, room, out) {
                    self.open(second);
                }
            }
        };
        self.len -= out.len() - before;
        self.split(self.split_per_advance);
        more
    }

    /// The next occupied second up to `target`. Moves the cursor into its hour at most, and to
    /// `target` when there is none. The lanes must be empty.
    fn find_next(&mut self, target: u64) -> Option<u64> {
        if target <= self.second {
            return None;
        }
        let mut slot = Page::slot_of(self.second) + 1;
        loop {
            let hour = self.hour();
            if let Some(slot) = self.pages[parity(hour)].next(slot) {
                let second = hour * HOUR_S + slot as u64;
                if second <= target {
                    return Some(second);
                }
                break;
            }
            let target_hour = target / HOUR_S;
            match self.next_hour() {
                Some(next) if next <= target_hour => self.enter_hour(next),
                _ => {
                    if target_hour > hour {
                        self.enter_hour(target_hour);
                    }
                    break;
                }
            }
            slot = 0;
        }
        self.move_to(target);
        None
    }

    /// Fires this second without the lanes if it has few keys and all of them may go.
    fn fire_sparse(&mut self, second: u64, last: Key, room: usize, out: &mut Vec<Key>) -> bool {
        let page = &mut self.pages[parity(second / HOUR_S)];
        let slot = Page::slot_of(second);
        let bag = page.bag(slot);
        let whole = Key::end_of((second * 1000).saturating_add(999)) <= last;
        if bag.len() > room.min(SPARSE) || !(whole || bag.only().is_some_and(|key| key <= last)) {
            return false;
        }
        let start = out.len();
        page.empty_slot(slot, &mut self.tombs, |key| out.push(key));
        out[start..].sort_unstable();
        self.move_to(second);
        true
    }

    /// Moves the cursor; the lanes must be empty.
    fn move_to(&mut self, second: u64) {
        self.second = second;
        self.lanes.move_to(second);
    }

    /// The first hour behind this one that holds something.
    fn next_hour(&self) -> Option<u64> {
        let next = self.hour() + 1;
        if !self.rest.is_empty() || self.pages[parity(next)].next(0).is_some() {
            return Some(next);
        }
        self.hours.next(next).map(|(hour, _)| hour)
    }

    /// Makes this later hour the current one. Everything before it must be empty.
    fn enter_hour(&mut self, hour: u64) {
        self.split(usize::MAX);
        let (bag, next) = self.hours.move_to(hour);
        // An hour that was jumped to, not the one that was split ahead.
        self.rest = bag;
        self.second = hour * HOUR_S;
        self.split_into(parity(hour), usize::MAX);
        self.rest = next;
    }

    /// Puts the keys of this second of the current hour into the lanes.
    fn open(&mut self, second: u64) {
        self.move_to(second);
        let page = &mut self.pages[parity(second / HOUR_S)];
        page.empty_slot(Page::slot_of(second), &mut self.tombs, |key| self.lanes.push(key));
    }

    /// Moves up to so many keys of the next hour to their seconds.
    fn split(&mut self, most: usize) {
        self.split_into(parity(self.hour() + 1), most);
    }

    fn split_into(&mut self, page: usize, most: usize) {
        if self.rest.is_empty() {
            return;
        }
        let page = &mut self.pages[page];
        self.rest.take_some(most, &mut self.tombs, |key| page.push(key));
    }

    /// When the earliest live key is due, in ms; `None` when there is none. Exact within the
    /// current hour. Beyond, a key cancelled since may make it too early, but not earlier than
    /// the beginning of the hour of the earliest live key. Looks at bitmaps only; cheap enough
    /// for every step.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        if self.len == 0 {
            return None;
        }
        if let Some(first) = self.late.first() {
            return Some(first.due_ms);
        }
        if let Some(due_ms) = self.lanes.first_due() {
            return Some(due_ms);
        }
        let hour = self.hour();
        let page = &self.pages[parity(hour)];
        if let Some(slot) = page.next(Page::slot_of(self.second) + 1) {
            return Some(page.bag(slot).min());
        }
        let page = &self.pages[parity(hour + 1)];
        let in_page = page.next(0).map_or(u64::MAX, |slot| page.bag(slot).min());
        if in_page != u64::MAX || !self.rest.is_empty() {
            return Some(in_page.min(self.rest.min()));
        }
        self.hours.next(hour + 2).map(|(_, bag)| bag.min())
    }

    /// Bytes held, allocated ones included. Walks all slots, some tens of microseconds: for a
    /// look now and then, not for every step.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let pages: usize = self.pages.iter().map(Page::bytes).sum();
        let small = self.late.bytes() + self.lanes.bytes() + self.rest.bytes();
        size_of::<Self>() + pages + small + self.hours.bytes() + self.tombs.bytes()
    }
}

/// The page of an hour.
fn parity(hour: u64) -> usize {
    (hour & 1) as usize
}

impl fmt::Debug for Wheel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wheel")
            .field("position", &self.position)
            .field("second", &self.second)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
