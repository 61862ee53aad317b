//! A service type: the record behind `ha/type/TYPE`, which is the JSON form of an operator's TOML file.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::name::TypeName;
use super::parameters::{self, Declared, Given};
use super::place::{Count, Place};
use super::policy::Restart;
use super::probe::{Check, Ready};
use super::schema::{Schema, Shape};
use super::span::Span;
use super::template::{Values, fill_all};
use super::{Words, form};
use crate::keeper::name::ServiceName;
use crate::keeper::request::{OutputTarget, Resource};

/// The way in which a type's instances are run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runner {
    /// A program, as a child of the keeper.
    #[default]
    Exec,
    /// An OCF resource agent.
    Ocf,
    /// A unit of systemd.
    Systemd,
    /// A Motr process.
    Motr,
    /// A part of hax.
    Builtin,
}

impl Runner {
    /// Returns the runner's name in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Ocf => "ocf",
            Self::Systemd => "systemd",
            Self::Motr => "motr",
            Self::Builtin => "builtin",
        }
    }
}

/// The regular monitor of a scripted instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Monitor {
    /// The time between two monitors.
    pub every: Span,
    /// The time limit of a monitor.
    pub timeout: Span,
}

impl Default for Monitor {
    fn default() -> Self {
        Self { every: Span::secs(1), timeout: Span::secs(20) }
    }
}

/// A message that a type's instances understand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// The program that delivers the message, with its arguments.
    pub command: Words,
}

/// The record of a type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TypeRecord {
    /// The version of the record.
    #[serde(default = "form")]
    pub v: u32,
    /// The type's name.
    #[serde(rename = "type")]
    pub name: TypeName,
    /// The service name that an instance holds. The default is the type's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<ServiceName>,
    /// The way in which instances are run.
    #[serde(default)]
    pub runner: Runner,
    /// `exec`: the program, as an absolute path, and its arguments.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub command: Words,
    /// `ocf`: the agent, `PROVIDER:NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Box<str>>,
    /// `systemd`: the unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Box<str>>,
    /// The user that runs the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Box<str>>,
    /// The group. The default is the user's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Box<str>>,
    /// The working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<Box<str>>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<Box<str>, Box<str>>,
    /// The limits of each process.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<Resource, Option<u64>>,
    /// The kernel's preference to kill the instance when memory runs out.
    #[serde(default)]
    pub oom_score_adj: i16,
    /// The target of the output.
    #[serde(default)]
    pub output: OutputTarget,
    /// Whether the program ends while processes that it started continue.
    #[serde(default)]
    pub forks: bool,
    /// The number of the signal that stops an instance.
    #[serde(default = "sigterm")]
    pub stop_signal: i32,
    /// The program that stops an instance, instead of the signal.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub stop_command: Words,
    /// The time limit of a stop. After it the instance is killed.
    #[serde(default = "kill_after")]
    pub kill_after: Span,
    /// Types on the same node that are started before and stopped after this one.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub needs: Box<[TypeName]>,
    /// When a started instance is ready.
    #[serde(default)]
    pub ready: Ready,
    /// The time limit from the start until the instance is ready.
    #[serde(default = "start_timeout")]
    pub start_timeout: Span,
    /// `ocf` and `systemd`: the regular monitor.
    #[serde(default)]
    pub monitor: Monitor,
    /// `exec`: the regular check of a running instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
    /// The parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: Declared,
    /// The rules for restarts.
    #[serde(default)]
    pub restart: Restart,
    /// The nodes.
    #[serde(default)]
    pub place: Place,
    /// The schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Schema>,
    /// The messages that instances understand.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub message: BTreeMap<Box<str>, Message>,
}

const fn sigterm() -> i32 {
    15
}

const fn kill_after() -> Span {
    Span::secs(10)
}

const fn start_timeout() -> Span {
    Span::secs(60)
}

/// An invalid field of a type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The field, with a dot between a table and its key.
    pub field: String,
    /// What is wrong, and what to do.
    pub why: String,
}

impl TypeRecord {
    /// Returns the service name that an instance holds.
    ///
    /// # Panics
    ///
    /// Never: a type's name is a service name.
    #[must_use]
    pub fn service_name(&self) -> ServiceName {
        let own = || ServiceName::new(self.name.as_str()).expect("plain");
        self.holds.clone().unwrap_or_else(own)
    }

    /// Returns what the types of its schema have in common, if it has a schema.
    #[must_use]
    pub fn shape(&self) -> Option<Shape> {
        self.schema.as_ref().map(|schema| Shape::of(schema, &self.parameters))
    }

    /// Returns all invalid fields.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut found: Vec<Problem> = parameters::problems(&self.parameters)
            .into_iter()
            .map(|(field, why)| Problem { field, why })
            .collect();
        let mut say = |field: &str, why: &str| {
            found.push(Problem { field: field.into(), why: why.into() });
        };
        self.check_runner(&mut say);
        self.check_times(&mut say);
        self.check_texts(&mut say);
        let is_plain = |id: &str| ServiceName::new(id).is_some_and(|id| id.as_str().len() <= 64);
        if self.schema.as_ref().is_some_and(|schema| !is_plain(&schema.id)) {
            say("schema.id", "a schema's id has 1 to 64 letters, digits, '.', '_' and '-'");
        }
        if self.needs.contains(&self.name) {
            say("needs", "a type cannot need itself");
        }
        if let Count::Number(_) = self.place.count {
            say("place.count", "only \"each\" is supported by this version");
        }
        if self.place.nodes.is_empty() {
            say("place.nodes", "at least one pattern is expected; [\"*\"] is every node");
        }
        match &self.ready {
            Ready::Probe(probe) => probe.problem().into_iter().for_each(|why| say("ready", why)),
            Ready::Started | Ready::Notify => {}
        }
        if let Some(check) = &self.check {
            match check.probe() {
                None => say("check", "exactly one of tcp, http and exec is expected"),
                Some(probe) => probe.problem().into_iter().for_each(|why| say("check", why)),
            }
        }
        if let Err(why) = self.try_templates() {
            say("templates", &why);
        }
        found
    }

    /// No program can have a NUL in an argument or a variable, and no path has one.
    fn check_texts(&self, say: &mut impl FnMut(&str, &str)) {
        let fields: Given =
            serde_json::from_slice(&super::stored::encode(self)).unwrap_or_default();
        for (field, _) in fields.iter().filter(|(_, value)| has_nul(value)) {
            say(field, "a text has a NUL");
        }
        if self.env.keys().any(|name| name.is_empty() || name.contains('=')) {
            say("env", "a name is empty or has '='");
        }
        if !(-1000..=1000).contains(&self.oom_score_adj) {
            say("oom_score_adj", "-1000 to 1000 is expected");
        }
    }

    fn check_runner(&self, say: &mut impl FnMut(&str, &str)) {
        let is_program = |argv: &[Box<str>]| argv.first().is_some_and(|name| name.starts_with('/'));
        let is_exec = self.runner == Runner::Exec;
        match self.runner {
            Runner::Exec if !is_program(&self.command) => {
                say("command", "the program's absolute path comes first");
            }
            Runner::Exec | Runner::Ocf | Runner::Systemd => {}
            Runner::Motr | Runner::Builtin => {
                say("runner", "only exec, ocf and systemd are supported by this version");
            }
        }
        if !is_exec && !self.command.is_empty() {
            say("command", "only the runner exec has a command");
        }
        if self.agent.is_some() != (self.runner == Runner::Ocf) {
            say("agent", "the runner ocf has an agent, PROVIDER:NAME, and no other has");
        }
        let is_agent = |agent: &str| {
            let plain = |word: &str| ServiceName::new(word).is_some();
            agent.split_once(':').is_some_and(|(provider, name)| plain(provider) && plain(name))
        };
        if self.agent.as_ref().is_some_and(|agent| !is_agent(agent)) {
            say("agent", "an agent is PROVIDER:NAME, for instance heartbeat:IPaddr2");
        }
        if !is_exec && (self.check.is_some() || self.ready != Ready::Started) {
            say("check", "only the runner exec has ready and check; the others have monitor");
        }
        if self.unit.is_some() != (self.runner == Runner::Systemd) {
            say("unit", "the runner systemd has a unit, and no other has");
        }
        if !self.stop_command.is_empty() && !is_program(&self.stop_command) {
            say("stop_command", "the program's absolute path comes first");
        }
        if !(1..=crate::keeper::request::SIGNAL_MAX).contains(&self.stop_signal) {
            say("stop_signal", "a signal's number is expected, 1 to 31");
        }
        if self.dir.as_ref().is_some_and(|dir| !dir.starts_with('/')) {
            say("dir", "an absolute path is expected");
        }
        for message in self.message.iter().filter(|(_, message)| !is_program(&message.command)) {
            say(&format!("message.{}", message.0), "the program's absolute path comes first");
        }
        let is_plain =
            |name: &str| ServiceName::new(name).is_some() && !["check", "status"].contains(&name);
        for (name, _) in self.message.iter().filter(|(name, _)| !is_plain(name)) {
            let why = "a message has a plain name, and not check or status, which all types have";
            say(&format!("message.{name}"), why);
        }
    }

    fn check_times(&self, say: &mut impl FnMut(&str, &str)) {
        let zero = |span: Span| span.0.is_zero();
        if zero(self.start_timeout) {
            say("start_timeout", "it is at least 1ms");
        }
        if self.monitor.every < Span(core::time::Duration::from_millis(100)) {
            say("monitor.every", "it is at least 100ms");
        }
        if zero(self.monitor.timeout) {
            say("monitor.timeout", "it is at least 1ms");
        }
        if zero(self.restart.stable) {
            say("restart.stable", "it is at least 1ms");
        }
        if self.restart.attempts == 0 {
            say("restart.attempts", "it is at least 1");
        }
        if let Some(check) = &self.check {
            if check.every < Span(core::time::Duration::from_millis(100)) {
                say("check.every", "it is at least 100ms");
            }
            if zero(check.timeout) {
                say("check.timeout", "it is at least 1ms");
            }
        }
    }

    /// Fills all templates with some value for each parameter.
    fn try_templates(&self) -> Result<(), String> {
        let own = ["node", "type"].map(Box::<str>::from);
        let names = self.parameters.keys().chain(&own);
        let values: Values = names.map(|name| (name.clone(), "1".into())).collect();
        let env: Words = self.env.values().chain(&self.unit).cloned().collect();
        let messages = self.message.values().map(|message| &message.command);
        for words in [&self.command, &self.stop_command, &env].into_iter().chain(messages) {
            fill_all(words, &values)?;
        }
        if let Ready::Probe(probe) = &self.ready {
            probe.filled(&values)?;
        }
        let probe = self.check.as_ref().and_then(Check::probe);
        probe.map(|probe| probe.filled(&values)).transpose()?;
        Ok(())
    }
}

/// Parses the JSON form of a type and checks all of its fields.
///
/// # Errors
///
/// All invalid fields. An error of the structure hides others.
pub fn parse(text: &[u8]) -> Result<TypeRecord, Vec<Problem>> {
    let record: TypeRecord = super::stored::decode(&with_form(text))
        .map_err(|why| Vec::from([Problem { field: String::new(), why: why.to_string() }]))?;
    let problems = record.problems();
    if problems.is_empty() { Ok(record) } else { Err(problems) }
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(all) => all.iter().any(has_nul),
        Value::Object(all) => all.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Adds the current version to an object without one. An operator's file has none.
fn with_form(text: &[u8]) -> Vec<u8> {
    let Ok(mut fields) = serde_json::from_slice::<Given>(text) else { return text.into() };
    fields.entry("v".into()).or_insert_with(|| form().into());
    super::stored::encode(&fields)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::span::GiveUp;
    use super::*;

    /// The example of the guide, in its JSON form.
    fn example() -> Value {
        json!({
            "type": "web",
            "holds": "http",
            "runner": "exec",
            "command": ["/usr/lib/hax/services/web", "--port", "{port}"],
            "user": "www",
            "needs": [],
            "ready": "tcp:{port}",
            "check": { "http": "http://127.0.0.1:{port}/", "every": "1s", "timeout": "5s" },
            "parameters": { "port": { "kind": "integer", "default": 8080 } },
            "restart": { "policy": "on-failure", "stable": "10s", "give_up": "5 in 300s" },
            "place": { "nodes": ["*"], "count": "each" },
            "schema": { "id": "web-1", "kinds": ["database-connection"] },
            "message": { "rotate": { "command": ["/usr/lib/hax/services/web-rotate"] } },
        })
    }

    fn with(field: &str, value: Value) -> Result<TypeRecord, Vec<Problem>> {
        let mut record = example();
        record[field] = value;
        parse(record.to_string().as_bytes())
    }

    #[test]
    fn the_example_is_valid_and_its_defaults_are_what_it_says() {
        let web = parse(example().to_string().as_bytes()).unwrap();
        assert_eq!(web.service_name().as_str(), "http");
        let least = json!({"type": "web", "command": ["/usr/lib/hax/services/web"]});
        let least = parse(least.to_string().as_bytes()).unwrap();
        assert_eq!((least.restart, &least.place), (web.restart, &web.place));
        assert_eq!(least.restart.give_up, GiveUp::default());
        assert_eq!(least.service_name().as_str(), "web");
        let text = super::super::stored::encode(&web);
        assert_eq!(parse(&text), Ok(web), "it is read as it is written");
    }

    #[test]
    fn every_invalid_field_is_named() {
        for (field, value, named) in [
            ("command", json!([]), "command"),
            ("command", json!(["web"]), "command"),
            ("command", json!(["/web", "{who}"]), "templates"),
            ("runner", json!("ocf"), "agent"),
            ("runner", json!("motr"), "runner"),
            ("monitor", json!({"every": "1ms"}), "monitor.every"),
            ("needs", json!(["web"]), "needs"),
            ("ready", json!("file:x"), "ready"),
            ("check", json!({"tcp": "x:1", "exec": ["/x"]}), "check"),
            ("check", json!({"tcp": "x:1", "every": "1ms"}), "check.every"),
            ("place", json!({"count": 2}), "place.count"),
            ("place", json!({"nodes": []}), "place.nodes"),
            ("env", json!({"A": "b\u{0}"}), "env"),
            ("env", json!({"A=B": "x"}), "env"),
            ("oom_score_adj", json!(5000), "oom_score_adj"),
            ("stop_signal", json!(64), "stop_signal"),
            ("stop_command", json!(["x"]), "stop_command"),
            ("restart", json!({"attempts": 0}), "restart.attempts"),
            ("message", json!({"x": {"command": []}}), "message.x"),
            ("message", json!({"check": {"command": ["/x"]}}), "message.check"),
            ("parameters", json!({"port": {"kind": "integer", "default": "x"}}), "parameters.port"),
            ("dir", json!("x"), "dir"),
            ("schema", json!({"id": "a/b"}), "schema.id"),
            ("agent", json!("heartbeat:Dummy"), "agent"),
        ] {
            let found = with(field, value.clone()).unwrap_err();
            assert!(
                found.iter().any(|problem| problem.field == named),
                "{field} {value}: {found:?}"
            );
        }
    }

    #[test]
    fn what_is_no_type_at_all_is_told_as_such() {
        for (text, part) in [
            ("", "EOF"),
            ("[]", "invalid"),
            (r#"{"type":"Web"}"#, "1 to 48"),
            (r#"{"type":"web","comand":[]}"#, "unknown field `comand`"),
            (r#"{"v":2,"type":"web"}"#, "version 2"),
            (r#"{"command":["/x"]}"#, "missing field `type`"),
        ] {
            let found = parse(text.as_bytes()).unwrap_err();
            assert!(found[0].why.contains(part), "{text}: {found:?}");
        }
    }
}
