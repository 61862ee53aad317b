//! One Motr process, and its expectations.

use hax_core::base::fid::Fid;
use hax_core::base::time::WallClock;
use hax_core::ha::message::{Body, Message};
use hax_core::ha::note::{Note, Nvec, NvecKind, ObjectState};
use hax_core::ha::process::{ProcessEvent, ProcessEventKind, ProcessType};
use hax_driver::libmotr::message;
use motr_sys::fake::{Link, Request};

use super::World;

/// The events that a process reports during its life, in order.
const LIFE: [ProcessEventKind; 5] = [
    ProcessEventKind::Starting,
    ProcessEventKind::Started,
    ProcessEventKind::DtmRecovered,
    ProcessEventKind::Stopping,
    ProcessEventKind::Stopped,
];

/// A question that is not acknowledged.
pub(super) struct Question {
    pub(super) tag: u64,
    id: u64,
    objects: Vec<Fid>,
    answers: u32,
}

pub(super) struct Peer {
    pub(super) fid: Fid,
    pid: u64,
    pub(super) alive: bool,
    /// The request that waits for its reply.
    request: Option<Request>,
    pub(super) link: Option<Link>,
    /// The number of events that it has reported; `event` is the tag of the last one until it is
    /// acknowledged.
    said: usize,
    pub(super) event: Option<u64>,
    pub(super) questions: Vec<Question>,
    others: Vec<u64>,
}

impl Peer {
    pub(super) fn new(fid: Fid) -> Self {
        Self {
            fid,
            pid: 0,
            alive: false,
            request: None,
            link: None,
            said: 0,
            event: None,
            questions: Vec::new(),
            others: Vec::new(),
        }
    }

    fn key(&self) -> (u64, u64) {
        (self.fid.container, self.fid.key)
    }

    /// Returns whether the process still waits for something.
    fn waits(&self) -> bool {
        let said = self.event.is_some() || !self.questions.is_empty() || !self.others.is_empty();
        self.request.is_some() || (self.alive && self.link.is_none()) || said
    }
}

impl World {
    /// Begins a new life of a process.
    pub(super) fn start(&mut self, i: usize) {
        if self.peers[i].link.is_some() {
            self.seen.insert("lost link");
        }
        self.lives += 1;
        // In a container a new life may have the same pid as the last.
        let pid = 1 + self.lives % 2;
        self.peers[i] = Peer { pid, alive: true, ..Peer::new(self.peers[i].fid) };
        self.ask(i, true);
    }

    /// Requests the entrypoint.
    pub(super) fn ask(&mut self, i: usize, first: bool) {
        let peer = &mut self.peers[i];
        if peer.request.is_none() {
            peer.request = Some(self.library.ask(peer.key(), peer.pid, first));
        }
    }

    fn say(&self, i: usize, body: Body) -> Option<u64> {
        let peer = &self.peers[i];
        let message = Message { fid: peer.fid, ..Message::new(WallClock(1), body) };
        self.library.say(peer.link?, |out| *out = *message::write(&message))
    }

    /// Reports the next event of its life, if the last one is acknowledged.
    pub(super) fn event(&mut self, i: usize) {
        let peer = &self.peers[i];
        if peer.event.is_some() || peer.said == LIFE.len() {
            return;
        }
        let (event, pid) = (LIFE[peer.said], peer.pid);
        let event = ProcessEvent { event, kind: ProcessType::M0d, pid };
        let tag = self.say(i, Body::Process(event));
        let peer = &mut self.peers[i];
        peer.event = tag;
        peer.said += usize::from(tag.is_some());
        // This was the last event; no more messages are delivered to the process.
        peer.alive &= peer.said < LIFE.len();
    }

    /// Asks for the states of objects.
    pub(super) fn question(&mut self, i: usize, id: u64, objects: Vec<Fid>) {
        let none = |fid: &Fid| Note { fid: *fid, state: ObjectState::Unknown };
        let notes = objects.iter().map(none).collect();
        let nvec = Nvec { kind: NvecKind::Get, id_of_get: id, ignore_same_state: 0, notes };
        if let Some(tag) = self.say(i, Body::Nvec(Box::new(nvec))) {
            self.peers[i].questions.push(Question { tag, id, objects, answers: 0 });
        }
    }

    /// Sends a message that is only acknowledged.
    pub(super) fn other(&mut self, i: usize, body: Body) {
        let tag = self.say(i, body);
        self.peers[i].others.extend(tag);
    }

    /// Checks all that the processes have received against the guarantees.
    pub(super) fn check(&mut self) {
        for i in 0..self.peers.len() {
            self.check_reply(i);
            let Some(link) = self.peers[i].link else { continue };
            while self.library.unseen(link) > 0 {
                let sent = message::read(&self.library.sent(link));
                self.on_message(i, &sent.body);
            }
            let (library, now) = (&self.library, self.now);
            let peer = &mut self.peers[i];
            if let Some(tag) = peer.event.take_if(|tag| !library.is_held(link, *tag)) {
                let (fid, event) = (peer.fid, LIFE[peer.said - 1]);
                self.seen.insert("acknowledgement");
                self.history.push(format!("{now:?} {fid}: tag {tag}, {event:?}, is acknowledged"));
                let state = self.consul.state_of(self.at(), fid);
                // A process without a recovery has recovered when it has started.
                let fits = match event {
                    ProcessEventKind::Starting => state == "STARTING",
                    ProcessEventKind::Started => state == "STARTED" || state == "DTM_RECOVERED",
                    ProcessEventKind::DtmRecovered => state == "DTM_RECOVERED",
                    ProcessEventKind::Stopping => state == "STOPPING",
                    _ => state == "STOPPED",
                };
                assert!(fits, "{fid}: {event:?} is acknowledged, but Consul has {state}");
            }
            let (library, peer) = (&self.library, &mut self.peers[i]);
            peer.others.retain(|tag| library.is_held(link, *tag));
            peer.questions.retain(|question| {
                let held = library.is_held(link, question.tag);
                assert!(held || question.answers == 1, "acknowledged without an answer");
                held
            });
        }
    }

    fn check_reply(&mut self, i: usize) {
        let peer = &mut self.peers[i];
        let Some(request) = peer.request else { return };
        let Some(reply) = self.library.replied(request) else { return };
        peer.request = None;
        self.history.push(format!("{:?} {}: reply {}", self.now, peer.fid, reply.rc));
        if reply.rc == 0 {
            assert_eq!((reply.quorum, reply.confds.len()), (2, 3), "{reply:?}");
            let known = peer.link.is_some();
            self.seen.insert(if known { "known link" } else { "entrypoint" });
            peer.link = Some(self.library.link(peer.key(), peer.pid));
        } else {
            assert_eq!(reply.rc, -11, "{reply:?}");
            self.seen.insert("refusal");
            if peer.alive {
                self.ask(i, false);
            }
        }
    }

    fn on_message(&mut self, i: usize, body: &Body) {
        let peer = &mut self.peers[i];
        let Body::Nvec(nvec) = body else { return };
        assert_eq!(nvec.kind, NvecKind::Set);
        if nvec.id_of_get == 0 {
            self.seen.insert("news");
            return;
        }
        let asked = peer.questions.iter_mut().find(|question| question.id == nvec.id_of_get);
        let asked = asked.expect("an answer to a question");
        let objects: Vec<Fid> = nvec.notes.iter().map(|note| note.fid).collect();
        assert_eq!(objects, asked.objects, "an answer to what was asked");
        asked.answers += 1;
        self.seen.insert("answer");
    }

    /// Ends the faults: Consul works, processes live and receive messages. Then all work must complete.
    pub(super) fn heal(&mut self) {
        self.consul.fault = None;
        self.library.prompt(true);
        for i in 0..self.peers.len() {
            if !self.peers[i].alive {
                self.start(i);
            }
        }
        for _ in 0..600 {
            self.deliver_all();
            self.run(std::time::Duration::from_millis(100));
            self.check();
            let (view, waits) = (self.machine.view(), self.peers.iter().any(Peer::waits));
            if !waits && view.lanes == 0 && view.entries == 0 {
                // The links of ended lives must have been disconnected.
                assert_eq!(self.library.links(), self.peers.len() + 1);
                return;
            }
        }
        let waits = self.peers.iter().filter(|peer| peer.waits()).map(|peer| peer.fid);
        panic!("no rest: {:?} wait, {:?}", waits.collect::<Vec<_>>(), self.machine.view());
    }

    fn deliver_all(&self) {
        for link in self.peers.iter().filter_map(|peer| peer.link) {
            while self.library.owed(link) > 0 {
                self.library.settle(link, true);
            }
        }
    }
}
