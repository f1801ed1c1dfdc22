//! Goal: the Rust client keeps its word when a connection is lost in the middle: nothing stored
//! twice, nothing claimed that is not known, subscriptions go on. Method: a proxy between client
//! and server that swallows one direction and then hangs up.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use postdate::base::message::Message as ClientMessage;
use postdate::client::{Client, ClientOptions, Error, SubscribeOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::rig::{Server, soon};

const PASS: u8 = 0;
/// What the server says is lost.
const DEAF: u8 = 1;
/// What the client says is lost.
const MUTE: u8 = 2;

/// A way to the server that can fail.
struct Proxy {
    address: SocketAddr,
    /// The mode of the connections that are open; the next ones get one of their own.
    mode: Arc<Mutex<Arc<AtomicU8>>>,
    /// Bytes that were lost on the way to the server.
    lost: watch::Receiver<usize>,
    cut: watch::Sender<u64>,
}

impl Proxy {
    async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mode = Arc::new(Mutex::new(Arc::new(AtomicU8::new(PASS))));
        let (cut, cuts) = watch::channel(0);
        let (loses, lost) = watch::channel(0);
        let loses = Arc::new(loses);
        tokio::spawn({
            let mode = Arc::clone(&mode);
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let server = TcpStream::connect(server).await.unwrap();
                    let (mode, loses) = (Arc::clone(&mode.lock().unwrap()), Arc::clone(&loses));
                    let mut cuts = cuts.clone();
                    cuts.mark_unchanged();
                    tokio::spawn(async move {
                        let (mut from_client, mut to_client) = client.into_split();
                        let (mut from_server, mut to_server) = server.into_split();
                        let there = async {
                            let mut piece = [0; 4096];
                            while let Ok(count @ 1..) = from_client.read(&mut piece).await {
                                if mode.load(Ordering::SeqCst) == MUTE {
                                    loses.send_modify(|lost| *lost += count);
                                } else if to_server.write_all(&piece[..count]).await.is_err() {
                                    break;
                                }
                            }
                        };
                        let back = async {
                            let mut piece = [0; 4096];
                            while let Ok(count @ 1..) = from_server.read(&mut piece).await {
                                if mode.load(Ordering::SeqCst) != DEAF
                                    && to_client.write_all(&piece[..count]).await.is_err()
                                {
                                    break;
                                }
                            }
                        };
                        tokio::select! {
                            () = there => {}
                            () = back => {}
                            _ = cuts.changed() => {}
                        }
                    });
                }
            }
        });
        Self { address, mode, lost, cut }
    }

    fn set(&self, mode: u8) {
        self.mode.lock().unwrap().store(mode, Ordering::SeqCst);
    }

    /// Ends the connections that are open, and lets the next ones pass.
    fn cut(&self) {
        *self.mode.lock().unwrap() = Arc::new(AtomicU8::new(PASS));
        self.cut.send_modify(|count| *count += 1);
    }

    async fn client(&self) -> Client {
        let options = ClientOptions::new(self.address.to_string());
        soon("a connection", Client::connect_with(options)).await.unwrap()
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_is_an_unknown_outcome_and_no_duplicate() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address).await;
    let client = proxy.client().await;
    let mut witness = server.greet().await;
    proxy.set(DEAF);
    let produce = client.produce("/queue/lost", "x");
    let batch = [ClientMessage::new("1"), ClientMessage::new("2").with_dedup("d")];
    let batch = client.produce_batch("/queue/lost", &batch);
    let cut = async {
        witness.until("produced_total", |produced| produced == 3).await;
        proxy.cut();
    };
    let (produced, batch, ()) = tokio::join!(produce, batch, cut);
    assert!(matches!(produced, Err(Error::OutcomeUnknown)), "{produced:?}");
    // Not all of its messages may be sent again, so none is.
    assert!(matches!(batch, Err(Error::OutcomeUnknown)), "{batch:?}");
    // The next connection shows that nothing was sent again.
    soon("the next connection", client.produce("/queue/lost", "after")).await.unwrap();
    let info = client.describe_destination("/queue/lost").await.unwrap();
    assert_eq!((info.ready, witness.counter("produced_total").await), (4, 4));
}

#[tokio::test]
async fn a_message_with_a_dedup_id_is_sent_again_and_stored_once() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address).await;
    let client = proxy.client().await;
    let mut witness = server.greet().await;
    proxy.set(DEAF);
    let one = client.send("/queue/once", ClientMessage::new("x").with_dedup("one"));
    let batch: Vec<_> =
        (0..500).map(|n| ClientMessage::new("x").with_dedup(format!("{n}"))).collect();
    let batch = client.produce_batch("/queue/once", &batch);
    let cut = async {
        witness.until("produced_total", |produced| produced == 501).await;
        proxy.cut();
    };
    let (one, batch, ()) = tokio::join!(one, batch, cut);
    assert!(one.unwrap().duplicate);
    assert!(batch.unwrap().into_iter().all(|result| result.unwrap().duplicate));
    assert_eq!(witness.counter("produced_total").await, 501);
    assert_eq!(witness.describe("/queue/once").await.ready, 501);
}

#[tokio::test]
async fn a_request_that_never_arrived_is_as_unknown_as_one_that_did() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address).await;
    let client = proxy.client().await;
    let mut witness = server.greet().await;
    proxy.set(MUTE);
    let plain = client.produce("/queue/never", [7; 200]);
    let safe = client.send("/queue/safe", ClientMessage::new([7; 200]).with_dedup("d"));
    let mut lost = proxy.lost.clone();
    let cut = async {
        soon("both to be lost", lost.wait_for(|lost| *lost > 400)).await.unwrap();
        proxy.cut();
    };
    let (plain, safe, ()) = tokio::join!(plain, safe, cut);
    assert!(matches!(plain, Err(Error::OutcomeUnknown)), "{plain:?}");
    assert!(!safe.unwrap().duplicate);
    assert_eq!(witness.counter("produced_total").await, 1);
    assert_eq!(witness.describe("/queue/safe").await.ready, 1);
}

#[tokio::test]
async fn a_subscription_goes_on_over_the_next_connection() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address).await;
    let client = proxy.client().await;
    let mut witness = server.greet().await;
    let mut queue = client.subscribe(SubscribeOptions::new("/queue/on")).await.unwrap();
    let mut topic = client.subscribe(SubscribeOptions::new("/topic/on")).await.unwrap();
    for body in ["1", "2"] {
        client.produce("/queue/on", body).await.unwrap();
        client.produce("/topic/on", body).await.unwrap();
    }
    let first = queue.next().await.unwrap().unwrap();
    assert!(queue.ack(&[first.id]).await.unwrap()[0].done);
    assert_eq!(queue.next().await.unwrap().unwrap().body(), b"2");
    let first = topic.next().await.unwrap().unwrap();
    assert!(topic.ack(&[first.id]).await.unwrap()[0].done);
    assert_eq!(topic.next().await.unwrap().unwrap().body(), b"2");
    proxy.cut();
    for to in ["/queue/on", "/topic/on"] {
        witness.produce_one(to, crate::words::Message::new("3")).await.unwrap();
    }
    for subscription in [&mut queue, &mut topic] {
        for expected in [b"2", b"3"] {
            let got = soon("a message", subscription.next()).await.unwrap().unwrap();
            assert_eq!(got.body(), expected);
            assert!(subscription.ack(&[got.id]).await.unwrap()[0].done);
        }
    }
    assert_eq!(witness.describe("/queue/on").await.in_flight, 0);
    assert_eq!(witness.counter("subscriptions").await, 2);
}
