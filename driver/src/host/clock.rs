//! The only place that reads clocks.
#![expect(clippy::disallowed_methods, reason = "this is where clocks are read")]

use std::time::{Duration, Instant as Mono, SystemTime, UNIX_EPOCH};

use hax_core::base::time::{Instant, Now, WallClock};

/// Both clocks of the machine; monotonic time counts from the creation of the clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Mono,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// Creates a clock with its origin now.
    #[must_use]
    pub fn new() -> Self {
        Self { origin: Mono::now() }
    }

    /// Reads both clocks. The operating system guarantees that monotonic time does not run backwards.
    #[must_use]
    pub fn now(&self) -> Now {
        let mono = Instant::default().after(self.origin.elapsed());
        Now { mono, wall: wall() }
    }

    /// Converts a time into the standard library's type, for a runtime's timer. A time too far in the future
    /// becomes one a year after the origin; the machine then gets one superfluous tick.
    #[must_use]
    pub fn at(&self, at: Instant) -> Mono {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
        let offset = Duration::from_micros(at.as_micros()).min(YEAR);
        self.origin.checked_add(offset).unwrap_or(self.origin)
    }
}

/// Returns `CLOCK_BOOTTIME`, which goes on while the machine is suspended and is the same in every process.
#[cfg(feature = "services")]
#[must_use]
pub fn boottime() -> Instant {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (secs, ns) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    Instant::from_micros(secs.saturating_mul(1_000_000).saturating_add(ns / 1_000))
}

/// Returns the wall clock; a time before 1970 becomes 1970.
#[must_use]
pub fn wall() -> WallClock {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallClock(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_forward_and_far_moments_have_a_name() {
        let clock = Clock::new();
        let one = clock.now();
        let two = clock.now();
        assert!(one.mono <= two.mono);
        assert!(one.wall.0 > 1_700_000_000_000_000_000);
        assert!(clock.at(Instant::MAX) > clock.at(two.mono));
    }
}
