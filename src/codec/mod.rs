//! F1: how things look on disk. Pure: bytes in, values out.

pub mod event;
pub mod frame;
pub mod segment;
