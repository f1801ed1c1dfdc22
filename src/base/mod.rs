//! F0: the words of the project as types. Knows `std` and `bytes`, nothing above.

pub mod command;
pub mod config;
pub mod content;
pub mod destination;
pub mod error;
pub mod event;
pub mod id;
pub mod lifecycle;
pub mod limits;
pub mod message;
pub mod pattern;
pub mod recur;
pub mod stored;
pub mod time;
