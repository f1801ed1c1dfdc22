//! Recurring schedules: when they come, what they publish, and what ends them.

use bytes::Bytes;
use proptest::prelude::*;

use super::invariants;
use super::rig::{A, Rig, START, ack, after, produce, subscribe};
use crate::base::command::{Answer, Command, Delivery, Status};
use crate::base::content::Content;
use crate::base::error::{ClientError, Code};
use crate::base::id::MessageId;
use crate::base::lifecycle::State;
use crate::base::limits;
use crate::base::message::{Delay, Message};
use crate::base::recur::{Cron, Rule, SCHEDULE_HEADER, Then};
use crate::base::time::{DELAY_MAX_MS, Now};

const Q: &str = "/queue/q";
const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

fn repeat(to: &str, rule: Rule, message: Message) -> Command {
    let Command::Produce { destination, batch } = produce(to, &[message]) else { unreachable!() };
    Command::Repeat { destination, rule, batch }
}

fn every(period_ms: u64, times: u32) -> Rule {
    Rule::Every { period_ms, times }
}

fn cron(expression: &str, zone: &str) -> Rule {
    let (expression, zone) = (expression.into(), zone.into());
    Rule::Cron(Cron { expression, zone, times: 0, then: None })
}

fn ms(time: &str) -> u64 {
    time.parse::<jiff::Timestamp>().unwrap().as_millisecond() as u64
}

impl Rig {
    fn try_repeat(&mut self, rule: Rule, message: Message) -> Result<MessageId, ClientError> {
        match self.ask(repeat(Q, rule, message)) {
            Answer::Produced(mut results) => results.remove(0).map(|p| p.id).map_err(|e| *e),
            Answer::Failed(error) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    fn repeat(&mut self, rule: Rule) -> MessageId {
        self.try_repeat(rule, Message::new("again")).unwrap()
    }

    /// What came, acknowledged.
    fn copies(&mut self) -> Vec<Delivery> {
        let copies: Vec<Delivery> = self.take_received().into_iter().map(|(_, d)| d).collect();
        let ids: Vec<MessageId> = copies.iter().map(|copy| copy.id).collect();
        if !ids.is_empty() {
            self.ask(ack(1, &ids));
        }
        copies
    }

    fn status(&mut self, id: MessageId) -> Status {
        match self.look(Command::Query { ids: vec![id] }) {
            Answer::Statuses(mut statuses) => statuses.remove(0),
            other => panic!("{other:?}"),
        }
    }

    /// Lets time pass in steps to a time, and tells when copies came.
    fn runs_until(&mut self, end_ms: u64, step_ms: u64) -> Vec<u64> {
        let mut runs = Vec::new();
        while self.now.wall_ms < end_ms {
            self.pass(step_ms.min(end_ms - self.now.wall_ms));
            let at = self.now.wall_ms;
            runs.extend(self.copies().iter().map(|_| at));
        }
        runs
    }

    fn stat(&self, name: &str) -> u64 {
        self.engine.stats().into_iter().find(|(own, _)| *own == name).unwrap().1
    }
}

fn rig_at(ms: u64) -> Rig {
    let mut rig = Rig::new();
    rig.now = Now::all(ms);
    rig.step(vec![(A, subscribe(1, Q, 1_000))]);
    rig
}

/// Goal: a period is kept to the ms over any number of runs, each run is a message of its own that names
/// its schedule, and after the last the schedule is over. Method: steps that do not fit the period.
#[test]
fn every_period_has_a_run_until_there_are_enough() {
    let mut rig = rig_at(START);
    let message = Message::new("again").with_header("a", "b").with_priority(7).with_expiry(9_000);
    let id = rig.try_repeat(every(1_500, 4), message).unwrap();
    assert_eq!(id.due_ms(), START + 1_500, "no delay: after one period");
    let (mut ids, mut times) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        rig.pass(70);
        for copy in rig.copies() {
            let content = Content::decode(&copy.content).unwrap();
            assert_eq!(content.headers[0], (SCHEDULE_HEADER.to_owned(), id.to_string()));
            assert_eq!((&content.headers[1].1[..], &content.body[..]), ("b", &b"again"[..]));
            assert_eq!((copy.attempt, copy.priority, copy.due_ms), (1, 7, rig.now.mono_ms));
            ids.push(copy.id);
            times.push(rig.now.mono_ms - START);
            let told = rig.status(id);
            let next = if ids.len() < 4 { START + 1_500 * (ids.len() as u64 + 1) } else { 0 };
            let state = if ids.len() < 4 { State::Scheduled } else { State::Ended };
            assert_eq!((told.state, told.due_ms, told.recurring), (state, next, next != 0));
        }
    }
    assert_eq!(times, [1_540, 3_010, 4_550, 6_020], "never early, and no drift");
    ids.push(id);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 5, "ids of their own");
    assert_eq!(rig.verdict(Command::Cancel { ids: vec![id] }), (false, State::Ended));
    assert_eq!((rig.stat("runs_total"), rig.stat("messages")), (4, 0));
    rig.check_replay();
    rig.check_flushes(3);
}

/// Goal: a delay says when the first run is. Method: each kind of delay; one in the past runs at once.
#[test]
fn a_delay_says_when_the_first_run_is() {
    let first = |delay: Delay| {
        let mut rig = rig_at(START);
        rig.try_repeat(every(HOUR, 0), Message::new("x").with_delay(delay)).unwrap();
        rig.runs_until(START + 2 * HOUR, 100).iter().map(|at| at - START).collect::<Vec<_>>()
    };
    assert_eq!(first(Delay::None), [HOUR, 2 * HOUR]);
    assert_eq!(first(Delay::After(500)), [500, HOUR + 500]);
    assert_eq!(first(Delay::Level(1)), [1_000, HOUR + 1_000]);
    assert_eq!(first(Delay::At((START + 700) as i64)), [700, HOUR + 700]);
    assert_eq!(first(Delay::After(0)), [100, HOUR, 2 * HOUR], "at the next moment");
    assert_eq!(first(Delay::At(5)), [100, HOUR, 2 * HOUR], "the past means now");
}

/// Goal: runs that a stop has missed are one, and the phase stays. Method: a stop of many periods, by
/// period and by cron.
#[test]
fn missed_runs_come_as_one() {
    let mut rig = rig_at(START);
    let id = rig.repeat(every(MINUTE, 0));
    rig.restart(3 * DAY + 10_000);
    rig.step(vec![(A, subscribe(1, Q, 1_000))]);
    assert_eq!(rig.copies().len(), 1);
    assert_eq!(rig.status(id).due_ms, START + 3 * DAY + MINUTE);
    rig.pass(49_999);
    assert!(rig.copies().is_empty());
    rig.pass(1);
    assert_eq!(rig.copies().len(), 1);
    assert_eq!(rig.status(id).attempts, 2, "missed runs are none");

    let start = ms("2027-01-01T08:30:00Z");
    let mut rig = rig_at(start);
    let id = rig.repeat(cron("0 9 * * *", "UTC"));
    rig.restart(10 * DAY);
    rig.step(vec![(A, subscribe(1, Q, 1_000))]);
    assert_eq!(rig.copies().len(), 1);
    assert_eq!(rig.status(id).due_ms, ms("2027-01-11T09:00:00Z"));
    rig.check_replay();
}

/// Goal: a cron rule runs by the clock of its zone, over changes of daylight saving time both ways.
/// Method: a daily run in Berlin at a time that does not exist on one day and comes twice on another.
#[test]
fn cron_rules_go_by_the_clock_of_their_zone() {
    let around = |from: &str, to: &str| {
        let mut rig = rig_at(ms(from));
        rig.repeat(cron("30 2 * * *", "Europe/Berlin"));
        let runs = rig.runs_until(ms(to), 30 * MINUTE);
        rig.check_replay();
        runs
    };
    let times = |all: [&str; 3]| all.map(ms).to_vec();
    assert_eq!(
        around("2027-03-26T12:00:00Z", "2027-03-29T12:00:00Z"),
        times(["2027-03-27T01:30:00Z", "2027-03-28T01:00:00Z", "2027-03-29T00:30:00Z"])
    );
    assert_eq!(
        around("2027-10-29T12:00:00Z", "2027-11-01T12:00:00Z"),
        times(["2027-10-30T00:30:00Z", "2027-10-31T00:30:00Z", "2027-11-01T01:30:00Z"])
    );
}

/// Goal: the wall clock judges cron rules: put forward, the run comes; put back, it waits and does not
/// come twice. Method: steps of hours of the wall alone.
#[test]
fn the_wall_clock_judges_cron_rules() {
    let start = ms("2027-01-01T08:00:00Z");
    let mut rig = rig_at(start);
    let id = rig.repeat(cron("0 9 * * *", ""));
    let wall = |rig: &mut Rig, at: &str, mono: u64| {
        rig.now = rig.now.then(start + mono, ms(at), rig.engine.pace());
        rig.step(vec![]);
    };
    wall(&mut rig, "2027-01-01T09:00:00Z", 1_000);
    assert_eq!(rig.copies().len(), 1, "its time is shown");
    wall(&mut rig, "2027-01-01T08:59:00Z", 2_000);
    wall(&mut rig, "2027-01-01T09:00:30Z", 3_000);
    assert_eq!(rig.copies().len(), 0, "it has been today");
    assert_eq!(rig.status(id).due_ms, ms("2027-01-02T09:00:00Z"));
    rig.check_replay();
}

/// Goal: a run that is years away comes, and its true time is told. Method: the 29th of February; the
/// schedule is looked at every 40 days, over flushes and restarts.
#[test]
fn a_run_may_be_years_away() {
    let mut rig = rig_at(ms("2025-03-01T00:00:00Z"));
    let id = rig.repeat(cron("0 12 29 2 *", ""));
    assert_eq!(id.due_ms(), rig.now.wall_ms + DELAY_MAX_MS, "no farther than any message");
    let leap = ms("2028-02-29T12:00:00Z");
    let mut steps = 0;
    while rig.now.wall_ms < leap - 1 {
        assert_eq!((rig.status(id).due_ms, rig.status(id).attempts), (leap, 0));
        rig.pass((13 * DAY).min(leap - 1 - rig.now.wall_ms));
        assert!(rig.copies().is_empty());
        steps += 1;
        match steps % 3 {
            0 => rig.flush(),
            1 => {
                rig.restart(0);
                rig.step(vec![(A, subscribe(1, Q, 1_000))]);
            }
            _ => {}
        }
    }
    rig.pass(1);
    assert_eq!(rig.copies().len(), 1);
    assert_eq!(rig.status(id).due_ms, ms("2032-02-29T12:00:00Z"));
    rig.check_replay();
}

/// Goal: one cron run can publish several messages, each in its time. Method: a first delay, a period and
/// a number; those to come are scheduled messages as any other.
#[test]
fn a_cron_run_may_publish_several() {
    let start = ms("2027-01-01T08:00:00Z");
    let mut rig = rig_at(start);
    let then = Some(Then { delay_ms: 500, period_ms: 10_000, repeat: 3 });
    let rule = Cron { expression: "0 9 * * *".into(), zone: String::new(), times: 1, then };
    let id = rig.try_repeat(Rule::Cron(rule), Message::new("x").with_expiry(1_000)).unwrap();
    let nine = ms("2027-01-01T09:00:00Z");
    rig.pass(nine - start);
    assert_eq!(rig.status(id).state, State::Ended);
    assert_eq!(rig.stat("scheduled"), 4);
    let runs: Vec<_> = rig.runs_until(nine + MINUTE, 100).iter().map(|at| at - nine).collect();
    assert_eq!(runs, [500, 10_500, 20_500, 30_500], "none has expired before its time");
    rig.check_replay();
    rig.check_flushes(2);
}

/// Goal: a schedule is cancelled and moved exactly as a message is. Method: both against a run in one
/// step, from memory and from the store.
#[test]
fn a_schedule_is_cancelled_and_moved_as_a_message() {
    for flush in [false, true] {
        let mut rig = rig_at(START);
        let id = rig.repeat(every(MINUTE, 0));
        let at = |rig: &mut Rig, ms: u64, command: Command| {
            rig.now = Now::all(START + ms);
            if flush {
                rig.flush();
            }
            let Answer::Verdicts(verdicts) = rig.ask(command) else { panic!() };
            verdicts[0]
        };
        let reschedule = |delay| Command::Reschedule { items: vec![(id, Delay::After(delay))] };
        let moved = at(&mut rig, 30_000, reschedule(45_000));
        assert_eq!(
            (moved.done, moved.state, moved.due_ms),
            (true, State::Scheduled, START + 75_000)
        );
        rig.now = Now::all(START + 74_999);
        rig.step(vec![]);
        assert!(rig.copies().is_empty());
        let now = at(&mut rig, 75_000, reschedule(0));
        assert_eq!((now.done, now.state), (true, State::Scheduled), "it ran, and was moved behind");
        assert_eq!(rig.copies().len(), 1);
        rig.now = Now::all(START + 75_001);
        rig.step(vec![]);
        assert_eq!(rig.copies().len(), 1, "at once");
        let told = rig.status(id);
        assert_eq!((told.due_ms, told.attempts), (START + 75_000 + MINUTE, 2));
        let cancelled = at(&mut rig, 75_000 + MINUTE, Command::Cancel { ids: vec![id] });
        assert_eq!((cancelled.done, cancelled.state), (true, State::Cancelled));
        assert_eq!(rig.copies().len(), 1, "the run of this step was before");
        rig.now = Now::all(START + 5 * MINUTE);
        rig.step(vec![]);
        assert!(rig.copies().is_empty());
        assert_eq!(rig.stat("messages"), 0);
        rig.check_replay();
        rig.check_flushes(1);
    }
}

/// Goal: list, query and describe tell of schedules what they tell of messages. Method: one of each, in
/// memory and in the store.
#[test]
fn a_schedule_is_listed_among_the_others() {
    let mut rig = rig_at(START);
    let schedule = rig.repeat(every(MINUTE, 0));
    let message = rig.publish(Q, after(30_000));
    for _ in 0..2 {
        let list = Command::List {
            destination: Bytes::from_static(Q.as_bytes()),
            from_ms: 0,
            to_ms: u64::MAX,
            limit: 10,
            after: None,
        };
        let Answer::Scheduled(page) = rig.look(list) else { panic!() };
        let told: Vec<_> = page.entries.iter().map(|s| (s.id, s.recurring, s.due_ms)).collect();
        assert_eq!(told, [(message, false, START + 30_000), (schedule, true, START + MINUTE)]);
        assert_eq!(rig.stat("scheduled"), 2);
        rig.flush();
    }
}

/// Goal: where there is no room a run is skipped and counted, and the schedule goes on. Method: a full
/// destination, a server that takes nothing new, no memory.
#[test]
fn a_run_without_room_is_skipped() {
    let mut rig = Rig::new();
    let id = rig.repeat(every(MINUTE, 4));
    let limit = |max| Command::LimitDestination {
        name: Bytes::from_static(Q.as_bytes()),
        max_messages: Some(max),
        max_age_ms: None,
    };
    rig.ask(limit(1));
    rig.pass(MINUTE);
    assert_eq!((rig.stat("runs_skipped_total"), rig.stat("ready")), (1, 0));
    rig.ask(limit(0));
    rig.refuse_new = Some(Code::DiskFull);
    rig.pass(MINUTE);
    rig.refuse_new = None;
    assert_eq!((rig.stat("runs_skipped_total"), rig.stat("ready")), (2, 0));
    rig.engine.config.memory = 1;
    rig.pass(MINUTE);
    rig.engine.config.memory = rig.config.memory;
    assert_eq!((rig.stat("runs_skipped_total"), rig.stat("ready")), (3, 0));
    rig.pass(MINUTE);
    assert_eq!((rig.stat("runs_total"), rig.stat("ready")), (1, 1));
    assert_eq!(rig.status(id).state, State::Ended, "a run that was skipped was one");
    rig.check_replay();
}

/// Goal: a schedule goes with its destination. Method: deleted and purged, in memory and in the store.
#[test]
fn a_schedule_ends_with_its_destination() {
    let name = || Bytes::from_static(Q.as_bytes());
    for end in [
        Command::DeleteDestination { name: name() },
        Command::PurgeDestination { name: name(), scheduled: true },
    ] {
        for flush in [false, true] {
            let mut rig = Rig::new();
            let id = rig.repeat(every(MINUTE, 0));
            if flush {
                rig.flush();
            }
            rig.ask(end.clone());
            assert_eq!(rig.state(id), State::Gone);
            rig.pass(2 * MINUTE);
            rig.pass(2 * MINUTE);
            assert_eq!((rig.stat("runs_total"), rig.stat("messages")), (0, 0));
            invariants::check(&rig.engine, &rig.root);
            rig.check_replay();
        }
    }
}

/// Goal: what cannot be is refused in words, and leaves nothing behind. Method: one of each; a rule is
/// refused as a whole, a message alone.
#[test]
fn what_cannot_be_is_refused() {
    let mut rig = Rig::new();
    let then = |delay_ms, period_ms, repeat| {
        let then = Some(Then { delay_ms, period_ms, repeat });
        let (expression, zone) = ("* * * * *".into(), String::new());
        Rule::Cron(Cron { expression, zone, times: 0, then })
    };
    let bad = [
        every(999, 0),
        every(0, 0),
        every(u64::MAX, 0),
        every(DELAY_MAX_MS + 1, 0),
        cron("", ""),
        cron("* * * *", ""),
        cron("0 0 30 2 *", ""),
        cron("* * * * *", "Europe/Atlantis"),
        cron(&"*".repeat(300), ""),
        then(0, 0, 1),
        then(0, 1_000, limits::REPEAT_MAX + 1),
        then(DELAY_MAX_MS, 1_000, 1),
    ];
    for rule in bad {
        let error = rig.try_repeat(rule.clone(), Message::new("x")).unwrap_err();
        assert_eq!(error.code, Code::BadSchedule, "{rule:?}: {error}");
    }
    let mut code = |rule: Rule, message: Message| rig.try_repeat(rule, message).unwrap_err().code;
    assert_eq!(code(cron("* * * * *", ""), after(1_000)), Code::BadSchedule, "two times");
    assert_eq!(code(every(1_000, 0), after(-1)), Code::BadDelay);
    assert_eq!(code(every(1_000, 0), Message::new("x").with_priority(10)), Code::BadPriority);
    let large = Message::new(vec![0; limits::BODY_BYTES_MAX]);
    assert_eq!(code(then(0, 1_000, 9), large), Code::BadSchedule, "too much in one run");
    let mut many = Message::new("x");
    for number in 0..limits::HEADERS_MAX {
        many = many.with_header(number.to_string(), "");
    }
    assert_eq!(code(every(1_000, 0), many), Code::BadHeader, "no place for one more");
    let all = rig.ask(Command::ListDestinations { after: Bytes::new(), limit: 10 });
    assert_eq!(all, Answer::Destinations(Vec::new()));
}

/// Goal: a dedup id stands for a schedule as for a message. Method: the same id again, before and behind a
/// run and a flush.
#[test]
fn a_dedup_id_makes_one_schedule() {
    let mut rig = Rig::new();
    let once = || Message::new("x").with_dedup("once");
    let id = rig.try_repeat(every(MINUTE, 0), once()).unwrap();
    rig.pass(MINUTE);
    rig.flush();
    assert_eq!(rig.try_repeat(every(HOUR, 9), once()), Ok(id));
    assert_eq!(rig.try_publish(Q, once()), Ok((id, true)));
    assert_eq!(rig.stat("scheduled"), 1);
}

/// Goal: more runs than a step may have are spread over steps, in order, and all come. Method: schedules
/// of many copies that are due together.
#[test]
fn a_step_runs_only_so_many() {
    let start = ms("2027-01-01T08:00:00Z");
    let mut rig = Rig::new();
    rig.now = Now::all(start);
    let then = Some(Then { delay_ms: 1, period_ms: 1_000, repeat: limits::REPEAT_MAX });
    let rule = Cron { expression: "0 9 * * *".into(), zone: String::new(), times: 0, then };
    let ids: Vec<_> = (0..20).map(|_| rig.repeat(Rule::Cron(rule.clone()))).collect();
    rig.pass(HOUR);
    let in_one = u64::from(limits::RUNS_PER_STEP_MAX / (limits::REPEAT_MAX + 5));
    assert_eq!(rig.stat("runs_total"), in_one);
    let ran = |rig: &mut Rig| ids.iter().map(|id| rig.status(*id).attempts).collect::<Vec<_>>();
    assert!(ran(&mut rig).windows(2).all(|two| two[0] >= two[1]), "the first go first");
    rig.pass(1);
    rig.pass(1);
    assert_eq!(ran(&mut rig), [1; 20]);
    rig.pass(1);
    assert_eq!(rig.stat("scheduled"), 20 + 20 * u64::from(limits::REPEAT_MAX + 1) - 20);
    assert_eq!(rig.stat("ready"), 20);
    rig.check_replay();
}

/// Goal: a zone that is gone ends no schedule. Method: a calendar that fails, and later does not.
#[test]
fn a_schedule_that_cannot_be_planned_waits() {
    let start = ms("2027-01-01T08:00:00Z");
    let mut rig = rig_at(start);
    let id = rig.repeat(cron("0 9 * * *", ""));
    rig.engine.plan_with(|_, _| Err(Code::BadSchedule.into()));
    rig.pass(HOUR);
    assert_eq!(rig.copies().len(), 1, "this one was planned");
    assert_eq!((rig.status(id).state, rig.status(id).due_ms), (State::Scheduled, 0));
    rig.pass(HOUR);
    assert_eq!(rig.stat("plans_failed_total"), 2);
    rig.engine.plan_with(crate::calendar::next);
    rig.pass(HOUR);
    assert_eq!(rig.status(id).due_ms, ms("2027-01-02T09:00:00Z"));
    assert!(rig.copies().is_empty());
    rig.pass(21 * HOUR + HOUR);
    assert_eq!(rig.copies().len(), 1);
    rig.check_replay();
}

/// Goal: no run is lost or doubled by a restart or a flush at any step. Method: the same walk with
/// nothing, a restart, a flush, and half a flush after every step.
#[test]
fn runs_are_exact_whatever_happens_in_between() {
    let start = ms("2027-01-01T08:00:00Z");
    let walk = |between: &dyn Fn(&mut Rig, u64)| {
        let mut rig = rig_at(start);
        rig.repeat(every(7 * MINUTE, 5));
        rig.repeat(cron("*/10 * * * *", ""));
        let then = Some(Then { delay_ms: 0, period_ms: 90_000, repeat: 2 });
        let rule = Cron { expression: "5 8 * * *".into(), zone: String::new(), times: 0, then };
        rig.repeat(Rule::Cron(rule));
        let mut runs = Vec::new();
        for step in 0..60 {
            rig.pass(MINUTE);
            runs.extend(rig.copies().iter().map(|_| rig.now.wall_ms - start));
            between(&mut rig, step);
            invariants::check(&rig.engine, &rig.root);
        }
        rig.check_replay();
        rig.check_flushes(1);
        runs
    };
    let plain = walk(&|_, _| {});
    assert_eq!(plain.len(), 5 + 6 + 3);
    let restart = |rig: &mut Rig, _| {
        rig.restart(0);
        rig.step(vec![(A, subscribe(1, Q, 1_000))]);
    };
    assert_eq!(walk(&restart), plain);
    assert_eq!(walk(&|rig, _| rig.flush()), plain);
    let halves = |rig: &mut Rig, step| {
        if step % 3 == 0 { rig.freeze() } else { rig.switch() }
    };
    assert_eq!(walk(&halves), plain);
}

#[derive(Debug, Clone)]
enum Op {
    Every { period_s: u64, times: u32, delay: Option<u64> },
    Cron { minutes: u64, repeat: u32 },
    Cancel(usize),
    Reschedule(usize, u64),
    Publish(u64),
    Pass(u64),
    Wall(i64),
    Freeze,
    Switch,
    Restart(u64),
    Purge,
    Delete,
    Restrict(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (1u64..100, 0u32..4, proptest::option::of(0u64..5_000))
            .prop_map(|(period_s, times, delay)| Op::Every { period_s, times, delay }),
        2 => (1u64..30, 0u32..4).prop_map(|(minutes, repeat)| Op::Cron { minutes, repeat }),
        2 => (0usize..50).prop_map(Op::Cancel),
        2 => (0usize..50, 0u64..200_000).prop_map(|(at, ms)| Op::Reschedule(at, ms)),
        1 => (0u64..5_000).prop_map(Op::Publish),
        8 => prop_oneof![0u64..50, 0u64..200_000, 0u64..10_000_000].prop_map(Op::Pass),
        1 => (-5_000_000i64..5_000_000).prop_map(Op::Wall),
        2 => Just(Op::Freeze),
        2 => Just(Op::Switch),
        1 => (0u64..500_000).prop_map(Op::Restart),
        1 => Just(Op::Purge),
        1 => Just(Op::Delete),
        1 => (0u64..6).prop_map(Op::Restrict),
    ]
}

/// Schedules and what must be true of them: by how much their runs so far may grow in one step.
fn walk(ops: &[Op]) -> Rig {
    let mut rig = rig_at(START);
    let mut ids: Vec<MessageId> = Vec::new();
    for op in ops {
        let name = Bytes::from_static(Q.as_bytes());
        let pick = |at: usize| ids.get(at % ids.len().max(1)).copied();
        match *op {
            Op::Every { period_s, times, delay } => {
                let delay = delay.map_or(Delay::None, |ms| Delay::After(ms as i64));
                let message = Message::new("x").with_delay(delay);
                ids.extend(rig.try_repeat(every(period_s * 1_000, times), message).ok());
            }
            Op::Cron { minutes, repeat } => {
                let expression = format!("*/{minutes} * * * *");
                let then = Some(Then { delay_ms: 5_000, period_ms: 20_000, repeat });
                let rule = Cron { expression, zone: String::new(), times: 0, then };
                ids.extend(rig.try_repeat(Rule::Cron(rule), Message::new("x")).ok());
            }
            Op::Cancel(at) => {
                let Some(id) = pick(at) else { continue };
                let (done, state) = rig.verdict(Command::Cancel { ids: vec![id] });
                assert!(done || state != State::Scheduled);
            }
            Op::Reschedule(at, ms) => {
                let Some(id) = pick(at) else { continue };
                let items = vec![(id, Delay::After(ms as i64))];
                rig.ask(Command::Reschedule { items });
            }
            Op::Publish(ms) => drop(rig.try_publish(Q, after(ms as i64))),
            Op::Pass(ms) => rig.pass(ms),
            Op::Wall(ms) => {
                let Now { mono_ms, wall_ms, .. } = rig.now;
                let wall_ms = wall_ms.saturating_add_signed(ms);
                rig.now = rig.now.then(mono_ms + 1, wall_ms, rig.engine.pace());
                rig.step(vec![]);
            }
            Op::Freeze => rig.freeze(),
            Op::Switch => rig.switch(),
            Op::Restart(ms) => {
                rig.restart(ms);
                rig.step(vec![(A, subscribe(1, Q, 1_000))]);
            }
            Op::Purge => drop(rig.ask(Command::PurgeDestination { name, scheduled: true })),
            Op::Delete => {
                rig.ask(Command::DeleteDestination { name });
                rig.step(vec![(A, subscribe(1, Q, 1_000))]);
            }
            Op::Restrict(max) => {
                let max_messages = Some(max);
                rig.ask(Command::LimitDestination { name, max_messages, max_age_ms: None });
            }
        }
        // What came are copies and messages, never a schedule.
        for copy in rig.copies() {
            assert!(!ids.contains(&copy.id), "a schedule was delivered");
            Content::decode(&copy.content).unwrap();
            assert!(copy.due_ms <= rig.now.mono_ms.max(rig.now.wall_ms), "early");
        }
        invariants::check(&rig.engine, &rig.root);
    }
    rig
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Goal: replay equals live, and the state does not depend on flushes, with schedules of all kinds and
    /// clocks that step. Method: random walks.
    #[test]
    fn replay_equals_live_with_schedules(ops in proptest::collection::vec(op(), 1..80)) {
        let rig = walk(&ops);
        rig.check_replay();
        rig.check_flushes(3);
    }

    /// Goal: a batch that an operator has left out harms no schedule: it runs again, and nothing panics.
    /// Method: each batch of a random walk left out, and some more time.
    #[test]
    fn a_batch_left_out_breaks_no_schedule(ops in proptest::collection::vec(op(), 1..40)) {
        let rig = walk(&ops);
        for at in 0..rig.batches() {
            let mut engine = rig.replayed_without(at);
            engine.finish_replay();
            let mut rig = rig.with_engine(engine);
            rig.lossy = true;
            for _ in 0..3 {
                rig.pass(1);
                rig.pass(200_000);
                rig.flush();
            }
        }
    }
}
