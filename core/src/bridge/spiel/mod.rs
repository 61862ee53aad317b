//! The bridge's use of Motr's library.
//!
//! The library gets the command to read the configuration as soon as there is one. After that it is called
//! for operations on pools (`sns.rs`) and for statistics (`statistics.rs`).

pub(crate) mod sns;
pub(crate) mod statistics;

use crate::base::errno::Errno;
use crate::base::fid::Fid;
use crate::base::id::HttpId;
use crate::base::retry::Backoff;
use crate::bridge::context::Cx;
use crate::bridge::continuation::{SpielContinuation, Timer};
use crate::bridge::spiel::sns::{Operations, Refusal};
use crate::bridge::spiel::statistics::Statistics;
use crate::cluster::Cluster;
use crate::ha::fact::Fact;
use crate::ha::note::ObjectState;
use crate::ha::process::{ProcessEventKind, ProcessType};
use crate::ha::spiel::{Op, Reply, SnsOp};

/// The state of Motr's library and of the calls to it.
#[derive(Debug)]
pub(crate) struct Spiel {
    session: SpielSession,
    backoff: Backoff,
    pub(crate) operations: Operations,
    pub(crate) statistics: Statistics,
}

/// Whether the library has read the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SpielSession {
    /// There is no library.
    Off,
    /// The library has not got the command to read the configuration, or has refused last.
    Down(Option<Errno>),
    /// The library reads the configuration.
    Beginning,
    Up,
}

impl Spiel {
    pub(crate) fn new(on: bool) -> Self {
        Self {
            session: if on { SpielSession::Down(None) } else { SpielSession::Off },
            backoff: Backoff::default(),
            operations: Operations::default(),
            statistics: Statistics::default(),
        }
    }

    /// Returns whether there is no library.
    pub(crate) fn is_off(&self) -> bool {
        self.session == SpielSession::Off
    }

    /// Returns whether the library has read the configuration.
    pub(crate) fn is_up(&self) -> bool {
        self.session == SpielSession::Up
    }

    /// Starts an operation for an HTTP request or for a message of the broadcast queue.
    pub(crate) fn operate(
        &mut self,
        cx: &mut Cx<'_>,
        cluster: &Cluster,
        pool: Fid,
        op: SnsOp,
        waits: Option<HttpId>,
    ) -> Result<(), Refusal> {
        if self.session == SpielSession::Off {
            return Err(Refusal::NoLibrary);
        }
        if !cluster.conf().pools().any(|(fid, _)| fid == pool) {
            return Err(Refusal::NoPool);
        }
        match self.session {
            SpielSession::Up => self.operations.begin(cx, pool, op, waits),
            SpielSession::Down(errno) => Err(Refusal::NotUp(errno)),
            SpielSession::Off | SpielSession::Beginning => Err(Refusal::NotUp(None)),
        }
    }

    /// Starts the currently possible work. `holds` is whether this node holds the lock as far as it knows,
    /// `session` the session with which it certainly leads.
    pub(crate) fn work(
        &mut self,
        cx: &mut Cx<'_>,
        cluster: &Cluster,
        holds: bool,
        session: Option<&str>,
    ) {
        match self.session {
            SpielSession::Down(_) if !cx.is_armed(Timer::Spiel) => begin(self, cx, cluster),
            SpielSession::Up => self.statistics.work(cx, cluster, holds, session),
            SpielSession::Off | SpielSession::Down(_) | SpielSession::Beginning => {}
        }
    }

    /// Handles a reply of the library.
    pub(crate) fn on_reply(&mut self, cx: &mut Cx<'_>, reply: Reply) {
        let Reply { id, result } = reply;
        match cx.take_asked(id) {
            Some(SpielContinuation::Begin) => match result {
                Ok(_) => {
                    self.backoff.reset();
                    self.session = SpielSession::Up;
                    cx.fact(Fact::SpielUp {});
                }
                Err(errno) => {
                    self.session = SpielSession::Down(Some(errno));
                    cx.fact(Fact::SpielFailed { errno });
                    cx.retry(Timer::Spiel, &mut self.backoff);
                }
            },
            Some(SpielContinuation::Sns(slot)) => self.operations.on_answer(cx, slot, result),
            Some(SpielContinuation::Statistics) => self.statistics.on_reply(cx, result),
            None => {}
        }
    }

    pub(crate) fn stop(&mut self, cx: &mut Cx<'_>) {
        self.operations.stop(cx);
        self.statistics.stop(cx);
    }
}

/// Tells the library to read the configuration as soon as a quorum of confds can serve it.
///
/// The confds must have reported their start themselves. A confd's check passes also while m0mkfs formats it,
/// and a library that begins with such a confd waits for ever.
fn begin(spiel: &mut Spiel, cx: &mut Cx<'_>, cluster: &Cluster) {
    let Some(profile) = cluster.conf().profile() else { return };
    let confds = cluster.conf().confds();
    let serves = |confd: &&Fid| {
        let record = cluster.record(**confd).0;
        record.is_some_and(|record| {
            record.kind == ProcessType::M0d
                && matches!(
                    record.state,
                    ProcessEventKind::Started | ProcessEventKind::DtmRecovered
                )
        }) && cluster.state(**confd) == ObjectState::Online
    };
    if confds.iter().filter(serves).count() > confds.len() / 2 {
        spiel.session = SpielSession::Beginning;
        cx.ask(SpielContinuation::Begin, Op::Begin { profile });
    }
}
