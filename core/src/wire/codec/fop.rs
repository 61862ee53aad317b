//! Layers 4 and 5: the contents of an item (`rpc/session_fops.h`, `ha/entrypoint_fops.h`, `ha/link_fops.h`).

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::base::fid::Fid;
use crate::ha::message::Message;
use crate::wire::codec::bytes::{DecodeError, Put, Reader};
use crate::wire::codec::message;
use crate::wire::codec::params::{Cookie, LinkIds, LinkParams};

/// The opcodes (`rpc/rpc_opcodes.h`).
#[expect(missing_docs, reason = "the names are Motr's")]
pub mod opcode {
    pub const CONN_ESTABLISH: u32 = 32;
    pub const CONN_ESTABLISH_REP: u32 = 33;
    pub const SESSION_ESTABLISH: u32 = 34;
    pub const SESSION_ESTABLISH_REP: u32 = 35;
    pub const SESSION_TERMINATE: u32 = 36;
    pub const SESSION_TERMINATE_REP: u32 = 37;
    pub const CONN_TERMINATE: u32 = 38;
    pub const CONN_TERMINATE_REP: u32 = 39;
    pub const ENTRYPOINT_REQ: u32 = 117;
    pub const ENTRYPOINT_REP: u32 = 118;
    pub const LINK_MSG: u32 = 207;
    pub const LINK_MSG_REP: u32 = 208;
}

/// A request or a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named as everywhere")]
pub enum Fop {
    /// 32: opens an rpc connection.
    ConnEstablish,
    /// 33
    ConnEstablishRep { rc: i32, sender: u64 },
    /// 34: opens a session.
    SessionEstablish { sender: u64 },
    /// 35
    SessionEstablishRep { rc: i32, session: u64, sender: u64 },
    /// 36: ends a session.
    SessionTerminate { sender: u64, session: u64 },
    /// 37
    SessionTerminateRep { rc: i32, session: u64, sender: u64 },
    /// 38: ends an rpc connection.
    ConnTerminate { sender: u64 },
    /// 39
    ConnTerminateRep { rc: i32, sender: u64 },
    /// 117: requests the entrypoint.
    EntrypointReq(Box<EntrypointReq>),
    /// 118: replies with the entrypoint.
    EntrypointRep(Box<EntrypointRep>),
    /// 207: a message, or only the position up to which messages were delivered.
    LinkMsg(Box<LinkMsg>),
    /// 208
    LinkMsgRep { rc: i32, out_next: u64, in_delivered: u64 },
    /// Any other opcode; its payload is not kept.
    Unknown { opcode: u32 },
}

/// 117, `m0_ha_entrypoint_req_fop`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntrypointReq {
    /// Not 0 if the requester has received no reply in its life.
    pub first: i32,
    /// The requester's own counter.
    pub generation: u64,
    /// The requesting process.
    pub process: Fid,
    /// The process's link; zero in a first request.
    pub params: LinkParams,
    /// The process's version of Motr.
    pub git_rev: Box<[u8]>,
    /// The process's pid.
    pub pid: u64,
    /// The server's life, as known to the process.
    pub cookie_expected: Cookie,
}

/// 118, `m0_ha_entrypoint_rep_fop`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntrypointRep {
    /// The quorum of confds.
    pub quorum: u32,
    /// The confds.
    pub confds: Vec<Fid>,
    /// The endpoints of the confds.
    pub confd_endpoints: Vec<Box<[u8]>>,
    /// The active resource manager.
    pub rm: Fid,
    /// The endpoint of the resource manager.
    pub rm_endpoint: Box<[u8]>,
    /// The control value: CONSUME 0, QUIT 1, QUERY 2.
    pub control: u32,
    /// The link from the requester's point of view.
    pub params: LinkParams,
    /// Not 0 if the server does not know the requester's link; the requester must continue with `params`.
    pub do_reconnect: u64,
    /// Not 0 if the server has ended the requester's link. The requester aborts.
    pub disconnected_previously: u32,
    /// The server's life.
    pub cookie_actual: Cookie,
}

/// The control value of 118 for a usable reply.
pub const CONSUME: u32 = 0;
/// The control value of 118 for a repetition of the request.
pub const QUERY: u32 = 2;

/// 207, `m0_ha_link_msg_fop`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkMsg {
    /// 1 with a message, 0 without one.
    pub nr: u64,
    /// The message, if there is one.
    pub message: Option<Box<Message>>,
    /// The tag of the message.
    pub tag: u64,
    /// The link from the sender's point of view.
    pub ids: LinkIds,
    /// The sender's `out.next`, including this message.
    pub out_next: u64,
    /// All lower tags were delivered to the sender's application.
    pub in_delivered: u64,
    /// A counter of the messages built for the link. Only its first few values matter, to a warning.
    pub seq: u64,
}

impl LinkMsg {
    /// Returns the part after the message's body. It differs from link to link.
    pub(crate) fn tail(&self) -> [u8; 80] {
        let Self { tag, ids: LinkIds { local, remote, connection }, .. } = *self;
        let ids = [local.hi, local.lo, remote.hi, remote.lo, connection.hi, connection.lo];
        let words = [tag].into_iter().chain(ids);
        let words = words.chain([self.out_next, self.in_delivered, self.seq]);
        let mut tail = [0; 80];
        for (bytes, word) in tail.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
        tail
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let nr = from.u64()?;
        let message = message::decode(from)?;
        Ok(Self {
            nr,
            message: (nr != 0).then(|| Box::new(message)),
            tag: from.u64()?,
            ids: LinkIds {
                local: from.uint128()?,
                remote: from.uint128()?,
                connection: from.uint128()?,
            },
            out_next: from.u64()?,
            in_delivered: from.u64()?,
            seq: from.u64()?,
        })
    }
}

impl Fop {
    /// Returns the opcode.
    #[must_use]
    pub fn opcode(&self) -> u32 {
        match self {
            Self::ConnEstablish => opcode::CONN_ESTABLISH,
            Self::ConnEstablishRep { .. } => opcode::CONN_ESTABLISH_REP,
            Self::SessionEstablish { .. } => opcode::SESSION_ESTABLISH,
            Self::SessionEstablishRep { .. } => opcode::SESSION_ESTABLISH_REP,
            Self::SessionTerminate { .. } => opcode::SESSION_TERMINATE,
            Self::SessionTerminateRep { .. } => opcode::SESSION_TERMINATE_REP,
            Self::ConnTerminate { .. } => opcode::CONN_TERMINATE,
            Self::ConnTerminateRep { .. } => opcode::CONN_TERMINATE_REP,
            Self::EntrypointReq(_) => opcode::ENTRYPOINT_REQ,
            Self::EntrypointRep(_) => opcode::ENTRYPOINT_REP,
            Self::LinkMsg(_) => opcode::LINK_MSG,
            Self::LinkMsgRep { .. } => opcode::LINK_MSG_REP,
            Self::Unknown { opcode } => *opcode,
        }
    }

    /// Returns whether the fop is a reply.
    #[must_use]
    pub fn is_reply(&self) -> bool {
        matches!(
            self,
            Self::ConnEstablishRep { .. }
                | Self::SessionEstablishRep { .. }
                | Self::SessionTerminateRep { .. }
                | Self::ConnTerminateRep { .. }
                | Self::EntrypointRep(_)
                | Self::LinkMsgRep { .. }
        )
    }

    /// Decodes an item's payload.
    ///
    /// # Errors
    ///
    /// If the payload is not exactly that of the operation.
    pub fn decode(opcode: u32, payload: &[u8]) -> Result<Self, DecodeError> {
        let from = &mut Reader::new(payload);
        let fop = match opcode {
            // 64 bytes are declared for the protocol's name, one is sent and none is examined.
            opcode::CONN_ESTABLISH => {
                from.u8()?;
                Self::ConnEstablish
            }
            opcode::CONN_ESTABLISH_REP => {
                Self::ConnEstablishRep { rc: from.i32()?, sender: from.u64()? }
            }
            opcode::SESSION_ESTABLISH => Self::SessionEstablish { sender: from.u64()? },
            opcode::SESSION_ESTABLISH_REP => {
                let (rc, session, sender) = (from.i32()?, from.u64()?, from.u64()?);
                Self::SessionEstablishRep { rc, session, sender }
            }
            opcode::SESSION_TERMINATE => {
                Self::SessionTerminate { sender: from.u64()?, session: from.u64()? }
            }
            opcode::SESSION_TERMINATE_REP => {
                let (rc, session, sender) = (from.i32()?, from.u64()?, from.u64()?);
                Self::SessionTerminateRep { rc, session, sender }
            }
            opcode::CONN_TERMINATE => Self::ConnTerminate { sender: from.u64()? },
            opcode::CONN_TERMINATE_REP => {
                Self::ConnTerminateRep { rc: from.i32()?, sender: from.u64()? }
            }
            opcode::ENTRYPOINT_REQ => Self::EntrypointReq(Box::new(EntrypointReq::decode(from)?)),
            opcode::ENTRYPOINT_REP => Self::EntrypointRep(Box::new(EntrypointRep::decode(from)?)),
            opcode::LINK_MSG => Self::LinkMsg(Box::new(LinkMsg::decode(from)?)),
            opcode::LINK_MSG_REP => {
                let (rc, out_next, in_delivered) = (from.i32()?, from.u64()?, from.u64()?);
                Self::LinkMsgRep { rc, out_next, in_delivered }
            }
            opcode => return Ok(Self::Unknown { opcode }),
        };
        from.end()?;
        Ok(fop)
    }

    /// Appends the payload.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::ConnEstablish => out.u8(0),
            Self::ConnEstablishRep { rc, sender } | Self::ConnTerminateRep { rc, sender } => {
                out.i32(*rc);
                out.u64(*sender);
            }
            Self::SessionEstablish { sender } | Self::ConnTerminate { sender } => out.u64(*sender),
            Self::SessionEstablishRep { rc, session, sender }
            | Self::SessionTerminateRep { rc, session, sender } => {
                out.i32(*rc);
                out.u64(*session);
                out.u64(*sender);
            }
            Self::SessionTerminate { sender, session } => out.pair((*sender, *session)),
            Self::EntrypointReq(req) => req.encode(out),
            Self::EntrypointRep(rep) => rep.encode(out),
            Self::LinkMsg(msg) => {
                out.u64(msg.nr);
                match &msg.message {
                    Some(message) => message::encode(message, out),
                    None => message::encode_none(out),
                }
                out.bytes(&msg.tail());
            }
            Self::LinkMsgRep { rc, out_next, in_delivered } => {
                out.i32(*rc);
                out.pair((*out_next, *in_delivered));
            }
            Self::Unknown { .. } => {}
        }
    }
}

impl EntrypointReq {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            first: from.i32()?,
            generation: from.u64()?,
            process: from.fid()?,
            params: LinkParams::decode(from)?,
            git_rev: from.buf()?.into(),
            pid: from.u64()?,
            cookie_expected: Cookie::decode(from)?,
        })
    }

    fn encode(&self, out: &mut impl Put) {
        out.i32(self.first);
        out.u64(self.generation);
        out.fid(self.process);
        self.params.encode(out);
        out.buf(&self.git_rev);
        out.u64(self.pid);
        self.cookie_expected.encode(out);
    }
}

impl EntrypointRep {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let quorum = from.u32()?;
        // A count is accepted only if enough bytes for it follow.
        let confds = (0..count(from, 16)?).map(|_| from.fid()).collect::<Result<_, _>>()?;
        let confd_endpoints =
            (0..count(from, 8)?).map(|_| from.buf().map(Box::from)).collect::<Result<_, _>>()?;
        Ok(Self {
            quorum,
            confds,
            confd_endpoints,
            rm: from.fid()?,
            rm_endpoint: from.buf()?.into(),
            control: from.u32()?,
            params: LinkParams::decode(from)?,
            do_reconnect: from.u64()?,
            disconnected_previously: from.u32()?,
            cookie_actual: Cookie::decode(from)?,
        })
    }

    fn encode(&self, out: &mut impl Put) {
        let count = |n: usize| u32::try_from(n).expect("far fewer confds than that");
        out.u32(self.quorum);
        out.u32(count(self.confds.len()));
        for fid in &self.confds {
            out.fid(*fid);
        }
        out.u32(count(self.confd_endpoints.len()));
        for endpoint in &self.confd_endpoints {
            out.buf(endpoint);
        }
        out.fid(self.rm);
        out.buf(&self.rm_endpoint);
        out.u32(self.control);
        self.params.encode(out);
        out.u64(self.do_reconnect);
        out.u32(self.disconnected_previously);
        self.cookie_actual.encode(out);
    }
}

fn count(from: &mut Reader<'_>, each: usize) -> Result<usize, DecodeError> {
    let n = from.u32()? as usize;
    if n > from.left() / each {
        Err(DecodeError("more elements than bytes for them"))
    } else {
        Ok(n)
    }
}
