//! Several runs become one, in small steps.

use std::sync::Arc;

use crate::store::directory::{Directory, NewFiles, RunWriter, Written};
use crate::store::merging::{Merging, RunCursor};
use crate::store::policy::MergePlan;
use crate::store::version::{FamilyView, Run, first_from};
use crate::store::{Family, StoreError, Value};

/// What the last durable checkpoint knows to be dead. Asked while merging, on the thread that
/// merges. What is dead once stays dead.
pub trait Liveness: Send + Sync {
    /// Whether nobody will ask for this row any more.
    fn dead(&self, family: Family, key: &[u8], value: &[u8]) -> bool;
    /// Everything of the family up to and including this key is dead, and no row there will be
    /// written again. Files below are dropped unread.
    fn dead_up_to(&self, family: Family) -> Option<Vec<u8>>;
}

/// A merge under way. Dropped before its end, it removes its files and changes nothing.
pub struct Merge {
    plan: MergePlan,
    /// `None` when it has ended, well or not.
    work: Option<Work>,
}

/// What a merge that has not ended holds.
pub(super) struct Work {
    rows: Merging,
    /// Runs below the merged ones: what a tombstone may have to hide.
    older: Vec<Arc<Run>>,
    liveness: Option<Arc<dyn Liveness>>,
    files: NewFiles,
    writer: RunWriter,
    family: Family,
    read_bytes: u64,
    /// There is one as long as the work is not done.
    _one: Arc<()>,
}

impl Merge {
    /// `None` when a run of the plan is not there any more.
    pub(super) fn new(
        directory: Arc<Directory>,
        plan: MergePlan,
        view: &FamilyView,
        liveness: Option<Arc<dyn Liveness>>,
        one: Arc<()>,
    ) -> Option<Self> {
        let start = view.runs.iter().position(|run| Some(&run.number) == plan.runs.first())?;
        let inputs = view.runs.get(start..start + plan.runs.len())?;
        if inputs.iter().map(|run| run.number).ne(plan.runs.iter().copied()) {
            return None;
        }
        let from = first_from(view.floor.as_deref(), &[]);
        let sources = inputs.iter().map(|run| RunCursor::new(run.segments.clone(), &from));
        let work = Work {
            rows: Merging::new(sources.collect()),
            older: view.runs[..start].to_vec(),
            liveness,
            files: NewFiles::new(directory.clone()),
            writer: RunWriter::new(directory, plan.family, plan.level),
            family: plan.family,
            read_bytes: 0,
            _one: one,
        };
        Some(Self { plan, work: Some(work) })
    }

    /// What it does.
    #[must_use]
    pub fn plan(&self) -> &MergePlan {
        &self.plan
    }

    /// Merges about so many bytes of rows; what it has written when there are no more. After an
    /// error, and after that, it has ended.
    pub(super) fn work(&mut self, bytes: u64) -> Result<Option<Merged>, StoreError> {
        let mut work = self.work.take().ok_or(StoreError::BadMerge("it has ended"))?;
        if work.step(bytes)? {
            return Ok(Some(Merged { written: work.writer.finish()?, files: work.files }));
        }
        self.work = Some(work);
        Ok(None)
    }
}

/// What a merge has written. Everything is on stable storage, but for the names.
pub(super) struct Merged {
    /// `None` when no row was left.
    pub(super) written: Option<Written>,
    pub(super) files: NewFiles,
}

impl Work {
    /// `true` when there are no more rows.
    fn step(&mut self, bytes: u64) -> Result<bool, StoreError> {
        let family = self.family;
        let until = self.read_bytes.saturating_add(bytes);
        while self.read_bytes < until {
            let Some((key, mut value)) = self.rows.next()? else { return Ok(true) };
            self.read_bytes += key.len() as u64;
            if let Value::Put(bytes) = value {
                self.read_bytes += bytes.len() as u64;
                if self.liveness.as_ref().is_some_and(|live| live.dead(family, key, bytes)) {
                    value = Value::Tombstone;
                }
            }
            // A tombstone is needed as long as there may be something to hide.
            let hides = || self.older.iter().any(|run| run.may_hold(family, key).is_some());
            if value != Value::Tombstone || hides() {
                self.writer.put(&mut self.files, key, value)?;
            }
        }
        Ok(false)
    }
}

/// Puts a run in the place of others. `false` when none of them is there any more: everything in
/// them has died meanwhile.
pub(super) fn replace(view: &mut FamilyView, inputs: &[u64], output: Option<Arc<Run>>) -> bool {
    let is_input = |run: &Arc<Run>| inputs.contains(&run.number);
    let Some(at) = view.runs.iter().position(is_input) else { return false };
    view.runs.retain(|run| !is_input(run));
    // Only younger runs have come since the merge began, and those that went were dead: what
    // is left of the inputs is still adjacent.
    view.runs.splice(at..at, output);
    true
}
