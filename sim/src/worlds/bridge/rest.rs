//! The start of a world, the healing of its faults, and the conditions of rest.

use hax_core::base::fid::Fid;
use hax_core::bridge::BQ_WATCH_PATH;
use hax_core::ha::note::ObjectState;

use super::event::Ev;
use super::model::Model;
use super::motr::ProcessState;
use super::{Bridge, World, field_faults};
use crate::consul::Watch;
use crate::engine::{MS, S};

/// The services whose health is watched (`hax.md` 1.5).
const WATCHED: [&str; 4] = ["hax", "confd", "ios", "s3service"];

impl World<'_, Bridge> {
    /// Starts the watches, then the haxes, then the processes.
    pub(super) fn begin(&mut self) {
        self.watch_services();
        self.start_all();
        for i in 0..self.cast.motr.len() {
            let later = self.sim.choose(4) * 500 * MS;
            self.start_process_later(i, S + later);
        }
        if !self.cast.swarm.elects {
            self.sim.schedule(self.sim.now() + S, Ev::Elect);
        }
    }

    fn watch_services(&mut self) {
        for hax in 0..self.hosts.len() {
            for service in WATCHED {
                self.add_watch(hax, &Watch::Service(service.to_owned()), "/");
            }
            if self.cast.swarm.bq {
                self.add_watch(hax, &Watch::KeyPrefix("bq/".to_owned()), BQ_WATCH_PATH);
            }
        }
    }

    /// Starts all processes again, except the absent ones.
    pub(super) fn restart_processes(&mut self) {
        for i in 0..self.cast.motr.len() {
            self.resume_acks(i);
            let process = &self.cast.motr[i];
            // Without a confd there is no leader, and without a leader no process gets an entrypoint.
            let absent = !process.is_confd() && self.cast.swarm.absent >> (i % 16) & 1 == 1;
            if absent {
                self.stop_process(i);
            } else if process.machine.is_none() || process.is_going_down() {
                self.start_process_later(i, 0);
            }
            self.sim.schedule(self.sim.now() + S, Ev::Check(i));
        }
    }

    /// Makes all processes send a message, and all agents check their processes.
    pub(super) fn nudge_all(&mut self) {
        for i in 0..self.cast.motr.len() {
            if !self.has_kept_link(i) {
                self.nudge(i);
            }
            self.sim.schedule(self.sim.now(), Ev::Check(i));
        }
    }

    /// Returns whether the hax of a process has a link to it, in a world where links outlive haxes. Such a
    /// process is told everything although it says nothing.
    fn has_kept_link(&self, i: usize) -> bool {
        let process = &self.cast.motr[i];
        let Some(node) = self.hosts[process.hax].machine() else { return false };
        self.cast.swarm.keeps
            && node.wire().links.iter().any(|link| link.process == process.fid && link.up)
    }

    /// Returns the reason why the world is not at rest yet.
    pub(super) fn first_busy_reason(&self) -> Option<String> {
        for (i, host) in self.hosts.iter().enumerate() {
            let Some(node) = host.machine() else { return Some(format!("hax {i} is down")) };
            let view = node.view();
            if host.is_stopping() {
                return Some(format!("hax {i} stops"));
            }
            if !view.ready || view.lanes + view.entries + view.questions > 0 {
                return Some(format!("hax {i}: {view:?}"));
            }
            let wire = node.wire();
            let lives = |process| {
                let mut living = self.cast.motr.iter().filter(|of| of.state == ProcessState::Up);
                living.any(|of| of.fid == process)
            };
            let busy = wire
                .links
                .iter()
                .find(|link| link.queued + link.unacked > 0 && (link.up || lives(link.process)));
            if let Some(link) = busy {
                return Some(format!("hax {i}: {link:?}"));
            }
        }
        if self.posts() > 0 {
            return Some("a watch posts".into());
        }
        let busy = self.cast.motr.iter().enumerate().find_map(|(i, process)| {
            let why = match process.state {
                ProcessState::Down if process.restarts => "will start",
                ProcessState::Down => return None,
                ProcessState::Up if !process.has_link => "has no link",
                ProcessState::Up if !process.sent.is_empty() => "has sent what is not delivered",
                ProcessState::Up if !process.questions.is_empty() => "has asked for states",
                ProcessState::Up if process.awaits_failures => "has asked for failures",
                ProcessState::Up => return None,
                ProcessState::Asking => "asks for its entrypoint",
                ProcessState::Starting | ProcessState::Recovering => "starts",
                ProcessState::Stopping | ProcessState::Leaving => "stops",
            };
            Some(format!("process {i} {why}"))
        });
        busy.or_else(|| self.cast.oracle.unanswered())
            .or_else(|| self.wrong_check())
            .or_else(|| self.wrong_last_state())
            .or_else(|| self.wrong_record())
            .or_else(|| field_faults::wrong_derived_state(self))
    }

    /// Returns a process whose check is wrong: its agent has not checked it yet.
    fn wrong_check(&self) -> Option<String> {
        let dead = |node: &str| {
            let mut checks = self.consul.double.checks();
            checks.any(|check| check.node == node && check.id == "serfHealth" && !check.passing)
        };
        // A former name of a node keeps its last checks.
        self.consul.double.checks().filter(|check| !dead(check.node)).find_map(|check| {
            let i = self.cast.motr.iter().position(|process| process.check == check.id)?;
            let wrong = check.passing != self.cast.motr[i].machine.is_some();
            wrong.then(|| format!("process {i} is misjudged"))
        })
    }

    /// Returns a process that is down while its record says that it runs, if a hax wrote that record.
    fn wrong_record(&self) -> Option<String> {
        self.cast.motr.iter().filter(|process| process.machine.is_none()).find_map(|process| {
            let (state, _) = self.record_of(process.fid)?;
            let hidden = state != "STOPPED" && self.cast.oracle.is_written_by_hax(process.fid);
            hidden.then(|| format!("{} is gone and its word is {state}", process.fid))
        })
    }

    /// Returns a process that has received a wrong state last.
    fn wrong_last_state(&self) -> Option<String> {
        let model = Model::of(&self.consul.double);
        self.cast.motr.iter().enumerate().filter(|(_, process)| process.machine.is_some()).find_map(
            |(i, process)| {
                let itself = |fid: Fid| {
                    model.is_of(process.fid, fid) && model.state(fid) == ObjectState::Transient
                };
                let wrong =
                    |(fid, told): &(&Fid, &_)| !model.is_current(**told, **fid) && !itself(**fid);
                let (fid, told) = process.last_states.iter().find(wrong)?;
                Some(format!(
                    "process {i} was told that {fid} is {told}, it is {}",
                    model.state(*fid)
                ))
            },
        )
    }
}
