//! The rules for the records of processes in Consul, and for their writers.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hax_core::base::fid::Fid;
use serde_json::Value;

use super::{Record, Topology, broken};
use crate::consul::Consul;
use crate::engine::Violation;
use crate::worlds::bridge::model;

/// One value of a key.
#[derive(Clone, Debug)]
struct Written {
    /// The number of the write, counted over all keys.
    number: u64,
    by: Option<usize>,
    record: Option<Record>,
}

/// All values of `processes/`, in the order of their writes.
#[derive(Debug, Default)]
pub(super) struct Kv {
    last: u64,
    /// The values by key, with the index of the last change. The index is zero if the key is deleted.
    keys: BTreeMap<Fid, (u64, Vec<Written>)>,
}

impl Kv {
    pub(super) fn new(consul: &Consul) -> Self {
        let mut kv = Self::default();
        kv.observe(None, &[], consul);
        kv
    }

    /// Returns the number of writes.
    pub(super) fn number(&self) -> u64 {
        self.last
    }

    /// Records changed keys, deleted keys, and writes of an unchanged value.
    pub(super) fn observe(&mut self, by: Option<usize>, body: &[u8], consul: &Consul) {
        for op in &operations(body) {
            let key = op["KV"]["Key"].as_str().unwrap_or_default();
            let value = op["KV"]["Value"].as_str().and_then(|value| STANDARD.decode(value).ok());
            let (Some(fid), Some(held)) = (process_in(key), consul.entry(key)) else { continue };
            let entry = self.keys.entry(fid).or_default();
            if entry.0 == held.index && value.as_deref() == Some(held.value) {
                self.last += 1;
                entry.1.push(Written { number: self.last, by, record: model::record(held.value) });
            }
        }
        for held in consul.entries("processes/") {
            let Some(fid) = process_in(held.key) else { continue };
            let entry = self.keys.entry(fid).or_default();
            if entry.0 != held.index {
                self.last += 1;
                entry.0 = held.index;
                entry.1.push(Written { number: self.last, by, record: model::record(held.value) });
            }
        }
        // A restored snapshot may be older than a key. A late write of a hax then finds the indexes that it
        // expects, so its consequences stem from the restore.
        for (fid, (index, written)) in &mut self.keys {
            if *index != 0 && consul.entry(&format!("processes/{fid}")).is_none() {
                self.last += 1;
                *index = 0;
                written.push(Written { number: self.last, by, record: None });
            }
        }
    }

    /// Returns the number of the write of `word`, if the key holds it or has held it since write `number`.
    pub(super) fn held_since(&self, fid: Fid, record: &Record, number: u64) -> Option<u64> {
        let (_, written) = self.keys.get(&fid)?;
        let last = written.last()?;
        let mut recent = written.iter().rev().take_while(|w| w.number > number).chain([last]);
        recent.find(|w| w.record.as_ref() == Some(record)).map(|w| w.number)
    }

    /// Returns the hax that wrote the last record of a process. `None` if another client did, or if there is
    /// none.
    pub(super) fn last_writer(&self, fid: Fid) -> Option<usize> {
        self.keys.get(&fid)?.1.last()?.by
    }

    /// Checks that Consul holds the last acknowledged event of each process.
    ///
    /// The exceptions are a later write of another client and a failure that the bridge detected.
    /// `acknowledged` returns that event of a process and the number of writes at that time.
    pub(super) fn check_last_events<'a>(
        &self,
        topology: &Topology,
        acknowledged: impl Fn(usize) -> Option<&'a (Record, u64)>,
        consul: &Consul,
    ) -> Result<(), Violation> {
        for (motr, (fid, ..)) in topology.motr.iter().enumerate() {
            let Some((record, number)) = acknowledged(motr) else { continue };
            let Some((_, written)) = self.keys.get(fid) else { continue };
            let Some(last) = written.last() else { continue };
            // The bridge may revoke the write of another client.
            let others = written.iter().any(|w| w.by.is_none() && w.number > *number);
            let found = last.record.as_ref().is_some_and(|(state, _)| state == "STOPPED");
            let gone = consul.entry(&format!("processes/{fid}")).is_none();
            if last.record.as_ref() != Some(record) && !others && !found && !gone {
                let text =
                    format!("{fid}: {record:?} was acknowledged, Consul holds {:?}", last.record);
                return broken("the last acknowledged event stands", text);
            }
        }
        Ok(())
    }
}

fn operations(body: &[u8]) -> Vec<Value> {
    serde_json::from_slice(body).unwrap_or_default()
}

fn process_in(key: &str) -> Option<Fid> {
    key.strip_prefix("processes/")?.parse().ok()
}

/// Checks that a hax writes for its own process, for processes of its node and for those with a link to it.
///
/// It writes for others only as leader, and if their nodes do not pass.
pub(super) fn check_writer(
    topology: &Topology,
    hax: usize,
    body: &[u8],
    linked: impl Fn(Fid) -> bool,
    consul: &Consul,
) -> Result<(), Violation> {
    for op in &operations(body) {
        let key = op["KV"]["Key"].as_str().unwrap_or_default();
        let Some(fid) = process_in(key) else { continue };
        // Consul may have refused the write: the transaction's check of the lock exists for this case.
        if consul.entry(key).is_none_or(|held| held.index != consul.index()) {
            continue;
        }
        let (own, name) = &topology.haxes[hax];
        let found = topology.motr.iter().find(|(of, ..)| *of == fid);
        let local = *own == fid || found.is_some_and(|(_, of, ..)| *of == hax) || linked(fid);
        let leader = consul.entry("leader").and_then(|held| consul.session_node(held.session));
        if !local && leader.map(model::host_of) != Some(&**name) {
            let text = format!("hax {hax} writes {key}");
            return broken("only the leader writes for other nodes", text);
        }
    }
    Ok(())
}

/// Checks that only the leader writes statistics.
pub(super) fn check_statistics_writer(
    topology: &Topology,
    hax: usize,
    body: &[u8],
    consul: &Consul,
) -> Result<(), Violation> {
    for op in &operations(body) {
        let key = op["KV"]["Key"].as_str().unwrap_or_default();
        let statistics = ["stats/", "bytecount/", "ioservices/"];
        let written = || consul.entry(key).is_some_and(|held| held.index == consul.index());
        if op["KV"]["Verb"] != "set" || !statistics.iter().any(|s| key.starts_with(s)) || !written()
        {
            continue;
        }
        let leader = consul.entry("leader").and_then(|held| consul.session_node(held.session));
        if leader != Some(&*topology.haxes[hax].1) {
            let text = format!("hax {hax} writes {key}");
            return broken("only the leader takes statistics down", text);
        }
    }
    Ok(())
}
