//! What must hold after every step. One subject a file, one rule a function; the first rule that is
//! broken ends the run.

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
use hax_core::base::fact::Fact;
use hax_core::base::fid::Fid;
use hax_core::base::id::{CallId, HttpId};
use hax_core::base::time::Next;
use hax_core::consul::port;
use hax_core::ha::entrypoint::Entrypoint;
use hax_core::ha::spiel::Reply;
use hax_core::node::{self, Node, Output};
use hax_core::wire::params::LinkIds;

use super::queue::Who;
use crate::consul::Consul;
use calls::Calls;
use ends::Ends;
use entries::Entries;
use frames::Frames;
pub(crate) use frames::{is_a_frame, is_bearable};
use kv::Kv;
use lanes::Lanes;
pub(crate) use limits::{deadline_is_later, nothing_follows_exit, wire_is_within};
use spiel::Library;

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: &'static str,
    /// What was seen.
    pub what: String,
}

/// Who is who.
#[derive(Clone, Debug, Default)]
pub(super) struct People {
    /// Each hax: its process and the name of its node.
    pub(super) haxes: Vec<(Fid, String)>,
    /// Each Motr process: its fid, its hax, where it listens and whether it is a confd.
    pub(super) cast: Vec<(Fid, usize, SocketAddr, bool)>,
    /// Where the confd of each node is.
    pub(super) confds: Vec<String>,
}

/// The rules that hold for one life of one hax, whatever surrounds it.
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

    /// It took an input; this came of it.
    pub(crate) fn step(
        &mut self,
        now: u64,
        request: Option<HttpId>,
        out: &[Output],
        next: Next,
        machine: &Node,
    ) -> Result<(), Violation> {
        let Self { config, calls, library, .. } = self;
        deadline_is_later(now, next)?;
        limits::view_is_within(config, machine.view())?;
        self.steps += 1;
        if self.steps.is_multiple_of(64) {
            wire_is_within(&config.wire, &machine.wire())?;
        }
        if let Some(id) = request {
            calls.asked(id);
        }
        for output in out {
            match output {
                Output::Consul(port::Command::Call(call)) => calls.call(config, call)?,
                Output::Consul(port::Command::Cancel(id)) => calls.cancel(*id)?,
                Output::Spiel(call) => library.call(config, call)?,
                Output::Http(response) => calls.response(response.id)?,
                Output::Net(_) | Output::Fact(_) => {}
            }
        }
        Ok(())
    }

    pub(crate) fn fact(&mut self, now: u64, fact: &Fact) -> Result<(), Violation> {
        self.entries.fact(&self.config, now, fact)?;
        self.ends.fact(fact)
    }

    pub(crate) fn replied(&mut self, call: CallId) {
        self.calls.replied(call);
    }

    /// Motr's library has answered.
    pub(crate) fn library_answered(&mut self, reply: &Reply) {
        self.library.answered(reply);
    }

    fn owed(&self) -> Option<String> {
        self.calls.owed().or_else(|| self.entries.owed())
    }
}

/// State and type, as `processes/` has them, without their common beginning.
type Word = (String, String);

/// What is watched of one hax in one life.
#[derive(Debug, Default)]
struct Life {
    alone: Option<Alone>,
    lanes: Lanes,
}

/// All rules.
pub(super) struct Oracle {
    pub(super) violation: Option<Violation>,
    people: People,
    lives: Vec<Life>,
    frames: Frames,
    kv: Kv,
}

impl Oracle {
    pub(super) fn new(people: People, consul: &Consul) -> Self {
        let lives = people.haxes.iter().map(|_| Life::default()).collect();
        let frames = Frames::new(people.cast.len(), people.haxes.len());
        let kv = Kv::new(consul);
        Self { violation: None, people, lives, frames, kv }
    }

    /// A rule is broken. The first one counts.
    pub(super) fn fail(&mut self, rule: &'static str, what: String) {
        self.violation.get_or_insert(Violation { rule, what });
    }

    fn check(&mut self, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.violation.get_or_insert(violation);
        }
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

    /// A hax took an input; this came of it.
    pub(super) fn step(
        &mut self,
        now: u64,
        hax: usize,
        request: Option<HttpId>,
        out: &[Output],
        next: Next,
        machine: &Node,
    ) {
        if let Some(alone) = &mut self.lives[hax].alone {
            let result = alone.step(now, request, out, next, machine);
            self.check(result);
        }
    }

    pub(super) fn after_exit(&mut self, next: Next, out: &[Output]) {
        let result = nothing_follows_exit(next, out);
        self.check(result);
    }

    pub(super) fn replied(&mut self, hax: usize, call: CallId) {
        self.lives[hax].alone.iter_mut().for_each(|alone| alone.replied(call));
    }

    pub(super) fn library_answered(&mut self, hax: usize, reply: &Reply) {
        self.lives[hax].alone.iter_mut().for_each(|alone| alone.library_answered(reply));
    }

    /// A machine wrote a frame.
    pub(super) fn wrote(&mut self, now: u64, who: Who, bytes: &Bytes) {
        let result = match who {
            Who::Hax(hax) => self.frames.hax_wrote(&self.people, &self.kv, now, hax, bytes),
            Who::Motr(motr) => self.frames.process_wrote(&self.people, &self.kv, motr, bytes),
            Who::Stranger => Ok(()),
        };
        self.check(result);
    }

    pub(super) fn fact(&mut self, now: u64, hax: usize, fact: &Fact) {
        let own = self.people.haxes[hax].0;
        let Life { alone, lanes } = &mut self.lives[hax];
        let Some(alone) = alone else { return };
        let mut result = alone.fact(now, fact);
        result = result.and_then(|()| lanes.fact(own, &self.people, fact));
        self.frames.fact(&self.people, hax, fact);
        self.check(result);
    }

    /// Something may have been written to Consul, by a hax or by somebody else.
    pub(super) fn consul_wrote(&mut self, by: Option<usize>, body: &[u8], consul: &Consul) {
        let mut result = Ok(());
        if let Some(hax) = by {
            let linked = |fid: Fid| self.frames.was_linked(hax, fid);
            result = kv::writes_for_its_own(&self.people, hax, body, linked, consul)
                .and_then(|()| kv::takes_statistics_down(&self.people, hax, body, consul));
        }
        self.kv.look(by, body, consul);
        self.check(result);
    }

    // ---- processes --------------------------------------------------------------------------------

    pub(super) fn entrypoint(
        &mut self,
        motr: usize,
        (control, again): (u32, bool),
        entrypoint: &Entrypoint,
    ) {
        let result = entries::ends_nobody(motr, (control, again), entrypoint)
            .and_then(|()| entries::says_where_confds_are(&self.people, motr, control, entrypoint));
        self.check(result);
    }

    /// A process aborted. It may only be made to by being taken for dead.
    pub(super) fn aborted(&mut self, motr: usize, why: &'static str, consul: &Consul, fid: Fid) {
        let key = format!("processes/{fid}");
        let held = consul.holds(&key);
        let word = held.and_then(|held| super::model::word(held.value));
        let dead = word.is_some_and(|(state, _)| state == "STOPPED");
        if !(dead && why == "taken for dead") {
            self.fail("no process is made to abort", format!("process {motr}: {why}"));
        }
    }

    /// The names of a process's link, as it writes them.
    pub(super) fn link_of(&self, motr: usize) -> Option<LinkIds> {
        self.frames.link_of(motr)
    }

    // ---- at rest ----------------------------------------------------------------------------------

    /// What is still owed, now that nothing goes wrong any more.
    pub(super) fn owed(&self) -> Option<String> {
        self.lives.iter().enumerate().find_map(|(hax, life)| {
            let owed = life.alone.as_ref().and_then(Alone::owed);
            owed.map(|what| format!("hax {hax}: {what}"))
        })
    }

    /// Whether what Consul holds of a process was written by a hax.
    pub(super) fn is_a_hax_s(&self, fid: Fid) -> bool {
        self.kv.last_writer(fid).is_some()
    }

    /// What the store must hold at rest.
    pub(super) fn rest(&mut self, consul: &Consul) {
        let result = self.kv.last_event_stands(
            &self.people,
            |motr| self.frames.last_acknowledged(motr),
            consul,
        );
        self.check(result);
    }
}

fn broken(rule: &'static str, what: impl Into<String>) -> Result<(), Violation> {
    Err(Violation { rule, what: what.into() })
}
