//! The only place that reads clocks.
#![expect(clippy::disallowed_methods, reason = "this is where clocks are read")]

use std::time::{Duration, Instant as Mono, SystemTime, UNIX_EPOCH};

use hax_core::base::time::{Instant, Now, WallClock};

/// Both clocks of the machine; monotonic time counts from when the clock was made.
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
    /// A clock whose origin is now.
    #[must_use]
    pub fn new() -> Self {
        Self { origin: Mono::now() }
    }

    /// Reads both clocks. The operating system keeps the first from running backwards.
    #[must_use]
    pub fn now(&self) -> Now {
        let mono = Instant::default().after(self.origin.elapsed());
        Now { mono, wall: wall() }
    }

    /// The standard library's name of a moment, for a runtime's timer. A moment too far away for it
    /// becomes one a year after the origin: the machine is then ticked once for nothing.
    #[must_use]
    pub fn at(&self, at: Instant) -> Mono {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
        let offset = Duration::from_micros(at.as_micros()).min(YEAR);
        self.origin.checked_add(offset).unwrap_or(self.origin)
    }
}

/// The wall clock. Before 1970 it is 1970.
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
