//! Faults of the simulated disk.

use std::io;

/// What happens at a chosen operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// It fails with an I/O error and does nothing. A sync that fails so loses what was pending.
    Eio,
    /// It fails with "no space left" if it is one that needs space: otherwise it succeeds.
    Enospc,
    /// A write does its first half, then fails with an I/O error. Others fail as with `Eio`.
    ShortWrite,
    /// The machine crashes in the middle of it: everything fails until [`SimDisk::crash`].
    CrashNow,
}

/// How often a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// At the chosen operation only.
    Once,
    /// At the chosen operation and every one after it.
    Forever,
}

/// Whether a fault chosen for operation `at` hits operation `now`.
pub(super) fn strikes(at: u64, repeat: Repeat, now: u64) -> bool {
    now == at || (repeat == Repeat::Forever && now > at)
}

/// An I/O error as the kernel gives it.
pub(super) fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}
