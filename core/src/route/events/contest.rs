//! Whether somebody else changes a route that this router has made its own.
//!
//! One change may be a late write of the last holder, or an operator's; it is mended. Two within two sweeps are
//! another writer's, and two that mend against each other would move the route for ever: this one stops, and says
//! so.

use core::time::Duration;

use super::super::decide::Trigger;
use super::super::job::Outcome;
use crate::base::time::Instant;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Contest {
    /// The route led here when it was seen last.
    is_ours: bool,
    /// When somebody else's change was found last.
    changed: Option<Instant>,
    is_given_up: bool,
}

/// What an event's success says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing was looked for but whether all is as it was, and it is.
    Quiet,
    /// What was to be done is done.
    Ours,
    /// Somebody else had changed it.
    Mended,
    /// The same, once too often: it is not mended any more.
    GivenUp,
}

impl Contest {
    /// Whether the route is left to whoever else writes it.
    pub(super) fn is_given_up(&self) -> bool {
        self.is_given_up
    }

    /// An event has been worked; sweeps come so often.
    pub(super) fn on_done(
        &mut self,
        trigger: Trigger,
        outcome: Outcome,
        now: Instant,
        sweep: Duration,
    ) -> Verdict {
        // Whoever writes back does not say where the route leads.
        if outcome == Outcome::WrittenBack {
            return Verdict::Ours;
        }
        let was_ours = core::mem::replace(&mut self.is_ours, true);
        match (trigger, outcome) {
            (Trigger::Sweep, Outcome::Updated) if was_ours => {}
            (Trigger::Sweep, Outcome::Unchanged) => return Verdict::Quiet,
            (Trigger::Client | Trigger::Peer | Trigger::Lease | Trigger::Sweep, _) => {
                return Verdict::Ours;
            }
        }
        let is_fight = self.changed.replace(now).is_some_and(|at| now <= at.after(2 * sweep));
        self.is_given_up |= is_fight;
        if is_fight { Verdict::GivenUp } else { Verdict::Mended }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWEEP: Duration = Duration::from_secs(300);

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_route_that_somebody_else_changes_twice_within_two_sweeps_is_left_to_them() {
        let mut contest = Contest::default();
        let mut sweep = |seconds, outcome| {
            let verdict = contest.on_done(Trigger::Sweep, outcome, at(seconds), SWEEP);
            (verdict, contest.is_given_up())
        };
        // Whose it was before is not known.
        assert_eq!(sweep(0, Outcome::Updated), (Verdict::Ours, false));
        assert_eq!(sweep(300, Outcome::Updated), (Verdict::Mended, false));
        assert_eq!(sweep(600, Outcome::Unchanged), (Verdict::Quiet, false));
        assert_eq!(sweep(900, Outcome::Unchanged), (Verdict::Quiet, false));
        assert_eq!(sweep(1_200, Outcome::Updated), (Verdict::Mended, false));
        assert_eq!(sweep(1_800, Outcome::Updated), (Verdict::GivenUp, true));
    }

    #[test]
    fn what_is_asked_for_is_no_contest() {
        let mut contest = Contest::default();
        for seconds in 0..5 {
            let verdict = contest.on_done(Trigger::Client, Outcome::Updated, at(seconds), SWEEP);
            assert_eq!(verdict, Verdict::Ours);
        }
        assert!(!contest.is_given_up());
    }
}
