//! The sessions that are carried by requests, by name.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::base::limits::SOCKJS_SESSIONS_MAX;
use crate::front::carrier::{Carrier, Greeting, Polled, Serve};
use crate::wire::sockjs::Reason;

/// What a session may take to end once all connections have.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// All of them.
#[derive(Default)]
pub(in crate::front::http) struct Sessions {
    named: Mutex<HashMap<String, Arc<Polled>>>,
    /// Those who serve them.
    served: Mutex<JoinSet<()>>,
    /// Those who look whether somebody still receives.
    watched: Mutex<JoinSet<()>>,
}

/// What became of a request to receive.
pub(super) enum Attached {
    /// It is the one that receives.
    Receiving(Arc<Polled>),
    /// Another one does.
    Busy,
    /// There is no such session, and there is no room for it.
    Full,
}

impl Sessions {
    pub(super) fn find(&self, name: &str) -> Option<Arc<Polled>> {
        self.named.lock().get(name).cloned()
    }

    /// Attaches a request to its session, which is begun if there is none; that one ends when nobody has
    /// received for `patience`.
    pub(super) fn attach(
        self: &Arc<Self>,
        name: String,
        stomp: &Serve,
        greeting: Greeting,
        patience: Duration,
    ) -> Attached {
        let session = {
            let mut named = self.named.lock();
            if let Some(session) = named.get(&name) {
                let free = session.attach();
                return if free {
                    Attached::Receiving(Arc::clone(session))
                } else {
                    Attached::Busy
                };
            }
            if named.len() >= SOCKJS_SESSIONS_MAX {
                return Attached::Full;
            }
            let session = Polled::new();
            named.insert(name.clone(), Arc::clone(&session));
            session
        };
        spawn(&self.served, stomp(Carrier::polled(&session), greeting));
        let (sessions, ours) = (Arc::clone(self), Arc::clone(&session));
        spawn(&self.watched, async move {
            ours.until_abandoned(patience).await;
            sessions.named.lock().remove(&name);
            ours.end(Reason::GoAway);
        });
        Attached::Receiving(session)
    }

    /// Ends all that are left.
    pub(in crate::front::http) async fn finish(&self) {
        // There are no requests any more.
        let mut watched = std::mem::take(&mut *self.watched.lock());
        watched.shutdown().await;
        for (_, session) in self.named.lock().drain() {
            session.end(Reason::Stopping);
        }
        let mut served = std::mem::take(&mut *self.served.lock());
        let all = async { while served.join_next().await.is_some() {} };
        if timeout(LAST_WORDS, all).await.is_err() {
            tracing::warn!(sessions = served.len(), "SockJS sessions cut off before they ended");
            served.shutdown().await;
        }
    }
}

/// Adds a task, and lets go of those that have ended.
fn spawn(tasks: &Mutex<JoinSet<()>>, task: impl Future<Output = ()> + Send + 'static) {
    let mut tasks = tasks.lock();
    while let Some(ended) = tasks.try_join_next() {
        if let Err(error) = ended {
            tracing::error!(%error, "a SockJS session ended by a fault of the server");
        }
    }
    tasks.spawn(task);
}
