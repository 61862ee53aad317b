//! A process's requests for its entrypoint (`ha/entrypoint.c`), and its handling of the reply
//! (`ha/ha.c:ha_entrypoint_state_cb`).

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use crate::base::time::Instant;
use crate::ha::entrypoint::{Confd, Entrypoint};
use crate::wire::codec::fop::{EntrypointRep, EntrypointReq, Fop, QUERY, opcode};
use crate::wire::codec::packet::Payload;
use crate::wire::codec::params::{Cookie, FIRST_TAG_PROCESS, FIRST_TAG_SERVER, LinkParams, Tags};
use crate::wire::link::Link;
use crate::wire::process::{Asking, Change, Event, Life, Output, Process, Timer};
use crate::wire::queue::{InQueue, OutQueue, Sent};
use crate::wire::rpc::client::ClientId;
use crate::wire::rpc::event::RpcEvent;

/// The time limit of connecting (`entrypoint.c:ECL_TIMEOUT`).
const CONNECT_FOR: Duration = Duration::from_secs(5);

impl Process {
    /// Requests the entrypoint, unless a request is in flight.
    pub(crate) fn ask(&mut self, now: Instant, out: &mut Vec<Output>) {
        if matches!(self.asking, Asking::Idle) && self.life != Life::Leaving {
            let client = self.rpc.start(now, self.config.connect, out);
            self.asking = Asking::Connecting(client);
            self.timers.arm(Timer::Connect, now.after(CONNECT_FOR));
        }
    }

    pub(crate) fn drop_asking(&mut self) {
        self.timers.disarm(Timer::Connect);
        match core::mem::replace(&mut self.asking, Asking::Idle) {
            Asking::Idle => {}
            Asking::Connecting(c) | Asking::Waiting(c, _) | Asking::Closing(c, ..) => {
                self.rpc.forget(c);
            }
        }
    }

    pub(crate) fn on_connect_timeout(&mut self, now: Instant, out: &mut Vec<Output>) {
        if let Asking::Connecting(_) = self.asking {
            self.drop_asking();
            self.ask(now, out);
        }
    }

    pub(crate) fn on_asking(&mut self, now: Instant, event: RpcEvent, out: &mut Vec<Output>) {
        match (core::mem::replace(&mut self.asking, Asking::Idle), event) {
            (Asking::Connecting(client), RpcEvent::Opened(opened)) if client == opened => {
                self.timers.disarm(Timer::Connect);
                let params = self.request(now, client, out);
                self.asking = Asking::Waiting(client, params);
            }
            (
                Asking::Waiting(client, params),
                RpcEvent::Reply(replied, Fop::EntrypointRep(rep)),
            ) if client == replied => {
                self.asking = Asking::Closing(client, params, rep);
                self.rpc.close(now, client, out);
            }
            (Asking::Closing(client, params, rep), RpcEvent::Ended(ended)) if client == ended => {
                self.available(now, &params, *rep, out);
            }
            (asking, _) => self.asking = asking,
        }
    }

    fn request(&mut self, now: Instant, client: ClientId, out: &mut Vec<Output>) -> LinkParams {
        self.generation += 1;
        let params = self.link.as_ref().map_or_else(LinkParams::default, |link| LinkParams {
            ids: link.ids,
            tags_local: link.sent.tags(),
            tags_remote: link.received.tags(),
        });
        let req = EntrypointReq {
            first: self.link.is_none().into(),
            generation: self.generation,
            process: self.config.fid,
            params,
            git_rev: self.config.git_rev.as_bytes().into(),
            pid: self.config.pid,
            cookie_expected: self.cookie,
        };
        let mut payload = Vec::new();
        Fop::EntrypointReq(Box::new(req)).encode(&mut payload);
        let parts = Payload { before: &payload, body: Bytes::new(), after: &[] };
        self.rpc.call(now, client, opcode::ENTRYPOINT_REQ, parts, None, out);
        params
    }

    /// Handles the reply. `asked` is the link as described in the request.
    fn available(
        &mut self,
        now: Instant,
        asked: &LinkParams,
        rep: EntrypointRep,
        out: &mut Vec<Output>,
    ) {
        if let Some(why) = self.objection(asked, &rep) {
            return self.abort(why, out);
        }
        self.cookie = rep.cookie_actual;
        let EntrypointRep { control, params, do_reconnect, .. } = rep;
        let entrypoint = Arc::new(entrypoint(&rep));
        let generation = self.generation;
        out.push(Output::Event(Event::Answered { control, entrypoint, generation }));
        if self.link.is_none() {
            let client = self.rpc.start(now, self.config.connect, out);
            let mut sent = OutQueue::new(FIRST_TAG_PROCESS);
            for (send, body) in self.early.drain(..) {
                sent.push(Sent::new(send, body));
            }
            let received = InQueue::new(FIRST_TAG_SERVER);
            self.link = Some(Link::new(params.ids, sent, received, client).of_process());
            out.push(Output::Event(Event::LinkUp { reconnected: false }));
        } else if do_reconnect != 0 {
            self.change = match self.change {
                Change::Closing(client, _) => Change::Closing(client, params),
                Change::None | Change::Wanted(_) => Change::Wanted(params),
            };
        }
        if control == QUERY {
            self.ask(now, out);
        }
        self.go_on(now, out);
    }

    /// Returns the reason why a real process would abort.
    fn objection(&self, asked: &LinkParams, rep: &EntrypointRep) -> Option<&'static str> {
        if rep.disconnected_previously != 0 {
            return Some("taken for dead");
        }
        let same_life = self.cookie == Cookie::NONE || self.cookie == rep.cookie_actual;
        if same_life == (rep.do_reconnect != 0) {
            return Some("do_reconnect and the cookie do not fit together");
        }
        if self.link.is_none() {
            let (local, remote) = (rep.params.tags_local, rep.params.tags_remote);
            let initial =
                local == Tags::fresh(FIRST_TAG_PROCESS) && remote == Tags::fresh(FIRST_TAG_SERVER);
            return (!initial).then_some("a new link with other than initial tags");
        }
        if rep.do_reconnect == 0 {
            let none = rep.params == LinkParams::default();
            return (!none).then_some("parameters for a link that goes on");
        }
        // link.c:ha_link_tags_apply
        let (own, told) = (asked.tags_local, rep.params.tags_local);
        let fits = own.delivered >= told.confirmed
            && own.delivered == told.delivered
            && own.delivered == told.next
            && own.assign >= told.assign
            && asked.tags_remote == rep.params.tags_remote;
        (!fits).then_some("other tags than those of the link")
    }
}

fn entrypoint(rep: &EntrypointRep) -> Entrypoint {
    let text = |raw: &[u8]| String::from_utf8_lossy(raw).into();
    let confds = rep.confds.iter().zip(&rep.confd_endpoints);
    Entrypoint {
        quorum: rep.quorum,
        confds: confds.map(|(fid, e)| Confd { fid: *fid, endpoint: text(e) }).collect(),
        rm: rep.rm,
        rm_endpoint: text(&rep.rm_endpoint),
    }
}
