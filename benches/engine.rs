//! What the engine itself costs a message, without journal, disk and sockets.
//!
//! `cargo bench --bench engine`

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use postdate::base::command::{Command, Outgoing, StartAt, Subscribe};
use postdate::base::config::ShardConfig;
use postdate::base::event::{Event, EventSink};
use postdate::base::id::SessionId;
use postdate::base::message::{Delay, Message, MessageBatch};
use postdate::base::time::Now;
use postdate::codec::event;
use postdate::engine::Engine;

const START: u64 = 1_700_000_000_000;
const SESSION: SessionId = SessionId(1);
const BATCH: usize = 100;

struct Encode(Vec<u8>);

impl EventSink for Encode {
    fn record(&mut self, event: &Event<'_>) {
        event::encode(event, &mut self.0);
    }
}

fn engine() -> Engine {
    let mut engine = Engine::new(ShardConfig::default(), Now::all(START));
    engine.open_session(SESSION);
    engine
}

/// A produce command of `BATCH` messages of 100 bytes, spread over an hour.
fn produce(round: u64, delayed: bool) -> Command {
    let mut bytes = Vec::new();
    for n in 0..BATCH as u64 {
        let spread = (round * 7919 + n * 104_729) % 3_590_000 + 10_000;
        let delay = if delayed { Delay::After(spread as i64) } else { Delay::None };
        Message::new(vec![b'x'; 100]).with_delay(delay).encode(&mut bytes).unwrap_or_default();
    }
    let batch = MessageBatch::parse(bytes.into(), BATCH).unwrap_or_else(|e| panic!("{e}"));
    Command::Produce { destination: Bytes::from_static(b"/queue/bench"), batch }
}

fn publish(c: &mut Criterion) {
    let mut group = c.benchmark_group("engine");
    group.sample_size(20);
    for rounds in [100u64, 10_000] {
        let messages = rounds * BATCH as u64;
        group.throughput(Throughput::Elements(messages));
        group.bench_function(format!("delayed produce, {messages} messages"), |b| {
            b.iter_batched(
                || (engine(), (0..rounds).map(|r| produce(r, true)).collect::<Vec<_>>()),
                |(mut engine, commands)| {
                    let mut sink = Encode(Vec::with_capacity(1 << 20));
                    for (tag, command) in commands.into_iter().enumerate() {
                        engine.execute(SESSION, tag as u64, command, None, &mut sink);
                        if tag % 16 == 15 {
                            sink.0.clear();
                            engine.take_outgoing(|_, batch| drop(black_box(batch)));
                        }
                    }
                    engine
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn deliver(c: &mut Criterion) {
    let mut group = c.benchmark_group("engine");
    let rounds = 100u64;
    group.throughput(Throughput::Elements(rounds * BATCH as u64));
    group.bench_function("produce, deliver, acknowledge", |b| {
        b.iter_batched(
            || {
                let mut engine = engine();
                let mut sink = Encode(Vec::new());
                let wish = Subscribe {
                    subscription: 1,
                    destination: Bytes::from_static(b"/queue/bench"),
                    credit: 1_000,
                    ack_timeout_ms: 0,
                    durable: Bytes::new(),
                    start: StartAt::Latest,
                    shared: false,
                };
                engine.execute(SESSION, 0, Command::Subscribe(wish), None, &mut sink);
                (engine, (0..rounds).map(|r| produce(r, false)).collect::<Vec<_>>())
            },
            |(mut engine, commands)| {
                let mut sink = Encode(Vec::with_capacity(1 << 20));
                for (tag, command) in commands.into_iter().enumerate() {
                    engine.fire(Now::all(START + tag as u64), 1_000);
                    engine.execute(SESSION, tag as u64, command, None, &mut sink);
                    engine.dispatch(10_000, &mut sink);
                    let mut ids = Vec::new();
                    engine.take_outgoing(|_, batch| {
                        for outgoing in batch {
                            if let Outgoing::Deliver(delivery) = outgoing {
                                ids.push(delivery.id);
                            }
                        }
                    });
                    let ack = Command::Acknowledge { subscription: 1, ids, cumulative: false };
                    engine.execute(SESSION, tag as u64, ack, None, &mut sink);
                    engine.take_outgoing(|_, batch| drop(black_box(batch)));
                    sink.0.clear();
                }
                engine
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, publish, deliver);
criterion_main!(benches);
