//! `GET /status`: the bridge's state and its pending work, for operators.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use serde_json::{Value, json};

use crate::base::fid::Fid;
use crate::bridge::State;
use crate::bridge::context::Cx;
use crate::bridge::continuation::LaneKey;
use crate::bridge::process::lanes::LaneState;
use crate::cluster::replica::Table;
use crate::http::answer::Answer;

pub(crate) fn status(state: &State, cx: &Cx<'_>) -> Answer {
    let config = cx.config();
    let view = state.view(cx.in_flight().count(), cx.refusals(), cx.now().mono);
    let (waits, why) = state.waits_for(cx.refusals(), cx.now().mono);
    let ago = |at| cx.now().mono.micros_since(at) / 1_000;
    let contact = state.tables.contact.map(ago);
    let entries = state.cluster.entries();
    let replicas = Table::ALL.map(|table| {
        let replica = state.tables.replica(table);
        json!({
            "table": table.name(), "index": replica.index, "loaded": replica.is_loaded(), "shown": replica.hidden.is_none(),
            "entries": entries[table as usize],
        })
    });
    let endpoints: BTreeMap<Fid, &str> = state.cluster.conf().endpoints().collect();
    let links = state.links.iter().map(|(id, link)| {
        json!({
            "link": id.to_string(), "process": link.process.to_string(),
            "endpoint": endpoints.get(&link.process), "up": link.up, "since_ms": ago(link.since),
            "in_flight": link.in_flight, "owed": link.pending_count(), "kept": link.kept,
        })
    });
    let lanes = state.lanes.iter().map(|(key, queued, stage)| {
        let process = match key {
            LaneKey::Process(process) => process.to_string(),
            LaneKey::Devices => "devices".into(),
        };
        json!({"process": process, "queued": queued, "stage": stage_name(stage)})
    });
    let holder = state.leader.holder();
    let leader = match (holder, state.leader.is_candidate()) {
        (Some((value, _)), _) => Some(value),
        (None, true) => None,
        // A node that is no candidate does not watch the lock.
        (None, false) => state.entrypoints.leader(),
    };
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "node": config.node,
        "in_catalog": !state.own_node.is_missing(),
        "process": config.process.to_string(),
        "uptime_ms": ago(state.began),
        "ready": view.is_ready(),
        "waits_for": waits,
        "why": why,
        "stopping": view.stopping,
        "consul": {"answers": view.consul, "contact_ms": contact, "calls": view.calls},
        "leader": {
            "elects": config.elect, "stands": state.leader.is_candidate(), "holds": view.leads,
            "gives_way": state.leader.yields(), "node": leader,
            "session": holder.map(|(_, session)| session),
        },
        "spiel": {
            "up": state.spiel.is_up(),
            "under_way": state.spiel.operations.report(cx.now().mono),
        },
        "replicas": replicas,
        "links": links.collect::<Vec<Value>>(),
        "lanes": lanes.collect::<Vec<Value>>(),
        "entries": view.entries,
        "questions": view.questions,
    });
    Answer::new(200, format!("{body}"))
}

fn stage_name(stage: &LaneState) -> &'static str {
    match stage {
        LaneState::Ready => "ready",
        LaneState::Writing => "writing",
        LaneState::Rereading(_) => "rereading",
        LaneState::Waiting(_) => "waiting",
    }
}
