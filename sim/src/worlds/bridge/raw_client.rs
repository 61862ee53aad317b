//! Clients of a hax that are not well-behaved Motr processes.

use std::net::SocketAddr;

use bytes::Bytes;
use hax_core::base::fid::Fid;
use hax_core::wire::codec::fop::{EntrypointReq, Fop, LinkMsg};
use hax_core::wire::codec::frame::End;
use hax_core::wire::codec::item::ItemHeader;
use hax_core::wire::codec::packet::{self, Item};
use hax_core::wire::codec::params::{Cookie, LinkParams, Tags, Uint128};

use super::{Bridge, World};

impl World<'_, Bridge> {
    /// Makes a raw client send bytes to a hax. Some of them concern a process of the hax's node.
    pub(super) fn raw_client(&mut self, hax: usize, motr: usize) {
        let own = SocketAddr::from(([127, 0, 9, 9], 30_000));
        let process = self.cast.motr[motr].addr;
        let (from, bytes) = match self.sim.choose(11) {
            // A frame with a wrong bit.
            0 => {
                let mut bytes = self.packet(hax, own, Fop::ConnEstablish, 0).to_vec();
                let at = self.sim.index(bytes.len());
                bytes[at] ^= 1 << self.sim.choose(8);
                (own, Bytes::from(bytes))
            }
            1 => (own, Bytes::from_static(b"GET / HTTP/1.1\r\nHost: hax\r\n\r\n")),
            // A truncated frame.
            2 => {
                let bytes = self.packet(hax, own, Fop::ConnEstablish, 0);
                let keep = self.sim.index(bytes.len());
                (own, bytes.slice(..1 + keep))
            }
            // A connection without any bytes.
            3 => return self.connect_raw_client(hax, own, Bytes::new()),
            // A wrong address of the sender.
            4 => {
                let elsewhere = SocketAddr::from(([10, 1, 2, 3], 4));
                (own, self.packet(hax, elsewhere, Fop::ConnEstablish, 0))
            }
            5 => (own, self.packet(hax, own, Fop::Unknown { opcode: 4_711 }, 1)),
            // An unconfigured process, or impossible tags.
            6 | 9 | 10 => (own, self.draw_request(hax, own)),
            // A wrong xid_min.
            7 => (own, self.packet(hax, own, Fop::SessionEstablish { sender: 5 }, 0)),
            _ => (process, self.draw_false_ack(hax, motr)),
        };
        let peer = SocketAddr::new(from.ip(), 40_000);
        self.connect_raw_client(hax, peer, bytes);
    }

    fn packet(&mut self, hax: usize, from: SocketAddr, fop: Fop, xid: u64) -> Bytes {
        let n = 1_000 + self.sim.choose(1_000);
        let uuid = Uint128 { hi: n, lo: n };
        let header = ItemHeader {
            opcode: fop.opcode(),
            flags: 1,
            epoch: 0,
            uuid,
            sender: n,
            session: n,
            xid_min: xid,
            xid,
            cookie: uuid,
        };
        let src = End { addr: from, cookie: (1, 1) };
        let dst = End { addr: self.cast.hax[hax].addr, cookie: (0, 0) };
        Bytes::from(packet::encode(src, dst, &[Item { header, fop }]))
    }

    fn draw_request(&mut self, hax: usize, from: SocketAddr) -> Bytes {
        let unsound = self.sim.choose(2) == 1;
        let wrong = Tags { confirmed: 9, delivered: 4, next: 3, assign: 1 };
        let tags_local = if unsound { wrong } else { Tags::default() };
        let params = LinkParams { tags_local, ..LinkParams::default() };
        let req = EntrypointReq {
            first: i32::from(!unsound),
            generation: 1,
            process: Fid::process(77),
            params,
            git_rev: Box::from(&b"stranger"[..]),
            pid: 1,
            cookie_expected: Cookie::NONE,
        };
        self.packet(hax, from, Fop::EntrypointReq(Box::new(req)), 1)
    }

    /// Returns a message in the name of a process that acknowledges more than it can have received.
    fn draw_false_ack(&mut self, hax: usize, motr: usize) -> Bytes {
        let ids = self.cast.oracle.link_of(motr).unwrap_or_default();
        let msg = LinkMsg {
            nr: 0,
            message: None,
            tag: 0,
            ids,
            out_next: 2,
            in_delivered: 1_000_001,
            seq: 9,
        };
        let from = self.cast.motr[motr].addr;
        self.packet(hax, from, Fop::LinkMsg(Box::new(msg)), 1)
    }
}
