//! The journal on a simulated disk: what was acknowledged is read back, whatever happens.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]

mod common;
mod full_disk;
mod home;
mod parts;
mod policy;
mod recovered;
mod rot;
mod round_trip;
mod sweep;
