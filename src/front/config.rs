//! Settings of the TCP listener.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::base::limits;

/// Settings of the TCP listener. The defaults are those of [`limits`].
#[derive(Clone)]
pub struct FrontConfig {
    /// Most connections at once; one more is told error 7 and closed.
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
        }
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
            .finish_non_exhaustive()
    }
}
