//! Who is declared dead, and who is taken back: where health contradicts what Consul holds of a
//! process (`hax.md` 1.12).

use alloc::vec::Vec;
use core::time::Duration;

use super::Parts;
use super::cx::{Cx, Timer};
use super::lanes::Key;
use super::work::{What, Work};

/// A process that has begun asks for its entrypoint sooner than this.
const ASKS_WITHIN: Duration = Duration::from_secs(2);

impl Parts {
    /// Declares those dead that health says are, and for whom we answer: the processes of our own
    /// node, and as the leader those of nodes that are dead themselves.
    pub(super) fn judge(&mut self, cx: &mut Cx<'_>) {
        self.silent.retain(|process, _| self.cluster.is_dead(*process));
        for process in self.cluster.dead().collect::<Vec<_>>() {
            let host = self.cluster.conf().host_of(process).unwrap_or("");
            let local = self.cluster.is_local(process);
            let health = self.cluster.health();
            let as_leader =
                !local && self.led && (!health.host_passes(host) || health.is_gone(host));
            let declared = |what: &What| matches!(what, What::Died { .. });
            if !(local || as_leader) || self.lanes.has(process, declared) {
                continue;
            }
            let since = *self.silent.entry(process).or_insert(cx.now.mono);
            let until = since.after(cx.config().time.silence);
            if local && self.links.is_here(process) != Some(false) && cx.now.mono < until {
                cx.shared.timers.arm_no_later(Timer::Silence, until);
            } else {
                let work = Work::new(cx.now.mono, What::Died { as_leader });
                self.lanes.push(Key::Process(process), work);
            }
        }
    }

    /// Takes back that a process of our node has stopped, where it had only been silent. One whose
    /// link is down has died, whatever answers at its port; and of one that has had no link since
    /// we began, only what we saw alive ourselves is not of an earlier life.
    ///
    /// A check may pass as soon as a new life of the process has begun (one that looks for its pid does),
    /// a third of a second before that asks for its entrypoint: it is given the time.
    pub(super) fn revive(&mut self, cx: &mut Cx<'_>) {
        self.lively.retain(|process, _| self.cluster.revived(*process).is_some());
        for process in self.cluster.alive().collect::<Vec<_>>() {
            let since = *self.lively.entry(process).or_insert(cx.now.mono);
            let until = since.after(ASKS_WITHIN);
            let wanted = |what: &What| matches!(what, What::Lives | What::Began(_));
            let known = || {
                let here = self.links.is_here(process);
                here.unwrap_or_else(|| self.cluster.was_seen_alive(process))
            };
            if !self.cluster.is_local(process) || !known() || self.lanes.has(process, wanted) {
                continue;
            }
            if cx.now.mono < until {
                cx.shared.timers.arm_no_later(Timer::Silence, until);
            } else {
                self.lanes.push(Key::Process(process), Work::new(cx.now.mono, What::Lives));
            }
        }
    }
}
