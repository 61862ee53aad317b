//! What an operator sees of a hax that runs: log lines, metrics, the journal, and what systemd is told.

pub mod facts;
pub mod journal;
pub mod logs;
pub mod metrics;
pub mod notify;
pub mod printable;
