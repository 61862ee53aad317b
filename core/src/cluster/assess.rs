//! Whom health contradicts: processes that say they live and fail their checks, and processes that
//! were declared stopped and pass them (`hax.md` 1.12). What is done about it: `bridge/process/verdicts.rs`.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::health::Verdict;
use super::states::ProcessWord;
use super::view::Cluster;
use crate::base::fid::Fid;
use crate::ha::process::{ProcessEventKind, ProcessType};

impl Cluster {
    /// The processes that health says are dead and whose word does not.
    pub fn dead(&self) -> impl Iterator<Item = Fid> {
        self.judged.dead.iter().copied()
    }

    /// Whether `process` is among the [dead](Self::dead).
    #[must_use]
    pub fn is_dead(&self, process: Fid) -> bool {
        self.judged.dead.contains(&process)
    }

    /// Whether the check of a process of ours fails that says it lives, since whenever.
    #[must_use]
    pub fn is_failing(&self, process: Fid) -> bool {
        let host = self.conf().host_of(process);
        self.is_local(process)
            && !self.is_me(process)
            && self.lives_by_its_word(process)
            && self.health().process_failing_since(process, host).is_some()
    }

    /// The processes that were declared stopped and, as health says, live.
    pub fn alive(&self) -> impl Iterator<Item = Fid> {
        self.judged.alive.iter().copied()
    }

    /// Whether the word of a process was that of a living one at any time since we began.
    #[must_use]
    pub fn was_seen_alive(&self, process: Fid) -> bool {
        self.judged.seen.contains(&process)
    }

    /// What a process [alive](Self::alive) said before it was declared stopped.
    #[must_use]
    pub fn revived(&self, process: Fid) -> Option<ProcessWord> {
        let alive = self.judged.alive.contains(&process);
        let word = self.word(process).0.filter(|_| alive)?;
        Some(ProcessWord::said(word.was?, word.kind))
    }

    /// Judges all processes anew.
    pub(super) fn judge_all(&mut self) {
        self.judged.dead.clear();
        self.judged.alive.clear();
        let processes: Vec<Fid> = self.conf().processes().map(|(process, _)| process).collect();
        processes.into_iter().for_each(|process| self.judge(process));
    }

    /// Judges one process anew.
    pub(super) fn judge(&mut self, process: Fid) {
        let (dead, alive) = (self.judges_dead(process), self.judges_alive(process));
        let put = |set: &mut BTreeSet<Fid>, is: bool| match is {
            true => set.insert(process),
            false => set.remove(&process),
        };
        put(&mut self.judged.dead, dead);
        put(&mut self.judged.alive, alive);
        if self.lives_by_its_word(process) {
            self.judged.seen.insert(process);
        }
    }

    fn lives_by_its_word(&self, process: Fid) -> bool {
        self.word(process).0.is_some_and(|word| {
            word.state != ProcessEventKind::Stopped && word.kind != ProcessType::Mkfs
        })
    }

    /// Whether health contradicts the word of a process that says it lives. A check that has been
    /// failing since before the word says nothing: the process has just begun, and its check has
    /// not passed yet.
    ///
    /// Our own node lives, since we do: what Consul says of its agent says nothing of our processes.
    /// Elsewhere the node alone tells, as the processes of a node that lives are its own hax's to judge.
    fn judges_dead(&self, process: Fid) -> bool {
        let Some(host) = self.conf().host_of(process) else { return false };
        let since = || match self.is_local(process) {
            true => {
                let process = self.health().process_failing_since(process, Some(host));
                process.max(self.health().maintenance_since(host))
            }
            false => self.health().host_failing_since(host),
        };
        !self.is_me(process)
            && self.lives_by_its_word(process)
            && since().is_some_and(|since| since > self.word(process).1)
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
    fn judges_alive(&self, process: Fid) -> bool {
        let verdict = || self.health().verdict(process, self.conf().host_of(process));
        let passes = || verdict() == Verdict::Passing || self.needs_link(process);
        self.word(process).0.is_some_and(|word| word.was.is_some()) && passes()
    }
}
