//! The clients: each is at work until its server is gone, and tells the ledger what it was told.

use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::sleep;

use super::PAUSE;
use super::ledger::{Due, Ledger, Place, wall_ms};
use crate::base::command::StartAt;
use crate::base::error::Code;
use crate::base::id::MessageId;
use crate::base::message::{Delay, Message};
use crate::client::{Client, ClientOptions, Error, Received, SubscribeOptions, Subscription};
use crate::sim::random::Random;

pub(super) type Shared = Arc<Mutex<Ledger>>;

/// Producers stay this far ahead of the consumers, who acknowledge one by one.
const BACKLOG_MAX: u64 = 4_000;
/// Longest delay of most messages, ms: short, so that they come back within a few lives.
const DELAY_MAX_MS: u64 = 2_500;
/// Longest delay of a few, ms.
const LONG_DELAY_MAX_MS: u64 = 8_000;
/// A message that was tried so often is rejected no more: after 16 failures it would be dead.
const REJECT_ATTEMPTS: u32 = 8;

/// Connects once; whoever is not let in has met the end of the server.
pub(super) async fn connect(server: &str) -> Option<Client> {
    let options = ClientOptions { reconnect: false, ..ClientOptions::new(server) };
    Client::connect_with(options).await.ok()
}

/// Whether a client meets this at the end of its server: then nobody knows what was done.
fn is_the_end(error: &Error) -> bool {
    match error {
        Error::Refused(why) => matches!(why.code, Code::ShuttingDown | Code::StorageFailed),
        Error::Protocol(_) => false,
        _ => true,
    }
}

/// Whether the disk has no room for something new, and for the destination it would make.
fn is_full<T>(asked: &Result<T, Error>) -> bool {
    matches!(asked, Err(Error::Refused(why)) if why.code == Code::DiskFull)
}

/// What was asked, if it was answered; other errors than those of the end are written down.
fn answer<T>(ledger: &Shared, what: &str, asked: Result<T, Error>) -> Option<T> {
    match asked {
        Ok(answer) => Some(answer),
        Err(error) => {
            if !is_the_end(&error) {
                ledger.lock().violation(format!("{what}: {error}"));
            }
            None
        }
    }
}

/// Publishes to queue and topic.
pub(super) async fn produce(server: String, ledger: Shared, mut random: Random) {
    let Some(client) = connect(&server).await else { return };
    loop {
        let ahead = |ledger: &Ledger| ledger.backlog() > BACKLOG_MAX || ledger.is_full();
        while ahead(&ledger.lock()) {
            // Far enough ahead; a question notices the end of the server.
            if client.stats().await.is_err() {
                return;
            }
            sleep(PAUSE).await;
        }
        let place = if random.percent(25) { Place::Topic } else { Place::Queue };
        if send(&client, &ledger, &mut random, place).await.is_break() {
            return;
        }
    }
}

/// Publishes a batch.
async fn send(
    client: &Client,
    ledger: &Shared,
    random: &mut Random,
    place: Place,
) -> ControlFlow<()> {
    let mut batch = Vec::new();
    let mut numbers = Vec::new();
    for _ in 0..=random.below(20) {
        let most = if random.percent(95) { DELAY_MAX_MS } else { LONG_DELAY_MAX_MS };
        let (delay, due) = match random.below(4) {
            0 => (Delay::None, Due::After(wall_ms())),
            1 => {
                let at = ledger.lock().shown_ms() + random.below(most);
                (Delay::At(at.cast_signed()), Due::At(at))
            }
            _ => {
                let delay = random.below(most);
                (Delay::After(delay.cast_signed()), Due::After(wall_ms() + delay))
            }
        };
        let padding = if random.percent(90) { random.below(100) } else { random.below(4_000) };
        // Written down before it is sent: what is delivered must have been sent.
        let number = ledger.lock().sending(place, due);
        let body = format!("{number} {:.<1$}", "", padding as usize);
        batch.push(Message::new(body).with_delay(delay));
        numbers.push(number);
    }
    let sent = client.produce_batch(place.name(), &batch).await;
    if is_full(&sent) {
        numbers.iter().for_each(|number| ledger.lock().refused(*number));
        sleep(PAUSE).await;
        return Continue(());
    }
    let Some(results) = answer(ledger, "send", sent) else {
        let mut ledger = ledger.lock();
        numbers.iter().for_each(|_| ledger.unanswered());
        return Break(());
    };
    let mut ledger = ledger.lock();
    if results.len() != numbers.len() {
        ledger.violation(format!("{} sent, {} answered", numbers.len(), results.len()));
    }
    for (number, result) in numbers.into_iter().zip(results) {
        match result {
            Ok(produced) => ledger.accepted(number, produced.id),
            Err(why) => match why.code {
                Code::DiskFull | Code::MemoryFull | Code::Overloaded => ledger.refused(number),
                Code::ShuttingDown | Code::StorageFailed => ledger.unanswered(),
                _ => ledger.violation(format!("a good message was refused: {why}")),
            },
        }
    }
    Continue(())
}

/// Cancels and reschedules what is scheduled.
pub(super) async fn change(server: String, ledger: Shared, mut random: Random) {
    let Some(client) = connect(&server).await else { return };
    loop {
        let picked = ledger.lock().pick(&mut random);
        let Some((number, id)) = picked else {
            if client.stats().await.is_err() {
                return;
            }
            sleep(PAUSE).await;
            continue;
        };
        if random.coin() {
            ledger.lock().cancelling(number);
            let asked = client.cancel(&[id]).await;
            let Some(verdicts) = answer(&ledger, "cancel", asked) else { return };
            let Some(verdict) = verdicts.first() else { return };
            ledger.lock().cancel_answered(number, verdict.done, verdict.state);
        } else {
            let delay = random.below(DELAY_MAX_MS);
            let due = Due::After(wall_ms() + delay);
            let delay = Delay::After(delay.cast_signed());
            ledger.lock().moving(number);
            let asked = client.reschedule(&[(id, delay)]).await;
            let Some(verdicts) = answer(&ledger, "reschedule", asked) else { return };
            let Some(verdict) = verdicts.first() else { return };
            let (done, due_ms) = (verdict.done, verdict.due_ms);
            ledger.lock().move_answered(number, done, verdict.state, due, due_ms);
        }
    }
}

/// Publishes to the side queue and purges it now and then. Its only producer and purger: what it
/// sent before a purge is purged.
pub(super) async fn purge(server: String, ledger: Shared, mut random: Random) {
    let Some(client) = connect(&server).await else { return };
    loop {
        if send(&client, &ledger, &mut random, Place::Side).await.is_break() {
            return;
        }
        // On a full disk there may be no such queue yet.
        if random.percent(20) && ledger.lock().has_side() {
            ledger.lock().purging();
            let asked = client.purge(Place::Side.name(), true).await;
            let Some(purged) = answer(&ledger, "purge", asked) else { return };
            ledger.lock().purged(purged.ready + purged.scheduled);
        }
        sleep(PAUSE).await;
    }
}

/// Receives, and acknowledges one by one; gives a few back first.
pub(super) async fn consume(server: String, ledger: Shared, place: Place, mut random: Random) {
    let Some(client) = connect(&server).await else { return };
    let options = SubscribeOptions {
        credit: 200,
        durable: if place == Place::Topic { "kill".into() } else { String::new() },
        start: StartAt::Earliest,
        ..SubscribeOptions::new(place.name())
    };
    let mut subscribed = client.subscribe(options.clone()).await;
    while is_full(&subscribed) {
        sleep(PAUSE).await;
        subscribed = client.subscribe(options.clone()).await;
    }
    let Some(mut subscription) = answer(&ledger, "subscribe", subscribed) else { return };
    while let Some(next) = subscription.next().await {
        let Some(received) = answer(&ledger, "delivery", next) else { return };
        if conclude(&subscription, &ledger, place, &received, &mut random).await.is_break() {
            return;
        }
    }
}

async fn conclude(
    subscription: &Subscription,
    ledger: &Shared,
    place: Place,
    received: &Received,
    random: &mut Random,
) -> ControlFlow<()> {
    let (id, attempt) = (received.id, received.attempt);
    let Some(number) = number_of(received.body()) else {
        ledger.lock().violation(format!("{id}: delivered with a body that nobody sent"));
        return Continue(());
    };
    ledger.lock().delivered(number, place, id, attempt);
    if place != Place::Topic && attempt < REJECT_ATTEMPTS && random.percent(2) {
        let rejected = subscription.reject(&[id], true).await;
        return match answer(ledger, "reject", rejected) {
            Some(_) => Continue(()),
            None => Break(()),
        };
    }
    let Some(verdicts) = answer(ledger, "ack", subscription.ack(&[id]).await) else {
        return Break(());
    };
    if let Some(verdict) = verdicts.first() {
        ledger.lock().ack_answered(number, verdict.done, verdict.state);
    }
    Continue(())
}

/// What a body says, when every byte of it is as it was sent.
fn number_of(body: &[u8]) -> Option<u64> {
    let (number, padding) = std::str::from_utf8(body).ok()?.split_once(' ')?;
    number.parse().ok().filter(|_| padding.bytes().all(|byte| byte == b'.'))
}

/// Waits until the server says that nothing is left, and the topic's subscription is at its end.
///
/// # Errors
/// What is wrong, or what is missing after `patience`.
pub(super) async fn rest(server: &str, ledger: &Shared, patience: Duration) -> Result<(), String> {
    let client = connect(server).await.ok_or("nobody was let in to wait for a rest")?;
    let begun = wall_ms();
    let waited_long = || wall_ms().saturating_sub(begun) > patience.as_millis() as u64;
    loop {
        let all = client.destinations().await.map_err(|error| format!("at a rest: {error}"))?;
        let left = all.iter().filter(|one| {
            let queued = if one.name.starts_with("/topic/") { 0 } else { one.ready };
            queued + one.scheduled + one.in_flight > 0
        });
        let left: Vec<_> = left.collect();
        if left.is_empty() {
            break;
        }
        if waited_long() {
            return Err(format!("never came to rest; left: {left:?}"));
        }
        sleep(PAUSE).await;
    }
    // The topic hands out in order: when this one is acknowledged, everything before it was.
    let last = mark(&client, ledger).await?;
    while !ledger.lock().is_acknowledged(last) {
        if waited_long() {
            return Err("the topic's subscription never came to its end".into());
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

/// Publishes until it is let again, after the disk was full.
///
/// # Errors
/// That it is not let within `patience`.
pub(super) async fn comes_back(
    server: &str,
    ledger: &Shared,
    patience: Duration,
) -> Result<(), String> {
    let Some(client) = connect(server).await else { return Err("nobody was let in".into()) };
    let begun = wall_ms();
    loop {
        let number = ledger.lock().sending(Place::Queue, Due::After(wall_ms()));
        match client.produce(Place::Queue.name(), format!("{number} ")).await {
            Ok(produced) => {
                ledger.lock().accepted(number, produced.id);
                return Ok(());
            }
            Err(Error::Refused(why)) if why.code == Code::DiskFull => ledger.lock().refused(number),
            Err(error) => {
                ledger.lock().unanswered();
                return Err(error.to_string());
            }
        }
        if wall_ms().saturating_sub(begun) > patience.as_millis() as u64 {
            return Err("publishing is still refused".into());
        }
        sleep(PAUSE).await;
    }
}

async fn mark(client: &Client, ledger: &Shared) -> Result<u64, String> {
    let number = ledger.lock().sending(Place::Topic, Due::After(wall_ms()));
    let sent = client.produce(Place::Topic.name(), format!("{number} ")).await;
    let id: MessageId = sent.map_err(|error| format!("at a rest: {error}"))?.id;
    ledger.lock().accepted(number, id);
    Ok(number)
}
