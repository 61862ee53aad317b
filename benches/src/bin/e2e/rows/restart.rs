//! A restart of hax: its links outlive it, and processes that say nothing hear of the next life at once.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, bail};
use hax_benches::rig::clock;
use hax_benches::shapes;
use hax_core::ha::message::{Body, Message};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::memory::strangers;
use super::{LIMIT, Sample, ms};
use crate::fixture::{Fixture, addresses};
use crate::peer::Peer;
use crate::row::Row;
use crate::storm::Crowd;
use crate::successor;

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
        let Restarts { mut heard, mut ready, mut stopped, mut bare } = measured?;
        rows.push(Row {
            name: kill,
            value: ms(heard.median()),
            unit: "ms",
            ceiling: Some(ms(bare.median())),
            target: "≤ 100 ms",
            ok: heard.percentile(100).as_millis() <= 100,
            more: format!(
                "{links} idle processes, hax killed: from ready to the note at the last of them; \
                 at most {:.0} in {times} runs; ready {:.0} after the start; ceiling: bare \
                 connections and the same messages",
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

#[derive(Default)]
struct Restarts {
    /// The times from ready to the last process's note.
    heard: Sample,
    /// The times from the start to ready.
    ready: Sample,
    /// The times of the stops.
    stopped: Sample,
    /// The times of a bare successor to the last process's note.
    bare: Sample,
}

/// Kills or stops hax again and again, and a bare successor after that.
async fn restarts(
    fixture: &Fixture,
    program: &Path,
    folder: &Path,
    links: u64,
    times: usize,
) -> anyhow::Result<Restarts> {
    let folder = folder.to_str().context("a folder with a plain name")?;
    let flags = ["--any-process", "--state-dir", folder];
    let at = addresses();
    let (mut hax, _) = fixture.hax_at(program, &flags, at).await?;
    let mut crowd = Crowd::connect(at.0, &strangers(links)).await?;
    crowd.open_loop(1).await?;
    crowd.calm().await;
    let mut all = Restarts::default();
    let mut messages = Vec::new();
    for nth in 0..2 * times {
        if nth % 2 == 0 {
            drop(hax);
        } else {
            all.stopped.add(hax.stop().await?);
        }
        let (next, took) = fixture.hax_at(program, &flags, at).await?;
        let since = clock();
        hax = next;
        let (last, first) = all_told(&mut crowd).await?;
        if nth % 2 == 0 {
            all.heard.add(last.saturating_duration_since(since));
            all.ready.add(took);
        }
        let more = crowd.calm().await / crowd.peers.len();
        messages = chunks(&first, more)?;
    }
    drop(hax);
    let processes: Vec<_> = crowd.peers.iter().map(Peer::address).collect();
    for nth in 0..times as u64 {
        // Higher than all tags of hax, and than those of the round before.
        let tag = (nth + 1) << 32;
        let (processes, messages) = (processes.clone(), messages.clone());
        let since = clock();
        let successor = spawn_blocking(move || successor::run(at.0, &processes, &messages, tag));
        let (last, _) = all_told(&mut crowd).await?;
        all.bare.add(last.duration_since(since));
        crowd.calm().await;
        successor.await??;
    }
    Ok(all)
}

/// Waits until each process has a message; returns the time of the last one, and one of the messages.
async fn all_told(crowd: &mut Crowd) -> anyhow::Result<(Instant, Message)> {
    let mut last = None;
    for peer in &mut crowd.peers {
        let (at, message) = timeout(LIMIT, peer.told()).await.context("a note")??;
        if last.as_ref().is_none_or(|(latest, _)| at > *latest) {
            last = Some((at, *message));
        }
    }
    last.context("a process")
}

/// Returns as many messages as hax sends to a process, with as many notes: those of the first one, and so many
/// more.
fn chunks(first: &Message, more: usize) -> anyhow::Result<Vec<Message>> {
    let Body::Nvec(nvec) = &first.body else { bail!("notes, not {:?}", first.body) };
    let mut left = nvec.notes.len() + more;
    let mut all = Vec::new();
    while left > 0 {
        let mut nvec = nvec.clone();
        nvec.notes.truncate(left);
        left -= nvec.notes.len();
        all.push(Message { body: Body::Nvec(nvec), ..first.clone() });
    }
    Ok(all)
}
