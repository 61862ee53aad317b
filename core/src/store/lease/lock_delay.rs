//! The end of Consul's lock delay, which no watch reports.

use core::time::Duration;

use crate::base::time::Instant;

/// What a contender knows of a lock that was lost.
///
/// Consul withholds the lock from the moment in which the session ended. A contender sees the key without a
/// holder a little later, so an attempt at the end of the delay from then on succeeds. The former holder comes
/// first: it may be alive, and have lost the lease to a frozen agent only.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LockDelay {
    /// The time at which the key was first seen without a holder.
    freed: Option<Instant>,
    /// Whether this contender is the former holder.
    is_former: bool,
}

impl LockDelay {
    /// Handles a read of the key.
    pub(super) fn on_read(&mut self, now: Instant, is_held: bool) {
        if is_held {
            *self = Self::default();
        } else {
            self.freed.get_or_insert(now);
        }
    }

    /// Handles the loss of the lease by this contender.
    pub(super) fn on_lost(&mut self) {
        self.is_former = true;
    }

    /// Returns the time of the next attempt: after a pause, but not later than just after the end of the
    /// delay.
    pub(super) fn next_try(&self, now: Instant, pause: Duration, delay: Duration) -> Instant {
        let later = now.after(pause);
        let Some(freed) = self.freed else { return later };
        let end = freed.after(delay);
        let turn = end.after(if self.is_former { delay / 100 } else { delay / 20 });
        if now < turn && end <= later { turn } else { later }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_secs(5);
    const PAUSE: Duration = Duration::from_millis(1_250);

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1_000)
    }

    fn tries(delay: LockDelay, from: u64) -> [Instant; 6] {
        let mut now = at(from);
        [(); 6].map(|()| {
            now = delay.next_try(now, PAUSE, DELAY);
            now
        })
    }

    #[test]
    fn the_former_holder_tries_first_at_the_end_of_the_delay() {
        let mut other = LockDelay::default();
        other.on_read(at(1_000), false);
        // A later read does not move the end.
        other.on_read(at(2_000), false);
        let mut former = other;
        former.on_lost();
        assert_eq!(tries(former, 2_000), [3_250, 4_500, 5_750, 6_050, 7_300, 8_550].map(at));
        assert_eq!(tries(other, 2_000), [3_250, 4_500, 5_750, 6_250, 7_500, 8_750].map(at));
    }

    #[test]
    fn a_held_key_has_no_delay() {
        let mut delay = LockDelay::default();
        assert_eq!(delay.next_try(at(0), PAUSE, DELAY), at(1_250));
        delay.on_read(at(0), false);
        delay.on_lost();
        delay.on_read(at(1), true);
        assert_eq!(delay.next_try(at(4_000), PAUSE, DELAY), at(5_250));
    }
}
