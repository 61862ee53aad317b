//! Motr's library as the bridge uses it: it is told to read the configuration once there is one to
//! read, and then asked about pools (`sns.rs`) and for statistics (`statistics.rs`).

use super::continuation::{SpielContinuation, Timer};
use super::cx::Cx;
use super::sns::Operations;
use super::statistics::Statistics;
use crate::base::errno::Errno;
use crate::base::fact::Fact;
use crate::base::fid::Fid;
use crate::base::retry::Backoff;
use crate::ha::note::ObjectState;
use crate::ha::process::{ProcessEventKind, ProcessType};
use crate::ha::spiel::{Op, Reply};
use crate::model::Cluster;

/// What is kept of Motr's library.
#[derive(Debug)]
pub(crate) struct Spiel {
    session: Session,
    backoff: Backoff,
    pub(crate) operations: Operations,
    pub(crate) statistics: Statistics,
}

/// Whether the library has the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Session {
    /// There is no library.
    Off,
    /// It has not been told to read it, or refused last.
    Down(Option<Errno>),
    /// It reads it.
    Beginning,
    Up,
}

impl Spiel {
    pub(crate) fn new(on: bool) -> Self {
        Self {
            session: if on { Session::Down(None) } else { Session::Off },
            backoff: Backoff::default(),
            operations: Operations::default(),
            statistics: Statistics::default(),
        }
    }

    pub(crate) fn session(&self) -> Session {
        self.session
    }

    /// Does what can be done now. `holds` and `session`: the lock, as far as we know, and for certain.
    pub(crate) fn work(
        &mut self,
        cx: &mut Cx<'_>,
        cluster: &Cluster,
        holds: bool,
        session: Option<&str>,
    ) {
        match self.session {
            Session::Down(_) if !cx.shared.timers.is_armed(Timer::Spiel) => {
                begin(self, cx, cluster)
            }
            Session::Up => self.statistics.work(cx, cluster, holds, session),
            Session::Off | Session::Down(_) | Session::Beginning => {}
        }
    }

    /// The library has answered.
    pub(crate) fn answered(&mut self, cx: &mut Cx<'_>, reply: Reply) {
        let Reply { id, result } = reply;
        match cx.shared.asked.remove(&id) {
            Some(SpielContinuation::Begin) => match result {
                Ok(_) => {
                    self.backoff.worked();
                    self.session = Session::Up;
                    cx.fact(Fact::SpielUp {});
                }
                Err(errno) => {
                    self.session = Session::Down(Some(errno));
                    cx.fact(Fact::SpielFailed { errno });
                    let pause = self.backoff.failed(&mut cx.shared.jitter);
                    cx.arm(Timer::Spiel, pause);
                }
            },
            Some(SpielContinuation::Sns(slot)) => self.operations.answered(cx, slot, result),
            Some(SpielContinuation::Statistics) => self.statistics.answered(cx, result),
            None => {}
        }
    }

    pub(crate) fn stop(&mut self, cx: &mut Cx<'_>) {
        self.operations.stop(cx);
        self.statistics.stop(cx);
    }
}

/// Tells the library to read the configuration as soon as a quorum of confds can give it one. They have to
/// have said so themselves: a confd's check passes while it is formatted, and a library that has begun with
/// that one waits for ever.
fn begin(spiel: &mut Spiel, cx: &mut Cx<'_>, cluster: &Cluster) {
    let Some(profile) = cluster.conf().profile() else { return };
    let confds = cluster.conf().confds();
    let serves = |confd: &&Fid| {
        let word = cluster.word(**confd).0;
        word.is_some_and(|word| {
            word.kind == ProcessType::M0d
                && matches!(word.state, ProcessEventKind::Started | ProcessEventKind::DtmRecovered)
        }) && cluster.state(**confd) == ObjectState::Online
    };
    if confds.iter().filter(serves).count() > confds.len() / 2 {
        spiel.session = Session::Beginning;
        cx.ask(SpielContinuation::Begin, Op::Begin { profile });
    }
}
