//! Signals: when a server stops, and when it believes the wall clock again.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// How often the shard is asked whether it has failed.
const FAILURE_CHECK: Duration = Duration::from_millis(200);
/// Exit code of a server that was told twice: that of a process ended by SIGINT.
const EXIT_AT_ONCE: i32 = 130;

/// Completes with the first SIGTERM or SIGINT; the second ends the process at once, also while it
/// drains or syncs.
pub(super) fn on_signals() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (first, told) = oneshot::channel();
    tokio::spawn(async move {
        either(&mut interrupt, &mut terminate).await;
        tracing::info!("stopping: no more requests, answering what was taken");
        // Nobody listens when the server stops already, by itself.
        let _ = first.send(());
        either(&mut interrupt, &mut terminate).await;
        tracing::warn!("stopped at once; everything acknowledged is safe");
        std::process::exit(EXIT_AT_ONCE);
    });
    Ok(async {
        let _ = told.await;
    })
}

/// Calls `release` at each SIGUSR1.
pub(super) fn on_release(release: impl Fn() + Send + 'static) -> io::Result<()> {
    let mut asked = signal(SignalKind::user_defined1())?;
    tokio::spawn(async move {
        while asked.recv().await.is_some() {
            release();
        }
    });
    Ok(())
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Completes when `failed` says so.
pub(super) async fn when_failed(failed: impl Fn() -> bool) {
    while !failed() {
        tokio::time::sleep(FAILURE_CHECK).await;
    }
}
