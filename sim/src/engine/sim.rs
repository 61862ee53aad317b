//! The course of a world: its clock, what happens next, the decisions, the trace, and the first rule that
//! was broken.

use hax_core::base::time::{Instant, Now, WallClock};

use super::Violation;
use super::cast::Cast;
use super::choice::Choice;
use super::event::{Ev, S};
use super::queue::Queue;
use super::trace::Trace;

/// UNIX time at which all worlds begin, in ns.
const EPOCH: u64 = 1_700_000_000_000_000_000;
/// The wall clock is never further off than this, so that no two lives of a machine share a nanosecond by
/// its start.
const SKEW_MAX: i64 = 86_400 * 1_000_000_000;

/// What happens in the world of a cast.
pub(super) type EvOf<C> = Ev<<C as Cast>::Event>;

/// The course of a world. All times are in µs since some moment before it began.
pub(crate) struct Sim<'c, C: Cast> {
    now: u64,
    /// What the wall clock is off by, in ns.
    skew: i64,
    choice: &'c mut dyn Choice,
    /// Nothing goes wrong.
    calm: bool,
    queue: Queue<EvOf<C>>,
    pub(super) trace: Trace,
    violation: Option<Violation>,
    steps: u64,
    /// Turns that a planted bug had.
    turns: u64,
}

impl<'c, C: Cast> Sim<'c, C> {
    /// A course that begins. So many of the last lines are kept.
    pub(super) fn new(choice: &'c mut dyn Choice, lines: usize) -> Self {
        Self {
            now: S,
            skew: 0,
            choice,
            calm: false,
            queue: Queue::default(),
            trace: Trace::keeping(lines, C::describe),
            violation: None,
            steps: 0,
            turns: 0,
        }
    }

    // ---- time -------------------------------------------------------------------------------------

    /// The monotonic clock, in µs.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Both clocks, as machines see them.
    pub(crate) fn clocks(&self) -> Now {
        let wall = (EPOCH + self.now * 1_000).saturating_add_signed(self.skew);
        Now { mono: Instant::from_micros(self.now), wall: WallClock(wall) }
    }

    /// The wall clock jumps by so many ns.
    pub(crate) fn jump(&mut self, by: i64) {
        self.skew = (self.skew + by).clamp(-SKEW_MAX, SKEW_MAX);
    }

    /// How much has happened.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    /// The next thing that happens, if it is due by `end` and no rule is broken.
    pub(super) fn next(&mut self, end: u64) -> Option<EvOf<C>> {
        if self.violation.is_some() || self.queue.next_at().is_none_or(|at| at > end) {
            return None;
        }
        let (at, ev) = self.queue.pop()?;
        self.now = self.now.max(at);
        self.steps += 1;
        Some(ev)
    }

    /// Nothing more happens before `end`.
    pub(super) fn pass_to(&mut self, end: u64) {
        if self.violation.is_none() {
            self.now = self.now.max(end);
        }
    }

    pub(super) fn push(&mut self, at: u64, ev: EvOf<C>) {
        self.queue.push(at, ev);
    }

    /// Something of the cast's own happens then.
    pub(crate) fn later(&mut self, at: u64, event: C::Event) {
        self.queue.push(at, Ev::Own(event));
    }

    // ---- decisions --------------------------------------------------------------------------------

    /// A number below `n`; 0, the harmless one, while nothing may go wrong.
    pub(crate) fn choose(&mut self, n: u64) -> u64 {
        if self.calm { 0 } else { self.choice.below(n) }
    }

    /// An index into a list of `n`.
    pub(crate) fn index(&mut self, n: usize) -> usize {
        usize::try_from(self.choose(n as u64)).unwrap_or(0)
    }

    /// Whether something happens that does so this often in a thousand times.
    pub(super) fn chance(&mut self, permille: u64) -> bool {
        !self.calm && (permille >= 1000 || self.choice.below(1000) >= 1000 - permille)
    }

    /// Whether nothing more will go wrong.
    pub(super) fn is_spent(&self) -> bool {
        self.choice.spent()
    }

    /// Whether nothing may go wrong now.
    pub(crate) fn is_calm(&self) -> bool {
        self.calm
    }

    pub(super) fn set_calm(&mut self, calm: bool) {
        self.calm = calm;
    }

    /// Whether it is the planted bug's turn, which it is every so many times.
    pub(crate) fn is_turn(&mut self, every: u64) -> bool {
        self.turns += 1;
        self.turns.is_multiple_of(every)
    }

    // ---- what is seen -----------------------------------------------------------------------------

    /// A line for whoever reads the story.
    pub(crate) fn say(&mut self, line: impl FnOnce() -> String) {
        self.trace.say(self.now, line);
    }

    /// A rule is broken. The first one counts.
    pub(crate) fn fail(&mut self, rule: &'static str, what: String) {
        self.violation.get_or_insert(Violation { rule, what });
    }

    /// A rule holds, or is broken.
    pub(crate) fn check(&mut self, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.violation.get_or_insert(violation);
        }
    }

    /// Whether a rule is broken.
    pub(crate) fn is_broken(&self) -> bool {
        self.violation.is_some()
    }

    /// What came of it: the violation, the steps, the time, and what was seen.
    pub(super) fn end(self) -> (Option<Violation>, u64, u64, Trace) {
        (self.violation, self.steps, self.now, self.trace)
    }
}
