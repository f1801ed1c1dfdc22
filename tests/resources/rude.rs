//! Goal: who does not read, or asks for more than it takes, is held back; the server's memory stays
//! bounded and others go on. Method: clients that break the rules of reading, with the server's own
//! counters and the kernel's view of its memory.

use std::time::{Duration, Instant};

use crate::rig::{Id, Peer, Server, frame};
use crate::words::{Message, Out, Outcome};
use crate::{alone, resident_kib};

const MIB: u64 = 1024;
/// Body of a large message.
const LARGE: usize = 256 * 1024;

/// A message goes through while somebody else is rude.
async fn others_go_on(peer: &mut Peer) {
    peer.subscribe(99, "/queue/others", 1).await;
    for _ in 0..20 {
        let id = peer.produce_one("/queue/others", Message::new("x")).await.unwrap();
        let delivery = peer.delivery().await;
        assert_eq!((delivery.subscription, delivery.id), (99, id));
        assert!(peer.acknowledge(99, &[id]).await[0].done);
    }
    peer.ask(11, &Out::new().u32(99).u8(0).0).await.unwrap();
}

/// Memory of the process above `before`, MiB, when the server has nothing more to do for anybody.
async fn grown_mib(peer: &mut Peer, before: u64) -> u64 {
    // The answer comes after everything that was asked before it.
    peer.counter("sessions").await;
    resident_kib().saturating_sub(before) / MIB
}

#[tokio::test]
async fn a_subscriber_that_stops_reading_is_bounded_by_bytes_and_gives_everything_back() {
    let _alone = alone().await;
    let server = Server::start().await;
    let mut producer = server.greet().await;
    let mut stuck = server.greet().await;
    stuck.subscribe(1, "/queue/stuck", 65_535).await;
    let mut ids: Vec<Id> = Vec::new();
    let batch = vec![Message::new(vec![7; LARGE]); 16];
    for _ in 0..8 {
        ids.extend(producer.produce("/queue/stuck", &batch).await.iter().map(Outcome::id));
    }
    // The bodies are in memory, once; nothing is to be added for the one who does not read.
    let before = resident_kib();
    others_go_on(&mut producer).await;
    let info = producer.describe("/queue/stuck").await;
    let most = (8 * 1024 * 1024 / LARGE) as u64;
    assert!((most..=most + 1).contains(&info.in_flight), "{} in flight", info.in_flight);
    assert_eq!(info.ready + info.in_flight, ids.len() as u64);
    let grown = grown_mib(&mut producer, before).await;
    println!("a stuck subscriber has {} of {} messages, {grown} MiB", info.in_flight, ids.len());
    assert!(grown < 16);
    drop(stuck);
    producer.until("in_flight", |count| count == 0).await;
    producer.subscribe(1, "/queue/stuck", 65_535).await;
    for id in ids {
        let delivery = producer.delivery().await;
        assert_eq!((delivery.id, delivery.content.len()), (id, LARGE + 4));
        assert!(producer.acknowledge(1, &[id]).await[0].done);
    }
    assert_eq!(producer.counter("messages").await, 0);
}

#[tokio::test]
async fn deliveries_that_time_out_unread_do_not_pile_up() {
    let _alone = alone().await;
    let server = Server::start().await;
    let mut producer = server.greet().await;
    for _ in 0..4 {
        producer.produce("/topic/pile", &vec![Message::new("x"); 10_000]).await;
    }
    let mut stuck = server.greet().await;
    for number in 1..=20 {
        stuck.subscribe_for(number, "/topic/pile", 65_535, 100).await;
    }
    let before = resident_kib();
    // Each round is 800 000 deliveries, and each of them is late after 100 ms: without a bound,
    // some millions would pile up while this looks on.
    let begun = Instant::now();
    let mut delivered = 0;
    while begun.elapsed() < Duration::from_millis(1_500) {
        delivered = producer.counter("delivered_total").await;
        assert!(delivered < 1_500_000, "{delivered} deliveries to one who does not read");
    }
    others_go_on(&mut producer).await;
    let grown = grown_mib(&mut producer, before).await;
    println!("{delivered} deliveries to one who does not read, {grown} MiB");
    assert!(grown < 64);
}

#[tokio::test]
async fn deliveries_acknowledged_by_others_do_not_pile_up_at_one_who_does_not_read() {
    let _alone = alone().await;
    let server = Server::start().await;
    let mut producer = server.greet().await;
    let mut stuck = server.greet().await;
    stuck.subscribe(1, "/queue/pile", 65_535).await;
    let before = resident_kib();
    let batch = vec![Message::new(vec![7; 100]); 10_000];
    for _ in 0..25 {
        let outcomes = producer.produce("/queue/pile", &batch).await;
        let ids: Vec<Id> = outcomes.iter().map(Outcome::id).collect();
        let verdicts = producer.acknowledge(0, &ids).await;
        assert!(verdicts.iter().all(|verdict| verdict.done));
    }
    let delivered = producer.counter("delivered_total").await;
    others_go_on(&mut producer).await;
    let grown = grown_mib(&mut producer, before).await;
    println!("{delivered} of 250000 delivered to one who does not read, {grown} MiB");
    assert!(delivered < 200_000 && grown < 64);
}

#[tokio::test]
async fn answers_that_nobody_reads_do_not_pile_up() {
    let _alone = alone().await;
    let server = Server::start().await;
    let mut other = server.greet().await;
    other.produce("/topic/many", &vec![Message::new("x"); 5_000]).await;
    let later = vec![Message::new("x").after(86_400_000); 5_000];
    other.produce("/queue/many", &later).await;
    for number in 0..1_000 {
        other.ask(4, &Out::new().text(&format!("/queue/d{number}")).0).await.unwrap();
    }
    let questions = [
        (2, Out::new().text("/topic/many").u64(1).u32(1_000).0),
        (37, Out::new().text("/queue/many").u64(0).u64(u64::MAX).u32(1_000).u8(0).0),
        (3, Out::new().text("").u32(1_000).0),
    ];
    for (kind, body) in questions {
        let before = resident_kib();
        let mut rude = server.greet().await;
        let bytes: Vec<u8> = (0..4_500).flat_map(|n| frame(kind, n, &body)).collect();
        rude.send(&bytes).await;
        other.heartbeat().await;
        let begun = Instant::now();
        others_go_on(&mut other).await;
        let held_up = begun.elapsed();
        let grown = grown_mib(&mut other, before).await;
        println!("4500 unread questions of type {kind}: {grown} MiB, others held up {held_up:?}");
        assert!(grown < 64, "{grown} MiB");
        // Whoever reads after all gets every answer.
        let answers = rude.exchange(&[], 4_500).await;
        assert!(answers.iter().zip(0..).all(|(a, n)| (a.kind, a.correlation) == (kind, n)));
    }
}

#[tokio::test]
async fn a_producer_that_never_reads_its_answers_is_stopped_and_hurts_nobody() {
    let _alone = alone().await;
    let server = Server::start_with(|front, _| front.write_stall = Duration::from_secs(1)).await;
    let mut other = server.greet().await;
    let before = resident_kib();
    let mut rude = server.greet().await;
    // All refused: the answers are longer than the questions.
    let refused = vec![Message::new("").priority(99); 1_000];
    let bytes = frame(26, 7, &Message::produce(b"/queue/rude", &refused));
    let mut sent = 0;
    let stopped = async {
        use tokio::io::AsyncWriteExt;
        loop {
            // Stopped: nothing more is taken for a while, or the connection is closed.
            let write = rude.stream.write_all(&bytes);
            match tokio::time::timeout(Duration::from_millis(300), write).await {
                Ok(Ok(())) => sent += bytes.len(),
                Ok(Err(_)) | Err(_) => break,
            }
        }
    };
    crate::rig::soon("back-pressure", stopped).await;
    others_go_on(&mut other).await;
    let grown = grown_mib(&mut other, before).await;
    println!("a producer that never reads was stopped after {sent} bytes, {grown} MiB");
    assert!(sent < 32 << 20 && grown < 128);
    // In the end it is closed.
    other.until("sessions", |sessions| sessions == 1).await;
    drop(rude);
}

#[tokio::test]
async fn a_costly_question_does_not_hold_up_others() {
    let _alone = alone().await;
    let server = Server::start().await;
    let mut other = server.greet().await;
    let later = vec![Message::new("x").after(86_400_000); 10_000];
    for _ in 0..10 {
        other.produce("/queue/haystack", &later).await;
    }
    other.ask(4, &Out::new().text("/queue/needle").0).await.unwrap();
    let mut rude = server.greet().await;
    let list = Out::new().text("/queue/needle").u64(0).u64(u64::MAX).u32(1_000).u8(0).0;
    let query = Out::new().ids(&vec![[7; 16]; 10_000]).0;
    for (kind, body, count) in [(37, list, 300u32), (27, query, 300)] {
        let bytes: Vec<u8> = (0..count).flat_map(|n| frame(kind, n, &body)).collect();
        let begun = Instant::now();
        let ask = async {
            let answers = rude.exchange(&bytes, count as usize).await;
            (answers, begun.elapsed())
        };
        let meanwhile = async {
            let mut longest = Duration::ZERO;
            for _ in 0..10 {
                let begun = Instant::now();
                other.describe("/queue/needle").await;
                longest = longest.max(begun.elapsed());
            }
            longest
        };
        let ((answers, all), longest) = tokio::join!(ask, meanwhile);
        println!("{count} of type {kind} take {all:?}; another waits for {longest:?} at most");
        assert!(answers.iter().zip(0..).all(|(a, n)| (a.kind, a.correlation) == (kind, n)));
        assert!(longest * 4 < all, "the other had to wait for most of it");
    }
}
