//! The context of the bridge's handlers: what every machine's can do, and what is the bridge's own.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::base::id::{LinkId, MsgId, SendId, SpielId};
use crate::bridge::config::Config;
use crate::bridge::continuation::{Continuation, SpielContinuation, Timer};
use crate::bridge::io::Output;
use crate::bridge::refusals::Refusals;
use crate::cluster::replica::Table;
use crate::consul::port::{Answer, Reply};
use crate::ha::fact::Fact;
use crate::ha::message::{Body, Message};
use crate::ha::{motr, spiel};
use crate::machine::{self, Kinds, Outcome};

/// What the bridge's context is made of.
#[derive(Debug)]
pub(crate) struct BridgeKinds;

impl Kinds for BridgeKinds {
    type Continuation = Continuation;
    type Timer = Timer;
    type Output = Output;
    type Shared = Shared;
}

/// What a handler of the bridge may do.
pub(crate) type Cx<'a> = machine::Cx<'a, BridgeKinds>;

/// What of it outlives a call.
pub(crate) type Kept = machine::Kept<BridgeKinds>;

/// What the bridge's handlers share.
#[derive(Debug)]
pub(crate) struct Shared {
    config: Config,
    asked: BTreeMap<SpielId, SpielContinuation>,
    next_spiel: SpielId,
    next_send: SendId,
    /// Messages of processes that are not acknowledged.
    open: BTreeSet<(LinkId, MsgId)>,
    /// Keys that are not of the expected form, as they were when that was said.
    malformed: BTreeMap<Box<str>, u64>,
    refusals: Refusals,
    /// The newest index of an entry of each table of keys that we wrote, or read by itself.
    written: [u64; Table::KV.len()],
}

/// So many keys that are not of the expected form are remembered.
const MALFORMED_MAX: usize = 256;

impl Shared {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            asked: BTreeMap::new(),
            next_spiel: SpielId(1),
            next_send: SendId(1),
            open: BTreeSet::new(),
            malformed: BTreeMap::new(),
            refusals: Refusals::default(),
            written: [0; Table::KV.len()],
        }
    }

    /// What Consul refuses us.
    pub(crate) fn refusals(&self) -> &Refusals {
        &self.refusals
    }
}

impl Cx<'_> {
    pub(crate) fn config(&self) -> &Config {
        &self.shared().config
    }

    pub(crate) fn fact(&mut self, fact: Fact) {
        self.emit(fact);
    }

    /// What Consul refuses us.
    pub(crate) fn refusals(&self) -> &Refusals {
        &self.shared().refusals
    }

    // ---- Consul ----

    /// The answer, or nothing where Consul gave none or is not well.
    pub(crate) fn answer<'r>(&mut self, job: Continuation, reply: &'r Reply) -> Option<&'r Answer> {
        let outcome = self.outcome(job, reply);
        let now = self.now().mono;
        match &outcome {
            Outcome::Answered(_) => self.shared_mut().refusals.granted(job),
            Outcome::Refused(why) => self.shared_mut().refusals.refused(now, job, why),
            Outcome::Failed => {}
        }
        outcome.answer()
    }

    /// A key of Consul, as it was written at `index`, is not of the expected form. Said once: tables are
    /// read again and again.
    pub(crate) fn skip_malformed(&mut self, key: &str, index: u64) {
        let malformed = &mut self.shared_mut().malformed;
        if malformed.get(key) == Some(&index) {
            return;
        }
        if malformed.len() >= MALFORMED_MAX {
            malformed.clear();
        }
        malformed.insert(key.into(), index);
        self.fact(Fact::EntrySkipped { key: key.into() });
    }

    /// Consul has an entry of this index in a table: no consistent reading that is sent from now on is of an
    /// earlier index, unless Consul's history has begun anew.
    pub(crate) fn has_written(&mut self, table: Table, index: u64) {
        if let Some(newest) = self.shared_mut().written.get_mut(table as usize) {
            *newest = index.max(*newest);
        }
    }

    /// The newest index of such an entry; 0 if there is none.
    pub(crate) fn newest_written(&self, table: Table) -> u64 {
        self.shared().written.get(table as usize).copied().unwrap_or(0)
    }

    /// Consul's indexes of a table have begun anew.
    pub(crate) fn forget_written(&mut self, table: Table) {
        if let Some(newest) = self.shared_mut().written.get_mut(table as usize) {
            *newest = 0;
        }
    }

    // ---- Motr ----

    pub(crate) fn motr(&mut self, command: motr::Command) {
        self.emit(command);
    }

    /// A message has arrived that has to be acknowledged.
    pub(crate) fn open(&mut self, link: LinkId, msg: MsgId) {
        self.shared_mut().open.insert((link, msg));
    }

    pub(crate) fn ack(&mut self, link: LinkId, msg: MsgId) {
        self.shared_mut().open.remove(&(link, msg));
        self.motr(motr::Command::Ack { link, msg });
    }

    /// Whether a process has said something before this message that is not acknowledged: it does not
    /// learn that this one is, either.
    pub(crate) fn is_behind(&self, (link, msg): (LinkId, MsgId)) -> bool {
        self.shared().open.range((link, MsgId(0))..(link, msg)).next().is_some()
    }

    /// Nothing of a link is acknowledged any more.
    pub(crate) fn link_closed(&mut self, link: LinkId) {
        self.shared_mut().open.retain(|(of, _)| *of != link);
    }

    /// Sends one message over these links.
    pub(crate) fn send(&mut self, to: Vec<LinkId>, body: Body) -> SendId {
        let send = self.shared_mut().next_send.mint();
        let message = Arc::new(Message::new(self.now().wall, body));
        self.motr(motr::Command::Send { send, to: to.into(), message });
        send
    }

    /// Asks Motr's library.
    pub(crate) fn ask(&mut self, asked: SpielContinuation, op: spiel::Op) {
        let shared = self.shared_mut();
        let id = shared.next_spiel.mint();
        shared.asked.insert(id, asked);
        self.emit(spiel::Call { id, op });
    }

    /// What the library was asked for that it answers now.
    pub(crate) fn take_asked(&mut self, id: SpielId) -> Option<SpielContinuation> {
        self.shared_mut().asked.remove(&id)
    }
}
