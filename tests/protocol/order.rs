//! Goal: many requests at once are all answered, executed in the order sent; a stopping server
//! answers what it took and loses nothing. Method: thousands of mixed requests in one write, read
//! by another task, as the document demands.

use std::collections::{BTreeMap, BTreeSet};

use crate::rig::{Peer, Server, frame, hello};
use crate::words::{In, Info, Message, Out, Outcome};

const REQUESTS: u32 = 9_000;
const QUEUE: &str = "/queue/order";

/// The n-th request: type and body.
fn request(queue: &str, n: u32) -> (i32, Vec<u8>) {
    match n % 6 {
        0 | 3 => (1, Message::produce(queue.as_bytes(), &[Message::new("x")])),
        1 => (12, Vec::new()),
        2 => (15, Out::new().text(queue).0),
        // A costly one now and then: others have their turn, and the order stays.
        4 if n % 60 == 4 => (37, Out::new().text("").u64(0).u64(9).u32(1_000).u8(0).0),
        4 => (27, Out::new().ids(&[[7; 16]]).0),
        // Refused, alone.
        _ => (28, Out::new().ids(&[]).0),
    }
}

/// Numbers far apart, among them the largest.
fn correlation(n: u32) -> u32 {
    u32::MAX - n * 400_009
}

/// Sends everything in one write and holds the answers against what was asked.
async fn ask_all(mut peer: Peer, queue: &str) {
    let mut bytes = Vec::new();
    for n in 0..REQUESTS {
        let (kind, body) = request(queue, n);
        bytes.extend(frame(kind, correlation(n), &body));
    }
    let answers = peer.exchange(&bytes, REQUESTS as usize).await;
    // Each is answered once, under its own type and number.
    let mut open: BTreeMap<u32, u32> = (0..REQUESTS).map(|n| (correlation(n), n)).collect();
    assert_eq!(open.len(), REQUESTS as usize);
    let mut executed = Vec::new();
    for answer in answers {
        let n = open.remove(&answer.correlation).expect("answered once");
        assert_eq!(answer.kind, request(queue, n).0);
        assert_eq!(answer.body[0], u8::from(n % 6 == 5), "request {n}");
        if n % 6 == 5 {
            assert_eq!(answer.refusal().unwrap().0, 9);
        } else if n % 6 != 1 {
            executed.push((n, answer));
        }
    }
    assert!(executed.is_sorted_by_key(|(n, _)| *n), "answers do not come in order of execution");
    // Each saw the effect of all before it and of none behind it.
    let mut last = [0; 8];
    for (n, answer) in executed {
        let body = &answer.body[1..];
        match n % 6 {
            0 | 3 => {
                let id = Outcome::read_all(body)[0].id();
                let sequence = *id.last_chunk().unwrap();
                assert!(sequence > last);
                last = sequence;
            }
            2 => assert_eq!(Info::read(body).ready, u64::from(n / 6 * 2 + 1)),
            _ => {}
        }
    }
}

#[tokio::test]
async fn thousands_of_requests_in_one_write_are_answered_in_order_of_execution() {
    let server = Server::start().await;
    let (one, two) = (server.greet().await, server.greet().await);
    tokio::join!(ask_all(one, "/queue/one"), ask_all(two, "/queue/two"));
}

#[tokio::test]
async fn more_requests_than_may_be_open_are_all_answered_though_the_client_then_only_waits() {
    let server = Server::start().await;
    for round in 1..=20 {
        let mut peer = server.greet().await;
        let count = 4_096 * round + 1_000;
        let bytes: Vec<u8> = (0..count).flat_map(|n| frame(12, n, &[])).collect();
        let answers = peer.exchange(&bytes, count as usize).await;
        assert!(answers.iter().zip(0..).all(|(answer, n)| answer.correlation == n));
    }
}

#[tokio::test]
async fn a_stopping_server_answers_what_it_took_and_a_restart_finds_exactly_that() {
    let server = Server::start().await;
    let address = server.address;
    let mut peer = server.greet().await;
    let mut silent = server.connect().await;
    let mut half = server.connect().await;
    half.send(&hello()[..9]).await;
    let mut subscriber = server.greet().await;
    subscriber.subscribe(1, "/queue/held", 5).await;
    let held = subscriber.produce_one("/queue/held", Message::new("held")).await.unwrap();
    assert_eq!(subscriber.delivery().await.id, held);
    let mut bytes = Vec::new();
    for n in 2..2_002 {
        let message = Message::new(n.to_string()).after(86_400_000);
        bytes.extend(frame(26, n, &Message::produce(QUEUE.as_bytes(), &[message])));
    }
    peer.send(&bytes).await;
    // One answer shows that the server is in the middle of it.
    let mut answers = vec![peer.next().await.unwrap()];
    let stopping = server.begin_stop();
    answers.extend(peer.rest().await);
    let goodbye = answers.pop().unwrap();
    assert_eq!((goodbye.kind, goodbye.correlation), (102, 0));
    assert_eq!(In(&goodbye.body).error().0, 8);
    let mut stored = BTreeSet::new();
    for (at, answer) in answers.iter().enumerate() {
        assert_eq!((answer.kind, answer.correlation), (26, at as u32 + 2), "a gap in the answers");
        stored.insert(Outcome::read_all(&answer.body[1..])[0].id());
    }
    for other in [&mut silent, &mut half, &mut subscriber] {
        let last = other.rest().await.pop().unwrap();
        assert_eq!((last.kind, In(&last.body).error().0), (102, 8));
    }
    drop((peer, silent, half, subscriber));
    let stopped = stopping.finish().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());

    let server = stopped.reopen().await;
    let mut peer = server.greet().await;
    assert_eq!(peer.describe(QUEUE).await.scheduled, stored.len() as u64);
    let ids: Vec<_> = stored.into_iter().collect();
    assert!(peer.query(&ids).await.iter().all(|status| status.state == 1));
    peer.subscribe(1, "/queue/held", 5).await;
    let again = peer.delivery().await;
    assert_eq!((again.id, again.body(), again.attempt > 1), (held, &b"held"[..], true));
    println!("{} of 2000 requests were taken before the stop", ids.len());
}

#[tokio::test]
async fn nothing_is_pushed_after_the_answer_to_unsubscribe() {
    let server = Server::start().await;
    let mut peer = server.greet().await;
    peer.produce(QUEUE, &vec![Message::new("x"); 1_000]).await;
    for number in 1..20 {
        peer.subscribe(number, QUEUE, 300).await;
        peer.ask(11, &Out::new().u32(number).u8(0).0).await.unwrap();
        let before = peer.waiting_deliveries();
        peer.describe(QUEUE).await;
        peer.heartbeat().await;
        assert_eq!(peer.waiting_deliveries(), before);
    }
    let info = peer.describe(QUEUE).await;
    assert_eq!((info.ready, info.in_flight, info.consumers), (1_000, 0, 0));
}
