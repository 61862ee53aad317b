//! Histograms of durations.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::text::{Seconds, Text};

/// The upper bounds of the buckets in microseconds, from a request that is answered from memory to a blocking
/// query that ends at its time limit.
const BOUNDS: [u64; 16] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 75_000_000,
];

/// A histogram.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    pub(super) fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < us);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    pub(super) fn is_used(&self) -> bool {
        self.buckets.iter().any(|bucket| bucket.load(Ordering::Relaxed) > 0)
    }

    /// Writes the histogram. The count is the sum of the buckets as they are read, so the two always agree.
    pub(super) fn render(&self, text: &mut Text, name: &str, labels: &[(&str, &str)]) {
        let bucket_name = format!("{name}_bucket");
        let mut count = 0;
        for (nth, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            let bound = BOUNDS.get(nth).map(|us| Seconds(*us).to_string());
            let le = ("le", bound.as_deref().unwrap_or("+Inf"));
            text.sample(&bucket_name, &[labels, &[le]].concat(), count);
        }
        let sum = Seconds(self.sum_us.load(Ordering::Relaxed));
        text.sample(&format!("{name}_sum"), labels, sum);
        text.sample(&format!("{name}_count"), labels, count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket_and_buckets_add_up() {
        let histogram = Histogram::default();
        assert!(!histogram.is_used());
        for us in [1, 500, 501, 3_000_000, 100_000_000] {
            histogram.observe(Duration::from_micros(us));
        }
        let mut text = Text::default();
        histogram.render(&mut text, "h", &[("a", "b")]);
        let text = text.finish();
        for line in [
            "h_bucket{a=\"b\",le=\"0.0005\"} 2",
            "h_bucket{a=\"b\",le=\"0.001\"} 3",
            "h_bucket{a=\"b\",le=\"2.5\"} 3",
            "h_bucket{a=\"b\",le=\"5\"} 4",
            "h_bucket{a=\"b\",le=\"75\"} 4",
            "h_bucket{a=\"b\",le=\"+Inf\"} 5",
            "h_sum{a=\"b\"} 103.001002",
            "h_count{a=\"b\"} 5",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
    }
}
