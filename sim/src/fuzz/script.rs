//! The fuzzer's bytes as a script: each next step is read from their front.

use std::sync::Arc;

use hax_core::base::errno::Errno;
use hax_core::base::fid::Fid;
use hax_core::base::time::{Instant, Now, WallClock};
use hax_core::ha::entrypoint::{Confd, Entrypoint};
use hax_core::ha::message::{Body, Message};
use hax_core::ha::note::{Note, Nvec, NvecKind, ObjectState};
use hax_core::ha::process::{ProcessEvent, ProcessEventKind, ProcessType};
use hax_core::wire::codec::fop::Fop;
use hax_core::wire::codec::item::ItemHeader;
use hax_core::wire::codec::packet::Item;
use hax_core::wire::codec::params::Uint128;

/// The opcodes of items: the wire's requests and replies, and an unknown opcode.
const OPCODES: [u32; 13] = [32, 33, 34, 35, 36, 37, 38, 39, 117, 118, 207, 208, 99];

/// A reader of bytes from their front. After the last byte, 0 is read.
#[derive(Clone, Copy)]
pub(super) struct Script<'a>(pub(super) &'a [u8]);

impl<'a> Script<'a> {
    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n.max(1)
    }

    pub(super) fn u16(&mut self) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// Reads a number with a likely meaning: small, near the maximum, or any number.
    pub(super) fn number(&mut self) -> u64 {
        match self.byte() {
            n @ 0..=199 => u64::from(n % 16),
            n @ 200..=229 => u64::MAX - u64::from(n - 200),
            _ => self.u64(),
        }
    }

    /// Takes the next `n` bytes, or all remaining ones.
    pub(super) fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Takes the bytes before the next `end`, and skips the `end`.
    pub(super) fn until(&mut self, end: u8) -> &'a [u8] {
        let n = self.0.iter().position(|byte| *byte == end);
        let taken = self.take(n.unwrap_or(self.0.len()));
        self.take(1);
        taken
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// Builds a possible item of a peer. Its payload is arbitrary, and everything around it is valid.
    pub(super) fn item(&mut self) -> Option<Item> {
        let opcode = OPCODES[self.below(OPCODES.len())];
        let header = ItemHeader {
            opcode,
            flags: 1,
            epoch: 0,
            uuid: Uint128 { hi: 1, lo: u64::from(self.byte()) },
            sender: self.number(),
            session: self.number(),
            xid_min: self.number(),
            xid: self.number(),
            cookie: Uint128 { hi: 0, lo: 0 },
        };
        let n = self.u16();
        let fop = Fop::decode(opcode, self.take(n)).ok()?;
        Some(Item { header, fop })
    }

    /// Builds a message of a process.
    pub(super) fn message(&mut self, from: Fid) -> Message {
        let body = match self.byte() % 8 {
            0..=3 => Body::Process(ProcessEvent {
                event: ProcessEventKind::from_wire(self.number()),
                kind: ProcessType::from_wire(self.number()),
                pid: self.number(),
            }),
            4 => self.states(NvecKind::Get),
            5 => Body::FailureVecReq { pool: self.fid(), cookie: (1, 2) },
            6 => Body::KeepaliveReq((self.number(), 3)),
            _ => Body::Rpc { attempts: self.number(), state: self.number() },
        };
        Message { fid: from, ..Message::new(WallClock(self.number()), body) }
    }

    /// Builds a valid message of hax for a process.
    pub(super) fn news(&mut self) -> Message {
        let body = match self.byte() % 4 {
            0..=1 => self.states(NvecKind::Set),
            2 => {
                let (pool, cookie) = (self.fid(), (1, 2));
                Body::FailureVecRep { pool, cookie, notes: Vec::new() }
            }
            _ => Body::KeepaliveRep { id: (1, 2), counter: self.number() },
        };
        Message::new(WallClock(self.number()), body)
    }

    fn states(&mut self, kind: NvecKind) -> Body {
        const STATES: [ObjectState; 3] =
            [ObjectState::Online, ObjectState::Failed, ObjectState::Transient];
        let (id_of_get, ignore_same_state) = (self.number(), u64::from(self.byte() % 2));
        let n = self.below(5);
        let notes = (0..n).map(|_| Note { fid: self.fid(), state: STATES[self.below(3)] });
        let notes = notes.collect();
        Body::Nvec(Box::new(Nvec { kind, id_of_get, ignore_same_state, notes }))
    }

    fn fid(&mut self) -> Fid {
        const KINDS: [u8; 6] = *b"rsdoP\0";
        Fid::typed(KINDS[self.below(KINDS.len())], 1, self.number())
    }

    /// Builds a bridge's reply to a request for the entrypoint.
    pub(super) fn entrypoint(&mut self) -> Result<Arc<Entrypoint>, Errno> {
        match self.byte() % 4 {
            0 => Err(Errno::EAGAIN),
            1 => Ok(Arc::default()),
            _ => {
                let confd =
                    Confd { fid: Fid::process(2), endpoint: "10.0.0.2@tcp:12345:2:1".into() };
                let rm = Fid::typed(b's', 1, 3);
                let rm_endpoint = confd.endpoint.clone();
                Ok(Arc::new(Entrypoint { quorum: 1, confds: vec![confd], rm, rm_endpoint }))
            }
        }
    }
}

/// A clock. Its owner advances it.
#[derive(Default)]
pub(super) struct Clock(pub(super) u64);

impl Clock {
    pub(super) fn now(&self) -> Now {
        Now {
            mono: Instant::from_micros(self.0),
            wall: WallClock(1_795_243_244_000_000_000 + self.0),
        }
    }
}
