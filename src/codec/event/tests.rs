use super::*;

/// One of each, with fields that would show a swap.
fn samples() -> Vec<Event<'static>> {
    let id = MessageId::new(1_234_567, 0, 42);
    let destination = DestinationId(7);
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
    let schedule = Event::Produced {
        id,
        destination,
        priority: 8,
        clock: ClockKind::Wall,
        at_once: false,
        recurring: true,
        expires_mono_ms: 0,
        dedup: b"",
        content: b"plan",
    };
    let occurred = |copies, first, at_once, clock, step_ms, expires_mono_ms| Event::Occurred {
        id,
        copies,
        first,
        at_once,
        step_ms,
        expires_mono_ms,
        due_ms: 51,
        clock,
        planned_ms: 52,
        runs: 53,
    };
    vec![
        Event::DestinationCreated { destination, name: "/queue/a" },
        Event::DestinationDeleted { destination },
        produced(ClockKind::Mono, false, 0, b""),
        produced(ClockKind::Wall, true, 99, b"dedup"),
        schedule,
        occurred(3, id, true, ClockKind::Wall, 54, 55),
        occurred(0, MessageId::new(0, 0, 0), false, ClockKind::Mono, 0, 0),
        Event::Cancelled { id, destination, due_ms: 9 },
        Event::Rescheduled { id, due_ms: 5, clock: ClockKind::Wall, at_once: true },
        Event::Rescheduled { id, due_ms: 6, clock: ClockKind::Mono, at_once: false },
        Event::Acknowledged { id },
        Event::Failed { id, reason: FailureReason::Timeout },
        Event::Failed { id, reason: FailureReason::Rejected },
        Event::Dead { id, destination },
        Event::Expired { id },
        Event::SubscriptionCreated { subscription: 1, destination, name: "s", next_offset: 3 },
        Event::SubscriptionDeleted { subscription: 1 },
        Event::TopicAcknowledged { subscription: 1, from: 2, to: 3 },
        Event::TopicTrimmed { destination, before: 8 },
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
            control: Control { paused: true, max_messages: 21, max_age_ms: 22, purged_before: 23 },
        },
        Event::Restored {
            id,
            destination,
            due_ms: 77,
            state: State::Dead,
            priority: 1,
            clock: ClockKind::Wall,
            recurring: false,
            expires_mono_ms: 6,
            failures: 300,
            offset: 8,
            content: b"",
        },
        Event::Restored {
            id,
            destination,
            due_ms: 77,
            state: State::Scheduled,
            priority: 1,
            clock: ClockKind::Mono,
            recurring: true,
            expires_mono_ms: 0,
            failures: 0,
            offset: 8,
            content: b"plan",
        },
        Event::Finished { id, state: State::Cancelled },
        Event::HandedOut { destination, lane: 4, to: 5 },
        Event::LaneRestored { destination, lane: 4, handed_to: 5, cold_to: 6 },
        Event::ChunkRestored { destination, end: 4, bytes: 5, since_mono_ms: 6 },
        Event::LineRestored { pace: Pace { steady_to: 7, slow_to: 8 } },
        Event::DestinationPurged {
            destination,
            ready: true,
            scheduled: false,
            before: 43,
            spared: Sequences::from_bytes(&[1; 16]).unwrap(),
        },
        Event::DestinationPurged {
            destination,
            ready: false,
            scheduled: true,
            before: 44,
            spared: Sequences::default(),
        },
        Event::GivenUp { id },
        Event::InboxAcknowledged { destination, subscription: 8, from: 2, to: 3 },
        Event::DestinationPaused { destination, paused: true },
        Event::DestinationLimited { destination, max_messages: 31, max_age_ms: 32 },
    ]
}

#[test]
fn every_event_round_trips() {
    let mut bytes = Vec::new();
    for event in samples() {
        encode(&event, &mut bytes);
    }
    let mut rest = &bytes[..];
    for event in samples() {
        assert_eq!(decode(&mut rest), Ok(event));
    }
    assert!(rest.is_empty());
}

#[test]
fn every_cut_is_an_error_and_no_flip_panics() {
    for event in samples() {
        let mut bytes = Vec::new();
        encode(&event, &mut bytes);
        for cut in 0..bytes.len() {
            assert!(decode(&mut &bytes[..cut]).is_err(), "{event:?} cut at {cut}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                let _ = decode(&mut &flipped[..]);
            }
        }
    }
}

#[test]
fn sequences_read_back_and_none_is_cut() {
    let all = [0, 1, u64::MAX, 77];
    let bytes = Sequences::to_bytes(&all);
    let sequences = Sequences::from_bytes(&bytes).unwrap();
    assert_eq!(sequences.iter().collect::<Vec<_>>(), all);
    assert_eq!(sequences.as_bytes(), bytes);
    assert_eq!(Sequences::from_bytes(&bytes[1..]), None);
}

/// Goal: a flag of a version to come is an error, and no flag is taken for another. Method: each bit of each
/// event that has flags.
#[test]
fn flags_that_are_not_known_are_refused() {
    let flags = |event: &Event<'_>| match event {
        // One that recurs is never there at once.
        Event::Produced { recurring: true, .. } => Some(0b1_1110),
        Event::Produced { at_once: true, .. } => Some(0b1111),
        Event::Produced { .. } => Some(0b1_1111),
        Event::Occurred { .. } => Some(0b11),
        Event::Rescheduled { .. } => Some(0b11),
        Event::Restored { .. } => Some(0b1_0010),
        Event::DestinationPurged { .. } => Some(0b11),
        _ => None,
    };
    for event in samples() {
        let Some(known) = flags(&event) else { continue };
        for bit in 0..8 {
            let mut bytes = Vec::new();
            encode(&event, &mut bytes);
            bytes[1] |= 1 << bit;
            // A known flag may say that more follows.
            let refused = matches!(decode(&mut &bytes[..]), Err(EventError::Unknown(_)));
            assert_eq!(refused, known & (1 << bit) == 0, "bit {bit} of {event:?}");
        }
    }
}
