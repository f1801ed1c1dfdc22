//! What a run of the kill loop tells.

use std::fmt;
use std::time::Duration;

/// Counts of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Times the server was started.
    pub lives: u64,
    /// Lives ended by SIGKILL while clients were at work.
    pub kills: u64,
    /// Lives ended by SIGKILL before the server was ready.
    pub early_kills: u64,
    /// Lives ended by SIGTERM.
    pub stops: u64,
    /// Lives that ended by themselves, as they should, on a write error put in.
    pub faults: u64,
    /// Lives in which the disk was full for a while.
    pub full_disks: u64,
    /// Starts that were refused, as they should be: on a read-only disk, or may be: on a full one.
    pub refused_starts: u64,
    /// Times the wall clock was stepped.
    pub clock_steps: u64,
    /// Of these, steps that were not believed at once.
    pub clock_holds: u64,
    /// Longest time from when a message was due "after" to its first delivery, ms; judged with steps
    /// of the clock only, as the next.
    pub late_after_ms: u64,
    /// The same for messages due "at" a time, and from the last step of the clock.
    pub late_at_ms: u64,
    /// Times the server was held up by SIGSTOP for a moment.
    pub pauses: u64,
    /// Times everything came to rest and was judged.
    pub rests: u64,
    /// Messages whose acceptance was answered.
    pub accepted: u64,
    /// Messages sent without an answer.
    pub unknown: u64,
    /// Messages refused.
    pub refused: u64,
    /// Messages delivered at least once.
    pub delivered: u64,
    /// Deliveries, again and again included.
    pub deliveries: u64,
    /// Deliveries that said they were not the first.
    pub redelivered: u64,
    /// Acknowledgements answered.
    pub acknowledged: u64,
    /// Cancels answered as done.
    pub cancelled: u64,
    /// New due times answered as done.
    pub rescheduled: u64,
    /// Messages dropped by purges.
    pub purged: u64,
    /// Broken expectations.
    pub violations: u64,
}

/// What a run did and found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// How long it took.
    pub took: Duration,
    /// What happened how often.
    pub counts: Counts,
    /// The first hundred broken expectations.
    pub violations: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { lives, kills, early_kills, stops, faults, pauses, rests, .. } = self.counts;
        let Counts { full_disks, refused_starts, .. } = self.counts;
        let Counts { clock_steps, clock_holds, late_after_ms, late_at_ms, .. } = self.counts;
        let Counts { accepted, unknown, refused, delivered, deliveries, .. } = self.counts;
        let Counts { redelivered, acknowledged, cancelled, rescheduled, purged, .. } = self.counts;
        writeln!(f, "minutes          {:.1}", self.took.as_secs_f64() / 60.0)?;
        write!(
            f,
            "lives            {lives}: {kills} killed, {early_kills} killed while starting, "
        )?;
        writeln!(f, "{stops} stopped, {faults} ended by a write error")?;
        if full_disks + refused_starts > 0 {
            writeln!(f, "full disk        {full_disks}, and {refused_starts} starts refused")?;
        }
        if clock_steps > 0 {
            writeln!(f, "clock steps      {clock_steps}, {clock_holds} not believed at once")?;
            writeln!(f, "late, at most    {late_after_ms} ms, due at a time {late_at_ms} ms")?;
        }
        writeln!(f, "pauses, rests    {pauses}, {rests}")?;
        writeln!(f, "accepted         {accepted}, and {unknown} unanswered, {refused} refused")?;
        writeln!(
            f,
            "delivered        {delivered}, in {deliveries} deliveries, {redelivered} marked as again"
        )?;
        writeln!(f, "acknowledged     {acknowledged}")?;
        writeln!(f, "cancelled        {cancelled}")?;
        writeln!(f, "rescheduled      {rescheduled}")?;
        writeln!(f, "purged           {purged}")?;
        write!(f, "violations       {}", self.counts.violations)?;
        for what in &self.violations {
            write!(f, "\n  {what}")?;
        }
        Ok(())
    }
}
