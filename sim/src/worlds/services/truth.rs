//! What really runs and ran on the nodes, what it was caused by, and the rules for it.

use hax_core::exec::Status;
use hax_core::keeper::name::InstanceId;
use hax_core::keeper::request::Start;
use hax_core::services::model::name::parts_of;
use serde_json::Value;

use super::model::{Definition, KINDS, Policy, START_TIMEOUT, TRY_AGAIN, kind_of};
use super::{NAMES, Services};
use crate::engine::{MS, S, World};

/// The life of an instance.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) instance: InstanceId,
    pub(super) serial: u64,
    pub(super) argv: Vec<String>,
    pub(super) began: u64,
    pub(super) ended: Option<(u64, Status)>,
    /// The time at which Consul has heard of the end.
    pub(super) told: Option<u64>,
    /// The keeper has told it to stop.
    pub(super) is_asked: bool,
    /// A probe has found it ready.
    is_found_ready: bool,
    /// It may be replaced because it was not ready in time.
    is_late: bool,
    /// It is from before a reboot, or from before a rest.
    pub(super) is_past: bool,
}

/// A record of what is wanted.
#[derive(Clone, Debug)]
struct WantedSeen {
    serial: u64,
    runs: bool,
    /// An operator has asked for the stop.
    is_stop: bool,
    launch: Value,
}

/// All that is known of one type on one node.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    /// The causes of further starts.
    causes: u64,
    /// The highest serial number of a wanted start.
    serial: u64,
    pub(super) lives: Vec<Life>,
    wanted: Vec<WantedSeen>,
    wanted_index: u64,
    observed_index: u64,
    has_job: bool,
    /// The serial number of the last start that a keeper has refused.
    refused: Option<u64>,
    /// The instance whose start was written off before it was carried out.
    stray: Option<InstanceId>,
    /// The ends of short lives in a row, in µs.
    short: Vec<u64>,
    /// The last configuration may have been taken back.
    pub(super) is_returned: bool,
}

impl Slot {
    /// Returns the life that has not ended.
    pub(super) fn living(&self) -> Option<&Life> {
        self.lives.iter().rev().find(|life| life.ended.is_none())
    }

    fn life(&mut self, instance: &InstanceId) -> Option<&mut Life> {
        self.lives.iter_mut().rev().find(|life| life.instance == *instance)
    }

    /// Returns whether the last life has ended in a way that nothing has to follow.
    pub(super) fn may_rest(&self, policy: Policy) -> bool {
        let last = self.lives.last().and_then(|life| life.ended);
        match policy {
            // A start that was refused counts as a failure.
            Policy::Never => true,
            Policy::OnFailure => last.is_some_and(|(_, status)| status == Status::Code(0)),
            Policy::Always => false,
        }
    }

    /// A request was committed that may start it.
    pub(super) fn touch(&mut self, is_restart: bool) {
        self.causes += 1;
        self.short.clear();
        // A restart is one with the configuration that it has.
        self.is_returned &= is_restart;
    }

    pub(super) fn cause(&mut self) {
        self.causes += 1;
    }

    /// A short life ends. One that was given up long ago has begun anew.
    fn fails(&mut self, now: u64) {
        if self.short.last().is_some_and(|last| now >= last + TRY_AGAIN * MS) {
            self.short.clear();
        }
        self.short.push(now);
    }

    /// Something of which nothing can be said has happened.
    pub(super) fn forgive(&mut self) {
        self.causes += 1;
        self.short.clear();
    }

    /// Begins anew: after a restore, what was is not what is remembered.
    pub(super) fn rebase(&mut self) {
        self.causes = 1;
        self.short.clear();
        self.serial = self.wanted.last().map_or(0, |wanted| wanted.serial);
        for life in &mut self.lives {
            life.is_past = true;
        }
        self.lives.drain(..self.lives.len().saturating_sub(20));
    }
}

/// Returns the type of an instance of hax's.
pub(super) fn kind_in(instance: &InstanceId) -> Option<(usize, u64)> {
    let (kind, serial) = parts_of(instance)?;
    Some((kind_of(kind.as_str())?, serial))
}

impl World<'_, Services> {
    pub(super) fn slot(&mut self, node: usize, kind: usize) -> &mut Slot {
        &mut self.cast.nodes[node].slots[kind]
    }

    // ---- causes -----------------------------------------------------------------------------------

    /// A keeper has refused a start.
    pub(super) fn was_refused(&mut self, node: usize, instance: &InstanceId) {
        if let Some((kind, serial)) = kind_in(instance) {
            let now = self.sim.now();
            let slot = self.slot(node, kind);
            slot.cause();
            // A refusal that was lost with the connection is followed by another one of the same start.
            let is_repeated = slot.refused.replace(serial) == Some(serial);
            // One whose next start is wanted already is part of that start.
            if !is_repeated && serial >= slot.serial {
                slot.fails(now);
            }
        }
    }

    /// A keeper was killed before the program of an instance began.
    pub(super) fn was_not_begun(&mut self, node: usize, instance: &str) {
        if let Some((kind, _)) = InstanceId::new(instance).as_ref().and_then(kind_in) {
            self.slot(node, kind).forgive();
        }
    }

    /// A check of a type on a node has failed.
    pub(super) fn check_failed(&mut self, node: usize, kind: usize) {
        self.slot(node, kind).forgive();
    }

    /// A probe has found an instance ready.
    pub(super) fn found_ready(&mut self, node: usize, kind: usize) {
        if let Some(life) = self.slot(node, kind).lives.last_mut() {
            life.is_found_ready = true;
        }
    }

    pub(super) fn ended_by_reboot(&mut self, node: usize) {
        let now = self.sim.now();
        for slot in &mut self.cast.nodes[node].slots {
            slot.forgive();
            for life in &mut slot.lives {
                // What was not written of it is not known any more.
                life.is_past = true;
                life.ended.get_or_insert((now, Status::Unknown));
            }
        }
    }

    // ---- lives ------------------------------------------------------------------------------------

    /// The program of an instance begins.
    pub(super) fn begins(&mut self, node: usize, start: &Start) {
        let instance = &start.instance;
        let has_intent = self.cast.nodes[node].keeper.folder.has_intent(instance);
        self.require(has_intent, "an intent is on the disk before the start", instance.as_str());
        let Some((kind, serial)) = kind_in(instance) else { return };
        self.check_alone(node, kind, start);
        self.check_wanted(node, (kind, serial), start);
        self.check_name(node, kind, start);
        self.check_need(node, kind, instance);
        let now = self.sim.now();
        let argv: Vec<String> = start.argv.iter().map(|word| word.to_string()).collect();
        let definition = self.cast.definition(kind).cloned();
        let is_void = self.cast.is_void;
        // Where somebody else has removed the word that a start is carried out, it is carried out again.
        let is_meddled = self.cast.nodes[node].is_meddled;
        // A damaged job does not tell of earlier lives.
        let is_damaged = self.cast.fuzzy.contains(&(node, kind));
        let slot = self.slot(node, kind);
        if slot.lives.last().is_some_and(|life| life.argv != argv) {
            slot.short.clear();
        }
        let is_again = slot.lives.iter().any(|life| life.serial == serial && !life.is_past);
        let too_soon = definition.and_then(|of| too_soon(&slot.short, &of, now));
        if slot.short.last().is_some_and(|last| now >= last + TRY_AGAIN * MS) {
            slot.short.clear();
        }
        slot.lives.push(Life {
            instance: instance.clone(),
            serial,
            argv,
            began: now,
            ended: None,
            told: None,
            is_asked: false,
            is_found_ready: false,
            is_late: false,
            is_past: false,
        });
        if is_void {
            return;
        }
        let is_once = !is_again || is_meddled;
        self.require(is_once, "a wanted start is carried out once", instance.as_str());
        if let Some(why) = too_soon.filter(|_| !is_damaged) {
            let seen = format!("{instance} on {}: {why}", NAMES[node]);
            self.require(false, "there are no more starts than the policy allows", seen);
        }
    }

    /// At most one instance of a type, and of a service name, lives on a node.
    fn check_alone(&mut self, node: usize, kind: usize, start: &Start) {
        let living = self.cast.nodes[node].keeper.processes.living();
        let same = living.filter(|(other, group)| {
            let name = group.start.as_ref().map(|start| &start.name);
            kind_in(other).is_some_and(|(other, _)| other == kind) || name == Some(&start.name)
        });
        let same = same.map(|(other, _)| other.to_string()).next();
        if let Some(other) = same {
            let seen = format!("{} begins while {other} lives", start.instance);
            self.require(false, "at most one of a type and of a name lives on a node", seen);
        }
    }

    /// What begins is what is stored.
    fn check_wanted(&mut self, node: usize, (kind, serial): (usize, u64), start: &Start) {
        let is_it = |wanted: &&WantedSeen| {
            let program = &wanted.launch["program"];
            let argv = program["argv"].as_array().map_or(&[][..], |argv| argv);
            let is_same = argv
                .iter()
                .map(|word| word.as_str().unwrap_or_default())
                .eq(start.argv.iter().map(|word| &**word));
            wanted.serial == serial
                && wanted.runs
                && is_same
                && wanted.launch["name"] == start.name.as_str()
                && program["stop"]["kill_after_ms"] == start.stop.kill_after_ms
        };
        let holds = self.slot(node, kind).wanted.iter().rev().any(|wanted| is_it(&wanted));
        let seen = format!("{}: {:?}", start.instance, start.argv);
        self.require(holds, "what begins is what is stored", seen);
    }

    /// The name is held before the start.
    fn check_name(&mut self, node: usize, kind: usize, start: &Start) {
        if self.cast.is_void || self.cast.nodes[node].is_meddled {
            return;
        }
        let key = format!("ha/name/{}/{}", NAMES[node], start.name);
        let record = self.record(&key);
        let holder = record.map(|record| record["type"].clone());
        let holds = holder == Some(KINDS[kind].into());
        let seen = format!("{}: {key} is held by {holder:?}", start.instance);
        self.require(holds, "a service name is held before the start", seen);
    }

    /// What a type needs is started before.
    fn check_need(&mut self, node: usize, kind: usize, instance: &InstanceId) {
        if let Some(need) = super::model::need_of(kind) {
            let holds = self.cast.is_void || !self.slot(node, need).lives.is_empty();
            let seen = format!("{instance}: {} was never started", KINDS[need]);
            self.require(holds, "what a type needs is started before it", seen);
        }
    }

    /// The keeper tells an instance to stop.
    pub(super) fn is_told_to_stop(&mut self, node: usize, instance: &InstanceId) {
        let Some((kind, serial)) = kind_in(instance) else { return };
        let is_void = self.cast.is_void;
        let slot = self.slot(node, kind);
        let is_first = slot.life(instance).is_some_and(|life| {
            !std::mem::replace(&mut life.is_asked, true) && life.ended.is_none()
        });
        if !is_first || is_void {
            return;
        }
        let is_reason =
            |wanted: &WantedSeen| wanted.serial > serial || wanted.serial == serial && !wanted.runs;
        let holds = slot.wanted.iter().any(is_reason) || slot.stray.as_ref() == Some(instance);
        let seen = format!("{instance} on {}", NAMES[node]);
        self.require(holds, "an instance is stopped only if that is wanted", seen);
        self.check_dependents(node, kind, instance);
    }

    /// What needs a type is stopped before.
    fn check_dependents(&mut self, node: usize, kind: usize, instance: &InstanceId) {
        let is_stop = self.slot(node, kind).wanted.last().is_some_and(|wanted| wanted.is_stop);
        let app = self.slot(node, 1).living().map(|life| life.instance.clone());
        if kind == 0
            && is_stop
            && let Some(app) = app
        {
            let seen = format!("{instance} on {} while {app} runs", NAMES[node]);
            self.require(false, "what needs a type is stopped before it", seen);
        }
    }

    /// The main process of an instance has ended.
    pub(super) fn ended(
        &mut self,
        node: usize,
        instance: &InstanceId,
        status: Status,
        is_asked: bool,
    ) {
        let Some((kind, serial)) = kind_in(instance) else { return };
        let now = self.sim.now();
        let stable = self.cast.definition(kind).map_or(0, |of| of.stable * MS);
        let slot = self.slot(node, kind);
        let Some(life) = slot.life(instance) else { return };
        life.ended = Some((now, status));
        let lived = now - life.began;
        if is_asked || life.is_asked {
            return;
        }
        slot.causes += 1;
        if lived >= stable {
            slot.short.clear();
        } else if serial >= slot.serial {
            // One that ends by itself while its next start is wanted already is part of that start.
            slot.fails(now);
        }
    }

    // ---- records ----------------------------------------------------------------------------------

    /// Reads what is wanted.
    pub(super) fn look_at_wanted(&mut self) {
        for (node, name) in NAMES.iter().enumerate() {
            for (kind, of) in KINDS.iter().enumerate() {
                let key = format!("ha/inst/{name}/{of}/wanted");
                let entry = self.consul.double.entry(&key).map(|held| (held.index, held.value));
                let Some((index, value)) = entry else { continue };
                let is_new = self.cast.nodes[node].slots[kind].wanted_index != index;
                let record: Option<Value> =
                    is_new.then(|| serde_json::from_slice(value).ok()).flatten();
                self.slot(node, kind).wanted_index = index;
                if let Some(record) = record {
                    self.wants(node, kind, &record);
                }
                self.look_at_job(node, kind);
                self.look_at_observed(node, kind);
            }
        }
    }

    fn look_at_job(&mut self, node: usize, kind: usize) {
        let key = format!("ha/job/{}/{}", NAMES[node], KINDS[kind]);
        let has_job = self.consul.double.entry(&key).is_some();
        let slot = self.slot(node, kind);
        if std::mem::replace(&mut slot.has_job, has_job) && !has_job {
            // The instance has proved itself, or rests.
            slot.short.clear();
        }
    }

    /// A record of what is wanted was written.
    fn wants(&mut self, node: usize, kind: usize, record: &Value) {
        let Some(serial) = record["serial"].as_u64() else { return };
        let runs = record["want"] == "running";
        let (now, is_void) = (self.sim.now(), self.cast.is_void);
        let slot = self.slot(node, kind);
        let is_first = slot.wanted.is_empty();
        let revision = &record["launch"]["revision"];
        if slot.wanted.last().is_some_and(|last| last.launch["revision"] != *revision) {
            // One that was wanted before has returned, unless a request follows.
            slot.is_returned |= slot.wanted.iter().any(|old| old.launch["revision"] == *revision);
            slot.short.clear();
        }
        let is_stop = record["want"] == "stopped";
        slot.wanted.push(WantedSeen { serial, runs, is_stop, launch: record["launch"].clone() });
        if is_void || is_first || !runs || serial <= slot.serial {
            slot.serial = slot.serial.max(serial);
            return;
        }
        slot.serial = serial;
        if slot.causes == 0
            && let Some(life) = slot.lives.last_mut()
            && !life.is_found_ready
            && !life.is_late
            && KINDS[kind] == "app"
            && now >= life.began + START_TIMEOUT * MS
        {
            life.is_late = true;
            slot.causes = 1;
            slot.short.clear();
        }
        let holds = slot.causes > 0;
        slot.causes = slot.causes.saturating_sub(1);
        let seen = format!("{} on {}: start {serial}: {}", KINDS[kind], NAMES[node], record["why"]);
        self.require(holds, "each start has a cause of its own", seen);
    }

    /// Reads what a node has seen of an instance.
    fn look_at_observed(&mut self, node: usize, kind: usize) {
        let key = format!("ha/inst/{}/{}/observed", NAMES[node], KINDS[kind]);
        let entry = self.consul.double.entry(&key).map(|held| (held.index, held.value));
        let Some((index, value)) = entry else { return };
        if self.cast.nodes[node].slots[kind].observed_index == index {
            return;
        }
        let record: Value = serde_json::from_slice(value).unwrap_or_default();
        let now = self.sim.now();
        let instance = record["instance"].as_str().and_then(InstanceId::new);
        let runs = matches!(record["state"].as_str(), Some("running" | "degraded"));
        let stable = self.cast.definition(kind).map_or(0, |of| of.stable * MS);
        let slot = self.slot(node, kind);
        slot.observed_index = index;
        let shown = instance.as_ref().filter(|_| runs);
        for life in slot.lives.iter_mut().filter(|life| life.ended.is_some()) {
            if shown != Some(&life.instance) && life.told.is_none() {
                life.told = Some(now);
                // Until its end is told, it seems to live, and to prove itself.
                if now - life.began >= stable {
                    slot.short.drain(..slot.short.len().saturating_sub(1));
                }
            }
        }
        if record["state"] != "failed" {
            return;
        }
        match record["reason"]["class"].as_str() {
            Some("name_held") => self.name_was_held(node, kind),
            // Its start was written, and never reached the keeper.
            Some("unknown") => {
                let slot = self.slot(node, kind);
                if let Some(id) = instance.filter(|id| slot.life(id).is_none()) {
                    slot.forgive();
                    slot.stray = Some(id);
                }
            }
            _ => {}
        }
    }

    /// The refusal of a start for its name is true: somebody else has the name, or has just had it.
    fn name_was_held(&mut self, node: usize, kind: usize) {
        let of = &self.cast.nodes[node];
        let rivals = of.slots.iter().enumerate().filter(|(other, _)| *other != kind);
        // A wanted start has the name before it reaches the keeper, and even if it never does.
        let holds = rivals.into_iter().any(|(_, slot)| !slot.lives.is_empty() || slot.serial > 0)
            || of.has_stranger
            || of.is_meddled
            || self.cast.is_void;
        self.slot(node, kind).forgive();
        let seen = format!("{} on {}", KINDS[kind], NAMES[node]);
        self.require(holds, "a name is refused only if somebody has it", seen);
    }
}

/// Returns why a start comes too soon after short lives.
fn too_soon(short: &[u64], of: &Definition, now: u64) -> Option<String> {
    let last = *short.last()?;
    let passed = now - last;
    if passed >= TRY_AGAIN * MS {
        return None;
    }
    if let Some((lives, within)) = of.give_up
        && let Some(at) = short.len().checked_sub(lives)
        && now - short[at] < within * MS
    {
        return Some(format!("{lives} lives within {} ms were short", (now - short[at]) / MS));
    }
    let doubled = u32::try_from(short.len().checked_sub(2)?).unwrap_or(u32::MAX).min(10);
    let delay = (S << doubled).min(30 * S);
    (passed + MS < delay).then(|| format!("{} ms after {} short lives", passed / MS, short.len()))
}
