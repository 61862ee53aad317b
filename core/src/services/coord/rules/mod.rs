//! The rules. Each is a Mealy machine: an event or a deadline, in a phase, leads to effects and to another
//! phase. Effects are changes of the memory, which become a transaction.
//!
//! A rule may be worked again after a crash, with the same event and the effects of the first time partly or
//! wholly there. It does nothing then.

mod changed;
mod due;
mod ended;
mod node;
mod reconfigure;
mod restart;
mod running;
mod start;
mod stop;
mod supervise;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::fact::Fact;
use super::graph::{Graph, Placement, Row};
use crate::base::time::Now;
use crate::services::model::form;
use crate::services::model::launch::Launch;
use crate::services::model::name::NodeName;
use crate::services::model::parameters::Given;
use crate::services::model::policy::History;
use crate::services::model::record::{
    Ask, Event, Job, Phase, State, Trying, Verb, Want, Wanted, What,
};

pub(super) use changed::look_over;
pub(super) use due::on_due;
pub(super) use node::fill_all;
pub(super) use supervise::supervise;

/// The time that a node has beyond its own time limits.
const SLACK: Duration = Duration::from_secs(10);

/// The context of a rule.
pub(super) struct RuleCx<'a> {
    pub(super) graph: &'a mut Graph,
    pub(super) now: Now,
    pub(super) facts: &'a mut Vec<Fact>,
}

/// Works an event.
pub(super) fn on_event(cx: &mut RuleCx<'_>, event: &Event) {
    match &event.what {
        What::Changed { kind, observed } => {
            let placement = Placement { node: event.node.clone(), kind: kind.clone() };
            changed::on_changed(cx, &placement, observed);
        }
        What::Asked(ask) => on_asked(cx, ask),
        What::Defined { record, stored } => reconfigure::on_defined(cx, record, stored),
        What::Forgotten { node } => node::on_forgotten(cx, node),
    }
}

/// Works what a rule program asks for.
pub(super) fn on_program(cx: &mut RuleCx<'_>, ask: Ask) {
    if let Err(why) = check(cx, &ask) {
        let why = format!("{} asks for it: {why}", by(&ask)).into();
        return cx.say(Fact::CannotDo { kind: ask.kind, why });
    }
    if ask.verb == Verb::Start && ask.given.is_empty() {
        let places = match &ask.node {
            Some(node) => Vec::from([Placement { node: node.clone(), kind: ask.kind.clone() }]),
            None => cx.graph.places(&ask.kind),
        };
        let runs = |place: &Placement| cx.graph.rows.get(place).is_some_and(Row::runs);
        if !places.is_empty() && places.iter().all(runs) {
            // It is done already, with the parameters that it has.
            return;
        }
    }
    let of = |(placement, row): (&Placement, &Row)| {
        (placement.kind == ask.kind).then(|| (placement.node.as_str().into(), row.serial()))
    };
    let serials = cx.graph.rows.iter().filter_map(of).collect();
    on_asked(cx, &Ask { serials, ..ask });
}

/// Checks what a program asks for, as a request of an operator is checked before it is written.
fn check(cx: &RuleCx<'_>, ask: &Ask) -> Result<(), String> {
    let of = cx.graph.types.get(&ask.kind).ok_or("the type is not defined")?;
    let node = ask.node.as_ref().or_else(|| cx.graph.nodes.keys().next());
    let node = node.filter(|node| cx.graph.nodes.contains_key(*node));
    let node = node.ok_or("the node is not known")?;
    if ask.verb != Verb::Start {
        return Ok(());
    }
    let stored = cx.graph.stored.get(&ask.kind).cloned().flatten().unwrap_or_default();
    Launch::resolve(of, node, &ask.given, &stored).map(drop).map_err(|why| why.join("; "))
}

fn on_asked(cx: &mut RuleCx<'_>, ask: &Ask) {
    match ask.verb {
        Verb::Start => start::on_asked(cx, ask),
        Verb::Stop => stop::on_asked(cx, ask),
        Verb::Restart => restart::on_asked(cx, ask),
    }
}

/// Returns who asks, in words.
fn by(ask: &Ask) -> &str {
    if ask.by.is_empty() { "an operator" } else { &ask.by }
}

/// What a start is made of.
struct StartOf {
    launch: Box<Launch>,
    given: Given,
    history: History,
    trying: Option<Trying>,
    why: String,
}

impl RuleCx<'_> {
    fn at(&self) -> Box<str> {
        format!("{}", self.now.wall).into()
    }

    fn say(&mut self, fact: Fact) {
        self.facts.push(fact);
    }

    fn cannot(&mut self, placement: &Placement, why: &str) {
        let why = format!("on {}: {why}", placement.node).into();
        self.say(Fact::CannotDo { kind: placement.kind.clone(), why });
    }

    /// Wants one more start of an instance.
    fn start(&mut self, placement: &Placement, of: StartOf) {
        let (at, now) = (self.at(), self.now.mono);
        let row = self.graph.row(placement);
        let serial = row.serial().max(row.observed.serial) + 1;
        let StartOf { launch, given, history, trying, why } = of;
        // An instance that lives is stopped first.
        let wait = launch.start_within() + launch.stop_within() + SLACK;
        let (kind, node) = (placement.kind.clone(), placement.node.clone());
        self.say(Fact::Wants { kind, node, serial, why: why.as_str().into() });
        let wanted =
            Wanted { v: form(), want: Want::Running, serial, launch, given, why: why.into(), at };
        self.graph.set_wanted(placement, wanted);
        let job = Job { history, trying, ..self.job(Phase::Starting, Some(wait)) };
        self.graph.set_job(now, placement, Some(job));
    }

    /// Wants an instance to run that does so already, with the serial number that it has.
    fn take_on(&mut self, placement: &Placement, launch: Box<Launch>, given: &Given, why: &str) {
        let serial = self.graph.row(placement).observed.serial;
        let (v, want, given, at) = (form(), Want::Running, given.clone(), self.at());
        let (kind, node) = (placement.kind.clone(), placement.node.clone());
        self.say(Fact::Wants { kind, node, serial, why: why.into() });
        let wanted = Wanted { v, want, serial, launch, given, why: why.into(), at };
        self.graph.set_wanted(placement, wanted);
        self.set_job(placement, None);
    }

    /// Wants an instance not to run, with the launch that it has.
    fn unwant(&mut self, placement: &Placement, want: Want, why: &str) {
        let at = self.at();
        if let Some(wanted) = self.graph.row(placement).wanted.value.clone() {
            self.graph.set_wanted(placement, Wanted { want, why: why.into(), at, ..wanted });
        }
    }

    /// Returns a job in a phase, with nothing to remember.
    fn job(&self, phase: Phase, wait: Option<Duration>) -> Job {
        Job {
            v: form(),
            phase,
            wait_ms: wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            since: self.at(),
            given: Given::new(),
            history: History::default(),
            trying: None,
        }
    }

    fn set_job(&mut self, placement: &Placement, job: Option<Job>) {
        self.graph.set_job(self.now.mono, placement, job);
    }

    /// Returns the phase of an instance's job.
    fn phase(&self, placement: &Placement) -> Option<Phase> {
        let row = self.graph.rows.get(placement)?;
        row.job.value.as_ref().map(|job| job.phase)
    }

    /// Returns the parameters of a start that waits for what it needs.
    fn waiting(&self, placement: &Placement) -> Option<Given> {
        let job = self.graph.rows.get(placement)?.job.value.as_ref()?;
        (job.phase == Phase::Needs).then(|| job.given.clone())
    }

    /// Returns whether an instance is to be on another node only. What another type needs is started beside it,
    /// whatever its own place.
    fn has_no_place(&self, placement: &Placement) -> bool {
        let is_to_run = |of: &Placement| {
            self.graph.rows.get(of).is_some_and(Row::is_wanted) || self.waiting(of).is_some()
        };
        let Placement { node, kind } = placement;
        self.graph.is_no_place(node, kind)
            && !self.graph.dependents(placement).iter().any(is_to_run)
    }

    fn is_up(&self, node: &NodeName) -> bool {
        self.graph.nodes.get(node).is_some_and(|node| node.is_up)
    }

    /// Resolves the launch of an instance from its type.
    fn resolve(&self, placement: &Placement, given: &Given) -> Result<Box<Launch>, String> {
        let of = self.graph.types.get(&placement.kind).ok_or("the type is not defined")?;
        let none = Given::new();
        let stored = self.graph.stored.get(&placement.kind).and_then(Option::as_ref);
        let stored = stored.unwrap_or(&none);
        let launch = Launch::resolve(of, &placement.node, given, stored);
        launch.map(Box::new).map_err(|why| why.join("; "))
    }

    /// Tries a configuration on an instance that is wanted to run, unless it has it already.
    fn try_launch(&mut self, placement: &Placement, launch: Box<Launch>, given: &Given) {
        let row = self.graph.row(placement);
        let Some(wanted) = row.wanted.value.clone() else { return };
        if wanted.launch.revision == launch.revision {
            if wanted.given != *given {
                // Stored parameters may hide those that were given, until they are removed.
                let given = given.clone();
                self.graph.set_wanted(placement, Wanted { given, ..wanted });
            }
            return;
        }
        // A configuration that was never proved is not one to return to.
        let trying = row.job.value.as_ref().and_then(|job| job.trying.clone());
        let was_proved = matches!(row.observed.state, State::Running | State::Degraded)
            && row.observed.revision.as_ref() == Some(&wanted.launch.revision);
        let last = match trying {
            Some(trying) => Some(trying.last),
            None => was_proved.then_some(wanted.launch),
        };
        let last = last.filter(|last| last.revision != launch.revision);
        let trying = last.map(|last| Trying { failures: 0, last });
        let why = format!("configuration {} is tried", launch.revision);
        let (given, history) = (given.clone(), History::default());
        self.start(placement, StartOf { launch, given, history, trying, why });
    }
}
