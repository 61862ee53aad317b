//! The rows of the table.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use hax_benches::rig::{Rig, clock};
use hax_benches::{scenes, shapes};
use hax_core::base::fid::Fid;
use hax_core::bridge::io::Input;
use hax_core::ha::message::Body;
use hax_core::ha::note::{NOTES_MAX, Note, Nvec, NvecKind, ObjectState};
use hax_core::ha::process::{ProcessEvent, ProcessEventKind, ProcessType};
use hax_tokio::demo::api::Api;
use hyper::Method;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::Row;
use crate::http;
use crate::peer::Peer;
use crate::storm::{Crowd, Storm};
use crate::world::{Program, World, ceiling};

const LIMIT: Duration = Duration::from_secs(30);

/// Where the rows come from.
struct Run {
    world: World,
    hax: Program,
    api: Api,
    /// All processes that are configured, hax' own apart; the first node's first.
    fids: Vec<Fid>,
    /// How often a figure is taken; the best counts.
    times: usize,
    quick: bool,
    rows: Vec<Row>,
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all[all.len() / 2]
}

/// All rows.
pub(crate) async fn all(quick: bool) -> anyhow::Result<Vec<Row>> {
    let world = World::new(shapes::nodes23())?;
    let mut starts = Vec::new();
    let mut running = None;
    for _ in 0..3 {
        drop(running.take());
        let (hax, took) = world.hax(&[]).await?;
        starts.push(took);
        running = Some(hax);
    }
    let hax = running.context("it was started")?;
    let api = Api::new(format!("http://{}", world.consul.address()));
    let services = world.cluster.catalog.iter().flat_map(|node| &node.services);
    let fids = services.filter(|service| service.name != "hax");
    let fids = fids.filter_map(|service| Some(Fid::process(service.id.parse().ok()?))).collect();
    let times = if quick { 2 } else { 5 };
    let mut run = Run { world, hax, api, fids, times, quick, rows: Vec::new() };
    run.ready(&starts).await?;
    run.rss_idle()?;
    run.boot().await?;
    run.storms().await?;
    // Each of the others has a hax that owes nothing to anybody.
    run.renew().await?;
    run.link().await?;
    run.watch_post().await?;
    run.renew().await?;
    run.failure_flood().await?;
    run.rss_links().await?;
    Ok(run.rows)
}

impl Run {
    async fn renew(&mut self) -> anyhow::Result<()> {
        self.hax = self.world.hax(&[]).await?.0;
        Ok(())
    }

    async fn bare(&self, method: Method, target: &str, body: &Bytes) -> anyhow::Result<Duration> {
        let began = clock();
        let answer = self.api.send(method, target, body.clone()).await?;
        anyhow::ensure!(answer.status == 200, "{target}: {}", answer.status);
        Ok(began.elapsed())
    }

    async fn bare_median(
        &self,
        method: Method,
        target: &str,
        body: &Bytes,
    ) -> anyhow::Result<Duration> {
        let mut all = Vec::new();
        for _ in 0..15 {
            all.push(self.bare(method.clone(), target, body).await?);
        }
        Ok(median(all))
    }

    async fn ready(&mut self, starts: &[Duration]) -> anyhow::Result<()> {
        let mut reads = Duration::ZERO;
        for target in ["kv/m0conf/?recurse", "kv/processes/?recurse", "health/state/any"] {
            let target = format!("/v1/{target}");
            reads += self.bare_median(Method::GET, &target, &Bytes::new()).await?;
        }
        let best = starts.iter().min().copied().unwrap_or_default();
        self.rows.push(Row {
            name: "ready",
            value: ms(best),
            unit: "ms",
            ceiling: Some(ms(reads)),
            consul_requests: self.hax.consul_requests()?,
            target: "≤ 100 ms after Consul answers",
            ok: best <= Duration::from_millis(100),
            more: format!("from exec; {starts:.0?}"),
        });
        Ok(())
    }

    fn rss_idle(&mut self) -> anyhow::Result<()> {
        let value = self.hax.rss()?;
        self.rows.push(Row {
            name: "rss_idle",
            value,
            unit: "MiB",
            ceiling: None,
            consul_requests: 0,
            target: "≤ 20 MiB",
            ok: value <= 20.0,
            more: "23 nodes, no links".into(),
        });
        Ok(())
    }

    fn confds(&self) -> usize {
        let services = self.world.cluster.catalog.iter().flat_map(|node| &node.services);
        services.filter(|service| service.name == "confd").count()
    }

    async fn boot(&mut self) -> anyhow::Result<()> {
        let bare = ceiling("constant", self.confds()).await?;
        let mut crowd = Crowd::connect(bare.motr, &self.fids).await?;
        let best = crowd.open_loop(1).await?;
        drop(crowd);
        drop(bare);
        let mut crowd = Crowd::connect(self.hax.motr, &self.fids).await?;
        let before = self.hax.consul_requests()?;
        let storm = crowd.open_loop(1).await?;
        crowd.calm().await;
        let consul_requests = self.hax.consul_requests()? - before;
        self.rows.push(Row {
            name: "boot",
            value: ms(storm.took),
            unit: "ms",
            ceiling: Some(ms(best.took)),
            consul_requests,
            target: "counters read once, shared transactions",
            ok: consul_requests <= 60,
            more: format!("{} first requests at once, {} of this node", storm.requests, self.own()),
        });
        Ok(())
    }

    /// The processes of hax' own node.
    fn own(&self) -> usize {
        self.world.cluster.catalog[0].services.len() - 1
    }

    async fn storms(&mut self) -> anyhow::Result<()> {
        let fids = self.fids[..100].to_vec();
        let bare = ceiling("constant", self.confds()).await?;
        let mut compared = Crowd::connect(bare.motr, &fids).await?;
        compared.open_loop(1).await?;
        let mut crowd = Crowd::connect(self.hax.motr, &fids).await?;
        crowd.open_loop(1).await?;
        crowd.calm().await;
        let (mut best, mut most): (Option<Storm>, Option<Storm>) = (None, None);
        let mut rates = Vec::new();
        let mut consul_requests = 0;
        // In turn, so that what else the machine does meets both.
        for _ in 0..self.times {
            let top = compared.open_loop(100).await?;
            let before = self.hax.consul_requests()?;
            let storm = crowd.open_loop(100).await?;
            consul_requests = consul_requests.max(self.hax.consul_requests()? - before);
            rates.push(storm.rate().round());
            most = most.filter(|most| most.took < top.took).or(Some(top));
            best = best.filter(|best| best.took < storm.took).or(Some(storm));
        }
        let (storm, top) = best.zip(most).context("a storm")?;
        self.rows.push(Row {
            name: "entrypoint_storm",
            value: storm.rate(),
            unit: "/s",
            ceiling: Some(top.rate()),
            consul_requests,
            target: "≥ 0.6, ≤ 60 requests, p99 ≤ the ceiling's + 50 ms",
            ok: storm.rate() >= 0.6 * top.rate()
                && consul_requests <= 60
                && storm.p99 <= top.p99 + Duration::from_millis(50),
            more: format!("p99 {:.0?}, ceiling's {:.0?}; runs {rates:?}", storm.p99, top.p99),
        });
        let each = if self.quick { 30 } else { 100 };
        let mut rates = Vec::new();
        let (mut best, mut most, mut share): (f64, f64, f64) = (0.0, 0.0, 0.0);
        let mut spent = 0;
        for _ in 0..self.times {
            most = most.max(compared.closed_loop(each).await?.rate());
            let before = self.hax.consul_requests()?;
            let storm = crowd.closed_loop(each).await?;
            spent = self.hax.consul_requests()? - before;
            share = share.max(spent as f64 / storm.requests as f64);
            best = best.max(storm.rate());
            rates.push(storm.rate().round());
        }
        self.rows.push(Row {
            name: "entrypoint_closed",
            value: best,
            unit: "/s",
            ceiling: Some(most),
            consul_requests: spent,
            target: "≥ 0.3, ≤ 0.05 requests each",
            ok: best >= 0.3 * most && share <= 0.05,
            more: format!("100 outstanding, {share:.3} requests each; runs {rates:?}"),
        });
        Ok(())
    }

    /// What one process says and asks over its link.
    async fn link(&mut self) -> anyhow::Result<()> {
        // The first node's first client.
        let client = self.world.cluster.catalog[0].services.iter().find(|s| s.name == "s3service");
        let fid = Fid::process(client.context("a client")?.id.parse()?);
        let mut crowd = Crowd::connect(self.hax.motr, &[fid]).await?;
        crowd.open_loop(1).await?;
        crowd.calm().await;
        let mut peer = crowd.peers.pop().context("one")?;
        self.nvec_get(&mut peer).await?;
        self.process_event(&mut peer).await
    }

    async fn nvec_get(&mut self, peer: &mut Peer) -> anyhow::Result<()> {
        let objects = self.objects();
        let (mut one, mut all) = (Vec::new(), Vec::new());
        let times = self.times * 6;
        for _ in 0..times {
            one.push(states(peer, &objects[..NOTES_MAX]).await?);
        }
        let before = self.hax.consul_requests()?;
        for _ in 0..times {
            all.push(states(peer, &objects).await?);
        }
        let consul_requests = (self.hax.consul_requests()? - before) / times as u64;
        let mut slowest = Duration::ZERO;
        for probe in [
            "/v1/kv/m0conf/?keys&separator=/&consistent",
            "/v1/kv/processes?keys&separator=/&consistent",
            "/v1/health/state/none?consistent",
        ] {
            slowest = slowest.max(self.bare_median(Method::GET, probe, &Bytes::new()).await?);
        }
        let value = median(all);
        self.rows.push(Row {
            name: "nvec_get",
            value: ms(value),
            unit: "ms",
            ceiling: Some(ms(slowest)),
            consul_requests,
            target: "≤ 2 × the slowest of its own probes",
            ok: value <= 2 * slowest,
            more: format!(
                "{} objects, all questions at once; one of 1,024: {:.2} ms",
                objects.len(),
                ms(median(one))
            ),
        });
        Ok(())
    }

    /// All objects with a state.
    fn objects(&self) -> Vec<Fid> {
        let keys = self.world.cluster.kv.iter().filter(|(key, _)| key.starts_with("m0conf/"));
        let fids = keys.filter_map(|(key, _)| key.rsplit('/').next()?.parse::<Fid>().ok());
        let mut fids: Vec<Fid> = fids.collect();
        fids.sort_unstable();
        fids.dedup();
        fids
    }

    async fn process_event(&mut self, peer: &mut Peer) -> anyhow::Result<()> {
        let mut all = Vec::new();
        let before = self.hax.consul_requests()?;
        let times = self.times * 10;
        for nth in 0..times {
            let event = match nth % 2 {
                0 => ProcessEventKind::Started,
                _ => ProcessEventKind::DtmRecovered,
            };
            let kind = ProcessType::Other;
            let event = Body::Process(ProcessEvent { event, kind, pid: 1 });
            let began = clock();
            let (frame, tag) = peer.says(event);
            peer.write(frame);
            let at = timeout(LIMIT, peer.delivered(tag)).await.context("an acknowledgement")??;
            all.push(at.duration_since(began));
            // Its watches' answers are not part of it.
            sleep(Duration::from_millis(5)).await;
        }
        let consul_requests = self.hax.consul_requests()? - before;
        let bodies = transactions(peer.fid)?;
        let mut bare = Vec::new();
        for nth in 0..times {
            bare.push(self.bare(Method::PUT, "/v1/txn", &bodies[nth % 2]).await?);
            sleep(Duration::from_millis(5)).await;
        }
        let bare = median(bare);
        let value = median(all);
        let name = "hax_process_event_duration_seconds";
        let sum = self.hax.metric(&format!("{name}_sum"))?;
        let own = sum / self.hax.metric(&format!("{name}_count"))?;
        self.rows.push(Row {
            name: "process_event",
            value: ms(value),
            unit: "ms",
            ceiling: Some(ms(bare)),
            consul_requests,
            target: "≤ 2 × the same transaction bare",
            ok: value <= 2 * bare,
            more: format!("{times} events, on average {:.2} ms of it to commit", own * 1e3),
        });
        Ok(())
    }

    async fn watch_post(&mut self) -> anyhow::Result<()> {
        let api = self.api.send(Method::GET, "/v1/health/service/confd", Bytes::new()).await?;
        let known: Vec<Value> = serde_json::from_slice(&api.body)?;
        let body = serde_json::to_string(&known[..3])?;
        // Each body is another one: what a check says beside its status.
        let at = body.find(r#""Output":""#).context("a check's output")? + 10;
        let make = move |nth: u64| format!("{}{nth} {}", &body[..at], &body[at..]);
        let bare = ceiling("parsing", 0).await?;
        let time = Duration::from_millis(if self.quick { 700 } else { 2000 });
        let (mut best, mut most): (f64, f64) = (0.0, 0.0);
        let mut rates = Vec::new();
        let before = self.hax.consul_requests()?;
        for _ in 0..3 {
            most = most.max(http::posts(bare.http, 16, time, make.clone()).await?);
            let rate = http::posts(self.hax.http, 16, time, make.clone()).await?;
            best = best.max(rate);
            rates.push(rate.round());
        }
        self.rows.push(Row {
            name: "watch_post",
            value: best,
            unit: "/s",
            ceiling: Some(most),
            consul_requests: self.hax.consul_requests()? - before,
            target: "≥ 0.7 of the parsing ceiling",
            ok: best >= 0.7 * most,
            more: format!("{} bytes, 16 connections; runs {rates:?}", make(0).len()),
        });
        Ok(())
    }

    /// Checks of 1,000 processes fail and pass again, in Consul; hax hears of it by its own watch.
    async fn failure_flood(&mut self) -> anyhow::Result<()> {
        let mut crowd = Crowd::connect(self.hax.motr, &self.fids[..10]).await?;
        crowd.open_loop(1).await?;
        crowd.calm().await;
        let checks = self.checks().await?;
        let before = self.hax.consul_requests()?;
        let began = clock();
        let mut events = 0;
        for round in 0..3 {
            let status = if round % 2 == 0 { "critical" } else { "passing" };
            for checks in checks.chunks(60) {
                let ops = checks.iter().map(|check| {
                    let mut check = check.clone();
                    check["Status"] = status.into();
                    json!({ "Check": { "Verb": "set", "Check": check } })
                });
                let body = Value::Array(ops.collect()).to_string();
                self.bare(Method::PUT, "/v1/txn", &body.into()).await?;
                events += checks.len();
            }
        }
        let written = began.elapsed();
        let notes = crowd.calm().await as f64 / crowd.peers.len() as f64;
        let took = began.elapsed().saturating_sub(Duration::from_millis(100));
        let consul_requests = self.hax.consul_requests()? - before;
        let objects = checks.len() as f64 * 4.0;
        self.rows.push(Row {
            name: "failure_flood",
            value: ms(took),
            unit: "ms",
            ceiling: Some(ms(written)),
            consul_requests,
            target: "notes per object, not per event",
            ok: notes <= 3.0 * objects,
            more: format!("{events} changes of {} checks, {notes:.0} notes a link", checks.len()),
        });
        let body = checks.iter().map(|check| json!({ "Check": { "Verb": "set", "Check": check } }));
        for ops in body.collect::<Vec<_>>().chunks(60) {
            self.bare(Method::PUT, "/v1/txn", &json!(ops).to_string().into()).await?;
        }
        Ok(())
    }

    async fn rss_links(&mut self) -> anyhow::Result<()> {
        self.hax = self.world.hax(&["--any-process"]).await?.0;
        let links = if self.quick { 500 } else { 1000 };
        let fids: Vec<Fid> = (0..links).map(|n| Fid::process(100_000 + n)).collect();
        let mut crowd = Crowd::connect(self.hax.motr, &fids).await?;
        let before = self.hax.consul_requests()?;
        crowd.open_loop(1).await?;
        crowd.calm().await;
        let value = self.hax.rss()?;
        self.rows.push(Row {
            name: "rss_links",
            value,
            unit: "MiB",
            ceiling: None,
            consul_requests: self.hax.consul_requests()? - before,
            target: "1,000 links ≤ 60 MiB",
            ok: value <= 60.0,
            more: format!("{links} links"),
        });
        Ok(())
    }

    /// The checks of clients of the other nodes, as Consul has them.
    async fn checks(&self) -> anyhow::Result<Vec<Value>> {
        let answer =
            self.api.send(Method::GET, "/v1/health/checks/s3service", Bytes::new()).await?;
        let all: Vec<Value> = serde_json::from_slice(&answer.body)?;
        let others = all.into_iter().filter(|check| check["Node"] != "ssu1").map(|check| {
            json!({
                "Node": check["Node"], "CheckID": check["CheckID"], "Name": check["Name"],
                "ServiceID": check["ServiceID"], "Status": "passing",
            })
        });
        Ok(others.take(340).collect())
    }
}

/// Asks for the states of these, in as many questions as it takes, all at once; how long it was until
/// the last answer.
async fn states(peer: &mut Peer, objects: &[Fid]) -> anyhow::Result<Duration> {
    let began = clock();
    for chunk in objects.chunks(NOTES_MAX) {
        let notes = chunk.iter().map(|fid| Note { fid: *fid, state: ObjectState::Unknown });
        let (kind, id_of_get, ignore_same_state) = (NvecKind::Get, 1, 0);
        let nvec = Nvec { kind, id_of_get, ignore_same_state, notes: notes.collect() };
        let (frame, _) = peer.says(Body::Nvec(Box::new(nvec)));
        peer.write(frame);
    }
    let mut left = objects.len();
    let mut last = began;
    while left > 0 {
        let (at, message) = timeout(LIMIT, peer.told()).await.context("an answer")??;
        if let Body::Nvec(nvec) = &message.body {
            left = left.checked_sub(nvec.notes.len()).context("no more than was asked for")?;
        }
        last = at;
    }
    Ok(last.duration_since(began))
}

/// What hax writes for two events of this process in turn, so that each changes something, but
/// under other keys and without comparisons: it can be written again and again.
fn transactions(process: Fid) -> anyhow::Result<[Bytes; 2]> {
    let mut rig = Rig::new(&shapes::nodes23());
    let link = rig.link(process);
    rig.rest();
    let mut bodies = Vec::new();
    for nth in 0..2 {
        let event = scenes::event(&mut rig, link, process, nth);
        rig.give(event);
        let call = rig.take_calls().pop().context("a transaction")?;
        let mut ops: Value = serde_json::from_slice(&call.body)?;
        let answer = rig.ask(call).context("its answer")?;
        rig.give(Input::Consul(answer));
        rig.rest();
        for op in ops.as_array_mut().context("operations")? {
            let key = format!("bench/{}", op["KV"]["Key"].as_str().unwrap_or_default());
            op["KV"] = json!({ "Verb": "set", "Key": key, "Value": op["KV"]["Value"] });
        }
        bodies.push(Bytes::from(ops.to_string()));
    }
    bodies.try_into().map_err(|_| anyhow::anyhow!("two events are two transactions"))
}
