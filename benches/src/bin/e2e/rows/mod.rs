//! The rows of the table, a file for each subject.

mod entrypoints;
mod follower;
mod growth;
mod health;
mod links;
mod memory;
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

/// Nothing that is waited for takes so long.
const LIMIT: Duration = Duration::from_secs(30);

/// Where the rows come from.
struct Run<'a> {
    fixture: Fixture,
    program: &'a Path,
    hax: Program,
    api: Api,
    /// All processes that are configured, hax' own apart; the first node's first.
    fids: Vec<Fid>,
    /// How often a figure is taken; the middle one counts.
    times: usize,
    quick: bool,
    rows: Vec<Row>,
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Measurements of one thing.
#[derive(Default)]
struct Sample(Vec<Duration>);

impl Sample {
    fn add(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// The one that so many percent are not above.
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

/// The middle one.
fn median(mut all: Vec<f64>) -> f64 {
    all.sort_unstable_by(f64::total_cmp);
    all[all.len() / 2]
}

/// The least and the greatest.
fn range(all: &[f64]) -> String {
    let (least, most) = all.iter().fold((f64::MAX, 0.0_f64), |(a, b), n| (a.min(*n), b.max(*n)));
    format!("{least:.0}–{most:.0}")
}

/// All rows of this program.
pub(crate) async fn all(program: &Path, quick: bool) -> anyhow::Result<Vec<Row>> {
    let fixture = Fixture::new(shapes::nodes23(), usize::MAX)?;
    let mut run = Run::new(fixture, program, quick).await?;
    run.ready().await?;
    run.rss_idle()?;
    run.boot().await?;
    run.storms().await?;
    // Each of the others has a hax that owes nothing to anybody.
    run.renew().await?;
    run.link().await?;
    run.watch_post().await?;
    run.renew().await?;
    run.failure_flood().await?;
    run.memory().await?;
    let Run { mut rows, .. } = run;
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

    /// The first node's first client.
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
