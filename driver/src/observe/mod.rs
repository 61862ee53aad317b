//! Observability of a running hax: log lines, metrics, the journal, and the notifications to systemd.

pub mod facts;
pub mod journal;
pub mod logs;
pub mod metrics;
pub mod notify;
pub mod printable;
