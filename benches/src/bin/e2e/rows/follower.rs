//! A node whose Consul server is a follower: the delay of a change there, and the effect when the servers
//! lose their leader.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hax_benches::rig::clock;
use hax_core::base::fid::Fid;
use hax_core::ha::message::Body;
use hax_sim::cluster::{Cluster, Endpoints, Shape};
use hax_sim::real::{Options, RealConsul};
use hax_tokio::demo::api::Api;
use hyper::Method;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Sample, ms};
use crate::fixture::{Program, start};
use crate::peer::Peer;
use crate::row::Row;
use crate::storm::Crowd;

/// The timeout of a change, longer than an election of the servers' leader takes.
const LIMIT: Duration = Duration::from_secs(120);
/// The pause before a change. It is longer than hax's pause between two responses of a watch.
const REST: Duration = Duration::from_millis(400);
/// The time limit of one bare query.
const WAIT: &str = "wait=60s";

/// Three servers, hax at a server that does not lead, and a link of that node.
struct Scene {
    servers: Vec<RealConsul>,
    apis: Vec<Api>,
    cluster: Cluster,
    leader: usize,
    hax: Program,
    crowd: Crowd,
    /// The process that changes, on the third node.
    about: Fid,
    follower: usize,
}

/// The kind of a change.
#[derive(Clone, Copy)]
enum What {
    Key,
    Check,
}

/// The way in which the servers lose their leader.
#[derive(Clone, Copy)]
enum End {
    Killed,
    Frozen,
}

/// Measures changes of a key and of a check, on a follower's node.
pub(crate) async fn rows(program: &Path, quick: bool) -> anyhow::Result<Vec<Row>> {
    let mut scene = Scene::begin(program).await?;
    let changes = if quick { 10 } else { 40 };
    let mut rows = Vec::new();
    for (name, what) in [("follower_key", What::Key), ("follower_check", What::Check)] {
        let before = (scene.hax.consul_requests()?, scene.hax.consul_bytes()?);
        let (mut all, mut bare) = scene.changes(what, changes).await?;
        let bytes = scene.hax.consul_bytes()? - before.1;
        let (p50, p90) = (all.median(), all.percentile(90));
        rows.push(Row {
            name,
            value: ms(p50),
            unit: "ms",
            ceiling: Some(ms(bare.median())),
            consul_requests: scene.hax.consul_requests()? - before.0,
            target: "≤ 20 ms, p90 ≤ 40",
            ok: ms(p50) <= 20.0 && ms(p90) <= 40.0,
            more: format!(
                "{changes} changes, three servers; p90 {:.1}, most {:.1}; a bare default query: p90 \
                 {:.1}, most {:.1}; {:.1} KiB read from Consul a change",
                ms(p90),
                ms(all.percentile(100)),
                ms(bare.percentile(90)),
                ms(bare.percentile(100)),
                bytes as f64 / 1024.0 / changes as f64,
            ),
            ..Row::default()
        });
    }
    Ok(rows)
}

/// Measures the end of the servers' leader: the time until the deaths of its node are sent to links, and the
/// delay of changes after that.
pub(crate) async fn ends(program: &Path, quick: bool) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, end) in [("leader_killed", End::Killed), ("leader_frozen", End::Frozen)] {
        let (mut told, mut led, mut later, mut rest) =
            (Sample::default(), Sample::default(), Sample::default(), Sample::default());
        for _ in 0..if quick { 1 } else { 3 } {
            let mut scene = Scene::begin(program).await?;
            let took = scene.end(end).await?;
            told.add(took.0);
            led.add(took.1);
            for nth in 0..6 {
                sleep(REST).await;
                later.add(scene.change(What::Key, nth).await?);
            }
            // By then all requests to the lost leader have been given up.
            sleep(Duration::from_secs(45)).await;
            let (all, _) = scene.changes(What::Key, 10).await?;
            all.0.into_iter().for_each(|took| rest.add(took));
        }
        rows.push(Row {
            name,
            value: ms(told.median()),
            unit: "ms",
            ceiling: Some(ms(led.median())),
            target: "–",
            ok: true,
            more: format!(
                "until the deaths are told, at most {:.0}; ceiling: until a bare read of the new leader's \
                 says so, at most {:.0}; then changes: {:.0} at the median, {:.0} at most; after 45 s: \
                 {:.1}, {:.1}",
                ms(told.percentile(100)),
                ms(led.percentile(100)),
                ms(later.median()),
                ms(later.percentile(100)),
                ms(rest.median()),
                ms(rest.percentile(100)),
            ),
            ..Row::default()
        });
    }
    Ok(rows)
}

impl Scene {
    async fn begin(program: &Path) -> anyhow::Result<Self> {
        let options = (1..=3).map(|node| Options::new(&format!("ssu{node}"))).collect();
        let servers = RealConsul::start_servers(options)?;
        let cluster = Cluster::generate(&Shape::like_hare(3).with_endpoints(Endpoints::Sock));
        RealConsul::load_servers(&servers, &cluster)?;
        let leads = servers.iter().position(RealConsul::leads_servers);
        let leader = leads.context("one of them leads")?;
        let (follower, third) = ((leader + 1) % 3, (leader + 2) % 3);
        let node = format!("ssu{}", follower + 1);
        let (hax, _) = start(program, &node, &servers[follower].address(), &[]).await?;
        let mut crowd = Crowd::connect(hax.motr, &[ios(&cluster, follower)?]).await?;
        crowd.open_loop(1).await?;
        crowd.calm().await;
        let about = ios(&cluster, third)?;
        let api = |server: &RealConsul| Api::new(format!("http://{}", server.address()));
        let apis = servers.iter().map(api).collect();
        Ok(Self { servers, apis, cluster, leader, hax, crowd, about, follower })
    }

    fn peer(&mut self) -> &mut Peer {
        &mut self.crowd.peers[0]
    }

    /// Makes `times` changes one after another; returns the time of each until its note, and until the
    /// response to a bare default query at the same server.
    async fn changes(&mut self, what: What, times: usize) -> anyhow::Result<(Sample, Sample)> {
        let target = match what {
            What::Key => format!("/v1/kv/processes/{}?", self.about),
            What::Check => "/v1/health/state/any?".to_owned(),
        };
        let (tell, mut seen) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn_local(watch(self.apis[self.follower].clone(), target, tell));
        let (mut all, mut bare) = (Sample::default(), Sample::default());
        for nth in 0..times {
            // The pauses vary, so that changes occur at any time of the leader's heartbeat.
            sleep(REST + Duration::from_millis(37 * nth as u64 % 100)).await;
            while seen.try_recv().is_ok() {}
            let began = clock();
            all.add(self.change(what, nth).await?);
            let at = timeout(LIMIT, seen.recv()).await?.context("the query goes on")?;
            bare.add(at.duration_since(began));
        }
        Ok((all, bare))
    }

    /// Makes one change; returns the time until its note.
    async fn change(&mut self, what: What, nth: usize) -> anyhow::Result<Duration> {
        let (method, target, body) = self.put(what, nth.is_multiple_of(2))?;
        // The write goes to the third server, which is neither the follower's server nor the leader that
        // ends.
        let third = self.apis[3 - self.leader - self.follower].clone();
        let about = self.about;
        self.peer().drain();
        let began = clock();
        while third.send(method.clone(), &target, body.clone()).await?.status != 200 {
            if began.elapsed() > LIMIT {
                bail!("no change: {target}");
            }
            sleep(Duration::from_millis(5)).await;
        }
        let at = self.told(|fid| fid == about).await?;
        Ok(at.duration_since(began))
    }

    fn put(&self, what: What, ends: bool) -> anyhow::Result<(Method, String, String)> {
        let about = self.about;
        Ok(match what {
            What::Key => {
                let state = if ends { "STOPPED" } else { "DTM_RECOVERED" };
                let state = format!("M0_CONF_HA_PROCESS_{state}");
                let value = format!(r#"{{"state": "{state}", "type": "M0_CONF_HA_PROCESS_M0D"}}"#);
                (Method::PUT, format!("/v1/kv/processes/{about}"), value)
            }
            What::Check => {
                let verb = if ends { "warn" } else { "pass" };
                let target = format!("/v1/agent/check/{verb}/service:{}", about.key);
                (Method::PUT, target, String::new())
            }
        })
    }

    /// Waits for a note of a matching object; returns its time.
    async fn told(&mut self, concerns: impl Fn(Fid) -> bool) -> anyhow::Result<Instant> {
        loop {
            let (at, message) = timeout(LIMIT, self.peer().told()).await.context("a note")??;
            if let Body::Nvec(nvec) = &message.body
                && nvec.notes.iter().any(|note| concerns(note.fid))
            {
                return Ok(at);
            }
        }
    }

    /// Ends the leader; returns the time until its node's processes are reported dead, and the time until a
    /// consistent read at the follower's server shows it, which asks the new leader.
    async fn end(&mut self, end: End) -> anyhow::Result<(Duration, Duration)> {
        self.peer().drain();
        let leader = self.leader;
        let (began, api) = (clock(), self.apis[self.follower].clone());
        match end {
            End::Killed => self.servers[leader].kill(),
            End::Frozen => self.servers[leader].pause()?,
        }
        let dead = ios(&self.cluster, leader)?;
        let mut tasks = JoinSet::new();
        let node = format!("ssu{}", leader + 1);
        tasks.spawn_local(is_dead(api, node));
        let told = self.told(|fid| fid == dead).await?.duration_since(began);
        let seen = timeout(LIMIT, tasks.join_next()).await?.context("it looks")???;
        Ok((told, seen.duration_since(began)))
    }
}

/// Waits until the new leader reports that a node's own check fails, or that the node is not in the catalog;
/// returns the time.
async fn is_dead(api: Api, node: String) -> anyhow::Result<Instant> {
    loop {
        let ask = api.send(Method::GET, "/v1/health/state/passing?consistent", "");
        // A request that waits for the former leader is given up.
        if let Ok(Ok(answer)) = timeout(Duration::from_millis(500), ask).await
            && answer.status == 200
        {
            let all: Vec<serde_json::Value> = serde_json::from_slice(&answer.body)?;
            let own = |check: &serde_json::Value| {
                check["Node"] == *node && check["CheckID"] == "serfHealth"
            };
            if !all.iter().any(own) {
                return Ok(clock());
            }
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// Repeats a default blocking query; sends the time of each response.
async fn watch(api: Api, target: String, tell: mpsc::UnboundedSender<Instant>) {
    let mut index = 1;
    loop {
        let query = format!("{target}&index={index}&{WAIT}");
        match api.send(Method::GET, &query, "").await {
            Ok(answer) if answer.index != index && answer.status == 200 => {
                index = answer.index;
                if tell.send(clock()).is_err() {
                    return;
                }
            }
            _ => sleep(Duration::from_millis(10)).await,
        }
    }
}

fn ios(cluster: &Cluster, node: usize) -> anyhow::Result<Fid> {
    let services = &cluster.catalog[node].services;
    let ios = services.iter().find(|service| service.name == "ios").context("an I/O service")?;
    Ok(Fid::process(ios.id.parse()?))
}
