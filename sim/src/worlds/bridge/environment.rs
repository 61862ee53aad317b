//! The other clients of Consul: the elector, the checks of processes, other writers.

use hax_core::base::fid::Fid;

use super::event::Ev;
use super::model::host_of;
use super::{Bridge, World};
use crate::engine::MS;

/// The period of the external elector.
const ELECTOR_PERIOD: u64 = 500 * MS;

impl World<'_, Bridge> {
    /// Gives the lock to a node whose confd passes, if nobody holds it.
    pub(super) fn elect(&mut self) {
        self.sim.schedule(self.sim.now() + ELECTOR_PERIOD, Ev::Elect);
        let held = self.consul.double.entry("leader").map(|held| held.session.to_owned());
        if held.is_some_and(|session| !session.is_empty()) || !self.consul.double.has_leader() {
            return;
        }
        let first = self.sim.choose(self.hosts.len() as u64);
        for offset in 0..self.hosts.len() {
            let agent = (usize::try_from(first).unwrap_or(0) + offset) % self.hosts.len();
            if self.try_to_lead(agent) {
                return;
            }
        }
    }

    fn try_to_lead(&mut self, agent: usize) -> bool {
        let name = self.cast.hax[agent].name.clone();
        let own = format!("service:{}", self.cast.hax[agent].fid.key);
        let Some(confd) = self.cast.motr.iter().find(|a| a.hax == agent && a.is_confd()) else {
            return false;
        };
        let checks = ["serfHealth", &own, &confd.check];
        let passing = |id: &str| {
            self.consul.double.checks().any(|c| host_of(c.node) == name && c.id == id && c.passing)
        };
        if !checks.iter().all(|id| passing(id)) {
            return false;
        }
        let body = format!(
            r#"{{"Name": "leader", "Checks": ["serfHealth", "{own}", "{}"], "LockDelay": "200ms"}}"#,
            confd.check
        );
        let made = self.request_as_other(agent, "PUT", "/v1/session/create", body);
        let made = String::from_utf8_lossy(&made).into_owned();
        let Some(session) = made.split('"').nth(3).map(str::to_owned) else { return false };
        let got =
            self.request_as_other(agent, "PUT", &format!("/v1/kv/leader?acquire={session}"), name);
        if got.starts_with(b"true") {
            self.sim.log(|| format!("node {agent} leads"));
            return true;
        }
        self.request_as_other(agent, "PUT", &format!("/v1/session/destroy/{session}"), "");
        false
    }

    /// Ends the leader's session.
    pub(super) fn end_leader_session(&mut self) {
        let held = self.consul.double.entry("leader").map(|held| held.session.to_owned());
        if let Some(session) = held.filter(|session| !session.is_empty()) {
            self.sim.log(|| "the leader's session ends".into());
            self.request_as_other(0, "PUT", &format!("/v1/session/destroy/{session}"), "");
        }
    }

    /// Writes a record of a process, as an old daemon or an operator does.
    pub(super) fn write_record(&mut self) {
        let i = self.sim.index(self.cast.motr.len());
        let fid = self.cast.motr[i].fid;
        let all = [
            ("STOPPED", "M0D"),
            ("STARTED", "M0D"),
            ("DTM_RECOVERED", "M0D"),
            ("STARTING", "M0D"),
            ("STARTED", "M0MKFS"),
            ("STOPPED", "M0MKFS"),
        ];
        let (state, kind) = all[self.sim.index(all.len())];
        let value = format!(
            r#"{{"state": "M0_CONF_HA_PROCESS_{state}", "type": "M0_CONF_HA_PROCESS_{kind}"}}"#
        );
        self.sim.log(|| format!("somebody writes that {fid} has {state} as {kind}"));
        self.request_as_other(0, "PUT", &format!("/v1/kv/processes/{fid}"), value);
    }

    /// Writes keys that are not Motr's, or deletes keys.
    pub(super) fn write_foreign_keys(&mut self) {
        match self.sim.choose(5) {
            // The old scripts write this at a shutdown.
            4 => self.request_as_other(0, "PUT", "/v1/kv/leader", "elect2805"),
            0 => self.request_as_other(0, "PUT", "/v1/kv/processes/0x72:junk", "no json"),
            1 => self.request_as_other(0, "PUT", "/v1/kv/m0conf/odd/key", "x"),
            2 => self.request_as_other(0, "PUT", "/v1/kv/elsewhere", self.sim.now().to_string()),
            _ => {
                let i = self.sim.index(self.cast.motr.len());
                let fid = self.cast.motr[i].fid;
                self.request_as_other(0, "DELETE", &format!("/v1/kv/processes/{fid}"), "")
            }
        };
    }

    /// Appends a message to the broadcast queue.
    pub(super) fn append_to_queue(&mut self) {
        let epoch = self.consul.double.entry("epoch").map(|held| held.value.to_vec());
        let epoch = epoch.and_then(|text| String::from_utf8(text).ok()?.parse::<u64>().ok());
        let n = epoch.unwrap_or(0) + 1;
        let i = self.sim.index(self.cast.motr.len());
        let (fid, hax) = (self.cast.motr[i].fid, self.cast.motr[i].hax);
        let node = self.cast.hax[hax].name.clone();
        let device = ["failed", "online", "offline", "repair", "odd"][self.sim.index(5)];
        let (kind, payload) = match self.sim.choose(4) {
            0 => (
                "PROCESS-STATE-UPDATE",
                format!(
                    r#"{{"fid": "{fid}", "state": "M0_CONF_HA_PROCESS_STARTED",
                        "type": "M0_CONF_HA_PROCESS_M0D"}}"#
                ),
            ),
            1 | 2 => (
                "M0_HA_MSG_NVEC",
                format!(r#"{{"node": "{node}", "device": "/dev/vdb", "state": "{device}"}}"#),
            ),
            _ if self.cast.swarm.spiel => {
                let (op, pool) = self.draw_operation();
                ("SNS_OP", format!(r#"{{"op_name": "{}", "fid": "{pool}"}}"#, op.name()))
            }
            _ => ("SNS_OP", r#"{"op_name": "x", "fid": "0x1:0x1"}"#.to_owned()),
        };
        let message =
            format!(r#"{{"timestamp": "x", "message_type": "{kind}", "payload": {payload}}}"#);
        self.sim.log(|| format!("bq/{n}: {kind}"));
        self.request_as_other(0, "PUT", "/v1/kv/epoch", n.to_string());
        self.request_as_other(0, "PUT", &format!("/v1/kv/bq/{n}"), message);
    }

    /// Changes the state of a device, or of hardware, in the configuration.
    pub(super) fn reconfigure(&mut self) {
        let prefixes = ["m0conf/nodes/0x", "m0conf/sites/"];
        let prefix = prefixes[self.sim.index(2)];
        let keys = self.consul.double.entries(prefix).filter(|held| {
            let last = held.key.rsplit('/').next().unwrap_or_default();
            let fid: Option<Fid> = last.parse().ok();
            fid.is_some_and(|fid| matches!(fid.kind(), b'd' | b'n' | b'e' | b'c'))
        });
        let keys: Vec<(String, String)> = keys
            .map(|held| (held.key.to_owned(), String::from_utf8_lossy(held.value).into_owned()))
            .collect();
        let i = self.sim.index(keys.len());
        let (key, value) = &keys[i];
        let device = key.contains("/sdevs/");
        let texts = if device {
            ["online", "offline", "failed", "repairing", "repaired", "rebalancing"]
        } else {
            [
                "M0_NC_ONLINE",
                "M0_NC_FAILED",
                "M0_NC_TRANSIENT",
                "M0_NC_REPAIR",
                "odd",
                "M0_NC_UNKNOWN",
            ]
        };
        let text = texts[self.sim.index(texts.len())];
        let Some((head, _)) = value.split_once(r#""state": ""#) else { return };
        let value = format!(r#"{head}"state": "{text}"}}"#);
        self.sim.log(|| format!("{key} is {text}"));
        self.request_as_other(0, "PUT", &format!("/v1/kv/{key}"), value);
    }

    /// Checks whether a process runs, as its agent does, and sets its check.
    pub(super) fn check_process(&mut self, i: usize) {
        let up = self.cast.motr[i].machine.is_some();
        self.set_check(i, up);
    }

    pub(super) fn check_process_later(&mut self, i: usize) {
        let delay =
            if self.cast.swarm.odds.consul > 0 { self.sim.choose(4_000) * MS } else { 100 * MS };
        self.sim.schedule(self.sim.now() + delay, Ev::Check(i));
    }

    pub(super) fn set_check(&mut self, i: usize, passing: bool) {
        let (agent, check) = (self.cast.motr[i].hax, self.cast.motr[i].check.clone());
        let status = if passing { "passing" } else { "warning" };
        let fails = self.consul.double.checks().any(|c| c.id == check && !c.passing);
        if fails || !passing {
            self.cast.motr[i].last_evidence = Some(self.sim.now());
        }
        self.with_consul(|double, now, out| double.set_check(now, agent, &check, status, "", out));
    }

    /// Reports a node's agent as dead, or as alive again.
    pub(super) fn set_agent(&mut self, agent: usize, alive: bool) {
        self.sim.log(|| {
            format!("the agent of node {agent} is {}", if alive { "alive" } else { "dead" })
        });
        let name = self.cast.hax[agent].name.clone();
        let passes = |c: crate::consul::CheckView<'_>| {
            host_of(c.node) == name && c.id == "serfHealth" && c.passing
        };
        if !alive || !self.consul.double.checks().any(passes) {
            self.record_evidence(|process| process.hax == agent);
        }
        self.with_consul(|double, now, out| double.set_alive(now, agent, alive, out));
    }

    /// Makes the servers remove a node whose agent is dead.
    pub(super) fn reap(&mut self, agent: usize) {
        self.sim.log(|| format!("node {agent} is dropped from the catalog"));
        self.with_consul(|double, now, out| double.reap(now, agent, out));
    }

    /// Removes a service from the catalog, or registers it again as it was.
    pub(super) fn register(&mut self, i: usize, there: bool) {
        let process = &self.cast.motr[i];
        let (agent, key, service) = (process.hax, process.fid.key, process.service.clone());
        self.cast.motr[i].registered = there;
        if there {
            let body = self.cast.motr[i].registration.clone();
            self.request_as_other(agent, "PUT", "/v1/agent/service/register", body);
            self.check_process(i);
        } else {
            self.sim.log(|| format!("{service} {key} is not registered any more"));
            self.request_as_other(agent, "PUT", &format!("/v1/agent/service/deregister/{key}"), "");
        }
    }

    /// Restores the normal state: all agents alive, all services registered, and all checks correct.
    pub(super) fn repair_all(&mut self) {
        for agent in 0..self.hosts.len() {
            self.token(agent).restore();
            self.rejoin_agent(agent);
            self.set_agent(agent, true);
        }
        if self.cast.swarm.agent_faults {
            self.with_consul(|double, now, out| double.full_sync_agents(now, out));
        }
        for i in 0..self.cast.motr.len() {
            if !self.cast.motr[i].registered {
                self.register(i, true);
            }
        }
    }
}
