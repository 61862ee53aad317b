//! The death of a router without groups, seen by `--watch-peer`: from the kill to the first ping that is
//! answered by way of the other router.

use std::path::Path;
use std::time::Duration;

use hax_benches::rig::clock;
use hax_sim::real::{self, Gossip, Options, RealConsul};
use hax_tokio::demo::lab::{Lab, Pings};

use crate::router::Router;
use crate::row::Row;
use crate::sample::{Sample, ms, pause, until};
use crate::table::skipped;

/// The interval between two pings.
const EVERY: Duration = Duration::from_millis(10);

/// The service of the first router. Its check asks the router's server itself.
const SERVICE: &str = "edge-a";

pub(super) fn rows(hax: &Path, quick: bool) -> anyhow::Result<Vec<Row>> {
    const NAMES: [&str; 3] = ["daemon_dead", "node_dead_tuned", "node_dead_stock"];
    if let Err(why) = real::binary() {
        return Ok(NAMES.map(|name| skipped(name, &why)).into());
    }
    let lab = match Lab::new() {
        Ok(lab) => lab,
        Err(why) => return Ok(NAMES.map(|name| skipped(name, format!("{why:#}"))).into()),
    };
    let mut rows = Vec::new();
    let consul = RealConsul::start(Options::new("router"))?;
    let mut took = Sample::default();
    for _ in 0..if quick { 1 } else { 11 } {
        let mut scene = Scene::new(hax, &lab, [&consul, &consul])?;
        took.add(scene.falls(|scene| {
            scene.routers[0].kill();
            Ok(())
        })?);
    }
    rows.push(row(NAMES[0], "≤ 1.5 s", 1_500, took, "the server is killed, its node lives"));
    if quick {
        return Ok(rows);
    }
    for (name, gossip, target, limit) in
        [(NAMES[1], Gossip::Fast, "≤ 2 s", 2_000), (NAMES[2], Gossip::Stock, "≤ 9 s", 9_000)]
    {
        let mut took = Sample::default();
        for _ in 0..5 {
            took.add(node_dies(hax, &lab, gossip)?);
        }
        rows.push(row(
            name,
            target,
            limit,
            took,
            "the agent, the server and the links end at once",
        ));
    }
    Ok(rows)
}

fn row(name: &'static str, target: &'static str, limit: u64, mut took: Sample, what: &str) -> Row {
    let median = took.median();
    Row {
        name,
        value: ms(median),
        unit: "ms",
        target,
        ok: median <= Duration::from_millis(limit),
        more: format!("{what}; {}; keepalived 3,260/3,540 ms, at 0.1 s 330/410", took.text()),
        ..Row::default()
    }
}

fn node_dies(hax: &Path, lab: &Lab, gossip: Gossip) -> anyhow::Result<Duration> {
    let options = ["server-1", "server-2", "server-3"].map(Options::new);
    let servers = RealConsul::start_servers_with(options.into(), gossip)?;
    let agent = |name: &str, nodes| RealConsul::start_client_with(&servers, name, nodes, gossip);
    let mut agents = [agent("agent-a", 4)?, agent("agent-b", 5)?];
    let mut scene = Scene::new(hax, lab, [&agents[0], &agents[1]])?;
    let [first, _] = &mut agents;
    scene.falls(|scene| {
        lab.set_links(0, "down")?;
        first.kill();
        scene.routers[0].kill();
        Ok(())
    })
}

/// Two routers. The second one watches the first one's service.
struct Scene<'a> {
    lab: &'a Lab,
    routers: [Router; 2],
}

impl<'a> Scene<'a> {
    fn new(hax: &Path, lab: &'a Lab, consuls: [&RealConsul; 2]) -> anyhow::Result<Self> {
        let at = consuls.map(|consul| format!("http://{}", consul.address()));
        let http = format!("127.0.0.1:{}", real::port());
        let first = Router::new(hax, &["--consul", &at[0], "--name", "a", "--http", &http])?;
        let check = format!(r#"{{"HTTP":"http://{http}/readyz","Interval":"1s","Timeout":"1s"}}"#);
        let body = format!(r#"{{"Name":"{SERVICE}","Check":{check}}}"#);
        let reply = consuls[0].request("PUT", "/v1/agent/service/register", body.as_bytes())?;
        anyhow::ensure!(reply.status == 200, "{}", reply.text());
        let passing = format!("/v1/health/service/{SERVICE}?passing");
        until("the service passes", || {
            let reply = consuls[1].request("GET", &passing, b"");
            reply.is_ok_and(|reply| reply.text().len() > 10)
        })?;
        let flags = ["--consul", &at[1], "--name", "b", "--watch-peer", SERVICE];
        let routers = [first, Router::new(hax, &flags)?];
        for (nth, mode) in ["primary", "secondary"].into_iter().enumerate() {
            for node in lab.nodes(nth, &format!("-m {mode}")) {
                routers[nth].ok(&node)?;
            }
        }
        lab.set_links(0, "up")?;
        routers[0].ok("node_event -i all -e revert")?;
        until("the other router knows that all is well", || routers[1].logs("is well") > 0)?;
        Ok(Self { lab, routers })
    }

    /// Lets the first router die. Returns the time until pings are answered by way of the second one.
    fn falls(
        &mut self,
        die: impl FnOnce(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<Duration> {
        let pings = Pings::new(self.lab, EVERY)?;
        // The check's phase is anywhere in its interval.
        pause(Duration::from_nanos(u64::from(std::process::id()) * 7_919 % 1_000_000_000));
        let began = clock();
        die(self)?;
        until("the routes lead to the second router", || self.lab.leads_to(1))?;
        let sent = pings.sent();
        until("a ping is answered", || pings.sent() > sent && pings.missing(sent..sent + 1) == 0)?;
        Ok(began.elapsed())
    }
}
