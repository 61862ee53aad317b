//! The parts of the bridge used by the lanes.

use crate::bridge::bq::appender::BqAppender;
use crate::bridge::process::ops::{Op, Target};
use crate::bridge::process::restarts::Restarts;
use crate::cluster::Cluster;
use crate::cluster::states::ProcessRecord;

/// The context of the lanes.
pub(crate) struct LaneCx<'a> {
    pub(crate) cluster: &'a mut Cluster,
    pub(crate) restarts: &'a mut Restarts,
    pub(crate) queue: &'a mut BqAppender,
    /// The session of the lock held by this node, while that is certain.
    pub(crate) lock_session: Option<&'a str>,
    /// Whether this node holds the lock, as far as it knows.
    pub(crate) holds_lock: bool,
}

impl LaneCx<'_> {
    /// Applies a committed operation to the state of hax. `index` is the index of the write.
    pub(crate) fn apply_committed(&mut self, op: &Op, appended: u64, index: u64) {
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
