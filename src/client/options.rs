//! Settings of the client and of its requests.

use std::time::Duration;

use crate::base::command::StartAt;
use crate::base::id::Key;
use crate::base::limits;

/// Settings of a [`Client`](super::Client) over TCP.
///
/// ```
/// use postdate::client::ClientOptions;
///
/// let options = ClientOptions { name: "mailer".into(), ..ClientOptions::new("10.0.0.5:7700") };
/// assert!(options.reconnect);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientOptions {
    /// Address of the server: `host:port`.
    pub server: String,
    /// Name for the server's log, at most 128 bytes.
    pub name: String,
    /// Name of this device or process over reconnects, at most 128 bytes; may be empty.
    pub client_id: String,
    /// Authentication token, at most 4096 bytes; empty for none.
    pub token: String,
    /// Connect again when the connection is lost, after 100 ms, then twice as long, up to 5 s.
    pub reconnect: bool,
    /// While there is no connection for this long, waiting requests fail with
    /// [`Error::Disconnected`](super::Error::Disconnected). The client goes on trying.
    pub give_up_after: Duration,
    /// Most messages that automatic batching puts into one request; 1 switches it off.
    pub batch_max: usize,
    /// How long connecting may take, hello included.
    pub connect_timeout: Duration,
    /// Time between signs of life. A server that is silent for three times as long is lost.
    pub heartbeat: Duration,
}

impl ClientOptions {
    /// The defaults, for this server.
    #[must_use]
    pub fn new(server: impl Into<String>) -> Self {
        Self { server: server.into(), ..Self::default() }
    }
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            server: "127.0.0.1:7700".to_owned(),
            name: concat!("postdate-rust ", env!("CARGO_PKG_VERSION")).to_owned(),
            client_id: String::new(),
            token: String::new(),
            reconnect: true,
            give_up_after: Duration::from_secs(60),
            batch_max: 1_000,
            connect_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(10),
        }
    }
}

/// What to subscribe to, and how.
///
/// ```
/// use postdate::client::SubscribeOptions;
///
/// let options = SubscribeOptions { credit: 1_000, ..SubscribeOptions::new("/queue/mail") };
/// # assert_eq!(options.durable, "");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// Name of the destination.
    pub destination: String,
    /// Most messages delivered and not acknowledged, 1 to 65 535.
    pub credit: u32,
    /// Time to acknowledge a message; `None` takes the destination's.
    pub ack_timeout: Option<Duration>,
    /// Name of a durable topic subscription; empty for an ephemeral one. Queues need none.
    pub durable: String,
    /// Where a new subscription of a topic or an inbox begins.
    pub start: StartAt,
    /// Share the durable subscription with others that do: each message goes to one of them.
    pub shared: bool,
}

impl SubscribeOptions {
    /// An ephemeral subscription with a credit of 256.
    #[must_use]
    pub fn new(destination: impl Into<String>) -> Self {
        Self {
            destination: destination.into(),
            credit: 256,
            ack_timeout: None,
            durable: String::new(),
            start: StartAt::default(),
            shared: false,
        }
    }
}

/// Which scheduled messages to list.
///
/// ```
/// use postdate::client::ListQuery;
///
/// let query = ListQuery { destination: "/queue/mail".into(), limit: 50, ..ListQuery::default() };
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// Only of this destination; empty lists all.
    pub destination: String,
    /// From this due time on, ms since the Unix epoch.
    pub from_ms: u64,
    /// Up to and including this due time, ms since the Unix epoch.
    pub to_ms: u64,
    /// Most entries wanted, at most 1000.
    pub limit: u32,
    /// The `next` of the page before; `None` for the first page.
    pub after: Option<Key>,
}

impl Default for ListQuery {
    /// Everything that is scheduled, in the largest pages.
    fn default() -> Self {
        Self {
            destination: String::new(),
            from_ms: 0,
            to_ms: u64::MAX,
            limit: limits::PAGE_ITEMS_MAX as u32,
            after: None,
        }
    }
}

/// Limits of a destination. What is `None` stays as it is.
///
/// ```
/// use std::time::Duration;
/// use postdate::client::Limits;
///
/// let week = Duration::from_secs(7 * 24 * 3600);
/// let limits = Limits { max_messages: Some(0), max_age: Some(week) };
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Most messages, scheduled, ready and in flight; one more is refused. 0: as many as come.
    pub max_messages: Option<u64>,
    /// How old a ready message may grow before it expires. Zero: as its kind does by default, in a
    /// queue for ever.
    pub max_age: Option<Duration>,
}
