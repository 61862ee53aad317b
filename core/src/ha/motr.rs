//! The port between the bridge and whatever speaks with Motr.

use alloc::boxed::Box;
use alloc::sync::Arc;

use super::entrypoint::{Entrypoint, EntrypointRequest};
use super::message::Message;
use crate::base::errno::Errno;
use crate::base::fid::Fid;
use crate::base::id::{EntryId, LinkId, MsgId, SendId};

/// What happened at Motr's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A process asks for its entrypoint. Owed: exactly one [`Command::Reply`].
    Asked(Box<EntrypointRequest>),
    /// The reply to `entry` gave `process` a link. Follows a reply at once.
    LinkUp {
        /// The new link.
        link: LinkId,
        /// The request whose reply made it.
        entry: EntryId,
        /// Who is at its other end.
        process: Fid,
        /// Whether the process had a link before, to an earlier life of ours; it is not told
        /// anything by itself then, while one that starts asks.
        reconnected: bool,
    },
    /// The reply to `entry` found the process's link as it was.
    LinkReused {
        /// The link.
        link: LinkId,
        /// The request.
        entry: EntryId,
    },
    /// The process closed its connections or does not answer. What is sent is kept, within limits.
    LinkDown {
        /// The link.
        link: LinkId,
    },
    /// The process of a link that was down is there again.
    LinkBack {
        /// The link.
        link: LinkId,
    },
    /// The link has ended; all that was sent over it has been reported before this. Nothing follows.
    LinkClosed {
        /// The link.
        link: LinkId,
    },
    /// A message. Owed: exactly one [`Command::Ack`], unless the link closes before.
    Received {
        /// Over which link.
        link: LinkId,
        /// Names it for the acknowledgement.
        msg: MsgId,
        /// What it says.
        message: Box<Message>,
    },
    /// The peer has taken in what was sent.
    Delivered {
        /// Over which link.
        link: LinkId,
        /// What.
        send: SendId,
    },
    /// What was sent will not be delivered.
    Undelivered {
        /// Over which link.
        link: LinkId,
        /// What.
        send: SendId,
    },
}

/// What Motr's side is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Answers an entrypoint request. An error makes the process ask again at once.
    Reply {
        /// Which request.
        entry: EntryId,
        /// The answer; shared, since a storm of requests gets one.
        reply: Result<Arc<Entrypoint>, Errno>,
    },
    /// Sends a message. Owed for each link that has not closed: one [`Event::Delivered`] or
    /// [`Event::Undelivered`].
    Send {
        /// Names it.
        send: SendId,
        /// Over which links; a link that has closed meanwhile is passed over.
        to: Box<[LinkId]>,
        /// What; encoded once for all links.
        message: Arc<Message>,
    },
    /// All that the message caused is done: its sender may forget it.
    Ack {
        /// Over which link it came.
        link: LinkId,
        /// The message.
        msg: MsgId,
    },
    /// Ends a link. Whoever embeds the wire may; the bridge leaves it to the process, which aborts if
    /// its link is taken away while it lives.
    Disconnect {
        /// Which.
        link: LinkId,
    },
    /// The processes that the configuration knows and where each listens.
    Peers(Arc<[(Fid, Box<str>)]>),
    /// Ends all links, politely.
    Stop,
}
