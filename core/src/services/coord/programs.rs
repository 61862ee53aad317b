//! Rules by external programs (hare's RFC 16): each event goes to all programs of its kind, and what they answer is done.
//!
//! The notice of an event is written with the event's effects, so none is lost with a coordinator. It is deleted with
//! the effects of the programs' answers. A coordinator that takes over in between runs the programs again: they may
//! hear of an event twice, and never of none. A program that fails or hangs holds nobody up and is not repeated.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::State;
use super::context::Cx;
use super::effects::Entry;
use super::fact::Fact;
use super::rules::{self, RuleCx};
use crate::base::id::ExecId;
use crate::exec::{Cause, Command, Event as ExecEvent, Origin, Spawn, Status, Stream};
use crate::services::model::answer;
use crate::services::model::form;
use crate::services::model::keys;
use crate::services::model::record::{Ask, Event, Notice, What};

/// The programs by the kind of event: their absolute paths.
pub type Programs = BTreeMap<Box<str>, Box<[Box<str>]>>;

/// The first id of a program. The node's helpers have lower ones.
pub(in crate::services) const FIRST: ExecId = ExecId(1 << 63);

/// The kinds of events.
pub const KINDS: [&str; 11] = [
    "gave-up",
    "instance-absent",
    "instance-degraded",
    "instance-failed",
    "instance-running",
    "node-down",
    "node-forgotten",
    "node-up",
    "request",
    "returned",
    "type-defined",
];

/// The maximum number of programs that run at a time.
const RUNNING_MAX: usize = 16;
/// The maximum number of notices that wait. Later events have none.
const NOTICES_MAX: usize = 1000;
/// The maximum of a program's output that is read.
const OUTPUT_MAX: usize = 64 << 10;
/// The maximum size of a payload in the environment. A larger one is on standard input only.
const VARIABLE_MAX: usize = 64 << 10;
/// The time limit of a program until SIGTERM, and from there until SIGKILL (`proto-rc`: 4 s and 10 s).
const WITHIN: Duration = Duration::from_secs(4);
const GRACE: Duration = Duration::from_secs(6);

/// The external programs.
#[derive(Debug)]
pub(super) struct Rules {
    programs: Programs,
    next: ExecId,
    next_notice: u64,
    running: BTreeMap<ExecId, Run>,
    /// What the programs of each notice have asked for, until all of them have ended.
    asked: BTreeMap<Box<str>, Vec<Ask>>,
}

/// A program that runs.
#[derive(Debug)]
struct Run {
    /// The key of the notice.
    notice: Box<str>,
    program: Box<str>,
    output: Vec<u8>,
    errors: Vec<u8>,
}

impl Rules {
    pub(super) fn new(programs: Programs) -> Self {
        let (running, asked) = (BTreeMap::new(), BTreeMap::new());
        Self { programs, next: FIRST, next_notice: 0, running, asked }
    }
}

/// Returns the kind and the payload of an event.
fn describe(event: &Event) -> (Box<str>, Value) {
    let (node, at) = (&event.node, &event.at);
    match &event.what {
        What::Changed { kind, observed } => {
            let payload = json!({ "type": kind, "node": node, "at": at, "observed": observed });
            (format!("instance-{}", observed.state.name()).into(), payload)
        }
        What::Asked(ask) => ("request".into(), json!({ "node": node, "at": at, "request": ask })),
        What::Defined { record, .. } => {
            ("type-defined".into(), json!({ "type": record.name, "node": node, "at": at }))
        }
        What::Forgotten { node } => ("node-forgotten".into(), json!({ "node": node, "at": at })),
    }
}

/// Returns the kind and the payload of what a rule has decided, if programs may want it.
fn describe_fact(fact: &Fact) -> Option<(Box<str>, Value)> {
    let of = |kind: &str, payload| Some((kind.into(), payload));
    match fact {
        Fact::NodeUp { node } => of("node-up", json!({ "node": node })),
        Fact::NodeDown { node } => of("node-down", json!({ "node": node })),
        Fact::GaveUp { kind, node, why } => {
            of("gave-up", json!({ "type": kind, "node": node, "why": why }))
        }
        Fact::Returned { kind, node, why } => {
            of("returned", json!({ "type": kind, "node": node, "why": why }))
        }
        Fact::Leads { .. }
        | Fact::Yields { .. }
        | Fact::Listed { .. }
        | Fact::Committed { .. }
        | Fact::Overtaken { .. }
        | Fact::Wants { .. }
        | Fact::Delays { .. }
        | Fact::Ends { .. }
        | Fact::Overdue { .. }
        | Fact::Current { .. }
        | Fact::NodeForgotten { .. }
        | Fact::CannotDo { .. }
        | Fact::RuleRuns { .. }
        | Fact::RuleFailed { .. }
        | Fact::RuleMissing { .. }
        | Fact::Unreadable { .. } => None,
    }
}

impl State {
    /// Notes what programs are to hear of a rule's work. Returns what they will not hear of.
    pub(super) fn note(&mut self, event: Option<(&str, &Event)>, facts: &[Fact]) -> Vec<Fact> {
        let mut unheard = Vec::new();
        if self.rules.programs.is_empty() {
            return unheard;
        }
        let (suffix, described) = match event {
            Some((key, event)) => (key.strip_prefix(keys::EVENTS), Some(describe(event))),
            None => (None, None),
        };
        let described = described.into_iter().chain(facts.iter().filter_map(describe_fact));
        for (nth, (kind, payload)) in described.enumerate() {
            let Some(all) = self.rules.programs.get(&kind) else { continue };
            if self.graph.notices.len() >= NOTICES_MAX {
                let why = format!("it does not hear of {kind}: {NOTICES_MAX} events wait already");
                for program in all {
                    let (program, why) = (program.clone(), why.as_str().into());
                    unheard.push(Fact::RuleFailed { program, why });
                }
                continue;
            }
            // An event that is worked again has the same notice.
            let name = match suffix {
                Some(suffix) => format!("{}{suffix}.{nth}.{kind}", keys::NOTICES),
                None => {
                    self.rules.next_notice += 1;
                    let term = self.lease.term().unwrap_or(0);
                    format!("{}{term:x}/{:x}.{kind}", keys::NOTICES, self.rules.next_notice)
                }
            };
            let notice = Notice { v: form(), event: kind, payload };
            self.graph.set_notice(&name, Some(notice));
        }
        unheard
    }

    /// Starts the programs of the notices that Consul holds.
    pub(super) fn run_programs(&mut self, cx: &mut Cx<'_>) {
        if self.lease.believes(cx.now().mono).is_none() {
            // Somebody else may coordinate, and run them.
            return;
        }
        let Rules { programs, next, running, .. } = &mut self.rules;
        let mut unheard = Vec::new();
        for (key, notice) in &self.graph.notices {
            let Some(record) = notice.value.as_ref().filter(|_| notice.index > 0) else { continue };
            if running.values().any(|run| run.notice == *key) {
                continue;
            }
            let Some(all) = programs.get(&record.event) else {
                // Another node, where the last coordinator was, has programs for it.
                unheard.push((key.clone(), record.event.clone()));
                continue;
            };
            if running.len() + all.len() > RUNNING_MAX.max(all.len()) {
                break;
            }
            for program in all {
                let id = next.mint();
                cx.emit(Fact::RuleRuns { program: program.clone(), event: record.event.clone() });
                cx.emit(Command::Spawn(Box::new(spawn(id, program, record))));
                let (notice, program) = (key.clone(), program.clone());
                let (output, errors) = (Vec::new(), Vec::new());
                running.insert(id, Run { notice, program, output, errors });
            }
        }
        for (key, event) in unheard {
            cx.emit(Fact::RuleMissing { event });
            self.graph.set_notice(&key, None);
            self.keep_effects(Vec::new());
        }
    }

    /// Takes an event of a program.
    pub(super) fn on_exec(&mut self, cx: &mut Cx<'_>, event: ExecEvent) {
        let Some(run) = self.rules.running.get_mut(&event.id()) else { return };
        match event {
            ExecEvent::Started { .. } => {}
            ExecEvent::Output { stream: Stream::Stdout, bytes, .. } => run.output.extend(&bytes),
            ExecEvent::Output { stream: Stream::Stderr, bytes, .. } => run.errors.extend(&bytes),
            ExecEvent::Refused { id, why } => {
                self.on_program_over(cx, id, Err(format!("it was not started: {why}")));
            }
            ExecEvent::Exited { id, status, cause, .. } => {
                let result = match (status, cause) {
                    (Status::Code(0), Cause::Itself) => Ok(()),
                    (_, Cause::Deadline) => Err("no result in time".into()),
                    (status, _) => Err(format!("{status}")),
                };
                self.on_program_over(cx, id, result);
            }
        }
    }

    fn on_program_over(&mut self, cx: &mut Cx<'_>, id: ExecId, result: Result<(), String>) {
        let Some(Run { notice, program, output, errors }) = self.rules.running.remove(&id) else {
            return;
        };
        let by = format!("rule {}", program.rsplit('/').next().unwrap_or_default());
        let asks = match result {
            Ok(()) => answer::parse(&output, &by).map_err(|why| format!("its answer: {why}")),
            Err(why) => {
                let said = String::from_utf8_lossy(&errors);
                let said = said.lines().map(str::trim).rfind(|line| !line.is_empty());
                Err(said.map_or_else(|| why.clone(), |said| format!("{why}: {said}")))
            }
        };
        let asks = asks.unwrap_or_else(|why| {
            let why = why.chars().filter(|c| !c.is_control()).take(200).collect::<String>();
            cx.emit(Fact::RuleFailed { program, why: why.into() });
            Vec::new()
        });
        self.rules.asked.entry(notice.clone()).or_default().extend(asks);
        if self.rules.running.values().any(|run| run.notice == notice) {
            return;
        }
        let asks = self.rules.asked.remove(&notice).unwrap_or_default();
        if !self.graph.notices.contains_key(&notice) {
            // The notice is not Consul's any more: whoever has it runs the programs.
            return;
        }
        // The last record of an entry is written first, and the deletion last.
        self.graph.set_notice(&notice, None);
        let mut facts = Vec::new();
        let mut rule = RuleCx { graph: &mut self.graph, now: cx.now(), facts: &mut facts };
        for ask in asks {
            rules::on_program(&mut rule, ask);
        }
        let unheard = self.note(None, &facts);
        facts.extend(unheard);
        self.keep_effects(facts);
    }

    fn keep_effects(&mut self, facts: Vec<Fact>) {
        let records = self.graph.take_changed();
        self.entries.push_back(Entry { event: None, records, facts });
    }

    /// Ends all programs: somebody else coordinates, and runs them again.
    pub(super) fn kill_programs(&mut self, cx: &mut Cx<'_>) {
        for id in core::mem::take(&mut self.rules.running).into_keys() {
            cx.emit(Command::Kill { id });
        }
        self.rules.asked.clear();
    }
}

/// Returns the start of a program for a notice.
fn spawn(id: ExecId, program: &str, notice: &Notice) -> Spawn {
    let payload = format!("{}", notice.payload);
    let mut env = Vec::from([("HARE_RC_EVENT_TYPE".into(), notice.event.clone())]);
    if payload.len() <= VARIABLE_MAX {
        env.push(("HARE_RC_EVENT_PAYLOAD".into(), payload.as_str().into()));
    }
    Spawn {
        id,
        origin: Origin::Configured,
        argv: [program.into()].into(),
        env: env.into(),
        stdin: Bytes::from(payload),
        deadline: WITHIN,
        grace: GRACE,
        output_max: OUTPUT_MAX,
        leaves_daemons: false,
    }
}
