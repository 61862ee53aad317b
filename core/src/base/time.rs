//! Time as read by the host: the core never reads a clock.

use core::fmt;
use core::time::Duration;

/// Monotonic time: microseconds since an origin chosen by the host. Arithmetic saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The latest possible time.
    pub const MAX: Self = Self(u64::MAX);

    /// Returns the time `us` microseconds after the host's origin.
    #[must_use]
    pub const fn from_micros(us: u64) -> Self {
        Self(us)
    }

    /// Returns the microseconds since the host's origin.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Returns this time plus `d`.
    #[must_use]
    pub fn after(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_micros()).unwrap_or(u64::MAX)))
    }

    /// Returns the microseconds since `earlier`; zero if that is later.
    #[must_use]
    pub const fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Returns the duration since `earlier`; zero if that is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.micros_since(earlier))
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// Wall-clock time: nanoseconds of UNIX time. It is printed and sent, never used in calculations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WallClock(pub u64);

/// Writes `2026-11-21 06:40:44.123456`, UTC, the format of Python's `datetime` in the queue's messages.
impl fmt::Display for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, us) = (self.0 / 1_000_000_000, self.0 / 1_000 % 1_000_000);
        let (days, secs) = (secs / 86_400, secs % 86_400);
        // Converts days to a date of the Gregorian calendar, in years that begin in March (H. Hinnant,
        // "chrono-Compatible Low-Level Date Algorithms", civil_from_days).
        let z = days + 719_468;
        let (era, day) = (z / 146_097, z % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = era * 400 + year + u64::from(month <= 2);
        let (hour, minute, second) = (secs / 3_600, secs / 60 % 60, secs % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{us:06}")
    }
}

/// Both clocks as read by the host just before the call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock, the base of deadlines. It is never earlier than in the call before.
    pub mono: Instant,
    /// The wall clock, for the timestamps of messages.
    pub wall: WallClock,
}

/// The host's next action.
#[must_use = "the host's one timer is armed with it"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Wait for an input without a time limit.
    Wait,
    /// Call with `Tick` at `at` unless an input arrives first.
    WaitUntil {
        /// The deadline.
        at: Instant,
        /// The name of the timer, for logs and traces.
        why: &'static str,
    },
    /// The machine has finished: stop.
    Exit,
}

impl Next {
    /// Returns the earlier of two.
    pub fn earlier(self, other: Self) -> Self {
        match (self, other) {
            (Self::Exit, _) | (_, Self::Exit) => Self::Exit,
            (Self::Wait, next) | (next, Self::Wait) => next,
            (Self::WaitUntil { at: a, .. }, Self::WaitUntil { at: b, .. }) => {
                if b < a {
                    other
                } else {
                    self
                }
            }
        }
    }
}

/// The number of a call of `handle`. A read that began in a later call than a request arrived in began after
/// the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallSeq(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_is_a_date() {
        for (ns, text) in [
            (0, "1970-01-01 00:00:00.000000"),
            (951_782_399_999_999_999, "2000-02-28 23:59:59.999999"),
            (951_782_400_000_000_000, "2000-02-29 00:00:00.000000"),
            (1_795_243_244_123_456_789, "2026-11-21 06:40:44.123456"),
            (4_107_542_400_000_000_000, "2100-03-01 00:00:00.000000"),
        ] {
            assert_eq!(alloc::string::ToString::to_string(&WallClock(ns)), text);
        }
    }
}
