//! The requests of clients, and their command lines.

use std::collections::BTreeMap;

use bytes::Bytes;
use hax_core::route::scripts::{self, Action};

use super::groups::{GROUP_FLAG, GROUPS, group_of};
use super::provider::{Kind, of_index};

/// A request of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Create {
        index: u16,
        names_provider: bool,
        given: Given,
    },
    Set {
        index: u16,
        given: Given,
    },
    Clear {
        index: u16,
        mode: bool,
        flags: Vec<&'static str>,
    },
    Delete {
        index: u16,
    },
    Show {
        index: Option<u16>,
    },
    Event {
        on: On,
        event: &'static str,
        wait: bool,
    },
    Ping,
    /// Delete all state and end.
    Erase,
    /// Bytes of an invalid request.
    Malformed(Bytes),
}

/// The redundancy nodes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    One(u16),
    Range(u16, u16),
    All,
}

/// The given properties of a redundancy node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) mode: Option<&'static str>,
    /// The parameters, by their flags.
    pub(super) parameters: BTreeMap<&'static str, String>,
    /// A value is wrong, or a flag belongs to another provider.
    pub(super) is_bad: bool,
}

pub(super) const EVENTS: [&str; 3] = ["peerFail", "revert", "verify"];

impl Given {
    /// Returns all possible properties of the redundancy node of this index.
    pub(super) fn all(index: u16, mode: Option<&'static str>, n: u64) -> Self {
        let parameters = of_index(index).parameters().iter();
        let parameters = parameters.map(|p| (p.flag, p.value(index, n))).collect();
        Self { mode, parameters, is_bad: false }
    }

    /// Returns the properties of a member of a group on this router.
    pub(super) fn member(index: u16, router: usize) -> Self {
        let group = group_of(index).unwrap_or(0);
        let mode = if group == router { "primary" } else { "secondary" };
        let required = of_index(index).parameters().iter().filter(|p| p.required);
        let own = required.map(|p| (p.flag, p.value(index, router as u64)));
        let parameters = own.chain([(GROUP_FLAG, GROUPS[group].to_owned())]).collect();
        Self { mode: Some(mode), parameters, is_bad: false }
    }

    /// Returns impossible properties for a redundancy node of this index.
    pub(super) fn bad(index: u16) -> Self {
        let (flag, value) = match of_index(index) {
            Kind::Linux => ("-rg", "us-east-1"),
            Kind::Aws => ("-t", "rtb-x"),
            Kind::Azure => ("-n", "10.0.0"),
            Kind::Gcp => ("-o", "65535"),
            Kind::Consul => ("-dev", "eth0"),
        };
        Self { mode: None, parameters: [(flag, value.into())].into(), is_bad: true }
    }

    fn words(&self) -> Vec<String> {
        let mode = self.mode.iter().flat_map(|mode| ["-m".to_owned(), (*mode).to_owned()]);
        let own = self.parameters.iter();
        let own = own.flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()]);
        mode.chain(own).collect()
    }
}

impl Ask {
    /// Returns the index of the changed redundancy node.
    pub(super) fn index(&self) -> Option<u16> {
        match self {
            Self::Create { index, .. }
            | Self::Set { index, .. }
            | Self::Clear { index, .. }
            | Self::Delete { index } => Some(*index),
            Self::Show { .. }
            | Self::Event { .. }
            | Self::Ping
            | Self::Erase
            | Self::Malformed(_) => None,
        }
    }

    /// Returns the exit code of its script after a failure.
    pub(super) fn failure(&self) -> u64 {
        match self {
            Self::Create { .. } | Self::Set { .. } | Self::Clear { .. } | Self::Show { .. } => 3,
            Self::Delete { .. } | Self::Ping | Self::Erase => 4,
            Self::Event { .. } => 7,
            Self::Malformed(_) => 2,
        }
    }

    /// Returns the bytes of its client's request.
    ///
    /// # Panics
    ///
    /// If its script refuses the command line.
    pub(super) fn body(&self) -> Bytes {
        let (script, words) = match self {
            Self::Malformed(bytes) => return bytes.clone(),
            Self::Create { index, names_provider, given } => {
                let provider = names_provider.then(|| of_index(*index).name().to_owned());
                let provider = provider.into_iter().flat_map(|name| ["-p".to_owned(), name]);
                (
                    "create_node",
                    at(*index).into_iter().chain(provider).chain(given.words()).collect(),
                )
            }
            Self::Set { index, given } => ("set_params", [at(*index), given.words()].concat()),
            Self::Clear { index, mode, flags } => {
                let flags = mode.then_some("-m").into_iter().chain(flags.iter().copied());
                let flags = flags.map(str::to_owned).collect();
                ("clear_params", [at(*index), flags].concat())
            }
            Self::Delete { index } => ("delete_node", at(*index)),
            Self::Show { index } => ("show_node", index.map(at).unwrap_or_default()),
            Self::Event { on, event, wait } => {
                let on = match on {
                    On::One(index) => at(*index),
                    On::Range(first, last) => {
                        [at(*first), vec!["-mi".into(), last.to_string()]].concat()
                    }
                    On::All => vec!["-i".into(), "all".into()],
                };
                let no_wait = (!wait).then(|| "--no-wait".to_owned());
                let event = ["-e".into(), (*event).into()].into_iter().chain(no_wait);
                ("node_event", on.into_iter().chain(event).collect())
            }
            Self::Ping => ("ha_api", vec!["-c".into(), "ping".into()]),
            Self::Erase => ("ha_api", vec!["-c".into(), "stop".into()]),
        };
        match scripts::named(script).map(|script| script.parse(&words)) {
            Some(Ok(Action::Ask(request))) => request.encode().into(),
            other => panic!("{script} {words:?}: {other:?}"),
        }
    }
}

fn at(index: u16) -> Vec<String> {
    vec!["-i".into(), index.to_string()]
}
