//! Faults that are known from the field.
//!
//! They are checks of other owners, services elsewhere with a process's id, keys of an earlier configuration,
//! and a new import of the configuration in use.

use hax_core::base::fid::Fid;
use hax_core::bridge::BQ_WATCH_PATH;
use hax_core::ha::fact::Fact;
use serde_json::{Value, json};

use super::model::Model;
use super::{Bridge, World};
use crate::engine::{Client, S};

/// The time for which a hax may still act on evidence against a process after the evidence is gone. Calls are
/// abandoned and executed late, and responses are slow.
const EVIDENCE_VALID: u64 = 60 * S;
/// Nodes of an earlier configuration that nobody deleted: above and below those in use.
const OLD_NODES: [&str; 2] = ["0x6e00000000000001:0x168", "0x6e00000000000000:0x1"];
/// The maximum number of operations in one transaction.
const TXN: usize = 64;

impl World<'_, Bridge> {
    /// Sets a check of a node, or registers a service that is not Motr's.
    pub(super) fn foreign_check(&mut self) {
        let agent = self.sim.index(self.hosts.len());
        let status = ["passing", "warning", "critical"][self.sim.index(3)];
        let i = self.sim.index(self.cast.motr.len());
        let key = self.cast.motr[i].fid.key.to_string();
        if self.sim.choose(2) == 0 {
            self.sim.log(|| format!("somebody's check of node {agent} is {status}"));
            let id = ["mem", "disk"][self.sim.index(2)];
            let check = json!({"ID": id, "Name": id, "TTL": "100h", "Status": status});
            self.request_as_other(agent, "PUT", "/v1/agent/check/register", check.to_string());
            let verb = ["pass", "warn", "fail"][self.sim.index(3)];
            self.request_as_other(agent, "PUT", &format!("/v1/agent/check/{verb}/{id}"), "");
            return;
        }
        self.sim.log(|| format!("a service elsewhere has the number {key} and is {status}"));
        let node = "billing-host";
        let service = json!({
            "Node": node, "Address": "127.0.9.9",
            "Service": {"ID": key, "Service": "web", "Port": 8080},
            "Checks": [{"Node": node, "CheckID": format!("web:{key}"), "Name": "web alive",
                        "ServiceID": key, "Status": status}],
        });
        self.request_as_other(agent, "PUT", "/v1/catalog/register", service.to_string());
    }

    /// Writes keys of an earlier configuration, or deletes them.
    pub(super) fn change_old_configuration(&mut self) {
        let left = OLD_NODES[self.sim.index(2)];
        let at = format!("/v1/kv/m0conf/nodes/{left}");
        let (i, hax) = (self.sim.index(self.cast.motr.len()), self.sim.index(self.hosts.len()));
        match self.sim.choose(3) {
            0 => {
                self.sim.log(|| format!("the node {left} is deleted"));
                self.request_as_other(0, "DELETE", &format!("{at}?recurse"), "");
            }
            1 => {
                let name = self.cast.hax[hax].name.clone();
                self.sim.log(|| format!("the node {left} is called {name} too"));
                let node = json!({"name": name, "state": "M0_NC_UNKNOWN"});
                self.request_as_other(0, "PUT", &at, node.to_string());
            }
            _ => {
                let fid = self.cast.motr[i].fid;
                self.sim.log(|| format!("{fid} is below the node {left}, too"));
                let process = format!("{at}/processes/{fid}");
                let service = format!("{process}/services/0x7300000000000001:0x900");
                let entry =
                    |name: &str| json!({"name": name, "state": "M0_NC_UNKNOWN"}).to_string();
                self.request_as_other(0, "PUT", &at, entry("old-name"));
                self.request_as_other(0, "PUT", &process, entry("hax"));
                self.request_as_other(0, "PUT", &service, entry("ha"));
            }
        }
    }

    /// Imports the configuration again, as every node of hare does at its start.
    pub(super) fn import_again(&mut self) {
        self.sim.log(|| "the configuration is imported again".into());
        for body in self.cast.import.clone().iter() {
            self.request_as_other(0, "PUT", "/v1/txn", body.clone());
        }
    }

    /// Posts wrong data to a hax in the format of a watch.
    pub(super) fn post_false_watch(&mut self, hax: usize) {
        let (n, i) = (self.sim.choose(1 << 20), self.sim.index(self.cast.motr.len()));
        let index = [1, self.consul.double.index() + 1, 1 << 40][self.sim.index(3)];
        if self.sim.choose(2) == 0 {
            let name = self.cast.hax[hax].name.clone();
            let message = json!({
                "message_type": "M0_HA_MSG_NVEC",
                "payload": {"node": name, "device": "/dev/sda", "state": "failed"},
            });
            use base64::Engine as _;
            let value = base64::engine::general_purpose::STANDARD.encode(message.to_string());
            let entry = json!({"Key": format!("bq/{n}"), "Value": value, "ModifyIndex": index});
            let body = json!([entry]).to_string();
            return self.request(hax, "POST", BQ_WATCH_PATH, body.into(), Client::Other);
        }
        let (node, key) =
            (&self.cast.hax[self.cast.motr[i].hax].name, self.cast.motr[i].fid.key.to_string());
        let check = json!({
            "Node": node, "CheckID": format!("service:{key}"), "Status": "critical",
            "ServiceID": key, "ServiceName": self.cast.motr[i].service, "ModifyIndex": index,
        });
        let body = json!([{"Node": {"Node": node}, "Checks": [check]}]).to_string();
        self.request(hax, "POST", "/", body.into(), Client::Other);
    }

    /// Returns the state and the type in Consul's record of a process.
    pub(super) fn record_of(&self, process: Fid) -> Option<(String, String)> {
        let key = format!("processes/{process}");
        super::model::record(self.consul.double.entry(&key)?.value)
    }

    /// Checks a hax's declaration of death: there must have been valid evidence against the process.
    pub(super) fn on_verdict(&mut self, fact: &Fact) {
        let Fact::ProcessDied { process: fid, .. } = fact else { return };
        let Some(process) = self.cast.motr.iter().find(|process| process.fid == *fid) else {
            return;
        };
        let recent = process.last_evidence.is_some_and(|at| self.sim.now() < at + EVIDENCE_VALID);
        let lives = process.machine.is_some() && !recent && !self.cast.swarm.odds.has_lies();
        if lives && !Model::has_evidence_against(&self.consul.double, *fid) {
            let rule = "no process is declared stopped that nothing speaks against";
            self.sim.fail(rule, format!("{fid}"));
        }
    }

    /// Records the present time as that of the last evidence against the selected processes.
    pub(super) fn record_evidence(&mut self, concerned: impl Fn(&super::SimProcess) -> bool) {
        let now = self.sim.now();
        self.cast
            .motr
            .iter_mut()
            .filter(|process| concerned(process))
            .for_each(|a| a.last_evidence = Some(now));
    }
}

/// Returns the transactions that import a configuration.
pub(super) fn import_of(kv: &[(String, String)]) -> Vec<String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let set = |(key, value): &(String, String)| json!({"KV": {"Verb": "set", "Key": key, "Value": STANDARD.encode(value)}});
    let ops: Vec<Value> =
        kv.iter().filter(|(key, _)| key.starts_with("m0conf/")).map(set).collect();
    ops.chunks(TXN).map(|ops| Value::from(ops).to_string()).collect()
}

/// Returns a difference between a node and the last records of its I/O processes.
///
/// The state of the node's entry and of its enclosure's has to follow from the records.
pub(super) fn wrong_derived_state(world: &World<'_, Bridge>) -> Option<String> {
    let consul = &world.consul.double;
    for hax in 0..world.hosts.len() {
        let name = format!("\"{}\"", world.cast.hax[hax].name);
        let ios =
            world.cast.motr.iter().filter(|process| process.hax == hax && process.service == "ios");
        let words: Vec<_> = ios.filter_map(|process| world.record_of(process.fid)).collect();
        // No state follows from m0mkfs.
        if words.iter().any(|(_, kind)| kind == "M0MKFS") {
            continue;
        }
        let words: Vec<String> = words.into_iter().map(|(state, _)| state).collect();
        let all = |state: &str| !words.is_empty() && words.iter().all(|word| word == state);
        let want = if words.iter().any(|word| word == "DTM_RECOVERED") {
            "M0_NC_ONLINE"
        } else if all("STOPPED") {
            "M0_NC_TRANSIENT"
        } else {
            continue;
        };
        let is_left = |key: &str| OLD_NODES.iter().any(|left| key.contains(left));
        let nodes = consul.entries("m0conf/nodes/0x").filter(|held| {
            held.key.split('/').count() == 3
                && !is_left(held.key)
                && String::from_utf8_lossy(held.value).contains(&name)
        });
        for node in nodes {
            let fid: Option<Fid> = node.key.rsplit('/').next().and_then(|fid| fid.parse().ok());
            let encl = format!("\"{}\"", fid.unwrap_or_default());
            let encls = consul.entries("m0conf/sites/").filter(|held| {
                held.key.rsplit('/').nth(1) == Some("encls")
                    && String::from_utf8_lossy(held.value).contains(&encl)
            });
            for held in encls.chain([node]) {
                let text = String::from_utf8_lossy(held.value);
                if !text.contains(want) {
                    return Some(format!("{} is {text}, what follows is {want}", held.key));
                }
            }
        }
    }
    None
}
