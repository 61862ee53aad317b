//! The haxes: their identities, the configuration of each life, and their reports.

use std::net::SocketAddr;

use hax_core::base::fid::Fid;
use hax_core::bridge::config;
use hax_core::ha::fact::{Fact, FactKind};
use hax_core::node::{self, Node};
use hax_core::wire;

use super::{Bridge, World};
use crate::engine::Party;

pub(super) struct Hax {
    pub(super) fid: Fid,
    pub(super) name: String,
    pub(super) addr: SocketAddr,
    /// The configuration of its last life.
    pub(super) config: Option<node::Config>,
    /// The time of the last post of checks to it.
    pub(super) last_post: Option<u64>,
}

impl Hax {
    pub(super) fn new(fid: Fid, name: &str, addr: SocketAddr) -> Self {
        Self { fid, name: name.to_owned(), addr, config: None, last_post: None }
    }
}

impl World<'_, Bridge> {
    pub(super) fn start_hax(&mut self, i: usize) -> Node {
        let generation = self.sim.clocks().wall.0;
        let hax = &mut self.cast.hax[i];
        let mut config = node::Config {
            bridge: config::Config::new(hax.fid, &hax.name, generation),
            wire: wire::Config::new(hax.addr, generation, generation),
        };
        self.cast.swarm.apply_limits(&mut config);
        self.cast.oracle.on_start(i, &config);
        hax.config = Some(config.clone());
        self.net.listen(Party::Node(i), hax.addr);
        Node::new(config)
    }

    pub(super) fn on_hax_fact(&mut self, i: usize, fact: &Fact) {
        self.sim.check(self.cast.oracle.on_fact(self.sim.now(), i, fact));
        self.on_verdict(fact);
        if fact.kind() == FactKind::Stopping {
            // A hax may stop by itself, on a message that requires it.
            self.hosts[i].mark_stopping();
        }
    }

    /// Returns the maximum time in which a hax completes its work in progress.
    pub(super) fn max_drain_time(&self) -> u64 {
        let configs = self.cast.hax.iter().filter_map(|hax| hax.config.as_ref());
        let drain = configs.map(|config| config.bridge.time.drain.as_micros()).max().unwrap_or(0);
        u64::try_from(drain).unwrap_or(0)
    }
}
