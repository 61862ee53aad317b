//! Storms of entrypoint requests, against hax or against a program for comparison.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use bytes::BytesMut;
use hax_benches::rig::clock;
use hax_core::base::fid::Fid;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::peer::Peer;

/// The result of a storm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Storm {
    pub(crate) requests: usize,
    pub(crate) took: Duration,
    pub(crate) p99: Duration,
}

impl Storm {
    pub(crate) fn rate(self) -> f64 {
        self.requests as f64 / self.took.as_secs_f64()
    }
}

/// The timeout of a storm.
const LIMIT: Duration = Duration::from_secs(60);

/// The peers, and the gate that lets them read.
pub(crate) struct Crowd {
    pub(crate) peers: Vec<Peer>,
    gate: watch::Sender<bool>,
}

impl Crowd {
    /// Connects a process for each of these fids.
    pub(crate) async fn connect(hax: SocketAddr, fids: &[Fid]) -> anyhow::Result<Self> {
        let (gate, reads) = watch::channel(true);
        let mut peers = Vec::new();
        for fid in fids {
            peers.push(Peer::connect(*fid, hax, reads.clone()).await?);
        }
        Ok(Self { peers, gate })
    }

    /// Makes each peer send `each` requests before any reply is read.
    pub(crate) async fn open_loop(&mut self, each: usize) -> anyhow::Result<Storm> {
        let frames = self.peers.iter_mut().map(|peer| {
            let mut frames = BytesMut::new();
            (0..each).for_each(|_| frames.extend_from_slice(&peer.asks()));
            frames.freeze()
        });
        let frames: Vec<_> = frames.collect();
        self.gate.send(false)?;
        let began = clock();
        for (peer, frames) in self.peers.iter().zip(frames) {
            peer.write(frames);
        }
        // Each writing task gets one turn; the peers' sockets take all of it.
        tokio::task::yield_now().await;
        self.gate.send(true)?;
        let mut all = Vec::new();
        for peer in &mut self.peers {
            for _ in 0..each {
                let at = timeout(LIMIT, peer.answered()).await.context("an answer in time")??;
                all.push(at.duration_since(began));
            }
        }
        Ok(storm(all))
    }

    /// Makes each peer send `each` requests, the next after each reply. Latencies are of single requests.
    pub(crate) async fn closed_loop(&mut self, each: usize) -> anyhow::Result<Storm> {
        let began = clock();
        let mut tasks = Vec::new();
        for mut peer in self.peers.drain(..) {
            tasks.push(tokio::task::spawn_local(async move {
                let mut all = Vec::with_capacity(each);
                for _ in 0..each {
                    let sent = clock();
                    let frame = peer.asks();
                    peer.write(frame);
                    let at =
                        timeout(LIMIT, peer.answered()).await.context("an answer in time")??;
                    all.push(at.duration_since(sent));
                }
                anyhow::Ok((peer, all))
            }));
        }
        let mut all = Vec::new();
        for task in tasks {
            let (peer, own) = task.await??;
            self.peers.push(peer);
            all.extend(own);
        }
        let took = began.elapsed();
        Ok(Storm { took, ..storm(all) })
    }

    /// Waits until hax sends no more messages, and drops them.
    pub(crate) async fn calm(&mut self) -> usize {
        let mut notes = 0;
        loop {
            sleep(Duration::from_millis(100)).await;
            let more: usize = self.peers.iter_mut().map(Peer::drain).sum();
            if more == 0 {
                return notes;
            }
            notes += more;
        }
    }
}

fn storm(mut all: Vec<Duration>) -> Storm {
    all.sort_unstable();
    let requests = all.len();
    let p99 = all[(requests * 99 / 100).min(requests - 1)];
    Storm { requests, took: all[requests - 1], p99 }
}
