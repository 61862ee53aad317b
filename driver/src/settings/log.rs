//! The settings of what is written down of a hax that runs: the log and the journal.

use std::path::PathBuf;

use super::flags::Flags;
use super::values::{LogFormat, LogLevel};

/// The log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// How its lines look.
    pub format: LogFormat,
    /// Which of them are written.
    pub level: LogLevel,
}

/// The journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalSettings {
    /// Where it is written, if it is.
    pub path: Option<PathBuf>,
    /// How long it may get, in bytes.
    pub max: usize,
}

/// Makes the whole of both.
pub(super) fn merge(flags: &Flags, file: &Flags) -> (LogSettings, JournalSettings) {
    let log = LogSettings {
        format: flags.log.or(file.log).unwrap_or_default(),
        level: flags.log_level.or(file.log_level).unwrap_or_default(),
    };
    let journal = JournalSettings {
        path: flags.journal.as_ref().or(file.journal.as_ref()).cloned(),
        max: flags.journal_max.or(file.journal_max).map_or(1 << 30, |size| size.0),
    };
    (log, journal)
}
