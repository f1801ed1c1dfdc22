//! What simulated clients are told, held against the model.

use crate::base::command::{Answer, Delivery, Outgoing, Produced, SchedulePage, Status, Verdict};
use crate::base::content;
use crate::base::error::{ClientError, Code};
use crate::base::lifecycle::State;
use crate::base::limits;
use crate::sim::ask::Asked;
use crate::sim::model::{Delivered, Message, Reader, Sure};
use crate::sim::swarm::Op;
use crate::sim::world::{DESTINATIONS, INBOX, TOPICS, World, Wrong};

impl World {
    /// One thing that came out to a session.
    pub(super) fn heard(&mut self, session: u64, outgoing: Outgoing) -> Result<(), Wrong> {
        match outgoing {
            Outgoing::Deliver(delivery) => self.delivered(session, &delivery),
            Outgoing::Answer { tag, answer } => match self.asked.remove(&tag) {
                Some((asker, asked)) if asker == session => self.answered(session, asked, answer),
                // Somebody who asked and is gone by now does not hear.
                None if !self.clients.iter().any(|client| client.number == session) => Ok(()),
                other => Err(format!("one_answer: tag {tag} was {other:?}")),
            },
            Outgoing::Ended { subscription, .. } => {
                if let Some(client) = self.clients.iter_mut().find(|own| own.number == session) {
                    client.subs.retain(|sub| sub.number != subscription);
                    client.unacked.retain(|(number, _)| *number != subscription);
                }
                self.model.end_leases(|lease| {
                    lease.session == session && lease.subscription == subscription
                });
                Ok(())
            }
        }
    }

    /// Who reads under a client's subscription.
    pub(super) fn reader(&self, client: usize, subscription: u32) -> Option<Reader> {
        let own = self.clients.get(client)?;
        let sub = own.subs.iter().find(|sub| sub.number == subscription)?;
        Some(match sub.durable {
            Some(name) => Reader::Durable(sub.destination, name),
            None => Reader::Of(own.number, subscription),
        })
    }

    fn delivered(&mut self, session: u64, delivery: &Delivery) -> Result<(), Wrong> {
        self.report.deliveries += 1;
        let number = number_of(delivery);
        let Some(client) = self.clients.iter().position(|own| own.number == session) else {
            // It left before the shard knew that its session is gone.
            return Ok(());
        };
        let Some(reader) = self.reader(client, delivery.subscription) else {
            return Err(format!("known_subscription: {session} gets {delivery:?}"));
        };
        let subs = &self.clients[client].subs;
        let Some(sub) = subs.iter().find(|sub| sub.number == delivery.subscription).cloned() else {
            return Ok(());
        };
        let name = &*delivery.destination;
        let mut named = (0..).zip(DESTINATIONS);
        let destination = match named.find(|(_, (own, _))| *own == name) {
            Some((own, _)) if sub.pattern && TOPICS.contains(&own) => own,
            _ if sub.pattern => return Err(format!("no_ghost: {name} came by a pattern")),
            _ => sub.destination,
        };
        let to = Delivered {
            session,
            reader,
            destination,
            dead: sub.dead,
            ack_timeout_ms: sub.ack_timeout_ms,
            delivery,
        };
        if let Some(schedule) = Self::schedule_of(number) {
            return self.copy_came(schedule, session, sub.destination, delivery);
        }
        self.model.delivered(number, &to, self.times)?;
        let number = number.unwrap_or_default();
        if sub.pattern {
            self.by_pattern.insert(number);
        }
        self.clients[client].unacked.push((sub.number, number));
        if delivery.offset > 0 {
            self.clients[client].got.push((sub.number, number));
        }
        Ok(())
    }

    fn answered(&mut self, session: u64, asked: Asked, answer: Answer) -> Result<(), Wrong> {
        if let Answer::Failed(error) = &answer {
            Self::tolerate(error)?;
        }
        match (asked, answer) {
            (Asked::Schedule(number), answer) => return self.schedule_answered(number, answer),
            (Asked::Transaction(group, parts), answer) => {
                return self.transacted(session, group, parts, answer);
            }
            (Asked::EndSchedule(number), Answer::Verdicts(verdicts)) => {
                self.schedule_judged(number, true, verdicts.first());
            }
            (Asked::MoveSchedule(number), Answer::Verdicts(verdicts)) => {
                self.schedule_judged(number, false, verdicts.first());
            }
            (Asked::Copy(id), Answer::Verdicts(verdicts)) => {
                verdicts.iter().for_each(|verdict| self.copy_acknowledged(id, verdict));
            }
            (Asked::Produce(sent), Answer::Produced(results)) => {
                for ((number, dedup), result) in sent.into_iter().zip(results) {
                    self.produced(number, dedup, result.map_err(|error| *error))?;
                }
            }
            (Asked::Produce(sent), Answer::Failed(error)) => {
                for (number, _) in sent {
                    self.refused(number, &error)?;
                }
            }
            (Asked::Cancel(numbers), Answer::Verdicts(verdicts)) => {
                for (number, verdict) in numbers.into_iter().zip(verdicts) {
                    self.cancelled(number, &verdict)?;
                }
            }
            (Asked::Reschedule(number, due), Answer::Verdicts(verdicts)) => {
                if let (Some(message), Some(verdict)) = (self.settled(number), verdicts.first()) {
                    if verdict.done {
                        message.dues = vec![due];
                    } else if message.asked == 0 {
                        message.dues.retain(|own| *own != due || message.plain);
                        if message.dues.is_empty() {
                            message.dues.push(due);
                        }
                    }
                }
            }
            (Asked::Query(numbers), Answer::Statuses(statuses)) => {
                for (number, status) in numbers.into_iter().zip(statuses) {
                    self.found(number, &status)?;
                }
            }
            (Asked::List, Answer::Scheduled(page)) => self.listed(&page)?,
            (Asked::Fetch(destination), Answer::Fetched { messages, .. }) => {
                self.fetched(destination, &messages)?;
            }
            (Asked::Acknowledge(subscription, numbers), Answer::Verdicts(verdicts)) => {
                let client = self.clients.iter().position(|own| own.number == session);
                let reader = client.and_then(|client| self.reader(client, subscription));
                for (number, verdict) in numbers.into_iter().zip(verdicts) {
                    self.acknowledged(number, reader.as_ref(), &verdict);
                }
            }
            (Asked::Reject(numbers), Answer::Verdicts(_)) => {
                for number in numbers {
                    self.settled(number);
                }
            }
            (Asked::Subscribe(sub), Answer::Subscribed { next_offset }) => {
                if let Some(name) = sub.durable {
                    // What the user of an inbox has acknowledged need not come to a device.
                    let inbox = sub.destination == INBOX;
                    let excused = if inbox { self.user_read.clone() } else { Default::default() };
                    let begins = || (next_offset, excused);
                    self.durables.entry((sub.destination, name)).or_insert_with(begins);
                }
            }
            (Asked::Subscribe(sub), Answer::Failed(_)) => {
                if let Some(client) = self.clients.iter_mut().find(|own| own.number == session) {
                    client.subs.retain(|own| own.number != sub.number);
                }
            }
            (Asked::Unsubscribe(number), Answer::Done) => {
                if let Some(client) = self.clients.iter_mut().find(|own| own.number == session) {
                    client.subs.retain(|own| own.number != number);
                    client.unacked.retain(|(own, _)| *own != number);
                }
            }
            (Asked::Purge(sure), Answer::Purged(_)) | (Asked::Delete(sure), Answer::Done) => {
                for number in sure {
                    if let Some(message) = self.model.messages.get_mut(&number)
                        && message.deliveries == 0
                    {
                        message.gone = Sure::Yes;
                    }
                }
            }
            (
                Asked::Cancel(numbers)
                | Asked::Query(numbers)
                | Asked::Acknowledge(_, numbers)
                | Asked::Reject(numbers),
                Answer::Failed(_),
            ) => {
                for number in numbers {
                    self.settled(number);
                }
            }
            (Asked::Reschedule(number, _), Answer::Failed(_)) => {
                self.settled(number);
            }
            (_, Answer::Failed(_)) | (Asked::Other, Answer::Done | Answer::Destination(_)) => {}
            (asked, answer) => return Err(format!("fitting_answer: {asked:?} got {answer:?}")),
        }
        Ok(())
    }

    /// A request about a message was answered.
    pub(super) fn settled(&mut self, number: u64) -> Option<&mut Message> {
        let message = self.model.messages.get_mut(&number)?;
        message.asked = message.asked.saturating_sub(1);
        Some(message)
    }

    fn refused(&mut self, number: u64, error: &ClientError) -> Result<(), Wrong> {
        Self::tolerate(error)?;
        let may = matches!(
            error.code,
            Code::DiskFull
                | Code::MemoryFull
                | Code::DestinationFull
                | Code::DelayTooLong
                | Code::Overloaded
                | Code::ShuttingDown
        );
        if !may {
            return Err(format!("clear_refusals: message {number}: {error}"));
        }
        if let Some(message) = self.settled(number) {
            message.accepted = Sure::No;
        }
        for used in self.dedups.values_mut() {
            used.retain(|(own, _)| *own != number);
        }
        Ok(())
    }

    pub(super) fn produced(
        &mut self,
        number: u64,
        dedup: Option<u64>,
        result: Result<Produced, ClientError>,
    ) -> Result<(), Wrong> {
        let produced = match result {
            Ok(produced) => produced,
            Err(error) => return self.refused(number, &error),
        };
        let Some(message) = self.settled(number) else { return Ok(()) };
        let destination = message.destination;
        let key = (destination, dedup.unwrap_or_default());
        let used = dedup.and_then(|_| self.dedups.get(&key)).cloned().unwrap_or_default();
        let before: Vec<u64> =
            used.iter().map(|(own, _)| *own).take_while(|own| *own != number).collect();
        if produced.duplicate {
            if let Some(message) = self.model.messages.get_mut(&number) {
                message.accepted = Sure::No;
            }
            if dedup.is_none() {
                return Err(format!("idempotent: {number} has no dedup id and is a duplicate"));
            }
            return match self.model.number_of(produced.id) {
                Some(first) if before.contains(&first) => Ok(()),
                Some(first) => Err(format!("idempotent: {number} repeats {before:?}, not {first}")),
                // Accepted without an answer. Which of several it was is seen when it is delivered.
                None if before.len() == 1 => self.model.accepted(before[0], produced.id),
                None if before.is_empty() && self.dedups.contains_key(&key) => {
                    Err(format!("idempotent: {number} repeats nothing"))
                }
                None => Ok(()),
            };
        }
        let day = limits::DEDUP_WINDOW_MS;
        let now = self.times;
        for (first, at) in used.iter().take_while(|(own, _)| *own != number) {
            let known = self.model.messages.get(first);
            let sure = known.is_some_and(|first| first.accepted == Sure::Yes);
            if sure && now.elapsed_ms + now.ahead_ms < at + day {
                return Err(format!("idempotent: {number} was taken although {first} was"));
            }
        }
        self.model.accepted(number, produced.id)
    }

    fn cancelled(&mut self, number: u64, verdict: &Verdict) -> Result<(), Wrong> {
        let Some(message) = self.settled(number) else { return Ok(()) };
        if verdict.done && message.deliveries > 0 {
            return Err(format!(
                "exact_cancel: {number} was delivered and is cancelled: {message:?}"
            ));
        }
        match verdict.state {
            State::Cancelled => message.cancelled = Sure::Yes,
            State::Gone | State::Unknown => {}
            _ if message.asked == 0 => message.cancelled = Sure::No,
            _ => {}
        }
        Ok(())
    }

    pub(super) fn acknowledged(&mut self, number: u64, reader: Option<&Reader>, verdict: &Verdict) {
        let Some(message) = self.settled(number) else { return };
        if !message.queue {
            if let Some(reader) = reader.filter(|_| verdict.done) {
                if message.destination == INBOX {
                    self.user_read_surely.insert(number);
                }
                self.model.read.insert((reader.clone(), number), Sure::Yes);
            }
            return;
        }
        match verdict.state {
            State::Acknowledged => message.acknowledged = Sure::Yes,
            State::Gone | State::Unknown | State::Dead => {}
            _ if message.asked == 0 => message.acknowledged = Sure::No,
            _ => {}
        }
    }

    /// Where a message stands must be where it can stand.
    fn found(&mut self, number: u64, status: &Status) -> Result<(), Wrong> {
        let now = self.times;
        let limited = self.limited;
        let trimmed = self.swarm.config.topic_messages < 1_000_000;
        let Some(message) = self.settled(number) else { return Ok(()) };
        if message.asked > 0 || message.accepted != Sure::Yes {
            return Ok(());
        }
        let may_expire = message.expires_ms.is_some() || limited[message.destination];
        let may = |state: State| match state {
            State::Cancelled => message.cancelled != Sure::No,
            State::Acknowledged => message.acknowledged != Sure::No || !message.queue,
            State::Scheduled => message.cancelled != Sure::Yes && message.deliveries == 0,
            // Only schedules end.
            State::Ended => false,
            State::Ready | State::InFlight => {
                message.acknowledged != Sure::Yes
                    && message.cancelled != Sure::Yes
                    && !message.is_far(now)
            }
            State::Expired => may_expire || !message.queue,
            State::Dead => message.deliveries > 0,
            // Forgotten: only what has come to an end.
            State::Gone => {
                message.gone != Sure::No
                    || message.cancelled != Sure::No
                    || message.acknowledged != Sure::No
                    || may_expire
                    || (!message.queue && (trimmed || now.elapsed_ms > limits::TOPIC_AGE_MAX_MS))
            }
            State::Unknown => false,
        };
        if may(status.state) {
            return Ok(());
        }
        Err(format!("true_status: {number} is {:?}: {message:?} at {now:?}", status.state))
    }

    /// What is scheduled stands in the list once, what is over does not, all in order; where clocks are
    /// set, some of it was put back.
    fn listed(&mut self, page: &SchedulePage) -> Result<(), Wrong> {
        let clocks_agree = !self.swarm.has(Op::ClockStep);
        let mut last = None;
        let mut seen = std::collections::BTreeSet::new();
        for entry in &page.entries {
            let key = (entry.due_ms, entry.id.sequence());
            let before = last.replace(key);
            if clocks_agree && before.is_some_and(|before| before >= key) {
                return Err(format!("list_in_order: {key:?} after {before:?}"));
            }
            if !seen.insert(entry.id) {
                return Err(format!("list_once: {key:?} is listed twice"));
            }
            let Some(number) = self.model.number_of(entry.id) else { continue };
            let message = &self.model.messages[&number];
            if message.cancelled == Sure::Yes || message.gone == Sure::Yes || message.deliveries > 0
            {
                return Err(format!("true_list: {number} is listed: {message:?}"));
            }
        }
        let listed: std::collections::BTreeSet<_> =
            page.entries.iter().map(|entry| entry.id).collect();
        if page.next.is_some() {
            return Ok(());
        }
        let now = self.times;
        for (number, message) in self.model.owed(now) {
            let waits = message.asked == 0 && message.is_far(now);
            if waits && !message.id.is_some_and(|id| listed.contains(&id)) {
                return Err(format!("true_list: {number} is not listed: {message:?} at {now:?}"));
            }
        }
        Ok(())
    }

    /// A topic's messages have offsets without holes.
    pub(super) fn fetched(&self, destination: usize, messages: &[Delivery]) -> Result<(), Wrong> {
        let mut last: Option<u64> = None;
        for fetched in messages {
            let offset = fetched.offset;
            if last.replace(offset).is_some_and(|last| last + 1 != offset) {
                return Err(format!("dense_offsets: {offset} after {last:?}"));
            }
            let known = number_of(fetched).and_then(|number| self.model.messages.get(&number));
            let Some(message) = known else {
                return Err(format!("no_ghost: {fetched:?} is in {}", DESTINATIONS[destination].0));
            };
            let over = message.cancelled == Sure::Yes || message.gone == Sure::Yes;
            if over || message.accepted == Sure::No || message.destination != destination {
                return Err(format!("no_ghost: {fetched:?}: {message:?}"));
            }
        }
        Ok(())
    }
}

/// Which message a delivery is, by its body.
pub(super) fn number_of(delivery: &Delivery) -> Option<u64> {
    let body = content::body(&delivery.content);
    body.first_chunk().map(|number| u64::from_be_bytes(*number))
}
