//! Whether a checkpoint makes sense, and the engine it stands for.
//!
//! A checkpoint that passed its checksum may still be something that no shard wrote. The engine takes its
//! events at their word, so they are judged first. Only what cannot be is refused: after a recovery that
//! passed over damage, a checkpoint may well name numbers beyond its own counters, or a topic that
//! is lost.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::config::ShardConfig;
use crate::base::destination::{self, Kind};
use crate::base::event::{BatchMeta, Event};
use crate::base::id::{DUE_MS_MAX, DestinationId};
use crate::base::lifecycle::State;
use crate::base::limits;
use crate::base::time::Pace;
use crate::codec::{checkpoint, event};
use crate::engine::Engine;

/// Sequences, positions, offsets and sums of counts and bytes end here: so that adding to them does
/// not overflow.
const NUMBER_MAX: u64 = 1 << 62;

/// The engine as it was when a checkpoint was taken.
///
/// # Errors
/// In words, why the bytes are no checkpoint.
pub fn from_checkpoint(config: &ShardConfig, bytes: &[u8]) -> Result<Engine, String> {
    let (meta, events) = read(bytes)?;
    let mut engine = Engine::from_checkpoint(config.clone(), &meta);
    for_each_sound(&meta, events, &mut |event| engine.apply(event))?;
    Ok(engine)
}

/// Judges a checkpoint.
///
/// # Errors
/// In words, why the bytes are no checkpoint.
pub fn check_checkpoint(bytes: &[u8]) -> Result<(), String> {
    let (meta, events) = read(bytes)?;
    for_each_sound(&meta, events, &mut |_| ())
}

fn read(bytes: &[u8]) -> Result<(BatchMeta, &[u8]), String> {
    checkpoint::decode(bytes).ok_or_else(|| "it is cut short".into())
}

fn for_each_sound(
    meta: &BatchMeta,
    mut events: &[u8],
    take: &mut dyn FnMut(&Event<'_>),
) -> Result<(), String> {
    check_meta(meta)?;
    let mut judge = Judge::default();
    for number in 0.. {
        if events.is_empty() {
            break;
        }
        let event = event::decode(&mut events).map_err(|e| format!("event {number}: {e}"))?;
        judge.check(&event).map_err(|why| format!("event {number}: {why}"))?;
        take(&event);
    }
    Ok(())
}

fn check_meta(meta: &BatchMeta) -> Result<(), &'static str> {
    let BatchMeta { now, fired_to } = meta;
    let lines = [now.mono_ms, now.wall_ms, now.engine_ms, fired_to.due_ms];
    check(lines.into_iter().all(|ms| ms <= DUE_MS_MAX), "a time beyond all times")?;
    // The engine's line is never behind another; a step fires what is due by then, and not more.
    let order = now.engine_ms >= now.mono_ms.max(now.wall_ms).max(fired_to.due_ms);
    check(order, "the engine's line is behind")
}

/// What the events so far have said.
#[derive(Default)]
struct Judge {
    counters: Option<Counters>,
    destinations: BTreeMap<DestinationId, Destination>,
    /// Of the open messages.
    sequences: BTreeSet<u64>,
    /// All messages and bytes that are counted.
    counted: u64,
}

struct Counters {
    next_destination: u32,
    next_subscription: u32,
}

struct Destination {
    kind: Kind,
    /// Topics: up to here the chunks go so far, and where they have to end.
    chunked_to: u64,
    next_offset: u64,
}

impl Judge {
    fn check(&mut self, event: &Event<'_>) -> Result<(), &'static str> {
        let Some(Counters { next_destination, next_subscription }) = self.counters else {
            return self.check_counters(event);
        };
        match *event {
            Event::DestinationRestored { destination, .. } => {
                check(destination.0 < next_destination, "a destination that was never made")?;
                self.check_destination(event)
            }
            Event::LaneRestored { destination, lane, handed_to, cold_to } => {
                let known = self.destinations.get(&destination);
                check(known.is_some_and(|known| known.kind.is_queue()), "a lane of no queue")?;
                check(lane <= limits::PRIORITY_MAX, "a lane that no queue has")?;
                check(handed_to.max(cold_to) < NUMBER_MAX, TOO_LARGE)
            }
            Event::ChunkRestored { destination, end, bytes, .. } => {
                let known = self.destinations.get_mut(&destination).filter(|d| !d.kind.is_queue());
                let topic = known.ok_or("a chunk of no topic")?;
                let behind = topic.chunked_to < end && end <= topic.next_offset;
                topic.chunked_to = end;
                check(behind, "a chunk out of order")?;
                self.count(&[bytes])
            }
            // Its topic may be lost.
            Event::SubscriptionCreated { subscription, next_offset, .. } => {
                check(subscription < next_subscription, "a subscription that was never made")?;
                check(next_offset < NUMBER_MAX, TOO_LARGE)
            }
            Event::TopicAcknowledged { from, to, .. } => {
                check(from <= to && to < NUMBER_MAX, "acknowledged offsets out of order")
            }
            Event::InboxAcknowledged { destination, subscription, from, to } => {
                let known = self.destinations.get(&destination);
                let inbox = known.is_some_and(|known| known.kind == Kind::Inbox);
                check(inbox && subscription == 0, "acknowledged offsets of no inbox")?;
                check(
                    1 <= from && from <= to && to < NUMBER_MAX,
                    "acknowledged offsets out of order",
                )
            }
            Event::LineRestored { pace: Pace { steady_to, slow_to } } => {
                check(steady_to <= slow_to && slow_to < NUMBER_MAX, TOO_LARGE)
            }
            Event::Restored { .. } => self.check_open(event),
            Event::Finished { id, state } => {
                use State::{Acknowledged, Cancelled, Dead, Ended, Expired};
                let end = matches!(state, Acknowledged | Cancelled | Dead | Ended | Expired);
                check(end, "an end that is none")?;
                check(id.sequence() < NUMBER_MAX, TOO_LARGE)
            }
            _ => Err("it stands in no checkpoint"),
        }
    }

    /// The counters come first, and once.
    fn check_counters(&mut self, event: &Event<'_>) -> Result<(), &'static str> {
        let Event::Counters { next_sequence, next_destination, next_subscription, next_position } =
            *event
        else {
            return Err("the counters do not come first");
        };
        let numbers = [next_sequence, next_position];
        check(numbers.into_iter().all(|next| (1..NUMBER_MAX).contains(&next)), TOO_LARGE)?;
        self.counters = Some(Counters { next_destination, next_subscription });
        Ok(())
    }

    fn check_destination(&mut self, event: &Event<'_>) -> Result<(), &'static str> {
        let Event::DestinationRestored {
            destination,
            name,
            first_offset,
            next_offset,
            scheduled,
            ready,
            control,
        } = *event
        else {
            return Ok(());
        };
        let kind = destination::kind_of(name).ok_or("a name of no kind")?;
        check((1..=next_offset).contains(&first_offset), "offsets out of order")?;
        check(next_offset.max(control.purged_before) < NUMBER_MAX, TOO_LARGE)?;
        self.count(&[scheduled, ready])?;
        let known = Destination { kind, chunked_to: first_offset, next_offset };
        let before = self.destinations.insert(destination, known);
        check(before.is_none(), "a destination twice")
    }

    fn check_open(&mut self, event: &Event<'_>) -> Result<(), &'static str> {
        let Event::Restored { id, destination, due_ms, state, priority, offset, content, .. } =
            *event
        else {
            return Ok(());
        };
        let schedule = matches!(event, Event::Restored { recurring: true, .. });
        check(!schedule || state == State::Scheduled, "a schedule that is not scheduled")?;
        check(id.sequence() < NUMBER_MAX && offset < NUMBER_MAX, TOO_LARGE)?;
        // What is scheduled has a time there, if it was put back.
        let key_ms = if state == State::Scheduled { offset } else { 0 };
        check(due_ms.max(key_ms) <= DUE_MS_MAX, "a time beyond all times")?;
        check(priority <= limits::PRIORITY_MAX, "a priority that no message has")?;
        let open = match (state, self.destinations.get(&destination).map(|known| known.kind)) {
            (State::Scheduled, _) | (State::Ready | State::Dead, None) => true,
            (State::Ready, Some(kind)) => matches!(kind, Kind::Queue | Kind::Temporary),
            (State::Dead, Some(kind)) => kind == Kind::DeadLetter,
            _ => false,
        };
        check(open, "a message that is not open")?;
        check(self.sequences.insert(id.sequence()), "a message twice")?;
        self.count(&[1, content.len() as u64])
    }

    fn count(&mut self, more: &[u64]) -> Result<(), &'static str> {
        self.counted = more.iter().fold(self.counted, |sum, more| sum.saturating_add(*more));
        check(self.counted < NUMBER_MAX, TOO_LARGE)
    }
}

const TOO_LARGE: &str = "a number that no shard gets to";

fn check(sound: bool, why: &'static str) -> Result<(), &'static str> {
    if sound { Ok(()) } else { Err(why) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::event::Control;
    use crate::base::id::{Key, MessageId};
    use crate::base::time::{ClockKind, Now};

    const NEXT: u64 = 100;

    fn meta() -> BatchMeta {
        let fired_to = Key { due_ms: 1_000, sequence: u64::MAX };
        BatchMeta { now: Now::all(1_000), fired_to }
    }

    fn counters() -> Event<'static> {
        Event::Counters {
            next_sequence: NEXT,
            next_destination: 4,
            next_subscription: 2,
            next_position: NEXT,
        }
    }

    fn destination(number: u32, name: &'static str) -> Event<'static> {
        Event::DestinationRestored {
            destination: DestinationId(number),
            name,
            first_offset: 1,
            next_offset: 9,
            scheduled: 3,
            ready: 4,
            control: Control::default(),
        }
    }

    const fn lane(destination: u32, lane: u8, handed_to: u64) -> Event<'static> {
        Event::LaneRestored { destination: DestinationId(destination), lane, handed_to, cold_to: 9 }
    }

    const fn chunk(destination: u32, end: u64, bytes: u64) -> Event<'static> {
        let destination = DestinationId(destination);
        Event::ChunkRestored { destination, end, bytes, since_mono_ms: 900 }
    }

    const fn subscription(subscription: u32, next_offset: u64) -> Event<'static> {
        let destination = DestinationId(7);
        Event::SubscriptionCreated { subscription, destination, name: "s", next_offset }
    }

    const fn acknowledged(from: u64, to: u64) -> Event<'static> {
        Event::TopicAcknowledged { subscription: 1, from, to }
    }

    const fn inbox_acknowledged(
        destination: u32,
        subscription: u32,
        from: u64,
        to: u64,
    ) -> Event<'static> {
        let destination = DestinationId(destination);
        Event::InboxAcknowledged { destination, subscription, from, to }
    }

    fn open(destination: u32, sequence: u64, due_ms: u64, state: State) -> Event<'static> {
        Event::Restored {
            id: MessageId::new(5, 0, sequence),
            destination: DestinationId(destination),
            due_ms,
            state,
            priority: 9,
            clock: ClockKind::Mono,
            expires_mono_ms: 0,
            recurring: false,
            failures: 1,
            offset: 3,
            content: b"x",
        }
    }

    fn put_back(mut event: Event<'static>, to: u64) -> Event<'static> {
        if let Event::Restored { offset, .. } = &mut event {
            *offset = to;
        }
        event
    }

    fn finished(sequence: u64, state: State) -> Event<'static> {
        Event::Finished { id: MessageId::new(5, 0, sequence), state }
    }

    /// One of each, sound; some name what damage may have taken.
    fn sound() -> Vec<Event<'static>> {
        vec![
            counters(),
            destination(0, "/queue/q"),
            destination(1, "/topic/t"),
            destination(2, "/dlq/queue/q"),
            destination(3, "/user/a/queue/b"),
            lane(0, 9, 2 * NEXT),
            chunk(1, 5, 10),
            chunk(1, 9, 10),
            subscription(1, 3),
            acknowledged(5, 6),
            open(0, 1, 2_000, State::Scheduled),
            open(0, NEXT, 3, State::Ready),
            open(2, 2, 3, State::Dead),
            open(5, 4, 3, State::Dead),
            open(5, 5, 3, State::Ready),
            finished(2 * NEXT, State::Expired),
            inbox_acknowledged(3, 0, 1, 4),
            Event::LineRestored { pace: Pace { steady_to: 5_000, slow_to: 6_000 } },
        ]
    }

    fn bytes(meta: &BatchMeta, events: &[Event<'_>]) -> Vec<u8> {
        let mut encoded = Vec::new();
        events.iter().for_each(|event| event::encode(event, &mut encoded));
        checkpoint::encode(meta, &encoded)
    }

    /// Goal: a checkpoint that no shard writes is refused where it begins to be wrong. Method: one bad
    /// event each behind those of a sound checkpoint.
    #[test]
    fn what_cannot_be_is_refused() {
        let all = sound();
        check_checkpoint(&bytes(&meta(), &all)).unwrap();
        let engine = from_checkpoint(&ShardConfig::default(), &bytes(&meta(), &all)).unwrap();
        assert_eq!((engine.next_sequence(), engine.now()), (NEXT, Now::all(1_000)));
        let bad = [
            counters(),
            destination(4, "/queue/r"),
            destination(1, "/topic/t"),
            lane(1, 0, 1),
            lane(5, 0, 1),
            lane(0, 10, 1),
            lane(0, 0, NUMBER_MAX),
            chunk(0, 9, 1),
            chunk(1, 9, 1),
            chunk(1, 10, 1),
            subscription(2, 3),
            subscription(1, NUMBER_MAX),
            acknowledged(7, 6),
            acknowledged(7, NUMBER_MAX),
            open(0, 1, 3, State::Ready),
            open(0, NUMBER_MAX, 3, State::Ready),
            open(0, 3, DUE_MS_MAX + 1, State::Ready),
            open(1, 3, 3, State::Ready),
            open(1, 3, 3, State::Dead),
            open(0, 3, 3, State::Dead),
            open(2, 3, 3, State::Ready),
            open(0, 3, 3, State::InFlight),
            open(0, 3, 3, State::Acknowledged),
            finished(3, State::Ready),
            finished(NUMBER_MAX, State::Acknowledged),
            put_back(open(0, 3, 3, State::Scheduled), DUE_MS_MAX + 1),
            put_back(open(0, 3, 3, State::Ready), NUMBER_MAX),
            inbox_acknowledged(1, 0, 1, 1),
            inbox_acknowledged(3, 1, 1, 1),
            inbox_acknowledged(3, 0, 0, 1),
            inbox_acknowledged(3, 0, 3, 2),
            inbox_acknowledged(3, 0, 3, NUMBER_MAX),
            Event::LineRestored { pace: Pace { steady_to: 0, slow_to: NUMBER_MAX } },
            Event::Acknowledged { id: MessageId::new(5, 0, 1) },
        ];
        for event in bad {
            let bytes = bytes(&meta(), &[&all[..], &[event]].concat());
            let why = check_checkpoint(&bytes).unwrap_err();
            assert!(why.starts_with(&format!("event {}:", all.len())), "{event:?}: {why}");
            assert_eq!(from_checkpoint(&ShardConfig::default(), &bytes).unwrap_err(), why);
        }
        let sound = bytes(&meta(), &all);
        check_checkpoint(&sound[1..]).unwrap_err();
        check_checkpoint(&sound[..sound.len() - 1]).unwrap_err();
        check_checkpoint(&bytes(&meta(), &all[1..])).unwrap_err();
    }

    /// Goal: numbers have their ends, exactly. Method: the last that is sound, and the next, of each
    /// number of the counters, a destination and the time.
    #[test]
    fn numbers_have_ends() {
        type Change = fn(&mut Event<'static>, u64);
        let counter: [Change; 2] = [
            |event, to| {
                let Event::Counters { next_sequence, .. } = event else { return };
                *next_sequence = to;
            },
            |event, to| {
                let Event::Counters { next_position, .. } = event else { return };
                *next_position = to;
            },
        ];
        let is_sound = |events: &[Event<'_>]| check_checkpoint(&bytes(&meta(), events)).is_ok();
        for change in counter {
            for (to, sound) in [(0, false), (1, true), (NUMBER_MAX - 1, true), (NUMBER_MAX, false)]
            {
                let mut event = counters();
                change(&mut event, to);
                assert_eq!(is_sound(&[event]), sound, "{event:?}");
            }
        }
        let restored: [(Change, [(u64, bool); 2]); 6] = [
            (
                |event, to| {
                    let Event::DestinationRestored { first_offset, .. } = event else { return };
                    *first_offset = to;
                },
                [(0, false), (10, false)],
            ),
            (
                |event, to| {
                    let Event::DestinationRestored { first_offset, .. } = event else { return };
                    *first_offset = to;
                },
                [(1, true), (9, true)],
            ),
            (
                |event, to| {
                    let Event::DestinationRestored { next_offset, .. } = event else { return };
                    *next_offset = to;
                },
                [(NUMBER_MAX - 1, true), (NUMBER_MAX, false)],
            ),
            (
                |event, to| {
                    let Event::DestinationRestored { control, .. } = event else { return };
                    control.purged_before = to;
                },
                [(NUMBER_MAX - 1, true), (NUMBER_MAX, false)],
            ),
            (
                |event, to| {
                    let Event::DestinationRestored { scheduled, .. } = event else { return };
                    *scheduled = to;
                },
                [(NUMBER_MAX - 5, true), (NUMBER_MAX - 4, false)],
            ),
            (
                |event, to| {
                    let Event::DestinationRestored { ready, .. } = event else { return };
                    *ready = to;
                },
                [(NUMBER_MAX - 4, true), (u64::MAX, false)],
            ),
        ];
        for (change, ends) in restored {
            for (to, sound) in ends {
                let mut event = destination(1, "/topic/t");
                change(&mut event, to);
                assert_eq!(is_sound(&[counters(), event]), sound, "{event:?}");
            }
        }
        assert!(!is_sound(&[counters(), destination(1, "/nowhere")]));
        let late = DUE_MS_MAX;
        let lines = |mono_ms, wall_ms, engine_ms, due_ms| {
            let fired_to = Key { due_ms, sequence: 0 };
            let now = Now { mono_ms, wall_ms, engine_ms };
            check_checkpoint(&bytes(&BatchMeta { now, fired_to }, &[counters()])).is_ok()
        };
        assert!(lines(late, late, late, late) && lines(0, 0, 0, 0) && lines(1, 2, 3, 3));
        assert!(!lines(0, 0, late + 1, 0));
        assert!(!lines(4, 2, 3, 3) && !lines(1, 4, 3, 3) && !lines(1, 2, 3, 4));
    }
}
