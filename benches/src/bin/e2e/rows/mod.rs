//! The rows of the table, a file for each subject.

mod entrypoints;
mod follower;
mod growth;
mod health;
mod links;
mod memory;
mod restart;
mod start;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use hax_benches::rig::clock;
use hax_benches::shapes;
use hax_core::base::fid::Fid;
use hax_tokio::demo::api::Api;
use hyper::Method;

use crate::fixture::{Fixture, Program};
use crate::row::Row;

pub(crate) use follower::{ends, rows as servers};
pub(crate) use growth::plots;
pub(crate) use restart::rows as restarts;

/// The timeout of all waits.
const LIMIT: Duration = Duration::from_secs(30);

/// The source of the rows.
struct Run<'a> {
    fixture: Fixture,
    program: &'a Path,
    hax: Program,
    api: Api,
    /// All configured processes except for hax's own; the first node's first.
    fids: Vec<Fid>,
    /// The number of repetitions of a measurement; the median counts.
    times: usize,
    quick: bool,
    rows: Vec<Row>,
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The measurements of one figure.
#[derive(Default)]
struct Sample(Vec<Duration>);

impl Sample {
    fn add(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// Returns the percentile.
    fn percentile(&mut self, percent: usize) -> Duration {
        self.0.sort_unstable();
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)]
    }

    fn median(&mut self) -> Duration {
        self.percentile(50)
    }

    fn p99(&mut self) -> Duration {
        self.percentile(99)
    }
}

/// Returns the median.
fn median(mut all: Vec<f64>) -> f64 {
    all.sort_unstable_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Returns the minimum and the maximum.
fn range(all: &[f64]) -> String {
    let (least, most) = all.iter().fold((f64::MAX, 0.0_f64), |(a, b), n| (a.min(*n), b.max(*n)));
    format!("{least:.0}–{most:.0}")
}

/// Returns all rows of this program.
pub(crate) async fn all(program: &Path, quick: bool) -> anyhow::Result<Vec<Row>> {
    let fixture = Fixture::new(shapes::nodes23(), usize::MAX)?;
    let mut run = Run::new(fixture, program, quick).await?;
    run.ready().await?;
    run.rss_idle()?;
    run.boot().await?;
    run.storms().await?;
    // Each further row starts with a hax without pending messages.
    run.renew().await?;
    run.link().await?;
    run.watch_post().await?;
    run.renew().await?;
    run.failure_flood().await?;
    run.memory().await?;
    let Run { mut rows, .. } = run;
    rows.extend(restarts(program, quick).await?);
    rows.extend(servers(program, quick).await?);
    rows.extend(growth::rows(program, quick).await?);
    Ok(rows)
}

impl<'a> Run<'a> {
    async fn new(fixture: Fixture, program: &'a Path, quick: bool) -> anyhow::Result<Self> {
        let hax = fixture.hax(program, &[]).await?.0;
        let api = Api::new(format!("http://{}", fixture.consul.address()));
        let services = fixture.cluster.catalog.iter().flat_map(|node| &node.services);
        let fids = services.filter(|service| service.name != "hax");
        let fids = fids.map(|service| anyhow::Ok(Fid::process(service.id.parse()?)));
        let fids = fids.collect::<Result<_, _>>()?;
        let times = if quick { 3 } else { 11 };
        Ok(Self { fixture, program, hax, api, fids, times, quick, rows: Vec::new() })
    }

    async fn renew(&mut self) -> anyhow::Result<Duration> {
        let (hax, took) = self.fixture.hax(self.program, &[]).await?;
        self.hax = hax;
        Ok(took)
    }

    async fn bare(&self, method: Method, target: &str, body: &Bytes) -> anyhow::Result<Duration> {
        let began = clock();
        let answer = self.api.send(method, target, body.clone()).await?;
        anyhow::ensure!(matches!(answer.status, 200 | 404), "{target}: {}", answer.status);
        Ok(began.elapsed())
    }

    async fn bare_reads(&self, target: &str) -> anyhow::Result<Sample> {
        let mut all = Sample::default();
        for _ in 0..15 {
            all.add(self.bare(Method::GET, target, &Bytes::new()).await?);
        }
        Ok(all)
    }

    /// Returns the first node's first client.
    fn client(&self) -> anyhow::Result<Fid> {
        let own = &self.fixture.cluster.catalog[0].services;
        let client = own.iter().find(|service| service.name == "s3service").context("a client")?;
        Ok(Fid::process(client.id.parse()?))
    }

    fn confds(&self) -> usize {
        let services = self.fixture.cluster.catalog.iter().flat_map(|node| &node.services);
        services.filter(|service| service.name == "confd").count()
    }
}
