//! Goal: the disk holds what is alive, about. What was consumed in order goes without being written again,
//! what was cancelled goes with a merge; an idle server writes once, and then nothing.

use std::path::Path;

use bytes::Bytes;
use postdate::base::command::{Answer, Command};
use postdate::base::config::ShardConfig;
use postdate::base::id::MessageId;
use postdate::base::limits;
use postdate::base::message::{Delay, Message, MessageBatch};
use postdate::sim::{SimClock, SimDisk};

use crate::rig::{Life, START, config, wish};

const MIB: usize = 1 << 20;
const BODY: usize = 1024;
const QUEUE: &str = "/queue/mail";
const OTHER: &str = "/queue/other";
const TOPIC: &str = "/topic/news";
const LATER: Delay = Delay::After(3_600_000 * 24);
/// The loop of a shard looks at its clocks this often.
const TICK_MS: u64 = 500;

/// Large enough that there is something to merge, small enough to be quick.
fn small() -> ShardConfig {
    ShardConfig { memory: 2 << 20, journal_tail: 4 << 20, segment_bytes: 1 << 20, ..config() }
}

fn large() -> ShardConfig {
    ShardConfig { disk_reserve: 0, ..ShardConfig::default() }
}

struct World {
    disk: SimDisk,
    life: Life,
    noise: u64,
}

impl World {
    fn new(config: ShardConfig) -> Self {
        let disk = SimDisk::new();
        let clock = SimClock::new(0, START);
        let life = Life::open(&disk, Path::new("/data"), &clock, config).unwrap();
        Self { disk, life, noise: 1 }
    }

    /// Publishes so many bytes of content that does not compress.
    fn publish(&mut self, to: &str, bytes: usize, delay: Delay) -> Vec<MessageId> {
        let mut ids = Vec::new();
        for _ in 0..bytes / (64 * BODY) {
            let mut batch = Vec::new();
            for _ in 0..64 {
                let body: Vec<u8> = (0..BODY / 8).flat_map(|_| self.next().to_le_bytes()).collect();
                Message::new(body).with_delay(delay).encode(&mut batch).unwrap();
            }
            let batch = MessageBatch::parse(batch.into(), 64).unwrap();
            let destination = Bytes::copy_from_slice(to.as_bytes());
            let answer = self.life.ask(Command::Produce { destination, batch });
            let Answer::Produced(results) = answer else { panic!("{answer:?}") };
            ids.extend(results.iter().map(|result| result.as_ref().unwrap().id));
        }
        ids
    }

    fn next(&mut self) -> u64 {
        self.noise ^= self.noise << 13;
        self.noise ^= self.noise >> 7;
        self.noise ^= self.noise << 17;
        self.noise
    }

    /// Takes everything there is in a queue. Returns how many that were.
    fn consume(&mut self, from: &str) -> usize {
        self.life.ask(wish(1, from, 1_000));
        let mut consumed = 0;
        while self.life.stat("ready") + self.life.stat("in_flight") > 0 {
            let ids: Vec<_> = self.life.delivered.drain(..).map(|delivery| delivery.id).collect();
            match ids.is_empty() {
                true => self.life.step(),
                false => {
                    consumed += ids.len();
                    self.life.ask(Command::Acknowledge { subscription: 1, ids, cumulative: false });
                }
            }
        }
        consumed
    }

    /// Publishes to another queue until the next flush has begun; that and the merges behind it end.
    fn flush(&mut self) {
        let flushes = self.life.stat("flushes_total");
        while self.life.stat("flushes_total") + self.life.stat("flushing") == flushes {
            self.publish(OTHER, 64 * BODY, LATER);
        }
        self.settle();
    }

    fn settle(&mut self) {
        while self.life.stat("flushing") + self.life.stat("store_merging") > 0 {
            self.life.step();
        }
    }

    fn store_bytes(&mut self) -> usize {
        self.life.stat("store_disk_bytes") as usize
    }

    /// Time passes as in the loop of a shard that nobody asks anything.
    fn idle(&mut self, ms: u64) {
        for _ in 0..ms / TICK_MS {
            self.life.clock.advance_ms(TICK_MS);
            self.life.step();
        }
    }

    /// Nothing is written and nothing read for an hour.
    fn check_silence(&mut self) {
        // After some rest what flushes wrote is packed.
        self.idle(60_000);
        let before = (self.disk.operations(), self.disk.reads());
        self.idle(3_600_000);
        assert_eq!((self.disk.operations(), self.disk.reads()), before, "an idle server is silent");
    }
}

/// Method: a backlog much larger than memory, consumed; then whatever makes the next flush. What is left is
/// what that flush wrote, not packed yet, and the checkpoint; merges have written nothing else.
#[test]
fn a_consumed_backlog_is_gone_after_the_next_flush() {
    let mut world = World::new(small());
    let published = world.publish(QUEUE, 12 * MIB, Delay::None).len();
    world.settle();
    assert!(world.store_bytes() > 10 * MIB);
    let merged = world.life.stat("store_merged_bytes_total");
    assert_eq!(world.consume(QUEUE), published);
    world.flush();
    let pending = world.life.stat("messages") as usize * BODY;
    assert!(
        world.store_bytes() < pending + pending / 2,
        "{} bytes for {pending}",
        world.store_bytes()
    );
    let merged = world.life.stat("store_merged_bytes_total") - merged;
    assert!(merged < 2 * MIB as u64, "{merged} bytes were written again");
}

/// Method: a topic whose messages lie below when their time is over.
#[test]
fn what_a_topic_drops_is_gone_after_the_next_flush() {
    let age_ms = 3_600_000;
    let mut world = World::new(ShardConfig { topic_age_ms: age_ms, ..small() });
    world.publish(TOPIC, 12 * MIB, Delay::None);
    world.settle();
    assert!(world.store_bytes() > 10 * MIB);
    let merged = world.life.stat("store_merged_bytes_total");
    world.life.clock.advance_ms(2 * age_ms);
    world.publish(TOPIC, MIB, Delay::None);
    world.flush();
    let alive = world.life.stat("messages") as usize * BODY;
    assert!(alive < 4 * MIB && world.store_bytes() < alive + alive / 4);
    let merged = world.life.stat("store_merged_bytes_total") - merged;
    assert!(merged < 2 * MIB as u64, "{merged} bytes were written again");
}

/// Method: nine of ten are cancelled below, spread over all files.
#[test]
fn what_was_cancelled_is_gone_after_the_next_merge() {
    let mut world = World::new(small());
    let ids = world.publish(QUEUE, 12 * MIB, LATER);
    world.flush();
    assert!(world.store_bytes() > 10 * MIB);
    let doomed: Vec<_> =
        ids.iter().enumerate().filter(|(at, _)| at % 10 != 0).map(|(_, id)| *id).collect();
    for ids in doomed.chunks(1_000) {
        let answer = world.life.ask(Command::Cancel { ids: ids.to_vec() });
        let Answer::Verdicts(verdicts) = answer else { panic!("{answer:?}") };
        assert!(verdicts.iter().all(|verdict| verdict.done));
    }
    world.flush();
    let alive = world.life.stat("messages") as usize * BODY;
    assert!(world.store_bytes() < alive + alive / 4, "{} of {alive}", world.store_bytes());
    assert_eq!(world.life.stat("store_tombstones"), 0);
}

/// Method: more in memory than an idle server keeps there; time passes. Less than that stays.
#[test]
fn an_idle_server_writes_out_once_and_is_silent() {
    let mut world = World::new(large());
    world.publish(QUEUE, limits::IDLE_FLUSH_BYTES as usize + MIB, LATER);
    world.idle(limits::IDLE_AFTER_MS - TICK_MS);
    assert_eq!(world.life.stat("flushes_total") + world.life.stat("flushing"), 0);
    // It looks now and then, and a flush takes some steps.
    world.idle(30_000);
    assert_eq!(world.life.stat("flushes_total"), 1);
    assert!(world.life.stat("memory_bytes") < MIB as u64);
    world.check_silence();
    world.publish(QUEUE, limits::IDLE_FLUSH_BYTES as usize / 2, LATER);
    world.check_silence();
    assert_eq!(world.life.stat("flushes_total"), 1, "so little is not worth it");
}

/// Method: a large backlog is consumed, with too little journal to flush for it; time passes.
#[test]
fn what_is_dead_goes_without_any_traffic() {
    let mut world = World::new(ShardConfig { memory: 32 << 20, ..large() });
    let bytes = limits::STALE_STORE_BYTES as usize + 16 * MIB;
    world.publish(QUEUE, bytes, Delay::None);
    world.settle();
    world.consume(QUEUE);
    let flushes = world.life.stat("flushes_total");
    assert!(world.store_bytes() > bytes - 16 * MIB, "{} bytes", world.store_bytes());
    world.idle(limits::IDLE_FLUSH_EVERY_MS + 30_000);
    world.settle();
    assert_eq!(world.life.stat("flushes_total"), flushes + 1);
    // The checkpoint remembers how 65 536 messages ended.
    assert!(world.store_bytes() < 2 * MIB, "{} bytes", world.store_bytes());
    world.check_silence();
}
