//! Motr processes over real sockets. They are as cheap as possible, so that their load is not what is
//! measured. Each listens, has one connection and one session to hax, and may have any number of requests in
//! flight on it. Requests of hax are answered at once.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};
use futures_lite::future::{or, pending};
use hax_benches::rig::clock;
use hax_core::base::fid::Fid;
use hax_core::base::time::WallClock;
use hax_core::ha::message::{Body, Message};
use hax_core::wire::codec::fop::{EntrypointReq, Fop, LinkMsg};
use hax_core::wire::codec::frame::{End, Frames};
use hax_core::wire::codec::item::{self, ItemHeader};
use hax_core::wire::codec::packet::{self, Item};
use hax_core::wire::codec::params::{Cookie, LinkParams, Uint128};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// An event of a peer.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A reply while a connection or session is opened.
    Opened(Fop),
    /// An entrypoint reply, with the parameters of the link if it made one.
    Answered(LinkParams),
    /// A message of hax.
    Said(Box<Message>),
    /// hax has received and acknowledged all messages with lower tags.
    Delivered(u64),
}

/// One process.
pub(crate) struct Peer {
    pub(crate) fid: Fid,
    line: Rc<Line>,
    /// The tasks end with the peer, and its connections with them.
    _tasks: JoinSet<()>,
    heard: mpsc::UnboundedReceiver<(Instant, Heard)>,
    cookie: Cookie,
    sender: u64,
    session: u64,
    xid: u64,
    params: LinkParams,
}

/// The shared state of a peer's tasks.
struct Line {
    me: SocketAddr,
    hax: SocketAddr,
    frames: Cell<u64>,
    /// The queue to the writing task.
    out: mpsc::UnboundedSender<Bytes>,
    /// Our own next tag.
    out_next: Cell<u64>,
    /// All messages of hax with lower tags have been received.
    taken: Cell<u64>,
}

impl Line {
    fn frame(&self, header: ItemHeader, fop: Fop) -> Bytes {
        self.frames.set(self.frames.get() + 1);
        let src = End { addr: self.me, cookie: (self.frames.get(), 0) };
        let dst = End { addr: self.hax, cookie: (0, 0) };
        packet::encode(src, dst, &[Item { header, fop }]).into()
    }

    /// Answers a request of hax, and passes its events to `tell`.
    fn take(&self, Item { header, fop }: Item, mut tell: impl FnMut(Heard)) {
        let reply = |fop: Fop| {
            let frame = self.frame(header.reply(fop.opcode()), fop);
            let _ = self.out.send(frame);
        };
        match fop {
            Fop::ConnEstablish => reply(Fop::ConnEstablishRep { rc: 0, sender: 7 }),
            Fop::SessionEstablish { sender } => {
                reply(Fop::SessionEstablishRep { rc: 0, session: 9, sender });
            }
            Fop::LinkMsg(msg) => {
                let new = msg.nr != 0 && msg.tag >= self.taken.get();
                if new {
                    self.taken.set(msg.tag + 2);
                }
                let (out_next, in_delivered) = (self.out_next.get(), self.taken.get());
                reply(Fop::LinkMsgRep { rc: 0, out_next, in_delivered });
                tell(Heard::Delivered(msg.in_delivered));
                msg.message.filter(|_| new).into_iter().for_each(|m| tell(Heard::Said(m)));
            }
            Fop::LinkMsgRep { in_delivered, .. } => tell(Heard::Delivered(in_delivered)),
            Fop::EntrypointRep(rep) => tell(Heard::Answered(rep.params)),
            fop => tell(Heard::Opened(fop)),
        }
    }
}

impl Peer {
    /// Creates a process with a connection and a session to `hax`. It reads while `gate` is open.
    pub(crate) async fn connect(
        fid: Fid,
        hax: SocketAddr,
        gate: watch::Receiver<bool>,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let me = listener.local_addr()?;
        let stream = TcpStream::connect(hax).await.context("hax listens")?;
        let (out, writes) = mpsc::unbounded_channel();
        let (tell, heard) = mpsc::unbounded_channel();
        let (frames, out_next) = (Cell::new(0), Cell::new(0));
        let line = Rc::new(Line { me, hax, frames, out, out_next, taken: Cell::new(0) });
        let mut tasks = JoinSet::new();
        tasks.spawn_local(write_all(hax, stream, writes));
        let own = Rc::clone(&line);
        tasks.spawn_local(async move {
            let mut readers = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let read = read_all(stream, Rc::clone(&own), tell.clone(), gate.clone());
                readers.spawn_local(read);
            }
        });
        let (cookie, params) = (Cookie::NONE, LinkParams::default());
        let sender = item::NONE;
        let mut peer =
            Self { fid, line, _tasks: tasks, heard, cookie, sender, session: 0, xid: 0, params };
        peer.open().await?;
        Ok(peer)
    }

    fn header(&self, opcode: u32, xid: u64, xid_min: u64) -> ItemHeader {
        let uuid = Uint128 { hi: 1, lo: u64::from(self.line.me.port()) };
        let cookie = Uint128 { hi: 1, lo: self.line.frames.get() + 1 };
        let (sender, session) = (self.sender, self.session);
        ItemHeader { opcode, flags: 1, epoch: 0, uuid, sender, session, xid_min, xid, cookie }
    }

    async fn open(&mut self) -> anyhow::Result<()> {
        let header = self.header(32, item::NONE, 0);
        let _ = self.line.out.send(self.line.frame(header, Fop::ConnEstablish));
        let (_, Heard::Opened(Fop::ConnEstablishRep { sender, .. })) = self.hear().await? else {
            bail!("no connection");
        };
        self.sender = sender;
        let header = self.header(34, 1, 1);
        let _ = self.line.out.send(self.line.frame(header, Fop::SessionEstablish { sender }));
        let (_, Heard::Opened(Fop::SessionEstablishRep { session, .. })) = self.hear().await?
        else {
            bail!("no session");
        };
        self.session = session;
        Ok(())
    }

    /// Returns the frame of an entrypoint request; it is a first request while there is no link.
    pub(crate) fn asks(&mut self) -> Bytes {
        self.xid += 1;
        let header = self.header(117, self.xid, 1);
        let first = self.params == LinkParams::default();
        let req = EntrypointReq {
            first: first.into(),
            generation: self.xid,
            process: self.fid,
            params: self.params,
            git_rev: (*b"e2e").into(),
            pid: 1,
            cookie_expected: self.cookie,
        };
        self.line.frame(header, Fop::EntrypointReq(Box::new(req)))
    }

    /// Returns the frame of a message, and the tag that hax's acknowledgement must exceed.
    pub(crate) fn says(&mut self, body: Body) -> (Bytes, u64) {
        self.xid += 1;
        let header = self.header(207, self.xid, 1);
        let tag = self.line.out_next.get();
        self.line.out_next.set(tag + 2);
        let message = Message { fid: self.fid, ..Message::new(WallClock(1), body) };
        let msg = LinkMsg {
            nr: 1,
            message: Some(Box::new(message)),
            tag,
            ids: self.params.ids,
            out_next: tag + 2,
            in_delivered: self.line.taken.get(),
            seq: self.xid,
        };
        (self.line.frame(header, Fop::LinkMsg(Box::new(msg))), tag)
    }

    /// Queues bytes for the writing task.
    pub(crate) fn write(&self, bytes: Bytes) {
        let _ = self.line.out.send(bytes);
    }

    /// Waits for the next event; returns it with its time.
    pub(crate) async fn hear(&mut self) -> anyhow::Result<(Instant, Heard)> {
        self.heard.recv().await.context("hax is gone")
    }

    /// Waits for the next entrypoint reply; the link of the first reply becomes this peer's link.
    pub(crate) async fn answered(&mut self) -> anyhow::Result<Instant> {
        loop {
            let (at, heard) = self.hear().await?;
            if let Heard::Answered(params) = heard {
                if self.params == LinkParams::default() {
                    self.params = params;
                    self.line.out_next.set(params.tags_local.next);
                    self.line.taken.set(params.tags_remote.delivered);
                }
                return Ok(at);
            }
        }
    }

    /// Waits until hax has received the message with this tag.
    pub(crate) async fn delivered(&mut self, tag: u64) -> anyhow::Result<Instant> {
        loop {
            if let (at, Heard::Delivered(below)) = self.hear().await?
                && below > tag
            {
                return Ok(at);
            }
        }
    }

    /// Waits for the next message of hax; returns it with its time.
    pub(crate) async fn told(&mut self) -> anyhow::Result<(Instant, Box<Message>)> {
        loop {
            if let (at, Heard::Said(message)) = self.hear().await? {
                return Ok((at, message));
            }
        }
    }

    /// Drops the events so far; returns the number of notes in them.
    pub(crate) fn drain(&mut self) -> usize {
        let mut notes = 0;
        while let Ok((_, heard)) = self.heard.try_recv() {
            if let Heard::Said(message) = heard
                && let Body::Nvec(nvec) = message.body
            {
                notes += nvec.notes.len();
            }
        }
        notes
    }
}

/// Writes to hax. After the end of hax, a connection to its next life is opened for what is to be written next.
async fn write_all(hax: SocketAddr, stream: TcpStream, mut writes: mpsc::UnboundedReceiver<Bytes>) {
    let mut connected = Some(stream);
    loop {
        let next = async { Some(writes.recv().await) };
        let end = async {
            ended(&mut connected).await;
            None
        };
        // What is to be written may be for the next life of hax.
        let Some(next) = or(end, next).await else {
            connected = None;
            continue;
        };
        let Some(bytes) = next else { return };
        if connected.is_none() {
            connected = TcpStream::connect(hax).await.ok();
        }
        let Some(stream) = &mut connected else { return };
        if stream.set_nodelay(true).is_err() || stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Waits for the end of a connection: hax sends nothing else on it.
async fn ended(connected: &mut Option<TcpStream>) {
    match connected {
        Some(stream) => drop(stream.read(&mut [0]).await),
        None => pending().await,
    }
}

async fn read_all(
    mut from: TcpStream,
    line: Rc<Line>,
    tell: mpsc::UnboundedSender<(Instant, Heard)>,
    mut gate: watch::Receiver<bool>,
) {
    let mut frames = Frames::default();
    let mut buffer = BytesMut::with_capacity(16 << 10);
    while gate.wait_for(|open| *open).await.is_ok() {
        buffer.reserve(16 << 10);
        if !matches!(from.read_buf(&mut buffer).await, Ok(n) if n > 0) {
            return;
        }
        let at = clock();
        frames.feed(buffer.split().freeze());
        while let Ok(Some((_, payload))) = frames.cut() {
            for item in packet::decode(&payload).into_iter().flatten().flatten() {
                line.take(item, |heard| {
                    let _ = tell.send((at, heard));
                });
            }
        }
    }
}
