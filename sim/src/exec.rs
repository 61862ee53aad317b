//! The double of the port for helper programs ([`hax_core::exec`]). The behavior of a helper is data, and the
//! caller supplies the time.
//!
//! The double keeps the port's promises (the order of events, one end for each start, deadlines, limits).
//! Everything else may fail: [`Program::with_drawn_fault`] draws the faults.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use hax_core::base::errno::Errno;
use hax_core::base::id::ExecId;
use hax_core::base::time::Instant;
use hax_core::exec::{Cause, Command, Event, Refusal, Spawn, Status, Stream, Unheard};

use crate::due::DueQueue;

const SIGKILL: i32 = 9;
const SIGSEGV: i32 = 11;
const SIGTERM: i32 = 15;

/// The behavior of a helper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The reason why it cannot be started, if any.
    pub refused: Option<Refusal>,
    /// The time until it is started or refused.
    pub starts_after: Duration,
    /// The steps of the helper, each with its delay after the previous one.
    pub steps: Vec<(Duration, Step)>,
    /// The reaction to a SIGTERM.
    pub on_term: OnTerm,
    /// Whether the helper leaves a process behind with its outputs open.
    pub leaves_open: bool,
}

/// A step of a helper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The helper changes something outside. The world knows the meaning of the number.
    Act(u32),
    /// The helper writes to an output.
    Write(Stream, Bytes),
    /// The helper ends. A helper without this step never ends by itself.
    End(Status),
}

/// The reaction of a helper to a SIGTERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTerm {
    /// The signal ends the helper.
    Dies,
    /// The helper ends by itself after this time.
    Ends(Duration, Status),
    /// The helper continues.
    Ignores,
}

impl Program {
    /// Creates a program with these steps at once, each a millisecond after the previous one, and ends with
    /// exit code 0.
    #[must_use]
    pub fn doing(steps: impl IntoIterator<Item = Step>) -> Self {
        let steps = steps.into_iter().chain([Step::End(Status::Code(0))]);
        Self {
            refused: None,
            starts_after: Duration::from_millis(1),
            steps: steps.map(|step| (Duration::from_millis(1), step)).collect(),
            on_term: OnTerm::Dies,
            leaves_open: false,
        }
    }

    /// Creates a missing program: its start is refused.
    #[must_use]
    pub fn missing() -> Self {
        Self { refused: Some(Refusal::Missing), ..Self::doing([]) }
    }

    /// Adds a drawn fault to the program, or none. `choose` returns a number below its argument; 0 is the
    /// harmless choice.
    #[must_use]
    pub fn with_drawn_fault(mut self, mut choose: impl FnMut(u64) -> u64) -> Self {
        match choose(12) {
            1 => self.refused = Some(Refusal::Failed(Errno::EAGAIN)),
            2 => self.refused = Some(Refusal::Missing),
            3 => self.starts_after += Duration::from_millis(choose(5_000)),
            4 => self.slow_down(Duration::from_millis(choose(20_000))),
            5 => self.end_early(Status::Signal(SIGSEGV), &mut choose),
            6 => self.end_early(Status::Code(1), &mut choose),
            7 => self.end_early(Status::Unknown, &mut choose),
            8 => self.steps.retain(|(_, step)| !matches!(step, Step::End(_))),
            9 => {
                self.slow_down(Duration::from_secs(600));
                self.on_term = OnTerm::Ignores;
            }
            10 => {
                self.slow_down(Duration::from_secs(600));
                let after = Duration::from_millis(choose(2_000));
                self.on_term = OnTerm::Ends(after, Status::Code(143));
            }
            11 => self.leaves_open = true,
            _ => {}
        }
        self
    }

    /// Adds a delay before one of the last steps.
    fn slow_down(&mut self, by: Duration) {
        if let Some((after, _)) = self.steps.last_mut() {
            *after += by;
        }
    }

    /// Makes the helper end before one of its steps.
    fn end_early(&mut self, status: Status, choose: &mut impl FnMut(u64) -> u64) {
        let at = usize::try_from(choose(self.steps.len() as u64)).unwrap_or(0);
        self.steps.truncate(at);
        self.steps.push((Duration::from_millis(1), Step::End(status)));
    }
}

/// An event of the double.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SimEvent {
    /// The machine receives an event.
    Event(Event),
    /// A helper has performed a [`Step::Act`].
    Act {
        /// The helper.
        id: ExecId,
        /// The number of the act.
        act: u32,
    },
}

/// A future event of a helper.
#[derive(Debug)]
enum Due {
    Refuse(Refusal),
    Start,
    /// The next step of the helper.
    Step,
    Term(Cause),
    End(Status),
}

/// A requested helper before its end.
#[derive(Debug)]
struct Helper {
    spawn: Spawn,
    /// The remaining steps, the last one first.
    steps: Vec<(Duration, Step)>,
    on_term: OnTerm,
    is_up: bool,
    cause: Cause,
    /// The remaining number of bytes to pass on, for each output.
    left: [usize; 2],
    unheard: Unheard,
}

/// All helpers of one daemon.
#[derive(Debug)]
pub struct Helpers {
    running_max: usize,
    helpers: BTreeMap<ExecId, Helper>,
    due: DueQueue<ExecId, Due>,
}

impl Helpers {
    /// Creates a double without helpers. At most `running_max` may run at a time.
    #[must_use]
    pub fn new(running_max: usize) -> Self {
        Self { running_max, helpers: BTreeMap::new(), due: DueQueue::default() }
    }

    /// Executes a command. `program` returns the behavior of a helper that is started.
    ///
    /// # Panics
    ///
    /// If an identifier is used twice.
    pub fn execute(
        &mut self,
        now: Instant,
        command: Command,
        program: impl FnOnce(&Spawn) -> Program,
    ) {
        match command {
            Command::Spawn(spawn) => self.spawn(now, *spawn, program),
            Command::Kill { id } => self.due.push(now, id, Due::Term(Cause::Killed)),
        }
    }

    fn spawn(&mut self, now: Instant, spawn: Spawn, program: impl FnOnce(&Spawn) -> Program) {
        let id = spawn.id;
        assert!(!self.helpers.contains_key(&id), "{id} is started twice");
        let Program { refused, starts_after, mut steps, on_term, leaves_open } = program(&spawn);
        let too_many = self.helpers.len() >= self.running_max;
        let refused = if too_many { Some(Refusal::TooMany) } else { refused };
        if let Some(why) = refused {
            return self.due.push(now.after(starts_after), id, Due::Refuse(why));
        }
        steps.reverse();
        let (cause, left) = (Cause::Itself, [spawn.output_max; 2]);
        let unheard = Unheard { dropped: 0, open: leaves_open };
        let helper = Helper { spawn, steps, on_term, is_up: false, cause, left, unheard };
        self.helpers.insert(id, helper);
        self.due.push(now.after(starts_after), id, Due::Start);
    }

    /// Returns the time of the next event.
    #[must_use]
    pub fn next_at(&self) -> Option<Instant> {
        self.due.next_at()
    }

    /// Returns the running and the starting helpers.
    pub fn running(&self) -> impl Iterator<Item = &Spawn> {
        self.helpers.values().map(|helper| &helper.spawn)
    }

    /// Takes the next due event, if any.
    pub fn pop(&mut self, now: Instant) -> Option<SimEvent> {
        loop {
            let (at, id, due) = self.due.pop(now)?;
            if let Some(happening) = self.on_due(at, id, due) {
                return Some(happening);
            }
        }
    }

    fn on_due(&mut self, at: Instant, id: ExecId, due: Due) -> Option<SimEvent> {
        if let Due::Refuse(why) = due {
            return Some(SimEvent::Event(Event::Refused { id, why }));
        }
        // The future events of a helper that has ended are dropped.
        let helper = self.helpers.get_mut(&id)?;
        match due {
            Due::Refuse(_) => None,
            Due::Start => {
                helper.is_up = true;
                let deadline = at.after(helper.spawn.deadline);
                // The helper may have been killed before its start was complete.
                let killed = helper.cause == Cause::Killed;
                self.step_later(at, id);
                self.due.push(deadline, id, Due::Term(Cause::Deadline));
                if killed {
                    self.term(at, id);
                }
                Some(SimEvent::Event(Event::Started { id }))
            }
            Due::Step => {
                let (_, step) = helper.steps.pop()?;
                let happening = match step {
                    Step::Act(act) => Some(SimEvent::Act { id, act }),
                    Step::Write(stream, bytes) => helper.say(stream, bytes),
                    Step::End(status) => return self.end(id, status),
                };
                self.step_later(at, id);
                happening
            }
            Due::Term(cause) => {
                if helper.cause == Cause::Itself {
                    helper.cause = cause;
                    if helper.is_up {
                        self.term(at, id);
                    }
                }
                None
            }
            Due::End(status) => self.end(id, status),
        }
    }

    fn step_later(&mut self, at: Instant, id: ExecId) {
        let steps = self.helpers.get(&id).map(|helper| helper.steps.last());
        if let Some(Some((after, _))) = steps {
            self.due.push(at.after(*after), id, Due::Step);
        }
    }

    /// Sends a SIGTERM to a helper, and a SIGKILL after its grace period.
    fn term(&mut self, at: Instant, id: ExecId) {
        let Some(helper) = self.helpers.get(&id) else { return };
        let kill_at = at.after(helper.spawn.grace);
        match helper.on_term {
            OnTerm::Dies => self.due.push(at, id, Due::End(Status::Signal(SIGTERM))),
            OnTerm::Ends(after, status) => self.due.push(at.after(after), id, Due::End(status)),
            OnTerm::Ignores => {}
        }
        self.due.push(kill_at, id, Due::End(Status::Signal(SIGKILL)));
    }

    fn end(&mut self, id: ExecId, status: Status) -> Option<SimEvent> {
        let Helper { cause, unheard, .. } = self.helpers.remove(&id)?;
        Some(SimEvent::Event(Event::Exited { id, status, cause, unheard }))
    }

    /// Replaces the text that a helper has yet to write to its standard output.
    pub fn speak(&mut self, id: ExecId, text: &Bytes) {
        let steps = self.helpers.get_mut(&id).into_iter().flat_map(|helper| &mut helper.steps);
        for (_, step) in steps {
            if let Step::Write(Stream::Stdout, said) = step {
                *said = text.clone();
            }
        }
    }

    /// Handles the death or stop of the daemon: its helpers are gone at once, without events.
    pub fn daemon_killed(&mut self) {
        self.helpers.clear();
        self.due.clear();
    }
}

impl Helper {
    fn say(&mut self, stream: Stream, mut bytes: Bytes) -> Option<SimEvent> {
        let left = &mut self.left[usize::from(stream == Stream::Stderr)];
        let dropped = bytes.split_off(bytes.len().min(*left));
        *left -= bytes.len();
        self.unheard.dropped += dropped.len() as u64;
        let event = Event::Output { id: self.spawn.id, stream, bytes };
        matches!(&event, Event::Output { bytes, .. } if !bytes.is_empty())
            .then_some(SimEvent::Event(event))
    }
}

#[cfg(test)]
mod tests {
    use hax_core::exec::Origin;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn spawn(id: u64) -> Spawn {
        Spawn {
            id: ExecId(id),
            origin: Origin::Own,
            argv: ["/bin/true".into()].into(),
            env: Box::default(),
            stdin: Bytes::new(),
            deadline: 100 * MS,
            grace: 50 * MS,
            output_max: 4,
            leaves_daemons: false,
        }
    }

    fn say(text: &'static str) -> Step {
        Step::Write(Stream::Stdout, Bytes::from_static(text.as_bytes()))
    }

    /// Takes all events, each with its time in milliseconds.
    fn all(helpers: &mut Helpers) -> Vec<(u64, SimEvent)> {
        let mut seen = Vec::new();
        while let Some(at) = helpers.next_at() {
            while let Some(happening) = helpers.pop(at) {
                seen.push((at.as_micros() / 1000, happening));
            }
        }
        assert_eq!(helpers.running().count(), 0);
        seen
    }

    /// Runs a single helper. Returns the time, status and cause of its end.
    fn end(program: Program, kill_at: Option<Duration>) -> (u64, Status, Cause) {
        let mut helpers = Helpers::new(1);
        let at = Instant::default();
        helpers.execute(at, Command::Spawn(Box::new(spawn(1))), |_| program);
        if let Some(after) = kill_at {
            let kill = Command::Kill { id: ExecId(1) };
            helpers.execute(at.after(after), kill, |_| unreachable!());
        }
        let seen = all(&mut helpers);
        let ends: Vec<_> = seen
            .iter()
            .filter_map(|(at, happening)| match happening {
                SimEvent::Event(Event::Exited { status, cause, .. }) => {
                    Some((*at, *status, *cause))
                }
                _ => None,
            })
            .collect();
        assert_eq!(ends.len(), 1, "{seen:?}");
        assert!(matches!(seen.last(), Some((_, SimEvent::Event(Event::Exited { .. })))));
        ends[0]
    }

    #[test]
    fn a_helper_does_what_its_program_says() {
        let mut helpers = Helpers::new(1);
        let program = Program::doing([Step::Act(7), say("abc"), say("def"), say("ghi")]);
        let at = Instant::default();
        helpers.execute(at, Command::Spawn(Box::new(spawn(1))), |_| program);
        let id = ExecId(1);
        let output = |text: &'static str| {
            let (stream, bytes) = (Stream::Stdout, Bytes::from_static(text.as_bytes()));
            SimEvent::Event(Event::Output { id, stream, bytes })
        };
        let (status, cause) = (Status::Code(0), Cause::Itself);
        let unheard = Unheard { dropped: 5, open: false };
        let expected = [
            (1, SimEvent::Event(Event::Started { id })),
            (2, SimEvent::Act { id, act: 7 }),
            (3, output("abc")),
            (4, output("d")),
            (6, SimEvent::Event(Event::Exited { id, status, cause, unheard })),
        ];
        assert_eq!(all(&mut helpers), expected);
    }

    #[test]
    fn deadlines_and_graces_hold() {
        let endless = || Program { steps: Vec::new(), ..Program::doing([]) };
        let with = |on_term| Program { on_term, ..endless() };
        assert_eq!(end(endless(), None), (101, Status::Signal(15), Cause::Deadline));
        let ignores = with(OnTerm::Ignores);
        assert_eq!(end(ignores, None), (151, Status::Signal(9), Cause::Deadline));
        let ends = with(OnTerm::Ends(20 * MS, Status::Code(3)));
        assert_eq!(end(ends, None), (121, Status::Code(3), Cause::Deadline));
        let late = with(OnTerm::Ends(60 * MS, Status::Code(3)));
        assert_eq!(end(late, None), (151, Status::Signal(9), Cause::Deadline));
        assert_eq!(end(endless(), Some(10 * MS)), (10, Status::Signal(15), Cause::Killed));
        // The kill comes before the start is complete.
        assert_eq!(end(endless(), Some(MS / 2)), (1, Status::Signal(15), Cause::Killed));
        // The kill comes after the end.
        let done = (2, Status::Code(0), Cause::Itself);
        assert_eq!(end(Program::doing([]), Some(10 * MS)), done);
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let mut helpers = Helpers::new(2);
        for id in 1..=3 {
            let spawn = Command::Spawn(Box::new(spawn(id)));
            helpers.execute(Instant::default(), spawn, |_| Program::doing([]));
        }
        let refused = Event::Refused { id: ExecId(3), why: Refusal::TooMany };
        let seen = all(&mut helpers);
        assert!(seen.contains(&(1, SimEvent::Event(refused))), "{seen:?}");
        assert_eq!(seen.len(), 5);
    }

    #[test]
    fn helpers_die_with_their_daemon() {
        let mut helpers = Helpers::new(2);
        let spawn = Command::Spawn(Box::new(spawn(1)));
        helpers.execute(Instant::default(), spawn, |_| Program::doing([Step::Act(1)]));
        assert!(helpers.pop(Instant::default().after(MS)).is_some());
        helpers.daemon_killed();
        assert_eq!(helpers.pop(Instant::MAX), None);
    }

    /// Whatever fails, there is either a single refusal, or a start and one end after it.
    #[test]
    fn each_start_has_one_end() {
        let mut fates = std::collections::BTreeSet::new();
        for fate in 0..12 {
            for more in [0, 1, 3, 1_999, 19_999] {
                let mut first = Some(fate);
                let program = Program::doing([say("a"), Step::Act(1)])
                    .with_drawn_fault(|n| first.take().unwrap_or(more).min(n - 1));
                let mut helpers = Helpers::new(1);
                let command = Command::Spawn(Box::new(spawn(1)));
                helpers.execute(Instant::default(), command, |_| program.clone());
                let seen = all(&mut helpers);
                let is = |what: fn(&Event) -> bool| {
                    let event = |happening: &SimEvent| match happening {
                        SimEvent::Event(event) => what(event),
                        SimEvent::Act { .. } => false,
                    };
                    seen.iter().filter(|(_, happening)| event(happening)).count()
                };
                let refused = is(|event| matches!(event, Event::Refused { .. }));
                let started = is(|event| matches!(event, Event::Started { .. }));
                let exited = is(|event| matches!(event, Event::Exited { .. }));
                assert_eq!((started, exited), (1 - refused, 1 - refused), "{program:?}: {seen:?}");
                assert!(refused == 0 || seen.len() == 1, "{seen:?}");
                fates.insert(format!("{:?}", seen.last()));
            }
        }
        assert!(fates.len() >= 9, "{fates:#?}");
    }
}
