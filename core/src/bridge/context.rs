//! The context of the bridge's handlers: the generic context of a machine plus the bridge's own part.

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
use crate::ha::motr::Purpose;
use crate::ha::{motr, spiel};
use crate::machine::{self, Kinds, Outcome};

/// The types of the bridge's context.
#[derive(Debug)]
pub(crate) struct BridgeKinds;

impl Kinds for BridgeKinds {
    type Continuation = Continuation;
    type Timer = Timer;
    type Output = Output;
    type Shared = Shared;
}

/// The context of a handler of the bridge.
pub(crate) type Cx<'a> = machine::Cx<'a, BridgeKinds>;

/// The part of the context with a lifetime beyond one call.
pub(crate) type Kept = machine::Kept<BridgeKinds>;

/// The state shared by the bridge's handlers.
#[derive(Debug)]
pub(crate) struct Shared {
    config: Config,
    asked: BTreeMap<SpielId, SpielContinuation>,
    next_spiel: SpielId,
    next_send: SendId,
    /// The unacknowledged received messages.
    open: BTreeSet<(LinkId, MsgId)>,
    /// The malformed keys, each with its index when it was reported.
    malformed: BTreeMap<Box<str>, u64>,
    refusals: Refusals,
    /// The largest index, per table of keys, of an entry written by hax or read by its key.
    written: [u64; Table::KV.len()],
}

/// The maximum number of remembered malformed keys.
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

    /// Returns the requests denied by Consul's access control.
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

    /// Returns the requests denied by Consul's access control.
    pub(crate) fn refusals(&self) -> &Refusals {
        &self.shared().refusals
    }

    // ---- Consul ----

    /// Returns the response; `None` if there is none or Consul reports an error.
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

    /// Reports a malformed key with the given index. Each version of a key is reported only once, since
    /// tables are read repeatedly.
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

    /// Records that Consul has an entry of this index in a table.
    ///
    /// No consistent read sent from now on has an earlier index, unless Consul's history has restarted.
    pub(crate) fn record_written_index(&mut self, table: Table, index: u64) {
        if let Some(newest) = self.shared_mut().written.get_mut(table as usize) {
            *newest = index.max(*newest);
        }
    }

    /// Returns the largest recorded index of a table; 0 if there is none.
    pub(crate) fn newest_written(&self, table: Table) -> u64 {
        self.shared().written.get(table as usize).copied().unwrap_or(0)
    }

    /// Forgets the recorded index of a table after Consul's indexes have restarted.
    pub(crate) fn forget_written(&mut self, table: Table) {
        if let Some(newest) = self.shared_mut().written.get_mut(table as usize) {
            *newest = 0;
        }
    }

    // ---- Motr ----

    pub(crate) fn motr(&mut self, command: motr::Command) {
        self.emit(command);
    }

    /// Records a received message, to be acknowledged later.
    pub(crate) fn open(&mut self, link: LinkId, msg: MsgId) {
        self.shared_mut().open.insert((link, msg));
    }

    pub(crate) fn ack(&mut self, link: LinkId, msg: MsgId) {
        self.shared_mut().open.remove(&(link, msg));
        self.motr(motr::Command::Ack { link, msg });
    }

    /// Returns whether an earlier message of the same process is unacknowledged. In this case the process
    /// does not learn of this message's acknowledgement either.
    pub(crate) fn is_behind(&self, (link, msg): (LinkId, MsgId)) -> bool {
        self.shared().open.range((link, MsgId(0))..(link, msg)).next().is_some()
    }

    /// Forgets the unacknowledged messages of a closed link.
    pub(crate) fn link_closed(&mut self, link: LinkId) {
        self.shared_mut().open.retain(|(of, _)| *of != link);
    }

    /// Sends one message over these links.
    pub(crate) fn send(&mut self, to: Vec<LinkId>, body: Body, purpose: Purpose) -> SendId {
        let message = Arc::new(Message::new(self.now().wall, body));
        self.send_message(to, message, purpose)
    }

    /// Sends a message to links; it may be one that was sent before.
    pub(crate) fn send_message(
        &mut self,
        to: Vec<LinkId>,
        message: Arc<Message>,
        purpose: Purpose,
    ) -> SendId {
        let send = self.shared_mut().next_send.mint();
        self.motr(motr::Command::Send { send, to: to.into(), message, purpose });
        send
    }

    /// Calls Motr's library.
    pub(crate) fn ask(&mut self, asked: SpielContinuation, op: spiel::Op) {
        let shared = self.shared_mut();
        let id = shared.next_spiel.mint();
        shared.asked.insert(id, asked);
        self.emit(spiel::Call { id, op });
    }

    /// Removes and returns the continuation of an answered call to the library.
    pub(crate) fn take_asked(&mut self, id: SpielId) -> Option<SpielContinuation> {
        self.shared_mut().asked.remove(&id)
    }
}
