//! The haxes: their identities, the configuration of each life, and their reports.

use std::net::SocketAddr;

use hax_core::base::fid::Fid;
use hax_core::bridge::config;
use hax_core::ha::fact::{Fact, FactKind};
use hax_core::node::{self, Node};
use hax_core::wire;
use hax_core::wire::endpoint::Keeping;

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
    /// The id of the boot of its node, as it sees it.
    pub(super) boot: u128,
}

/// What has happened to the kept state between two lives of a hax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is there.
    Kept,
    /// It is an older copy.
    Stale,
    Lost,
    Torn,
    /// The boot id is another one.
    Rebooted,
}

impl Hax {
    pub(super) fn new(fid: Fid, name: &str, addr: SocketAddr) -> Self {
        Self { fid, name: name.to_owned(), addr, config: None, last_post: None, boot: 1 }
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
        if self.cast.swarm.keeps {
            config.wire.keeping = Some(self.keep_links(i));
        }
        self.cast.hax[i].config = Some(config.clone());
        self.net.listen(Party::Node(i), self.cast.hax[i].addr);
        Node::new(config)
    }

    /// Returns what the last life of a hax has left behind, after its fate.
    fn keep_links(&mut self, i: usize) -> Keeping {
        let fate = self.draw_fate(i);
        let Self { hosts, sim, cast, .. } = self;
        let state = &mut hosts[i].kept_state;
        match fate {
            Fate::Kept => {}
            Fate::Stale => state.age(1 + usize::try_from(sim.choose(12)).unwrap_or(0)),
            Fate::Lost => state.lose(),
            Fate::Torn => state.damage(|n| sim.choose(n)),
            Fate::Rebooted => cast.hax[i].boot += 1,
        }
        let slots = state.found();
        let hax = &self.cast.hax[i];
        let (boot, process) = (hax.boot, hax.fid);
        self.cast.oracle.on_kept(i, fate, slots.len());
        self.sim.log(|| format!("hax {i}: {} links are {fate:?}", slots.len()));
        Keeping { boot, process, ends_links: false, slots }
    }

    fn draw_fate(&mut self, i: usize) -> Fate {
        if self.sim.are_faults_off() || self.hosts[i].kept_state.len() == 0 {
            return Fate::Kept;
        }
        // Only the positions of a process that has taken all messages show that a copy is old.
        let slow = self.cast.swarm.slow_ms > 0 || self.cast.motr.iter().any(|p| p.withholds_acks);
        // A process that is about to switch to a link that the copy does not know shows nothing of it.
        let machines = self.cast.motr.iter().filter_map(|process| process.machine.as_ref());
        let slow = slow || machines.into_iter().any(|machine| machine.may_switch());
        match self.sim.choose(10) {
            4..=6 if !slow => Fate::Stale,
            7 => Fate::Lost,
            8 => Fate::Torn,
            9 => Fate::Rebooted,
            _ => Fate::Kept,
        }
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
