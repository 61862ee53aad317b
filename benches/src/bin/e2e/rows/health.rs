//! Posts and health changes from Consul's watches.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use hax_benches::rig::clock;
use hyper::Method;
use serde_json::{Value, json};

use super::{Run, Sample, median, ms, range};
use crate::fixture::ceiling;
use crate::http;
use crate::row::Row;
use crate::storm::Crowd;

impl Run<'_> {
    pub(super) async fn watch_post(&mut self) -> anyhow::Result<()> {
        let api = self.api.send(Method::GET, "/v1/health/service/confd", Bytes::new()).await?;
        let known: Vec<Value> = serde_json::from_slice(&api.body)?;
        let body = serde_json::to_string(&known[..3])?;
        // Each body differs in the output of a check, beside its status.
        let at = body.find(r#""Output":""#).context("a check's output")? + 10;
        let make = move |nth: u64| format!("{}{nth} {}", &body[..at], &body[at..]);
        let bare = ceiling("parsing", 0).await?;
        let time = Duration::from_millis(if self.quick { 400 } else { 1000 });
        let (mut tops, mut rates) = (Vec::new(), Vec::new());
        let (mut top_p99, mut p99) = (Sample::default(), Sample::default());
        let before = self.hax.consul_requests()?;
        for _ in 0..if self.quick { 2 } else { 5 } {
            let top = http::posts(bare.http, 16, time, make.clone()).await?;
            let own = http::posts(self.hax.http, 16, time, make.clone()).await?;
            tops.push(top.rate);
            rates.push(own.rate);
            top_p99.add(top.p99);
            p99.add(own.p99);
        }
        let (value, top, runs) = (median(rates.clone()), median(tops), range(&rates));
        self.rows.push(Row {
            name: "watch_post",
            value,
            unit: "/s",
            ceiling: Some(top),
            consul_requests: self.hax.consul_requests()? - before,
            target: "≥ 0.7 of the parsing ceiling",
            ok: value >= 0.7 * top,
            more: format!(
                "{} bytes, 16 connections; p99 {:.1} ms, ceiling's {:.1}; runs {runs}",
                make(0).len(),
                ms(p99.median()),
                ms(top_p99.median()),
            ),
            ..Row::default()
        });
        Ok(())
    }

    /// Makes checks of 340 processes fail, pass and fail again in Consul; hax learns of it by its own watch.
    pub(super) async fn failure_flood(&mut self) -> anyhow::Result<()> {
        let mut crowd = Crowd::connect(self.hax.motr, &self.fids[..10]).await?;
        crowd.open_loop(1).await?;
        crowd.calm().await;
        let checks = self.checks().await?;
        let before = self.hax.consul_requests()?;
        let began = clock();
        let mut events = 0;
        for round in 0..3 {
            self.set(&checks, if round % 2 == 0 { "critical" } else { "passing" }).await?;
            events += checks.len();
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
            more: format!(
                "{events} changes of {} checks, {notes:.0} notes a link; ceiling: to write them",
                checks.len()
            ),
            ..Row::default()
        });
        self.set(&checks, "passing").await
    }

    async fn set(&self, checks: &[Value], status: &str) -> anyhow::Result<()> {
        for checks in checks.chunks(60) {
            let ops = checks.iter().map(|check| {
                let mut check = check.clone();
                check["Status"] = status.into();
                json!({ "Check": { "Verb": "set", "Check": check } })
            });
            let body = Value::Array(ops.collect()).to_string();
            self.bare(Method::PUT, "/v1/txn", &body.into()).await?;
        }
        Ok(())
    }

    /// Returns the checks of clients of the other nodes, from Consul.
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
