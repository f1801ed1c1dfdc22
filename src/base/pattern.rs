//! Names with wildcards: one subscription for many topics.
//!
//! The parts of a topic's name are divided by `.` and `/` alike. In a pattern
//!
//! - `*` stands for exactly one part,
//! - `>` as the last part for one or more,
//! - `#` as the last part for any number of parts, also for none.
//!
//! So `/topic/a.>` takes `/topic/a.b` and `/topic/a/b.c`, and `/topic/a.#` takes `/topic/a`, too.

use crate::base::destination;
use crate::base::error::{ClientError, Code};

/// What every topic's name begins with.
const PREFIX: &str = "/topic/";

/// A pattern over the names of topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Part>,
    first: Box<str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Word(Box<str>),
    /// Exactly one.
    One,
    /// The last: at least so many.
    Rest(usize),
}

fn parts(rest: &str) -> impl Iterator<Item = &str> {
    rest.split(['.', '/'])
}

fn is_wildcard(part: &str) -> bool {
    matches!(part, "*" | ">" | "#")
}

/// Whether a name, or the rest of one, has a wildcard as a part.
#[must_use]
pub fn has_wildcard(rest: &str) -> bool {
    parts(rest).any(is_wildcard)
}

impl Pattern {
    /// The pattern that a name stands for; `None` when it is no pattern.
    ///
    /// # Errors
    /// [`Code::BadDestination`] when it is a pattern, and not under `/topic/`, has `>` or `#` before its
    /// last part, or is otherwise no legal name.
    pub fn parse(name: &[u8]) -> Result<Option<Self>, ClientError> {
        let Ok(text) = std::str::from_utf8(name) else { return Ok(None) };
        if !has_wildcard(text) {
            return Ok(None);
        }
        let bad = |why: &str| ClientError::new(Code::BadDestination, format!("{text}: {why}"));
        let rest = text.strip_prefix(PREFIX);
        let rest = rest.ok_or_else(|| bad("wildcards are for topics only, as in /topic/a.*"))?;
        // With a word in place of each wildcard it has to be a legal name.
        let mut plain = String::from(PREFIX);
        plain.extend(rest.split_inclusive(['.', '/']).map(|part| {
            let own = part.trim_end_matches(['.', '/']);
            if is_wildcard(own) { part.replace(own, "x") } else { part.to_owned() }
        }));
        destination::parse(plain.as_bytes())?;
        let mut all = Vec::new();
        for part in parts(rest) {
            if matches!(all.last(), Some(Part::Rest(_))) {
                return Err(bad("> and # are possible as the last part only"));
            }
            all.push(match part {
                "*" => Part::One,
                ">" => Part::Rest(1),
                "#" => Part::Rest(0),
                word => Part::Word(word.into()),
            });
        }
        let first = match all.first() {
            Some(Part::Word(word)) => format!("{PREFIX}{word}").into(),
            _ => PREFIX.into(),
        };
        Ok(Some(Self { parts: all, first }))
    }

    /// What the names of all topics that it takes begin with.
    #[must_use]
    pub fn first(&self) -> &str {
        &self.first
    }

    /// Whether it takes the topic with this name.
    #[must_use]
    pub fn takes(&self, topic: &str) -> bool {
        let Some(rest) = topic.strip_prefix(PREFIX) else { return false };
        let mut words = parts(rest);
        for part in &self.parts {
            let fits = match part {
                Part::Word(own) => words.next() == Some(own),
                Part::One => words.next().is_some(),
                Part::Rest(least) => return words.count() >= *least,
            };
            if !fits {
                return false;
            }
        }
        words.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn each_wildcard_takes_what_it_should() {
        let cases: [(&str, &[&str], &[&str]); 6] = [
            ("/topic/a.*", &["a.b", "a/b", "a.*b"], &["a", "a.b.c", "b.a", "a."]),
            ("/topic/*.b", &["a.b", "x/b"], &["b", "a.b.b"]),
            ("/topic/a.>", &["a.b", "a/b.c"], &["a", "b.a"]),
            ("/topic/a.#", &["a", "a.b", "a.b/c"], &["b", "ab"]),
            ("/topic/#", &["a", "a.b"], &[]),
            ("/topic/*/x/>", &["a.x.b", "b/x/y/z"], &["a.x", "x.x"]),
        ];
        for (text, yes, no) in cases {
            let pattern = pattern(text);
            for name in yes {
                assert!(pattern.takes(&format!("/topic/{name}")), "{text} {name}");
            }
            // An empty part is a part, too.
            for name in no.iter().filter(|name| !name.ends_with('.')) {
                assert!(!pattern.takes(&format!("/topic/{name}")), "{text} {name}");
            }
            for name in yes {
                assert!(format!("/topic/{name}").starts_with(pattern.first()));
            }
            assert!(!pattern.takes("/queue/a.b") && !pattern.takes("/user/a/queue/b"));
        }
    }

    #[test]
    fn what_is_no_pattern_is_told_apart() {
        for plain in ["/topic/a", "/topic/a*", "/queue/>>", "/topic/a.b#"] {
            assert_eq!(Pattern::parse(plain.as_bytes()), Ok(None));
        }
        assert_eq!(Pattern::parse(b"/topic/\xff*"), Ok(None), "refused as a name, later");
        let bad = [
            "/queue/*",
            "/topic/>.a",
            "/topic/#/>",
            "/topic/a b.*",
            "/topic/a//*",
            "*",
            "/user/*/queue/a",
        ];
        for text in bad {
            let refused = Pattern::parse(text.as_bytes()).unwrap_err();
            assert_eq!(refused.code, Code::BadDestination, "{text}");
        }
        let long = format!("/topic/{}.*", "x".repeat(300));
        assert!(Pattern::parse(long.as_bytes()).is_err());
    }
}
