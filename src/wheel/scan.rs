//! Looking through the wheel in order, for pages of a list.

use super::bag::Bag;
use super::hours::HOUR_MS;
use super::page::Page;
use super::{HOUR_S, Wheel, parity};
use crate::base::id::Key;

/// A bag with more keys is looked through in windows of time, each sorted on its own, so that a
/// page of a list does not sort a whole crowded hour.
const SORT_MAX: usize = 4096;
/// Most windows of a bag; each costs a pass over it.
const WINDOWS_MAX: usize = 64;

/// What is asked for, and a buffer that is used again and again.
struct Walk<'a> {
    wheel: &'a Wheel,
    from: Key,
    to_due_ms: u64,
    visit: &'a mut dyn FnMut(Key) -> bool,
    found: Vec<Key>,
}

impl Wheel {
    /// Shows live keys behind `from` that are due up to and including `to_due_ms`, in order of
    /// (due, sequence), until `visit` returns `false`. Costs a sort of each second or hour that
    /// is looked at, of a crowded one in parts.
    pub fn scan(&self, from: Key, to_due_ms: u64, visit: &mut dyn FnMut(Key) -> bool) {
        Walk { wheel: self, from, to_due_ms, visit, found: Vec::new() }.all();
    }
}

impl Walk<'_> {
    /// This and the functions below return whether to go on.
    fn all(&mut self) -> bool {
        self.late() && self.lanes() && self.this_hour() && self.next_hour() && self.hours()
    }

    fn wants(&self, key: &Key) -> bool {
        *key > self.from && key.due_ms <= self.to_due_ms
    }

    /// Shows what was found.
    fn show(&mut self) -> bool {
        self.found.sort_unstable();
        self.found.drain(..).all(|key| (self.visit)(key))
    }

    fn late(&mut self) -> bool {
        let wheel = self.wheel;
        let live = |key: &&Key| !wheel.tombs.contains(key);
        self.found =
            wheel.late.iter().filter(|key| self.wants(key)).filter(live).copied().collect();
        self.show()
    }

    fn lanes(&mut self) -> bool {
        let wheel = self.wheel;
        for (due_ms, sequences) in wheel.lanes.from(self.from.due_ms) {
            if due_ms > self.to_due_ms {
                return false;
            }
            for &sequence in sequences {
                let key = Key { due_ms, sequence };
                if self.wants(&key) && !wheel.tombs.contains(&key) {
                    self.found.push(key);
                }
            }
            if !self.show() {
                return false;
            }
        }
        true
    }

    fn this_hour(&mut self) -> bool {
        let wheel = self.wheel;
        let hour = wheel.hour();
        self.seconds(&wheel.pages[parity(hour)], hour, Page::slot_of(wheel.second) + 1)
    }

    fn next_hour(&mut self) -> bool {
        let wheel = self.wheel;
        let hour = wheel.hour() + 1;
        let page = &wheel.pages[parity(hour)];
        if wheel.rest.is_empty() {
            return self.seconds(page, hour, 0);
        }
        // While it is being split a key may be in either.
        let slots = std::iter::successors(page.next(0), |&slot| page.next(slot + 1));
        let mut bags: Vec<&Bag> = slots.map(|slot| page.bag(slot)).collect();
        bags.push(&wheel.rest);
        self.bags(&bags, hour.saturating_mul(HOUR_MS), HOUR_MS)
    }

    fn seconds(&mut self, page: &Page, hour: u64, first: usize) -> bool {
        let from = (self.from.due_ms / 1000).saturating_sub(hour * HOUR_S);
        let mut slot = first.max(usize::try_from(from).unwrap_or(usize::MAX));
        while let Some(next) = page.next(slot) {
            let start_ms = (hour * HOUR_S + next as u64) * 1000;
            if !self.bags(&[page.bag(next)], start_ms, 1000) {
                return false;
            }
            slot = next + 1;
        }
        true
    }

    fn hours(&mut self) -> bool {
        let wheel = self.wheel;
        let mut from = self.from.due_ms / HOUR_MS;
        while let Some((hour, bag)) = wheel.hours.next(from) {
            if !self.bags(&[bag], hour * HOUR_MS, HOUR_MS) {
                return false;
            }
            from = hour + 1;
        }
        true
    }

    /// Bags that together hold a span of time.
    fn bags(&mut self, bags: &[&Bag], start_ms: u64, span_ms: u64) -> bool {
        let keys: usize = bags.iter().map(|bag| bag.len()).sum();
        let windows = (keys / SORT_MAX).clamp(1, WINDOWS_MAX) as u64;
        let width = span_ms.div_ceil(windows);
        for window in 0..windows {
            let low = start_ms.saturating_add(window * width);
            let high = low.saturating_add(width - 1);
            if low > self.to_due_ms {
                return false;
            }
            if high < self.from.due_ms {
                continue;
            }
            for bag in bags {
                let tombs = (!bag.all_live()).then_some(&self.wheel.tombs);
                for key in bag.iter() {
                    if key.due_ms >= low
                        && key.due_ms <= high
                        && self.wants(key)
                        && !tombs.is_some_and(|tombs| tombs.contains(key))
                    {
                        self.found.push(*key);
                    }
                }
            }
            // At the end of time further windows would fall together with this one.
            if !self.show() || high >= self.to_due_ms {
                return false;
            }
        }
        true
    }
}
