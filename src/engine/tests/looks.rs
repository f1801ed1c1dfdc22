//! What there is to see is what there is: in one piece or many, wherever it lies, and the same after
//! a crash.

use bytes::Bytes;

use super::rig::{A, Rig, look};
use crate::base::command::{Answer, Command, Status};
use crate::base::id::{Key, MessageId};
use crate::base::lifecycle::State;
use crate::base::limits;

/// Checks it for a rig in which these messages were published. `due` is when one should be due, if it
/// has not ended.
pub(super) fn check(
    rig: &mut Rig,
    ids: &[MessageId],
    names: &[&'static str],
    topics: &[&'static str],
    due: impl Fn(MessageId) -> Option<u64>,
) {
    let mut statuses: Vec<Status> = Vec::new();
    for ids in ids.chunks(limits::BATCH_ITEMS_MAX) {
        let Answer::Statuses(some) = rig.look(Command::Query { ids: ids.to_vec() }) else {
            panic!()
        };
        statuses.extend(some);
    }
    statuses.sort_by_key(|s| Key { due_ms: s.due_ms, sequence: s.id.sequence() });
    let scheduled = |name: &str| -> Vec<&Status> {
        let there = |s: &&Status| {
            s.state == State::Scheduled && (name.is_empty() || &*s.destination == name)
        };
        statuses.iter().filter(there).collect()
    };
    for status in scheduled("") {
        assert_eq!(
            Some(status.due_ms),
            due(status.id),
            "scheduled after its end, or for another time"
        );
    }
    let mut replayed = rig.replayed();
    replayed.open_session(A);
    let root = &rig.root;
    for engine in [&mut rig.engine, &mut replayed] {
        let mut ask = |command| look(engine, root, command);
        for name in [""].iter().chain(names) {
            for limit in [1, 3, 1_000] {
                let Some(mut listed) = list(&mut ask, name, limit) else { continue };
                // In their order as long as the clocks agree; one that was put back stands behind.
                listed.sort_by_key(|s| Key { due_ms: s.due_ms, sequence: s.id.sequence() });
                assert_eq!(listed.iter().collect::<Vec<_>>(), scheduled(name));
            }
        }
        for &name in names {
            let describe =
                Command::DescribeDestination { name: Bytes::from_static(name.as_bytes()) };
            let Answer::Destination(info) = ask(describe) else { continue };
            let count = |states: &[State]| {
                let there = |s: &&Status| &*s.destination == name && states.contains(&s.state);
                statuses.iter().filter(there).count() as u64
            };
            assert_eq!(info.scheduled, count(&[State::Scheduled]));
            let here = count(&[State::Ready, State::Dead, State::InFlight]);
            let out = if topics.contains(&name) { 0 } else { info.in_flight };
            assert_eq!(info.ready + out, here, "in {name}");
        }
        for topic in topics {
            let whole = fetch(&mut ask, topic, 1_000);
            assert_eq!(whole, fetch(&mut ask, topic, 2));
            let kept = statuses.iter().filter(|s| &*s.destination == *topic);
            let kept = kept.filter(|s| s.state == State::Ready).count();
            assert_eq!(whole.len(), kept);
            assert!(whole.windows(2).all(|two| two[0].0 + 1 == two[1].0), "offsets are dense");
        }
    }
}

/// All pages of a list; `None`: there is no such destination.
fn list(ask: &mut dyn FnMut(Command) -> Answer, name: &str, limit: u32) -> Option<Vec<Status>> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let destination = Bytes::copy_from_slice(name.as_bytes());
        let list = Command::List { destination, from_ms: 0, to_ms: u64::MAX, limit, after };
        let Answer::Scheduled(page) = ask(list) else { return None };
        assert!(page.entries.len() <= limit as usize);
        all.extend(page.entries);
        after = page.next;
        if after.is_none() {
            return Some(all);
        }
    }
}

/// All that a topic keeps, page by page.
fn fetch(
    ask: &mut dyn FnMut(Command) -> Answer,
    topic: &'static str,
    limit: u32,
) -> Vec<(u64, MessageId)> {
    let (mut all, mut offset) = (Vec::new(), 0);
    loop {
        let destination = Bytes::from_static(topic.as_bytes());
        match ask(Command::Fetch { destination, offset, limit }) {
            Answer::Fetched { messages, next_offset } if !messages.is_empty() => {
                all.extend(messages.iter().map(|message| (message.offset, message.id)));
                offset = next_offset;
            }
            _ => return all,
        }
    }
}
