//! Removes old entries from the broadcast queue. It would grow without bound otherwise.
//!
//! The payload of a watch has room for about 2,700 entries; old daemons refuse a larger one (D2). The leader
//! removes entries.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::bridge::context::Cx;
use crate::bridge::continuation::{Continuation, PurgeCall, Timer};
use crate::bridge::process::ops;
use crate::cluster::Cluster;
use crate::consul::json::{self, Elements, KvEntry};
use crate::consul::op::Op;
use crate::consul::port::Answer;
use crate::consul::url;
use crate::ha::fact::Fact;
use crate::store::txn;

#[derive(Debug, Default)]
pub(crate) struct Purge {
    entries: BTreeSet<u64>,
    deleting: u32,
}

impl Purge {
    pub(crate) fn begin(cx: &mut Cx<'_>) {
        let pause = cx.config().time.purge;
        cx.arm(Timer::Purge, pause);
        cx.cancel_where(|job| matches!(job, Continuation::Purge(_)));
        cx.get(Continuation::Purge(PurgeCall::Keys), url::consistent(url::keys("bq/")));
    }

    pub(crate) fn on_answer(
        &mut self,
        cx: &mut Cx<'_>,
        part: PurgeCall,
        answer: Option<&Answer>,
        cluster: &Cluster,
        leads: Option<&str>,
    ) {
        let Some(answer) = answer else { return };
        match part {
            PurgeCall::Keys => {
                let keys: Vec<&str> = json::parse(&answer.body).unwrap_or_default();
                let n = |key: &str| key.strip_prefix("bq/")?.parse().ok();
                self.entries = keys.into_iter().filter_map(n).collect();
                if self.entries.len() > 1 {
                    let target = url::consistent(url::tree("bq-delivered/"));
                    cx.get(Continuation::Purge(PurgeCall::Offsets), target);
                }
            }
            PurgeCall::Offsets => {
                // The last entry is kept, since it shows the current number of the queue.
                let last = self.entries.pop_last().unwrap_or(0);
                let kept = u64::try_from(cx.config().limit.queue_entries).unwrap_or(u64::MAX);
                let until = processed_by_all(answer, cluster).max(last.saturating_sub(kept));
                self.entries.retain(|n| *n <= until);
                self.delete(cx, leads);
            }
            PurgeCall::Delete => {
                if txn::Outcome::of(Some(answer)).is_applied() {
                    cx.fact(Fact::QueuePurged { entries: self.deleting });
                    self.delete(cx, leads);
                }
            }
        }
    }

    fn delete(&mut self, cx: &mut Cx<'_>, leads: Option<&str>) {
        let Some(session) = leads.filter(|_| !self.entries.is_empty()) else { return };
        let mut ops = Vec::from([ops::leads(session)]);
        while ops.len() < cx.config().limit.transaction_ops
            && let Some(n) = self.entries.pop_first()
        {
            ops.push(Op::delete(&alloc::format!("bq/{n}")));
        }
        self.deleting = u32::try_from(ops.len() - 1).unwrap_or(u32::MAX);
        txn::send(cx, Continuation::Purge(PurgeCall::Delete), &ops);
    }
}

/// Returns the last entry processed by every node with an offset.
fn processed_by_all(answer: &Answer, cluster: &Cluster) -> u64 {
    let mut least = None;
    let mut elements = Elements::new(answer.body.clone());
    while let Some(Ok(entry)) = elements.next::<KvEntry<'_>>() {
        let node = entry.key.strip_prefix("bq-delivered/");
        if node.is_none_or(|node| cluster.conf().nodes_of(node).is_empty()) {
            continue;
        }
        least = Some(least.unwrap_or(u64::MAX).min(entry.number().unwrap_or(0)));
    }
    least.unwrap_or(0)
}
