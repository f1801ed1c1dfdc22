//! Test tools: a simulated disk and clock. Feature `sim`; nothing but tests imports this.

pub mod clock;
pub mod disk;
mod medium;

pub use clock::SimClock;
pub use disk::{FaultKind, Repeat, SimDisk};
pub use medium::Survival;

#[cfg(test)]
mod tests;
