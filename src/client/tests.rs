//! Goal: the client keeps its promises over both transports, and batches.
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
pub(super) struct Server {
    pub(super) double: Double,
    address: SocketAddr,
    task: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) async fn start() -> Self {
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
    pub(super) async fn cut(&mut self) {
        let task = self.task.take().unwrap();
        task.abort();
        let _ = task.await;
        while self.double.sessions() > 0 {
            tokio::task::yield_now().await;
        }
    }

    pub(super) async fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serve(listener);
    }

    pub(super) fn options(&self) -> ClientOptions {
        ClientOptions::new(self.address.to_string())
    }

    pub(super) async fn client(&self) -> Client {
        Client::connect_with(self.options()).await.unwrap()
    }
}

pub(super) fn embedded(double: &Double) -> Client {
    let open = double.open();
    Client::embedded_in(|outbox| open(outbox)).unwrap()
}

pub(super) async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

pub(super) fn code(error: &Error) -> Option<Code> {
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
    client.pause("/queue/b").await.unwrap();
    assert!(client.describe_destination("/queue/b").await.unwrap().paused);
    client.resume("/queue/b").await.unwrap();
    assert!(!client.describe_destination("/queue/b").await.unwrap().paused);
    let age = std::time::Duration::from_micros(1_500);
    client.limit("/queue/b", Limits { max_messages: Some(7), max_age: None }).await.unwrap();
    let limits = Limits { max_messages: None, max_age: Some(age) };
    let info = client.limit("/queue/b", limits).await.unwrap();
    assert_eq!((info.max_messages, info.max_age_ms), (7, 2));
    client.produce("/queue/b", "x").await.unwrap();
    client.send("/queue/b", Message::new("x").with_delay(Delay::Level(1))).await.unwrap();
    let purged = client.purge("/queue/b", false).await.unwrap();
    assert_eq!((purged.ready, purged.scheduled), (1, 0));
    let purged = client.purge("/queue/b", true).await.unwrap();
    assert_eq!((purged.ready, purged.scheduled), (0, 1));
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
        shared: false,
        durable: "archive".into(),
        ..SubscribeOptions::new("/topic/t")
    };
    let mut topic = client.subscribe(options).await.unwrap();
    assert_eq!(topic.next().await.unwrap().unwrap().offset, 1);
}
