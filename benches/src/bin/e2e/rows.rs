//! The rows of the table.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use hax_benches::rig::{Rig, clock};
use hax_benches::{scenes, shapes};
use hax_core::base::fid::Fid;
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
    run.link().await?;
    run.watch_post().await?;
    run.failure_flood().await?;
    let consul = (run.world, run.rows);
    let (world, mut rows) = consul;
    rows.push(rss_links(&world, quick).await?);
    Ok(rows)
}

impl Run {
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
        let mut all = Vec::new();
        let before = self.hax.consul_requests()?;
        let times = self.times * 6;
        for _ in 0..times {
            let began = clock();
            let chunks = objects.chunks(NOTES_MAX).count();
            for chunk in objects.chunks(NOTES_MAX) {
                let notes = chunk.iter().map(|fid| Note { fid: *fid, state: ObjectState::Unknown });
                let (kind, id_of_get, ignore_same_state) = (NvecKind::Get, 1, 0);
                let notes = notes.collect();
                let nvec = Nvec { kind, id_of_get, ignore_same_state, notes };
                let (frame, _) = peer.says(Body::Nvec(Box::new(nvec)));
                peer.write(frame);
            }
            let mut notes = 0;
            for _ in 0..chunks {
                let (_, message) = timeout(LIMIT, peer.told()).await.context("an answer")??;
                if let Body::Nvec(nvec) = &message.body {
                    notes += nvec.notes.len();
                }
            }
            anyhow::ensure!(notes == objects.len(), "{notes} notes");
            all.push(began.elapsed());
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
                "{} objects in {} questions",
                objects.len(),
                objects.len().div_ceil(1024)
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
        let body = transaction(peer.fid)?;
        let bare = self.bare_median(Method::PUT, "/v1/txn", &body).await?;
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

/// What hax writes for an event of this process, less the comparisons: it can be written again and
/// again.
fn transaction(process: Fid) -> anyhow::Result<Bytes> {
    let mut rig = Rig::new(&shapes::nodes23());
    let link = rig.link(process);
    rig.rest();
    let event = scenes::event(&mut rig, link, process, 0);
    rig.give(event);
    let call = rig.take_calls().pop().context("a transaction")?;
    let mut ops: Value = serde_json::from_slice(&call.body)?;
    for op in ops.as_array_mut().context("operations")? {
        op["KV"]["Verb"] = "set".into();
        if let Some(op) = op["KV"].as_object_mut() {
            op.remove("Index");
            op.insert("Key".into(), format!("bench/{}", op["Key"].as_str().unwrap_or("")).into());
        }
    }
    Ok(ops.to_string().into())
}

/// hax with 1,000 links, each with a snapshot's worth of history.
async fn rss_links(world: &World, quick: bool) -> anyhow::Result<Row> {
    let (hax, _) = world.hax(&["--any-process"]).await?;
    let links = if quick { 500 } else { 1000 };
    let fids: Vec<Fid> = (0..links).map(|n| Fid::process(100_000 + n)).collect();
    let mut crowd = Crowd::connect(hax.motr, &fids).await?;
    let before = hax.consul_requests()?;
    crowd.open_loop(1).await?;
    crowd.calm().await;
    let value = hax.rss()?;
    Ok(Row {
        name: "rss_links",
        value,
        unit: "MiB",
        ceiling: None,
        consul_requests: hax.consul_requests()? - before,
        target: "1,000 links ≤ 60 MiB",
        ok: value <= 60.0,
        more: format!("{links} links"),
    })
}
