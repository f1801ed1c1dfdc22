//! The figures of a run, for people and for programs.

use std::io;

use serde_json::{Map, Value, json};

use super::counters::Counters;
use super::measure::{Latency, Meter};
use crate::cli::output::{Out, show_count};

/// Quantiles that are told: key, text, value.
const QUANTILES: [(&str, &str, f64); 4] = [
    ("p50_us", "p50", 0.5),
    ("p90_us", "p90", 0.9),
    ("p99_us", "p99", 0.99),
    ("p999_us", "p99.9", 0.999),
];

/// Figures in the order they are told.
#[derive(Debug)]
pub(super) struct Report {
    title: String,
    json: Map<String, Value>,
    rows: Vec<(String, String)>,
}

impl Report {
    pub(super) fn new(bench: &str, title: String) -> Self {
        let mut json = Map::new();
        json.insert("bench".into(), bench.into());
        json.insert("title".into(), title.clone().into());
        Self { title, json, rows: Vec::new() }
    }

    fn row(&mut self, key: &str, name: &str, value: Value, text: String) {
        self.json.insert(key.into(), value);
        self.rows.push((name.into(), text));
    }

    /// A count of things.
    pub(super) fn count(&mut self, key: &str, name: &str, count: u64) {
        self.row(key, name, count.into(), show_count(count));
    }

    /// Something a second.
    pub(super) fn rate(&mut self, key: &str, name: &str, rate: f64) {
        let rounded = rate.round() as u64;
        self.row(key, name, rounded.into(), format!("{} /s", show_count(rounded)));
    }

    /// A time in seconds.
    pub(super) fn seconds(&mut self, key: &str, name: &str, seconds: f64) {
        self.row(key, name, json!(seconds), format!("{seconds:.3} s"));
    }

    /// A size.
    pub(super) fn bytes(&mut self, key: &str, name: &str, bytes: u64) {
        let mib = bytes as f64 / (1024.0 * 1024.0);
        self.row(key, name, bytes.into(), format!("{mib:.1} MiB"));
    }

    /// A number of its own kind.
    pub(super) fn ratio(&mut self, key: &str, name: &str, ratio: f64) {
        self.row(key, name, json!(ratio), format!("{ratio:.2}"));
    }

    /// Something that should be so; people read of it only where it is not.
    pub(super) fn must(&mut self, key: &str, unless: &str, so: bool) {
        self.json.insert(key.into(), so.into());
        if !so {
            self.rows.push((unless.into(), "the figures below are not the last ones".into()));
        }
    }

    /// What the server counts at some moment.
    pub(super) fn counters(&mut self, key: &str, name: &str, counters: &Counters) {
        let told = counters.told();
        let object: Map<String, Value> =
            told.iter().map(|(key, count)| ((*key).into(), (*count).into())).collect();
        let texts: Vec<String> =
            told.iter().map(|(key, count)| format!("{key} {}", show_count(*count))).collect();
        self.row(key, name, object.into(), texts.join("  "));
    }

    /// Throughput, with its worst second against the median.
    pub(super) fn throughput(&mut self, meter: &Meter) {
        self.rate("per_second", "throughput", meter.rate());
        let Some((worst, median)) = meter.worst_and_median() else { return };
        let share = worst as f64 / median.max(1) as f64;
        self.json.insert("per_second_worst".into(), worst.into());
        self.json.insert("per_second_median".into(), median.into());
        self.row(
            "worst_to_median",
            "worst second",
            json!(share),
            format!("{} ({share:.2} of the median {})", show_count(worst), show_count(median)),
        );
    }

    /// Percentiles of a latency.
    pub(super) fn latency(&mut self, key: &str, name: &str, latency: &Latency) {
        let mut object = Map::new();
        object.insert("count".into(), latency.count().into());
        let mut texts = Vec::new();
        for (quantile_key, text, quantile) in QUANTILES {
            let us = latency.at(quantile);
            object.insert(quantile_key.into(), us.into());
            texts.push(format!("{text} {}", show_us(us)));
        }
        object.insert("max_us".into(), latency.max().into());
        texts.push(format!("max {}", show_us(latency.max())));
        object.insert("negative".into(), latency.negative.into());
        object.insert("lowest_us".into(), latency.lowest_us.into());
        if latency.count() == 0 {
            texts = vec!["nothing was measured".into()];
        }
        if latency.negative > 0 {
            texts.push(format!(
                "NEGATIVE {} times, down to {} us",
                show_count(latency.negative),
                latency.lowest_us
            ));
        }
        self.row(key, name, object.into(), texts.join("  "));
    }

    /// What was refused, and why; nothing where nothing was.
    pub(super) fn refused(&mut self, meter: &Meter) {
        let mut all = 0;
        for (count, error) in meter.refused() {
            all += count;
            self.rows.push(("REFUSED".into(), format!("{} with {error}", show_count(count))));
        }
        self.json.insert("refused".into(), all.into());
    }

    /// Writes the report.
    pub(super) fn write(self, out: &mut Out) -> io::Result<()> {
        if out.json {
            out.object(&self.json)?;
        } else {
            out.text(&self.title)?;
            let width = self.rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
            for (name, text) in &self.rows {
                out.text(&format!("  {name:<width$}  {text}"))?;
            }
        }
        out.flush()
    }
}

/// A time in us with a unit that suits it.
fn show_us(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..100_000 => format!("{:.2} ms", us as f64 / 1e3),
        100_000..1_000_000 => format!("{:.0} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_that_suits_them() {
        assert_eq!(show_us(999), "999 us");
        assert_eq!(show_us(1_234), "1.23 ms");
        assert_eq!(show_us(123_456), "123 ms");
        assert_eq!(show_us(12_345_678), "12.35 s");
    }

    #[test]
    fn a_latency_is_told_with_all_its_percentiles() {
        let mut latency = Latency::new().unwrap();
        latency.record(-5, 1);
        latency.record(1_000, 99);
        let mut report = Report::new("deliver", "title".into());
        report.latency("lateness", "lateness", &latency);
        let value = &report.json["lateness"];
        for key in ["count", "p50_us", "p90_us", "p99_us", "p999_us", "max_us", "negative"] {
            assert!(value[key].is_u64(), "{key}");
        }
        assert_eq!(value["lowest_us"], -5);
        assert!(report.rows[0].1.contains("NEGATIVE 1 times"), "{:?}", report.rows);
    }
}
