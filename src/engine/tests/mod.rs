//! The engine without anything around it: virtual time, batches kept in memory, and after every
//! step a second engine that replays them must have the same durable state.

mod clocks;
mod control;
mod groups;
mod inbox;
mod invariants;
mod layers;
mod looks;
mod patterns;
mod queue;
mod random;
mod recur;
mod rig;
mod schedule;
mod small;
mod temporary;
mod topic;
mod transaction;
