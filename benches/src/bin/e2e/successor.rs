//! The least that a next life of hax can do for its processes: the same connections and messages, without an
//! endpoint, a bridge, a state file and Consul.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::BytesMut;
use hax_core::ha::message::Message;
use hax_core::wire::codec::fop::{Fop, LinkMsg};
use hax_core::wire::codec::frame::{End, Frames};
use hax_core::wire::codec::item::{self, ItemHeader};
use hax_core::wire::codec::packet::{self, Item};
use hax_core::wire::codec::params::{LinkParams, Uint128};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

/// The timeout of a reply.
const LIMIT: Duration = Duration::from_secs(20);

/// The tasks that wait for replies, by the address of the process.
type Waiting = Rc<RefCell<BTreeMap<SocketAddr, mpsc::UnboundedSender<()>>>>;

/// Connects to each process, opens a session to it and sends it these messages, the first with this tag. Uses
/// one thread, as hax does; returns when all have been answered.
pub(crate) fn run(
    listen: SocketAddr,
    processes: &[SocketAddr],
    messages: &[Message],
    tag: u64,
) -> anyhow::Result<()> {
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&rt, async {
        let listener = TcpListener::bind(listen).await.context("the address of hax")?;
        let waiting = Waiting::default();
        let mut replies = JoinSet::new();
        replies.spawn_local(accept(listener, Rc::clone(&waiting)));
        let messages: Rc<[Message]> = messages.into();
        let mut all = JoinSet::new();
        for process in processes {
            let (told, heard) = mpsc::unbounded_channel();
            waiting.borrow_mut().insert(*process, told);
            all.spawn_local(one(listen, *process, heard, Rc::clone(&messages), tag));
        }
        while let Some(ended) = all.join_next().await {
            ended??;
        }
        anyhow::Ok(())
    })
}

/// Sends one process all of it, each message after the reply to the one before.
async fn one(
    listen: SocketAddr,
    process: SocketAddr,
    mut heard: mpsc::UnboundedReceiver<()>,
    messages: Rc<[Message]>,
    tag: u64,
) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(process).await.context("the process listens")?;
    stream.set_nodelay(true)?;
    let states = (0..).step_by(2).zip(&*messages).map(|(n, message)| {
        Fop::LinkMsg(Box::new(LinkMsg {
            nr: 1,
            message: Some(Box::new(message.clone())),
            tag: tag + n,
            ids: LinkParams::default().ids,
            out_next: tag + n + 2,
            in_delivered: 0,
            seq: n,
        }))
    });
    let opening = [Fop::ConnEstablish, Fop::SessionEstablish { sender: 7 }];
    for (xid, fop) in (0..).zip(opening.into_iter().chain(states)) {
        let (opening, uuid) = (xid == 0, Uint128 { hi: 2, lo: u64::from(process.port()) });
        let header = ItemHeader {
            opcode: fop.opcode(),
            flags: 1,
            epoch: 0,
            uuid,
            sender: if opening { item::NONE } else { 7 },
            session: if xid < 2 { 0 } else { 9 },
            xid_min: u64::from(!opening),
            xid: if opening { item::NONE } else { xid },
            cookie: Uint128 { hi: 2, lo: xid + 1 },
        };
        let src = End { addr: listen, cookie: (xid + 1, 0) };
        let dst = End { addr: process, cookie: (0, 0) };
        stream.write_all(&packet::encode(src, dst, &[Item { header, fop }])).await?;
        timeout(LIMIT, heard.recv()).await.context("a reply in time")?.context("a reply")?;
    }
    Ok(())
}

async fn accept(listener: TcpListener, waiting: Waiting) {
    let mut readers = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        readers.spawn_local(replies(stream, Rc::clone(&waiting)));
    }
}

/// Reports each frame of a process to the task that waits for it.
async fn replies(mut from: TcpStream, waiting: Waiting) {
    let mut frames = Frames::default();
    let mut buffer = BytesMut::new();
    while matches!(from.read_buf(&mut buffer).await, Ok(n) if n > 0) {
        frames.feed(buffer.split().freeze());
        while let Ok(Some((header, _))) = frames.cut() {
            if let Some(told) = waiting.borrow().get(&header.src.addr) {
                let _ = told.send(());
            }
        }
    }
}
