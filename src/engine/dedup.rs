//! Deduplication ids: which were used, with which message, until when.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::base::id::{DestinationId, MessageId};
use crate::base::limits;

type DedupKey = (DestinationId, Arc<[u8]>);
/// Of one destination: the message each id stands for, and until when.
type Seen = BTreeMap<Arc<[u8]>, (MessageId, u64)>;

/// Remembers dedup ids for a window of time, bounded in number. Ordered maps only: client-chosen
/// keys must not be able to aim at a fixed hash.
#[derive(Debug, Default)]
pub(super) struct Dedup {
    seen: BTreeMap<DestinationId, Seen>,
    by_expiry: VecDeque<(u64, DedupKey)>,
}

impl Dedup {
    /// The message a dedup id stands for, if it is still remembered at `mono_ms`.
    pub(super) fn get(&self, to: DestinationId, dedup: &[u8], mono_ms: u64) -> Option<MessageId> {
        let (id, until) = self.seen.get(&to)?.get(dedup)?;
        (*until > mono_ms).then_some(*id)
    }

    /// Remembers one, and forgets what is past its time or beyond the bound.
    pub(super) fn remember(
        &mut self,
        to: DestinationId,
        dedup: &[u8],
        id: MessageId,
        until_mono_ms: u64,
        now_mono_ms: u64,
    ) {
        let key: DedupKey = (to, Arc::from(dedup));
        self.seen.entry(to).or_default().insert(key.1.clone(), (id, until_mono_ms));
        self.by_expiry.push_back((until_mono_ms, key));
        while let Some((until, key)) = self.by_expiry.front() {
            if *until > now_mono_ms && self.by_expiry.len() <= limits::DEDUP_ENTRIES_MAX {
                break;
            }
            // An id used again after its time has a newer entry, which stays.
            if let Some(ids) = self.seen.get_mut(&key.0) {
                if ids.get(&key.1).is_some_and(|(_, newest)| newest == until) {
                    ids.remove(&key.1);
                }
                if ids.is_empty() {
                    self.seen.remove(&key.0);
                }
            }
            self.by_expiry.pop_front();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_expiry.len()
    }

    /// What is remembered, in order of expiry.
    pub(super) fn iter(&self) -> impl Iterator<Item = (DestinationId, &[u8], MessageId, u64)> {
        self.by_expiry.iter().filter_map(|(until, key)| {
            let (id, newest) = self.seen.get(&key.0)?.get(&key.1)?;
            (newest == until).then_some((key.0, &key.1[..], *id, *until))
        })
    }
}
