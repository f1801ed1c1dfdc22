//! What a seed does: a random choice of operations, weights and settings.
//!
//! Swarm testing (Groce and others 2012): each seed leaves out a random part of the operations and
//! weighs the rest at random, so that states are reached that an even mix never stays in.

use crate::base::config::ShardConfig;
use crate::sim::random::Random;

/// Something that happens to a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// One message, now or later.
    Produce,
    /// A batch of messages.
    ProduceMany,
    /// A dedup id that was used before.
    Repeat,
    /// Make a recurring schedule, cancel or move one.
    Schedule,
    /// Publish and acknowledge in one transaction.
    Transact,
    /// Cancel one message or several.
    Cancel,
    /// Give a message another due time.
    Reschedule,
    /// Ask where messages stand.
    Query,
    /// List what is scheduled, and hold it against the model.
    List,
    /// Read a topic.
    Fetch,
    /// Acknowledge one delivery or several.
    Acknowledge,
    /// Acknowledge one delivery and all before it.
    AcknowledgeUpTo,
    /// Reject a delivery.
    Reject,
    /// A session more.
    Connect,
    /// A session is gone without a word.
    Vanish,
    /// A session stops reading, or goes on.
    Stall,
    /// Receive.
    Subscribe,
    /// Stop receiving.
    Unsubscribe,
    /// Drop what is in a destination.
    Purge,
    /// Pause a destination, or let it go on.
    Pause,
    /// Limit a destination, or not.
    Limit,
    /// Delete a destination.
    Delete,
    /// Some ms pass.
    Moment,
    /// Some seconds pass.
    Seconds,
    /// Minutes to hours pass.
    Hours,
    /// Days pass.
    Days,
    /// The wall clock steps.
    ClockStep,
    /// An operator believes the wall clock.
    ClockRelease,
    /// The process stops in good order and starts again.
    Restart,
    /// The process is killed and starts again.
    Kill,
    /// The machine loses power and starts again.
    PowerLoss,
    /// A disk operation soon will fail, or crash the machine.
    DiskFault,
    /// A read soon will fail.
    ReadFault,
    /// The disk has hardly any space, or has again.
    DiskSpace,
}

/// Operations with their usual weights.
const OPS: [(Op, u64); 34] = [
    (Op::Produce, 300),
    (Op::ProduceMany, 60),
    (Op::Repeat, 20),
    (Op::Cancel, 60),
    (Op::Reschedule, 40),
    (Op::Query, 30),
    (Op::List, 15),
    (Op::Fetch, 10),
    (Op::Acknowledge, 200),
    (Op::AcknowledgeUpTo, 15),
    (Op::Reject, 40),
    (Op::Connect, 15),
    (Op::Vanish, 15),
    (Op::Stall, 15),
    (Op::Subscribe, 50),
    (Op::Unsubscribe, 10),
    (Op::Purge, 4),
    (Op::Pause, 8),
    (Op::Limit, 4),
    (Op::Delete, 3),
    (Op::Moment, 200),
    (Op::Seconds, 60),
    (Op::Hours, 10),
    (Op::Days, 3),
    (Op::ClockStep, 6),
    (Op::ClockRelease, 4),
    (Op::Restart, 8),
    (Op::Kill, 10),
    (Op::PowerLoss, 10),
    (Op::DiskFault, 10),
    (Op::ReadFault, 4),
    (Op::DiskSpace, 6),
    (Op::Schedule, 20),
    (Op::Transact, 30),
];

/// What cannot be left out, or nothing would happen.
const ALWAYS: [Op; 4] = [Op::Produce, Op::Moment, Op::Connect, Op::Subscribe];

/// The choices of one seed.
#[derive(Debug, Clone)]
pub struct Swarm {
    weights: Vec<(Op, u64)>,
    total: u64,
    /// Settings of the shard.
    pub config: ShardConfig,
    /// How many operations.
    pub length: u64,
    /// Longest usual delay of a message, ms.
    pub delay_max_ms: u64,
    /// Largest usual body, bytes.
    pub body_max: u64,
    /// In how many of a hundred cases a message has priority, time to live, dedup id, a wall time.
    pub fancy_percent: u64,
}

impl Swarm {
    /// The choices of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed, "swarm");
        let mut weights = Vec::new();
        for (op, usual) in OPS {
            let left_out = random.percent(30) && !ALWAYS.contains(&op);
            let weight = (usual * (1 + random.below(20)) / 10).max(1);
            if !left_out {
                weights.push((op, weight));
            }
        }
        let kib = |random: &mut Random, choices: &[u64]| random.pick(choices) * 1024;
        let body_max = *random.pick(&[30, 300, 6_000]);
        let config = ShardConfig {
            // So small that a seed sees many flushes, or large enough for none. A segment has to hold
            // what one step may bring.
            segment_bytes: 1024 * if body_max > 1_000 { 4096 } else { 512 },
            memory: kib(&mut random, &[16, 32, 64, 256, 4096]),
            journal_tail: kib(&mut random, &[64, 128, 512]),
            disk_reserve: 0,
            max_failures: *random.pick(&[2, 4, 16]),
            ack_timeout_ms: *random.pick(&[1_000, 60_000, 1_800_000]),
            topic_messages: *random.pick(&[5, 50, 1_000_000]),
            ..ShardConfig::default()
        };
        Self {
            total: weights.iter().map(|(_, weight)| weight).sum(),
            weights,
            config,
            length: 100 + random.below(500),
            delay_max_ms: *random.pick(&[100, 5_000, 100_000, 10_000_000, 3_456_000_000]),
            body_max,
            fancy_percent: *random.pick(&[0, 20, 60]),
        }
    }

    /// The next operation.
    pub fn next(&self, random: &mut Random) -> Op {
        let mut at = random.below(self.total);
        for (op, weight) in &self.weights {
            if at < *weight {
                return *op;
            }
            at -= weight;
        }
        Op::Moment
    }

    /// Whether a seed does this at all.
    #[must_use]
    pub fn has(&self, op: Op) -> bool {
        self.weights.iter().any(|(own, _)| *own == op)
    }
}
