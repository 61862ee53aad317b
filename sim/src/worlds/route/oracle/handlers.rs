//! Rules for event handlers, and for the answers to reported events.

use std::collections::{BTreeMap, BTreeSet};

use hax_core::base::id::{ExecId, FifoId};
use hax_core::exec::{Command, Event, Spawn, Stream};
use serde_json::Value;

use super::super::ask::{EVENTS, On};
use super::super::handler;
use super::super::model::{Nodes, response};
use super::super::provider::index_of;
use crate::engine::Violation;

/// An event of one redundancy node.
type Occurrence = (u16, String);

/// A handler.
#[derive(Debug)]
struct Handler {
    of: Occurrence,
    /// The time of its start, as a number of inputs in this life.
    began: u64,
    said: Vec<u8>,
}

/// The result of a handler.
#[derive(Debug)]
struct Ended {
    of: Occurrence,
    began: u64,
    result: Result<String, Option<String>>,
}

/// A reported event of a client.
#[derive(Debug)]
struct Told {
    event: &'static str,
    /// The redundancy nodes of the event.
    on: BTreeSet<u16>,
    /// The one redundancy node of the event. It must exist.
    one: Option<u16>,
    at: u64,
    waits: bool,
}

/// The state of the rules for one life of a server.
#[derive(Debug, Default)]
pub(in super::super) struct Handlers {
    inputs: u64,
    running: BTreeMap<ExecId, Handler>,
    ended: Vec<Ended>,
    told: BTreeMap<FifoId, Told>,
    /// For each event, the number of occurrences and the number of its started handlers.
    counts: BTreeMap<Occurrence, [u64; 2]>,
    /// The last time when a redundancy node was incomplete.
    lacked: BTreeMap<u16, u64>,
    /// The last time when an event needed no handler.
    idle: BTreeMap<Occurrence, u64>,
    /// The server detects events by itself: by leases, sweeps, and the other router's service.
    has_groups: bool,
}

impl Handlers {
    pub(super) fn new(has_groups: bool) -> Self {
        Self { has_groups, ..Self::default() }
    }

    /// Returns the state at the beginning of the next life.
    pub(super) fn of_next_life(&self) -> Self {
        Self::new(self.has_groups)
    }

    /// Observes another input of the server.
    pub(in super::super) fn begin_input(&mut self) {
        self.inputs += 1;
    }

    /// Returns whether no handler runs, except those of sweeps.
    pub(in super::super) fn rest(&self) -> bool {
        self.has_groups || self.running.is_empty()
    }

    /// Observes the current redundancy nodes.
    pub(super) fn look(&mut self, nodes: &Nodes) {
        let lacking = nodes.iter().filter(|(_, node)| !node.is_complete());
        self.lacked.extend(lacking.map(|(index, _)| (*index, self.inputs)));
        for (index, node) in nodes {
            let idle = EVENTS.iter().filter(|event| response(event, node) == "nothing");
            self.idle.extend(idle.map(|event| ((*index, (*event).to_owned()), self.inputs)));
        }
    }

    /// Observes a client's report of an event, with the current redundancy nodes.
    pub(super) fn told(
        &mut self,
        client: FifoId,
        nodes: &Nodes,
        on: On,
        (event, waits): (&'static str, bool),
    ) {
        self.look(nodes);
        let is_meant = |index: u16| match on {
            On::One(one) => index == one,
            On::Range(first, last) => (first..=last).contains(&index),
            On::All => true,
        };
        let one = if let On::One(index) = on { Some(index) } else { None };
        let on: BTreeSet<u16> = nodes.keys().copied().filter(|index| is_meant(*index)).collect();
        for index in &on {
            self.counts.entry((*index, event.to_owned())).or_default()[0] += 1;
        }
        self.told.insert(client, Told { event, on, one, at: self.inputs, waits });
    }

    /// Checks the start or end of a handler by a command. The check skips the redundancy nodes if they are
    /// not known.
    pub(in super::super) fn gives(
        &mut self,
        command: &Command,
        nodes: Option<&Nodes>,
    ) -> Result<(), Violation> {
        match command {
            Command::Spawn(spawn) => self.starts(spawn, nodes),
            Command::Kill { id } if self.running.contains_key(id) => Ok(()),
            Command::Kill { id } => Violation::of("a handler that is killed runs", id.to_string()),
        }
    }

    fn starts(&mut self, spawn: &Spawn, nodes: Option<&Nodes>) -> Result<(), Violation> {
        let job: Value = serde_json::from_slice(&spawn.stdin).unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let provider = text(&job["provider"]);
        let parameter = |name: &str| job["parameters"][name].as_str().map(str::to_owned);
        let Some(index) = index_of(&provider, parameter) else {
            return Violation::of("a handler's job is a redundancy node's", job.to_string());
        };
        let event = text(&job["event"]);
        let other = self.running.values().find(|handler| handler.of.0 == index);
        if let Some(other) = other {
            let text = format!("{index}: {event} beside {other:?}");
            return Violation::of("one handler works for a redundancy node at a time", text);
        }
        if let Some(nodes) = nodes {
            let is_its = nodes.get(&index).is_some_and(|node| {
                let own = node.parameters.iter();
                let same = own.map(|(name, value)| (name.clone(), Value::from(value.as_str())));
                job["parameters"] == Value::Object(same.collect())
                    && job["mode"] == node.mode()
                    && (job["response"] == response(&event, node) || self.is_mending(&job))
            });
            if !is_its {
                let text = format!("{index}: {:?}: {job}", nodes.get(&index));
                return Violation::of("a handler's job is what the redundancy node is", text);
            }
            let [occurred, started] = self.counts.entry((index, event.clone())).or_default();
            *started += 1;
            if started > occurred && !self.has_groups {
                return Violation::of("a handler is started for an event", format!("{index}"));
            }
        }
        let handler = Handler { of: (index, event), began: self.inputs, said: Vec::new() };
        self.running.insert(spawn.id, handler);
        Ok(())
    }

    /// Returns whether a response is that to an event by which a router looks whether a route is its own.
    fn is_mending(&self, job: &Value) -> bool {
        self.has_groups && job["event"] == "peerFail" && job["response"] == "update_if_different"
    }

    /// Observes an event of a handler at the server.
    pub(in super::super) fn hears(&mut self, event: &Event) {
        match event {
            Event::Started { .. } | Event::Output { stream: Stream::Stderr, .. } => {}
            Event::Output { id, stream: Stream::Stdout, bytes } => {
                if let Some(handler) = self.running.get_mut(id) {
                    handler.said.extend_from_slice(bytes);
                }
            }
            Event::Refused { id, .. } => self.ends(*id, |_| Err(None)),
            Event::Exited { id, status, cause, .. } => {
                self.ends(*id, |said| handler::result(said, *status, *cause));
            }
        }
    }

    fn ends(&mut self, id: ExecId, came: impl FnOnce(&[u8]) -> Result<String, Option<String>>) {
        if let Some(Handler { of, began, said }) = self.running.remove(&id) {
            self.ended.push(Ended { of, began, result: came(&said) });
        }
    }

    /// Checks the answer to a reported event.
    pub(super) fn answered(
        &mut self,
        client: FifoId,
        exit: u64,
        text: &str,
    ) -> Result<(), Violation> {
        let Some(told) = self.told.remove(&client) else { return Ok(()) };
        if told.on.is_empty() {
            let expected = if told.one.is_some() { 7 } else { 0 };
            return self.must(exit == expected, &told, exit, text);
        }
        if !told.waits {
            return self.must(exit == 0 && text.contains(told.event), &told, exit, text);
        }
        let mut has_failed = false;
        let mut left = told.on.clone();
        for line in text.lines() {
            let of = line.strip_prefix("node ").and_then(|rest| rest.split_once(": "));
            let (index, rest) = of.unwrap_or_default();
            let index: u16 = index.parse().unwrap_or(0);
            let fails = rest.strip_prefix(&format!("{} failed: ", told.event));
            let works = rest.strip_prefix(&format!("{}: ", told.event));
            has_failed |= fails.is_some();
            let holds = left.remove(&index)
                && match (works, fails) {
                    (Some(detail), None) => self.has_worked(&told, index, detail),
                    (None, Some(why)) => self.has_failed(&told, index, why),
                    _ => false,
                };
            self.must(holds, &told, exit, line)?;
        }
        self.must(left.is_empty() && (exit != 0) == has_failed, &told, exit, text)
    }

    /// Returns the results of an event's handlers since a client reported the event.
    fn results(
        &self,
        told: &Told,
        index: u16,
    ) -> impl Iterator<Item = &Result<String, Option<String>>> {
        let (at, event) = (told.at, told.event);
        let is_its = move |one: &&Ended| one.began >= at && one.of.0 == index && one.of.1 == event;
        self.ended.iter().filter(is_its).map(|one| &one.result)
    }

    fn has_worked(&self, told: &Told, index: u16, detail: &str) -> bool {
        let idle = self.idle.get(&(index, told.event.to_owned()));
        self.results(told, index).any(|result| result.as_deref() == Ok(detail))
            || detail.starts_with("nothing is to be done") && idle.is_some_and(|at| *at >= told.at)
    }

    fn has_failed(&self, told: &Told, index: u16, why: &str) -> bool {
        let is_it = |result: &Result<String, Option<String>>| match result {
            Err(Some(detail)) => why.contains(&**detail),
            Err(None) => !why.contains("work "),
            Ok(_) => false,
        };
        let has_lacked = self.lacked.get(&index).is_some_and(|at| *at >= told.at);
        let is_of_lease = self.has_groups && why.contains("ha/route/");
        self.results(told, index).any(is_it) || is_own(why, has_lacked) || is_of_lease
    }

    fn must(&self, holds: bool, told: &Told, exit: u64, text: &str) -> Result<(), Violation> {
        if holds {
            return Ok(());
        }
        let late: Vec<&Ended> = self.ended.iter().filter(|one| one.began >= told.at).collect();
        let text = format!("{told:?}: {exit}: {text}; {late:?}");
        Violation::of("who tells of an event is told what came of it", text)
    }
}

/// Returns whether an event can fail for this reason without a handler.
fn is_own(why: &str, has_lacked: bool) -> bool {
    let is_there = ["events wait already", "the node is deleted", "the server stops"];
    is_there.iter().any(|text| why.contains(text)) || has_lacked && why.contains("the node lacks")
}
