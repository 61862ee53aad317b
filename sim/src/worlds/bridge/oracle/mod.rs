//! The rules that hold after every step.
//!
//! Each file has one subject, and each function one rule. The first broken rule ends the run.

mod calls;
mod ends;
mod entries;
mod frames;
mod kv;
mod lanes;
mod limits;
mod spiel;

use std::net::SocketAddr;

use bytes::Bytes;
use hax_core::base::fid::Fid;
use hax_core::base::id::{CallId, HttpId};
use hax_core::consul::port;
use hax_core::ha::entrypoint::Entrypoint;
use hax_core::ha::fact::Fact;
use hax_core::ha::spiel::Reply;
use hax_core::node::{self, Node, Output};
use hax_core::wire::codec::params::LinkIds;

use crate::consul::Consul;
use crate::engine::{Violation, Who};
use calls::Calls;
use ends::Ends;
use entries::Entries;
use frames::Frames;
pub(crate) use frames::{is_a_frame, is_bearable};
use kv::Kv;
use lanes::Lanes;
pub(crate) use limits::wire_is_within;
use spiel::Library;

/// The identities of the machines.
#[derive(Clone, Debug, Default)]
pub(super) struct Topology {
    /// The process fid and the node name of each hax.
    pub(super) haxes: Vec<(Fid, String)>,
    /// Each Motr process: its fid, its hax, its address, and whether it is a confd.
    pub(super) motr: Vec<(Fid, usize, SocketAddr, bool)>,
    /// The endpoint of each node's confd.
    pub(super) confds: Vec<String>,
}

/// The rules for one life of one hax that need no other machine.
#[derive(Debug)]
pub(crate) struct Alone {
    config: node::Config,
    calls: Calls,
    entries: Entries,
    ends: Ends,
    library: Library,
    steps: u64,
}

impl Alone {
    pub(crate) fn new(config: &node::Config) -> Self {
        Self {
            config: config.clone(),
            calls: Calls::default(),
            entries: Entries::default(),
            ends: Ends::default(),
            library: Library::default(),
            steps: 0,
        }
    }

    /// Checks the outputs of one input.
    pub(crate) fn step(&mut self, out: &[Output], machine: &Node) -> Result<(), Violation> {
        let Self { config, calls, library, .. } = self;
        limits::view_is_within(config, machine.view())?;
        self.steps += 1;
        if self.steps.is_multiple_of(64) {
            wire_is_within(&config.wire, &machine.wire())?;
        }
        for output in out {
            match output {
                Output::Consul(port::Command::Call(call)) => calls.call(config, call)?,
                Output::Consul(port::Command::Cancel(id)) => calls.cancel(*id)?,
                Output::Spiel(call) => library.call(config, call)?,
                Output::Http(response) => calls.response(response.id)?,
                Output::Net(_)
                | Output::HttpStream(_)
                | Output::Exec(_)
                | Output::File(_)
                | Output::Fifo(_)
                | Output::Keeper(_)
                | Output::Fact(_) => {}
            }
        }
        Ok(())
    }

    pub(crate) fn fact(&mut self, now: u64, fact: &Fact) -> Result<(), Violation> {
        self.entries.fact(&self.config, now, fact)?;
        self.ends.fact(fact)
    }

    /// Records an HTTP request before the hax receives it.
    pub(crate) fn asked(&mut self, request: HttpId) {
        self.calls.asked(request);
    }

    pub(crate) fn replied(&mut self, call: CallId) {
        self.calls.replied(call);
    }

    /// Records a response of Motr's library.
    pub(crate) fn library_answered(&mut self, reply: &Reply) {
        self.library.answered(reply);
    }

    fn owed(&self) -> Option<String> {
        self.calls.owed().or_else(|| self.entries.owed())
    }
}

/// State and type in `processes/`, without their common prefix.
type Word = (String, String);

/// The checked state of one hax in one life.
#[derive(Debug, Default)]
struct Life {
    alone: Option<Alone>,
    lanes: Lanes,
}

pub(super) struct Oracle {
    topology: Topology,
    lives: Vec<Life>,
    frames: Frames,
    kv: Kv,
}

impl Oracle {
    pub(super) fn new(topology: Topology, consul: &Consul) -> Self {
        let lives = topology.haxes.iter().map(|_| Life::default()).collect();
        let frames = Frames::new(topology.motr.len(), topology.haxes.len());
        let kv = Kv::new(consul);
        Self { topology, lives, frames, kv }
    }

    // ---- lives ------------------------------------------------------------------------------------

    pub(super) fn born(&mut self, hax: usize, config: &node::Config) {
        self.lives[hax] = Life { alone: Some(Alone::new(config)), ..Life::default() };
        self.frames.hax_is_new(hax);
    }

    pub(super) fn died(&mut self, hax: usize) {
        self.lives[hax] = Life::default();
    }

    pub(super) fn process_died(&mut self, motr: usize) {
        self.frames.process_is_new(motr);
    }

    // ---- steps ------------------------------------------------------------------------------------

    /// Checks the outputs of one input of a hax.
    pub(super) fn step(
        &mut self,
        hax: usize,
        out: &[Output],
        machine: &Node,
    ) -> Result<(), Violation> {
        let alone = self.lives[hax].alone.as_mut();
        alone.map_or(Ok(()), |alone| alone.step(out, machine))
    }

    pub(super) fn asked(&mut self, hax: usize, request: HttpId) {
        self.lives[hax].alone.iter_mut().for_each(|alone| alone.asked(request));
    }

    pub(super) fn replied(&mut self, hax: usize, call: CallId) {
        self.lives[hax].alone.iter_mut().for_each(|alone| alone.replied(call));
    }

    pub(super) fn library_answered(&mut self, hax: usize, reply: &Reply) {
        self.lives[hax].alone.iter_mut().for_each(|alone| alone.library_answered(reply));
    }

    /// Checks a frame that a machine wrote.
    pub(super) fn wrote(&mut self, now: u64, who: Who, bytes: &Bytes) -> Result<(), Violation> {
        match who {
            Who::Node(hax) => self.frames.hax_wrote(&self.topology, &self.kv, now, hax, bytes),
            Who::Peer(motr) => self.frames.process_wrote(&self.topology, &self.kv, motr, bytes),
            Who::Stranger => Ok(()),
        }
    }

    pub(super) fn fact(&mut self, now: u64, hax: usize, fact: &Fact) -> Result<(), Violation> {
        let own = self.topology.haxes[hax].0;
        let Life { alone, lanes } = &mut self.lives[hax];
        let Some(alone) = alone else { return Ok(()) };
        let result = alone.fact(now, fact).and_then(|()| lanes.fact(own, &self.topology, fact));
        self.frames.fact(&self.topology, hax, fact);
        result
    }

    /// Checks a possible write to Consul, by a hax or by another client.
    pub(super) fn consul_wrote(
        &mut self,
        by: Option<usize>,
        body: &[u8],
        consul: &Consul,
    ) -> Result<(), Violation> {
        let mut result = Ok(());
        if let Some(hax) = by {
            let linked = |fid: Fid| self.frames.was_linked(hax, fid);
            result = kv::writes_for_its_own(&self.topology, hax, body, linked, consul)
                .and_then(|()| kv::takes_statistics_down(&self.topology, hax, body, consul));
        }
        self.kv.look(by, body, consul);
        result
    }

    // ---- processes --------------------------------------------------------------------------------

    pub(super) fn entrypoint(
        &self,
        motr: usize,
        (control, again): (u32, bool),
        entrypoint: &Entrypoint,
    ) -> Result<(), Violation> {
        entries::ends_nobody(motr, (control, again), entrypoint)?;
        entries::says_where_confds_are(&self.topology, motr, control, entrypoint)
    }

    /// Returns the ids of a process's link, from the frames that it wrote.
    pub(super) fn link_of(&self, motr: usize) -> Option<LinkIds> {
        self.frames.link_of(motr)
    }

    // ---- at rest ----------------------------------------------------------------------------------

    /// Returns a missing response or reply, once the faults have ended.
    pub(super) fn owed(&self) -> Option<String> {
        self.lives.iter().enumerate().find_map(|(hax, life)| {
            let owed = life.alone.as_ref().and_then(Alone::owed);
            owed.map(|what| format!("hax {hax}: {what}"))
        })
    }

    /// Returns whether a hax wrote the last record of a process.
    pub(super) fn is_a_hax_s(&self, fid: Fid) -> bool {
        self.kv.last_writer(fid).is_some()
    }

    /// Checks the records in Consul at rest.
    pub(super) fn rest(&self, consul: &Consul) -> Result<(), Violation> {
        let acknowledged = |motr| self.frames.last_acknowledged(motr);
        self.kv.last_event_stands(&self.topology, acknowledged, consul)
    }
}

/// Checks the reason of a process's abort: only a declaration of its death may cause one.
pub(super) fn aborted(
    motr: usize,
    why: &'static str,
    consul: &Consul,
    fid: Fid,
) -> Result<(), Violation> {
    let key = format!("processes/{fid}");
    let held = consul.holds(&key);
    let word = held.and_then(|held| super::model::word(held.value));
    let dead = word.is_some_and(|(state, _)| state == "STOPPED");
    if dead && why == "taken for dead" {
        return Ok(());
    }
    broken("no process is made to abort", format!("process {motr}: {why}"))
}

fn broken(rule: &'static str, what: impl Into<String>) -> Result<(), Violation> {
    Violation::of(rule, what)
}
