//! The port between the bridge and the implementation of Motr's protocol.

use alloc::boxed::Box;
use alloc::sync::Arc;

use super::entrypoint::{Entrypoint, EntrypointRequest};
use super::message::Message;
use super::note::Note;
use crate::base::errno::Errno;
use crate::base::fid::Fid;
use crate::base::id::{EntryId, LinkId, MsgId, SendId};

/// An event of Motr's processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A process requests its entrypoint. The bridge must emit exactly one [`Command::Reply`].
    Asked(Box<EntrypointRequest>),
    /// The reply to `entry` gave `process` a link. The event follows the reply at once.
    LinkUp {
        /// The new link.
        link: LinkId,
        /// The request; its reply created the link.
        entry: EntryId,
        /// The process at its other end.
        process: Fid,
        /// Whether the process had a link to an earlier life of ours. Such a process does not request the
        /// states by itself, while a starting one does.
        reconnected: bool,
    },
    /// A link of hax's last life was taken over. Nothing is known of its process until
    /// [`LinkBack`](Self::LinkBack) or [`LinkDown`](Self::LinkDown).
    LinkKept {
        /// The link.
        link: LinkId,
        /// The process at its other end.
        process: Fid,
        /// What the last life [owed](Command::Owe) to it.
        owed: Box<[Note]>,
    },
    /// The reply to `entry` confirmed the process's existing link.
    LinkReused {
        /// The link.
        link: LinkId,
        /// The request.
        entry: EntryId,
    },
    /// The process closed its connections or does not respond. Sent messages are kept, within limits.
    LinkDown {
        /// The link.
        link: LinkId,
    },
    /// The process of a link is reachable again after the link was down.
    LinkBack {
        /// The link.
        link: LinkId,
    },
    /// The link has ended. The outcomes of all its messages were reported before; no event follows.
    LinkClosed {
        /// The link.
        link: LinkId,
    },
    /// A message arrived. The bridge must emit exactly one [`Command::Ack`], unless the link closes before.
    Received {
        /// The link.
        link: LinkId,
        /// The id for the acknowledgement.
        msg: MsgId,
        /// The message.
        message: Box<Message>,
    },
    /// The peer has received a message.
    Delivered {
        /// The link.
        link: LinkId,
        /// The message.
        send: SendId,
    },
    /// A message will not be delivered.
    Undelivered {
        /// The link.
        link: LinkId,
        /// The message.
        send: SendId,
    },
}

/// The purpose of a sent message. It decides what the next life of hax does about a message without a known
/// outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The message has states that can be computed again. The next life sends all states anyway.
    States,
    /// The message has news that no later state shows, such as the end of a process's life. It is sent again
    /// if it was not received.
    News,
    /// The message answers this one of the link. A request with a received answer is not worked again.
    Answer(MsgId),
}

/// A command for the implementation of Motr's protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Answers an entrypoint request. An error makes the process ask again at once.
    Reply {
        /// The request.
        entry: EntryId,
        /// The reply; shared, since many simultaneous requests get the same one.
        reply: Result<Arc<Entrypoint>, Errno>,
    },
    /// Sends a message. Each link that has not closed reports one [`Event::Delivered`] or
    /// [`Event::Undelivered`].
    Send {
        /// The id of the message.
        send: SendId,
        /// The links. A link that has closed meanwhile is skipped.
        to: Box<[LinkId]>,
        /// The message; encoded once for all links.
        message: Arc<Message>,
        /// What the message is for.
        purpose: Purpose,
    },
    /// Records what is owed to a link and not sent yet, in place of an earlier record. The next life of hax
    /// gets it with the link.
    Owe {
        /// The link.
        link: LinkId,
        /// The notes that no snapshot of all states replaces.
        notes: Box<[Note]>,
    },
    /// Acknowledges a message: its effects are complete, and its sender may forget it.
    Ack {
        /// The link of the message.
        link: LinkId,
        /// The message.
        msg: MsgId,
    },
    /// Ends a link. It is meant for other users of the wire. The bridge does not use it, since a living
    /// process aborts if its link is ended.
    Disconnect {
        /// The link.
        link: LinkId,
    },
    /// Sets the configured processes and their endpoints.
    Peers(Arc<[(Fid, Box<str>)]>),
    /// Ends all links politely.
    Stop,
}
