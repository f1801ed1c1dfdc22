//! Goal: the client keeps its promises over both transports, above all when a connection is lost.
//! Method: a shard double, behind a real listener on loopback that can be cut off, or embedded.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::base::command::StartAt;
use crate::base::error::Code;
use crate::base::id::MessageId;
use crate::base::lifecycle::State;
use crate::base::limits;
use crate::base::message::{Delay, Message};
use crate::front::double::Double;
use crate::front::{FrontConfig, serve_sessions};

/// A listener that can be cut off and come back at its address.
struct Server {
    double: Double,
    address: SocketAddr,
    task: Option<JoinHandle<()>>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = Self { double: Double::default(), address, task: None };
        server.serve(listener);
        server
    }

    fn serve(&mut self, listener: TcpListener) {
        let config = FrontConfig::new(|| 0);
        let serve = serve_sessions(listener, self.double.open(), config, std::future::pending());
        self.task = Some(tokio::spawn(serve));
    }

    /// Ends every connection without a word, and accepts no other.
    async fn cut(&mut self) {
        let task = self.task.take().unwrap();
        task.abort();
        let _ = task.await;
        while self.double.sessions() > 0 {
            tokio::task::yield_now().await;
        }
    }

    async fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serve(listener);
    }

    fn options(&self) -> ClientOptions {
        ClientOptions::new(self.address.to_string())
    }

    async fn client(&self) -> Client {
        Client::connect_with(self.options()).await.unwrap()
    }
}

fn embedded(double: &Double) -> Client {
    let open = double.open();
    Client::embedded_in(|outbox| open(outbox)).unwrap()
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

fn code(error: &Error) -> Option<Code> {
    match error {
        Error::Refused(error) => Some(error.code),
        _ => None,
    }
}

/// Every request once, over either transport.
async fn every_request(client: Client) {
    let now = client.produce("/queue/a", "now").await.unwrap();
    let level = client.produce_delayed("/queue/a", "level", 3).await.unwrap();
    let after = client.produce_after("/queue/a", "after", Duration::from_nanos(1)).await.unwrap();
    let at = std::time::UNIX_EPOCH + Duration::from_millis(77);
    let at = client.produce_at("/queue/a", "at", at).await.unwrap();
    // The double takes the value of the delay for the due time.
    assert_eq!((level.id.due_ms(), after.id.due_ms(), at.id.due_ms()), (3, 1, 77));
    let message = Message::new("x").with_dedup("d");
    let first = client.send("/queue/a", message.clone()).await.unwrap();
    let second = client.send("/queue/a", message).await.unwrap();
    assert_eq!((first.id, first.duplicate, second.duplicate), (second.id, false, true));

    let unknown = MessageId::new(9, 9, 9);
    let states = |statuses: Vec<crate::base::command::Status>| {
        statuses.into_iter().map(|status| status.state).collect::<Vec<_>>()
    };
    let statuses = client.query(&[now.id, at.id, unknown]).await.unwrap();
    assert_eq!(states(statuses), [State::Ready, State::Scheduled, State::Unknown]);
    let verdicts = client.cancel(&[level.id, now.id]).await.unwrap();
    assert_eq!((verdicts[0].done, verdicts[0].state), (true, State::Cancelled));
    assert_eq!((verdicts[1].done, verdicts[1].state), (false, State::Ready));
    let verdicts = client.reschedule(&[(at.id, Delay::At(99))]).await.unwrap();
    assert_eq!((verdicts[0].done, verdicts[0].due_ms), (true, 99));
    assert!(client.query(&[]).await.unwrap().is_empty());

    let query = ListQuery { limit: 1, ..ListQuery::default() };
    let page = client.list(query.clone()).await.unwrap();
    assert_eq!(page.entries[0].id, after.id);
    let page = client.list(ListQuery { after: page.next, ..query }).await.unwrap();
    assert_eq!((page.entries[0].id, page.next), (at.id, None));

    client.create_destination("/queue/b").await.unwrap();
    let names = |infos: Vec<crate::base::command::DestinationInfo>| {
        infos.iter().map(|info| info.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(client.destinations().await.unwrap()), ["/queue/a", "/queue/b"]);
    assert_eq!(client.describe_destination("/queue/a").await.unwrap().scheduled, 2);
    client.delete_destination("/queue/b").await.unwrap();
    let error = client.describe_destination("/queue/b").await.unwrap_err();
    assert_eq!(code(&error), Some(Code::DestinationNotFound));
    assert_eq!(client.stats().await.unwrap()[0].0, "requests");

    for body in ["one", "two", "three"] {
        client.produce("/topic/t", body).await.unwrap();
    }
    let page = client.fetch("/topic/t", 2, 10).await.unwrap();
    assert_eq!((page.messages.len(), page.next_offset), (2, 4));
    assert_eq!(page.messages[0].body(), b"two");

    let mut queue = client.subscribe(SubscribeOptions::new("/queue/a")).await.unwrap();
    let message = queue.next().await.unwrap().unwrap();
    assert_eq!((message.id, message.body(), message.redelivered()), (now.id, &b"now"[..], false));
    assert_eq!(message.content().unwrap().body, b"now");
    queue.reject(&[now.id], true).await.unwrap();
    assert_eq!(queue.next().await.unwrap().unwrap().id, first.id);
    let message = queue.next().await.unwrap().unwrap();
    assert!(message.redelivered());
    assert!(queue.ack(&[message.id]).await.unwrap()[0].done);
    assert!(!queue.ack(&[message.id]).await.unwrap()[0].done);
    queue.unsubscribe(false).await.unwrap();
    let error = client.send("/queue/a", Message::new("").with_priority(10)).await.unwrap_err();
    assert_eq!(code(&error), Some(Code::BadPriority));
    let error = client.produce("queue", "x").await.unwrap_err();
    assert_eq!(code(&error), Some(Code::BadDestination));
    let long = format!("/queue/{}", "x".repeat(limits::DESTINATION_BYTES_MAX));
    let error = client.produce(&long, "x").await.unwrap_err();
    assert_eq!(code(&error), Some(Code::BadDestination));
    let error = client.produce("/queue/a", vec![0; limits::BODY_BYTES_MAX + 1]).await.unwrap_err();
    assert_eq!(code(&error), Some(Code::BodyTooLarge));
    client.close().await;
    assert!(matches!(client.stats().await, Err(Error::Closed)));
}

#[tokio::test]
async fn every_request_over_tcp() {
    let server = Server::start().await;
    every_request(server.client().await).await;
    until(|| server.double.sessions() == 0).await;
}

#[tokio::test]
async fn every_request_embedded() {
    let double = Double::default();
    every_request(embedded(&double)).await;
    until(|| double.sessions() == 0).await;
}

#[tokio::test]
async fn messages_produced_at_once_travel_together() {
    for client in [None, Some(Server::start().await)] {
        let double = client.as_ref().map_or_else(Double::default, |server| server.double.clone());
        let client = match &client {
            Some(server) => server.client().await,
            None => embedded(&double),
        };
        let mut tasks = Vec::new();
        for number in 0..2_500u32 {
            let client = client.clone();
            tasks.push(tokio::spawn(async move {
                let destination = if number % 2 == 0 { "/queue/a" } else { "/queue/b" };
                client.produce(destination, number.to_string()).await.unwrap().id
            }));
        }
        let mut ids = std::collections::BTreeSet::new();
        for task in tasks {
            assert!(ids.insert(task.await.unwrap()));
        }
        assert_eq!((ids.len(), double.stored()), (2_500, 2_500));
        assert!(double.requests() < 50, "{} requests", double.requests());
    }
}

#[tokio::test]
async fn a_large_batch_is_split_and_its_results_keep_their_places() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut messages: Vec<_> =
        (0..limits::BATCH_ITEMS_MAX + 5).map(|n| Message::new(n.to_string())).collect();
    messages[3] = Message::new(vec![0; limits::BODY_BYTES_MAX + 1]);
    messages[7] = Message::new("x").with_priority(10);
    let results = client.produce_batch("/queue/a", &messages).await.unwrap();
    assert_eq!(results.len(), messages.len());
    let refused: Vec<_> = results
        .iter()
        .enumerate()
        .filter_map(|(at, result)| result.as_ref().err().map(|error| (at, error.code)))
        .collect();
    assert_eq!(refused, [(3, Code::BodyTooLarge), (7, Code::BadPriority)]);
    assert_eq!(server.double.requests(), 2);
    // By bytes: 20 MiB of bodies need three frames of 8 MiB, each within the limit.
    let large: Vec<_> = (0..20).map(|_| Message::new(vec![7; limits::BODY_BYTES_MAX])).collect();
    let results = client.produce_batch("/queue/a", &large).await.unwrap();
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(server.double.requests(), 5);
    assert!(client.produce_batch("/queue/a", &[]).await.unwrap().is_empty());
}

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
async fn acknowledgements_that_nobody_waits_for_travel_together() {
    let server = Server::start().await;
    let client = server.client().await;
    let messages: Vec<_> = (0..200).map(|n| Message::new(n.to_string())).collect();
    client.produce_batch("/queue/a", &messages).await.unwrap();
    let mut queue = client.subscribe(SubscribeOptions::new("/queue/a")).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..200 {
        ids.push(queue.next().await.unwrap().unwrap().id);
    }
    let before = server.double.requests();
    for &id in &ids {
        queue.ack_later(id);
    }
    let statuses = client.query(&ids).await.unwrap();
    assert!(statuses.iter().all(|status| status.state == State::Acknowledged));
    assert_eq!(server.double.requests(), before + 2);
}

#[tokio::test]
async fn for_each_acknowledges_or_gives_back_until_the_end() {
    let double = Double::default();
    let client = embedded(&double);
    for n in 0..3 {
        client.produce("/queue/a", n.to_string()).await.unwrap();
    }
    let options = SubscribeOptions { credit: 1, ..SubscribeOptions::new("/queue/a") };
    let mut queue = client.subscribe(options).await.unwrap();
    let mut calls = Vec::new();
    let ended = queue
        .for_each(async |message: &Received| {
            let text = String::from_utf8(message.body().to_vec()).unwrap();
            calls.push((text.clone(), message.attempt));
            if calls.len() == 4 {
                double.delete("/queue/a");
            }
            if text == "1" && !message.redelivered() { Err("not yet") } else { Ok(()) }
        })
        .await;
    let expected = [("0", 1), ("1", 1), ("1", 2), ("2", 1)];
    assert_eq!(calls, expected.map(|(text, attempt)| (text.to_owned(), attempt)));
    assert_eq!(code(&ended.unwrap_err()), Some(Code::DestinationNotFound));
    assert!(queue.next().await.is_none());
}

#[tokio::test]
async fn a_subscription_is_a_stream() {
    use futures_core::Stream;
    let client = embedded(&Double::default());
    client.produce("/queue/a", "x").await.unwrap();
    let mut queue = client.subscribe(SubscribeOptions::new("/queue/a")).await.unwrap();
    let next = std::future::poll_fn(|cx| std::pin::Pin::new(&mut queue).poll_next(cx)).await;
    assert_eq!(next.unwrap().unwrap().body(), b"x");
    // A client that is closed ends its streams.
    client.close().await;
    assert!(queue.next().await.is_none());
}

#[tokio::test]
async fn dropping_the_last_handle_sends_what_is_queued_and_closes() {
    let server = Server::start().await;
    let client = server.client().await;
    let id = client.produce("/queue/a", "x").await.unwrap().id;
    let mut queue = client.subscribe(SubscribeOptions::new("/queue/a")).await.unwrap();
    drop(client);
    queue.next().await.unwrap().unwrap();
    queue.ack_later(id);
    drop(queue);
    until(|| server.double.sessions() == 0).await;
    let other = embedded(&server.double);
    assert_eq!(other.query(&[id]).await.unwrap()[0].state, State::Acknowledged);
}

#[tokio::test]
async fn dropping_a_subscription_gives_its_messages_back() {
    let client = embedded(&Double::default());
    let id = client.produce("/queue/a", "x").await.unwrap().id;
    let mut queue = client.subscribe(SubscribeOptions::new("/queue/a")).await.unwrap();
    queue.next().await.unwrap().unwrap();
    drop(queue);
    assert_eq!(client.query(&[id]).await.unwrap()[0].state, State::Ready);
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
async fn connecting_tells_why_it_fails() {
    let mut server = Server::start().await;
    server.double.latch();
    let error = Client::connect_with(server.options()).await.unwrap_err();
    assert_eq!(code(&error), Some(Code::StorageFailed));
    server.cut().await;
    let error = Client::connect(&server.address.to_string()).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
}

#[tokio::test]
async fn a_latched_shard_ends_an_embedded_client_with_its_reason() {
    let double = Double::default();
    let client = embedded(&double);
    let mut queue = client.subscribe(SubscribeOptions::new("/queue/b")).await.unwrap();
    double.hold(true);
    let produce = client.produce("/queue/a", "x");
    let (produced, ()) = tokio::join!(produce, async {
        until(|| double.requests() == 2).await;
        double.latch();
    });
    assert!(matches!(produced, Err(Error::OutcomeUnknown)));
    let error = queue.next().await.unwrap().unwrap_err();
    assert_eq!(code(&error), Some(Code::StorageFailed));
    assert_eq!(code(&client.stats().await.unwrap_err()), Some(Code::StorageFailed));
}

#[tokio::test]
async fn callers_are_held_back_when_too_much_is_unanswered() {
    let double = Double::default();
    let client = embedded(&double);
    double.hold(true);
    let count = limits::REQUESTS_IN_FLIGHT_MAX + 100;
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.produce("/queue/a", "x").await })
        })
        .collect();
    until(|| double.stored() == limits::REQUESTS_IN_FLIGHT_MAX).await;
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(double.stored(), limits::REQUESTS_IN_FLIGHT_MAX);
    double.hold(false);
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(double.stored(), count);
}

#[tokio::test]
async fn a_durable_start_is_asked_for_as_given() {
    let client = embedded(&Double::default());
    client.produce("/topic/t", "1").await.unwrap();
    let options = SubscribeOptions {
        start: StartAt::Earliest,
        durable: "archive".into(),
        ..SubscribeOptions::new("/topic/t")
    };
    let mut topic = client.subscribe(options).await.unwrap();
    assert_eq!(topic.next().await.unwrap().unwrap().offset, 1);
}
