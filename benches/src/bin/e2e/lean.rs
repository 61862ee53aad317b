//! The light build compared with `hax`, in one run: its memory, threads, size on disk and speed. The figure
//! in the column of the ceiling is that of `hax`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use hax_benches::shapes;
use hax_core::base::fid::Fid;
use tokio::time::sleep;

use crate::fixture::{Fixture, Program, cargo};
use crate::row::Row;
use crate::storm::Crowd;

/// The time before memory is measured: everything is read and no work is pending.
const SETTLE: Duration = Duration::from_secs(30);

const MIB: f64 = 1024.0 * 1024.0;

/// The figures of one program.
#[derive(Default)]
struct Side {
    rss: f64,
    peak: f64,
    threads: f64,
    rates: Vec<f64>,
}

/// Builds both programs; returns the path of the light one.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    cargo(&["--release", "-p", "hax-tokio", "--bin", "hax"])?;
    cargo(&["--profile", "release-small", "-p", "hax-smol", "--bin", "hax-smol"])?;
    Ok(target()?.join("release-small/hax-smol"))
}

fn target() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.ancestors().nth(2).context("a target directory")?.into())
}

/// Returns the rows of this light program.
pub(crate) async fn rows(smol: &Path, quick: bool) -> anyhow::Result<Vec<Row>> {
    let programs = [target()?.join("release/hax"), smol.to_owned()];
    let fixture = Fixture::new(shapes::nodes23(), usize::MAX)?;
    let mut sides = [Side::default(), Side::default()];
    // The programs alternate, so that other load on the machine affects both.
    for round in 0..if quick { 1 } else { 3 } {
        for (program, side) in programs.iter().zip(&mut sides) {
            let (hax, _) = fixture.hax(program, &[]).await?;
            if round == 0 {
                sleep(SETTLE).await;
                (side.rss, side.peak) = (hax.rss()?, hax.peak()?);
            }
            storms(&fixture, &hax, &mut side.rates).await?;
            side.threads = side.threads.max(hax.threads()?);
        }
    }
    let [hax, smol] = sides;
    let size = std::fs::metadata(&programs[1])?.len() as f64 / MIB;
    let best = |rates: &[f64]| rates.iter().copied().fold(0.0, f64::max);
    let (rate, top) = (best(&smol.rates), best(&hax.rates));
    let row = |name, unit, value, ceiling, target, ok| Row {
        name,
        value,
        unit,
        ceiling,
        target,
        ok,
        ..Row::default()
    };
    let lean = smol.rss <= 10.0 && smol.rss <= hax.rss;
    Ok(vec![
        row("lean_binary", "MiB", size, None, "≤ 4, stripped", size <= 4.0),
        row("lean_rss", "MiB", smol.rss, Some(hax.rss), "≤ 10, no more than hax", lean),
        row("lean_rss_peak", "MiB", smol.peak, Some(hax.peak), "–", true),
        row("lean_threads", "", smol.threads, Some(hax.threads), "≤ 12", smol.threads <= 12.0),
        Row {
            more: format!("hax {:?}, hax-smol {:?}", hax.rates, smol.rates),
            ..row("lean_entrypoint_storm", "/s", rate, Some(top), "≥ 0.7", rate >= 0.7 * top)
        },
    ])
}

/// Measures storms of 10,000 entrypoint requests over 100 connections, several times.
async fn storms(fixture: &Fixture, hax: &Program, rates: &mut Vec<f64>) -> anyhow::Result<()> {
    let services = fixture.cluster.catalog.iter().flat_map(|node| &node.services);
    let fids = services.filter(|service| service.name != "hax");
    let fids = fids.filter_map(|service| Some(Fid::process(service.id.parse().ok()?)));
    let mut crowd = Crowd::connect(hax.motr, &fids.take(100).collect::<Vec<_>>()).await?;
    crowd.open_loop(1).await?;
    crowd.calm().await;
    for _ in 0..3 {
        rates.push(crowd.open_loop(100).await?.rate().round());
    }
    Ok(())
}
