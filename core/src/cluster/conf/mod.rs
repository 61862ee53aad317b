//! The configuration under `m0conf/`.
//!
//! It consists of two trees of software (by name and by fid) and one of hardware, and is indexed by fid in
//! both directions.

mod contested;
mod decode;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::fid_table::FidTable;
use crate::base::fid::Fid;
use crate::ha::note::ObjectState;
use contested::Contested;
pub use contested::Contradiction;
pub(in crate::cluster) use decode::with_state;

/// The configuration. Entries may be added in any order.
#[derive(Clone, Debug)]
pub struct Conf {
    nodes: FidTable<Node>,
    /// The objects of each node, also before the node's own entry is added.
    on_node: FidTable<OnNode>,
    /// The nodes of a host. There are several if an earlier configuration has left one behind.
    by_host: BTreeMap<Box<str>, Vec<Fid>>,
    processes: FidTable<Process>,
    services: FidTable<Service>,
    sdevs: FidTable<ObjectState>,
    drives: FidTable<Drive>,
    drive_of: FidTable<Fid>,
    enclosures: FidTable<ObjectState>,
    controllers: FidTable<ObjectState>,
    /// The data of each process from the tree by name, per host.
    named: BTreeMap<Fid, Vec<Named>>,
    confds: Vec<Fid>,
    /// The profiles and their JSON values.
    profiles: BTreeMap<Fid, Box<str>>,
    pools: BTreeMap<Fid, Box<str>>,
    entries: BTreeMap<Fid, Entry>,
    contested: Contested,
}

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// The host name.
    pub name: Box<str>,
    /// The state in the node's entry.
    pub state: ObjectState,
}

#[derive(Clone, Debug, Default)]
struct OnNode {
    processes: Vec<Fid>,
    enclosures: Vec<Fid>,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The node of the process.
    pub node: Fid,
    /// The services in the order of their keys.
    pub services: Vec<Fid>,
    /// Whether one of the services is a confd.
    pub confd: bool,
    /// Whether one of the services is an I/O service.
    pub ios: bool,
    /// Whether the process is a hax: it has the HA service, and neither a confd nor an I/O service. A key
    /// that was left behind does not turn a server into a hax.
    pub hax: bool,
    /// Whether one of the services is the HA service.
    ha: bool,
}

impl Process {
    /// Returns whether the process is a client: hare's servers have a confd or an I/O service.
    #[must_use]
    pub fn is_client(&self) -> bool {
        !(self.confd || self.ios || self.hax)
    }

    /// Returns the kind of the process according to its services.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self { ios: true, .. } => "ios",
            Self { confd: true, .. } => "confd",
            Self { hax: true, .. } => "hax",
            _ => "client",
        }
    }
}

/// The data of a process under `nodes/<name>/processes/<key>/`.
#[derive(Clone, Debug)]
struct Named {
    host: Box<str>,
    endpoint: Option<Box<str>>,
    /// The device of the process's own metadata.
    metadata: Option<Box<str>>,
    /// The types of the services, except those of servers.
    services: Vec<Box<str>>,
}

#[derive(Clone, Debug)]
struct Service {
    process: Fid,
    /// The service's type: `ios`, `confd`, `rms`, …
    name: Box<str>,
    sdevs: Vec<Fid>,
}

#[derive(Clone, Copy, Debug)]
struct Drive {
    sdev: Fid,
    controller: Fid,
}

/// The entry of an object as Consul holds it, used to change its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The whole key.
    pub key: Box<str>,
    /// The value, as JSON.
    pub value: Box<str>,
    /// The `ModifyIndex`.
    pub index: u64,
}

impl Default for Conf {
    fn default() -> Self {
        Self {
            nodes: FidTable::new(b'n'),
            on_node: FidTable::new(b'n'),
            by_host: BTreeMap::new(),
            processes: FidTable::new(b'r'),
            services: FidTable::new(b's'),
            sdevs: FidTable::new(b'd'),
            drives: FidTable::new(b'k'),
            drive_of: FidTable::new(b'd'),
            enclosures: FidTable::new(b'e'),
            controllers: FidTable::new(b'c'),
            named: BTreeMap::new(),
            confds: Vec::new(),
            profiles: BTreeMap::new(),
            pools: BTreeMap::new(),
            entries: BTreeMap::new(),
            contested: Contested::default(),
        }
    }
}

impl Conf {
    /// Returns a process, if it is configured.
    #[must_use]
    pub fn get_process(&self, fid: Fid) -> Option<&Process> {
        self.processes.get(fid)
    }

    /// Returns all processes in a fixed order.
    pub fn processes(&self) -> impl Iterator<Item = (Fid, &Process)> {
        self.processes.iter()
    }

    /// Returns the confds, the servers of the configuration, in the order of their keys.
    #[must_use]
    pub fn confds(&self) -> &[Fid] {
        &self.confds
    }

    /// Returns all nodes in a fixed order.
    pub fn nodes(&self) -> impl Iterator<Item = (Fid, &Node)> {
        self.nodes.iter()
    }

    /// Returns the nodes of a host in the order of their keys.
    ///
    /// There is none if the host is not configured, and more than one if an earlier configuration has left an
    /// entry behind. All of them count.
    #[must_use]
    pub fn nodes_of(&self, host: &str) -> &[Fid] {
        self.by_host.get(host).map_or(&[], |nodes| nodes)
    }

    /// Returns the processes of a host, node by node.
    pub fn processes_of(&self, host: &str) -> impl Iterator<Item = Fid> {
        self.nodes_of(host).iter().flat_map(|node| self.processes_on(*node)).copied()
    }

    /// Returns the processes of a node in the order of their keys.
    #[must_use]
    pub fn processes_on(&self, node: Fid) -> &[Fid] {
        self.on_node.get(node).map_or(&[], |there| &there.processes)
    }

    /// Returns the I/O processes of a node in the order of their keys.
    pub fn ios_on(&self, node: Fid) -> impl Iterator<Item = Fid> {
        let all = self.processes_on(node).iter().copied();
        all.filter(|process| self.get_process(*process).is_some_and(|process| process.ios))
    }

    /// Returns the enclosures of a node in the order of their keys.
    #[must_use]
    pub fn enclosures_of(&self, node: Fid) -> &[Fid] {
        self.on_node.get(node).map_or(&[], |there| &there.enclosures)
    }

    /// Returns the process of a service.
    #[must_use]
    pub fn process_of(&self, service: Fid) -> Option<Fid> {
        self.services.get(service).map(|service| service.process)
    }

    /// Returns the storage devices of a process, service by service.
    pub fn sdevs_of(&self, process: Fid) -> impl Iterator<Item = Fid> {
        let services = self.processes.get(process).map_or(&[][..], |process| &process.services);
        let sdevs = |service: &Fid| self.services.get(*service).map(|service| &*service.sdevs);
        services.iter().filter_map(sdevs).flatten().copied()
    }

    /// Returns the state in a storage device's entry.
    #[must_use]
    pub fn sdev(&self, sdev: Fid) -> Option<ObjectState> {
        self.sdevs.get(sdev).copied()
    }

    /// Returns the storage device in a drive.
    #[must_use]
    pub fn sdev_in(&self, drive: Fid) -> Option<Fid> {
        self.drives.get(drive).map(|drive| drive.sdev)
    }

    /// Returns the drive of a storage device.
    #[must_use]
    pub fn drive_of(&self, sdev: Fid) -> Option<Fid> {
        self.drive_of.get(sdev).copied()
    }

    /// Returns the controller of a process's devices.
    #[must_use]
    pub fn controller_of(&self, process: Fid) -> Option<Fid> {
        let drive = self.sdevs_of(process).find_map(|sdev| self.drive_of(sdev))?;
        self.drives.get(drive).map(|drive| drive.controller)
    }

    /// Returns the storage device with this path on a host.
    #[must_use]
    pub fn sdev_at(&self, host: &str, path: &str) -> Option<Fid> {
        let mut sdevs = self.processes_of(host).flat_map(|process| self.sdevs_of(process));
        sdevs.find(|sdev| {
            self.entry(*sdev).and_then(|entry| decode::path_of(&entry.value)).as_deref()
                == Some(path)
        })
    }

    /// Returns the host name of a node.
    #[must_use]
    pub fn host(&self, node: Fid) -> Option<&str> {
        self.nodes.get(node).map(|node| &*node.name)
    }

    /// Returns the configured host of a process.
    #[must_use]
    pub fn host_of(&self, process: Fid) -> Option<&str> {
        self.host(self.get_process(process)?.node)
    }

    /// Returns the endpoints of all processes.
    pub fn endpoints(&self) -> impl Iterator<Item = (Fid, &str)> {
        self.named.keys().filter_map(|process| Some((*process, self.endpoint(*process)?)))
    }

    /// Returns the endpoint of `process`.
    #[must_use]
    pub fn endpoint(&self, process: Fid) -> Option<&str> {
        self.named(process).find_map(|named| named.endpoint.as_deref())
    }

    /// Returns the data of a process from the tree by name. The data of its own host comes first: if it is
    /// there, only that counts.
    fn named(&self, process: Fid) -> impl Iterator<Item = &Named> {
        let all = self.named.get(&process).map_or(&[][..], |all| all);
        let host = self.host_of(process);
        let own = all.iter().filter(move |named| host == Some(&*named.host));
        let others = all.iter().filter(move |named| host != Some(&*named.host));
        own.chain(others)
    }

    /// Returns the first profile.
    #[must_use]
    pub fn profile(&self) -> Option<Fid> {
        self.profiles.keys().next().copied()
    }

    /// Returns the profiles and their JSON values.
    pub fn profiles(&self) -> impl Iterator<Item = (Fid, &str)> {
        self.profiles.iter().map(|(fid, value)| (*fid, &**value))
    }

    /// Returns the SNS pools and their names.
    pub fn pools(&self) -> impl Iterator<Item = (Fid, &str)> {
        self.pools.iter().map(|(fid, name)| (*fid, &**name))
    }

    /// Returns the device of a process's own metadata.
    #[must_use]
    pub fn metadata(&self, process: Fid) -> Option<&str> {
        self.named(process).find_map(|named| named.metadata.as_deref())
    }

    /// Returns the types of a process's services.
    pub fn service_names(&self, process: Fid) -> impl Iterator<Item = &str> {
        let services = self.processes.get(process).map_or(&[][..], |process| &process.services);
        services.iter().filter_map(|service| Some(&*self.services.get(*service)?.name))
    }

    /// Returns the candidates for a client's type: the services in the tree by name that are not a server's
    /// (`m0_client_other`, `rgw_s3`, …), and the name in the process's own entry.
    pub fn client_names(&self, process: Fid) -> impl Iterator<Item = alloc::borrow::Cow<'_, str>> {
        let of_services = self.named(process).flat_map(|named| &named.services);
        let own = self.entry(process).and_then(|entry| decode::name_of(&entry.value));
        of_services.map(|name| alloc::borrow::Cow::Borrowed(&**name)).chain(own)
    }

    /// Returns the entry of an object as Consul holds it.
    #[must_use]
    pub fn entry(&self, object: Fid) -> Option<&Entry> {
        self.entries.get(&object)
    }

    /// Removes the entry of an object, but not the object.
    pub fn forget(&mut self, object: Fid) {
        self.entries.remove(&object);
    }

    /// Resets the indexes of all entries.
    pub fn forget_indexes(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.index = 0);
    }

    /// Returns the number of objects with an entry.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether nothing is configured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the state of an object according to the configuration itself: of a node, device, drive,
    /// enclosure or controller.
    #[must_use]
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "no other type has a state in the configuration"
    )]
    pub fn own_state(&self, object: Fid) -> Option<ObjectState> {
        use crate::base::fid::Object;
        match object.object()? {
            Object::Node => self.nodes.get(object).map(|node| node.state),
            Object::Enclosure => self.enclosures.get(object).copied(),
            Object::Controller => self.controllers.get(object).copied(),
            Object::Sdev => self.sdev(object),
            Object::Drive => {
                self.sdev_in(object).map(|sdev| self.sdev(sdev).unwrap_or(ObjectState::Online))
            }
            _ => None,
        }
    }

    /// Returns all objects with a state in the configuration itself.
    pub fn own_objects(&self) -> impl Iterator<Item = Fid> {
        let nodes = self.nodes.iter().map(|(fid, _)| fid);
        nodes
            .chain(self.enclosures.iter().map(|(fid, _)| fid))
            .chain(self.controllers.iter().map(|(fid, _)| fid))
            .chain(self.sdevs.iter().map(|(fid, _)| fid))
            .chain(self.drives.iter().map(|(fid, _)| fid))
    }
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
            assert!(conf.apply(key, value.as_bytes(), 7), "{key}");
        }
        for (key, value) in [
            ("nodes/0x7200000000000001:0x1", "{}"),
            ("nodes/0x6e00000000000001:0x1", "not json"),
            ("nodes/ssu1/processes/x/endpoint", "y"),
            ("a/b/c/d/e/f/g/h/i/j/k/l", "{}"),
            ("", ""),
        ] {
            assert!(!conf.apply(key, value.as_bytes(), 7), "{key}");
        }
        let process = conf.get_process(Fid::process(1)).expect("it was taken");
        assert!(process.confd && !process.hax);
        assert_eq!(process.services, [Fid::service(2), Fid::service(3)]);
        assert_eq!(conf.host(process.node), Some("ssu1"));
        assert_eq!(conf.process_of(Fid::service(3)), Some(Fid::process(1)));
        assert_eq!(conf.endpoint(Fid::process(1)), Some("inet:tcp:127.0.1.1@22002"));
    }
}
