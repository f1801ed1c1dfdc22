//! The engine, told what to do by bytes.
//!
//! Each operation is a byte and its arguments; what is missing at the end reads as zero, so every
//! input means something. Commands gather until time passes, which is a step as the shard does it.

mod input;
mod ledger;
mod rig;

use bytes::Bytes;
use postdate::base::command::{Command, StartAt, Subscribe};
use postdate::base::config::ShardConfig;
use postdate::base::id::{Key, MessageId, SessionId};
use postdate::base::limits;
use postdate::base::message::{Delay, Message, MessageBatch};
use postdate::wire::binary::{Frame, Request};

use input::Input;
use rig::{Rig, START, Work};

const NAMES: [&str; 9] = [
    "/queue/a",
    "/queue/b",
    "/topic/t",
    "/topic/u",
    "/dlq/queue/a",
    "/nowhere",
    "/user/u/queue/i",
    "/temp-queue/r",
    "/topic/*",
];
const SESSIONS: u8 = 3;
/// Longer inputs tell nothing new, slowly.
const INPUT_BYTES_MAX: usize = 4096;
/// Commands that gather at most for one step.
const GATHERED_MAX: usize = 16;

/// Bytes as a configuration and operations. After each step nothing was delivered early, twice
/// after its end, or from nowhere; at the end and at each restart, replay equals live; once all is
/// due, nothing stays scheduled.
pub fn engine(data: &[u8]) -> usize {
    if data.len() > INPUT_BYTES_MAX {
        return 0;
    }
    let mut input = Input::new(data);
    let mut rig = Rig::new(config(&mut input));
    let mut gathered = Vec::new();
    let mut steps = 0;
    while let Some(operation) = input.next() {
        match operation % 32 {
            0..=17 => gathered.push(command(operation % 32, &mut input, &rig)),
            18 => gathered.push(Work::Close(session(&mut input))),
            19 => gathered.push(Work::Open(session(&mut input))),
            20 => rig.restart(),
            21 => rig.flush(),
            22..=25 => {
                if let Some(work) = raw(&mut input) {
                    gathered.push(work);
                }
            }
            _ => pass(&mut rig, &mut input),
        }
        let passed = operation % 32 > 25;
        if passed || gathered.len() >= GATHERED_MAX || matches!(operation % 32, 20 | 21) {
            let limit = if passed { limit(&mut input) } else { usize::MAX };
            rig.step(std::mem::take(&mut gathered), limit);
            steps += 1;
        }
    }
    rig.step(gathered, usize::MAX);
    rig.finish();
    steps
}

fn config(input: &mut Input<'_>) -> ShardConfig {
    let choice = input.u8();
    ShardConfig {
        max_failures: u16::from(choice & 3) + 1,
        topic_messages: [2, 8, 1_000][usize::from(choice >> 2) % 3],
        topic_bytes: if choice & 0x10 != 0 { 40 } else { limits::TOPIC_BYTES_MAX },
        topic_age_ms: if choice & 0x20 != 0 { 5_000 } else { limits::TOPIC_AGE_MAX_MS },
        memory: if choice & 0x40 != 0 { 2_000 } else { limits::MEMORY_BYTES },
        max_destinations: if choice & 0x80 != 0 { 2 } else { limits::DESTINATIONS_MAX },
        ..ShardConfig::default()
    }
}

/// What one step may fire, time out and hand out.
fn limit(input: &mut Input<'_>) -> usize {
    [usize::MAX, 1, 2, 5][usize::from(input.u8() % 4)]
}

/// Lets time pass: the monotonic line forward, the wall with it and then anywhere.
fn pass(rig: &mut Rig, input: &mut Input<'_>) {
    let kind = input.u8();
    let amount = u64::from(input.u8());
    let forward = match kind % 8 {
        0 => 0,
        1 | 2 => amount,
        3 | 4 => amount * 37,
        5 => amount * 1_000,
        6 => amount * 1_000_000,
        _ => amount * 24 * 3_600_000,
    };
    let wall = i64::from(input.i8());
    let aside = match kind / 8 % 8 {
        0..=3 => 0,
        4 => wall,
        5 => wall * 1_000,
        6 => wall * 3_600_000,
        _ => wall * 30 * 24 * 3_600_000,
    };
    rig.pass(forward, aside);
}

fn session(input: &mut Input<'_>) -> SessionId {
    SessionId(u64::from(input.u8() % SESSIONS) + 1)
}

fn command(kind: u8, input: &mut Input<'_>, rig: &Rig) -> Work {
    let session = session(input);
    let command = match kind {
        0..=4 => produce(input),
        5 => Command::Cancel { ids: ids(input, rig) },
        6 | 7 => {
            let ids = ids(input, rig);
            Command::Reschedule { items: ids.into_iter().map(|id| (id, delay(input))).collect() }
        }
        8..=10 => Command::Acknowledge {
            subscription: u32::from(input.u8() % 4),
            cumulative: input.flag(),
            ids: ids(input, rig),
        },
        11 => Command::Reject {
            subscription: u32::from(input.u8() % 4),
            requeue: input.flag(),
            ids: ids(input, rig),
        },
        12 | 13 => subscribe(input),
        14 => {
            Command::Unsubscribe { subscription: u32::from(input.u8() % 4), delete: input.flag() }
        }
        15 => Command::DeleteDestination { name: name(input) },
        16 => Command::CreateDestination { name: name(input) },
        _ => look(input, rig),
    };
    Work::Command(session, command)
}

fn produce(input: &mut Input<'_>) -> Command {
    let destination = name(input);
    let count = usize::from(input.u8() % 3) + 1;
    let mut bytes = Vec::new();
    for _ in 0..count {
        let extras = input.u8();
        let mut message = Message::new(vec![0; usize::from(extras >> 4)])
            .with_delay(delay(input))
            .with_priority(input.u8() % 11);
        if extras & 3 == 3 {
            message = message.with_expiry(u64::from(input.u8()) * 40);
        }
        if extras & 4 != 0 {
            message = message.with_dedup([input.u8() % 4]);
        }
        message.encode(&mut bytes).expect("a small message is within its limits");
    }
    let batch = MessageBatch::parse(bytes.into(), count).expect("a batch as it was encoded");
    Command::Produce { destination, batch }
}

fn subscribe(input: &mut Input<'_>) -> Command {
    let subscription = u32::from(input.u8() % 4);
    let destination = name(input);
    let credit = u32::from(input.u8() % 6);
    let ack_timeout_ms = [0, 100, 1_000, 3_600_000][usize::from(input.u8() % 4)];
    let named = input.u8();
    Command::Subscribe(Subscribe {
        subscription,
        destination,
        credit,
        ack_timeout_ms,
        durable: Bytes::from_static([&b""[..], b"d", b"e"][usize::from(named % 3)]),
        start: match input.u8() % 4 {
            0 => StartAt::Latest,
            1 => StartAt::Earliest,
            2 => StartAt::Unread,
            _ => StartAt::Offset(u64::from(input.u8())),
        },
        shared: named / 3 % 2 == 1,
    })
}

/// Commands that only look, and those of operators.
fn look(input: &mut Input<'_>, rig: &Rig) -> Command {
    let limit = u32::from(input.u8());
    match input.u8() % 9 {
        0 => Command::Query { ids: ids(input, rig) },
        1 => Command::List {
            destination: if input.flag() { name(input) } else { Bytes::new() },
            from_ms: START.saturating_add_signed(i64::from(input.i8()) * 1_000),
            to_ms: START.saturating_add_signed(i64::from(input.i8()) * 1_000_000),
            limit,
            after: ids(input, rig)
                .first()
                .filter(|_| limit % 2 == 0)
                .map(|id| Key { due_ms: id.due_ms(), sequence: id.sequence() }),
        },
        2 => Command::Fetch { destination: name(input), offset: u64::from(input.u8()), limit },
        3 => Command::ListDestinations { after: name(input), limit },
        4 => Command::DescribeDestination { name: name(input) },
        5 => Command::Stats,
        6 => Command::PurgeDestination { name: name(input), scheduled: input.flag() },
        7 => Command::PauseDestination { name: name(input), paused: input.flag() },
        _ => Command::LimitDestination {
            name: name(input),
            max_messages: some(input).map(|n| n % 8),
            max_age_ms: some(input).map(|n| n * 1_000),
        },
    }
}

/// A number, or none.
fn some(input: &mut Input<'_>) -> Option<u64> {
    Some(u64::from(input.u8())).filter(|n| n % 4 != 3)
}

/// A request as the protocol reads it, with whatever it says.
fn raw(input: &mut Input<'_>) -> Option<Work> {
    let session = session(input);
    let request_type = i32::from(input.u8());
    let len = usize::from(input.u8());
    let body = Bytes::copy_from_slice(input.bytes(len));
    match Request::decode(Frame { request_type, correlation: 1, body, at: 0 }) {
        Ok((_, Request::Command(command))) => Some(Work::Command(session, command)),
        _ => None,
    }
}

fn name(input: &mut Input<'_>) -> Bytes {
    Bytes::from_static(NAMES[usize::from(input.u8()) % NAMES.len()].as_bytes())
}

fn delay(input: &mut Input<'_>) -> Delay {
    let kind = input.u8();
    let amount = i64::from(input.u8());
    match kind % 10 {
        0 | 1 => Delay::None,
        2 => Delay::After(amount),
        3 => Delay::After(amount * 37),
        4 => Delay::After(amount * 20_000),
        5 => Delay::After(amount * 24 * 3_600_000),
        6 => Delay::At(START as i64 + (amount - 60) * 500),
        7 => Delay::At(START as i64 + amount * 24 * 3_600_000),
        8 => Delay::Level(amount % 20),
        _ => {
            [Delay::After(-1), Delay::At(i64::MAX), Delay::After(i64::MAX), Delay::Level(i64::MIN)]
                [amount as usize % 4]
        }
    }
}

/// One or two ids, mostly of messages that were accepted.
fn ids(input: &mut Input<'_>, rig: &Rig) -> Vec<MessageId> {
    let count = usize::from(input.u8() % 2) + 1;
    (0..count).map(|_| id(input, rig)).collect()
}

fn id(input: &mut Input<'_>, rig: &Rig) -> MessageId {
    let back = usize::from(input.u8());
    let known = rig.ids();
    match known.len().checked_sub(back % 64 + 1).and_then(|at| known.get(at)) {
        Some(id) if back < 240 => *id,
        Some(id) if back < 248 => MessageId::new(id.due_ms() / 2, id.shard(), id.sequence()),
        Some(id) => MessageId::new(id.due_ms(), 1, id.sequence()),
        None => MessageId::new(START, 0, back as u64),
    }
}
