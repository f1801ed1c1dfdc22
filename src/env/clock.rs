//! The clock port.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Where time comes from. Only the shell reads it; the cores are handed numbers.
pub trait Clock: Send + Sync {
    /// Nanoseconds since an arbitrary origin, the same for the whole process; never goes backward.
    fn mono_ns(&self) -> u64;
    /// Nanoseconds since the Unix epoch; may step either way when somebody sets the clock.
    fn wall_ns(&self) -> u64;
}

/// The clocks of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsClock;

impl Clock for OsClock {
    fn mono_ns(&self) -> u64 {
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        let elapsed = ORIGIN.get_or_init(Instant::now).elapsed();
        // 64 bits of nanoseconds last 584 years.
        u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
    }

    fn wall_ns(&self) -> u64 {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that reads it")]
        let now = SystemTime::now();
        // A wall clock set before 1970 reads as 0: "at" times are then simply not reached.
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}
