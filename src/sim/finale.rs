//! The end of a run: no more faults, everybody works, and everything that is owed has to come.

use std::collections::BTreeSet;

use crate::base::command::{Answer, Command, Outgoing, StartAt};
use crate::sim::ask::{Asked, name};
use crate::sim::hear::number_of;
use crate::sim::model::{Reader, Sure};
use crate::sim::world::{DESTINATIONS, Sub, TOPICS, World, Wrong};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Nothing is scheduled for later than this from any moment on.
const LATEST_MS: u64 = 41 * DAY_MS;

impl World {
    /// Lets everything come that is owed.
    pub(super) fn finale(&mut self) -> Result<(), Wrong> {
        self.mend();
        if self.shard.as_ref().is_none_or(|_| self.report.latched > 0) {
            // A power loss while mending has taken the shard's handles.
            self.restart_for_finale()?;
        }
        self.clients.clear();
        self.model.end_leases(|_| true);
        self.settle()?;
        self.connect();
        if let Some(shard) = &self.shard {
            let _ = shard.broker().release_clock();
        }
        self.settle()?;
        let runs = self.end_schedules()?;
        for (destination, (_, queue)) in DESTINATIONS.into_iter().enumerate() {
            let name = name(destination);
            let pause = Command::PauseDestination { name: name.clone(), paused: false };
            self.submit(0, Asked::Other, pause);
            let (max_messages, max_age_ms) = (Some(0), Some(0));
            let limit = Command::LimitDestination { name, max_messages, max_age_ms };
            self.submit(0, Asked::Other, limit);
            if queue {
                for dead in [false, true] {
                    self.drain_from(destination, dead, None);
                }
            } else {
                let named = self.durables.keys().filter(|(own, _)| *own == destination);
                for name in named.map(|(_, name)| *name).collect::<Vec<_>>() {
                    self.drain_from(destination, false, Some(name));
                }
            }
        }
        // And all topics at once, from the oldest on.
        self.by_pattern.clear();
        let sub = Sub {
            number: self.clients[0].next_sub,
            destination: TOPICS.start,
            dead: false,
            durable: None,
            shared: false,
            pattern: true,
            ack_timeout_ms: HOUR_MS,
        };
        self.subscribe_as(0, sub, 3, StartAt::Earliest);
        // A stop is measured by the wall: what it stepped back meanwhile comes so much later.
        let end = self.times.elapsed_ms
            + LATEST_MS
            + self.times.back_ms
            + self.times.ahead_ms.min(LATEST_MS);
        // Retention takes what is there now before the end.
        self.drain()?;
        self.check_readers()?;
        let mut hop_ms = 1_000;
        while self.times.elapsed_ms < end {
            self.drain()?;
            self.advance(hop_ms);
            hop_ms = (hop_ms * 2).min(DAY_MS);
        }
        // The last ones go round until nobody gets anything.
        self.drain()?;
        let now = self.times;
        let limited = self.limited;
        let missing = self.model.owed(now).find(|(_, message)| {
            message.queue && !message.is_far(now) && !limited[message.destination]
        });
        if let Some((number, message)) = missing {
            let what = format!("no_loss_of_acked: {number} never came: {message:?} at {now:?}");
            let ids = message.id.into_iter().collect();
            let status = self.ask_once(Command::Query { ids })?;
            let described = self.describe()?;
            return Err(format!("{what}; it is {status:?}; {described}; {:?}", self.stats()));
        }
        self.read_topics()?;
        let stats = self.stats();
        let skipped = stats.iter().find(|(name, _)| *name == "runs_skipped_total");
        self.check_runs(&runs, skipped.map_or(0, |(_, runs)| *runs))?;
        self.count()
    }

    fn restart_for_finale(&mut self) -> Result<(), Wrong> {
        self.disk.kill();
        self.shard = None;
        self.hear()?;
        self.start()
    }

    fn drain_from(&mut self, destination: usize, dead: bool, durable: Option<&'static str>) {
        let number = self.clients[0].next_sub;
        let sub = Sub {
            number,
            destination,
            dead,
            durable,
            shared: false,
            pattern: false,
            ack_timeout_ms: HOUR_MS,
        };
        self.subscribe_as(0, sub, 10_000, StartAt::Latest);
    }

    /// Acknowledges until nothing comes any more.
    fn drain(&mut self) -> Result<(), Wrong> {
        self.settle()?;
        while let Some((subscription, _)) = self.clients[0].unacked.first().copied() {
            let own = self.clients[0].unacked.iter().filter(|(sub, _)| *sub == subscription);
            let numbers: Vec<u64> = own.map(|(_, number)| *number).take(500).collect();
            self.acknowledge_these(0, subscription, &numbers, false);
            self.settle()?;
        }
        Ok(())
    }

    /// Topics hold what was sent to them, and named readers have seen what came after they began.
    fn read_topics(&mut self) -> Result<(), Wrong> {
        let kept_long = self.swarm.config.topic_messages >= 1_000_000;
        for destination in TOPICS.start..DESTINATIONS.len() {
            let (mut offset, mut there) = (1, BTreeSet::new());
            loop {
                let fetch = Command::Fetch { destination: name(destination), offset, limit: 100 };
                let Some(Answer::Fetched { messages, next_offset }) = self.ask_once(fetch)? else {
                    break;
                };
                self.fetched(destination, &messages)?;
                for fetched in &messages {
                    let number = number_of(fetched).unwrap_or_default();
                    if !there.insert(number) {
                        return Err(format!("once_in_a_topic: {number} is there twice"));
                    }
                    self.has_come(destination, number, fetched.offset)?;
                }
                if messages.is_empty() || next_offset <= offset {
                    break;
                }
                offset = next_offset;
            }
            let now = self.times;
            let old = now.elapsed_ms.saturating_sub(25 * DAY_MS);
            for (number, message) in self.model.owed(now) {
                // What fired long ago is too old to be kept.
                let young = message.dues.iter().all(|due| match due {
                    crate::sim::model::Due::After(ms) => *ms > old,
                    crate::sim::model::Due::At(_) => false,
                });
                let owed = message.destination == destination && kept_long && young;
                if owed && !self.limited[destination] && !there.contains(&number) {
                    return Err(format!(
                        "no_loss_of_acked: {number} is not in its topic: {message:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// What topics keep now has come to everybody who is to get it.
    fn check_readers(&mut self) -> Result<(), Wrong> {
        for destination in TOPICS.start..DESTINATIONS.len() {
            let mut offset = 1;
            loop {
                let fetch = Command::Fetch { destination: name(destination), offset, limit: 100 };
                let Some(Answer::Fetched { messages, next_offset }) = self.ask_once(fetch)? else {
                    break;
                };
                for fetched in &messages {
                    let number = number_of(fetched).unwrap_or_default();
                    self.has_come(destination, number, fetched.offset)?;
                }
                if messages.is_empty() || next_offset <= offset {
                    break;
                }
                offset = next_offset;
            }
        }
        Ok(())
    }

    /// Named readers have acknowledged a message of a topic, and the one with a pattern has seen it.
    fn has_come(&self, destination: usize, number: u64, offset: u64) -> Result<(), Wrong> {
        let message = self.model.messages.get(&number);
        if message.is_some_and(|message| message.expires_ms.is_some()) {
            return Ok(());
        }
        if TOPICS.contains(&destination) && !self.by_pattern.contains(&number) {
            return Err(format!("no_loss_of_acked: {number} never came by a pattern"));
        }
        let here = self.durables.iter().filter(|((own, _), _)| *own == destination);
        for ((_, reader), (begins, excused)) in here {
            let own = (Reader::Durable(destination, reader), number);
            let read = self.model.read.contains_key(&own) || excused.contains(&number);
            if offset >= *begins && !read {
                return Err(format!(
                    "no_loss_of_acked: {reader} never acknowledged {number} at {offset}"
                ));
            }
        }
        Ok(())
    }

    /// Every destination, as the shard tells it.
    fn describe(&mut self) -> Result<String, Wrong> {
        let list = Command::ListDestinations { after: bytes::Bytes::new(), limit: 100 };
        Ok(format!("{:?}", self.ask_once(list)?))
    }

    /// The shard's own figures: nothing is left over.
    fn count(&mut self) -> Result<(), Wrong> {
        let Some(Answer::Stats(stats)) = self.ask_once(Command::Stats)? else {
            return Err("stats are not told".into());
        };
        let stat =
            |name: &str| stats.iter().find(|(own, _)| *own == name).map_or(0, |(_, value)| *value);
        self.report.flushes += stat("flushes_total");
        self.report.merges += stat("store_merges_total");
        for name in ["scheduled", "in_flight"] {
            if stat(name) != 0 {
                let described = self.describe()?;
                return Err(format!(
                    "conservation: {name} is {} at the end: {described}",
                    stat(name)
                ));
            }
        }
        for destination in (0..DESTINATIONS.len()).filter(|own| DESTINATIONS[*own].1) {
            let describe = Command::DescribeDestination { name: name(destination) };
            if let Some(Answer::Destination(info)) = self.ask_once(describe)?
                && (info.ready, info.scheduled, info.in_flight) != (0, 0, 0)
            {
                return Err(format!("conservation: something is left over: {info:?}"));
            }
        }
        let unread =
            self.model.messages.values().filter(|own| own.queue && own.acknowledged == Sure::Maybe);
        self.trace.note(&unread.count());
        Ok(())
    }

    /// Asks one thing and takes its answer as it is.
    pub(super) fn ask_once(&mut self, command: Command) -> Result<Option<Answer>, Wrong> {
        self.next_tag += 1;
        let tag = self.next_tag;
        if self.clients[0].session.submit(vec![(tag, command)]).is_err() {
            return Ok(None);
        }
        for _ in 0..100 {
            let Some(shard) = &mut self.shard else { break };
            shard.step().map_err(|error| format!("goes_on: {error}"))?;
            let came = std::mem::take(&mut *self.log.lock());
            let mut answer = None;
            for (session, outgoing) in came {
                self.trace.note(&(session, &outgoing));
                match outgoing {
                    Outgoing::Answer { tag: own, answer: told } if own == tag => {
                        answer = Some(told)
                    }
                    other => self.heard(session, other)?,
                }
            }
            if answer.is_some() {
                return Ok(answer);
            }
        }
        Err("eventual_answer: none came".into())
    }
}
