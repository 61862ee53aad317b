//! Planted bugs: outputs of a hax are dropped, doubled or altered before delivery. The core has planted bugs
//! of its own.

use std::sync::Arc;

use bytes::Bytes;
use hax_core::base::fid::Fid;
pub use hax_core::base::mutant::Mutant as Inside;
use hax_core::base::time::{Instant, Next};
use hax_core::consul::port;
use hax_core::ha::message::Body;
use hax_core::ha::note::ObjectState;
use hax_core::net::Command;
use hax_core::node::Output;
use hax_core::wire::codec::fop::Fop;
use hax_core::wire::codec::frame::{HEADER, Header};
use hax_core::wire::codec::packet::{self, Item};

use super::{Bridge, World};

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A planted bug in the core.
    Inside(Inside),
    /// A hax returns another deadline after its exit.
    SpeaksAfterExit,
    /// An HTTP request gets no response.
    ResponseLost,
    /// An HTTP request gets two responses.
    ResponseTwice,
    /// A call to Consul is not made.
    CallLost,
    /// A call to Consul is made twice.
    CallTwice,
    /// The returned deadline is the present time.
    DeadlineNow,
    /// The returned deadline is dropped.
    DeadlineLost,
    /// Entrypoint replies are not written to the connection.
    ReplyUnwritten,
    /// The record of a process is written without compare-and-set.
    SetInsteadOfCas,
    /// The record of another process is written.
    WrongProcess,
    /// A note is left out.
    NoteLost,
    /// A note has a wrong state.
    NoteWrong,
    /// A note has a state that makes its receiver abort.
    NoteUnknown,
    /// More messages are acknowledged than were received.
    DeliveredTooMuch,
    /// A request has an `xid_min` of zero.
    XidMinZero,
    /// Two messages of a link are in flight.
    TwoInFlight,
    /// A first link is announced as a reconnected one.
    FalseReconnect,
    /// Only half of a frame is written.
    FrameCut,
}

impl Mutant {
    /// The planted bugs outside of the core.
    const OUTSIDE: [Self; 18] = [
        Self::SpeaksAfterExit,
        Self::ResponseLost,
        Self::ResponseTwice,
        Self::CallLost,
        Self::CallTwice,
        Self::DeadlineNow,
        Self::DeadlineLost,
        Self::ReplyUnwritten,
        Self::SetInsteadOfCas,
        Self::WrongProcess,
        Self::NoteLost,
        Self::NoteWrong,
        Self::NoteUnknown,
        Self::DeliveredTooMuch,
        Self::XidMinZero,
        Self::TwoInFlight,
        Self::FalseReconnect,
        Self::FrameCut,
    ];

    /// Returns the planted bugs that a random world finds. Those in the core need the feature `mutants`. The bugs of
    /// [`Inside::OF_KEPT_LINKS`] need worlds whose haxes die often, which a test has.
    pub fn all() -> impl Iterator<Item = Self> {
        let planted = Inside::ALL.iter().copied().filter(|_| cfg!(feature = "mutants"));
        Self::OUTSIDE.into_iter().chain(planted.map(Self::Inside))
    }
}

/// Plants a bug in the core, or removes it.
pub(super) fn plant(mutant: Option<Mutant>) {
    #[cfg(feature = "mutants")]
    hax_core::base::mutant::plant(match mutant {
        Some(Mutant::Inside(inside)) => Some(inside),
        _ => None,
    });
    #[cfg(not(feature = "mutants"))]
    let _ = mutant;
}

impl World<'_, Bridge> {
    /// Alters the outputs and the deadline of a hax according to the bug.
    pub(super) fn mutate(&mut self, mutant: Mutant, out: &mut Vec<Output>, next: Next) -> Next {
        let mut altered = Vec::with_capacity(out.len());
        for output in out.drain(..) {
            self.alter(mutant, output, &mut altered);
        }
        *out = altered;
        match (mutant, next) {
            (Mutant::DeadlineNow, Next::WaitUntil { why, .. }) if self.sim.mutant_acts(50) => {
                Next::WaitUntil { at: Instant::from_micros(self.sim.now()), why }
            }
            (Mutant::DeadlineLost, Next::WaitUntil { .. }) if !self.sim.mutant_acts(4) => {
                Next::Wait
            }
            (_, next) => next,
        }
    }

    fn alter(&mut self, mutant: Mutant, output: Output, out: &mut Vec<Output>) {
        match (mutant, output) {
            (Mutant::ResponseLost, Output::Http(_)) if self.sim.mutant_acts(3) => {}
            (Mutant::ResponseTwice, Output::Http(response)) if self.sim.mutant_acts(3) => {
                out.extend([Output::Http(response.clone()), Output::Http(response)]);
            }
            (Mutant::CallLost, Output::Consul(port::Command::Call(_)))
                if self.sim.mutant_acts(20) => {}
            (Mutant::CallTwice, Output::Consul(port::Command::Call(call)))
                if self.sim.mutant_acts(20) =>
            {
                let call = || Output::Consul(port::Command::Call(call.clone()));
                out.extend([call(), call()]);
            }
            (Mutant::SetInsteadOfCas, Output::Consul(port::Command::Call(mut call))) => {
                let body = String::from_utf8_lossy(&call.body).replace(r#""cas""#, r#""set""#);
                call.body = Bytes::from(body);
                out.push(Output::Consul(port::Command::Call(call)));
            }
            (Mutant::WrongProcess, Output::Consul(port::Command::Call(mut call))) => {
                let (from, to) = (self.cast.motr[0].fid, self.cast.hax[self.hosts.len() - 1].fid);
                let key = |fid: Fid| format!("processes/{fid}\"");
                let body = String::from_utf8_lossy(&call.body).replace(&key(from), &key(to));
                call.body = Bytes::from(body);
                out.push(Output::Consul(port::Command::Call(call)));
            }
            (_, Output::Net(Command::Write { conn, segments })) => {
                let whole = Bytes::from(segments.concat());
                for bytes in self.alter_frame(mutant, whole) {
                    let segments = Arc::new([bytes]);
                    out.push(Output::Net(Command::Write { conn, segments }));
                }
            }
            (_, output) => out.push(output),
        }
    }

    fn alter_frame(&mut self, mutant: Mutant, frame: Bytes) -> Vec<Bytes> {
        let Some((header, mut items)) = read(&frame) else { return vec![frame] };
        let mut twice = false;
        for Item { header, fop } in &mut items {
            match (mutant, fop) {
                (Mutant::ReplyUnwritten, Fop::EntrypointRep(_)) => return Vec::new(),
                (Mutant::FrameCut, _) if self.sim.mutant_acts(40) => {
                    return vec![frame.slice(..frame.len() / 2)];
                }
                (Mutant::FalseReconnect, Fop::EntrypointRep(rep)) => rep.do_reconnect = 1,
                (Mutant::DeliveredTooMuch, Fop::LinkMsgRep { in_delivered, .. })
                    if self.sim.mutant_acts(10) =>
                {
                    *in_delivered += 4;
                }
                (Mutant::XidMinZero, Fop::LinkMsg(_)) if self.sim.mutant_acts(5) => {
                    header.xid_min = 0
                }
                (Mutant::TwoInFlight, Fop::LinkMsg(msg))
                    if msg.nr == 1 && self.sim.mutant_acts(5) =>
                {
                    twice = true;
                }
                (_, Fop::LinkMsg(msg)) => {
                    if let Some(Body::Nvec(nvec)) = msg.message.as_mut().map(|m| &mut m.body) {
                        let change = |note: Option<&mut hax_core::ha::note::Note>, state| {
                            note.into_iter().for_each(|note| note.state = state);
                        };
                        match mutant {
                            Mutant::NoteLost if nvec.id_of_get == 0 => drop(nvec.notes.pop()),
                            Mutant::NoteWrong => {
                                change(nvec.notes.first_mut(), ObjectState::Repaired);
                            }
                            Mutant::NoteUnknown => {
                                change(nvec.notes.last_mut(), ObjectState::Unknown);
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        let encoded = Bytes::from(packet::encode(header.src, header.dst, &items));
        if !twice {
            return vec![encoded];
        }
        for Item { header, .. } in &mut items {
            header.cookie.lo ^= 1 << 40;
            header.xid += 1;
            header.xid_min += 1;
        }
        vec![encoded, Bytes::from(packet::encode(header.src, header.dst, &items))]
    }
}

fn read(frame: &Bytes) -> Option<(Header, Vec<Item>)> {
    let header = Header::decode(frame.first_chunk::<HEADER>()?).ok()?;
    let items = packet::decode(&frame[HEADER..]).ok()?.collect::<Result<Vec<_>, _>>().ok()?;
    Some((header, items))
}
