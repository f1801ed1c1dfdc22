//! Transactions: many parts, all of them or none.
//!
//! Everything is judged before anything is done. What is published is judged as if nothing had been
//! acknowledged yet, and done first: so what was judged is what there is when it is done, and nothing can be
//! refused halfway. All events are recorded in one step, and stand in one batch of the journal.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::command::{Answer, Part, PartDone, Produced};
use crate::base::destination::{self, Kind};
use crate::base::error::{ClientError, Code};
use crate::base::event::EventSink;
use crate::base::id::{DestinationId, SessionId};
use crate::base::limits;
use crate::base::message::MessageBatch;

use super::Engine;
use super::messages::MESSAGE_OVERHEAD_BYTES;
use super::publish::Due;
use super::temporary::absent;

/// What a transaction would add, as far as it was judged.
#[derive(Default)]
struct Tally<'a> {
    destinations: BTreeMap<&'a [u8], More<'a>>,
    /// Memory of its messages, bytes.
    memory: u64,
    /// Destinations that would be made, and their part of the small state, bytes.
    made: usize,
    made_base: u64,
    /// Priorities that queues would have for the first time.
    lanes: u64,
}

/// What it would add to one destination.
struct More<'a> {
    /// `None`: it would be made.
    id: Option<DestinationId>,
    kind: Kind,
    messages: u64,
    lanes: BTreeSet<u8>,
    dedups: BTreeSet<&'a [u8]>,
}

impl Engine {
    /// Does all of a transaction, or refuses it with the part that is to blame.
    pub(super) fn transact(
        &mut self,
        session: SessionId,
        parts: &[Part],
        refuse_new: Option<Code>,
        sink: &mut dyn EventSink,
    ) -> Result<Answer, ClientError> {
        check_size(parts)?;
        let mut tally = Tally::default();
        let mut dues = Vec::new();
        for (number, part) in (1..).zip(parts) {
            let judged = match part {
                Part::Produce { destination, batch } => self
                    .judge_produce(&mut tally, destination, batch, refuse_new)
                    .map(|some| dues.push(some)),
                Part::Acknowledge { subscription, ids, .. } => {
                    self.judge_acknowledge(session, *subscription, ids, false)
                }
                Part::Reject { subscription, ids, requeue } => {
                    self.judge_acknowledge(session, *subscription, ids, !requeue)
                }
            };
            if let Err(error) = judged {
                let messages: usize =
                    parts.iter().filter_map(Part::batch).map(|b| b.1.count()).sum();
                self.totals.refused += messages as u64;
                return Err(of_part(number, error));
            }
        }
        let mut dues = dues.into_iter();
        let mut produced = Vec::new();
        for (destination, batch) in parts.iter().filter_map(Part::batch) {
            let dues = dues.next().unwrap_or_default();
            produced.push(self.produce_judged(destination, batch, &dues, sink)?);
        }
        let mut produced = produced.into_iter();
        let mut done = Vec::with_capacity(parts.len());
        for part in parts {
            let answer = match part {
                Part::Produce { .. } => {
                    done.push(PartDone::Produced(produced.next().unwrap_or_default()));
                    continue;
                }
                Part::Acknowledge { subscription, ids, cumulative } => {
                    self.acknowledge(session, *subscription, ids, *cumulative, sink)?
                }
                Part::Reject { subscription, ids, requeue } => {
                    self.reject(session, *subscription, ids, *requeue, sink)?
                }
            };
            if let Answer::Verdicts(verdicts) = answer {
                done.push(PartDone::Verdicts(verdicts));
            }
        }
        Ok(Answer::Transacted(done))
    }

    /// Judges messages for one destination, with all that was judged before. Their due times.
    fn judge_produce<'a>(
        &self,
        tally: &mut Tally<'a>,
        name: &'a [u8],
        batch: &'a MessageBatch,
        refuse_new: Option<Code>,
    ) -> Result<Vec<Due>, ClientError> {
        if let Some(code) = refuse_new {
            return Err(code.into());
        }
        let (text, kind) = destination::parse(name)?;
        let id = self.names.get(text).copied();
        if id.is_none() && kind.is_owned() {
            return Err(absent(text));
        }
        let more = tally.destinations.entry(name).or_insert_with(|| More {
            id,
            kind,
            messages: 0,
            lanes: BTreeSet::new(),
            dedups: BTreeSet::new(),
        });
        let mut dues = Vec::with_capacity(batch.count());
        for (number, message) in (1..).zip(batch.iter()) {
            let judged = self.check(&message).and_then(|due| {
                dues.push(due);
                let dedup = message.dedup;
                let seen = more.id.zip(dedup).and_then(|(id, dedup)| self.seen(id, dedup));
                if seen.is_some() || dedup.is_some_and(|dedup| !more.dedups.insert(dedup)) {
                    return Ok(());
                }
                if more.id.is_none() && more.messages == 0 {
                    tally.made += 1;
                    tally.made_base += self.small_base_for(text);
                    self.check_new_destinations(tally.made, tally.made_base)?;
                }
                more.messages += 1;
                if let Some(id) = more.id {
                    self.check_room(id, more.messages)?;
                }
                let new_lane = self.is_new_lane(more.id, more.kind, message.priority);
                if new_lane && more.lanes.insert(message.priority) {
                    tally.lanes += 1;
                    self.check_lanes(text, message.priority, tally.lanes)?;
                }
                tally.memory += message.content.len() as u64 + MESSAGE_OVERHEAD_BYTES;
                self.check_memory(tally.memory)
            });
            judged.map_err(|error| of("message", number, error))?;
        }
        Ok(dues)
    }

    /// Publishes what was judged: nothing of it is refused any more.
    fn produce_judged(
        &mut self,
        name: &[u8],
        batch: &MessageBatch,
        dues: &[Due],
        sink: &mut dyn EventSink,
    ) -> Result<Vec<Produced>, ClientError> {
        let to = self.named(name, None, sink)?;
        let mut all = Vec::with_capacity(batch.count());
        for (message, due) in batch.iter().zip(dues) {
            let before = message.dedup.and_then(|dedup| self.seen(to, dedup));
            all.push(match before {
                Some(id) => {
                    self.totals.duplicates += 1;
                    Produced { id, duplicate: true }
                }
                None => {
                    self.totals.produced += 1;
                    Produced { id: self.take_in(to, &message, *due, sink), duplicate: false }
                }
            });
        }
        Ok(all)
    }
}

/// Refuses a transaction that is empty or too large, before it is looked at.
fn check_size(parts: &[Part]) -> Result<(), ClientError> {
    let bad = |what: String| Err(ClientError::new(Code::BadBatch, what));
    let (count, most) = (parts.len(), limits::TRANSACTION_PARTS_MAX);
    if count == 0 || count > most {
        return bad(format!("a transaction of {count} parts; send 1 to {most}"));
    }
    let (mut messages, mut bytes, mut ids) = (0, 0, 0);
    for part in parts {
        match part {
            Part::Produce { batch, .. } => {
                messages += batch.count();
                bytes += batch.bytes().len();
            }
            Part::Acknowledge { ids: some, .. } | Part::Reject { ids: some, .. } => {
                ids += some.len();
            }
        }
    }
    let most = limits::BATCH_ITEMS_MAX;
    if messages > most || ids > most {
        return bad(format!(
            "a transaction of {messages} messages and {ids} acknowledgements; at most {most} of each"
        ));
    }
    let most = limits::FRAME_BYTES_MAX;
    if bytes > most {
        return bad(format!("a transaction of {bytes} bytes of messages; at most {most}"));
    }
    Ok(())
}

fn of_part(number: usize, error: ClientError) -> ClientError {
    of("part", number, error)
}

fn of(what: &str, number: usize, error: ClientError) -> ClientError {
    ClientError { message: format!("{what} {number}: {}", error.message), ..error }
}
