//! Goal: a lost connection loses nothing and repeats nothing that is not safe to repeat. Method: a
//! real listener on loopback is cut off in the middle of things, and comes back at its address.

use std::time::Duration;

use super::tests::{Server, embedded, until};
use super::*;
use crate::base::lifecycle::State;
use crate::base::message::{Delay, Message};

#[tokio::test]
async fn a_lost_connection_resends_only_what_is_safe() {
    let mut server = Server::start().await;
    let client = server.client().await;
    let scheduled = client.produce_delayed("/queue/a", "x", 1).await.unwrap();
    let before = server.double.requests();
    server.double.hold(true);
    // Started together, so that the two singles share a request.
    let plain = client.produce("/queue/a", "plain");
    let dedup = client.send("/queue/a", Message::new("safe").with_dedup("d"));
    let messages = [Message::new("1").with_dedup("b1"), Message::new("2").with_dedup("b2")];
    let batch = client.produce_batch("/queue/a", &messages);
    let unsafe_batch = [Message::new("1").with_dedup("b3"), Message::new("2")];
    let unsafe_batch = client.produce_batch("/queue/a", &unsafe_batch);
    let ids = [scheduled.id];
    let query = client.query(&ids);
    let items = [(scheduled.id, Delay::At(5))];
    let reschedule = client.reschedule(&items);
    let fault = async {
        until(|| server.double.requests() >= before + 5).await;
        server.cut().await;
        server.double.hold(false);
        server.come_back().await;
    };
    let (plain, dedup, batch, unsafe_batch, query, reschedule, ()) =
        tokio::join!(plain, dedup, batch, unsafe_batch, query, reschedule, fault);
    assert!(matches!(plain, Err(Error::OutcomeUnknown)));
    assert!(matches!(unsafe_batch, Err(Error::OutcomeUnknown)));
    assert!(matches!(reschedule, Err(Error::OutcomeUnknown)));
    assert!(dedup.unwrap().duplicate);
    assert!(batch.unwrap().into_iter().all(|result| result.unwrap().duplicate));
    assert_eq!(query.unwrap()[0].state, State::Scheduled);
    // Stored once each: the first, plain, safe, and two batches of two.
    assert_eq!(server.double.stored(), 7);
}

#[tokio::test]
async fn what_was_never_sent_waits_for_the_next_connection() {
    let mut server = Server::start().await;
    let client = server.client().await;
    client.stats().await.unwrap();
    server.cut().await;
    // Once the loss is noticed, a request without a dedup id is safe again: it was not sent.
    loop {
        let probe =
            tokio::time::timeout(Duration::from_millis(20), client.create_destination("/queue/a"));
        if probe.await.is_err() {
            break;
        }
    }
    let produce = client.produce("/queue/a", "x");
    let (produced, ()) = tokio::join!(produce, server.come_back());
    assert!(!produced.unwrap().duplicate);
}

#[tokio::test]
async fn a_subscription_goes_on_and_unacknowledged_messages_come_again() {
    let mut server = Server::start().await;
    let client = server.client().await;
    for n in 0..5 {
        client.produce("/queue/a", n.to_string()).await.unwrap();
    }
    let mut queue = client.subscribe(SubscribeOptions::new("/queue/a")).await.unwrap();
    let first = queue.next().await.unwrap().unwrap();
    queue.ack(&[first.id]).await.unwrap();
    let second = queue.next().await.unwrap().unwrap();
    // Two to four are delivered and wait here, unacknowledged; they must not be seen twice.
    server.cut().await;
    server.come_back().await;
    until(|| server.double.sessions() == 1).await;
    client.stats().await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        let message = queue.next().await.unwrap().unwrap();
        assert!(message.redelivered());
        seen.push(String::from_utf8(message.body().to_vec()).unwrap());
        queue.ack_later(message.id);
    }
    assert_eq!(second.body(), b"1");
    assert_eq!(seen, ["1", "2", "3", "4"]);
    let ids = [second.id];
    assert_eq!(client.query(&ids).await.unwrap()[0].state, State::Acknowledged);
}

#[tokio::test]
async fn an_ephemeral_topic_subscription_goes_on_without_gap_or_repeat_of_the_acknowledged() {
    let mut server = Server::start().await;
    let client = server.client().await;
    let mut topic = client.subscribe(SubscribeOptions::new("/topic/t")).await.unwrap();
    assert_eq!(topic.next_offset(), 1);
    for n in 1..=3 {
        client.produce("/topic/t", n.to_string()).await.unwrap();
    }
    let mut received = Vec::new();
    for _ in 0..3 {
        received.push(topic.next().await.unwrap().unwrap());
    }
    topic.ack(&[received[0].id, received[2].id]).await.unwrap();
    server.cut().await;
    // Produced while the subscriber is away, by somebody else.
    let other = embedded(&server.double);
    other.produce("/topic/t", "4").await.unwrap();
    server.come_back().await;
    let mut offsets = Vec::new();
    for _ in 0..2 {
        offsets.push(topic.next().await.unwrap().unwrap().offset);
    }
    assert_eq!(offsets, [2, 4]);
    topic.ack_through(received[2].id).await.unwrap();
}

#[tokio::test]
async fn without_reconnect_a_lost_connection_is_the_end() {
    let mut server = Server::start().await;
    let options = ClientOptions { reconnect: false, ..server.options() };
    let client = Client::connect_with(options).await.unwrap();
    let mut queue = client.subscribe(SubscribeOptions::new("/queue/a")).await.unwrap();
    server.cut().await;
    assert!(matches!(queue.next().await, Some(Err(Error::Disconnected))));
    assert!(queue.next().await.is_none());
    assert!(matches!(client.produce("/queue/a", "x").await, Err(Error::Disconnected)));
}

#[tokio::test]
async fn waiting_requests_fail_when_there_is_no_connection_for_too_long() {
    let mut server = Server::start().await;
    let options = ClientOptions { give_up_after: Duration::ZERO, ..server.options() };
    let client = Client::connect_with(options).await.unwrap();
    server.cut().await;
    // The first may still meet the dying connection; from then on there is none.
    let _ = client.produce("/queue/a", "x").await;
    assert!(matches!(client.produce("/queue/a", "x").await, Err(Error::Disconnected)));
    server.come_back().await;
    while client.produce("/queue/a", "x").await.is_err() {}
}

#[tokio::test]
async fn unanswered_acknowledgements_are_sent_again() {
    let mut server = Server::start().await;
    let client = server.client().await;
    let mut ids = Vec::new();
    for body in ["awaited", "later"] {
        ids.push(client.produce("/queue/a", body).await.unwrap().id);
    }
    let mut queue = client.subscribe(SubscribeOptions::new("/queue/a")).await.unwrap();
    for _ in 0..2 {
        queue.next().await.unwrap().unwrap();
    }
    // Acknowledgements that never reach the shard: the listener is gone while they are queued.
    server.cut().await;
    queue.ack_later(ids[1]);
    let awaited = [ids[0]];
    let (verdicts, ()) = tokio::join!(queue.ack(&awaited), server.come_back());
    assert!(verdicts.unwrap()[0].done);
    let statuses = client.query(&ids).await.unwrap();
    assert!(statuses.iter().all(|status| status.state == State::Acknowledged));
}
