//! The acts on a world of services.

use bytes::Bytes;
use hax_core::exec::Status;
use hax_core::keeper::name::{InstanceId, ServiceName};
use hax_core::keeper::request::{Ask, OutputTarget, Start, Stop};

use super::clients::Wish;
use super::keeper::FREEZE_MAX;
use super::model::{Definition, KINDS, Verb, need_of};
use super::swarm::Act;
use super::{Ev, NAMES, Services};
use crate::engine::{MS, S, World, swarm};

/// What clients read.
const TARGETS: [&str; 9] = [
    "/v1/types",
    "/v1/types/web",
    "/v1/services",
    "/v1/services/app",
    "/v1/services/web/n1",
    "/v1/services/db1/why",
    "/v1/services/job/why?node=n3",
    "/v1/graph",
    "/v1/graph?format=dot",
];

/// Wrong requests: the method, the path and the body.
const WRONG: [(&str, &str, &str); 8] = [
    ("POST", "/v1/types", "{"),
    ("POST", "/v1/types", r#"{"type":"web","command":["web"]}"#),
    ("POST", "/v1/types/web/reconfigure", r#"{"parameters":{"n":100}}"#),
    ("POST", "/v1/services/nobody/start", ""),
    ("POST", "/v1/services/web/start?wait=x", ""),
    ("POST", "/v1/services/web/start", r#"{"parameters":{"m":1}}"#),
    ("DELETE", "/v1/services/web/start", ""),
    ("GET", "/v1/services/web/n1/x/y", ""),
];

/// Records that another writer leaves: junk, and one of a later version.
const DAMAGED: [&str; 3] = ["junk", r#"{"v":1}"#, r#"{"v":2,"more":[]}"#];

impl World<'_, Services> {
    /// Performs one act and draws the pause until the next one, in ms.
    pub(super) fn act_once(&mut self) -> u64 {
        let weights = self.cast.swarm.acts;
        // Many acts are starts and deaths.
        let at = self.sim.choose(swarm::sum(&weights) + 4);
        let often = [Act::Start, Act::Death][self.sim.index(2)];
        let chosen = swarm::weighted(&weights, at).map_or(often, |place| Act::ALL[place]);
        self.sim.log(|| format!("act: {chosen:?}"));
        self.perform(chosen);
        self.draw_pause()
    }

    /// Returns whether another writer's requests take effect at once.
    fn can_write(&self) -> bool {
        self.consul.double.has_leader() && !self.consul.double.is_disconnected(0)
    }

    fn perform(&mut self, act: Act) {
        let node = self.sim.index(NAMES.len());
        match act {
            Act::Start => self.client_moves(node, Verb::Start),
            Act::Stop => self.client_moves(node, Verb::Stop),
            Act::Restart => self.client_moves(node, Verb::Restart),
            Act::Define => {
                let kind = self.sim.index(self.cast.swarm.types);
                self.define(node, kind);
            }
            Act::Configure => {
                let kind = self.sim.index(self.cast.swarm.types);
                let n = self.sim.choose(10).checked_sub(1);
                self.wish(node, Wish::Configure { kind, n }, 5);
            }
            Act::Look => {
                let target = TARGETS[self.sim.index(TARGETS.len())];
                self.send_wish(node, Wish::Look, "GET", target, Bytes::new(), true);
            }
            Act::Wrong => self.wrong(node),
            Act::Stream => {
                let reader = crate::stream::Reader::drawn(|n| self.sim.choose(n));
                self.listen(node, reader);
            }
            Act::Crowd => self.crowd(),
            Act::Breakage => {
                let kind = self.sim.index(self.cast.swarm.types);
                self.cast.broken.insert(kind);
                let lasts = self.sim.choose(40_000) * MS;
                self.sim.schedule(self.sim.now() + lasts, Ev::Works(kind));
            }
            Act::Death | Act::Success | Act::Sickness | Act::Hang | Act::Fork => {
                self.act_on_process(act, node);
            }
            Act::Kill => self.kill_for_a_while(node),
            Act::KillSoon => self.kill_soon(node),
            Act::Freeze => self.freeze_for_a_while(node),
            Act::StopHax => self.stop(node),
            Act::KillKeeper
            | Act::KillKeeperSoon
            | Act::FreezeKeeper
            | Act::AbsentKeeper
            | Act::FullDisk
            | Act::Stranger => self.act_on_keeper(act, node),
            Act::Reboot => {
                self.reboot(node);
                let (keeper, hax) = (self.sim.choose(10_000) * MS, self.sim.choose(10_000) * MS);
                self.start_keeper_after(node, keeper);
                self.start_after(node, hax);
            }
            Act::CutAgent
            | Act::Part
            | Act::Election
            | Act::Headless
            | Act::ConsulDown
            | Act::Restore
            | Act::Clock
            | Act::Meddle
            | Act::Damage => self.act_on_consul(act, node),
        }
    }

    // ---- clients ----------------------------------------------------------------------------------

    pub(super) fn define(&mut self, node: usize, kind: usize) {
        let version = self.cast.definitions.len() as u64;
        let definition = Definition::drawn(kind, version, |n| self.sim.choose(n));
        self.cast.definitions.push(definition.clone());
        self.wish(node, Wish::Define(definition), 5);
    }

    fn client_moves(&mut self, at: usize, verb: Verb) {
        let kind = self.sim.index(self.cast.swarm.types);
        let node = [None, Some(0), Some(1), Some(2)][self.sim.index(4)];
        let is_given = verb == Verb::Start && self.sim.choose(4) == 1;
        let given = is_given.then(|| self.sim.choose(5));
        let wait = 1 + self.sim.choose(20);
        self.wish(at, Wish::Move { verb, kind, node, given }, wait);
    }

    fn crowd(&mut self) {
        let kind = self.sim.index(self.cast.swarm.types);
        let verb = [Verb::Start, Verb::Restart, Verb::Stop][self.sim.index(3)];
        for n in 0..[8, 50][self.sim.index(2)] {
            let at = n % NAMES.len();
            self.wish(at, Wish::Move { verb, kind, node: Some(at), given: None }, 5);
        }
    }

    fn wrong(&mut self, node: usize) {
        let at = self.sim.index(WRONG.len() + 1);
        match at.checked_sub(1) {
            Some(at) => {
                let (method, target, body) = WRONG[at];
                let wish = Wish::Wrong { is_trusted: true };
                self.send_wish(
                    node,
                    wish,
                    method,
                    target,
                    Bytes::from_static(body.as_bytes()),
                    true,
                );
            }
            None => {
                let wish = Wish::Wrong { is_trusted: false };
                let target = "/v1/services/web/stop";
                self.send_wish(node, wish, "POST", target, Bytes::new(), false);
            }
        }
    }

    // ---- processes --------------------------------------------------------------------------------

    fn act_on_process(&mut self, act: Act, node: usize) {
        let living = self.cast.nodes[node].keeper.processes.living();
        let living: Vec<InstanceId> = living.map(|(instance, _)| instance.clone()).collect();
        if living.is_empty() {
            return;
        }
        let instance = living[self.sim.index(living.len())].clone();
        let lasts = self.sim.choose(15_000) * MS;
        let now = self.sim.now();
        let processes = &mut self.cast.nodes[node].keeper.processes;
        let is_hanging = processes.group(&instance).is_hanging;
        match act {
            Act::Success if !is_hanging => {
                self.end_main(node, &instance, Status::Code(0), false);
            }
            Act::Sickness => {
                processes.group(&instance).is_sick = true;
                self.sim.schedule(now + lasts, Ev::Well { node, instance });
            }
            Act::Hang => {
                processes.group(&instance).is_hanging = true;
                self.sim.schedule(now + lasts, Ev::Unhang(node));
            }
            Act::Fork => processes.fork(&instance, now / (10 * MS)),
            _ if !is_hanging => {
                let status = [Status::Signal(9), Status::Code(1)][self.sim.index(2)];
                self.end_main(node, &instance, status, false);
            }
            _ => {}
        }
    }

    // ---- keepers ----------------------------------------------------------------------------------

    fn act_on_keeper(&mut self, act: Act, node: usize) {
        match act {
            Act::KillKeeper | Act::AbsentKeeper => {
                self.kill_keeper(node);
                let more = if act == Act::AbsentKeeper { self.sim.choose(20_000) } else { 0 };
                self.start_keeper_after(node, (100 + more) * MS);
            }
            Act::KillKeeperSoon => {
                let outputs = self.sim.choose(12);
                self.cast.nodes[node].keeper.die_after(outputs);
            }
            Act::FreezeKeeper => {
                let lasts = self.sim.choose(FREEZE_MAX);
                self.freeze_keeper(node, lasts);
            }
            Act::FullDisk => {
                self.cast.nodes[node].keeper.is_full = true;
                let lasts = self.sim.choose(10_000) * MS;
                self.sim.schedule(self.sim.now() + lasts, Ev::Room(node));
            }
            _ => {
                let n = self.sim.choose(3);
                let instance = InstanceId::new(&format!("stranger-{n}"));
                let name = ["web", "db", "stranger"][self.sim.index(3)];
                let name = ServiceName::new(name);
                if let Some((instance, name)) = instance.zip(name) {
                    let ask = Ask::Start(Box::new(stranger(instance.clone(), name)));
                    // It has the name before it begins, and even if it never does.
                    self.cast.nodes[node].has_stranger = true;
                    self.ask_keeper_as_other(node, ask);
                    let lasts = self.sim.choose(20_000) * MS;
                    self.sim.schedule(self.sim.now() + lasts, Ev::Leaves { node, instance });
                }
            }
        }
    }

    // ---- Consul -----------------------------------------------------------------------------------

    fn act_on_consul(&mut self, act: Act, node: usize) {
        let lasts = self.sim.choose(15_000) * MS;
        match act {
            Act::CutAgent => {
                self.disconnect_agent(node);
                self.sim.schedule(self.sim.now() + lasts, Ev::Reunite(node));
            }
            Act::Part => self.cut_from_agent(node, lasts),
            Act::Election => self.elect_server(),
            Act::Headless => self.drop_leader(lasts),
            Act::ConsulDown => self.consul.down_until = self.sim.now() + lasts,
            Act::Restore => self.snapshot_or_restore_services(),
            Act::Clock => {
                let hours = i64::try_from(self.sim.choose(25)).unwrap_or(0) - 12;
                self.sim.shift_wall_clock(hours * 3_600_000_000_000);
            }
            Act::Meddle => self.meddle(node),
            _ => self.damage(node),
        }
    }

    fn snapshot_or_restore_services(&mut self) {
        let had = self.consul.snapshot.is_some();
        if !had && !self.cast.damaged.is_empty() {
            // A damage that a restored snapshot brings back would never be repaired.
            return;
        }
        self.snapshot_or_restore();
        if !had {
            self.cast.at_snapshot = self.cast.model.clone();
        }
    }

    /// Another writer writes a record as it is.
    pub(super) fn touch_a_record(&mut self) {
        let keys: Vec<(String, Bytes)> = self
            .consul
            .double
            .entries("ha/")
            .filter(|held| held.session.is_empty())
            .map(|held| (held.key.to_owned(), Bytes::copy_from_slice(held.value)))
            .collect();
        let keys: Vec<_> = keys.into_iter().filter(|(key, _)| !key.ends_with("/lease")).collect();
        if keys.is_empty() || !self.can_write() {
            return;
        }
        let (key, value) = keys[self.sim.index(keys.len())].clone();
        self.request_as_other(0, "PUT", &format!("/v1/kv/{key}"), value);
    }

    /// Another writer removes what a node has written.
    fn meddle(&mut self, node: usize) {
        let kind = KINDS[self.sim.index(KINDS.len())];
        let name = NAMES[node];
        let key = match self.sim.index(3) {
            0 => format!("ha/inst/{name}/{kind}/observed"),
            1 => format!("ha/name/{name}/{kind}"),
            _ => format!("ha/node/{name}/record"),
        };
        if !self.can_write() {
            return;
        }
        self.cast.nodes[node].is_meddled = true;
        self.request_as_other(0, "DELETE", &format!("/v1/kv/{key}"), Bytes::new());
    }

    /// Another writer damages a record. It is repaired later.
    fn damage(&mut self, node: usize) {
        let kind = self.sim.index(KINDS.len());
        let (name, of) = (NAMES[node], KINDS[kind]);
        let key = match self.sim.index(6) {
            0 => format!("ha/inst/{name}/{of}/observed"),
            1 => format!("ha/inst/{name}/{of}/wanted"),
            2 => format!("ha/type/{of}"),
            3 => format!("ha/job/{name}/{of}"),
            4 => format!("ha/name/{name}/{of}"),
            _ => format!("ha/node/{name}/record"),
        };
        let old = self.consul.double.entry(&key).map(|held| Bytes::copy_from_slice(held.value));
        let is_new = self.can_write() && !self.cast.damaged.contains_key(&key);
        let Some(old) = old.filter(|_| is_new) else { return };
        let junk = DAMAGED[self.sim.index(DAMAGED.len())];
        self.cast.nodes[node].is_meddled = true;
        if !key.starts_with("ha/name/") && !key.ends_with("/observed") {
            // Requests about it may come to nothing, and so what it needs may not run.
            let of = [Some(kind), Some(1), need_of(kind)];
            let of = of.into_iter().flatten();
            let all = (0..NAMES.len()).flat_map(|node| of.clone().map(move |kind| (node, kind)));
            self.cast.fuzzy.extend(all);
        }
        self.cast.damaged.insert(key.clone(), (Bytes::from_static(junk.as_bytes()), old));
        self.request_as_other(0, "PUT", &format!("/v1/kv/{key}"), junk);
        let lasts = self.sim.choose(20_000) * MS;
        self.sim.schedule(self.sim.now() + lasts, Ev::Repair(key));
    }

    /// An operator restores a damaged record.
    pub(super) fn repair_record(&mut self, key: &str) {
        if !self.can_write() {
            let again = Ev::Repair(key.to_owned());
            return self.sim.schedule(self.sim.now() + S, again);
        }
        let Some((junk, old)) = self.cast.damaged.remove(key) else { return };
        let is_there = self.consul.double.entry(key).is_some_and(|held| *held.value == junk);
        if is_there {
            self.request_as_other(0, "PUT", &format!("/v1/kv/{key}"), old);
        }
    }
}

/// The start of another program.
fn stranger(instance: InstanceId, name: ServiceName) -> Start {
    Start {
        instance,
        name,
        argv: ["/usr/lib/hax/services/stranger".into()].into(),
        env: std::collections::BTreeMap::new(),
        user: None,
        group: None,
        dir: "/".into(),
        limits: std::collections::BTreeMap::new(),
        oom_score_adj: 0,
        umask: 0o022,
        output: OutputTarget::Null,
        stop: Stop::default(),
        forks: false,
        counted: None,
        socket: None,
        capability: None,
        tag: None,
    }
}
