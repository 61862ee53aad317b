//! The light build beside `hax`, in one run: what it takes of memory, threads and disk, and how fast it
//! is. What stands as the ceiling is `hax`'s figure.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use hax_benches::shapes;
use hax_core::base::fid::Fid;
use tokio::time::sleep;

use crate::Row;
use crate::storm::Crowd;
use crate::world::{Program, World, cargo};

/// When memory is looked at: everything is read and nothing goes on.
const SETTLE: Duration = Duration::from_secs(30);

const MIB: f64 = 1024.0 * 1024.0;

/// One program and the peers that ask it.
struct Side {
    path: PathBuf,
    hax: Program,
}

impl Side {
    async fn new(world: &World, path: PathBuf) -> anyhow::Result<Self> {
        let (hax, _) = world.start(&path, &[]).await?;
        Ok(Self { path, hax })
    }

    fn size(&self) -> anyhow::Result<f64> {
        Ok(std::fs::metadata(&self.path)?.len() as f64 / MIB)
    }
}

/// Builds both programs and returns the rows.
pub(crate) async fn rows(quick: bool) -> anyhow::Result<Vec<Row>> {
    cargo(&["--release", "-p", "hax-tokio", "--bin", "hax"])?;
    cargo(&["--profile", "release-small", "-p", "hax-smol", "--bin", "hax-smol"])?;
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(2).context("a target directory")?;
    let world = World::new(shapes::nodes23())?;
    let hax = Side::new(&world, target.join("release/hax")).await?;
    let smol = Side::new(&world, target.join("release-small/hax-smol")).await?;
    sleep(SETTLE).await;
    let mut rows = vec![
        compare("lean_binary", "MiB", smol.size()?, None, 4.0),
        compare("lean_rss", "MiB", smol.hax.rss()?, Some(hax.hax.rss()?), 10.0),
        compare("lean_rss_peak", "MiB", smol.hax.peak()?, Some(hax.hax.peak()?), f64::MAX),
        compare("lean_threads", "", smol.hax.threads()?, Some(hax.hax.threads()?), 12.0),
    ];
    rows[1].ok &= rows[1].ceiling.is_some_and(|hax| rows[1].value <= hax);
    rows.push(storms(&world, &hax, &smol, if quick { 2 } else { 7 }).await?);
    let threads = smol.hax.threads()?;
    rows.push(compare("lean_threads_loaded", "", threads, Some(hax.hax.threads()?), 12.0));
    Ok(rows)
}

fn compare(
    name: &'static str,
    unit: &'static str,
    value: f64,
    ceiling: Option<f64>,
    most: f64,
) -> Row {
    let target = match name {
        "lean_binary" => "≤ 4 MiB, stripped",
        "lean_rss" => "≤ 10 MiB and no more than hax",
        "lean_rss_peak" => "–",
        _ => "≤ 12",
    };
    let more = String::new();
    Row { name, value, unit, ceiling, consul_requests: 0, target, ok: value <= most, more }
}

/// 10,000 requests for entrypoints over 100 connections, in turn, the best of each.
async fn storms(world: &World, hax: &Side, smol: &Side, times: usize) -> anyhow::Result<Row> {
    let services = world.cluster.catalog.iter().flat_map(|node| &node.services);
    let fids = services.filter(|service| service.name != "hax");
    let fids = fids.filter_map(|service| Some(Fid::process(service.id.parse().ok()?)));
    let fids: Vec<_> = fids.take(100).collect();
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..times {
        for (side, rates) in [hax, smol].into_iter().zip(&mut rates) {
            let mut crowd = Crowd::connect(side.hax.motr, &fids).await?;
            crowd.open_loop(1).await?;
            crowd.calm().await;
            rates.push(crowd.open_loop(100).await?.rate().round());
        }
    }
    let best = |rates: &[f64]| rates.iter().copied().fold(0.0, f64::max);
    let (hax, smol) = (best(&rates[0]), best(&rates[1]));
    Ok(Row {
        name: "lean_entrypoint_storm",
        value: smol,
        unit: "/s",
        ceiling: Some(hax),
        consul_requests: 0,
        target: "≥ 0.7",
        ok: smol >= 0.7 * hax,
        more: format!("hax {:?}, hax-smol {:?}", rates[0], rates[1]),
    })
}
