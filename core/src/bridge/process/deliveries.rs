//! Who waits until messages are delivered.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::base::fid::Fid;
use crate::base::id::{LinkId, SendId};
use crate::bridge::context::Cx;
use crate::bridge::continuation::Timer;
use crate::bridge::links::Links;

/// A link, and the message that it is to take in; nothing while that is not sent.
type Awaited = (LinkId, Option<SendId>);

/// The processes whose entrypoint waits until others have heard that their last life is over.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    awaited: BTreeMap<Fid, BTreeSet<Awaited>>,
}

impl Deliveries {
    /// Waits for these deliveries on behalf of `process`, for a limited time; false if there is
    /// nothing to wait for.
    pub(crate) fn wait(
        &mut self,
        cx: &mut Cx<'_>,
        process: Fid,
        sent: impl IntoIterator<Item = Awaited>,
    ) -> bool {
        let awaited = self.awaited.entry(process).or_default();
        awaited.extend(sent);
        if awaited.is_empty() {
            self.awaited.remove(&process);
            return false;
        }
        let limit = cx.config().time.deliveries;
        cx.arm(Timer::Deliveries(process), limit);
        true
    }

    /// Whether `process` waits.
    pub(crate) fn waits(&self, process: Fid) -> bool {
        self.awaited.contains_key(&process)
    }

    /// A message has its outcome. Returns whose wait is over by that.
    pub(crate) fn on_outcome(&mut self, cx: &mut Cx<'_>, link: LinkId, send: SendId) -> Vec<Fid> {
        self.drop_where(cx, |_, awaited| awaited == (link, Some(send)))
    }

    /// Links may have been sent what they were owed. Returns whose wait is over by that.
    pub(crate) fn on_sent(&mut self, cx: &mut Cx<'_>, links: &Links) -> Vec<Fid> {
        self.drop_where(cx, |process, (link, send)| {
            send.is_none() && !links.has_pending_end(link, process)
        })
    }

    /// A link is down or has ended: nobody waits for it. Returns whose wait is over by that.
    pub(crate) fn on_link_gone(&mut self, cx: &mut Cx<'_>, link: LinkId) -> Vec<Fid> {
        self.drop_where(cx, |_, (awaited, _)| awaited == link)
    }

    /// The time is up for `process`.
    pub(crate) fn give_up(&mut self, process: Fid) {
        self.awaited.remove(&process);
    }

    fn drop_where(&mut self, cx: &mut Cx<'_>, gone: impl Fn(Fid, Awaited) -> bool) -> Vec<Fid> {
        let mut over = Vec::new();
        self.awaited.retain(|process, awaited| {
            awaited.retain(|pair| !gone(*process, *pair));
            if awaited.is_empty() {
                over.push(*process);
            }
            !awaited.is_empty()
        });
        over.iter().for_each(|process| cx.disarm(Timer::Deliveries(*process)));
        over
    }
}
