//! What Consul's checks say, from two sources at once: the replica of `health/state/any` and the
//! payloads that watch handlers post. For each check the newest `ModifyIndex` wins.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};

use crate::base::fid::Fid;

/// One check, as a source tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Consul's name of the node, for example `ssu1:0a1b2c3d`.
    pub node: Box<str>,
    /// The check's id, unique on its node.
    pub id: Box<str>,
    /// The process that it checks; `None` for a check of the node itself.
    pub process: Option<Fid>,
    /// Whether its status is `passing`: Consul's `warning` is a failure, as in the old daemon.
    pub passing: bool,
    /// `ModifyIndex`.
    pub index: u64,
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
    /// No check is about it, and its node passes or is not known either.
    Unregistered,
}

/// The checks of one process's service, by node and id.
type ServiceChecks = BTreeMap<(Box<str>, Box<str>), Seen>;

/// All checks.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Checks of nodes, by node and id.
    nodes: BTreeMap<Box<str>, BTreeMap<Box<str>, Seen>>,
    /// Checks of services, by process, then by node and id.
    services: BTreeMap<Fid, ServiceChecks>,
    /// Hosts whose node was known and has left the catalog, and the index of the reading that missed it:
    /// Consul's servers drop a server that they cannot reach within seconds of its check's failing.
    gone: BTreeMap<Box<str>, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    passing: bool,
    index: u64,
    /// The index at which it was first seen as it is: a check's output may change beside its status.
    since: u64,
    /// A watch's payload said so, and no reading has yet.
    posted: bool,
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
pub struct Concerned {
    /// These processes.
    pub processes: BTreeSet<Fid>,
    /// All processes on these hosts.
    pub hosts: BTreeSet<Box<str>>,
}

impl Health {
    /// Takes a check unless a newer state of it is known.
    pub fn take(&mut self, check: Check, source: Source, concerned: &mut Concerned) {
        let Check { node, id, process, passing, index } = check;
        let seen = Seen { passing, index, since: index, posted: source == Source::Post };
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
        concerned: &mut Concerned,
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
            if self.node_of(&host).is_none() {
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
    pub fn distrust(&mut self, index: u64, concerned: &mut Concerned) -> bool {
        let mut found = false;
        let mut keep = |seen: &Seen| {
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
        !self.nodes.contains_key(node) && self.node_of(host_of(node)).is_some()
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
    ///
    /// A restarted agent registers everything again under a new node name, and the old name's
    /// checks linger: where a process has checks on several nodes, the node of the newest counts.
    #[must_use]
    pub fn verdict(&self, process: Fid, host: Option<&str>) -> Verdict {
        let checks = self.services.get(&process);
        let newest = checks.and_then(|checks| checks.iter().max_by_key(|(_, seen)| seen.index));
        if let (Some(checks), Some(((node, _), _))) = (checks, newest) {
            let passing = checks.iter().all(|((n, _), seen)| n != node || seen.passing);
            return if passing && self.node_passes(node) {
                Verdict::Passing
            } else {
                Verdict::Failing
            };
        }
        match host.is_none_or(|host| self.host_passes(host)) {
            true => Verdict::Unregistered,
            false => Verdict::Failing,
        }
    }

    /// Since which index the checks of a process, or of its node, have been failing, or its node is
    /// gone, as far as Consul itself has said so; `None` if nothing of that is so.
    #[must_use]
    pub fn failing_since(&self, process: Fid, host: Option<&str>) -> Option<u64> {
        let failing = |seen: &&Seen| !seen.passing && !seen.posted;
        let failing = self.counting(process, host).filter(failing).map(|seen| seen.since);
        let unknown = !self.services.contains_key(&process);
        let gone = host.filter(|_| unknown).and_then(|host| self.gone.get(host)).copied();
        failing.chain(gone).max()
    }

    /// The checks that count for a process.
    fn counting(&self, process: Fid, host: Option<&str>) -> impl Iterator<Item = &Seen> {
        let newest = self.services.get(&process).and_then(|checks| {
            let ((node, _), _) = checks.iter().max_by_key(|(_, seen)| seen.index)?;
            Some((checks, node))
        });
        let of_service = newest.into_iter().flat_map(|(checks, node)| {
            checks.iter().filter(move |((n, _), _)| n == node).map(|(_, seen)| seen)
        });
        let node = newest.map(|(_, node)| &**node).or_else(|| self.node_of(host?));
        let of_node =
            node.and_then(|node| self.nodes.get(node)).into_iter().flat_map(|c| c.values());
        of_service.chain(of_node)
    }

    fn node_passes(&self, node: &str) -> bool {
        self.nodes.get(node).is_none_or(|checks| checks.values().all(|seen| seen.passing))
    }

    /// Consul's name of the node of `host`: of several, the one whose checks are newest.
    fn node_of(&self, host: &str) -> Option<&str> {
        let names = self.nodes.iter().filter(|(node, _)| host_of(node) == host);
        let newest = names.max_by_key(|(_, checks)| checks.values().map(|seen| seen.index).max());
        newest.map(|(node, _)| &**node)
    }

    /// Whether the node of `host` passes; one that is not known does.
    #[must_use]
    pub fn host_passes(&self, host: &str) -> bool {
        self.node_of(host).is_none_or(|node| self.node_passes(node))
    }

    /// Whether the node of `host` has left the catalog under our eyes. Another hax may have begun later and
    /// not know: no state of an object depends on it, only what is then written for all.
    #[must_use]
    pub fn is_gone(&self, host: &str) -> bool {
        self.gone.contains_key(host)
    }
}

/// Puts `seen` unless what is there is as new; tells whether anything changed. A reading replaces what
/// was posted, but for what is newer than the reading.
fn put<K: Ord>(checks: &mut BTreeMap<K, Seen>, key: K, seen: Seen, source: Source) -> bool {
    match checks.entry(key) {
        alloc::collections::btree_map::Entry::Vacant(slot) => {
            slot.insert(seen);
            true
        }
        alloc::collections::btree_map::Entry::Occupied(mut slot) => {
            let old = *slot.get();
            let replaces = match source {
                Source::Reading(index) => old.posted && old.index <= index,
                Source::Post => false,
            };
            if seen.index <= old.index && !replaces {
                return false;
            }
            let since =
                if seen.passing == old.passing { old.since.min(seen.index) } else { seen.since };
            slot.insert(Seen { since, ..seen });
            // An index alone may decide between two nodes, so that is a change too.
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(node: &str, id: &str, process: Option<u64>, passing: bool, index: u64) -> Check {
        let process = process.map(Fid::process);
        Check { node: node.into(), id: id.into(), process, passing, index }
    }

    fn health(checks: &[Check]) -> Health {
        let mut health = Health::default();
        for check in checks {
            health.take(check.clone(), Source::Reading(100), &mut Concerned::default());
        }
        health
    }

    #[test]
    fn ids_of_both_forms_are_understood() {
        assert_eq!(process_of_service_id("4"), Some(Fid::process(4)));
        assert_eq!(process_of_service_id("0x7200000000000001:0x0004"), Some(Fid::process(4)));
        for id in ["web-1", "", "0x7300000000000001:0x4", "99999999999999999999", "+4"] {
            assert_eq!(process_of_service_id(id), None, "{id}");
        }
    }

    #[test]
    fn a_failing_node_pulls_down_its_services_whatever_the_order() {
        let node = check("ssu1:aa", "serfHealth", None, false, 9);
        let service = check("ssu1:aa", "service:4", Some(4), true, 8);
        for checks in [[node.clone(), service.clone()], [service, node]] {
            assert_eq!(health(&checks).verdict(Fid::process(4), None), Verdict::Failing);
        }
    }

    #[test]
    fn the_newest_index_wins() {
        let old = check("ssu1", "service:4", Some(4), false, 7);
        let new = check("ssu1", "service:4", Some(4), true, 8);
        for checks in [[old.clone(), new.clone()], [new, old]] {
            assert_eq!(health(&checks).verdict(Fid::process(4), None), Verdict::Passing);
        }
    }

    #[test]
    fn a_former_life_of_a_node_does_not_count() {
        let health = health(&[
            check("ssu1:aa", "serfHealth", None, false, 30),
            check("ssu1:aa", "service:4", Some(4), true, 10),
            check("ssu1:bb", "serfHealth", None, true, 19),
            check("ssu1:bb", "service:4", Some(4), true, 20),
        ]);
        assert_eq!(health.verdict(Fid::process(4), Some("ssu1")), Verdict::Passing);
    }

    #[test]
    fn an_unregistered_process_is_judged_by_its_node() {
        let health = health(&[check("ssu1:aa", "serfHealth", None, false, 5)]);
        assert_eq!(health.verdict(Fid::process(4), Some("ssu1")), Verdict::Failing);
        assert_eq!(health.verdict(Fid::process(4), Some("ssu2")), Verdict::Unregistered);
    }

    #[test]
    fn a_node_is_known_by_its_whole_name() {
        let checks = [("ssu1", true, 5), ("ssu10", false, 6), ("ssu", false, 7)];
        let checks = checks.map(|(host, passes, index)| {
            check(&alloc::format!("{host}:0a1b2c3d"), "serfHealth", None, passes, index)
        });
        let health = health(&checks);
        assert!(health.host_passes("ssu1") && !health.host_passes("ssu10"));
        assert!(!health.host_passes("ssu"));
    }

    #[test]
    fn a_node_that_left_the_catalog_is_gone_until_it_is_back() {
        let read = |checks: &[Check]| -> BTreeSet<(Box<str>, Box<str>)> {
            checks.iter().map(|check| (check.node.clone(), check.id.clone())).collect()
        };
        let other = check("ssu2:cc", "serfHealth", None, true, 5);
        let mut health = health(&[
            check("ssu1:aa", "serfHealth", None, true, 5),
            check("ssu1:aa", "service:4", Some(4), true, 5),
            other.clone(),
        ]);
        let mut concerned = Concerned::default();
        health.retain(10, &read(core::slice::from_ref(&other)), &mut concerned);
        assert!(concerned.hosts.contains("ssu1"));
        assert!(health.is_gone("ssu1"));
        assert_eq!(health.failing_since(Fid::process(4), Some("ssu1")), Some(10));
        // What is told of it, and a node that nobody ever saw, are not judged so.
        assert_eq!(health.verdict(Fid::process(4), Some("ssu1")), Verdict::Unregistered);
        assert_eq!(health.failing_since(Fid::process(9), Some("ssu9")), None);
        let back = check("ssu1:bb", "serfHealth", None, true, 11);
        health.take(back.clone(), Source::Reading(11), &mut concerned);
        health.retain(11, &read(&[other, back]), &mut concerned);
        assert!(!health.is_gone("ssu1"));
        assert_eq!(health.failing_since(Fid::process(4), Some("ssu1")), None);
    }

    #[test]
    fn a_node_that_only_a_post_has_named_is_not_gone() {
        let mut health = health(&[]);
        let mut concerned = Concerned::default();
        health.take(check("ssu1", "serfHealth", None, true, 5), Source::Post, &mut concerned);
        health.retain(10, &BTreeSet::new(), &mut concerned);
        assert!(!health.is_gone("ssu1"));
        assert_eq!(health.failing_since(Fid::process(4), Some("ssu1")), None);
    }

    #[test]
    fn a_node_that_was_renamed_is_not_gone() {
        let new = check("ssu1:bb", "serfHealth", None, true, 9);
        let mut health = health(&[check("ssu1:aa", "serfHealth", None, false, 5), new.clone()]);
        let read = BTreeSet::from([(new.node, new.id)]);
        health.retain(10, &read, &mut Concerned::default());
        assert!(!health.is_gone("ssu1"));
    }

    #[test]
    fn a_reading_drops_what_is_gone_and_keeps_what_is_newer() {
        let mut health = health(&[
            check("ssu1", "service:4", Some(4), true, 5),
            check("ssu1", "service:5", Some(5), true, 50),
        ]);
        let mut concerned = Concerned::default();
        health.retain(10, &BTreeSet::new(), &mut concerned);
        assert_eq!(concerned.processes, BTreeSet::from([Fid::process(4)]));
        assert_eq!(health.len(), 1);
    }
}
