//! The records of instances, names, nodes and events.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::class::Class;
use super::form;
use super::kind::TypeRecord;
use super::launch::Launch;
use super::name::{NodeName, TypeName};
use super::parameters::Given;
use super::place::Labels;
use super::policy::History;
use crate::keeper::name::InstanceId;

/// What is wanted of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    /// It is to run.
    Running,
    /// It is not to run.
    Stopped,
    /// It has ended, and is not started again by itself.
    Resting,
}

/// What the coordinator wants of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The version of the record.
    #[serde(default = "form")]
    pub v: u32,
    /// What is wanted.
    pub want: Want,
    /// The serial number of the last wanted start. A node carries out each start once: it starts an instance
    /// only for a serial number that is higher than the last one.
    pub serial: u64,
    /// How it is started.
    pub launch: Box<Launch>,
    /// The parameters that were given with the start.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub given: Given,
    /// The reason, in words.
    pub why: Box<str>,
    /// The time of the coordinator's clock, for display.
    pub at: Box<str>,
}

/// The state of an instance, as its node knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// There is no process.
    #[default]
    Absent,
    /// It is being started, or is not ready yet.
    Starting,
    /// It runs and is ready.
    Running,
    /// It runs and reports a problem.
    Degraded,
    /// It is being stopped.
    Stopping,
    /// It could not be started, has ended, or does not pass its check.
    Failed,
}

impl State {
    /// Returns the state's name in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Degraded => "degraded",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
        }
    }
}

/// The reason of a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The class.
    pub class: Class,
    /// The reason in words.
    pub text: Box<str>,
}

/// Whether a resource may be held by several instances at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// It belongs to the instance alone.
    Own,
    /// Others may hold it, too.
    Shared,
}

/// What a node has seen of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// The version of the record.
    #[serde(default = "form")]
    pub v: u32,
    /// The state.
    pub state: State,
    /// The serial number of the last start that was carried out.
    pub serial: u64,
    /// The id of the last instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// The id of its main process, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The revision of its configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Box<str>>,
    /// The reason of the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The time for which it was ready, if it has ended, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lived_ms: Option<u64>,
    /// The resources that it has told to hold, as `KIND/NAME`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: BTreeMap<Box<str>, Sharing>,
    /// The revision of its configuration as it has told it, where it has changed its configuration itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Box<str>>,
    /// The boot id of the node.
    #[serde(default)]
    pub boot: Box<str>,
    /// The time of the node's clock, for display.
    #[serde(default)]
    pub at: Box<str>,
}

impl Default for Observed {
    fn default() -> Self {
        Self {
            v: form(),
            state: State::Absent,
            serial: 0,
            instance: None,
            pid: None,
            revision: None,
            reason: None,
            lived_ms: None,
            resources: BTreeMap::new(),
            config: None,
            boot: "".into(),
            at: "".into(),
        }
    }
}

impl Observed {
    /// Returns whether the instance has told itself that it has failed.
    #[must_use]
    pub fn has_told_failure(&self) -> bool {
        self.reason.as_ref().is_some_and(|reason| reason.class == Class::Told)
    }

    /// Returns whether the instance has announced its end, and lives or has ended.
    #[must_use]
    pub fn is_announced(&self) -> bool {
        self.reason.as_ref().is_some_and(|reason| reason.class == Class::Announced)
    }

    /// Returns whether the record says more than another one that the coordinator has to know: what an instance holds
    /// is for those who look only.
    #[must_use]
    pub fn is_news_to(&self, other: &Self) -> bool {
        let (none, at) = (BTreeMap::new, || "".into());
        let state = |of: &Self| Self { resources: none(), config: None, at: at(), ..of.clone() };
        state(self) != state(other)
    }

    /// Returns whether two records say the same, whenever they were written.
    #[must_use]
    pub fn says_as(&self, other: &Self) -> bool {
        let at = || "".into();
        Self { at: at(), ..self.clone() } == Self { at: at(), ..other.clone() }
    }
}

/// The holder of a service name on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRecord {
    /// The version of the record.
    #[serde(default = "form")]
    pub v: u32,
    /// The type whose instance holds the name.
    #[serde(rename = "type")]
    pub kind: TypeName,
    /// The instance. There is none before its first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// The boot id of the node.
    pub boot: Box<str>,
    /// The generation of the node's keeper.
    pub generation: u64,
}

/// The description of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// The version of the record.
    #[serde(default = "form")]
    pub v: u32,
    /// The boot id.
    pub boot: Box<str>,
    /// The generation of the keeper.
    pub generation: u64,
    /// The number of the last run of hax. Each run has a higher one.
    pub run: u64,
    /// The labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
}

/// Whether a type is to run at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goal {
    /// The version of the record.
    #[serde(default = "form")]
    pub v: u32,
    /// Whether it is to run on every node of its place.
    pub run: bool,
    /// The parameters that were given with the start.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub given: Given,
}

/// The stored parameters of a type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigRecord {
    /// The version of the record.
    #[serde(default = "form")]
    pub v: u32,
    /// The values.
    pub parameters: Given,
}

/// Something that happened on a node, for the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The version of the record.
    #[serde(default = "form")]
    pub v: u32,
    /// The node.
    pub node: NodeName,
    /// The time of the node's clock, for display.
    pub at: Box<str>,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// An instance has changed. The same transaction has written the record of it.
    Changed {
        /// Its type.
        #[serde(rename = "type")]
        kind: TypeName,
        /// The record.
        observed: Box<Observed>,
    },
    /// An operator asks for something.
    Asked(Box<Ask>),
    /// A type was defined, defined anew, or got other stored parameters.
    Defined {
        /// The type.
        record: Box<TypeRecord>,
        /// Its stored parameters.
        stored: Given,
    },
    /// A node that is down does not return. The same transaction has deleted its records.
    Forgotten {
        /// The node.
        node: NodeName,
    },
}

/// What operators ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// An instance is to run.
    Start,
    /// An instance is not to run.
    Stop,
    /// A running instance is to be stopped and started.
    Restart,
}

/// A request of an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// What is asked for.
    pub verb: Verb,
    /// The type.
    #[serde(rename = "type")]
    pub kind: TypeName,
    /// The node. Without one, the request is about all nodes of the type's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// The parameters for a start.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub given: Given,
    /// For a restart the serial numbers at the time of the request, so that a request that is worked twice
    /// restarts once.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub serials: BTreeMap<Box<str>, u64>,
    /// Who asked, for display.
    #[serde(default)]
    pub by: Box<str>,
}

/// The notice of an event, for the programs of its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The version of the record.
    #[serde(default = "form")]
    pub v: u32,
    /// The kind of event.
    pub event: Box<str>,
    /// What is known of it.
    pub payload: serde_json::Value,
}

/// The phase of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The start waits until the types that it needs run.
    Needs,
    /// The node is to start it.
    Starting,
    /// It runs, and its life is not long enough yet.
    Settling,
    /// A restart waits for its delay.
    Delay,
    /// There were too many short lives. It is started again later.
    GivenUp,
    /// The stop waits until the types that need this one are stopped.
    Dependents,
    /// The node is to stop it.
    Stopping,
}

/// A job: what a rule waits for, and what it has to know then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The version of the record.
    #[serde(default = "form")]
    pub v: u32,
    /// The phase.
    pub phase: Phase,
    /// The time limit of the phase, in milliseconds. A coordinator that takes the job over waits anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// The time of the coordinator's clock at the beginning of the phase, for display.
    pub since: Box<str>,
    /// The parameters that were given, for a start that has not begun yet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub given: Given,
    /// The short lives before.
    #[serde(default)]
    pub history: History,
    /// The configuration that is tried, and the one that returns if it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trying: Option<Trying>,
}

impl Job {
    /// Returns the time limit of the phase.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        self.wait_ms.map(Duration::from_millis)
    }
}

/// A new configuration that has not been proved yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trying {
    /// How often it has failed.
    pub failures: u32,
    /// The launch that returns if it fails too often.
    pub last: Box<Launch>,
}

#[cfg(test)]
mod tests {
    use super::super::stored::{decode, encode};
    use super::*;

    #[test]
    fn a_record_is_read_as_it_is_written() {
        let kind = TypeName::new("web").unwrap();
        let observed = Observed {
            state: State::Failed,
            serial: 7,
            instance: InstanceId::new("web.n.1-1.7"),
            reason: Some(Reason { class: Class::Signal, text: "signal 9".into() }),
            lived_ms: Some(3),
            ..Observed::default()
        };
        assert_eq!(decode(&encode(&observed)), Ok(observed.clone()));
        let node = NodeName::new("n").unwrap();
        let record = br#"{"type":"web","command":["/x"]}"#;
        let record = super::super::kind::parse(record).unwrap();
        let ask = Ask {
            verb: Verb::Restart,
            kind: kind.clone(),
            node: Some(node.clone()),
            given: Given::new(),
            serials: [("n".into(), 7)].into(),
            by: "root".into(),
        };
        for what in [
            What::Changed { kind, observed: Box::new(observed) },
            What::Asked(Box::new(ask)),
            What::Defined { record: Box::new(record), stored: Given::new() },
        ] {
            let event = Event { v: form(), node: node.clone(), at: "now".into(), what };
            assert_eq!(decode(&encode(&event)), Ok(event));
        }
    }

    #[test]
    fn the_time_of_a_record_says_nothing() {
        let early = Observed { at: "1".into(), ..Observed::default() };
        let late = Observed { at: "2".into(), ..Observed::default() };
        assert!(early.says_as(&late) && early != late);
        assert!(!early.says_as(&Observed { serial: 1, ..late }));
    }
}
