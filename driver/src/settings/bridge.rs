//! The settings of the bridge: how it judges processes, and what it does as a leader.

use std::time::Duration;

use super::flags::Flags;
use super::values::{OnUnexpectedMessage, Span, Switch};

/// How the bridge behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeSettings {
    /// Whether it stands for election.
    pub elect: bool,
    /// Whether it speaks with old daemons over the broadcast queue.
    pub bq: Switch,
    /// What a message does on which the specification demands to stop.
    pub on_unexpected_message: OnUnexpectedMessage,
    /// How long checks must fail until a process counts as stopped whose link lives.
    pub silence: Duration,
    /// How often the leader records the free and used space; zero is never.
    pub filesystem_stats: Duration,
    /// How often the leader records the bytes of each user; zero is never.
    pub byte_counts: Duration,
    /// How long a stop may take to finish the work in progress.
    pub drain: Duration,
}

/// Makes the whole of it.
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
