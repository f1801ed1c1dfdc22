//! What the store consists of at one moment, for reading.

use std::sync::Arc;

use bytes::Bytes;

use crate::store::damaged::DamagedBlocks;
use crate::store::error::StoreError;
use crate::store::key::tail;
use crate::store::merging::{MergeCursor, RunCursor};
use crate::store::root::{FamilyRoot, RunRoot};
use crate::store::{Family, OnDamage, Owned, Scratch, Segment};

/// Files that were written together, sorted: what one flush or one merge wrote of one family.
pub struct Run {
    /// No two runs of a store ever have the same.
    pub number: u64,
    /// 0 for what a flush wrote; a merge writes one level above what it read.
    pub level: u32,
    /// Ascending and disjoint in their keys; never empty.
    pub segments: Vec<Arc<Segment>>,
}

impl Run {
    /// The one file whose key range holds the key, if any.
    pub(super) fn segment_for(&self, key: &[u8]) -> Option<&Arc<Segment>> {
        let at = self.segments.partition_point(|segment| *segment.meta().last_key < *key);
        self.segments.get(at).filter(|segment| *segment.meta().first_key <= *key)
    }

    /// Whether a row of this key may be here, judged without reading.
    pub(super) fn may_hold(&self, family: Family, key: &[u8]) -> Option<&Arc<Segment>> {
        self.segment_for(key).filter(|segment| {
            let meta = segment.meta();
            // Due times of a run overlap those of every other; sequences hardly do.
            family != Family::Scheduled || (meta.tail_min..=meta.tail_max).contains(&tail(key))
        })
    }

    /// Rows that are no tombstones.
    pub(super) fn puts(&self) -> u64 {
        let metas = self.segments.iter().map(|segment| segment.meta());
        metas.map(|meta| meta.rows - meta.tombstones).sum()
    }

    /// Numbers of its files.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.segments.iter().map(|segment| segment.meta().number)
    }

    /// The same run with some of its files.
    pub(super) fn filter(&self, stays: impl Fn(&Segment) -> bool) -> Self {
        let segments = self.segments.iter().filter(|segment| stays(segment)).cloned().collect();
        Self { number: self.number, level: self.level, segments }
    }

    fn overlaps(&self, first: &[u8], last: &[u8]) -> bool {
        let at = self.segments.partition_point(|segment| *segment.meta().last_key < *first);
        self.segments.get(at).is_some_and(|segment| *segment.meta().first_key <= *last)
    }

    fn describe(&self) -> RunRoot {
        let segments = self.segments.iter().map(|segment| segment.meta().clone()).collect();
        RunRoot { number: self.number, level: self.level, segments }
    }
}

/// The runs of one family.
#[derive(Clone, Default)]
pub(super) struct FamilyView {
    /// Rows up to and including this key are dead and not shown.
    pub(super) floor: Option<Box<[u8]>>,
    /// Oldest first.
    pub(super) runs: Vec<Arc<Run>>,
}

impl FamilyView {
    /// Raises the floor and leaves out the files that lie at or below it. Gives their number.
    pub(super) fn raise_floor(&mut self, floor: Option<Box<[u8]>>) -> u64 {
        // `None` is below every key.
        self.floor = self.floor.take().max(floor);
        let Some(floor) = self.floor.clone() else { return 0 };
        self.drop_files(|_, segment| segment.meta().last_key <= floor)
    }

    /// Leaves out the files in which everything is dead, by their first and last key. One with
    /// tombstones stays as long as there is something older it may hide, or a merge under way. Gives
    /// their number.
    pub(super) fn drop_dead(&mut self, dead: impl Fn(&[u8], &[u8]) -> bool, merging: bool) -> u64 {
        self.drop_files(|older, segment| {
            let meta = segment.meta();
            let (first, last) = (&meta.first_key, &meta.last_key);
            let hides = || merging || older.iter().any(|run| run.overlaps(first, last));
            dead(first, last) && (meta.tombstones == 0 || !hides())
        })
    }

    fn drop_files(&mut self, goes: impl Fn(&[Arc<Run>], &Segment) -> bool) -> u64 {
        let mut dropped = 0;
        for at in 0..self.runs.len() {
            let (older, run) = (&self.runs[..at], &self.runs[at]);
            let left = run.filter(|segment| !goes(older, segment));
            let gone = run.segments.len() - left.segments.len();
            if gone > 0 {
                dropped += gone as u64;
                self.runs[at] = Arc::new(left);
            }
        }
        self.runs.retain(|run| !run.segments.is_empty());
        dropped
    }

    pub(super) fn describe(&self) -> FamilyRoot {
        let runs = self.runs.iter().map(|run| run.describe()).collect();
        FamilyRoot { floor: self.floor.clone(), runs }
    }
}

/// An immutable view of the store. Files that it shows stay readable as long as it lives, also
/// when merges have removed their names since.
#[derive(Default)]
pub struct Version {
    pub(super) families: [FamilyView; Family::ALL.len()],
    pub(super) damaged: Arc<DamagedBlocks>,
}

impl Version {
    /// The value of a key; `None` when there is no live row of it.
    ///
    /// # Errors
    /// [`StoreError::Io`] and [`StoreError::Corrupt`] of the files that may hold it.
    pub fn get(
        &self,
        family: Family,
        key: &[u8],
        scratch: &mut Scratch,
    ) -> Result<Option<Bytes>, StoreError> {
        let view = self.view(family);
        if view.floor.as_deref().is_some_and(|floor| key <= floor) {
            return Ok(None);
        }
        for segment in view.runs.iter().rev().filter_map(|run| run.may_hold(family, key)) {
            match segment.get(key, scratch)? {
                Some(Owned::Put(value)) => return Ok(Some(value)),
                Some(Owned::Tombstone) => return Ok(None),
                None => {}
            }
        }
        Ok(None)
    }

    /// The live rows from a key on, that key included.
    #[must_use]
    pub fn cursor(&self, family: Family, from: &[u8]) -> MergeCursor {
        let view = self.view(family);
        let from = first_from(view.floor.as_deref(), from);
        let runs =
            view.runs.iter().map(|run| RunCursor::new(run.segments.clone(), &from, OnDamage::Skip));
        MergeCursor::new(runs.collect())
    }

    /// The runs of a family, oldest first.
    #[must_use]
    pub fn runs(&self, family: Family) -> &[Arc<Run>] {
        &self.view(family).runs
    }

    /// Damaged blocks met and skipped since the store was opened, by whoever read, each counted once;
    /// 0 with [`OnDamage::Stop`].
    #[must_use]
    pub fn damaged_blocks(&self) -> u64 {
        self.damaged.count()
    }

    /// Every row up to and including this key is dead and is not shown.
    #[must_use]
    pub fn floor(&self, family: Family) -> Option<&[u8]> {
        self.view(family).floor.as_deref()
    }

    /// The files of all families.
    pub(super) fn segments(&self) -> impl Iterator<Item = &Segment> {
        let runs = self.families.iter().flat_map(|view| &view.runs);
        runs.flat_map(|run| run.segments.iter().map(|segment| &**segment))
    }

    pub(super) fn view(&self, family: Family) -> &FamilyView {
        &self.families[index(family)]
    }
}

/// The first key that may be shown.
pub(super) fn first_from(floor: Option<&[u8]>, from: &[u8]) -> Vec<u8> {
    match floor {
        // The key right behind the floor.
        Some(floor) if from <= floor => [floor, &[0]].concat(),
        _ => from.to_vec(),
    }
}

/// Where a family stands in [`Family::ALL`].
pub(super) fn index(family: Family) -> usize {
    family as usize - 1
}
