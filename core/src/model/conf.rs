//! The configuration under `m0conf/`: two trees of software (by name and by fid) and one of
//! hardware, indexed by fid.
//!
//! Keys and values: 4/KV; `nodes/<name>/processes/<decimal key>/…`,
//! `nodes/<fid>/processes/<fid>/services/<fid>/sdevs/<fid>`,
//! `sites/<fid>/racks/<fid>/encls/<fid>/ctrls/<fid>/drives/<fid>`.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use serde::Deserialize;

use super::states;
use super::table::FidTable;
use crate::base::fid::{Fid, Object};
use crate::ha::note::ObjectState;

/// The configuration at one moment. Entries may be taken in any order.
#[derive(Clone, Debug)]
pub struct Conf {
    nodes: FidTable<Node>,
    processes: FidTable<Process>,
    services: FidTable<Fid>,
    sdevs: FidTable<ObjectState>,
    drives: FidTable<Fid>,
    enclosures: FidTable<ObjectState>,
    controllers: FidTable<ObjectState>,
    endpoints: BTreeMap<Fid, Box<str>>,
    profiles: Vec<Fid>,
}

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its host name; empty until its entry is taken.
    pub name: Box<str>,
    /// The state that its entry tells.
    pub state: ObjectState,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The node on which it runs.
    pub node: Fid,
    /// Its services, in the order of their keys.
    pub services: Vec<Fid>,
    /// Whether one of them is a confd.
    pub confd: bool,
    /// Whether one of them is the HA service: it is a hax.
    pub hax: bool,
}

/// What the JSON of an `m0conf` entry may hold; the rest of it is passed over.
#[derive(Deserialize)]
struct Value<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    state: Option<Cow<'a, str>>,
    #[serde(borrow)]
    sdev: Option<Cow<'a, str>>,
}

impl Default for Conf {
    fn default() -> Self {
        Self {
            nodes: FidTable::new(b'n'),
            processes: FidTable::new(b'r'),
            services: FidTable::new(b's'),
            sdevs: FidTable::new(b'd'),
            drives: FidTable::new(b'k'),
            enclosures: FidTable::new(b'e'),
            controllers: FidTable::new(b'c'),
            endpoints: BTreeMap::new(),
            profiles: Vec::new(),
        }
    }
}

impl Conf {
    /// Takes one entry: `path` is its key behind `m0conf/`. False if it is not of a known form; it
    /// has changed nothing then.
    #[must_use]
    pub fn take(&mut self, path: &str, value: &[u8]) -> bool {
        let mut parts = [""; 10];
        let mut n = 0;
        for part in path.split('/') {
            let Some(slot) = parts.get_mut(n) else { return false };
            *slot = part;
            n += 1;
        }
        self.take_parts(&parts[..n], value).is_some()
    }

    fn take_parts(&mut self, parts: &[&str], value: &[u8]) -> Option<()> {
        match *parts {
            ["nodes", node, ref rest @ ..] => match node.parse() {
                Ok(node) => self.take_by_fid(of_type(node, Object::Node)?, rest, value),
                Err(_) => self.take_by_name(rest, value),
            },
            ["sites", _, "racks", _, "encls", encl, ref rest @ ..] => {
                self.take_enclosure(fid(encl, Object::Enclosure)?, rest, value)
            }
            ["sites", _] | ["sites", _, "racks", _] | ["pools", _] => Some(()),
            ["profiles", profile] => {
                self.profiles.push(fid(profile, Object::Profile)?);
                Some(())
            }
            _ => None,
        }
    }

    /// `nodes/<name>/processes/<key>/{endpoint, services/<type>, meta_data, log}`.
    fn take_by_name(&mut self, rest: &[&str], value: &[u8]) -> Option<()> {
        match *rest {
            ["processes", key, "endpoint"] => {
                let endpoint = core::str::from_utf8(value).ok()?;
                self.endpoints.insert(Fid::process(key.parse().ok()?), endpoint.into());
                Some(())
            }
            ["processes", key, ..] => key.parse::<u64>().ok().map(drop),
            _ => None,
        }
    }

    /// `nodes/<fid>` and what is below it.
    fn take_by_fid(&mut self, node: Fid, rest: &[&str], value: &[u8]) -> Option<()> {
        let value = parse(value)?;
        match *rest {
            [] => {
                let name = value.name?;
                let state = states::of_hardware(value.state.as_deref(), true);
                self.nodes.insert(node, Node { name: name.into(), state });
            }
            ["processes", process] => {
                self.process(node, fid(process, Object::Process)?);
            }
            ["processes", process, "services", service] => {
                let (process, service) =
                    (fid(process, Object::Process)?, fid(service, Object::Service)?);
                let entry = self.process(node, process);
                if let Err(at) = entry.services.binary_search(&service) {
                    entry.services.insert(at, service);
                }
                let name = value.name.as_deref();
                entry.confd |= name == Some("confd");
                entry.hax |= name == Some("ha");
                self.services.insert(service, process);
            }
            ["processes", _, "services", _, "sdevs", sdev] => {
                let state = states::of_device(value.state.as_deref().unwrap_or(""));
                self.sdevs.insert(fid(sdev, Object::Sdev)?, state);
            }
            _ => return None,
        }
        Some(())
    }

    fn process(&mut self, node: Fid, process: Fid) -> &mut Process {
        let none = || Process { node, services: Vec::new(), confd: false, hax: false };
        let entry = self.processes.entry(process, none);
        entry.node = node;
        entry
    }

    fn take_enclosure(&mut self, encl: Fid, rest: &[&str], value: &[u8]) -> Option<()> {
        let value = parse(value)?;
        let state = states::of_hardware(value.state.as_deref(), false);
        match *rest {
            [] => drop(self.enclosures.insert(encl, state)),
            ["ctrls", ctrl] => drop(self.controllers.insert(fid(ctrl, Object::Controller)?, state)),
            ["ctrls", _, "drives", drive] => {
                let sdev = fid(value.sdev.as_deref()?, Object::Sdev)?;
                self.drives.insert(fid(drive, Object::Drive)?, sdev);
            }
            _ => return None,
        }
        Some(())
    }

    /// A process, if it is configured.
    #[must_use]
    pub fn get_process(&self, fid: Fid) -> Option<&Process> {
        self.processes.get(fid)
    }

    /// All processes, in a fixed order.
    pub fn processes(&self) -> impl Iterator<Item = (Fid, &Process)> {
        self.processes.iter()
    }

    /// The process of a service.
    #[must_use]
    pub fn process_of(&self, service: Fid) -> Option<Fid> {
        self.services.get(service).copied()
    }

    /// The host name of a node.
    #[must_use]
    pub fn host(&self, node: Fid) -> Option<&str> {
        self.nodes.get(node).map(|node| &*node.name)
    }

    /// Where each process listens.
    pub fn endpoints(&self) -> impl Iterator<Item = (Fid, &str)> {
        self.endpoints.iter().map(|(fid, endpoint)| (*fid, &**endpoint))
    }

    /// Where `process` listens.
    #[must_use]
    pub fn endpoint(&self, process: Fid) -> Option<&str> {
        self.endpoints.get(&process).map(|endpoint| &**endpoint)
    }

    /// The first profile.
    #[must_use]
    pub fn profile(&self) -> Option<Fid> {
        self.profiles.first().copied()
    }

    /// The states that the configuration itself tells: of nodes, devices, drives, enclosures and
    /// controllers.
    pub fn own_states(&self) -> impl Iterator<Item = (Fid, ObjectState)> {
        let copied = |(fid, state): (Fid, &ObjectState)| (fid, *state);
        let nodes = self.nodes.iter().map(|(fid, node)| (fid, node.state));
        let drives = self.drives.iter().map(|(drive, sdev)| {
            (drive, self.sdevs.get(*sdev).copied().unwrap_or(ObjectState::Online))
        });
        nodes
            .chain(self.enclosures.iter().map(copied))
            .chain(self.controllers.iter().map(copied))
            .chain(self.sdevs.iter().map(copied))
            .chain(drives)
    }
}

fn parse(value: &[u8]) -> Option<Value<'_>> {
    serde_json::from_slice(value).ok()
}

fn fid(text: &str, object: Object) -> Option<Fid> {
    of_type(text.parse().ok()?, object)
}

fn of_type(fid: Fid, object: Object) -> Option<Fid> {
    (fid.object() == Some(object)).then_some(fid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_taken_in_any_order_and_odd_ones_change_nothing() {
        let mut conf = Conf::default();
        let node = "nodes/0x6e00000000000001:0x0";
        let process = "processes/0x7200000000000001:0x1";
        let entries: [(&str, &str); 6] = [
            (
                &alloc::format!("{node}/{process}/services/0x7300000000000001:0x3"),
                r#"{"name": "confd", "state": "M0_NC_UNKNOWN"}"#,
            ),
            (&alloc::format!("{node}/{process}"), r#"{"name": "m0_server", "state": "x"}"#),
            (
                &alloc::format!("{node}/{process}/services/0x7300000000000001:0x2"),
                r#"{"name": "rms"}"#,
            ),
            (node, r#"{"name": "ssu1", "state": "M0_NC_UNKNOWN"}"#),
            ("nodes/ssu1/processes/1/endpoint", "inet:tcp:127.0.1.1@22002"),
            ("nodes/ssu1/processes/1/services/rms", "2"),
        ];
        for (key, value) in entries {
            assert!(conf.take(key, value.as_bytes()), "{key}");
        }
        for (key, value) in [
            ("nodes/0x7200000000000001:0x1", "{}"),
            ("nodes/0x6e00000000000001:0x1", "not json"),
            ("nodes/ssu1/processes/x/endpoint", "y"),
            ("a/b/c/d/e/f/g/h/i/j/k/l", "{}"),
            ("", ""),
        ] {
            assert!(!conf.take(key, value.as_bytes()), "{key}");
        }
        let process = conf.get_process(Fid::process(1)).expect("it was taken");
        assert!(process.confd && !process.hax);
        assert_eq!(process.services, [Fid::service(2), Fid::service(3)]);
        assert_eq!(conf.host(process.node), Some("ssu1"));
        assert_eq!(conf.process_of(Fid::service(3)), Some(Fid::process(1)));
        assert_eq!(conf.endpoint(Fid::process(1)), Some("inet:tcp:127.0.1.1@22002"));
    }
}
