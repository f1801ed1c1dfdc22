//! What is read back from disk: the checkpoint of a shard.

use bytes::Bytes;
use postdate::base::command::{Command, StartAt, Subscribe};
use postdate::base::config::ShardConfig;
use postdate::base::event::{BatchMeta, Control, Event, EventSink};
use postdate::base::id::{DestinationId, Key, MessageId, SessionId};
use postdate::base::lifecycle::State;
use postdate::base::time::{ClockKind, Now, Pace};
use postdate::codec::{checkpoint as codec, event, row};
use postdate::engine::Engine;
use postdate::shard::{check_checkpoint, from_checkpoint};
use postdate::sim::SimStore;

/// Longer inputs tell nothing new, slowly.
const INPUT_BYTES_MAX: usize = 1 << 14;
/// How far the engine is taken from what it was opened with, ms.
const PASS_MS: [u64; 4] = [0, 1_000, 3_600_000, 40 * 24 * 3_600_000];

const SESSION: SessionId = SessionId(1);

#[derive(Default)]
struct Encoded(Vec<u8>);

impl EventSink for Encoded {
    fn record(&mut self, event: &Event<'_>) {
        event::encode(event, &mut self.0);
    }
}

/// Bytes as a checkpoint. What is judged sound is opened as recovery does; the engine writes a
/// checkpoint that opens as the same state, and goes on without a panic: time passes, what is open fires
/// and is handed out.
pub fn checkpoint(data: &[u8]) -> usize {
    let Some((meta, events)) = codec::decode(data) else { return 0 };
    assert_eq!(codec::encode(&meta, events), data);
    if data.len() > INPUT_BYTES_MAX {
        return 0;
    }
    let config = ShardConfig::default();
    let judged = check_checkpoint(data);
    let Ok(mut engine) = from_checkpoint(&config, data) else {
        assert!(judged.is_err(), "opening refuses what verifying does not");
        return 0;
    };
    assert_eq!(judged, Ok(()), "verifying refuses what opens");
    let store = written(&mut engine, &config);
    run(engine, &store);
    1 + count(events)
}

fn count(mut events: &[u8]) -> usize {
    std::iter::from_fn(|| event::decode(&mut events).ok()).count()
}

/// Flushes it: what is opened from that is in the same state.
fn written(engine: &mut Engine, config: &ShardConfig) -> SimStore {
    let mut store = SimStore::default();
    let frozen = engine.freeze(&|event, out| event::encode(event, out));
    let chunks = store.flush(&frozen);
    drop(engine.frozen_lies_below(&chunks));
    assert!(
        dump(engine, &store) == dump(&store.opened(config), &store),
        "it is another state when opened again"
    );
    store
}

fn dump(engine: &Engine, store: &SimStore) -> Vec<u8> {
    let mut sink = Encoded::default();
    engine.dump(&store.all(), &mut sink);
    for dedup in engine.dedups(&store.all_dedups(), engine.now().mono_ms) {
        sink.0.extend(row::dedup_key(dedup.destination, dedup.dedup));
        row::encode_dedup(&dedup, &mut sink.0);
    }
    sink.0
}

/// A restart, a consumer of every destination, and time.
fn run(mut engine: Engine, store: &SimStore) {
    engine.finish_replay();
    let mut sink = Encoded::default();
    engine.open_session(SESSION);
    for (subscription, destination) in (0..).zip(names(&engine)) {
        let wish = Subscribe {
            subscription,
            destination,
            credit: 5,
            ack_timeout_ms: 1_000,
            durable: Bytes::new(),
            start: StartAt::Earliest,
            shared: false,
        };
        engine.execute(SESSION, 1, Command::Subscribe(wish), None, &mut sink);
    }
    for pass_ms in PASS_MS {
        let now = engine.now();
        let now = now.then(now.mono_ms + pass_ms, now.wall_ms + pass_ms, engine.pace());
        for _ in 0..2 {
            store.thaw_scheduled(&mut engine, Key::end_of(now.engine_ms), 100);
            store.serve(&mut engine, 100);
            let _ = engine.fire(now, 100);
            engine.run_schedules(None, &mut sink);
            engine.run_timers(100, &mut sink);
            engine.dispatch(100, &mut sink);
            engine.expire_old(100, &mut sink);
            engine.retain_topics(100, &mut sink);
            engine.execute(SESSION, 2, Command::Stats, None, &mut sink);
            engine.take_outgoing(|_, _| ());
            let _ = engine.next_wait_ms();
        }
    }
}

/// The first names there are.
fn names(engine: &Engine) -> Vec<Bytes> {
    let mut names = Vec::new();
    engine.dump(&[], &mut Names(&mut names));
    names
}

struct Names<'a>(&'a mut Vec<Bytes>);

impl EventSink for Names<'_> {
    fn record(&mut self, event: &Event<'_>) {
        if let Event::DestinationRestored { name, .. } = event
            && self.0.len() < 8
        {
            self.0.push(Bytes::copy_from_slice(name.as_bytes()));
        }
    }
}

/// The beginning of a checkpoint that has one of each event, so many of them.
pub(crate) fn seed(most: usize) -> Vec<u8> {
    let (queue, topic) = (DestinationId(0), DestinationId(1));
    let control = Control::default();
    let restored = |sequence, due_ms, state| Event::Restored {
        id: MessageId::new(2_000, 0, sequence),
        destination: queue,
        due_ms,
        state,
        priority: 4,
        clock: ClockKind::Wall,
        recurring: false,
        expires_mono_ms: 0,
        failures: 1,
        offset: 3,
        content: &[0; 8],
    };
    let all = [
        Event::Counters {
            next_sequence: 100,
            next_destination: 3,
            next_subscription: 2,
            next_position: 50,
        },
        Event::DestinationRestored {
            destination: queue,
            name: "/queue/q",
            first_offset: 1,
            next_offset: 1,
            scheduled: 2,
            ready: 3,
            control: Control { paused: true, max_messages: 9, max_age_ms: 9, purged_before: 9 },
        },
        Event::LaneRestored { destination: queue, lane: 4, handed_to: 20, cold_to: 40 },
        Event::DestinationRestored {
            destination: topic,
            name: "/topic/t",
            first_offset: 2,
            next_offset: 9,
            scheduled: 0,
            ready: 7,
            control,
        },
        Event::ChunkRestored { destination: topic, end: 5, bytes: 60, since_mono_ms: 900 },
        Event::ChunkRestored { destination: topic, end: 9, bytes: 70, since_mono_ms: 950 },
        Event::SubscriptionCreated {
            subscription: 1,
            destination: topic,
            name: "s",
            next_offset: 3,
        },
        Event::TopicAcknowledged { subscription: 1, from: 5, to: 6 },
        restored(7, 2_500, State::Scheduled),
        restored(8, 900, State::Scheduled),
        restored(9, 900, State::Ready),
        Event::Finished { id: MessageId::new(800, 0, 6), state: State::Acknowledged },
        Event::LineRestored { pace: Pace { steady_to: 3_000, slow_to: 4_000 } },
    ];
    let mut events = Vec::new();
    all.iter().take(most).for_each(|one| event::encode(one, &mut events));
    let fired_to = Key { due_ms: 1_000, sequence: u64::MAX };
    let meta = BatchMeta { now: Now::all(1_000), fired_to };
    codec::encode(&meta, &events)
}
