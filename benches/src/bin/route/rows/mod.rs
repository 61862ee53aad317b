//! The rows of the table, a file for each subject.

mod death;
mod event;
mod false_alarm;
mod handover;
mod keepalived;
mod size;

use std::path::Path;

use crate::row::Row;

/// A measurement of a program. The flag asks for a quick one.
type Measure = fn(&Path, bool) -> anyhow::Result<Vec<Row>>;

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

pub(crate) fn names() -> String {
    ALL.map(|(name, _)| name).join(", ")
}

/// Returns a row that says why it is not measured.
fn skipped(name: &'static str, why: impl ToString) -> Row {
    Row {
        name,
        unit: "",
        target: "–",
        ok: true,
        more: format!("not measured: {}", why.to_string()),
        ..Row::default()
    }
}
