//! What must be true of an engine between two steps, told by walking over all of it.

use std::collections::BTreeMap;

use super::super::Engine;
use super::super::cursor::Cursor;
use super::super::destination::Destination;
use super::super::small::Small;
use super::super::subscription::{Reader, Reading, Role, Source, Subscription};
use super::super::topic::Kept;
use crate::base::destination::{self, Kind};
use crate::base::event::Event;
use crate::base::id::{DestinationId, SessionId};
use crate::base::lifecycle::State;
use crate::base::stored::{Place, Want};
use crate::codec::event;
use crate::sim::SimStore;

/// Counters against what they count.
#[derive(Default, PartialEq, Eq, Debug)]
struct Count {
    scheduled: u64,
    ready: u64,
    in_flight: u64,
}

/// Checks one engine.
pub(super) fn check(engine: &Engine, below: &SimStore) {
    counters(engine, below);
    small_state(engine);
    groups(engine);
    patterns(engine);
    for (id, destination) in
        engine.destinations.iter().map(|destination| (destination.id, destination))
    {
        let queued = engine.active.iter().filter(|active| **active == id).count();
        assert_eq!(queued, usize::from(destination.active), "its place among the active ones");
        for slot in &destination.subscribers {
            let subscription = engine.slots.get(*slot).expect("a subscriber without a slot");
            assert_eq!(subscription.destination, id);
            let waits = destination.waiting.iter().filter(|other| *other == slot).count();
            let consumer = matches!(subscription.role, Role::Consumer);
            let has_credit = consumer && subscription.has_credit();
            let waiting = subscription.waiting && subscription.pattern.is_none();
            assert_eq!((waits, waiting), (usize::from(has_credit), has_credit));
            leases(engine, *slot, subscription);
            if !destination.active && !destination.control.paused {
                nothing_waits_for(engine, id, subscription);
            }
        }
    }
}

/// What a checkpoint says of destinations and durable subscriptions is not more than was counted, the
/// count is the sum of its parts, and within its bounds.
fn small_state(engine: &Engine) {
    let said = engine.small_state(&[], &|event, out| event::encode(event, out));
    let mut rest = &said[..];
    let mut counted = 0;
    while !rest.is_empty() {
        let before = rest.len();
        let event = event::decode(&mut rest).unwrap();
        // These two are reckoned apart.
        if !matches!(event, Event::Counters { .. } | Event::LineRestored { .. }) {
            counted += (before - rest.len()) as u64;
        }
    }
    let Small { base, growth } = engine.small;
    assert!(
        counted <= base + growth,
        "{counted} bytes of small state, {base} and {growth} counted"
    );
    let destinations = engine.destinations.iter().map(|d| d.counted);
    let durables = engine.durables.values().map(|durable| durable.counted);
    assert_eq!(engine.small, Small::sum(destinations.chain(durables)));
    for queue in engine.destinations.iter().filter(|d| d.kind == Kind::Queue) {
        let dead = destination::dead_letter_name(&queue.name);
        assert_eq!(queue.has_dead_letters, engine.names.contains_key(dead.as_str()));
    }
}

fn counters(engine: &Engine, below: &SimStore) {
    let mut counts: BTreeMap<DestinationId, Count> = BTreeMap::new();
    let mut bytes = 0;
    for sequence in engine.messages.sequences() {
        let entry = engine.messages.get(sequence).unwrap();
        bytes += entry.memory_bytes();
        if let Some(destination) = engine.destination(entry.destination) {
            let purged = sequence < destination.control.purged_before;
            assert!(!purged || entry.state != State::Scheduled, "purged and still in memory");
        }
        let count = counts.entry(entry.destination).or_default();
        match entry.state {
            State::Scheduled => count.scheduled += 1,
            State::Ready | State::Dead => count.ready += 1,
            State::InFlight => count.in_flight += 1,
            other => panic!("a message in the table is {other:?}"),
        }
    }
    assert_eq!(engine.memory_bytes, bytes);
    for row in below.all().iter().filter(|row| engine.is_alive_below(row)) {
        let count = counts.entry(row.destination).or_default();
        match row.place {
            Place::Scheduled(_) => count.scheduled += 1,
            Place::Ready { .. } => count.ready += 1,
        }
    }
    for destination in engine.destinations.iter() {
        let mut found = counts.remove(&destination.id).unwrap_or_default();
        for slot in &destination.subscribers {
            if let Role::Reader(reader) = &engine.slots.get(*slot).unwrap().role {
                found.in_flight += reader.out.len() as u64;
            }
        }
        let told = Count {
            scheduled: destination.scheduled,
            ready: destination.ready,
            in_flight: destination.in_flight,
        };
        assert_eq!(told, found, "counters of {}", destination.name);
        if !destination.kind.is_queue() {
            let topic = &destination.topic;
            assert_eq!(topic.len(), destination.ready);
            let content = |kept: &Kept| engine.messages.get(kept.sequence).unwrap().content.len();
            let here: u64 = topic.log.iter().map(|kept| content(kept) as u64).sum();
            let lies_below: u64 = topic.chunks.iter().map(|chunk| chunk.bytes).sum();
            assert_eq!(topic.bytes, here + lies_below, "bytes of {}", destination.name);
        }
    }
}

/// Credit is never exceeded and never leaks; each lease has an end, and somebody is woken for it.
fn leases(engine: &Engine, slot: u32, subscription: &Subscription) {
    let held: Vec<u64> = match &subscription.role {
        Role::Reader(reader) => reader.out.keys().copied().collect(),
        Role::Consumer => engine
            .messages
            .sequences()
            .into_iter()
            .filter(|sequence| {
                let entry = engine.messages.get(*sequence).unwrap();
                entry.state == State::InFlight && entry.lease == slot
            })
            .collect(),
    };
    assert_eq!(subscription.in_flight as usize, held.len());
    assert!(subscription.in_flight <= subscription.credit, "more out than there was credit for");
    for position in held {
        let ends = subscription
            .deadlines
            .iter()
            .filter(|d| d.position == position && engine.lease_holds(slot, d));
        assert_eq!(ends.count(), 1, "a lease has one end");
    }
    if let Some(front) = subscription.deadlines.front() {
        let timer = subscription.timer.expect("deadlines without a timer");
        assert!(timer <= front.at_mono_ms, "woken too late");
        assert!(engine.lease_timers.contains(&(timer, slot)));
    }
}

/// What a reader has acknowledged, and where it reads.
fn place<'a>(engine: &'a Engine, reader: &'a Reader) -> (&'a Cursor, &'a Reading) {
    match &reader.source {
        Source::Own(own) => (&own.cursor, &own.reading),
        Source::Durable(number) => {
            let durable = &engine.durables[number];
            (&durable.cursor, &durable.reading)
        }
    }
}

/// Those that share a subscription: a message is out with one of them, or comes again, or waits.
fn groups(engine: &Engine) {
    for durable in engine.durables.values() {
        let mut out: Vec<u64> = durable.reading.again.keys().copied().collect();
        for slot in &durable.members {
            let subscription = engine.slots.get(*slot).expect("a member without a slot");
            let Role::Reader(reader) = &subscription.role else { panic!("a consumer in a group") };
            out.extend(reader.out.keys());
        }
        out.sort_unstable();
        assert!(out.windows(2).all(|two| two[0] < two[1]), "out twice: {out:?}");
        // What retention dropped counts as acknowledged, and is still out.
        let kept_from = engine.destination(durable.destination).unwrap().topic.first_offset;
        let kept = out.iter().filter(|offset| **offset >= kept_from);
        let mut over = kept.filter(|offset| durable.cursor.contains(**offset));
        assert_eq!(over.next(), None, "out after its end");
        assert!(durable.shared || durable.members.len() <= 1);
    }
    let owned = engine.sessions.iter().flat_map(|(id, session)| {
        session.temporary.iter().map(|destination| (*destination, Some(SessionId(*id))))
    });
    let mut owned: Vec<_> = owned.collect();
    owned.sort_unstable_by_key(|(destination, _)| *destination);
    let all = engine.destinations.in_order();
    let owners: Vec<_> =
        all.iter().filter(|d| d.owner.is_some()).map(|d| (d.id, d.owner)).collect();
    assert_eq!(owned, owners, "temporary queues and their owners");
}

/// What is out under a pattern is what is out with its readers; who waits for credit stands in line, and nobody
/// stands there while there is any.
fn patterns(engine: &Engine) {
    let mut topics = 0;
    for (number, account) in &engine.patterns.all {
        topics += account.slots.len();
        let (mut out, mut bytes, mut waiting) = (Vec::new(), 0, 0);
        for (id, slot) in &account.slots {
            let subscription = engine.slots.get(*slot).expect("a topic without a reader");
            assert_eq!((subscription.destination, subscription.pattern), (*id, Some(*number)));
            let Role::Reader(reader) = &subscription.role else { panic!("a consumer") };
            out.extend(reader.out.keys().map(|offset| (*slot, *offset)));
            bytes += reader.out.values().map(|out| out.bytes).sum::<usize>();
            waiting += usize::from(subscription.waiting);
        }
        let mut told: Vec<_> = account.out.values().copied().collect();
        told.sort_unstable();
        out.sort_unstable();
        assert_eq!((told, account.bytes_in_flight), (out, bytes));
        assert_eq!(account.line.len(), waiting);
        let woken = account.slots.iter().any(|(id, _)| {
            engine.destination(*id).is_some_and(|d| d.active)
                || engine.wants.iter().any(
                    |want| matches!(want, Want::Topic { destination, .. } if destination == id),
                )
        });
        assert!(account.line.is_empty() || !account.has_credit() || woken, "nobody wakes the line");
    }
    assert_eq!(topics, engine.patterns.topics());
}

/// Whether the next message has expired, and passing over it would leave one gap too many.
fn expired_gap_too_many(engine: &Engine, reader: &Reader, destination: &Destination) -> bool {
    let (cursor, reading) = place(engine, reader);
    let next = cursor.next_gap(reading.next.max(destination.topic.first_offset));
    let ahead = reading.ahead.front().map(|ahead| ahead.expires_mono_ms);
    let entry = destination.topic.sequence_at(next).and_then(|at| engine.messages.get(at));
    let expires_ms = entry.map(|entry| entry.expires_mono_ms).or(ahead).unwrap_or(0);
    cursor.runs().len() >= 8 && expires_ms != 0 && expires_ms <= engine.now.mono_ms
}

/// A destination at rest has nothing that a subscriber with credit could have.
fn nothing_waits_for(engine: &Engine, id: DestinationId, subscription: &Subscription) {
    let destination = engine.destination(id).unwrap();
    let reads = |want: &Want| match *want {
        Want::Lane { destination, .. } | Want::Topic { destination, .. } => destination == id,
    };
    let in_line = subscription.pattern.is_some() && subscription.waiting;
    if !subscription.has_credit() || in_line || engine.wants.iter().any(reads) {
        return;
    }
    match &subscription.role {
        Role::Consumer => assert_eq!(destination.ready, 0, "{} is stuck", destination.name),
        // It waits for a gap to be closed.
        Role::Reader(reader) if expired_gap_too_many(engine, reader, destination) => {}
        Role::Reader(reader) => {
            let (cursor, reading) = place(engine, reader);
            let next = cursor.next_gap(reading.next.max(destination.topic.first_offset));
            assert!(reading.again.is_empty(), "what came back is stuck");
            assert_eq!(next, destination.topic.next_offset(), "{} is stuck", destination.name);
        }
    }
}
