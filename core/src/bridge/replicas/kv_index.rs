//! The cheapest proof that the copies of keys are fresh: the index of the whole KV table.
//!
//! The response for a missing key has that index (Consul 1.8.7, `kvsGetTxn`), whatever the table's size,
//! while a probe of a prefix makes Consul walk the prefix. While the table's index does not change, no key
//! below any prefix has changed. When it has changed, probes of the prefixes tell which of them changed.

use alloc::collections::VecDeque;

use crate::base::id::CallId;
use crate::base::time::CallSeq;
use crate::bridge::context::Cx;
use crate::bridge::continuation::Continuation;
use crate::consul::port::Answer;
use crate::consul::url;

/// A non-existent key, below a readable prefix.
pub(crate) const KEY: &str = "processes/none";

#[derive(Debug, Default)]
pub(crate) struct KvIndexProbes {
    sent: VecDeque<KvIndexProbe>,
    /// The index in the last response; 0 if it is not usable.
    pub(crate) seen: u64,
}

#[derive(Clone, Copy, Debug)]
struct KvIndexProbe {
    call: CallId,
    sent: CallSeq,
    /// The largest index of the copies when the probe was sent.
    then: u64,
}

impl KvIndexProbes {
    /// Sends a probe for requests up to `asked`, unless a suitable probe is in flight or too many are.
    pub(crate) fn send(&mut self, cx: &mut Cx<'_>, asked: CallSeq, then: u64, most: usize) {
        let on_its_way = self.sent.back().is_some_and(|last| last.sent >= asked);
        if !on_its_way && self.sent.len() < most {
            let (call, sent) = (cx.get(Continuation::KvIndex, url::read(KEY)), cx.call_seq());
            self.sent.push_back(KvIndexProbe { call, sent, then });
        }
    }

    /// Handles a response. Returns the call in which the probe was sent: the index was read at that time or
    /// later.
    ///
    /// An index that has gone backwards, or is not that of the table, is not usable.
    pub(crate) fn on_answer(&mut self, call: CallId, answer: &Answer) -> Option<CallSeq> {
        let KvIndexProbe { sent, then, .. } = self.take(call)?;
        let is_tables = answer.status == 404 && answer.index >= then;
        self.seen = if is_tables { answer.index } else { 0 };
        Some(sent)
    }

    /// Removes a failed probe.
    pub(crate) fn on_failed(&mut self, call: CallId) {
        self.take(call);
    }

    fn take(&mut self, call: CallId) -> Option<KvIndexProbe> {
        let place = self.sent.iter().position(|probe| probe.call == call)?;
        self.sent.remove(place)
    }
}
