//! From the death of a process to its next start, and what restarts nothing.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use hax_benches::rig::clock;
use hax_sim::real::client;
use serde_json::Value;

use crate::cluster::{Cluster, NODES};
use crate::row::Row;
use crate::sample::{Sample, ms, pause, until};

/// The pause between two writes of the load: 200 a second.
const PAUSE: Duration = Duration::from_millis(5);

/// Kills a process and waits for the start of the next one.
fn restart(cluster: &Cluster, pid: u32) -> anyhow::Result<(Duration, u32)> {
    let mut kill = Command::new("kill");
    kill.args(["-9", &pid.to_string()]);
    let began = clock();
    kill.status()?;
    let next = cluster.started()?;
    Ok((began.elapsed(), next))
}

/// Measures one write of one key, the ceiling of each commit.
fn write(cluster: &Cluster, count: usize) -> anyhow::Result<Sample> {
    let mut sample = Sample::default();
    for nth in 0..count {
        let began = clock();
        cluster.servers[nth % NODES].request("PUT", "/v1/kv/bench/one", b"value")?;
        sample.add(began.elapsed());
    }
    Ok(sample)
}

pub(crate) fn rows(hax: &Path, quick: bool) -> anyhow::Result<Vec<Row>> {
    let count = if quick { 30 } else { 300 };
    let cluster = Cluster::start(hax)?;
    cluster.post("/v1/types", &cluster.kind("one"))?;
    cluster.post("/v1/services/one/start", &Value::Null)?;
    let mut pids = (0..NODES).map(|_| cluster.started()).collect::<anyhow::Result<Vec<_>>>()?;
    let idle = row("restart_idle", &cluster, &mut pids, count)?;
    let is_over = Arc::new(AtomicBool::new(false));
    let (over, at) = (Arc::clone(&is_over), cluster.servers[0].http_addr);
    let load = thread::spawn(move || {
        let mut nth = 0_u64;
        while !over.load(Ordering::Relaxed) {
            let target = format!("/v1/kv/ha/bench/{}", nth % 50);
            let _ = client::request(at, Duration::from_secs(5), "PUT", &target, b"value");
            nth += 1;
            pause(PAUSE);
        }
        nth
    });
    let busy = row("restart_busy", &cluster, &mut pids, count);
    is_over.store(true, Ordering::Relaxed);
    let writes = load.join().unwrap_or_default();
    let mut busy = busy?;
    busy.more = format!("{}; {writes} writes beside it", busy.more);
    Ok(vec![idle, busy])
}

fn row(
    name: &'static str,
    cluster: &Cluster,
    pids: &mut [u32],
    count: usize,
) -> anyhow::Result<Row> {
    let mut sample = Sample::default();
    for nth in 0..count {
        // A life has to be stable, or its restart waits.
        pause(Duration::from_millis(120));
        let (took, pid) = restart(cluster, pids[nth % NODES])?;
        pids[nth % NODES] = pid;
        sample.add(took);
    }
    let mut ceiling = write(cluster, count)?;
    let (p50, p99) = (ms(sample.median()), ms(sample.percentile(99)));
    let one = ms(ceiling.median());
    Ok(Row {
        name,
        value: p50,
        unit: "ms",
        ceiling: Some(one),
        target: "p50 ≤ 12 ms, p99 ≤ 30 ms, and p50 ≤ 3 × one write + 8 ms",
        ok: p50 <= 12.0 && p99 <= 30.0 && p50 <= 3.0 * one + 8.0,
        more: format!("{}; one write {}", sample.text(), ceiling.text()),
        ..Row::default()
    })
}

/// What is restarted by restarts of hax, of the keeper and of the agent.
pub(crate) fn undisturbed(hax: &Path, _: bool) -> anyhow::Result<Vec<Row>> {
    let mut cluster = Cluster::start(hax)?;
    cluster.post("/v1/types", &cluster.kind("one"))?;
    cluster.post("/v1/services/one/start", &Value::Null)?;
    until("all run", || cluster.running().len() == NODES)?;
    let before = cluster.running();
    for nth in 0..NODES {
        cluster.kill_hax(nth);
        cluster.start_hax(nth)?;
        cluster.kill_keeper(nth);
        cluster.start_keeper(nth)?;
        cluster.servers[nth].restart().context("the agent")?;
        cluster.until_ready()?;
    }
    until("all run", || cluster.running().len() == NODES)?;
    let after = cluster.running();
    let changed = before.iter().filter(|one| !after.contains(one)).count();
    Ok(vec![Row {
        name: "undisturbed",
        value: changed as f64,
        unit: "services restarted",
        target: "0",
        ok: changed == 0,
        more: "each hax, keeper and server of Consul was killed and started again".into(),
        ..Row::default()
    }])
}
