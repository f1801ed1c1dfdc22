//! The session against scripts: what a client says and the engine answers on one side, what is asked and
//! written on the other. No socket, no clock.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::base::command::{
    Answer, Command as Ask, Delivery, Produced, StartAt, Subscribe, Verdict,
};
use crate::base::content::Content;
use crate::base::lifecycle::State;
use crate::base::message::Delay;

const NAME: &str = "0123456789abcdef";

/// A session, and what came out of it.
struct Rig {
    session: Session,
    now: Moment,
    version: Version,
}

impl Rig {
    fn new() -> Self {
        let now = Moment { mono_ms: 0, wall_ms: 1_000_000 };
        let session = Session::new(Arc::new(Settings::default()), NAME, now);
        Self { session, now, version: Version::V10 }
    }

    /// Connected as alice.
    fn open(version: Version) -> Self {
        Self::open_with(version, "client-id:phone\n")
    }

    fn open_with(version: Version, headers: &str) -> Self {
        let mut rig = Self::new();
        rig.say(&format!("CONNECT\naccept-version:{}\n{headers}\n\0", version.as_str()));
        rig.admit("alice");
        assert_eq!(rig.frame().command, Command::Connected);
        rig
    }

    fn admit(&mut self, user: &str) {
        assert!(self.session.take_credentials().is_some());
        self.session.admit(user, self.now);
    }

    fn say(&mut self, text: &str) {
        self.session.receive(text.as_bytes(), self.now);
    }

    fn hear(&mut self, outgoing: Outgoing) {
        self.session.hear(outgoing, self.now);
    }

    fn answer(&mut self, tag: u64, answer: Answer) {
        self.hear(Outgoing::Answer { tag, answer });
    }

    fn asked(&mut self) -> Vec<(u64, Ask)> {
        self.session.take_commands()
    }

    /// The only thing asked.
    fn ask(&mut self) -> (u64, Ask) {
        let mut asked = self.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked.remove(0)
    }

    /// Everything is done as asked.
    fn answer_all(&mut self) {
        for (tag, command) in self.asked() {
            let answer = match command {
                Ask::Produce { batch, .. } => Answer::Produced(
                    (1..=batch.count() as u64)
                        .map(|n| Ok(Produced { id: id(n), duplicate: false }))
                        .collect(),
                ),
                Ask::Subscribe(_) => Answer::Subscribed { next_offset: 1 },
                Ask::Acknowledge { ids, .. } | Ask::Reject { ids, .. } | Ask::Cancel { ids } => {
                    Answer::Verdicts(
                        ids.into_iter()
                            .map(|id| Verdict {
                                id,
                                done: true,
                                state: State::Acknowledged,
                                due_ms: 0,
                            })
                            .collect(),
                    )
                }
                _ => Answer::Done,
            };
            self.answer(tag, answer);
        }
    }

    fn bytes(&mut self) -> Vec<Bytes> {
        self.session.take_frames(self.now)
    }

    fn frames(&mut self) -> Vec<Frame> {
        if self.session.version > self.version {
            self.version = self.session.version;
        }
        let mut decoder = Decoder::new(KNOWN);
        decoder.agree(self.version, KNOWN);
        self.bytes()
            .into_iter()
            .map(|bytes| {
                decoder.push(&bytes);
                let frame = decoder.next().unwrap().expect("one whole frame");
                assert_eq!(decoder.next(), Ok(None), "and not more");
                frame
            })
            .collect()
    }

    /// The only frame that came out.
    fn frame(&mut self) -> Frame {
        let mut frames = self.frames();
        assert_eq!(frames.len(), 1, "{frames:?}");
        frames.remove(0)
    }

    /// The ERROR that ended it.
    fn error(&mut self) -> Frame {
        let mut frames = self.frames();
        let error = frames.pop().expect("an ERROR");
        assert_eq!(error.command, Command::Error, "{error:?}");
        assert_eq!(self.session.ending(), Some(Ending::Error));
        error
    }

    fn subscribe(&mut self, headers: &str) -> u32 {
        self.say(&format!("SUBSCRIBE\n{headers}\n\n\0"));
        let (tag, command) = self.ask();
        let Ask::Subscribe(wish) = command else { panic!("{command:?}") };
        self.answer(tag, Answer::Subscribed { next_offset: 1 });
        wish.subscription
    }

    fn deliver(&mut self, subscription: u32, n: u64, attempt: u32) -> Frame {
        self.hear(Outgoing::Deliver(delivery(subscription, n, attempt)));
        self.frame()
    }

    /// An ACK or NACK for a message, in the words of the session's version.
    fn settle(&mut self, word: &str, message: &Frame, more: &str) {
        let text = match self.version {
            Version::V12 => format!("{word}\nid:{}\n{more}\n\0", message.get("ack").unwrap()),
            _ => format!(
                "{word}\nmessage-id:{}\nsubscription:{}\n{more}\n\0",
                message.get("message-id").unwrap(),
                message.get("subscription").unwrap_or("-"),
            ),
        };
        self.say(&text);
    }
}

fn id(n: u64) -> MessageId {
    MessageId::new(1_000, 0, n)
}

fn delivery(subscription: u32, n: u64, attempt: u32) -> Delivery {
    let mut content = Vec::new();
    Content {
        key: "k".into(),
        headers: vec![("a:b".into(), "1\n2".into()), ("message-id".into(), "forged".into())],
        body: b"hello".to_vec(),
    }
    .encode(&mut content)
    .unwrap();
    Delivery {
        subscription,
        id: id(n),
        due_ms: 1_000,
        attempt,
        offset: 0,
        priority: 4,
        by_pattern: false,
        destination: "/queue/somewhere".into(),
        content: content.into(),
    }
}

fn acks(command: Ask) -> (u32, Vec<MessageId>) {
    match command {
        Ask::Acknowledge { subscription, ids, cumulative: false } => (subscription, ids),
        other => panic!("{other:?}"),
    }
}

#[test]
fn connected_says_everything_in_every_version() {
    for (accept, version) in
        [("1.0", "1.0"), ("1.2,1.1,1.0", "1.2"), ("1.1, 1.0", "1.1"), ("1.0,1.1,2.0", "1.1")]
    {
        for word in ["CONNECT", "STOMP"] {
            let mut rig = Rig::new();
            rig.say(&format!(
                "{word}\r\naccept-version:{accept}\r\nheart-beat:5000,5000\r\n\r\n\0\n"
            ));
            rig.admit("alice");
            let connected = rig.frame();
            assert_eq!(connected.get("version"), Some(version));
            assert_eq!(connected.get("session"), Some(NAME));
            assert_eq!(connected.get("user-name"), Some("alice"));
            let beats = if version == "1.0" { "0,0" } else { "10000,10000" };
            assert_eq!(connected.get("heart-beat"), Some(beats));
            let server = connected.get("server").unwrap();
            assert!(server.starts_with("postdate/") && !server.contains(' '));
        }
    }
    let mut rig = Rig::new();
    rig.say("CONNECT\n\n\0");
    rig.admit("");
    let connected = rig.frame();
    assert_eq!((connected.get("version"), connected.get("user-name")), (Some("1.0"), None));
}

#[test]
fn no_common_version_is_told_with_those_there_are() {
    let mut rig = Rig::new();
    rig.say("CONNECT\naccept-version:2.0,3\n\n\0");
    let error = rig.error();
    assert_eq!(error.get("version"), Some("1.0,1.1,1.2"));
    assert_eq!(error.get("content-type"), Some("text/plain"));
}

#[test]
fn credentials_are_taken_as_they_are() {
    let mut rig = Rig::new();
    rig.say("CONNECT\naccept-version:1.2\nlogin:al\\cice\npasscode:a:b c\nAuthorization:Bearer xyz\n\n\0");
    let said = rig.session.take_credentials().unwrap();
    assert_eq!(said.login.as_deref(), Some("al\\cice"), "nothing is an escape here");
    assert_eq!((said.passcode.as_deref(), said.token.as_deref()), (Some("a:b c"), Some("xyz")));
    let shown = format!("{said:?}");
    assert!(!shown.contains("xyz") && !shown.contains("a:b"), "{shown}");
    rig.say("SEND\ndestination:/queue/a\n\n\0");
    assert!(rig.asked().is_empty(), "nobody is in yet");
    rig.session.turn_away(Code::NotAllowed.into());
    assert_eq!(rig.error().get("message"), Some("not-allowed"));
}

#[test]
fn frames_wait_for_who_is_looked_at_and_then_count() {
    let mut rig = Rig::new();
    rig.say("CONNECT\naccept-version:1.2\n\n\0SEND\ndestination:/queue/a\n\nhi\0");
    assert!(rig.asked().is_empty());
    rig.admit("alice");
    assert!(matches!(rig.ask().1, Ask::Produce { .. }));
}

#[test]
fn what_comes_out_of_turn_ends_it() {
    let mut first = Rig::new();
    first.say("SEND\ndestination:/queue/a\n\n\0");
    assert_eq!(first.error().get("message"), Some("hello-expected"));
    let mut second = Rig::open(Version::V12);
    second.say("CONNECT\naccept-version:1.2\n\n\0");
    assert_eq!(second.error().get("message"), Some("hello-expected"));
    let mut server = Rig::open(Version::V12);
    server.say("MESSAGE\n\n\0");
    server.error();
    let mut late = Rig::new();
    assert_eq!(late.session.deadline_ms(), Some(10_000));
    late.now.mono_ms = 10_000;
    late.session.tick(late.now);
    assert_eq!(late.error().get("message"), Some("hello-expected"));
    assert_eq!(late.session.deadline_ms(), None);
}

/// Pitfall 12: a CONNECT that never ends, with heart-beats behind it, must not live for ever.
#[test]
fn a_connect_that_never_ends_runs_into_the_deadline_and_a_bound() {
    let mut rig = Rig::new();
    rig.say("CONNECT\naccept-version:1.2\n");
    for _ in 0..100_000 {
        rig.say("\n");
    }
    let kept = rig.session.decoder.kept_bytes();
    assert!(kept < 1_000 || rig.session.ending().is_some(), "{kept} bytes are kept");
    rig.now.mono_ms = 10_000;
    rig.session.tick(rig.now);
    assert_eq!(rig.session.ending(), Some(Ending::Error));
    let mut long = Rig::new();
    long.say(&format!("CONNECT\nlogin:{}", "x".repeat(limits::HELLO_BYTES_MAX)));
    assert_eq!(long.session.ending(), Some(Ending::Error), "a stranger has a small bound");
    let mut body = Rig::new();
    body.say("CONNECT\ncontent-length:1\n\n");
    assert_eq!(body.session.ending(), Some(Ending::Error));
}

#[test]
fn a_message_is_sent_with_what_is_for_others() {
    let mut rig = Rig::open(Version::V12);
    rig.say(
        "SEND\ndestination:/queue/a\nreceipt:r1\npriority:7\ndelay:5s\ndedup-id:d\nkey:k\nx\\cy:1\\n2\n\
         content-type:text/plain\nmessage-id:forged\npersistent:true\ncontent-length:5\n\nhe\0lo\0",
    );
    let (tag, command) = rig.ask();
    let Ask::Produce { destination, batch } = command else { panic!() };
    assert_eq!(destination, "/queue/a");
    let message = batch.iter().next().unwrap();
    assert_eq!((message.priority, message.delay), (7, Delay::After(5_000)));
    assert_eq!(message.dedup, Some(&b"d"[..]));
    let content = Content::decode(message.content).unwrap();
    assert_eq!((content.key.as_str(), &content.body[..]), ("k", &b"he\0lo"[..]));
    let headers: Vec<_> = content.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let kept = [
        ("dedup-id", "d"),
        ("x:y", "1\n2"),
        ("content-type", "text/plain"),
        ("persistent", "true"),
    ];
    assert_eq!(headers, kept);
    rig.answer(tag, Answer::Produced(vec![Ok(Produced { id: id(9), duplicate: true })]));
    let receipt = rig.frame();
    assert_eq!(receipt.get("receipt-id"), Some("r1"));
    assert_eq!(receipt.get("message-id"), Some(&*id(9).to_string()));
    assert_eq!(receipt.get("duplicate"), Some("true"));
}

/// Pitfall 6: each message has its own delay. Pitfall 18: receipts come in the order of the frames.
#[test]
fn sends_go_as_a_batch_and_are_answered_one_by_one_in_order() {
    let mut rig = Rig::open(Version::V12);
    let sends: String = (0..5)
        .map(|n| {
            let to = if n < 3 { "a" } else { "b" };
            format!("SEND\ndestination:/queue/{to}\ndelay:{n}\nreceipt:{n}\n\n{n}\0")
        })
        .collect();
    rig.say(&format!("{sends}DISCONNECT\nreceipt:bye\n\n\0SEND\ndestination:/queue/a\n\n\0"));
    let asked = rig.asked();
    let counts: Vec<_> = asked
        .iter()
        .map(|(_, command)| match command {
            Ask::Produce { batch, .. } => {
                let delays: Vec<_> = batch.iter().map(|message| message.delay).collect();
                assert!(delays.windows(2).all(|pair| pair[0] != pair[1]));
                batch.count()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(counts, [3, 2], "nothing is taken after DISCONNECT");
    let results =
        |count| Answer::Produced(vec![Ok(Produced { id: id(1), duplicate: false }); count]);
    rig.answer(asked[1].0, results(2));
    assert!(rig.frames().is_empty(), "the first are not done");
    assert_eq!(rig.session.ending(), None);
    rig.answer(asked[0].0, results(3));
    let receipts: Vec<_> =
        rig.frames().iter().map(|frame| frame.get("receipt-id").unwrap().to_owned()).collect();
    assert_eq!(receipts, ["0", "1", "2", "3", "4", "bye"]);
    assert_eq!(rig.session.ending(), Some(Ending::Goodbye));
}

#[test]
fn a_message_that_is_refused_ends_it_with_its_receipt() {
    let mut rig = Rig::open(Version::V12);
    for n in 0..3 {
        rig.say(&format!("SEND\ndestination:/queue/a\nreceipt:{n}\n\n\0"));
    }
    let (tag, _) = rig.ask();
    let good = Ok(Produced { id: id(1), duplicate: false });
    let bad = Err(Box::new(ClientError::from(Code::DiskFull)));
    rig.answer(tag, Answer::Produced(vec![good.clone(), bad, good]));
    let frames = rig.frames();
    assert_eq!(frames.len(), 2);
    assert_eq!((frames[0].command, frames[0].get("receipt-id")), (Command::Receipt, Some("0")));
    assert_eq!((frames[1].command, frames[1].get("receipt-id")), (Command::Error, Some("1")));
    assert_eq!((frames[1].get("message"), frames[1].get("code")), (Some("disk-full"), Some("60")));
    assert!(!frames[1].body.is_empty());
}

#[test]
fn bad_frames_are_told_what_is_wrong_after_what_was_before() {
    let cases = [
        ("SEND\n\nhi\0", "malformed"),
        ("SEND\ndestination:/queue/a\ndelay:x\n\n\0", "bad-delay"),
        ("SEND\ndestination:/queue/a\npriority:10\n\n\0", "bad-priority"),
        ("SEND\ndestination:/queue/a\npriority:high\n\n\0", "bad-priority"),
        ("SEND\ndestination:/queue/a\ndedup-id:\n\n\0", "bad-dedup-id"),
        ("SEND\ndestination:/user/x\n\n\0", "bad-destination"),
        ("SEND\ndestination:/queue/a\ncontent-length:x\n\n\0", "malformed"),
        ("SUBSCRIBE\nid:1\n\n\0", "malformed"),
        ("SUBSCRIBE\ndestination:/queue/a\n\n\0", "malformed"),
        ("SUBSCRIBE\ndestination:/queue/a\nid:1\nack:never\n\n\0", "bad-header"),
        ("SUBSCRIBE\ndestination:/queue/a\nid:1\nselector:a > 1\n\n\0", "bad-header"),
        ("SUBSCRIBE\ndestination:/queue/a\nid:1\nbrowser:true\n\n\0", "bad-header"),
        ("SUBSCRIBE\ndestination:/queue/a\nid:1\nprefetch-count:x\n\n\0", "bad-credit"),
        ("SUBSCRIBE\ndestination:/topic/a\nid:1\nfrom:there\n\n\0", "bad-header"),
        ("SUBSCRIBE\ndestination:/topic/a\nid:1\ndurable:yes\n\n\0", "bad-header"),
        ("SUBSCRIBE\ndestination:/queue/a\nid:1\nactivemq.subscriptionName:x\n\n\0", "wrong-kind"),
        ("SUBSCRIBE\ndestination:/queue/a\nid:1\nack-timeout:x\n\n\0", "bad-delay"),
        ("SUBSCRIBE\ndestination:/user/bob/queue/a\nid:1\n\n\0", "bad-destination"),
        ("UNSUBSCRIBE\n\n\0", "malformed"),
        ("UNSUBSCRIBE\nid:nobody\n\n\0", "subscription-not-found"),
        ("ACK\n\n\0", "malformed"),
        ("ACK\nmessage-id:00000000000000000000000001\n\n\0", "malformed"),
        ("ACK\nid:undefined\n\n\0", "bad-id"),
        ("NACK\nid:1-00000000000000000000000001-1\nrequeue:maybe\n\n\0", "bad-header"),
        ("NONSENSE\n\n\0", "malformed"),
    ];
    for (text, code) in cases {
        let mut rig = Rig::open(Version::V12);
        rig.say("SEND\ndestination:/queue/a\nreceipt:before\n\n\0");
        let with_receipt = text.replacen("\n\n", "\nreceipt:bad\n\n", 1);
        rig.say(&with_receipt);
        rig.say("SEND\ndestination:/queue/a\n\nafter\0");
        assert!(rig.frames().is_empty(), "{text}");
        assert_eq!(rig.asked().len(), 1, "{text}: what follows is not taken");
        rig.answer(0, Answer::Produced(vec![Ok(Produced { id: id(1), duplicate: false })]));
        let frames = rig.frames();
        assert_eq!(frames[0].get("receipt-id"), Some("before"), "{text}");
        let error = &frames[1];
        assert_eq!((error.command, error.get("message")), (Command::Error, Some(code)), "{text}");
        let carried = !matches!(text, "NONSENSE\n\n\0") && !text.contains("content-length");
        assert_eq!(error.get("receipt-id"), carried.then_some("bad"), "{text}");
        assert_eq!(rig.session.ending(), Some(Ending::Error));
    }
}

#[test]
fn a_subscription_asks_for_what_its_headers_say() {
    let mut rig = Rig::open(Version::V12);
    let mut asks = |headers: &str| {
        rig.say(&format!("SUBSCRIBE\n{headers}\n\n\0"));
        match rig.ask().1 {
            Ask::Subscribe(wish) => wish,
            other => panic!("{other:?}"),
        }
    };
    let plain = Subscribe {
        subscription: 1,
        destination: "/queue/a".into(),
        credit: limits::STOMP_CREDIT_DEFAULT,
        ack_timeout_ms: 0,
        durable: Bytes::new(),
        start: StartAt::Unread,
        shared: false,
    };
    assert_eq!(asks("id:1\ndestination:/queue/a"), plain);
    let wish = asks("id:2\ndestination:/queue/a\nprefetch-count:7\nack-timeout:30s\nselector:");
    assert_eq!((wish.credit, wish.ack_timeout_ms), (7, 30_000));
    assert_eq!(asks("id:3\ndestination:/queue/a\nprefetch-count:0").credit, plain.credit);
    let most = asks("id:4\ndestination:/queue/a\nactivemq.prefetchSize:4000000000").credit;
    assert_eq!(most, limits::CREDIT_MAX);
    assert_eq!(asks("id:5\ndestination:/topic/a\nfrom:earliest").start, StartAt::Earliest);
    assert_eq!(
        asks("id:6\ndestination:/topic/a\nx-stream-offset:offset=9").start,
        StartAt::Offset(9)
    );
    let shared = asks("id:7\ndestination:/topic/a\ndurable:true");
    assert_eq!((&shared.durable[..], shared.shared), (&b"alice//7"[..], true));
    let named = "id:8\ndestination:/topic/a\nactivemq.subscriptionName:n/1";
    assert_eq!(asks(named).durable, "alice/phone/n%2F1", "scoped by user and client");
    let device = asks("id:9\ndestination:/user/queue/x");
    assert_eq!(
        (&device.destination[..], &device.durable[..]),
        (&b"/user/alice/queue/x"[..], &b"phone"[..])
    );
    assert_eq!((device.shared, device.start), (false, StartAt::Unread));
    let temporary = format!("/temp-queue/{NAME}.x");
    assert_eq!(asks("id:10\ndestination:/temp-queue/x").destination, temporary);
    rig.say("SUBSCRIBE\nid:1\ndestination:/queue/b\n\n\0");
    rig.answer_all();
    for tag in 0..10 {
        rig.answer(tag, Answer::Done);
    }
    assert_eq!(rig.error().get("message"), Some("subscription-exists"));
}

#[test]
fn a_message_says_what_it_is_in_every_version() {
    for version in Version::ALL {
        let mut rig = Rig::open(version);
        let number = rig.subscribe("id:s-1\ndestination:/queue/a\nack:client\nreceipt:r");
        assert_eq!(rig.frame().get("receipt-id"), Some("r"), "before any message");
        let message = rig.deliver(number, 5, 1);
        assert_eq!(message.command, Command::Message);
        assert_eq!(message.get("subscription"), Some("s-1"));
        assert_eq!(message.get("destination"), Some("/queue/a"));
        assert_eq!(message.get("message-id"), Some(&*id(5).to_string()), "not the forged one");
        assert_eq!(message.get("redelivered"), Some("false"));
        assert_eq!(message.get("delivery-attempt"), Some("1"));
        assert_eq!(message.get("content-length"), Some("5"));
        assert_eq!((message.get("key"), message.get("priority")), (Some("k"), Some("4")));
        assert_eq!(message.get("offset"), None);
        let odd = (version > Version::V10).then_some("1\n2");
        assert_eq!(message.get("a:b"), odd, "1.0 has no way to say it");
        assert_eq!(&message.body[..], b"hello");
        let again = rig.deliver(number, 5, 2);
        assert_eq!(again.get("message-id"), message.get("message-id"), "the same over redelivery");
        assert_ne!(again.get("ack"), message.get("ack"), "another one for each delivery");
        assert_eq!(again.get("redelivered"), Some("true"));
        let ack = again.get("ack").unwrap();
        assert!(ack.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
        rig.hear(Outgoing::Deliver(Delivery {
            offset: 12,
            by_pattern: true,
            ..delivery(number, 6, 1)
        }));
        let message = rig.frame();
        assert_eq!(message.get("offset"), Some("12"));
        assert_eq!(
            message.get("destination"),
            Some("/queue/somewhere"),
            "of a pattern, where it came from"
        );
    }
}

/// Pitfall 2: which header counts in which version.
#[test]
fn an_acknowledgement_is_found_by_what_its_version_says() {
    for version in Version::ALL {
        let mut rig = Rig::open(version);
        let number = rig.subscribe("id:s\ndestination:/queue/a\nack:client");
        let message = rig.deliver(number, 5, 1);
        rig.settle("ACK", &message, "receipt:r\n");
        let (tag, command) = rig.ask();
        assert_eq!(acks(command), (number, vec![id(5)]));
        assert!(rig.frames().is_empty());
        rig.answer(tag, Answer::Verdicts(vec![]));
        assert_eq!(rig.frame().get("receipt-id"), Some("r"));
        // Again, and one that never was: nothing is asked, nothing breaks.
        rig.settle("ACK", &message, "receipt:r\n");
        let other = delivery(number, 77, 1);
        let never = Frame::new(Command::Message)
            .with("message-id", &other.id.to_string())
            .with("subscription", "s")
            .with("ack", &format!("{number}-{}-1", other.id));
        rig.settle("ACK", &never, "");
        assert_eq!(rig.frame().get("receipt-id"), Some("r"));
        assert!(rig.asked().is_empty());
        assert_eq!(rig.session.ignored_acknowledgements(), 2);
    }
    let mut rig = Rig::open(Version::V11);
    let number = rig.subscribe("id:s\ndestination:/queue/a\nack:client-individual");
    rig.deliver(number, 5, 1);
    rig.say(&format!("ACK\nmessage-id:{}\n\n\0", id(5)));
    assert_eq!(
        acks(rig.ask().1),
        (number, vec![id(5)]),
        "without the subscription, it is the only one"
    );
    // With two of them out, nobody can tell which one it was.
    let other = rig.subscribe("id:t\ndestination:/topic/a\nack:client-individual");
    let third = rig.subscribe("id:u\ndestination:/topic/a\nack:client-individual");
    rig.deliver(other, 6, 1);
    rig.deliver(third, 6, 1);
    rig.say(&format!("ACK\nmessage-id:{}\n\n\0", id(6)));
    assert!(rig.asked().is_empty());
    rig.say(&format!("ACK\nmessage-id:{}\nsubscription:u\n\n\0", id(6)));
    assert_eq!(acks(rig.ask().1), (third, vec![id(6)]));
    let mut old = Rig::open(Version::V10);
    old.say("NACK\nmessage-id:00000000000000000000000001\n\n\0");
    old.error();
}

/// Pitfall 17: a NACK rejects what it names, and `requeue` is heeded.
#[test]
fn client_stands_for_all_before_and_individual_for_itself() {
    for (mode, third, rest) in
        [("client", vec![1, 2, 3], vec![4, 5]), ("client-individual", vec![3], vec![5])]
    {
        for (word, more, reject) in [
            ("ACK", "", None),
            ("NACK", "", Some(true)),
            ("NACK", "requeue:true\n", Some(true)),
            ("NACK", "requeue:false\n", Some(false)),
        ] {
            let mut rig = Rig::open(Version::V12);
            let number = rig.subscribe(&format!("id:s\ndestination:/queue/a\nack:{mode}"));
            let messages: Vec<_> = (1..=5).map(|n| rig.deliver(number, n, 1)).collect();
            for (at, expected) in [(2, &third), (4, &rest)] {
                rig.settle(word, &messages[at], more);
                let expected: Vec<_> = expected.iter().map(|n| id(*n)).collect();
                let asked = match rig.ask().1 {
                    Ask::Acknowledge { subscription, ids, cumulative: false } => {
                        (subscription, ids, None)
                    }
                    Ask::Reject { subscription, ids, requeue } => {
                        (subscription, ids, Some(requeue))
                    }
                    other => panic!("{other:?}"),
                };
                assert_eq!(asked, (number, expected, reject), "{mode} {word} {more}");
            }
        }
    }
    let mut rig = Rig::open(Version::V12);
    let number = rig.subscribe("id:s\ndestination:/topic/a\nack:client-individual");
    let message = rig.deliver(number, 1, 1);
    rig.settle("NACK", &message, "requeue:false\n");
    assert_eq!(acks(rig.ask().1), (number, vec![id(1)]), "of a topic, that is to be done with it");
}

/// Pitfall 3: what is delivered by ack:auto is acknowledged when it is written, and not before.
#[test]
fn auto_is_acknowledged_by_being_written() {
    let mut rig = Rig::open(Version::V12);
    let number = rig.subscribe("id:s\ndestination:/queue/a");
    rig.session.hear(Outgoing::Deliver(delivery(number, 1, 1)), rig.now);
    rig.session.hear(Outgoing::Deliver(delivery(number, 2, 1)), rig.now);
    assert!(rig.asked().is_empty());
    let frames = rig.frames();
    assert_eq!((frames.len(), frames[0].get("ack")), (2, None));
    assert!(rig.asked().is_empty(), "taken is not written");
    rig.session.hear(Outgoing::Deliver(delivery(number, 3, 1)), rig.now);
    rig.session.written();
    assert_eq!(acks(rig.ask().1), (number, vec![id(1), id(2)]), "not the one that came meanwhile");
    rig.frames();
    rig.session.written();
    assert_eq!(acks(rig.ask().1), (number, vec![id(3)]));
    rig.say("ACK\nid:1-00000000000000000000000001-1\n\n\0");
    assert!(rig.asked().is_empty() && rig.session.ending().is_none(), "an ACK of auto is ignored");
}

/// Pitfalls 1 and 18: an ACK before UNSUBSCRIBE is not lost, and one behind it still settles.
#[test]
fn an_acknowledgement_behind_unsubscribe_still_settles() {
    let mut rig = Rig::open(Version::V12);
    let number = rig.subscribe("id:s\ndestination:/queue/a\nack:client-individual");
    let messages: Vec<_> = (1..=3).map(|n| rig.deliver(number, n, 1)).collect();
    rig.settle("ACK", &messages[0], "");
    rig.say("UNSUBSCRIBE\nid:s\nreceipt:u\n\n\0");
    rig.settle("ACK", &messages[1], "");
    let mut asked = rig.asked().into_iter();
    assert_eq!(acks(asked.next().unwrap().1), (number, vec![id(1)]));
    let unsubscribe = asked.next().unwrap();
    assert_eq!(unsubscribe.1, Ask::Unsubscribe { subscription: number, delete: false });
    assert_eq!(acks(asked.next().unwrap().1), (0, vec![id(2)]), "by the message alone");
    rig.hear(Outgoing::Deliver(delivery(number, 4, 1)));
    assert!(rig.frames().is_empty(), "no message after UNSUBSCRIBE");
    // The id is free again, and is another subscription.
    let next = rig.subscribe("id:s\ndestination:/queue/a\nack:client-individual");
    assert_ne!(next, number);
    rig.settle("ACK", &messages[2], "");
    assert_eq!(acks(rig.ask().1), (0, vec![id(3)]));
}

/// Pitfall 1: only one's own durable subscription is deleted, and only when that is said.
#[test]
fn a_durable_subscription_is_deleted_when_unsubscribe_says_so() {
    for (subscribe, unsubscribe, delete) in [
        ("durable:true\n", "", false),
        ("durable:true\n", "durable:true\n", true),
        ("persistent:true\n", "persistent:true\n", true),
        ("durable:true\n", "x-queue-name:another\n", false),
        ("durable-subscription-name:n\n", "durable-subscription-name:n\n", true),
        ("activemq.subscriptionName:n\n", "activemq.subscriptionName:n\n", true),
        ("", "durable:true\n", false),
    ] {
        let mut rig = Rig::open(Version::V12);
        let number = rig.subscribe(&format!("id:s\ndestination:/topic/a\n{subscribe}x:y"));
        rig.say(&format!("UNSUBSCRIBE\nid:s\n{unsubscribe}\n\0"));
        assert_eq!(rig.ask().1, Ask::Unsubscribe { subscription: number, delete }, "{unsubscribe}");
    }
}

#[test]
fn version_1_0_names_a_subscription_by_its_destination() {
    let mut rig = Rig::open(Version::V10);
    let number = rig.subscribe("destination: /queue/a \nack: client");
    let message = rig.deliver(number, 1, 1);
    assert_eq!((message.get("subscription"), message.get("destination")), (None, Some("/queue/a")));
    rig.say(&format!("ACK\nmessage-id:{}\n\n\0", id(1)));
    assert_eq!(acks(rig.ask().1), (number, vec![id(1)]));
    rig.say("UNSUBSCRIBE\ndestination:/queue/a\n\n\0");
    assert_eq!(rig.ask().1, Ask::Unsubscribe { subscription: number, delete: false });
}

/// A reply address that is a temporary queue is made by being named, once, and told so that others can use it.
#[test]
fn a_temporary_reply_queue_is_subscribed_to_by_being_named() {
    let mut rig = Rig::open(Version::V12);
    for _ in 0..2 {
        rig.say("SEND\ndestination:/queue/a\nreply-to:/temp-queue/r\n\n\0");
    }
    let told = format!("/temp-queue/{NAME}.r");
    let asked = rig.asked();
    let (Ask::Subscribe(wish), Ask::Produce { batch, .. }) = (&asked[0].1, &asked[1].1) else {
        panic!("{asked:?}")
    };
    assert_eq!((asked.len(), batch.count(), &wish.destination[..]), (2, 2, told.as_bytes()));
    for message in batch.iter() {
        let content = Content::decode(message.content).unwrap();
        assert_eq!(content.headers, [("reply-to".to_owned(), told.clone())]);
    }
    let number = wish.subscription;
    let reply = rig.deliver(number, 1, 1);
    assert_eq!(reply.get("subscription"), Some("/temp-queue/r"));
    assert_eq!((reply.get("destination"), reply.get("ack")), (Some("/temp-queue/r"), None));
}

#[test]
fn a_schedule_is_cancelled_by_who_knows_another_broker() {
    let mut rig = Rig::open(Version::V12);
    rig.say(&format!(
        "SEND\ndestination:ActiveMQ.Scheduler.Management\nAMQ_SCHEDULER_ACTION:REMOVE\nscheduledJobId:{}\n\
         receipt:r\n\n\0",
        id(4)
    ));
    let (tag, command) = rig.ask();
    assert_eq!(command, Ask::Cancel { ids: vec![id(4)] });
    let verdict = Verdict { id: id(4), done: true, state: State::Cancelled, due_ms: 0 };
    rig.answer(tag, Answer::Verdicts(vec![verdict]));
    assert_eq!(rig.frame().get("state"), Some("cancelled"));
}

/// Pitfall 10: heart-beats are sent when they were promised, and none are needed while frames flow.
#[test]
fn heart_beats_go_both_ways() {
    let mut rig = Rig::open_with(Version::V12, "heart-beat:10000,10000\n");
    assert_eq!(rig.session.deadline_ms(), Some(8_000));
    rig.now.mono_ms = 8_000;
    rig.session.tick(rig.now);
    assert_eq!(rig.bytes(), [Bytes::from_static(b"\n")], "one LF");
    rig.now.mono_ms = 15_999;
    rig.session.tick(rig.now);
    assert!(rig.bytes().is_empty());
    // Anything the client sends is life, a part of a frame too.
    rig.say("SEND\ndest");
    rig.now.mono_ms = 36_998;
    rig.session.tick(rig.now);
    assert_eq!(rig.bytes().len(), 1);
    assert_eq!(rig.session.ending(), None);
    rig.now.mono_ms = 36_999;
    rig.session.tick(rig.now);
    assert!(rig.error().body.starts_with(b"nothing was heard for 21000 ms"));

    let mut silent = Rig::open_with(Version::V12, "heart-beat:0,0\n");
    assert_eq!(silent.session.deadline_ms(), None);
    silent.now.mono_ms = u64::MAX;
    silent.session.tick(silent.now);
    assert_eq!(silent.session.ending(), None, "who promised nothing is not cut (pitfall 19)");
    let mut bad = Rig::new();
    bad.say("CONNECT\naccept-version:1.1\nheart-beat:5000\n\n\0");
    bad.error();
}

#[test]
fn a_session_that_is_owed_much_takes_no_more_until_answered() {
    let mut rig = Rig::open_with(Version::V12, "heart-beat:1,1\n");
    let send = "SEND\ndestination:/queue/a\nreceipt:r\n\n\0";
    let most = limits::REQUESTS_IN_FLIGHT_MAX;
    rig.say(&send.repeat(most + 5));
    assert!(rig.session.is_full());
    let asked = rig.asked();
    let count = |asked: &[(u64, Ask)]| -> usize {
        asked
            .iter()
            .map(|(_, command)| match command {
                Ask::Produce { batch, .. } => batch.count(),
                other => panic!("{other:?}"),
            })
            .sum()
    };
    assert_eq!(count(&asked), most);
    rig.now.mono_ms = 1_000_000;
    rig.session.tick(rig.now);
    assert_eq!(rig.session.ending(), None, "it was not listened to");
    rig.bytes();
    for (tag, command) in asked {
        let Ask::Produce { batch, .. } = command else { panic!() };
        rig.answer(
            tag,
            Answer::Produced(vec![Ok(Produced { id: id(1), duplicate: false }); batch.count()]),
        );
    }
    assert_eq!(rig.frames().len(), most);
    assert!(!rig.session.is_full());
    assert_eq!(count(&rig.asked()), 5, "the rest was not lost");
}

#[test]
fn a_destination_that_goes_ends_the_connection_with_the_reason() {
    let mut rig = Rig::open(Version::V12);
    let number = rig.subscribe("id:s\ndestination:/queue/a");
    let reason = ClientError::new(Code::DestinationNotFound, "the destination was deleted");
    rig.hear(Outgoing::Ended { subscription: number, reason });
    assert!(rig.error().body.starts_with(b"the destination was deleted"));
    let mut rig = Rig::open(Version::V12);
    rig.say("SEND\ndestination:/queue/a\nreceipt:r\n\n\0");
    rig.session.leave(Code::ShuttingDown.into());
    assert!(rig.frames().is_empty(), "what was asked is answered first");
    rig.answer_all();
    let frames = rig.frames();
    assert_eq!(frames[0].get("receipt-id"), Some("r"));
    assert_eq!(frames[1].get("message"), Some("shutting-down"));
    let mut rig = Rig::open(Version::V12);
    rig.say("SEND\ndestination:/queue/a\nreceipt:r\n\n\0");
    rig.session.end(Code::StorageFailed.into());
    assert_eq!(rig.error().get("message"), Some("storage-failed"));
    rig.answer_all();
    assert!(rig.frames().is_empty(), "nothing comes after ERROR");
}

/// Pitfall 14: content-length counts bytes.
#[test]
fn bodies_are_bytes() {
    let mut rig = Rig::open(Version::V12);
    let body = "£ € 😀 x";
    rig.say(&format!("SEND\ndestination:/queue/a\ncontent-length:{}\n\n{body}\0", body.len()));
    let Ask::Produce { batch, .. } = rig.ask().1 else { panic!() };
    let content = Content::decode(batch.iter().next().unwrap().content).unwrap();
    assert_eq!(content.body, body.as_bytes());
}

#[test]
fn a_transaction_is_one_command_at_its_commit() {
    let mut rig = Rig::open(Version::V12);
    let number = rig.subscribe("id:s\ndestination:/queue/in\nack:client");
    let messages: Vec<_> = (1..=3).map(|n| rig.deliver(number, n, 1)).collect();
    rig.say("BEGIN\ntransaction:t\nreceipt:b\n\n\0");
    rig.say("SEND\ndestination:/queue/a\ntransaction:t\nreceipt:1\n\none\0");
    rig.say("SEND\ndestination:/queue/a\ntransaction:t\n\ntwo\0");
    rig.say("SEND\ndestination:/queue/b\ntransaction:t\n\nthree\0");
    rig.settle("ACK", &messages[1], "transaction:t\n");
    rig.settle("NACK", &messages[2], "transaction:t\nrequeue:false\n");
    assert!(rig.asked().is_empty(), "nobody knows of it before COMMIT");
    let receipts: Vec<_> =
        rig.frames().iter().map(|f| f.get("receipt-id").unwrap().to_owned()).collect();
    assert_eq!(receipts, ["b", "1"], "taken, not done");
    rig.say("COMMIT\ntransaction:t\nreceipt:c\n\n\0");
    let (tag, command) = rig.ask();
    let Ask::Transaction { parts } = command else { panic!("{command:?}") };
    let shown: Vec<_> = parts
        .iter()
        .map(|part| match part {
            command::Part::Produce { destination, batch } => {
                format!("{destination:?} {}", batch.count())
            }
            command::Part::Acknowledge { ids, .. } => format!("ack {}", ids.len()),
            command::Part::Reject { ids, requeue, .. } => format!("reject {} {requeue}", ids.len()),
        })
        .collect();
    assert_eq!(shown, ["b\"/queue/a\" 2", "b\"/queue/b\" 1", "ack 2", "reject 1 false"]);
    assert!(rig.frames().is_empty());
    rig.answer(tag, Answer::Transacted(vec![]));
    assert_eq!(rig.frame().get("receipt-id"), Some("c"));
    // The name is free again; what is undone is as if it had not been said.
    let message = rig.deliver(number, 4, 1);
    rig.say("BEGIN\ntransaction:t\n\n\0SEND\ndestination:/queue/a\ntransaction:t\n\n\0");
    rig.settle("ACK", &message, "transaction:t\n");
    rig.say("ABORT\ntransaction:t\nreceipt:a\n\n\0");
    assert_eq!(rig.frame().get("receipt-id"), Some("a"));
    assert!(rig.asked().is_empty());
    rig.settle("ACK", &message, "");
    let (tag, command) = rig.ask();
    assert_eq!(acks(command), (number, vec![id(4)]));
    rig.answer(tag, Answer::Verdicts(vec![]));
    // An empty one is done at once, and one that is refused ends the connection.
    rig.say("BEGIN\ntransaction:t\n\n\0COMMIT\ntransaction:t\nreceipt:e\n\n\0");
    assert_eq!(rig.frame().get("receipt-id"), Some("e"));
    rig.say("BEGIN\ntransaction:t\n\n\0SEND\ndestination:/queue/a\ntransaction:t\n\n\0");
    rig.say("COMMIT\ntransaction:t\nreceipt:f\n\n\0");
    let (tag, _) = rig.ask();
    rig.answer(tag, Answer::Failed(Code::DiskFull.into()));
    assert_eq!(rig.error().get("receipt-id"), Some("f"));
}

#[test]
fn transactions_that_are_not_there_or_too_many_or_too_large_end_it() {
    let many: String = (0..=limits::STOMP_TRANSACTIONS_MAX)
        .map(|n| format!("BEGIN\ntransaction:{n}\n\n\0"))
        .collect();
    let body = "x".repeat(limits::BODY_BYTES_MAX);
    let large = format!("SEND\ndestination:/queue/a\ntransaction:t\n\n{body}\0").repeat(9);
    let cases = [
        ("BEGIN\n\n\0".to_owned(), "malformed"),
        ("BEGIN\ntransaction:t\n\n\0BEGIN\ntransaction:t\n\n\0".to_owned(), "malformed"),
        ("COMMIT\ntransaction:t\n\n\0".to_owned(), "malformed"),
        ("ABORT\ntransaction:t\n\n\0".to_owned(), "malformed"),
        ("SEND\ndestination:/queue/a\ntransaction:t\n\n\0".to_owned(), "malformed"),
        ("ACK\nid:1-00000000000000000000000001-1\ntransaction:t\n\n\0".to_owned(), "malformed"),
        (many, "malformed"),
        (format!("BEGIN\ntransaction:t\n\n\0{large}"), "bad-batch"),
        (
            "BEGIN\ntransaction:t\n\n\0SEND\ndestination:/queue/a\ntransaction:t\nperiod:5s\n\n\0"
                .to_owned(),
            "bad-schedule",
        ),
    ];
    for (text, code) in cases {
        let mut rig = Rig::open(Version::V12);
        rig.say(&text);
        assert!(rig.asked().is_empty());
        assert_eq!(rig.error().get("message"), Some(code), "{:.80}", text);
    }
}

#[test]
fn a_recurring_schedule_is_asked_for_and_its_runs_say_whose_they_are() {
    let mut rig = Rig::open(Version::V12);
    rig.say(
        "SEND\ndestination:/queue/a\nperiod:5s\nreceipt:r\nscheduled-job-id:forged\nx:y\n\nhi\0",
    );
    let (tag, command) = rig.ask();
    let Ask::Repeat { destination, batch, .. } = command else { panic!("{command:?}") };
    assert_eq!((&destination[..], batch.count()), (&b"/queue/a"[..], 1));
    let content = Content::decode(batch.iter().next().unwrap().content).unwrap();
    assert_eq!(content.headers, [("x".to_owned(), "y".to_owned())]);
    rig.answer(tag, Answer::Produced(vec![Ok(Produced { id: id(3), duplicate: false })]));
    assert_eq!(rig.frame().get("message-id"), Some(&*id(3).to_string()));
    let number = rig.subscribe("id:s\ndestination:/queue/a");
    let mut content = Vec::new();
    let header = (crate::base::recur::SCHEDULE_HEADER.to_owned(), id(3).to_string());
    Content { headers: vec![header], ..Content::default() }.encode(&mut content).unwrap();
    rig.hear(Outgoing::Deliver(Delivery { content: content.into(), ..delivery(number, 9, 1) }));
    assert_eq!(rig.frame().get("scheduledJobId"), Some(&*id(3).to_string()));
}

/// Over what carries text only, no byte of a body is lost: one that is no text is in base 64, and says so.
#[test]
fn bodies_that_are_no_text_are_carried_as_text() {
    let mut rig = Rig::open(Version::V12);
    rig.session.write_text_only();
    let number = rig.subscribe("id:s\ndestination:/queue/a");
    for (body, expected, encoding) in
        [(&b"\xff\0"[..], &b"/wA="[..], Some("base64")), (b"text", b"text", None)]
    {
        let mut content = Vec::new();
        Content::of_body(body).encode(&mut content).unwrap();
        let delivery = Delivery { content: content.into(), ..delivery(number, 1, 1) };
        rig.hear(Outgoing::Deliver(delivery));
        let message = rig.frame();
        assert_eq!((&message.body[..], message.get("body-encoding")), (expected, encoding));
    }
}

const SCRIPT: &str = "CONNECT\naccept-version:1.1,1.2\nheart-beat:0,0\n\n\0\n\
    SUBSCRIBE\nid:0\ndestination:/queue/a\nack:client\n\n\0\
    SEND\ndestination:/queue/a\nreceipt:1\nx\\cy:z\n\nhello\0\r\n\
    SEND\ndestination:/queue/b\ncontent-length:3\n\n\0\0\0\0\
    ACK\nid:1-00000000000000000000000001-1\nreceipt:2\n\n\0\
    UNSUBSCRIBE\nid:0\n\n\0\0\n\
    DISCONNECT\nreceipt:3\n\n\0";

/// What a stream of pieces comes to: what was asked, batches taken apart, and what was written.
fn run(pieces: &[&[u8]]) -> (Vec<String>, Vec<Frame>) {
    let mut rig = Rig::new();
    let (mut asked, mut frames) = (Vec::new(), Vec::new());
    for piece in pieces {
        rig.session.receive(piece, rig.now);
        if rig.session.take_credentials().is_some() {
            rig.session.admit("alice", rig.now);
        }
        let commands = rig.asked();
        for (tag, command) in commands {
            if let Ask::Produce { destination, batch } = &command {
                let each = batch.iter().map(|message| format!("{destination:?} {message:?}"));
                asked.extend(each);
                let results = vec![Ok(Produced { id: id(1), duplicate: false }); batch.count()];
                rig.answer(tag, Answer::Produced(results));
            } else {
                asked.push(format!("{command:?}"));
                rig.answer(tag, Answer::Done);
            }
        }
        frames.extend(rig.frames());
    }
    assert_eq!(rig.session.ending(), Some(Ending::Goodbye));
    (asked, frames)
}

/// Pitfalls 7, 8 and 13: where a stream is cut does not matter. Method: every single cut, and every byte by itself.
#[test]
fn a_stream_means_the_same_wherever_it_is_cut() {
    let script = SCRIPT.as_bytes();
    let whole = run(&[script]);
    assert_eq!(whole.1.len(), 4, "CONNECTED and three receipts");
    for cut in 1..script.len() {
        assert_eq!(run(&[&script[..cut], &script[cut..]]), whole, "cut at {cut}");
    }
    let bytes: Vec<&[u8]> = script.chunks(1).collect();
    assert_eq!(run(&bytes), whole);
}

proptest! {
    /// Goal: no bytes break a session. Method: pieces of real frames in any order and place, and random ones.
    #[test]
    fn nothing_a_client_sends_breaks_a_session(
        pieces in proptest::collection::vec(
            prop_oneof![
                (0..SCRIPT.len(), 0usize..80).prop_map(|(at, len)| {
                    SCRIPT.as_bytes()[at..(at + len).min(SCRIPT.len())].to_vec()
                }),
                proptest::collection::vec(any::<u8>(), 0..20),
                Just(b"SEND\ndestination:/queue/a\n\nx\0".to_vec()),
                Just(b"SUBSCRIBE\nid:7\ndestination:/queue/a\nack:client\n\n\0".to_vec()),
            ],
            0..40,
        ),
        connected in any::<bool>(),
    ) {
        let mut rig = if connected { Rig::open(Version::V12) } else { Rig::new() };
        let mut number = 0;
        for piece in pieces {
            rig.session.receive(&piece, rig.now);
            if rig.session.take_credentials().is_some() {
                rig.session.admit("alice", rig.now);
            }
            rig.answer_all();
            number += 1;
            rig.session.hear(Outgoing::Deliver(delivery(1 + number % 2, u64::from(number), 1)), rig.now);
            rig.frames();
            rig.session.written();
            rig.now.mono_ms += 100;
            rig.session.tick(rig.now);
        }
    }
}
