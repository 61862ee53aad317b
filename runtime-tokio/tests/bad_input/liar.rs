//! A peer on the wire with real sockets that may send any bytes.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};

use hax_core::base::fid::Fid;
use hax_core::wire::codec::fop::{EntrypointReq, Fop, LinkMsg};
use hax_core::wire::codec::frame::{End, Frames};
use hax_core::wire::codec::item::{ItemHeader, NONE};
use hax_core::wire::codec::packet::{self, Item};
use hax_core::wire::codec::params::{Cookie, LinkIds, LinkParams, Uint128};

use crate::daemon::{LIMIT, Place};

/// The sizes of the headers: of a frame, of a packet, of an item.
pub(crate) const FRAME: usize = 160;
pub(crate) const PACKET: usize = 32;
pub(crate) const ITEM: usize = 104;

pub(crate) struct Liar {
    pub(crate) stream: TcpStream,
    pub(crate) at: SocketAddr,
    hax: SocketAddr,
    heard: Receiver<Item>,
    deaf: Arc<AtomicBool>,
}

impl Liar {
    /// Creates a peer that listens and has sent nothing yet.
    pub(crate) fn new(place: &Place) -> Self {
        let hax = place.motr();
        let listener = TcpListener::bind((hax.ip(), 0)).unwrap();
        let at = listener.local_addr().unwrap();
        let (say, heard) = channel();
        let deaf = Arc::new(AtomicBool::new(false));
        let is_deaf = Arc::clone(&deaf);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (say, is_deaf) = (say.clone(), Arc::clone(&is_deaf));
                std::thread::spawn(move || {
                    listen(stream, &is_deaf, |item| {
                        // The receiver may be gone at the end of the test.
                        let _ = say.send(item);
                    });
                });
            }
        });
        let stream = TcpStream::connect(hax).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Self { stream, at, hax, heard, deaf }
    }

    pub(crate) fn frame(&self, header: ItemHeader, fop: Fop) -> Vec<u8> {
        let src = End { addr: self.at, cookie: (1, 0) };
        let dst = End { addr: self.hax, cookie: (0, 0) };
        packet::encode(src, dst, &[Item { header, fop }])
    }

    /// Returns the frame that opens an rpc connection. It always gets a reply.
    pub(crate) fn hello(&self) -> Vec<u8> {
        self.frame(header(32, Uint128 { hi: 9, lo: 9 }, NONE, 0, NONE), Fop::ConnEstablish)
    }

    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn hears(&self) -> Item {
        self.heard.recv_timeout(LIMIT).expect("an answer")
    }

    /// Opens a session.
    pub(crate) fn open(&mut self) -> ItemHeader {
        let uuid = Uint128 { hi: 1, lo: self.at.port().into() };
        self.say(&self.frame(header(32, uuid, NONE, 0, NONE), Fop::ConnEstablish));
        let said = self.hears();
        let Fop::ConnEstablishRep { rc: 0, sender } = said.fop else { panic!("{said:?}") };
        let establish = header(34, uuid, sender, 0, 1);
        self.say(&self.frame(establish, Fop::SessionEstablish { sender }));
        let said = self.hears();
        let Fop::SessionEstablishRep { rc: 0, session, .. } = said.fop else { panic!("{said:?}") };
        header(207, uuid, sender, session, 1)
    }

    /// Opens a link of this process. Returns the header of its next message.
    pub(crate) fn link(&mut self, process: Fid) -> (ItemHeader, LinkIds) {
        let session = self.open();
        self.say(&self.frame(ItemHeader { opcode: 117, ..session }, ask(process)));
        let said = self.hears();
        let Fop::EntrypointRep(rep) = said.fop else { panic!("{said:?}") };
        (ItemHeader { xid: 2, xid_min: 2, ..session }, rep.params.ids)
    }

    /// Makes the peer accept connections without reading from them.
    pub(crate) fn stops_reading(&self) {
        self.deaf.store(true, Ordering::Relaxed);
    }

    /// Waits for the end of the connection. Returns whether hax closed it.
    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0; 16]), Ok(0))
    }
}

fn listen(mut stream: TcpStream, is_deaf: &AtomicBool, mut tell: impl FnMut(Item)) {
    let (mut frames, mut buffer) = (Frames::default(), [0; 4096]);
    while !is_deaf.load(Ordering::Relaxed)
        && let Ok(n @ 1..) = stream.read(&mut buffer)
    {
        frames.feed(buffer[..n].to_vec().into());
        while let Some((_, payload)) = frames.cut().unwrap() {
            packet::decode(&payload).unwrap().for_each(|item| tell(item.unwrap()));
        }
    }
    while is_deaf.load(Ordering::Relaxed) {
        // The connection stays open, and is not read.
        std::thread::park();
    }
}

pub(crate) fn header(
    opcode: u32,
    uuid: Uint128,
    sender: u64,
    session: u64,
    xid: u64,
) -> ItemHeader {
    let xid_min = if xid == NONE { 0 } else { xid };
    let cookie = Uint128 { hi: 1, lo: xid };
    ItemHeader { opcode, flags: 1, epoch: 0, uuid, sender, session, xid_min, xid, cookie }
}

/// Returns a first entrypoint request.
pub(crate) fn ask(process: Fid) -> Fop {
    Fop::EntrypointReq(Box::new(EntrypointReq {
        first: 1,
        generation: 1,
        process,
        params: LinkParams::default(),
        git_rev: Box::new([]),
        pid: 1,
        cookie_expected: Cookie::NONE,
    }))
}

/// Returns a message that only acknowledges all messages below this tag.
pub(crate) fn confirm(ids: LinkIds, in_delivered: u64) -> LinkMsg {
    LinkMsg { nr: 0, message: None, tag: 0, ids, out_next: 2, in_delivered, seq: 1 }
}
