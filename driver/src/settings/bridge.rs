//! The settings of the bridge: its judgement of processes, and its tasks as a leader.

use std::time::Duration;

use super::flags::Flags;
use super::values::{OnUnexpectedMessage, Span, Switch};

/// The behaviour of the bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeSettings {
    /// Whether it takes part in the election.
    pub elect: bool,
    /// Whether it exchanges messages with old daemons over the broadcast queue.
    pub bq: Switch,
    /// The effect of a message on which the specification demands to stop.
    pub on_unexpected_message: OnUnexpectedMessage,
    /// The time that checks must fail before a process with a live link is declared stopped.
    pub silence: Duration,
    /// The interval of the leader's records of the filesystem's space; zero means never.
    pub filesystem_stats: Duration,
    /// The interval of its records of byte counts; zero means never.
    pub byte_counts: Duration,
    /// The time limit of a stop to complete pending work.
    pub drain: Duration,
}

/// Merges the settings.
pub(super) fn merge(flags: &Flags, file: &Flags) -> BridgeSettings {
    let span = |flag: Option<Span>, file, default| {
        flag.or(file).map_or_else(|| Duration::from_secs(default), |span| span.0)
    };
    let on_unexpected_message = flags.on_unexpected_message.or(file.on_unexpected_message);
    BridgeSettings {
        elect: !flags.no_elect.or(file.no_elect).unwrap_or(false),
        bq: flags.bq.or(file.bq).unwrap_or_default(),
        on_unexpected_message: on_unexpected_message.unwrap_or_default(),
        silence: span(flags.silence, file.silence, 5),
        filesystem_stats: span(flags.filesystem_stats, file.filesystem_stats, 600),
        byte_counts: span(flags.byte_counts, file.byte_counts, 600),
        drain: span(flags.drain, file.drain, 10),
    }
}
