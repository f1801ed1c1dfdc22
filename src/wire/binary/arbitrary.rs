//! Strategies for every request, answer and push.

use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::RequestType;
use crate::base::command::{
    Answer, BackedUp, Command, Delivery, DestinationInfo, Part, PartDone, Produced, Purged,
    SchedulePage, StartAt, Status, Subscribe, Verdict,
};
use crate::base::destination::Kind;
use crate::base::error::{ClientError, Code};
use crate::base::id::{Key, MessageId};
use crate::base::lifecycle::State;
use crate::base::message::{Delay, Message, MessageBatch};
use crate::base::recur::{Cron, Rule, Then};

pub(super) fn name() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

pub(super) fn text() -> impl Strategy<Value = Arc<str>> {
    "[a-zé/]{0,12}".prop_map(|text: String| Arc::from(text))
}

pub(super) fn id() -> impl Strategy<Value = MessageId> {
    any::<[u8; 16]>().prop_map(MessageId::from_bytes)
}

pub(super) fn ids() -> impl Strategy<Value = Vec<MessageId>> {
    vec(id(), 1..9)
}

pub(super) fn delay() -> impl Strategy<Value = Delay> {
    (0..4u8, any::<i64>()).prop_map(|(kind, value)| Delay::from_wire(kind, value).unwrap())
}

pub(super) fn error() -> impl Strategy<Value = ClientError> {
    (0..Code::ALL.len(), "[a-z ]{0,30}")
        .prop_map(|(code, text)| ClientError::new(Code::ALL[code], text))
}

pub(super) fn state() -> impl Strategy<Value = State> {
    (0..State::ALL.len()).prop_map(|at| State::ALL[at])
}

pub(super) fn batch() -> impl Strategy<Value = MessageBatch> {
    let dedup = vec(any::<u8>(), 0..9);
    let message = (vec(any::<u8>(), 0..30), any::<u8>(), delay(), any::<Option<u64>>(), dedup)
        .prop_map(|(body, priority, delay, expires_after_ms, dedup)| Message {
            priority,
            expires_after_ms,
            dedup,
            ..Message::new(body).with_header("h", "v").with_delay(delay)
        });
    vec(message, 1..6).prop_map(|messages| {
        let mut bytes = Vec::new();
        for message in &messages {
            message.encode(&mut bytes).unwrap();
        }
        MessageBatch::parse(bytes.into(), messages.len()).unwrap()
    })
}

pub(super) fn rule() -> impl Strategy<Value = Rule> {
    let then = any::<(u64, u64, u32)>();
    let then = then.prop_map(|(delay_ms, period_ms, repeat)| Then { delay_ms, period_ms, repeat });
    prop_oneof![
        any::<(u64, u32)>().prop_map(|(period_ms, times)| Rule::Every { period_ms, times }),
        ("[0-9*/ ]{0,12}", "[A-Za-z/é]{0,12}", any::<u32>(), proptest::option::of(then)).prop_map(
            |(expression, zone, times, then)| Rule::Cron(Cron { expression, zone, times, then })
        ),
    ]
}

pub(super) fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        (name(), batch()).prop_map(|(destination, batch)| Part::Produce { destination, batch }),
        (any::<(u32, bool)>(), ids()).prop_map(|((subscription, cumulative), ids)| {
            Part::Acknowledge { subscription, ids, cumulative }
        }),
        (any::<(u32, bool)>(), ids()).prop_map(|((subscription, requeue), ids)| Part::Reject {
            subscription,
            ids,
            requeue
        }),
    ]
}

pub(super) fn key() -> impl Strategy<Value = Option<Key>> {
    any::<Option<(u64, u64)>>()
        .prop_map(|key| key.map(|(due_ms, sequence)| Key { due_ms, sequence }))
}

pub(super) fn command() -> impl Strategy<Value = Command> {
    let start = prop_oneof![
        Just(StartAt::Latest),
        Just(StartAt::Earliest),
        Just(StartAt::Unread),
        any::<u64>().prop_map(StartAt::Offset)
    ];
    prop_oneof![
        (name(), batch()).prop_map(|(destination, batch)| Command::Produce { destination, batch }),
        (name(), rule(), batch()).prop_map(|(destination, rule, batch)| Command::Repeat {
            destination,
            rule,
            batch
        }),
        vec(part(), 1..4).prop_map(|parts| Command::Transaction { parts }),
        ids().prop_map(|ids| Command::Query { ids }),
        ids().prop_map(|ids| Command::Cancel { ids }),
        vec((id(), delay()), 1..9).prop_map(|items| Command::Reschedule { items }),
        (any::<(u32, u32, u64, bool)>(), name(), name(), start).prop_map(
            |((subscription, credit, ack_timeout_ms, shared), destination, durable, start)| {
                Command::Subscribe(Subscribe {
                    subscription,
                    destination,
                    credit,
                    ack_timeout_ms,
                    durable,
                    start,
                    shared,
                })
            }
        ),
        any::<(u32, bool)>()
            .prop_map(|(subscription, delete)| Command::Unsubscribe { subscription, delete }),
        (any::<(u32, bool)>(), ids()).prop_map(|((subscription, cumulative), ids)| {
            Command::Acknowledge { subscription, ids, cumulative }
        }),
        (any::<(u32, bool)>(), ids()).prop_map(|((subscription, requeue), ids)| Command::Reject {
            subscription,
            ids,
            requeue
        }),
        (name(), any::<(u64, u64, u32)>(), key()).prop_map(
            |(destination, (from_ms, to_ms, limit), after)| Command::List {
                destination,
                from_ms,
                to_ms,
                limit,
                after
            }
        ),
        (name(), any::<(u64, u32)>()).prop_map(|(destination, (offset, limit))| Command::Fetch {
            destination,
            offset,
            limit
        }),
        (name(), any::<u32>())
            .prop_map(|(after, limit)| Command::ListDestinations { after, limit }),
        name().prop_map(|name| Command::CreateDestination { name }),
        name().prop_map(|name| Command::DeleteDestination { name }),
        name().prop_map(|name| Command::DescribeDestination { name }),
        (name(), any::<bool>())
            .prop_map(|(name, scheduled)| Command::PurgeDestination { name, scheduled }),
        (name(), any::<bool>())
            .prop_map(|(name, paused)| Command::PauseDestination { name, paused }),
        (name(), any::<(Option<u64>, Option<u64>)>()).prop_map(
            |(name, (max_messages, max_age_ms))| Command::LimitDestination {
                name,
                max_messages,
                max_age_ms
            }
        ),
        Just(Command::Stats),
        name().prop_map(|directory| Command::Backup { directory }),
    ]
}

pub(super) fn status() -> impl Strategy<Value = Status> {
    (id(), state(), text(), any::<(u64, u32, bool)>()).prop_map(
        |(id, state, destination, (due_ms, attempts, recurring))| Status {
            id,
            state,
            destination,
            due_ms,
            attempts,
            recurring,
        },
    )
}

pub(super) fn delivery() -> impl Strategy<Value = Delivery> {
    (id(), any::<(u32, u64, u32, u64, u8)>(), vec(any::<u8>(), 0..40)).prop_map(
        |(id, (subscription, due_ms, attempt, offset, priority), content)| Delivery {
            subscription,
            by_pattern: false,
            destination: "".into(),
            id,
            due_ms,
            attempt,
            offset,
            priority,
            content: content.into(),
        },
    )
}

pub(super) fn info() -> impl Strategy<Value = DestinationInfo> {
    let kind = prop_oneof![
        Just(Kind::Queue),
        Just(Kind::Topic),
        Just(Kind::DeadLetter),
        Just(Kind::Temporary),
        Just(Kind::Inbox)
    ];
    let control = any::<(bool, u64, u64)>();
    (text(), kind, any::<(u64, u64, u64, u64, u64, u64)>(), control).prop_map(
        |(name, kind, (scheduled, ready, in_flight, consumers, next_offset, unread), control)| {
            let (paused, max_messages, max_age_ms) = control;
            DestinationInfo {
                name,
                kind,
                scheduled,
                ready,
                in_flight,
                consumers,
                next_offset,
                unread,
                paused,
                max_messages,
                max_age_ms,
            }
        },
    )
}

fn verdict() -> impl Strategy<Value = Verdict> {
    (id(), any::<bool>(), state(), any::<u64>()).prop_map(|(id, done, state, due_ms)| Verdict {
        id,
        done,
        state,
        due_ms,
    })
}

/// An answer and a request type that may be answered so.
pub(super) fn answer() -> impl Strategy<Value = (RequestType, Answer)> {
    use RequestType as T;
    let result = prop_oneof![
        (id(), any::<bool>()).prop_map(|(id, duplicate)| Ok(Produced { id, duplicate })),
        error().prop_map(|error| Err(Box::new(error))),
    ];
    let produced = (id(), any::<bool>()).prop_map(|(id, duplicate)| Produced { id, duplicate });
    let part_done = prop_oneof![
        vec(produced, 0..4).prop_map(PartDone::Produced),
        vec(verdict(), 0..4).prop_map(PartDone::Verdicts),
    ];
    prop_oneof![
        vec(result, 0..9).prop_map(|results| (T::Produce, Answer::Produced(results))),
        id().prop_map(|id| {
            (T::Repeat, Answer::Produced(vec![Ok(Produced { id, duplicate: false })]))
        }),
        vec(status(), 0..9).prop_map(|statuses| (T::Query, Answer::Statuses(statuses))),
        vec(verdict(), 0..9).prop_map(|verdicts| (T::Cancel, Answer::Verdicts(verdicts))),
        vec(part_done, 0..4).prop_map(|parts| (T::Transaction, Answer::Transacted(parts))),
        any::<u64>().prop_map(|next_offset| (T::Subscribe, Answer::Subscribed { next_offset })),
        Just((T::CreateDestination, Answer::Done)),
        Just((T::Heartbeat, Answer::Done)),
        (vec(status(), 0..9), key()).prop_map(|(entries, next)| {
            (T::ListScheduled, Answer::Scheduled(SchedulePage { entries, next }))
        }),
        (vec(delivery(), 0..9), any::<u64>()).prop_map(|(messages, next_offset)| {
            (T::Fetch, Answer::Fetched { messages, next_offset })
        }),
        vec(info(), 0..9).prop_map(|infos| (T::ListDestinations, Answer::Destinations(infos))),
        any::<(u64, u64)>().prop_map(|(ready, scheduled)| {
            (T::PurgeDestination, Answer::Purged(Purged { ready, scheduled }))
        }),
        Just((T::PauseDestination, Answer::Done)),
        any::<[u64; 4]>().prop_map(|[files, bytes, linked_files, linked_bytes]| {
            let made = BackedUp { files, bytes, linked_files, linked_bytes };
            (T::Backup, Answer::BackedUp(made))
        }),
        info().prop_map(|info| (T::LimitDestination, Answer::Destination(info))),
        info().prop_map(|info| (T::DescribeDestination, Answer::Destination(info))),
        vec(any::<u64>().prop_map(|value| ("a_counter", value)), 0..4)
            .prop_map(|counters| (T::Stats, Answer::Stats(counters))),
        error().prop_map(|error| (T::Reschedule, Answer::Failed(error))),
    ]
}
