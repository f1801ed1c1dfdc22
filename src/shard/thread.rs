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

/// While memory is used twice over, each step is followed by a pause.
const SLOWED_PAUSE: Duration = Duration::from_millis(1);

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
        core.step()?;
        if core.is_slowed() {
            std::thread::sleep(SLOWED_PAUSE);
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
