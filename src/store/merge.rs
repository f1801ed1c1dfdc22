//! Several runs become one, in small steps.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::store::directory::{Directory, NewFiles, RunWriter, Written};
use crate::store::merging::{Merging, RunCursor};
use crate::store::policy::MergePlan;
use crate::store::store::PACKED_LEVEL;
use crate::store::version::{FamilyView, Run, first_from};
use crate::store::{Family, OnDamage, Segment, SegmentMeta, StoreError, Value};

/// What the last durable checkpoint knows to be dead. Asked while merging, on the thread that
/// merges. What is dead once stays dead.
pub trait Liveness: Send + Sync {
    /// Whether nobody will ask for this row any more.
    fn dead(&self, family: Family, key: &[u8], value: &[u8]) -> bool;
    /// Everything of the family up to and including this key is dead, and no row there will be
    /// written again. Files below are dropped unread.
    fn dead_up_to(&self, family: Family) -> Option<Vec<u8>>;
    /// Whether every row between these keys, both included, is dead. Asked for each file at each
    /// commit; such a file is dropped unread, unless it has tombstones that hide something. For
    /// families that die in many places, like lanes.
    fn dead_between(&self, family: Family, first: &[u8], last: &[u8]) -> bool;
    /// How many rows of the family are not dead, if that is known: a family of which less than
    /// half is left is merged whole. `None` when it is not known.
    fn live_rows(&self, family: Family) -> Option<u64>;
}

/// A merge under way. Dropped before its end, it removes its files and changes nothing.
pub struct Merge {
    plan: MergePlan,
    /// `None` when it has ended, well or not.
    work: Option<Work>,
}

/// What a merge that has not ended holds.
pub(super) struct Work {
    /// What is still to be done, in the order of the keys.
    parts: VecDeque<Part>,
    /// Keys below are dead.
    from: Vec<u8>,
    /// The part that is being written.
    rows: Option<Merging>,
    /// Numbers of all files it began with.
    inputs: BTreeSet<u64>,
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
        // Smaller files are written anew, or there would be more and more of them; so are those that
        // are to be packed.
        let worth = directory.options.file_bytes / 2;
        let packed = inputs.iter().all(|run| run.level >= PACKED_LEVEL);
        let as_they_are = packed || plan.level < PACKED_LEVEL;
        let keep = |meta: &SegmentMeta| {
            as_they_are
                && !plan.whole
                && meta.bytes >= worth
                && meta.tombstones == 0
                && *meta.first_key >= *from
        };
        let work = Work {
            parts: parts(inputs, &from, keep),
            from,
            rows: None,
            inputs: inputs.iter().flat_map(|run| run.numbers()).collect(),
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
            let Work { inputs, liveness, writer, files, family, .. } = work;
            let live_rows = liveness.and_then(|liveness| liveness.live_rows(family));
            return Ok(Some(Merged { written: writer.finish()?, files, inputs, live_rows }));
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
    /// Numbers of all files it began with.
    pub(super) inputs: BTreeSet<u64>,
    /// What [`Liveness::live_rows`] of the merge says.
    pub(super) live_rows: Option<u64>,
}

impl Work {
    /// `true` when there are no more rows.
    fn step(&mut self, bytes: u64) -> Result<bool, StoreError> {
        let family = self.family;
        let until = self.read_bytes.saturating_add(bytes.max(1));
        while self.read_bytes < until {
            let Some(rows) = &mut self.rows else {
                match self.parts.pop_front() {
                    None => return Ok(true),
                    Some(Part::Keep(segment)) => self.writer.adopt(segment)?,
                    Some(Part::Merge(sources)) => {
                        let sources = sources.into_iter();
                        let sources =
                            sources.map(|files| RunCursor::new(files, &self.from, OnDamage::Stop));
                        self.rows = Some(Merging::new(sources.collect()));
                    }
                }
                continue;
            };
            let Some((key, mut value)) = rows.next()? else {
                self.rows = None;
                continue;
            };
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

/// A range of keys.
enum Part {
    /// One file alone has keys there: it becomes part of the new run as it is.
    Keep(Arc<Segment>),
    /// Files of each run, the oldest run first.
    Merge(Vec<Vec<Arc<Segment>>>),
}

/// Cuts the files from a key on into ranges that have nothing to do with each other.
fn parts(runs: &[Arc<Run>], from: &[u8], keep: impl Fn(&SegmentMeta) -> bool) -> VecDeque<Part> {
    let files = runs
        .iter()
        .enumerate()
        .flat_map(|(run, own)| own.segments.iter().map(move |segment| (run, segment.clone())));
    let mut files: Vec<_> = files.filter(|(_, file)| *file.meta().last_key >= *from).collect();
    files.sort_by(|(_, one), (_, other)| one.meta().first_key.cmp(&other.meta().first_key));
    let mut parts = VecDeque::new();
    let mut files = files.into_iter().peekable();
    while let Some((run, file)) = files.next() {
        let mut last = file.meta().last_key.clone();
        let mut group = vec![(run, file)];
        while let Some((run, file)) = files.next_if(|(_, file)| file.meta().first_key <= last) {
            last = last.max(file.meta().last_key.clone());
            group.push((run, file));
        }
        match (&group[..], parts.back_mut()) {
            ([(_, file)], _) if keep(file.meta()) => parts.push_back(Part::Keep(file.clone())),
            (_, Some(Part::Merge(sources))) => distribute(group, sources),
            _ => {
                let mut sources = vec![Vec::new(); runs.len()];
                distribute(group, &mut sources);
                parts.push_back(Part::Merge(sources));
            }
        }
    }
    parts
}

fn distribute(group: Vec<(usize, Arc<Segment>)>, sources: &mut [Vec<Arc<Segment>>]) {
    group.into_iter().for_each(|(run, file)| sources[run].push(file));
}

/// Puts a run in the place of others. `false` when none of them is there any more: everything in
/// them has died meanwhile. Of the files it `began` with, those that went meanwhile do not come
/// back.
pub(super) fn replace(
    view: &mut FamilyView,
    inputs: &[u64],
    began: &BTreeSet<u64>,
    output: Option<&Run>,
) -> bool {
    let is_input = |run: &Arc<Run>| inputs.contains(&run.number);
    let Some(at) = view.runs.iter().position(is_input) else { return false };
    let (gone, rest): (Vec<_>, Vec<_>) = view.runs.drain(..).partition(is_input);
    view.runs = rest;
    let there: BTreeSet<u64> = gone.iter().flat_map(|run| run.numbers()).collect();
    // Only younger runs have come since the merge began, and those that went were dead: what
    // is left of the inputs is still adjacent.
    if let Some(output) = output {
        let stays = |number: u64| !began.contains(&number) || there.contains(&number);
        let left = output.filter(|segment| stays(segment.meta().number));
        if !left.segments.is_empty() {
            view.runs.insert(at, Arc::new(left));
        }
    }
    true
}
