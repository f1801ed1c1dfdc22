//! Goal: repeat and transaction do what sections 5.11 and 5.12 of the document say. Method: their bytes,
//! written by hand, and what other requests tell afterwards.

use crate::rig::Server;
use crate::words::{In, Message, Out, Outcome};

const REPEAT: i32 = 30;
const TRANSACTION: i32 = 31;
const Q: &str = "/queue/exactly";

fn every(period_ms: u64, times: u32, messages: &[Message]) -> Vec<u8> {
    let rule = Out::new().u8(1).u64(period_ms).u32(times);
    repeat(rule, messages)
}

fn cron(expression: &str, zone: &str, messages: &[Message]) -> Vec<u8> {
    let rule = Out::new().u8(2).u32(0).text(expression).text(zone).u8(0);
    repeat(rule, messages)
}

fn repeat(rule: Out, messages: &[Message]) -> Vec<u8> {
    let mut out = Out::new().text(Q).bytes(&rule.0).u32(messages.len() as u32);
    for message in messages {
        out = out.bytes(&message.bytes());
    }
    out.0
}

#[tokio::test]
async fn a_schedule_runs_and_is_cancelled_by_its_id() {
    let server = Server::start().await;
    let mut peer = server.greet().await;
    let body = every(1_000, 2, &[Message::new("again").after(1).header("a", "b")]);
    let id = Outcome::read_all(&peer.ask(REPEAT, &body).await.unwrap())[0].id();
    peer.subscribe(1, Q, 10).await;
    for run in 1..=2 {
        let copy = peer.delivery().await;
        assert_ne!(copy.id, id);
        let mut content = In(&copy.content);
        assert_eq!((content.text(), content.u16()), (String::new(), 2));
        let printed = postdate::base::id::MessageId::from_bytes(id).to_string();
        assert_eq!((content.text(), content.text()), ("scheduled-job-id".into(), printed));
        assert_eq!((content.text(), content.text()), ("a".into(), "b".into()));
        assert_eq!(content.0, b"again");
        assert!(peer.acknowledge(1, &[copy.id]).await[0].done);
        let told = &peer.query(&[id]).await[0];
        if run == 1 {
            assert_eq!((told.state, told.recurring, told.attempts), (1, 1, 1));
        } else {
            assert_eq!((told.state, told.recurring), (10, 0));
        }
    }
    let body = cron("0 9 29 2 *", "Europe/Berlin", &[Message::new("x"), Message::new("y")]);
    let both = Outcome::read_all(&peer.ask(REPEAT, &body).await.unwrap());
    let ids = [both[0].id(), both[1].id()];
    assert!(peer.query(&ids).await.iter().all(|told| (told.state, told.recurring) == (1, 1)));
    assert!(peer.cancel(&ids).await.iter().all(|verdict| verdict.done));
}

#[tokio::test]
async fn a_rule_that_cannot_be_is_refused_with_code_33() {
    let server = Server::start().await;
    let mut peer = server.greet().await;
    let x = || [Message::new("x")];
    let bad = [
        every(999, 0, &x()),
        every(3_456_000_001, 0, &x()),
        cron("0 0 30 2 *", "", &x()),
        cron("nonsense", "", &x()),
        cron("* * * * *", "Nowhere/Land", &x()),
    ];
    for body in bad {
        let (code, text) = peer.ask(REPEAT, &body).await.unwrap_err();
        assert_eq!((code, text.is_empty()), (33, false));
    }
    let delayed = cron("* * * * *", "", &[Message::new("x").after(1)]);
    assert_eq!(Outcome::read_all(&peer.ask(REPEAT, &delayed).await.unwrap())[0].code(), Some(33));
}

fn produce(out: Out, to: &str, messages: &[Message]) -> Out {
    let bytes: Vec<u8> = messages.iter().flat_map(Message::bytes).collect();
    let out = out.u8(1).text(to).u32(messages.len() as u32);
    out.u32(bytes.len() as u32).bytes(&bytes)
}

#[tokio::test]
async fn a_transaction_does_all_or_nothing() {
    let server = Server::start().await;
    let mut peer = server.greet().await;
    peer.produce(Q, &[Message::new("in"), Message::new("in")]).await;
    peer.subscribe(7, Q, 10).await;
    let ids = [peer.delivery().await.id, peer.delivery().await.id];
    let x = || Message::new("x").dedup("once");
    let parts = |last: Message| {
        let out = produce(Out::new().u32(4), "/queue/out", &[x(), x()]);
        let out = out.u8(2).u32(7).u8(0).ids(&ids[..1]);
        let out = out.u8(3).u32(7).u8(0).ids(&ids[1..]);
        produce(out, "/topic/out", &[last]).0
    };
    let (code, text) =
        peer.ask(TRANSACTION, &parts(Message::new("y").level(99))).await.unwrap_err();
    assert!(code == 32 && text.contains("part 4"), "{code} {text}");
    assert_eq!(peer.query(&ids).await.iter().map(|told| told.state).collect::<Vec<_>>(), [3, 3]);
    let (code, _) = peer.ask(15, &Out::new().text("/queue/out").0).await.unwrap_err();
    assert_eq!(code, 11, "not even a destination");
    let answer = peer.ask(TRANSACTION, &parts(Message::new("y"))).await.unwrap();
    let mut answer = In(&answer);
    assert_eq!((answer.u32(), answer.u8(), answer.u32()), (4, 1, 2));
    let (first, again) = ((answer.u8(), answer.id()), (answer.u8(), answer.id()));
    assert_eq!((first.0, again), (0, (1, first.1)), "the second is a duplicate");
    for (id, state) in [(ids[0], 4), (ids[1], 7)] {
        assert_eq!((answer.u8(), answer.u32()), (2, 1));
        let verdict = (answer.id(), answer.u8(), answer.u8());
        assert_eq!(verdict, (id, 1, state));
        answer.u64();
    }
    assert_eq!((answer.u8(), answer.u32(), answer.u8()), (1, 1, 0));
    answer.id();
    answer.end();
    let none = peer.ask(TRANSACTION, &Out::new().u32(0).0).await.unwrap_err();
    assert_eq!(none.0, 9);
}
