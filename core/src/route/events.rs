//! The event manager: what events there are on redundancy nodes, and the handlers that work them.
//!
//! Events of one redundancy node are worked one after another, in their order; those of others do not wait for
//! them. A handler is a process of its own, with a deadline; the server waits for none.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::time::Duration;

use super::context::Cx;
use super::decide::{Event, Response, decide};
use super::fact::Fact;
use super::job::{Done, Job, Outcome};
use super::node::{Index, Node};
use super::parameters;
use super::request::{Answer, Nodes, exit};
use super::table::Table;
use crate::base::id::{ExecId, FifoId};
use crate::base::time::{Instant, WallClock};
use crate::exec::{self, Cause, Command, Origin, Spawn, Status, Stream};

/// How many handlers run at a time. All events of a peer's failure may come at once, and the host has room for
/// 128 programs.
const RUNNING_MAX: usize = 64;

/// How many events of one redundancy node may wait.
const WAITING_MAX: usize = 8;

/// How long a handler may go on after it was told to end.
const GRACE: Duration = Duration::from_millis(200);

/// How much a handler may say.
const OUTPUT_MAX: usize = 16 << 10;

/// See the module.
#[derive(Debug)]
pub(super) struct EventManager {
    /// The program that is run as event handler.
    program: Box<str>,
    lanes: BTreeMap<Index, Lane>,
    /// Redundancy nodes whose next event can begin.
    ready: VecDeque<Index>,
    running: BTreeMap<ExecId, Running>,
    calls: BTreeMap<CallerId, Caller>,
    next_exec: ExecId,
    next_caller: CallerId,
}

/// The events of one redundancy node.
#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Waiting>,
    is_running: bool,
    last: Option<Report>,
}

#[derive(Debug)]
struct Waiting {
    event: Event,
    callers: Vec<CallerId>,
}

/// One handler.
#[derive(Debug)]
struct Running {
    index: Index,
    event: Event,
    callers: Vec<CallerId>,
    began: Instant,
    output: Vec<u8>,
    complaint: Vec<u8>,
}

/// One who waits for events of one or more redundancy nodes.
#[derive(Debug)]
struct Caller {
    client: FifoId,
    left: usize,
    has_failed: bool,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct CallerId(u64);

/// What came of the last event of a redundancy node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) event: Event,
    pub(super) at: WallClock,
    pub(super) result: Result<Box<str>, Box<str>>,
}

/// How the events of a redundancy node stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing<'a> {
    pub(super) is_running: bool,
    pub(super) waiting: usize,
    pub(super) last: Option<&'a Report>,
}

impl EventManager {
    pub(super) fn new(program: Box<str>) -> Self {
        Self {
            program,
            lanes: BTreeMap::new(),
            ready: VecDeque::new(),
            running: BTreeMap::new(),
            calls: BTreeMap::new(),
            next_exec: ExecId(1),
            next_caller: CallerId(1),
        }
    }

    /// How many handlers run.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// Whether no event waits and no handler runs.
    pub(super) fn is_settled(&self) -> bool {
        self.running.is_empty() && self.ready.is_empty()
    }

    /// How the events of a redundancy node stand.
    pub(super) fn standing(&self, index: Index) -> Standing<'_> {
        let lane = self.lanes.get(&index);
        Standing {
            is_running: lane.is_some_and(|lane| lane.is_running),
            waiting: lane.map_or(0, |lane| lane.waiting.len()),
            last: lane.and_then(|lane| lane.last.as_ref()),
        }
    }

    /// A redundancy node was taken away: what was known of its events goes too.
    pub(super) fn forget(&mut self, index: Index) {
        if let Some(lane) = self.lanes.get_mut(&index) {
            lane.last = None;
        }
        self.lanes.retain(|_, lane| !lane.is_empty());
    }

    /// An event has occurred. The client is answered when it has been worked, or at once.
    pub(super) fn on_event(
        &mut self,
        cx: &mut Cx<'_>,
        table: &Table,
        (client, wait): (FifoId, bool),
        (nodes, event): (Nodes, Event),
    ) {
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
        let id = self.next_caller;
        self.next_caller.0 += 1;
        let text = String::new();
        self.calls.insert(id, Caller { client, left: meant.len(), has_failed: false, text });
        let callers = if wait { Vec::from([id]) } else { Vec::new() };
        for index in meant {
            self.queue(cx, index, event, callers.clone());
        }
        if !wait {
            self.calls.remove(&id);
            cx.answer(client, &Answer::ok(format!("{} is taken on", event.name())));
        }
        self.go_on(cx, table);
    }

    /// Puts an event behind those that its redundancy node has. One like the last of them is that one.
    fn queue(&mut self, cx: &mut Cx<'_>, index: Index, event: Event, mut callers: Vec<CallerId>) {
        let lane = self.lanes.entry(index).or_default();
        if let Some(last) = lane.waiting.back_mut().filter(|last| last.event == event) {
            last.callers.append(&mut callers);
        } else if lane.waiting.len() == WAITING_MAX {
            let why = format!("{WAITING_MAX} events wait already");
            self.finish(cx, (index, event, callers), Err(why), None);
        } else {
            lane.waiting.push_back(Waiting { event, callers });
            if lane.waiting.len() == 1 && !lane.is_running {
                self.ready.push_back(index);
            }
        }
    }

    /// Begins with what can begin.
    fn go_on(&mut self, cx: &mut Cx<'_>, table: &Table) {
        while self.running.len() < RUNNING_MAX
            && let Some(index) = self.ready.pop_front()
        {
            let lane = self.lanes.entry(index).or_default();
            let Some(Waiting { event, callers }) = lane.waiting.pop_front() else { continue };
            lane.is_running = true;
            match judge(event, table.find(index)) {
                Ok((node, response)) => {
                    let (event_name, response_name) = (event.name(), response.name());
                    let fact = Fact::Occurred { index, event: event_name, response: response_name };
                    cx.emit(fact);
                    if response == Response::Nothing {
                        let text = format!("nothing is to be done by the {}", node.mode().name());
                        self.finish(cx, (index, event, callers), Ok(text), None);
                    } else {
                        self.spawn(cx, (index, event, callers), node, response);
                        continue;
                    }
                }
                Err(why) => self.finish(cx, (index, event, callers), Err(why), None),
            }
            self.on_lane_free(index);
        }
    }

    fn on_lane_free(&mut self, index: Index) {
        let Some(lane) = self.lanes.get_mut(&index) else { return };
        lane.is_running = false;
        if !lane.waiting.is_empty() {
            self.ready.push_back(index);
        }
    }

    fn spawn(
        &mut self,
        cx: &mut Cx<'_>,
        (index, event, callers): (Index, Event, Vec<CallerId>),
        node: &Node,
        response: Response,
    ) {
        let id = self.next_exec.mint();
        // Nothing in it is other than texts.
        let job = serde_json::to_vec(&Job::new(event, response, node)).unwrap_or_default();
        cx.emit(Command::Spawn(Box::new(Spawn {
            id,
            origin: Origin::Own,
            argv: [self.program.clone(), "event-handler".into()].into(),
            env: Box::default(),
            stdin: job.into(),
            deadline: node.provider.deadline(),
            grace: GRACE,
            output_max: OUTPUT_MAX,
        })));
        let began = cx.now().mono;
        let (output, complaint) = (Vec::new(), Vec::new());
        self.running.insert(id, Running { index, event, callers, began, output, complaint });
    }

    /// Something happened to a handler.
    pub(super) fn on_exec(&mut self, cx: &mut Cx<'_>, table: &Table, event: exec::Event) {
        let (id, result) = match event {
            exec::Event::Started { .. } => return,
            exec::Event::Output { id, stream, bytes } => {
                if let Some(running) = self.running.get_mut(&id) {
                    match stream {
                        Stream::Stdout => running.output.extend_from_slice(&bytes),
                        Stream::Stderr => running.complaint.extend_from_slice(&bytes),
                    }
                }
                return;
            }
            exec::Event::Refused { id, why } => {
                (id, Err(format!("the event handler is not started: {why}")))
            }
            exec::Event::Exited { id, status, cause, .. } => {
                (id, self.running.get(&id).map_or(Ok(String::new()), |r| r.result(status, cause)))
            }
        };
        let Some(running) = self.running.remove(&id) else { return };
        let Running { index, event, callers, began, .. } = running;
        self.finish(cx, (index, event, callers), result, Some(began));
        self.on_lane_free(index);
        self.go_on(cx, table);
    }

    /// An event has come to its end: whoever waits for it is told.
    fn finish(
        &mut self,
        cx: &mut Cx<'_>,
        (index, event, callers): (Index, Event, Vec<CallerId>),
        result: Result<String, String>,
        began: Option<Instant>,
    ) {
        let name = event.name();
        match (&result, began) {
            (Err(why), _) => {
                cx.emit(Fact::Failed { index, event: name, why: why.as_str().into() });
            }
            (Ok(detail), Some(began)) => {
                let us = cx.now().mono.micros_since(began);
                cx.emit(Fact::Worked { index, event: name, detail: detail.as_str().into(), us });
            }
            (Ok(_), None) => {}
        }
        for id in callers {
            let Some(caller) = self.calls.get_mut(&id) else { continue };
            caller.left -= 1;
            caller.has_failed |= result.is_err();
            let line = match &result {
                Ok(detail) => format!("node {index}: {name}: {detail}\n"),
                Err(why) => format!("node {index}: {name} failed: {why}\n"),
            };
            caller.text.push_str(&line);
            if caller.left > 0 {
                continue;
            }
            if let Some(Caller { client, has_failed, text, .. }) = self.calls.remove(&id) {
                let exit = if has_failed { exit::EVENT } else { exit::OK };
                cx.answer(client, &Answer { exit, text: text.trim_end().into() });
            }
        }
        let result = result.map(Into::into).map_err(Into::into);
        let report = Report { event, at: cx.now().wall, result };
        self.lanes.entry(index).or_default().last = Some(report);
    }

    /// Nothing waits any more, and handlers are ended: whoever waits is told that the server stops.
    pub(super) fn end(&mut self, cx: &mut Cx<'_>) {
        for index in core::mem::take(&mut self.ready) {
            self.fail_waiting(cx, index);
        }
        let busy: Vec<Index> = self.running.values().map(|running| running.index).collect();
        busy.into_iter().for_each(|index| self.fail_waiting(cx, index));
        for id in self.running.keys() {
            cx.emit(Command::Kill { id: *id });
        }
    }

    fn fail_waiting(&mut self, cx: &mut Cx<'_>, index: Index) {
        let waiting = self.lanes.get_mut(&index).map(|lane| core::mem::take(&mut lane.waiting));
        for Waiting { event, callers } in waiting.unwrap_or_default() {
            self.finish(cx, (index, event, callers), Err("the server stops".into()), None);
        }
    }
}

impl Lane {
    fn is_empty(&self) -> bool {
        !self.is_running && self.waiting.is_empty() && self.last.is_none()
    }
}

impl Running {
    /// What came of a handler that has ended.
    fn result(&self, status: Status, cause: Cause) -> Result<String, String> {
        match cause {
            Cause::Deadline => return Err("the event handler took too long and was killed".into()),
            Cause::Killed => return Err("the server stops".into()),
            Cause::Itself => {}
        }
        let done: Done = match serde_json::from_slice(&self.output) {
            Ok(done) => done,
            Err(_) => {
                let said = String::from_utf8_lossy(&self.complaint);
                let said: String = said.trim().chars().take(200).collect();
                return Err(format!("the event handler ended with {status}: {said}"));
            }
        };
        match (done.outcome, status) {
            (Outcome::Failed, _) => Err(done.detail),
            (_, Status::Code(0)) => Ok(done.detail),
            _ => Err(format!("the event handler ended with {status}: {}", done.detail)),
        }
    }
}

/// How an event on a redundancy node is responded to.
fn judge(event: Event, node: Option<&Node>) -> Result<(&Node, Response), String> {
    let node = node.ok_or_else(|| "the node is deleted".to_string())?;
    let response = decide(event, node.mode(), node.provider, node.scope());
    let lacks: Vec<&str> = parameters::missing(node).map(|parameter| parameter.flag).collect();
    if response != Response::Nothing && !lacks.is_empty() {
        return Err(format!("the node lacks {}: see set_params", lacks.join(", ")));
    }
    Ok((node, response))
}
