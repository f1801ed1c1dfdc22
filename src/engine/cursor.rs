//! What a topic subscription has acknowledged: everything below a floor, and runs above it.

use std::collections::BTreeMap;

/// A set of offsets as a floor and disjoint, non-adjacent runs above it.
///
/// A gap is a message that waits or is in flight: one that the topic has dropped is closed by
/// [`Cursor::raise`]. How many runs there may be, who adds to it decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Everything below is acknowledged.
    floor: u64,
    /// First to last offset of each run, both included.
    runs: BTreeMap<u64, u64>,
}

impl Cursor {
    pub(super) fn at(floor: u64) -> Self {
        Self { floor, runs: BTreeMap::new() }
    }

    /// First offset not acknowledged.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    pub(super) fn contains(&self, offset: u64) -> bool {
        offset < self.floor
            || self.runs.range(..=offset).next_back().is_some_and(|(_, &last)| offset <= last)
    }

    /// First offset at or after `offset` that is not acknowledged.
    pub(super) fn next_gap(&self, offset: u64) -> u64 {
        let offset = offset.max(self.floor);
        match self.runs.range(..=offset).next_back() {
            Some((_, &last)) if offset <= last => last + 1,
            _ => offset,
        }
    }

    /// Whether these offsets would be a run of their own.
    pub(super) fn opens_run(&self, from: u64, to: u64) -> bool {
        let before = self.runs.range(..=to.saturating_add(1)).next_back();
        from > self.floor && before.is_none_or(|(_, &last)| last.saturating_add(1) < from)
    }

    /// Adds the offsets `from..=to`.
    pub(super) fn add(&mut self, from: u64, to: u64) {
        if to < self.floor || from > to {
            return;
        }
        let mut from = from.max(self.floor);
        let mut to = to;
        if let Some((&first, &last)) = self.runs.range(..=from).next_back()
            && last.saturating_add(1) >= from
        {
            from = first;
            to = to.max(last);
            self.runs.remove(&first);
        }
        while let Some((&first, &last)) = self.runs.range(from..=to.saturating_add(1)).next() {
            to = to.max(last);
            self.runs.remove(&first);
        }
        if from <= self.floor {
            self.floor = to + 1;
        } else {
            self.runs.insert(from, to);
        }
    }

    /// Counts everything below `floor` as acknowledged.
    pub(super) fn raise(&mut self, floor: u64) {
        if floor > self.floor {
            self.add(self.floor, floor - 1);
        }
    }

    /// How many offsets of `from..end` are not acknowledged. Costs the number of runs.
    pub(super) fn gaps_between(&self, from: u64, end: u64) -> u64 {
        let from = from.max(self.floor);
        let inside =
            |(first, last): (u64, u64)| (last + 1).min(end).saturating_sub(first.max(from));
        end.saturating_sub(from) - self.runs().map(inside).sum::<u64>()
    }

    pub(super) fn runs(&self) -> impl ExactSizeIterator<Item = (u64, u64)> + '_ {
        self.runs.iter().map(|(&first, &last)| (first, last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Goal: the runs always describe exactly the set of added offsets. Method: a plain set.
        #[test]
        fn a_cursor_is_a_set(
            floor in 0u64..5,
            raise in 0u64..45,
            adds in proptest::collection::vec((0u64..40, 0u64..6), 0..40),
        ) {
            let mut cursor = Cursor::at(floor);
            let mut model: std::collections::BTreeSet<u64> = (0..floor).collect();
            for (from, len) in adds {
                let opens = cursor.opens_run(from, from + len);
                let runs = cursor.runs().len();
                cursor.add(from, from + len);
                prop_assert_eq!(opens, cursor.runs().len() > runs);
                model.extend(from..=from + len);
                for offset in 0..50 {
                    prop_assert_eq!(cursor.contains(offset), model.contains(&offset));
                    let gap = (offset..).find(|o| !model.contains(o)).unwrap();
                    prop_assert_eq!(cursor.next_gap(offset), gap);
                }
                prop_assert_eq!(cursor.floor(), (0..).find(|o| !model.contains(o)).unwrap());
                let gaps = (7..44).filter(|o| !model.contains(o)).count() as u64;
                prop_assert_eq!(cursor.gaps_between(7, 44), gaps);
                let runs: Vec<_> = cursor.runs().collect();
                prop_assert!(runs.windows(2).all(|w| w[0].1 + 1 < w[1].0));
            }
            cursor.raise(raise);
            model.extend(0..raise);
            for offset in 0..50 {
                prop_assert_eq!(cursor.contains(offset), model.contains(&offset));
            }
            prop_assert_eq!(cursor.floor(), (0..).find(|o| !model.contains(o)).unwrap());
        }
    }
}
