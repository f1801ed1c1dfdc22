//! Goal: temporary queues, inboxes, shared subscriptions and patterns are what sections 5, 5.4 and 6 of
//! the document say. Method: their bytes, written by hand, and the client library.

use postdate::client::{Client, ClientOptions, SubscribeOptions};

use crate::rig::{Peer, Server, soon};
use crate::words::{Delivery, In, Message, Out};

const SHARED: u8 = 1;

fn x() -> Message {
    Message::new("x")
}

/// The body of subscribe, with a credit of 10.
fn wish(number: u32, to: &str, start: u8, flags: u8, durable: &str) -> Vec<u8> {
    let head = Out::new().u32(number).u32(10).u64(0).u8(start).u64(0).u8(flags);
    head.text(to).text(durable).0
}

async fn subscribe(peer: &mut Peer, wish: Vec<u8>) -> u64 {
    let answer = peer.ask(10, &wish).await.unwrap();
    In(&answer).u64()
}

#[tokio::test]
async fn a_temporary_queue_belongs_to_its_session() {
    const T: &str = "/temp-queue/answers";
    let server = Server::start().await;
    let mut owner = server.greet().await;
    let mut other = server.greet().await;
    assert_eq!(other.code(26, &crate::words::Message::produce(T.as_bytes(), &[x()])).await, 11);
    owner.subscribe(1, T, 10).await;
    assert_eq!(other.code(10, &wish(1, T, 0, 0, "")).await, 54);
    assert_eq!(other.code(4, &Out::new().text(T).0).await, 54);
    let id = other.produce_one(T, x()).await.unwrap();
    assert_eq!(owner.delivery().await.id, id);
    assert_eq!(other.describe(T).await.kind, 4);
    drop(owner);
    // The server learns of it in a moment.
    for _ in 0..1_000 {
        if other.ask(15, &Out::new().text(T).0).await.is_err() {
            break;
        }
    }
    assert_eq!(other.code(15, &Out::new().text(T).0).await, 11);
}

#[tokio::test]
async fn an_inbox_knows_what_its_user_has_read() {
    const I: &str = "/user/anna/queue/news";
    let server = Server::start().await;
    let mut one = server.greet().await;
    let mut two = server.greet().await;
    one.produce(I, &[x(), x(), x()]).await;
    assert_eq!(subscribe(&mut one, wish(1, I, 3, 0, "")).await, 1);
    assert_eq!(subscribe(&mut two, wish(1, I, 3, 0, "desk")).await, 1);
    let first = one.delivery().await;
    assert_eq!(two.delivery().await.id, first.id, "each has its own copy");
    assert!(one.acknowledge(1, &[first.id]).await[0].done);
    let info = one.describe(I).await;
    assert_eq!((info.kind, info.unread, info.next_offset), (5, 2, 4));
    assert_eq!(subscribe(&mut two, wish(2, I, 3, 0, "")).await, 2, "a later one begins there");
    assert!(two.acknowledge(1, &[first.id]).await[0].done);
    assert_eq!(one.code(10, &wish(3, I, 3, SHARED, "d")).await, 13);
}

#[tokio::test]
async fn a_shared_subscription_is_handed_out_in_turn() {
    const T: &str = "/topic/shared";
    let server = Server::start().await;
    let mut one = server.greet().await;
    let mut two = server.greet().await;
    for peer in [&mut one, &mut two] {
        subscribe(peer, wish(1, T, 1, SHARED, "g")).await;
    }
    assert_eq!(one.code(10, &wish(2, T, 1, 0, "g")).await, 53);
    assert_eq!(one.code(10, &wish(2, T, 1, SHARED, "")).await, 13);
    assert_eq!(one.code(10, &wish(2, "/queue/q", 1, SHARED, "")).await, 13);
    one.produce(T, &[x(), x(), x(), x()]).await;
    let (a, b) = (one.delivery().await, two.delivery().await);
    assert_eq!((a.offset, b.offset), (1, 2));
    assert_eq!((one.delivery().await.offset, two.delivery().await.offset), (3, 4));
    assert!(one.acknowledge(1, &[a.id]).await[0].done);
    assert_eq!(one.code(11, &Out::new().u32(1).u8(1).0).await, 53);
    drop(one);
    let back = two.delivery().await;
    assert_eq!((back.offset, back.attempt), (3, 2));
}

#[tokio::test]
async fn a_pattern_names_where_each_message_comes_from() {
    let server = Server::start().await;
    let mut peer = server.greet().await;
    peer.produce("/topic/a.x", &[x()]).await;
    assert_eq!(subscribe(&mut peer, wish(1, "/topic/a.*", 1, 0, "")).await, 0);
    subscribe(&mut peer, wish(2, "/topic/a/new", 1, 0, "")).await;
    peer.produce("/topic/a/new", &[x(), x()]).await;
    let (mut named, mut plain) = (Vec::new(), 0);
    while named.len() < 3 || plain < 2 {
        let push = peer.any_push().await;
        let mut body = In(&push.body);
        for _ in 0..body.u32() {
            let name = (push.kind == 103).then(|| body.text());
            let delivery = Delivery::read(&mut body);
            assert_eq!(delivery.subscription, if name.is_some() { 1 } else { 2 });
            match name {
                Some(name) => named.push((name, delivery)),
                None => plain += 1,
            }
        }
        body.end();
    }
    let told: Vec<_> = named.iter().map(|(name, d)| (&name[..], d.offset)).collect();
    assert_eq!(told, [("/topic/a.x", 1), ("/topic/a/new", 1), ("/topic/a/new", 2)]);
    let ids: Vec<_> = named.iter().map(|(_, d)| d.id).collect();
    assert!(peer.acknowledge(1, &ids).await.iter().all(|verdict| verdict.done));
    for (wish, code) in [
        (wish(9, "/topic/a.*", 1, 0, "d"), 13),
        (wish(9, "/topic/a.*", 2, 0, ""), 13),
        (wish(9, "/topic/*.>.a", 1, 0, ""), 10),
        (wish(9, "/queue/*", 1, 0, ""), 10),
    ] {
        assert_eq!(peer.code(10, &wish).await, code);
    }
}

#[tokio::test]
async fn the_library_tells_the_destination_too() {
    let server = Server::start().await;
    let options = ClientOptions::new(server.address.to_string());
    let client = Client::connect_with(options).await.unwrap();
    let mut all = client.subscribe(SubscribeOptions::new("/topic/lib.#")).await.unwrap();
    for to in ["/topic/lib", "/topic/lib.b"] {
        client.produce(to, "x").await.unwrap();
        let got = soon("a message", all.next()).await.unwrap().unwrap();
        assert_eq!(&*got.destination, to);
        assert!(all.ack(&[got.id]).await.unwrap()[0].done);
    }
    let shared = || SubscribeOptions {
        durable: "g".into(),
        shared: true,
        ..SubscribeOptions::new("/topic/group")
    };
    let mut one = client.subscribe(shared()).await.unwrap();
    let mut two = client.subscribe(shared()).await.unwrap();
    for _ in 0..2 {
        client.produce("/topic/group", "x").await.unwrap();
    }
    let first = soon("a message", one.next()).await.unwrap().unwrap();
    let second = soon("a message", two.next()).await.unwrap().unwrap();
    assert_eq!((&*first.destination, first.offset, second.offset), ("/topic/group", 1, 2));
}
