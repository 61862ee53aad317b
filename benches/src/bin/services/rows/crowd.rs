//! Many services: how long a cold start takes, and what they cost while nothing happens.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use hax_benches::rig::clock;
use serde_json::Value;

use crate::cluster::{Cluster, NODES};
use crate::row::Row;
use crate::sample::{pause, until};
use crate::table::skipped;

/// The number of types of a cold start.
const TYPES: usize = 64;

/// The time for which the cost of idle services is measured.
const IDLE: Duration = Duration::from_secs(20);

fn define_and_start(cluster: &Cluster, count: usize) -> anyhow::Result<()> {
    for nth in 0..count {
        cluster.post("/v1/types", &cluster.kind(&format!("t{nth}")))?;
    }
    for nth in 0..count {
        cluster.post(&format!("/v1/services/t{nth}/start"), &Value::Null)?;
    }
    Ok(())
}

/// All daemons and all instances are gone, as after a loss of power; Consul is up.
pub(crate) fn cold_start(hax: &Path, quick: bool) -> anyhow::Result<Vec<Row>> {
    let types = if quick { 8 } else { TYPES };
    let mut cluster = Cluster::start(hax)?;
    define_and_start(&cluster, types)?;
    let all = types * NODES;
    until("all run", || cluster.running().len() == all)?;
    let before = cluster.running();
    for nth in 0..NODES {
        cluster.kill_hax(nth);
        cluster.kill_keeper(nth);
        cluster.clear_keeper(nth);
    }
    for (.., pid) in &before {
        Command::new("kill").args(["-9", &pid.to_string()]).status()?;
    }
    let began = clock();
    for nth in 0..NODES {
        cluster.start_keeper(nth)?;
        cluster.start_hax(nth)?;
    }
    let is_new = || {
        let now = cluster.running();
        now.len() == all && now.iter().all(|one| !before.contains(one))
    };
    until("all run again", is_new)?;
    let took = began.elapsed().as_secs_f64();
    Ok(vec![Row {
        name: "cold_start",
        value: took,
        unit: "s",
        target: "3 nodes × 64 services ≤ 2 s",
        ok: took <= 2.0,
        more: format!("{all} instances run, as Consul shows"),
        ..Row::default()
    }])
}

/// Returns the processor time of a process, in seconds.
fn processor(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
    let ticks = |nth: usize| fields.get(nth).and_then(|text| text.parse::<f64>().ok());
    // The fields utime and stime of proc(5), in hundredths of a second.
    Ok((ticks(11).context("utime")? + ticks(12).context("stime")?) / 100.0)
}

/// Returns the resident memory of a process, in MiB.
fn resident(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

/// A thousand idle instances on each node.
pub(crate) fn thousand(hax: &Path, quick: bool) -> anyhow::Result<Vec<Row>> {
    if quick {
        return Ok(vec![skipped("thousand", "it takes minutes")]);
    }
    let cluster = Cluster::start(hax)?;
    define_and_start(&cluster, 1_000)?;
    until("all run", || cluster.running().len() == 1_000 * NODES)?;
    pause(Duration::from_secs(15));
    // The node that is not asked.
    let daemons = cluster.daemons(NODES - 1);
    let time = || daemons.iter().map(|pid| processor(*pid)).sum::<anyhow::Result<f64>>();
    let before = time()?;
    pause(IDLE);
    let percent = (time()? - before) / IDLE.as_secs_f64() * 100.0;
    let memory = daemons.iter().map(|pid| resident(*pid)).sum::<anyhow::Result<f64>>()?;
    Ok(vec![Row {
        name: "thousand",
        value: percent,
        unit: "% of a core",
        target: "≤ 1 %, ≤ 40 MiB",
        ok: percent <= 1.0 && memory <= 40.0,
        more: format!("hax and keeper of a node: {memory:.1} MiB"),
        ..Row::default()
    }])
}
