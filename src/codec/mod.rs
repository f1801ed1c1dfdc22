//! F1: bytes on disk. Pure: no clock, disk, thread or randomness.

pub mod frame;
pub mod segment;
