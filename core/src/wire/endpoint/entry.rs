//! The answers to entrypoint requests (`ha/ha.c:ha_entrypoint_state_cb`, `ha/link.c`).
//!
//! | request | known link | answer |
//! |---|---|---|
//! | first | – | a new link, initial tags |
//! | not first | yes, or just resumed and the process has not gone over yet | all zero: the link goes on |
//! | not first | ended by [`Disconnect`](crate::ha::motr::Command::Disconnect) | `disconnected_previously`: the process aborts, as it is meant to |
//! | not first | no | `do_reconnect`: a new link that goes on with the old one's tags |
//! | not first, an old one | no | the cookie that it expects, and to ask again |
//!
//! An old request is one that waited for its answer or was on its way while its link was ended, or that
//! was made of an earlier life of ours. The tags in it may have moved since, and a process that is told other ones
//! than it has aborts; so it is made to describe its link afresh. Its next request is a new one.
//!
//! A process accepts `do_reconnect` exactly if the cookie is another one than it knows. Motr's
//! library has one cookie for its life, so it can only abort a process whose link it forgot. Ours
//! belongs to the link: one that had to make room for another is resumed like one of an earlier life.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::base::fid::Fid;
use crate::ha::entrypoint::Entrypoint;
use crate::wire::codec::fop::{CONSUME, EntrypointRep, EntrypointReq, QUERY};
use crate::wire::codec::params::{
    Cookie, FIRST_TAG_PROCESS, FIRST_TAG_SERVER, LinkIds, LinkParams, Tags,
};
use crate::wire::queue::{InQueue, OutQueue};
use crate::wire::rpc::event::ReplyTo;

/// An entrypoint request that waits for its reply.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) at: ReplyTo,
    pub(crate) req: Box<EntrypointReq>,
    /// Its tags may have moved when its link is not known: it was known when this came, or ended while
    /// this was on its way.
    pub(crate) old: bool,
}

/// What an answer may take of a packet, the rest being headers and the link's part.
const ANSWER_MAX: usize = 120_000;

/// What the answer says about the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkDecision {
    /// The process has a new link with these names, as it sees them.
    New(LinkIds),
    /// It goes on with the one it has.
    Reuse,
    /// It goes on with what it has, under these names.
    Reconnect(LinkIds),
    /// It is to describe its link once more.
    Again,
    /// It is taken for dead.
    Ended,
}

/// Whether the tags of a request that is not a first one can be those of a process's link.
pub(crate) fn is_sound(req: &EntrypointReq) -> bool {
    let LinkParams { tags_local, tags_remote, .. } = &req.params;
    req.first != 0
        || tags_local.are_sound(FIRST_TAG_PROCESS) && tags_remote.are_sound(FIRST_TAG_SERVER)
}

/// The queues of our end of a link.
pub(crate) fn queues(req: &EntrypointReq, decision: LinkDecision) -> (OutQueue, InQueue) {
    match decision {
        LinkDecision::Reconnect(_) => {
            let LinkParams { tags_local, tags_remote, .. } = &req.params;
            let sent = OutQueue::resumed(tags_remote.delivered, tags_remote.next);
            (sent, InQueue::new(tags_local.delivered))
        }
        LinkDecision::New(_) | LinkDecision::Reuse | LinkDecision::Again | LinkDecision::Ended => {
            (OutQueue::new(FIRST_TAG_SERVER), InQueue::new(FIRST_TAG_PROCESS))
        }
    }
}

/// The link's part of the answer. A process asserts each of these tags
/// (`link.c:ha_link_tags_apply`).
fn params(req: &EntrypointReq, decision: LinkDecision) -> LinkParams {
    match decision {
        LinkDecision::New(ids) => LinkParams {
            ids,
            tags_local: Tags::fresh(FIRST_TAG_PROCESS),
            tags_remote: Tags::fresh(FIRST_TAG_SERVER),
        },
        LinkDecision::Reconnect(ids) => {
            let LinkParams { tags_local, tags_remote, .. } = req.params;
            let tags_local = Tags { next: tags_local.delivered, ..tags_local };
            LinkParams { ids, tags_local, tags_remote }
        }
        LinkDecision::Reuse | LinkDecision::Again | LinkDecision::Ended => LinkParams::default(),
    }
}

/// The whole answer; without an entrypoint, the process asks again at once.
pub(crate) fn answer(
    req: &EntrypointReq,
    decision: LinkDecision,
    cookie: Cookie,
    entrypoint: Option<&Entrypoint>,
) -> EntrypointRep {
    let none = Entrypoint::default();
    let entrypoint = entrypoint.filter(|_| decision != LinkDecision::Again);
    let control = if entrypoint.is_some() { CONSUME } else { QUERY };
    let entrypoint = entrypoint.unwrap_or(&none);
    let text = |text: &str| Box::<[u8]>::from(text.as_bytes());
    EntrypointRep {
        quorum: entrypoint.quorum,
        confds: entrypoint.confds.iter().map(|c| c.fid).collect::<Vec<Fid>>(),
        confd_endpoints: entrypoint.confds.iter().map(|c| text(&c.endpoint)).collect(),
        rm: entrypoint.rm,
        rm_endpoint: text(&entrypoint.rm_endpoint),
        control,
        params: params(req, decision),
        do_reconnect: matches!(decision, LinkDecision::Reconnect(_)).into(),
        disconnected_previously: (decision == LinkDecision::Ended).into(),
        cookie_actual: cookie,
    }
}

/// Whether the entrypoint fits into an answer.
pub(crate) fn fits(entrypoint: &Entrypoint) -> bool {
    let confds = entrypoint.confds.iter().map(|c| c.endpoint.len().saturating_add(24));
    confds.fold(entrypoint.rm_endpoint.len(), usize::saturating_add) <= ANSWER_MAX
}
