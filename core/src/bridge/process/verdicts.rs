//! Declarations of death and their revocation: the cases in which health contradicts the record of a process
//! in Consul (`hax.md` 1.12).

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

/// The maximum time between a process's start and its first entrypoint request.
const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(2);

/// The state kept between two assessments of the processes' liveness.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    /// The processes with failing checks and without a declaration of death, and since when the checks fail.
    failing_since: BTreeMap<Fid, FailingSince>,
    /// The processes declared dead with passing checks, and since when the checks pass.
    passing_since: BTreeMap<Fid, Instant>,
    /// The `handle` call of the request for a proof of health. Failed writes of deaths wait for the proof.
    deaths_unproved: Option<CallSeq>,
    /// The liveness of processes has to be assessed again.
    pub(crate) liveness_dirty: bool,
    /// The states derived from the configuration have to be checked.
    pub(crate) derived_dirty: bool,
}

/// The beginning of a period of failing checks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FailingSince {
    since: Instant,
    /// The `handle` call of the request for a proof of health.
    asked: Option<CallSeq>,
}

impl FailingSince {
    fn since(since: Instant) -> Self {
        Self { since, asked: None }
    }
}

impl State {
    /// Checks whether health has been proved since a declaration of death was due, for the first time or
    /// again.
    pub(crate) fn prove_deaths(&mut self) {
        let tables = &self.tables;
        let is_proved =
            |failing: &FailingSince| failing.asked.is_some_and(|at| tables.is_health_fresh(at));
        self.verdicts.liveness_dirty |= self.verdicts.failing_since.values().any(is_proved);
        if self.verdicts.deaths_unproved.is_some_and(|asked| tables.is_health_fresh(asked)) {
            self.verdicts.deaths_unproved = None;
            self.lanes.retry_deaths();
        }
    }

    /// Retries the failed writes. Declarations of death wait until health is proved.
    pub(crate) fn retry_lanes(&mut self, cx: &mut Cx<'_>) {
        if self.lanes.retry(cx, &self.cluster) {
            self.verdicts.deaths_unproved = Some(cx.call_seq());
            self.tables.prove_health(cx);
        }
    }

    /// Declares processes dead according to health.
    ///
    /// It covers the processes of our own node and, if this node leads, the processes of nodes that are dead
    /// themselves.
    ///
    /// A failure must last for the time `silence`. A local process whose link is up may only be slow to
    /// respond. A remote node may only have restarted its agent, which leaves the catalog and joins again
    /// while hax and the processes live. A leader counts that time from its own first observation.
    ///
    /// A process that dies before its check has passed once leaves a check that has failed since before its
    /// last record. In this case the process is declared dead once its link has been down for that time.
    ///
    /// While Consul is away the copy of health grows old, and a process may have come back. So no process is
    /// declared dead before health is proved after that time.
    pub(crate) fn declare_dead(&mut self, cx: &mut Cx<'_>) {
        let linkless = self.links.iter().filter(|(_, link)| !link.up).map(|(_, link)| link.process);
        // Few processes fail, and the search of a process's links looks at all links.
        let linkless = linkless.filter(|process| {
            self.cluster.is_failing(*process) && self.links.is_link_up(*process) == Some(false)
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
            let failing = self
                .verdicts
                .failing_since
                .entry(process)
                .or_insert_with(|| FailingSince::since(cx.now().mono));
            let until = failing.since.after(cx.config().time.silence);
            let has_to_wait =
                linkless || as_leader || self.links.is_link_up(process) != Some(false);
            if has_to_wait && cx.now().mono < until {
                cx.arm_no_later(Timer::Liveness, until);
            } else if failing.asked.is_none_or(|asked| !self.tables.is_health_fresh(asked)) {
                failing.asked.get_or_insert_with(|| cx.call_seq());
                self.tables.prove_health(cx);
            } else {
                failing.asked = None;
                let work =
                    WorkItem::new(cx.now().mono, Operation::DeclaredDead { as_leader, linkless });
                self.lanes.push(LaneKey::Process(process), work);
            }
        }
    }

    /// Returns whether this node writes for a process, and if so, whether as the leader.
    ///
    /// The leader writes for a node that fails or has left the catalog: a hax that still runs there may be
    /// unable to write.
    fn answers_for(&self, process: Fid) -> Option<bool> {
        if self.cluster.is_local(process) {
            return Some(false);
        }
        let host = self.cluster.conf().host_of(process).unwrap_or("");
        let health = self.cluster.health();
        (self.was_leader && (!health.host_passes(host) || health.is_gone(host))).then_some(true)
    }

    /// Writes the states derived from process records again, if another import of the configuration has
    /// overwritten them.
    ///
    /// It covers the processes that this node answers for. It waits while other writes are pending, since
    /// they may correct the difference.
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

    /// Revokes the declared death of merely unresponsive local processes.
    ///
    /// A process whose link is down has died, whatever responds at its port. A process that has had no link
    /// since hax started must have been seen alive by hax: another sign may stem from an earlier life.
    ///
    /// A check may pass as soon as a new life of the process has begun (a check that looks for the pid does).
    /// That is a third of a second before the process's first entrypoint request, so the revocation waits for
    /// that request.
    pub(crate) fn revive(&mut self, cx: &mut Cx<'_>) {
        self.verdicts.passing_since.retain(|process, _| self.cluster.revived(*process).is_some());
        for process in self.cluster.alive().collect::<Vec<_>>() {
            let since =
                *self.verdicts.passing_since.entry(process).or_insert_with(|| cx.now().mono);
            let until = since.after(FIRST_REQUEST_WITHIN);
            let wanted =
                |what: &Operation| matches!(what, Operation::Revived | Operation::Started(_));
            let known = || {
                let here = self.links.is_link_up(process);
                let seen =
                    || !self.cluster.needs_link(process) && self.cluster.was_seen_alive(process);
                here.unwrap_or_else(seen)
            };
            if !self.cluster.is_local(process) || !known() || self.lanes.has(process, wanted) {
                continue;
            }
            if cx.now().mono < until {
                cx.arm_no_later(Timer::Liveness, until);
            } else {
                self.lanes.push(
                    LaneKey::Process(process),
                    WorkItem::new(cx.now().mono, Operation::Revived),
                );
            }
        }
    }
}
