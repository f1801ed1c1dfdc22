//! The shard's thread: waits, takes what came in, steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::base::error::{ClientError, Code};
use crate::base::limits;

use super::broker::Input;
use super::core::Core;
use super::error::ShardError;

/// Longest pause after a step while messages are taken slowly.
const SLOWED_PAUSE_MAX: Duration = Duration::from_millis(50);

/// Runs a shard until it is asked to stop or its journal fails.
pub(super) fn run(
    mut core: Core,
    inbox: &Receiver<Input>,
    failed: &Arc<AtomicBool>,
) -> Result<(), ShardError> {
    let outcome = serve(&mut core, inbox);
    if let Err(error) = outcome {
        failed.store(true, Ordering::SeqCst);
        tracing::error!(%error, "the shard failed; nothing more is accepted until a restart");
        core.hang_up(&Code::StorageFailed.into());
        turn_away(inbox, Code::StorageFailed);
        return Err(error);
    }
    let closed = core.close();
    turn_away(inbox, Code::ShuttingDown);
    closed
}

/// Tells sessions that were just being opened: no step will take them any more.
fn turn_away(inbox: &Receiver<Input>, code: Code) {
    while let Ok(input) = inbox.try_recv() {
        if let Input::Open(_, outbox) = input {
            outbox.closed(ClientError::from(code));
        }
    }
}

fn serve(core: &mut Core, inbox: &Receiver<Input>) -> Result<(), ShardError> {
    loop {
        let wait = core.wait();
        let mut going = true;
        if wait > Duration::ZERO {
            match inbox.recv_timeout(wait) {
                Ok(input) => going = core.take(input),
                Err(RecvTimeoutError::Timeout) => {}
                // Every handle is gone: nobody can ask for anything any more.
                Err(RecvTimeoutError::Disconnected) => return core.step(),
            }
        }
        while going && core.backlog() < limits::STEP_REQUESTS_MAX {
            match inbox.try_recv() {
                Ok(input) => going = core.take(input),
                Err(_) => break,
            }
        }
        let begun = core.mono_ns();
        core.step()?;
        // A pause in proportion to the work slows everybody alike, whatever the size of their requests.
        if let Some(percent) = core.slowed_percent() {
            let took = Duration::from_nanos(core.mono_ns().saturating_sub(begun));
            std::thread::sleep((took * percent / 100).min(SLOWED_PAUSE_MAX));
        }
        if !going {
            // What was asked before the stop is carried out, unless the disk has no space for it:
            // then it stays unanswered rather than keep the server from stopping.
            while core.backlog() > 0 && !core.is_stuck() {
                // What waits for memory waits for the flush that gives it back.
                std::thread::sleep(core.wait());
                core.step()?;
            }
            return Ok(());
        }
    }
}
