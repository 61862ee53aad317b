//! Exponential backoff with jitter from a seed, so that the same inputs produce the same outputs.

use core::time::Duration;

/// A small deterministic random number generator (SplitMix64, public domain, by Sebastiano Vigna). It is for
/// jitter only, never for secrets.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Starts the sequence of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number of the sequence.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns `d` plus or minus a random quarter of it.
    pub fn around(&mut self, d: Duration) -> Duration {
        let us = u64::try_from(d.as_micros()).unwrap_or(u64::MAX / 4);
        let spread = (us / 2).max(1);
        Duration::from_micros(us - us / 4 + self.next_u64() % spread)
    }
}

/// The number of consecutive failures, and the resulting delay of the next try.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The first delay; it doubles with each failure.
    pub const FIRST: Duration = Duration::from_millis(100);
    /// The maximum delay.
    pub const LONGEST: Duration = Duration::from_secs(5);

    /// Counts a failure and returns the delay of the next try.
    pub fn next_delay(&mut self, rng: &mut Rng) -> Duration {
        let pause = Self::FIRST.saturating_mul(1 << self.failures.min(10)).min(Self::LONGEST);
        self.failures = self.failures.saturating_add(1);
        rng.around(pause)
    }

    /// Resets the number of failures.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}
