//! Goal: damage of the store that a running shard meets. With `skip-damaged` what the block held is
//! lost and counted, everything else goes on as if nothing were; otherwise the shard stops and names
//! file and offset. Method: messages of a kind are written out, one bit of their file flips under the
//! running shard, and each reader in turn comes across it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use postdate::base::command::{Answer, Command, StartAt, Subscribe};
use postdate::base::config::{RecoveryPolicy, ShardConfig};
use postdate::base::id::MessageId;
use postdate::base::lifecycle::State;
use postdate::base::message::Delay;
use postdate::env::Disk;
use postdate::shard::ShardError;
use postdate::sim::{SimClock, SimDisk};
use postdate::store::{Family, Segment, StoreError};

use crate::rig::{Life, QUEUES, START, TOPIC, config, damage};

const HOUR_MS: u64 = 3_600_000;
/// Bytes of a body. They do not compress, so a block holds seven or eight.
const BODY: usize = 1_000;
const PER_BLOCK: usize = 9;
/// Where a file is hit: in its first block, in the middle, in its last.
const PLACES: [fn(u64) -> u64; 3] = [|_| 100, |len| len / 2, |len| len - 1_900];

/// What is due first was read ahead already, before the bit flips.
const BEHIND_THE_FIRST_READ: [fn(u64) -> u64; 2] = [PLACES[1], PLACES[2]];

/// No flush but for want of memory.
fn large() -> ShardConfig {
    ShardConfig { journal_tail: 1 << 30, ..config() }
}

fn dir() -> &'static Path {
    Path::new("/data")
}

fn body(n: u64) -> Vec<u8> {
    let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(BODY).collect()
}

/// A shard whose messages all lie in the store.
struct Case {
    disk: SimDisk,
    life: Life,
    ids: Vec<MessageId>,
}

impl Case {
    fn empty(config: ShardConfig) -> Self {
        let (disk, clock) = (SimDisk::new(), SimClock::new(0, START));
        let life = Life::open(&disk, dir(), &clock, config).unwrap();
        Self { disk, life, ids: Vec::new() }
    }

    /// So many messages that they are written out, one more an hour, or all at once.
    fn new(recovery: RecoveryPolicy, to: &str, delayed: bool) -> Self {
        let memory = 512 * 1024;
        let mut case = Self::empty(ShardConfig { memory, recovery, ..large() });
        while case.life.stat("flushing") == 0 {
            let n = case.ids.len() as u64;
            let delay =
                if delayed { Delay::After(((n + 1) * HOUR_MS) as i64) } else { Delay::None };
            let id = case.life.publish(to, body(n), delay);
            case.ids.push(id);
        }
        for _ in 0..50 {
            case.life.step();
        }
        assert!((150..200).contains(&case.ids.len()), "{}", case.ids.len());
        assert_eq!(case.life.stat("flushes_total"), 1);
        assert_eq!(case.life.stat("messages_in_memory"), 0);
        case
    }

    /// The only file of a family.
    fn file(&self, family: Family) -> PathBuf {
        let mut files = files_of(&self.disk, family);
        assert_eq!(files.len(), 1, "{files:?}");
        files.remove(0)
    }

    /// Flips a bit of the only file of a family.
    fn hit(&self, family: Family, place: fn(u64) -> u64) -> PathBuf {
        let path = self.file(family);
        self.disk.flip_bit(&path, place(self.disk.contents(&path).unwrap().len() as u64), 3);
        path
    }

    /// Publishes to another queue until everything is written out; what was published.
    fn flush(&mut self, delay_hours: u64) -> Vec<MessageId> {
        let mut ids = Vec::new();
        while self.life.stat("flushing") == 0 {
            let n = ids.len() as u64;
            let hours = if delay_hours == 0 { 0 } else { n + delay_hours };
            let delay = Delay::After((hours * HOUR_MS) as i64);
            ids.push(self.life.publish(QUEUES[1], body(n), delay));
        }
        while self.life.stat("flushing") == 1 {
            self.life.step();
        }
        ids
    }

    fn subscribe(&mut self, to: &str, durable: &'static str) {
        let answer = self.life.ask(wish(to, durable));
        assert!(matches!(answer, Answer::Subscribed { .. }), "{answer:?}");
    }

    /// Steps and acknowledges until nothing more comes; the ids in the order they came.
    fn drain(&mut self) -> Result<Vec<MessageId>, ShardError> {
        let mut came = Vec::new();
        let mut idle = 0;
        while idle < 20 {
            self.life.try_step()?;
            idle += 1;
            let ids: Vec<_> = self.life.delivered.drain(..).map(|delivery| delivery.id).collect();
            if !ids.is_empty() {
                idle = 0;
                came.extend(&ids);
                self.life.begin(Command::Acknowledge { subscription: 1, ids, cumulative: false });
            }
        }
        // A shard that turned in circles would not be idle.
        assert!(!self.life.shard.wait().is_zero());
        Ok(came)
    }

    /// Everything but a few neighbours is there, in order. Returns how many are missing.
    fn check_rest(&mut self, came: &[MessageId], context: &str) -> u64 {
        let there: BTreeSet<_> = came.iter().collect();
        assert_eq!(there.len(), came.len(), "{context}: something came twice");
        let lost: Vec<usize> =
            (0..self.ids.len()).filter(|at| !there.contains(&self.ids[*at])).collect();
        let rest = self.ids.iter().filter(|id| there.contains(id));
        assert!(rest.eq(came), "{context}: out of order, or a ghost");
        assert!((1..=PER_BLOCK).contains(&lost.len()), "{context}: {lost:?} are missing");
        assert!(lost.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{context}: {lost:?}");
        assert_eq!(self.life.stat("store_damaged_blocks"), 1, "{context}");
        lost.len() as u64
    }

    /// Whatever was lost, what comes next comes.
    fn check_goes_on(&mut self, to: &str) {
        let id = self.life.publish(to, b"afterwards".to_vec(), Delay::None);
        assert_eq!(self.drain().unwrap(), [id]);
    }
}

fn files_of(disk: &SimDisk, family: Family) -> Vec<PathBuf> {
    let store = dir().join("store");
    let names = disk.list(&store).unwrap().into_iter();
    let numbers = names.filter_map(|name| name.strip_suffix(".seg")?.parse().ok());
    let paths = numbers.map(|number: u64| (number, store.join(format!("{number:020}.seg"))));
    let own = |(number, path): &(u64, PathBuf)| Segment::open(disk, path, *number, family).is_ok();
    paths.filter(own).map(|(_, path)| path).collect()
}

fn wish(to: &str, durable: &'static str) -> Command {
    Command::Subscribe(Subscribe {
        subscription: 1,
        destination: Bytes::copy_from_slice(to.as_bytes()),
        credit: 10_000,
        ack_timeout_ms: 0,
        durable: Bytes::from_static(durable.as_bytes()),
        start: StartAt::Earliest,
        shared: false,
    })
}

/// The shard stopped and named the damaged block.
fn check_stopped(error: &ShardError, disk: &SimDisk, path: &Path) {
    let ShardError::Store(StoreError::Corrupt { file, offset, .. }) = error else {
        panic!("{error}")
    };
    assert_eq!(file, path);
    let verified = damage(disk, dir());
    assert!(verified.iter().any(|(found, at, _)| found == path && at == offset), "{verified:?}");
    let text = error.to_string();
    assert!(text.contains("postdate verify") && text.contains("--recovery skip-damaged"), "{text}");
}

const STOPPING: [RecoveryPolicy; 2] = [RecoveryPolicy::Strict, RecoveryPolicy::TruncateTail];

#[test]
fn firing_passes_a_damaged_block() {
    let (to, delayed) = (QUEUES[0], true);
    for place in BEHIND_THE_FIRST_READ {
        let mut case = Case::new(RecoveryPolicy::SkipDamaged, to, delayed);
        case.hit(Family::Scheduled, place);
        case.subscribe(to, "");
        let mut came = Vec::new();
        for _ in 0..100 {
            case.life.clock.advance_ms(2 * HOUR_MS);
            came.extend(case.drain().unwrap());
        }
        let lost = case.check_rest(&came, "scheduled");
        // The numbers do not know it, until they are put right.
        assert_eq!((case.life.stat("scheduled"), case.life.stat("ready")), (lost, 0));
        let name = Bytes::copy_from_slice(to.as_bytes());
        case.life.ask(Command::PurgeDestination { name, scheduled: true });
        assert_eq!(case.life.stat("scheduled"), 0);
        case.check_goes_on(to);
    }
    for policy in STOPPING {
        let mut case = Case::new(policy, to, delayed);
        let path = case.hit(Family::Scheduled, PLACES[1]);
        case.life.clock.advance_ms(200 * HOUR_MS);
        check_stopped(&case.drain().unwrap_err(), &case.disk, &path);
    }
}

#[test]
fn a_queue_is_consumed_behind_a_damaged_block() {
    let to = QUEUES[0];
    for place in PLACES {
        let mut case = Case::new(RecoveryPolicy::SkipDamaged, to, false);
        case.hit(Family::Ready, place);
        case.subscribe(to, "");
        let came = case.drain().unwrap();
        let lost = case.check_rest(&came, "ready");
        assert_eq!(case.life.stat("ready"), lost);
        case.check_goes_on(to);
        let name = Bytes::copy_from_slice(to.as_bytes());
        case.life.ask(Command::PurgeDestination { name, scheduled: false });
        assert_eq!(case.life.stat("ready"), 0);
    }
    for policy in STOPPING {
        let mut case = Case::new(policy, to, false);
        let path = case.hit(Family::Ready, PLACES[1]);
        case.subscribe(to, "");
        check_stopped(&case.drain().unwrap_err(), &case.disk, &path);
    }
}

/// The offsets that are gone count as acknowledged, so that a durable subscription gets past them.
#[test]
fn a_topic_is_read_behind_a_damaged_block() {
    for place in PLACES {
        for durable in ["", "mine"] {
            let mut case = Case::new(RecoveryPolicy::SkipDamaged, TOPIC, false);
            case.hit(Family::Ready, place);
            let fetched = fetch_all(&mut case);
            case.check_rest(&fetched, "fetched");
            case.subscribe(TOPIC, durable);
            let came = case.drain().unwrap();
            case.check_rest(&came, "read");
            case.check_goes_on(TOPIC);
            if !durable.is_empty() {
                case.life.ask(Command::Unsubscribe { subscription: 1, delete: false });
                case.subscribe(TOPIC, durable);
                case.check_goes_on(TOPIC);
                let state = case.life.shard.state().unwrap();
                let config = ShardConfig { recovery: RecoveryPolicy::SkipDamaged, ..config() };
                let Case { disk, life, .. } = case;
                let clock = life.clock.clone();
                life.shard.close().unwrap();
                let again = Life::open(&disk, dir(), &clock, config).unwrap();
                assert!(again.shard.state().unwrap() == state, "a restart finds something else");
            }
        }
    }
    for policy in STOPPING {
        let mut case = Case::new(policy, TOPIC, false);
        let path = case.hit(Family::Ready, PLACES[1]);
        case.subscribe(TOPIC, "");
        check_stopped(&case.drain().unwrap_err(), &case.disk, &path);
    }
}

/// Pages through a topic as a client does: the next page begins where the last one said.
fn fetch_all(case: &mut Case) -> Vec<MessageId> {
    let (mut offset, mut found) = (1, Vec::new());
    loop {
        let destination = Bytes::from_static(TOPIC.as_bytes());
        let answer = case.life.ask(Command::Fetch { destination, offset, limit: 7 });
        let Answer::Fetched { messages, next_offset } = answer else { panic!("{answer:?}") };
        found.extend(messages.iter().map(|message| message.id));
        if next_offset == offset {
            assert_eq!(offset, case.ids.len() as u64 + 1, "stuck");
            return found;
        }
        offset = next_offset;
    }
}

#[test]
fn looking_up_and_listing_pass_a_damaged_block() {
    let (to, delayed) = (QUEUES[0], true);
    for place in BEHIND_THE_FIRST_READ {
        let mut case = Case::new(RecoveryPolicy::SkipDamaged, to, delayed);
        case.hit(Family::Scheduled, place);
        let listed = list_all(&mut case);
        case.check_rest(&listed, "listed");
        let ids = case.ids.clone();
        let Answer::Statuses(all) = case.life.ask(Command::Query { ids: ids.clone() }) else {
            panic!("no statuses")
        };
        let gone = |state| matches!(state, State::Gone);
        let found: Vec<_> = all.iter().filter(|one| !gone(one.state)).map(|one| one.id).collect();
        case.check_rest(&found, "queried");
        let Answer::Verdicts(all) = case.life.ask(Command::Cancel { ids }) else {
            panic!("no verdicts")
        };
        let done: Vec<_> = all.iter().filter(|one| one.done).map(|one| one.id).collect();
        assert_eq!(done, found);
        assert!(all.iter().all(|one| one.done || gone(one.state)));
        case.check_rest(&done, "cancelled");
        case.life.clock.advance_ms(200 * HOUR_MS);
        case.subscribe(to, "");
        assert_eq!(case.drain().unwrap(), []);
        case.check_goes_on(to);
    }
    for policy in STOPPING {
        for cancel in [true, false] {
            let mut case = Case::new(policy, to, delayed);
            let path = case.hit(Family::Scheduled, PLACES[1]);
            let ids = case.ids.clone();
            let command = if cancel { Command::Cancel { ids } } else { Command::Query { ids } };
            case.life.begin(command);
            check_stopped(&case.life.try_step().unwrap_err(), &case.disk, &path);
        }
    }
}

fn list_all(case: &mut Case) -> Vec<MessageId> {
    let (mut after, mut found) = (None, Vec::new());
    loop {
        let destination = Bytes::new();
        let list = Command::List { destination, from_ms: 0, to_ms: u64::MAX, limit: 7, after };
        let answer = case.life.ask(list);
        let Answer::Scheduled(page) = answer else { panic!("{answer:?}") };
        found.extend(page.entries.iter().map(|status| status.id));
        match page.next {
            None => return found,
            next => after = next,
        }
    }
}

/// What stands in the store has ended: the block is damaged that says so, and the shard started again,
/// so that nothing of it is in memory. `delay_hours` are those of what is published to another queue
/// to have it written out.
fn forget_the_end(mut case: Case, family: Family, delay_hours: u64) -> Case {
    let before = files_of(&case.disk, family);
    let later = case.flush(delay_hours);
    let files = files_of(&case.disk, family);
    let path = files.iter().find(|path| !before.contains(path)).unwrap();
    case.disk.flip_bit(path, 100, 3);
    let Case { disk, life, .. } = case;
    let clock = life.clock.clone();
    life.shard.close().unwrap();
    let memory = 512 * 1024;
    let config = ShardConfig { recovery: RecoveryPolicy::SkipDamaged, memory, ..large() };
    let life = Life::open(&disk, dir(), &clock, config).unwrap();
    Case { disk, life, ids: later }
}

/// Goal: what a damaged block no longer hides comes back, and no counter falls below zero over it. Method:
/// everything is cancelled, and the block damaged that says so.
#[test]
fn what_was_cancelled_comes_back() {
    let mut case = Case::new(RecoveryPolicy::SkipDamaged, QUEUES[0], true);
    let cancelled = case.ids.clone();
    let Answer::Verdicts(all) = case.life.ask(Command::Cancel { ids: cancelled.clone() }) else {
        panic!("no verdicts")
    };
    assert!(all.iter().all(|one| one.done));
    let mut case = forget_the_end(case, Family::Scheduled, 300);
    assert_eq!(case.life.stat("scheduled"), case.ids.len() as u64);
    case.subscribe(QUEUES[0], "");
    case.life.clock.advance_ms(290 * HOUR_MS);
    assert_eq!(case.drain().unwrap(), cancelled);
    case.life.ask(Command::Unsubscribe { subscription: 1, delete: false });
    case.subscribe(QUEUES[1], "");
    case.life.clock.advance_ms(290 * HOUR_MS);
    let came = case.drain().unwrap();
    let lost = case.check_rest(&came, "later");
    assert_eq!((case.life.stat("scheduled"), case.life.stat("ready")), (lost, 0));
}

/// Goal: what comes back may use up the count of what is there; a flush then still keeps what is there.
/// Method: all that is ready is acknowledged by id, and the block damaged that says so; some come back and
/// are handed out, before others that are written out meanwhile.
#[test]
fn what_was_acknowledged_comes_back() {
    let (to, new) = (QUEUES[0], 5);
    let mut case = Case::new(RecoveryPolicy::SkipDamaged, to, false);
    let ids = case.ids.clone();
    let all = Command::Acknowledge { subscription: 0, ids: ids.clone(), cumulative: false };
    let Answer::Verdicts(all) = case.life.ask(all) else { panic!("no verdicts") };
    assert!(all.iter().all(|one| one.done));
    let mut case = forget_the_end(case, Family::Ready, 0);
    case.ids = ids;
    for n in 0..new {
        let id = case.life.publish(to, body(1_000 + n), Delay::None);
        case.ids.push(id);
    }
    let destination = Bytes::copy_from_slice(to.as_bytes());
    let info = |life: &mut Life| match life
        .ask(Command::DescribeDestination { name: destination.clone() })
    {
        Answer::Destination(info) => (info.ready, info.in_flight),
        other => panic!("{other:?}"),
    };
    assert_eq!(info(&mut case.life), (new, 0));
    let Command::Subscribe(wish) = wish(to, "") else { unreachable!("it is one") };
    case.life.ask(Command::Subscribe(Subscribe { credit: 20, ..wish }));
    for _ in 0..5 {
        case.life.step();
    }
    assert_eq!(info(&mut case.life), (0, 20));
    case.flush(0);
    case.life.ask(Command::Unsubscribe { subscription: 1, delete: false });
    case.life.delivered.clear();
    case.subscribe(to, "");
    assert_eq!(case.drain().unwrap(), case.ids);
}

/// So small that a run is a block or two, and there are many.
fn many_runs(recovery: RecoveryPolicy) -> ShardConfig {
    ShardConfig { memory: 48 * 1024, recovery, ..large() }
}

/// Goal: a merge neither drops what it cannot read nor stops the others; the damaged file stays where
/// it is. Method: so many runs that the next one makes a merge due; one of them hit.
#[test]
fn merges_go_around_a_damaged_block() {
    let mut case = Case::empty(many_runs(RecoveryPolicy::SkipDamaged));
    let path = grow(&mut case, |_, _| ()).unwrap();
    let merged = case.life.stat("store_merges_total");
    assert!(merged > 1, "{merged}");
    assert!(case.disk.exists(&path).unwrap(), "the damaged file is gone");
    assert_eq!(case.life.stat("store_damaged_blocks"), 1);
    assert_eq!(case.life.stat("flush_failures_total"), 0);
    case.subscribe(QUEUES[0], "");
    case.life.clock.advance_ms(2_000 * HOUR_MS);
    let came = case.drain().unwrap();
    case.check_rest(&came, "merged");
}

#[test]
fn a_merge_over_damage_stops_a_shard_that_is_not_to_skip_it() {
    for policy in STOPPING {
        let mut case = Case::empty(many_runs(policy));
        let mut hit = None;
        let error = grow(&mut case, |_, path| hit = Some(path.clone())).unwrap_err();
        check_stopped(&error, &case.disk, &hit.unwrap());
    }
}

/// Publishes for later until there have been merges, and hits a file shortly before the first.
fn grow(
    case: &mut Case,
    mut on_hit: impl FnMut(&mut Case, &PathBuf),
) -> Result<PathBuf, ShardError> {
    let mut hit = None;
    for n in 0..1_200 {
        let delay = Delay::After(((n + 1) * HOUR_MS / 2) as i64);
        let id = case.life.try_publish(QUEUES[0], body(n), delay)?;
        case.ids.push(id);
        let files =
            if hit.is_none() { files_of(&case.disk, Family::Scheduled) } else { Vec::new() };
        if files.len() == 15 {
            let path = files[8].clone();
            case.disk.flip_bit(&path, 1_000, 3);
            on_hit(case, &path);
            hit = Some(path);
        }
    }
    Ok(hit.unwrap())
}
