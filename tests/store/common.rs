//! A model of the store, and the means to drive both.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use postdate::sim::SimDisk;
use postdate::store::{
    Compression, Family, Judges, Liveness, OnDamage, Opened, Scratch, SegmentOptions, Store,
    StoreError, StoreOptions, Value, VerifyReport, Version, verify,
};

/// Small, so that little data makes several files and merges.
pub(crate) const OPTIONS: StoreOptions = StoreOptions {
    segment: SegmentOptions { block_bytes: 512, compression: Compression::Zstd },
    flushed: Compression::None,
    file_bytes: 1_500,
    fanout: 3,
    on_damage: OnDamage::Stop,
};

pub(crate) fn dir() -> &'static Path {
    Path::new("/store")
}

pub(crate) type Row = (Family, Vec<u8>);

/// What one flush writes: a value, or a tombstone.
pub(crate) type Changes = BTreeMap<Row, Option<Vec<u8>>>;

/// What a store should show, and what is dead in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Model {
    rows: BTreeMap<Row, Vec<u8>>,
    /// Commits so far; the checkpoint says it.
    pub(crate) commits: u64,
    floors: BTreeMap<Family, Vec<u8>>,
    dead: BTreeSet<Row>,
}

impl Model {
    /// The model after one more commit, which raises a floor and lets rows die.
    pub(crate) fn after(
        &self,
        changes: &Changes,
        floor: Option<Row>,
        dead: impl IntoIterator<Item = Row>,
    ) -> Self {
        let mut next = Self { commits: self.commits + 1, ..self.clone() };
        for (row, value) in changes {
            match value {
                Some(value) => next.rows.insert(row.clone(), value.clone()),
                None => next.rows.remove(row),
            };
        }
        if let Some((family, key)) = floor {
            let floor = next.floors.entry(family).or_default();
            *floor = key.max(std::mem::take(floor));
        }
        next.dead.extend(dead);
        next
    }

    pub(crate) fn is_dead(&self, row: &Row) -> bool {
        self.dead.contains(row) || self.floors.get(&row.0).is_some_and(|floor| row.1 <= *floor)
    }

    fn live(&self, family: Family, from: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let rows = self.rows.iter().filter(|(row, _)| row.0 == family && *row.1 >= *from);
        let rows = rows.filter(|(row, _)| !self.is_dead(row));
        rows.map(|(row, value)| (row.1.clone(), value.clone())).collect()
    }

    /// Rows that were put and not taken away, dead or not.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.keys()
    }

    /// Says where a version shows something else than it should.
    pub(crate) fn check(&self, version: &Version) -> Result<(), String> {
        for family in Family::ALL {
            let (floor, known) = (version.floor(family), self.floors.get(&family));
            if floor != known.map(Vec::as_slice) {
                return Err(format!("the floor of {family:?} is {floor:?}, not {known:?}"));
            }
            let expected = self.live(family, &[]);
            let middle = expected.get(expected.len() / 2).map(|(key, _)| key.clone());
            for from in [vec![], middle.unwrap_or_default()] {
                let found = read(version, family, &from).map_err(|error| error.to_string())?;
                // What is dead may still be shown.
                let found: Vec<_> = found
                    .into_iter()
                    .filter(|(key, _)| !self.is_dead(&(family, key.clone())))
                    .collect();
                if found != self.live(family, &from) {
                    return Err(format!("{family:?} from {from:?}: {found:?}, not {expected:?}"));
                }
            }
        }
        Ok(())
    }

    /// The same by looking up each of these rows.
    pub(crate) fn check_rows<'a>(
        &self,
        version: &Version,
        rows: impl IntoIterator<Item = &'a Row>,
    ) -> Result<(), String> {
        let mut scratch = Scratch::default();
        for row in rows {
            let found = version.get(row.0, &row.1, &mut scratch);
            let found = found.map_err(|error| error.to_string())?;
            let expected = self.rows.get(row);
            if !self.is_dead(row) && found.as_deref() != expected.map(|value| &value[..]) {
                return Err(format!("{row:?}: {found:?}, not {expected:?}"));
            }
        }
        Ok(())
    }
}

impl Liveness for Model {
    fn dead(&self, family: Family, key: &[u8], _value: &[u8]) -> bool {
        self.dead.contains(&(family, key.to_vec()))
    }

    fn dead_up_to(&self, family: Family) -> Option<Vec<u8>> {
        self.floors.get(&family).cloned()
    }

    fn dead_between(&self, family: Family, first: &[u8], last: &[u8]) -> bool {
        let mut rows = self.rows.range((family, first.to_vec())..=(family, last.to_vec()));
        rows.all(|(row, _)| self.is_dead(row))
    }

    fn live_rows(&self, family: Family) -> Option<u64> {
        (family == Family::Record).then(|| self.live(family, &[]).len() as u64)
    }
}

/// Reading a damaged store shows what is right, or an error.
pub(crate) fn check_version(model: &Model, version: &Version, context: &str) {
    for family in Family::ALL {
        match read(version, family, &[]) {
            Ok(found) => assert_eq!(found, model.live(family, &[]), "{context}"),
            Err(StoreError::Corrupt { .. }) => {}
            Err(error) => panic!("{context}: {error}"),
        }
    }
}

/// What `verify` finds; rows and checkpoint may be anything.
pub(crate) fn verify_with(
    disk: &SimDisk,
    on_progress: &mut dyn FnMut(u64, u64),
) -> Result<VerifyReport, StoreError> {
    let (row, checkpoint) =
        (&mut |_: Family, _: &[u8], _: Value<'_>| Ok(()), &mut |_: &[u8]| Ok(()));
    verify(disk, dir(), Judges { row, checkpoint }, on_progress)
}

pub(crate) type Rows = Vec<(Vec<u8>, Vec<u8>)>;

pub(crate) fn read(version: &Version, family: Family, from: &[u8]) -> Result<Rows, StoreError> {
    let mut cursor = version.cursor(family, from);
    let mut found = Vec::new();
    while let Some((key, value)) = cursor.next()? {
        found.push((key.to_vec(), value.to_vec()));
    }
    Ok(found)
}

pub(crate) fn open(disk: &SimDisk) -> Result<(Store, Option<Opened>), StoreError> {
    Store::open(Arc::new(disk.clone()), dir(), OPTIONS)
}

/// Writes the changes that lead to `next` and commits them.
pub(crate) fn commit(
    store: &mut Store,
    changes: &Changes,
    next: &Arc<Model>,
) -> Result<(), StoreError> {
    let mut flush = store.flush();
    for ((family, key), value) in changes {
        let value = value.as_deref().map_or(Value::Tombstone, Value::Put);
        flush.put(*family, key, value)?;
    }
    store.commit(flush, &checkpoint(next.commits), next.commits, next.clone())
}

pub(crate) fn checkpoint(commits: u64) -> Vec<u8> {
    format!("after commit {commits}").into_bytes()
}

/// Which commit an opening has found; 0 for none.
pub(crate) fn commits_of(opened: Option<&Opened>) -> u64 {
    let Some(opened) = opened else { return 0 };
    assert_eq!(opened.checkpoint, checkpoint(opened.journal_from));
    opened.journal_from
}

/// Does all merges that are worth doing.
pub(crate) fn merge_all(store: &mut Store) -> Result<u64, StoreError> {
    let mut merges = 0;
    while let Some(plan) = store.plan_merge(false) {
        let mut merge = store.begin_merge(plan)?;
        while !store.merge_step(&mut merge, 300)? {}
        merges += 1;
        assert!(merges < 100, "merging comes to an end");
    }
    Ok(merges)
}

/// The files that lie in the directory are those the store knows of.
pub(crate) fn check_files(disk: &SimDisk, store: &Store, context: &str) {
    let names = postdate::env::Disk::list(disk, dir()).unwrap();
    let stats = store.stats();
    let of = |suffix: &str| names.iter().filter(|name| name.ends_with(suffix)).count() as u64;
    let files: u64 = stats.families.iter().map(|family| family.files).sum();
    assert_eq!(of(".seg"), files, "{context}: {names:?}");
    assert_eq!(of(".ckpt"), u64::from(stats.checkpoint_bytes > 0), "{context}: {names:?}");
    assert_eq!(of("ROOT"), 1, "{context}: {names:?}");
    assert_eq!(of(".new"), 0, "{context}: {names:?}");
}
