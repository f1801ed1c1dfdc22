//! Workloads over STOMP: many subscribers of one topic, and delivering with acknowledgements.

mod deliver;
mod fanout;
mod link;

pub(super) use deliver::Stomp;
pub(super) use fanout::Fanout;
