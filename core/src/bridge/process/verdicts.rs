//! Who is declared dead, and who is taken back: where health contradicts what Consul holds of a
//! process (`hax.md` 1.12).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use crate::base::fid::Fid;
use crate::base::mutant::{Mutant, mutant};
use crate::base::time::CallSeq;
use crate::base::time::Instant;
use crate::bridge::State;
use crate::bridge::context::Cx;
use crate::bridge::continuation::{LaneKey, Timer};
use crate::bridge::process::work::{Operation, WorkItem};

/// A process that has begun asks for its entrypoint sooner than this.
const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(2);

/// What is kept between two looks at who is dead.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    /// Since when the checks of processes fail that are not declared dead yet.
    failing_since: BTreeMap<Fid, FailingSince>,
    /// Since when the checks of processes pass that were declared dead.
    passing_since: BTreeMap<Fid, Instant>,
    /// Since when deaths that could not be written wait for health to be proved.
    deaths_unproved: Option<CallSeq>,
    /// The liveness of processes has changed, or a grace is over.
    pub(crate) liveness_dirty: bool,
    /// The configuration may not say what follows from its processes.
    pub(crate) derived_dirty: bool,
}

/// How long a process has been silent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FailingSince {
    since: Instant,
    /// When health was asked whether it is so still.
    asked: Option<CallSeq>,
}

impl FailingSince {
    fn since(since: Instant) -> Self {
        Self { since, asked: None }
    }
}

impl State {
    /// Looks whether health is proved since deaths were to be declared, for the first time or again.
    pub(crate) fn prove_deaths(&mut self) {
        let tables = &self.tables;
        let is_proved =
            |silence: &FailingSince| silence.asked.is_some_and(|at| tables.is_proved(at));
        self.verdicts.liveness_dirty |= self.verdicts.failing_since.values().any(is_proved);
        if self.verdicts.deaths_unproved.is_some_and(|asked| tables.is_proved(asked)) {
            self.verdicts.deaths_unproved = None;
            self.lanes.retry_deaths();
        }
    }

    /// Tries again what failed. Deaths wait until health is proved.
    pub(crate) fn retry_lanes(&mut self, cx: &mut Cx<'_>) {
        if self.lanes.retry(cx, &self.cluster) {
            self.verdicts.deaths_unproved = Some(cx.call_seq());
            self.tables.prove_health(cx);
        }
    }

    /// Declares those dead that health says are, and for whom we answer: the processes of our own
    /// node, and as the leader those of nodes that are dead themselves.
    ///
    /// What fails for a moment is given time. A process of ours whose link is up may be slow to answer; a
    /// node elsewhere may only have restarted its agent, which leaves the catalog and joins again, while
    /// its hax and its processes live. A leader counts from when it saw it itself.
    ///
    /// A process that dies before its check has passed once leaves a check that has failed since before its
    /// last record: there its link tells, once it has been down as long.
    ///
    /// While Consul is away a copy of health grows old, and a process may have come back: nobody is declared
    /// dead by health that was not proved after that.
    pub(crate) fn declare_dead(&mut self, cx: &mut Cx<'_>) {
        let linkless = self.links.iter().filter(|(_, link)| !link.up).map(|(_, link)| link.process);
        let linkless = linkless.filter(|process| {
            self.links.is_here(*process) == Some(false) && self.cluster.is_failing(*process)
        });
        let mut dead: BTreeMap<Fid, bool> = linkless.map(|process| (process, true)).collect();
        dead.extend(self.cluster.dead().map(|process| (process, false)));
        self.verdicts.failing_since.retain(|process, _| dead.contains_key(process));
        for (process, linkless) in dead {
            let Some(as_leader) = self.answers_for(process) else { continue };
            let declared = |what: &Operation| matches!(what, Operation::DeclaredDead { .. });
            if self.lanes.has(process, declared) {
                continue;
            }
            let silence = self
                .verdicts
                .failing_since
                .entry(process)
                .or_insert_with(|| FailingSince::since(cx.now().mono));
            let until = silence.since.after(cx.config().time.failing_grace);
            let may_be_back = linkless || as_leader || self.links.is_here(process) != Some(false);
            if may_be_back && cx.now().mono < until {
                cx.arm_no_later(Timer::FailingGrace, until);
            } else if silence.asked.is_none_or(|asked| !self.tables.is_proved(asked)) {
                silence.asked.get_or_insert_with(|| cx.call_seq());
                self.tables.prove_health(cx);
            } else {
                silence.asked = None;
                let work =
                    WorkItem::new(cx.now().mono, Operation::DeclaredDead { as_leader, linkless });
                self.lanes.push(LaneKey::Process(process), work);
            }
        }
    }

    /// Whether we write for a process, and if so, whether as the leader: its node fails or has left the
    /// catalog, so that its own hax, if it lives, may not be able to.
    fn answers_for(&self, process: Fid) -> Option<bool> {
        if self.cluster.is_local(process) {
            return Some(false);
        }
        let host = self.cluster.conf().host_of(process).unwrap_or("");
        let health = self.cluster.health();
        (self.led && (!health.host_passes(host) || health.is_gone(host))).then_some(true)
    }

    /// Writes again what follows from the records of processes, where the configuration says otherwise:
    /// somebody has imported it anew. Ours are the processes that we answer for; while anything else is
    /// being written it may still come right.
    pub(crate) fn rederive(&mut self, cx: &Cx<'_>) {
        if !self.verdicts.derived_dirty || self.lanes.len() > 0 || mutant(Mutant::ImportBelieved) {
            return;
        }
        self.verdicts.derived_dirty = false;
        for (process, _) in self.cluster.conf().processes() {
            let Some(as_leader) = self.answers_for(process) else { continue };
            if !self.cluster.rederived(process).is_empty() {
                let work = WorkItem::new(cx.now().mono, Operation::Derived { as_leader });
                self.lanes.push(LaneKey::Process(process), work);
            }
        }
    }

    /// Takes back that a process of our node has stopped, where it had only been silent. One whose
    /// link is down has died, whatever answers at its port; and of one that has had no link since
    /// we began, only what we saw alive ourselves is not of an earlier life.
    ///
    /// A check may pass as soon as a new life of the process has begun (one that looks for its pid does),
    /// a third of a second before that asks for its entrypoint: it is given the time.
    pub(crate) fn revive(&mut self, cx: &mut Cx<'_>) {
        self.verdicts.passing_since.retain(|process, _| self.cluster.revived(*process).is_some());
        for process in self.cluster.alive().collect::<Vec<_>>() {
            let since =
                *self.verdicts.passing_since.entry(process).or_insert_with(|| cx.now().mono);
            let until = since.after(FIRST_REQUEST_WITHIN);
            let wanted =
                |what: &Operation| matches!(what, Operation::Revived | Operation::Started(_));
            let known = || {
                let here = self.links.is_here(process);
                let seen =
                    || !self.cluster.needs_link(process) && self.cluster.was_seen_alive(process);
                here.unwrap_or_else(seen)
            };
            if !self.cluster.is_local(process) || !known() || self.lanes.has(process, wanted) {
                continue;
            }
            if cx.now().mono < until {
                cx.arm_no_later(Timer::FailingGrace, until);
            } else {
                self.lanes.push(
                    LaneKey::Process(process),
                    WorkItem::new(cx.now().mono, Operation::Revived),
                );
            }
        }
    }
}
