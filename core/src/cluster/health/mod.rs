//! What Consul's checks say, from two sources at once: the replica of `health/state/any` and the
//! payloads that watch handlers post. For each check the newest `ModifyIndex` wins.
//!
//! A node is judged by Consul's own checks of it, `serfHealth` and maintenance: what others have checked
//! on it says nothing of its processes. A process is judged by the checks of its service on the node where
//! the configuration has it. A host may have several nodes, since hare names one anew at each start of
//! its agent and the old name lingers for up to 72 hours: those that pass count, and where none does the
//! host is dead. Which of them was written last says nothing: the servers find out that the old one is
//! dead after the new one has joined.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use core::ops::Bound;

use crate::base::fid::Fid;
use crate::base::mutant::{Mutant, mutant};

/// One check, as a source tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Consul's name of the node, for example `ssu1:0a1b2c3d`.
    pub node: Box<str>,
    /// The check's id, unique on its node.
    pub id: Box<str>,
    /// The process that it checks; `None` for a check of the node itself.
    pub process: Option<Fid>,
    /// Whether its service has one of the names that hare gives to Motr's services, or none is told.
    pub named: bool,
    /// Whether its status is `passing`: Consul's `warning` is a failure, as in the old daemon.
    pub passing: bool,
    /// `ModifyIndex`.
    pub index: u64,
}

/// Consul's own checks of a node: that its agent lives, and that an operator has not taken it out of use
/// (`structs.SerfCheckID` and `structs.NodeMaint` of Consul 1.8).
const OF_NODE: [&str; 2] = [SERF, "_node_maintenance"];
const SERF: &str = "serfHealth";

/// Whether a check of a node says anything of its processes.
#[must_use]
pub fn counts_for_node(check: &str) -> bool {
    OF_NODE.contains(&check) || mutant(Mutant::ForeignChecks)
}

/// The process that a Consul service id names: the decimal key that hare registers, or a fid
/// (5/HAX's sample). `None` for services that are not Motr's.
#[must_use]
pub fn process_of_service_id(id: &str) -> Option<Fid> {
    let fid = match id.parse() {
        Ok(fid) => fid,
        Err(_) if id.bytes().all(|b| b.is_ascii_digit()) => Fid::process(id.parse().ok()?),
        Err(_) => return None,
    };
    fid.is_process().then_some(fid)
}

/// The host of a Consul node: hare names nodes `<host>:<8 hex digits, new at each start>`.
#[must_use]
pub fn host_of(node: &str) -> &str {
    node.split_once(':').map_or(node, |(host, _)| host)
}

/// What the checks of a process say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its node and its service pass.
    Passing,
    /// Its node or its service does not.
    Failing,
    /// No check is about it where it is configured, and its node passes or is not known either.
    Unregistered,
}

/// The checks of one process's service, by node and id.
type ServiceChecks = BTreeMap<(Box<str>, Box<str>), CheckState>;

/// Consul's own checks of one node, by id.
type NodeChecks = BTreeMap<Box<str>, CheckState>;

/// All checks.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Checks of nodes, by node.
    nodes: BTreeMap<Box<str>, NodeChecks>,
    /// Checks of services, by process, then by node and id.
    services: BTreeMap<Fid, ServiceChecks>,
    /// Hosts whose node was known and has left the catalog, and the index of the reading that missed it:
    /// Consul's servers drop a server that they cannot reach within seconds of its check's failing.
    gone: BTreeMap<Box<str>, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CheckState {
    passing: bool,
    named: bool,
    index: u64,
    /// The index at which it was first seen as it is: a check's output may change beside its status.
    since: u64,
    /// A watch's payload said so, and no reading has yet.
    posted: bool,
}

impl CheckState {
    /// Since which index it fails, as far as Consul itself has said so.
    fn failing_since(&self) -> Option<u64> {
        (!self.passing && !self.posted).then_some(self.since)
    }
}

/// Who tells of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A complete reading at this index: it is the truth about all that is not newer.
    Reading(u64),
    /// Somebody who posted it.
    Post,
}

/// Whom a change concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// These processes.
    pub processes: BTreeSet<Fid>,
    /// All processes on these hosts.
    pub hosts: BTreeSet<Box<str>>,
}

impl Health {
    /// Takes a check unless a newer state of it is known.
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

    /// Drops what a complete reading at `index` did not have. What is newer than the reading, from
    /// a payload, stays.
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

    /// Drops posted checks of a later index than Consul has: whoever told of them lied. Tells whether there
    /// were any.
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

    /// Whether a reading had this check.
    #[must_use]
    pub fn is_confirmed(&self, check: &Check) -> bool {
        let seen = match check.process {
            Some(process) => self
                .services
                .get(&process)
                .and_then(|checks| checks.get(&(check.node.clone(), check.id.clone()))),
            None => self.nodes.get(&check.node).and_then(|checks| checks.get(&check.id)),
        };
        seen.is_some_and(|seen| !seen.posted)
    }

    /// How many checks are known that count for the same as this one.
    #[must_use]
    pub fn alike(&self, check: &Check) -> usize {
        match check.process {
            Some(process) => self.services.get(&process).map_or(0, BTreeMap::len),
            None => self.nodes.get(&check.node).map_or(0, BTreeMap::len),
        }
    }

    /// Whether a node of this host is known by another name.
    #[must_use]
    pub fn is_renamed(&self, node: &str) -> bool {
        !self.nodes.contains_key(node) && self.knows(host_of(node))
    }

    /// Forgets everything: Consul's indexes have begun anew.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// How many checks are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.values().map(BTreeMap::len).sum::<usize>()
            + self.services.values().map(BTreeMap::len).sum::<usize>()
    }

    /// Whether no check is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.services.is_empty()
    }

    /// The verdict on a process that the configuration places on `host`.
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

    /// Since which index the checks of a process have been failing on the nodes of `host` that live, as
    /// far as Consul itself has said so; `None` if they pass on one of them.
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

    /// Since which index no node of `host` has passed, or there has been none, as far as Consul itself has
    /// said so; `None` if one passes.
    #[must_use]
    pub fn host_failing_since(&self, host: &str) -> Option<u64> {
        self.failing_nodes(host, |_| true).or_else(|| self.gone.get(host).copied())
    }

    /// Since which index the nodes of `host` have been in maintenance.
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

    /// The checks of a process's own service, node by node: on the nodes of its host that pass, and of
    /// several services with its id those that have a name of Motr's.
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

    /// Whether Consul's catalog has a node of `host`, as far as has been seen.
    #[must_use]
    pub fn knows(&self, host: &str) -> bool {
        self.nodes_of(host).next().is_some()
    }

    /// Whether a node of `host` passes; a host that is not known does.
    #[must_use]
    pub fn host_passes(&self, host: &str) -> bool {
        let mut nodes = self.nodes_of(host).peekable();
        if mutant(Mutant::FormerNames) {
            return nodes.all(|(_, checks)| passes(checks));
        }
        nodes.peek().is_none() || nodes.any(|(_, checks)| passes(checks))
    }

    /// Whether the node of `host` has left the catalog under our eyes. Another hax may have begun later and
    /// not know: no state of an object depends on it, only what is then written for all.
    #[must_use]
    pub fn is_gone(&self, host: &str) -> bool {
        self.gone.contains_key(host)
    }
}

fn passes(checks: &NodeChecks) -> bool {
    checks.values().all(|seen| seen.passing)
}

/// Puts `seen` unless what is there is as new; tells whether anything changed. A reading replaces what
/// was posted, and what is of a history that Consul has gone back behind, but for what is newer than the
/// reading.
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
            // An index alone may decide between two nodes, so that is a change too.
            true
        }
    }
}

#[cfg(test)]
mod tests;
