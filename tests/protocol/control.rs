//! Goal: purge, pause and limits do what section 5.9 of the document says. Method: their bytes,
//! written by hand, and what other requests tell afterwards.

use crate::rig::{Peer, Refusal, Server};
use crate::words::{In, Info, Message, Out, Outcome};

const PURGE: i32 = 16;
const PAUSE: i32 = 17;
const LIMIT: i32 = 18;
const Q: &str = "/queue/control";

fn x() -> Message {
    Message::new("x")
}

async fn purge(peer: &mut Peer, to: &str, scheduled: u8) -> Result<(u64, u64), Refusal> {
    let answer = peer.ask(PURGE, &Out::new().text(to).u8(scheduled).0).await?;
    let mut answer = In(&answer);
    let dropped = (answer.u64(), answer.u64());
    answer.end();
    Ok(dropped)
}

async fn pause(peer: &mut Peer, to: &str, paused: u8) {
    let answer = peer.ask(PAUSE, &Out::new().text(to).u8(paused).0).await;
    assert_eq!(answer, Ok(Vec::new()));
}

#[tokio::test]
async fn a_purge_tells_what_it_dropped_and_leaves_what_is_in_flight() {
    let server = Server::start().await;
    let mut peer = server.greet().await;
    peer.subscribe(1, Q, 1).await;
    peer.produce(Q, &[x(), x(), x(), x().after(3_600_000)]).await;
    let out = peer.delivery().await;
    assert_eq!(purge(&mut peer, Q, 0).await, Ok((2, 0)));
    let info = peer.describe(Q).await;
    assert_eq!((info.scheduled, info.ready, info.in_flight), (1, 0, 1));
    assert_eq!(purge(&mut peer, Q, 1).await, Ok((0, 1)));
    assert!(peer.acknowledge(1, &[out.id]).await[0].done);
    let news = "/topic/control";
    peer.produce(news, &[x(), x()]).await;
    assert_eq!(purge(&mut peer, news, 0).await, Ok((2, 0)));
    let info = peer.describe(news).await;
    assert_eq!((info.ready, info.next_offset), (0, 3));
}

#[tokio::test]
async fn a_paused_queue_hands_out_nothing_until_it_is_resumed() {
    let server = Server::start().await;
    let mut peer = server.greet().await;
    peer.subscribe(1, Q, 10).await;
    pause(&mut peer, Q, 1).await;
    let id = peer.produce_one(Q, x()).await.unwrap();
    let info = peer.describe(Q).await;
    assert_eq!((info.paused, info.ready, info.in_flight), (true, 1, 0));
    let listed = peer.ask(3, &Out::new().text("").u32(1).0).await.unwrap();
    assert_eq!(Info::read(&listed[4..]), info, "the list tells the same");
    pause(&mut peer, Q, 0).await;
    assert_eq!(peer.delivery().await.id, id);
    assert!(!peer.describe(Q).await.paused);
}

#[tokio::test]
async fn limits_are_set_one_by_one_and_a_full_destination_refuses() {
    let server = Server::start().await;
    let mut peer = server.greet().await;
    assert_eq!(peer.ask(4, &Out::new().text(Q).0).await, Ok(Vec::new()));
    let both = Out::new().text(Q).u8(3).u64(2).u64(60_000);
    let info = Info::read(&peer.ask(LIMIT, &both.0).await.unwrap());
    assert_eq!((info.max_messages, info.max_age_ms), (2, 60_000));
    let age = Out::new().text(Q).u8(2).u64(0);
    let info = Info::read(&peer.ask(LIMIT, &age.0).await.unwrap());
    assert_eq!((info.max_messages, info.max_age_ms), (2, 0));
    let outcomes = peer.produce(Q, &[x(), x().after(3_600_000), x()]).await;
    assert_eq!(outcomes.iter().map(Outcome::code).collect::<Vec<_>>(), [None, None, Some(14)]);
    let messages = Out::new().text(Q).u8(1).u64(3);
    let info = Info::read(&peer.ask(LIMIT, &messages.0).await.unwrap());
    assert_eq!((info.max_messages, info.ready + info.scheduled), (3, 2));
    peer.produce_one(Q, x()).await.unwrap();
    let nothing = Out::new().text(Q).u8(0);
    assert_eq!(Info::read(&peer.ask(LIMIT, &nothing.0).await.unwrap()).max_messages, 3);
}

#[tokio::test]
async fn what_is_not_there_is_refused_and_bad_bytes_end_the_connection() {
    let server = Server::start().await;
    let mut peer = server.greet().await;
    for (kind, code, name) in [(PURGE, 11, "/queue/none"), (PAUSE, 10, "none")] {
        assert_eq!(peer.code(kind, &Out::new().text(name).u8(0).0).await, code);
    }
    assert_eq!(peer.code(LIMIT, &Out::new().text("/queue/none").u8(0).0).await, 11);
    let bodies = [
        (PURGE, Out::new().text(Q)),
        (PURGE, Out::new().text(Q).u8(2)),
        (PAUSE, Out::new().text(Q).u8(0).u8(0)),
        (LIMIT, Out::new().text(Q).u8(4).u64(1)),
        (LIMIT, Out::new().text(Q).u8(1)),
        (LIMIT, Out::new().text(Q).u8(1).u64(1).u64(1)),
    ];
    for (kind, body) in bodies {
        let mut peer = server.greet().await;
        peer.send(&crate::rig::frame(kind, 9, &body.0)).await;
        let (got, correlation, (code, _)) = peer.only_error().await;
        assert_eq!((got, correlation, code), (kind, 9, 1));
    }
}
