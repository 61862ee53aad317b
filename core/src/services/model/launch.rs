//! A launch: everything that a node needs to start one instance, with all parameters replaced.
//!
//! The coordinator resolves it and writes it with what it wants. So a node reads one key before a start.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::Words;
use super::kind::{Runner, TypeRecord};
use super::name::{NodeName, TypeName, digest};
use super::parameters::{Given, merge, texts};
use super::probe::{Check, Probe, Ready};
use super::scripted::{Script, Scripted};
use super::stored;
use super::template::{Values, fill, fill_all};
use crate::keeper::name::{InstanceId, ServiceName};
use crate::keeper::request::{OutputTarget, Resource, Start, Stop};

/// Everything that a node needs to start an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// The digest of all other fields: the revision of the configuration.
    #[serde(default)]
    pub revision: Box<str>,
    /// The service name that the instance holds.
    pub name: ServiceName,
    /// The way in which the instance is run.
    pub runner: Runner,
    /// The program of an `exec` instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Program>,
    /// The programs that start, monitor and stop an `ocf` or `systemd` instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scripted: Option<Scripted>,
    /// The probe that says when the instance is ready. Without one it is ready once it has been started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Probe>,
    /// The time limit from the start until the instance is ready, in milliseconds.
    pub start_within_ms: u64,
    /// The instance tells itself when it is ready.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub notifies: bool,
    /// The regular check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<LaunchCheck>,
    /// The types on the same node that the instance needs.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub needs: Box<[TypeName]>,
    /// The programs that deliver the messages which the instance understands.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub messages: BTreeMap<Box<str>, Words>,
    /// The kinds of resources that the instance may hold.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub kinds: Words,
    /// The values of all parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: Given,
}

/// What the processes of an instance need to speak with hax.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voice {
    /// The path of the socket for instances.
    pub socket: Box<str>,
    /// The secret by which the instance proves itself.
    pub capability: Box<str>,
}

/// The regular check of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchCheck {
    /// What is probed.
    pub probe: Probe,
    /// The time between two checks, in milliseconds.
    pub every_ms: u64,
    /// The time limit of a check, in milliseconds.
    pub timeout_ms: u64,
}

/// The program of an instance, as the keeper starts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    argv: Words,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    env: Values,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dir: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    limits: BTreeMap<Resource, Option<u64>>,
    #[serde(default)]
    oom_score_adj: i16,
    #[serde(default)]
    output: OutputTarget,
    #[serde(default)]
    stop: Stop,
    #[serde(default)]
    forks: bool,
}

impl Launch {
    /// Resolves the launch of a type's instance on a node.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the parameters.
    pub fn resolve(
        of: &TypeRecord,
        node: &NodeName,
        given: &Given,
        stored: &Given,
    ) -> Result<Self, Vec<String>> {
        let parameters = merge(&of.parameters, given, stored)?;
        let values = texts(&of.parameters, &parameters, node.as_str(), of.name.as_str());
        Self::filled(of, parameters, &values).map_err(|why| Vec::from([why]))
    }

    fn filled(of: &TypeRecord, parameters: Given, values: &Values) -> Result<Self, String> {
        let ready = match &of.ready {
            Ready::Started | Ready::Notify => None,
            Ready::Probe(probe) => Some(probe.filled(values)?),
        };
        let check = of.check.as_ref().and_then(|check: &Check| {
            Some((check.probe()?, check.every.millis(), check.timeout.millis()))
        });
        let check = match check {
            None => None,
            Some((probe, every_ms, timeout_ms)) => {
                Some(LaunchCheck { probe: probe.filled(values)?, every_ms, timeout_ms })
            }
        };
        let program = match of.runner {
            Runner::Exec => Some(Program::filled(of, values)?),
            Runner::Ocf | Runner::Systemd | Runner::Motr | Runner::Builtin => None,
        };
        let scripted = script(of, &parameters, values)?.map(|script| Scripted {
            script,
            every_ms: of.monitor.every.millis(),
            timeout_ms: of.monitor.timeout.millis(),
            stop_within_ms: of.kill_after.millis(),
        });
        let messages = of.message.iter();
        let messages =
            messages.map(|(name, of)| Ok((name.clone(), fill_all(&of.command, values)?)));
        let mut launch = Self {
            revision: "".into(),
            name: of.service_name(),
            runner: of.runner,
            program,
            scripted,
            ready,
            start_within_ms: of.start_timeout.millis(),
            notifies: of.ready == Ready::Notify,
            check,
            needs: of.needs.clone(),
            messages: messages.collect::<Result<_, String>>()?,
            kinds: of.schema.as_ref().map(|schema| schema.kinds.clone()).unwrap_or_default(),
            parameters,
        };
        launch.revision = format!("{:016x}", digest(&stored::encode(&launch))).into();
        Ok(launch)
    }

    /// Returns the start request for the keeper, if a program is to be started.
    #[must_use]
    pub fn start(&self, instance: InstanceId, voice: Option<Voice>) -> Option<Box<Start>> {
        let Program { argv, env, user, group, dir, limits, .. } = self.program.clone()?;
        let Program { oom_score_adj, output, stop, forks, .. } = self.program.clone()?;
        let (socket, capability) =
            voice.map(|Voice { socket, capability }| (socket, capability)).unzip();
        Some(Box::new(Start {
            instance,
            name: self.name.clone(),
            argv,
            env,
            user,
            group,
            dir: dir.unwrap_or_else(|| "/".into()),
            limits,
            oom_score_adj,
            umask: 0o022,
            output,
            stop,
            forks,
            counted: None,
            socket,
            capability,
            tag: Some(self.revision.clone()),
        }))
    }

    /// Returns the time limit from the start until the instance is ready.
    #[must_use]
    pub const fn start_within(&self) -> Duration {
        Duration::from_millis(self.start_within_ms)
    }

    /// Returns the time limit of a stop.
    #[must_use]
    pub fn stop_within(&self) -> Duration {
        let scripted = self.scripted.as_ref().map(|of| Duration::from_millis(of.stop_within_ms));
        let program = self.program.as_ref().map(|program| program.stop.kill_after());
        program.or(scripted).unwrap_or_default()
    }
}

/// Returns what runs a scripted instance. An agent gets the declared parameters.
fn script(of: &TypeRecord, parameters: &Given, values: &Values) -> Result<Option<Script>, String> {
    Ok(match of.runner {
        Runner::Ocf => {
            let agent = of.agent.clone().ok_or("the runner ocf has an agent")?;
            let given = values.iter().filter(|(name, _)| parameters.contains_key(*name));
            let parameters = given.map(|(name, value)| (name.clone(), value.clone())).collect();
            Some(Script::Ocf { agent, parameters })
        }
        Runner::Systemd => {
            let unit = of.unit.as_ref().ok_or("the runner systemd has a unit")?;
            Some(Script::Systemd { unit: fill(unit, values)? })
        }
        Runner::Exec | Runner::Motr | Runner::Builtin => None,
    })
}

impl Program {
    fn filled(of: &TypeRecord, values: &Values) -> Result<Self, String> {
        let env = of.env.iter().map(|(name, value)| Ok((name.clone(), fill(value, values)?)));
        let stop = Stop {
            signal: of.stop_signal,
            command: fill_all(&of.stop_command, values)?,
            kill_after_ms: of.kill_after.millis(),
        };
        Ok(Self {
            argv: fill_all(&of.command, values)?,
            env: env.collect::<Result<_, String>>()?,
            user: of.user.clone(),
            group: of.group.clone(),
            dir: of.dir.clone(),
            limits: of.limits.clone(),
            oom_score_adj: of.oom_score_adj,
            output: of.output,
            stop,
            forks: of.forks,
        })
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use serde_json::json;

    use super::super::kind;
    use super::*;

    fn resolve(given: &Given, stored: &Given) -> Result<Launch, Vec<String>> {
        let record = json!({
            "type": "web",
            "command": ["/usr/lib/hax/services/web", "{port}", "{node}"],
            "env": { "TYPE": "{type}" },
            "ready": "tcp:{port}",
            "check": { "http": "http://127.0.0.1:{port}/" },
            "parameters": { "port": { "kind": "integer", "default": 8080 } },
        });
        let record = kind::parse(record.to_string().as_bytes()).unwrap();
        Launch::resolve(&record, &NodeName::new("n1").unwrap(), given, stored)
    }

    #[test]
    fn a_launch_is_the_type_with_its_parameters() {
        let launch = resolve(&Given::new(), &Given::new()).unwrap();
        let start = launch.start(InstanceId::new("i").unwrap(), None).unwrap();
        assert_eq!(start.check(), Ok(()));
        let argv: Vec<&str> = start.argv.iter().map(|word| &**word).collect();
        assert_eq!(argv, ["/usr/lib/hax/services/web", "8080", "n1"]);
        assert_eq!(&*start.env["TYPE"], "web");
        assert_eq!(launch.ready, Some(Probe::Tcp("127.0.0.1:8080".into())));
        let text = stored::encode(&launch);
        assert_eq!(serde_json::from_slice::<Launch>(&text).unwrap(), launch);
    }

    #[test]
    fn another_configuration_has_another_revision() {
        let port = |n: u32| -> Given { [("port".into(), n.into())].into() };
        let revision = |given: &Given| resolve(given, &Given::new()).unwrap().revision;
        assert_eq!(revision(&Given::new()), revision(&port(8080)));
        assert_ne!(revision(&Given::new()), revision(&port(81)));
        let why = resolve(&[("x".into(), 1.into())].into(), &Given::new()).unwrap_err();
        assert_eq!(why, ["parameter x: the type has none of this name"]);
    }
}
