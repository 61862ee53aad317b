//! The policy of restarts, and the history that it looks at.

use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::span::{GiveUp, Span};
use crate::base::time::Instant;

/// The first delay of a restart that is not immediate; it doubles with each short life.
const FIRST: Duration = Duration::from_secs(1);
/// The longest delay of a restart.
const LONGEST: Duration = Duration::from_secs(30);

/// The events after which an instance is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// None: hax never starts the instance again by itself.
    Never,
    /// Failures: all ends except exit code 0.
    #[default]
    OnFailure,
    /// All ends that hax has not asked for.
    Always,
}

/// The rules for restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Restart {
    /// The events after which an instance is started again.
    pub policy: Policy,
    /// A life of at least this length ends a series of restarts.
    pub stable: Span,
    /// When restarts end.
    pub give_up: GiveUp,
    /// The time after which a given up instance is started again.
    pub try_again: Span,
    /// How often a new configuration may fail before the last one returns.
    pub attempts: u32,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            stable: Span::secs(10),
            give_up: GiveUp::default(),
            try_again: Span::secs(600),
            attempts: 3,
        }
    }
}

/// The response to the end of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// The instance is started again after this time.
    Again(Duration),
    /// There were too many short lives.
    GiveUp,
}

/// The short lives of an instance.
///
/// The record contains ages and no times, since the clocks of two hosts are never compared. A coordinator that
/// reads the record counts the ages from then on. So short lives are forgotten later after a change of the
/// coordinator, and never sooner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct History {
    /// The number of consecutive short lives.
    pub streak: u32,
    /// The ages of short lives at the time `as_of`, in milliseconds.
    ages_ms: Vec<u64>,
    /// The time at which the ages were exact.
    #[serde(skip)]
    as_of: Instant,
}

impl History {
    /// Sets the time from which on the ages count.
    pub fn read_at(&mut self, now: Instant) {
        self.as_of = now;
    }

    /// Forgets all short lives, after a life that was long enough.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Records a short life and returns the response to it.
    pub fn on_short_life(&mut self, now: Instant, rules: &Restart, had_run: bool) -> Response {
        let passed = now.micros_since(self.as_of) / 1_000;
        self.as_of = now;
        self.ages_ms.iter_mut().for_each(|age| *age = age.saturating_add(passed));
        self.ages_ms.push(0);
        self.streak = self.streak.saturating_add(1);
        let limit = match rules.give_up {
            GiveUp::Never => None,
            GiveUp::After { lives, within } => Some((lives, within)),
        };
        let window = limit.map_or(0, |(_, within)| within.millis());
        self.ages_ms.retain(|age| *age <= window);
        if limit.is_some_and(|(lives, _)| self.ages_ms.len() >= lives as usize) {
            return Response::GiveUp;
        }
        Response::Again(delay(self.streak, had_run))
    }
}

/// Returns the delay of a restart. The first is immediate if the instance had been running.
fn delay(streak: u32, had_run: bool) -> Duration {
    match (streak, had_run) {
        (0 | 1, true) => Duration::ZERO,
        (streak, had_run) => {
            let doubled = streak.saturating_sub(1 + u32::from(had_run)).min(10);
            (FIRST * (1 << doubled)).min(LONGEST)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::from_micros(secs * 1_000_000)
    }

    #[test]
    fn the_first_restart_is_immediate_and_the_delay_doubles() {
        let rules = Restart { give_up: GiveUp::Never, ..Restart::default() };
        let delays = |had_run| {
            let mut history = History::default();
            let next = |_| match history.on_short_life(at(0), &rules, had_run) {
                Response::Again(delay) => delay.as_secs(),
                Response::GiveUp => panic!("never"),
            };
            (0..9).map(next).collect::<Vec<_>>()
        };
        assert_eq!(delays(true), [0, 1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(delays(false), [1, 2, 4, 8, 16, 30, 30, 30, 30]);
    }

    #[test]
    fn a_long_life_makes_the_next_restart_immediate() {
        let rules = Restart::default();
        let mut history = History::default();
        for n in 0..3 {
            history.on_short_life(at(n), &rules, true);
        }
        history.clear();
        let again = history.on_short_life(at(100), &rules, true);
        assert_eq!(again, Response::Again(Duration::ZERO));
    }

    #[test]
    fn restarts_end_after_so_many_short_lives_in_the_time() {
        let rules = Restart::default();
        let mut history = History::default();
        let responses: Vec<bool> = [0, 10, 20, 30, 301, 302]
            .map(|secs| history.on_short_life(at(secs), &rules, true) == Response::GiveUp)
            .into();
        assert_eq!(
            responses,
            [false, false, false, false, false, true],
            "the first has been forgotten"
        );
    }

    #[test]
    fn a_history_outlives_its_coordinator() {
        let rules = Restart::default();
        let mut history = History::default();
        for secs in [0, 100, 200] {
            history.on_short_life(at(secs), &rules, true);
        }
        let text = serde_json::to_string(&history).unwrap();
        let mut read: History = serde_json::from_str(&text).unwrap();
        // The clock of the next coordinator is another one.
        read.read_at(at(5));
        assert_eq!(read.streak, 3);
        read.on_short_life(at(55), &rules, true);
        assert_eq!(read.on_short_life(at(60), &rules, true), Response::GiveUp);
    }
}
