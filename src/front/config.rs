//! Settings of the listeners.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::base::limits;

/// Settings of a listener. The defaults are those of [`limits`].
#[derive(Clone)]
pub struct FrontConfig {
    /// Most connections at once, of all listeners with clones of the same configuration together; one
    /// more is refused in the words of its protocol.
    pub max_connections: usize,
    /// Name and version of the server, as told in answer to hello; at most 65 535 bytes.
    pub server: String,
    /// Reads the wall clock, in ms since the Unix epoch, for the answer to hello.
    pub wall_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// How long a new connection may take to say hello.
    pub hello_timeout: Duration,
    /// Longest silence of a client before its connection is closed.
    pub idle_timeout: Duration,
    /// Longest a peer may take nothing of what waits to be written to it.
    pub write_stall: Duration,
    /// How long an ending connection waits for what is still unanswered.
    pub drain: Duration,
    /// What is for HTTP only.
    pub http: HttpConfig,
    /// For STOMP only: SHA-256 of each token, and the user it stands for. Without any, everybody may
    /// connect under any name.
    pub tokens: BTreeMap<[u8; 32], String>,
    /// What [`Self::max_connections`] leaves.
    pub places: Places,
}

/// Places for connections, shared by all clones.
#[derive(Debug, Clone, Default)]
pub struct Places(Arc<OnceLock<Arc<Semaphore>>>);

/// Settings of HTTP, WebSocket and SockJS. The defaults are those of [`limits`].
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Origins whose web pages may connect, as `https://example.com`; `*` is all of them. Pages of the
    /// host that they connect to, and of this machine, always may.
    pub origins: Vec<String>,
    /// How long the head of a request may take to come, and a connection may be silent before it.
    pub header_timeout: Duration,
    /// How long the body of a request may take to come.
    pub body_timeout: Duration,
    /// A peer of a WebSocket that is silent for so long is pinged; the third time it is given up.
    pub ping_every: Duration,
    /// Time between the heart-beats of SockJS.
    pub sockjs_heartbeat: Duration,
    /// A SockJS session without a request to receive ends after this.
    pub sockjs_disconnect: Duration,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            origins: Vec::new(),
            header_timeout: Duration::from_millis(limits::HTTP_HEADER_TIMEOUT_MS),
            body_timeout: Duration::from_millis(limits::HTTP_BODY_TIMEOUT_MS),
            ping_every: Duration::from_millis(limits::WEBSOCKET_PING_MS),
            sockjs_heartbeat: Duration::from_millis(limits::SOCKJS_HEARTBEAT_MS),
            sockjs_disconnect: Duration::from_millis(limits::SOCKJS_DISCONNECT_MS),
        }
    }
}

impl FrontConfig {
    /// The defaults, with this wall clock (ms since the Unix epoch).
    #[must_use]
    pub fn new(wall_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self {
            max_connections: limits::CONNECTIONS_MAX,
            server: concat!("postdate ", env!("CARGO_PKG_VERSION")).to_owned(),
            wall_ms: Arc::new(wall_ms),
            hello_timeout: Duration::from_millis(limits::HELLO_TIMEOUT_MS),
            idle_timeout: Duration::from_millis(limits::IDLE_TIMEOUT_MS),
            write_stall: Duration::from_millis(limits::WRITE_STALL_MS),
            drain: Duration::from_millis(limits::DRAIN_MS),
            http: HttpConfig::default(),
            tokens: BTreeMap::new(),
            places: Places::default(),
        }
    }
}

impl FrontConfig {
    /// The places for connections.
    pub(super) fn places(&self) -> Arc<Semaphore> {
        let places = || Arc::new(Semaphore::new(self.max_connections));
        Arc::clone(self.places.0.get_or_init(places))
    }
}

impl fmt::Debug for FrontConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrontConfig")
            .field("max_connections", &self.max_connections)
            .field("server", &self.server)
            .field("hello_timeout", &self.hello_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("write_stall", &self.write_stall)
            .field("drain", &self.drain)
            .field("http", &self.http)
            .field("tokens", &self.tokens.len())
            .finish_non_exhaustive()
    }
}
