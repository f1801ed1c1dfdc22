//! Goal: no client, however rude, costs the server more than a bounded amount of memory, or costs
//! others their service. Method: thousands of connections, readers that stop reading, questions
//! with answers that nobody takes; memory as the kernel counts it, of server and clients together,
//! since they share this process.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]

#[path = "../protocol/rig.rs"]
mod rig;
#[path = "../protocol/words.rs"]
mod words;

mod idle;
mod rude;

use tokio::sync::{Mutex, MutexGuard};

/// Memory is measured for the process: one test at a time.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

/// Memory of this process that is in use, KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Files that this process may still open.
fn files_left() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let most: usize = line.split_whitespace().nth(3).unwrap().parse().unwrap_or(usize::MAX);
    most.saturating_sub(std::fs::read_dir("/proc/self/fd").unwrap().count())
}
