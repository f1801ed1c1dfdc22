//! The seeds of the corpora: small inputs that get far into each target.

use std::sync::Arc;

use postdate::base::command::{
    Answer, Command, Delivery, DestinationInfo, Part, PartDone, Produced, Purged, SchedulePage,
    StartAt, Status, Subscribe, Verdict,
};
use postdate::base::destination::Kind;
use postdate::base::error::{ClientError, Code};
use postdate::base::event::{BatchMeta, Control, Event, FailureReason, Sequences};
use postdate::base::id::{DestinationId, Key, MessageId};
use postdate::base::lifecycle::State;
use postdate::base::limits::FRAME_ALIGN;
use postdate::base::message::{Delay, Message, MessageBatch};
use postdate::base::recur::{Cron, Rule, Then};
use postdate::base::time::{ClockKind, Now, Pace};
use postdate::codec::event::encode;
use postdate::codec::frame::{BatchBuffer, FrameHeader, FrameKind};
use postdate::codec::segment::SegmentHeader;
use postdate::sim::SimDisk;
use postdate::store::{Compression, SegmentOptions};
use postdate::wire::binary::{
    DeliverFrame, Hello, HelloAnswer, RequestType, encode_answer, encode_command, encode_ended,
    encode_failure, encode_goodbye, encode_heartbeat, encode_hello, encode_hello_answer,
};

/// A seed: corpus, file name, bytes.
type Seed = (&'static str, &'static str, Vec<u8>);

/// Every seed. The same bytes each time.
pub fn seeds() -> Vec<Seed> {
    let mut seeds = vec![
        ("binary_protocol", "requests", requests()),
        ("binary_protocol", "answers", answers()),
        ("binary_protocol", "pushes", pushes()),
        ("checkpoint", "one_of_each", super::checkpoint::seed(usize::MAX)),
        ("checkpoint", "counters_only", super::checkpoint::seed(1)),
        ("event", "live", events(&live())),
        ("event", "checkpoint", events(&checkpoint())),
        ("root", "runs", super::root::seed(5)),
        ("root", "empty", super::root::seed(0)),
        ("stomp", "one_of_each_1.0", super::stomp::seed("1.0", 255, 0)),
        ("stomp", "one_of_each_1.1", super::stomp::seed("1.1", 7, 2)),
        ("stomp", "one_of_each_1.2", super::stomp::seed("1.2", 31, 4)),
        ("message_batch", "plain", batch(&[Message::new("one"), Message::new("")])),
        ("message_batch", "full", batch(&messages())),
    ];
    seeds.extend(frames().into_iter().map(|(name, bytes)| ("journal_frame", name, bytes)));
    seeds.extend(segments().into_iter().map(|(name, bytes)| ("segment", name, bytes)));
    seeds.extend(runs().into_iter().map(|(name, bytes)| ("engine", name, bytes)));
    seeds
}

fn id(sequence: u64) -> MessageId {
    MessageId::new(1_700_000_000_000, 0, sequence)
}

fn messages() -> Vec<Message> {
    vec![
        Message::new("later").with_delay(Delay::After(5_000)).with_key("k").with_priority(9),
        Message::new("at").with_delay(Delay::At(1_700_000_000_000)).with_expiry(60_000),
        Message::new("level").with_delay(Delay::Level(3)).with_dedup("d").with_header("h", "é"),
    ]
}

fn encoded(messages: &[Message]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        message.encode(&mut bytes).expect("a seed is within the limits");
    }
    bytes
}

fn batch(messages: &[Message]) -> Vec<u8> {
    let count = (messages.len() as u16).to_be_bytes();
    [&count[..], &encoded(messages)].concat()
}

fn commands() -> Vec<Command> {
    let produce = |messages: &[Message]| Command::Produce {
        destination: "/queue/a".into(),
        batch: MessageBatch::parse(encoded(messages).into(), messages.len())
            .expect("a batch as it was encoded"),
    };
    let repeat = |rule| {
        let Command::Produce { destination, batch } = produce(&[Message::new("again")]) else {
            unreachable!()
        };
        Command::Repeat { destination, rule, batch }
    };
    let after = Some(Key { due_ms: 5, sequence: 6 });
    let topic = || "/topic/t".into();
    vec![
        produce(&[Message::new("now")]),
        produce(&messages()),
        Command::Transaction {
            parts: vec![
                Part::Produce {
                    destination: "/queue/a".into(),
                    batch: MessageBatch::parse(encoded(&messages()).into(), messages().len())
                        .expect("a batch as it was encoded"),
                },
                Part::Acknowledge { subscription: 1, ids: vec![id(1), id(2)], cumulative: true },
                Part::Reject { subscription: 2, ids: vec![id(3)], requeue: false },
            ],
        },
        repeat(Rule::Every { period_ms: 5_000, times: 3 }),
        repeat(Rule::Cron(Cron {
            expression: "0 9 * * 1-5".into(),
            zone: "Europe/Berlin".into(),
            times: 0,
            then: Some(Then { delay_ms: 1_000, period_ms: 2_000, repeat: 3 }),
        })),
        Command::Query { ids: vec![id(1), id(2)] },
        Command::Cancel { ids: vec![id(1)] },
        Command::Reschedule { items: vec![(id(1), Delay::After(7)), (id(2), Delay::None)] },
        Command::Subscribe(Subscribe {
            subscription: 1,
            destination: topic(),
            credit: 10,
            ack_timeout_ms: 1_000,
            durable: "d".into(),
            start: StartAt::Offset(3),
            shared: true,
        }),
        Command::Unsubscribe { subscription: 1, delete: true },
        Command::Acknowledge { subscription: 1, ids: vec![id(1)], cumulative: true },
        Command::Reject { subscription: 0, ids: vec![id(1)], requeue: false },
        Command::List { destination: "".into(), from_ms: 1, to_ms: 2, limit: 3, after },
        Command::Fetch { destination: topic(), offset: 1, limit: 2 },
        Command::ListDestinations { after: "/queue/".into(), limit: 5 },
        Command::CreateDestination { name: topic() },
        Command::DeleteDestination { name: topic() },
        Command::DescribeDestination { name: topic() },
        Command::PurgeDestination { name: topic(), scheduled: true },
        Command::PauseDestination { name: topic(), paused: true },
        Command::LimitDestination {
            name: topic(),
            max_messages: Some(7),
            max_age_ms: Some(60_000),
        },
        Command::Stats,
    ]
}

/// Each stream begins with the byte that says where to split it.
fn requests() -> Vec<u8> {
    let mut out = vec![6];
    let hello = Hello {
        version_min: 1,
        version_max: 1,
        name: "n".into(),
        token: String::new(),
        client_id: "c".into(),
    };
    encode_hello(&mut out, 1, &hello);
    encode_heartbeat(&mut out, 2);
    for (correlation, command) in (3..).zip(&commands()) {
        encode_command(&mut out, correlation, command);
    }
    out
}

fn delivery() -> Delivery {
    Delivery {
        subscription: 1,
        by_pattern: false,
        destination: "".into(),
        id: id(4),
        due_ms: 9,
        attempt: 2,
        offset: 3,
        priority: 4,
        content: encoded(&[Message::new("x")])[7..].into(),
    }
}

fn answers() -> Vec<u8> {
    use RequestType as T;
    let name: Arc<str> = "/queue/a".into();
    let error = ClientError::new(Code::BadDelay, "no");
    let status = Status {
        id: id(1),
        state: State::Ready,
        destination: name.clone(),
        due_ms: 3,
        attempts: 1,
        recurring: true,
    };
    let info = DestinationInfo {
        name,
        kind: Kind::Queue,
        scheduled: 1,
        ready: 2,
        in_flight: 3,
        consumers: 4,
        next_offset: 0,
        unread: 0,
        paused: true,
        max_messages: 5,
        max_age_ms: 6,
    };
    let results = vec![Ok(Produced { id: id(1), duplicate: true }), Err(Box::new(error.clone()))];
    let verdict = Verdict { id: id(1), done: true, state: State::Cancelled, due_ms: 0 };
    let next = Some(Key { due_ms: 1, sequence: 2 });
    let answers = [
        (T::Produce, Answer::Produced(results)),
        (T::Query, Answer::Statuses(vec![status.clone()])),
        (T::Cancel, Answer::Verdicts(vec![verdict])),
        (
            T::Transaction,
            Answer::Transacted(vec![
                PartDone::Produced(vec![Produced { id: id(1), duplicate: false }]),
                PartDone::Verdicts(vec![verdict]),
            ]),
        ),
        (T::Subscribe, Answer::Subscribed { next_offset: 7 }),
        (T::CreateDestination, Answer::Done),
        (T::ListScheduled, Answer::Scheduled(SchedulePage { entries: vec![status], next })),
        (T::Fetch, Answer::Fetched { messages: vec![delivery()], next_offset: 4 }),
        (T::ListDestinations, Answer::Destinations(vec![info.clone()])),
        (T::DescribeDestination, Answer::Destination(info)),
        (T::PurgeDestination, Answer::Purged(Purged { ready: 1, scheduled: 2 })),
        (T::PauseDestination, Answer::Done),
        (T::Stats, Answer::Stats(vec![("ready", 1), ("scheduled", 2)])),
        (T::Reschedule, Answer::Failed(error)),
    ];
    let mut out = vec![40];
    for (correlation, (request_type, answer)) in (1..).zip(&answers) {
        encode_answer(&mut out, *request_type, correlation, answer);
    }
    let hello = HelloAnswer {
        version: 1,
        server: "postdate".into(),
        frame_max: 8 << 20,
        batch_max: 10_000,
        body_max: 1 << 20,
        requests_max: 4_096,
        request_bytes_max: 16 << 20,
        idle_timeout_ms: 120_000,
        wall_ms: 1_700_000_000_000,
    };
    encode_hello_answer(&mut out, 99, &hello);
    out
}

fn pushes() -> Vec<u8> {
    let mut out = vec![0];
    let mut deliver = DeliverFrame::begin(&mut out, false);
    deliver.push(&mut out, &delivery());
    deliver.push(&mut out, &delivery());
    deliver.finish(&mut out);
    let mut deliver = DeliverFrame::begin(&mut out, true);
    deliver.push(&mut out, &Delivery { destination: "/topic/t".into(), ..delivery() });
    deliver.finish(&mut out);
    let error = ClientError::new(Code::ShuttingDown, "bye");
    encode_ended(&mut out, 1, &error);
    encode_goodbye(&mut out, &error);
    encode_failure(&mut out, 0, 0, &error);
    out
}

fn live() -> Vec<Event<'static>> {
    let (id, destination) = (id(42), DestinationId(7));
    let produced = |clock, at_once, expires_mono_ms, dedup: &'static [u8]| Event::Produced {
        id,
        destination,
        priority: 9,
        clock,
        at_once,
        recurring: false,
        expires_mono_ms,
        dedup,
        content: b"content",
    };
    let occurred = |copies, due_ms| Event::Occurred {
        id,
        copies,
        first: if copies > 0 { self::id(43) } else { MessageId::new(0, 0, 0) },
        at_once: true,
        step_ms: 0,
        expires_mono_ms: 0,
        due_ms,
        clock: ClockKind::Wall,
        planned_ms: 52,
        runs: 53,
    };
    vec![
        Event::DestinationCreated { destination, name: "/queue/a" },
        produced(ClockKind::Mono, false, 0, b""),
        produced(ClockKind::Wall, true, 99, b"dedup"),
        Event::Produced {
            id,
            destination,
            priority: 4,
            clock: ClockKind::Wall,
            at_once: false,
            recurring: true,
            expires_mono_ms: 0,
            dedup: b"",
            content: &[1; 40],
        },
        occurred(2, 51),
        occurred(0, 0),
        Event::Cancelled { id, destination, due_ms: 9 },
        Event::Rescheduled { id, due_ms: 5, clock: ClockKind::Wall, at_once: true },
        Event::Acknowledged { id },
        Event::Failed { id, reason: FailureReason::Timeout },
        Event::Failed { id, reason: FailureReason::Rejected },
        Event::Dead { id, destination },
        Event::Expired { id },
        Event::SubscriptionCreated { subscription: 1, destination, name: "s", next_offset: 3 },
        Event::TopicAcknowledged { subscription: 1, from: 2, to: 3 },
        Event::GivenUp { id },
        Event::InboxAcknowledged { destination, subscription: 8, from: 2, to: 3 },
        Event::TopicTrimmed { destination, before: 8 },
        Event::SubscriptionDeleted { subscription: 1 },
        Event::DestinationPurged {
            destination,
            ready: true,
            scheduled: true,
            before: 43,
            spared: Sequences::from_bytes(&[7; 16]).unwrap_or_default(),
        },
        Event::DestinationPaused { destination, paused: true },
        Event::DestinationLimited { destination, max_messages: 8, max_age_ms: 9 },
        Event::DestinationDeleted { destination },
    ]
}

fn checkpoint() -> Vec<Event<'static>> {
    let (id, destination) = (id(42), DestinationId(7));
    let control = Control { paused: true, max_messages: 21, max_age_ms: 22, purged_before: 23 };
    let restored = |state, clock| Event::Restored {
        id,
        destination,
        due_ms: 77,
        state,
        priority: 1,
        clock,
        recurring: false,
        expires_mono_ms: 6,
        failures: 300,
        offset: 8,
        content: b"",
    };
    vec![
        Event::Counters {
            next_sequence: 1,
            next_destination: 2,
            next_subscription: 3,
            next_position: 4,
        },
        Event::DestinationRestored {
            destination,
            name: "/topic/t",
            first_offset: 4,
            next_offset: 5,
            scheduled: 6,
            ready: 7,
            control,
        },
        Event::LaneRestored { destination, lane: 4, handed_to: 5, cold_to: 6 },
        Event::ChunkRestored { destination, end: 4, bytes: 5, since_mono_ms: 6 },
        Event::LineRestored { pace: Pace { steady_to: 7, slow_to: 8 } },
        Event::HandedOut { destination, lane: 4, to: 5 },
        restored(State::Scheduled, ClockKind::Mono),
        restored(State::Dead, ClockKind::Wall),
        Event::Finished { id, state: State::Cancelled },
    ]
}

fn events(events: &[Event<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for event in events {
        encode(event, &mut bytes);
    }
    bytes
}

fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let header = FrameHeader {
        segment: 3,
        number: 41,
        durable_segment: 2,
        durable_offset: 8_192,
        kind: FrameKind::Batch,
        meta: BatchMeta {
            now: Now { mono_ms: 1, wall_ms: 2, engine_ms: 3 },
            fired_to: Key { due_ms: 4, sequence: 5 },
        },
    };
    let frame = |header: &FrameHeader, payload: &[u8]| {
        let mut batch = BatchBuffer::new();
        batch.extend(payload);
        batch.seal(header);
        // Without most of its padding: a seed is small.
        let used = postdate::codec::frame::HEADER_BYTES + batch.len();
        batch.seal(header)[..used + 8].to_vec()
    };
    let mark = FrameHeader { kind: FrameKind::Mark, meta: BatchMeta::default(), ..header };
    let kind = FrameKind::Gap { frames: 3, bytes: 5 * FRAME_ALIGN as u64 };
    let gap = FrameHeader { kind, ..mark };
    let segment = SegmentHeader { segment: 9, previous: 8, previous_end: 1 << 33, first_frame: 77 };
    let mut block = [0; FRAME_ALIGN];
    segment.encode(&mut block);
    vec![
        ("batch", frame(&header, &events(&live()))),
        ("mark", frame(&mark, &[])),
        ("gap", frame(&gap, &[])),
        // The rest of the block is zeros, and put back when it is read.
        ("segment", block[..64].to_vec()),
    ]
}

/// One block with rows of each kind; several, of which some are packed; none.
fn segments() -> Vec<(&'static str, Vec<u8>)> {
    let file = |rows: &[(Vec<u8>, Option<Vec<u8>>)], compression| {
        let options = SegmentOptions { block_bytes: 512, compression };
        super::segment::write(&SimDisk::new(), rows, options)
    };
    let few = [
        (b"a".to_vec(), Some(b"one".to_vec())),
        (b"ab".to_vec(), None),
        (b"abc".to_vec(), Some(vec![])),
        (b"b".to_vec(), Some(vec![b'x'; 200])),
    ];
    let many: Vec<_> =
        (0..60u8).map(|n| (vec![1, n / 7, n], Some(vec![n; usize::from(n)]))).collect();
    vec![
        ("few", file(&few, Compression::None)),
        ("many", file(&many, Compression::Zstd)),
        ("none", file(&[], Compression::None)),
    ]
}

/// Operations of the engine target, byte by byte as it reads them.
fn runs() -> Vec<(&'static str, Vec<u8>)> {
    let (a, t) = (0, 2);
    let produce = |to: u8, delay: u8, amount: u8| [0, 0, to, 0, 0x20, delay, amount, 4];
    let subscribe = |session: u8, number: u8, to: u8, timeout: u8, durable: u8| {
        [12, session, number, to, 3, timeout, durable, 1]
    };
    let cancel = |back: u8| [5, 0, 0, back];
    let reschedule = |back: u8, delay: u8, amount: u8| [6, 0, 0, back, delay, amount];
    let acknowledge = |session: u8, number: u8, all: u8| [8, session, number, all, 0, 0];
    let reject = |again: u8| [11, 0, 0, again, 0, 0];
    // Kind and amount of time, wall aside, then the limit of the step.
    let pass = |kind: u8, amount: u8, wall: u8| [26, kind, amount, wall, 0];
    let (restart, flush) = ([20], [21]);
    let queue: [&[u8]; 10] = [
        &[0],
        &produce(a, 0, 0),
        &produce(a, 2, 200),
        &produce(a, 4, 3),
        &subscribe(0, 1, a, 1, 0),
        &pass(1, 1, 0),
        &acknowledge(0, 1, 1),
        &pass(3, 9, 0),
        &cancel(0),
        &pass(5, 90, 0),
    ];
    let topic: [&[u8]; 14] = [
        &[0x04],
        &subscribe(0, 1, t, 1, 1),
        &subscribe(1, 1, t, 0, 0),
        &produce(t, 0, 0),
        &produce(t, 2, 9),
        &pass(1, 9, 0),
        &acknowledge(0, 1, 1),
        &pass(1, 200, 0),
        &restart,
        &subscribe(0, 1, t, 0, 1),
        &produce(t, 0, 0),
        &pass(1, 1, 0),
        &[14, 0, 1, 1],
        &flush,
    ];
    let dead: [&[u8]; 13] = [
        &[0x00],
        &produce(a, 0, 0),
        &subscribe(0, 1, a, 0, 0),
        &pass(1, 1, 0),
        &reject(1),
        &pass(1, 1, 0),
        &reject(0),
        &subscribe(0, 2, 4, 0, 0),
        &pass(1, 1, 0),
        &restart,
        &[15, 0, 4],
        &[15, 0, a],
        &pass(1, 1, 0),
    ];
    // Looks at more than it looks: operation 17, the session, a limit, and which one.
    let purge = |to: u8, scheduled: u8| [17, 0, 0, 6, to, scheduled];
    let pause = |to: u8, paused: u8| [17, 0, 0, 7, to, paused];
    let limit = |to: u8, messages: u8, age: u8| [17, 0, 0, 8, to, messages, age];
    let operator: [&[u8]; 21] = [
        &[0],
        &produce(a, 0, 0),
        &produce(a, 0, 0),
        &produce(a, 4, 3),
        &[12, 0, 1, a, 1, 3, 0, 1],
        &pass(1, 1, 0),
        &purge(a, 1),
        &pass(1, 1, 0),
        &restart,
        &produce(a, 2, 9),
        &limit(a, 3, 5),
        &produce(a, 0, 0),
        &pause(a, 1),
        &subscribe(0, 2, a, 0, 0),
        &pass(1, 20, 0),
        &flush,
        &pass(5, 90, 0),
        &pause(a, 0),
        &pass(1, 1, 0),
        &purge(t, 1),
        &pass(5, 90, 0),
    ];
    let clocks: [&[u8]; 12] = [
        &[0],
        &produce(a, 6, 70),
        &produce(a, 3, 100),
        &produce(a, 5, 30),
        &subscribe(0, 1, a, 3, 0),
        &pass(3, 50, 0),
        &reschedule(2, 6, 90),
        &pass(1 + 5 * 8, 10, 100),
        &flush,
        &pass(1 + 7 * 8, 10, 0x80),
        &restart,
        &pass(7, 40, 0),
    ];
    vec![
        ("queue", queue.concat()),
        ("topic", topic.concat()),
        ("dead_letters", dead.concat()),
        ("clocks", clocks.concat()),
        ("operator", operator.concat()),
    ]
}
