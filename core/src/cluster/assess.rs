//! Whom health contradicts: processes that say they live and fail their checks, and processes that
//! were declared stopped and pass them (`hax.md` 1.12). What is done about it: `bridge/process/verdicts.rs`.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::health::Verdict;
use super::states::ProcessRecord;
use super::view::Cluster;
use crate::base::fid::Fid;
use crate::ha::process::{ProcessEventKind, ProcessType};

impl Cluster {
    /// The processes that health says are dead and whose record does not.
    pub fn dead(&self) -> impl Iterator<Item = Fid> {
        self.liveness.dead.iter().copied()
    }

    /// Whether `process` is among the [dead](Self::dead).
    #[must_use]
    pub fn is_dead(&self, process: Fid) -> bool {
        self.liveness.dead.contains(&process)
    }

    /// Whether the check of a process of ours fails that says it lives, since whenever.
    #[must_use]
    pub fn is_failing(&self, process: Fid) -> bool {
        let host = self.conf().host_of(process);
        self.is_local(process)
            && !self.is_me(process)
            && self.lives_by_its_record(process)
            && self.health().process_failing_since(process, host).is_some()
    }

    /// The processes that were declared stopped and, as health says, live.
    pub fn alive(&self) -> impl Iterator<Item = Fid> {
        self.liveness.alive.iter().copied()
    }

    /// Whether the record of a process was that of a living one at any time since we began.
    #[must_use]
    pub fn was_seen_alive(&self, process: Fid) -> bool {
        self.liveness.seen.contains(&process)
    }

    /// What a process [alive](Self::alive) said before it was declared stopped.
    #[must_use]
    pub fn revived(&self, process: Fid) -> Option<ProcessRecord> {
        let alive = self.liveness.alive.contains(&process);
        let record = self.record(process).0.filter(|_| alive)?;
        Some(ProcessRecord::reported(record.last_reported?, record.kind))
    }

    /// Judges all processes anew.
    pub(super) fn assess_all(&mut self) {
        self.liveness.dead.clear();
        self.liveness.alive.clear();
        let processes: Vec<Fid> = self.conf().processes().map(|(process, _)| process).collect();
        processes.into_iter().for_each(|process| self.assess(process));
    }

    /// Judges one process anew.
    pub(super) fn assess(&mut self, process: Fid) {
        let (dead, alive) =
            (self.fails_since_its_record(process), self.passes_though_stopped(process));
        let put = |set: &mut BTreeSet<Fid>, is: bool| {
            if is {
                set.insert(process);
            } else {
                set.remove(&process);
            }
        };
        put(&mut self.liveness.dead, dead);
        put(&mut self.liveness.alive, alive);
        if self.lives_by_its_record(process) {
            self.liveness.seen.insert(process);
        }
    }

    fn lives_by_its_record(&self, process: Fid) -> bool {
        self.record(process).0.is_some_and(|record| {
            record.state != ProcessEventKind::Stopped && record.kind != ProcessType::Mkfs
        })
    }

    /// Whether health contradicts the record of a process that says it lives. A check that has been
    /// failing since before the record says nothing: the process has just begun, and its check has
    /// not passed yet.
    ///
    /// Our own node lives, since we do: what Consul says of its agent says nothing of our processes.
    /// Elsewhere the node alone tells, as the processes of a node that lives are its own hax's to judge.
    fn fails_since_its_record(&self, process: Fid) -> bool {
        let Some(host) = self.conf().host_of(process) else { return false };
        let since = || {
            if self.is_local(process) {
                let process = self.health().process_failing_since(process, Some(host));
                process.max(self.health().maintenance_since(host))
            } else {
                self.health().host_failing_since(host)
            }
        };
        !self.is_me(process)
            && self.lives_by_its_record(process)
            && since().is_some_and(|since| since > self.record(process).1)
    }

    /// Whether nothing but its link can tell that a process of our node lives: Consul knows no check of
    /// it, as for up to a minute after its node was dropped from the catalog and is back.
    #[must_use]
    pub fn needs_link(&self, process: Fid) -> bool {
        let verdict = self.health().verdict(process, self.conf().host_of(process));
        self.is_local(process) && verdict == Verdict::Unregistered
    }

    /// Whether health contradicts that a process has stopped, which it did not say itself: its
    /// checks failed for a while and pass again, or there is none any more.
    fn passes_though_stopped(&self, process: Fid) -> bool {
        let verdict = || self.health().verdict(process, self.conf().host_of(process));
        let passes = || verdict() == Verdict::Passing || self.needs_link(process);
        self.record(process).0.is_some_and(|record| record.last_reported.is_some()) && passes()
    }
}
