//! A STOMP session: whatever comes, it stays within its bounds, and what it writes can be read.

use std::sync::Arc;

use postdate::base::command::{Answer, Command, Delivery, Outgoing, Produced, Verdict};
use postdate::base::error::{ClientError, Code};
use postdate::base::id::MessageId;
use postdate::base::lifecycle::State;
use postdate::base::limits;
use postdate::base::message::Message;
use postdate::wire::stomp::session::{Ending, Moment, Session, Settings};
use postdate::wire::stomp::{self, Decoder, Frame, Limits, Version};

const GENEROUS: Limits =
    Limits { headers: 200, header_line_bytes: 1 << 20, header_bytes: 1 << 20, body_bytes: 2 << 20 };

/// The first byte says in which pieces the stream comes, the second how it is answered; the rest is the
/// stream. Tells how many frames came out.
pub fn stomp(data: &[u8]) -> usize {
    let [piece, mood, stream @ ..] = data else { return 0 };
    let mut run = Run::new(*mood);
    for bytes in stream.chunks(usize::from(*piece).max(1)) {
        run.session.receive(bytes, run.now);
        run.turn();
    }
    run.session.leave(Code::ShuttingDown.into());
    run.turn();
    run.turn();
    assert!(run.session.ending().is_some(), "everything is answered, so it has ended");
    run.frames
}

struct Run {
    session: Session,
    now: Moment,
    mood: u8,
    version: Version,
    subscriptions: Vec<u32>,
    delivered: u64,
    frames: usize,
}

impl Run {
    fn new(mood: u8) -> Self {
        let now = Moment { mono_ms: 0, wall_ms: 1_700_000_000_000 };
        let session = Session::new(Arc::new(Settings::default()), "0123456789abcdef", now);
        let subscriptions = Vec::new();
        Self { session, now, mood, version: Version::V10, subscriptions, delivered: 0, frames: 0 }
    }

    /// Everything that has a say, once.
    fn turn(&mut self) {
        if self.session.take_credentials().is_some() {
            if self.mood & 1 == 0 {
                self.session.admit("alice", self.now);
            } else {
                self.session.turn_away(Code::NotAllowed.into());
            }
        }
        for (tag, command) in self.session.take_commands() {
            let answer = self.answer(command);
            self.session.hear(Outgoing::Answer { tag, answer }, self.now);
        }
        for number in self.subscriptions.clone() {
            self.delivered += 1;
            let delivery = delivery(number, self.delivered);
            self.session.hear(Outgoing::Deliver(delivery), self.now);
        }
        self.read();
        if self.mood & 2 == 0 {
            self.session.written();
        }
        self.now.mono_ms += u64::from(self.mood) * 10;
        self.session.tick(self.now);
    }

    fn answer(&mut self, command: Command) -> Answer {
        if self.mood & 4 != 0 && self.delivered > 3 {
            return Answer::Failed(ClientError::from(Code::DiskFull));
        }
        match command {
            Command::Produce { batch, .. } => {
                assert!(batch.count() <= limits::BATCH_ITEMS_MAX);
                let one = |n| Ok(Produced { id: id(n), duplicate: false });
                Answer::Produced((1..=batch.count() as u64).map(one).collect())
            }
            Command::Subscribe(wish) => {
                assert!((1..=limits::CREDIT_MAX).contains(&wish.credit));
                self.subscriptions.push(wish.subscription);
                Answer::Subscribed { next_offset: 1 }
            }
            Command::Unsubscribe { subscription, .. } => {
                assert!(self.subscriptions.contains(&subscription), "it was subscribed to");
                self.subscriptions.retain(|other| *other != subscription);
                Answer::Done
            }
            Command::Acknowledge { ids, .. }
            | Command::Reject { ids, .. }
            | Command::Cancel { ids } => {
                assert!((1..=limits::BATCH_ITEMS_MAX).contains(&ids.len()));
                let one = |id| Verdict { id, done: true, state: State::Acknowledged, due_ms: 0 };
                Answer::Verdicts(ids.into_iter().map(one).collect())
            }
            _ => Answer::Done,
        }
    }

    /// Reads what was written as a client would.
    fn read(&mut self) {
        let ended = self.session.ending();
        let frames = self.session.take_frames(self.now);
        let last = frames.len();
        for (index, bytes) in frames.into_iter().enumerate() {
            if bytes[..] == *b"\n" {
                continue;
            }
            let mut decoder = Decoder::new(GENEROUS);
            decoder.agree(self.version, GENEROUS);
            decoder.push(&bytes);
            let frame = decoder.next().expect("a frame that can be read").expect("a whole one");
            assert_eq!(decoder.next(), Ok(None), "one and no more");
            self.frames += 1;
            self.judge(&frame);
            let says_last = frame.command == stomp::Command::Error;
            assert!(!says_last || index + 1 == last && ended == Some(Ending::Error));
        }
    }

    fn judge(&mut self, frame: &Frame) {
        match frame.command {
            stomp::Command::Connected => {
                let version = frame.get("version").expect("CONNECTED has a version");
                self.version = Version::agreed(Some(version)).expect("one that there is");
            }
            stomp::Command::Message => {
                assert!(frame.get("message-id").is_some() && frame.get("redelivered").is_some());
            }
            stomp::Command::Receipt => assert!(frame.get("receipt-id").is_some()),
            stomp::Command::Error => assert!(frame.get("message").is_some()),
            other => panic!("a server does not say {other:?}"),
        }
    }
}

fn id(n: u64) -> MessageId {
    MessageId::new(1_700_000_000_000, 0, n)
}

fn delivery(subscription: u32, n: u64) -> Delivery {
    let mut content = Vec::new();
    let message = Message::new("body").with_header("a", "1:2");
    message.content.encode(&mut content).expect("a good message");
    let content = content.into();
    Delivery {
        subscription,
        id: id(n),
        due_ms: 1_700_000_000_000,
        attempt: 1,
        offset: n,
        priority: 4,
        by_pattern: n.is_multiple_of(2),
        destination: "/topic/a.b".into(),
        content,
    }
}

/// A stream of every client frame, in a version.
pub fn seed(version: &str, piece: u8, mood: u8) -> Vec<u8> {
    let mut out = vec![piece, mood];
    let ack = match version {
        "1.2" => "id:1-01HF7YAT0000000000000000001-1",
        _ => "message-id:01HF7YAT000000000000000001\nsubscription:s",
    };
    let stream = format!(
        "CONNECT\naccept-version:{version}\nheart-beat:1000,0\nlogin:alice\nclient-id:c\n\n\0\n\
         SUBSCRIBE\nid:s\ndestination:/queue/a\nack:client\nprefetch-count:3\nreceipt:1\n\n\0\
         SUBSCRIBE\nid:t\ndestination:/topic/a.*\nfrom:earliest\n\n\0\
         SEND\ndestination:/queue/a\ndelay:5m\npriority:9\ndedup-id:d\nkey:k\nreceipt:2\nx:y\n\nhello\0\r\n\
         SEND\ndestination:/user/bob/queue/a\ncontent-length:3\nexpires:1700000000500\nreply-to:/temp-queue/r\n\n\0\0\0\0\
         BEGIN\ntransaction:x\n\n\0\
         SEND\ndestination:/topic/a.b\ntransaction:x\nAMQ_SCHEDULED_DELAY:70\n\n1\0\
         ACK\n{ack}\ntransaction:x\nreceipt:3\n\n\0\
         COMMIT\ntransaction:x\nreceipt:4\n\n\0\
         NACK\n{ack}\nrequeue:false\n\n\0\
         UNSUBSCRIBE\nid:t\ndestination:/topic/a.*\n\n\0\
         DISCONNECT\nreceipt:5\n\n\0"
    );
    out.extend_from_slice(stream.as_bytes());
    out
}
