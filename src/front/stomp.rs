//! A STOMP connection: runs a session over what carries it.
//!
//! The reading and the writing side are futures of one task. They share the session under a lock that is
//! never waited for, because the task does one thing at a time.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::carrier::{Carrier, Closing, Greeting, Reader, Serve, Writer};
use super::door::Door;
use super::listen::{Protocol, serve_protocol};
use super::outbox::{Unwritten, delivery_bytes};
use super::{FrontConfig, OpenSession, Submit};
use crate::base::command::Outgoing;
use crate::base::error::{ClientError, Code};
use crate::shard::Outbox;
use crate::wire::stomp::session::{Ending, Moment, Session, Settings};

/// Batches taken from the channel at once.
const BATCHES: usize = 32;
/// Pieces read in a row before other connections have their turn.
const PIECES_PER_TURN: u32 = 16;

/// What all STOMP connections of a server have in common.
struct Shared {
    open: OpenSession,
    config: FrontConfig,
    settings: Arc<Settings>,
    door: Door,
}

/// How STOMP connections are served, whatever carries them.
pub(crate) fn stomp(open: OpenSession, config: &FrontConfig) -> Serve {
    let settings = Settings {
        connect_timeout_ms: u64::try_from(config.hello_timeout.as_millis()).unwrap_or(u64::MAX),
        ..Settings::default()
    };
    let shared = Arc::new(Shared {
        open,
        config: config.clone(),
        settings: Arc::new(settings),
        door: Door::new(config.tokens.clone()),
    });
    Arc::new(move |carrier, greeting| {
        let shared = Arc::clone(&shared);
        Box::pin(async move { serve_carrier(carrier, greeting, &shared).await })
    })
}

/// Serves STOMP over plain TCP on `listener` until `shutdown` completes.
///
/// Then nothing more is accepted and nothing more is read; what was asked is answered within
/// [`FrontConfig::drain`], every client is told goodbye, and the connections are closed.
pub(crate) async fn serve_stomp(
    listener: TcpListener,
    stomp: Serve,
    config: FrontConfig,
    shutdown: impl Future<Output = ()>,
) {
    let connections = Protocol {
        serve: Box::new(move |stream, stopping| {
            let Ok(peer) = stream.peer_addr() else { return Box::pin(std::future::ready(())) };
            let greeting = Greeting { token: None, basic: false, peer, stopping };
            stomp(Carrier::tcp(stream), greeting)
        }),
        refuse: Box::new(|stream| Box::pin(refuse(stream))),
    };
    serve_protocol(listener, connections, &config, shutdown).await;
}

/// Tells a connection that there are too many.
async fn refuse(stream: TcpStream) {
    let now = Moment::default();
    let mut session = Session::new(Arc::default(), "", now);
    session.end(Code::TooManyConnections.into());
    let mut writer = Carrier::tcp(stream).writer;
    if writer.write(&session.take_frames(now), REFUSAL_STALL).await.is_ok() {
        writer.close(Closing::Protocol).await;
    }
}

/// Longest the refusal of a connection may take.
const REFUSAL_STALL: Duration = Duration::from_millis(500);

/// What goes from the shard to a connection.
enum Said {
    Outgoing(Vec<Outgoing>),
    Closed(ClientError),
}

/// The shard's end of the channel. Bounded like that of the binary protocol: by what may enter it.
struct Channel {
    sender: UnboundedSender<Said>,
    unwritten: Arc<Unwritten>,
}

impl Outbox for Channel {
    fn push(&self, batch: Vec<Outgoing>) {
        self.unwritten.add(&batch);
        // A closed channel is a connection that is gone; its session is about to be dropped.
        let _ = self.sender.send(Said::Outgoing(batch));
    }

    fn is_full(&self) -> bool {
        self.unwritten.is_full()
    }

    fn closed(&self, reason: ClientError) {
        let _ = self.sender.send(Said::Closed(reason));
    }
}

/// The session and its way to the shard, shared by both sides of a connection.
struct Talk<'a> {
    shared: &'a Shared,
    greeting: &'a Greeting,
    began: Instant,
    inner: Mutex<Inner>,
    /// There may be something to write, or nothing to wait for.
    wake: Notify,
    /// The session may take more.
    room: Notify,
    /// Nothing more will be read.
    read_all: AtomicBool,
}

struct Inner {
    session: Session,
    submit: Option<Submit>,
    /// Taken when the session of the shard is opened.
    channel: Option<Channel>,
}

impl Talk<'_> {
    fn now(&self) -> Moment {
        Moment {
            mono_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            wall_ms: (self.shared.config.wall_ms)(),
        }
    }

    /// Does something with the session, and passes on what it asks for.
    fn with<T>(&self, act: impl FnOnce(&mut Session, Moment) -> T) -> T {
        let now = self.now();
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let result = act(&mut inner.session, now);
        if let Some(credentials) = inner.session.take_credentials() {
            let user = self.shared.door.judge(&credentials, self.greeting);
            let opened = user.and_then(|user| {
                let channel = inner.channel.take().ok_or(Code::Internal)?;
                inner.submit = Some((self.shared.open)(Box::new(channel))?);
                Ok(user)
            });
            match opened {
                Ok(user) => {
                    tracing::debug!(peer = %self.greeting.peer, user, "connected");
                    inner.session.admit(&user, now);
                }
                Err(error) => {
                    tracing::debug!(peer = %self.greeting.peer, %error, "turned away");
                    inner.session.turn_away(error);
                }
            }
        }
        let commands = inner.session.take_commands();
        if !commands.is_empty()
            && let Some(submit) = &inner.submit
            && let Err(error) = submit(commands)
        {
            inner.session.end(error);
        }
        result
    }

    /// Reads until the client has no more to say, or nobody listens any more.
    async fn read(&self, reader: &mut Reader, stopping: &mut watch::Receiver<bool>) {
        let mut pieces = 0;
        loop {
            while self.with(|session, _| session.is_full()) {
                tokio::select! {
                    () = self.room.notified() => {}
                    () = stopped(stopping) => return self.leave(),
                }
            }
            let piece = tokio::select! {
                piece = reader.read() => piece,
                () = stopped(stopping) => return self.leave(),
            };
            match piece {
                Ok(Some(piece)) => {
                    self.with(|session, now| session.receive(&piece, now));
                    self.wake.notify_one();
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(%error, "connection lost");
                    return;
                }
            }
            pieces += 1;
            if pieces % PIECES_PER_TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    fn leave(&self) {
        self.with(|session, _| session.leave(Code::ShuttingDown.into()));
    }

    /// Writes until the session has ended, or nothing more is read and everything is answered. What was
    /// asked is carried out also when nobody is there any more to be told.
    async fn write(
        &self,
        writer: &mut Writer,
        mut channel: UnboundedReceiver<Said>,
        unwritten: &Unwritten,
    ) -> Option<Closing> {
        let mut heard = Vec::new();
        let mut heard_bytes = 0;
        let mut deaf = false;
        loop {
            let (frames, ending, owed, deadline) = self.with(|session, now| {
                let frames = session.take_frames(now);
                (frames, session.ending(), session.is_owed(), session.deadline_ms())
            });
            if !frames.is_empty() && !deaf {
                match writer.write(&frames, self.shared.config.write_stall).await {
                    Ok(()) => self.with(|session, _| session.written()),
                    Err(error) => {
                        tracing::debug!(%error, "cannot write to a connection");
                        deaf = true;
                    }
                }
            }
            unwritten.remove(std::mem::take(&mut heard_bytes));
            match ending {
                _ if deaf && !owed => return None,
                Some(Ending::Goodbye) => return Some(Closing::Normal),
                Some(Ending::Error) => return Some(Closing::Protocol),
                None if self.read_all.load(Ordering::Relaxed) && !owed => {
                    return Some(Closing::Normal);
                }
                None => {}
            }
            if !frames.is_empty() {
                // While it was written, there may have come more.
                drop(frames);
            }
            let rest = async {
                match deadline {
                    Some(ms) => sleep_until(self.began + Duration::from_millis(ms)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                count = channel.recv_many(&mut heard, BATCHES) => {
                    if count == 0 {
                        // The session of the shard was never opened, and cannot be any more.
                        self.wake.notified().await;
                    }
                }
                () = self.wake.notified() => {}
                () = rest => self.with(Session::tick),
            }
            for said in heard.drain(..) {
                match said {
                    Said::Outgoing(batch) => {
                        heard_bytes += delivery_bytes(&batch);
                        self.with(|session, now| {
                            batch.into_iter().for_each(|outgoing| session.hear(outgoing, now));
                        });
                    }
                    Said::Closed(reason) => self.with(|session, _| session.end(reason)),
                }
            }
            self.room.notify_one();
        }
    }
}

/// Serves one connection to its end.
async fn serve_carrier(mut carrier: Carrier, greeting: Greeting, shared: &Shared) {
    let (sender, receiver) = unbounded_channel();
    let unwritten = Arc::new(Unwritten::default());
    let channel = Channel { sender, unwritten: Arc::clone(&unwritten) };
    let mut session =
        Session::new(Arc::clone(&shared.settings), &session_name(), Moment::default());
    if !carrier.writer.carries(&NOT_TEXT) {
        session.write_text_only();
    }
    let mut stopping = greeting.stopping.clone();
    let talk = Talk {
        shared,
        greeting: &greeting,
        began: Instant::now(),
        inner: Mutex::new(Inner { session, submit: None, channel: Some(channel) }),
        wake: Notify::new(),
        room: Notify::new(),
        read_all: AtomicBool::new(false),
    };
    let closing = {
        let mut write = pin!(talk.write(&mut carrier.writer, receiver, &unwritten));
        let read = talk.read(&mut carrier.reader, &mut stopping);
        tokio::select! {
            closing = &mut write => closing,
            () = read => {
                talk.read_all.store(true, Ordering::Relaxed);
                talk.wake.notify_one();
                timeout(shared.config.drain, write).await.unwrap_or(Some(Closing::GoingAway))
            }
        }
    };
    // Who was told that the server stops did nothing wrong.
    let closing = closing.map(|how| if *stopping.borrow() { Closing::GoingAway } else { how });
    if let Some(closing) = closing {
        carrier.writer.close(closing).await;
    }
}

/// Nothing that is text.
const NOT_TEXT: [u8; 1] = [0xff];

/// Waits until the server is told to stop, or is gone.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// A name for a session that no other one of this server has, and that cannot be guessed.
fn session_name() -> String {
    static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{:016x}", SECRET.hash_one(COUNT.fetch_add(1, Ordering::Relaxed)))
}
