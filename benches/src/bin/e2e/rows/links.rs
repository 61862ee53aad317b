//! Events and questions of one process over its link.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures_lite::future::try_zip;
use hax_benches::rig::{Rig, clock};
use hax_benches::{scenes, shapes};
use hax_core::base::fid::Fid;
use hax_core::bridge::io::Input;
use hax_core::ha::message::Body;
use hax_core::ha::note::{NOTES_MAX, Note, Nvec, NvecKind, ObjectState};
use hax_core::ha::process::{ProcessEvent, ProcessEventKind, ProcessType};
use hyper::Method;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{LIMIT, Run, Sample, ms};
use crate::fixture::ceiling;
use crate::peer::Peer;
use crate::row::Row;
use crate::storm::Crowd;

/// The requests to Consul for a question while no key changes.
pub(super) const GLANCES: [&str; 2] =
    ["/v1/kv/processes/none?consistent", "/v1/health/state/none?consistent"];

impl Run<'_> {
    pub(super) async fn link(&mut self) -> anyhow::Result<()> {
        let mut crowd = Crowd::connect(self.hax.motr, &[self.client()?]).await?;
        crowd.open_loop(1).await?;
        crowd.calm().await;
        let mut peer = crowd.peers.pop().context("one")?;
        let bare = ceiling("constant", self.confds()).await?;
        let mut compared = Crowd::connect(bare.motr, &[peer.fid]).await?;
        compared.open_loop(1).await?;
        let mut echo = compared.peers.pop().context("one")?;
        self.nvec_get(&mut peer, &mut echo).await?;
        drop((echo, bare));
        self.process_event(&mut peer).await
    }

    async fn nvec_get(&mut self, peer: &mut Peer, echo: &mut Peer) -> anyhow::Result<()> {
        let objects = self.objects();
        let (mut one, mut all) = (Sample::default(), Sample::default());
        let (mut bare_one, mut bare_all) = (Sample::default(), Sample::default());
        let (mut together, mut probes) = (Sample::default(), [(); 2].map(|()| Sample::default()));
        let times = self.times * 10;
        let mut consul_requests = 0;
        // The measurements alternate, so that other load on the machine affects all.
        for _ in 0..times {
            one.add(states(peer, &objects[..NOTES_MAX]).await?);
            let before = self.hax.consul_requests()?;
            all.add(states(peer, &objects).await?);
            consul_requests = consul_requests.max(self.hax.consul_requests()? - before);
            bare_one.add(states(echo, &objects[..NOTES_MAX]).await?);
            bare_all.add(states(echo, &objects).await?);
            for (probe, took) in GLANCES.into_iter().zip(&mut probes) {
                took.add(self.bare(Method::GET, probe, &Bytes::new()).await?);
            }
            let began = clock();
            let none = Bytes::new();
            let [keys, health] = GLANCES.map(|probe| self.bare(Method::GET, probe, &none));
            try_zip(keys, health).await?;
            together.add(began.elapsed());
        }
        let slowest = probes.iter_mut().map(Sample::median).max().unwrap_or_default();
        let prefix = "/v1/kv/m0conf/?keys&separator=/&consistent";
        let prefix = self.bare_reads(prefix).await?.median();
        let value = all.median();
        self.rows.push(Row {
            name: "nvec_get",
            value: ms(value),
            unit: "ms",
            ceiling: Some(ms(slowest)),
            consul_requests,
            target: "≤ 2 × the slowest of its own probes",
            ok: value <= 2 * slowest,
            more: format!(
                "{} objects, all questions at once, p99 {:.2} ms; one of {NOTES_MAX}: {:.2}, p99 \
                 {:.2}; the wire alone: {:.2}, one: {:.2}; its probes at once, bare: {:.2}; a probe \
                 of the prefix m0conf/: {:.2}",
                objects.len(),
                ms(all.p99()),
                ms(one.median()),
                ms(one.p99()),
                ms(bare_all.median()),
                ms(bare_one.median()),
                ms(together.median()),
                ms(prefix),
            ),
            ..Row::default()
        });
        Ok(())
    }

    /// Returns all objects with a state.
    fn objects(&self) -> Vec<Fid> {
        let keys = self.fixture.cluster.kv.iter().filter(|(key, _)| key.starts_with("m0conf/"));
        let fids = keys.filter_map(|(key, _)| key.rsplit('/').next()?.parse::<Fid>().ok());
        let mut fids: Vec<Fid> = fids.collect();
        fids.sort_unstable();
        fids.dedup();
        fids
    }

    async fn process_event(&mut self, peer: &mut Peer) -> anyhow::Result<()> {
        let bodies = transactions(peer.fid)?;
        let (mut all, mut bare) = (Sample::default(), Sample::default());
        let before = self.hax.consul_requests_of("txn")?;
        let times = self.times * 10;
        for nth in 0..times {
            let event = match nth % 2 {
                0 => ProcessEventKind::Started,
                _ => ProcessEventKind::DtmRecovered,
            };
            all.add(said(peer, event).await?);
            // The responses to its watches must not be part of the measurement.
            sleep(Duration::from_millis(5)).await;
            bare.add(self.bare(Method::PUT, "/v1/txn", &bodies[nth % 2]).await?);
            sleep(Duration::from_millis(5)).await;
        }
        let transactions = self.hax.consul_requests_of("txn")? - before;
        let (value, top) = (all.median(), bare.median());
        self.rows.push(Row {
            name: "process_event",
            value: ms(value),
            unit: "ms",
            ceiling: Some(ms(top)),
            consul_requests: transactions / times as u64,
            target: "≤ 2 × the same transaction bare; one transaction",
            ok: value <= 2 * top && transactions == times as u64,
            more: format!(
                "{times} events to their acknowledgement, {transactions} transactions; p99 {:.1} \
                 ms, bare {:.1}",
                ms(all.p99()),
                ms(bare.p99()),
            ),
            ..Row::default()
        });
        Ok(())
    }
}

/// Measures the time until hax has acknowledged an event of a process.
pub(super) async fn said(peer: &mut Peer, event: ProcessEventKind) -> anyhow::Result<Duration> {
    let kind = ProcessType::Other;
    let began = clock();
    let (frame, tag) = peer.says(Body::Process(ProcessEvent { event, kind, pid: 1 }));
    peer.write(frame);
    let at = timeout(LIMIT, peer.delivered(tag)).await.context("an acknowledgement")??;
    Ok(at.duration_since(began))
}

/// Measures the time until the states of these objects are answered, with all necessary questions sent at
/// once.
pub(super) async fn states(peer: &mut Peer, objects: &[Fid]) -> anyhow::Result<Duration> {
    let began = clock();
    for chunk in objects.chunks(NOTES_MAX) {
        let notes = chunk.iter().map(|fid| Note { fid: *fid, state: ObjectState::Unknown });
        let (kind, id_of_get, ignore_same_state) = (NvecKind::Get, 1, 0);
        let nvec = Nvec { kind, id_of_get, ignore_same_state, notes: notes.collect() };
        let (frame, _) = peer.says(Body::Nvec(Box::new(nvec)));
        peer.write(frame);
    }
    let mut left = objects.len();
    let mut last = began;
    while left > 0 {
        let (at, message) = timeout(LIMIT, peer.told()).await.context("an answer")??;
        if let Body::Nvec(nvec) = &message.body {
            left = left.checked_sub(nvec.notes.len()).context("no more than was asked for")?;
        }
        last = at;
    }
    Ok(last.duration_since(began))
}

/// Returns the transactions of hax for two alternating events of this process, so that each changes
/// something. The keys differ from hax's and there are no comparisons, so the transactions can be repeated.
fn transactions(process: Fid) -> anyhow::Result<[Bytes; 2]> {
    let mut rig = Rig::new(&shapes::nodes23());
    let link = rig.link(process);
    rig.rest();
    let mut bodies = Vec::new();
    for nth in 0..2 {
        let event = scenes::event(&mut rig, link, process, nth);
        rig.give(event);
        let call = rig.take_calls().pop().context("a transaction")?;
        let mut ops: Value = serde_json::from_slice(&call.body)?;
        let answer = rig.ask(call).context("its answer")?;
        rig.give(Input::Consul(answer));
        rig.rest();
        for op in ops.as_array_mut().context("operations")? {
            let key = format!("bench/{}", op["KV"]["Key"].as_str().unwrap_or_default());
            op["KV"] = json!({ "Verb": "set", "Key": key, "Value": op["KV"]["Value"] });
        }
        bodies.push(Bytes::from(ops.to_string()));
    }
    bodies.try_into().map_err(|_| anyhow::anyhow!("two events are two transactions"))
}
