//! The words of the protocol, written and read as `docs/protocol.md` says.
#![allow(dead_code, reason = "each test uses its part")]

use crate::rig::{Id, Refusal};

/// A body being written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Out(pub(crate) Vec<u8>);

impl Out {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u8(self, value: u8) -> Self {
        self.bytes(&[value])
    }

    pub(crate) fn u16(self, value: u16) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(crate) fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(crate) fn i64(self, value: i64) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(crate) fn text(self, text: &str) -> Self {
        self.raw_text(text.as_bytes())
    }

    /// A text that may not be UTF-8.
    pub(crate) fn raw_text(self, text: &[u8]) -> Self {
        self.u16(text.len() as u16).bytes(text)
    }

    pub(crate) fn ids(self, ids: &[Id]) -> Self {
        self.u32(ids.len() as u32).bytes(&ids.concat())
    }
}

/// A body being read; what is missing fails the test.
pub(crate) struct In<'a>(pub(crate) &'a [u8]);

impl<'a> In<'a> {
    pub(crate) fn take(&mut self, len: usize) -> &'a [u8] {
        let (field, rest) = self.0.split_at_checked(len).expect("the server's body is cut");
        self.0 = rest;
        field
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().unwrap()
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    pub(crate) fn id(&mut self) -> Id {
        self.array()
    }

    pub(crate) fn text(&mut self) -> String {
        let len = usize::from(self.u16());
        String::from_utf8(self.take(len).to_vec()).unwrap()
    }

    pub(crate) fn error(&mut self) -> Refusal {
        (self.u16(), self.text())
    }

    pub(crate) fn end(&self) {
        assert!(self.0.is_empty(), "the server's body has {} bytes too many", self.0.len());
    }
}

fn many<T>(body: &[u8], one: impl Fn(&mut In<'_>) -> T) -> Vec<T> {
    let mut body = In(body);
    let all = (0..body.u32()).map(|_| one(&mut body)).collect();
    body.end();
    all
}

/// A message to produce.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) priority: u8,
    /// Kind and value; kind 0 writes no value.
    pub(crate) delay: (u8, i64),
    pub(crate) expires_after_ms: Option<u64>,
    /// Written even when it is empty.
    pub(crate) dedup: Option<Vec<u8>>,
    pub(crate) key: Vec<u8>,
    pub(crate) headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn new(body: impl Into<Vec<u8>>) -> Self {
        Self {
            priority: 4,
            delay: (0, 0),
            expires_after_ms: None,
            dedup: None,
            key: Vec::new(),
            headers: Vec::new(),
            body: body.into(),
        }
    }

    pub(crate) fn level(self, level: i64) -> Self {
        Self { delay: (1, level), ..self }
    }

    pub(crate) fn after(self, ms: i64) -> Self {
        Self { delay: (2, ms), ..self }
    }

    pub(crate) fn at(self, ms: i64) -> Self {
        Self { delay: (3, ms), ..self }
    }

    pub(crate) fn priority(self, priority: u8) -> Self {
        Self { priority, ..self }
    }

    pub(crate) fn dedup(self, id: impl Into<Vec<u8>>) -> Self {
        Self { dedup: Some(id.into()), ..self }
    }

    pub(crate) fn expires(self, ms: u64) -> Self {
        Self { expires_after_ms: Some(ms), ..self }
    }

    pub(crate) fn key(self, key: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), ..self }
    }

    pub(crate) fn header(mut self, name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn content(&self) -> Vec<u8> {
        let mut out = Out::new().raw_text(&self.key).u16(self.headers.len() as u16);
        for (name, value) in &self.headers {
            out = out.raw_text(name).raw_text(value);
        }
        out.bytes(&self.body).0
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let expires = self.expires_after_ms.map_or(0, |_| 1);
        let dedup = self.dedup.as_ref().map_or(0, |_| 2);
        let (kind, value) = self.delay;
        let mut out = Out::new().u8(expires | dedup).u8(self.priority).u8(kind);
        if kind != 0 {
            out = out.i64(value);
        }
        if let Some(ms) = self.expires_after_ms {
            out = out.u64(ms);
        }
        if let Some(id) = &self.dedup {
            out = out.u8(id.len() as u8).bytes(id);
        }
        let content = self.content();
        out.u32(content.len() as u32).bytes(&content).0
    }

    /// The body of a produce.
    pub(crate) fn produce(to: &[u8], messages: &[Self]) -> Vec<u8> {
        let mut out = Out::new().raw_text(to).u32(messages.len() as u32);
        for message in messages {
            out = out.bytes(&message.bytes());
        }
        out.0
    }
}

/// What became of one message of a produce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accepted(Id),
    Duplicate(Id),
    Refused(Refusal),
}

impl Outcome {
    pub(crate) fn read_all(body: &[u8]) -> Vec<Self> {
        many(body, |body| match body.u8() {
            0 => Self::Accepted(body.id()),
            1 => Self::Duplicate(body.id()),
            2 => Self::Refused(body.error()),
            other => panic!("a result of {other}"),
        })
    }

    /// The id of an accepted message.
    pub(crate) fn id(&self) -> Id {
        match self {
            Self::Accepted(id) => *id,
            other => panic!("not accepted: {other:?}"),
        }
    }

    /// The code of a refused one.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Self::Refused((code, text)) => {
                assert!(!text.is_empty() && text.len() <= 512);
                Some(*code)
            }
            _ => None,
        }
    }
}

/// What became of one message of an acknowledge, reject, cancel or reschedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) id: Id,
    pub(crate) done: bool,
    pub(crate) state: u8,
    pub(crate) due_ms: u64,
}

impl Verdict {
    pub(crate) fn read_all(body: &[u8]) -> Vec<Self> {
        many(body, |body| {
            let (id, done, state, due_ms) = (body.id(), body.u8(), body.u8(), body.u64());
            assert!(done <= 1, "a flag of {done}");
            Self { id, done: done == 1, state, due_ms }
        })
    }
}

/// The answer about one message of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) id: Id,
    pub(crate) state: u8,
    pub(crate) destination: String,
    pub(crate) due_ms: u64,
    pub(crate) attempts: u32,
    pub(crate) recurring: u8,
}

impl Status {
    pub(crate) fn read(body: &mut In<'_>) -> Self {
        Self {
            id: body.id(),
            state: body.u8(),
            destination: body.text(),
            due_ms: body.u64(),
            attempts: body.u32(),
            recurring: body.u8(),
        }
    }

    pub(crate) fn read_all(body: &[u8]) -> Vec<Self> {
        many(body, Self::read)
    }
}

/// A delivered message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) subscription: u32,
    pub(crate) id: Id,
    pub(crate) due_ms: u64,
    pub(crate) attempt: u32,
    pub(crate) offset: u64,
    pub(crate) priority: u8,
    pub(crate) content: Vec<u8>,
}

impl Delivery {
    pub(crate) fn read(body: &mut In<'_>) -> Self {
        let (subscription, id, due_ms) = (body.u32(), body.id(), body.u64());
        let (attempt, offset, priority) = (body.u32(), body.u64(), body.u8());
        let len = body.u32() as usize;
        let content = body.take(len).to_vec();
        Self { subscription, id, due_ms, attempt, offset, priority, content }
    }

    pub(crate) fn read_all(body: &[u8]) -> Vec<Self> {
        many(body, Self::read)
    }

    /// The body of a message without key and headers.
    pub(crate) fn body(&self) -> &[u8] {
        let mut content = In(&self.content);
        assert_eq!((content.u16(), content.u16()), (0, 0));
        content.0
    }
}

/// A described destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Info {
    pub(crate) name: String,
    pub(crate) kind: u8,
    pub(crate) scheduled: u64,
    pub(crate) ready: u64,
    pub(crate) in_flight: u64,
    pub(crate) consumers: u64,
    pub(crate) next_offset: u64,
    pub(crate) unread: u64,
    pub(crate) paused: bool,
    pub(crate) max_messages: u64,
    pub(crate) max_age_ms: u64,
}

impl Info {
    pub(crate) fn read(body: &[u8]) -> Self {
        let mut body = In(body);
        let info = Self {
            name: body.text(),
            kind: body.u8(),
            scheduled: body.u64(),
            ready: body.u64(),
            in_flight: body.u64(),
            consumers: body.u64(),
            next_offset: body.u64(),
            unread: body.u64(),
            paused: body.u8() == 1,
            max_messages: body.u64(),
            max_age_ms: body.u64(),
        };
        body.end();
        info
    }
}
