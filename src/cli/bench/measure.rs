//! What is measured: counts by second, latencies, refusals.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::base::error::ClientError;
use crate::cli::failure::Failure;

/// Longest latency told apart, us: an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;
/// Digits of a latency that are exact.
const DIGITS: u8 = 3;

/// The time that is measured: whole seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) start: Instant,
    pub(super) seconds: usize,
}

impl Window {
    pub(super) fn new(start: Instant, seconds: usize) -> Self {
        Self { start, seconds }
    }

    pub(super) fn end(&self) -> Instant {
        self.start + Duration::from_secs(self.seconds as u64)
    }

    /// The second of the window that `now` is in.
    fn second(&self, now: Instant) -> Option<usize> {
        let second = now.checked_duration_since(self.start)?.as_secs() as usize;
        (second < self.seconds).then_some(second)
    }
}

/// A histogram of latencies in us.
#[derive(Debug, Clone)]
pub(super) struct Latency {
    histogram: Histogram<u64>,
    /// Values below zero: something came before its time.
    pub(super) negative: u64,
    /// The lowest of them, us.
    pub(super) lowest_us: i64,
}

impl Latency {
    pub(super) fn new() -> Result<Self, Failure> {
        let histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS)
            .map_err(|error| Failure::Failed(error.to_string()))?;
        Ok(Self { histogram, negative: 0, lowest_us: 0 })
    }

    /// Records a latency for so many messages.
    pub(super) fn record(&mut self, us: i64, count: u64) {
        if us < 0 {
            self.negative += count;
            self.lowest_us = self.lowest_us.min(us);
        }
        self.histogram.saturating_record_n(u64::try_from(us).unwrap_or(0), count);
    }

    pub(super) fn record_duration(&mut self, duration: Duration, count: u64) {
        self.record(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX), count);
    }

    pub(super) fn add(&mut self, other: &Self) {
        // Both have the same bounds, so nothing can be out of range.
        let _ = self.histogram.add(&other.histogram);
        self.negative += other.negative;
        self.lowest_us = self.lowest_us.min(other.lowest_us);
    }

    pub(super) fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The latency that a share of all messages does not exceed, us.
    pub(super) fn at(&self, quantile: f64) -> u64 {
        self.histogram.value_at_quantile(quantile)
    }

    pub(super) fn max(&self) -> u64 {
        self.histogram.max()
    }
}

/// What one connection measured; those of all are added up.
#[derive(Debug, Clone)]
pub(super) struct Meter {
    window: Window,
    /// Whole seconds of the window.
    by_second: Vec<u64>,
    /// Messages counted inside the window.
    counted: u64,
    /// How long was measured.
    length: Duration,
    /// Latency of what was counted.
    pub(super) latency: Latency,
    /// Messages counted in the whole run, the time around the window included.
    pub(super) total: u64,
    refused: BTreeMap<u16, (u64, ClientError)>,
}

impl Meter {
    pub(super) fn new(window: Window) -> Result<Self, Failure> {
        Ok(Self {
            window,
            by_second: vec![0; window.seconds],
            counted: 0,
            length: Duration::from_secs(window.seconds as u64),
            latency: Latency::new()?,
            total: 0,
            refused: BTreeMap::new(),
        })
    }

    /// Counts messages at a time, and their latency when that is inside the window.
    pub(super) fn count(&mut self, now: Instant, count: u64, latency: Option<Duration>) {
        self.total += count;
        if let Some(second) = self.window.second(now) {
            self.by_second[second] += count;
            self.counted += count;
            if let Some(latency) = latency {
                self.latency.record_duration(latency, count);
            }
        }
    }

    /// Counts a refused message.
    pub(super) fn refuse(&mut self, error: &ClientError, count: u64) {
        let entry = self.refused.entry(error.code.number());
        entry.or_insert_with(|| (0, error.clone())).0 += count;
    }

    /// Whether a time is measured.
    pub(super) fn measures(&self, now: Instant) -> bool {
        self.window.second(now).is_some()
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (sum, count) in self.by_second.iter_mut().zip(&other.by_second) {
            *sum += count;
        }
        self.counted += other.counted;
        self.latency.add(&other.latency);
        self.total += other.total;
        for (code, (count, error)) in &other.refused {
            self.refused.entry(*code).or_insert_with(|| (0, error.clone())).0 += count;
        }
    }

    /// Adds up all connections.
    pub(super) fn sum<'a>(
        window: Window,
        meters: impl IntoIterator<Item = &'a Self>,
    ) -> Result<Self, Failure> {
        let mut sum = Self::new(window)?;
        for meter in meters {
            sum.add(meter);
        }
        Ok(sum)
    }

    /// Ends the window early, because the work is done. The second it ends in is not one of those
    /// that are told apart, as it is not whole.
    pub(super) fn end_at(&mut self, now: Instant) {
        let length = now.saturating_duration_since(self.window.start);
        self.length = self.length.min(length);
        self.by_second.truncate(self.length.as_secs() as usize);
    }

    /// Messages a second, over the window.
    pub(super) fn rate(&self) -> f64 {
        self.counted as f64 / self.length.as_secs_f64().max(1e-3)
    }

    /// The worst and the median second; `None` when not one was whole.
    pub(super) fn worst_and_median(&self) -> Option<(u64, u64)> {
        let mut seconds = self.by_second.clone();
        seconds.sort_unstable();
        Some((*seconds.first()?, *seconds.get(seconds.len() / 2)?))
    }

    /// Refused messages by error.
    pub(super) fn refused(&self) -> impl Iterator<Item = (u64, &ClientError)> {
        self.refused.values().map(|(count, error)| (*count, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Code;

    #[test]
    fn only_what_is_inside_the_window_is_measured() {
        let start = Instant::now() + Duration::from_secs(10);
        let window = Window::new(start, 3);
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut meter = Meter::new(window).unwrap();
        let latency = Some(Duration::from_micros(500));
        meter.count(start - Duration::from_millis(1), 100, latency);
        meter.count(at(0), 10, latency);
        meter.count(at(999), 10, latency);
        meter.count(at(1_000), 4, latency);
        meter.count(at(2_999), 7, latency);
        meter.count(at(3_000), 100, latency);
        assert_eq!((meter.counted, meter.total), (31, 231));
        assert_eq!(meter.latency.count(), 31);
        assert_eq!(meter.worst_and_median(), Some((4, 7)));
        let mut sum = Meter::sum(window, &[meter.clone(), meter]).unwrap();
        assert_eq!((sum.counted, sum.worst_and_median()), (62, Some((8, 14))));
        assert!((sum.rate() - 62.0 / 3.0).abs() < 1e-9);
        sum.refuse(&Code::DiskFull.into(), 2);
        sum.refuse(&Code::DiskFull.into(), 3);
        assert_eq!(sum.refused().map(|(count, _)| count).collect::<Vec<_>>(), [5]);
    }

    /// Goal: work that is done before its window ends has a rate, and only whole seconds are told
    /// apart. Method: a window of an hour ends after 2.5 s, and one after less than a second.
    #[test]
    fn a_window_may_end_early() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut meter = Meter::new(Window::new(start, 3_600)).unwrap();
        for (ms, count) in [(100, 30), (1_500, 20), (2_400, 5)] {
            meter.count(at(ms), count, None);
        }
        let mut short = meter.clone();
        meter.end_at(at(2_500));
        assert_eq!((meter.counted, meter.worst_and_median()), (55, Some((20, 30))));
        assert!((meter.rate() - 22.0).abs() < 1e-9);
        short.end_at(at(500));
        assert_eq!(short.worst_and_median(), None);
    }

    #[test]
    fn what_is_early_is_seen() {
        let mut latency = Latency::new().unwrap();
        latency.record(-1_500, 2);
        latency.record(3_000, 8);
        assert_eq!((latency.negative, latency.lowest_us, latency.count()), (2, -1_500, 10));
        let near = |value: u64, wanted: u64| value.abs_diff(wanted) <= wanted / 500;
        assert!(near(latency.at(0.5), 3_000), "{}", latency.at(0.5));
        assert!(near(latency.max(), 3_000), "{}", latency.max());
    }
}
