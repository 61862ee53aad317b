//! Where log lines go and how they look.
//!
//! To standard error, always: standard output belongs to what a command was asked for (`ham`'s JSON,
//! the demo's timeline), and journald takes both. Colour only on a terminal; no time of day where
//! journald adds its own.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::values::{LogFormat, LogLevel};

/// Installs the log for the whole program. A second call changes nothing.
pub fn init(format: LogFormat, level: LogLevel) {
    // Libraries speak of their own affairs at info; at trace they are let in, to look at all.
    let level = level.filter();
    let others = if level == LevelFilter::TRACE { LevelFilter::DEBUG } else { LevelFilter::WARN };
    let targets = Targets::new().with_default(others.min(level)).with_target("hax", level);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    let journald = std::env::var_os("JOURNAL_STREAM").is_some();
    let lines = match format {
        LogFormat::Human if journald => lines.without_time().boxed(),
        LogFormat::Human => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // Fails only if there is one already, as in tests that share a process.
    let _ = tracing_subscriber::registry().with(lines.with_filter(targets)).try_init();
}
