//! Goal: a data directory as a whole can be copied while it is in use, is read for ever, tells its
//! damage, and takes the space of what is alive. Method: whole shards over the simulated disk,
//! stepped by hand, so small that they write out and merge all the time.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod backup;
mod blocks;
mod golden;
mod live;
mod rig;
mod rot;
