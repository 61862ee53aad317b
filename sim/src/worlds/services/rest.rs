//! What has to be so once nothing goes wrong any more: what was asked for runs, and is known to run.

use hax_core::keeper::name::InstanceId;
use serde_json::Value;

use super::model::{Expect, KINDS, Policy, Said, Verb, has_place, need_of};
use super::truth::kind_in;
use super::{NAMES, Services};
use crate::engine::{S, World};

/// The types that hold one name.
const RIVALS: [usize; 2] = [2, 3];
/// The time within which everything has to be well again, in µs.
const PATIENCE: u64 = 280 * S;

impl World<'_, Services> {
    /// Reads the new events of operators.
    pub(super) fn look_at_events(&mut self) {
        let last = self.cast.event_index;
        let mut new: Vec<(u64, Value)> = self
            .consul
            .double
            .entries("ha/ev/")
            .filter(|held| held.index > last)
            .filter_map(|held| Some((held.index, serde_json::from_slice(held.value).ok()?)))
            .collect();
        new.sort_by_key(|(index, _)| *index);
        let known = self.known_nodes();
        if !new.is_empty() {
            self.doubt_nodes_that_come_up(&known);
        }
        for (index, event) in new {
            self.cast.event_index = index;
            let Some(said) = Said::of(&event) else { continue };
            let holds = self.cast.clients.has_asked(&said);
            self.require(holds, "an event says what was asked", format!("{said:?}"));
            self.cast.clients.has_committed(&said);
            let touched = self.cast.model.take(&said, &known);
            self.sim.log(|| format!("committed: {said:?}"));
            let of = said.kind();
            let is_restart = matches!(said, Said::Asked { verb: Verb::Restart, .. });
            for (node, kind) in touched {
                let slot = self.slot(node, kind);
                // What is needed may be started, and keeps its configuration.
                if kind == of { slot.touch(is_restart) } else { slot.forgive() }
            }
        }
    }

    /// A node that holds its lease and has not described itself yet may be known to the coordinator by the time
    /// that it works an event, or not.
    fn doubt_nodes_that_come_up(&mut self, known: &[usize]) {
        for node in known {
            let key = format!("ha/node/{}/record", NAMES[*node]);
            if self.consul.double.entry(&key).is_none() {
                self.cast.fuzzy.extend((0..KINDS.len()).map(|kind| (*node, kind)));
            }
        }
    }

    /// Returns the nodes that have ever come up.
    fn known_nodes(&self) -> Vec<usize> {
        let is_known = |node: &usize| {
            let prefix = format!("ha/node/{}/", NAMES[*node]);
            self.consul.double.entries(&prefix).next().is_some()
        };
        (0..NAMES.len()).filter(is_known).collect()
    }

    /// Returns why the world is not as it has to be: the rule, and what is seen.
    pub(super) fn unrest(&self) -> Option<(&'static str, String)> {
        let now = self.sim.now();
        let down = (0..NAMES.len()).find(|node| {
            let keeper = &self.cast.nodes[*node].keeper;
            let hax = &self.hosts[*node];
            !hax.is_up() || hax.is_stopping() || !keeper.is_up() || keeper.is_frozen(now)
        });
        let down = down.map(|node| format!("node {node} is not whole"));
        let rule = |rule: &'static str| move |why: String| (rule, why);
        let all = (0..NAMES.len()).flat_map(|node| (0..KINDS.len()).map(move |kind| (node, kind)));
        down.map(rule("everything comes back"))
            .or_else(|| self.cast.clients.waiting().map(rule("each request is answered in time")))
            .or_else(|| self.uncoordinated().map(rule("in the end one coordinates")))
            .or_else(|| self.undefined().map(rule("in the end each type is defined")))
            .or_else(|| self.unworked().map(rule("in the end no event waits")))
            .or_else(|| {
                let unlike = all.into_iter().find_map(|(node, kind)| self.unlike(node, kind));
                unlike.map(rule("in the end what was asked for runs"))
            })
            .or_else(|| {
                let all = (0..NAMES.len())
                    .flat_map(|node| (0..KINDS.len()).map(move |kind| (node, kind)));
                let untold = all.into_iter().find_map(|(node, kind)| self.untold_of(node, kind));
                untold.map(rule("in the end what runs is known to run"))
            })
    }

    /// Names the rule that does not hold long after everything was healed.
    pub(super) fn grow_impatient(&mut self) {
        let is_late = self.cast.healed_at.is_some_and(|at| self.sim.now() >= at + PATIENCE);
        if is_late && let Some((rule, why)) = self.unrest() {
            self.require(false, rule, why);
        }
    }

    fn uncoordinated(&self) -> Option<String> {
        let leads = |node: &usize| self.hosts[*node].machine().is_some_and(|hax| hax.coordinates());
        let leaders = (0..NAMES.len()).filter(leads).count();
        (leaders != 1).then(|| format!("{leaders} coordinate"))
    }

    fn undefined(&self) -> Option<String> {
        let is_defined = |kind: &usize| self.cast.model.types.contains_key(kind);
        let kind = (0..self.cast.swarm.types).find(|kind| !is_defined(kind))?;
        Some(format!("{} is not defined", KINDS[kind]))
    }

    /// Events wait, though nothing goes on.
    fn unworked(&self) -> Option<String> {
        let has_rivals = (0..NAMES.len()).any(|node| self.are_rivals(node));
        let event = self.consul.double.entries("ha/ev/").next();
        let event = event.map(|held| held.key.to_owned()).filter(|_| !has_rivals)?;
        Some(format!("{event} waits"))
    }

    /// A type is expected to run whose name another one holds.
    fn are_rivals(&self, node: usize) -> bool {
        let waits = |kind: &usize| {
            let runs = self.cast.model.expect(node, *kind).is_some_and(|of| of.runs);
            runs && self.cast.nodes[node].slots[*kind].living().is_none()
        };
        RIVALS.iter().any(waits) && self.rival_runs(node)
    }

    /// Returns how an instance differs from what is expected of it.
    fn unlike(&self, node: usize, kind: usize) -> Option<String> {
        let place = || format!("{} on {}", KINDS[kind], NAMES[node]);
        let living = self.cast.nodes[node].keeper.processes.living();
        let living: Vec<(&InstanceId, _)> =
            living.filter(|(id, _)| kind_in(id).is_some_and(|(of, _)| of == kind)).collect();
        let slot = &self.cast.nodes[node].slots[kind];
        let expected = self.cast.model.expect(node, kind);
        let runs = expected.is_some_and(|of| of.runs) && has_place(kind, node);
        // What a restored snapshot does not know is left alone.
        let is_fuzzy =
            self.cast.fuzzy.contains(&(node, kind)) || self.cast.is_void && expected.is_none();
        let Some((_, group)) = living.first() else {
            let policy = self.cast.definition(kind).map_or(Policy::Always, |of| of.policy);
            let need = need_of(kind);
            let waits = need.is_some_and(|need| {
                let slot = &self.cast.nodes[node].slots[need];
                slot.living().is_none()
            });
            let excused = !runs
                || is_fuzzy
                || self.cast.is_void && self.rests(node, kind)
                || slot.may_rest(policy)
                || waits
                || RIVALS.contains(&kind) && self.rival_runs(node);
            return (!excused).then(|| format!("{} does not run: {expected:?}", place()));
        };
        if living.len() > 1 || !runs && !is_fuzzy {
            let ids: Vec<String> = living.iter().map(|(id, _)| id.to_string()).collect();
            return Some(format!("{} runs as {ids:?}; {expected:?}", place()));
        }
        let argv = group.start.as_ref().map(|start| start.argv.clone()).unwrap_or_default();
        let arguments = expected.and_then(|of| self.cast.model.arguments(kind, of.given));
        let is_it = arguments.as_ref().is_some_and(|of| {
            argv.get(1).is_some_and(|word| **word == *of[0])
                && argv.get(2).is_some_and(|word| **word == *of[1])
        });
        if !is_it && !slot.is_returned && !is_fuzzy {
            return Some(format!("{} runs with {argv:?}, not with {arguments:?}", place()));
        }
        None
    }

    /// Returns whether the records say that an instance rests. Why is not known after a restore.
    fn rests(&self, node: usize, kind: usize) -> bool {
        let key = format!("ha/inst/{}/{}/wanted", NAMES[node], KINDS[kind]);
        self.record(&key).is_some_and(|record| record["want"] == "resting")
    }

    /// Returns the record of a key.
    pub(super) fn record(&self, key: &str) -> Option<Value> {
        serde_json::from_slice(self.consul.double.entry(key)?.value).ok()
    }

    fn untold_of(&self, node: usize, kind: usize) -> Option<String> {
        let mut living = self.cast.nodes[node].keeper.processes.living();
        let living = living.find(|(id, _)| kind_in(id).is_some_and(|(of, _)| of == kind));
        let living = living.map(|(id, group)| (id, group.main.map(|process| process.pid)));
        self.untold(node, kind, living)
    }

    fn rival_runs(&self, node: usize) -> bool {
        let mut living = self.cast.nodes[node].keeper.processes.living();
        living.any(|(id, _)| kind_in(id).is_some_and(|(kind, _)| RIVALS.contains(&kind)))
    }

    /// Returns how the records differ from what runs.
    fn untold(
        &self,
        node: usize,
        kind: usize,
        living: Option<(&InstanceId, Option<u32>)>,
    ) -> Option<String> {
        let (name, of) = (NAMES[node], KINDS[kind]);
        let read = |key: String| self.record(&key);
        let observed = read(format!("ha/inst/{name}/{of}/observed"));
        let wanted = read(format!("ha/inst/{name}/{of}/wanted"));
        let seen = observed.as_ref().map(|seen| seen["state"].as_str().unwrap_or_default());
        let Some((instance, pid)) = living else {
            let is_told = matches!(seen, None | Some("absent" | "failed"));
            let is_rival = RIVALS.contains(&kind) && self.are_rivals(node);
            return (!is_told && !is_rival)
                .then(|| format!("{of} on {name} does not run, and is {seen:?}"));
        };
        let has =
            |field: &str, value: Value| observed.as_ref().is_some_and(|seen| seen[field] == value);
        let is_told = seen == Some("running")
            && has("instance", instance.as_str().into())
            && has("pid", pid.into())
            && has("boot", self.cast.nodes[node].keeper.boot().into());
        // A node leaves alone what a restored snapshot does not know, and says so.
        let is_stranger =
            wanted.is_none() && (self.cast.is_void || self.cast.fuzzy.contains(&(node, kind)));
        if is_stranger {
            return None;
        }
        if !is_told {
            return Some(format!("{instance} runs as {pid:?}, and is said to be {observed:?}"));
        }
        let is_wanted = match &wanted {
            Some(wanted) => wanted["want"] == "running",
            None => self.cast.is_void || self.cast.fuzzy.contains(&(node, kind)),
        };
        if !is_wanted {
            return Some(format!("{instance} runs, and is not wanted"));
        }
        let holder = self.cast.nodes[node].keeper.processes.get(instance);
        let service = holder.and_then(|group| group.start.as_ref()).map(|start| &start.name)?;
        let record = read(format!("ha/name/{name}/{service}"));
        // Nobody tells a node that somebody else has removed its name.
        let is_held = self.cast.nodes[node].is_meddled
            || record.as_ref().is_some_and(|record| record["type"] == of);
        (!is_held).then(|| format!("{instance} runs, and {service} is held by {record:?}"))
    }

    /// Takes what the coordinator wants for what is expected.
    fn learn(&mut self, node: usize, kind: usize) {
        let key = format!("ha/inst/{}/{}/wanted", NAMES[node], KINDS[kind]);
        let Some(record) = self.record(&key) else { return };
        let runs = record["want"] != "stopped";
        let expect = Expect { runs, given: record["given"]["n"].as_u64() };
        self.cast.model.expected.insert((node, kind), expect);
    }

    /// Begins anew after a rest.
    pub(super) fn rebase(&mut self) {
        self.cast.is_void = false;
        let lost = (0..NAMES.len()).flat_map(|node| (0..KINDS.len()).map(move |kind| (node, kind)));
        let lost = lost.filter(|(node, kind)| {
            let is_known = self.cast.model.expect(*node, *kind).is_some();
            !is_known && self.cast.nodes[*node].slots[*kind].living().is_some()
        });
        let lost: Vec<(usize, usize)> = lost.collect();
        for (node, kind) in std::mem::take(&mut self.cast.fuzzy) {
            self.learn(node, kind);
        }
        self.cast.fuzzy.extend(lost);
        for node in &mut self.cast.nodes {
            node.is_meddled = false;
            node.slots.iter_mut().for_each(super::truth::Slot::rebase);
        }
    }
}
