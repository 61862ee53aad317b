//! The rules that hold after every step.
//!
//! Each file has one subject, and each function one rule. The first broken rule ends the run.

mod calls;
mod entries;
mod frames;
mod kept;
mod kv;
mod lanes;
mod limits;
mod outcomes;
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

use super::hax::Fate;
use crate::consul::Consul;
use crate::engine::{Party, Violation};
use calls::Calls;
use entries::Entries;
use frames::Frames;
pub(crate) use frames::{check_frame, check_hax_frame};
use kept::Kept;
use kv::Kv;
use lanes::Lanes;
pub(crate) use limits::check_wire_view;
use outcomes::Outcomes;
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
pub(crate) struct NodeRules {
    config: node::Config,
    calls: Calls,
    entries: Entries,
    outcomes: Outcomes,
    library: Library,
    steps: u64,
}

impl NodeRules {
    pub(crate) fn new(config: &node::Config) -> Self {
        Self {
            config: config.clone(),
            calls: Calls::default(),
            entries: Entries::default(),
            outcomes: Outcomes::default(),
            library: Library::default(),
            steps: 0,
        }
    }

    /// Checks the outputs of one input.
    pub(crate) fn on_step(&mut self, out: &[Output], machine: &Node) -> Result<(), Violation> {
        let Self { config, calls, library, .. } = self;
        limits::check_view(config, machine.view())?;
        self.steps += 1;
        if self.steps.is_multiple_of(64) {
            check_wire_view(&config.wire, &machine.wire())?;
        }
        for output in out {
            match output {
                Output::Consul(port::Command::Call(call)) => calls.on_call(config, call)?,
                Output::Consul(port::Command::Cancel(id)) => calls.on_cancel(*id)?,
                Output::Spiel(call) => library.on_call(config, call)?,
                Output::Http(response) => calls.on_response(response.id)?,
                Output::Net(_)
                | Output::HttpStream(_)
                | Output::Exec(_)
                | Output::File(_)
                | Output::Fifo(_)
                | Output::Keeper(_)
                | Output::State(_)
                | Output::Fact(_) => {}
            }
        }
        Ok(())
    }

    pub(crate) fn on_fact(&mut self, now: u64, fact: &Fact) -> Result<(), Violation> {
        self.entries.on_fact(&self.config, now, fact)?;
        self.outcomes.on_fact(fact)
    }

    /// Records an HTTP request before the hax receives it.
    pub(crate) fn on_request(&mut self, request: HttpId) {
        self.calls.on_request(request);
    }

    pub(crate) fn on_reply(&mut self, call: CallId) {
        self.calls.on_reply(call);
    }

    /// Records a response of Motr's library.
    pub(crate) fn on_library_reply(&mut self, reply: &Reply) {
        self.library.on_reply(reply);
    }

    fn unanswered(&self) -> Option<String> {
        self.calls.unanswered().or_else(|| self.entries.unanswered())
    }
}

/// State and type in `processes/`, without their common prefix.
type Record = (String, String);

/// The checked state of one hax in one life.
#[derive(Debug, Default)]
struct Life {
    rules: Option<NodeRules>,
    lanes: Lanes,
}

pub(super) struct Oracle {
    topology: Topology,
    lives: Vec<Life>,
    frames: Frames,
    kept: Kept,
    kv: Kv,
}

impl Oracle {
    pub(super) fn new(topology: Topology, consul: &Consul) -> Self {
        let lives = topology.haxes.iter().map(|_| Life::default()).collect();
        let frames = Frames::new(topology.motr.len(), topology.haxes.len());
        let (kept, kv) = (Kept::new(topology.haxes.len()), Kv::new(consul));
        Self { topology, lives, frames, kept, kv }
    }

    // ---- lives ------------------------------------------------------------------------------------

    pub(super) fn on_start(&mut self, hax: usize, config: &node::Config) {
        self.lives[hax] = Life { rules: Some(NodeRules::new(config)), ..Life::default() };
        self.frames.on_hax_start(hax);
    }

    /// Records the state that a starting hax finds.
    pub(super) fn on_kept(&mut self, hax: usize, fate: Fate, links: usize) {
        self.kept.on_start(hax, fate, links);
    }

    pub(super) fn on_death(&mut self, hax: usize) {
        self.lives[hax] = Life::default();
    }

    pub(super) fn on_process_death(&mut self, motr: usize) {
        self.frames.on_process_start(motr);
    }

    // ---- steps ------------------------------------------------------------------------------------

    /// Checks the outputs of one input of a hax.
    pub(super) fn on_step(
        &mut self,
        hax: usize,
        out: &[Output],
        machine: &Node,
    ) -> Result<(), Violation> {
        let rules = self.lives[hax].rules.as_mut();
        rules.map_or(Ok(()), |rules| rules.on_step(out, machine))?;
        self.kept.on_step(hax, machine)
    }

    pub(super) fn on_request(&mut self, hax: usize, request: HttpId) {
        self.lives[hax].rules.iter_mut().for_each(|rules| rules.on_request(request));
    }

    pub(super) fn on_reply(&mut self, hax: usize, call: CallId) {
        self.lives[hax].rules.iter_mut().for_each(|rules| rules.on_reply(call));
    }

    pub(super) fn on_library_reply(&mut self, hax: usize, reply: &Reply) {
        self.lives[hax].rules.iter_mut().for_each(|rules| rules.on_library_reply(reply));
    }

    /// Checks a frame that a machine wrote.
    pub(super) fn on_frame(
        &mut self,
        now: u64,
        who: Party,
        bytes: &Bytes,
    ) -> Result<(), Violation> {
        match who {
            Party::Node(hax) => {
                self.kept.on_frame(hax, bytes)?;
                self.frames.on_hax_frame(&self.topology, &self.kv, now, hax, bytes)
            }
            Party::Peer(motr) => {
                self.frames.on_process_frame(&self.topology, &self.kv, motr, bytes)
            }
            Party::RawClient => Ok(()),
        }
    }

    pub(super) fn on_fact(&mut self, now: u64, hax: usize, fact: &Fact) -> Result<(), Violation> {
        let own = self.topology.haxes[hax].0;
        let Life { rules, lanes } = &mut self.lives[hax];
        let Some(rules) = rules else { return Ok(()) };
        let result =
            rules.on_fact(now, fact).and_then(|()| lanes.on_fact(own, &self.topology, fact));
        self.frames.on_fact(&self.topology, hax, fact);
        result.and_then(|()| self.kept.on_fact(hax, fact))
    }

    /// Checks a possible write to Consul, by a hax or by another client.
    pub(super) fn on_consul_write(
        &mut self,
        by: Option<usize>,
        body: &[u8],
        consul: &Consul,
    ) -> Result<(), Violation> {
        let mut result = Ok(());
        if let Some(hax) = by {
            let linked = |fid: Fid| self.frames.was_linked(hax, fid);
            result = kv::check_writer(&self.topology, hax, body, linked, consul)
                .and_then(|()| kv::check_statistics_writer(&self.topology, hax, body, consul));
        }
        self.kv.observe(by, body, consul);
        result
    }

    // ---- processes --------------------------------------------------------------------------------

    pub(super) fn check_entrypoint(
        &self,
        motr: usize,
        (control, again): (u32, bool),
        entrypoint: &Entrypoint,
    ) -> Result<(), Violation> {
        entries::check_not_empty(motr, (control, again), entrypoint)?;
        entries::check_confds(&self.topology, motr, control, entrypoint)
    }

    /// Returns the ids of a process's link, from the frames that it wrote.
    pub(super) fn link_of(&self, motr: usize) -> Option<LinkIds> {
        self.frames.link_of(motr)
    }

    // ---- at rest ----------------------------------------------------------------------------------

    /// Returns a missing response or reply, once the faults have ended.
    pub(super) fn unanswered(&self) -> Option<String> {
        self.lives.iter().enumerate().find_map(|(hax, life)| {
            let owed = life.rules.as_ref().and_then(NodeRules::unanswered);
            owed.map(|what| format!("hax {hax}: {what}"))
        })
    }

    /// Returns whether a hax wrote the last record of a process.
    pub(super) fn is_written_by_hax(&self, fid: Fid) -> bool {
        self.kv.last_writer(fid).is_some()
    }

    /// Checks the records in Consul at rest.
    pub(super) fn check_rest(&self, consul: &Consul) -> Result<(), Violation> {
        let acknowledged = |motr| self.frames.last_acknowledged(motr);
        self.kv.check_last_events(&self.topology, acknowledged, consul)
    }
}

/// Checks the reason of a process's abort: only a declaration of its death may cause one.
pub(super) fn check_abort(
    motr: usize,
    why: &'static str,
    consul: &Consul,
    fid: Fid,
) -> Result<(), Violation> {
    let key = format!("processes/{fid}");
    let held = consul.entry(&key);
    let word = held.and_then(|held| super::model::record(held.value));
    let dead = word.is_some_and(|(state, _)| state == "STOPPED");
    if dead && why == "taken for dead" {
        return Ok(());
    }
    broken("no process is made to abort", format!("process {motr}: {why}"))
}

fn broken(rule: &'static str, what: impl Into<String>) -> Result<(), Violation> {
    Violation::of(rule, what)
}
