//! Storms of entrypoint requests.

use std::time::Duration;

use super::{Run, Sample, median, ms, range};
use crate::fixture::ceiling;
use crate::row::Row;
use crate::storm::Crowd;

impl Run<'_> {
    pub(super) async fn storms(&mut self) -> anyhow::Result<()> {
        let fids = self.fids[..100].to_vec();
        let bare = ceiling("constant", self.confds()).await?;
        let mut compared = Crowd::connect(bare.motr, &fids).await?;
        compared.open_loop(1).await?;
        let mut crowd = Crowd::connect(self.hax.motr, &fids).await?;
        crowd.open_loop(1).await?;
        crowd.calm().await;
        self.open(&mut crowd, &mut compared).await?;
        self.closed(&mut crowd, &mut compared).await
    }

    async fn open(&mut self, crowd: &mut Crowd, compared: &mut Crowd) -> anyhow::Result<()> {
        let (mut tops, mut rates) = (Vec::new(), Vec::new());
        let (mut top_p99, mut p99) = (Sample::default(), Sample::default());
        let mut consul_requests = 0;
        // The programs alternate, so that other load on the machine affects both.
        for _ in 0..self.times {
            let top = compared.open_loop(100).await?;
            let before = self.hax.consul_requests()?;
            let storm = crowd.open_loop(100).await?;
            consul_requests = consul_requests.max(self.hax.consul_requests()? - before);
            tops.push(top.rate());
            rates.push(storm.rate());
            top_p99.add(top.p99);
            p99.add(storm.p99);
        }
        let (p99, top_p99) = (p99.median(), top_p99.median());
        let (value, top, runs) = (median(rates.clone()), median(tops), range(&rates));
        self.rows.push(Row {
            name: "entrypoint_storm",
            value,
            unit: "/s",
            ceiling: Some(top),
            consul_requests,
            target: "≥ 0.6, ≤ 60 requests, p99 ≤ the ceiling's + 50 ms",
            ok: value >= 0.6 * top
                && consul_requests <= 60
                && p99 <= top_p99 + Duration::from_millis(50),
            more: format!(
                "10,000, open loop; p99 {:.0} ms, ceiling's {:.0}; {} runs {runs}",
                ms(p99),
                ms(top_p99),
                self.times
            ),
            ..Row::default()
        });
        Ok(())
    }

    async fn closed(&mut self, crowd: &mut Crowd, compared: &mut Crowd) -> anyhow::Result<()> {
        let each = if self.quick { 30 } else { 100 };
        let (mut tops, mut rates) = (Vec::new(), Vec::new());
        let (mut top_p99, mut p99) = (Sample::default(), Sample::default());
        let (mut consul_requests, mut requests) = (0, 0);
        for _ in 0..self.times {
            let top = compared.closed_loop(each).await?;
            let before = self.hax.consul_requests()?;
            let storm = crowd.closed_loop(each).await?;
            consul_requests += self.hax.consul_requests()? - before;
            requests += storm.requests;
            tops.push(top.rate());
            rates.push(storm.rate());
            top_p99.add(top.p99);
            p99.add(storm.p99);
        }
        let share = consul_requests as f64 / requests as f64;
        let (value, top, runs) = (median(rates.clone()), median(tops), range(&rates));
        self.rows.push(Row {
            name: "entrypoint_closed",
            value,
            unit: "/s",
            ceiling: Some(top),
            consul_requests,
            target: "≥ 0.3, ≤ 0.05 requests each",
            ok: value >= 0.3 * top && share <= 0.05,
            more: format!(
                "100 outstanding, {requests} in all, {share:.3} requests each; p99 {:.1} ms, \
                 ceiling's {:.1}; {} runs {runs}",
                ms(p99.median()),
                ms(top_p99.median()),
                self.times
            ),
            ..Row::default()
        });
        Ok(())
    }
}
