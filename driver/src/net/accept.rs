//! Accepting of connections.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_lock::{Semaphore, SemaphoreGuardArc};
use hax_core::base::time::Instant;

use crate::host::clock::Clock;
use crate::host::timer::Timer;

/// The maximum number of accepted connections that the core has not been told of yet. The core closes
/// connections above its limit, so this only bounds how far the listener may be ahead.
const AHEAD: usize = 256;

/// The pause after a failed accept. If the system lacks a resource, other connections must end first.
const PAUSE: Duration = Duration::from_millis(100);

/// The minimum time between two warnings about failed accepts.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// The permit of one accepted connection, until the core has it closed.
pub struct Permit(#[expect(dead_code, reason = "held, not looked at")] SemaphoreGuardArc);

/// The limits and the clock of a listener.
pub struct AcceptLimit {
    permits: Arc<Semaphore>,
    clock: Clock,
    failures: Failures,
}

impl AcceptLimit {
    /// Creates the limits; `max` is the number of connections that the core keeps. While the core is behind,
    /// new connections wait in the system's backlog.
    #[must_use]
    pub fn new(max: usize) -> Self {
        let permits = Arc::new(Semaphore::new(max.saturating_add(AHEAD)));
        Self { permits, clock: Clock::new(), failures: Failures::default() }
    }

    /// Waits for a permit for the next connection.
    pub async fn permit(&self) -> Permit {
        Permit(self.permits.acquire_arc().await)
    }

    /// Returns the accepted connection. A failed accept is logged and returns `None`; the listener goes on.
    pub async fn on_accepted<T: Timer, S>(&mut self, accepted: io::Result<S>) -> Option<S> {
        match accepted {
            Ok(accepted) => return Some(accepted),
            // The peer has closed the connection again.
            Err(why) if is_of_one_connection(&why) => {}
            Err(why) => {
                if self.failures.should_warn(self.clock.now().mono) {
                    tracing::warn!(target: "hax", %why, "cannot accept a connection of Motr");
                }
                T::sleep(PAUSE).await;
            }
        }
        None
    }
}

/// Returns whether an error concerns only the connection to be accepted (accept(2), "Error handling").
fn is_of_one_connection(why: &io::Error) -> bool {
    use io::ErrorKind as Is;
    matches!(
        why.kind(),
        Is::ConnectionAborted
            | Is::ConnectionReset
            | Is::Interrupted
            | Is::HostUnreachable
            | Is::NetworkUnreachable
            | Is::NetworkDown
    )
}

/// The time of the last warning about failures; further warnings are suppressed for a while.
#[derive(Default)]
struct Failures(Option<Instant>);

impl Failures {
    fn should_warn(&mut self, now: Instant) -> bool {
        let news = self.0.is_none_or(|told| now.since(told) >= WARN_INTERVAL);
        if news {
            self.0 = Some(now);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_failing_is_told_of_once_a_minute() {
        let mut failures = Failures::default();
        let at = |n: u64| Instant::from_micros(n * 100_000);
        let told = (0..1801).filter(|n| failures.should_warn(at(*n))).count();
        assert_eq!(told, 4);
    }

    #[test]
    fn one_connection_s_failure_is_its_own() {
        for (errno, one) in [
            (103, true),
            (104, true),
            (4, true),
            (113, true),
            (24, false),
            (23, false),
            (105, false),
        ] {
            assert_eq!(is_of_one_connection(&io::Error::from_raw_os_error(errno)), one, "{errno}");
        }
    }
}
