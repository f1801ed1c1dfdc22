//! The journal on a simulated disk: what was acknowledged is read back, whatever happens.

mod common;
mod full_disk;
mod home;
mod rot;
mod round_trip;
mod sweep;
