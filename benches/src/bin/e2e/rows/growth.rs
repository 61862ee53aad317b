//! The growth with the configuration: the same measurements with 3 to 1,000 nodes, and those of Consul alone.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hax_benches::rig::clock;
use hax_benches::shapes;
use hax_core::base::fid::Fid;
use hax_core::ha::process::ProcessEventKind;
use hyper::Method;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::links::{GLANCES, said, states};
use super::{LIMIT, Run, Sample, ms};
use crate::fixture::Fixture;
use crate::plot::{self, Plot};
use crate::row::Row;
use crate::storm::Crowd;

const SIZES: [u16; 4] = [3, 23, 100, 1000];
const PROBE: &str = "/v1/kv/m0conf/?keys&separator=/&consistent";
const READ: &str = "/v1/kv/m0conf/?recurse";

/// The number of confds, the same in all sizes, since an entrypoint reply lists them.
const CONFDS: usize = 3;

/// The number of repetitions of a measurement.
const TIMES: usize = 20;

/// The number of events. Between two events the watches need this time to come to rest, in addition to the
/// time in which Consul reads everything.
const EVENTS: usize = 8;
const WATCHES: Duration = Duration::from_millis(300);

/// A curve: its row, its unit, its target, and the requests to Consul for one measurement.
struct Curve {
    name: &'static str,
    unit: &'static str,
    target: &'static str,
    least: Least,
    points: Vec<(u64, f64)>,
    consul_requests: u64,
    more: &'static str,
}

/// The reference for the value with the most nodes, which may be twice the reference.
#[derive(Clone, Copy)]
enum Least {
    /// The curve's own value with the fewest nodes.
    Own,
    /// The value of a bare write, beside the same watches.
    Write,
    /// No reference: the value depends on Consul.
    Any,
}

const FLAT: &str = "does not grow: ≤ 2 × that of 3 nodes";
const AS_BARE: &str = "≤ 2 × a bare write of as many nodes";
const CONSULS: &str = "grows with what Consul reads";

const WRITE: &str = "growth_write";

/// Returns the curves, in the order of [`Run::point`]'s values.
fn curves() -> [Curve; 10] {
    let curve = |name, unit, target, least, more| Curve {
        name,
        unit,
        target,
        least,
        points: Vec::new(),
        consul_requests: 0,
        more,
    };
    [
        curve("growth_entrypoint", "ms", FLAT, Least::Own, "one request, nobody else asks"),
        curve(
            "growth_event",
            "ms",
            AS_BARE,
            Least::Write,
            "a client's event to its acknowledgement",
        ),
        curve(
            "growth_broadcast",
            "ms",
            AS_BARE,
            Least::Write,
            "that event to the note at another link",
        ),
        curve("growth_question", "ms", FLAT, Least::Own, "100 states, no key changes"),
        curve(
            WRITE,
            "ms",
            CONSULS,
            Least::Any,
            "bare Consul: two keys, while hax watches their prefixes",
        ),
        curve(
            "growth_probe",
            "ms",
            CONSULS,
            Least::Any,
            "bare Consul: a probe of the prefix m0conf/",
        ),
        curve("growth_reread", "ms", CONSULS, Least::Any, "bare Consul: all keys below m0conf/"),
        curve("growth_bytes", "KiB", CONSULS, Least::Any, "read from Consul by hax at its start"),
        curve("growth_ready", "ms", CONSULS, Least::Any, "from exec"),
        curve("growth_rss", "MiB", CONSULS, Least::Any, "idle"),
    ]
}

pub(super) async fn rows(program: &Path, quick: bool) -> anyhow::Result<Vec<Row>> {
    let mut curves = curves();
    for nodes in SIZES.into_iter().filter(|nodes| !quick || *nodes < 100) {
        let fixture = Fixture::new(shapes::with(nodes, 2, 2), CONFDS)?;
        let mut run = Run::new(fixture, program, quick).await?;
        let point = run.point().await.with_context(|| format!("{nodes} nodes"))?;
        for (curve, (value, consul_requests)) in curves.iter_mut().zip(point) {
            curve.points.push((nodes.into(), value));
            curve.consul_requests = consul_requests;
        }
    }
    let write = curves.iter().find(|curve| curve.name == WRITE);
    let write = write.map_or(0.0, |curve| curve.points[curve.points.len() - 1].1);
    Ok(curves.into_iter().map(|curve| curve.row(write)).collect())
}

impl Curve {
    fn row(self, write: f64) -> Row {
        let Self { name, unit, target, least, points, consul_requests, more } = self;
        let (first, value) = (points[0].1, points[points.len() - 1].1);
        let (ceiling, ok) = match least {
            Least::Own => (first, value <= 2.0 * first),
            Least::Write => (write, value <= 2.0 * write),
            Least::Any => (first, true),
        };
        let all = points.iter().map(|(nodes, value)| format!("{nodes}: {value:.2}"));
        let all = all.collect::<Vec<_>>().join(", ");
        Row {
            name,
            value,
            unit,
            ceiling: Some(ceiling),
            consul_requests,
            target,
            ok,
            more: format!("{more}; by nodes: {all}"),
            curve: points,
        }
    }
}

impl Run<'_> {
    /// Returns a value for each curve, with the requests to Consul for one measurement.
    async fn point(&mut self) -> anyhow::Result<[(f64, u64); 10]> {
        let ready = self.renew().await?;
        let (bytes, start, rss) =
            (self.hax.consul_bytes()?, self.hax.consul_requests()?, self.hax.rss()?);
        let near = Fid::process(self.client()?.key + 1);
        let mut crowd = Crowd::connect(self.hax.motr, &[self.client()?, near]).await?;
        crowd.open_loop(1).await?;
        crowd.calm().await;
        let entrypoint = self.entrypoints(&mut crowd).await?;
        let mut read = Sample::default();
        for _ in 0..5 {
            read.add(self.bare(Method::GET, READ, &Bytes::new()).await?);
        }
        let [event, broadcast, write] =
            self.events(&mut crowd, WATCHES + 3 * read.median()).await?;
        let question = self.questions(&mut crowd).await?;
        let probe = self.bare_reads(PROBE).await?.median();
        let time = |(took, requests): (Duration, u64)| (ms(took), requests);
        Ok([
            time(entrypoint),
            time(event),
            time(broadcast),
            time(question),
            time(write),
            (ms(probe), 1),
            (ms(read.median()), 1),
            (bytes as f64 / 1024.0, start),
            (ms(ready), start),
            (rss, 0),
        ])
    }

    async fn entrypoints(&self, crowd: &mut Crowd) -> anyhow::Result<(Duration, u64)> {
        let mut all = Sample::default();
        let before = self.hax.consul_requests()?;
        for _ in 0..TIMES {
            let peer = &mut crowd.peers[0];
            let began = clock();
            let frame = peer.asks();
            peer.write(frame);
            let at = timeout(LIMIT, peer.answered()).await.context("an answer")??;
            all.add(at.duration_since(began));
            sleep(Duration::from_millis(6)).await;
        }
        Ok((all.median(), (self.hax.consul_requests()? - before) / TIMES as u64))
    }

    /// Measures the stops and starts of a client: the time until the acknowledgement, and the time until the
    /// other client gets the note. A write by another program alternates with them.
    async fn events(
        &self,
        crowd: &mut Crowd,
        pause: Duration,
    ) -> anyhow::Result<[(Duration, u64); 3]> {
        let [mut all, mut told, mut bare] = [(); 3].map(|()| Sample::default());
        let before = self.hax.consul_requests_of("txn")?;
        for nth in 0..EVENTS {
            sleep(pause).await;
            crowd.peers[1].drain();
            let event = match nth % 2 {
                0 => ProcessEventKind::Stopped,
                _ => ProcessEventKind::Started,
            };
            let began = clock();
            all.add(said(&mut crowd.peers[0], event).await?);
            let (at, _) = timeout(LIMIT, crowd.peers[1].told()).await.context("a note")??;
            told.add(at.duration_since(began));
            sleep(pause).await;
            let value = STANDARD.encode(nth.to_string());
            let set = |key| json!({ "KV": { "Verb": "set", "Key": key, "Value": value } });
            let body = json!([set("m0conf/bench"), set("processes/bench")]).to_string();
            bare.add(self.bare(Method::PUT, "/v1/txn", &body.into()).await?);
        }
        let each = (self.hax.consul_requests_of("txn")? - before) / EVENTS as u64;
        Ok([(all.median(), each), (told.median(), each), (bare.median(), 1)])
    }

    async fn questions(&self, crowd: &mut Crowd) -> anyhow::Result<(Duration, u64)> {
        crowd.calm().await;
        let objects: Vec<Fid> = self.fids.iter().copied().cycle().take(100).collect();
        let mut all = Sample::default();
        // The first questions see the earlier writes, so they are not measured.
        for _ in 0..3 {
            states(&mut crowd.peers[0], &objects).await?;
        }
        for _ in 0..TIMES {
            all.add(states(&mut crowd.peers[0], &objects).await?);
        }
        Ok((all.median(), GLANCES.len() as u64))
    }
}

/// Writes the curves of these rows as pictures.
pub(crate) fn plots(rows: &[Row], dir: &Path, prefix: &str) -> anyhow::Result<()> {
    let lines = |names: &[(&'static str, &'static str)]| {
        let of = |name| rows.iter().find(|row| row.name == name).map(|row| row.curve.clone());
        names.iter().filter_map(|(name, label)| Some((*label, of(*name)?))).collect()
    };
    let times = Plot {
        title: "Time by the number of nodes",
        unit: "ms",
        lines: lines(&[
            ("growth_entrypoint", "entrypoint"),
            ("growth_event", "event"),
            ("growth_broadcast", "broadcast"),
            ("growth_question", "question"),
            ("growth_ready", "start"),
            (WRITE, "Consul alone: write"),
            ("growth_probe", "Consul alone: probe of a prefix"),
            ("growth_reread", "Consul alone: whole prefix"),
        ]),
    };
    let sizes = Plot {
        title: "Bytes by the number of nodes",
        unit: "KiB",
        lines: lines(&[("growth_bytes", "read from Consul at the start")]),
    };
    for (name, plot) in [("growth-times", times), ("growth-bytes", sizes)] {
        let path = dir.join(format!("{prefix}{name}.svg"));
        fs::write(&path, plot::svg(&plot)).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
