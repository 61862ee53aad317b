//! Where log lines go and how they look.
//!
//! To standard error, always: standard output belongs to what a command was asked for (`ham`'s JSON,
//! the demo's timeline), and journald takes both. Colour only on a terminal. To the journal each line
//! begins with its priority (sd-daemon(3)), and has no time of day, which the journal adds.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{self, Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
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
    let json = || format::format().json().flatten_event(true).with_target(false);
    let human = || format::format().with_target(false);
    let fields = format::JsonFields::new();
    let lines = match (format, is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref())) {
        (LogFormat::Human, false) => lines.boxed(),
        (LogFormat::Human, true) => {
            lines.event_format(Prioritised(human().without_time().with_level(false))).boxed()
        }
        (LogFormat::Json, false) => lines.fmt_fields(fields).event_format(json()).boxed(),
        (LogFormat::Json, true) => {
            lines.fmt_fields(fields).event_format(Prioritised(json().without_time())).boxed()
        }
    };
    // Fails only if there is one already, as in tests that share a process.
    let _ = tracing_subscriber::registry().with(lines.with_filter(targets)).try_init();
}

/// Whether standard error is the journal itself: the variable is inherited by programs whose standard
/// error is something else (systemd.exec(5), `$JOURNAL_STREAM`).
fn is_journal(stream: Option<&str>) -> bool {
    let Some((device, inode)) = stream.and_then(|stream| stream.split_once(':')) else {
        return false;
    };
    let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned() else { return false };
    let Ok(stderr) = File::from(stderr).metadata() else { return false };
    device.parse() == Ok(stderr.dev()) && inode.parse() == Ok(stderr.ino())
}

/// A format after a priority.
struct Prioritised<F>(Format<F, ()>);

/// The priority that syslog(3) has for it.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

impl<S, N, F> FormatEvent<S, N> for Prioritised<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    Format<F, ()>: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        cx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        self.0.format_event(cx, writer, event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_known_by_its_numbers_only() {
        assert!(!is_journal(None));
        for other in ["", "1", "0:0", "a:b"] {
            assert!(!is_journal(Some(other)), "{other}");
        }
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned().unwrap());
        let stderr = stderr.metadata().unwrap();
        assert!(is_journal(Some(&format!("{}:{}", stderr.dev(), stderr.ino()))));
    }
}
