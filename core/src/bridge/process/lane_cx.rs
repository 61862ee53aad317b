//! What the lanes need to know of the rest of the bridge, and may change of it.

use crate::bridge::bq::appender::BqAppender;
use crate::bridge::process::ops::{Op, Target};
use crate::bridge::process::restarts::Restarts;
use crate::cluster::Cluster;
use crate::cluster::states::ProcessRecord;

/// What the lanes need to know and may change.
pub(crate) struct LaneCx<'a> {
    pub(crate) cluster: &'a mut Cluster,
    pub(crate) restarts: &'a mut Restarts,
    pub(crate) queue: &'a mut BqAppender,
    /// The session with which we lead, while that is certain.
    pub(crate) leads: Option<&'a str>,
    /// Whether we hold the lock, as far as we know.
    pub(crate) holds: bool,
}

impl LaneCx<'_> {
    /// Consul holds what an operation wrote; its index is `index`.
    pub(crate) fn holds(&mut self, op: &Op, appended: u64, index: u64) {
        match op.target {
            _ if op.op.is_check() => {}
            Target::Epoch => self.queue.on_appended(appended, index),
            Target::Restarts(process) => self.restarts.on_counted(process, index),
            Target::Record(process) => {
                self.cluster.apply_own_record(
                    process,
                    ProcessRecord::from_kv(&op.op.value, op.op.flags),
                    index,
                );
            }
            Target::Entry(object) => {
                self.cluster.apply_entry(object, &op.op.key, &op.op.value, index);
            }
            Target::Leader | Target::Queued => {}
        }
    }
}
