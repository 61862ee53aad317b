//! The replies to entrypoint requests (`ha/ha.c:ha_entrypoint_state_cb`, `ha/link.c`).
//!
//! | request | link known | reply |
//! |---|---|---|
//! | first | – | a new link, initial tags |
//! | not first | yes, or just resumed and the process has not switched to it yet | all zero: the link continues |
//! | not first | ended by [`Disconnect`](crate::ha::motr::Command::Disconnect) | `disconnected_previously`: the process aborts, as intended |
//! | not first | no | `do_reconnect`: a new link that continues with the old one's tags |
//! | not first, outdated | no | the cookie that the process expects, and QUERY |
//!
//! A request is outdated if its link ended while it waited for its reply or was in transit, or if it was made
//! to an earlier life of ours. Its tags may have moved since. A process aborts if the reply contains other
//! tags than its own, so it is made to describe its link again. Its next request is a new one.
//!
//! A process accepts `do_reconnect` exactly if the cookie differs from the one that it knows. Motr's library
//! has one cookie for its life, so it can only abort a process whose link it forgot. Our cookie belongs to
//! the link: a link that was closed in favour of another is resumed like one of an earlier life.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::base::fid::Fid;
use crate::ha::entrypoint::Entrypoint;
use crate::wire::codec::fop::{CONSUME, EntrypointRep, EntrypointReq, QUERY};
use crate::wire::codec::params::{
    Cookie, FIRST_TAG_PROCESS, FIRST_TAG_SERVER, LinkIds, LinkParams, Tags,
};
use crate::wire::queue::{InQueue, OutQueue};
use crate::wire::rpc::event::RequestOrigin;

/// An entrypoint request, waiting for its reply.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) origin: RequestOrigin,
    pub(crate) req: Box<EntrypointReq>,
    /// Whether the request's tags may have moved if its link is not known: the link was known when the
    /// request arrived, or ended while it was in transit.
    pub(crate) maybe_outdated: bool,
}

/// The maximum size of an entrypoint in a packet, in bytes. The rest is for headers and the link's part.
const ANSWER_MAX: usize = 120_000;

/// The link's part of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkDecision {
    /// The process gets a new link with these ids from its point of view.
    New(LinkIds),
    /// The process continues with its link.
    Reuse,
    /// The process continues with its queues under these ids.
    Reconnect(LinkIds),
    /// The process must describe its link again.
    Again,
    /// The process is considered dead.
    Ended,
}

/// Returns whether the tags of a request can be those of a process's link. First requests have none.
pub(crate) fn is_sound(req: &EntrypointReq) -> bool {
    let LinkParams { tags_local, tags_remote, .. } = &req.params;
    req.first != 0
        || tags_local.are_sound(FIRST_TAG_PROCESS) && tags_remote.are_sound(FIRST_TAG_SERVER)
}

/// Returns the queues of our end of a link.
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

/// Returns the link's part of the reply. A process asserts each of these tags (`link.c:ha_link_tags_apply`).
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

/// Returns the whole reply. Without an entrypoint, the process asks again at once.
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

/// Returns whether the entrypoint fits into a reply.
pub(crate) fn fits(entrypoint: &Entrypoint) -> bool {
    let confds = entrypoint.confds.iter().map(|c| c.endpoint.len().saturating_add(24));
    confds.fold(entrypoint.rm_endpoint.len(), usize::saturating_add) <= ANSWER_MAX
}
