//! The state of a running world: its clock, its queue of events, the decisions, the trace, and the first rule
//! violation.

use hax_core::base::time::{Instant, Now, WallClock};

use super::Violation;
use super::cast::Cast;
use super::choice::Choice;
use super::event::{Ev, S};
use super::queue::Queue;
use super::trace::Trace;

/// The UNIX time of the beginning of all worlds, in ns.
const EPOCH: u64 = 1_700_000_000_000_000_000;
/// The maximum offset of the wall clock, in ns. It is limited so that no two lives of a machine start in the
/// same nanosecond.
const SKEW_MAX: i64 = 86_400 * 1_000_000_000;

/// The events in the world of a cast.
pub(super) type EvOf<C> = Ev<<C as Cast>::Event>;

/// The state of a running world. All times are in µs since a moment before its beginning.
pub(crate) struct Sim<'c, C: Cast> {
    now: u64,
    /// The offset of the wall clock, in ns.
    skew: i64,
    choice: &'c mut dyn Choice,
    /// While this is set, no faults occur.
    faults_off: bool,
    queue: Queue<EvOf<C>>,
    pub(super) trace: Trace,
    violation: Option<Violation>,
    steps: u64,
    /// The number of a planted bug's opportunities so far.
    opportunities: u64,
}

impl<'c, C: Cast> Sim<'c, C> {
    /// Creates the state of a new world. The trace keeps the last `lines` lines.
    pub(super) fn new(choice: &'c mut dyn Choice, lines: usize) -> Self {
        Self {
            now: S,
            skew: 0,
            choice,
            faults_off: false,
            queue: Queue::default(),
            trace: Trace::with_lines(lines, C::describe),
            violation: None,
            steps: 0,
            opportunities: 0,
        }
    }

    // ---- time -------------------------------------------------------------------------------------

    /// Returns the monotonic clock, in µs.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Returns both clocks as the machines see them.
    pub(crate) fn clocks(&self) -> Now {
        let wall = (EPOCH + self.now * 1_000).saturating_add_signed(self.skew);
        Now { mono: Instant::from_micros(self.now), wall: WallClock(wall) }
    }

    /// Moves the wall clock by this number of ns.
    pub(crate) fn shift_wall_clock(&mut self, by: i64) {
        self.skew = (self.skew + by).clamp(-SKEW_MAX, SKEW_MAX);
    }

    /// Returns the number of events so far.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    /// Takes the next event, if it is due by `end` and no rule is broken.
    pub(super) fn next(&mut self, end: u64) -> Option<EvOf<C>> {
        if self.violation.is_some() || self.queue.next_at().is_none_or(|at| at > end) {
            return None;
        }
        let (at, ev) = self.queue.pop()?;
        self.now = self.now.max(at);
        self.steps += 1;
        Some(ev)
    }

    /// Advances the clock to `end`. No more events are due before `end`.
    pub(super) fn advance_to(&mut self, end: u64) {
        if self.violation.is_none() {
            self.now = self.now.max(end);
        }
    }

    pub(super) fn push(&mut self, at: u64, ev: EvOf<C>) {
        self.queue.push(at, ev);
    }

    /// Queues an event of the cast for this time.
    pub(crate) fn schedule(&mut self, at: u64, event: C::Event) {
        self.queue.push(at, Ev::Cast(event));
    }

    // ---- decisions --------------------------------------------------------------------------------

    /// Draws a number below `n`. While faults are off it returns 0, the harmless choice.
    pub(crate) fn choose(&mut self, n: u64) -> u64 {
        if self.faults_off { 0 } else { self.choice.below(n) }
    }

    /// Draws an index into a list of length `n`.
    pub(crate) fn index(&mut self, n: usize) -> usize {
        usize::try_from(self.choose(n as u64)).unwrap_or(0)
    }

    /// Draws whether an event with this probability in thousandths occurs.
    pub(super) fn chance(&mut self, permille: u64) -> bool {
        !self.faults_off && (permille >= 1000 || self.choice.below(1000) >= 1000 - permille)
    }

    /// Returns whether no more faults will occur.
    pub(super) fn is_spent(&self) -> bool {
        self.choice.spent()
    }

    /// Returns whether faults are off.
    pub(crate) fn are_faults_off(&self) -> bool {
        self.faults_off
    }

    pub(super) fn set_faults_off(&mut self, faults_off: bool) {
        self.faults_off = faults_off;
    }

    /// Returns whether the planted bug acts this time. It acts once in `every` opportunities.
    pub(crate) fn mutant_acts(&mut self, every: u64) -> bool {
        self.opportunities += 1;
        self.opportunities.is_multiple_of(every)
    }

    // ---- the trace --------------------------------------------------------------------------------

    /// Adds a line for the reader of the trace.
    pub(crate) fn log(&mut self, line: impl FnOnce() -> String) {
        self.trace.log(self.now, line);
    }

    /// Records a broken rule. Only the first one is kept.
    pub(crate) fn fail(&mut self, rule: &'static str, what: String) {
        self.violation.get_or_insert(Violation { rule, what });
    }

    /// Records the violation, if a rule does not hold.
    pub(crate) fn check(&mut self, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.violation.get_or_insert(violation);
        }
    }

    /// Returns whether a rule is broken.
    pub(crate) fn is_broken(&self) -> bool {
        self.violation.is_some()
    }

    /// Returns the results of the run: the violation, the number of steps, the time, and the trace.
    pub(super) fn finish(self) -> (Option<Violation>, u64, u64, Trace) {
        (self.violation, self.steps, self.now, self.trace)
    }
}
