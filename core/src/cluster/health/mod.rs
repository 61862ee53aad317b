//! Consul's checks, from two sources: the replica of `health/state/any` and the payloads posted by watch
//! handlers. For each check the largest `ModifyIndex` wins.
//!
//! A node is assessed by Consul's own checks, `serfHealth` and maintenance. Custom checks of a node do not
//! count for its processes. A process is assessed by the checks of its service on the node where the
//! configuration has it. A host may have several Consul nodes: hare gives the node a new name at each start
//! of its agent, and the old name remains for up to 72 hours. The passing nodes count; if none passes, the
//! host is dead. The order of the writes does not matter: the servers detect the death of the old node after
//! the new one has joined.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use core::ops::Bound;

use crate::base::fid::Fid;
use crate::base::mutant::{Mutant, mutant};

/// One check from one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Consul's name of the node, for example `ssu1:0a1b2c3d`.
    pub node: Box<str>,
    /// The id of the check, unique on its node.
    pub id: Box<str>,
    /// The checked process; `None` for a check of the node itself.
    pub process: Option<Fid>,
    /// Whether the service has one of hare's names of Motr's services, or no name.
    pub named: bool,
    /// Whether the status is `passing`. Consul's `warning` is a failure, as in the old daemon.
    pub passing: bool,
    /// The `ModifyIndex`.
    pub index: u64,
}

/// Consul's own checks of a node: the liveness of its agent, and the maintenance mode set by an operator
/// (`structs.SerfCheckID` and `structs.NodeMaint` of Consul 1.8).
const OF_NODE: [&str; 2] = [SERF, "_node_maintenance"];
const SERF: &str = "serfHealth";

/// Returns whether a check of a node counts for its processes.
#[must_use]
pub fn counts_for_node(check: &str) -> bool {
    OF_NODE.contains(&check) || mutant(Mutant::ForeignChecks)
}

/// Returns the process of a Consul service id: the decimal key that hare registers, or a fid (5/HAX's
/// sample). `None` for services that are not Motr's.
#[must_use]
pub fn process_of_service_id(id: &str) -> Option<Fid> {
    let fid = match id.parse() {
        Ok(fid) => fid,
        Err(_) if id.bytes().all(|b| b.is_ascii_digit()) => Fid::process(id.parse().ok()?),
        Err(_) => return None,
    };
    fid.is_process().then_some(fid)
}

/// Returns the host of a Consul node: hare names nodes `<host>:<8 hex digits, new at each start>`.
#[must_use]
pub fn host_of(node: &str) -> &str {
    node.split_once(':').map_or(node, |(host, _)| host)
}

/// The joint result of a process's checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The node and the service pass.
    Passing,
    /// The node or the service fails.
    Failing,
    /// The process has no check where it is configured, and its node passes or is unknown too.
    Unregistered,
}

/// The checks of one process's service, by node and id.
type ServiceChecks = BTreeMap<(Box<str>, Box<str>), CheckState>;

/// Consul's own checks of one node, by id.
type NodeChecks = BTreeMap<Box<str>, CheckState>;

/// All checks.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// The checks of nodes, by node.
    nodes: BTreeMap<Box<str>, NodeChecks>,
    /// The checks of services, by process, then by node and id.
    services: BTreeMap<Fid, ServiceChecks>,
    /// The hosts with a node that has left the catalog, with the index of the first read without it. Consul's
    /// servers remove an unreachable server within seconds after its check fails.
    gone: BTreeMap<Box<str>, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CheckState {
    passing: bool,
    named: bool,
    index: u64,
    /// The first known index of the status. A check's output may change without its status.
    since: u64,
    /// The check comes from a watch's payload and is not confirmed by a read yet.
    posted: bool,
}

impl CheckState {
    /// Returns the first index of the failure, as far as it is confirmed by Consul.
    fn failing_since(&self) -> Option<u64> {
        (!self.passing && !self.posted).then_some(self.since)
    }
}

/// The source of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A complete read at this index. It is authoritative for all checks that are not newer.
    Reading(u64),
    /// A post.
    Post,
}

/// The processes and hosts affected by a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// The affected processes.
    pub processes: BTreeSet<Fid>,
    /// The affected hosts, with all their processes.
    pub hosts: BTreeSet<Box<str>>,
}

impl Health {
    /// Applies a check unless a newer state of it is known.
    pub fn apply(&mut self, check: Check, source: Source, concerned: &mut Dirty) {
        let Check { node, id, process, named, passing, index } = check;
        let seen =
            CheckState { passing, named, index, since: index, posted: source == Source::Post };
        match process {
            Some(process) => {
                if put(self.services.entry(process).or_default(), (node, id), seen, source) {
                    concerned.processes.insert(process);
                }
            }
            None => {
                let host: Box<str> = host_of(&node).into();
                self.gone.remove(&host);
                if put(self.nodes.entry(node).or_default(), id, seen, source) {
                    concerned.hosts.insert(host);
                }
            }
        }
    }

    /// Drops the checks missing in a complete read at `index`. Posted checks newer than the read are kept.
    pub fn retain(
        &mut self,
        index: u64,
        read: &BTreeSet<(Box<str>, Box<str>)>,
        concerned: &mut Dirty,
    ) {
        let mut left: BTreeSet<Box<str>> = BTreeSet::new();
        self.nodes.retain(|node, checks| {
            let before = checks.len();
            let confirmed = checks.values().any(|seen| !seen.posted);
            checks.retain(|id, seen| {
                seen.index > index || read.contains(&(node.clone(), id.clone()))
            });
            if checks.len() != before {
                concerned.hosts.insert(host_of(node).into());
            }
            if checks.is_empty() && confirmed {
                left.insert(host_of(node).into());
            }
            !checks.is_empty()
        });
        for host in left {
            if !self.knows(&host) {
                self.gone.insert(host, index);
            }
        }
        self.services.retain(|process, checks| {
            let before = checks.len();
            checks.retain(|key, seen| seen.index > index || read.contains(key));
            if checks.len() != before {
                concerned.processes.insert(*process);
            }
            !checks.is_empty()
        });
    }

    /// Drops the posted checks with a larger index than Consul's: they were false. Returns whether there were
    /// any.
    pub fn invalidate_posted(&mut self, index: u64, concerned: &mut Dirty) -> bool {
        let mut found = false;
        let mut keep = |seen: &CheckState| {
            let lie = seen.posted && seen.index > index;
            found |= lie;
            !lie
        };
        self.nodes.retain(|node, checks| {
            let before = checks.len();
            checks.retain(|_, seen| keep(seen));
            if checks.len() != before {
                concerned.hosts.insert(host_of(node).into());
            }
            !checks.is_empty()
        });
        self.services.retain(|process, checks| {
            let before = checks.len();
            checks.retain(|_, seen| keep(seen));
            if checks.len() != before {
                concerned.processes.insert(*process);
            }
            !checks.is_empty()
        });
        found
    }

    /// Returns whether a read contained a check of the same process or node as this one.
    #[must_use]
    pub fn is_shown(&self, check: &Check) -> bool {
        let is_read = |seen: &CheckState| !seen.posted;
        match check.process {
            Some(process) => {
                self.services.get(&process).is_some_and(|checks| checks.values().any(is_read))
            }
            None => self.nodes.get(&check.node).is_some_and(|checks| checks.values().any(is_read)),
        }
    }

    /// Returns the number of known checks of the same process or node as this one.
    #[must_use]
    pub fn alike(&self, check: &Check) -> usize {
        match check.process {
            Some(process) => self.services.get(&process).map_or(0, BTreeMap::len),
            None => self.nodes.get(&check.node).map_or(0, BTreeMap::len),
        }
    }

    /// Returns whether a node of this host is known by another name.
    #[must_use]
    pub fn is_renamed(&self, node: &str) -> bool {
        !self.nodes.contains_key(node) && self.knows(host_of(node))
    }

    /// Forgets all checks after Consul's indexes have restarted.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Returns the number of known checks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.values().map(BTreeMap::len).sum::<usize>()
            + self.services.values().map(BTreeMap::len).sum::<usize>()
    }

    /// Returns whether no check is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.services.is_empty()
    }

    /// Returns the verdict on a process configured on `host`.
    #[must_use]
    pub fn verdict(&self, process: Fid, host: Option<&str>) -> Verdict {
        if host.is_some_and(|host| !self.host_passes(host)) {
            return Verdict::Failing;
        }
        let mut last: Option<(&str, bool)> = None;
        for (node, seen) in self.own_checks(process, host) {
            match &mut last {
                Some((of, passes)) if *of == node || mutant(Mutant::ForeignServices) => {
                    *passes &= seen.passing;
                }
                Some((_, true)) => break,
                _ => last = Some((node, seen.passing)),
            }
        }
        match last {
            None => Verdict::Unregistered,
            Some((_, true)) => Verdict::Passing,
            Some((_, false)) => Verdict::Failing,
        }
    }

    /// Returns the first index of the failure of a process's checks on the live nodes of `host`, as far as
    /// they are confirmed by Consul; `None` if they pass on one of the nodes.
    #[must_use]
    pub fn process_failing_since(&self, process: Fid, host: Option<&str>) -> Option<u64> {
        let (mut latest, mut last) = (None, None);
        for (node, seen) in self.own_checks(process, host) {
            match &mut last {
                Some((of, since)) if *of == node => *since = seen.failing_since().max(*since),
                _ => {
                    if let Some((_, since)) = last.replace((node, seen.failing_since())) {
                        latest = latest.max(Some(since?));
                    }
                }
            }
        }
        latest.max(Some(last?.1?))
    }

    /// Returns the first index without a passing node of `host`, as far as this is confirmed by Consul;
    /// `None` if a node passes.
    #[must_use]
    pub fn host_failing_since(&self, host: &str) -> Option<u64> {
        self.failing_nodes(host, |_| true).or_else(|| self.gone.get(host).copied())
    }

    /// Returns the first index of the maintenance of the nodes of `host`.
    #[must_use]
    pub fn maintenance_since(&self, host: &str) -> Option<u64> {
        self.failing_nodes(host, |check| check != SERF)
    }

    fn failing_nodes(&self, host: &str, counts: impl Fn(&str) -> bool) -> Option<u64> {
        let mut latest = None;
        for (_, checks) in self.nodes_of(host) {
            let checks = checks.iter().filter(|(id, _)| counts(id));
            let since = checks.filter_map(|(_, seen)| seen.failing_since()).max();
            latest = latest.max(Some(since?));
        }
        latest
    }

    /// Returns the checks of a process's own service, node by node.
    ///
    /// Only the passing nodes of its host count. If several services have the process's id, those with a name
    /// of Motr's services count.
    fn own_checks<'a>(
        &'a self,
        process: Fid,
        host: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a str, &'a CheckState)> {
        let all = self.services.get(&process).into_iter().flatten();
        let own = all.map(|((node, _), seen)| (&**node, seen)).filter(move |(node, _)| {
            let here = host.is_none_or(|host| host_of(node) == host);
            (here || mutant(Mutant::ForeignServices)) && self.node_passes(node)
        });
        let named = own.clone().any(|(_, seen)| seen.named);
        own.filter(move |(_, seen)| seen.named || !named || mutant(Mutant::ForeignServices))
    }

    fn node_passes(&self, node: &str) -> bool {
        self.nodes.get(node).is_none_or(passes)
    }

    fn nodes_of<'a>(&'a self, host: &'a str) -> impl Iterator<Item = (&'a str, &'a NodeChecks)> {
        let from = (Bound::Included(host), Bound::Unbounded);
        let all = self.nodes.range::<str, _>(from).map(|(node, checks)| (&**node, checks));
        all.take_while(move |(node, _)| node.starts_with(host))
            .filter(move |(n, _)| host_of(n) == host)
    }

    /// Returns whether Consul's catalog has a node of `host`, according to the checks seen so far.
    #[must_use]
    pub fn knows(&self, host: &str) -> bool {
        self.nodes_of(host).next().is_some()
    }

    /// Returns whether a node of `host` passes. An unknown host passes.
    #[must_use]
    pub fn host_passes(&self, host: &str) -> bool {
        let mut nodes = self.nodes_of(host).peekable();
        if mutant(Mutant::FormerNames) {
            return nodes.all(|(_, checks)| passes(checks));
        }
        nodes.peek().is_none() || nodes.any(|(_, checks)| passes(checks))
    }

    /// Returns whether the node of `host` has left the catalog since hax started.
    ///
    /// Another hax may have started later and not know it. So the state of an object never depends on this,
    /// only the writes that follow from it.
    #[must_use]
    pub fn is_gone(&self, host: &str) -> bool {
        self.gone.contains_key(host)
    }
}

fn passes(checks: &NodeChecks) -> bool {
    checks.values().all(|seen| seen.passing)
}

/// Stores a check unless a state at least as new is known. Returns whether anything changed.
///
/// A read replaces posted checks and checks from a history before a reset of Consul, except those newer than
/// the read.
fn put<K: Ord>(
    checks: &mut BTreeMap<K, CheckState>,
    key: K,
    seen: CheckState,
    source: Source,
) -> bool {
    match checks.entry(key) {
        alloc::collections::btree_map::Entry::Vacant(slot) => {
            slot.insert(seen);
            true
        }
        alloc::collections::btree_map::Entry::Occupied(mut slot) => {
            let old = *slot.get();
            let replaces = match source {
                Source::Reading(index) => {
                    old.index <= index && (old.posted || seen.index < old.index)
                }
                Source::Post => false,
            };
            if seen.index <= old.index && !replaces {
                return false;
            }
            let since =
                if seen.passing == old.passing { old.since.min(seen.index) } else { seen.since };
            slot.insert(CheckState { since, ..seen });
            // The index alone may decide between two nodes, so a new index is a change too.
            true
        }
    }
}

#[cfg(test)]
mod tests;
