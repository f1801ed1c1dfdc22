//! Recurring schedules: by which rule a message comes again, and how a schedule is kept.
//!
//! A schedule is a scheduled message whose content has a *plan* in front. When its time comes, it is not
//! delivered: a copy of what follows the plan is published, and the schedule gets its next time.
//!
//! ```text
//! rule := 1 | period_ms u64 | times u32
//!       | 2 | times u32 | expression text | zone text | then flag | [delay_ms u64 | period_ms u64 | repeat u32]
//! text := length u16 | bytes
//! plan := planned_ms u64 | runs u32 | expires_after_ms u64 | rule_len u16 | rule
//! ```
//! Big-endian, as everything in a message's content.

use crate::base::error::{ClientError, Code};
use crate::base::limits;
use crate::base::time::DELAY_MAX_MS;

/// The header that every copy has in front of its others: the id of its schedule.
pub const SCHEDULE_HEADER: &str = "scheduled-job-id";

/// A planned time that is not known yet, ms: later than any other.
pub const NOT_PLANNED_MS: u64 = u64::MAX;

const KIND_EVERY: u8 = 1;
const KIND_CRON: u8 = 2;

/// By which rule a message comes again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// At the message's delay, and then once every period. Without a delay, first after one period.
    Every {
        /// Time from one planned run to the next, ms; see [`limits::PERIOD_RANGE_MS`].
        period_ms: u64,
        /// How many runs in all; 0 for ever.
        times: u32,
    },
    /// Whenever the wall clock matches an expression.
    Cron(Cron),
}

/// A rule of the calendar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    /// Five fields (minute, hour, day of month, month, day of week), or six with seconds in front.
    pub expression: String,
    /// Name of the time zone in the IANA database; empty for UTC.
    pub zone: String,
    /// How many runs in all; 0 for ever.
    pub times: u32,
    /// What each run publishes, if not one message at once.
    pub then: Option<Then>,
}

/// Messages that one run of a [`Cron`] publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Then {
    /// From the run to the first, ms.
    pub delay_ms: u64,
    /// From each to the next, ms.
    pub period_ms: u64,
    /// How many follow the first; at most [`limits::REPEAT_MAX`].
    pub repeat: u32,
}

/// Tells when a cron rule comes next after a time on the wall clock, both ms since the Unix epoch. It is
/// handed to the engine, which knows neither calendar nor time zones.
///
/// # Errors
/// [`Code::BadSchedule`] for a rule that has no meaning or never comes.
pub type Planner = fn(&Cron, u64) -> Result<u64, ClientError>;

/// The copies of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copies {
    /// How many; at least one.
    pub count: u32,
    /// From the run to the first, ms.
    pub delay_ms: u64,
    /// From each to the next, ms.
    pub step_ms: u64,
}

impl Rule {
    /// How many runs in all; 0 for ever.
    #[must_use]
    pub fn times(&self) -> u32 {
        match self {
            Self::Every { times, .. } => *times,
            Self::Cron(cron) => cron.times,
        }
    }

    /// What one run publishes.
    #[must_use]
    pub fn copies(&self) -> Copies {
        match self {
            Self::Cron(Cron { then: Some(then), .. }) => Copies {
                count: then.repeat.saturating_add(1),
                delay_ms: then.delay_ms,
                step_ms: then.period_ms,
            },
            _ => Copies { count: 1, delay_ms: 0, step_ms: 0 },
        }
    }

    /// Judges the numbers of a rule, for a message with so many bytes of content. Whether an expression
    /// or a zone has a meaning is for the [`Planner`] to say.
    ///
    /// # Errors
    /// [`Code::BadSchedule`], with what is allowed.
    pub fn check(&self, content_bytes: usize) -> Result<(), ClientError> {
        let cron = match self {
            Self::Every { period_ms, .. } => return check_period(*period_ms),
            Self::Cron(cron) => cron,
        };
        let longest = limits::SCHEDULE_TEXT_BYTES_MAX;
        if cron.expression.len() > longest || cron.zone.len() > longest {
            return bad(format!("an expression or a zone has more than {longest} bytes"));
        }
        let Some(Then { delay_ms, period_ms, repeat }) = cron.then else { return Ok(()) };
        if repeat > limits::REPEAT_MAX {
            let most = limits::REPEAT_MAX;
            return bad(format!("a run repeats {repeat} times; at most {most} are allowed"));
        }
        if repeat > 0 {
            check_period(period_ms)?;
        }
        let last_ms = period_ms.saturating_mul(u64::from(repeat)).saturating_add(delay_ms);
        if last_ms > DELAY_MAX_MS {
            return bad(format!(
                "the last message of a run is due {last_ms} ms after it; at most 40 days \
                 ({DELAY_MAX_MS} ms) are allowed"
            ));
        }
        let (bytes, most) = (content_bytes * (repeat as usize + 1), limits::RUN_BYTES_MAX);
        if bytes > most {
            return bad(format!(
                "a run publishes {bytes} bytes; at most {most} are allowed, so repeat less"
            ));
        }
        Ok(())
    }

    /// Appends the encoded rule. Texts are cut at 65 535 bytes: [`Self::check`] refuses much shorter ones.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Every { period_ms, times } => {
                out.push(KIND_EVERY);
                out.extend_from_slice(&period_ms.to_be_bytes());
                out.extend_from_slice(&times.to_be_bytes());
            }
            Self::Cron(Cron { expression, zone, times, then }) => {
                out.push(KIND_CRON);
                out.extend_from_slice(&times.to_be_bytes());
                for text in [expression, zone] {
                    let text = &text.as_bytes()[..text.len().min(usize::from(u16::MAX))];
                    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
                    out.extend_from_slice(text);
                }
                out.push(u8::from(then.is_some()));
                if let Some(Then { delay_ms, period_ms, repeat }) = then {
                    out.extend_from_slice(&delay_ms.to_be_bytes());
                    out.extend_from_slice(&period_ms.to_be_bytes());
                    out.extend_from_slice(&repeat.to_be_bytes());
                }
            }
        }
    }

    /// Takes a rule off `rest`. `None`: there is none, and `rest` is unspecified.
    #[must_use]
    pub fn take(rest: &mut &[u8]) -> Option<Self> {
        let [kind] = array(rest)?;
        match kind {
            KIND_EVERY => Some(Self::Every { period_ms: u64_of(rest)?, times: u32_of(rest)? }),
            KIND_CRON => {
                let times = u32_of(rest)?;
                let (expression, zone) = (text_of(rest)?, text_of(rest)?);
                let then = match array(rest)? {
                    [0] => None,
                    [1] => Some(Then {
                        delay_ms: u64_of(rest)?,
                        period_ms: u64_of(rest)?,
                        repeat: u32_of(rest)?,
                    }),
                    _ => return None,
                };
                Some(Self::Cron(Cron { expression, zone, times, then }))
            }
            _ => None,
        }
    }
}

fn check_period(period_ms: u64) -> Result<(), ClientError> {
    let range = limits::PERIOD_RANGE_MS;
    if !range.contains(&period_ms) {
        let (least, most) = (range.start(), range.end());
        return bad(format!("a period of {period_ms} ms; {least} to {most} ms are allowed"));
    }
    Ok(())
}

fn bad<T>(text: String) -> Result<T, ClientError> {
    Err(ClientError::new(Code::BadSchedule, text))
}

/// What stands in front of a schedule's content: where it is and how it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan<'a> {
    /// When the next run is planned, ms, on the clock that judges the schedule's due time. It may lie
    /// behind the due time: then nothing is published there, and it is planned again.
    pub planned_ms: u64,
    /// Runs so far.
    pub runs: u32,
    /// Time to live of each copy from its due time, ms; 0 for ever.
    pub expires_after_ms: u64,
    /// The encoded rule.
    pub rule: &'a [u8],
    /// The content of the copies.
    pub content: &'a [u8],
}

/// What a plan has beside its rule and content, bytes.
pub const PLAN_BYTES: usize = 22;

impl<'a> Plan<'a> {
    /// Appends a plan with its content.
    pub fn encode(&self, out: &mut Vec<u8>) {
        debug_assert!(self.rule.len() <= usize::from(u16::MAX));
        out.extend_from_slice(&self.planned_ms.to_be_bytes());
        out.extend_from_slice(&self.runs.to_be_bytes());
        out.extend_from_slice(&self.expires_after_ms.to_be_bytes());
        out.extend_from_slice(&(self.rule.len() as u16).to_be_bytes());
        out.extend_from_slice(self.rule);
        out.extend_from_slice(self.content);
    }

    /// The plan in front of a schedule's content. `None`: there is none.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        let (planned_ms, runs) = (u64_of(&mut rest)?, u32_of(&mut rest)?);
        let expires_after_ms = u64_of(&mut rest)?;
        let len = u16::from_be_bytes(array(&mut rest)?);
        let (rule, content) = rest.split_at_checked(usize::from(len))?;
        Some(Self { planned_ms, runs, expires_after_ms, rule, content })
    }

    /// Its rule. `None`: it is none.
    #[must_use]
    pub fn parse_rule(&self) -> Option<Rule> {
        let mut rest = self.rule;
        Rule::take(&mut rest).filter(|_| rest.is_empty())
    }
}

/// Writes down another planned time and number of runs. Bytes without a plan stay as they are.
pub fn set_plan(bytes: &mut [u8], planned_ms: u64, runs: u32) {
    if let Some(head) = bytes.first_chunk_mut::<12>() {
        head[..8].copy_from_slice(&planned_ms.to_be_bytes());
        head[8..].copy_from_slice(&runs.to_be_bytes());
    }
}

/// The content of the copies of a schedule: the same with the id of the schedule as first header. `None`:
/// what is given is not a content.
#[must_use]
pub fn with_schedule_header(content: &[u8], id: &str) -> Option<Vec<u8>> {
    let (key_len, rest) = content.split_first_chunk::<2>()?;
    let (key, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*key_len)))?;
    let (count, rest) = rest.split_first_chunk::<2>()?;
    let count = u16::from_be_bytes(*count).checked_add(1)?;
    let mut out = Vec::with_capacity(content.len() + 4 + SCHEDULE_HEADER.len() + id.len());
    out.extend_from_slice(key_len);
    out.extend_from_slice(key);
    out.extend_from_slice(&count.to_be_bytes());
    for text in [SCHEDULE_HEADER, id] {
        out.extend_from_slice(&(text.len() as u16).to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    out.extend_from_slice(rest);
    Some(out)
}

fn array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn u32_of(rest: &mut &[u8]) -> Option<u32> {
    array(rest).map(u32::from_be_bytes)
}

fn u64_of(rest: &mut &[u8]) -> Option<u64> {
    array(rest).map(u64::from_be_bytes)
}

fn text_of(rest: &mut &[u8]) -> Option<String> {
    let len = u16::from_be_bytes(array(rest)?);
    let (text, tail) = rest.split_at_checked(usize::from(len))?;
    *rest = tail;
    Some(std::str::from_utf8(text).ok()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::content::Content;

    fn cron(then: Option<Then>) -> Rule {
        let (expression, zone) = ("0 9 * * 1-5".into(), "Europe/Berlin".into());
        Rule::Cron(Cron { expression, zone, times: 7, then })
    }

    /// Goal: a plan is read as it was written, and no cut of it is one with the same rule. Method: one of
    /// each kind of rule.
    #[test]
    fn plans_round_trip() {
        let then = Then { delay_ms: 1, period_ms: 2_000, repeat: 3 };
        for rule in [Rule::Every { period_ms: 5_000, times: 3 }, cron(None), cron(Some(then))] {
            let mut encoded = Vec::new();
            rule.encode(&mut encoded);
            let plan = Plan {
                planned_ms: 11,
                runs: 12,
                expires_after_ms: 13,
                rule: &encoded,
                content: b"what",
            };
            let mut bytes = Vec::new();
            plan.encode(&mut bytes);
            assert_eq!(bytes.len(), PLAN_BYTES + encoded.len() + 4);
            assert_eq!(Plan::of(&bytes), Some(plan));
            assert_eq!(plan.parse_rule(), Some(rule));
            let mut later = bytes.clone();
            set_plan(&mut later, 21, 22);
            assert_eq!(Plan::of(&later), Some(Plan { planned_ms: 21, runs: 22, ..plan }));
            for cut in 0..PLAN_BYTES + encoded.len() {
                assert_eq!(Plan::of(&bytes[..cut]), None);
            }
            for cut in 0..encoded.len() {
                assert_eq!(Rule::take(&mut &encoded[..cut]), None);
            }
            let longer = [&encoded[..], &[0]].concat();
            assert_eq!(Plan { rule: &longer, ..plan }.parse_rule(), None, "one byte more");
        }
        assert_eq!(Rule::take(&mut &[3; 40][..]), None);
    }

    /// Goal: each number has its ends, exactly. Method: the last that is allowed and the next.
    #[test]
    fn numbers_of_a_rule_have_ends() {
        let every = |period_ms| Rule::Every { period_ms, times: 0 }.check(0).is_ok();
        assert!(every(1_000) && every(DELAY_MAX_MS));
        assert!(!every(999) && !every(DELAY_MAX_MS + 1) && !every(0));
        let then = |delay_ms, period_ms, repeat, bytes| {
            cron(Some(Then { delay_ms, period_ms, repeat })).check(bytes).is_ok()
        };
        assert!(then(DELAY_MAX_MS, 0, 0, limits::RUN_BYTES_MAX));
        assert!(!then(DELAY_MAX_MS + 1, 0, 0, 0) && !then(0, 0, 0, limits::RUN_BYTES_MAX + 1));
        assert!(then(0, 1_000, limits::REPEAT_MAX, 8_000));
        assert!(!then(0, 999, 1, 0) && !then(0, 1_000, limits::REPEAT_MAX + 1, 0));
        assert!(!then(0, 1_000, limits::REPEAT_MAX, 9_000), "bytes of all copies count");
        assert!(then(1, DELAY_MAX_MS - 1, 1, 0) && !then(2, DELAY_MAX_MS - 1, 1, 0));
        assert!(!then(u64::MAX, u64::MAX, 1, 0));
        let long = "*".repeat(limits::SCHEDULE_TEXT_BYTES_MAX + 1);
        let rule = Cron { expression: String::new(), zone: long, times: 0, then: None };
        assert_eq!(Rule::Cron(rule).check(0).unwrap_err().code, Code::BadSchedule);
    }

    /// Goal: a copy has the id of its schedule in front, and is otherwise what was given. Method: with and
    /// without key and headers; cuts are no contents.
    #[test]
    fn the_header_comes_first() {
        let headers = vec![("a".to_owned(), "b".to_owned())];
        let content = Content { key: "k".into(), headers, body: b"body".to_vec() };
        for content in [content, Content::of_body("x")] {
            let mut bytes = Vec::new();
            content.encode(&mut bytes).unwrap();
            let with = Content::decode(&with_schedule_header(&bytes, "ID").unwrap()).unwrap();
            assert_eq!(with.headers[0], (SCHEDULE_HEADER.to_owned(), "ID".to_owned()));
            assert_eq!(with.headers[1..], content.headers);
            assert_eq!((with.key, with.body), (content.key, content.body));
        }
        assert_eq!(with_schedule_header(&[0, 1, b'k', 0], "ID"), None);
    }
}
