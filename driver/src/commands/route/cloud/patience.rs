//! The time of an event handler.

use std::time::Duration;

use anyhow::bail;

use super::sign;
use crate::host::clock::Clock;

/// The longest pause before the second attempt. Before each further attempt it is twice as long.
const FIRST: Duration = Duration::from_millis(100);

/// The longest pause between two attempts, unless the cloud asks for more.
const LONGEST: Duration = Duration::from_secs(10);

/// The maximum time that is kept to report the result.
const MARGIN: Duration = Duration::from_millis(500);

/// The time of an event handler, from its start.
#[derive(Debug)]
pub(super) struct Patience {
    clock: Clock,
    within: Duration,
}

impl Patience {
    /// Starts the time. A part of it is kept to report the result.
    pub(super) fn new(within: Duration) -> Self {
        Self { clock: Clock::new(), within: within.saturating_sub(MARGIN.min(within / 10)) }
    }

    /// Returns the remaining time.
    pub(super) fn left(&self) -> Duration {
        self.within.saturating_sub(Duration::from_micros(self.clock.now().mono.as_micros()))
    }

    /// Waits, unless that takes longer than the remaining time.
    pub(super) fn pause(&self, time: Duration) -> anyhow::Result<()> {
        if time >= self.left() {
            bail!("the time of the event handler is over");
        }
        sleep(time);
        Ok(())
    }

    /// Waits before the next attempt: a random part of a time that doubles with each attempt, but at least as
    /// long as the cloud asks. Returns whether there is time for another attempt.
    pub(super) fn back_off(&self, attempt: u32, at_least: Duration) -> anyhow::Result<bool> {
        let longest = LONGEST.min(FIRST * 2_u32.saturating_pow(attempt - 1));
        let [part, ..] = sign::random::<1>()?;
        let pause = (longest * (u32::from(part) + 1) / 256).max(at_least);
        if pause >= self.left() {
            return Ok(false);
        }
        sleep(pause);
        Ok(true)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "an event handler is a process that waits for a cloud"
)]
fn sleep(time: Duration) {
    std::thread::sleep(time);
}
