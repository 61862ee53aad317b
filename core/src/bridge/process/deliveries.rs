//! Entrypoint requests waiting for the delivery of messages to other processes.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::base::fid::Fid;
use crate::base::id::{LinkId, SendId};
use crate::bridge::context::Cx;
use crate::bridge::continuation::Timer;
use crate::bridge::links::Links;

/// A link and the message to be delivered on it; `None` while the message is not sent.
type Awaited = (LinkId, Option<SendId>);

/// The restarted processes, each with the awaited deliveries. The messages notify other processes of the end
/// of its last life.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    awaited: BTreeMap<Fid, BTreeSet<Awaited>>,
}

impl Deliveries {
    /// Waits for these deliveries on behalf of `process`, for a limited time. Returns `false` if there is
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

    /// Returns whether `process` waits.
    pub(crate) fn waits(&self, process: Fid) -> bool {
        self.awaited.contains_key(&process)
    }

    /// Handles the outcome of a message. Returns the processes whose wait it ends.
    pub(crate) fn on_outcome(&mut self, cx: &mut Cx<'_>, link: LinkId, send: SendId) -> Vec<Fid> {
        self.drop_where(cx, |_, awaited| awaited == (link, Some(send)))
    }

    /// Handles the sending of pending notes. Returns the processes whose wait it ends.
    pub(crate) fn on_sent(&mut self, cx: &mut Cx<'_>, links: &Links) -> Vec<Fid> {
        self.drop_where(cx, |process, (link, send)| {
            send.is_none() && !links.has_pending_end(link, process)
        })
    }

    /// Stops waiting for a lost or closed link. Returns the processes whose wait it ends.
    pub(crate) fn on_link_gone(&mut self, cx: &mut Cx<'_>, link: LinkId) -> Vec<Fid> {
        self.drop_where(cx, |_, (awaited, _)| awaited == link)
    }

    /// Ends the wait of `process` because its time is up.
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
