//! Goal: the promises hold through SIGKILL at any moment. Method: the real server binary on a real
//! disk; producers, cancellers and subscribers write down what was acknowledged to them; the server
//! is killed at random moments, started again, and what it delivers is held against the record.
//!
//! A kill leaves the page cache alone, so this is about crashes of the process; power loss is
//! the crash sweep's matter, on the simulated disk.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use postdate::base::command::StartAt;
use postdate::base::id::MessageId;
use postdate::base::lifecycle::State;
use postdate::base::message::{Delay, Message};
use postdate::client::{Client, ClientOptions, Error, SubscribeOptions};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use support::{Server, wall_ms};

const KILLS: usize = 20;
const QUEUE: &str = "/queue/kill";
const TOPIC: &str = "/topic/kill";
/// Producers stay this far ahead of the consumers, which acknowledge one by one.
const BACKLOG_MAX: usize = 4_000;
/// Longest delay of a message, ms: short enough that all are due soon after the last restart.
const DELAY_MAX_MS: u64 = 2_500;

/// What became of one message, as far as an outsider was told.
#[derive(Debug, Default, Clone)]
struct Record {
    id: Option<MessageId>,
    /// Earliest due time that may be in force. A change whose answer is missing makes it 0.
    due_min_ms: u64,
    cancelled: bool,
    /// A cancel was sent and its answer is missing.
    cancel_unknown: bool,
    deliveries: usize,
    acknowledged: bool,
}

/// Everything that was acknowledged to somebody, by body.
#[derive(Default)]
struct Ledger {
    sent: HashMap<String, Record>,
    by_id: HashMap<MessageId, String>,
    violations: Vec<String>,
    produced: usize,
    delivered: usize,
    unknown: usize,
    cancels: usize,
    reschedules: usize,
    redelivered: usize,
}

impl Ledger {
    /// Messages accepted and not seen yet, about.
    fn backlog(&self) -> usize {
        self.produced.saturating_sub(self.delivered + self.cancels)
    }
}

type Shared = Arc<Mutex<Ledger>>;

fn below(rng: &mut Xoshiro256PlusPlus, bound: u64) -> u64 {
    rng.next_u64() % bound
}

async fn connect(server: &str) -> Option<Client> {
    let options =
        ClientOptions { server: server.into(), reconnect: false, ..ClientOptions::default() };
    Client::connect_with(options).await.ok()
}

/// Publishes until the server is gone.
async fn produce(server: String, ledger: Shared, seed: u64) {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let Some(client) = connect(&server).await else { return };
    for round in 0.. {
        while ledger.lock().unwrap().backlog() > BACKLOG_MAX {
            // Far enough ahead; a question paces the loop and notices the end of the server.
            if client.stats().await.is_err() {
                return;
            }
        }
        let to = if below(&mut rng, 4) == 0 { TOPIC } else { QUEUE };
        let mut batch = Vec::new();
        let mut bodies = Vec::new();
        for n in 0..=below(&mut rng, 20) {
            let body = format!("{to} {seed} {round} {n}");
            let delay = match below(&mut rng, 4) {
                0 => Delay::None,
                1 => Delay::At((wall_ms() + below(&mut rng, DELAY_MAX_MS)) as i64),
                _ => Delay::After(below(&mut rng, DELAY_MAX_MS) as i64),
            };
            // Written down before it is sent: what is delivered must have been sent.
            ledger.lock().unwrap().sent.insert(body.clone(), Record::default());
            batch.push(Message::new(body.clone()).with_delay(delay));
            bodies.push(body);
        }
        match client.produce_batch(to, &batch).await {
            Ok(results) => {
                let mut ledger = ledger.lock().unwrap();
                for (body, result) in bodies.iter().zip(results) {
                    let id = result.unwrap().id;
                    ledger.produced += 1;
                    ledger.by_id.insert(id, body.clone());
                    let record = ledger.sent.get_mut(body).unwrap();
                    record.id = Some(id);
                    record.due_min_ms = id.due_ms();
                }
            }
            Err(error) => {
                assert!(!matches!(error, Error::Refused(_)), "a good batch was refused: {error}");
                ledger.lock().unwrap().unknown += bodies.len();
                return;
            }
        }
    }
}

/// Cancels and reschedules what is scheduled until the server is gone.
async fn change(server: String, ledger: Shared, seed: u64) {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let Some(client) = connect(&server).await else { return };
    loop {
        let Some(id) = pick_scheduled(&ledger.lock().unwrap(), below(&mut rng, 20)) else {
            // Nothing there yet; a question to the server paces the loop and notices its end.
            if client.stats().await.is_err() {
                return;
            }
            continue;
        };
        if below(&mut rng, 2) == 0 {
            mark(&ledger, id, |record| record.cancel_unknown = true);
            let Ok(verdicts) = client.cancel(&[id]).await else { return };
            mark(&ledger, id, |record| {
                record.cancel_unknown = false;
                // Also when it was an earlier cancel, whose answer the kill has swallowed.
                record.cancelled |= verdicts[0].state == State::Cancelled;
            });
            ledger.lock().unwrap().cancels += usize::from(verdicts[0].done);
        } else {
            let delay = Delay::After(below(&mut rng, DELAY_MAX_MS) as i64);
            // Until the answer is there, the new time may be in force as well as the old one.
            mark(&ledger, id, |record| record.due_min_ms = 0);
            let Ok(verdicts) = client.reschedule(&[(id, delay)]).await else { return };
            if verdicts[0].done {
                mark(&ledger, id, |record| record.due_min_ms = verdicts[0].due_ms);
                ledger.lock().unwrap().reschedules += 1;
            }
        }
    }
}

fn pick_scheduled(ledger: &Ledger, nth: u64) -> Option<MessageId> {
    let soon = wall_ms();
    let open = |r: &&Record| !r.cancelled && r.deliveries == 0 && r.due_min_ms > soon;
    ledger.sent.values().filter(open).filter_map(|r| r.id).nth(nth as usize)
}

fn mark(ledger: &Shared, id: MessageId, change: impl FnOnce(&mut Record)) {
    let mut ledger = ledger.lock().unwrap();
    let body = ledger.by_id[&id].clone();
    change(ledger.sent.get_mut(&body).unwrap());
}

/// Receives and acknowledges until the server is gone.
async fn consume(server: String, ledger: Shared, to: &'static str) {
    let Some(client) = connect(&server).await else { return };
    let options = SubscribeOptions {
        credit: 200,
        durable: if to == TOPIC { "kill".into() } else { String::new() },
        start: StartAt::Earliest,
        ..SubscribeOptions::new(to)
    };
    let Ok(mut subscription) = client.subscribe(options).await else { return };
    while let Some(Ok(received)) = subscription.next().await {
        let body = String::from_utf8(received.body().to_vec()).unwrap();
        judge(&ledger, &body, received.id, received.attempt);
        match subscription.ack(&[received.id]).await {
            Ok(verdicts) if verdicts[0].done => {
                if let Some(record) = ledger.lock().unwrap().sent.get_mut(&body) {
                    record.acknowledged = true;
                }
            }
            Ok(verdicts) => {
                let violation = format!("{body}: delivered, yet its ack met {:?}", verdicts[0]);
                ledger.lock().unwrap().violations.push(violation);
            }
            Err(_) => return,
        }
    }
}

/// Holds one delivery against the record.
fn judge(ledger: &Shared, body: &str, id: MessageId, attempt: u32) {
    let now = wall_ms();
    let mut ledger = ledger.lock().unwrap();
    ledger.redelivered += usize::from(attempt > 1);
    let Some(record) = ledger.sent.get_mut(body) else {
        ledger.violations.push(format!("{body}: delivered but never sent"));
        return;
    };
    record.deliveries += 1;
    let first = record.deliveries == 1;
    let mut wrong = Vec::new();
    if record.id.is_some_and(|known| known != id) {
        wrong.push(format!("came as {id}, was accepted as {:?}", record.id));
    }
    if record.due_min_ms > now {
        wrong.push(format!("{} ms early", record.due_min_ms - now));
    }
    if record.cancelled {
        wrong.push("was cancelled".into());
    }
    if record.acknowledged {
        wrong.push("was acknowledged before".into());
    }
    if attempt == 1 && record.deliveries > 1 {
        wrong.push("came again as if for the first time".into());
    }
    ledger.delivered += usize::from(first);
    for what in wrong {
        ledger.violations.push(format!("{body}: {what}"));
    }
}

#[test]
fn the_promises_hold_through_twenty_kills() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ledger: Shared = Shared::default();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(20_260_101);
    for life in 0..=KILLS as u64 {
        // Written out as often as can be, so that kills come in the middle of that too.
        let small = ["--set", "memory_mib=16", "--set", "journal_tail_mib=1"];
        let mut server = Server::start(dir.path(), &small);
        let address = || server.address.clone();
        let mut tasks = tokio::task::JoinSet::new();
        for to in [QUEUE, QUEUE, TOPIC] {
            tasks.spawn_on(consume(address(), ledger.clone(), to), runtime.handle());
        }
        if life < KILLS as u64 {
            for n in 0..3 {
                let task = produce(address(), ledger.clone(), life * 10 + n);
                tasks.spawn_on(task, runtime.handle());
            }
            let task = change(address(), ledger.clone(), life * 10 + 9);
            tasks.spawn_on(task, runtime.handle());
            // The moment of the kill is what is random here; nothing waits for it to have passed.
            std::thread::sleep(Duration::from_millis(100 + below(&mut rng, 900)));
        } else {
            wait_until_complete(&ledger);
        }
        server.kill();
        runtime.block_on(async {
            while let Some(ended) = tasks.join_next().await {
                ended.unwrap();
            }
        });
        let violations = std::mem::take(&mut ledger.lock().unwrap().violations);
        assert!(violations.is_empty(), "in life {life}: {violations:#?}");
    }
    let ledger = ledger.lock().unwrap();
    println!(
        "{KILLS} kills, {} accepted, {} of unknown outcome, {} cancels, {} reschedules, {} redelivered",
        ledger.produced, ledger.unknown, ledger.cancels, ledger.reschedules, ledger.redelivered
    );
    let enough = ledger.produced > 1_000 && ledger.cancels > 20 && ledger.reschedules > 20;
    assert!(enough, "too little happened to show anything");
}

/// Waits until everything accepted was delivered, save what was cancelled; half a minute at most.
fn wait_until_complete(ledger: &Shared) {
    let begun = Instant::now();
    loop {
        let missing: Vec<String> = {
            let ledger = ledger.lock().unwrap();
            let lost = |r: &Record| {
                let settled = r.cancelled || r.cancel_unknown || r.deliveries > 0;
                r.id.is_some() && !settled
            };
            let missing = ledger.sent.iter().filter(|(_, record)| lost(record));
            missing.map(|(body, _)| body.clone()).collect()
        };
        if missing.is_empty() {
            return;
        }
        let some = &missing[..missing.len().min(10)];
        let lost = missing.len();
        assert!(begun.elapsed() < Duration::from_secs(30), "{lost} messages were lost: {some:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
