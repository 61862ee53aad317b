//! Failovers without a failure: busy loops beside the routers, the leader of Consul's servers and an agent that
//! stand still for 3 s. The hold is 5 s.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hax_benches::rig::clock;
use hax_sim::real::{self, Options, RealConsul};

use crate::router::Router;
use crate::row::Row;
use crate::sample::{pause, until};
use crate::table::skipped;

/// The number of busy loops.
const LOOPS: usize = 8;

/// The time for which a process stands still.
const STALL: Duration = Duration::from_secs(3);

/// The text in the log of a router that has got the lease.
const ACTS: &str = "this router acts, in term";

pub(super) fn rows(hax: &Path, quick: bool) -> anyhow::Result<Vec<Row>> {
    const NAME: &str = "false_failover";
    if let Err(why) = real::binary() {
        return Ok(vec![skipped(NAME, why)]);
    }
    // A quick run has one server, which stands still as the agent and as the leader.
    let (servers, agents) = if quick {
        (vec![RealConsul::start(Options::new("router"))?], Vec::new())
    } else {
        let options = ["server-1", "server-2", "server-3"].map(Options::new);
        let servers = RealConsul::start_servers(options.into())?;
        let agent = |name, nodes| RealConsul::start_client(&servers, name, nodes);
        let agents = vec![agent("agent-a", 4)?, agent("agent-b", 5)?];
        (servers, agents)
    };
    let at = |nth: usize| format!("http://{}", agents.get(nth).unwrap_or(&servers[0]).address());
    let router = |nth: usize, name: &str| {
        Router::new(
            hax,
            &["--consul", &at(nth), "--name", name, "--hold", "5s", "--preempt", "off"],
        )
    };
    let routers = [router(0, "a")?, router(1, "b")?];
    for (nth, router) in routers.iter().enumerate() {
        let node = "-i 1 -p consul -t edge -r 192.0.2.0/24 -group edge";
        router.ok(&format!("create_node {node} -n 10.0.0.{}", nth + 1))?;
        until("the first router acts", || routers[0].acts())?;
    }
    let lasts = if quick { Duration::from_secs(1) } else { Duration::from_secs(60) };
    let began = clock();
    busy(lasts);
    if quick {
        stall(&servers[0])?;
    } else {
        stall(&agents[0])?;
        pause(STALL);
        if let Some(leader) = servers.iter().find(|server| server.leads_servers()) {
            stall(leader)?;
        }
        pause(Duration::from_secs(15));
    }
    until("the first router acts", || routers[0].acts() || routers[1].acts())?;
    let gained: usize = routers.iter().map(|router| router.logs(ACTS)).sum();
    let failovers = gained.saturating_sub(1);
    Ok(vec![Row {
        name: NAME,
        value: failovers as f64,
        unit: "",
        target: "0",
        ok: failovers == 0 && routers[0].acts(),
        more: format!(
            "{LOOPS} busy loops for {lasts:?}, then an agent and the servers' leader stand still for \
             {STALL:?} each; {:.0} s in all; keepalived at 0.02 s: 36 in 25 s",
            began.elapsed().as_secs_f64()
        ),
        ..Row::default()
    }])
}

/// Runs busy loops for this time.
fn busy(lasts: Duration) {
    let is_over = Arc::new(AtomicBool::new(false));
    let loops: Vec<_> = (0..LOOPS)
        .map(|_| {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || while !is_over.load(Ordering::Relaxed) {})
        })
        .collect();
    pause(lasts);
    is_over.store(true, Ordering::Relaxed);
    loops.into_iter().for_each(|thread| drop(thread.join()));
}

fn stall(consul: &RealConsul) -> anyhow::Result<()> {
    consul.pause()?;
    pause(STALL);
    Ok(consul.resume()?)
}
