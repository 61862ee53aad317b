//! The settings of the log and of the journal.

use std::path::PathBuf;

use super::flags::Flags;
use super::values::{LogFormat, LogLevel};

/// The settings of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The format of its lines.
    pub format: LogFormat,
    /// The level of the lines that are written.
    pub level: LogLevel,
}

/// The settings of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalSettings {
    /// The path of the journal, if it is written.
    pub path: Option<PathBuf>,
    /// The maximum length of the journal, in bytes.
    pub max: usize,
}

/// Merges both groups of settings.
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
