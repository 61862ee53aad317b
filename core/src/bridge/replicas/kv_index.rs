//! The cheapest proof that copies of keys are fresh: the index of the whole KV table.
//!
//! A key that is not there is answered with that index (Consul 1.8.7, `kvsGetTxn`), whatever the
//! table's size, while a probe of a prefix makes Consul walk it. While the table's index stands still,
//! nothing below any prefix has changed. Once it has moved, a probe tells what of it is ours.

use alloc::collections::VecDeque;

use crate::base::id::CallId;
use crate::base::time::CallSeq;
use crate::bridge::context::Cx;
use crate::bridge::continuation::Continuation;
use crate::consul::port::Answer;
use crate::consul::url;

/// Below a prefix that hax may read, and no process.
pub(crate) const KEY: &str = "processes/none";

#[derive(Debug, Default)]
pub(crate) struct KvIndexProbes {
    sent: VecDeque<KvIndexProbe>,
    /// What the last one saw; 0: nothing that is of use.
    pub(crate) seen: u64,
}

#[derive(Clone, Copy, Debug)]
struct KvIndexProbe {
    call: CallId,
    sent: CallSeq,
    /// The index of the newest copy when it was sent.
    then: u64,
}

impl KvIndexProbes {
    /// Sends one for what was asked, unless it is on its way or too many are.
    pub(crate) fn send(&mut self, cx: &mut Cx<'_>, asked: CallSeq, then: u64, most: usize) {
        let on_its_way = self.sent.back().is_some_and(|last| last.sent >= asked);
        if !on_its_way && self.sent.len() < most {
            let (call, sent) = (cx.get(Continuation::KvIndex, url::read(KEY)), cx.call_seq());
            self.sent.push_back(KvIndexProbe { call, sent, then });
        }
    }

    /// Takes an answer: the table's index was seen at this moment or later. An index that has gone
    /// back, or is not the table's, says nothing.
    pub(crate) fn on_answer(&mut self, call: CallId, answer: &Answer) -> Option<CallSeq> {
        let KvIndexProbe { sent, then, .. } = self.take(call)?;
        let is_tables = answer.status == 404 && answer.index >= then;
        self.seen = if is_tables { answer.index } else { 0 };
        Some(sent)
    }

    /// It has no answer.
    pub(crate) fn on_failed(&mut self, call: CallId) {
        self.take(call);
    }

    fn take(&mut self, call: CallId) -> Option<KvIndexProbe> {
        let place = self.sent.iter().position(|probe| probe.call == call)?;
        self.sent.remove(place)
    }
}
