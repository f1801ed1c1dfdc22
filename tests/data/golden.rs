//! Goal: a data directory that an earlier postdate wrote is read for ever, and every message is where
//! it was. Method: `tests/golden/data-2/` was written once, by [`write_golden`], and is committed, and beside it
//! `data-2.txt`, which says what is in it. A copy is opened by a shard on a real disk, asked for each
//! message, and drained.
//!
//! To make the directory of a later version of the format: give it a new number here, and run
//! `POSTDATE_WRITE_GOLDEN=1 cargo test --test data golden` once. A directory that is there is never
//! written again.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use postdate::base::command::{Answer, Command};
use postdate::base::config::ShardConfig;
use postdate::base::lifecycle::State;
use postdate::env::{Disk, OpenMode, OsDisk};
use postdate::sim::{SimClock, SimDisk};

use crate::rig::{Expected, Life, START, Story, TOPIC, assert_same, config, damage, drain, now_ms};

/// Steps of the story that the directory holds.
const STEPS: u64 = 110;
/// What comes after the last flush, for the journal alone.
const STEPS_BEHIND: u64 = 3;

/// Fewer and larger flushes, smaller segments of the journal: few bytes to keep for ever.
pub(crate) fn golden_config() -> ShardConfig {
    ShardConfig {
        segment_bytes: 16 * 1024,
        memory: 64 * 1024,
        journal_tail: 250 * 1024,
        ..config()
    }
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/data-2")
}

fn list() -> PathBuf {
    golden().with_extension("txt")
}

fn copy(from: &dyn Disk, source: &Path, to: &dyn Disk, target: &Path) {
    for part in [Path::new(""), Path::new("journal"), Path::new("store")] {
        to.create_dir_all(&target.join(part)).unwrap();
        for name in from.list(&source.join(part)).unwrap() {
            let path = part.join(&name);
            let spare = name.starts_with("spare") || name == "LOCK";
            if spare || [Path::new("journal"), Path::new("store")].contains(&&*path) {
                continue;
            }
            let file = from.open(&source.join(&path), OpenMode::Read).unwrap();
            let mut bytes = vec![0; file.len().unwrap() as usize];
            assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
            let written = to.open(&target.join(&path), OpenMode::Write).unwrap();
            written.write_at(&bytes, 0).unwrap();
        }
    }
}

/// Lives the story on a simulated disk until something of everything is in the store and something
/// in the journal alone, and closes it.
pub(crate) fn write_golden() -> (SimDisk, Expected, u64) {
    let (disk, clock) = (SimDisk::new(), SimClock::new(0, START));
    let mut life = Life::open(&disk, Path::new("/data"), &clock, golden_config()).unwrap();
    let mut story = Story::new();
    for _ in 0..STEPS {
        story.go_on(&mut life);
    }
    let flushes = life.stat("flushes_total");
    assert!(flushes > 2, "{flushes}");
    while life.stat("flushes_total") == flushes {
        story.go_on(&mut life);
    }
    for _ in 0..STEPS_BEHIND {
        story.go_on(&mut life);
    }
    assert_eq!(life.stat("flushes_total"), flushes + 1);
    life.shard.close().unwrap();
    (disk, story.expected, now_ms(&clock))
}

/// The list beside the directory: the time of its end, then a message a line.
fn to_text(expected: &Expected, now: u64) -> String {
    let mut lines = vec![format!("closed at {now}")];
    for (id, (to, body)) in &expected.alive {
        let body = String::from_utf8(body.clone()).unwrap();
        match expected.due.get(id) {
            Some(due) => lines.push(format!("{id} scheduled {to} {due} {body}")),
            None => lines.push(format!("{id} ready {to} 0 {body}")),
        }
    }
    lines.extend(expected.cancelled.iter().map(|id| format!("{id} cancelled")));
    lines.extend(expected.acknowledged.iter().map(|id| format!("{id} acknowledged")));
    lines.join("\n") + "\n"
}

fn from_text(text: &str) -> (Expected, u64) {
    let mut expected = Expected::default();
    let mut lines = text.lines();
    let now = lines.next().unwrap().strip_prefix("closed at ").unwrap().parse().unwrap();
    for line in lines {
        let parts: Vec<&str> = line.splitn(5, ' ').collect();
        let id = parts[0].parse().unwrap();
        match parts[1..] {
            ["cancelled"] => drop(expected.cancelled.insert(id)),
            ["acknowledged"] => drop(expected.acknowledged.insert(id)),
            [state, to, due, body] => {
                expected.alive.insert(id, (to.into(), body.into()));
                if state == "scheduled" {
                    expected.due.insert(id, due.parse().unwrap());
                }
            }
            _ => panic!("{line}"),
        }
    }
    (expected, now)
}

/// Asks where each message is, before anything falls due.
fn check_places(life: &mut Life, expected: &Expected) {
    let mut states = |ids: Vec<_>| {
        let Answer::Statuses(all) = life.ask(Command::Query { ids }) else { panic!("no statuses") };
        all
    };
    for status in states(expected.alive.keys().copied().collect()) {
        let (to, _) = &expected.alive[&status.id];
        let due = expected.due.get(&status.id);
        let state = if due.is_some() { State::Scheduled } else { State::Ready };
        assert_eq!((status.state, &*status.destination), (state, &**to), "{}", status.id);
        assert!(due.is_none_or(|due| *due == status.due_ms), "{status:?}");
    }
    for status in states(expected.cancelled.iter().copied().collect()) {
        assert_eq!(status.state, State::Cancelled, "{}", status.id);
    }
    for status in states(expected.acknowledged.iter().copied().collect()) {
        assert_eq!(status.state, State::Acknowledged, "{}", status.id);
    }
    let destination = Bytes::from_static(TOPIC.as_bytes());
    let fetch = Command::Fetch { destination, offset: 1, limit: 1_000 };
    let Answer::Fetched { messages, .. } = life.ask(fetch) else { panic!("no page") };
    let kept: Vec<_> = messages.iter().map(|message| message.id).collect();
    let published =
        |(id, (to, _)): &(&_, &(String, _))| to == TOPIC && !expected.due.contains_key(id);
    let wanted: Vec<_> = expected.alive.iter().filter(published).map(|(id, _)| *id).collect();
    assert_eq!(kept, wanted, "the topic");
}

#[test]
fn golden_data_2_is_read() {
    let real = OsDisk::default();
    if std::env::var_os("POSTDATE_WRITE_GOLDEN").is_some() && !real.exists(&golden()).unwrap() {
        let (made, expected, now) = write_golden();
        copy(&made, Path::new("/data"), &real, &golden());
        let file = real.open(&list(), OpenMode::Write).unwrap();
        file.write_at(to_text(&expected, now).as_bytes(), 0).unwrap();
    }
    let (expected, now) = from_text(&std::fs::read_to_string(list()).unwrap());
    assert!(expected.alive.len() > 90 && expected.due.len() > 40);
    assert!(expected.cancelled.len() > 10 && expected.acknowledged.len() > 4);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    copy(&real, &golden(), &real, &data);
    assert_eq!(damage(&real, &data), []);
    let clock = SimClock::new(0, now);
    let mut life = Life::open(&real, &data, &clock, golden_config()).unwrap();
    assert!(life.stat("store_tombstones") > 0 && life.stat("store_runs") > 6);
    assert!(life.shard.recovery().batches > 3, "nothing was in the journal alone");
    check_places(&mut life, &expected);
    let came = drain(&mut life).unwrap();
    assert_same(&came, &expected.alive, "golden");
}
