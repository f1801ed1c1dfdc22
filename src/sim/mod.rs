//! Test tools: a simulated disk, clock and store. Feature `sim`; nothing but tests imports this.

pub mod clock;
pub mod disk;
mod medium;
pub mod store;

pub use clock::SimClock;
pub use disk::{FaultKind, Repeat, SimDisk};
pub use medium::Survival;
pub use store::SimStore;

#[cfg(test)]
mod tests;
