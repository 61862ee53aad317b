//! The memory of hax: with many links, and after many messages.

use anyhow::Context as _;
use hax_benches::rig::clock;
use hax_core::base::fid::Fid;
use hax_core::ha::message::Body;
use tokio::time::timeout;

use super::{LIMIT, Run};
use crate::peer::Peer;
use crate::row::Row;
use crate::storm::Crowd;

/// The number of processes that send messages at the same time, and the number of requests in flight for
/// each.
const TALKERS: u64 = 50;
const AT_ONCE: u64 = 16;

impl Run<'_> {
    pub(super) async fn memory(&mut self) -> anyhow::Result<()> {
        self.hax = self.fixture.hax(self.program, &["--any-process"]).await?.0;
        self.rss_flat().await?;
        self.hax = self.fixture.hax(self.program, &["--any-process"]).await?.0;
        self.rss_links().await
    }

    async fn rss_links(&mut self) -> anyhow::Result<()> {
        let links = if self.quick { 500 } else { 1000 };
        let mut crowd = Crowd::connect(self.hax.motr, &strangers(links)).await?;
        let before = self.hax.consul_requests()?;
        crowd.open_loop(1).await?;
        crowd.calm().await;
        let value = self.hax.rss()?;
        self.rows.push(Row {
            name: "rss_links",
            value,
            unit: "MiB",
            consul_requests: self.hax.consul_requests()? - before,
            target: "1,000 links ≤ 60 MiB",
            ok: value <= 60.0,
            more: format!("{links} links"),
            ..Row::default()
        });
        Ok(())
    }

    /// Sends requests for failure vectors and reads the replies. Half of the messages go in each direction,
    /// and Consul is not involved.
    async fn rss_flat(&mut self) -> anyhow::Result<()> {
        let messages: u64 = if self.quick { 100_000 } else { 1_000_000 };
        let mut crowd = Crowd::connect(self.hax.motr, &strangers(TALKERS)).await?;
        crowd.open_loop(1).await?;
        crowd.calm().await;
        let each = |messages: u64| messages / 2 / TALKERS;
        talk(&mut crowd, each(messages / 10)).await?;
        let warm = self.hax.rss()?;
        let before = self.hax.consul_requests()?;
        let began = clock();
        talk(&mut crowd, each(messages)).await?;
        let took = began.elapsed().as_secs_f64();
        let value = self.hax.rss()? - warm;
        self.rows.push(Row {
            name: "rss_flat",
            value,
            unit: "MiB",
            consul_requests: self.hax.consul_requests()? - before,
            target: "1,000,000 messages add ≤ 1 MiB",
            ok: value <= 1.0,
            more: format!(
                "{messages} messages in {took:.1} s after a tenth as many; {warm:.1} MiB before"
            ),
            ..Row::default()
        });
        Ok(())
    }
}

pub(super) fn strangers(n: u64) -> Vec<Fid> {
    (0..n).map(|n| Fid::process(100_000 + n)).collect()
}

/// Makes each peer send `each` requests and read as many replies.
async fn talk(crowd: &mut Crowd, each: u64) -> anyhow::Result<()> {
    let tasks = crowd.peers.drain(..).map(|mut peer| {
        tokio::task::spawn_local(async move {
            let mut left = each;
            while left > 0 {
                let now = left.min(AT_ONCE);
                ask_and_hear(&mut peer, now).await?;
                left -= now;
            }
            anyhow::Ok(peer)
        })
    });
    let tasks: Vec<_> = tasks.collect();
    for task in tasks {
        crowd.peers.push(task.await??);
    }
    Ok(())
}

async fn ask_and_hear(peer: &mut Peer, n: u64) -> anyhow::Result<()> {
    for nth in 0..n {
        let (pool, cookie) = (Fid::typed(b'o', 1, 9), (1, nth));
        let (frame, _) = peer.says(Body::FailureVecReq { pool, cookie });
        peer.write(frame);
    }
    for _ in 0..n {
        timeout(LIMIT, peer.told()).await.context("an answer")??;
    }
    Ok(())
}
