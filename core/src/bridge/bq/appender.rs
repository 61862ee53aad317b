//! The sending side of the broadcast queue: it announces process events to old daemons of the same cluster
//! (15/BQ, `hax.md` 1.7).
//!
//! An entry `bq/<n>` is appended in the transaction that stores the event it announces, with a
//! compare-and-set on the counter `epoch`.

use alloc::string::ToString;
use alloc::vec::Vec;

use crate::base::fid::Fid;
use crate::base::retry::Backoff;
use crate::base::time::WallClock;
use crate::bridge::context::Cx;
use crate::bridge::continuation::{Continuation, Timer};
use crate::bridge::process::ops::{Op, Target};
use crate::bridge::process::work::update;
use crate::cluster::states::ProcessRecord;
use crate::consul::json::{self, KvEntry};
use crate::consul::port::Answer;
use crate::consul::url;
use crate::ha::fact::Fact;

/// The sending side.
#[derive(Debug)]
pub(crate) struct BqAppender {
    on: bool,
    epoch: Option<Epoch>,
    /// The counter's value is not a number. Events are written without telling old daemons.
    junk: bool,
    reading: bool,
    backoff: Backoff,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Epoch {
    n: u64,
    index: u64,
}

impl BqAppender {
    pub(crate) fn new(on: bool) -> Self {
        Self { on, epoch: None, junk: false, reading: false, backoff: Backoff::default() }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.on
    }

    /// Returns whether entries may be appended. If not, the read that is needed for it is in flight.
    pub(crate) fn is_ready(&mut self, cx: &mut Cx<'_>) -> bool {
        if self.on && self.epoch.is_none() {
            self.read(cx);
        }
        !self.on || self.junk || self.epoch.is_some()
    }

    pub(crate) fn read(&mut self, cx: &mut Cx<'_>) {
        if !self.reading && !cx.is_armed(Timer::Epoch) {
            self.reading = true;
            cx.get(Continuation::Epoch, url::read("epoch"));
        }
    }

    pub(crate) fn on_read(&mut self, cx: &mut Cx<'_>, answer: Option<&Answer>) {
        self.reading = false;
        let epoch = match answer {
            // The counter is created with the first entry.
            Some(answer) if answer.status == 404 => Some(Epoch { n: 0, index: 0 }),
            Some(answer) if answer.status == 200 => epoch(&answer.body),
            _ => None,
        };
        self.junk = epoch.is_none() && answer.is_some();
        if self.junk {
            let why = "it is no number; old daemons do not hear of events until it is".into();
            cx.fact(Fact::ConsulBadAnswer { what: "epoch", why });
        }
        if epoch.is_none() {
            cx.retry(Timer::Epoch, &mut self.backoff);
        } else {
            self.backoff.reset();
        }
        self.epoch = epoch;
    }

    /// Returns the operations for appending these events to the queue.
    pub(crate) fn append(&self, told: &[(Fid, ProcessRecord)], wall: WallClock) -> Vec<Op> {
        let Some(Epoch { n, index }) = self.epoch.filter(|_| self.on && !told.is_empty()) else {
            return Vec::new();
        };
        let timestamp = wall.to_string();
        let mut ops = Vec::new();
        let mut last = n;
        for (process, record) in told {
            if let Some(message) = update(*process, *record, &timestamp) {
                last += 1;
                ops.push(Op::queued(last, &message));
            }
        }
        let epoch = last.to_string();
        ops.insert(0, Op::cas(Target::Epoch, "epoch", epoch.as_bytes(), index));
        ops
    }

    /// Updates the counter after `n` entries were appended; the counter was written with this index.
    pub(crate) fn on_appended(&mut self, n: u64, index: u64) {
        if let Some(epoch) = &mut self.epoch {
            *epoch = Epoch { n: epoch.n + n, index };
        }
    }

    /// Forgets the counter after another writer has changed it.
    pub(crate) fn invalidate(&mut self) {
        self.epoch = None;
    }
}

fn epoch(body: &[u8]) -> Option<Epoch> {
    let [entry]: [KvEntry<'_>; 1] = json::parse(body).ok()?;
    let n = entry.number()?;
    // A number near the maximum cannot come from counting.
    (n < u64::MAX / 2).then_some(Epoch { n, index: entry.modify_index })
}
