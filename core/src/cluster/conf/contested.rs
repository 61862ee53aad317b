//! Contradictions in the configuration: keys that an earlier configuration left behind.
//!
//! A process has one place, `nodes/<node>/processes/<process>`. If two nodes have it, the place counts that
//! the tree by name contains (hare writes both trees), then the one whose host Consul knows, then the one
//! with more entries below it. All entries below the other places are set aside. So they can neither turn a
//! server into a hax nor receive writes for the real server. Two nodes with the same host name contradict
//! each other too, but both count: a host that dies takes the processes of both down.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;

use super::{Conf, Entry};
use crate::base::fid::Fid;
use crate::base::mutant::{Mutant, mutant};

/// The entries set aside.
#[derive(Clone, Debug, Default)]
pub(super) struct Contested {
    /// The ignored entries, by their paths after `m0conf/`.
    aside: BTreeMap<Box<str>, (Box<str>, u64)>,
    /// The ignored places.
    losers: BTreeSet<Location>,
}

/// Two contradictory keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contradiction {
    /// The valid key.
    pub kept: Box<str>,
    /// The other key.
    pub other: Box<str>,
    /// The contradiction, as a text.
    pub why: &'static str,
}

/// The place of a process below a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Location {
    node: Fid,
    process: Fid,
}

impl Location {
    /// Returns the place of a path after `m0conf/`.
    fn of(path: &str) -> Option<Self> {
        let mut parts = path.split('/');
        let is = |text: Option<&str>, word| text == Some(word);
        let software = is(parts.next(), "nodes");
        let node: Fid = parts.next()?.parse().ok()?;
        let processes = is(parts.next(), "processes");
        let process = parts.next()?.parse().ok()?;
        (software && processes).then_some(Self { node, process })
    }

    fn key(self) -> Box<str> {
        format!("m0conf/nodes/{}/processes/{}", self.node, self.process).into()
    }
}

impl Conf {
    /// Returns whether an entry below a node contradicts the entries in use.
    pub(super) fn is_contested(&self, node: Fid, parts: &[&str]) -> bool {
        let ["nodes", _, "processes", process, ref rest @ ..] = *parts else { return false };
        if mutant(Mutant::LeftOvers) {
            return false;
        }
        let Ok(process) = process.parse() else { return false };
        let elsewhere = |at: &super::Process| at.node != node;
        if self.contested.losers.contains(&Location { node, process })
            || self.processes.get(process).is_some_and(elsewhere)
        {
            return true;
        }
        // A service or a device of two processes.
        let object = rest.last().and_then(|fid| fid.parse::<Fid>().ok());
        let known = object.and_then(|object| self.entries.get(&object));
        known.is_some_and(|known| known.key.strip_prefix("m0conf/") != Some(&*parts.join("/")))
    }

    /// Sets an entry aside.
    pub(super) fn contest(&mut self, parts: &[&str], value: &[u8], index: u64) -> Option<()> {
        let value = core::str::from_utf8(value).ok()?.into();
        self.contested.aside.insert(parts.join("/").into(), (value, index));
        Some(())
    }

    /// Decides which of several places of a process counts. Returns whether the result has changed.
    ///
    /// `knows` returns whether Consul's catalog has a host.
    pub fn resolve(&mut self, knows: impl Fn(&str) -> bool) -> bool {
        if self.contested.aside.is_empty() {
            return false;
        }
        let mut losers = BTreeSet::new();
        for places in self.places().into_values() {
            let best = places.keys().copied().max_by_key(|place| {
                let known = knows(self.host(place.node).unwrap_or_default());
                (self.is_named(*place), known, places[place], core::cmp::Reverse(place.node))
            });
            losers.extend(places.into_keys().filter(|place| Some(*place) != best));
        }
        // A process that is not in the tree by name is itself a left-over if it contains an object of another
        // process.
        for path in self.contested.aside.keys() {
            let kept = self.kept(path).and_then(|kept| Location::of(kept.strip_prefix("m0conf/")?));
            if let (Some(other), Some(kept)) = (Location::of(path), kept)
                && other.process != kept.process
                && self.is_named(other) != self.is_named(kept)
            {
                losers.insert(if self.is_named(kept) { other } else { kept });
            }
        }
        let changed = losers != self.contested.losers;
        if changed {
            self.rebuild(losers);
        }
        changed
    }

    /// Returns whether the tree by name has this process on this node's host.
    fn is_named(&self, Location { node, process }: Location) -> bool {
        let host = self.host(node).unwrap_or_default();
        let named = self.named.get(&process).map_or(&[][..], |all| all);
        named.iter().any(|named| *named.host == *host)
    }

    /// Returns the key in use for the object of an ignored path.
    fn kept(&self, path: &str) -> Option<&str> {
        let object = path.rsplit('/').next()?.parse::<Fid>().ok()?;
        self.entries.get(&object).map(|entry| &*entry.key)
    }

    /// Returns the contested processes with all their places and the number of entries in each.
    fn places(&self) -> BTreeMap<Fid, BTreeMap<Location, usize>> {
        let mut places: BTreeMap<Fid, BTreeMap<Location, usize>> = BTreeMap::new();
        for place in self.contested.aside.keys().filter_map(|path| Location::of(path)) {
            *places.entry(place.process).or_default().entry(place).or_default() += 1;
        }
        let paths = self.entries.values().filter_map(|entry| entry.key.strip_prefix("m0conf/"));
        for place in paths.filter_map(Location::of) {
            if let Some(places) = places.get_mut(&place.process) {
                *places.entry(place).or_default() += 1;
            }
        }
        places.retain(|_, places| places.len() > 1);
        places
    }

    /// Rebuilds the tree of software without the entries below these places.
    fn rebuild(&mut self, losers: BTreeSet<Location>) {
        let empty = Self::default();
        self.processes = empty.processes;
        self.services = empty.services;
        self.sdevs = empty.sdevs;
        self.confds = empty.confds;
        for (node, _) in self.nodes.iter() {
            if let Some(there) = self.on_node.get_mut(node) {
                there.processes.clear();
            }
        }
        let mut all = core::mem::take(&mut self.contested.aside);
        self.contested.losers = losers;
        self.entries.retain(|_, entry| {
            let path = entry.key.strip_prefix("m0conf/").unwrap_or(&entry.key);
            let keep = Location::of(path).is_none();
            if !keep {
                all.insert(path.into(), (core::mem::take(&mut entry.value), entry.index));
            }
            keep
        });
        for (path, (value, index)) in all {
            let _taken = self.apply(&path, value.as_bytes(), index);
        }
    }

    /// Returns the contradictions in a fixed order.
    #[must_use]
    pub fn contradictions(&self) -> Vec<Contradiction> {
        let mut found = BTreeSet::new();
        for path in self.contested.aside.keys() {
            let Some(place) = Location::of(path) else { continue };
            let there = self.processes.get(place.process).filter(|there| there.node != place.node);
            if let Some(there) = there {
                let kept = Location { node: there.node, ..place }.key();
                let why = "a process is below two nodes, and the first counts";
                found.insert(Contradiction { kept, other: place.key(), why });
                continue;
            }
            if let Some(kept) = self.kept(path) {
                let (kept, other) = (kept.into(), format!("m0conf/{path}").into());
                let why = "an object is below two processes, and the first counts";
                found.insert(Contradiction { kept, other, why });
            }
        }
        for nodes in self.by_host.values().filter(|nodes| nodes.len() > 1) {
            let key = |node: &Fid| format!("m0conf/nodes/{node}").into();
            for other in &nodes[1..] {
                let why = "two nodes have one host name, and both count";
                found.insert(Contradiction { kept: key(&nodes[0]), other: key(other), why });
            }
        }
        for (process, entry) in self.processes.iter().filter(|(_, p)| p.ha && !p.hax) {
            let is_ha =
                |service: &&Fid| self.services.get(**service).is_some_and(|s| &*s.name == "ha");
            let service = entry.services.iter().find(is_ha).and_then(|s| self.entries.get(s));
            let kept = Location { node: entry.node, process }.key();
            if let Some(Entry { key: other, .. }) = service {
                let why = "a server has hax's service too, and stays a server";
                found.insert(Contradiction { kept, other: other.clone(), why });
            }
        }
        found.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IOS: &str = "nodes/0x6e00000000000001:0x5/processes/0x7200000000000001:0x2";
    const LEFT: &str = "processes/0x7200000000000001:0x2";

    /// A node with an I/O process, and left-over entries of an earlier configuration below `node`.
    fn conf(node: &str, by_name: bool) -> Conf {
        let mut conf = Conf::default();
        let service = |place: &str, key: u64| format!("{place}/services/{}", Fid::service(key));
        let left = format!("nodes/{node}/{LEFT}");
        let mut entries = Vec::from([
            ("nodes/0x6e00000000000001:0x5".into(), r#"{"name": "ssu1"}"#),
            (IOS.into(), r#"{"name": "m0_server"}"#),
            (service(IOS, 5), r#"{"name": "ios"}"#),
            (format!("{}/sdevs/0x6400000000000001:0x1", service(IOS, 5)), r#"{"path": "/d"}"#),
            (format!("nodes/{node}"), r#"{"name": "old-name"}"#),
            (left.clone(), r#"{"name": "hax"}"#),
            (service(&left, 0x900), r#"{"name": "ha"}"#),
        ]);
        if by_name {
            entries.push(("nodes/ssu1/processes/2/endpoint".into(), "e"));
        }
        entries.sort();
        for (path, value) in entries {
            assert!(conf.apply(&path, value.as_bytes(), 7), "{path}");
        }
        conf
    }

    #[test]
    fn the_place_counts_that_the_tree_by_name_knows_whichever_comes_first() {
        for node in ["0x6e00000000000001:0x1", "0x6e00000000000001:0x17a"] {
            let mut conf = conf(node, true);
            conf.resolve(|_| true);
            let process = conf.get_process(Fid::process(2)).expect("it is there");
            assert!(process.ios && !process.hax && process.services == [Fid::service(5)], "{node}");
            assert_eq!(conf.host_of(Fid::process(2)), Some("ssu1"));
            let key = |fid| conf.entry(fid).map(|entry| &*entry.key);
            assert_eq!(key(Fid::process(2)), Some(&*format!("m0conf/{IOS}")));
            assert!(key(Fid::typed(b'd', 1, 1)).is_some_and(|key| key.contains(IOS)));
            let [found] = &conf.contradictions()[..] else { panic!("one") };
            assert_eq!(*found.kept, *format!("m0conf/{IOS}"));
            assert_eq!(*found.other, *format!("m0conf/nodes/{node}/{LEFT}"));
        }
    }

    #[test]
    fn where_no_name_tells_the_host_counts_that_consul_knows() {
        let mut conf = conf("0x6e00000000000001:0x1", false);
        conf.resolve(|host| host == "old-name");
        assert!(conf.get_process(Fid::process(2)).is_some_and(|process| process.hax));
        assert!(conf.resolve(|host| host == "ssu1"), "Consul has learnt better");
        assert!(conf.get_process(Fid::process(2)).is_some_and(|process| process.ios));
        assert!(!conf.resolve(|host| host == "ssu1"));
        conf.resolve(|_| false);
        assert!(conf.get_process(Fid::process(2)).is_some_and(|process| process.ios), "has more");
    }

    #[test]
    fn all_nodes_of_a_host_count() {
        let mut conf = conf("0x6e00000000000001:0x1", true);
        assert!(conf.apply("nodes/0x6e00000000000001:0x168", br#"{"name": "ssu1"}"#, 9));
        conf.resolve(|_| true);
        assert_eq!(conf.nodes_of("ssu1").len(), 2);
        assert_eq!(conf.processes_of("ssu1").collect::<Vec<_>>(), [Fid::process(2)]);
        assert_eq!(conf.contradictions().len(), 2);
        assert!(conf.apply("nodes/0x6e00000000000001:0x168", br#"{"name": "ssu9"}"#, 10));
        assert_eq!((conf.nodes_of("ssu1").len(), conf.nodes_of("ssu9").len()), (1, 1));
    }
}
