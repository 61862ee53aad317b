//! The processes with a contradiction between health and record (`hax.md` 1.12).
//!
//! These are processes with a live record and failing checks, and processes that were declared stopped and
//! have passing checks. `bridge/process/verdicts.rs` acts on the result.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::health::Verdict;
use super::states::ProcessRecord;
use super::view::Cluster;
use crate::base::fid::Fid;
use crate::ha::process::{ProcessEventKind, ProcessType};

impl Cluster {
    /// Returns the dead processes according to health, but not according to their record.
    pub fn dead(&self) -> impl Iterator<Item = Fid> {
        self.liveness.dead.iter().copied()
    }

    /// Returns whether `process` is among the [dead](Self::dead).
    #[must_use]
    pub fn is_dead(&self, process: Fid) -> bool {
        self.liveness.dead.contains(&process)
    }

    /// Returns whether a local process has a live record and a failing check, regardless of when the check
    /// failed.
    #[must_use]
    pub fn is_failing(&self, process: Fid) -> bool {
        let host = self.conf().host_of(process);
        self.is_local(process)
            && !self.is_me(process)
            && self.lives_by_its_record(process)
            && self.health().process_failing_since(process, host).is_some()
    }

    /// Returns the processes declared stopped and alive according to health.
    pub fn alive(&self) -> impl Iterator<Item = Fid> {
        self.liveness.alive.iter().copied()
    }

    /// Returns whether the record of a process was that of a live one at any time since hax started.
    #[must_use]
    pub fn was_seen_alive(&self, process: Fid) -> bool {
        self.liveness.seen.contains(&process)
    }

    /// Returns the last reported record of an [alive](Self::alive) process before it was declared stopped.
    #[must_use]
    pub fn revived(&self, process: Fid) -> Option<ProcessRecord> {
        let alive = self.liveness.alive.contains(&process);
        let record = self.record(process).0.filter(|_| alive)?;
        Some(ProcessRecord::reported(record.last_reported?, record.kind))
    }

    /// Assesses all processes again.
    pub(super) fn assess_all(&mut self) {
        self.liveness.dead.clear();
        self.liveness.alive.clear();
        let processes: Vec<Fid> = self.conf().processes().map(|(process, _)| process).collect();
        processes.into_iter().for_each(|process| self.assess(process));
    }

    /// Assesses one process again.
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

    /// Returns whether health contradicts the live record of a process.
    ///
    /// A check that has been failing since before the record does not count: the process has just started,
    /// and its check has not passed yet.
    ///
    /// Our own node lives, since hax runs on it. So Consul's checks of our agent do not count for local
    /// processes. A remote process is assessed by its node alone, since the processes of a live node are
    /// assessed by the hax there.
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

    /// Returns whether only its link can show that a local process lives, because Consul has no check of it.
    /// That is the case for up to a minute after the node was removed from the catalog and came back.
    #[must_use]
    pub fn needs_link(&self, process: Fid) -> bool {
        let verdict = self.health().verdict(process, self.conf().host_of(process));
        self.is_local(process) && verdict == Verdict::Unregistered
    }

    /// Returns whether health contradicts that a process has stopped, if it did not report the stop itself.
    /// Its checks failed for a while and pass again, or no check is left.
    fn passes_though_stopped(&self, process: Fid) -> bool {
        let verdict = || self.health().verdict(process, self.conf().host_of(process));
        let passes = || verdict() == Verdict::Passing || self.needs_link(process);
        self.record(process).0.is_some_and(|record| record.last_reported.is_some()) && passes()
    }
}
