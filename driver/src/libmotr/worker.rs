//! The thread that does all work between start and stop.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use async_channel::{Receiver, Sender};
use hax_core::base::errno::Errno;
use hax_core::base::fid::{Fid, Object};
use hax_core::base::id::{EntryId, LinkId, MsgId, SendId};
use hax_core::base::time::WallClock;
use hax_core::ha::entrypoint::{Entrypoint, EntrypointRequest};
use hax_core::ha::message::{Body, Message};
use hax_core::ha::motr::{Command, Event};
use hax_core::ha::note::{Note, Nvec, NvecKind, ObjectState};
use hax_core::ha::process::ProcessEventKind;
use motr_sys::abi;

use super::call::Calls;
use super::links::{Link, Links, Sent};
use super::spiel::Spiel;
use super::work::{Asked, Done, Handle, RequestId, Work, put};
use super::{EventSink, StopOutcome};

type Reply = Result<Arc<Entrypoint>, Errno>;

/// A request that waits for its reply.
#[derive(Debug)]
struct Entry {
    request: RequestId,
    asker: Asker,
}

/// The sender of a request.
#[derive(Clone, Copy, Debug)]
struct Asker {
    process: Fid,
    /// The first request of a life: all earlier requests and links belong to earlier lives, which may have
    /// had the same pid.
    first: bool,
}

/// A request with a reply; the callback of its link follows.
#[derive(Debug)]
struct Replied {
    entry: EntryId,
    asker: Asker,
    /// The reply was successful, so the process can start.
    good: bool,
}

pub(super) struct Worker {
    calls: Calls,
    own: Fid,
    sink: EventSink,
    /// Sent to once, when the interface has to be stopped.
    stop: Sender<()>,
    end: Sender<StopOutcome>,
    next_entry: EntryId,
    next_msg: MsgId,
    entries: BTreeMap<EntryId, Entry>,
    replied: BTreeMap<RequestId, Replied>,
    links: Links,
    own_link: Option<LinkId>,
    /// Processes with an undelivered message to the library that their last life has failed.
    failing: BTreeSet<Fid>,
    /// Replies that wait for the delivery of these messages.
    held: VecDeque<(EntryId, Reply)>,
    stopping: bool,
    spiel: Spiel,
}

impl Worker {
    pub(super) fn new(
        calls: Calls,
        spiel: Spiel,
        own: Fid,
        sink: EventSink,
        stop: Sender<()>,
        end: Sender<StopOutcome>,
    ) -> Self {
        Self {
            calls,
            own,
            sink,
            stop,
            end,
            next_entry: EntryId::default(),
            next_msg: MsgId::default(),
            entries: BTreeMap::new(),
            replied: BTreeMap::new(),
            links: Links::default(),
            own_link: None,
            failing: BTreeSet::new(),
            held: VecDeque::new(),
            stopping: false,
            spiel,
        }
    }

    /// Handles the queue until [`Work::End`].
    pub(super) fn run(mut self, work: &Receiver<Work>) {
        let mut handled = 0;
        while let Ok(work) = work.recv_blocking() {
            handled += u64::from(!matches!(work, Work::Barrier(_)));
            match work {
                Work::Asked(asked) => self.asked(*asked),
                Work::Received { link, handle, message } => self.received(link, handle, message),
                Work::Settled { link, tag, delivered } => self.settled(link, tag, delivered),
                Work::Connected { request, link } => self.connected(request, link),
                Work::Reused { request, link } => self.reused(request, link),
                Work::Absent { request } => drop(self.replied.remove(&request)),
                Work::Disconnecting { link } => self.disconnecting(link),
                Work::Disconnected { link } => self.disconnected(link),
                Work::Do(command) => self.command(command),
                Work::Started if !self.stopping => self.spiel.started(),
                Work::Call(call) if !self.stopping => self.spiel.call(call),
                // The bridge has ended and does not wait for this.
                Work::Started | Work::Call(_) => {}
                Work::Done(done) => self.done(done),
                Work::Barrier(reached) => drop(reached.send_blocking(handled)),
                Work::End => break,
            }
        }
    }

    /// Sends an event to the bridge. It waits while the bridge is behind; after the bridge's end events are
    /// dropped.
    fn tell(&self, event: Event) {
        if !self.stopping {
            let _ = self.sink.events.send_blocking(event);
            (self.sink.wake)();
        }
    }

    fn asked(&mut self, asked: Asked) {
        let Asked { request, process, endpoint, git_rev, pid, first } = asked;
        let entry = self.next_entry.mint();
        let asker = Asker { process, first };
        self.entries.insert(entry, Entry { request, asker });
        if self.stopping {
            self.reply(entry, &self.last_reply(asker));
            return;
        }
        if first {
            self.forget_requests_before(entry, process);
            self.end_lives_before(entry, process);
            // This is also done if the last life has no link to us: the library's copy of the configuration
            // has its own connection to a confd, and would send requests to the dead confd for ever.
            if process != self.own && !self.failing.contains(&process) {
                self.fail(process);
            }
        }
        let request = EntrypointRequest { entry, process, endpoint, pid, first, git_rev };
        self.tell(Event::Asked(Box::new(request)));
    }

    /// Replies to the requests of earlier lives of a process. Each reply makes a link. These links must be
    /// made and disconnected before the process gets the link of this life.
    fn forget_requests_before(&mut self, first: EntryId, process: Fid) {
        let old = self.entries.range(..first).filter(|(_, entry)| entry.asker.process == process);
        for entry in old.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.held.retain(|(held, _)| *held != entry);
            self.reply(entry, &Err(Errno::EAGAIN));
        }
    }

    /// Ends the links of a starting process's earlier lives. This life has no link yet, which the library
    /// would disconnect too.
    fn end_lives_before(&mut self, first: EntryId, process: Fid) {
        let old = |link: &Link| link.process == process && link.entry < first;
        let old = self.links.iter().filter(|(_, link)| old(link) && !link.given_up && !link.failed);
        let old: Vec<LinkId> = old.map(|(id, _)| id).collect();
        if old.is_empty() || self.failing.contains(&process) {
            return;
        }
        let failed = process != self.own && self.fail(process);
        for id in old {
            let Some(link) = self.links.get(id) else { continue };
            link.failed = failed;
            if !std::mem::replace(&mut link.down, true) && link.announced {
                self.tell(Event::LinkDown { link: id });
            }
        }
    }

    /// Tells the library that a process has failed; returns false if there is no link to send it over.
    ///
    /// The library ignores a failure in its first message about a process, so another state is sent before.
    fn fail(&mut self, process: Fid) -> bool {
        let own = self.own_link.and_then(|id| self.links.get(id)).filter(|link| !link.given_up);
        let Some(own) = own else { return false };
        let notes = [ObjectState::Transient, ObjectState::Failed];
        let notes = notes.map(|state| Note { fid: process, state }).into();
        let nvec = Nvec { kind: NvecKind::Set, id_of_get: 0, ignore_same_state: 0, notes };
        let message = Message::new(WallClock(0), Body::Nvec(Box::new(nvec)));
        let tag = self.calls.send(own, &super::message::write(&message));
        own.sent.insert(tag, Sent::Failed(process));
        self.failing.insert(process)
    }

    fn connected(&mut self, request: RequestId, handle: Handle<abi::m0_ha_link>) {
        let Some(replied) = self.replied.remove(&request) else { return };
        let Asker { process, first } = replied.asker;
        let id = self.links.insert(Link {
            handle,
            process,
            entry: replied.entry,
            reconnected: !first,
            announced: false,
            down: false,
            farewell: None,
            failed: false,
            given_up: false,
            received: BTreeMap::new(),
            sent: BTreeMap::new(),
        });
        if process == self.own {
            self.own_link = Some(id);
        }
        if replied.good {
            self.announce(id, replied.entry);
        }
    }

    fn reused(&mut self, request: RequestId, handle: Handle<abi::m0_ha_link>) {
        let Some(Replied { entry, good, .. }) = self.replied.remove(&request) else { return };
        let Some((id, link)) = self.links.find(handle) else { return };
        if link.announced {
            self.tell(Event::LinkReused { link: id, entry });
        } else if good {
            // The link was made by a reply that told the process to ask again.
            self.announce(id, entry);
        }
    }

    fn announce(&mut self, id: LinkId, entry: EntryId) {
        let Some(link) = self.links.get(id) else { return };
        link.announced = true;
        let (process, reconnected) = (link.process, link.reconnected);
        self.tell(Event::LinkUp { link: id, entry, process, reconnected });
    }

    fn received(
        &mut self,
        handle: Handle<abi::m0_ha_link>,
        message_handle: Handle<abi::m0_ha_msg>,
        message: Box<Message>,
    ) {
        let Some((id, link)) = self.links.find(handle) else { return };
        // Messages after the link was given up belong to the library.
        if link.given_up {
            return;
        }
        // Of our own process's messages only the library's questions reach the bridge. It knows the others
        // already.
        if link.process == self.own && (self.stopping || !is_question(&message)) {
            self.calls.delivered(link, message_handle);
            return;
        }
        let msg = self.next_msg.mint();
        link.received.insert(msg, message_handle);
        link.farewell = is_farewell(&message).then_some(msg);
        // Any message shows that the process lives.
        let back = link.announced && !link.failed && std::mem::take(&mut link.down);
        if back {
            self.tell(Event::LinkBack { link: id });
        }
        let Some(link) = self.links.get(id) else { return };
        if !link.announced {
            let entry = link.entry;
            self.announce(id, entry);
        }
        self.tell(Event::Received { link: id, msg, message });
    }

    fn settled(&mut self, handle: Handle<abi::m0_ha_link>, tag: u64, delivered: bool) {
        let Some((link, state)) = self.links.find(handle) else { return };
        match state.sent.remove(&tag) {
            Some(Sent::Bridge(send)) if delivered => self.tell(Event::Delivered { link, send }),
            Some(Sent::Bridge(send)) => self.tell(Event::Undelivered { link, send }),
            Some(Sent::Failed(process)) => {
                self.failing.remove(&process);
                for (entry, reply) in std::mem::take(&mut self.held) {
                    self.reply_in_turn(entry, reply);
                }
            }
            None => {}
        }
    }

    fn disconnecting(&mut self, handle: Handle<abi::m0_ha_link>) {
        let Some((id, link)) = self.links.find(handle) else { return };
        if link.given_up {
            return;
        }
        if self.stopping && !link.received.is_empty() {
            self.leave();
            return;
        }
        for message in std::mem::take(&mut link.received).into_values() {
            self.calls.delivered(link, message);
        }
        let told = std::mem::replace(&mut link.down, true) || !link.announced;
        link.given_up = true;
        self.calls.disconnect(link);
        if !told {
            self.tell(Event::LinkDown { link: id });
        }
    }

    fn disconnected(&mut self, handle: Handle<abi::m0_ha_link>) {
        let Some((link, state)) = self.links.remove(handle) else { return };
        if self.own_link == Some(link) {
            self.own_link = None;
        }
        if state.announced {
            self.tell(Event::LinkClosed { link });
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Reply { entry, reply } => self.reply_in_turn(entry, reply),
            Command::Send { send, to, message, .. } => self.send(send, &to, &message),
            // The library's links end with it.
            Command::Owe { .. } => {}
            Command::Ack { link, msg } => self.ack(link, msg),
            Command::Stop if !self.stopping => self.stop(),
            // The bridge leaves the links to their processes, and the library has no other way. The library
            // connects to the address of a request, so it needs no list of peers.
            Command::Disconnect { .. } | Command::Peers(_) | Command::Stop => {}
        }
    }

    /// Acknowledges a message. After the message of a stop the link is reported down, since the library would
    /// keep the link, with ever more undelivered messages.
    fn ack(&mut self, id: LinkId, msg: MsgId) {
        let Some(link) = self.links.get(id) else { return };
        let Some(message) = link.received.remove(&msg) else { return };
        self.calls.delivered(link, message);
        let gone = link.farewell == Some(msg) && link.announced;
        if gone && !std::mem::replace(&mut link.down, true) {
            self.tell(Event::LinkDown { link: id });
        }
    }

    /// Replies, or holds the reply until the library has disconnected the links of the process's last life.
    fn reply_in_turn(&mut self, entry: EntryId, reply: Reply) {
        let Some(asker) = self.entries.get(&entry).map(|entry| entry.asker) else { return };
        if asker.first {
            self.end_lives_before(entry, asker.process);
        }
        if self.failing.contains(&asker.process) {
            self.held.push_back((entry, reply));
        } else {
            self.reply(entry, &reply);
        }
    }

    fn reply(&mut self, id: EntryId, reply: &Reply) {
        let Some(asker) = self.entries.get(&id).map(|entry| entry.asker) else { return };
        let empty = reply.as_ref().is_ok_and(|reply| reply.confds.is_empty());
        if empty && asker.process == self.own && self.spiel.is_reading() {
            // While the library reads the configuration, it has an assertion against an empty reply.
            return;
        }
        let Some(Entry { request, asker }) = self.entries.remove(&id) else { return };
        let replied = Replied { entry: id, asker, good: reply.is_ok() };
        self.replied.insert(request, replied);
        self.calls.reply(request, reply.as_deref().map_err(|errno| *errno));
    }

    fn send(&mut self, send: SendId, to: &[LinkId], message: &Message) {
        let written = super::message::write(message);
        for id in to {
            let Some(link) = self.links.get(*id) else { continue };
            if link.given_up {
                self.tell(Event::Undelivered { link: *id, send });
            } else {
                let own = link.process == self.own;
                let tag = match own.then(|| to_ourselves(message)).flatten() {
                    Some(message) => self.calls.send(link, &super::message::write(&message)),
                    None => self.calls.send(link, &written),
                };
                link.sent.insert(tag, Sent::Bridge(send));
            }
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        self.held.clear();
        for (entry, asker) in self.entries.iter().map(|(id, e)| (*id, e.asker)).collect::<Vec<_>>()
        {
            self.reply(entry, &self.last_reply(asker));
        }
        if self.spiel.is_reading() {
            let _ = self.end.try_send(StopOutcome::Reading);
            return;
        }
        if let Some(own) = self.own_link.and_then(|id| self.links.get(id)) {
            // The bridge has ended: our own questions get no answer, and no other process repeats them.
            for message in std::mem::take(&mut own.received).into_values() {
                self.calls.delivered(own, message);
            }
        }
        if self.links.unacknowledged() > 0 {
            self.leave();
        } else {
            self.wind_up();
        }
    }

    /// Returns the reply to a request during the stop.
    ///
    /// An empty entrypoint lets a starting process unwind, and our own start return. A running process would
    /// take it for the end of the cluster, so it is told to ask again.
    fn last_reply(&self, asker: Asker) -> Reply {
        let unwinds = asker.first || asker.process == self.own;
        if unwinds { Ok(Arc::default()) } else { Err(Errno::EAGAIN) }
    }

    /// Stops the library once no call is inside it.
    fn wind_up(&mut self) {
        if self.spiel.is_over() {
            let _ = self.stop.try_send(());
        }
    }

    /// Handles the end of a command to the cluster.
    fn done(&mut self, done: Done) {
        if let Some(reply) = self.spiel.done(done)
            && !self.stopping
        {
            // The number of waiting replies is at most that of the calls, which the bridge bounds.
            put(&self.sink.replies, reply);
            (self.sink.wake)();
        }
        if self.stopping {
            self.wind_up();
        }
    }

    /// Ends without stopping the library. A stop would acknowledge messages that were not processed, so the
    /// process ends with the library as it is.
    fn leave(&self) {
        let _ = self.end.try_send(StopOutcome::Left(self.links.unacknowledged()));
    }
}

/// Returns whether a process reports that it has stopped.
fn is_farewell(message: &Message) -> bool {
    matches!(&message.body, Body::Process(said) if said.event == ProcessEventKind::Stopped)
}

/// Returns whether this is a question of the library for its copy of the configuration.
fn is_question(message: &Message) -> bool {
    match &message.body {
        Body::Nvec(nvec) => nvec.kind == NvecKind::Get,
        Body::FailureVecReq { .. } => true,
        _ => false,
    }
}

/// Returns the message that our own process gets instead of this one, for the library's copy of the
/// configuration.
///
/// The library disconnects all links of a process that is reported to it as failed, so this is reported only
/// at the right time ([`Worker::fail`]). It asks a pool's services for their status one after another, and
/// aborts the process at a service that it does not take for online
/// (`spiel/cmd.c:spiel__pool_cmd_status_get`); a service that does not respond is only an error. It takes
/// only the state online for online, but a process of a Motr without DTM stays in recovery for ever.
fn to_ourselves(message: &Message) -> Option<Message> {
    let Body::Nvec(nvec) = &message.body else { return None };
    let mut nvec = nvec.clone();
    for note in &mut nvec.notes {
        let runs = matches!(note.fid.object(), Some(Object::Process | Object::Service));
        if runs || note.state == ObjectState::DtmRecovering {
            note.state = ObjectState::Online;
        }
    }
    Some(Message { body: Body::Nvec(nvec), ..message.clone() })
}
