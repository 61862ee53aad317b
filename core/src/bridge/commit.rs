//! The consequences of an input: notes to other processes, and the next writes.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::base::fid::Fid;
use crate::base::id::{LinkId, SendId};
use crate::bridge::context::Cx;
use crate::bridge::continuation::{Continuation, ElectionCall, LaneKey, Timer};
use crate::bridge::process::lanes::Completed;
use crate::bridge::process::work::Operation;
use crate::bridge::{Life, State, messages};
use crate::cluster::conf::Contradiction;
use crate::cluster::{Changes, Cluster};
use crate::ha::fact::Fact;
use crate::ha::motr;
use crate::ha::note::Note;
use crate::ha::process::{ProcessEventKind, ProcessType};

/// The period of accepting process events after the begin of a stop.
///
/// A process that stops at the same time sends its last event in it. Processes that keep sending would delay
/// the end of the stop.
pub(crate) const LISTEN_AFTER_STOP: Duration = Duration::from_millis(500);

impl State {
    /// Performs the consequences of all events of this call.
    pub(crate) fn commit(&mut self, cx: &mut Cx<'_>) {
        if self.tables.all_loaded() && (self.knows_us(cx) || self.ready) {
            let mut news = Changes::default();
            let changed = self.cluster.recompute(!self.ready, &mut news);
            if !self.ready {
                self.ready = true;
                self.starting.retain(|process| self.cluster.is_local(process));
                cx.fact(Fact::Ready {});
                self.own_event(cx, ProcessEventKind::Started);
            }
            self.announce(cx, &news);
            self.links.catch_up(cx, &mut self.cluster);
            self.prove_deaths();
            if !self.stopping() {
                self.on_conf_changed(cx);
                self.leader.consider(cx, &self.cluster);
                let won = self.lead(cx);
                self.verdicts.liveness_dirty |= changed | won;
                self.verdicts.derived_dirty |= won | self.cluster.take_overwritten();
                let session = self.leader.session(cx.now().mono);
                self.spiel.work(cx, &self.cluster, self.was_leader, session);
                if core::mem::take(&mut self.verdicts.liveness_dirty) {
                    self.declare_dead(cx);
                    self.revive(cx);
                    self.own_node.check(cx, &self.cluster);
                }
                self.rederive(cx);
            }
            loop {
                if !self.stopping() {
                    let spiel = self.was_leader.then_some(&mut self.spiel);
                    self.bq_receiver.work(cx, &self.cluster, &mut self.lanes, spiel);
                }
                if self.ignores_messages(cx) {
                    self.lanes.drop_reports();
                }
                let (lanes, mut lane_cx) = self.lane_cx(cx.now().mono);
                let done = lanes.write(cx, &mut lane_cx);
                if done.is_empty() {
                    break;
                }
                self.on_completed(cx, done);
            }
        }
        messages::answer_questions(self, cx);
        self.links.report_owed(cx);
        if self.should_stop(cx) {
            self.stop(cx);
            return self.commit(cx);
        }
        let leaving =
            || cx.in_flight().any(|job| job == Continuation::Leader(ElectionCall::RESIGN));
        if self.life == Life::Draining && (!self.ready || self.lanes.len() == 0) && !leaving() {
            self.exit(cx);
        }
    }

    /// Returns whether a message demands a stop and its acknowledgement is not blocked.
    ///
    /// Messages of one link are acknowledged in order. If an earlier message were still unacknowledged, the
    /// sender would repeat both after each restart, and each repetition would cause another stop.
    fn should_stop(&self, cx: &Cx<'_>) -> bool {
        self.life == Life::Running && self.fatal.is_some_and(|fatal| !cx.is_behind(fatal))
    }

    /// Ends the bridge without waiting for anything.
    pub(crate) fn exit(&mut self, cx: &mut Cx<'_>) {
        if self.timed_out || self.ignores_messages(cx) {
            self.links.nudge(cx, me(&self.cluster, cx));
        }
        self.life = Life::Exited;
        cx.cancel_where(|_| true);
        cx.motr(motr::Command::Stop);
        cx.fact(Fact::Stopped {});
    }

    /// Follows the ownership of the lock. Returns whether this node has just become the leader.
    fn lead(&mut self, cx: &mut Cx<'_>) -> bool {
        let led = core::mem::replace(&mut self.was_leader, self.leader.holds());
        if led && !self.was_leader {
            self.lanes.lost_lead();
        }
        let won = self.was_leader && !led;
        if won && self.bq_appender.is_on() {
            let pause = cx.config().time.purge;
            cx.arm(Timer::Purge, pause);
        }
        won
    }

    /// Announces completed work: Consul holds it, so other processes may learn of it.
    pub(crate) fn on_completed(&mut self, cx: &mut Cx<'_>, done: Vec<Completed>) {
        let mut news = Changes::default();
        for Completed { key, work, restart } in done {
            match (work.what, key) {
                (Operation::Reported { record, ack }, LaneKey::Process(process)) => {
                    let record = self.cluster.stored_event(process, record);
                    let us = cx.now().mono.micros_since(work.arrived);
                    cx.fact(Fact::ProcessCommitted { process, state: record.state.name(), us });
                    if let Some((link, msg)) = ack {
                        cx.ack(link, msg);
                    }
                    if record.state == ProcessEventKind::Stopped && record.kind != ProcessType::Mkfs
                    {
                        self.cluster.announce_end(process, &mut news);
                    }
                }
                (Operation::DeclaredDead { as_leader, .. }, LaneKey::Process(process)) => {
                    let record = self.cluster.record(process).0;
                    if record.is_some_and(|record| record.state == ProcessEventKind::Stopped) {
                        cx.fact(Fact::ProcessDied { process, as_leader });
                    }
                }
                (Operation::Revived, LaneKey::Process(process)) => {
                    let record = self.cluster.record(process).0;
                    if record.is_some_and(|record| record.state != ProcessEventKind::Stopped) {
                        cx.fact(Fact::ProcessLives { process });
                    }
                }
                (Operation::Derived { .. }, LaneKey::Process(_)) => {}
                (Operation::Started(_), LaneKey::Process(process)) => {
                    if restart {
                        cx.fact(Fact::ProcessRestarted { process });
                        self.cluster.announce_end(process, &mut news);
                    } else {
                        self.release(cx, process);
                    }
                }
                (Operation::Devices { notes, ack, queued }, _) => {
                    cx.fact(Fact::DevicesSet { notes: u32::try_from(notes.len()).unwrap_or(0) });
                    if let Some((link, msg)) = ack {
                        cx.ack(link, msg);
                    }
                    if queued {
                        self.bq_receiver.busy = false;
                    }
                    // Notes about objects without a state of their own in Consul are passed on unchanged.
                    let mut others = notes;
                    others.retain(|note| !Cluster::is_stateful(note.fid));
                    news.notes.extend(others);
                }
                (_, LaneKey::Devices) => {}
            }
        }
        self.announce(cx, &news);
    }

    /// Sends the changes to all links. A local process whose life has ended begins its next life when the
    /// other processes know of the end.
    fn announce(&mut self, cx: &mut Cx<'_>, news: &Changes) {
        let sent = self.links.broadcast(cx, news);
        for (process, _) in &news.ends {
            let own = sent.iter().filter(|(about, ..)| about == process);
            let own = own.map(|(_, link, send)| (*link, *send));
            let waits = self.cluster.is_local(*process) && self.deliveries.wait(cx, *process, own);
            if !waits {
                self.release(cx, *process);
            }
        }
    }

    /// Handles the outcome of a sent message.
    pub(crate) fn on_sent(&mut self, cx: &mut Cx<'_>, link: LinkId, send: SendId, delivered: bool) {
        self.links.on_outcome(cx, link, send, delivered);
        let mut over = self.deliveries.on_outcome(cx, link, send);
        over.extend(self.deliveries.on_sent(cx, &self.links));
        over.into_iter().for_each(|process| self.release(cx, process));
    }

    /// Stops waiting for deliveries on a closed or lost link.
    pub(crate) fn on_link_gone(&mut self, cx: &mut Cx<'_>, link: LinkId) {
        for process in self.deliveries.on_link_gone(cx, link) {
            self.release(cx, process);
        }
    }

    /// Handles a changed configuration: it was read again or is interpreted differently.
    fn on_conf_changed(&mut self, cx: &mut Cx<'_>) {
        if !self.cluster.take_moved() {
            return;
        }
        self.verdicts.derived_dirty = true;
        self.announce_peers(cx);
        for (process, from, to) in self.cluster.take_retyped() {
            cx.fact(Fact::ProcessRetyped { process, from, to });
        }
        let contradictions = self.cluster.conf().contradictions();
        for Contradiction { kept, other, why } in &contradictions {
            let said = |said: &Contradiction| said.kept == *kept && said.other == *other;
            if !self.contradictions.iter().any(said) {
                let (kept, other) = (kept.clone(), other.clone());
                cx.fact(Fact::ConfContradicts { kept, other, why });
            }
        }
        self.contradictions = contradictions;
    }

    /// Sends the endpoints of the configured processes to the wire whenever they have changed.
    fn announce_peers(&mut self, cx: &mut Cx<'_>) {
        let peers = self.cluster.conf().endpoints().map(|(fid, endpoint)| (fid, endpoint.into()));
        let peers: Arc<[(Fid, Box<str>)]> = peers.collect();
        if peers != self.peers {
            self.peers = Arc::clone(&peers);
            cx.motr(motr::Command::Peers(peers));
        }
    }
}

/// Returns our own process's state, as it was announced to all.
fn me(cluster: &Cluster, cx: &Cx<'_>) -> Note {
    let fid = cx.config().process;
    Note { fid, state: cluster.state(fid) }
}
