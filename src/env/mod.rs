//! F1: the ports to the machine, clock and disk, and the real ones behind them.
//!
//! Everything above takes `Arc<dyn Disk>` and `Arc<dyn Clock>`, so that the simulated ones of
//! the `sim` feature can stand in.

pub mod clock;
pub mod disk;
mod map;
pub mod os_disk;

pub use clock::{Clock, OsClock};
pub use disk::{Disk, DiskFile, MappedBytes, OpenMode};
pub use os_disk::{DurableWrites, OsDisk, OsDiskOptions};
