//! The rows of the table, a file for each subject.

mod death;
mod event;
mod false_alarm;
mod handover;
mod keepalived;
mod size;

use crate::table::Measure;

/// All measurements, by the names of their rows.
pub(crate) const ALL: [(&str, Measure); 7] = [
    ("node_event", event::rows),
    ("handover", handover::rows),
    ("death", death::rows),
    ("keepalived", keepalived::rows),
    ("false_failover", false_alarm::rows),
    ("rss", size::rss),
    ("size", size::size),
];
