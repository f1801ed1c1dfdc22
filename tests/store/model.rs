//! Goal: the store shows what was committed, whatever was merged, dropped or opened again in
//! between. Method: random calls, the same made on a model, everything compared.

use std::sync::Arc;

use postdate::sim::{SimDisk, Survival};
use postdate::store::{Family, Merge};
use proptest::prelude::*;

use crate::common::{Changes, Model, Row, commit, commits_of, merge_all, open};

#[derive(Debug, Clone)]
enum Op {
    /// Rows as (family, key, length of the value; 0 a tombstone), and how far a floor rises.
    Commit {
        rows: Vec<(u8, u16, u8)>,
        floor: Option<(u8, u16)>,
        dead: Vec<prop::sample::Index>,
    },
    /// Work of so many bytes at the merge under way, or at a new one.
    MergeStep(u64),
    MergeAll,
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let row = (0..3u8, 0..400u16, prop_oneof![1 => Just(0u8), 3 => 1..200u8]);
    let floor = prop::option::of((0..2u8, 0..300u16));
    let dead = prop::collection::vec(any::<prop::sample::Index>(), 0..4);
    prop_oneof![
        6 => (prop::collection::vec(row, 0..80), floor, dead)
            .prop_map(|(rows, floor, dead)| Op::Commit { rows, floor, dead }),
        4 => (1..8_000u64).prop_map(Op::MergeStep),
        1 => Just(Op::MergeAll),
        1 => Just(Op::Reopen),
    ]
}

/// Keys that look like those of the families, and small and odd ones in `Record`.
fn row((family, number): (u8, u16)) -> Row {
    let family = Family::ALL[usize::from(family)];
    let number = u64::from(number);
    let key = match family {
        Family::Scheduled => {
            [&(number / 7).to_be_bytes()[2..], &(number * 37 % 400).to_be_bytes()].concat()
        }
        Family::Ready => [&[0, 0, 0, (number / 90) as u8, 4][..], &number.to_be_bytes()].concat(),
        Family::Record => vec![number as u8; 1 + number as usize / 256],
    };
    (family, key)
}

fn check(ops: &[Op]) -> Result<(), String> {
    let text = |error: postdate::store::StoreError| error.to_string();
    let disk = SimDisk::new();
    let (mut store, _) = open(&disk).map_err(text)?;
    let mut model: Arc<Model> = Arc::default();
    let mut merge: Option<Merge> = None;
    let mut snapshot = (store.version(), model.clone());
    let domain: Vec<Row> =
        (0..3).flat_map(|family| (0..400).step_by(3).map(move |key| row((family, key)))).collect();
    for (number, op) in ops.iter().enumerate() {
        match op {
            Op::Commit { rows, floor, dead } => {
                let mut changes = Changes::new();
                for (family, key, len) in rows {
                    let value = (*len > 0).then(|| vec![number as u8; usize::from(*len)]);
                    changes.insert(row((*family, *key)), value);
                }
                // What is dead is not written again.
                changes.retain(|row, _| !model.is_dead(row));
                let known: Vec<&Row> = model.rows().collect();
                let dead = dead.iter().filter(|_| !known.is_empty());
                let dead: Vec<Row> = dead.map(|at| (*at.get(&known)).clone()).collect();
                let next = Arc::new(model.after(&changes, floor.map(row), dead));
                commit(&mut store, &changes, &next).map_err(text)?;
                model = next;
            }
            Op::MergeStep(bytes) => {
                if merge.is_none()
                    && let Some(plan) = store.plan_merge(false)
                {
                    merge = Some(store.begin_merge(plan).map_err(text)?);
                }
                if let Some(under_way) = &mut merge
                    && store.merge_step(under_way, *bytes).map_err(text)?
                {
                    merge = None;
                }
            }
            Op::MergeAll => {
                merge = None;
                merge_all(&mut store).map_err(text)?;
            }
            Op::Reopen => {
                merge = None;
                snapshot = (Arc::default(), Arc::default());
                disk.crash(Survival::Torn, number as u64);
                let (opened_store, opened) = open(&disk).map_err(text)?;
                store = opened_store;
                if commits_of(opened.as_ref()) != model.commits {
                    return Err("another commit was found".into());
                }
            }
        }
        let context = |why| format!("after {number}, {op:?}: {why}");
        model.check(&store.version()).map_err(context)?;
        model.check_rows(&store.version(), &domain).map_err(context)?;
        let (version, then) = &snapshot;
        then.check(version).map_err(|why| format!("an old version, at {number}: {why}"))?;
        if number % 4 == 0 {
            snapshot = (store.version(), model.clone());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn the_store_shows_what_was_committed(ops in prop::collection::vec(op(), 1..40)) {
        prop_assert_eq!(check(&ops), Ok(()));
    }
}
