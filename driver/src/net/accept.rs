//! Taking connections in.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_lock::{Semaphore, SemaphoreGuardArc};
use hax_core::base::time::Instant;

use crate::host::clock::Clock;
use crate::host::timer::Timer;

/// Accepted connections that the core has not heard of yet. It closes what is too much; this is only how
/// far the listener may be ahead of it.
const AHEAD: usize = 256;

/// How long nothing is accepted after that has failed: if the system is short of something, others must
/// end first.
const PAUSE: Duration = Duration::from_millis(100);

/// How often at most it is told of.
const TOLD_EACH: Duration = Duration::from_secs(60);

/// The place of one accepted connection, until the core has it closed.
pub struct Permit(#[expect(dead_code, reason = "held, not looked at")] SemaphoreGuardArc);

/// What a listener goes by.
pub struct Accepting {
    places: Arc<Semaphore>,
    clock: Clock,
    failures: Failures,
}

impl Accepting {
    /// `max` is how many connections the core keeps; who comes while it is behind waits in the system's
    /// backlog.
    #[must_use]
    pub fn new(max: usize) -> Self {
        let places = Arc::new(Semaphore::new(max.saturating_add(AHEAD)));
        Self { places, clock: Clock::new(), failures: Failures::default() }
    }

    /// A place for the next connection, as soon as there is one.
    pub async fn place(&self) -> Permit {
        Permit(self.places.acquire_arc().await)
    }

    /// What has been accepted; nothing if that went wrong, which is no reason to stop.
    pub async fn accepted<T: Timer, S>(&mut self, accepted: io::Result<S>) -> Option<S> {
        match accepted {
            Ok(accepted) => return Some(accepted),
            // It has gone again.
            Err(why) if is_of_one(&why) => {}
            Err(why) => {
                if self.failures.is_news(self.clock.now().mono) {
                    tracing::warn!(target: "hax", %why, "cannot accept a connection of Motr");
                }
                T::sleep(PAUSE).await;
            }
        }
        None
    }
}

/// Whether it is about the one connection that was to be accepted (accept(2), "Error handling").
fn is_of_one(why: &io::Error) -> bool {
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

/// Whether a failure is to be told of: not again before a while has passed.
#[derive(Default)]
struct Failures(Option<Instant>);

impl Failures {
    fn is_news(&mut self, now: Instant) -> bool {
        let news = self.0.is_none_or(|told| now.since(told) >= TOLD_EACH);
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
        let told = (0..1801).filter(|n| failures.is_news(at(*n))).count();
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
            assert_eq!(is_of_one(&io::Error::from_raw_os_error(errno)), one, "{errno}");
        }
    }
}
