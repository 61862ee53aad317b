//! The event manager: the events on redundancy nodes, and the handlers that carry out the responses.
//!
//! The events of one redundancy node are handled in order, one at a time. They do not delay the events of
//! other nodes. An event handler is a separate process with a deadline, and the server never blocks on it. An
//! event that may not be handled yet is parked. It delays only the later events of its own node.

mod callers;
mod contest;
mod handler;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::time::Duration;

use super::context::{Cx, Timer};
use super::decide::{Event, Response, Trigger, decide, mend};
use super::fact::Fact;
use super::groups::{Groups, Permit};
use super::job::{Done, Outcome};
use super::logins::Tokens;
use super::node::{Index, Node};
use super::parameters;
use super::request::{Answer, Nodes, exit};
use super::table::Table;
use crate::base::id::{ExecId, FifoId};
use crate::base::time::{Instant, WallClock};
use crate::exec;
use callers::{CALLERS_MAX, CallerId, Callers, Ended};
use contest::Contest;
use handler::{Running, Start};

/// The maximum number of handlers that run at the same time. When the peer fails, all its events may occur at
/// once, and the host can run 128 programs.
const RUNNING_MAX: usize = 64;

/// The maximum number of waiting events of one redundancy node.
const WAITING_MAX: usize = 8;

/// The event manager's state. See the module.
#[derive(Debug)]
pub(super) struct EventManager {
    /// The program of event handlers.
    program: Box<str>,
    /// The server's environment. A handler gets the variables of its provider.
    env: Box<[(Box<str>, Box<str>)]>,
    /// The period of sweeps, which check whether routes lead to the right router.
    sweep: Duration,
    lanes: BTreeMap<Index, Lane>,
    /// The redundancy nodes whose next event can begin.
    ready: VecDeque<Index>,
    /// The redundancy nodes whose next event may not begin yet.
    parked: BTreeSet<Index>,
    running: BTreeMap<ExecId, Running>,
    callers: Callers,
    next_exec: ExecId,
    tokens: Tokens,
}

/// The events of one redundancy node.
#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Work>,
    is_running: bool,
    last: Option<Report>,
    contest: Contest,
}

/// A pending event on one redundancy node.
#[derive(Debug)]
struct Work {
    event: Event,
    trigger: Trigger,
    callers: Vec<CallerId>,
    /// The time at which the event was first ready to be handled, if it was.
    since: Option<Instant>,
}

/// A client's report of an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct EventReport {
    pub(super) client: FifoId,
    /// The redundancy nodes of the event.
    pub(super) nodes: Nodes,
    pub(super) event: Event,
    /// Whether the client waits until the event has been handled.
    pub(super) wait: bool,
}

/// The result of the last event of a redundancy node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) event: Event,
    pub(super) at: WallClock,
    pub(super) result: Result<Box<str>, Box<str>>,
}

/// The state of a redundancy node's events.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing<'a> {
    pub(super) is_running: bool,
    pub(super) waiting: usize,
    pub(super) is_contested: bool,
    pub(super) last: Option<&'a Report>,
}

impl EventManager {
    pub(super) fn new(
        program: Box<str>,
        env: Box<[(Box<str>, Box<str>)]>,
        sweep: Duration,
    ) -> Self {
        Self {
            program,
            env,
            sweep,
            lanes: BTreeMap::new(),
            ready: VecDeque::new(),
            parked: BTreeSet::new(),
            running: BTreeMap::new(),
            callers: Callers::default(),
            next_exec: ExecId(1),
            tokens: Tokens::default(),
        }
    }

    /// Returns the number of running handlers.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// Returns whether no event waits and no handler runs.
    pub(super) fn is_settled(&self) -> bool {
        self.running.is_empty() && self.ready.is_empty() && self.parked.is_empty()
    }

    /// Returns whether no handler of a group runs.
    pub(super) fn is_idle(&self, group: &str) -> bool {
        !self.running.values().any(|running| running.is_of(group))
    }

    /// Returns the state of a redundancy node's events.
    pub(super) fn standing(&self, index: Index) -> Standing<'_> {
        let lane = self.lanes.get(&index);
        Standing {
            is_running: lane.is_some_and(|lane| lane.is_running),
            waiting: lane.map_or(0, |lane| lane.waiting.len()),
            is_contested: lane.is_some_and(|lane| lane.contest.is_given_up()),
            last: lane.and_then(|lane| lane.last.as_ref()),
        }
    }

    /// Removes the record of a deleted redundancy node's events.
    pub(super) fn forget(&mut self, index: Index) {
        if let Some(lane) = self.lanes.get_mut(&index) {
            lane.last = None;
            lane.contest = Contest::default();
        }
        self.lanes.retain(|_, lane| !lane.is_empty());
    }

    // ---- occurrence of events ---------------------------------------------------------------------

    /// Queues an event that a client reports. The client gets the reply at once or, if it waits, when the
    /// event has been handled.
    pub(super) fn on_event(&mut self, cx: &mut Cx<'_>, table: &Table, report: EventReport) {
        let EventReport { client, nodes, event, wait } = report;
        let is_meant = |index: Index| match nodes {
            Nodes::One(one) => index == one,
            Nodes::Range(first, last) => (first..=last).contains(&index),
            Nodes::All => true,
        };
        let meant: Vec<Index> =
            table.iter().map(|(index, _)| index).filter(|index| is_meant(*index)).collect();
        if meant.is_empty() {
            let answer = match nodes {
                Nodes::One(index) => {
                    Answer::failed(exit::EVENT, format!("there is no node {index}"))
                }
                Nodes::Range(..) | Nodes::All => Answer::ok("there are no nodes"),
            };
            return cx.answer(client, &answer);
        }
        let callers = if wait && self.callers.is_full() {
            // The event counts more than its result.
            let name = event.name();
            let text = format!(
                "{name} is taken on; {CALLERS_MAX} clients wait already, so not for its result"
            );
            cx.answer(client, &Answer::failed(exit::EVENT, text));
            Vec::new()
        } else if wait {
            Vec::from([self.callers.add(client, meant.len())])
        } else {
            cx.answer(client, &Answer::ok(format!("{} is taken on", event.name())));
            Vec::new()
        };
        for index in meant {
            if let Some(lane) = self.lanes.get_mut(&index) {
                lane.contest = Contest::default();
            }
            let callers = callers.clone();
            let work = Work { event, trigger: Trigger::Client, callers, since: None };
            self.queue(cx, index, work);
        }
    }

    /// Queues an event that the server itself has detected.
    pub(super) fn occur(&mut self, cx: &mut Cx<'_>, index: Index, event: Event, trigger: Trigger) {
        let lane = self.lanes.entry(index).or_default();
        match trigger {
            Trigger::Client | Trigger::Peer => {}
            Trigger::Lease => lane.contest = Contest::default(),
            Trigger::Sweep if lane.contest.is_given_up() => return,
            // A sweep is not needed while an event waits or runs. The next sweep checks the route.
            Trigger::Sweep if lane.is_running || !lane.waiting.is_empty() => return,
            Trigger::Sweep => {}
        }
        self.queue(cx, index, Work { event, trigger, callers: Vec::new(), since: None });
    }

    /// Appends an event to the queue of its redundancy node. An event equal to the last one in the queue is
    /// merged with it.
    fn queue(&mut self, cx: &mut Cx<'_>, index: Index, mut work: Work) {
        let lane = self.lanes.entry(index).or_default();
        let like = |last: &&mut Work| last.event == work.event && last.trigger == work.trigger;
        if let Some(last) = lane.waiting.back_mut().filter(like) {
            last.callers.append(&mut work.callers);
        } else if lane.waiting.len() == WAITING_MAX {
            let why = format!("{WAITING_MAX} events wait already");
            self.finish(cx, index, work, Err(why), None);
        } else {
            lane.waiting.push_back(work);
            if lane.waiting.len() == 1 && !lane.is_running {
                self.ready.push_back(index);
            }
        }
    }

    // ---- start of handlers ------------------------------------------------------------------------

    /// Makes parked events ready, so that the next pass checks them again.
    pub(super) fn unpark(&mut self) {
        self.ready.extend(core::mem::take(&mut self.parked));
    }

    /// Begins all events that are ready, up to the maximum number of handlers.
    pub(super) fn go_on(&mut self, cx: &mut Cx<'_>, table: &Table, groups: &mut Groups) {
        while self.running.len() < RUNNING_MAX
            && let Some(index) = self.ready.pop_front()
        {
            let lane = self.lanes.entry(index).or_default();
            let Some(mut work) = lane.waiting.pop_front() else { continue };
            lane.is_running = true;
            let now = cx.now().mono;
            let since = *work.since.get_or_insert(now);
            let (node, response) = match judge(&work, table.find(index)) {
                Ok(judged) => judged,
                Err(why) => {
                    self.finish(cx, index, work, Err(why), None);
                    self.on_lane_free(index);
                    continue;
                }
            };
            let permit = if response == Response::Nothing {
                let mode = node.mode().name();
                Permit::Leave(format!("nothing is to be done by the {mode}"))
            } else {
                groups.permit(cx, node, (work.event, work.trigger), since)
            };
            match permit {
                Permit::Act { within, fence } => {
                    self.say_that_it_occurred(cx, index, &work, response);
                    self.spawn(cx, Start { index, work, node, response, within, fence });
                }
                Permit::Wait(until) => {
                    let lane = self.lanes.entry(index).or_default();
                    lane.waiting.push_front(work);
                    lane.is_running = false;
                    self.parked.insert(index);
                    cx.arm_no_later(Timer::Parked, until);
                }
                Permit::Leave(why) => {
                    self.say_that_it_occurred(cx, index, &work, Response::Nothing);
                    let done = Done::new(Outcome::Unchanged, why);
                    self.finish(cx, index, work, Ok(done), None);
                    self.on_lane_free(index);
                }
                Permit::Refused(why) => {
                    self.finish(cx, index, work, Err(why), None);
                    self.on_lane_free(index);
                }
            }
        }
    }

    fn say_that_it_occurred(&self, cx: &mut Cx<'_>, index: Index, work: &Work, response: Response) {
        if work.trigger != Trigger::Sweep {
            let (event, response) = (work.event.name(), response.name());
            cx.emit(Fact::Occurred { index, event, response });
        }
    }

    fn on_lane_free(&mut self, index: Index) {
        let Some(lane) = self.lanes.get_mut(&index) else { return };
        lane.is_running = false;
        if !lane.waiting.is_empty() {
            self.ready.push_back(index);
        }
    }

    // ---- results ----------------------------------------------------------------------------------

    /// Handles an event of a handler process.
    pub(super) fn on_exec(&mut self, cx: &mut Cx<'_>, groups: &mut Groups, event: exec::Event) {
        let Some((id, mut result)) = self.heard(event) else { return };
        let Some(Running { index, work, began, fence, group, login, .. }) =
            self.running.remove(&id)
        else {
            return;
        };
        if let Some(token) = result.as_mut().ok().and_then(|done| done.token.take()) {
            self.tokens.keep(login, token, cx.now().wall);
        }
        if let Some((fence, group)) = fence.zip(group) {
            match &result {
                Ok(Done { term: Some(term), .. }) => groups.raise(cx, &group, *term),
                Ok(Done { outcome: Outcome::Failed, .. }) | Err(_) => {}
                Ok(_) if groups.is_held(cx.now().mono, &group, fence.term) => {}
                Ok(_) => {
                    result = Err(format!("it was done, and {} was lost meanwhile", fence.key));
                }
            }
        }
        let result = result.and_then(|done| match done.outcome {
            Outcome::Failed => Err(done.detail),
            Outcome::Updated | Outcome::Unchanged | Outcome::WrittenBack => Ok(done),
        });
        self.finish(cx, index, work, result, Some(began));
        self.on_lane_free(index);
    }

    /// Ends an event and informs the clients that wait for it.
    fn finish(
        &mut self,
        cx: &mut Cx<'_>,
        index: Index,
        work: Work,
        result: Result<Done, String>,
        began: Option<Instant>,
    ) {
        let Work { event, trigger, callers, .. } = work;
        let (name, now) = (event.name(), cx.now());
        let lane = self.lanes.entry(index).or_default();
        if let (Ok(done), Some(began)) = (&result, began) {
            let us = now.mono.micros_since(began);
            let detail = done.detail.as_str().into();
            let sweep = self.sweep;
            match lane.contest.on_done(trigger, done.outcome, now.mono, sweep) {
                contest::Verdict::Quiet => cx.emit(Fact::Confirmed { index, detail }),
                contest::Verdict::Ours => {
                    cx.emit(Fact::Worked { index, event: name, detail, us });
                }
                contest::Verdict::Mended => cx.emit(Fact::Mended { index, detail }),
                contest::Verdict::GivenUp => {
                    cx.emit(Fact::Mended { index, detail });
                    cx.emit(Fact::Contested { index });
                }
            }
        }
        if let Err(why) = &result {
            cx.emit(Fact::Failed { index, event: name, why: why.as_str().into() });
        }
        let is_quiet = matches!(&result, Ok(done) if done.outcome == Outcome::Unchanged);
        let result = result.map(|done| done.detail);
        self.callers.on_ended(cx, &callers, Ended { index, event: name, result: &result });
        // A sweep without a finding does not replace the report of the last event.
        if trigger != Trigger::Sweep || !is_quiet {
            let result = result.map(Into::into).map_err(Into::into);
            lane.last = Some(Report { event, at: now.wall, result });
        }
    }

    // ---- cancellation -----------------------------------------------------------------------------

    /// Terminates the handlers of a group, since another router may hold the lease.
    pub(super) fn end_group(&mut self, cx: &mut Cx<'_>, group: &str) {
        for (id, running) in &mut self.running {
            if running.is_of(group) {
                running.end(cx, *id, "the lease of its group was lost meanwhile");
            }
        }
    }

    /// Removes all waiting events and terminates the handlers. Waiting clients are informed that the server
    /// stops.
    pub(super) fn end(&mut self, cx: &mut Cx<'_>) {
        self.unpark();
        for index in core::mem::take(&mut self.ready) {
            self.fail_waiting(cx, index);
        }
        let busy: Vec<Index> = self.running.values().map(|running| running.index).collect();
        busy.into_iter().for_each(|index| self.fail_waiting(cx, index));
        for (id, running) in &mut self.running {
            running.end(cx, *id, "the server stops");
        }
    }

    fn fail_waiting(&mut self, cx: &mut Cx<'_>, index: Index) {
        let waiting = self.lanes.get_mut(&index).map(|lane| core::mem::take(&mut lane.waiting));
        for work in waiting.unwrap_or_default() {
            self.finish(cx, index, work, Err("the server stops".into()), None);
        }
    }
}

impl Lane {
    fn is_empty(&self) -> bool {
        !self.is_running && self.waiting.is_empty() && self.last.is_none()
    }
}

/// Returns the redundancy node of an event and the response to the event.
fn judge<'n>(work: &Work, node: Option<&'n Node>) -> Result<(&'n Node, Response), String> {
    let node = node.ok_or_else(|| "the node is deleted".to_string())?;
    let response = match (work.trigger, work.event) {
        (Trigger::Sweep, Event::PeerFail) => mend(node.provider),
        (Trigger::Sweep, event @ (Event::Revert | Event::Verify))
        | (Trigger::Client | Trigger::Peer | Trigger::Lease, event) => {
            decide(event, node.mode(), node.provider, node.scope())
        }
    };
    let lacks: Vec<&str> = parameters::missing(node).map(|parameter| parameter.flag).collect();
    if response != Response::Nothing && !lacks.is_empty() {
        return Err(format!("the node lacks {}: see set_params", lacks.join(", ")));
    }
    Ok((node, response))
}
