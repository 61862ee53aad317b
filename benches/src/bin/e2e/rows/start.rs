//! The start of hax, and the boot of all processes.

use std::time::Duration;

use super::{Run, ms};
use crate::fixture::ceiling;
use crate::row::Row;
use crate::storm::Crowd;

impl Run<'_> {
    pub(super) async fn ready(&mut self) -> anyhow::Result<()> {
        let mut reads = Duration::ZERO;
        for target in ["kv/m0conf/?recurse", "kv/processes/?recurse", "health/state/any"] {
            reads += self.bare_reads(&format!("/v1/{target}")).await?.median();
        }
        let mut starts = Vec::new();
        for _ in 0..5 {
            let took = self.renew().await?;
            starts.push((took, self.hax.stages()?));
        }
        starts.sort_unstable();
        let (took, stages) = starts[starts.len() / 2];
        let [program, found, read] = stages.map(ms);
        let (first, last) = (ms(starts[0].0), ms(starts[starts.len() - 1].0));
        self.rows.push(Row {
            name: "ready",
            value: ms(took),
            unit: "ms",
            ceiling: Some(ms(reads)),
            consul_requests: self.hax.consul_requests()?,
            target: "≤ 100 ms after Consul answers",
            ok: took <= Duration::from_millis(100),
            more: format!(
                "from exec; {program:.1} until it says a word, {found:.1} to find out who it is, \
                 {read:.1} to read all; {first:.0}–{last:.0} in 5 runs"
            ),
            ..Row::default()
        });
        Ok(())
    }

    pub(super) fn rss_idle(&mut self) -> anyhow::Result<()> {
        let value = self.hax.rss()?;
        self.rows.push(Row {
            name: "rss_idle",
            value,
            unit: "MiB",
            target: "≤ 20 MiB",
            ok: value <= 20.0,
            more: "23 nodes, no links".into(),
            ..Row::default()
        });
        Ok(())
    }

    pub(super) async fn boot(&mut self) -> anyhow::Result<()> {
        let bare = ceiling("constant", self.confds()).await?;
        let mut crowd = Crowd::connect(bare.motr, &self.fids).await?;
        let best = crowd.open_loop(1).await?;
        drop(crowd);
        drop(bare);
        self.renew().await?;
        let mut crowd = Crowd::connect(self.hax.motr, &self.fids).await?;
        let before = self.hax.consul_requests()?;
        let [txn, kv] = ["txn", "kv"].map(|kind| self.hax.consul_requests_of(kind));
        let started = self.hax.consul_bytes()?;
        let storm = crowd.open_loop(1).await?;
        crowd.calm().await;
        let consul_requests = self.hax.consul_requests()? - before;
        let [txn_now, kv_now] = ["txn", "kv"].map(|kind| self.hax.consul_requests_of(kind));
        let (transactions, reads) = (txn_now? - txn?, kv_now? - kv?);
        let own = self.fixture.cluster.catalog[0].services.len() as u64 - 1;
        let kib = |bytes: u64| bytes as f64 / 1024.0;
        let bytes = self.hax.consul_bytes()?;
        self.rows.push(Row {
            name: "boot",
            value: ms(storm.took),
            unit: "ms",
            ceiling: Some(ms(best.took)),
            consul_requests,
            target: "counters read once, shared transactions, ≤ 60 requests",
            ok: consul_requests <= 60 && transactions <= own.div_ceil(4),
            more: format!(
                "{} first requests at once, {own} of this node: {transactions} transactions, \
                 {reads} requests for keys; {:.0} KiB read from Consul since the start, {:.0} of \
                 them at the start",
                storm.requests,
                kib(bytes),
                kib(started),
            ),
            ..Row::default()
        });
        Ok(())
    }
}
