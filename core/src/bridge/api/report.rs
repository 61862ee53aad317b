//! Reports on the cluster in the format of the old daemon's helper programs `hare-status` and
//! `hare-fetch-fids` (`hax.md` 1.1).
//!
//! The data comes from the replicas. Keys outside the replicas are read for each report.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::{Map, Value, json};

use crate::base::fid::Fid;
use crate::base::id::HttpId;
use crate::bridge::context::Cx;
use crate::bridge::continuation::{Continuation, Report};
use crate::cluster::Cluster;
use crate::consul::op::Op;
use crate::consul::port::Answer;
use crate::ha::process::ProcessEventKind;
use crate::http::answer;
use crate::store::txn::{self, Outcome};

/// Reads the keys outside the replicas. The reply completes the report.
pub(crate) fn on_request(cx: &mut Cx<'_>, report: Report, http: HttpId) {
    let trees = ["bytecount/", "stats/filesystem", "m0_client_types"].map(Op::get_tree);
    txn::send(cx, Continuation::Report(report, http), &trees);
}

pub(crate) fn on_answer(
    cx: &mut Cx<'_>,
    report: Report,
    http: HttpId,
    answer: Option<&Answer>,
    cluster: &Cluster,
) {
    let read = extra_keys(Outcome::of(answer));
    let Some(along) = read else {
        let why = "Consul does not answer";
        cx.http(http, answer::Answer::refuse(503, "HTTPServiceUnavailable", "", why));
        return;
    };
    let body = match report {
        Report::Status => status(cluster, &along),
        Report::ByteCount => json!({"bytecount": along.bytecount}),
        Report::Fids => fids(cluster, &along),
    };
    cx.http(http, answer::Answer::new(200, format!("{body:#}")));
}

/// The keys read for one report.
#[derive(Debug)]
struct ExtraKeys {
    bytecount: Map<String, Value>,
    filesystem: Value,
    clients: Vec<Box<str>>,
}

fn extra_keys(outcome: Outcome<'_>) -> Option<ExtraKeys> {
    let Outcome::Applied(results) = outcome else { return None };
    let mut along =
        ExtraKeys { bytecount: Map::new(), filesystem: json!({"stats": {}}), clients: Vec::new() };
    for entry in results.into_iter().filter_map(|result| result.kv) {
        let Some(value) = entry.bytes() else { continue };
        if let Some(kind) = entry.key.strip_prefix("bytecount/") {
            let count = serde_json::from_slice(&value).unwrap_or(Value::Null);
            along.bytecount.insert(kind.into(), count);
        } else if entry.key == "stats/filesystem" {
            along.filesystem = serde_json::from_slice(&value).unwrap_or(Value::Null);
        } else if entry.key == "m0_client_types" {
            along.clients = serde_json::from_slice(&value).unwrap_or_default();
        }
    }
    Some(along)
}

fn status(cluster: &Cluster, along: &ExtraKeys) -> Value {
    let conf = cluster.conf();
    let pools = conf.pools().map(|(fid, name)| json!({"fid": fid.to_string(), "name": name}));
    let profiles = conf.profiles().map(|(fid, value)| {
        let value: Value = serde_json::from_str(value).unwrap_or(Value::Null);
        json!({"fid": fid.to_string(), "name": value["name"], "pools": value["pools"]})
    });
    let nodes = conf.nodes().map(|(fid, node)| {
        let passes = cluster.health().host_passes(&node.name);
        let svcs = conf.processes_on(fid).iter().map(|process| {
            json!({
                "name": name(cluster, *process, along, &NAMES).unwrap_or("m0_client"),
                "fid": process.to_string(),
                "ep": conf.endpoint(*process).unwrap_or("**ERROR**"),
                "status": if passes { says(cluster, *process) } else { "offline" },
            })
        });
        json!({"name": node.name, "svcs": svcs.collect::<Vec<_>>()})
    });
    json!({
        "bytecount": along.bytecount,
        "pools": pools.collect::<Vec<_>>(),
        "profiles": profiles.collect::<Vec<_>>(),
        "filesystem": along.filesystem,
        "nodes": nodes.collect::<Vec<_>>(),
    })
}

/// Maps a service's name to the reported name of its process.
const NAMES: [(&str, &str); 4] =
    [("confd", "confd"), ("ha", "hax"), ("ios", "ioservice"), ("m0_client_s3", "s3server")];

/// Returns the reported name of a process: by its services, otherwise by the keys that name a client.
fn name<'a>(
    cluster: &'a Cluster,
    process: Fid,
    along: &'a ExtraKeys,
    names: &[(&str, &'static str)],
) -> Option<&'a str> {
    let mut services: Vec<&str> = cluster.conf().service_names(process).collect();
    services.sort_unstable();
    let known = |name: &str| names.iter().find(|(known, _)| *known == name).map(|(_, name)| *name);
    let client = |name: &str| along.clients.iter().find(|client| ***client == *name);
    let of = |name: &str| known(name).or_else(|| client(name).map(|client| &**client));
    let named = || cluster.conf().client_names(process).find_map(|name| of(&name));
    services.into_iter().find_map(of).or_else(named)
}

fn says(cluster: &Cluster, process: Fid) -> &'static str {
    match cluster.record(process).0 {
        None => "unknown",
        Some(record)
            if matches!(
                record.state,
                ProcessEventKind::Started | ProcessEventKind::DtmRecovered
            ) =>
        {
            "started"
        }
        Some(_) => "offline",
    }
}

fn fids(cluster: &Cluster, along: &ExtraKeys) -> Value {
    let conf = cluster.conf();
    let node = |(fid, node): (Fid, &crate::cluster::conf::Node)| {
        let processes = conf.processes_on(fid);
        let hax = processes.iter().find(|p| conf.get_process(**p).is_some_and(|p| p.hax));
        let ha_ep = hax.and_then(|hax| conf.endpoint(*hax));
        // The old program generates a new UUID each time, so nobody can rely on more than its format.
        let uuid = uuid(fid);
        let service = |process: &Fid| {
            let name = name(cluster, *process, along, &NAMES[..3])?;
            let mut service = json!({
                "name": name, "fid": process.to_string(), "ep": conf.endpoint(*process),
            });
            let more = match name {
                "confd" => {
                    json!({"ha_ep": ha_ep, "conf_xc": "/etc/motr/confd.xc", "uuid": uuid})
                }
                "ioservice" => match conf.metadata(*process) {
                    Some(path) => json!({"ha_ep": ha_ep, "uuid": uuid, "be_seg_path": path}),
                    None => json!({"ha_ep": ha_ep, "uuid": uuid}),
                },
                "hax" => json!({}),
                _ => json!({
                    "ha_ep": ha_ep, "profile_fid": conf.profile().map(|p| p.to_string()),
                }),
            };
            if let (Value::Object(service), Value::Object(more)) = (&mut service, more) {
                service.extend(more);
            }
            Some(service)
        };
        let svcs: Vec<Value> = processes.iter().filter_map(service).collect();
        json!({"name": node.name, "svcs": svcs, "ha_ep": ha_ep, "uuid": uuid})
    };
    Value::Array(conf.nodes().map(node).collect())
}

/// Returns a stable UUID of a node.
fn uuid(node: Fid) -> String {
    let Fid { container, key } = node;
    format!(
        "{:08x}-{:04x}-1{:03x}-8{:03x}-{:012x}",
        container & 0xffff_ffff,
        container >> 32 & 0xffff,
        container >> 48 & 0xfff,
        container >> 56,
        key & 0xffff_ffff_ffff
    )
}

/// Answers the waiting reports because of a stop.
pub(crate) fn stop(cx: &mut Cx<'_>) {
    let jobs = cx.in_flight();
    let waiting: BTreeMap<HttpId, ()> = jobs
        .filter_map(|job| {
            let Continuation::Report(_, http) = job else { return None };
            Some((http, ()))
        })
        .collect();
    cx.cancel_where(|job| matches!(job, Continuation::Report(..)));
    for http in waiting.into_keys() {
        cx.http(http, answer::Answer::stopping());
    }
}
