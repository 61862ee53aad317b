//! The members of groups in a world: the acts on them, their handlers, and the rules for who writes when.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use hax_core::base::id::ExecId;
use hax_core::consul::port::Command;
use hax_core::exec::{Cause, Event, Spawn, Status};
use hax_core::machine::{Input, Output};
use hax_core::route::decide::Response;
use hax_core::route::fact::Fact;
use hax_core::route::job::{Job, Outcome};

use super::ask::{Ask, EVENTS, Given, On};
use super::groups::{GROUPS, Groups, group_named, group_of, hop};
use super::leases::{Leases, STARTS, released};
use super::provider::{Kind, MEMBERS, of_index};
use super::swarm::Act;
use super::tables::{Tables, route_key};
use super::worker::{Next, Worker};
use super::{Ev, NAMES, NODES, Route};
use crate::engine::{MS, S, Violation, World};
use crate::exec::Program;

/// The margin of the time within which a new holder's route leads to it, for the handlers of its read-backs.
const MARGIN: u64 = S;

/// The state of a world's groups.
pub(super) struct Grouped {
    pub(super) config: Groups,
    pub(super) leases: Leases,
    pub(super) tables: Tables,
    workers: BTreeMap<(usize, ExecId), Worker>,
    /// The members that each router leaves to another writer.
    contested: [BTreeSet<u16>; NODES],
}

impl Grouped {
    pub(super) fn new(config: Groups) -> Self {
        Self {
            config,
            leases: Leases::new(config, NAMES),
            tables: Tables::default(),
            workers: BTreeMap::new(),
            contested: Default::default(),
        }
    }
}

impl World<'_, Route> {
    // ---- acts -------------------------------------------------------------------------------------

    /// Performs an act on the groups or on Consul.
    pub(super) fn act_on_groups(&mut self, act: Act) {
        if self.cast.grouped.is_none() {
            return;
        }
        let i = self.sim.index(NODES);
        match act {
            Act::Member => self.change_member(i),
            Act::Meddle => self.meddle(),
            Act::CutAgent => {
                self.disconnect_agent(i);
                let lasts = self.sim.choose(20_000) * MS;
                self.sim.schedule(self.sim.now() + lasts, Ev::Reunite(i));
            }
            Act::Part => {
                let lasts = self.sim.choose(15_000) * MS;
                self.cut_from_agent(i, lasts);
            }
            Act::Election => self.elect_server(),
            Act::Headless => {
                let lasts = self.sim.choose(10_000) * MS;
                self.drop_leader(lasts);
            }
            Act::ConsulDown => {
                self.consul.down_until = self.sim.now() + self.sim.choose(10_000) * MS;
            }
            Act::Restore => self.snapshot_or_restore(),
            _ => {
                let ask = self.event_of_member();
                self.send(i, ask);
            }
        }
    }

    fn member(&mut self) -> u16 {
        MEMBERS[self.sim.index(MEMBERS.len())]
    }

    /// Draws an event of a member.
    pub(super) fn event_of_member(&mut self) -> Ask {
        let event = EVENTS[self.sim.index(EVENTS.len())];
        let on = On::One(self.member());
        Ask::Event { on, event, wait: self.sim.choose(4) < 3 }
    }

    /// Deletes a member on a router, or creates it again.
    fn change_member(&mut self, node: usize) {
        let index = self.member();
        let has_it = self.cast.routers[node].nodes().is_some_and(|all| all.contains_key(&index));
        let ask = if has_it { Ask::Delete { index } } else { created(index, node) };
        self.trouble(index);
        self.send(node, ask);
    }

    /// Creates the missing members on all routers.
    pub(super) fn create_members(&mut self) {
        if self.cast.grouped.is_none() {
            return;
        }
        for node in 0..NODES {
            let nodes = self.cast.routers[node].nodes();
            let lacks = |index: &u16| nodes.is_none_or(|nodes| !nodes.contains_key(index));
            let missing: Vec<u16> = MEMBERS.into_iter().filter(lacks).collect();
            for index in missing {
                self.trouble(index);
                self.send(node, created(index, node));
            }
        }
    }

    /// Changes a route as another writer.
    fn meddle(&mut self) {
        let index = self.member();
        self.trouble(index);
        let Some(grouped) = &mut self.cast.grouped else { return };
        let other = "10.9.9.9".to_owned();
        match of_index(index) {
            Kind::Consul => {
                let body = format!(r#"{{"v":1,"nextHop":"{other}"}}"#);
                let target = format!("/v1/kv/{}", route_key(index));
                self.ask_consul(0, ("PUT", &*target), body);
            }
            Kind::Linux | Kind::Aws | Kind::Azure | Kind::Gcp => grouped.tables.write(index, other),
        }
    }

    /// Writes a request for a lease that is none.
    pub(super) fn ask_beside(&mut self) {
        if self.cast.grouped.is_some() {
            let group = GROUPS[self.sim.index(GROUPS.len())];
            let body = [r#"{"v":9}"#, "junk", r#"{"v":1,"by":"x","term":0}"#][self.sim.index(3)];
            self.ask_consul(0, ("PUT", &*format!("/v1/kv/ha/route/{group}/ask")), body);
        }
    }

    /// Observes that the route of a member may lead elsewhere for a good reason.
    fn trouble(&mut self, index: u16) {
        if let (Some(grouped), Some(group)) = (&mut self.cast.grouped, group_of(index)) {
            grouped.leases.trouble(group, index);
        }
    }

    /// Observes that a router is late with everything.
    pub(super) fn trouble_all(&mut self) {
        MEMBERS.into_iter().for_each(|index| self.trouble(index));
    }

    // ---- handlers ---------------------------------------------------------------------------------

    /// Starts the handler of a member. Returns its behavior.
    pub(super) fn start_worker(&mut self, n: u64, node: usize, spawn: &Spawn) -> Option<Program> {
        let Self { sim, cast, .. } = self;
        let grouped = cast.grouped.as_mut()?;
        let now = sim.now();
        let made = Worker::new((n, now), &spawn.stdin, &grouped.config, |n| sim.choose(n));
        let (worker, program) = made?;
        grouped.workers.insert((node, spawn.id), worker);
        Some(program)
    }

    /// Observes an event of a member's handler.
    pub(super) fn on_worker(&mut self, node: usize, event: &Event) {
        let now = self.sim.now();
        let Some(grouped) = &mut self.cast.grouped else { return };
        let is_well = match event {
            Event::Started { id } => {
                if let Some(worker) = grouped.workers.get_mut(&(node, *id)) {
                    worker.started_at = Some(now);
                }
                return;
            }
            Event::Output { .. } => return,
            Event::Refused { .. } => false,
            Event::Exited { status, cause, .. } => {
                *cause == Cause::Itself && *status == Status::Code(0)
            }
        };
        let (Event::Refused { id, .. } | Event::Exited { id, .. }) = event else { return };
        let Some(worker) = grouped.workers.remove(&(node, *id)) else { return };
        if !is_well || !worker.is_quick || now > worker.asked_at + STARTS {
            grouped.leases.trouble(worker.group, worker.index);
        }
    }

    /// Performs a step of a member's handler.
    pub(super) fn on_worker_act(&mut self, node: usize, id: ExecId, act: u32) {
        let Some(grouped) = &mut self.cast.grouped else { return };
        let Some(worker) = grouped.workers.get_mut(&(node, id)) else { return };
        if of_index(worker.index) == Kind::Consul {
            return self.act_at_consul(node, id);
        }
        let leads = grouped.tables.plain(worker.index);
        match act {
            0 => worker.reads(leads),
            1 => self.write_plainly(node, id),
            _ => {
                let text = worker.reads_back(leads);
                self.say_of(node, id, &text);
            }
        }
    }

    /// Begins the write of a handler to the plain table.
    fn write_plainly(&mut self, node: usize, id: ExecId) {
        let now = self.sim.now();
        let Some(grouped) = &mut self.cast.grouped else { return };
        let Some(worker) = grouped.workers.get_mut(&(node, id)) else { return };
        let Some(hop) = worker.writes() else { return };
        let (index, flight) = (worker.index, worker.flight * MS);
        // The time of a handler that a host starts late is not the router's to keep.
        let is_in_time = worker.started_at.is_some_and(|at| at <= worker.asked_at + STARTS);
        if let Some(term) = worker.term().filter(|_| is_in_time) {
            let result = grouped.leases.writes(now, (node, worker.group), term);
            self.sim.check(result);
        }
        if flight == 0 {
            return self.lands(index, hop);
        }
        self.sim.schedule(now + flight, Ev::Lands(index, hop));
        // The handler's router dies while the write is on its way.
        if flight > S && self.sim.choose(4) == 3 {
            self.kill(node);
            let down = self.sim.choose(10_000);
            self.start_after(node, down * MS);
        }
    }

    /// Carries out a write to the plain table.
    pub(super) fn lands(&mut self, index: u16, hop: String) {
        self.sim.log(|| format!("the route of node {index} leads to {hop}"));
        if let Some(grouped) = &mut self.cast.grouped {
            grouped.tables.write(index, hop);
        }
    }

    /// Performs the next step of a handler of the provider `consul`.
    fn act_at_consul(&mut self, node: usize, id: ExecId) {
        let worker = |world: &mut Self| {
            world.cast.grouped.as_mut().and_then(|of| of.workers.remove(&(node, id)))
        };
        let Some(mut worker) = worker(self) else { return };
        match worker.next() {
            None => {}
            Some(Next::Over(done)) => {
                let is_done = done.outcome != Outcome::Failed;
                let text = worker.says(done);
                self.speak(node, id, &text);
                if !is_done {
                    self.trouble(worker.index);
                }
            }
            Some(Next::Ask(method, target, body)) => {
                let answer = self.ask_consul(node, (method, &*target), body);
                worker.hears(answer.as_ref());
            }
        }
        if let Some(grouped) = &mut self.cast.grouped {
            grouped.workers.insert((node, id), worker);
        }
    }

    fn say_of(&mut self, node: usize, id: ExecId, text: &Bytes) {
        self.speak(node, id, text);
        let is_failure = String::from_utf8_lossy(text).contains(r#""failed""#);
        let index = self.cast.grouped.as_ref().and_then(|of| of.workers.get(&(node, id)));
        if let Some(index) = index.map(|worker| worker.index).filter(|_| is_failure) {
            self.trouble(index);
        }
    }

    // ---- the rules --------------------------------------------------------------------------------

    /// Observes an input of a router.
    pub(super) fn groups_take(&mut self, node: usize, input: &Input) {
        if let (Some(grouped), Input::Consul(reply)) = (&mut self.cast.grouped, input) {
            grouped.leases.hears(node, reply);
        }
    }

    /// Checks the outputs of a router.
    pub(super) fn groups_give(&mut self, node: usize, out: &[Output<Fact>]) {
        let now = self.sim.now();
        let Some(grouped) = &mut self.cast.grouped else { return };
        for output in out {
            let result = match output {
                Output::Consul(command) => {
                    grouped.leases.gives(now, node, command);
                    grouped.releases(node, command)
                }
                Output::Exec(hax_core::exec::Command::Spawn(spawn)) => {
                    grouped.starts(now, node, spawn)
                }
                Output::Fifo(response) => {
                    grouped.leases.names(&String::from_utf8_lossy(&response.body))
                }
                Output::Exec(_)
                | Output::Net(_)
                | Output::Spiel(_)
                | Output::Http(_)
                | Output::HttpStream(_)
                | Output::File(_)
                | Output::Keeper(_)
                | Output::State(_)
                | Output::Fact(_) => Ok(()),
            };
            self.sim.check(result);
        }
    }

    /// Observes a fact about a group.
    pub(super) fn on_group_fact(&mut self, node: usize, fact: &Fact) {
        let (now, life) = (self.sim.now(), self.hosts[node].life());
        let Some(grouped) = &mut self.cast.grouped else { return };
        match fact {
            Fact::Gained { group, term } => {
                let Some(group) = group_named(group) else { return };
                grouped.contested[node].retain(|index| group_of(*index) != Some(group));
                let result = grouped.leases.gains(now, node, (group, *term));
                self.sim.check(result);
                let bound = grouped.config.hold.min(5) * S + 5 * S + MARGIN;
                let due = Ev::Bound { node, life, group, term: *term };
                self.sim.schedule(now + bound, due);
            }
            Fact::Proved { group } => {
                let group = group_named(group);
                grouped.contested[node].retain(|index| group_of(*index) != group);
            }
            Fact::Lapsed { group } | Fact::Lost { group, .. } | Fact::HandedOver { group, .. } => {
                grouped.leases.ends(node, group_named(group));
            }
            Fact::Contested { index } => {
                let index = index.number();
                grouped.contested[node].insert(index);
                self.trouble(index);
            }
            _ => {}
        }
    }

    /// Observes the death of a router.
    pub(super) fn groups_die(&mut self, node: usize) {
        let Some(grouped) = &mut self.cast.grouped else { return };
        grouped.leases.died(node);
        grouped.contested[node].clear();
        grouped.workers.retain(|(of, _), _| *of != node);
    }

    /// Checks that the routes of a holder lead to it when its last read-back has passed.
    pub(super) fn check_bound(&mut self, (node, life): (usize, u32), group: usize, term: u64) {
        let World { sim, cast, consul, hosts, .. } = self;
        let Some(grouped) = &cast.grouped else { return };
        let tenure = grouped.leases.tenure(group);
        let is_its = |of: &&super::leases::Tenure| of.router == node && of.term == term;
        let Some(tenure) = tenure.filter(is_its).filter(|_| hosts[node].life() == life) else {
            return;
        };
        let Some(nodes) = cast.routers[node].nodes().filter(|_| !grouped.config.acts_alone) else {
            return;
        };
        for index in MEMBERS.into_iter().filter(|index| group_of(*index) == Some(group)) {
            let is_busy = grouped
                .workers
                .iter()
                .any(|((of, _), worker)| *of == node && worker.index == index);
            if is_busy || tenure.troubled.contains(&index) || !nodes.contains_key(&index) {
                continue;
            }
            if !grouped.tables.leads_to(&consul.double, index, node) {
                let led = grouped.tables.plain(index);
                let text = format!("node {index}: {led:?} instead of {}", hop(node, index));
                let rule = "a late write is mended within the bound";
                sim.check(Violation::of(rule, text));
            }
        }
    }

    /// Returns the reason why the groups are not at rest yet.
    pub(super) fn groups_unrest(&self) -> Option<String> {
        let grouped = self.cast.grouped.as_ref()?;
        let double = &self.consul.double;
        for (group, name) in GROUPS.iter().enumerate() {
            let is_of = |index: &u16| group_of(*index) == Some(group);
            let members = || MEMBERS.into_iter().filter(is_of);
            let lacks = |node: &usize| {
                let nodes = self.cast.routers[*node].nodes();
                nodes.is_none_or(|nodes| members().any(|index| !nodes.contains_key(&index)))
            };
            if let Some(node) = (0..NODES).find(lacks) {
                return Some(format!("router {node} lacks members of group {name}"));
            }
            let Some(holder) = grouped.leases.holder(double, group) else {
                return Some(format!("nobody holds the lease of group {name}"));
            };
            if grouped.config.preempts && holder != group {
                return Some(format!("router {holder} holds the lease of group {name}"));
            }
            let is_left = |index: &u16| grouped.contested[holder].contains(index);
            let leads = |index: &u16| grouped.tables.leads_to(double, *index, holder);
            let stray = members().filter(|index| !is_left(index)).find(|index| !leads(index));
            if let Some(index) = stray {
                return Some(format!("the route of node {index} does not lead to router {holder}"));
            }
        }
        None
    }

    /// Observes the keys after a write at Consul.
    pub(super) fn groups_look(&mut self) {
        let World { sim, cast, consul, .. } = self;
        if let Some(grouped) = &mut cast.grouped {
            grouped.leases.look(&consul.double);
            sim.check(grouped.tables.look(&consul.double));
        }
    }

    /// Prepares for the restore of a snapshot of Consul.
    pub(super) fn groups_go_back(&mut self) {
        let now = self.sim.now();
        self.trouble_all();
        if let Some(grouped) = &mut self.cast.grouped {
            grouped.leases.on_restore(now);
            grouped.tables.on_restore();
        }
    }
}

impl Grouped {
    /// Checks that a router gives no lease up while one of its handlers works under it.
    fn releases(&self, node: usize, command: &Command) -> Result<(), Violation> {
        let Some(group) = released(command) else { return Ok(()) };
        let works = |worker: &&Worker| worker.group == group && worker.term().is_some();
        let own = self.workers.range((node, ExecId(0))..=(node, ExecId(u64::MAX)));
        match own.map(|(_, worker)| worker).find(works) {
            None => Ok(()),
            Some(worker) => {
                let text = format!("router {node}: {:?}", worker.job);
                Violation::of("a lease is given up after its handlers have ended", text)
            }
        }
    }

    /// Checks that a member's handler is started by the holder, and ends in time.
    fn starts(&self, now: u64, node: usize, spawn: &Spawn) -> Result<(), Violation> {
        let Ok(job) = serde_json::from_slice::<Job>(&spawn.stdin) else { return Ok(()) };
        let name = job.parameters.get("group");
        let Some(group) = name.and_then(|name| group_named(name)) else { return Ok(()) };
        let us = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        if job.fence.is_some() {
            let end = now + us(spawn.deadline) + us(spawn.grace) + STARTS;
            return self.leases.begins((node, group), end);
        }
        let is_harmless = job.response == Response::WriteBack && job.provider.name() == "consul";
        if is_harmless || self.config.acts_alone {
            return Ok(());
        }
        let text = format!("router {node}: {job:?}");
        Violation::of("what is of a group is done under its lease", text)
    }
}

fn created(index: u16, node: usize) -> Ask {
    Ask::Create { index, names_provider: true, given: Given::member(index, node) }
}

/// Returns the name of a router with its groups, for a journal.
pub(super) fn journal_name(node: usize, config: Option<Groups>) -> String {
    match config {
        Some(config) => format!("{}/{config}", NAMES[node]),
        None => NAMES[node].into(),
    }
}
