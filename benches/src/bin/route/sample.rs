//! The measurements of one figure, and waits for conditions.

use std::time::Duration;

use anyhow::bail;
use hax_benches::rig::clock;

/// The time limit of every wait.
const WITHIN: Duration = Duration::from_secs(60);

/// The measurements of one figure.
#[derive(Default)]
pub(crate) struct Sample(Vec<Duration>);

impl Sample {
    pub(crate) fn add(&mut self, took: Duration) {
        self.0.push(took);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the percentile; zero without measurements.
    pub(crate) fn percentile(&mut self, percent: usize) -> Duration {
        self.0.sort_unstable();
        let at = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
        self.0.get(at).copied().unwrap_or_default()
    }

    pub(crate) fn median(&mut self) -> Duration {
        self.percentile(50)
    }

    /// Returns the median, the 99th percentile and the maximum as text.
    pub(crate) fn text(&mut self) -> String {
        let [p50, p99, max] = [50, 99, 100].map(|percent| ms(self.percentile(percent)));
        format!("p50 {p50:.1}, p99 {p99:.1}, max {max:.1} ms of {}", self.len())
    }
}

pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[expect(clippy::disallowed_methods, reason = "real programs are waited for in real time")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Waits until a condition holds. Returns the time that this took.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) -> anyhow::Result<Duration> {
    let began = clock();
    while !is_so() {
        if began.elapsed() > WITHIN {
            bail!("{what}: not within {WITHIN:?}");
        }
        pause(Duration::from_millis(2));
    }
    Ok(began.elapsed())
}
