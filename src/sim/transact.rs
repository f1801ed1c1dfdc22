//! Transactions of simulated clients: all of one, or nothing.

use crate::base::command::{Answer, Command, Part, PartDone};
use crate::base::message::{Message as Content, MessageBatch};
use crate::sim::ask::{Asked, name};
use crate::sim::model::{Group, Sure};
use crate::sim::world::{DESTINATIONS, World, Wrong};

/// A part without its outcome yet.
#[derive(Debug, Clone)]
pub(super) enum AskedPart {
    /// Messages by number.
    Produce(Vec<u64>),
    /// Subscription and messages.
    Acknowledge(u32, Vec<u64>),
}

impl World {
    pub(super) fn transact(&mut self, client: usize) {
        let group = self.next_message;
        let (mut parts, mut asked) = (Vec::new(), Vec::new());
        for _ in 0..1 + self.content.below(2) {
            let destination = self.content.below(DESTINATIONS.len() as u64) as usize;
            let (mut bytes, mut numbers) = (Vec::new(), Vec::new());
            for _ in 0..1 + self.content.below(3) {
                let number = self.next_message;
                self.next_message += 1;
                let (delay, due) = self.some_delay();
                let message = Content::new(number.to_be_bytes()).with_delay(delay);
                // It is within its bounds.
                let _ = message.encode(&mut bytes);
                self.model.sent(number, destination, DESTINATIONS[destination].1, due, Some(group));
                numbers.push(number);
            }
            if let Ok(batch) = MessageBatch::parse(bytes.into(), numbers.len()) {
                parts.push(Part::Produce { destination: name(destination), batch });
                asked.push(AskedPart::Produce(numbers));
            }
        }
        let own = &self.clients[client];
        let stalled = own.stalled.load(std::sync::atomic::Ordering::Relaxed);
        if !own.unacked.is_empty() && !stalled && self.content.percent(70) {
            let (subscription, _) = *self.content.pick(&own.unacked);
            let mine = own.unacked.iter().filter(|(sub, _)| *sub == subscription);
            let numbers: Vec<u64> = mine.map(|(_, number)| *number).take(3).collect();
            let ids = self.take_for_acknowledge(client, subscription, &numbers, false);
            parts.push(Part::Acknowledge { subscription, ids, cumulative: false });
            asked.push(AskedPart::Acknowledge(subscription, numbers));
        }
        let mut all = Group::default();
        for part in &asked {
            match part {
                AskedPart::Produce(numbers) => all.messages.extend(numbers),
                AskedPart::Acknowledge(_, numbers) => all.acknowledged.extend(numbers),
            }
        }
        self.model.groups.insert(group, all);
        self.submit(client, Asked::Transaction(group, asked), Command::Transaction { parts });
    }

    pub(super) fn transacted(
        &mut self,
        session: u64,
        group: u64,
        asked: Vec<AskedPart>,
        answer: Answer,
    ) -> Result<(), Wrong> {
        let known = self.model.groups.remove(&group);
        let done = match answer {
            Answer::Transacted(done) if done.len() == asked.len() => done,
            Answer::Failed(error) => {
                for part in asked {
                    match part {
                        AskedPart::Produce(numbers) => {
                            for number in numbers {
                                let message = self.model.messages.get(&number);
                                if message.is_some_and(|message| message.deliveries > 0) {
                                    return Err(format!("all_or_nothing: {number} came: {error}"));
                                }
                                self.settled(number);
                                if let Some(message) = self.model.messages.get_mut(&number) {
                                    message.accepted = Sure::No;
                                }
                            }
                        }
                        AskedPart::Acknowledge(_, numbers) => {
                            // Others may have acknowledged them, too.
                            for number in numbers {
                                self.settled(number);
                            }
                        }
                    }
                }
                return Ok(());
            }
            other => return Err(format!("fitting_answer: {known:?} got {other:?}")),
        };
        let client = self.clients.iter().position(|own| own.number == session);
        for (part, done) in asked.into_iter().zip(done) {
            match (part, done) {
                (AskedPart::Produce(numbers), PartDone::Produced(all)) => {
                    for (number, produced) in numbers.into_iter().zip(all) {
                        self.produced(number, None, Ok(produced))?;
                    }
                }
                (AskedPart::Acknowledge(subscription, numbers), PartDone::Verdicts(all)) => {
                    let reader = client.and_then(|client| self.reader(client, subscription));
                    for (number, verdict) in numbers.into_iter().zip(all) {
                        self.acknowledged(number, reader.as_ref(), &verdict);
                    }
                }
                (part, done) => return Err(format!("fitting_answer: {part:?} got {done:?}")),
            }
        }
        Ok(())
    }
}
