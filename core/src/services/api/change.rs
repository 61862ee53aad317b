//! Changing requests: what they write, and when they are answered.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::builtin;
use super::refuse;
use super::route::{Asked, unknown};
use super::snapshot::{Row, Snapshot};
use super::view;
use crate::base::mutant::{Mutant, mutant};
use crate::consul::op::Op;
use crate::consul::url;
use crate::http::answer::Answer;
use crate::http::port::Request;
use crate::http::router::query;
use crate::services::model::keys;
use crate::services::model::kind::{self, TypeRecord};
use crate::services::model::launch::Launch;
use crate::services::model::name::{NodeName, TypeName};
use crate::services::model::parameters::Given;
use crate::services::model::record::{Ask, ConfigRecord, Event, State, Verb, What};
use crate::services::model::{form, stored};

/// The time that a request waits for its instances by default, and at most.
const WITHIN: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(300)];

/// A changing request.
#[derive(Debug)]
pub(super) struct Change {
    what: Content,
    by: Box<str>,
    pub(super) within: Duration,
    pub(super) waiting: Waiting,
    pub(super) tries: u32,
    /// The key of its event, and the instances that it is about.
    event: String,
    nodes: Vec<NodeName>,
}

/// What is to be changed.
#[derive(Debug)]
enum Content {
    Define { record: Box<TypeRecord>, is_check: bool },
    Configure { kind: TypeName, parameters: Given },
    Move { verb: Verb, kind: TypeName, node: Option<NodeName>, given: Given },
    Forget { node: NodeName },
}

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// For the records, to plan its transaction.
    Plan,
    /// For the coordinator.
    Written,
    /// For the instances.
    Worked,
}

/// The next step of a request.
pub(super) enum Step {
    Answer(Answer),
    Write(Vec<Op>),
    /// Waits for a change of a target since an index.
    Wait(String, u64),
}

/// The body of a request about instances.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Body {
    parameters: Given,
    /// Who asks, for display.
    by: Box<str>,
}

impl Change {
    pub(super) fn new(asked: Asked, request: &Request) -> Result<Self, Answer> {
        let wait = query(&request.target, "wait").map(str::parse::<u64>);
        let [default, most] = WITHIN;
        let within = match wait {
            None => default,
            Some(Ok(secs)) => Duration::from_secs(secs.max(1)).min(most),
            Some(Err(_)) => return Err(refuse(400, "wait: a number of seconds is expected")),
        };
        let mut by = Box::from("");
        let body = |by_of: &mut Box<str>| -> Result<Given, Answer> {
            if request.body.is_empty() {
                return Ok(Given::new());
            }
            // A list would be read as an object without names.
            let body = serde_json::from_slice::<serde_json::Map<_, _>>(&request.body)
                .and_then(|fields| serde_json::from_value::<Body>(fields.into()));
            let body = body.map_err(|why| refuse(400, &format!("the body: {why}")))?;
            *by_of =
                body.by.chars().filter(|c| !c.is_control()).take(64).collect::<String>().into();
            Ok(body.parameters)
        };
        let what = match asked {
            Asked::Define { check } => match kind::parse(&request.body) {
                Ok(record) => Content::Define { record: Box::new(record), is_check: check },
                Err(problems) => {
                    let text = format!("{}", json!({ "problems": problems }));
                    let answer = Answer::new(400, text);
                    return Err(Answer { reason: "the type is invalid".into(), ..answer });
                }
            },
            Asked::Configure(kind) => Content::Configure { kind, parameters: body(&mut by)? },
            Asked::Move(verb, kind, node) => {
                Content::Move { verb, kind, node, given: body(&mut by)? }
            }
            Asked::Forget(node) => {
                body(&mut by)?;
                Content::Forget { node }
            }
        };
        let (waiting, tries, event, nodes) = (Waiting::Plan, 0, String::new(), Vec::new());
        Ok(Self { what, by, within, waiting, tries, event, nodes })
    }

    /// Returns the name of what it is about, for the log.
    pub(super) fn subject(&self) -> &str {
        match &self.what {
            Content::Define { record, .. } => record.name.as_str(),
            Content::Configure { kind, .. } | Content::Move { kind, .. } => kind.as_str(),
            Content::Forget { node } => node.as_str(),
        }
    }

    /// Returns what is asked for, for the log.
    pub(super) fn word(&self) -> &'static str {
        match &self.what {
            Content::Define { .. } => "define",
            Content::Configure { .. } => "reconfigure",
            Content::Move { verb: Verb::Start, .. } => "start",
            Content::Move { verb: Verb::Stop, .. } => "stop",
            Content::Move { verb: Verb::Restart, .. } => "restart",
            Content::Forget { .. } => "forget",
        }
    }

    pub(super) fn by(&self) -> Box<str> {
        if self.by.is_empty() { "an operator".into() } else { self.by.clone() }
    }

    pub(super) fn event_target(&self) -> String {
        url::key(&self.event)
    }

    /// Returns the answer of a request whose time is over.
    pub(super) fn under_way(&self) -> Answer {
        match self.waiting {
            Waiting::Plan => refuse(504, "Consul does not answer in time"),
            Waiting::Written => Answer::new(202, r#"{"state":"waits for the coordinator"}"#),
            Waiting::Worked => Answer::new(202, r#"{"state":"under way"}"#),
        }
    }

    // ---- plans ------------------------------------------------------------------------------------

    /// Plans the transaction.
    pub(super) fn plan(&mut self, node: &NodeName, key: &str, at: &str, all: &Snapshot) -> Step {
        let plan = match &self.what {
            Content::Define { record, is_check } => plan_define(record, *is_check, all),
            Content::Configure { kind, parameters } => plan_configure(kind, parameters, all),
            Content::Move { .. } => self.plan_move(all),
            Content::Forget { node } => plan_forget(node, all),
        };
        match plan {
            Err(answer) => Step::Answer(answer),
            Ok((mut ops, what)) => {
                self.event = key.into();
                let event = Event { v: form(), node: node.clone(), at: at.into(), what };
                ops.push(Op::cas(key, &stored::encode(&event), 0));
                Step::Write(ops)
            }
        }
    }

    fn plan_move(&mut self, all: &Snapshot) -> Result<(Vec<Op>, What), Answer> {
        let Content::Move { verb, kind, node, given } = &self.what else {
            return Err(refuse(503, "not about instances"));
        };
        if builtin::is_builtin(kind) {
            return Err(builtin::on_move(all, *verb, kind, node.as_ref()));
        }
        if all.kind(kind).is_none() {
            return Err(refuse(404, &unknown(kind)));
        }
        let mut nodes: BTreeSet<NodeName> = all.places(kind).into_iter().collect();
        if *verb != Verb::Start {
            // A stop may be about an instance of which nothing else is known. There is nothing to restart then.
            let is_there = |row: &Row| *verb == Verb::Stop || row.is_there();
            let of = all.rows.iter().filter(|((of, _), row)| of == kind && is_there(row));
            nodes = of.map(|((_, node), _)| node.clone()).collect();
        }
        if let Some(node) = node {
            let is_known = nodes.contains(node) || all.nodes.contains_key(node);
            if !is_known || *verb == Verb::Start && !nodes.contains(node) {
                let why = format!("{node} is not known, or not in the place of {kind}");
                return Err(refuse(404, &why));
            }
            nodes.retain(|other| other == node);
        }
        if *verb == Verb::Restart && nodes.is_empty() {
            return Err(refuse(404, &format!("{kind} was never started there; start it")));
        }
        self.nodes = nodes.into_iter().collect();
        if *verb == Verb::Start {
            check_config(kind, all)?;
            let of = all.kind(kind).ok_or_else(|| refuse(404, &unknown(kind)))?;
            for node in &self.nodes {
                Launch::resolve(of, node, given, &all.stored(kind))
                    .map_err(|why| refuse(400, &why.join("; ")))?;
            }
        }
        let is_goal = node.is_some() || all.goals.get(kind).is_some_and(|goal| goal.run);
        let serials: BTreeMap<Box<str>, u64> =
            self.rows(all).map(|(_, node, row)| (node.as_str().into(), row.serial())).collect();
        let runs_all = self.rows(all).filter(|(.., row)| row.runs()).count() == self.nodes.len();
        if *verb == Verb::Start && is_goal && runs_all && given.is_empty() {
            return Err(self.done(all, true));
        }
        let (verb, kind, node, given, by) =
            (*verb, kind.clone(), node.clone(), given.clone(), self.by.clone());
        let ask = Ask { verb, kind, node, given, serials, by };
        Ok((Vec::new(), What::Asked(Box::new(ask))))
    }

    // ---- answers ----------------------------------------------------------------------------------

    fn rows<'a>(
        &'a self,
        all: &'a Snapshot,
    ) -> impl Iterator<Item = (&'a TypeName, &'a NodeName, &'a Row)> {
        let kind = match &self.what {
            Content::Move { kind, .. } => Some(kind),
            Content::Define { .. } | Content::Configure { .. } | Content::Forget { .. } => None,
        };
        let of = move |node: &'a NodeName| {
            let kind = kind?;
            Some((kind, node, all.rows.get(&(kind.clone(), node.clone()))?))
        };
        self.nodes.iter().filter_map(of)
    }

    /// Looks whether the request is done.
    pub(super) fn look(&mut self, all: &Snapshot) -> Step {
        if all.event_keys.contains(&*self.event) {
            return Step::Wait(self.event_target(), all.index);
        }
        self.waiting = Waiting::Worked;
        let Content::Move { verb, .. } = &self.what else {
            return Step::Answer(Answer::new(200, r#"{"state":"done"}"#));
        };
        let is_start = *verb != Verb::Stop;
        // A node that is down does nothing, so nobody waits for it.
        let living: Vec<&NodeName> = self.nodes.iter().filter(|node| all.is_up(node)).collect();
        if living.is_empty() && !self.nodes.is_empty() {
            let is_done = |row: &Row| if is_start { row.runs() } else { row.is_stopped() };
            let done = self.rows(all).filter(|(.., row)| is_done(row)).count();
            let text = r#"{"state":"waits for nodes that are down"}"#;
            let is_over = done == self.nodes.len();
            return Step::Answer(if is_over {
                self.done(all, false)
            } else {
                Answer::new(202, text)
            });
        }
        let done = self.rows(all).filter(|(_, node, row)| {
            let is_done = if is_start { row.runs() || row.has_failed() } else { row.is_stopped() };
            living.contains(node) && is_done
        });
        if done.count() >= living.len() || mutant(Mutant::AnsweredEarly) {
            return Step::Answer(self.done(all, false));
        }
        // A stop is over once its job is, which ends after the last change of the instance.
        let rests = |row: &Row| row.state() == State::Absent;
        let is_at_rest = !is_start && self.rows(all).all(|(.., row)| rests(row));
        let tree = if is_at_rest { keys::JOBS } else { keys::INSTANCES };
        Step::Wait(url::tree(tree), all.index)
    }

    fn done(&self, all: &Snapshot, already: bool) -> Answer {
        let instances: Vec<_> =
            self.rows(all).map(|(kind, node, row)| view::instance(all, kind, node, row)).collect();
        let has_failed = self.rows(all).any(|(.., row)| row.has_failed());
        let is_stop = matches!(&self.what, Content::Move { verb: Verb::Stop, .. });
        let status = if has_failed && !is_stop { 409 } else { 200 };
        let body = format!("{}", json!({ "already": already, "instances": instances }));
        let reason = if status == 409 { "an instance has failed" } else { "" };
        Answer { reason: reason.into(), ..Answer::new(status, body) }
    }
}

fn plan_define(
    record: &TypeRecord,
    is_check: bool,
    all: &Snapshot,
) -> Result<(Vec<Op>, What), Answer> {
    let kind = &record.name;
    if builtin::is_builtin(kind) {
        return Err(refuse(409, "the name is that of a service that is part of hax"));
    }
    let old = all.types.get(kind);
    if old.is_some_and(|old| old.record.is_none()) {
        return Err(refuse(409, "a later version of hax has defined the type"));
    }
    check_config(kind, all)?;
    check_needs(record, all)?;
    let stored = all.stored(kind);
    if let Err(why) = Launch::resolve(record, &example(), &Given::new(), &stored) {
        // What a start gives may complete them, so only what is stored and invalid is refused.
        let wrong: Vec<&String> =
            why.iter().filter(|why| !why.ends_with("it has no value")).collect();
        if let Some(why) = wrong.first() {
            return Err(refuse(409, &format!("the stored parameters do not fit: {why}")));
        }
    }
    let schema = schema_op(record, all)?;
    if is_check {
        return Err(Answer::new(200, format!("{}", json!({ "type": record }))));
    }
    if old.is_some_and(|old| old.record.as_ref() == Some(record)) {
        return Err(Answer::new(200, r#"{"state":"unchanged"}"#));
    }
    let index = old.map_or(0, |old| old.index);
    let mut ops =
        Vec::from([Op::cas(&format!("{}{kind}", keys::TYPES), &stored::encode(record), index)]);
    ops.extend(schema);
    let config = all.configs.get(kind).filter(|config| config.index > 0);
    ops.extend(config.map(|of| Op::check_index(&format!("{}{kind}", keys::CONFIGS), of.index)));
    Ok((ops, What::Defined { record: Box::new(record.clone()), stored }))
}

/// Plans to delete the records of a node. Its lease is checked: a node that has come back meanwhile is kept.
fn plan_forget(node: &NodeName, all: &Snapshot) -> Result<(Vec<Op>, What), Answer> {
    let of = all.nodes.get(node).ok_or_else(|| refuse(404, &format!("{node} is not known")))?;
    if of.is_up {
        let why =
            format!("{node} is up; only a node that is down and does not return is forgotten");
        return Err(refuse(409, &why));
    }
    let mut ops = Vec::new();
    if of.lease_index > 0 {
        ops.push(Op::check_index(&keys::lease(node), of.lease_index));
    }
    let trees =
        [keys::INSTANCES, keys::JOBS, keys::NAMES, keys::NODES].map(|of| format!("{of}{node}/"));
    ops.extend(trees.iter().map(|tree| Op::delete_tree(tree)));
    ops.push(Op::delete(&format!("{}{node}", keys::SUPERVISION)));
    Ok((ops, What::Forgotten { node: node.clone() }))
}

/// Some node, for a trial of the parameters.
fn example() -> NodeName {
    NodeName::new("node").expect("plain")
}

/// The stored parameters of a type can be read.
fn check_config(kind: &TypeName, all: &Snapshot) -> Result<(), Answer> {
    if !all.has_unreadable_config(kind) {
        return Ok(());
    }
    let key = format!("{}{kind}", keys::CONFIGS);
    let why = format!("the stored parameters cannot be read; correct or delete {key} in Consul");
    Err(refuse(409, &why))
}

/// The types that are needed exist, and do not need this one.
fn check_needs(record: &TypeRecord, all: &Snapshot) -> Result<(), Answer> {
    let mut seen = BTreeSet::new();
    let mut todo: Vec<&TypeName> = record.needs.iter().collect();
    while let Some(need) = todo.pop() {
        if *need == record.name {
            let why = format!("needs: {need} would need itself, through what it needs");
            return Err(refuse(409, &why));
        }
        let of = all
            .kind(need)
            .ok_or_else(|| refuse(409, &format!("needs: {}; define it first", unknown(need))))?;
        if seen.insert(need) {
            todo.extend(&of.needs);
        }
    }
    Ok(())
}

/// Returns the operation on the schema of a type. Another shape is refused while another type uses the schema.
fn schema_op(record: &TypeRecord, all: &Snapshot) -> Result<Option<Op>, Answer> {
    let (Some(schema), Some(shape)) = (&record.schema, record.shape()) else { return Ok(None) };
    let key = format!("{}{}", keys::SCHEMAS, schema.id);
    let of = all.schemas.get(&schema.id);
    let index = of.map_or(0, |of| of.index);
    if let Some(old) = of.and_then(|of| of.record.as_ref()) {
        let differences = shape.differences(&old.shape);
        if differences.is_empty() {
            return Ok(Some(Op::check_index(&key, index)));
        }
        let uses = |other: &TypeRecord| {
            other.name != record.name && other.schema.as_ref().is_some_and(|of| of.id == schema.id)
        };
        let users = all.types.values().filter_map(|of| of.record.as_ref()).filter(|of| uses(of));
        if let Some(user) = users.into_iter().next() {
            let why = format!(
                "schema {}: {} uses it, and this declaration differs: {}",
                schema.id,
                user.name,
                differences.join(", ")
            );
            return Err(refuse(409, &why));
        }
    } else if of.is_some() {
        return Err(refuse(409, "a later version of hax has written the schema"));
    }
    Ok(Some(Op::cas(&key, &stored::encode(&shape.record()), index)))
}

fn plan_configure(
    kind: &TypeName,
    parameters: &Given,
    all: &Snapshot,
) -> Result<(Vec<Op>, What), Answer> {
    let of = all.types.get(kind).and_then(|of| Some((of.record.as_ref()?, of.index)));
    let (record, type_index) = of.ok_or_else(|| refuse(404, &unknown(kind)))?;
    let old = all.configs.get(kind);
    if old.is_some_and(|old| old.record.is_none()) {
        return Err(refuse(409, "a later version of hax has stored the parameters"));
    }
    // A null takes a stored value away.
    let mut stored = all.stored(kind);
    stored.extend(parameters.clone());
    stored.retain(|_, value| !value.is_null());
    if let Err(why) = Launch::resolve(record, &example(), &Given::new(), &stored) {
        return Err(refuse(400, &why.join("; ")));
    }
    if stored == all.stored(kind) {
        return Err(Answer::new(200, r#"{"state":"unchanged"}"#));
    }
    let config = ConfigRecord { v: form(), parameters: stored.clone() };
    let index = old.map_or(0, |old| old.index);
    let ops = [
        Op::cas(&format!("{}{kind}", keys::CONFIGS), &stored::encode(&config), index),
        Op::check_index(&format!("{}{kind}", keys::TYPES), type_index),
    ];
    Ok((ops.into(), What::Defined { record: Box::new(record.clone()), stored }))
}
