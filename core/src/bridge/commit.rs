//! What follows from an input, once it is taken: the others are told, and what is ready is written.

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

/// How long after a stop has begun processes are listened to. One that stops at the same time has a last
/// word; those that go on talking would keep the stop from its end.
pub(crate) const LISTEN_AFTER_STOP: Duration = Duration::from_millis(500);

impl State {
    /// What follows from all that has happened in this call.
    pub(crate) fn commit(&mut self, cx: &mut Cx<'_>) {
        if self.tables.all_loaded() && (self.knows_us(cx) || self.ready) {
            let mut news = Changes::default();
            let changed = self.cluster.recompute(!self.ready, &mut news);
            if !self.ready {
                self.ready = true;
                self.starting.retain(|process, _| self.cluster.is_local(*process));
                cx.fact(Fact::Ready {});
                self.own_event(cx, ProcessEventKind::Started);
            }
            self.announce(cx, &news);
            let cluster = &self.cluster;
            self.links.catch_up(cx, || cluster.snapshot().collect());
            self.prove_deaths();
            if !self.stopping() {
                self.on_conf_changed(cx);
                self.leader.consider(cx, &self.cluster);
                let won = self.lead(cx);
                self.verdicts.liveness_dirty |= changed | won;
                self.verdicts.derived_dirty |= won | self.cluster.take_overwritten();
                let session = self.leader.session(cx.now().mono);
                self.spiel.work(cx, &self.cluster, self.led, session);
                if core::mem::take(&mut self.verdicts.liveness_dirty) {
                    self.declare_dead(cx);
                    self.revive(cx);
                    self.own_node.check(cx, &self.cluster);
                }
                self.rederive(cx);
            }
            loop {
                if !self.stopping() {
                    let spiel = self.led.then_some(&mut self.spiel);
                    self.bq_receiver.work(cx, &self.cluster, &mut self.lanes, spiel);
                }
                if self.is_deaf(cx) {
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

    /// Whether a message demands a stop, and nothing keeps its sender from learning that it was taken. Of
    /// one link all is acknowledged in order: were an earlier message still open, both would come again
    /// after each restart, and each would end in this stop.
    fn should_stop(&self, cx: &Cx<'_>) -> bool {
        self.life == Life::Running && self.fatal.is_some_and(|fatal| !cx.is_behind(fatal))
    }

    /// The end: nothing is waited for any more.
    pub(crate) fn exit(&mut self, cx: &mut Cx<'_>) {
        if self.timed_out || self.is_deaf(cx) {
            self.links.nudge(cx, me(&self.cluster, cx));
        }
        self.life = Life::Exited;
        cx.cancel_where(|_| true);
        cx.motr(motr::Command::Stop);
        cx.fact(Fact::Stopped {});
    }

    /// Follows the lock. Returns whether we lead newly.
    fn lead(&mut self, cx: &mut Cx<'_>) -> bool {
        let led = core::mem::replace(&mut self.led, self.leader.holds());
        if led && !self.led {
            self.lanes.lost_lead();
        }
        let won = self.led && !led;
        if won && self.bq_appender.is_on() {
            let pause = cx.config().time.purge;
            cx.arm(Timer::Purge, pause);
        }
        won
    }

    /// Consul holds these: now others may learn of them.
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
                    // What has no state of its own in Consul is passed on as it is.
                    let mut others = notes;
                    others.retain(|note| !Cluster::is_stateful(note.fid));
                    news.notes.extend(others);
                }
                (_, LaneKey::Devices) => {}
            }
        }
        self.announce(cx, &news);
    }

    /// Tells all links. Whose life has ended on our node begins the next when the others know.
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

    /// A message has its outcome.
    pub(crate) fn on_sent(&mut self, cx: &mut Cx<'_>, link: LinkId, send: SendId, delivered: bool) {
        self.links.on_outcome(cx, link, send, delivered);
        let mut over = self.deliveries.on_outcome(cx, link, send);
        over.extend(self.deliveries.on_sent(cx, &self.links));
        over.into_iter().for_each(|process| self.release(cx, process));
    }

    /// Nobody waits for a link that is gone.
    pub(crate) fn on_link_gone(&mut self, cx: &mut Cx<'_>, link: LinkId) {
        for process in self.deliveries.on_link_gone(cx, link) {
            self.release(cx, process);
        }
    }

    /// The configuration was read anew, or is understood otherwise.
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

    /// Tells the wire where the configured processes listen, whenever that has changed.
    fn announce_peers(&mut self, cx: &mut Cx<'_>) {
        let peers = self.cluster.conf().endpoints().map(|(fid, endpoint)| (fid, endpoint.into()));
        let peers: Arc<[(Fid, Box<str>)]> = peers.collect();
        if peers != self.peers {
            self.peers = Arc::clone(&peers);
            cx.motr(motr::Command::Peers(peers));
        }
    }
}

/// Our own process, as everybody has been told of it.
fn me(cluster: &Cluster, cx: &Cx<'_>) -> Note {
    let fid = cx.config().process;
    Note { fid, state: cluster.state(fid) }
}
