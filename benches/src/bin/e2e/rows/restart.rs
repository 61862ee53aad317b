//! A restart of hax: its links outlive it, and processes that say nothing hear of the next life at once.

use std::path::Path;

use anyhow::Context as _;
use hax_benches::rig::clock;
use hax_benches::shapes;
use tokio::time::timeout;

use super::memory::strangers;
use super::{LIMIT, Sample, ms};
use crate::fixture::{Fixture, addresses};
use crate::row::Row;
use crate::storm::Crowd;

/// Returns the rows about restarts of this program.
pub(crate) async fn rows(program: &Path, quick: bool) -> anyhow::Result<Vec<Row>> {
    let fixture = Fixture::new(shapes::nodes23(), usize::MAX)?;
    let times = if quick { 3 } else { 11 };
    let mut rows = Vec::new();
    for (kill, stop, links) in
        [("restart_one", "stop_one", 1), ("restart_thousand", "stop_thousand", 1_000)]
    {
        let folder = format!("hax-e2e-links-{}-{links}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        let measured = restarts(&fixture, program, &folder, links, times).await;
        let _ = std::fs::remove_dir_all(&folder);
        let [mut heard, mut ready, mut stopped] = measured?;
        rows.push(Row {
            name: kill,
            value: ms(heard.median()),
            unit: "ms",
            target: "≤ 100 ms",
            ok: heard.percentile(100).as_millis() <= 100,
            more: format!(
                "{links} idle processes, hax killed: from ready to the note at the last of them; \
                 at most {:.0} in {times} runs; ready {:.0} after the start",
                ms(heard.percentile(100)),
                ms(ready.median()),
            ),
            ..Row::default()
        });
        rows.push(Row {
            name: stop,
            value: ms(stopped.median()),
            unit: "ms",
            target: "≤ 200 ms",
            ok: stopped.percentile(100).as_millis() <= 200,
            more: format!("{links} links are left to the next life; at most {:.0}", {
                ms(stopped.percentile(100))
            }),
            ..Row::default()
        });
    }
    Ok(rows)
}

/// Kills or stops hax again and again. Returns the times from ready to the last process's note, those from the
/// start to ready, and those of the stops.
async fn restarts(
    fixture: &Fixture,
    program: &Path,
    folder: &Path,
    links: u64,
    times: usize,
) -> anyhow::Result<[Sample; 3]> {
    let folder = folder.to_str().context("a folder with a plain name")?;
    let flags = ["--any-process", "--state-dir", folder];
    let at = addresses();
    let (mut hax, _) = fixture.hax_at(program, &flags, at).await?;
    let mut crowd = Crowd::connect(at.0, &strangers(links)).await?;
    crowd.open_loop(1).await?;
    crowd.calm().await;
    let [mut heard, mut ready, mut stopped] = [(); 3].map(|()| Sample::default());
    for nth in 0..2 * times {
        if nth % 2 == 0 {
            drop(hax);
        } else {
            stopped.add(hax.stop().await?);
        }
        let (next, took) = fixture.hax_at(program, &flags, at).await?;
        let since = clock();
        hax = next;
        let mut last = since;
        for peer in &mut crowd.peers {
            last = last.max(timeout(LIMIT, peer.told()).await.context("a note")??.0);
        }
        if nth % 2 == 0 {
            heard.add(last.duration_since(since));
            ready.add(took);
        }
        crowd.calm().await;
    }
    Ok([heard, ready, stopped])
}
