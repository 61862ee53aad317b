//! The detection of another writer that changes a route of this router.
//!
//! A single change may be a late write of the last holder, or an operator's change. It is corrected. Two
//! changes within two sweeps come from another permanent writer. Two writers that correct each other would
//! move the route forever. So this router stops correcting the route, and reports it.

use core::time::Duration;

use super::super::decide::Trigger;
use super::super::job::Outcome;
use crate::base::time::Instant;

/// The state of the detection. See the module.
#[derive(Debug, Default)]
pub(super) struct Contest {
    /// Whether the route led to this router at the last check.
    is_ours: bool,
    /// The time at which another writer's change was found last.
    changed: Option<Instant>,
    is_given_up: bool,
}

/// The meaning of an event's success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A sweep found the route unchanged.
    Quiet,
    /// The response has been carried out, and no other writer's change was found.
    Ours,
    /// Another writer's change was found and corrected.
    Mended,
    /// Another writer's change was found again too soon. It was corrected, but later ones will not be.
    GivenUp,
}

impl Contest {
    /// Returns whether the route is left to the other writer.
    pub(super) fn is_given_up(&self) -> bool {
        self.is_given_up
    }

    /// Records the success of an event. `sweep` is the period of sweeps.
    pub(super) fn on_done(
        &mut self,
        trigger: Trigger,
        outcome: Outcome,
        now: Instant,
        sweep: Duration,
    ) -> Verdict {
        // A write-back does not tell where the route leads.
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
        // The previous next hop is unknown.
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
