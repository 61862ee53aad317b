//! Time as the host reads it: the core never looks at a clock.

use core::fmt;
use core::time::Duration;

/// Monotonic time: microseconds since some moment of the host's choosing. Saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The latest moment there is.
    pub const MAX: Self = Self(u64::MAX);

    /// The moment `us` microseconds after the host's origin.
    #[must_use]
    pub const fn from_micros(us: u64) -> Self {
        Self(us)
    }

    /// Microseconds since the host's origin.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// This moment and `d` more.
    #[must_use]
    pub fn after(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_micros()).unwrap_or(u64::MAX)))
    }

    /// Microseconds since `earlier`; zero if that is later.
    #[must_use]
    pub const fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// How long it is since `earlier`; zero if that is later.
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

/// Wall-clock time: nanoseconds of UNIX time. Printed and sent, never computed with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wall(pub u64);

/// Both clocks as the host read them just before the call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic: what deadlines are made of. Never earlier than in the call before.
    pub mono: Instant,
    /// Wall clock: what messages are stamped with.
    pub wall: Wall,
}

/// What the host is to do until the next input.
#[must_use = "the host's one timer is armed with it"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing is due: wait for an input, however long it takes.
    Wait,
    /// Call with `Tick` at `at` unless an input comes first.
    WaitUntil {
        /// When.
        at: Instant,
        /// What for: the name of the timer, for logs and traces.
        why: &'static str,
    },
    /// All is settled: stop.
    Exit,
}

impl Next {
    /// The earlier of two.
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
