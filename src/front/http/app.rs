//! What the requests of one listener share.

use std::sync::Arc;
use std::time::Duration;

use super::body::Bodies;
use super::origin::Origins;
use super::sockjs::Sessions;
use crate::front::carrier::Serve;
use crate::front::config::{FrontConfig, HttpConfig};

pub(super) struct App {
    pub(super) http: HttpConfig,
    /// Longest a peer may take nothing of what waits to be written to it.
    pub(super) write_stall: Duration,
    pub(super) stomp: Option<Serve>,
    pub(super) origins: Origins,
    pub(super) bodies: Bodies,
    pub(super) sessions: Arc<Sessions>,
}

impl App {
    pub(super) fn new(config: &FrontConfig, stomp: Option<Serve>) -> Self {
        Self {
            origins: Origins::new(&config.http.origins),
            bodies: Bodies::new(config.http.body_timeout),
            sessions: Arc::default(),
            write_stall: config.write_stall,
            http: config.http.clone(),
            stomp,
        }
    }
}
