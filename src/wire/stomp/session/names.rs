//! Destinations as clients name them, and as the engine does.
//!
//! | client | engine |
//! |---|---|
//! | `/queue/x`, `/topic/x`, `/dlq/…` | the same |
//! | `/user/queue/x` | `/user/NAME/queue/x`, with the name of the session's user |
//! | `/user/NAME/queue/x` | the same, for SEND; for SUBSCRIBE only with one's own name |
//! | `/temp-queue/x` | `/temp-queue/SESSION.x`: a queue of the session |

use std::borrow::Cow;

use crate::base::error::{ClientError, Code};

const USER: &str = "/user/";
const TEMPORARY: &str = "/temp-queue/";

/// Who a session is, for the names that depend on it.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// Letters and digits.
    session: Box<str>,
    /// The user's name as it stands in destinations.
    user: Box<str>,
}

impl Names {
    pub(super) fn new(session: &str, user: &str) -> Self {
        Self { session: session.into(), user: part(user).into() }
    }

    /// Where a message to `name` goes.
    pub(super) fn target<'a>(&self, name: &'a str) -> Result<Cow<'a, str>, ClientError> {
        if let Some(rest) = name.strip_prefix(USER) {
            return self.inbox(name, rest).map(|(_, inbox)| Cow::Owned(inbox));
        }
        Ok(self.temporary(name).map_or(Cow::Borrowed(name), Cow::Owned))
    }

    /// What a subscription of `name` reads.
    pub(super) fn source<'a>(&self, name: &'a str) -> Result<Cow<'a, str>, ClientError> {
        let Some(rest) = name.strip_prefix(USER) else { return self.target(name) };
        let (user, inbox) = self.inbox(name, rest)?;
        if user != *self.user {
            let why = format!("{name} is the inbox of another user; subscribe to /user/queue/...");
            return Err(ClientError::new(Code::BadDestination, why));
        }
        Ok(Cow::Owned(inbox))
    }

    /// What a temporary queue of this session is called for everybody else: it can be sent to by this name.
    pub(super) fn temporary(&self, name: &str) -> Option<String> {
        let rest = name.strip_prefix(TEMPORARY)?;
        // One that has a session's name in front already was told to somebody.
        let told = rest.split_once('.').is_some_and(|(session, _)| is_session(session));
        Some(if told { name.to_owned() } else { format!("{TEMPORARY}{}.{rest}", self.session) })
    }

    /// The user of an inbox and its name: `/user/queue/x` is one's own.
    fn inbox(&self, name: &str, rest: &str) -> Result<(String, String), ClientError> {
        let (user, queue) = match rest.split_once('/') {
            Some((user, queue)) if is_queue(queue) => (part(&unpart(user)), queue),
            _ if is_queue(rest) => (self.user.to_string(), rest),
            _ => {
                let why = format!("{name} is no inbox; use /user/queue/x, or /user/NAME/queue/x");
                return Err(ClientError::new(Code::BadDestination, why));
            }
        };
        let inbox = format!("{USER}{user}/{queue}");
        Ok((user, inbox))
    }

    /// The user's name as it stands in destinations.
    pub(super) fn user(&self) -> &str {
        &self.user
    }
}

/// Bytes of a session's name, hexadecimal digits.
pub const SESSION_NAME_LEN: usize = 16;

fn is_session(text: &str) -> bool {
    text.len() == SESSION_NAME_LEN && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_queue(path: &str) -> bool {
    path.strip_prefix("queue/").is_some_and(|name| !name.is_empty())
}

/// A name as one part of a path: what would divide it, or be illegal in it, is percent-encoded.
pub(super) fn part(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        if matches!(c, '/' | '%' | '*' | '>' | '#') || c.is_whitespace() || c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                out.push_str(&format!("%{byte:02X}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// A part of a path as the name it stands for. What is no escape stays as it is.
fn unpart(part: &str) -> String {
    let mut out = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| byte == b'%');
        let code =
            code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        out.push(code.unwrap_or(byte));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(out).unwrap_or_else(|_| part.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &str = "0123456789abcdef";

    /// Goal: names lead where the table says. Method: one case a row, and what is none.
    #[test]
    fn names_lead_where_the_table_says() {
        let names = Names::new(SESSION, "alice");
        let target = |name| names.target(name).map(Cow::into_owned).map_err(|error| error.code);
        let source = |name| names.source(name).map(Cow::into_owned).map_err(|error| error.code);
        let same = |name: &str| Ok(name.to_owned());
        for name in ["/queue/a", "/queue/a/b/c", "/topic/a.*", "/dlq/queue/a", "whatever"] {
            assert_eq!((target(name), source(name)), (same(name), same(name)));
        }
        assert_eq!(target("/user/queue/x"), same("/user/alice/queue/x"));
        assert_eq!(source("/user/queue/x"), same("/user/alice/queue/x"));
        assert_eq!(target("/user/bob/queue/x/y"), same("/user/bob/queue/x/y"));
        assert_eq!(
            target("/user/queue/queue/x"),
            same("/user/queue/queue/x"),
            "a user called queue"
        );
        assert_eq!(source("/user/alice/queue/x"), same("/user/alice/queue/x"));
        assert_eq!(source("/user/bob/queue/x"), Err(Code::BadDestination), "another's");
        for name in ["/user/", "/user/bob", "/user/bob/queue/", "/user/queue/", "/user/bob/topic/x"]
        {
            assert_eq!(target(name), Err(Code::BadDestination), "{name}");
        }
        let own = format!("/temp-queue/{SESSION}.x");
        assert_eq!((target("/temp-queue/x"), source("/temp-queue/x")), (same(&own), same(&own)));
        assert_eq!(target(&own), same(&own), "as it was told to others");
        let other = "/temp-queue/fedcba9876543210.x";
        assert_eq!(target(other), same(other), "an answer to another session");
    }

    /// Goal: any user name is one part of a path, and each its own. Method: names that hold what divides.
    #[test]
    fn a_name_is_one_part_of_a_path() {
        for name in ["alice", "a/b", "a%2Fb", "a b", "ü", "100%", "*", "a\nb", "%", "%zz"] {
            let part = part(name);
            assert!(!part.contains(['/', ' ', '\n', '*']), "{part}");
            assert_eq!(unpart(&part), name);
        }
        let names = Names::new(SESSION, "a/b");
        assert_eq!(names.source("/user/queue/x").unwrap(), "/user/a%2Fb/queue/x");
        assert_eq!(names.source("/user/a%2fb/queue/x").unwrap(), "/user/a%2Fb/queue/x");
        assert!(names.source("/user/a%252Fb/queue/x").is_err(), "that is another");
    }
}
