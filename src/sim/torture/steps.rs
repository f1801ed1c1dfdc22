//! Steps of the wall clock, in the middle of lives.
//!
//! A server that is stopped or killed counts the time until the next start by the wall. So each step is
//! over before that: the server has said that it noticed, and has answered a message that came
//! after it. What it does not believe at its end is put right while it is down.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::time::sleep;

use super::ledger::wall_ms;
use super::server::Server;
use super::{PAUSE, SPACE_PATIENCE, Torture, TortureError, failed, load};
use crate::base::limits;

/// An hour: a step that is not believed, also when it puts the clock right.
const HOUR_S: i64 = 3_600;
/// Longest step forward that is believed with room to spare, s.
const BELIEVED_S: i64 = 540;
/// Further from the truth it does not go by itself, s.
const FAR_S: i64 = 2 * HOUR_S;
/// Longest time until a server has noticed a step.
const NOTICE_PATIENCE: Duration = Duration::from_secs(20);

/// What the server's log says of a step.
const FORWARD: &str = "the wall clock stepped forward";
const BACK: &str = "the wall clock stepped back";
const HELD: &str = "the wall clock is far ahead";
const BELIEVED_AGAIN: &str = "the wall clock is believed again";

impl Torture<'_> {
    /// Before a server starts: what the last one did not believe was put right.
    pub(super) fn settle_wall(&mut self) -> Result<(), TortureError> {
        let Some(wall) = self.wall.as_mut().filter(|wall| wall.is_held()) else { return Ok(()) };
        self.ledger.lock().show(wall.believed_s);
        wall.show(wall.believed_s).map_err(failed("step the wall"))
    }

    /// Steps the wall, or leaves it alone.
    pub(super) async fn step_wall(
        &mut self,
        server: &Server,
        address: &str,
    ) -> Result<(), TortureError> {
        let Some(wall) = &self.wall else { return Ok(()) };
        let shown_s = wall.shown_s;
        if self.random.percent(40) {
            return Ok(());
        }
        let seconds = |most: i64, random: &mut crate::sim::random::Random| {
            1 + random.below(most.unsigned_abs()).cast_signed()
        };
        match self.random.below(100) {
            0..35 if shown_s != 0 => self.bring_wall(server, address, 0).await?,
            35..60 if shown_s < FAR_S => {
                let ahead_s = shown_s + seconds(BELIEVED_S, &mut self.random);
                self.bring_wall(server, address, ahead_s).await?;
            }
            60..80 if shown_s < FAR_S => {
                self.put_wall(server, address, shown_s + HOUR_S).await?;
                self.sleep(50, 400).await;
                match self.random.below(3) {
                    0 => self.put_wall(server, address, shown_s).await?,
                    1 => self.release_wall(server, address).await?,
                    // The life ends so.
                    _ => return Ok(()),
                }
            }
            80.. if shown_s > -FAR_S => {
                let ahead_s = shown_s - seconds(HOUR_S, &mut self.random);
                self.put_wall(server, address, ahead_s).await?;
            }
            _ => return Ok(()),
        }
        self.sleep(50, 500).await;
        Ok(())
    }

    /// As far ahead as it was since the last rest: then every message that is due at a time comes.
    pub(super) async fn raise_wall(
        &mut self,
        server: &Server,
        address: &str,
    ) -> Result<(), TortureError> {
        let Some(most_s) = self.wall.as_ref().map(|wall| wall.most_s) else { return Ok(()) };
        self.bring_wall(server, address, most_s).await
    }

    /// Steps it to where the server follows, in one step and a signal or in many small ones.
    async fn bring_wall(
        &mut self,
        server: &Server,
        address: &str,
        ahead_s: i64,
    ) -> Result<(), TortureError> {
        let at_once = self.random.coin();
        while let Some(wall) = self.wall.as_ref().filter(|wall| wall.shown_s != ahead_s) {
            let next_s = if at_once { ahead_s } else { ahead_s.min(wall.shown_s + BELIEVED_S) };
            self.put_wall(server, address, next_s).await?;
            if self.wall.as_ref().is_some_and(|wall| wall.is_held()) {
                self.release_wall(server, address).await?;
            }
        }
        Ok(())
    }

    /// One step; over when the server knows of it for good.
    async fn put_wall(
        &mut self,
        server: &Server,
        address: &str,
        ahead_s: i64,
    ) -> Result<(), TortureError> {
        let Some(wall) = &mut self.wall else { return Ok(()) };
        let step_s = ahead_s - wall.believed_s;
        let held = step_s.saturating_mul(1_000) > limits::CLOCK_STEP_HOLD_MS.cast_signed();
        let says = match step_s {
            0 if !wall.is_held() => return Ok(()),
            0 => BELIEVED_AGAIN,
            _ if held => HELD,
            1.. => FORWARD,
            _ => BACK,
        };
        let said = said(server, says);
        {
            // Before the server can know.
            let mut ledger = self.ledger.lock();
            ledger.show(ahead_s);
            if !held {
                ledger.begin_step(wall_ms(), ahead_s);
            }
            ledger.counts.clock_steps += 1;
            ledger.counts.clock_holds += u64::from(held);
        }
        wall.show(ahead_s).map_err(failed("step the wall"))?;
        if !held {
            wall.believed_s = ahead_s;
        }
        self.ledger.lock().end_step(wall_ms());
        self.await_notice(server, address, says, said, step_s).await;
        Ok(())
    }

    /// The operator says that a wall that is not believed is right.
    async fn release_wall(&mut self, server: &Server, address: &str) -> Result<(), TortureError> {
        let Some(wall) = &mut self.wall else { return Ok(()) };
        let step_s = wall.shown_s - wall.believed_s;
        let said = said(server, BELIEVED_AGAIN);
        self.ledger.lock().begin_step(wall_ms(), wall.shown_s);
        server.signal(Signal::USR1).map_err(failed("SIGUSR1"))?;
        wall.believed_s = wall.shown_s;
        self.await_notice(server, address, BELIEVED_AGAIN, said, step_s).await;
        self.ledger.lock().end_step(wall_ms());
        Ok(())
    }

    /// Waits until the server says so once more, and then until something is durable that came later.
    async fn await_notice(
        &self,
        server: &Server,
        address: &str,
        says: &str,
        said_before: usize,
        step_s: i64,
    ) {
        let begun = Instant::now();
        while said(server, says) <= said_before {
            if begun.elapsed() > NOTICE_PATIENCE {
                let what =
                    format!("the wall was stepped by {step_s} s, and the server does not say");
                return self.ledger.lock().violation(format!("{what} {says:?}; {}", server.log()));
            }
            sleep(PAUSE).await;
        }
        if let Err(why) = load::comes_back(address, &self.ledger, SPACE_PATIENCE).await {
            self.ledger.lock().violation(format!("after a step of the wall by {step_s} s: {why}"));
        }
    }
}

/// How often it has said so.
fn said(server: &Server, what: &str) -> usize {
    server.log().matches(what).count()
}
