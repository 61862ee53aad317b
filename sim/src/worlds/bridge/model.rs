//! The reference model of `state(object)`, computed from Consul's state alone (`hax.md` 1.10 and DESIGN "What
//! hax does with what it receives").
//!
//! It also decides which states a link may have received. It shares no code with the bridge.

use std::collections::{BTreeMap, BTreeSet};

use hax_core::base::fid::Fid;
use hax_core::ha::note::ObjectState;
use serde_json::Value;

use crate::consul::{CheckView, Consul};

/// A process according to the configuration and Consul.
#[derive(Debug, Default)]
struct Process {
    node: Fid,
    services: Vec<Fid>,
    /// The process is a confd or a hax, which has nothing to replay.
    settles: bool,
    /// The state and the type in `processes/<fid>`.
    record: Option<(String, String)>,
}

/// The correct states.
#[derive(Debug, Default)]
pub(super) struct Model {
    states: BTreeMap<Fid, ObjectState>,
    /// The objects of processes without a known check.
    without_check: BTreeSet<Fid>,
    /// The process of each service and of each process.
    process_of: BTreeMap<Fid, Fid>,
}

impl Model {
    pub(super) fn of(consul: &Consul) -> Self {
        let mut model = Self::default();
        let mut hosts: BTreeMap<Fid, String> = BTreeMap::new();
        let mut processes: BTreeMap<Fid, Process> = BTreeMap::new();
        let mut drives = Vec::new();
        let nodes_of_processes = nodes_of_processes(consul);
        for held in consul.entries("m0conf/") {
            let parts: Vec<&str> = held.key.split('/').skip(1).collect();
            let Ok(value) = serde_json::from_slice::<Value>(held.value) else { continue };
            let text = value["state"].as_str();
            let fids: Vec<Option<Fid>> = parts.iter().map(|part| part.parse().ok()).collect();
            if let (["nodes", _, "processes", ..], [_, Some(node), _, Some(process), ..]) =
                (&parts[..], &fids[..])
                && nodes_of_processes.get(process) != Some(node)
            {
                // An earlier configuration has left this key.
                continue;
            }
            match (&parts[..], &fids[..]) {
                (["nodes", _], [_, Some(node)]) => {
                    hosts.insert(*node, value["name"].as_str().unwrap_or_default().to_owned());
                    model.states.insert(*node, hardware(text, true));
                }
                (["nodes", _, "processes", _], [_, Some(node), _, Some(process)]) => {
                    processes.entry(*process).or_default().node = *node;
                }
                (["nodes", _, _, _, "services", _], [_, _, _, Some(process), _, Some(service)]) => {
                    let entry = processes.entry(*process).or_default();
                    entry.services.push(*service);
                    entry.settles |= matches!(value["name"].as_str(), Some("confd" | "ha"));
                }
                ([.., "sdevs", _], [.., Some(sdev)]) => {
                    model.states.insert(*sdev, device(text.unwrap_or_default()));
                }
                ([.., "encls", _] | [.., "ctrls", _], [.., Some(fid)]) => {
                    model.states.insert(*fid, hardware(text, false));
                }
                ([.., "drives", _], [.., Some(drive)]) => {
                    let sdev = value["sdev"].as_str().and_then(|fid| fid.parse::<Fid>().ok());
                    drives.extend(sdev.map(|sdev| (*drive, sdev)));
                }
                _ => {}
            }
        }
        for (drive, sdev) in drives {
            let state = model.states.get(&sdev).copied().unwrap_or(ObjectState::Online);
            model.states.insert(drive, state);
        }
        for (fid, process) in &mut processes {
            let held = consul.entry(&format!("processes/{fid}")).map(|held| held.value.to_vec());
            process.record = held.and_then(|value| record(&value));
            let verdict = verdict(consul, *fid, hosts.get(&process.node));
            let state = state_of(process, verdict);
            for object in process.services.iter().chain([fid]) {
                model.states.insert(*object, state);
                model.process_of.insert(*object, *fid);
                if verdict.is_none() {
                    model.without_check.insert(*object);
                }
            }
        }
        model
    }

    /// Returns whether there is valid evidence against the life of a process.
    ///
    /// The evidence is a failing check of the process or of its node, or the absence of the node from the
    /// catalog.
    pub(super) fn has_evidence_against(consul: &Consul, process: Fid) -> bool {
        let Some(node) = nodes_of_processes(consul).get(&process).copied() else { return true };
        let value = consul.entry(&format!("m0conf/nodes/{node}")).map(|held| held.value.to_vec());
        let value: Value = serde_json::from_slice(&value.unwrap_or_default()).unwrap_or_default();
        let host = value["name"].as_str().unwrap_or_default().to_owned();
        passes(consul, &host).is_none() || verdict(consul, process, Some(&host)) == Some(false)
    }

    /// Returns all objects that have a state.
    pub(super) fn objects(&self) -> impl Iterator<Item = Fid> {
        self.states.keys().copied()
    }

    /// Returns `state(object)`.
    pub(super) fn state(&self, fid: Fid) -> ObjectState {
        match (self.states.get(&fid), fid.kind()) {
            (Some(state), _) => *state,
            // Root, profile, pool, pver, site, …
            (None, b't' | b'D' | b'p' | b'o' | b'v' | b'j' | b'S' | b'a' | b'g' | b'l') => {
                ObjectState::Online
            }
            (None, _) => ObjectState::Transient,
        }
    }

    /// Returns whether Consul knows no check of the object's process.
    ///
    /// A posted check of such a process counts for a while, though Consul has removed it: there is no other
    /// information about that process.
    pub(super) fn has_no_check(&self, fid: Fid) -> bool {
        self.without_check.contains(&fid)
    }

    /// Returns whether an object is a process itself or one of its services.
    ///
    /// All links but the process's own are notified of the end of its life. No link is notified additionally
    /// that the process is transient.
    pub(super) fn is_of(&self, process: Fid, object: Fid) -> bool {
        self.process_of.get(&object) == Some(&process)
    }

    /// Returns whether a link that has last received the state `told` needs no other note.
    ///
    /// A stopped process is sent as failed, and a transient state does not revoke that.
    pub(super) fn is_current(&self, told: ObjectState, fid: Fid) -> bool {
        let state = self.state(fid);
        told == state
            || matches!(fid.kind(), b'r' | b's')
                && told == ObjectState::Failed
                && state == ObjectState::Transient
    }
}

/// Returns the state and the type in a value of `processes/`, without their common prefix.
pub(super) fn record(value: &[u8]) -> Option<(String, String)> {
    let value: Value = serde_json::from_slice(value).ok()?;
    let text =
        |name: &str| value[name].as_str()?.strip_prefix("M0_CONF_HA_PROCESS_").map(str::to_owned);
    Some((text("state")?, text("type")?))
}

/// Returns the node of each process: the node whose host has the process in the tree of names.
///
/// If there are several such nodes, the node with more keys below the process wins.
fn nodes_of_processes(consul: &Consul) -> BTreeMap<Fid, Fid> {
    let mut hosts: BTreeMap<String, Vec<Fid>> = BTreeMap::new();
    let mut by_fid: BTreeMap<(Fid, Fid), usize> = BTreeMap::new();
    let mut by_name: BTreeSet<(String, Fid)> = BTreeSet::new();
    for held in consul.entries("m0conf/nodes/") {
        let parts: Vec<&str> = held.key.split('/').skip(2).collect();
        match (&parts[..], parts[0].parse::<Fid>()) {
            ([_], Ok(node)) => {
                let value: Value = serde_json::from_slice(held.value).unwrap_or_default();
                let name = value["name"].as_str().unwrap_or_default();
                hosts.entry(name.to_owned()).or_default().push(node);
            }
            ([_, "processes", process, ..], Ok(node)) => {
                if let Ok(process) = process.parse() {
                    *by_fid.entry((process, node)).or_default() += 1;
                }
            }
            ([host, "processes", key, ..], Err(_)) => {
                let process = key.parse().ok().map(Fid::process);
                by_name.extend(process.map(|process| ((*host).to_owned(), process)));
            }
            _ => {}
        }
    }
    let host_of = |node: &Fid| hosts.iter().find(|(_, nodes)| nodes.contains(node));
    by_fid.retain(|(process, node), _| {
        host_of(node).is_some_and(|(host, _)| by_name.contains(&(host.clone(), *process)))
    });
    let mut nodes_of_processes: Vec<((Fid, Fid), usize)> = by_fid.into_iter().collect();
    nodes_of_processes.sort_by_key(|(_, below)| *below);
    nodes_of_processes.into_iter().map(|(place, _)| place).collect()
}

/// Returns whether the node of a host passes, by Consul's own checks of it. `None` if there is no such node.
fn passes(consul: &Consul, host: &str) -> Option<bool> {
    let mut nodes: BTreeMap<&str, bool> = BTreeMap::new();
    for check in consul.checks().filter(|check| is_of_node(check) && host_of(check.node) == host) {
        *nodes.entry(check.node).or_insert(true) &= check.passing;
    }
    (!nodes.is_empty()).then(|| nodes.values().any(|passes| *passes))
}

fn is_of_node(check: &CheckView<'_>) -> bool {
    check.service.is_empty() && matches!(check.id, "serfHealth" | "_node_maintenance")
}

/// Returns the host of a node. Its agent may have generated the rest of the name.
pub(super) fn host_of(node: &str) -> &str {
    node.split(':').next().unwrap_or(node)
}

/// Returns whether the checks of a process pass. `None` if there are none.
fn verdict(consul: &Consul, process: Fid, host: Option<&String>) -> Option<bool> {
    let host = host?;
    if passes(consul, host) == Some(false) {
        return Some(false);
    }
    let id = process.key.to_string();
    let mut nodes: BTreeMap<&str, bool> = BTreeMap::new();
    for check in consul.checks().filter(|c| c.service == id && host_of(c.node) == host) {
        let of_node = |other: &CheckView<'_>| is_of_node(other) && other.node == check.node;
        if consul.checks().filter(of_node).all(|other| other.passing) {
            *nodes.entry(check.node).or_insert(true) &= check.passing;
        }
    }
    (!nodes.is_empty()).then(|| nodes.values().any(|passes| *passes))
}

fn state_of(process: &Process, verdict: Option<bool>) -> ObjectState {
    let Some((state, kind)) = &process.record else { return ObjectState::Transient };
    match (verdict, kind.as_str(), state.as_str()) {
        (Some(false), ..) | (_, "M0MKFS", _) => ObjectState::Transient,
        (_, _, "STARTED") if process.settles => ObjectState::Online,
        (_, _, "STARTED") => ObjectState::DtmRecovering,
        (_, _, "DTM_RECOVERED") => ObjectState::Online,
        _ => ObjectState::Transient,
    }
}

fn device(text: &str) -> ObjectState {
    match text {
        "offline" => ObjectState::Transient,
        "failed" => ObjectState::Failed,
        "repairing" => ObjectState::Repair,
        "repaired" => ObjectState::Repaired,
        "rebalancing" => ObjectState::Rebalance,
        _ => ObjectState::Online,
    }
}

fn hardware(text: Option<&str>, node: bool) -> ObjectState {
    match text {
        None | Some("M0_NC_ONLINE") => ObjectState::Online,
        Some("M0_NC_FAILED") => ObjectState::Failed,
        Some("M0_NC_REPAIR") if node => ObjectState::Repair,
        Some("M0_NC_REPAIRED") => ObjectState::Repaired,
        Some("M0_NC_REBALANCE") if node => ObjectState::Rebalance,
        Some("M0_NC_DTM_RECOVERING") => ObjectState::DtmRecovering,
        Some(_) => ObjectState::Transient,
    }
}
