//! F1: how things look on disk. Pure: bytes in, values out.

pub mod checkpoint;
pub mod event;
pub mod frame;
pub mod row;
pub mod segment;
