//! Goal: ten thousand idle connections cost little and hold up nobody. Method: open as many as the
//! limit on open files lets one process have, both ends counted, and measure.

use std::time::Instant;

use tokio::task::JoinSet;

use crate::rig::{Peer, Server};
use crate::words::Message;
use crate::{alone, files_left, resident_kib};

const WANTED: usize = 10_000;
/// Files that the rest of the test may need.
const SPARE: usize = 40;
/// Connections that are made at the same time: fewer than the listener's backlog.
const AT_ONCE: usize = 250;

#[tokio::test]
async fn ten_thousand_idle_connections_are_cheap_and_hold_up_nobody() {
    let _alone = alone().await;
    let server = Server::start().await;
    let mut first = server.greet().await;
    first.subscribe(1, "/queue/idle", 10).await;
    let count = WANTED.min(files_left().saturating_sub(SPARE) / 2);
    assert!(count >= 1_000, "the limit on open files allows for {count} connections only");
    let (begun, before) = (Instant::now(), resident_kib());
    let mut idle = Vec::with_capacity(count);
    while idle.len() < count {
        let mut some = JoinSet::new();
        for _ in 0..AT_ONCE.min(count - idle.len()) {
            some.spawn(Peer::greet(server.address));
        }
        idle.extend(some.join_all().await);
    }
    let connected = begun.elapsed();
    assert_eq!(first.counter("sessions").await, count as u64 + 1);
    let each = (resident_kib().saturating_sub(before)) as f64 / count as f64;
    println!("{count} idle connections in {connected:?}, {each:.1} KiB each with their clients");
    if count < WANTED {
        println!("(the limit on open files did not allow for {WANTED})");
    }
    assert!(each < 64.0);

    let begun = Instant::now();
    for n in 0..100 {
        let at = n * count / 100;
        let id = idle[at].produce_one("/queue/idle", Message::new("x")).await.unwrap();
        assert_eq!(first.delivery().await.id, id);
        assert!(first.acknowledge(1, &[id]).await[0].done);
    }
    println!("a message through all of it takes {:?}", begun.elapsed() / 100);
    // All of them still live, and all of them may go at once.
    for peer in &mut idle {
        peer.heartbeat().await;
    }
    let begun = Instant::now();
    drop(idle);
    first.until("sessions", |sessions| sessions == 1).await;
    println!("all of them gone in {:?}", begun.elapsed());
    drop(first);
    server.stop().await;
}
