//! The counters of process starts on our node. The first entrypoint request of a process that has lived
//! before ends that life (`hax.md` 1.9).

use alloc::collections::BTreeMap;
use alloc::format;

use crate::base::fid::Fid;
use crate::base::retry::Backoff;
use crate::bridge::context::Cx;
use crate::bridge::continuation::{Continuation, Timer};
use crate::bridge::process::ops::{Op, Target};
use crate::cluster::Cluster;
use crate::consul::json::{Elements, KvEntry};
use crate::consul::port::Answer;
use crate::consul::url;
use crate::ha::process::{ProcessEventKind, ProcessType};

/// The classification of a start. It is decided once, since the resulting writes change its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) number: u64,
    pub(crate) restart: bool,
}

/// The counters under `<node>/process_restarts/`.
///
/// Their only other writer is an old daemon that ran on this node before. So they are read once, and again
/// after a conflict.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    counts: BTreeMap<Fid, Count>,
    loaded: bool,
    backoff: Backoff,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    starts: u64,
    index: u64,
}

impl Restarts {
    pub(crate) fn is_loaded(&self) -> bool {
        self.loaded
    }

    pub(crate) fn read(&self, cx: &mut Cx<'_>) {
        let counters = url::tree(&format!("{}/process_restarts/", cx.config().node));
        cx.get(Continuation::Restarts, url::consistent(counters));
    }

    pub(crate) fn on_read(&mut self, cx: &mut Cx<'_>, answer: Option<&Answer>) {
        let counts = match answer {
            Some(answer) if answer.status == 200 => counts(answer),
            Some(answer) if answer.status == 404 => Some(BTreeMap::new()),
            _ => None,
        };
        match counts {
            Some(counts) => {
                self.backoff.reset();
                self.loaded = true;
                self.counts = counts;
            }
            None => {
                cx.retry(Timer::Restarts, &mut self.backoff);
            }
        }
    }

    /// Returns whether a starting process has lived before.
    ///
    /// The first start is m0mkfs's and the second is m0d's, unless the record says that the process has
    /// lived. The restart of a client is not announced.
    pub(crate) fn is_restart(&self, process: Fid, cluster: &Cluster) -> bool {
        let conf = cluster.conf().get_process(process);
        if conf.is_some_and(|process| process.hax || process.is_client()) {
            return false;
        }
        let lives = cluster.record(process).0.is_some_and(|record| {
            !matches!(record.kind, ProcessType::Mkfs | ProcessType::Other | ProcessType::Kernel)
                && record.state != ProcessEventKind::Stopped
        });
        lives || self.counts.get(&process).is_some_and(|count| count.starts > 1)
    }

    /// Returns the classification of a start beginning now; `None` if the process is not on our node.
    pub(crate) fn start(&self, process: Fid, cluster: &Cluster) -> Option<Start> {
        let starts = self.counts.get(&process).map_or(0, |count| count.starts);
        let restart = self.is_restart(process, cluster);
        let number = starts.saturating_add(1);
        cluster.is_local(process).then_some(Start { number, restart })
    }

    /// Returns the operation for counting the start of this number; `None` if it is counted already.
    pub(crate) fn count(&self, process: Fid, number: u64, node: &str) -> Option<Op> {
        let Count { starts, index } = self.counts.get(&process).copied().unwrap_or_default();
        let key = format!("{node}/process_restarts/{process}");
        let value = format!("\"{number}\"");
        let op = || Op::cas(Target::Restarts(process), &key, value.as_bytes(), index);
        (starts < number).then(op)
    }

    /// Updates the counter after a write with this index.
    pub(crate) fn on_counted(&mut self, process: Fid, index: u64) {
        let count = self.counts.entry(process).or_default();
        *count = Count { starts: count.starts.saturating_add(1), index };
    }

    /// Reads the counters again after a conflict.
    pub(crate) fn invalidate(&mut self, cx: &mut Cx<'_>) {
        if core::mem::take(&mut self.loaded) {
            self.read(cx);
        }
    }
}

fn counts(answer: &Answer) -> Option<BTreeMap<Fid, Count>> {
    let mut counts = BTreeMap::new();
    let mut elements = Elements::new(answer.body.clone());
    while let Some(entry) = elements.next::<KvEntry<'_>>() {
        let entry = entry.ok()?;
        let process = entry.key.rsplit('/').next().and_then(|fid| fid.parse().ok());
        // The value is a number inside a JSON string, as the old daemon writes it.
        let starts = entry
            .bytes()
            .and_then(|value| core::str::from_utf8(&value).ok()?.trim_matches('"').parse().ok());
        if let Some(process) = process {
            let count = Count { starts: starts.unwrap_or(0), index: entry.modify_index };
            counts.insert(process, count);
        }
    }
    Some(counts)
}
