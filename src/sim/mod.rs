//! Test tools: a simulated disk, clock and store, and a simulator of whole shards. Feature `sim`;
//! nothing but tests and the simulator's programs imports this.

mod ask;
pub mod clock;
pub mod disk;
mod fault;
mod finale;
mod hear;
mod medium;
pub mod model;
pub mod random;
mod recurring;
pub mod report;
pub mod store;
pub mod swarm;
pub mod torture;
mod transact;
pub mod volatile;
pub mod world;

pub use clock::SimClock;
pub use disk::SimDisk;
pub use fault::{FaultKind, Repeat};
pub use medium::Survival;
pub use report::{Report, Violation};
pub use store::SimStore;
pub use volatile::VolatileDisk;
pub use world::World;

#[cfg(test)]
mod tests;
