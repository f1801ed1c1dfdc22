//! Destination names: what is legal, and what kind a name denotes.

use crate::base::error::{ClientError, Code};
use crate::base::limits;
use crate::base::pattern;

/// What a destination does with its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `/queue/x`: each message to one consumer.
    Queue,
    /// `/topic/x`: a stream, every subscriber sees every message.
    Topic,
    /// `/dlq/…`: dead letters of another destination; behaves like a queue.
    DeadLetter,
    /// `/temp-queue/x`: a queue of one session, gone with it. It has no dead letters.
    Temporary,
    /// `/user/U/queue/x`: what user U gets, kept as a topic is; each device and session has its own copy.
    Inbox,
}

impl Kind {
    /// Whether each message goes to one consumer.
    #[must_use]
    pub fn is_queue(self) -> bool {
        !matches!(self, Self::Topic | Self::Inbox)
    }

    /// Whether it belongs to one session.
    #[must_use]
    pub fn is_owned(self) -> bool {
        matches!(self, Self::Temporary)
    }

    /// The word used in answers.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Topic => "topic",
            Self::DeadLetter => "dead letter queue",
            Self::Temporary => "temporary queue",
            Self::Inbox => "inbox",
        }
    }
}

/// Checks a destination name and tells its kind.
///
/// # Errors
/// [`Code::BadDestination`] when the name is empty, too long, not UTF-8, holds control characters
/// or blanks, has an empty path part or a wildcard, or has an unknown prefix.
pub fn parse(name: &[u8]) -> Result<(&str, Kind), ClientError> {
    let bad = |why: String| ClientError::new(Code::BadDestination, why);
    let text = std::str::from_utf8(name)
        .map_err(|_| bad("the destination is not UTF-8; use a name like /queue/orders".into()))?;
    if text.is_empty() {
        return Err(bad("the destination is empty; use a name like /queue/orders".into()));
    }
    // The dead letters of the longest name must have a legal name too.
    let counted = text.strip_prefix(DEAD_LETTER_PREFIX).unwrap_or(text).len();
    let max = limits::DESTINATION_BYTES_MAX;
    if counted > max {
        return Err(bad(format!("the destination has {counted} bytes; at most {max} are allowed")));
    }
    let Some((kind, rest)) = split(text) else {
        return Err(bad(
            "a destination begins with /queue/, /topic/, /user/, /temp-queue/ or /dlq/".into(),
        ));
    };
    let parts = || rest.split('/');
    if kind == Kind::Inbox && (parts().nth(1) != Some("queue") || parts().nth(2).is_none()) {
        return Err(bad("an inbox has a name like /user/anna/queue/news".into()));
    }
    if pattern::has_wildcard(rest) {
        return Err(bad(format!(
            "{text} has a wildcard (*, > or #) as a part; it can only be subscribed to, under /topic/"
        )));
    }
    if parts().any(str::is_empty) {
        return Err(bad("the destination has an empty part; use a name like /queue/orders".into()));
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(bad("the destination holds a blank or a control character".into()));
    }
    Ok((text, kind))
}

/// The kind a name denotes by its prefix, without judging the rest of it.
#[must_use]
pub fn kind_of(name: &str) -> Option<Kind> {
    split(name).map(|(kind, _)| kind)
}

fn split(name: &str) -> Option<(Kind, &str)> {
    [
        ("/queue/", Kind::Queue),
        ("/topic/", Kind::Topic),
        ("/dlq/", Kind::DeadLetter),
        ("/user/", Kind::Inbox),
        ("/temp-queue/", Kind::Temporary),
    ]
    .into_iter()
    .find_map(|(prefix, kind)| Some((kind, name.strip_prefix(prefix)?)))
}

/// What the name of a destination of dead letters begins with; that of the other one follows.
pub const DEAD_LETTER_PREFIX: &str = "/dlq";

/// Name of the destination that takes the dead letters of `name`.
#[must_use]
pub fn dead_letter_name(name: &str) -> String {
    format!("{DEAD_LETTER_PREFIX}{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_their_kinds() {
        assert_eq!(parse(b"/queue/a").unwrap(), ("/queue/a", Kind::Queue));
        assert_eq!(parse(b"/topic/a/b.c").unwrap(), ("/topic/a/b.c", Kind::Topic));
        assert_eq!(parse(b"/dlq/queue/a").unwrap().1, Kind::DeadLetter);
        assert_eq!(parse(b"/temp-queue/a/b").unwrap().1, Kind::Temporary);
        assert_eq!(parse(b"/user/a%2Fb/queue/c/d").unwrap().1, Kind::Inbox);
        assert_eq!(parse(b"/topic/a*/b>.c#").unwrap().1, Kind::Topic);
        let longest = format!("/queue/{}", "x".repeat(limits::DESTINATION_BYTES_MAX - 7));
        assert!(parse(longest.as_bytes()).is_ok());
        assert!(parse(dead_letter_name(&longest).as_bytes()).is_ok());
        let long = format!("{longest}x");
        let bad: [&[u8]; 17] = [
            b"/user/a",
            b"/user/a/queue",
            b"/user//queue/b",
            b"/user/a/topic/b",
            b"/temp-queue/",
            b"/topic/a.*",
            b"/queue/>/a",
            b"/user/#/queue/a",
            b"",
            b"queue/a",
            b"/queue/",
            b"/queue",
            b"/queue/a//b",
            b"/queue/a b",
            b"/queue/a\n",
            b"/queue/\xff",
            long.as_bytes(),
        ];
        for name in bad {
            assert_eq!(parse(name).unwrap_err().code, Code::BadDestination);
        }
    }
}
