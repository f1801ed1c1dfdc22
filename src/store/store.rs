//! The writing side of the store.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Weak};

use crate::base::limits::{STORE_FANOUT, STORE_FILE_BYTES, STORE_KEY_BYTES_MAX};
use crate::env::Disk;
use crate::store::checkpoint;
use crate::store::directory::{Directory, NewFiles};
use crate::store::error::Context;
use crate::store::flush::Flush;
use crate::store::layout::{Named, ROOT, ROOT_NEW};
use crate::store::merge::{Liveness, Merge, replace};
use crate::store::policy::{MergePlan, plan};
use crate::store::root::Root;
use crate::store::stats::StoreStats;
use crate::store::version::{FamilyView, Run, Version, index};
use crate::store::{Compression, Family, OnDamage, SegmentOptions, Snapshot, StoreError};

/// Runs from this level on are packed as [`StoreOptions::segment`] says. Packing is most of the work of a
/// merge: what is flushed is joined once before it, so that the number of runs stays low under load.
pub(super) const PACKED_LEVEL: u32 = 2;

/// Settings of a [`Store`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreOptions {
    /// How merges write segment files.
    pub segment: SegmentOptions,
    /// How blocks of the two lowest levels are packed. A flush is waited for, and merges write its rows
    /// anew: quick is better than small.
    pub flushed: Compression,
    /// Size at which a run begins its next file, bytes.
    pub file_bytes: u64,
    /// How many runs of a level become one of the next, at least 2.
    pub fanout: usize,
    /// What readers do about damaged blocks.
    pub on_damage: OnDamage,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            segment: SegmentOptions::default(),
            flushed: Compression::None,
            file_bytes: STORE_FILE_BYTES,
            fanout: STORE_FANOUT,
            on_damage: OnDamage::default(),
        }
    }
}

/// What the last commit left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The bytes given to [`Store::commit`].
    pub checkpoint: Vec<u8>,
    /// The journal is needed from this segment on.
    pub journal_from: u64,
}

/// A store that is open for writing. One thread owns it; any number may read its [`Version`]s.
pub struct Store {
    directory: Arc<Directory>,
    /// What the last root says. Its families are those of `version`.
    root: Root,
    version: Arc<Version>,
    liveness: Option<Arc<dyn Liveness>>,
    /// Rows of each family that the last merge of everything kept although they are not counted as
    /// alive: another such merge would keep them again.
    kept: [u64; Family::ALL.len()],
    /// Files of a root that may or may not have become durable. They go when another has.
    uncertain: Vec<Named>,
    merging: Weak<()>,
}

impl Store {
    /// Opens a store, or creates it in a directory whose parent is there durably. Removes what a
    /// crash has left. `None` for the second while
    /// nothing was ever committed.
    ///
    /// # Errors
    /// [`StoreError`]; an existing store was not changed.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: StoreOptions,
    ) -> Result<(Self, Option<Opened>), StoreError> {
        if options.fanout < 2 {
            return Err(StoreError::BadOptions("a merge takes at least two runs"));
        }
        disk.create_dir_all(dir).context("create", dir)?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            disk.sync_dir(parent).context("sync", parent)?;
        }
        let names = disk.list(dir).context("list", dir)?;
        let files: BTreeSet<Named> = names.iter().filter_map(|name| Named::parse(name)).collect();
        let root = match Root::read(&*disk, dir)? {
            Some(root) => {
                // The root that is seen must be the durable one before anything is removed.
                disk.sync_dir(dir).context("sync", dir)?;
                root
            }
            // The root is older than any other file.
            None if !files.is_empty() => {
                return Err(StoreError::Missing { file: dir.join(ROOT) });
            }
            None => {
                let root = Root { next_number: 1, ..Root::default() };
                root.replace(&*disk, dir).map_err(|failed| failed.error)?;
                root
            }
        };
        // Above what a crash has left too, should some of it refuse to go.
        let left = files.iter().map(|file| file.number() + 1).max().unwrap_or(0);
        let directory = Directory::new(disk, dir.into(), options, root.next_number.max(left));
        let version = open_version(&directory, &root)?;
        let opened = match root.checkpoint {
            Some(name) => {
                let checkpoint = checkpoint::read(&*directory.disk, dir, name)?;
                Some(Opened { checkpoint, journal_from: root.journal_from })
            }
            None => None,
        };
        let named = named_by(&root);
        directory.remove(&files.difference(&named).copied().collect::<Vec<_>>());
        if names.iter().any(|name| name == ROOT_NEW) {
            let _ = directory.disk.remove(&dir.join(ROOT_NEW));
        }
        let store = Self {
            directory,
            root,
            version: Arc::new(version),
            liveness: None,
            kept: [0; Family::ALL.len()],
            uncertain: Vec::new(),
            merging: Weak::new(),
        };
        Ok((store, opened))
    }

    /// What the store consists of now.
    #[must_use]
    pub fn version(&self) -> Arc<Version> {
        self.version.clone()
    }

    /// What the store consists of now, to be copied while it goes on.
    ///
    /// # Errors
    /// [`StoreError::Missing`] and [`StoreError::Io`] of the checkpoint file.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let Directory { disk, dir, .. } = &*self.directory;
        Snapshot::new(&**disk, dir, &self.root, self.version.clone())
    }

    /// Begins to write new rows.
    #[must_use]
    pub fn flush(&self) -> Flush {
        Flush::new(self.directory.clone())
    }

    /// Says what is dead, as the checkpoint that [`Store::open`] gave knows it. Before that, and
    /// before the first commit, merges keep everything.
    pub fn judge_by(&mut self, liveness: Arc<dyn Liveness>) {
        self.liveness = Some(liveness);
    }

    /// Makes a flush part of the store, together with the checkpoint that goes with it. After
    /// `Ok` all of it is durable, and the journal is not needed below segment `journal_from`.
    ///
    /// # Errors
    /// [`StoreError`]; nothing changed, the files of the flush are gone, and another flush may be
    /// tried. Which of both is found after a restart is open, so the journal must be kept.
    pub fn commit(
        &mut self,
        flush: Flush,
        checkpoint: &[u8],
        journal_from: u64,
        liveness: Arc<dyn Liveness>,
    ) -> Result<(), StoreError> {
        let (written, mut files) = flush.finish()?;
        let Directory { disk, dir, .. } = &*self.directory;
        let number = self.directory.take_number();
        files.add(Named::Checkpoint(number));
        let name = checkpoint::write(&**disk, dir, number, checkpoint)?;
        let mut root = Root { checkpoint: Some(name), journal_from, ..self.root.clone() };
        let mut families = self.version.families.clone();
        // What a merge has read may come back when it ends: it still has to be hidden.
        let merging = self.merging.strong_count() > 0;
        for (family, written) in written {
            root.totals.flushed_bytes += written.bytes;
            families[index(family)].runs.push(written.run);
        }
        for (family, view) in Family::ALL.into_iter().zip(&mut families) {
            let floor = liveness.dead_up_to(family).map(|mut floor| {
                // No key is longer, and a shorter floor is a lower one.
                floor.truncate(STORE_KEY_BYTES_MAX);
                floor.into_boxed_slice()
            });
            root.totals.dropped_files += view.raise_floor(floor);
            let dead = |first: &[u8], last: &[u8]| liveness.dead_between(family, first, last);
            root.totals.dropped_files += view.drop_dead(dead, merging);
        }
        self.switch(root, families, files)?;
        self.liveness = Some(liveness);
        Ok(())
    }

    /// The next merge worth doing, if any: one that bounds the number of runs before one that
    /// only saves space. In a `quiet` time also one that packs what flushes wrote since. `None` also
    /// while there is a merge under way. Runs with blocks that readers have met damaged are left alone,
    /// and split those around them.
    #[must_use]
    pub fn plan_merge(&self, quiet: bool) -> Option<MergePlan> {
        if self.merging.strong_count() > 0 {
            return None;
        }
        let options = &self.directory.options;
        let plans = Family::ALL.into_iter().zip(&self.root.families);
        let plans = plans.filter_map(|(family, own)| {
            let live = self.liveness.as_ref().and_then(|liveness| liveness.live_rows(family));
            let live = live.map(|live| live.saturating_add(self.kept[index(family)]));
            plan(family, own, options, live, quiet, &self.damaged_runs(family))
        });
        plans.min_by_key(|plan| plan.idle)
    }

    /// Whether the disk has space for what a merge writes, and `reserve` bytes beside. What is dead is
    /// left out of the estimate where it is known. A disk that cannot be asked says so when it is
    /// written to.
    #[must_use]
    pub fn has_room_for(&self, plan: &MergePlan, reserve: u64) -> bool {
        let Directory { disk, dir, .. } = &*self.directory;
        let free = disk.free_bytes(dir).unwrap_or(u64::MAX);
        let live = self.liveness.as_ref().and_then(|liveness| liveness.live_rows(plan.family));
        let bytes = match live {
            Some(live) if plan.whole => {
                let view = self.version.view(plan.family);
                let rows: u64 = view.runs.iter().map(|run| run.puts()).sum();
                let part = live.min(rows) as f64 / rows.max(1) as f64;
                (plan.bytes as f64 * part) as u64
            }
            _ => plan.bytes,
        };
        free >= bytes.saturating_add(reserve)
    }

    /// Runs that cannot be merged without losing what their damaged blocks held. Damage at or below
    /// the floor is in nobody's way: what stood there is dead, and not read.
    fn damaged_runs(&self, family: Family) -> BTreeSet<u64> {
        let view = self.version.view(family);
        let damaged = |run: &&Arc<Run>| {
            run.segments.iter().any(|segment| segment.has_damage_above(view.floor.as_deref()))
        };
        view.runs.iter().filter(damaged).map(|run| run.number).collect()
    }

    /// What its readers do about damaged blocks.
    #[must_use]
    pub fn on_damage(&self) -> OnDamage {
        self.directory.options.on_damage
    }

    /// Begins a merge. Reads and writes nothing yet.
    ///
    /// # Errors
    /// [`StoreError::BadMerge`] when runs of the plan are gone or a merge is under way.
    pub fn begin_merge(&mut self, plan: MergePlan) -> Result<Merge, StoreError> {
        if self.merging.strong_count() > 0 {
            return Err(StoreError::BadMerge("another merge is under way"));
        }
        let one = Arc::new(());
        self.merging = Arc::downgrade(&one);
        let view = self.version.view(plan.family);
        Merge::new(self.directory.clone(), plan, view, self.liveness.clone(), one)
            .ok_or(StoreError::BadMerge("its runs are not there any more"))
    }

    /// Merges about so many bytes of rows. `true` when that was the last step: the merged run is
    /// durable in the place of those it was made from, and their files are removed. A flush may be
    /// committed between two steps.
    ///
    /// # Errors
    /// [`StoreError`]; the store is as it was, the files of the merge are gone and the merge has
    /// ended: it may be planned again. [`StoreError::BadMerge`] when it had ended before.
    pub fn merge_step(&mut self, merge: &mut Merge, bytes: u64) -> Result<bool, StoreError> {
        let Some(merged) = merge.work(bytes)? else { return Ok(false) };
        let plan = merge.plan();
        let (family, whole) = (plan.family, plan.whole);
        let mut root = self.root.clone();
        let mut families = self.version.families.clone();
        let view = &mut families[index(family)];
        root.totals.merges += 1;
        root.totals.merged_bytes += merged.written.as_ref().map_or(0, |written| written.bytes);
        let output = merged.written.as_ref().map(|written| &*written.run);
        if !replace(view, &plan.runs, &merged.inputs, output) {
            return Ok(true);
        }
        let puts = output.map_or(0, Run::puts);
        // The floor may have risen since the merge began.
        root.totals.dropped_files += view.raise_floor(None);
        self.switch(root, families, merged.files)?;
        if whole && let Some(live) = merged.live_rows {
            self.kept[index(family)] = puts.saturating_sub(live);
        }
        Ok(true)
    }

    /// Figures.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        StoreStats::of(&self.root, self.directory.options.fanout)
    }

    /// Makes another root the durable one, and removes what it does not name.
    fn switch(
        &mut self,
        mut root: Root,
        families: [FamilyView; Family::ALL.len()],
        files: NewFiles,
    ) -> Result<(), StoreError> {
        root.next_number = self.directory.next_number();
        root.families = families.each_ref().map(FamilyView::describe);
        let Directory { disk, dir, .. } = &*self.directory;
        match root.replace(&**disk, dir) {
            Ok(()) => {}
            Err(failed) if failed.certain => return Err(failed.error),
            Err(failed) => {
                // A restart may find the new root after all.
                self.uncertain.extend(files.keep());
                return Err(failed.error);
            }
        }
        let mut candidates: BTreeSet<Named> = named_by(&self.root);
        candidates.extend(files.keep());
        candidates.extend(self.uncertain.drain(..));
        let named = named_by(&root);
        self.directory.remove(&candidates.difference(&named).copied().collect::<Vec<_>>());
        self.root = root;
        let damaged = self.directory.damaged.clone();
        self.version = Arc::new(Version { families, damaged });
        Ok(())
    }
}

/// Files a root names.
pub(super) fn named_by(root: &Root) -> BTreeSet<Named> {
    let segments = root.segments().map(|(_, meta)| Named::Segment(meta.number));
    segments.chain(root.checkpoint.map(|name| Named::Checkpoint(name.number))).collect()
}

fn open_version(directory: &Directory, root: &Root) -> Result<Version, StoreError> {
    let mut version = Version { damaged: directory.damaged.clone(), ..Version::default() };
    for (view, own) in version.families.iter_mut().zip(&root.families) {
        view.floor.clone_from(&own.floor);
        for run in &own.runs {
            let segments = run.segments.iter().map(|meta| directory.open(meta, None));
            let segments = segments.collect::<Result<_, _>>()?;
            view.runs.push(Arc::new(Run { number: run.number, level: run.level, segments }));
        }
    }
    Ok(version)
}
